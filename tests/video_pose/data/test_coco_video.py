"""A user's JSON: tracks, frames without people, PoseTrack18's keys, stills, and what is refused."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from video_pose.data.cropping import fill_boxes
from video_pose.data.datasets.coco_json import choose_category, joint_set, list_files, read_labels
from video_pose.data.datasets.coco_video import (
    load_video_keypoints,
    name_number,
    register_video_keypoints,
)
from video_pose.data.datasets.label_files import open_labels
from video_pose.data.datasets.tracks import ImageFolder, noted
from video_pose.data.frames import tracks_to_frames
from video_pose.data.json_fields import Field
from video_pose.data.records import is_person
from video_pose.data.synthetic.writers import write_video
from video_pose.skeleton import JointSet

NAMES = ["nose", "left_hand", "right_hand"]
CATEGORY = {"id": 1, "name": "person", "keypoints": NAMES, "skeleton": [[1, 2], [1, 3]]}


def _image(id_: int, frame: int, **changes: Any) -> dict[str, Any]:
    image = {
        "id": id_, "file_name": f"v/{frame}.jpg", "video_id": 7, "frame_id": frame,
        "height": 48, "width": 64, **changes,
    }  # fmt: skip
    return {k: v for k, v in image.items() if v is not None}


def _annotation(image_id: int, x: float = 10, **changes: Any) -> dict[str, Any]:
    annotation = {
        "id": 1000 + image_id, "image_id": image_id, "category_id": 1, "bbox": [1, 2, 30, 40],
        "keypoints": [x, 20, 2, x + 8, 24, 1, 5, 5, 0], **changes,
    }  # fmt: skip
    return {k: v for k, v in annotation.items() if v is not None}


def _write(tmp_path: Path, images: list[Any], annotations: list[Any], **changes: Any) -> str:
    path = tmp_path / "labels.json"
    content = {"images": images, "annotations": annotations, "categories": [CATEGORY], **changes}
    path.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))
    return str(path)


def _load(tmp_path: Path, images: list[Any], annotations: list[Any]) -> list[dict[str, Any]]:
    return load_video_keypoints(_write(tmp_path, images, annotations), str(tmp_path), NAMES)


def test_the_persons_area_is_read(tmp_path: Path) -> None:
    images = [_image(1, 0), _image(2, 1), _image(3, 2)]
    people = [_annotation(1, area=311.5), _annotation(2, area=0), _annotation(3)]
    with noted("labels") as said:
        (track,) = _load(tmp_path, images, people)
    assert track["areas"].tolist() == [311.5, 0, 0]
    assert [frame["annotations"][0].get("area") for frame in tracks_to_frames([track])] == [
        311.5,
        None,
        None,
    ]
    assert said["areas of 0 or below: taken as not told"] == 1
    assert "areas" not in _load(tmp_path, images[2:], people[2:])[0]
    with pytest.raises(ValueError, match="a number, got text 'big'"):
        _load(tmp_path, images, [_annotation(1, area="big")])


def test_values_by_hand(tmp_path: Path) -> None:
    # Given out of order; frame 10 has no annotation.
    images = [_image(3, 11), _image(1, 9), _image(2, 10)]
    (track,) = _load(tmp_path, images, [_annotation(3, x=30), _annotation(1, bbox=None)])
    assert (track["video_id"], track["track_id"]) == ("7", "0")
    assert track["file_names"] == [str(tmp_path / "v" / f"{n}.jpg") for n in (9, 10, 11)]
    assert track["labelled"].tolist() == [True, False, True]
    # Pixel indices become continuous: + .5. An unlabelled joint is 0.
    assert track["keypoints"][0].tolist() == [[10.5, 20.5, 2], [18.5, 24.5, 1], [0, 0, 0]]
    assert track["keypoints"][2, 0].tolist() == [30.5, 20.5, 2]
    assert not track["keypoints"][1].any() and not track["boxes"][1].any()
    # Without a bbox: 10.5..18.5 x 20.5..24.5 about (14.5, 22.5), half sides 4 and 2 x 1.25.
    assert track["boxes"][0].tolist() == [9.5, 20, 19.5, 25]
    assert track["boxes"][2].tolist() == [1, 2, 31, 42]
    assert track["image_ids"].tolist() == [1, 2, 3]
    assert (track["height"], track["width"]) == (48, 64)


def test_tracks_cover_their_own_span_and_unlabelled_neighbours(tmp_path: Path) -> None:
    images = [_image(i, i) for i in range(1, 8)]
    # Frames 1 and 4 are unlabelled. A: 2, 5. B: 5, 6, 7.
    annotations = [_annotation(i, track_id=0) for i in (2, 5)]
    annotations += [_annotation(i, track_id=12, id=90 + i) for i in (5, 6, 7)]
    # Frame 3 shows a third person, seen once.
    annotations.append(_annotation(3, track_id=5))
    tracks = {t["track_id"]: t for t in _load(tmp_path, images, annotations)}
    assert {k: t["image_ids"].tolist() for k, t in tracks.items()} == {
        "0": [1, 2, 3, 4, 5], "5": [3, 4], "12": [4, 5, 6, 7],
    }  # fmt: skip
    assert tracks["0"]["labelled"].tolist() == [False, True, False, False, True]
    assert tracks["12"]["labelled"].tolist() == [False, True, True, True]


def test_posetrack18(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "0.jpg")
    images = [
        {
            "id": 1000 + i, "file_name": f"{i}.jpg", "vid_id": "000342", "frame_id": 1000 + i,
            "is_labeled": i > 0, "nframes": 3,
        }
        for i in range(3)
    ]  # fmt: skip
    annotations = [_annotation(1001, track_id=3), _annotation(1002, track_id=3)]
    (track,) = _load(tmp_path, images, annotations)
    assert (track["video_id"], track["track_id"]) == ("000342", "3")
    assert track["labelled"].tolist() == [False, True, True]
    assert (track["height"], track["width"]) == (20, 30)  # from the image, the JSON has none


def test_a_video_without_annotations_is_kept_unlabelled(tmp_path: Path) -> None:
    images = [_image(1, 1), _image(2, 1, video_id=8), _image(3, 2, video_id=8)]
    tracks = _load(tmp_path, images, [_annotation(1)])
    assert [(t["video_id"], t["labelled"].tolist()) for t in tracks] == [
        ("7", [True]), ("8", [False, False]),
    ]  # fmt: skip


def test_stills_are_videos_of_one_frame_with_a_track_a_person(tmp_path: Path) -> None:
    images = [_image(i, 0, video_id=None, frame_id=None) for i in (4, 5)]
    crowd = _annotation(4, iscrowd=1)
    tracks = _load(tmp_path, images, [_annotation(4), _annotation(4, x=30), crowd, _annotation(5)])
    found = [(t["video_id"], t["track_id"], t["image_ids"].tolist()) for t in tracks]
    assert found == [
        ("still_4", "0", [4]), ("still_4", "1", [4]), ("still_4", "crowd_0", [4]),
        ("still_5", "0", [5]),
    ]  # fmt: skip
    assert tracks[2]["crowd"] and not tracks[2]["labelled"].any() and tracks[2]["boxed"].all()
    assert tracks[1]["keypoints"][0, 0].tolist() == [30.5, 20.5, 2]


def test_a_still_without_annotations_shows_nobody(tmp_path: Path, caplog) -> None:
    """Of a frame of a video that is not known, nor where a person is marked without a place."""
    images = [_image(i, 0, video_id=None, frame_id=None) for i in (4, 5, 6)]
    images.append({**images[0], "id": 7, "is_labeled": False})
    placeless = _annotation(6, keypoints=[0] * 9, bbox=None)
    tracks = _load(tmp_path, [*images, _image(1, 7)], [_annotation(4), placeless])
    assert {t["video_id"]: t.get("nobody") for t in tracks} == {
        "7": None, "still_4": None, "still_5": True, "still_6": None, "still_7": None,
    }  # fmt: skip
    assert "1 pictures without annotations: nobody is there" in caplog.text


def test_video_files(tmp_path: Path) -> None:
    images = [
        _image(i, i, file_name=None, frame_id=None, video_file="a/b.mp4", frame_index=2 * i)
        for i in range(3)
    ]
    (track,) = _load(tmp_path, images, [_annotation(0), _annotation(2)])
    assert track["video_file"] == str(tmp_path / "a" / "b.mp4")
    assert track["frame_numbers"].tolist() == [0, 2, 4] and "file_names" not in track


@pytest.mark.parametrize(
    ("images", "annotations", "message"),
    [
        ([_image(1, 1)], [_annotation(1), _annotation(1)], "image 1 .*track_id"),
        ([_image(1, 1)], [_annotation(9)], r"image_id .*the id of one of images"),
        ([_image(1, 1), _image(2, 1)], [], "own frame_id"),
        ([_image(1, 1), _image(2, 2, frame_id=None)], [], "own frame_id"),
        ([_image(1, 1), _image(1, 2)], [], "own whole-number id"),
        ([_image(1, 1, file_name=None)], [_annotation(1)], "image 1 has no file_name"),
        ([_image(1, 1)], [_annotation(1, keypoints=[1, 2, 2])], r"\(id 1001\): .*\(3 x"),
        ([_image(1, 1)], [_annotation(1, keypoints=[1, 2, 3] * 3)], "v 0, 1 or 2"),
        ([_image(1, 1)], [], "no usable frame"),
        ([_image(1, 1)], [_annotation(1, keypoints=[0] * 9)], "no usable frame"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, images: list[Any], annotations: list[Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message) as error:
        _load(tmp_path, images, annotations)
    assert "labels.json" in str(error.value)


def test_missing_files_and_lists(tmp_path: Path) -> None:
    path = _write(tmp_path, [_image(1, 1)], [_annotation(1)])
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_video_keypoints(path, str(tmp_path / "nowhere"), NAMES)
    with pytest.raises(FileNotFoundError, match="none.json"):
        load_video_keypoints(str(tmp_path / "none.json"), str(tmp_path), NAMES)
    path = _write(tmp_path, [], [], categories=None)
    with pytest.raises(ValueError, match="categories"):
        load_video_keypoints(path, str(tmp_path), NAMES)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ValueError, match="bad.json is no JSON"):
        load_video_keypoints(str(tmp_path / "bad.json"), str(tmp_path), NAMES)


@pytest.fixture
def name() -> Iterator[str]:
    name = "test_own_videos"
    yield name
    for catalog in (DatasetCatalog, MetadataCatalog):
        if name in catalog.list():
            catalog.remove(name)


def test_register_infers_the_skeleton(tmp_path: Path, name: str) -> None:
    register_video_keypoints(
        name, _write(tmp_path, [_image(1, 1)], [_annotation(1)]), str(tmp_path)
    )
    metadata = MetadataCatalog.get(name)
    assert metadata.keypoint_names == NAMES
    assert metadata.keypoint_flip_map == [("left_hand", "right_hand")]
    assert [c[:2] for c in metadata.keypoint_connection_rules] == [
        ("nose", "left_hand"), ("nose", "right_hand"),
    ]  # fmt: skip
    assert metadata.joint_groups == {"head": ["nose"], "hand": ["left_hand", "right_hand"]}
    # No shoulders and hips: no protocol that needs them.
    assert metadata.pck_protocols == ["bbox"] and metadata.dataset_kind == "coco_video"
    assert DatasetCatalog.get(name)[0]["image_ids"].tolist() == [1]
    with pytest.raises(ValueError, match="already registered"):
        register_video_keypoints(name, "other.json", str(tmp_path))


def test_register_with_a_skeleton_reads_nothing(tmp_path: Path, name: str) -> None:
    register_video_keypoints(name, str(tmp_path / "later.json"), "x", JointSet(names=NAMES))
    assert MetadataCatalog.get(name).keypoint_names == NAMES
    with pytest.raises(FileNotFoundError, match="later.json"):
        DatasetCatalog.get(name)


def test_failed_registration_leaves_no_trace(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match="none.json"):
        register_video_keypoints(name, str(tmp_path / "none.json"), "x")
    assert name not in DatasetCatalog.list() and name not in MetadataCatalog.list()


def test_a_picture_whose_size_is_needed_is_named_with_its_place(tmp_path: Path, name: str) -> None:
    image = {"id": 7, "file_name": "gone.jpg", "video_id": "a", "frame_id": 0}
    later = {**image, "id": 8, "file_name": "later.jpg", "frame_id": 1}
    person = {"id": 1, "image_id": 7, "category_id": 1, "keypoints": [1, 2, 2, 3, 4, 1]}
    category = {**CATEGORY, "keypoints": ["nose", "neck"]}
    content = {"images": [image, later], "annotations": [person], "categories": [category]}
    (tmp_path / "labels.json").write_text(json.dumps(content))
    register_video_keypoints(name, str(tmp_path / "labels.json"), str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"labels.json: images\[0\] .*gone.jpg"):
        DatasetCatalog.get(name)


def _infer(categories: list[Any]) -> JointSet:
    content = {"images": [], "categories": categories}
    return joint_set(choose_category(Field(content, "labels.json")))


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"name": "person"}], "expected one list of joint names.*person"),
        ([CATEGORY, {**CATEGORY, "keypoints": ["nose"]}], "expected one list"),
        ([{**CATEGORY, "keypoints": ["nose", 3]}], r"categories\[0\].keypoints.*a list of texts"),
        ([{**CATEGORY, "keypoints": ["nose", "nose"]}], "Joint names repeat"),
        ([{**CATEGORY, "name": 7}], r"categories\[0\].name \(id 1\): expected text, got 7"),
    ],
)
def test_skeletons_that_cannot_be_inferred(categories: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"labels.json.*{message}"):
        _infer(categories)


def test_known_limbs_where_the_category_has_no_skeleton() -> None:
    names = ["left_hip", "right_hip", "left_knee", "right_knee", "tail"]
    joints = _infer([{"keypoints": names}])
    assert {c[:2] for c in joints.connections} == {
        ("right_hip", "left_hip"), ("right_hip", "right_knee"), ("left_hip", "left_knee"),
    }  # fmt: skip


# ---- what strangers' files say: each kind of fault has members here that are read, or refused with
# ---- file, place and value


def _set(*path: Any, value: Any) -> Any:
    """A change of a content: ``value`` at a path of keys; ... takes the key away."""

    def change(content: dict[str, Any]) -> None:
        target: Any = content
        for key in path[:-1]:
            target = target[key]
        if value is ...:
            del target[path[-1]]
        else:
            target[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_set("annotations", 1, "bbox", value=["1", "2", "3", "4"]), r"annotations\[1\].bbox \(id"),
        (_set("annotations", 1, "bbox", value=[1, 2, 3]), r"bbox .*expected 4 numbers \(x, y, w"),
        (_set("annotations", 1, "bbox", value={"x": 1}), r"bbox .*expected a list"),
        (_set("annotations", 0, "keypoints", 3, value="18"), r"\[0\].keypoints .*number"),
        (_set("annotations", 0, "keypoints", value="18 20 2"), r"keypoints .*expected a list"),
        (_set("annotations", 0, "keypoints", 2, value=float("nan")), "v 0, 1 or 2"),
        (_set("annotations", 0, "image_id", value="x"), r"image_id .*whole number.*, got text 'x'"),
        (_set("annotations", 0, "image_id", value=...), r"annotations\[0\].image_id .*no such key"),
        (_set("annotations", 0, "track_id", value=1.5), r"track_id .*whole number, got 1.5"),
        (_set("annotations", 0, "track_id", value=[1]), r"track_id .*got a list"),
        (_set("annotations", 0, "iscrowd", value="no"), r"iscrowd .*true, false, 0 or 1"),
        (_set("annotations", 0, "category_id", value="x"), r"category_id .*whole number"),
        (_set("annotations", value=7), r"annotations: expected a list \[...\], got 7"),
        (_set("annotations", 0, value=None), r"annotations\[0\]: expected an object"),
        (_set("images", 0, "id", value="x"), r"images\[0\].id .*whole number.*, got text"),
        (_set("images", 0, "height", value="48"), r"images\[0\].height .*whole number"),
        (_set("images", 0, "width", value=0), r"width .*of at least 1, got 0"),
        (_set("images", 0, "width", value=65), r"images\[1\] .*height and width .*images\[0\]"),
        (_set("images", 0, "file_name", value=5), r"file_name .*expected text, got 5"),
        (_set("images", 0, "video_id", value={}), r"video_id .*got an object"),
        (_set("images", 0, "frame_id", value="first"), r"images\[0\].frame_id .*digits as text"),
        (_set("images", 0, "frame_id", value=0.5), r"frame_id .*whole number, got 0.5"),
        (_set("images", 0, "frame_id", value="1"), r"images\[0\].frame_id .*a number, as images"),
        (_set("images", 0, "frame_id", value=2), r"images\[1\] .*frame_id.* got 2, as .*images\[0"),
        (_set("categories", 0, "keypoints", value="nose"), r"categories\[0\].keypoints .*a list"),
        (_set("categories", value={}), "categories: expected a list"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(tmp_path: Path, change: Any, words: str) -> None:
    content = {
        "images": [_image(1, 1), _image(2, 2)],
        "annotations": [_annotation(1), _annotation(2)],
        "categories": [CATEGORY],
    }
    content = json.loads(json.dumps(content))
    change(content)
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=f"labels.json: .*{words}"):
        load_video_keypoints(str(path), str(tmp_path), NAMES)


@pytest.mark.parametrize(
    "frames",
    [["0009", "0010", "0011"], ["9", "10", "100"], [3.0, 10.0, 11.0], [-1, 0, 7], ["8", "9", "10"]],
)
def test_frames_are_in_the_order_of_their_numbers(tmp_path: Path, frames: list[Any]) -> None:
    images = [_image(i, frames[i]) for i in (1, 2, 0)]
    (track,) = _load(tmp_path, images, [_annotation(i) for i in range(3)])
    assert track["image_ids"].tolist() == [0, 1, 2]


def test_frames_without_a_number_go_by_that_in_their_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = [_image(i, 0, frame_id=None, file_name=f"v/shot2_{n}.jpg") for i, n in
              enumerate((10, 9, 100))]  # fmt: skip
    (track,) = _load(tmp_path, images, [_annotation(0)])
    assert track["image_ids"].tolist() == [1, 0, 2]
    assert "3 images without frame_id: ordered by the number in their name" in caplog.text
    images[0]["file_name"] = "v/first.jpg"
    with pytest.raises(ValueError, match=r"images\[0\].*own frame_id"):
        _load(tmp_path, images, [_annotation(0)])


def test_stills_that_look_like_a_video_are_said_and_can_be_grouped(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = [_image(i, 0, video_id=None, frame_id=None, file_name=f"a/f_{i}.jpg") for i in
              range(8, 12)]  # fmt: skip
    path = _write(tmp_path, images, [_annotation(i) for i in range(8, 12)])
    assert len(load_video_keypoints(path, str(tmp_path), NAMES)) == 4
    assert "named like frames in a row" in caplog.text and "videos='names'" in caplog.text
    (track,) = load_video_keypoints(path, str(tmp_path), NAMES, videos="names")
    assert track["video_id"] == "a/f" and track["image_ids"].tolist() == [8, 9, 10, 11]
    caplog.clear()
    tracked = [_annotation(i, attributes={"track_id": 4}) for i in range(8, 12)]
    load_video_keypoints(_write(tmp_path, images, tracked), str(tmp_path), NAMES)
    assert "people with a track_id on images without video_id" in caplog.text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("clip/a_0012.jpg", ("clip/a_", 12)),
        ("clip\\0012.PNG", ("clip/", 12)),
        ("walk_0009_jpg.rf.9f8e7d.jpg", ("walk_", 9)),
        ("12/7.jpg", ("12/", 7)),
        ("cam2_take3 (5).jpeg", ("cam2_take3 (", 5)),
        ("cover.jpg", ("cover", None)),
    ],
)
def test_the_number_in_a_name(name: str, expected: tuple[str, int | None]) -> None:
    assert name_number(name) == expected


@pytest.mark.parametrize("key", ["track_id", "attributes"])
def test_people_are_told_apart_by_either_track_id(tmp_path: Path, key: str) -> None:
    def person(track: Any, **changes: Any) -> dict[str, Any]:
        where = {"track_id": track} if key == "track_id" else {"attributes": {"track_id": track}}
        return _annotation(1, **where, **changes)

    tracks = _load(tmp_path, [_image(1, 1)], [person(3), person("b", id=5, x=30)])
    assert [track["track_id"] for track in tracks] == ["3", "b"]


def test_attributes_and_fields_that_are_not_read_are_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    people = [
        _annotation(1, attributes={"track_id": 1, "occluded": True}, segmentation=[[1, 2]]),
        _annotation(2, attributes={"track_id": 1, "occluded": False, "mood": "good"}),
    ]
    _load(tmp_path, [_image(1, 1, ignore_regions_x=[[1]]), _image(2, 2)], people)
    for line in (
        "2 fields annotations[].attributes.occluded", "1 fields annotations[].attributes.mood",
        "1 fields annotations[].segmentation", "1 fields images[].ignore_regions_x",
    ):  # fmt: skip
        assert f"{line}: not read" in caplog.text
    assert "track_id: not read" not in caplog.text


@pytest.mark.parametrize(
    ("keypoints", "is_refused"),
    [
        ([0.25, 0.5, 2, 0.75, 1, 2], True),
        ([0, 1, 2, 1, 0, 2], False),  # corners of the first pixels
        ([0.25, 0.5, 2, 1.5, 1, 2], False),
        ([0.25, -0.5, 2, 0.75, 1, 2], False),
        ([0.25, 0.5, 2, 9, 9, 0], False),  # one joint may lie anywhere
    ],
)
def test_coordinates_that_are_shares_of_the_picture_are_refused(
    tmp_path: Path, keypoints: list, is_refused: bool
) -> None:
    person = _annotation(1, keypoints=[*keypoints, *[0] * (3 * len(NAMES) - 6)])
    expected = pytest.raises(ValueError, match="expected px, got numbers from 0 to 1 alone")
    with expected if is_refused else contextlib.nullcontext():
        _load(tmp_path, [_image(1, 1)], [person])


def _write_categories(tmp_path: Path, categories: list[Any], people: list[Any]) -> str:
    return _write(tmp_path, [_image(1, 1)], people, categories=categories)


def test_people_are_those_of_one_category(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cat = {"id": 2, "name": "cat", "keypoints": ["a", "b", "c"]}
    people = [_annotation(1), _annotation(1, id=5, category_id=2, x=50)]
    path = _write_categories(tmp_path, [cat, CATEGORY], people)
    (track,) = load_video_keypoints(path, str(tmp_path), NAMES)
    assert track["keypoints"][0, 0].tolist() == [10.5, 20.5, 2]
    assert "1 annotations of category 2, which is not 'person': left out" in caplog.text
    # The named one; the one whose joints are given.
    (track,) = load_video_keypoints(path, str(tmp_path), ["a", "b", "c"], category="cat")
    assert track["keypoints"][0, 0].tolist() == [50.5, 20.5, 2]
    (track,) = load_video_keypoints(path, str(tmp_path), ["a", "b", "c"])
    assert track["keypoints"][0, 0].tolist() == [50.5, 20.5, 2]
    # Two categories of the same joints are the same people.
    child = {**CATEGORY, "id": 2, "name": "child"}
    path = _write_categories(tmp_path, [{**CATEGORY, "name": "adult"}, child], people[1:])
    assert len(load_video_keypoints(path, str(tmp_path), NAMES)) == 1
    with pytest.raises(ValueError, match=r"annotations\[0\].category_id .*no such key"):
        load_video_keypoints(
            _write_categories(tmp_path, [cat, CATEGORY], [_annotation(1, category_id=None)]),
            str(tmp_path), NAMES,
        )  # fmt: skip
    # Of one category everybody is, said or not.
    people = [_annotation(1, category_id=None), _annotation(1, id=5, track_id=3)]
    path = _write_categories(tmp_path, [CATEGORY], people)
    assert len(load_video_keypoints(path, str(tmp_path), NAMES)) == 2
    with pytest.raises(ValueError, match=r"category='<name>'"):
        _infer([{**cat, "name": "dog"}, {**cat, "keypoints": ["x"]}])


@pytest.mark.parametrize(
    ("skeleton", "lines"),
    [
        ([[0, 1], [1, 2]], [("nose", "left_hand"), ("left_hand", "right_hand")]),
        ([[3, 1]], [("right_hand", "nose")]),
        ([["nose", "right_hand"], ["nose", "tail"]], [("nose", "right_hand")]),
        ([[1, 9], [1, 2, 3], "x", [None, 1]], []),
        ("1-2", []),
        ([], []),
    ],
)
def test_lines_of_a_skeleton_never_refuse_a_dataset(skeleton: Any, lines: list[Any]) -> None:
    joints = _infer([{**CATEGORY, "skeleton": skeleton}])
    assert [line[:2] for line in joints.connections] == lines


def test_boxes_and_joints_that_are_none_take_the_joints_extent(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = [[0, 0, 0, 0], [5, 5, -3, 4], [1, 2, None, 4], [1e9, 1, 9, 9], [1, 1, 1e9, 9]]
    images = [_image(i, i) for i in range(6)]
    people = [_annotation(i, bbox=box) for i, box in enumerate(wrong)]
    people.append(_annotation(5, keypoints=[1e9, 1, 2, 18, 24, 1, 10, 20, 1]))
    (track,) = _load(tmp_path, images, people)
    assert track["boxes"][:5].tolist() == [[9.5, 20, 19.5, 25]] * 5
    assert track["keypoints"][5].tolist() == [[0, 0, 0], [18.5, 24.5, 1], [10.5, 20.5, 1]]
    assert "3 boxes without area" in caplog.text and "2 boxes more than 10 times" in caplog.text
    assert "1 joints more than 10 times" in caplog.text
    # One rule: the crops of clips and the boxes of frames are the same.
    filled = fill_boxes(track["boxes"], 48, 64, track["keypoints"])
    frames = tracks_to_frames([track], 0.0)
    np.testing.assert_allclose([f["annotations"][0]["bbox"] for f in frames], filled, atol=1e-4)
    none = {**track, "boxes": np.zeros_like(track["boxes"])}
    filled = fill_boxes(none["boxes"], 48, 64, none["keypoints"])
    frames = tracks_to_frames([none], 0.0)
    np.testing.assert_allclose([f["annotations"][0]["bbox"] for f in frames], filled, atol=1e-4)


def test_people_with_a_box_alone_and_crowds_are_kept_in_both_views(tmp_path: Path) -> None:
    images = [_image(1, 1), _image(2, 2)]
    people = [
        _annotation(1, track_id=1),
        _annotation(2, track_id=1, keypoints=None),  # this person's box, without joints
        _annotation(1, track_id=2, keypoints=[0] * 9, id=7),  # never with joints
        _annotation(2, keypoints=[], id=8, bbox=[3, 3, 9, 9]),  # of no track
        _annotation(2, iscrowd=1, id=9, bbox=[0, 0, 60, 40]),
    ]
    tracks = {t["track_id"]: t for t in _load(tmp_path, images, people)}
    assert sorted(tracks) == ["1", "2", "box_0", "crowd_0"]
    assert tracks["1"]["labelled"].tolist() == [True, False]
    assert tracks["1"]["boxed"].tolist() == [True, True]
    assert tracks["box_0"]["boxes"].tolist() == [[3, 3, 12, 12]]
    assert [is_person(t) for t in tracks.values()] == [True, False, False, False]
    first, second = tracks_to_frames(tracks.values(), 0.0)
    assert [a["iscrowd"] for a in first["annotations"]] == [0, 0]
    assert sorted(a["iscrowd"] for a in second["annotations"]) == [0, 0, 1]
    assert first["tracks"] == [("1", 0)] and second["tracks"] == []
    assert not np.any(first["annotations"][1]["keypoints"])


def test_a_box_told_before_the_joints_of_its_person_is_none_of_the_person(tmp_path: Path) -> None:
    """In either order of a file: the joints are the track, the box stays a box."""
    box = _annotation(1, track_id=1, keypoints=None, id=5, bbox=[3, 3, 9, 9])
    for people in ([box, _annotation(1, track_id=1)], [_annotation(1, track_id=1), box]):
        tracks = {t["track_id"]: t for t in _load(tmp_path, [_image(1, 1)], people)}
        assert sorted(tracks) == ["1", "box_0"]
        assert tracks["1"]["boxes"].tolist() == [[1, 2, 31, 42]]
        assert tracks["1"]["keypoints"][0, 0].tolist() == [10.5, 20.5, 2]
        assert tracks["box_0"]["boxes"].tolist() == [[3, 3, 12, 12]]
        assert tracks["box_0"]["boxed"].tolist() == [True]


def _two_files(tmp_path: Path, second: dict[str, Any]) -> Path:
    folder = tmp_path / "many"
    folder.mkdir(exist_ok=True)
    one = {"images": [_image(1, 1)], "annotations": [_annotation(1)], "categories": [CATEGORY]}
    (folder / "a.json").write_text(json.dumps(one))
    (folder / "b.json").write_text(json.dumps({**one, **second}))
    (folder / "._a.json").write_bytes(b"\x00\x05")  # what another system leaves beside it
    (folder / "readme.txt").write_text("no labels")
    return folder


def test_three_files_stand_for_a_dataset(tmp_path: Path) -> None:
    paths = []
    for number in range(4):
        (tmp_path / str(number)).mkdir()
        images = [_image(number, 1, video_id=number)]
        paths.append(_write(tmp_path / str(number), images, []))
    with pytest.raises(ValueError, match=f"^{', '.join(paths[:3])} has no usable frame: 4 tracks"):
        load_video_keypoints(paths, str(tmp_path), NAMES)


def test_a_file_a_video(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = {"images": [_image(9, 1, video_id="w")], "annotations": [_annotation(9, x=30)]}
    folder = _two_files(tmp_path, other)
    for paths in (str(folder), str(folder / "?.json"), [folder / "b.json", folder / "a.json"]):
        tracks = load_video_keypoints(paths, str(tmp_path), NAMES)
        assert [t["video_id"] for t in tracks] == ["7", "w"]
    # Exports that count from 1 in each file, and call every video 7.
    tracks = load_video_keypoints(str(_two_files(tmp_path, {})), str(tmp_path), NAMES)
    assert [t["video_id"] for t in tracks] == ["a/7", "b/7"]
    assert len({int(t["image_ids"][0]) for t in tracks}) == 2
    assert "set apart" in caplog.text
    # Those that call every video 7, with images of their own.
    other = {"images": [_image(9, 1)], "annotations": [_annotation(9)]}
    tracks = load_video_keypoints(str(_two_files(tmp_path, other)), str(tmp_path), NAMES)
    assert [t["video_id"] for t in tracks] == ["a/7", "b/7"]
    assert "video ids that two files have" in caplog.text
    folder = _two_files(tmp_path, {"categories": [{**CATEGORY, "keypoints": ["a", "b", "c"]}]})
    with pytest.raises(ValueError, match="b.json: expected the joints of .*a.json"):
        read_labels([open_labels(p) for p in list_files(str(folder))])
    for paths in (str(tmp_path / "none*.json"), str(tmp_path / "none"), []):
        with pytest.raises(FileNotFoundError):
            load_video_keypoints(paths, str(tmp_path), NAMES)


@pytest.mark.parametrize(
    "name",
    ["C:\\data\\v\\1.jpg", "/home/ann/project/v/1.jpg", "v\\1.jpg", "./v/1.jpg", "v/1.JPG"],
)
def test_paths_of_another_system_are_found_by_their_end(tmp_path: Path, name: str) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "1.jpg").write_bytes(b"")
    (track,) = _load(tmp_path, [_image(1, 1, file_name=name)], [_annotation(1)])
    assert os.path.samefile(track["file_names"][0], tmp_path / "v" / "1.jpg")


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("https://host/v/1.jpg", "https://host/v/1.jpg"),
        ("{root}/v/1.jpg", "{root}/v/1.jpg"),
        ("{root}/elsewhere/1.jpg", "{root}{root}/elsewhere/1.jpg"),
        ("C:\\v\\9.jpg", "{root}/v/9.jpg"),
        ("C:", "{root}/C:"),
        (".", "{root}"),
        (".", "{root}"),
    ],
)
def test_a_name_that_stands_for_no_other_is_taken_as_it_is(
    tmp_path: Path, name: str, path: str
) -> None:
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "1.jpg").write_bytes(b"")
    found = ImageFolder(str(tmp_path)).find(name.format(root=tmp_path))
    assert found == path.format(root=tmp_path)


def test_one_file_for_two_names_is_refused_and_missing_ones_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "1.jpg").write_bytes(b"")
    images = [_image(i, i, file_name=f"{folder}/1.jpg") for i, folder in enumerate("ab")]
    with pytest.raises(ValueError, match="'b/1.jpg' and 'a/1.jpg' both end in"):
        _load(tmp_path, images, [_annotation(0)])
    _load(tmp_path, [_image(1, 5)], [_annotation(1)])
    assert "1 files that do not exist below" in caplog.text and "'v/5.jpg'" in caplog.text


def test_sizes_are_those_of_the_upright_picture(tmp_path: Path) -> None:
    picture = Image.new("RGB", (30, 20))
    exif = picture.getexif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif)
    image = _image(1, 1, file_name="turned.jpg", height=None, width=None)
    (track,) = _load(tmp_path, [image], [_annotation(1)])
    assert (track["height"], track["width"]) == (30, 20)


MASKS = {
    "polygon": [[1, 2, 9, 2, 9, 8]],
    "runs": {"size": [48, 64], "counts": [100, 7, 2965]},
    "compressed runs": {"size": [48, 64], "counts": "d37mk2"},
    "damaged runs": {"size": "x", "counts": {"a": -1}},
}


@pytest.mark.parametrize("mask", MASKS)
def test_masks_of_strangers_are_said_and_harm_nothing(tmp_path: Path, caplog, mask: str) -> None:
    """Joints and boxes are read as without them; who has a mask alone has neither."""
    plain = [_annotation(1), _annotation(2, iscrowd=1, keypoints=None)]
    alone = _annotation(2, id=77, bbox=None, keypoints=None, iscrowd=1)
    images = [_image(1, 0), _image(2, 1)]
    expected = _load(tmp_path, images, plain)
    found = _load(tmp_path, images, [{**a, "segmentation": MASKS[mask]} for a in [*plain, alone]])
    assert len(found) == len(expected) == 2
    for before, after in zip(expected, found):
        assert before["track_id"] == after["track_id"]
        for key in ("keypoints", "boxes", "labelled"):
            assert np.array_equal(before[key], after[key]), key
    assert "3 fields annotations[].segmentation: not read" in caplog.text
    assert "1 annotations with a mask (segmentation) alone" in caplog.text


# ---- whole messages and every bound of the rules


def _refused(tmp_path: Path, images: list[Any], annotations: list[Any], **options: Any) -> str:
    path = _write(tmp_path, images, annotations)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        load_video_keypoints(path, str(tmp_path), NAMES, **options)
    assert str(error.value).startswith(path)
    return str(error.value)[len(path) :]


def test_frames_of_a_video_need_numbers_of_their_own(tmp_path: Path) -> None:
    needs = "every image of video '7' needs its own frame_id or frame_index"
    numbered = [_image(1, 4), _image(2, 5), _image(3, 4)]
    assert _refused(tmp_path, numbered, []) == (
        f": images[2] (id 3): {needs}, got 4, as {tmp_path}/labels.json: images[0] (id 1)"
    )
    one_without = [_image(1, 4), _image(2, 5, frame_id=None)]
    assert _refused(tmp_path, one_without, []) == f": images[1] (id 2): {needs}, got none"
    names = [_image(i, 0, frame_id=None, file_name=name) for i, name in enumerate(("a1", "b"))]
    assert _refused(tmp_path, names, []) == (
        f": images[1] (id 1): {needs}, or a number in its file name"
    )
    video = [_image(1, 0, frame_id=None, file_name=None, video_file="v1.mp4")]
    assert _refused(tmp_path, video, []) == (
        f": images[0] (id 1): {needs}, or a number in its file name"
    )
    assert _refused(tmp_path, [_image(1, 0, file_name="b.jpg")], [], videos="names") == (
        ": images[0] (id 1): videos='names' needs a number in every name, got 'b.jpg'"
    )


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (-1, 0), (0, -1), (2, 1), (10, 9)])
def test_two_frames_in_either_order(tmp_path: Path, order: tuple[int, int]) -> None:
    images = [_image(i, frame) for i, frame in enumerate(order)]
    (track,) = _load(tmp_path, images, [_annotation(0)])
    assert track["image_ids"].tolist() == ([0, 1] if order[0] < order[1] else [1, 0])


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("f1", "f2", "f3"), 0),  # three say nothing
        (("f1", "f2", "f5", "f9"), 0),  # half of them in a row
        (("f1", "f2", "f3", "cover"), 4), (("f1", "f2", "f5", "f6"), 4),
        (("f5", "f7", "f9", "f11"), 0), (("f0", "f1", "f2", "f9", "f12"), 5),
        (("f1", "f2", "f3", "f7", "f9", "f11"), 0),
        (("a1", "b2", "c3", "d4"), 0), (("a1", "a2", "b1", "b2"), 4),
    ],
)  # fmt: skip
def test_when_stills_look_like_the_frames_of_a_video(
    tmp_path: Path, names: tuple[str, ...], said: int
) -> None:
    images = [
        _image(i, 0, video_id=None, frame_id=None, file_name=f"{name}.jpg")
        for i, name in enumerate(names)
    ]
    images.append(_image(99, 3, file_name="f4.jpg"))  # a frame of a video is none of them
    with noted("labels") as notes:
        _load(tmp_path, images, [_annotation(0)])
    words = [text for text in notes if "named like frames in a row" in text]
    assert [notes[text] for text in words] == ([said] if said else [])


def test_people_with_tracks_on_stills_are_counted(tmp_path: Path) -> None:
    images = [_image(i, 0, video_id=None, frame_id=None, file_name=f"f{i}.jpg") for i in range(5)]
    images.append(_image(9, 0))
    people = [_annotation(0, track_id=0), _annotation(1, track_id="x"), _annotation(2)]
    with noted("labels") as notes:
        _load(tmp_path, images, [*people, _annotation(9, track_id=3)])
    assert [(text[:32], count) for text, count in notes.items() if "videos='names'" in text] == [
        ("people with a track_id on images", 2)
    ]


def test_sizes_of_one_video_agree(tmp_path: Path) -> None:
    images = [
        _image(1, 1, height=None),
        _image(2, 2),
        _image(3, 3, width=65),
        _image(4, 4, width=66),
    ]
    assert _refused(tmp_path, images, []) == (
        ": images[2] (id 3): height and width (48, 65), but "
        f"{tmp_path}/labels.json: images[1] (id 2) of the same video has (48, 64)"
    )
    (track,) = _load(tmp_path, images[:2], [_annotation(1)])
    assert (track["height"], track["width"]) == (48, 64)


def test_files_of_a_video_agree(tmp_path: Path) -> None:
    def frame(number: int, **changes: Any) -> dict[str, Any]:
        values = {"file_name": None, "video_file": "v.mp4", "frame_id": None}
        return _image(number, 0, **{**values, "frame_index": number, **changes})

    needs = "every image of 'v.mp4' needs this video_file and a frame_index"
    other = [frame(0), frame(1, video_file="w.mp4")]
    assert _refused(tmp_path, other, []) == f": images[1] (id 1): {needs}"
    picture = [frame(0), frame(1, video_file=None, file_name="a.jpg")]
    assert _refused(tmp_path, picture, []) == f": images[1] (id 1): {needs}"
    first = [frame(0, video_file=None, file_name="a.jpg"), frame(1)]
    assert _refused(tmp_path, first, []) == (
        ": images[1] (id 1): an image has no file_name (nor video_file)."
    )
    still = frame(0, video_id=None, frame_index=None)
    assert _refused(tmp_path, [still], []) == f": images[0] (id 0): {needs}"
    (tmp_path / "v.mp4").write_bytes(b"no video")
    unsized = [frame(number, height=None, width=None) for number in (0, 1)]
    assert _refused(tmp_path, unsized, []).startswith(
        f": images[0] (id 0): its size is not given, and cannot read video {tmp_path}/v.mp4: "
    )


def test_sizes_are_read_from_the_first_file_alone(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for number, size in ((1, (30, 20)), (2, (8, 9))):
        Image.new("RGB", size).save(tmp_path / "v" / f"{number}.jpg")
    images = [_image(n, n, height=None, width=None) for n in (1, 2)]
    (track,) = _load(tmp_path, images, [_annotation(1)])
    assert (track["height"], track["width"]) == (20, 30)


def test_a_person_twice_on_an_image_is_refused(tmp_path: Path) -> None:
    place = f"{tmp_path}/labels.json: annotation 1001 (annotations[0])"
    twice = "image 1 of video '7' has two annotations of track"
    people = [_annotation(1), _annotation(1, id=5)]
    assert _refused(tmp_path, [_image(1, 1)], people) == (
        f": annotation 5 (annotations[1]): {twice} '0', the other is {place}. Give each person of "
        "a video a track_id."
    )
    people = [_annotation(1, track_id=3), _annotation(1, id=5, track_id=3)]
    assert _refused(tmp_path, [_image(1, 1)], people) == (
        f": annotation 5 (annotations[1]): {twice} '3', the other is {place}."
    )


CROWDS = "crowd regions: no people (background to detectors, unless INPUT.FRAMES.CROWDS is ignore)"


def test_boxes_of_people_without_joints_one_by_one(tmp_path: Path) -> None:
    """Each in its own track of one frame, numbered in the file's order; so are crowds."""
    images = [_image(i, i) for i in range(3)]
    bare = {"keypoints": None}
    joined = [_annotation(i, id=10 + i, track_id=1, bbox=[1, 2, 30, 40]) for i in range(3)]
    people = [
        _annotation(2, id=1, bbox=[1, 1, 2, 2], **bare),
        _annotation(0, id=2, bbox=[2, 2, 3, 3], **bare),
        _annotation(1, id=3, bbox=[3, 3, 4, 4], iscrowd=1, area=9, **bare),
        _annotation(1, id=4, bbox=[4, 4, 5, 5], iscrowd=1),
    ]
    with noted("labels") as notes:
        tracks = _load(tmp_path, images, people + joined)
    assert [
        (t["track_id"], t["image_ids"].tolist(), t["boxes"].tolist(), t["boxed"].tolist(),
         t.get("crowd"), t["keypoints"].any(), t.get("areas", np.zeros(0)).tolist())
        for t in tracks
    ] == [
        ("1", [0, 1, 2], [[1, 2, 31, 42]] * 3, [True] * 3, None, True, []),
        ("box_0", [2], [[1, 1, 3, 3]], [True], None, False, []),
        ("box_1", [0], [[2, 2, 5, 5]], [True], None, False, []),
        ("crowd_0", [1], [[3, 3, 7, 7]], [True], True, False, [9]),
        ("crowd_1", [1], [[4, 4, 9, 9]], [True], True, False, []),
    ]  # fmt: skip
    assert notes["people with a box and no joints: kept as boxes"] == 2
    assert notes[CROWDS] == 2


