"""Convolutions of a model at inference that compute themselves in the cheapest way."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from torch import Tensor, nn

from video_pose.modeling.conv_choice import Choice, choose
from video_pose.modeling.frequency_conv import FrequencyConv2d
from video_pose.modeling.packed_conv import can_pack, has_relu
from video_pose.modeling.winograd_conv import WinogradConv2d

# Others are not worth tiles: kernels of 1x1 px have none, few channels are many copies for few
# products.
_MIN_KERNEL, _MIN_CHANNELS = 3, 16


class LargeConv2d(nn.Module):
    """A convolution that computes itself as `choose` says for the size of its maps.

    What tiles need is made from the weights once per way and tile, at the first call.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype | None, way: str) -> None:
        """
        Args:
            conv: one that `is_large`; its parameters are shared. dtype, way: see `choose`.
        """
        super().__init__()
        self.direct: nn.Module = conv
        # Not a module of this one: `direct` may be replaced.
        self._conv = (conv,)
        self.dtype, self.way = dtype, way
        # Half precision of another kind is computed in float32 by tiles.
        self.tile_dtype = torch.bfloat16 if dtype == torch.bfloat16 else torch.float32
        self.packed = can_pack(conv.weight.device, self.tile_dtype)
        self.relu = has_relu(conv)
        self.choices: dict[tuple[int, int], Choice] = {}
        self._by_choice: dict[tuple[str, int], nn.Module] = {}

    def forward(self, maps: Tensor) -> Tensor:
        """maps (N, C, H, W) -> (N, O, H, W)."""
        # A recorded graph is for other machines.
        exported = torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()
        if exported or torch.jit.is_tracing():
            return self.direct(maps)
        size = (maps.shape[-2], maps.shape[-1])
        if size not in self.choices:
            self.choices[size] = choose(self._conv[0], size, self.dtype, self.way, self.packed)
        choice = self.choices[size]
        return self._by_tiles(maps, choice) if choice.tile else self.direct(maps)

    @torch.compiler.disable
    def _by_tiles(self, maps: Tensor, choice: Choice) -> Tensor:
        with torch.autocast(maps.device.type, enabled=False):
            key = choice[:2]
            if key not in self._by_choice:
                self._by_choice[key] = self._make(*key, (maps.shape[-2], maps.shape[-1]))
            out = self._by_choice[key](maps)
            return F.relu_(out) if self.relu else out

    def _make(self, way: str, tile: int, size: tuple[int, int]) -> nn.Module:
        conv = self._conv[0]
        if way == "Winograd":
            return WinogradConv2d(conv.weight, conv.bias, conv.dilation[0], self.packed)
        return FrequencyConv2d(
            conv.weight, conv.bias, tile, self.tile_dtype, packed=self.packed, map_size=size
        )

    def describe(self) -> list[str]:
        """One line for every size of maps so far, where there was a choice."""
        conv = self._conv[0]
        kernel, dilation = conv.kernel_size[0], conv.dilation[0]
        name = f"{conv.in_channels} -> {conv.out_channels}, {kernel}x{kernel}"
        name += f" dilated by {dilation}" if dilation > 1 else ""
        return [
            f"{name} at {height}x{width}: {c.way}"
            + (f", tiles of {c.tile}" if c.tile else "")
            + f" (costs {c.direct_cost / 1e9:.2f} G direct, {c.tile_cost / 1e9:.2f} G by tiles)"
            for (height, width), c in self.choices.items()
            if c.tile_cost < math.inf
        ]


def is_large(module: nn.Module) -> bool:
    """Whether tiles can compute this module, and may gain."""
    if not (type(module) is nn.Conv2d or isinstance(module, Conv2d)):
        return False
    if getattr(module, "norm", None) is not None:
        return False
    kernel, dilation = module.kernel_size[0], module.dilation[0]
    return (
        module.kernel_size == (kernel, kernel)
        and kernel % 2 == 1
        and kernel >= _MIN_KERNEL
        and (kernel == _MIN_KERNEL or dilation == 1)
        and module.dilation == (dilation, dilation)
        and min(module.in_channels, module.out_channels) >= _MIN_CHANNELS
        and module.stride == (1, 1)
        and module.groups == 1
        and module.padding == (dilation * (kernel // 2),) * 2
        and module.padding_mode == "zeros"
        and (getattr(module, "activation", None) is None or has_relu(module))
    )


def replace_large(model: nn.Module, dtype: torch.dtype | None, way: str) -> None:
    """Put a `LargeConv2d` in the place of every convolution that `is_large`, in place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if is_large(child):
                setattr(parent, name, LargeConv2d(child, dtype, way))
