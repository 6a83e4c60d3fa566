"""BBC Pose: struct array, gaps between frames, boxes from joints; v5 and v7.3."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from video_pose.data.datasets.bbc_pose import load_bbc_pose

FIELDS = (
    "videoName",
    "type",
    "source",
    "train_frames",
    "train_joints",
    "test_frames",
    "test_joints",
)


def _joints(frames: list[int]) -> np.ndarray:
    """(2, 7, N): joint 0 at 1-based (frame, 11), the others at (frame + 20, 51)."""
    joints = np.zeros((2, 7, len(frames)))
    joints[0], joints[1] = np.array(frames) + 20.0, 51
    joints[0, 0], joints[1, 0] = frames, 11
    return joints


def _entry(kind: str, frames: list[int], **changes: Any) -> dict[str, Any]:
    """The asked-for frames, and one other (999) where the other labels would be."""
    own, other = ("train", "test") if kind == "train" else ("test", "train")
    return {
        "videoName": f"a {kind}", "type": kind, "source": "bbc",
        f"{own}_frames": np.array([frames], np.uint16), f"{own}_joints": _joints(frames),
        f"{other}_frames": np.array([[999]]), f"{other}_joints": _joints([999]), **changes,
    }  # fmt: skip


def _write(root: Path, entries: list[dict[str, Any]], images: dict[int, list[int]]) -> None:
    array = np.zeros((1, len(entries)), dtype=[(name, "O") for name in FIELDS])
    for i, entry in enumerate(entries):
        array[0, i] = tuple(entry[name] for name in FIELDS)
    root.mkdir(parents=True, exist_ok=True)
    savemat(root / "bbcpose.mat", {"bbcpose": array})
    _write_images(root, images)


def _write_images(root: Path, images: dict[int, list[int]]) -> None:
    for video, numbers in images.items():
        (root / str(video)).mkdir(parents=True, exist_ok=True)
        for number in numbers:
            Image.new("RGB", (60, 40)).save(root / str(video) / f"{number}.jpg")


def test_values_by_hand(tmp_path: Path) -> None:
    # Numbers sort as numbers (9 before 10), with gaps; 9 and 100 are labelled.
    entries = [_entry("train", [100, 9]), _entry("test", [3])]
    _write(tmp_path, entries, {1: [9, 10, 100, 250], 2: [3]})
    (track,) = load_bbc_pose(str(tmp_path), "train")
    assert [Path(f).name for f in track["file_names"]] == ["9.jpg", "10.jpg", "100.jpg", "250.jpg"]
    assert track["labelled"].tolist() == [True, False, True, False]
    # Frame 9: head at 1-based (9, 11), the others at (29, 51).
    assert track["keypoints"][0, :2].tolist() == [[8.5, 10.5, 2], [28.5, 50.5, 2]]
    assert track["keypoints"][2, 0].tolist() == [99.5, 10.5, 2]
    # Extent 8.5..28.5 x 10.5..50.5 about (18.5, 30.5), half sides 10 and 20 x 1.25.
    assert track["boxes"][0].tolist() == [6, 5.5, 31, 55.5]
    assert not track["boxes"][1].any() and not track["keypoints"][1].any()
    assert (track["height"], track["width"], track["video_id"]) == (40, 60, "1")


def test_subsets_read_their_own_labels_of_the_first_twenty(tmp_path: Path) -> None:
    kinds = ["train"] * 10 + ["val"] * 5 + ["test"] * 5 + ["test", "val", "train"]
    entries = [_entry(kind, [5, 6]) for kind in kinds]
    _write(tmp_path, entries, {n + 1: [5, 6, 7] for n in range(23)})
    found = {s: load_bbc_pose(str(tmp_path), s) for s in ("train", "val", "test")}
    ids = {s: [int(t["video_id"]) for t in tracks] for s, tracks in found.items()}
    assert ids["train"] == list(range(1, 11))
    assert ids["val"] == list(range(11, 16)) and ids["test"] == list(range(16, 21))
    assert found["val"][0]["labelled"].tolist() == [True, True, False]
    images = [i for tracks in found.values() for t in tracks for i in t["image_ids"].tolist()]
    assert len(set(images)) == len(images) == 60
    assert len(load_bbc_pose(str(tmp_path), "test", videos=None)) == 6


def test_a_frame_without_annotated_joints_is_unlabelled(tmp_path: Path) -> None:
    joints = _joints([1, 2, 3])
    joints[..., 1] = np.nan
    joints[:, 3, 2] = 0
    _write(tmp_path, [_entry("train", [1, 2, 3], train_joints=joints)], {1: [1, 2, 3]})
    (track,) = load_bbc_pose(str(tmp_path), "train")
    assert track["labelled"].tolist() == [True, False, True]
    assert track["keypoints"][2, 3].tolist() == [0, 0, 0] and track["keypoints"][2, 2, 2] == 2
    assert np.isfinite(track["keypoints"]).all()


def test_a_missing_manual_frame_is_an_error_a_missing_training_frame_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [_entry("train", [1, 2]), _entry("test", [1, 2])]
    _write(tmp_path, entries, {1: [1], 2: [1]})
    with pytest.raises(FileNotFoundError, match=r"2.2\.jpg"):
        load_bbc_pose(str(tmp_path), "test")
    with caplog.at_level(logging.WARNING):
        (track,) = load_bbc_pose(str(tmp_path), "train")
    assert track["labelled"].tolist() == [True]
    assert "1 of 2" in caplog.text and "2.jpg" in caplog.text


def test_errors_name_file_entry_field_expected_and_got(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="DETECTRON2_DATASETS"):
        load_bbc_pose(str(tmp_path / "none"), "train")
    with pytest.raises(FileNotFoundError, match="bbcpose.mat"):
        load_bbc_pose(str(tmp_path), "train")
    _write(tmp_path, [_entry("train", [1, 2], train_joints=_joints([1]))], {1: [1, 2]})
    with pytest.raises(ValueError, match=r"entry 1.*'train_joints'.*\(2, 7, 2\).*\(2, 7, 1\)"):
        load_bbc_pose(str(tmp_path), "train")
    with pytest.raises(ValueError, match="no usable frame"):
        load_bbc_pose(str(tmp_path), "val")
    savemat(tmp_path / "bbcpose.mat", {"poses": np.ones(3)})
    with pytest.raises(ValueError, match=r"bbcpose.mat: expected field 'bbcpose'.*poses"):
        load_bbc_pose(str(tmp_path), "train")
    savemat(tmp_path / "bbcpose.mat", {"bbcpose": np.ones(3)})
    with pytest.raises(ValueError, match="expected a struct array"):
        load_bbc_pose(str(tmp_path), "train")


def test_missing_video_folder(tmp_path: Path) -> None:
    _write(tmp_path, [_entry("train", [1])], {})
    with pytest.raises(FileNotFoundError, match="1 does not exist"):
        load_bbc_pose(str(tmp_path), "train")


def test_v73_struct_array(tmp_path: Path) -> None:
    entries = [_entry("train", [4]), _entry("test", [5, 8])]
    with h5py.File(tmp_path / "bbcpose.mat", "w", userblock_size=512) as file:
        group, refs = file.create_group("bbcpose"), file.create_group("#refs#")
        group.attrs["MATLAB_class"] = np.bytes_("struct")
        for field in FIELDS:
            nodes = []
            for i, entry in enumerate(entries):
                value, kind = entry[field], "double"
                if isinstance(value, str):
                    value, kind = np.array([[ord(c) for c in value]], np.uint16), "char"
                # MATLAB's axes are reversed in HDF5.
                node = refs.create_dataset(f"{field}{i}", data=value.T)
                node.attrs["MATLAB_class"] = np.bytes_(kind)
                nodes.append([node.ref])
            group.create_dataset(field, data=np.array(nodes, dtype=h5py.ref_dtype))
    _write_images(tmp_path, {1: [4], 2: [5, 8]})
    (track,) = load_bbc_pose(str(tmp_path), "test")
    assert track["video_id"] == "2"
    assert track["keypoints"][:, 0].tolist() == [[4.5, 10.5, 2], [7.5, 10.5, 2]]


def test_the_first_picture_tells_the_size(tmp_path: Path) -> None:
    """One of another size is an error when it is read, not a dataset of that size."""
    _write(tmp_path, [_entry("train", [3, 9])], {1: [3, 9]})
    Image.new("RGB", (80, 30)).save(tmp_path / "1" / "9.jpg")
    (track,) = load_bbc_pose(str(tmp_path), "train")
    assert (track["height"], track["width"]) == (40, 60)


# ---- whole results, whole messages


def _said(root: Path, subset: str = "train") -> str:
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load_bbc_pose(str(root), subset)
    return str(error.value)


def test_a_track_as_a_whole(tmp_path: Path) -> None:
    """The second video's ids are those of the second entry, whatever the first one is."""
    _write(tmp_path, [_entry("val", [1]), _entry("train", [7])], {2: [7, 12]})
    (track,) = load_bbc_pose(str(tmp_path), "train")
    arrays = {key: track.pop(key) for key in ("keypoints", "boxes", "labelled", "image_ids")}
    files = [str(tmp_path / "2" / f"{number}.jpg") for number in (7, 12)]
    assert track == {
        "video_id": "2", "track_id": "0", "file_names": files, "height": 40, "width": 60,
    }  # fmt: skip
    assert arrays["image_ids"].tolist() == [1_000_000, 1_000_001]
    assert arrays["keypoints"].tolist() == [
        [[6.5, 10.5, 2], *[[26.5, 50.5, 2]] * 6], [[0, 0, 0]] * 7,
    ]  # fmt: skip
    # About (16.5, 30.5), half sides 10 and 20 x 1.25.
    assert arrays["boxes"].tolist() == [[4, 5.5, 29, 55.5], [0] * 4]


