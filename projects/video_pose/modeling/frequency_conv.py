"""A convolution of a large kernel as products in the frequency domain, tile by tile.

By the overlap-save method: tiles that overlap by the kernel are transformed, multiplied by the
kernel's conjugate spectrum, and transformed back; what wraps around a tile's end is left out. All
transforms are products with matrices of sines and cosines, so that any engine computes them fast.
A real signal of t samples has v = t / 2 + 1 different frequencies along its last axis.

Shapes: N images, C, O channels in and out, H, W cells, t side of a tile, i, j tiles of a column and
of a row of them, 2 parts (real, imaginary).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# Cells along a tile's side. Larger tiles waste less on overlap, and read more weights: for kernels
# of 9 and 11 cells, 16 to 24 took the least time.
TILE = 24


class FrequencyConv2d(nn.Module):
    """The same as a convolution of stride 1 that keeps the maps' size, within rounding."""

    def __init__(self, conv: nn.Conv2d, tile: int = TILE) -> None:
        """``tile``: even, larger than the kernel.

        Raises:
            ValueError: a convolution of another kind, or such a tile.
        """
        super().__init__()
        if not has_frequency_form(conv) or tile % 2 or tile <= conv.kernel_size[0]:
            raise ValueError(f"{conv} has no frequency form with tiles of {tile}")
        self.kernel, self.tile = conv.kernel_size[0], tile
        self.step = tile - self.kernel + 1
        weight = conv.weight.detach()
        # (O, C, t, v, 2) -> (2, t v, C, O)
        spectrum = torch.view_as_real(torch.fft.rfft2(weight, s=(tile, tile)).conj().resolve_conj())
        spectrum = spectrum.permute(4, 2, 3, 1, 0).flatten(1, 2)
        self.register_buffer("spectrum", spectrum.contiguous())
        for name, matrix in _transforms(tile, self.step).items():
            self.register_buffer(name, matrix.to(weight.dtype))
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach().clone())

    def forward(self, maps: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, O, H, W)."""
        images, _, height, width = maps.shape
        pad, t = self.kernel // 2, self.tile
        rows, columns = (math.ceil(side / self.step) for side in (height, width))
        below, right = (n * self.step - side for n, side in ((rows, height), (columns, width)))
        padded = F.pad(maps, (pad, pad + right, pad, pad + below))
        # Along rows of pixels: (t, N H j C) -> (2 v, N H j C).
        strips = padded.unfold(3, t, self.step).permute(4, 0, 2, 3, 1)
        lines = self.forth_x @ strips.reshape(t, -1)
        # Along columns of pixels: (2 t, v N i j C) -> (2 t, v N i j C).
        lines = lines.view(2, -1, *strips.shape[1:]).unfold(3, t, self.step)
        tiles = self.forth_y @ lines.permute(0, 6, 1, 2, 3, 4, 5).reshape(2 * t, -1)
        real, imaginary = tiles.view(2, self.spectrum.shape[1], -1, maps.shape[1])
        own, other = self.spectrum
        products = torch.stack(
            [real @ own - imaginary @ other, real @ other + imaginary @ own]
        )  # (2, t v, N i j, O)
        # Back: (2 t, v N i j O) -> (step, 2 v, N i j O) -> (step, step, N i j O).
        lines = (self.back_y @ products.view(2 * t, -1)).view(self.step, self.back_x.shape[1], -1)
        pixels = (self.back_x @ lines).view(self.step, self.step, images, rows, columns, -1)
        whole = (images, rows * self.step, columns * self.step, -1)
        out = pixels.permute(2, 3, 0, 4, 1, 5).reshape(whole)[:, :height, :width]
        return (out if self.bias is None else out + self.bias).permute(0, 3, 1, 2)


def has_frequency_form(module: nn.Module) -> bool:
    """Whether it is a plain convolution of an odd kernel that keeps the maps' size."""
    if not isinstance(module, nn.Conv2d) or getattr(module, "norm", None) is not None:
        return False
    kernel = module.kernel_size[0]
    return (
        kernel % 2 == 1
        and module.kernel_size == (kernel, kernel)
        and module.padding == (kernel // 2, kernel // 2)
        and (module.stride, module.dilation, module.groups) == ((1, 1), (1, 1), 1)
        and module.padding_mode == "zeros"
        and getattr(module, "activation", None) is None
    )


def _transforms(t: int, step: int) -> dict[str, Tensor]:
    """Matrices of the discrete Fourier transform, of which only ``step`` samples come back."""
    samples = torch.arange(t, dtype=torch.float64)
    angles = 2 * math.pi / t * torch.outer(samples, samples)
    cos, sin = angles.cos(), angles.sin()
    v = t // 2 + 1
    # Frequencies between the first and the last one stand for their mirror images as well.
    weight = torch.full((v,), 2.0 / t, dtype=torch.float64)
    weight[0] = weight[-1] = 1.0 / t
    return {
        # (2 v, t); parts come first.
        "forth_x": torch.cat([cos[:v], -sin[:v]]),
        # (2 t, 2 t): of parts and rows to parts and frequencies.
        "forth_y": torch.cat([torch.cat([cos, sin], 1), torch.cat([-sin, cos], 1)]),
        # (step 2, 2 t): rows come first.
        "back_y": torch.stack(
            [torch.cat([cos, -sin], 1)[:step], torch.cat([sin, cos], 1)[:step]], 1
        ).flatten(0, 1)
        / t,
        # (step, 2 v)
        "back_x": torch.cat([cos[:step, :v] * weight, -sin[:step, :v] * weight], 1),
    }
