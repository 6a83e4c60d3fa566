"""Tables of several runs, with the constant pose beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from detectron2.data import DatasetCatalog

from video_pose.data.datasets.builtin_meta import JHMDB
from video_pose.evaluation.mean_pose import constant_pose_of

DATASET = "synthetic_jhmdb_test"


@pytest.fixture(scope="module")
def tool(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tools/tabulate_pck.py")


def _save(path: Path, shift: float, frames: int = 6) -> str:
    """One frame of each of several videos, all joints at (50, 40) of a box of 100 px; the
    predictions are ``shift`` px away, the wrists right."""
    names = JHMDB.names
    truth = np.zeros((frames, len(names), 3), np.float32)
    truth[:] = (50, 40, 2)
    predictions = truth.copy()
    predictions[:, :, 0] += shift
    wrists = [names.index(f"{side}_wrist") for side in ("right", "left")]
    predictions[:, wrists] = truth[:, wrists]
    videos = np.array([f"v{i}" for i in range(frames)])
    np.savez(
        path, predictions=predictions, ground_truth=truth, video_ids=videos,
        boxes=np.tile(np.array([0, 0, 100, 80], np.float32), (frames, 1)),
        track_ids=np.full(frames, "0"), frame_indices=np.zeros(frames, np.int64),
        joint_names=np.array(names), dataset_name=np.array(DATASET),
    )  # fmt: skip
    return str(path)


def _rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_runs_side_by_side(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture, datasets: Path
) -> None:
    good, bad = _save(tmp_path / "good.npz", 5), _save(tmp_path / "bad.npz", 40)
    tool.main([f"A={good}", f"B={bad}", "--protocols", "bbox", "--sections", "overall", "joint"])
    rows = _rows(capsys.readouterr().out)
    assert rows[0][:3] == ["bbox PCK@0.2, overall", "joints", "source videos"]
    assert rows[0][3:] == ["floor (synthetic_jhmdb_train)", "95 %", "A", "95 %", "B", "95 %"]
    # 6 frames of 15 joints; B has the two wrists alone.
    assert rows[2][:3] == ["all", "90", "6"]
    assert rows[2][5:] == ["100.0", "100.0 - 100.0", "13.3", "13.3 - 13.3"]
    by_joint = {row[0]: row for row in rows[4:]}
    assert by_joint["neck"][5] == "100.0" and by_joint["neck"][7] == "0.0"
    assert by_joint["left_wrist"][7] == "100.0"
    pose, _ = constant_pose_of(DATASET, 1)
    distances = np.linalg.norm(pose * (100, 80) - (50, 40), axis=1)
    floor = ["100.0" if distance <= 20 else "0.0" for distance in distances]
    assert [by_joint[name][3] for name in JHMDB.names] == floor


def test_the_floor_alone(tool: ModuleType, capsys: pytest.CaptureFixture, datasets: Path) -> None:
    tool.main(["--dataset", DATASET, "--protocols", "bbox", "--sections", "overall"])
    rows = _rows(capsys.readouterr().out)
    frames = sum(len(track["labelled"]) for track in DatasetCatalog.get(DATASET))
    assert rows[2][1:3] == [str(15 * frames), "2"] and 0 < float(rows[2][3]) < 100
    with pytest.raises(SystemExit, match="--dataset"):
        tool.main([])


def test_only_runs_of_the_same_frames(tool: ModuleType, tmp_path: Path) -> None:
    one, other = _save(tmp_path / "a.npz", 0), _save(tmp_path / "b.npz", 0, frames=5)
    with pytest.raises(SystemExit, match="tabulate_pck: the frames differ"):
        tool.main([f"A={one}", f"B={other}", "--no-floor"])
    with pytest.raises(SystemExit, match="two runs are called"):
        tool.main([one, one, "--no-floor"])
