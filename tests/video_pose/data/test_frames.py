"""The frames view of hand-made tracks, the persons of Detectron2's image dicts as tracks of one
frame, and order, repetition and resumption of the frames' loaders.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.structures import BoxMode

import video_pose  # noqa: F401  registers the built-in datasets
from video_pose.data import frames
from video_pose.data.datasets.builtin import builtin_splits
from video_pose.data.frames import (
    FrameDataset,
    box_margin_of,
    build_frames_test_loader,
    build_frames_train_loader,
    get_training_frames,
    images_to_tracks,
    keypoints_in_image,
    load_frames,
    register_frames,
    register_tracks,
    thin_frames,
    tracks_to_frames,
)

# The joints span (10, 20) to (30, 60): x 1.25 about (20, 40).
JOINTS_BOX = (7.5, 15, 32.5, 65)


def track(track_id="0", frames=3, image_ids=None, **changes):
    """Two joints at (10, 20) and (30, 60) in a 100 x 80 (w x h) image, all visible."""
    keypoints = np.zeros((frames, 2, 3), np.float32)
    keypoints[:] = [[10, 20, 2], [30, 60, 1]]
    return {
        "video_id": "v",
        "track_id": track_id,
        "file_names": [f"{i}.png" for i in range(frames)],
        "height": 80,
        "width": 100,
        "keypoints": keypoints,
        "boxes": np.tile(np.array([5.5, 10.5, 40.5, 70.5], np.float32), (frames, 1)),
        "labelled": np.ones(frames, bool),
        "image_ids": np.arange(frames) if image_ids is None else np.array(image_ids),
        **changes,
    }


def test_a_frame_is_a_detectron2_dict() -> None:
    frames = tracks_to_frames([track()])
    assert [frame["image_id"] for frame in frames] == [0, 1, 2]
    frame = frames[1]
    assert (frame["file_name"], frame["height"], frame["width"]) == ("1.png", 80, 100)
    assert frame["tracks"] == [("0", 1)] and frame["frame_index"] == 1
    (annotation,) = frame["annotations"]
    # Pixels 5 to 40 and 10 to 70: their areas end at 41 and 71.
    assert annotation["bbox"] == [5, 10, 41, 71]
    assert annotation["keypoints"] == [10, 20, 2, 30, 60, 1]
    assert "segmentation_ref" not in annotation and "frame_number" not in frame


def test_boxes_of_pixel_edges_stay() -> None:
    (annotation,) = tracks_to_frames([track(frames=1)], box_margin=0.0)[0]["annotations"]
    assert annotation["bbox"] == [5.5, 10.5, 40.5, 70.5]


def test_unlabelled_frames_are_not_in_the_view() -> None:
    frames = tracks_to_frames([track(labelled=np.array([True, False, True]))])
    assert [frame["tracks"] for frame in frames] == [[("0", 0)], [("0", 2)]]


def test_tracks_of_a_frame_are_merged_by_image_id() -> None:
    """The second person enters at the second frame: its first frame is the video's second."""
    frames = tracks_to_frames([track("a"), track("b", 2, image_ids=[1, 2])])
    assert [frame["tracks"] for frame in frames] == [
        [("a", 0)],
        [("a", 1), ("b", 0)],
        [("a", 2), ("b", 1)],
    ]
    assert [a["track_id"] for a in frames[2]["annotations"]] == ["a", "b"]


@pytest.mark.parametrize(("first", "second"), [("v", "w"), ("w", "v")])
def test_one_id_in_two_videos_is_an_error(first: str, second: str) -> None:
    with pytest.raises(ValueError, match=f"0 belongs to the videos '{first}' and '{second}'"):
        tracks_to_frames([track(video_id=first), track(video_id=second)])


def test_a_joint_outside_the_image_is_unlabelled() -> None:
    points = np.array([[[100, 80, 2], [100.5, 3, 1], [-0.1, 3, 2], [0, 0, 1], [50, 50, 0]]])
    inside = keypoints_in_image(points, height=80, width=100)
    assert inside[0, :, 2].tolist() == [2, 0, 0, 1, 0]
    assert inside[0, 1].tolist() == [0, 0, 0] and inside[0, 4].tolist() == [0, 0, 0]


