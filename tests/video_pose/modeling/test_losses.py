"""Heatmap losses by hand."""

from __future__ import annotations

import pytest
import torch

from video_pose.modeling.losses import heatmap_loss


def example() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Two clips, two frames, three channels, 2x5 cells; all errors are 0 but three."""
    predicted, target = torch.zeros(2, 2, 3, 2, 5), torch.zeros(2, 2, 3, 2, 5)
    predicted[0, 0, 0, 0, 0] = 3.0  # squared error 9
    target[0, 1, 2, 1, 4] = -2.0  # 4
    predicted[1, 1, 1, 0, 3], target[1, 1, 1, 0, 3] = 1.0, 6.0  # 25
    return predicted, target, torch.ones(2, 2, 3)


def test_mean_is_over_clips_channels_and_cells_and_summed_over_frames() -> None:
    # 38 / (2 clips x 3 channels x 10 cells)
    assert heatmap_loss(*example(), "mean").item() == pytest.approx(38 / 60)


def test_half_sum_is_caffes_euclidean_loss() -> None:
    # 38 / (2 x 2 clips)
    assert heatmap_loss(*example(), "half_sum").item() == pytest.approx(9.5)


@pytest.mark.parametrize(("reduction", "divisor"), [("mean", 60), ("half_sum", 4)])
def test_a_weight_of_zero_takes_a_channel_of_a_frame_out(reduction: str, divisor: int) -> None:
    predicted, target, weight = example()
    weight[1, 1, 1] = 0
    # The divisor stays: a channel without a label is no reason to weigh the others more.
    loss = heatmap_loss(predicted, target, weight, reduction)
    assert loss.item() == pytest.approx(13 / divisor)


@pytest.mark.parametrize("reduction", ["mean", "half_sum"])
def test_doubling_the_frames_doubles_the_loss_and_doubling_the_batch_does_not(reduction) -> None:
    predicted, target, weight = example()
    loss = heatmap_loss(predicted, target, weight, reduction)
    frames = heatmap_loss(*(torch.cat([t, t], 1) for t in (predicted, target, weight)), reduction)
    clips = heatmap_loss(*(torch.cat([t, t], 0) for t in (predicted, target, weight)), reduction)
    assert frames.item() == pytest.approx(2 * loss.item())
    assert clips.item() == pytest.approx(loss.item())


@pytest.mark.parametrize("reduction", ["mean", "half_sum"])
def test_nothing_labelled_is_zero_with_a_gradient(reduction: str) -> None:
    predicted, target, weight = example()
    predicted.requires_grad_()
    loss = heatmap_loss(predicted, target, weight * 0, reduction)
    loss.backward()
    assert loss.item() == 0 and predicted.grad.abs().max() == 0


def test_gradient_by_hand() -> None:
    predicted, target, weight = example()
    predicted.requires_grad_()
    heatmap_loss(predicted, target, weight, "half_sum").backward()
    # d/dp of (p - t)^2 / (2 B) is (p - t) / B.
    assert predicted.grad[1, 1, 1, 0, 3].item() == pytest.approx((1 - 6) / 2)


def test_half_precision_maps_are_summed_in_float32() -> None:
    predicted = torch.ones(1, 1, 1, 64, 64, dtype=torch.bfloat16)
    loss = heatmap_loss(predicted, torch.zeros(1, 1, 1, 64, 64), torch.ones(1, 1, 1), "half_sum")
    assert loss.dtype == torch.float32 and loss.item() == 64 * 64 / 2


def test_unknown_reduction() -> None:
    with pytest.raises(ValueError, match="'sum'.*mean.*half_sum"):
        heatmap_loss(*example(), "sum")
