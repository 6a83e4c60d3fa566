"""A predictions file says by itself how its dataset is scored."""

from __future__ import annotations

import re
import zipfile
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import MetadataCatalog

from video_pose.evaluation.predictions import (
    TrackPredictions,
    TrackTruth,
    find_predictions,
    index_tracks,
    merge_predictions,
    prediction_arrays,
    read_predictions,
    scoring_facts,
    write_predictions,
)

JOINTS = ["neck", "head"]


def truth() -> dict[tuple[str, str], TrackTruth]:
    return {
        ("v", "0"): TrackTruth(
            keypoints=np.full((2, 2, 3), 2, np.float32),
            boxes=np.array([[0, 0, 9, 9]] * 2, np.float32),
            labelled=np.ones(2, bool),
            source_video="v",
            action="",
        )
    }


@pytest.mark.parametrize("segment", [None, ("head", "neck")])
def test_facts_of_a_dataset_that_is_registered_nowhere(
    tmp_path: Path, segment: tuple[str, str] | None
) -> None:
    facts = {"pck_protocols": ["bbox", "head"], "pck_min_visibility": 2, "head_segment": segment}
    path = tmp_path / "predictions.npz"
    found = {("v", "0"): TrackPredictions()}
    write_predictions(path, "someone's own", JOINTS, truth(), found, facts)
    assert scoring_facts(read_predictions(path)) == facts


def test_a_file_without_facts_takes_the_registered_ones() -> None:
    stored = prediction_arrays("sub_jhmdb_split1_test", JOINTS, truth(), {})
    metadata = MetadataCatalog.get("sub_jhmdb_split1_test")
    facts = scoring_facts(stored)
    assert facts["pck_protocols"] == metadata.pck_protocols
    assert facts["pck_min_visibility"] == 1 and facts["head_segment"] == ("head", "neck")
    stored["dataset_name"] = np.array("someone's own")
    with pytest.raises(KeyError, match="VIDEO_POSE_PLUGINS"):
        scoring_facts(stored)


@pytest.mark.parametrize("rows", [1, 3])
def test_columns_of_another_length_are_refused(tmp_path: Path, rows: int) -> None:
    path = tmp_path / "predictions.npz"
    stored = prediction_arrays("someone's own", JOINTS, truth(), {("v", "0"): TrackPredictions()})
    count = len(stored["frame_indices"])
    stored["boxes"] = np.zeros((count + rows - 2, 4), np.float32)
    np.savez(path, **stored)
    with pytest.raises(ValueError, match=rf"boxes has the shape .*expected \({count}, 4\)"):
        read_predictions(path)


def test_a_track_that_stands_twice_is_named() -> None:
    track = {
        "video_id": "v", "track_id": "7", "keypoints": np.zeros((1, 2, 3)),
        "boxes": np.zeros((1, 4)), "labelled": np.ones(1),
    }  # fmt: skip
    found = index_tracks("data", [track, {**track, "video_id": "w"}])
    assert list(found) == [("v", "7"), ("w", "7")]
    assert found["w", "7"].source_video == "w" and found["w", "7"].action == ""
    with pytest.raises(ValueError, match="^data: track '7' of video 'v' appears twice$"):
        index_tracks("data", [track, track])


def test_at_most_ten_frames_of_two_ranks_are_named() -> None:
    def share(frames: range) -> dict[tuple[str, str], TrackPredictions]:
        return {("v", "7"): TrackPredictions(dict.fromkeys(frames))}

    merged = merge_predictions(
        [share(range(3)), share(range(3, 5)), {("w", "7"): TrackPredictions()}]
    )
    assert sorted(merged["v", "7"].frames) == [0, 1, 2, 3, 4] and len(merged) == 2
    message = rf"video 'v', track '7': frames {re.escape(str(list(range(4, 14))))} were predicted"
    with pytest.raises(ValueError, match=message):
        merge_predictions([share(range(20)), share(range(4, 15))])


