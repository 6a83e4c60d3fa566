"""Parts of R-CNNs: masks of some persons only, float32 pooling, a pyramid without res5, sub-cell
joints, and regions that are neither people nor background.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_backbone
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.proposal_generator import build_proposal_generator
from detectron2.modeling.roi_heads import MaskRCNNConvUpsampleHead, build_roi_heads
from detectron2.modeling.roi_heads.keypoint_head import KRCNNConvDeconvUpsampleHead
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.structures.keypoints import heatmaps_to_keypoints
from detectron2.utils.events import EventStorage
from torch import nn

import video_pose.modeling.layers  # noqa: F401  registers the backbone
from video_pose.modeling import rcnn_parts as module
from video_pose.modeling.rcnn_parts import (
    IGNORED,
    KeypointRCNNWithTTA,
    PartlyLabelledMaskHead,
    SubpixelKeypointHead,
    _extended,
    add_keypoints,
    decode,
    decode_logits,
    mirror_maps,
    naming_divergence,
    prepare_regions,
    split_ignored,
    undecided,
)


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


def test_masks_are_predicted_as_the_stock_head_does() -> None:
    head, stock = make_head().eval(), make_head(MaskRCNNConvUpsampleHead).eval()
    features, found = torch.randn(2, 4, 14, 14), []
    for one in (head, stock):
        people = Instances((40, 40), pred_classes=torch.zeros(2, dtype=torch.long))
        people.pred_boxes = Boxes(torch.tensor([[5.0, 5, 35, 35]] * 2))
        with torch.no_grad():
            found.append(one(features, [people])[0].pred_masks)
    assert found[0].shape == (2, 1, 28, 28) and torch.equal(*found)


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


def test_keypoint_heads_keep_the_plain_layout() -> None:
    model = nn.Sequential(head(SubpixelKeypointHead), nn.Conv2d(4, 4, 3))
    model.to(memory_format=torch.channels_last)
    prepare_regions(model)
    plain = [p.is_contiguous() for p in model[0].parameters() if p.dim() == 4]
    assert plain and all(plain) and not model[1].weight.is_contiguous(), "the rest stays"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (AssertionError("Box tensor contains infinite or NaN!"), True),
        (FloatingPointError("Predicted boxes or scores contain Inf/NaN."), True),
        (FloatingPointError("scores are infinite"), True),
        (AssertionError("sizes differ"), False),
        (ValueError("NaN"), False),
    ],
)
def test_a_model_that_has_diverged_is_said_in_a_users_words(error: Exception, said: bool) -> None:
    with pytest.raises(ValueError if said else type(error)) as found, naming_divergence():
        raise error
    if not said:
        assert found.value is error
        return
    assert found.value.__cause__ is error and str(found.value) == (
        f"the model's boxes are not finite ({error}): its training has diverged; use an earlier "
        "checkpoint, or train with a lower SOLVER.BASE_LR"
    )


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


SIDE = 56


def render(points: torch.Tensor, side: int = SIDE, sharpness: float = 0.5) -> torch.Tensor:
    """Logits (R, K, side, side) of Gaussians with peaks at (R, K, 2), in cells from the corner."""
    centers = torch.arange(side) + 0.5
    x = (points[..., 0, None] - centers) ** 2
    y = (points[..., 1, None] - centers) ** 2
    return -sharpness * (x[..., None, :] + y[..., :, None])


def test_quantisation_error_goes_down() -> None:
    """Boxes of 112 x 84 px: stock gives whole pixels (up to .5 px off), ours is exact here."""
    torch.manual_seed(0)
    points = 3 + 50 * torch.rand(20, 3, 2)
    boxes = torch.tensor([[10.0, 20, 122, 104]]).repeat(20, 1)
    truth = boxes[:, None, :2] + points * torch.tensor([112 / SIDE, 84 / SIDE])
    logits = render(points)
    ours = (decode_logits(logits, boxes)[..., :2] - truth).abs()
    stock = (heatmaps_to_keypoints(logits, boxes)[..., :2] - truth).abs()
    assert stock.mean() > 0.2 and stock.max() > 0.45
    assert ours.max() < 1e-2
    # No bias, either.
    bias = (decode_logits(logits, boxes)[..., :2] - truth).mean()
    assert bias.abs() < 1e-3


def test_maps_enlarged_by_two_as_the_head_does() -> None:
    """The head's last layer doubles 28 x 28 cells bilinearly."""
    torch.manual_seed(1)
    points = 3 + 22 * torch.rand(30, 2, 2)
    logits = torch.nn.functional.interpolate(
        render(points, 28), scale_factor=2.0, mode="bilinear", align_corners=False
    )
    boxes = torch.tensor([[0.0, 0, 280, 280]]).repeat(30, 1)
    ours = (decode_logits(logits, boxes)[..., :2] - points * 10).abs()
    stock = (heatmaps_to_keypoints(logits, boxes)[..., :2] - points * 10).abs()
    assert ours.max() < 0.5 < stock.max()  # a cell of the 56 x 56 map is 5 px
    assert ours.mean() < 0.1 * stock.mean()


