"""Losses on heatmaps, testable without a configuration."""

from __future__ import annotations

from torch import Tensor

REDUCTIONS = ("mean", "half_sum")


def heatmap_loss(predicted: Tensor, target: Tensor, weight: Tensor, reduction: str) -> Tensor:
    """Squared error of the maps of a batch of clips.

    Args:
        predicted, target: (B, T, C, h, w).
        weight: (B, T, C); 0 takes a channel out (joint not labelled, padding frame).
        reduction: "mean" divides a frame's error by B C h w and sums over T (UniPose, released
            recipe); "half_sum" is 1 / (2 B) of the sum (LSTM Pose Machines, Caffe's EuclideanLoss).

    Returns:
        A scalar; 0 with a gradient path where nothing is labelled.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"loss reduction {reduction!r}: choose from {REDUCTIONS}")
    assert predicted.shape == target.shape, (predicted.shape, target.shape)
    predicted = predicted.float()
    error = ((predicted - target) ** 2 * weight[..., None, None]).sum()
    clips, _, channels, height, width = predicted.shape
    if reduction == "mean":
        return error / (clips * channels * height * width)
    return error / (2 * clips)
