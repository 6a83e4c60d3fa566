"""Detectron2's detectors with their dense parts as graphs: the same people, within rounding."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from video_pose.backends import detector
from video_pose.backends.detector import accelerate
from video_pose.engine.defaults import get_pose_cfg


@pytest.fixture(scope="module")
def cfg() -> CfgNode:
    """A small Keypoint R-CNN with FPN, all parts of which run on any picture."""
    cfg = get_pose_cfg()
    cfg.merge_from_list([
        "MODEL.DEVICE", "cpu", "MODEL.META_ARCHITECTURE", "GeneralizedRCNN",
        "MODEL.BACKBONE.NAME", "build_resnet_fpn_backbone", "MODEL.RESNETS.DEPTH", 18,
        "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.STEM_OUT_CHANNELS", 16,
        "MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"],
        "MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"], "MODEL.FPN.OUT_CHANNELS", 32,
        "MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64], [128], [256], [512]],
        "MODEL.RPN.IN_FEATURES", ["p2", "p3", "p4", "p5", "p6"], "MODEL.RPN.POST_NMS_TOPK_TEST", 20,
        "MODEL.ROI_HEADS.NAME", "StandardROIHeads", "MODEL.ROI_HEADS.NUM_CLASSES", 1,
        "MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"],
        "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0,
        "MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", 1,
        "MODEL.ROI_BOX_HEAD.FC_DIM", 32, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 7,
        "MODEL.KEYPOINT_ON", True, "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", 3,
        "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", [16], "TEST.DETECTIONS_PER_IMAGE", 5,
        "TEST.PRECISION", "float32",
    ])  # fmt: skip
    return cfg


@pytest.fixture(scope="module")
def model(cfg: CfgNode) -> nn.Module:
    torch.manual_seed(0)
    return build_model(cfg).eval()


def find(model: nn.Module, height: int, width: int) -> Any:
    generator = torch.Generator().manual_seed(1)
    picture = torch.rand((3, height, width), generator=generator) * 255
    with torch.no_grad():
        return model([{"image": picture, "height": height, "width": width}])[0]["instances"]


def test_the_same_people_within_rounding(cfg: CfgNode, model: nn.Module) -> None:
    """Made on one size, run on others; the number of regions is open as well."""
    pytest.importorskip("openvino")
    ours = copy.deepcopy(model)
    used = accelerate(cfg, ours, "openvino")
    assert used == ["backbone", "rpn_head", "box_head", "keypoint_head"]
    for size in ((160, 224), (128, 97)):
        plain, found = find(model, *size), find(ours, *size)
        assert len(found) == len(plain) > 0
        np.testing.assert_allclose(
            found.pred_boxes.tensor.numpy(), plain.pred_boxes.tensor.numpy(), atol=0.05
        )
        np.testing.assert_allclose(found.scores.numpy(), plain.scores.numpy(), atol=1e-4)
        # Scores are exponentials of random maps, of any size.
        keypoints = [of.pred_keypoints[..., 2].numpy() for of in (found, plain)]
        np.testing.assert_allclose(*keypoints, rtol=5e-3)


def test_what_does_not_export_stays_pytorchs(
    cfg: CfgNode, model: nn.Module, monkeypatch: pytest.MonkeyPatch, caplog: Any, tmp_path: Any
) -> None:
    pytest.importorskip("openvino")
    monkeypatch.setenv("VIDEO_POSE_CACHE", str(tmp_path))
    write = detector.write_graph

    def refuse(graph: Any, path: Any, *, what: str) -> None:
        if graph.name != "box_head":
            raise ValueError(f"{graph.name} of {what} does not export: it branches")
        write(graph, path, what=what)

    monkeypatch.setattr(detector, "write_graph", refuse)
    ours = copy.deepcopy(model)
    with caplog.at_level("WARNING"):
        assert accelerate(cfg, ours, "openvino") == ["box_head"]
    assert "backbone of GeneralizedRCNN does not export: it branches: PyTorch" in caplog.text
    assert len(find(ours, 128, 96)) == len(find(model, 128, 96))


def test_nothing_changes_by_pytorch_and_without_a_backbone(cfg: CfgNode, model: nn.Module) -> None:
    assert accelerate(cfg, model, "torch") == []
    assert accelerate(cfg, nn.Conv2d(1, 1, 1), "openvino") == []
    assert "forward" not in vars(model.backbone)
