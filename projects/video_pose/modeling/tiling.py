"""Maps as overlapping tiles, and back (overlap-save).

Shapes: N images, C and O channels, H, W map, k kernel, d dilation, n tile, v = n - k + 1 valid px
of a tile, T tiles. A dilated convolution is d x d undilated ones, on every d-th row and column.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor


class Tiling(NamedTuple):
    """Tiles for a size-preserving convolution with zero padding, stride 1 and an odd kernel."""

    tile: int
    kernel: int
    dilation: int = 1

    @property
    def valid(self) -> int:
        """px of the result that a tile gives, a side."""
        return self.tile - self.kernel + 1

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Tiles down and across for each of the d x d parts of a map."""
        step = self.valid * self.dilation
        return math.ceil(height / step), math.ceil(width / step)

    def tiles(self, height: int, width: int) -> int:
        """How many tiles a map has."""
        return self.dilation**2 * math.prod(self.grid(height, width))

    def convolve(
        self, maps: Tensor, compute: Callable[[Tensor], Tensor], out_channels: int, at_once: int
    ) -> Tensor:
        """maps (N, C, H, W) -> (N, H, W, O), of the type that ``compute`` gives.

        Args:
            compute: contiguous tiles (n, n, T, C) -> (v, v, T, O).
            at_once: tiles to compute at once, more only where a row of them is longer.
        """
        height, width = maps.shape[-2:]
        if len(maps) == 0:
            return maps.new_empty((0, height, width, out_channels))
        down, across = self.grid(height, width)
        tiles = self._cut(maps, down, across)
        images, v, d = len(maps), self.valid, self.dilation
        shape = (images, down, v, d, across, v, d, out_channels)
        out: Tensor | None = None
        for chosen, rows in _parts(images, down, d * d * across, at_once):
            part = tiles[:, :, chosen, :, :, rows]
            part = part.reshape(self.tile, self.tile, -1, maps.shape[1])
            found = compute(part.contiguous())
            if out is None:
                out = found.new_empty(shape)
            place = out[chosen, rows].permute(2, 5, 0, 3, 6, 1, 4, 7)
            place.copy_(found.view(place.shape))
        assert out is not None
        return out.view(images, down * v * d, across * v * d, -1)[:, :height, :width]

    def _cut(self, maps: Tensor, down: int, across: int) -> Tensor:
        """A view of the padded maps: (n, n, N, d, d, down, across, C)."""
        n, v, d = self.tile, self.valid, self.dilation
        images, channels, height, width = maps.shape
        before = d * (self.kernel // 2)
        bottom, right = (
            d * (tiles * v + self.kernel - 1) - before - side
            for tiles, side in ((down, height), (across, width))
        )
        padded = F.pad(maps.permute(0, 2, 3, 1), (0, 0, before, right, before, bottom))
        image, y, x, c = padded.stride()
        return padded.as_strided(
            (n, n, images, d, d, down, across, channels),
            (d * y, d * x, image, y, x, d * v * y, d * v * x, c),
        )


def _parts(images: int, down: int, row_tiles: int, at_once: int) -> list[tuple[slice, slice]]:
    """Images and rows of tiles whose tiles are at most ``at_once``, of nearly equal numbers."""
    tiles = down * row_tiles
    if tiles <= at_once:
        together = _even(images, at_once // tiles)
        return [(slice(i, i + together), slice(None)) for i in range(0, images, together)]
    rows = _even(down, at_once // row_tiles)
    starts = range(0, down, rows)
    return [(slice(i, i + 1), slice(y, y + rows)) for i in range(images) for y in starts]


def _even(count: int, most: int) -> int:
    """How many of ``count`` to take at once, at most ``most``, so that the rest is not small."""
    return math.ceil(count / math.ceil(count / max(1, most)))
