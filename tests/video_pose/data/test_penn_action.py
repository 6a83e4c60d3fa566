"""Penn Action: label values by hand, and every defect of the real files, written in the test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

from video_pose.data.datasets.penn_action import load_penn_action, parse_penn_label


def _label(frames: int = 3, **changes: Any) -> dict[str, Any]:
    """Joint j of frame i lies at 1-based (10 + i, 20 + j), all visible."""
    x = np.tile(10.0 + np.arange(frames)[:, None], (1, 13))
    y = np.tile(20.0 + np.arange(13.0), (frames, 1))
    label = {
        "x": x, "y": y, "visibility": np.ones((frames, 13), np.uint8),
        "bbox": np.tile([5.0, 6.0, 50.0, 70.0], (frames, 1)), "train": np.int32(1),
        "nframes": np.uint8(frames % 256), "action": "baseball_pitch", "pose": "left",
        "dimensions": np.array([[270, 480, frames]], np.uint16),
    }  # fmt: skip
    return {k: v for k, v in {**label, **changes}.items() if v is not None}


def _write(root: Path, video: str = "0001", images: int | None = None, **changes: Any) -> str:
    label = _label(**changes)
    path = root / "labels" / f"{video}.mat"
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, label)
    folder = root / "frames" / video
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, (len(label["x"]) if images is None else images) + 1):
        (folder / f"{number:06d}.jpg").touch()
    return str(path)


def test_values_by_hand(tmp_path: Path) -> None:
    label = parse_penn_label(_write(tmp_path))
    assert label.keypoints.shape == (3, 13, 3) and label.keypoints.dtype == np.float32
    # 1-based 10 + 2 and 20 + 4 are continuous 11.5 and 23.5.
    assert label.keypoints[2, 4].tolist() == [11.5, 23.5, 2]
    assert label.boxes[0].tolist() == [4.5, 5.5, 49.5, 69.5]
    assert (label.height, label.width) == (270, 480)
    assert (label.action, label.pose, label.train) == ("baseball_pitch", "left", True)


def test_visibility_mapping(tmp_path: Path) -> None:
    x, y = np.full((1, 13), 100.0), np.full((1, 13), 50.0)
    vis = np.ones((1, 13), np.uint8)
    vis[0, 1:6] = 0
    x[0, 2], y[0, 2] = 1, 1  # unannotated
    x[0, 3], y[0, 3] = 1.5, 1.5  # unannotated
    x[0, 4] = 1  # hidden at the left edge: only x is small
    x[0, 5], y[0, 5] = 1.6, 1.5  # hidden, just past the mark
    x[0, 6], y[0, 6] = 1, 1  # visible in the corner
    label = parse_penn_label(_write(tmp_path, frames=1, x=x, y=y, visibility=vis))
    assert label.keypoints[0, :7, 2].tolist() == [2, 1, 0, 0, 1, 1, 2]
    assert label.keypoints[0, 2].tolist() == [0, 0, 0]
    assert label.keypoints[0, 6].tolist() == [0.5, 0.5, 2]


def test_uint8_coordinates_and_counters_do_not_overflow(tmp_path: Path) -> None:
    x = np.zeros((300, 13), np.uint8)
    y = np.full((300, 13), 255, np.uint8)
    label = parse_penn_label(_write(tmp_path, frames=300, x=x, y=y))
    # 0 - .5 in uint8 would be 255.5 or an error; nframes 300 is stored as 44.
    assert label.keypoints.shape[0] == len(label.boxes) == 300
    assert label.keypoints[0, 0].tolist() == [-0.5, 254.5, 2]


def test_missing_last_box_is_the_one_before(tmp_path: Path) -> None:
    boxes = np.array([[1.0, 2, 30, 40], [3, 4, 50, 60]])
    label = parse_penn_label(_write(tmp_path, bbox=boxes))
    assert label.boxes[1:].tolist() == [[2.5, 3.5, 49.5, 59.5]] * 2
    assert label.boxes[0].tolist() == [0.5, 1.5, 29.5, 39.5]


def test_zero_area_boxes_and_joints_outside_are_kept(tmp_path: Path) -> None:
    boxes = np.array([[9.0, 9, 9, 9], [1, 2, 30, 40], [7, 8, 7, 30]])
    x = np.full((3, 13), 700.0)
    label = parse_penn_label(_write(tmp_path, bbox=boxes, x=x))
    assert label.boxes[0].tolist() == [8.5] * 4 and label.boxes[2].tolist() == [6.5, 7.5, 6.5, 29.5]
    assert label.keypoints[0, 0].tolist() == [699.5, 19.5, 2]


def test_train_is_one_and_test_minus_one(tmp_path: Path) -> None:
    _write(tmp_path, "0001", train=np.int32(1))
    _write(tmp_path, "0002", train=np.int32(-1))
    _write(tmp_path, "0010", train=np.int32(-1), frames=4)
    train, test = (load_penn_action(str(tmp_path), subset) for subset in ("train", "test"))
    assert [t["video_id"] for t in train] == ["0001"]
    assert [t["video_id"] for t in test] == ["0002", "0010"]
    track = test[1]
    assert [os.path.basename(f) for f in track["file_names"]] == [
        "000001.jpg", "000002.jpg", "000003.jpg", "000004.jpg",
    ]  # fmt: skip
    assert track["action"] == "baseball_pitch" and track["track_id"] == "0"
    assert track["labelled"].tolist() == [True] * 4
    ids = [i for t in train + test for i in t["image_ids"].tolist()]
    assert len(set(ids)) == len(ids) == 3 + 3 + 4
    assert "annotations" not in track


def test_video_without_a_visible_joint(tmp_path: Path) -> None:
    _write(tmp_path, "0001")
    _write(tmp_path, "1516", visibility=np.zeros((3, 13), np.uint8))
    nothing = np.ones((3, 13))
    _write(
        tmp_path, "1517", x=nothing, y=nothing, visibility=np.zeros((3, 13), np.uint8)
    )  # fmt: skip
    tracks = load_penn_action(str(tmp_path), "train")
    assert [set(t["keypoints"][..., 2].ravel().tolist()) for t in tracks] == [{2}, {1}, {0}]
    assert [t["labelled"].all() for t in tracks] == [True, True, False]
    assert tracks[2]["boxes"][0].tolist() == [4.5, 5.5, 49.5, 69.5]


def test_no_usable_frame_is_said_at_load(tmp_path: Path) -> None:
    _write(tmp_path, "0001")
    with pytest.raises(ValueError, match="no usable frame"):
        load_penn_action(str(tmp_path), "test")


def test_a_missing_frame_is_named_not_skipped(tmp_path: Path) -> None:
    _write(tmp_path, "0001")
    (tmp_path / "frames" / "0001" / "000002.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="000002.jpg"):
        load_penn_action(str(tmp_path), "train")


def test_missing_root_names_variable_and_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    root = tmp_path / "Penn_Action"
    with pytest.raises(FileNotFoundError) as error:
        load_penn_action(str(root), "train")
    for part in (str(root), "DETECTRON2_DATASETS", "labels/0001.mat", "frames/0001/000001.jpg"):
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"x": None}, ["'x'", "visibility"]),
        ({"x": np.ones((3, 12))}, ["'x'", "(any, 13)", "(3, 12)"]),
        ({"y": np.ones((2, 13))}, ["'y'", "(3, 13)", "(2, 13)"]),
        ({"visibility": "all"}, ["'visibility'", "(3, 13)", "'all'"]),
        ({"bbox": np.ones((1, 4))}, ["'bbox'", "(3, 4)", "(1, 4)"]),
        ({"bbox": np.ones((5, 4))}, ["'bbox'", "(3, 4)", "(5, 4)"]),
        ({"train": np.int32(0)}, ["'train'", "-1", "got 0"]),
        ({"dimensions": None}, ["'dimensions'"]),
    ],
)
def test_wrong_labels_name_file_field_expected_and_got(
    tmp_path: Path, changes: dict[str, Any], parts: list[str]
) -> None:
    path = str(tmp_path / "0007.mat")
    savemat(path, _label(**changes))
    with pytest.raises(ValueError) as error:
        parse_penn_label(path)
    for part in [path, *parts]:
        assert part in str(error.value)


def test_the_real_label_files() -> None:
    folder = Path(os.environ.get("DETECTRON2_DATASETS", "")) / "Penn_Action" / "labels"
    if not os.environ.get("DETECTRON2_DATASETS") or not folder.is_dir():
        pytest.skip(f"no Penn Action labels at {folder} (set DETECTRON2_DATASETS)")
    labels = {p.stem: parse_penn_label(str(p)) for p in sorted(folder.glob("*.mat"))}
    assert all(len(v.boxes) == len(v.keypoints) for v in labels.values())
    if "1154" in labels:
        np.testing.assert_array_equal(labels["1154"].boxes[-1], labels["1154"].boxes[-2])
    if "1516" in labels:
        assert not (labels["1516"].keypoints[..., 2] == 2).any()


# ---- labels that are no labels: an error, or counted and said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dimensions": np.array([[np.nan, 480, 3]])}, "'dimensions': expected a height.*nan"),
        ({"dimensions": np.array([[270, 0, 3]])}, "'dimensions': expected a height.*0.0"),
        ({"dimensions": np.array([[270, 1e9, 3]])}, "'dimensions': expected a height.*1000000000"),
        ({"visibility": np.full((3, 13), 0.5)}, "'visibility': expected 0 or 1, got 0.5"),
        ({"visibility": np.full((3, 13), -1.0)}, "'visibility': expected 0 or 1, got -1"),
        ({"dimensions": np.array([[270.5, 480, 3]])}, "'dimensions': expected a height.*270.5"),
        ({"frames": 0}, "'x'"),
    ],
)
def test_sizes_and_labels_that_are_none(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=f"0001.mat: field {words}"):
        parse_penn_label(_write(tmp_path, images=0, **changes))


def test_nan_visibility_and_far_values_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    visibility = np.ones((3, 13))
    visibility[0] = np.nan
    x = np.tile(10.0 + np.arange(3)[:, None], (1, 13))
    x[1, 2] = 1e9
    boxes = np.tile([5.0, 6.0, 50.0, 70.0], (3, 1))
    boxes[1], boxes[2] = (5, 6, 1e9, 70), (np.nan, 6, 50, 70)
    _write(tmp_path, visibility=visibility, x=x, bbox=boxes)
    (track,) = load_penn_action(str(tmp_path), "train")
    assert track["labelled"].tolist() == [False, True, True]
    assert not track["keypoints"][1, 2].any() and track["keypoints"][1, 3, 2] == 2
    assert track["boxes"].tolist() == [[4.5, 5.5, 49.5, 69.5], [0] * 4, [0] * 4]
    for words in (
        "13 joints of NaN visibility",
        "1 joints more than 10",
        "2 boxes that are no",
    ):
        assert words in caplog.text


def test_labels_can_be_looked_at_without_frames(tmp_path: Path) -> None:
    _write(tmp_path, images=0)
    with pytest.raises(FileNotFoundError):
        load_penn_action(str(tmp_path), "train")
    (track,) = load_penn_action(str(tmp_path), "train", require_frames=False)
    assert track["file_names"][0].endswith("0001/000001.jpg")


def test_coordinates_that_are_no_numbers_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a frame of 13 visible joints: each had become an unlabelled one without a word."""
    x = np.full((3, 13), 50.0)
    x[1] = np.nan
    _write(tmp_path, x=x)
    with caplog.at_level("WARNING"):
        (track,) = load_penn_action(str(tmp_path), "train", require_frames=False)
    assert track["labelled"].tolist() == [True, False, True]
    assert "13 joints whose coordinates are no numbers: not labelled" in caplog.text