def test_boxes_are_clipped_and_those_without_area_follow_the_joints() -> None:
    boxes = np.array(
        [
            [-20, 60.5, 30.5, 99.5],  # over the left and the lower edge
            [50.5, 50.5, 50.5, 50.5],  # Penn Action 0038
            [110, 10, 130, 20],  # right of the image
        ],
        np.float32,
    )
    found = [f["annotations"][0]["bbox"] for f in tracks_to_frames([track(boxes=boxes)])]
    # The joints span (10, 20) to (30, 60): x 1.25 about (20, 40) is half a width of 12.5 and 25.
    assert found == [[0, 60, 31, 80], [7.5, 15, 32.5, 65], [7.5, 15, 32.5, 65]]


def test_a_person_without_any_box_has_no_annotation_but_a_frame() -> None:
    person = track(frames=1, boxes=np.zeros((1, 4), np.float32))
    person["keypoints"][:, :, :2] += 200  # all joints outside
    (frame,) = tracks_to_frames([person])
    assert frame["annotations"] == [] and frame["tracks"] == [("0", 0)]


def test_a_still_on_which_nobody_is_is_a_frame_and_unlabelled_frames_are_not() -> None:
    empty = track(frames=2)
    empty["keypoints"][:], empty["boxes"][:], empty["labelled"][:] = 0, 0, False
    assert tracks_to_frames([empty]) == []
    still = track(frames=1)
    still["keypoints"][:], still["boxes"][:], still["labelled"][:] = 0, 0, False
    (frame,) = tracks_to_frames([{**still, "nobody": True}])
    assert frame["annotations"] == [] == frame["tracks"]


def test_frames_of_a_video_file_carry_their_numbers() -> None:
    person = track(video_file="v.avi", frame_numbers=np.array([4, 6, 9]))
    del person["file_names"]
    frames = tracks_to_frames([person])
    assert [frame["frame_number"] for frame in frames] == [4, 6, 9]
    assert {frame["video_file"] for frame in frames} == {"v.avi"}


def test_masks_are_references_with_the_frame_of_the_track() -> None:
    masks = {"mat_file": "m.mat", "field": "part_mask"}
    frames = tracks_to_frames([track(masks=masks)])
    assert frames[2]["annotations"][0]["segmentation_ref"] == {**masks, "index": 2}
    assert masks == {"mat_file": "m.mat", "field": "part_mask"}


def test_thinning_starts_anew_in_each_video_and_keeps_stills_and_images() -> None:
    def frame(video):
        return {"video_id": video}

    frames = [frame("a")] * 5 + [frame("b")] * 2 + [frame("still"), {"file_name": "coco.jpg"}]
    kept = [f.get("video_id") for f in thin_frames(frames, 2)]
    assert kept == ["a", "a", "a", "b", "still", None]
    assert thin_frames(frames, 1) == frames
    with pytest.raises(ValueError, match="INPUT.FRAMES.STRIDE is 0"):
        thin_frames(frames, 0)


def test_every_built_in_dataset_has_its_frames_with_its_joint_facts() -> None:
    for name in builtin_splits():
        video, frames = MetadataCatalog.get(name), MetadataCatalog.get(name + "_frames")
        assert name + "_frames" in DatasetCatalog.list()
        assert frames.video_dataset == name and frames.evaluator_type != video.evaluator_type
        for key in ("keypoint_names", "keypoint_flip_map", "keypoint_oks_sigmas", "thing_classes"):
            assert getattr(frames, key) == getattr(video, key)


def forgotten_afterwards(*names: str) -> Iterator[str]:
    """A fixture's body: the first of the names that a test may register datasets under."""
    yield names[0]
    for name in names:
        if name in DatasetCatalog.list():
            DatasetCatalog.remove(name)
        MetadataCatalog.pop(name, None)


@pytest.fixture
def video_name() -> Iterator[str]:
    yield from forgotten_afterwards("test_frames_video", "test_frames_video_frames")


