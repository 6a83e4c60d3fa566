"""A narrow Keypoint R-CNN with random weights."""

from __future__ import annotations

import pytest
from detectron2.config import CfgNode

import video_pose.modeling.layers  # noqa: F401  registers the backbone
from video_pose.engine.defaults import get_pose_cfg


@pytest.fixture
def narrow_rcnn_cfg() -> CfgNode:
    """Widths of 16 after the backbone, all detections kept; stem and blocks are a test's own."""
    cfg = get_pose_cfg()
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.KEYPOINT_ON = True
    cfg.MODEL.BACKBONE.NAME = "build_short_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16], [32], [64], [128]]
    cfg.MODEL.RPN.IN_FEATURES = ["p2", "p3", "p4", "p5"]
    cfg.MODEL.ROI_HEADS.NAME = "StandardROIHeads"
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2", "p3", "p4"]
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.0
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 1, 16
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 7
    cfg.MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS = [16]
    return cfg
