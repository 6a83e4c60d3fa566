"""Test-time augmentation of a whole Keypoint R-CNN."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from torch import Tensor

from video_pose.modeling.rcnn_parts import KeypointRCNNWithTTA, vote

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


def found(boxes: list[list[float]], scores: list[float], classes: list[int]) -> Instances:
    return Instances(
        (50, 100),
        pred_boxes=Boxes(torch.tensor(boxes).reshape(-1, 4)),
        scores=torch.tensor(scores),
        pred_classes=torch.tensor(classes, dtype=torch.int64),
    )


def test_boxes_that_agree_are_averaged_and_those_of_one_image_alone_lose() -> None:
    """Two of four images show a person, at 0.8 and 0.4; one shows another, at 0.6."""
    person, other, empty = [0.0, 0.0, 10.0, 20.0], [50.0, 0.0, 60.0, 20.0], [70.0, 5.0, 70.0, 5.0]
    looks = [
        found([person, empty], [0.8, 0.2], [0, 0]),
        found([[0.0, 0.0, 10.0, 17.0], person, [0.0, 0.0, 10.0, 13.0]], [0.4, 0.5, 0.3], [0, 1, 0]),
        found([other], [0.6], [0]),
        found([], [], []),
    ]
    merged = found([person, other, person, empty], [0.8, 0.6, 0.5, 0.2], [0, 0, 1, 0])
    voted = vote(merged, looks)
    # 13 of 20 rows do not agree, nor does another class; an empty box overlaps nothing.
    assert voted.scores.tolist() == pytest.approx([0.55, 0.375, 0.3125, 0.1])
    assert voted.pred_classes.tolist() == [0, 0, 1, 0]
    boxes = [[0, 0, 10, (0.8 * 20 + 0.4 * 17) / 1.2], other, person, empty]
    assert torch.allclose(voted.pred_boxes.tensor, torch.tensor(boxes))
    # What most images show comes before what one of them is surer of.
    alone = vote(found([other, person], [0.6, 0.5], [0, 0]), [
        found([other], [0.6], [0]), *[found([person], [0.5], [0])] * 3,
    ])  # fmt: skip
    assert alone.scores.tolist() == pytest.approx([0.4375, 0.375])
    assert torch.allclose(alone.pred_boxes.tensor, torch.tensor([person, other]))


def test_more_is_looked_for_in_the_augmented_images_and_only_there(cfg, image) -> None:
    cfg.TEST.AUG.FLIP = True
    cfg.TEST.AUG.PROPOSALS, cfg.TEST.AUG.NMS_THRESH = 7, 0.9
    cfg.freeze()
    model = model_of(cfg)
    seen = []
    inference = model.inference

    def watched(inputs, instances=None, do_postprocess=True):
        if instances is None:
            rpn, head = model.proposal_generator, model.roi_heads.box_predictor
            seen.append((rpn.post_nms_topk[False], head.test_nms_thresh))
        return inference(inputs, instances, do_postprocess)

    model.inference = watched
    augmented = KeypointRCNNWithTTA(cfg, model)
    before = dict(model.proposal_generator.post_nms_topk)
    loose = run(augmented, image)
    assert seen == [(7, 0.9)]
    assert model.proposal_generator.post_nms_topk == before
    assert model.roi_heads.box_predictor.test_nms_thresh == 0.5
    assert len(loose) > 0
    cfg.defrost()
    cfg.TEST.AUG.VOTE = True
    voted = run(KeypointRCNNWithTTA(cfg, model), image)
    assert sorted(voted.scores.tolist()) != sorted(loose.scores.tolist())


@pytest.mark.parametrize(
    "key, value", [("NMS_THRESH", 1.1), ("NMS_THRESH", -0.1), ("PROPOSALS", -1)]
)
def test_settings_of_augmentation_have_bounds(cfg, key: str, value: float) -> None:
    cfg.TEST.AUG[key] = value
    with pytest.raises(ValueError, match=f"NMS_THRESH is 0 to 1 .* got .*{value}"):
        KeypointRCNNWithTTA(cfg, model_of(cfg))


def test_more_proposals_need_something_that_makes_them(cfg) -> None:
    model = model_of(cfg)
    model.proposal_generator = None
    cfg.TEST.AUG.PROPOSALS = 7
    with pytest.raises(ValueError, match="PROPOSALS: the model has no RPN"):
        KeypointRCNNWithTTA(cfg, model)
