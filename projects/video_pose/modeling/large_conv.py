"""Large convolutions of a model at inference: direct, or in the frequency domain.

The one place where that is chosen. The rule counts what both ways cost, in direct float32
multiplications; its three prices were measured with PyTorch's CPU operators.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from video_pose.modeling.frequency_conv import FrequencyConv2d
from video_pose.modeling.precision import has_matrix_units

WAYS = ("auto", "direct")
# A multiplication of the frequency domain (smaller matrix products, and copies between them), and a
# byte of its weights, which are too many for a cache.
_FREQUENCY_PRICE = 3.0
_BYTE_PRICE = 8.0
# bfloat16 multiplications on a CPU that has instructions, and one that has matrix units for them.
_BFLOAT16_PRICE, _MATRIX_UNIT_PRICE = 0.5, 1 / 8
# Of the frequency domain's cost, where transform and products are bfloat16.
_BFLOAT16_SHARE = 0.6
# Smaller kernels, and fewer channels, never gain.
_MIN_KERNEL, _MIN_CHANNELS = 5, 16
_MAX_TILE = 64


class Choice(NamedTuple):
    """How a convolution is computed on maps of one size."""

    tile: int  # of the frequency domain, px; 0: direct
    direct_cost: float  # in direct float32 multiplications, for one image
    frequency_cost: float


def choose(
    weight: Tensor, map_size: tuple[int, int], dtype: torch.dtype | None, way: str = "auto"
) -> Choice:
    """The cheaper way to convolve one image.

    Args:
        weight: (O, C, k, k), on the device that computes. map_size: (H, W).
        dtype: of inference; None is float32.
        way: "auto", or "direct" for no other.

    Raises:
        ValueError: unknown ``way``.
    """
    if way not in WAYS:
        raise ValueError(f"large convolutions {way!r}: choose from {WAYS}")
    direct = weight.numel() * math.prod(map_size) * _direct_price(dtype)
    largest = min(max(map_size), _MAX_TILE - weight.shape[-1] + 1)
    costs = {
        valid + weight.shape[-1] - 1: _frequency_cost(weight, map_size, valid)
        for valid in range(1, largest + 1)
    }
    tile = min(costs, key=lambda n: costs[n], default=0)
    cost = costs.get(tile, math.inf) * (_BFLOAT16_SHARE if dtype == torch.bfloat16 else 1.0)
    if way == "direct" or weight.device.type != "cpu" or cost >= direct:
        tile = 0
    return Choice(tile, direct, cost)


def _direct_price(dtype: torch.dtype | None) -> float:
    if dtype is None:
        return 1.0
    return _MATRIX_UNIT_PRICE if has_matrix_units() else _BFLOAT16_PRICE


def _frequency_cost(weight: Tensor, map_size: tuple[int, int], valid: int) -> float:
    """Of tiles that make ``valid`` px a side; see `FrequencyConv2d` for the products."""
    out, channels, kernel = weight.shape[:3]
    n, tiles = valid + kernel - 1, math.prod(math.ceil(side / valid) for side in map_size)
    h = n // 2 + 1
    forward = channels * (2 * h * n * n + h * 3 * n * 2 * n)
    inverse = out * (h * 2 * valid * 3 * n + valid * 2 * h * valid)
    products = 3 * h * n * channels * out
    return _FREQUENCY_PRICE * tiles * (forward + inverse + products) + _BYTE_PRICE * 4 * products


class LargeConv2d(nn.Module):
    """A convolution that computes itself as `choose` says for the size of its maps.

    What the frequency domain needs is made from the weights once per size, at the first call.
    """

    def __init__(self, conv: nn.Conv2d, dtype: torch.dtype | None, way: str) -> None:
        """
        Args:
            conv: one that `is_large`; its parameters are shared. dtype, way: see `choose`.
        """
        super().__init__()
        self.direct: nn.Module = conv
        self.weight, self.bias = conv.weight, conv.bias
        self.dtype, self.way = dtype, way
        self.choices: dict[tuple[int, int], Choice] = {}
        self._by_tile: dict[int, FrequencyConv2d] = {}

    def forward(self, maps: Tensor) -> Tensor:
        """maps (N, C, H, W) -> (N, O, H, W)."""
        # A recorded graph is for other machines.
        exported = torch.compiler.is_compiling() and not torch.compiler.is_dynamo_compiling()
        if exported or torch.jit.is_tracing():
            return self.direct(maps)
        size = (maps.shape[-2], maps.shape[-1])
        if size not in self.choices:
            self.choices[size] = choose(self.weight, size, self.dtype, self.way)
        tile = self.choices[size].tile
        if not tile:
            return self.direct(maps)
        return self._in_frequency_domain(maps, tile)

    @torch.compiler.disable
    def _in_frequency_domain(self, maps: Tensor, tile: int) -> Tensor:
        with torch.autocast(maps.device.type, enabled=False):
            if tile not in self._by_tile:
                dtype = torch.bfloat16 if self.dtype == torch.bfloat16 else torch.float32
                self._by_tile[tile] = FrequencyConv2d(self.weight, self.bias, tile, dtype)
            return self._by_tile[tile](maps)

    def describe(self) -> list[str]:
        """One line for every size of maps so far."""
        out, channels, kernel = self.weight.shape[:3]
        name = f"{channels} -> {out}, {kernel}x{kernel}"
        return [
            f"{name} at {height}x{width}: "
            + (f"frequency domain, tiles of {c.tile}" if c.tile else "direct")
            + f" (costs {c.direct_cost / 1e9:.2f} G direct, {c.frequency_cost / 1e9:.2f} G there)"
            for (height, width), c in self.choices.items()
        ]


def is_large(module: nn.Module) -> bool:
    """Whether the frequency domain can compute this module, and may gain."""
    return (
        type(module) is nn.Conv2d
        and module.kernel_size[0] == module.kernel_size[1] >= _MIN_KERNEL
        and module.in_channels >= _MIN_CHANNELS
        and module.stride == module.dilation == (1, 1)
        and module.groups == 1
        and module.padding == tuple(side // 2 for side in module.kernel_size)
        and module.kernel_size[0] % 2 == 1
        and module.padding_mode == "zeros"
    )


def replace_large(model: nn.Module, dtype: torch.dtype | None, way: str) -> None:
    """Put a `LargeConv2d` in the place of every convolution that `is_large`, in place."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if is_large(child):
                setattr(parent, name, LargeConv2d(child, dtype, way))
