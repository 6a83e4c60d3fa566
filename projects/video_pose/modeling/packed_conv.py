"""Convolutions for a CPU with weights in oneDNN's own layout, made once.

PyTorch's convolution brings its weights into that layout at every call, and computes many 1x1
convolutions of float32 without oneDNN, at less than half its speed. These operators are the ones
that ``torch.compile`` puts in their place.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Hashable

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from torch import Tensor, nn

logger = logging.getLogger(__name__)

_SUPPORTED = {
    torch.bfloat16: "_is_mkldnn_bf16_supported",
    torch.float16: "_is_mkldnn_fp16_supported",
}
_RELUS = (F.relu, F.relu_, torch.relu, torch.relu_)


class PackedConv2d(nn.Module):
    """A convolution, and a ReLU where the original had one as its activation.

    oneDNN's layout of the weights depends on the size of the maps and on whether there are several:
    both of these are kept where both occur. Maps of other sizes than the first are computed as
    well, some more slowly.

    Args:
        conv: one that `is_packable`. dtype: to compute in.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self.activation = "relu" if has_relu(conv) else "none"
        self.geometry = [list(conv.padding), list(conv.stride), list(conv.dilation), conv.groups]
        self._weight = conv.weight.detach().to(dtype)
        self._packed: dict[Hashable, Tensor] = {}
        self._bias = None if conv.bias is None else conv.bias.detach().to(dtype)

    def forward(self, maps: Tensor, layout: Hashable = None) -> Tensor:
        """maps (N, C, H, W) -> (N, O, h, w) of this module's type, channels last.

        Weights are kept for each ``layout``; None tells one image from several.
        """
        maps = maps.to(self.dtype).contiguous(memory_format=torch.channels_last)
        layout = len(maps) > 1 if layout is None else layout
        if layout not in self._packed:
            weight = self._weight if self._weight.is_mkldnn else self._weight.to_mkldnn()
            self._packed[layout] = self._weight = torch._C._nn.mkldnn_reorder_conv2d_weight(
                weight, *self.geometry, list(maps.shape)
            )
        return torch.ops.mkldnn._convolution_pointwise(
            maps, self._packed[layout], self._bias, *self.geometry, self.activation, [], ""
        )


def multiply(left: Tensor, right: Tensor) -> Tensor:
    """left (m, r) @ right (r, c) -> (m, c), by oneDNN."""
    return torch.ops.mkldnn._linear_pointwise(left, right.t(), None, "none", [], "")


def can_pack(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether oneDNN computes in ``dtype`` on this device, by operators that this PyTorch has.

    They are private ones of PyTorch: a small convolution is tried once, and where it fails or comes
    out wrong, PyTorch's own convolution serves, as a line in the log then says.
    """
    if device.type != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    return bool(getattr(torch.backends.mkldnn, "enabled", True)) and _computes(dtype)


@functools.cache
def _computes(dtype: torch.dtype) -> bool:
    try:
        if dtype != torch.float32 and not getattr(torch.ops.mkldnn, _SUPPORTED[dtype])():
            return False
        # Its convolutions lose their acceleration where an activation is fused.
        if torch.ops.mkldnn._is_mkldnn_acl_supported():
            return False
        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they are
            conv = Conv2d(3, 4, 1, activation=F.relu)
        maps = torch.linspace(-1, 1, 75).view(1, 3, 5, 5)
        with torch.no_grad():
            difference = PackedConv2d(conv, dtype)(maps).float() - conv(maps)
            matrix = maps[0, 0]
            product = multiply(matrix.to(dtype), matrix.to(dtype)).float() - matrix @ matrix
        if max(difference.abs().max(), product.abs().max()) < 0.05:
            return True
        reason = "a small convolution or product comes out wrong"
    except (AttributeError, KeyError, NotImplementedError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split())
    logger.warning("weights are not packed for oneDNN in %s, which is slower: %s", dtype, reason)
    return False


def is_packable(module: nn.Module) -> bool:
    """Whether `PackedConv2d` computes this module: zero padding, no norm of its own."""
    return (
        (type(module) is nn.Conv2d or isinstance(module, Conv2d))
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
        and getattr(module, "norm", None) is None
        and (getattr(module, "activation", None) is None or has_relu(module))
    )


def has_relu(conv: nn.Module) -> bool:
    """Whether a convolution of Detectron2's has a ReLU as its activation."""
    activation = getattr(conv, "activation", None)
    return activation in _RELUS or isinstance(activation, nn.ReLU)


def pack(model: nn.Module, dtype: torch.dtype) -> int:
    """Put a `PackedConv2d` in the place of every convolution that `is_packable`, in place.

    Returns:
        How many there were.
    """
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if is_packable(child)
    ]
    for parent, name, child in places:
        setattr(parent, name, PackedConv2d(child, dtype))
    return len(places)
