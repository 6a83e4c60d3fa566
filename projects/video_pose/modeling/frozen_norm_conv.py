"""A convolution and the frozen norm after it as one convolution, also in training."""

from __future__ import annotations

from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn


class FrozenNormConv2d(Conv2d):
    """Detectron2's ``Conv2d`` whose frozen norm scales the weights instead of the maps.

    scale (W x) + shift = (scale W) x + shift: the maps are written once instead of three times. The
    weights, and what a checkpoint calls them, are those of ``Conv2d``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, O, H', W')."""
        norm = self.norm
        assert isinstance(norm, FrozenBatchNorm2d), norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
        x = self._conv_forward(x, self.weight * scale[:, None, None, None], shift)
        return x if self.activation is None else self.activation(x)


def join_frozen_norms(model: nn.Module) -> None:
    """Let all convolutions of ``model`` that a frozen norm follows compute both at once, in place.

    Parameters, buffers and their names stay as they are.
    """
    for module in model.modules():
        norm = getattr(module, "norm", None)
        if type(module) is Conv2d and isinstance(norm, FrozenBatchNorm2d) and module.bias is None:
            module.__class__ = FrozenNormConv2d
