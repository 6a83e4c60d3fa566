"""What all loaders build on: ids, boxes, reach, notes, and paths that are looked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from video_pose.data.datasets.tracks import (
    ImageFolder,
    datasets_root,
    distinct_names,
    drop_far_joints,
    is_far,
    joint_boxes,
    make_image_ids,
    make_keypoints,
    make_track,
    missing,
    note,
    noted,
    require_labelled,
    require_path,
    require_size,
)


def test_image_ids_count_the_frames_of_a_video() -> None:
    assert make_image_ids(0, 3).tolist() == [0, 1, 2]
    assert make_image_ids(2, np.array([5, 999_999], np.uint32)).tolist() == [2_000_005, 2_999_999]
    assert make_image_ids(1, 0).tolist() == [] and make_image_ids(1, 1).dtype == np.int64
    # The next id would be the first of another video.
    with pytest.raises(AssertionError, match="1000000"):
        make_image_ids(0, np.array([1_000_000]))


def test_boxes_about_the_known_joints() -> None:
    keypoints = np.zeros((4, 3, 3))
    keypoints[3, :2] = [[-14, -16, 2], [-10, -12, 1]]
    keypoints[0] = [[10, 20, 2], [18, 24, 1], [500, 500, 0]]
    keypoints[1, 1] = [7, 9, 1]
    # About (14, 22), half sides 4 and 2: x 1.25, and x 2; one joint has a box without area.
    assert joint_boxes(keypoints).tolist() == [
        [9, 19.5, 19, 24.5], [7, 9, 7, 9], [0, 0, 0, 0], [-14.5, -16.5, -9.5, -11.5],
    ]  # fmt: skip
    assert joint_boxes(keypoints, 2.0)[0].tolist() == [6, 18, 22, 26]


def test_joints_that_are_no_numbers_are_unlabelled_and_counted_where_they_were_labelled() -> None:
    xy = np.array([[[1, 2], [np.nan, 2], [1, np.inf], [np.nan, 2], [3, 4], [5, 6]]])
    visibility = np.array([[2, 1, 2, 0, 0, np.nan]])
    with noted("a dataset") as said:
        found = make_keypoints(xy, visibility)
    assert found.tolist() == [[[1, 2, 2], *[[0, 0, 0]] * 5]] and found.dtype == np.float32
    assert said == {"joints whose coordinates are no numbers: not labelled": 2}


def _track(**changes: object) -> dict:
    keypoints = np.zeros((2, 2, 3))
    keypoints[1, 0] = [3, -4, 1]
    values = {
        "video_id": "v", "source": {"file_names": ["a", "b"]}, "size": (6, 8),
        "keypoints": keypoints, "boxes": np.ones((2, 4)), "image_ids": [7, 8], **changes,
    }  # fmt: skip
    return make_track(**values)


def test_a_track_holds_what_was_given_and_nothing_that_is_none() -> None:
    track = _track(action="run", areas=None, boxed=np.array([True, False]))
    assert track.pop("boxed").tolist() == [True, False]
    arrays = {key: track.pop(key) for key in ("keypoints", "boxes", "labelled", "image_ids")}
    assert track == {
        "video_id": "v", "track_id": "0", "file_names": ["a", "b"], "height": 6, "width": 8,
        "action": "run",
    }  # fmt: skip
    assert [(a.dtype, a.tolist()) for a in arrays.values()] == [
        (np.float32, [[[0, 0, 0]] * 2, [[3, -4, 1], [0, 0, 0]]]), (np.float32, [[1] * 4] * 2),
        (bool, [False, True]), (np.int64, [7, 8]),
    ]  # fmt: skip
    source = {"video_file": "v.mp4", "frame_numbers": np.array([3, 4])}
    assert _track(source=source, track_id="5")["frame_numbers"].tolist() == [3, 4]
    for changes in ({"image_ids": [1]}, {"boxes": np.ones((3, 4))}, {"source": {"file_names": []}}):
        with pytest.raises(AssertionError, match="'v'"):
            _track(**changes)


def test_ten_times_the_longer_side_is_still_a_place() -> None:
    points = np.array([[80, -80], [80.5, 0], [0, -80.5], [61, 61]])
    for size in ((6, 8), (8, 6)):
        assert is_far(points, size).tolist() == [False, True, True, False]


def test_far_joints_are_counted_where_they_are_labelled() -> None:
    keypoints = np.array([[[81, 0, 1], [0, -81, 2], [81, 0, 0], [80, 1, 2]]])
    with noted("a dataset") as said:
        found = drop_far_joints(keypoints, (6, 8))
    assert found.tolist() == [[[0, 0, 0], [0, 0, 0], [81, 0, 0], [80, 1, 2]]]
    assert said == {"joints more than 10 times as far out as the picture is large: not labelled": 2}


def test_useless_boxes_of_a_track_are_none_and_counted() -> None:
    boxes = np.array([[1, 2, 3, np.nan], [1, 2, 3, 80.5]])
    with noted("a dataset") as said:
        assert _track(boxes=boxes)["boxes"].tolist() == [[0] * 4] * 2
        assert _track(boxes=np.full((2, 4), -80.0))["boxes"].tolist() == [[-80] * 4] * 2
    assert said == {
        "boxes that are no numbers or more than 10 times as far out as the picture is large: "
        "taken as none": 2
    }


@pytest.mark.parametrize("values", [[1, 1], [65535, 1], [1, 65535], [270.0, 480.0]])
def test_sizes_that_pictures_have(values: list[float]) -> None:
    found = require_size(np.array(values), "a.mat")
    assert found == tuple(values) and all(type(side) is int for side in found)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ([0, 4], "[0, 4]"), ([4, -1], "[4, -1]"), ([65536, 4], "[65536, 4]"),
        ([4, 65536], "[4, 65536]"), ([4.5, 4], "[4.5, 4.0]"), ([4, 4.25], "[4.0, 4.25]"),
        ([np.nan, 4], "[nan, 4.0]"), ([4, np.inf], "[4.0, inf]"),
    ],
)  # fmt: skip
def test_sizes_that_no_picture_has(values: list[float], said: str) -> None:
    with pytest.raises(ValueError) as error:
        require_size(np.array(values), "a.mat")
    assert str(error.value) == (
        f"a.mat: field 'dimensions': expected a height and a width in whole px, got {said}."
    )


def test_a_dataset_has_a_labelled_frame_and_no_track_without_frames() -> None:
    none = _track(
        source={"file_names": []}, keypoints=np.zeros((0, 2, 3)), boxes=np.zeros((0, 4)),
        image_ids=[],
    )  # fmt: skip
    labelled, blank = _track(), _track(keypoints=np.zeros((2, 2, 3)))
    assert [id(t) for t in require_labelled([none, blank, labelled], "x")] == [
        id(blank), id(labelled),
    ]  # fmt: skip
    with pytest.raises(ValueError) as error:
        require_labelled([none, blank], "the folder x")
    assert str(error.value) == (
        "the folder x has no usable frame: 2 tracks were read and none has a frame with a labelled "
        "joint."
    )


# ---- notes


def test_notes_are_said_once_by_the_outermost_block(caplog: pytest.LogCaptureFixture) -> None:
    note("lost: nobody listens")
    with noted("all") as said:
        note("a")
        note("b", 0)
        with noted("inner"):
            note("a", np.int64(2))
            note("c", True)
    assert said == {"a": 3, "c": 1}
    assert [record.getMessage() for record in caplog.records] == ["all: 3 a; 1 c"]
    with noted("nothing to say"):
        pass
    assert len(caplog.records) == 1


def test_a_loader_that_fails_says_its_error_alone(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(KeyError), noted("first"):
        note("a")
        raise KeyError
    with noted("second") as said:
        note("b")
    assert said == {"b": 1} and [r.getMessage() for r in caplog.records] == ["second: 1 b"]


# ---- where datasets lie


def test_what_is_missing_is_said_with_the_variable_and_the_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/ann")
    for value, root, setting in (
        ("~/d", "/home/ann/d", "'~/d'"),
        ("", "", "''"),
        (None, "datasets", "not set (the default is 'datasets')"),
    ):
        if value is None:
            monkeypatch.delenv("DETECTRON2_DATASETS")
        else:
            monkeypatch.setenv("DETECTRON2_DATASETS", value)
        assert datasets_root() == root
        assert str(missing("x/y", "x/\n  y")) == (
            "x/y does not exist. Datasets are looked for under $DETECTRON2_DATASETS, which is "
            f"{setting}. Expected:\nx/\n  y"
        )
    assert require_path(str(tmp_path), "tree") == str(tmp_path)
    with pytest.raises(FileNotFoundError, match="gone does not exist"):
        require_path(str(tmp_path / "gone"), "tree")


def _folder(tmp_path: Path, *names: str) -> ImageFolder:
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    return ImageFolder(str(tmp_path))


def test_of_two_files_that_differ_in_the_case_of_their_ending_the_named_one_is_found(
    tmp_path: Path,
) -> None:
    folder = _folder(tmp_path, "a.JPG", "a.jpg", "b.Png", "C.png")
    with noted("x") as said:
        assert folder.find("a.JPG") == str(tmp_path / "a.JPG")
        assert folder.find("a.jpg") == str(tmp_path / "a.jpg")
        assert not said
        assert folder.find("b.png") == str(tmp_path / "b.Png")
        # The stem's case tells files apart.
        assert folder.find("c.png") == str(tmp_path / "c.png")
        assert folder.find("d.png") == str(tmp_path / "d.png")
        folder.note_missing()
    assert said == {
        "paths of another system or machine: found by their end": 1,
        f"files that do not exist below {tmp_path} (the first is 'c.png')": 2,
    }


def test_the_longest_end_of_a_path_that_lies_below_the_folder_is_taken(tmp_path: Path) -> None:
    folder = _folder(tmp_path, "a/v/1.jpg", "v/1.jpg", "1.jpg", "c/2.jpg")
    with noted("x") as said:
        for name, end in (
            ("a/v/1.jpg", "a/v/1.jpg"), ("D:\\x\\a\\v\\1.jpg", "a/v/1.jpg"),
            ("/home/v/1.jpg", "v/1.jpg"), ("w/1.jpg", "1.jpg"), ("c:/2.jpg", "2.jpg"),
            ("c/2.jpg", "c/2.jpg"),
        ):  # fmt: skip
            if end == "a/v/1.jpg":
                folder = ImageFolder(str(tmp_path))  # two names of one file are refused
            assert folder.find(name) == str(tmp_path / end)
        folder.note_missing()
    assert said == {
        "paths of another system or machine: found by their end": 3,
        f"files that do not exist below {tmp_path} (the first is 'c:/2.jpg')": 1,
    }


def test_a_name_that_is_asked_for_again_is_no_second_one(tmp_path: Path) -> None:
    folder = _folder(tmp_path, "1.jpg")
    assert [folder.find("x/1.jpg") for _ in range(2)] == [str(tmp_path / "1.jpg")] * 2
    with pytest.raises(ValueError) as error:
        folder.find("y/1.jpg")
    assert str(error.value) == (
        f"'y/1.jpg' and 'x/1.jpg' both end in {tmp_path / '1.jpg'}: choose an image_root below "
        "which every name has a file of its own"
    )
    with noted("x") as said:
        folder.note_missing()
    assert not said


def test_the_file_of_one_name_is_not_found_for_another_as_well(tmp_path: Path) -> None:
    for names in (("1.jpg", "x/1.jpg"), ("x/1.jpg", "1.jpg")):
        folder = _folder(tmp_path, "1.jpg")
        assert folder.find(names[0]) == str(tmp_path / "1.jpg")
        with pytest.raises(ValueError, match=f"'{names[1]}' and '{names[0]}' both end in"):
            folder.find(names[1])


def test_a_name_is_found_in_the_other_spelling_of_its_letters(tmp_path: Path) -> None:
    """macOS writes an accent as a letter of its own."""
    one, two = "caf\u00e9", "cafe\u0301"
    folder = _folder(tmp_path, f"{one}/{one}.JPG", f"{two}.png")
    assert folder.find(f"{one}/{two}.jpg") == str(tmp_path / one / f"{one}.JPG")
    assert folder.find(f"{one}.png") == str(tmp_path / f"{two}.png")
    folder = ImageFolder(str(tmp_path))
    assert folder.find(f"x/{two}/{one}.jpg") == str(tmp_path / one / f"{one}.JPG")


def test_the_only_picture_of_a_name_without_ending_is_found(tmp_path: Path) -> None:
    folder = _folder(tmp_path, "frame_000000.PNG", "b.png", "b.jpg", "c.txt", "d", "d.png")
    assert folder.find("frame_000000") == str(tmp_path / "frame_000000.PNG")
    assert folder.find("d") == str(tmp_path / "d")
    for name in ("b", "c"):  # two pictures, and none
        assert folder.find(name) == str(tmp_path / name)


def test_a_file_elsewhere_that_exists_is_taken_as_named(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "root", "1.jpg")
    (tmp_path / "1.jpg").write_bytes(b"")
    assert folder.find(str(tmp_path / "1.jpg")) == str(tmp_path / "1.jpg")
    # A folder is no file.
    assert folder.find(str(tmp_path)) == str(tmp_path / "root" / str(tmp_path)[1:])
    assert folder.find("http://host/1.jpg") == "http://host/1.jpg"


def test_names_that_repeat_are_told_apart() -> None:
    assert distinct_names(["a", "b", "a"]) == ["a", "b", "a (2)"]
    # A name that another is given is not its own.
    assert distinct_names(["a", "a (2)", "a"]) == ["a", "a (2)", "a (2) (2)"]
