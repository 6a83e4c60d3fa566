"""Sub-cell decoding of region maps, and the merge of mirrored ones."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.roi_heads.keypoint_head import KRCNNConvDeconvUpsampleHead
from detectron2.structures import Boxes, Instances
from detectron2.structures.keypoints import heatmaps_to_keypoints

from video_pose.modeling.rcnn_parts import SubpixelKeypointHead, decode_logits, mirror_maps

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
