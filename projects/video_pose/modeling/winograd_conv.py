"""Convolutions of 3x3 px by Winograd's products, 4x4 px of the result at once.

A 3x3 convolution takes 9 multiplications a px, this one 36 / 16. Lavin & Gray, "Fast Algorithms for
Convolutional Neural Networks", CVPR 2016, F(4x4, 3x3): with d a tile of 6x6 px and g the weights,

    Y = A' [(G g G') (B' d B)] A

whose transforms along both sides are one matrix here, of all 36 px of a tile.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from video_pose.modeling.matrix_products import TileProducts
from video_pose.modeling.tiling import Tiling

KERNEL, TILE = 3, 6
# Of the transformed tiles that are computed at once: more leave a core's caches.
_BYTES_AT_ONCE = 8 * 1024 * 1024

# B', G and A' of the paper, for the points 0, 1, -1, 2, -2 and infinity.
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_WEIGHT = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = (
    (1, 1, 1, 1, 1, 0),
    (0, 1, -1, 2, -2, 0),
    (0, 1, 1, 4, 4, 0),
    (0, 1, -1, 8, -8, 1),
)


class WinogradConv2d(nn.Module):
    """A size-preserving float32 convolution of 3x3 px, stride 1 and zero padding.

    Args:
        weight: (O, C, 3, 3). bias: (O,). dilation: also the padding. packed: by oneDNN.
    """

    def __init__(
        self, weight: Tensor, bias: Tensor | None, dilation: int = 1, packed: bool = False
    ) -> None:
        super().__init__()
        assert weight.shape[2:] == (KERNEL, KERNEL), weight.shape
        self.out_channels, channels = weight.shape[:2]
        self.tiling = Tiling(TILE, KERNEL, dilation)
        self.at_once = max(1, _BYTES_AT_ONCE // (4 * TILE**2 * max(weight.shape[:2])))
        forward, inverse = (
            torch.kron(matrix, matrix).to(weight.device, torch.float32)
            for matrix in (_matrix(_INPUT), _matrix(_OUTPUT))
        )
        one_side = _matrix(_WEIGHT).to(weight.device)
        transformed = torch.einsum("ia,jb,ocab->ijco", one_side, one_side, weight.double())
        multipliers = transformed.reshape(1, TILE**2, channels, -1).float()
        self.products = TileProducts(forward, multipliers, inverse, packed)
        self.register_buffer("bias", bias)

    def forward(self, maps: Tensor) -> Tensor:
        """maps (N, C, H, W) -> (N, O, H, W) float32, channels last."""
        out = self.tiling.convolve(maps.float(), self._compute, self.out_channels, self.at_once)
        return (out if self.bias is None else out + self.bias).permute(0, 3, 1, 2)

    def _compute(self, tiles: Tensor) -> Tensor:
        side = self.tiling.valid
        return self.products(tiles.flatten(0, 1)[None]).view(side, side, *tiles.shape[2:3], -1)


def _matrix(rows: tuple[tuple[float, ...], ...]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)
