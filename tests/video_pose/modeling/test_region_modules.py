"""Parts of R-CNNs: masks of some persons only, float32 pooling, a pyramid without res5."""

from __future__ import annotations

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import nn

import video_pose.modeling.layers  # noqa: F401  registers the backbone
from video_pose.modeling.rcnn_parts import PartlyLabelledMaskHead, prepare_regions


def make_head(kind=PartlyLabelledMaskHead):
    torch.manual_seed(0)
    shape = ShapeSpec(channels=4, height=14, width=14)
    return kind(shape, num_classes=1, conv_dims=[8, 8])


def proposals(has_mask: list[bool] | None, count: int | None = None) -> Instances:
    count = len(has_mask) if has_mask is not None else count
    masks = torch.zeros(count, 40, 40, dtype=torch.bool)
    masks[:, 10:20, 10:30] = True
    out = Instances((40, 40))
    out.proposal_boxes = Boxes(torch.tensor([[5.0, 5, 35, 35]]).repeat(count, 1))
    out.gt_classes = torch.zeros(count, dtype=torch.int64)
    out.gt_masks = BitMasks(masks)
    if has_mask is not None:
        out.gt_has_mask = torch.tensor(has_mask, dtype=torch.bool)
    return out


def loss(head, features, instances) -> torch.Tensor:
    with EventStorage():
        return head.train()(features, instances)["loss_mask"]


def test_regions_without_a_mask_carry_no_loss() -> None:
    torch.manual_seed(1)
    head, features = make_head(), torch.randn(4, 4, 14, 14)
    mixed = loss(head, features, [proposals([True, False]), proposals([False, True])])
    alone = loss(head, features[[0, 3]], [proposals([True]), proposals([True])])
    assert mixed.item() == pytest.approx(alone.item(), rel=1e-5)
    # Instances of stock datasets have no such field: all count, as in the stock head.
    stock = make_head(MaskRCNNConvUpsampleHead)
    stock.load_state_dict(head.state_dict())
    plain = [proposals(None, 2), proposals(None, 2)]
    assert loss(head, features, plain).item() == pytest.approx(loss(stock, features, plain).item())


def test_no_mask_at_all_gives_zero_with_gradients() -> None:
    head, features = make_head(), torch.randn(2, 4, 14, 14)
    value = loss(head, features, [proposals([False, False])])
    value.backward()
    assert value.item() == 0
    assert all(parameter.grad is not None for parameter in head.parameters())
    empty = Instances((40, 40), proposal_boxes=Boxes(torch.zeros(0, 4)))
    assert loss(head, features[:0], [empty]).item() == 0


def test_pooling_under_autocast_keeps_the_boxes_exact() -> None:
    """At x = 300 bfloat16 knows every second pixel only."""
    features = (torch.arange(320) >= 302).float().repeat(4, 1)[None, None]
    pooler = ROIPooler(1, [1.0], 0, "ROIAlignV2")
    boxes = [Boxes(torch.tensor([[301.0, 0, 304, 4]]))]

    def pool() -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return pooler([features.bfloat16()], boxes)

    rounded = pool().item()
    prepare_regions(nn.Sequential(pooler))
    prepare_regions(nn.Sequential(pooler))  # a second hook would do no harm, but is not wanted
    out = pool()
    assert out.dtype == torch.float32 and out.item() == pytest.approx(2 / 3)
    assert abs(rounded - 2 / 3) > 0.1  # columns 300 to 303
    assert len(pooler._forward_pre_hooks) == 1


def test_a_pyramid_on_res4() -> None:
    cfg = get_cfg()
    cfg.MODEL.BACKBONE.NAME = "build_short_resnet_fpn_backbone"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4"]
    cfg.MODEL.RESNETS.STEM_OUT_CHANNELS = cfg.MODEL.RESNETS.WIDTH_PER_GROUP = 8
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 32
    cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4"]
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    backbone = build_backbone(cfg)
    maps = backbone(torch.zeros(1, 3, 64, 96))
    assert {name: tuple(m.shape) for name, m in maps.items()} == {
        "p2": (1, 16, 16, 24),
        "p3": (1, 16, 8, 12),
        "p4": (1, 16, 4, 6),
        "p5": (1, 16, 2, 3),
    }
    assert not any("res5" in name for name, _ in backbone.named_parameters())