@pytest.mark.parametrize(
    ("peak", "found"),
    [
        ((0.3, 30.2), (0.3, 30.2)),  # in the first column
        ((55.9, 0.1), (55.9, 0.1)),  # in a corner
        ((-4.0, 20.4), (0.0, 20.4)),  # outside: the box's edge
    ],
)
def test_peaks_on_the_edge_of_the_box(peak, found) -> None:
    boxes = torch.tensor([[100.0, 50, 156, 106]])
    out = decode_logits(render(torch.tensor([[peak]])), boxes)[0, 0]
    assert out[:2].tolist() == pytest.approx([100 + found[0], 50 + found[1]], abs=0.05)


def test_flat_maps_and_scores() -> None:
    maps = torch.zeros(1, 2, SIDE, SIDE)
    maps[0, 1, 7, 9] = 100.0
    out = decode_logits(maps, torch.tensor([[0.0, 0, 56, 56]]))
    assert torch.isfinite(out).all()
    assert out[0, 0, 2] == pytest.approx(1 / SIDE**2) and out[0, 1, 2] == pytest.approx(1)
    assert out[0, 1, :2].tolist() == pytest.approx([9.5, 7.5])
    assert decode_logits(maps[:0], torch.zeros(0, 4)).shape == (0, 2, 3)


def test_joints_of_an_empty_or_thin_box_stay_within_a_pixel() -> None:
    """Boxes narrower than a pixel count one; the map's middle is the box's."""
    logits = render(torch.tensor([[[28.0, 14.0]]] * 2))
    boxes = torch.tensor([[10.0, 20, 10.25, 76], [5, 6, 5, 6]])
    found = decode_logits(logits.bfloat16().double(), boxes)
    assert found.dtype == torch.float32
    assert found[0, 0, :2].tolist() == pytest.approx([10.5, 34.0], abs=1e-2)
    assert found[1, 0, :2].tolist() == pytest.approx([5.5, 6.25], abs=1e-3)


def test_a_map_goes_on_behind_its_edge() -> None:
    """Differences 1 and 2 go on by 0, which must stay below the first cell, and by 3, which must
    stay below the last one; falling ones by -3. First columns, then rows."""
    maps = torch.tensor([[1.0, 2.0, 4.0], [0.0, 0.0, -1.0], [0.0, -2.0, -3.0]])[None, None]
    found = _extended(maps)[0, 0]
    assert found.shape == (5, 5)
    expected = [[0.9999, 1, 2, 4, 3.9999], [-1, 0, 0, -1, -3], [-1e-4, 0, -2, -3, -3.0001]]
    torch.testing.assert_close(found[1:4], torch.tensor(expected))
    above = [3 * a - 3 * b + c for a, b, c in zip(*found[1:4].tolist(), strict=True)]
    below = [3 * c - 3 * b + a for a, b, c in zip(*found[1:4].tolist(), strict=True)]
    for row, beyond, edge in ((0, above, found[1]), (4, below, found[3])):
        limited = torch.minimum(torch.tensor(beyond), edge - 1e-4)
        torch.testing.assert_close(found[row], limited)


def head(kind):
    torch.manual_seed(0)
    shape = ShapeSpec(channels=8, height=14, width=14)
    return kind(shape, num_keypoints=3, conv_dims=[8], loss_normalizer="visible")


def test_the_head_is_the_stock_one_with_other_decoding() -> None:
    ours, stock = head(SubpixelKeypointHead).eval(), head(KRCNNConvDeconvUpsampleHead).eval()
    stock.load_state_dict(ours.state_dict())
    features = torch.randn(5, 8, 14, 14)

    def people(count: int) -> Instances:
        boxes = torch.tensor([[5.0, 5, 90, 120]]).repeat(count, 1)
        return Instances((200, 200), pred_boxes=Boxes(boxes))

    with torch.no_grad():
        found = ours(features, [people(2), people(0), people(3)])
        expected = stock(features, [people(2), people(0), people(3)])
    assert [len(item.pred_keypoints) for item in found] == [2, 0, 3]
    for mine, theirs in zip(found, expected):
        assert torch.allclose(mine.pred_keypoint_heatmaps, theirs.pred_keypoint_heatmaps)
        distance = (mine.pred_keypoints - theirs.pred_keypoints)[..., :2].norm(dim=-1)
        # A cell is 1.5 x 2 px; noise may have two maxima that are nearly equal.
        assert distance.numel() == 0 or distance.median() < 3