@pytest.mark.parametrize(
    ("point", "v"), [((0, 0), 0), ((0, -3), 0), ((0, 5), 2), ((5, -1), 2), ((0.25, 0), 2)]
)
def test_joints_at_no_pixel_are_unlabelled(
    tmp_path: Path, point: tuple[float, float], v: int
) -> None:
    joints = _joints([1])
    joints[:, 2, 0] = point
    _write(tmp_path, [_entry("train", [1], train_joints=joints)], {1: [1]})
    (track,) = load_bbc_pose(str(tmp_path), "train")
    expected = [point[0] - 0.5, point[1] - 0.5, v] if v else [0, 0, 0]
    assert track["keypoints"][0, 2].tolist() == expected


def test_files_of_other_names_are_no_frames(tmp_path: Path) -> None:
    _write(tmp_path, [_entry("train", [2])], {1: [2, 10]})
    for name in ("x3.jpg", "4.jpeg", "5.jpg.part", "6_jpg"):
        (tmp_path / "1" / name).touch()
    (track,) = load_bbc_pose(str(tmp_path), "train")
    assert [Path(name).name for name in track["file_names"]] == ["2.jpg", "10.jpg"]


def test_missing_frames_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    entries = [_entry("train", [3, 4, 5, 6]), _entry("test", [3, 4, 5])]
    _write(tmp_path, entries, {1: [4, 6], 2: [3, 5]})
    (track,) = load_bbc_pose(str(tmp_path), "train")
    assert track["keypoints"][:, 0, 0].tolist() == [3.5, 5.5]
    assert [record.getMessage() for record in caplog.records] == [
        f"2 of 4 labelled training frames of {tmp_path}/1 have no image (the first is "
        f"{tmp_path}/1/3.jpg)."
    ]
    assert _said(tmp_path, "test").startswith(f"{tmp_path}/2/4.jpg does not exist.")
    for number in (4, 6):
        (tmp_path / "1" / f"{number}.jpg").unlink()
    assert _said(tmp_path).startswith(f"{tmp_path}/1/3.jpg does not exist.")
    # A folder without a picture says so, also where nothing is labelled.
    _write(tmp_path, [_entry("train", [])], {1: []})
    assert _said(tmp_path).startswith(f"{tmp_path}/1/1.jpg does not exist.")
    _write_images(tmp_path, {1: [8]})
    assert _said(tmp_path).startswith(f"{tmp_path}/bbcpose.mat (train) has no usable frame: 1 tr")


