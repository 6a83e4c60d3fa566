"""Tables of runs: differences worked out by hand, pairs that are none, the baseline, models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from detectron2.data import DatasetCatalog

from video_pose.evaluation.mean_pose import mean_pose_of
from video_pose.skeleton import JHMDB

VIDEOS = 8
DATASET = "synthetic_jhmdb_test"


@pytest.fixture(scope="module")
def tool(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tools/analyze.py")


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
        tool.report.UNDECIDED,
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
        tool.report.UNDECIDED,
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
    assert rows["overall"][5:] == ["2", tool.report.UNDECIDED]


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


def test_files_are_found(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for run, stored in zip("ab", _pair()):
        folder = tmp_path / run / "inference" / "sub_jhmdb_split1_test"
        folder.mkdir(parents=True)
        np.savez(folder / "predictions.npz", **stored)
    paths = [tmp_path / "a", tmp_path / "b" / "inference" / "sub_jhmdb_split1_test"]
    out = tmp_path / "compared.md"
    tool.main(["compare", *map(str, paths), "--protocols", "bbox", "--output", str(out)])
    assert capsys.readouterr().out == out.read_text() and "+31.2" in out.read_text()
    with pytest.raises(FileNotFoundError, match="other"):
        tool.find_predictions(tmp_path / "a", "other")
    more = tmp_path / "a" / "inference" / "other"
    more.mkdir()
    (more / "predictions.npz").touch()
    with pytest.raises(ValueError, match="--dataset"):
        tool.find_predictions(tmp_path / "a")
    with pytest.raises(SystemExit, match="analyze compare: .*none"):
        tool.main(["compare", str(tmp_path / "none"), str(tmp_path / "b")])


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


def _lines(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_runs_side_by_side(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture, datasets: Path
) -> None:
    good, bad = _save(tmp_path / "good.npz", 5), _save(tmp_path / "bad.npz", 40)
    tool.main(
        ["table", f"A={good}", f"B={bad}", "--protocols", "bbox", "--sections", "overall", "joint"]
    )
    rows = _lines(capsys.readouterr().out)
    assert rows[0][:3] == ["bbox PCK@0.2, overall", "joints", "source videos"]
    assert rows[0][3:] == ["mean pose (synthetic_jhmdb_train)", "95 %", "A", "95 %", "B", "95 %"]
    # 6 frames of 15 joints; B has the two wrists alone.
    assert rows[2][:3] == ["all", "90", "6"]
    assert rows[2][5:] == ["100.0", "100.0 - 100.0", "13.3", "13.3 - 13.3"]
    by_joint = {row[0]: row for row in rows[4:]}
    assert by_joint["neck"][5] == "100.0" and by_joint["neck"][7] == "0.0"
    assert by_joint["left_wrist"][7] == "100.0"
    pose, _ = mean_pose_of(DATASET, 1)
    distances = np.linalg.norm(pose * (100, 80) - (50, 40), axis=1)
    placed = ["100.0" if distance <= 20 else "0.0" for distance in distances]
    assert [by_joint[name][3] for name in JHMDB.names] == placed


def test_the_baseline_alone(
    tool: ModuleType, capsys: pytest.CaptureFixture, datasets: Path
) -> None:
    tool.main(["table", "--dataset", DATASET, "--protocols", "bbox", "--sections", "overall"])
    rows = _lines(capsys.readouterr().out)
    frames = sum(len(track["labelled"]) for track in DatasetCatalog.get(DATASET))
    assert rows[2][1:3] == [str(15 * frames), "2"] and 0 < float(rows[2][3]) < 100
    with pytest.raises(SystemExit, match="--dataset"):
        tool.main(["table"])


def test_only_runs_of_the_same_frames(tool: ModuleType, tmp_path: Path) -> None:
    one, other = _save(tmp_path / "a.npz", 0), _save(tmp_path / "b.npz", 0, frames=5)
    with pytest.raises(SystemExit, match="analyze table: the frames differ"):
        tool.main(["table", f"A={one}", f"B={other}", "--no-baseline"])
    with pytest.raises(SystemExit, match="two runs are called"):
        tool.main(["table", one, one, "--no-baseline"])


def pck(value: float, frames: float = 47.0, missed: float = 0.0) -> dict[str, float]:
    return {
        "PCK@0.2": value, "PCK@0.2_low": 1.0, "PCK@0.2-head": 2.0, "PCK@0.1": value / 2,
        "baseline_PCK@0.2": 76.2, "baseline_PCK@0.1": 39.7, "frames": frames, "joints": 15 * frames,
        "missed_frames": missed,
    }  # fmt: skip


def store(folder: Path, dataset: str, results: dict) -> str:
    path = folder / "inference" / dataset
    path.mkdir(parents=True)
    (path / "results.json").write_text(json.dumps(results))
    return str(folder)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_models_of_both_views_in_one_table(tool, tmp_path, capsys) -> None:
    lstm = {"keypoints_pck_bbox": pck(90.0), "keypoints_pck_torso": pck(70.0)}
    rcnn = {
        "keypoints_pck_bbox": pck(80.26, missed=3.0),
        "keypoints_pck_torso": pck(float("nan")),
        "keypoints": {"AP": 50.0, "AP50": 88.0},
        "bbox": {"AP": 61.0, "AP50": 95.0},
    }
    mask = {"bbox": {"AP": 60.0, "AP50": 94.0}, "segm": {"AP": 40.0, "AP50": 90.0}}
    runs = [
        store(tmp_path / "lstm", "d", lstm),
        "R-CNN=" + store(tmp_path / "x", "d_frames", rcnn),
        "mask=" + store(tmp_path / "y", "d_frames", mask),
    ]
    out = tmp_path / "table.md"
    tool.main(["models", *runs, "--dataset", "d", "--output", str(out)])
    text = capsys.readouterr().out
    assert out.read_text() == text
    assert "47 labelled frames, 705 joints" in text
    header, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert cells(header) == [
        "model", "bbox PCK@0.2", "bbox PCK@0.1", "missed frames", "torso PCK@0.2",
        "keypoint AP", "keypoint AP50", "box AP", "box AP50", "mask AP", "mask AP50",
    ]  # fmt: skip
    assert [cells(row) for row in rows] == [
        ["lstm", "90.0", "45.0", "0.0", "70.0", "", "", "", "", "", ""],
        ["R-CNN", "80.3", "40.1", "3.0", "", "50.0", "88.0", "61.0", "95.0", "", ""],
        ["mask", "", "", "", "", "", "", "60.0", "94.0", "40.0", "90.0"],
        ["mean pose in the true box", "76.2", "39.7", "", "76.2", "", "", "", "", "", ""],
    ]


def test_different_frames_make_no_table(tool, tmp_path) -> None:
    runs = [
        store(tmp_path / name, "d", {"keypoints_pck_bbox": pck(50, frames)})
        for name, frames in (("a", 47.0), ("b", 46.0))
    ]
    with pytest.raises(SystemExit, match=r"different frames of d: \{'a': 47.0, 'b': 46.0\}"):
        tool.main(["models", *runs, "--dataset", "d"])


def test_a_folder_without_a_model_is_named(tool, tmp_path) -> None:
    with pytest.raises(SystemExit, match="config.yaml is missing"):
        tool.main(["models", str(tmp_path), "--dataset", "d"])


def test_trailing_keys_and_values_are_the_models_alone(tool, capsys) -> None:
    args = tool.parse_arguments(["models", "A=x", "y", "--dataset", "d", "MODEL.DEVICE", "cpu"])
    assert args.runs == ["A=x", "y"] and args.opts == ["MODEL.DEVICE", "cpu"]
    for wrong in (["table", "x", "--outt", "y"], ["models", "x", "--dataset", "d", "MODEL.DEVICE"]):
        with pytest.raises(SystemExit):
            tool.parse_arguments(wrong)
        assert "unrecognized arguments: " in capsys.readouterr().err


def test_results_of_earlier_versions_have_their_baseline(tool) -> None:
    old = {"keypoints_pck_bbox": {**pck(50.0), "floor_PCK@0.2": 70.0}}
    del old["keypoints_pck_bbox"]["baseline_PCK@0.2"]
    assert "70.0" in tool.model_table([("old", old)], "d").splitlines()[-1]


def test_a_calibration_is_written_and_measured_on_other_clips(tool, tmp_path, capsys) -> None:
    files = [_save(tmp_path / f"{name}.npz", 40, frames=40) for name in "ab"]
    for file in files:  # wrists are right and sure, all others wrong and half as sure
        stored = dict(np.load(file))
        wrong = stored["predictions"][..., 0] != 50
        stored["predictions"][..., 2] = np.where(wrong, 0.4, 0.8)
        stored |= {"pck_protocols": np.array(["bbox"]), "pck_min_visibility": np.array(1)}
        np.savez(file, **stored, head_segment=np.array([], str))
    out = tmp_path / "calibration.json"
    tool.main(["calibrate", files[0], "--check", files[1], "--output", str(out)])
    text = capsys.readouterr().out
    # Two of fifteen are right, by .2 too unsure; thirteen by .4 too sure.
    assert f"raw {(2 * 0.2 + 13 * 0.4) / 15:.3f}" in text
    assert float(text.split("calibrated ")[1]) < 0.03
    assert json.loads(out.read_text())["right_within"] == 0.1