def test_mirrored_maps_are_turned_back_with_sides_swapped() -> None:
    """Joints head, left, right at known cells; the mirror image shows them at 56 - x, swapped."""
    points = torch.tensor([[[20.3, 5.1], [10.2, 30.4], [40.7, 31.9]]])
    mirrored = points.clone()
    mirrored[..., 0] = SIDE - mirrored[..., 0]
    mirrored = mirrored[:, [0, 2, 1]]
    back = mirror_maps(render(mirrored), [0, 2, 1])
    assert torch.allclose(back, render(points), atol=1e-3)


def test_each_image_has_the_joints_of_its_own_people() -> None:
    points = torch.tensor([[[8.5, 20.5]], [[30.5, 40.5]], [[1.5, 2.5]]])
    logits = render(points)
    boxes = torch.tensor([[0.0, 0, 56, 56], [100, 100, 156, 156], [0, 0, 112, 112]])
    images = [Instances((9, 9), pred_boxes=Boxes(part)) for part in boxes.split([2, 0, 1])]
    add_keypoints(logits, images)
    found = [item.pred_keypoints[:, 0, :2].tolist() for item in images]
    expected = [[[8.5, 20.5], [130.5, 140.5]], [], [[3, 5]]]
    for mine, wanted in zip(found, expected, strict=True):
        assert torch.tensor(mine).flatten().tolist() == pytest.approx(sum(wanted, []), abs=1e-3)
    assert torch.equal(images[2].pred_keypoint_heatmaps, logits[2:])


@pytest.mark.parametrize("subpixel", [True, False])
def test_merged_maps_are_decoded_as_the_models_head_does(subpixel: bool) -> None:
    kind = SubpixelKeypointHead if subpixel else KRCNNConvDeconvUpsampleHead
    model: Any = SimpleNamespace(roi_heads=SimpleNamespace(keypoint_head=head(kind)))
    people = Instances((9, 9), pred_boxes=Boxes(torch.tensor([[0.0, 0, 56, 56]])))
    decode(model, render(torch.tensor([[[8.8, 20.2]]])), people)
    x, y = people.pred_keypoints[0, 0, :2].tolist()
    assert (x, y) == (pytest.approx((8.8, 20.2), abs=1e-2) if subpixel else (8.5, 20.5))


@pytest.mark.parametrize("flips", [0, 1, 2])
def test_maps_of_mirrored_images_are_turned_back_before_the_mean(
    monkeypatch: pytest.MonkeyPatch, flips: int
) -> None:
    """A picture and one that is mirrored so many times; turning it twice is not turning it."""
    first, second = render(torch.tensor([[[8.5, 20.5]] * 2])), torch.rand(1, 2, SIDE, SIDE)
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(module, "decode", lambda model, logits, merged: seen.append(logits))
    outputs = [SimpleNamespace(pred_keypoint_heatmaps=maps) for maps in (first, second)]
    mirror = [module.HFlipTransform(9)] * flips
    transforms = [SimpleNamespace(transforms=t) for t in ([object()], [object(), *mirror])]
    model: Any = SimpleNamespace(_swap=[1, 0], model=None)
    KeypointRCNNWithTTA._set_keypoints(model, None, outputs, transforms)
    turned = second[:, [1, 0]].flip(-1) if flips == 1 else second
    torch.testing.assert_close(seen, [(first + turned) / 2])