def test_registration_reads_nothing_and_replaces_the_view_of_a_removed_dataset(video_name) -> None:
    def fail():
        raise AssertionError("the dataset was read")

    DatasetCatalog.register(video_name, fail)
    MetadataCatalog.get(video_name).set(keypoint_names=["a"], json_file="x.json", box_margin=0.0)
    register_frames(video_name)
    # COCOEvaluator would take the video dataset's file for the frames' annotations.
    assert not hasattr(MetadataCatalog.get(video_name + "_frames"), "json_file")
    DatasetCatalog.remove(video_name)
    MetadataCatalog.remove(video_name)
    DatasetCatalog.register(video_name, lambda: [track()])
    MetadataCatalog.get(video_name).set(keypoint_names=["b", "c"], box_margin=0.0)
    frames_name = register_frames("".join(list(video_name)))  # an equal text, but not the same one
    assert MetadataCatalog.get(frames_name).keypoint_names == ["b", "c"]
    assert DatasetCatalog.get(frames_name)[0]["annotations"][0]["bbox"][0] == 5.5
    assert len(load_frames(video_name)) == 3


def test_boxes_of_a_dataset_that_says_nothing_bound_pixel_indices(video_name) -> None:
    DatasetCatalog.register(video_name, lambda: [track(frames=1)])
    MetadataCatalog.get(video_name).set(keypoint_names=["a"])
    assert box_margin_of(video_name) == 0.5
    assert load_frames(video_name)[0]["annotations"][0]["bbox"] == [5, 10, 41, 71]
    MetadataCatalog.get(video_name).set(box_margin=2.0)
    assert load_frames(video_name)[0]["annotations"][0]["bbox"] == [3.5, 8.5, 42.5, 72.5]


def test_a_foreign_dataset_of_that_name_is_not_replaced(video_name) -> None:
    DatasetCatalog.register(video_name + "_frames", list)
    with pytest.raises(ValueError, match="already registered"):
        register_frames(video_name)


def test_detectron2s_own_mapper_says_which_one_reads_frames_inside_a_video() -> None:
    person = track(frames=1, video_file="clip.avi", frame_numbers=np.array([7]))
    del person["file_names"]
    (frame,) = tracks_to_frames([person])
    mapper = DatasetMapper(is_train=False, augmentations=[], image_format="BGR")
    with pytest.raises(FileNotFoundError, match="clip.avi#7 .*frames_mapper.FrameMapper"):
        mapper(frame)


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


def test_images_whose_ids_are_text_are_counted() -> None:
    """Detectron2 takes both; tracks have numbers."""
    named = [{**image(annotation()), "image_id": name} for name in ("b", "a", 3)]
    tracks = images_to_tracks(named, 2, "d")
    assert [(t["video_id"], t["image_ids"].tolist()) for t in tracks] == [
        ("b", [0]), ("a", [1]), ("3", [2]),
    ]  # fmt: skip


def test_another_number_of_joints_names_the_image() -> None:
    for joints in (3, 1):
        with pytest.raises(ValueError) as error:
            images_to_tracks([image(annotation())], joints, "d")
        assert str(error.value) == (
            f"d: a person in a.jpg has 6 numbers as keypoints: expected {joints} x (x, y, v)"
        )


@pytest.fixture
def user() -> Iterator[str]:
    yield from forgotten_afterwards("image_tracks", "image_tracks_tracks")


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
    assert facts.box_margin == 0 and facts.image_dataset == user


def test_joints_without_mirror_pairs_are_no_error(user) -> None:
    DatasetCatalog.register(user, list)
    facts = MetadataCatalog.get(register_tracks(user, ["left_wrist", "nose"]))
    assert facts.keypoint_flip_map == []


def test_a_foreign_dataset_of_tracks_is_not_replaced(user) -> None:
    DatasetCatalog.register(user + "_tracks", list)
    with pytest.raises(ValueError, match="already registered"):
        register_tracks(user, ["a"])


@pytest.fixture
def frames_cfg(cfg, register, make_track):
    """Two videos of 6 frames, (80, 100) px; every training frame is mirrored or not by chance."""
    name = register([make_track("a"), {**make_track("b"), "image_ids": range(2000, 2006)}])
    MetadataCatalog.get(name).set(thing_classes=["person"])
    frames_name = register_frames(name)
    cfg.DATASETS.TRAIN = (frames_name,)
    cfg.DATASETS.TEST = (frames_name,)
    cfg.MODEL.KEYPOINT_ON = True
    cfg.MODEL.POSE.JOINTS = ["head", "right_hand", "left_hand"]
    cfg.MODEL.POSE.FLIP_MAP = [["left_hand", "right_hand"]]
    cfg.INPUT.MIN_SIZE_TRAIN = (40, 80)
    cfg.INPUT.MIN_SIZE_TEST = 80
    yield cfg
    DatasetCatalog.remove(frames_name)
    MetadataCatalog.remove(frames_name)