# ---- whole results, whole messages


def _said(path: str) -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        parse_penn_label(path)
    return str(error.value)


def test_a_track_as_a_whole(tmp_path: Path) -> None:
    """A video's ids are those of its place among all label files, whatever subset they are of."""
    _write(tmp_path, "0001", train=np.int32(-1))
    _write(tmp_path, "0002", frames=1, action=np.array([[3.0]]))
    (tmp_path / "labels" / "x1.mat").touch()
    (track,) = load_penn_action(str(tmp_path), "train")
    arrays = {key: track.pop(key) for key in ("keypoints", "boxes", "labelled", "image_ids")}
    assert track == {
        "video_id": "0002", "track_id": "0", "height": 270, "width": 480,
        "file_names": [str(tmp_path / "frames" / "0002" / "000001.jpg")],
    }  # fmt: skip
    assert arrays["image_ids"].tolist() == [1_000_000]
    assert arrays["keypoints"].tolist() == [[[9.5, 19.5 + j, 2] for j in range(13)]]
    assert arrays["boxes"].tolist() == [[4.5, 5.5, 49.5, 69.5]]


@pytest.mark.parametrize(
    ("x", "y", "visible", "v"),
    [
        (1.5, 1.5, 0, 0), (1.5, 1.75, 0, 1), (1.75, 1.5, 0, 1), (-3, 0, 0, 0), (1, 1, 1, 2),
        (9, 9, np.nan, 0), (9, 9, 0, 1), (9, 9, 1, 2),
    ],
)  # fmt: skip
def test_what_a_stored_visibility_means(
    tmp_path: Path, x: float, y: float, visible: float, v: int
) -> None:
    values = {"x": x, "y": y, "visibility": visible}
    arrays = {key: np.full((1, 13), float(value)) for key, value in values.items()}
    label = parse_penn_label(_write(tmp_path, frames=1, **arrays))
    expected = [x - 0.5, y - 0.5, v] if v else [0, 0, 0]
    assert label.keypoints.tolist() == [[expected] * 13]


