"""Two runs on the same frames: differences worked out by hand, and pairs that are none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

VIDEOS = 8


@pytest.fixture(scope="module")
def tool(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tools/compare_runs.py")


def _stored() -> dict[str, np.ndarray]:
    """Eight videos of two frames, joints neck and head, predictions right, boxes of 100 px.

    Video i (1 to 8) moves by i px between its frames; each is a source of its own; 1 to 6 show a
    run, 7 and 8 a walk.
    """
    number, frame = (
        a.ravel() for a in np.meshgrid(np.arange(1, VIDEOS + 1), [0, 1], indexing="ij")
    )
    truth = np.full((2 * VIDEOS, 2, 3), 2, np.float32)
    truth[:, 0, 0], truth[:, 1, 0] = 30 + frame * number, 60 + frame * number
    return {
        "predictions": truth.copy(),
        "ground_truth": truth,
        "boxes": np.tile(np.array([0, 0, 100, 80], np.float32), (2 * VIDEOS, 1)),
        "video_ids": np.array([f"v{i}" for i in number]),
        "track_ids": np.full(2 * VIDEOS, "0"),
        "source_videos": np.array([f"film {i}" for i in number]),
        "actions": np.where(number < 7, "run", "walk"),
        "frame_indices": frame.astype(np.int64),
        "joint_names": np.array(["neck", "head"]),
        "dataset_name": np.array("sub_jhmdb_split1_test"),
    }


def _pair() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """A misses every head. B has it in every first frame, in videos 7 and 8 in both."""
    a, b = _stored(), _stored()
    a["predictions"][:, 1, 1] += 50
    late = (a["frame_indices"] == 1) & (a["actions"] == "run")
    b["predictions"][late, 1, 1] += 50
    return a, b


def _rows(text: str) -> dict[str, list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row[1:] for row in cells}


def test_differences_by_hand(tool: ModuleType) -> None:
    rows = _rows(tool.compare(*_pair(), ["bbox"]))
    # 32 joints: A hits the 16 necks; B also 8 + 2 heads. Points: 100 * 10 / 32.
    assert rows["overall"][:3] == ["50.0", "81.2", "+31.2"]
    assert rows["overall"][4:] == ["32", "8", "B better"]
    assert rows["joint: neck"] == [
        "100.0",
        "100.0",
        "+0.0",
        "0.0 - 0.0",
        "16",
        "8",
        tool.breakdown.UNDECIDED,
    ]
    assert rows["joint: head"][:3] == ["0.0", "62.5", "+62.5"]
    # One of two heads gained in each video of a run, always 25 of 100: six sources are enough.
    assert rows["action: run"] == ["50.0", "75.0", "+25.0", "25.0 - 25.0", "24", "6", "B better"]
    # Both heads in each of two videos: as clear, but of two sources.
    assert rows["action: walk"] == [
        "50.0",
        "100.0",
        "+50.0",
        "50.0 - 50.0",
        "8",
        "2",
        tool.breakdown.UNDECIDED,
    ]
    swapped = _rows(tool.compare(*_pair()[::-1], ["bbox"]))
    assert swapped["action: run"][2:4] == ["-25.0", "-25.0 - -25.0"]
    assert swapped["action: run"][-1] == "A better"


def test_quarters_of_speed(tool: ModuleType) -> None:
    rows = _rows(tool.compare(*_pair(), ["bbox"]))
    # Speeds 1 to 8 hundredths, four joints each: bounds 2.75, 4.5 and 6.25, so that the quarters
    # are videos 1-2, 3-4, 5-6 and 7-8. A first frame has the speed of the step that follows.
    assert rows["speed: slowest quarter (to 2.8)"][:3] == ["50.0", "75.0", "+25.0"]
    assert rows["speed: third (4.5 to 6.2)"][4:6] == ["8", "2"]
    assert rows["speed: fastest quarter (above 6.2)"][:3] == ["50.0", "100.0", "+50.0"]


def test_hidden_joints_have_a_row_of_their_own(tool: ModuleType) -> None:
    a, b = _pair()
    assert not [row for row in _rows(tool.compare(a, b, ["bbox"])) if "visibility" in row]
    for stored in (a, b):
        stored["ground_truth"][:, 1, 2] = 1
    rows = _rows(tool.compare(a, b, ["bbox"]))
    assert rows["visibility: visible"][:2] == ["100.0", "100.0"]
    assert rows["visibility: hidden"][:2] == ["0.0", "62.5"]


def test_shots_of_a_source_count_once(tool: ModuleType) -> None:
    a, b = _pair()
    for stored in (a, b):
        stored["source_videos"] = np.where(stored["actions"] == "run", "one film", "another")
    rows = _rows(tool.compare(a, b, ["bbox"]))
    assert rows["overall"][5:] == ["2", tool.breakdown.UNDECIDED]


def test_threshold_is_given_in_the_text(tool: ModuleType) -> None:
    text = tool.compare(*_pair(), ["bbox"], threshold=0.6)
    assert "PCK at 0.6 of it" in text and _rows(text)["overall"][:2] == ["100.0", "100.0"]


def _change(stored: dict[str, np.ndarray], kind: str) -> None:
    if kind == "dataset":
        stored["dataset_name"] = np.array("sub_jhmdb_split1_holdout")
    elif kind == "joints":
        stored["joint_names"] = np.array(["head", "neck"])
    elif kind == "sources":
        stored["source_videos"] = np.array(stored["video_ids"])
    elif kind == "frames":
        for name, array in stored.items():
            stored[name] = array[1:] if array.shape[:1] == (2 * VIDEOS,) else array
    else:
        stored["ground_truth"][3, 0, 0] += 1


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("sources", "other source videos"),
        ("dataset", "'sub_jhmdb_split1_test', B on 'sub_jhmdb_split1_holdout'"),
        ("joints", "neck.*head"),
        ("frames", r"16 rows, 1 that B lacks .*'v1', '0', 0.*B has 15"),
        ("truth", r"ground_truth differs in 1 frames, first in \('v2', '0', 1\)"),
    ],
)
def test_no_pair(tool: ModuleType, kind: str, message: str) -> None:
    a, b = _pair()
    _change(b, kind)
    with pytest.raises(ValueError, match=message):
        tool.compare(a, b, ["bbox"])


def test_unregistered_dataset(tool: ModuleType) -> None:
    pair = _pair()
    for stored in pair:
        stored["dataset_name"] = np.array("nowhere")
    with pytest.raises(KeyError, match="VIDEO_POSE_PLUGINS"):
        tool.compare(*pair)


def test_files_are_found(
    tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    for run, stored in zip("ab", _pair()):
        folder = tmp_path / run / "inference" / "sub_jhmdb_split1_test"
        folder.mkdir(parents=True)
        np.savez(folder / "predictions.npz", **stored)
    paths = [tmp_path / "a", tmp_path / "b" / "inference" / "sub_jhmdb_split1_test"]
    out = tmp_path / "compared.md"
    command = ["x", *map(str, paths), "--protocols", "bbox", "--out", str(out)]
    monkeypatch.setattr("sys.argv", command)
    tool.main()
    assert capsys.readouterr().out == out.read_text() and "+31.2" in out.read_text()
    with pytest.raises(FileNotFoundError, match="other"):
        tool.find_predictions(tmp_path / "a", "other")
    more = tmp_path / "a" / "inference" / "other"
    more.mkdir()
    (more / "predictions.npz").touch()
    with pytest.raises(ValueError, match="--dataset"):
        tool.find_predictions(tmp_path / "a")
    monkeypatch.setattr("sys.argv", ["x", str(tmp_path / "none"), str(tmp_path / "b")])
    with pytest.raises(SystemExit, match="compare_runs: .*none"):
        tool.main()
