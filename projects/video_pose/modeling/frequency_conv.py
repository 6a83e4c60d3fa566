"""Large convolutions in the frequency domain, by real matrix products alone.

A map is cut into overlapping tiles (overlap-save), whose discrete Fourier transforms, products with
the transformed weights and inverse transforms are matrix products: along y, along x, per frequency,
and back. With n frequencies per axis a real tile has h = n // 2 + 1 along y. A complex product
costs three real ones (Gauss): with X = a + i b and V = c + i d,

    k1 = a (d - c),  k2 = b (c + d),  k3 = (a + b) c;   XV = (k3 - k2) + i (k3 + k1)

where the sum a + b and the last line are part of the transforms.
Shapes: N images, C and O channels, H, W map, k kernel, n tile, v = n - k + 1 valid px of a tile, T
tiles.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from video_pose.modeling.matrix_products import TileProducts, multiply
from video_pose.modeling.tiling import Tiling

# Tiles that are computed at once; more only take memory.
_TILES_AT_ONCE = 64
# Of the spectra that are multiplied at once: more leave the caches, less are many small products.
_BYTES_AT_ONCE = 4 * 1024 * 1024


class FrequencyConv2d(nn.Module):
    """A size-preserving convolution of stride 1, zero padding and an odd kernel.

    Args:
        weight: (O, C, k, k). bias: (O,). tile: n >= k.
        dtype: to compute in. bfloat16 has an error of 0.006 of the maps' norm, a direct convolution
            in bfloat16 one of 0.003.
        packed: by oneDNN. map_size: (H, W) of the maps whose spectra to divide for the caches;
            others are computed as well.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        tile: int,
        dtype: torch.dtype = torch.float32,
        *,
        packed: bool = False,
        map_size: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        kernel = weight.shape[-1]
        assert weight.shape[-2] == kernel and kernel % 2 == 1 and tile >= kernel, (
            weight.shape,
            tile,
        )
        self.tiling = Tiling(tile, kernel)
        self.out_channels, self.dtype, self.packed = weight.shape[0], dtype, packed
        self.frequencies = tile // 2 + 1
        transforms = {
            name: matrix.to(weight.device, dtype)
            for name, matrix in _transforms(tile, self.tiling.valid).items()
        }
        self.register_buffer("forward_y", transforms["forward_y"])
        self.register_buffer("inverse_y", transforms["inverse_y"])
        spectra = 3 * tile * min(self.tiling.tiles(*map_size), _TILES_AT_ONCE)
        row_bytes = spectra * max(weight.shape[:2]) * self.forward_y.element_size()
        self.rows_at_once = max(1, _BYTES_AT_ONCE // max(1, row_bytes))
        self.products = nn.ModuleList(
            TileProducts(transforms["forward_x"], rows, transforms["inverse_x"], packed)
            for rows in _multipliers(weight, tile).to(dtype).split(self.rows_at_once)
        )
        self.register_buffer("bias", None if bias is None else bias.to(dtype))

    def forward(self, maps: Tensor) -> Tensor:
        """maps (N, C, H, W) -> (N, O, H, W) of this module's type, channels last."""
        maps = maps.to(self.dtype)
        out = self.tiling.convolve(maps, self._compute, self.out_channels, _TILES_AT_ONCE)
        return (out if self.bias is None else out + self.bias).permute(0, 3, 1, 2)

    def _compute(self, tiles: Tensor) -> Tensor:
        """tiles (y, x, T, C) -> (y, x, T, O)."""
        n, v, h = self.tiling.tile, self.tiling.valid, self.frequencies
        count = tiles.shape[2]
        by_y = multiply(self.forward_y, tiles.view(n, -1), self.packed)
        rows = by_y.view(h, 2 * n, count, -1).split(self.rows_at_once)  # (ky, re/im x, T, C)
        by_x = [part(chosen) for part, chosen in zip(self.products, rows, strict=True)]
        out = multiply(self.inverse_y, torch.cat(by_x).reshape(2 * h, -1), self.packed)
        return out.view(v, v, count, -1)


def _transforms(n: int, valid: int) -> dict[str, Tensor]:
    """The four real matrices of transform and inverse; the inverse ones make valid px alone.

    forward_y (h re/im, y), forward_x (kx 3, re/im x), inverse_x (re/im x, kx 3), inverse_y (y, h
    re/im).
    """
    h = n // 2 + 1
    turn = torch.arange(n, dtype=torch.float64)
    angle = 2 * math.pi / n * torch.outer(turn, turn)
    c, s = angle.cos(), angle.sin()
    forward_y = torch.stack([c[:h], -s[:h]], 1)
    real, imaginary = torch.stack([c, s], 1), torch.stack([-s, c], 1)
    forward_x = torch.stack([real, imaginary, real + imaginary], 1)
    # Of k1, k2 and k3, from which real and imaginary parts follow as at the head of this file.
    c, s = c[:valid] / n, s[:valid] / n
    inverse_x = torch.stack([torch.stack([-s, -c, c - s], 2), torch.stack([c, -s, c + s], 2)])
    # All frequencies but 0 and n / 2 stand for two.
    twice = torch.full((h,), 2.0, dtype=torch.float64)
    twice[0] = 1
    if n % 2 == 0:
        twice[-1] = 1
    inverse_y = torch.stack([c[:, :h] * twice, -s[:, :h] * twice], 2)
    return {
        "forward_y": forward_y.reshape(2 * h, n),
        "forward_x": forward_x.reshape(3 * n, 2 * n),
        "inverse_x": inverse_x.reshape(2 * valid, 3 * n),
        "inverse_y": inverse_y.reshape(valid, 2 * h),
    }


def _multipliers(weight: Tensor, n: int) -> Tensor:
    """d - c, c + d and c of every frequency's weights V: (ky, kx 3, C, O)."""
    # What networks call a convolution is a correlation, hence the conjugate.
    spectrum = torch.fft.rfftn(weight.float(), s=(n, n), dim=(-1, -2)).conj()
    c, d = spectrum.real, spectrum.imag  # (O, C, ky, kx)
    factors = torch.stack([d - c, c + d, c]).permute(3, 4, 0, 2, 1)
    return factors.reshape(n // 2 + 1, 3 * n, weight.shape[1], weight.shape[0])