def test_sizes_of_more_than_two_numbers_are_height_and_width(tmp_path: Path) -> None:
    for height, width in ((1, 65535), (65535, 1)):
        label = parse_penn_label(_write(tmp_path, dimensions=np.array([[height, width, 3]])))
        assert (label.height, label.width) == (height, width)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"x": np.zeros((0, 13)), "y": np.zeros((0, 13)), "visibility": np.zeros((0, 13))},
         "field 'x': expected at least one frame, got none."),
        ({"visibility": np.array([[1, np.nan, 0, 2, 3] + [1] * 8] * 3)},
         "field 'visibility': expected 0 or 1, got 2."),
        ({"train": np.int32(0)}, "field 'train': expected 1 (train) or -1 (test), got 0."),
        ({"train": 1.5}, "field 'train': expected 1 (train) or -1 (test), got 1.5."),
        ({"bbox": np.ones((1, 4))},
         "field 'bbox': expected shape (3, 4) or one row less, got (1, 4)."),
        ({"bbox": np.ones((4, 4))},
         "field 'bbox': expected shape (3, 4) or one row less, got (4, 4)."),
        ({"frames": 1, "bbox": np.ones((0, 4))},
         "field 'bbox': expected shape (1, 4) or one row less, got (0, 4)."),
    ],
)  # fmt: skip
def test_messages_of_labels_that_are_none(
    tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    path = _write(tmp_path, images=0, **changes)
    assert _said(path) == f"{path}: {words}"


def test_a_box_for_the_last_of_two_frames(tmp_path: Path) -> None:
    label = parse_penn_label(_write(tmp_path, frames=2, bbox=np.array([[1.0, 2, 3, 4]])))
    assert label.boxes.tolist() == [[0.5, 1.5, 2.5, 3.5]] * 2


def test_texts_that_a_label_lacks_are_empty(tmp_path: Path) -> None:
    label = parse_penn_label(_write(tmp_path, action=None, pose=np.array([[1.0]])))
    assert (label.action, label.pose) == ("", "")


def test_folders_and_frames_that_lack_are_named(tmp_path: Path) -> None:
    def said(**options: Any) -> str:
        with pytest.raises(FileNotFoundError) as error:
            load_penn_action(str(tmp_path), "train", **options)
        return str(error.value).partition(" does not exist.")[0]

    assert said() == str(tmp_path / "labels")
    path = Path(_write(tmp_path, images=3))
    for number in (3, 2):
        (tmp_path / "frames" / "0001" / f"{number:06d}.jpg").unlink()
        assert said() == str(tmp_path / "frames" / "0001" / f"{number:06d}.jpg")
    (track,) = load_penn_action(str(tmp_path), "train", require_frames=False)
    assert [Path(name).name for name in track["file_names"]] == [
        "000001.jpg", "000002.jpg", "000003.jpg",
    ]  # fmt: skip
    (tmp_path / "frames" / "0001" / "000001.jpg").unlink()
    (tmp_path / "frames" / "0001").rmdir()
    assert said() == str(tmp_path / "frames" / "0001")
    (tmp_path / "frames").rmdir()
    assert said() == str(tmp_path / "frames")
    path.unlink()
    with pytest.raises(ValueError) as error:
        load_penn_action(str(tmp_path), "train", require_frames=False)
    assert str(error.value).startswith(f"{path.parent} (train) has no usable frame: 0 tracks")