def test_frames_have_whole_numbers_and_entries_a_type(tmp_path: Path) -> None:
    entries = [_entry("val", [1]), _entry("train", [1, 2], train_frames=np.array([[1, 2.5]]))]
    _write(tmp_path, entries, {2: [1, 2]})
    place = f"{tmp_path}/bbcpose.mat: entry 2"
    assert _said(tmp_path) == f"{place}: field 'train_frames': expected whole numbers."
    _write(tmp_path, [_entry("val", [1]), _entry("train", [1], type=3.0)], {})
    assert _said(tmp_path).startswith(f"{place}: field 'type': expected text")
    # Numbers may stand in a row or a column.
    column = _entry("train", [1, 2], train_frames=np.array([[1], [2]]))
    _write(tmp_path, [column], {1: [1, 2]})
    assert load_bbc_pose(str(tmp_path), "train")[0]["labelled"].tolist() == [True, True]


@pytest.mark.parametrize(("videos", "found"), [(None, 3), (2, 2), (1, 1)])
def test_how_many_entries_count(tmp_path: Path, videos: int | None, found: int) -> None:
    _write(tmp_path, [_entry("train", [1])] * 3, {n: [1] for n in (1, 2, 3)})
    tracks = load_bbc_pose(str(tmp_path), "train", videos)
    assert [track["video_id"] for track in tracks] == ["1", "2", "3"][:found]
