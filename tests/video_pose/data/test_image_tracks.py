"""The persons of Detectron2's image dicts as tracks of one frame."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from video_pose.data.frames import images_to_tracks, register_tracks


def annotation(keypoints=(5.5, 6.5, 2, 9.5, 8.5, 1), **changes) -> dict:
    return {
        "bbox": [1, 2, 30, 40],
        "bbox_mode": BoxMode.XYWH_ABS,
        "category_id": 0,
        "keypoints": list(keypoints),
        **changes,
    }


def image(*annotations: dict) -> dict:
    size = {"height": 80, "width": 100}
    return {"file_name": "a.jpg", "image_id": 7, "annotations": list(annotations), **size}


def test_a_person_is_a_track_of_one_frame() -> None:
    crowd, unlabelled = annotation(iscrowd=1), annotation([0] * 6)
    boxed = {key: value for key, value in annotation().items() if key != "keypoints"}
    tracks = images_to_tracks([image(crowd, annotation(), unlabelled, boxed, annotation())], 2, "d")
    assert [(t["video_id"], t["track_id"]) for t in tracks] == [("7", "1"), ("7", "4")]
    track = tracks[0]
    assert track["file_names"] == ["a.jpg"] and track["image_ids"].tolist() == [7]
    assert track["boxes"].tolist() == [[1, 2, 31, 42]]
    # Detectron2 has made the points continuous already.
    assert track["keypoints"].tolist() == [[[5.5, 6.5, 2], [9.5, 8.5, 1]]]
    assert images_to_tracks([image()], 2, "d") == []


def test_another_number_of_joints_names_the_image() -> None:
    with pytest.raises(ValueError, match=r"d: a person in a.jpg has 6 numbers.*expected 3 x"):
        images_to_tracks([image(annotation())], 3, "d")


@pytest.fixture
def user() -> Iterator[str]:
    names = ["image_tracks", "image_tracks_tracks"]
    yield names[0]
    for name in names:
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


def test_registration_keeps_pairs_and_widths_and_may_be_repeated(user) -> None:
    def fail() -> list:
        raise AssertionError("the dataset was read")

    DatasetCatalog.register(user, fail)
    MetadataCatalog.get(user).set(keypoint_flip_map=[("lw", "rw")], keypoint_oks_sigmas=[0.1, 0.2])
    for _ in range(2):
        name = register_tracks(user, ["lw", "rw"])
    facts = MetadataCatalog.get(name)
    assert name == "image_tracks_tracks" and facts.keypoint_names == ["lw", "rw"]
    assert facts.keypoint_flip_map == [("lw", "rw")] and facts.keypoint_oks_sigmas == [0.1, 0.2]
    assert facts.pck_protocols == ["bbox"]  # neither shoulders nor hips


def test_joints_without_mirror_pairs_are_no_error(user) -> None:
    DatasetCatalog.register(user, list)
    facts = MetadataCatalog.get(register_tracks(user, ["left_wrist", "nose"]))
    assert facts.keypoint_flip_map == []


def test_a_foreign_dataset_of_that_name_is_not_replaced(user) -> None:
    DatasetCatalog.register(user + "_tracks", list)
    with pytest.raises(ValueError, match="already registered"):
        register_tracks(user, ["a"])