def arrays() -> dict[str, np.ndarray]:
    return prediction_arrays("someone's own", JOINTS, truth(), {("v", "0"): TrackPredictions()})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"boxes": None}, r"arrays \['boxes'\] are missing, it has \['joint_names'"),
        ({"dataset_name": None}, r"arrays \['dataset_name'\] are missing"),
        ({"predictions": np.zeros((2, 2, 3), int)}, "predictions is of type int64, expected num"),
        ({"ground_truth": np.zeros((2, 2, 3), bool)}, "ground_truth is of type bool"),
        ({"boxes": np.full((2, 4), "1")}, "boxes is of type <U1"),
        ({"frame_indices": np.zeros(2)}, "frame_indices are of type float64"),
        ({"predictions": np.zeros((2, 3, 3))}, r"predictions .*expected \(2, 2, 3\)"),
        ({"ground_truth": np.zeros((3, 2, 3))}, r"ground_truth .*expected \(2, 2, 3\)"),
        ({"video_ids": np.zeros(1)}, r"video_ids has the shape \(1,\), expected \(2,\)"),
        ({"track_ids": np.zeros((2, 1))}, "track_ids has the shape"),
        (
            {"frame_indices": np.zeros((2, 1), int)},
            r"frame_indices has the shape \(2, 1\), expected \(2,\)",
        ),
        ({"dataset_name": np.array(["a"])}, r"dataset_name has the shape \(1,\), expected \(\)"),
    ],
)
def test_a_file_with_something_wrong_is_named(tmp_path: Path, change: dict, message: str) -> None:
    path = tmp_path / "predictions.npz"
    content = {name: value for name, value in {**arrays(), **change}.items() if value is not None}
    np.savez(path, **content)
    with pytest.raises(ValueError, match=message) as error:
        read_predictions(path)
    assert str(path) in str(error.value)


def test_what_an_older_file_lacks_is_what_it_meant(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    older = {k: v for k, v in arrays().items()
             if k not in ("source_videos", "scored_joints", "actions")}  # fmt: skip
    np.savez(path, **{**older, "boxes": older["boxes"].astype(np.int64)})
    found = read_predictions(path)
    assert found["source_videos"].tolist() == ["v", "v"] and found["actions"].tolist() == ["", ""]
    assert found["scored_joints"].tolist() == JOINTS


def test_damaged_and_absent_files(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    with pytest.raises(FileNotFoundError, match="no such file: .*predictions.npz"):
        read_predictions(path)
    path.write_bytes(b"nothing")
    with pytest.raises(
        ValueError, match="npz: no file of predictions can be read from it: File is"
    ):
        read_predictions(path)
    np.savez(path, **arrays())
    content = bytearray(path.read_bytes())
    content[content.index(b"NUMPY") + 60] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="the check sum of .* is wrong"):
        read_predictions(path)


def test_a_part_that_is_no_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "predictions.npz"
    np.savez(path, **{key: value for key, value in arrays().items() if key != "boxes"})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("boxes.npy", b"text")
    with pytest.raises(ValueError, match="predictions.npz: .*boxes.* is no array"):
        read_predictions(path)


class _Canary:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("canary"),))


def test_a_file_that_would_execute_something_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez("predictions.npz", **{**arrays(), "boxes": np.array([_Canary()], object)})
    with pytest.raises(ValueError, match="predictions.npz: no file of predictions can be read"):
        read_predictions("predictions.npz")
    assert not Path("canary").exists()


def test_predictions_are_found_below_a_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="inference/<dataset>/predictions.npz exists"):
        find_predictions(tmp_path)
    for name in ("b", "a"):
        (tmp_path / "inference" / name).mkdir(parents=True)
    file = tmp_path / "inference" / "b" / "predictions.npz"
    file.touch()
    assert find_predictions(tmp_path) == find_predictions(file) == file
    assert find_predictions(file.parent) == file
    (tmp_path / "inference" / "a" / "predictions.npz").touch()
    assert find_predictions(tmp_path, "b") == file
    with pytest.raises(ValueError, match=r"was evaluated on \['a', 'b'\]: name one"):
        find_predictions(tmp_path)
    with pytest.raises(FileNotFoundError, match="inference/c/predictions.npz"):
        find_predictions(tmp_path, "c")