def take(cfg, count, start=0):
    loader = build_frames_train_loader(cfg, start)
    return list(itertools.islice(loader, count))


def same(left, right) -> bool:
    return all(
        a["image_id"] == b["image_id"] and torch.equal(a["image"], b["image"])
        for x, y in zip(left, right, strict=True)
        for a, b in zip(x, y, strict=True)
    )


def test_a_resumed_loader_goes_on_with_the_same_images(frames_cfg) -> None:
    batches = take(frames_cfg, 9)
    assert same(take(frames_cfg, 4, start=5), batches[5:])
    assert not same(take(frames_cfg, 4), batches[5:])
    sizes = {frame["image"].shape[-1] for batch in batches for frame in batch}
    assert sizes == {50, 100}  # sizes are drawn


def test_workers_do_not_change_the_images(frames_cfg) -> None:
    alone = take(frames_cfg, 3)
    frames_cfg.DATALOADER.NUM_WORKERS = 2
    assert same(take(frames_cfg, 3), alone)


def test_an_epoch_has_every_frame_once_and_the_stride_thins_it(frames_cfg) -> None:
    ids = [frame["image_id"] for batch in take(frames_cfg, 6) for frame in batch]
    assert sorted(ids) == [*range(1000, 1006), *range(2000, 2006)]
    frames_cfg.INPUT.FRAMES.STRIDE = 4
    kept = [frame["image_id"] for frame in get_training_frames(frames_cfg)]
    assert kept == [1000, 1004, 2000, 2004]


def test_aspect_ratio_groups(frames_cfg, caplog) -> None:
    assert "ASPECT_RATIO_GROUPING" not in caplog.text
    frames_cfg.DATALOADER.ASPECT_RATIO_GROUPING = True
    with caplog.at_level("WARNING"):
        assert all(len(batch) == 2 for batch in take(frames_cfg, 3))
    assert "ASPECT_RATIO_GROUPING True: frames that wait for a partner are lost" in caplog.text


def test_weights_of_datasets(frames_cfg) -> None:
    frames_cfg.DATALOADER.SAMPLER_TRAIN = "WeightedTrainingSampler"
    frames_cfg.DATASETS.TRAIN_REPEAT_FACTOR = [[frames_cfg.DATASETS.TRAIN[0], 2.0]]
    ids = [frame["image_id"] for batch in take(frames_cfg, 12) for frame in batch]
    assert {ids.count(i) for i in set(ids)} == {2}


def test_the_test_loader_has_all_frames_in_order_and_no_annotations(frames_cfg) -> None:
    frames_cfg.INPUT.FRAMES.STRIDE = 3
    loader = build_frames_test_loader(frames_cfg, frames_cfg.DATASETS.TEST[0])
    frames = [frame for batch in loader for frame in batch]
    assert [f["image_id"] for f in frames] == [*range(1000, 1006), *range(2000, 2006)]
    assert frames[0]["image"].shape == (3, 80, 100)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("DATASETS.TRAIN", (), "DATASETS.TRAIN is empty"),
        ("SOLVER.IMS_PER_BATCH", 0, "IMS_PER_BATCH is 0 frames"),
        ("MODEL.LOAD_PROPOSALS", True, "LOAD_PROPOSALS"),
        ("DATALOADER.SAMPLER_TRAIN", "Other", "SAMPLER_TRAIN is 'Other'"),
    ],
)
def test_what_cannot_work_is_refused(frames_cfg, key, value, message) -> None:
    frames_cfg.merge_from_list([key, value])
    with pytest.raises(ValueError, match=message):
        build_frames_train_loader(frames_cfg)


