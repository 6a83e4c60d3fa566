"""Order, repetition and resumption of the frames' loaders."""

from __future__ import annotations

import itertools

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from video_pose.data.frames import (
    build_frames_test_loader,
    build_frames_train_loader,
    get_training_frames,
    register_frames,
)


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


def test_aspect_ratio_groups(frames_cfg) -> None:
    frames_cfg.DATALOADER.ASPECT_RATIO_GROUPING = True
    assert all(len(batch) == 2 for batch in take(frames_cfg, 3))


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
