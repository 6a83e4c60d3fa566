"""Test-time augmentation of a whole Keypoint R-CNN."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import Tensor

from video_pose.modeling.rcnn_parts import KeypointRCNNWithTTA

SWAP = [0, 2, 1]


@pytest.fixture
def cfg(narrow_rcnn_cfg: CfgNode) -> CfgNode:
    cfg = narrow_rcnn_cfg
    cfg.MODEL.MASK_ON = True
    cfg.MODEL.POSE.JOINTS = ["nose", "left_eye", "right_eye"]
    cfg.MODEL.POSE.FLIP_MAP = [["left_eye", "right_eye"]]
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.RESNETS.NORM = "GN"
    cfg.MODEL.RESNETS.WIDTH_PER_GROUP = cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = 32
    cfg.MODEL.ROI_MASK_HEAD.NAME = "PartlyLabelledMaskHead"
    cfg.MODEL.ROI_MASK_HEAD.CONV_DIM, cfg.MODEL.ROI_MASK_HEAD.NUM_CONV = 16, 1
    cfg.MODEL.ROI_KEYPOINT_HEAD.NAME = "SubpixelKeypointHead"
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 3
    cfg.TEST.DETECTIONS_PER_IMAGE = 4
    cfg.TEST.AUG.MIN_SIZES, cfg.TEST.AUG.FLIP = (64,), False
    return cfg


@pytest.fixture
def image() -> Tensor:
    generator = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, 6, 8, generator=generator)
    image = torch.nn.functional.interpolate(coarse, (64, 96), mode="bilinear")[0]
    return (255 * image).to(torch.uint8)


def model_of(cfg):
    torch.manual_seed(0)
    return build_model(cfg).eval()


def run(model, image: Tensor, size: tuple[int, int] = (128, 192)):
    """Detections in an image whose original is twice as large."""
    with torch.no_grad():
        return model([{"image": image, "height": size[0], "width": size[1]}])[0]["instances"]


def test_one_unmirrored_image_of_the_same_size_changes_nothing(cfg, image) -> None:
    model = model_of(cfg)
    plain, merged = run(model, image), run(KeypointRCNNWithTTA(cfg, model), image)
    assert len(plain) == len(merged) > 0
    assert torch.allclose(plain.pred_boxes.tensor, merged.pred_boxes.tensor, atol=1e-2)
    assert torch.allclose(plain.pred_keypoints, merged.pred_keypoints, atol=0.1)
    assert (plain.pred_masks == merged.pred_masks).float().mean() > 0.99


def test_the_mirrored_image_gives_the_mirrored_poses_with_sides_swapped(cfg, image) -> None:
    """With flip, an image and its mirror image are the same set of two: results must mirror."""
    cfg.TEST.AUG.FLIP = True
    model = KeypointRCNNWithTTA(cfg, model_of(cfg))
    found, mirrored = run(model, image), run(model, image.flip(-1))
    assert len(found) == len(mirrored) > 0
    expected = mirrored.pred_keypoints[:, SWAP].clone()
    expected[..., 0] = 192 - expected[..., 0]
    assert torch.allclose(found.scores, mirrored.scores, atol=1e-4)
    assert torch.allclose(found.pred_keypoints, expected, atol=0.2)
    # And a model alone does not do so.
    plain, other = run(model.model, image), run(model.model, image.flip(-1))
    swapped = other.pred_keypoints[:, SWAP].clone()
    swapped[..., 0] = 192 - swapped[..., 0]
    assert not torch.allclose(plain.pred_keypoints[:1], swapped[:1], atol=0.2)


def test_other_models_are_refused(cfg) -> None:
    with pytest.raises(ValueError, match="GeneralizedRCNN only, not for Linear"):
        KeypointRCNNWithTTA(cfg, torch.nn.Linear(1, 1))
