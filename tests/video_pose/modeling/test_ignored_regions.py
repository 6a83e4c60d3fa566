"""Crowds and doubtful regions: what carries no loss, by hand."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling.proposal_generator import build_proposal_generator
from detectron2.modeling.roi_heads import build_roi_heads
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from video_pose.modeling.rcnn_parts import IGNORED, split_ignored, undecided

SIZE = (64, 64)


def targets(boxes: list[list[float]], classes: list[int]) -> Instances:
    out = Instances(SIZE)
    out.gt_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    out.gt_classes = torch.tensor(classes)
    return out


def test_what_lies_in_a_region_is_undecided_and_a_part_of_a_person_is_not() -> None:
    """Region: the left half. Person: its upper quarter of 32 x 16."""
    regions, people = (
        Boxes(torch.tensor([[0, 0, 32, 64.0]])),
        Boxes(torch.tensor([[0, 0, 32, 16.0]])),
    )
    boxes = Boxes(
        torch.tensor(
            [
                [0, 20, 20, 60.0],  # inside
                [22, 20, 42, 60.0],  # half inside: 10 of 20 columns
                [23, 20, 43, 60.0],  # less than half
                [2, 2, 14, 14.0],  # inside the person: a part of somebody, hence wrong
                [0, 8, 32, 24.0],  # half in the person, all in the region
            ]
        )
    )
    assert undecided(boxes, people, regions).tolist() == [True, True, False, False, True]
    none = Boxes(torch.zeros(0, 4))
    assert undecided(boxes, people, none).tolist() == [False] * 5
    assert undecided(boxes, none, regions)[3].item()


def make_rpn(name: str) -> torch.nn.Module:
    cfg = get_cfg()
    cfg.MODEL.PROPOSAL_GENERATOR.NAME = name
    cfg.MODEL.RPN.IN_FEATURES = ["p3"]
    cfg.MODEL.RPN.BATCH_SIZE_PER_IMAGE = 10_000
    cfg.MODEL.RPN.POSITIVE_FRACTION = 0.01
    cfg.MODEL.ANCHOR_GENERATOR.SIZES = [[16]]
    cfg.MODEL.ANCHOR_GENERATOR.ASPECT_RATIOS = [[1.0]]
    return build_proposal_generator(cfg, {"p3": ShapeSpec(channels=4, stride=8)})


def test_anchors_in_a_region_carry_no_loss() -> None:
    """Anchors of 16 px about every multiple of 8: those about x, y < 32 lie at least half inside
    the region of the corner (32 x 32), but for the ones at the picture's upper left edge."""
    rpn = make_rpn("IgnoringRPN")
    anchors = rpn.anchor_generator([torch.zeros(1, 4, 8, 8)])
    truth = targets([[40, 40, 56, 56], [0, 0, 32, 32]], [0, IGNORED])
    labels, _ = rpn.label_and_sample_anchors(anchors, [truth])
    grid = labels[0].reshape(8, 8)
    assert (grid[1:4, 1:4] == -1).all() and grid[0, 0] == 0
    assert (grid[:5, 5:] == 0).all() and (grid == 1).sum() == 1
    without, _ = make_rpn("RPN").label_and_sample_anchors(anchors, [truth[:1]])
    assert (without[0].reshape(8, 8)[1:4, 1:4] == 0).all()


@pytest.mark.parametrize("name", ["IgnoringROIHeads", "IgnoringCascadeROIHeads"])
def test_proposals_in_a_region_carry_no_loss_in_any_stage(name: str) -> None:
    cfg = get_cfg()
    cfg.MODEL.ROI_HEADS.NAME = name
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = 1
    cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p3"]
    cfg.MODEL.ROI_HEADS.PROPOSAL_APPEND_GT = False
    cfg.MODEL.ROI_BOX_HEAD.NAME = "FastRCNNConvFCHead"
    cfg.MODEL.ROI_BOX_HEAD.NUM_FC, cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 1, 8
    cfg.MODEL.ROI_BOX_HEAD.POOLER_TYPE = "ROIAlignV2"
    cfg.MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION = 2
    cfg.MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG = True
    heads = build_roi_heads(cfg, {"p3": ShapeSpec(channels=4, stride=8)})
    truth = targets([[40, 40, 56, 56], [0, 0, 32, 32]], [0, IGNORED])
    proposals = Instances(SIZE)
    places = [[41, 41, 56, 56.0], [2, 2, 20, 20.0], [0, 40, 20, 60.0]]
    proposals.proposal_boxes = Boxes(torch.tensor(places))
    proposals.objectness_logits = torch.zeros(3)
    with EventStorage():
        (sampled,) = heads.label_and_sample_proposals([proposals], [truth])
        rows = dict(zip(sampled.proposal_boxes.tensor[:, 0].tolist(), sampled.gt_classes.tolist()))
        assert rows == {41: 0, 0: 1}
        if name == "IgnoringCascadeROIHeads":
            again = Instances(SIZE, proposal_boxes=proposals.proposal_boxes)
            (later,) = heads._match_and_label_boxes([again], 1, [truth])
            assert later.proposal_boxes.tensor.tolist() == [places[0], places[2]]
        losses = heads(None, {"p3": torch.rand(1, 4, 8, 8)}, [proposals], [truth])[1]
    assert losses and all(torch.isfinite(value) for value in losses.values())


def test_people_and_regions_are_told_apart() -> None:
    people, regions = split_ignored([targets([[0, 0, 4, 4], [1, 1, 9, 9]], [IGNORED, 0])])
    assert people[0].gt_boxes.tensor.tolist() == [[1, 1, 9, 9]]
    assert regions[0].tensor.tolist() == [[0, 0, 4, 4]]