def test_shares_of_two_processes() -> None:
    """Frames in their order, with gaps where nobody was found; none of them twice."""
    pose = np.ones((2, 3), np.float32)
    key = ("v", "0")
    merged = merge_predictions([
        {key: TrackPredictions({4: pose, 1: None})}, {key: TrackPredictions({2: 2 * pose})},
    ])  # fmt: skip
    frames, rows = merged[key].rows(2)
    assert frames.tolist() == [1, 2, 4] and frames.dtype == np.int64
    assert np.isnan(rows[0]).all() and rows[1:, 0, 0].tolist() == [2, 1]
    with pytest.raises(
        ValueError, match=r"video 'v', track '0': frames \[2\] were predicted by two"
    ):
        merge_predictions([merged, {key: TrackPredictions({2: pose})}])
    assert merge_predictions([]) == {}


def test_all_arrays_of_a_file(tmp_path: Path) -> None:
    """Labelled frames alone, in the order of tracks; a prediction of another frame is left out."""
    tracks = [
        {
            "video_id": "v", "track_id": 7, "source_video": "film", "action": "run",
            "keypoints": np.arange(18).reshape(3, 2, 3), "boxes": np.arange(12).reshape(3, 4),
            "labelled": [True, False, True], "head_sizes": [5, 6, 7], "areas": [1, 2, 3],
        },
        {
            "video_id": "w", "track_id": 0, "keypoints": np.ones((1, 2, 3)),
            "boxes": np.ones((1, 4)), "labelled": [True], "head_sizes": [8],
        },
    ]  # fmt: skip
    labels = index_tracks("data", tracks)
    assert labels["v", "7"].areas is not None and labels["v", "7"].areas.tolist() == [1, 2, 3]
    assert labels["w", "0"].areas is None
    pose = np.full((2, 3), 4, np.float32)
    found = {("v", "7"): TrackPredictions({2: pose, 1: 2 * pose, 0: None})}
    facts = {"pck_protocols": ["bbox"], "pck_min_visibility": 1, "head_segment": None}
    path = tmp_path / "a" / "b" / "predictions.npz"
    for _ in range(2):  # the second one replaces the first
        write_predictions(path, "data", JOINTS, labels, found, facts, ["head"])
    assert [file.name for file in path.parent.iterdir()] == ["predictions.npz"]
    stored = read_predictions(path)
    nothing = np.full((2, 3), np.nan)
    np.testing.assert_equal(stored.pop("predictions"), np.stack([nothing, pose, nothing]))
    assert {name: value.tolist() for name, value in stored.items()} == {
        "joint_names": JOINTS, "scored_joints": ["head"], "dataset_name": "data",
        "ground_truth": [
            [[0, 1, 2], [3, 4, 5]], [[12, 13, 14], [15, 16, 17]], [[1, 1, 1], [1, 1, 1]],
        ],
        "boxes": [[0, 1, 2, 3], [8, 9, 10, 11], [1, 1, 1, 1]],
        "video_ids": ["v", "v", "w"], "track_ids": ["7", "7", "0"],
        "source_videos": ["film", "film", "w"], "actions": ["run", "run", ""],
        "frame_indices": [0, 2, 0], "head_sizes": [5, 7, 8], "pck_protocols": ["bbox"],
        "pck_min_visibility": 1, "head_segment": [],
    }  # fmt: skip
    assert stored["frame_indices"].dtype == np.int64 and stored["boxes"].dtype == np.float32
    with pytest.raises(FrozenInstanceError):
        labels["v", "7"].action = "sit"