def test_a_frame_dict_as_a_whole() -> None:
    """Of two people, the second with an area and a mask in its second frame."""
    masks = {"mat_file": "m.mat", "field": "part_mask"}
    two = track(7, 2, image_ids=[1, 2], areas=np.array([0.0, 99.5]), masks=masks, crowd=True)
    frames = tracks_to_frames([track("a"), two])
    person = {
        "bbox": [5, 10, 41, 71], "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "iscrowd": 0,
        "keypoints": [10, 20, 2, 30, 60, 1], "track_id": "a",
    }  # fmt: skip
    other = {**person, "iscrowd": 1, "track_id": "7", "segmentation_ref": {**masks, "index": 0}}
    assert frames[1] == {
        "file_name": "1.png", "image_id": 1, "height": 80, "width": 100, "video_id": "v",
        "frame_index": 1, "tracks": [("a", 1), ("7", 0)], "annotations": [person, other],
    }  # fmt: skip
    last = {**other, "area": 99.5, "segmentation_ref": {**masks, "index": 1}}
    assert frames[2]["annotations"] == [person, last]


def test_a_frame_inside_a_video_as_a_whole() -> None:
    person = track(frames=1, video_file="v.avi", frame_numbers=np.array([4]))
    del person["file_names"]
    (frame,) = tracks_to_frames([person])
    name = "v.avi#4 (a frame inside a video: map it with video_pose.data.frames_mapper.FrameMapper)"
    assert (frame["file_name"], frame["video_file"], frame["frame_number"]) == (name, "v.avi", 4)


@pytest.mark.parametrize(
    ("box", "margin", "expected"),
    [
        ((5.5, 10.5, 5.5, 70.5), 0.5, JOINTS_BOX),  # no width
        ((5.5, 10.5, 40.5, 10.5), 0.5, JOINTS_BOX),
        ((40, 10, 5, 70), 0.5, JOINTS_BOX),
        ((100.5, 10, 130, 20), 0.5, JOINTS_BOX),  # touches the image from outside
        ((10, 80.5, 20, 99), 0.5, JOINTS_BOX),
        ((100, 10, 130, 20), 0.5, (99.5, 9.5, 100, 20.5)),
        ((-3, -4, -0.25, 5), 0.5, (0, 0, 0.25, 5.5)),
        ((1, 2, 3, 4), 0.0, (1, 2, 3, 4)),
        ((1, 2, 3, 4), 2.0, (0, 0, 5, 6)),
    ],
)
def test_boxes_reach_to_the_edges_of_the_image(
    box: tuple[float, ...], margin: float, expected: tuple[float, ...]
) -> None:
    """Of 100 x 80 px."""
    person = track(frames=1, boxes=np.array([box], np.float32))
    (frame,) = tracks_to_frames([person], margin)
    assert frame["annotations"][0]["bbox"] == list(expected)


def test_somebody_with_a_box_alone_is_shown_without_a_track() -> None:
    person = track(labelled=np.array([True, False, False]), boxed=np.array([False, True, False]))
    first, second = tracks_to_frames([person])
    assert (first["image_id"], first["tracks"]) == (0, [("0", 0)])
    assert (second["image_id"], second["tracks"], len(second["annotations"])) == (1, [], 1)


class Composer:
    """Composes every second frame of three others."""

    def draw(self, count: int) -> list[int] | None:
        assert count == 4
        return [3, 0, 2] if np.random.rand() < 0.5 else None

    def __call__(self, frames: list) -> list:
        return frames


def test_what_is_drawn_for_a_frame_follows_from_run_and_position() -> None:
    """Draws of the mosaic, then of the mapper; the global generator is left as it was."""
    mapped = FrameDataset(list("abcd"), lambda name: (name, np.random.randint(1000)), 5)
    assert len(mapped) == 4
    state = np.random.get_state()[1].copy()
    assert [mapped[1, 0], mapped[1, 1], mapped[2, 300]] == [("b", 15), ("b", 221), ("c", 744)]
    composed = FrameDataset(list("abcd"), lambda name: (name, np.random.randint(99)), 5, Composer())
    found = [composed[1, position] for position in range(4)]
    four = [("b", 35), ("d", 6), ("a", 13), ("c", 80)]
    assert found == [("b", 51), four, ("b", 65), ("b", 49)]
    assert (np.random.get_state()[1] == state).all()

    def fail(name: str) -> None:
        raise OSError(f"{name}, {np.random.rand()}")

    with pytest.raises(OSError, match="^a, 0."):
        FrameDataset(list("abcd"), fail, 5)[0, 0]
    assert (np.random.get_state()[1] == state).all()