@pytest.mark.parametrize(
    ("annotated", "own", "span"),
    [
        ((2,), (2,), [0, 1, 2, 3, 4]), ((0, 2, 4), (2,), [1, 2, 3]), ((1, 2, 3), (2,), [2]),
        ((0, 1, 3, 4), (1, 3), [1, 2, 3]), ((0, 4), (0, 4), [0, 1, 2, 3, 4]),
        ((0, 4), (0,), [0, 1, 2, 3]), ((0, 4), (4,), [1, 2, 3, 4]), ((1, 3), (3,), [2, 3, 4]),
    ],
)  # fmt: skip
def test_the_frames_that_a_track_covers(
    tmp_path: Path, annotated: tuple[int, ...], own: tuple[int, ...], span: list[int]
) -> None:
    images = [_image(i, i) for i in range(5)]
    people = [_annotation(i, track_id="a", id=i) for i in own]
    people += [_annotation(i, track_id="b", id=10 + i) for i in annotated if i not in own]
    tracks = {t["track_id"]: t for t in _load(tmp_path, images, people)}
    assert tracks["a"]["image_ids"].tolist() == span
    assert np.flatnonzero(tracks["a"]["labelled"]).tolist() == [span.index(i) for i in own]


FAR_BOX = "more than 10 times as far out as the image is large"


