"""How to compute a convolution at inference: direct, by Winograd's products or by frequencies.

The one place where that is chosen. The rule counts what each way multiplies and moves in memory,
in direct float32 multiplications. Its prices were fitted to PyTorch's CPU operators, which they
predict within a tenth.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn

from video_pose.modeling import winograd_conv
from video_pose.modeling.precision import has_matrix_units
from video_pose.modeling.tiling import Tiling

WAYS = ("auto", "direct")
# bfloat16 multiplications on a CPU that has instructions, and one that has matrix units for them.
_BFLOAT16_PRICE, _MATRIX_UNIT_PRICE = 0.5, 1 / 8
# A multiplication in products that are not oneDNN's.
_UNPACKED_PRICE = 2.5
# A byte of tiles that is copied, one of weights that are read, and the calls of operators.
_COPY_PRICE, _WEIGHT_PRICE, _CALLS = 20.0, 6.0, 25e6
_MIN_FREQUENCY_KERNEL = 5
_MAX_TILE = 64
# That share the reading of weights in Winograd's products, which the encoder computes for several
# frames at once. It is one number, so that the way, and with it the rounding, of a frame does not
# depend on how many others come along.
_IMAGES = 4


class Choice(NamedTuple):
    """How a convolution is computed on maps of one size."""

    way: str  # "direct", "Winograd" or "frequency domain"
    tile: int  # px a side; 0: direct
    direct_cost: float  # in direct float32 multiplications, an image
    tile_cost: float  # of the cheapest tiles, likewise


def choose(
    conv: nn.Conv2d,
    map_size: tuple[int, int],
    dtype: torch.dtype | None,
    way: str = "auto",
    packed: bool = True,
) -> Choice:
    """The cheapest way to convolve.

    Winograd's products are for float32 alone: in half precision they lose too much.

    Args:
        conv: one that `large_conv.is_large`, on the device that computes. map_size: (H, W).
        dtype: of inference; None is float32.
        way: "auto", or "direct" for no other.
        packed: whether products are oneDNN's.

    Raises:
        ValueError: unknown ``way``.
    """
    if way not in WAYS:
        raise ValueError(f"large convolutions {way!r}: choose from {WAYS}")
    price = _multiplication_price(dtype)
    direct = price * _count_direct(conv, map_size)
    # By tiles, half precision of another kind than bfloat16 is computed in float32.
    tile_dtype = dtype if dtype == torch.bfloat16 else None
    tile_price = _multiplication_price(tile_dtype) * (1.0 if packed else _UNPACKED_PRICE)
    name, tile, cost = "Winograd", winograd_conv.TILE, math.inf
    if conv.kernel_size[0] >= _MIN_FREQUENCY_KERNEL:
        name = "frequency domain"
        tile, cost = _cheapest_frequencies(conv, map_size, tile_dtype, tile_price)
    elif dtype is None:
        cost = _cost(*_count_winograd(conv, map_size), dtype, tile_price, _IMAGES)
    if way == "direct" or conv.weight.device.type != "cpu" or cost >= direct:
        name, tile = "direct", 0
    return Choice(name, tile, direct, cost)


def _multiplication_price(dtype: torch.dtype | None) -> float:
    if dtype is None:
        return 1.0
    return _MATRIX_UNIT_PRICE if has_matrix_units() else _BFLOAT16_PRICE


def _count_direct(conv: nn.Conv2d, map_size: tuple[int, int]) -> float:
    """Multiplications by px of the map; oneDNN leaves those by its padding out."""
    reach = conv.dilation[0] * (conv.kernel_size[0] // 2)
    offsets = range(-reach, reach + 1, conv.dilation[0])
    px = math.prod(sum(max(0, side - abs(o)) for o in offsets) for side in map_size)
    return conv.in_channels * conv.out_channels * px


def _cost(
    multiplications: float,
    copied: float,
    weights: float,
    dtype: torch.dtype | None,
    price: float,
    images: int = 1,
) -> float:
    """An image's; weights are read, and operators called, once for all."""
    size = 4 if dtype is None else 2
    shared = (size * _WEIGHT_PRICE * weights + _CALLS) / images
    return price * multiplications + size * _COPY_PRICE * copied + shared


def _count_winograd(conv: nn.Conv2d, map_size: tuple[int, int]) -> tuple[float, float, float]:
    """Multiplications, values that are copied, and weights."""
    c, o, n = conv.in_channels, conv.out_channels, winograd_conv.TILE**2
    tiling = Tiling(winograd_conv.TILE, winograd_conv.KERNEL, conv.dilation[0])
    tiles, v = tiling.tiles(*map_size), tiling.valid**2
    transforms = n * n * c + v * n * o
    copied = tiles * (2 * n * c + (n + v) * o) + math.prod(map_size) * (c + o)
    return tiles * (transforms + n * c * o), copied, n * c * o


def _cheapest_frequencies(
    conv: nn.Conv2d, map_size: tuple[int, int], dtype: torch.dtype | None, price: float
) -> tuple[int, float]:
    """The tile that costs least, and what."""
    largest = min(max(map_size), _MAX_TILE - conv.kernel_size[0] + 1)
    costs = {
        tile: _cost(*_count_frequencies(conv, map_size, tile), dtype, price)
        for tile in range(conv.kernel_size[0], largest + conv.kernel_size[0])
    }
    tile = min(costs, key=lambda n: costs[n], default=0)
    return tile, costs.get(tile, math.inf)


def _count_frequencies(
    conv: nn.Conv2d, map_size: tuple[int, int], n: int
) -> tuple[float, float, float]:
    """As `_count_winograd`, of tiles of n px; see `FrequencyConv2d` for the products."""
    c, o = conv.in_channels, conv.out_channels
    tiling = Tiling(n, conv.kernel_size[0])
    tiles, v, h = tiling.tiles(*map_size), tiling.valid, n // 2 + 1
    forward = c * (2 * h * n * n + h * 3 * n * 2 * n)
    inverse = o * (h * 2 * v * 3 * n + v * 2 * h * v)
    weights = 3 * h * n * c * o
    copied = c * (n * n + 5 * h * n) + o * (3 * h * n + 4 * h * v + v * v)
    moved = tiles * copied + math.prod(map_size) * (c + o)
    return tiles * (forward + inverse + weights), moved, weights