@pytest.mark.parametrize("people", [0, 2])
@pytest.mark.parametrize(("masks", "keypoints"), [(0, 0), (1, 0), (0, 1), (1, 1)])
def test_heads_are_asked_about_merged_people(
    monkeypatch: pytest.MonkeyPatch, people: int, masks: int, keypoints: int
) -> None:
    """Only where there are people and such heads; boxes come from the model without these heads,
    and are brought back to the picture. The picture of 30 x 40 px, its original of 60 x 80."""
    told: list[Any] = []
    aug = SimpleNamespace(VOTE=False)
    # The way back doubles all edges.
    transform = SimpleNamespace(inverse=lambda: SimpleNamespace(apply_box=lambda boxes: 2 * boxes))

    class Heads:
        cfg = SimpleNamespace(
            MODEL=SimpleNamespace(MASK_ON=masks, KEYPOINT_ON=keypoints),
            TEST=SimpleNamespace(AUG=aug),
        )

        def _get_augmented_inputs(self, input: dict) -> tuple:
            assert sorted(input) == ["height", "image", "width"]
            return ["image"], [transform]

        @contextlib.contextmanager
        def _turn_off_roi_heads(self, names: list[str]) -> Iterator[None]:
            told.append(names)
            yield
            told.append("on again")

        @contextlib.contextmanager
        def _test_settings(self) -> Iterator[None]:
            told.append("settings")
            yield

        def _batch_inference(self, images: list[str], given: str = "") -> Any:
            told.append(f"heads {given}")
            look = Instances((30, 40), scores=torch.tensor([0.5], dtype=torch.bfloat16))
            look.pred_boxes = Boxes(torch.tensor([[1.0, 2, 3, 4]]))
            look.pred_classes = torch.tensor([3])
            return "outputs" if given else [look]

        def _merge_detections(self, boxes: Any, scores: Any, classes: Any, size: Any) -> Instances:
            assert (boxes.tolist(), scores.tolist()) == ([[2, 4, 6, 8]], [0.5])
            assert classes.tolist() == [3] and size == (60, 80) and scores.dtype == torch.float32
            found = torch.tensor([[4.0, 8, 24, 28], [0, 0, 80, 60]])[:people]
            return Instances((60, 80), pred_boxes=Boxes(found))

        def _rescale_detected_boxes(self, images: Any, merged: Any, transforms: Any) -> str:
            return "given"

        def _set_keypoints(self, merged: Instances, outputs: str, transforms: Any) -> None:
            assert outputs == "outputs" and transforms == [transform]
            merged.pred_keypoints = torch.full((people, 1, 3), 7.0)

        def _reduce_pred_masks(self, outputs: str, transforms: Any) -> torch.Tensor:
            return torch.ones(people, 1, 28, 28)

    frame: Any = {"image": "i", "height": 60, "width": 80, "video_id": "v"}
    found = KeypointRCNNWithTTA._inference_one_image(Heads(), frame)["instances"]
    asked = bool(people and (masks or keypoints))
    off = ["mask_on", "keypoint_on"]
    assert told == [off, "settings", "heads ", "on again", *["heads given"] * asked]
    assert found.image_size == (60, 80) and len(found) == people
    assert found.has("pred_keypoints") == bool(people and keypoints)
    assert found.has("pred_masks") == bool(people and masks)
    if people and masks:
        assert found.pred_masks.shape == (2, 60, 80)


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


@pytest.mark.parametrize("boundary", [-1, 0, 4])
def test_anchors_of_people_are_matched_as_detectron2_does(boundary: int) -> None:
    """Labels and boxes of two pictures, one with nobody: all as the stock network has them, where
    no region is ignored. Anchors beyond the edge may be left out."""
    rpns = [make_rpn(name) for name in ("IgnoringRPN", "RPN")]
    anchors = rpns[0].anchor_generator([torch.zeros(1, 4, 8, 8)])
    truth = [targets([[40, 40, 56, 56], [3, 9, 20, 23]], [0, 0]), targets([], [])]
    found = []
    for rpn in rpns:
        rpn.anchor_boundary_thresh = boundary
        found.append(rpn.label_and_sample_anchors(anchors, truth))
    (labels, boxes), (stock_labels, stock_boxes) = found
    for n in range(2):
        assert torch.equal(labels[n], stock_labels[n]) and torch.equal(boxes[n], stock_boxes[n])
    assert (labels[1] == -1).any() == (boundary >= 0)
    assert boxes[1].abs().max() == 0 and set(labels[0].tolist()) >= {0, 1}


def test_a_person_in_an_ignored_region_is_still_a_person() -> None:
    """The whole picture is ignored; what a person claims counts, and nothing is background."""
    rpn = make_rpn("IgnoringRPN")
    anchors = rpn.anchor_generator([torch.zeros(1, 4, 8, 8)])
    truth = targets([[0, 0, 64, 64], [40, 40, 56, 56]], [IGNORED, 0])
    labels, boxes = rpn.label_and_sample_anchors(anchors, [truth])
    inside = labels[0].reshape(8, 8)[1:, 1:]
    assert (inside == 1).sum() == 1 and (inside != 1).sum() == (inside == -1).sum()
    assert boxes[0].tolist() == [[40, 40, 56, 56]] * 64


