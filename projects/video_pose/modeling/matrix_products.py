"""Products of matrices, by oneDNN where `packed_conv.can_pack` says that it computes here.

PyTorch gives float32 products to a library that is fast on the processors of its own maker alone:
elsewhere oneDNN's take half the time and less.
Shapes: F products of (T, C) and (C, O), as the frequencies of T tiles.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_pose.modeling import packed_conv
from video_pose.modeling.packed_conv import PackedConv2d

# Reading all weights once, which every call does, takes as long as so many rows of products.
_CALL_ROWS = 24


def multiply(left: Tensor, right: Tensor, packed: bool) -> Tensor:
    """left (m, r) @ right (r, c) -> (m, c); ``packed`` is by oneDNN."""
    return packed_conv.multiply(left, right) if packed else left @ right


class MatrixProducts(nn.Module):
    """(F, T, C) -> (F, T, O), every one with a matrix of its own.

    For oneDNN they are one convolution of 1x1 px in F groups, whose weights are packed for one or
    two numbers T. Other numbers are computed that many at a time: with weights in the layout of
    another number oneDNN brings them into its own at every call, which can take a hundred times as
    long as the products.

    Args:
        multipliers: (F, C, O), of the type to compute in. packed: by oneDNN.
    """

    def __init__(self, multipliers: Tensor, packed: bool) -> None:
        super().__init__()
        self.count, channels, self.out_channels = multipliers.shape
        self.sizes: list[int] = []  # T that weights are packed for
        self.convolution: PackedConv2d | None = None
        if packed:
            weight = multipliers.transpose(1, 2).reshape(-1, channels, 1, 1)
            self.convolution = PackedConv2d(_grouped(weight, self.count), multipliers.dtype)
        else:
            self.register_buffer("multipliers", multipliers.contiguous())

    def forward(self, factors: Tensor) -> Tensor:
        """factors (F, T, C) -> (F, T, O), contiguous."""
        if self.convolution is None:
            return torch.bmm(factors, self.multipliers)
        count = factors.shape[1]
        size = self._choose_size(count)
        by_row = factors.transpose(0, 1).reshape(count, -1)
        by_row = F.pad(by_row, (0, 0, 0, -count % size)) if count % size else by_row
        found = [self._multiply(part) for part in by_row.split(size)]
        out = found[0] if len(found) == 1 else torch.cat(found)
        return out[:count].view(count, self.count, self.out_channels).transpose(0, 1).contiguous()

    def _choose_size(self, count: int) -> int:
        """The size, a new one where two can be far apart, in which ``count`` costs least."""
        if not self.sizes or (
            len(self.sizes) == 1 and not self.sizes[0] < 2 * count < 4 * self.sizes[0]
        ):
            self.sizes.append(count)
        return min(self.sizes, key=lambda size: -(-count // size) * (size + _CALL_ROWS))

    def _multiply(self, by_row: Tensor) -> Tensor:
        """by_row (T, F C) -> (T, F O)."""
        rows, width = by_row.shape
        # A picture of T x 1 px. Sides of 1 px leave strides open, of which these say channels last.
        picture = by_row.as_strided(
            (1, width, rows, 1), (rows * width, 1, width, width), by_row.storage_offset()
        )
        assert self.convolution is not None
        return self.convolution(picture, layout=rows).permute(0, 2, 3, 1).reshape(rows, -1)


def _grouped(weight: Tensor, groups: int) -> nn.Conv2d:
    """A convolution of 1x1 px in groups, weight (groups O, C, 1, 1)."""
    out_channels, channels = weight.shape[:2]
    # "meta": nothing is allocated, nor drawn at random, that is replaced at once.
    conv = nn.Conv2d(groups * channels, out_channels, 1, groups=groups, bias=False, device="meta")
    conv.weight = nn.Parameter(weight, requires_grad=False)
    return conv


class TileProducts(nn.Module):
    """Tiles to frequencies, a product for every one of these, and back.

    For g sets of tiles at once, whose transforms are the same:
    (g, r, T, C) -> (g, f, T, C) -> (g, f, T, O) -> (g, q, T, O).

    Args:
        forward_matrix: (f, r). multipliers: (g, f, C, O). inverse_matrix: (q, f). All of the type
            to compute in.
        packed: by oneDNN.
    """

    def __init__(
        self, forward_matrix: Tensor, multipliers: Tensor, inverse_matrix: Tensor, packed: bool
    ) -> None:
        super().__init__()
        self.packed = packed
        self.register_buffer("forward_matrix", forward_matrix)
        self.register_buffer("inverse_matrix", inverse_matrix)
        # Sets lie within a frequency, so that one product of matrices transforms them all.
        by_frequency = multipliers.transpose(0, 1).flatten(0, 1)
        self.products = MatrixProducts(by_frequency, packed)

    def forward(self, tiles: Tensor) -> Tensor:
        """tiles (g, r, T, C) -> (g, q, T, O)."""
        sets, values, count, channels = tiles.shape
        by_value = tiles.transpose(0, 1).reshape(values, -1)
        spectra = multiply(self.forward_matrix, by_value, self.packed)
        found = self.products(spectra.view(-1, count, channels))
        out = multiply(self.inverse_matrix, found.view(len(spectra), -1), self.packed)
        return out.view(len(out), sets, count, -1).transpose(0, 1)
