"""Fold the norms of a trained network into its convolutions; convolutions of folded weights."""

from __future__ import annotations

import copy

import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.layers.batch_norm import NaiveSyncBatchNorm
from torch import Tensor, nn

from video_pose.modeling.backbones import FrozenNormConv2d

_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, NaiveSyncBatchNorm, FrozenBatchNorm2d)


def fold_norms(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in evaluation mode whose batch norms are part of the convolutions.

    Covers Detectron2's ``Conv2d`` with a ``norm``, and a convolution directly before a norm in an
    ``nn.Sequential``. Norms of other kinds and in other places stay as they are.
    """
    folded = copy.deepcopy(model).eval()
    for module in folded.modules():
        norm = getattr(module, "norm", None)
        if isinstance(module, nn.Conv2d) and isinstance(norm, _NORMS):
            _fold(module, norm)
            module.norm = None
            if isinstance(module, FrozenNormConv2d):
                module.__class__ = Conv2d
        if isinstance(module, nn.Sequential):
            for i, (first, second) in enumerate(zip(list(module), list(module)[1:])):
                plain = isinstance(first, nn.Conv2d) and getattr(first, "norm", None) is None
                if plain and getattr(first, "activation", None) is None:
                    if isinstance(second, _NORMS):
                        _fold(first, second)
                        module[i + 1] = nn.Identity()
    return folded


def convolution_of(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """The size-preserving convolution with this weight (O, I, k, k) and bias (O,) or none."""
    out_channels, in_channels, kernel = weight.shape[:3]
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel,
        padding=kernel // 2,
        bias=bias is not None,
        device=weight.device,
    )
    conv.weight.data = weight
    if bias is not None:
        conv.bias.data = bias
    return conv


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: nn.Module) -> None:
    """y = scale (W x + b - mean) + shift, with scale = weight / sqrt(var + eps)."""
    scale = (norm.running_var + norm.eps).rsqrt()
    shift = torch.zeros_like(scale)
    if norm.weight is not None:
        scale, shift = scale * norm.weight, shift + norm.bias
    bias = torch.zeros_like(scale) if conv.bias is None else conv.bias
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    conv.bias = nn.Parameter((bias - norm.running_mean) * scale + shift)