def make_heads(name: str) -> torch.nn.Module:
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
    return build_roi_heads(cfg, {"p3": ShapeSpec(channels=4, stride=8)})


@pytest.mark.parametrize("name", ["IgnoringROIHeads", "IgnoringCascadeROIHeads"])
def test_proposals_in_a_region_carry_no_loss_in_any_stage(name: str) -> None:
    heads = make_heads(name)
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


def test_later_stages_leave_out_regions_that_show_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A region's scores in the three stages, by its left edge; .02 is needed as their mean."""
    scores = {
        0.0: (0.9, 0.9, 0.9),
        10.0: (0.01, 0.9, 0.9),  # left out after the first stage
        20.0: (0.03, 0.0, 0.9),  # after the second: .015
        30.0: (0.03, 0.02, 0.85),
    }
    heads = make_heads("IgnoringCascadeROIHeads").eval()
    seen = []

    def run_stage(features: object, proposals: list[Instances], stage: int) -> tuple[torch.Tensor]:
        edges = proposals[0].proposal_boxes.tensor[:, 0].tolist()
        seen.append(edges)
        person = torch.tensor([scores[edge][stage] for edge in edges])
        return torch.stack([person, 1 - person], dim=1).log(), torch.zeros(len(edges), 4)

    monkeypatch.setattr(heads, "_run_stage", run_stage)
    boxes = torch.tensor([[edge, 0.0, edge + 8, 20.0] for edge in scores])
    proposals = Instances(SIZE, proposal_boxes=Boxes(boxes))
    with torch.no_grad():
        (found,) = heads._forward_box({"p3": torch.rand(1, 4, 8, 8)}, [proposals])
    assert seen == [[0, 10, 20, 30], [0, 20, 30], [0, 30]]
    assert found.scores.tolist() == pytest.approx([0.9, 0.3])
    assert found.pred_boxes.tensor.tolist() == [[0, 0, 8, 20], [30, 0, 38, 20]]


def test_a_region_just_worth_keeping_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two pictures; .03125 as exactly what is needed of each stage, and a bit less. The last stage
    gives nothing up, and the background's score says nothing."""
    monkeypatch.setattr(module, "GIVEN_UP", 0.03125)
    heads = make_heads("IgnoringCascadeROIHeads").eval()
    heads.box_predictor[0].test_score_thresh = heads.box_predictor[-1].test_score_thresh = 0.0
    seen: list[list[float]] = []
    scores = {0.0: (0.03125, 0.03125, 0.0), 10.0: (0.03, 0.9, 0.9), 20.0: (0.0625, 0.0, 0.0)}

    def run_stage(features: object, proposals: list[Instances], stage: int) -> list[list[float]]:
        seen.append([edge for item in proposals for edge in edges_of(item)])
        return [[scores[edge][stage] for edge in edges_of(item)] for item in proposals]

    def edges_of(item: Instances) -> list[float]:
        return item.proposal_boxes.tensor[:, 0].tolist()

    def probabilities(people: list[list[float]], proposals: object) -> tuple[torch.Tensor, ...]:
        return tuple(torch.tensor([[p, 1 - p] for p in one]).reshape(-1, 2) for one in people)

    monkeypatch.setattr(heads, "_run_stage", run_stage)
    for predictor in heads.box_predictor:
        monkeypatch.setattr(
            predictor, "predict_boxes",
            lambda people, proposals: [item.proposal_boxes.tensor for item in proposals],
        )  # fmt: skip
        monkeypatch.setattr(predictor, "predict_probs", probabilities)
    pictures = [
        Instances(SIZE, proposal_boxes=Boxes(torch.tensor([[e, 0.0, e + 8, 20] for e in edges])))
        for edges in ((0.0, 10.0), (10.0, 20.0))
    ]
    with torch.no_grad():
        found = heads._forward_box({"p3": torch.rand(1, 4, 8, 8)}, pictures)
    assert seen == [[0, 10, 10, 20], [0, 20], [0, 20]]
    assert found[0].scores.tolist() == pytest.approx([0.0625 / 3])
    assert found[1].scores.tolist() == pytest.approx([0.0625 / 3])
    assert [item.image_size for item in found] == [SIZE] * 2


def test_people_and_regions_are_told_apart() -> None:
    people, regions = split_ignored([targets([[0, 0, 4, 4], [1, 1, 9, 9]], [IGNORED, 0])])
    assert people[0].gt_boxes.tensor.tolist() == [[1, 1, 9, 9]]
    assert regions[0].tensor.tolist() == [[0, 0, 4, 4]]
