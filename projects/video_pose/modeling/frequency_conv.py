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
import torch.nn.functional as F
from torch import Tensor, nn

# Tiles that are computed at once; more only take memory.
_TILES_AT_ONCE = 64


class FrequencyConv2d(nn.Module):
    """A size-preserving convolution of stride 1, zero padding and an odd kernel.

    Args:
        weight: (O, C, k, k). bias: (O,). tile: n >= k.
        dtype: of the transform and the products; the way back is float32. bfloat16 has an error
            of 0.005 of the maps' norm, a direct convolution in bfloat16 one of 0.003.
    """

    def __init__(
        self,
        weight: Tensor,
        bias: Tensor | None,
        tile: int,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        kernel = weight.shape[-1]
        assert weight.shape[-2] == kernel and kernel % 2 == 1 and tile >= kernel, (
            weight.shape,
            tile,
        )
        self.kernel, self.tile, self.valid = kernel, tile, tile - kernel + 1
        self.out_channels, self.frequencies = weight.shape[0], tile // 2 + 1
        for name, matrix in _transforms(tile, self.valid).items():
            way_back = name.startswith("inverse")
            matrix = matrix.to(weight.device, torch.float32 if way_back else dtype)
            self.register_buffer(name, matrix)
        self.register_buffer("multipliers", _multipliers(weight, tile).to(dtype))
        self.register_buffer("bias", bias)

    def forward(self, maps: Tensor) -> Tensor:
        """maps (N, C, H, W) -> (N, O, H, W) float32, channels last."""
        maps = maps.to(self.multipliers.dtype)
        height, width = maps.shape[-2:]
        down, across = (math.ceil(side / self.valid) for side in (height, width))
        per_call = max(1, _TILES_AT_ONCE // (down * across))
        parts = [self._convolve(part, down, across) for part in maps.split(per_call)]
        out = torch.cat(parts) if len(parts) > 1 else parts[0]
        out = out[:, :height, :width]
        return (out if self.bias is None else out + self.bias).permute(0, 3, 1, 2)

    def _convolve(self, maps: Tensor, down: int, across: int) -> Tensor:
        """maps (N, C, H, W) -> (N, down v, across v, O), without bias."""
        images, n, v, h = len(maps), self.tile, self.valid, self.frequencies
        tiles = self._cut(maps, down, across)  # (y, x T C)
        count = images * down * across
        channels = tiles.shape[1] // (n * count)
        by_y = (self.forward_y @ tiles).view(h, 2 * n, count * channels)  # (ky, re/im x, T C)
        spectra = torch.matmul(self.forward_x, by_y)  # (ky, kx 3, T C)
        products = torch.bmm(spectra.view(h * n * 3, count, channels), self.multipliers)
        by_x = torch.matmul(
            self.inverse_x, products.view(h, n * 3, -1).float()
        )  # (ky, re/im x, T O)
        out = self.inverse_y @ by_x.view(h * 2, -1)  # (y, x T O)
        out = out.view(v, v, images, down, across, self.out_channels)
        return out.permute(2, 3, 0, 4, 1, 5).reshape(images, down * v, across * v, -1)

    def _cut(self, maps: Tensor, down: int, across: int) -> Tensor:
        """Overlapping tiles of the padded maps: (n, n N down across C), rows first."""
        n, v, before = self.tile, self.valid, self.kernel // 2
        images, channels, height, width = maps.shape
        after = (across * v - width + n - v - before, down * v - height + n - v - before)
        padded = F.pad(maps.permute(0, 2, 3, 1), (0, 0, before, after[0], before, after[1]))
        image, y, x, c = padded.stride()
        tiles = padded.as_strided(
            (n, n, images, down, across, channels), (y, x, image, v * y, v * x, c)
        )
        return tiles.reshape(n, -1)


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
    """d - c, c + d and c of every frequency's weights V: (h n 3, C, O)."""
    # What networks call a convolution is a correlation, hence the conjugate.
    spectrum = torch.fft.rfftn(weight.float(), s=(n, n), dim=(-1, -2)).conj()
    c, d = spectrum.real, spectrum.imag  # (O, C, ky, kx)
    factors = torch.stack([d - c, c + d, c]).permute(3, 4, 0, 2, 1)
    return factors.reshape(-1, weight.shape[1], weight.shape[0]).contiguous()
