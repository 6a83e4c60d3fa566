"""The worst frame of each source video, drawn without pictures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from video_pose.data.datasets.builtin_meta import JHMDB


@pytest.fixture(scope="module")
def tool(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tools/plot_failures.py")


def _stored() -> dict[str, np.ndarray]:
    """Four frames, all joints (50, 40) in a box of 100 px; predictions 10, 30, 20 px off, none."""
    truth = np.zeros((4, len(JHMDB.names), 3), np.float32)
    truth[:] = (50, 40, 2)
    predictions = truth.copy()
    predictions[..., 0] += np.array([10, 30, 20, np.nan], np.float32)[:, None]
    return {
        "predictions": predictions, "ground_truth": truth,
        "boxes": np.tile(np.array([0, 0, 100, 80], np.float32), (4, 1)),
        "video_ids": np.array(["a", "b", "c", "d"]), "track_ids": np.full(4, "0"),
        "frame_indices": np.arange(4), "source_videos": np.array(["x", "x", "y", "z"]),
        "actions": np.array(["run", "run", "", "run"]),
        "joint_names": np.array(JHMDB.names), "dataset_name": np.array("sub_jhmdb_split1_test"),
    }  # fmt: skip


def test_errors_and_order(tool: ModuleType) -> None:
    stored = _stored()
    stored["ground_truth"][0, 3:, 2] = 0
    errors = tool.frame_errors(stored, "bbox")
    np.testing.assert_allclose(errors, [0.1, 0.3, 0.2, np.inf], rtol=1e-5)
    stored["ground_truth"][0, :, 2] = 0
    assert np.isnan(tool.frame_errors(stored, "bbox")[0])
    # Source x by its second frame, then y; the frame without a prediction cannot be drawn.
    assert tool.worst_frames(errors, stored["source_videos"], 12) == [1, 2]
    assert tool.worst_frames(errors, stored["source_videos"], 1) == [1]


def test_files(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    stored = _stored()
    np.savez(tmp_path / "predictions.npz", **stored)
    tool.main([str(tmp_path), "--out", str(tmp_path / "plots" / "f.png"), "--protocol", "bbox"])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["0.30", "b", "1"], ["0.20", "c", "2"],
    ]  # fmt: skip
    with Image.open(tmp_path / "plots" / "f.png") as image:
        assert np.asarray(image.convert("L")).std() > 1
    stored["predictions"][:] = np.nan
    np.savez(tmp_path / "predictions.npz", **stored)
    with pytest.raises(SystemExit, match="no predicted frame"):
        tool.main([str(tmp_path), "--out", str(tmp_path / "f.png"), "--protocol", "bbox"])
    with pytest.raises(SystemExit, match="torso_diagonal"):
        tool.main([str(tmp_path), "--out", str(tmp_path / "f.png"), "--protocol", "nose"])


def test_a_dataset_without_known_links_ends_in_a_line(tool: ModuleType, tmp_path: Path) -> None:
    stored = {
        "predictions": np.zeros((1, 2, 3), np.float32),
        "ground_truth": np.ones((1, 2, 3), np.float32),
        "boxes": np.array([[0, 0, 9, 9]], np.float32),
        "video_ids": np.array(["v"]),
        "track_ids": np.array(["0"]),
        "frame_indices": np.array([0]),
        "joint_names": np.array(["neck", "head"]),
        "dataset_name": np.array("someone's own"),
        "pck_protocols": np.array(["bbox"]),
        "pck_min_visibility": np.array(1),
        "head_segment": np.array([], str),
    }
    path = tmp_path / "predictions.npz"
    np.savez(path, **stored)
    with pytest.raises(SystemExit, match="someone's own.* is not registered"):
        tool.main([str(path), "--out", str(tmp_path / "out.png"), "--protocol", "bbox"])
