"""A user's JSON: tracks, frames without people, PoseTrack18's keys, stills, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from video_pose.data.datasets.coco_json import choose_category, joint_set
from video_pose.data.datasets.coco_video import load_video_keypoints, register_video_keypoints
from video_pose.data.json_fields import Field
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
        ([_image(1, 1)], [_annotation(9)], "annotation 1009 is of image 9"),
        ([_image(1, 1), _image(2, 1)], [], "own frame_id"),
        ([_image(1, 1), _image(2, 2, frame_id=None)], [], "own frame_id"),
        ([_image(1, 1), _image(1, 2)], [], "own whole-number id"),
        ([_image(1, 1, file_name=None)], [_annotation(1)], "image 1 has no file_name"),
        ([_image(1, 1)], [_annotation(1, keypoints=[1, 2, 2])], "annotation 1001.*3 x"),
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


def _infer(categories: list[Any]) -> JointSet:
    content = {"images": [], "categories": categories}
    return joint_set(choose_category(Field(content, "labels.json")))


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"name": "person"}], "expected one list of joint names.*person"),
        ([CATEGORY, {**CATEGORY, "keypoints": ["nose"]}], "expected one list"),
        ([{**CATEGORY, "keypoints": ["nose", 3]}], r"categories\[0\].keypoints.*a list of texts"),
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
