from __future__ import annotations

from collections.abc import Callable

import pytest
from detectron2.config import CfgNode

from video_pose.data.dataset_mapper import PoseClipMapper, build_pose_mapper


@pytest.fixture
def train_cfg(cfg: CfgNode, register: Callable) -> CfgNode:
    cfg.DATASETS.TRAIN = (register([]),)
    return cfg


def test_joints_come_from_the_first_dataset_and_pairs_from_metadata(train_cfg: CfgNode) -> None:
    assert build_pose_mapper(train_cfg, True).flip_order == [0, 2, 1]
    train_cfg.MODEL.POSE.JOINTS = ["left_hand", "right_hand", "head"]
    assert build_pose_mapper(train_cfg, True).flip_order == [1, 0, 2]


def test_a_flip_map_of_the_model_wins(train_cfg: CfgNode) -> None:
    train_cfg.MODEL.POSE.FLIP_MAP = [["head", "left_hand"]]
    assert build_pose_mapper(train_cfg, True).flip_order == [2, 1, 0]


def test_a_joint_that_the_dataset_lacks_is_an_error(train_cfg: CfgNode) -> None:
    train_cfg.MODEL.POSE.JOINTS = ["head", "tail"]
    with pytest.raises(ValueError, match="(?s)tail.*right_hand.*head"):
        build_pose_mapper(train_cfg, True)


@pytest.mark.parametrize(
    ("name", "mode", "scales", "rotation", "per", "padding"),
    [
        ("PoseClipMapper", "", (0.75, 1.25), 30, "frame", 1.25),
        ("PennActionClipMapper", "absolute", (0.8, 1.4), 40, "frame", 1.25),
        ("JHMDBClipMapper", "absolute", (1.2, 1.8), 40, "frame", 1.25),
        ("JHMDBClipMapper", "region", (0.75, 1.25), 30, "frame", 1.25),
        ("BBCPoseClipMapper", "", (0.8, 1.2), 20, "clip", 1.0),
    ],
)
def test_empty_keys_take_the_named_mappers_defaults(
    train_cfg: CfgNode,
    name: str,
    mode: str,
    scales: tuple,
    rotation: float,
    per: str,
    padding: float,
) -> None:
    train_cfg.INPUT.MAPPER, train_cfg.INPUT.SCALE_MODE = name, mode
    train_cfg.INPUT.AUG.SCALE_RANGE, train_cfg.INPUT.AUG.ROTATION = (), -1.0
    mapper = build_pose_mapper(train_cfg, True)
    assert type(mapper).__name__ == name and isinstance(mapper, PoseClipMapper)
    assert mapper.augmentation.scale_range == scales and mapper.augmentation.rotation == rotation
    assert (mapper.rule.per, mapper.rule.padding, mapper.rule.region) == (per, padding, "box")


def test_given_keys_win_over_defaults(train_cfg: CfgNode) -> None:
    train_cfg.INPUT.MAPPER = "BBCPoseClipMapper"
    train_cfg.INPUT.REGION, train_cfg.INPUT.REGION_PER = "frame", "frame"
    train_cfg.INPUT.WINDOW, train_cfg.INPUT.REGION_PADDING = (-60, -60, 0, 0), 2.0
    mapper = build_pose_mapper(train_cfg, True)
    assert mapper.augmentation.rotation == 0 and mapper.augmentation.scale_range == (1, 1)
    rule = mapper.rule
    assert (rule.region, rule.per, rule.padding) == ("frame", "frame", 2.0)
    assert rule.window == (-60, -60, 0, 0)


def test_an_unknown_mapper_is_an_error(cfg: CfgNode) -> None:
    cfg.INPUT.MAPPER = "ClipMapper"
    with pytest.raises(KeyError, match="(?s)'ClipMapper'.*JHMDBClipMapper"):
        build_pose_mapper(cfg, False)