def test_mosaics_are_made_where_asked_for(frames_cfg) -> None:
    """Weights of datasets are those of the frames that join one."""
    frames_cfg.INPUT.FRAMES.MOSAIC_PROB, frames_cfg.INPUT.FRAMES.MOSAIC_SIZE = 1.0, (32, 48)
    (batch,) = take(frames_cfg, 1)
    assert {tuple(frame["image"].shape) for frame in batch} == {(3, 32, 48)}
    assert {len(frame["mosaic_of"]) for frame in batch} == {4}


def test_frames_are_counted_thinned_and_filtered(frames_cfg, caplog) -> None:
    (name,) = frames_cfg.DATASETS.TRAIN
    frames_cfg.INPUT.FRAMES.STRIDE = 4
    with caplog.at_level("INFO"):
        frames = get_training_frames(frames_cfg)
    assert [text for text in caplog.messages if "frames" in text] == [f"{name}: 4 of 12 frames"]
    assert "Distribution of instances" not in caplog.text, "Detectron2's, of people alone"
    assert {frame["dataset_name"] for frame in frames} == {name}
    frames_cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE = 4  # a person has three
    with pytest.raises(ValueError) as error:
        get_training_frames(frames_cfg)
    assert str(error.value) == (
        f"dataset {name!r} has no frame to use, with DATALOADER.FILTER_EMPTY_ANNOTATIONS True and "
        f"MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE 4: No valid data found in {name}."
    )
    frames_cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE = 3
    assert len(get_training_frames(frames_cfg)) == 4
    frames_cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE = 4
    frames_cfg.MODEL.KEYPOINT_ON = False
    assert len(get_training_frames(frames_cfg)) == 4


def test_joints_are_not_asked_for_in_frames_that_are_tested_on(frames_cfg, monkeypatch) -> None:
    made = []
    monkeypatch.setattr(
        "video_pose.data.frames.FrameMapper",
        lambda cfg, is_train: made.append(is_train) or (lambda record: record["image_id"]),
    )
    name = frames_cfg.DATASETS.TEST[0]
    frames_cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE = 4
    loader = build_frames_test_loader(frames_cfg, name)
    assert [batch[0] for batch in loader] == [*range(1000, 1006), *range(2000, 2006)]
    frames_cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE = 1
    (batch,) = take(frames_cfg, 1)
    assert len(batch) == 2 and made == [False, True]
    given = build_frames_test_loader(frames_cfg, name, lambda record: "own")
    assert next(iter(given)) == ["own"] and made == [False, True]
    given = build_frames_train_loader(frames_cfg, 0, lambda record: "own")
    assert next(iter(given)) == ["own"] * 2 and made == [False, True]


def test_which_frames_are_asked_for(frames_cfg, monkeypatch) -> None:
    """All in a test; of a training those that the keys let through."""
    asked = []

    def named(name: str, filter_empty: bool, min_keypoints: int) -> list:
        asked.append((filter_empty, min_keypoints))
        return [{"image_id": 1}]

    monkeypatch.setattr(frames, "named_frames", named)
    build_frames_test_loader(frames_cfg, frames_cfg.DATASETS.TEST[0])
    frames_cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE = 3
    for keypoints_on, filter_empty in ((True, True), (False, True), (True, False)):
        frames_cfg.MODEL.KEYPOINT_ON = keypoints_on
        frames_cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = filter_empty
        get_training_frames(frames_cfg)
    assert asked == [(False, 0), (True, 3), (True, 0), (False, 3)]


@pytest.mark.parametrize(("grouping", "size"), [(False, 3), (True, 1)])
def test_a_worker_takes_whole_batches_unless_frames_wait_for_a_partner(
    frames_cfg, monkeypatch, grouping: bool, size: int
) -> None:
    chunks = []
    plain = frames.ToIterableDataset
    monkeypatch.setattr(
        frames,
        "ToIterableDataset",
        lambda *args, shard_chunk_size: (
            chunks.append(shard_chunk_size) or plain(*args, shard_chunk_size=shard_chunk_size)
        ),
    )
    frames_cfg.SOLVER.IMS_PER_BATCH = 3
    frames_cfg.DATALOADER.ASPECT_RATIO_GROUPING = grouping
    assert len(take(frames_cfg, 1)[0]) == 3 and chunks == [size]