@pytest.mark.parametrize(
    ("box", "written", "note"),
    [
        ([1, 2, 0.5, 0.5], [1, 2, 1.5, 2.5], None),
        ([1, 2, 0, 4], None, "without area"), ([1, 2, 4, 0], None, "without area"),
        ([1, 2, -1, 4], None, "without area"), ([None, 2, 3, 4], None, "without area"),
        ([-640, 2, 4, 4], [-640, 2, -636, 6], None), ([-641, 2, 4, 4], None, FAR_BOX),
        ([1, 636, 4, 4], [1, 636, 5, 640], None), ([1, 637, 4, 4], None, FAR_BOX),
        ([636, 1, 4, 4], [636, 1, 640, 5], None), ([637, 1, 4, 4], None, FAR_BOX),
        ([1, -641, 4, 4], None, FAR_BOX),
    ],
)  # fmt: skip
def test_bounds_of_boxes(tmp_path: Path, box: list, written: Any, note: str | None) -> None:
    with noted("labels") as notes:
        (track,) = _load(tmp_path, [_image(1, 1)], [_annotation(1, bbox=box)])
    assert track["boxes"][0].tolist() == (written or [9.5, 20, 19.5, 25])
    said = [(text.partition(":")[0], count) for text, count in notes.items()
            if text.startswith("boxes")]  # fmt: skip
    assert said == ([(f"boxes {note}", 1)] if note else [])
    # Who has a box that is none, and no joints, has no box.
    people = [_annotation(1, bbox=box, keypoints=None, track_id=1), _annotation(2, track_id=2)]
    boxed = {t["track_id"]: t["boxed"].tolist() for t in
             _load(tmp_path, [_image(1, 1), _image(2, 2)], people)}  # fmt: skip
    assert boxed == {"1": [written is not None], "2": [True]}


def test_what_is_registered_beside_the_tracks(tmp_path: Path, name: str) -> None:
    """The people's id in the file and its path, so that results go with the user's own file."""
    category = {**CATEGORY, "id": 6}
    people = [_annotation(1, category_id=6)]
    path = _write(tmp_path, [_image(1, 1)], people, categories=[category])
    register_video_keypoints(name, Path(path), str(tmp_path))
    metadata = MetadataCatalog.get(name)
    assert metadata.json_file == path and metadata.image_root == str(tmp_path)
    assert metadata.get("thing_dataset_id_to_contiguous_id") is None
    DatasetCatalog.get(name)
    assert metadata.thing_dataset_id_to_contiguous_id == {6: 0}
    for catalog in (DatasetCatalog, MetadataCatalog):
        for each in (name, f"{name}_frames"):
            catalog.remove(each)
    del category["id"]
    path = _write(tmp_path, [_image(1, 1)], people, categories=[category])
    register_video_keypoints(name, [path], str(tmp_path))
    DatasetCatalog.get(name)
    facts = MetadataCatalog.get(name).as_dict()
    assert "json_file" not in facts and "thing_dataset_id_to_contiguous_id" not in facts


def test_options_of_a_registration(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError) as error:
        register_video_keypoints(name, "a.json", "x", videos="name")
    assert str(error.value) == "videos='name': choose from ('video_id', 'names')"
    images = [_image(i, 0, video_id=None, frame_id=None, file_name=f"{i}.jpg") for i in (2, 1)]
    path = _write(tmp_path, images, [_annotation(1), _annotation(2)])
    register_video_keypoints(
        name, path, str(tmp_path), videos="names", file_format="coco", category="person"
    )
    (track,) = DatasetCatalog.get(name)
    # Nothing is left of the names but their numbers.
    assert track["video_id"] == "video" and track["image_ids"].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("file", "video"), [("a/b_1.jpg", "a/b"), ("a/b-. 1.jpg", "a/b"), ("a/1.jpg", "a")]
)
def test_names_of_videos_that_names_make(tmp_path: Path, file: str, video: str) -> None:
    path = _write(tmp_path, [_image(1, 0, file_name=file)], [_annotation(1)])
    (track,) = load_video_keypoints(path, str(tmp_path), NAMES, videos="names")
    assert track["video_id"] == video


def test_who_has_joints_is_boxed_and_who_has_none_on_a_still_is_a_box(tmp_path: Path) -> None:
    still = {"video_id": None, "frame_id": None}
    hidden = [10, 20, 1, 18, 24, 1, 5, 5, 0]
    people = [
        _annotation(1, id=1, track_id=4, keypoints=None), _annotation(1, id=2, bbox=None),
        _annotation(1, id=3, bbox=None, keypoints=hidden), _annotation(1, id=4, keypoints=None),
    ]  # fmt: skip
    tracks = _load(tmp_path, [_image(1, 0, **still)], people)
    assert [(t["track_id"], t["labelled"].tolist(), t["boxed"].tolist()) for t in tracks] == [
        ("0", [True], [True]), ("1", [True], [True]), ("box_0", [False], [True]),
        ("box_1", [False], [True]),
    ]  # fmt: skip


def test_of_several_files_the_first_tells_the_skeleton_and_the_id(
    tmp_path: Path, name: str
) -> None:
    files = []
    for number, ids in enumerate(((9, 5), (3,))):
        categories = [{**CATEGORY, "id": i, "name": f"person {i}"} for i in ids]
        content = {
            "images": [_image(number, number, video_id=number)], "categories": categories,
            "annotations": [_annotation(number, category_id=ids[-1])],
        }  # fmt: skip
        files.append(tmp_path / f"{number}.json")
        files[-1].write_text(json.dumps(content))
    register_video_keypoints(name, files, str(tmp_path))
    assert len(DatasetCatalog.get(name)) == 2
    assert MetadataCatalog.get(name).thing_dataset_id_to_contiguous_id == {9: 0}
    for catalog in (DatasetCatalog, MetadataCatalog):
        for each in (name, f"{name}_frames"):
            catalog.remove(each)
    files[1].write_text("{")
    register_video_keypoints(name, files, str(tmp_path))
    with pytest.raises(ValueError, match="1.json is no JSON"):
        DatasetCatalog.get(name)


def test_a_video_of_boxes_or_crowds_alone_has_no_empty_track(tmp_path: Path) -> None:
    images = [_image(1, 1), _image(2, 1, video_id=8), _image(3, 1, video_id=9)]
    people = [_annotation(1), _annotation(2, keypoints=None), _annotation(3, iscrowd=1)]
    tracks = _load(tmp_path, images, people)
    assert [(t["video_id"], t["track_id"]) for t in tracks] == [
        ("7", "0"), ("8", "box_0"), ("9", "crowd_0"),
    ]  # fmt: skip


def test_the_size_of_a_video_file_is_read_where_it_is_not_told(tmp_path: Path) -> None:
    write_video(tmp_path / "v.mp4", np.zeros((2, 48, 64, 3), np.uint8))
    image = {"id": 1, "video_id": 7, "video_file": "v.mp4", "frame_index": 1}
    (track,) = _load(tmp_path, [image], [_annotation(1)])
    assert (track["height"], track["width"]) == (48, 64)
