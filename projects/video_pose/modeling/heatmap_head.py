"""The convolutions that turn an LSTM's hidden maps into heatmaps, of one shape in both papers."""

from __future__ import annotations

from torch import Tensor, nn


class HeatmapHead(nn.Sequential):
    """``num_large`` large convolutions, a 1x1 and an output 1x1; ReLU between them.

    The papers' sizes: three 11x11 convolutions of 128 channels, 1x1 of 128, 1x1 of K + 1.

    Args:
        in_channels, channels, out_channels: of the input, of the inner layers and of the heatmaps.
        kernel_size: of the large convolutions, odd.
        num_large: how many there are, >= 1.
        final_relu: also a ReLU after the output (the released UniPose-LSTM).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        channels: int = 128,
        kernel_size: int = 11,
        num_large: int = 3,
        final_relu: bool = False,
    ) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {kernel_size} of a heatmap head must be odd")
        if num_large < 1:
            raise ValueError(f"num_large {num_large} of a heatmap head must be at least 1")
        layers: list[nn.Module] = []
        width = in_channels
        for _ in range(num_large):
            layers += [nn.Conv2d(width, channels, kernel_size, padding=kernel_size // 2), nn.ReLU()]
            width = channels
        layers += [nn.Conv2d(width, channels, 1), nn.ReLU(), nn.Conv2d(channels, out_channels, 1)]
        if final_relu:
            layers.append(nn.ReLU())
        super().__init__(*layers)
        convolutions = self.convolutions()
        for conv in convolutions:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
        nn.init.normal_(convolutions[-1].weight, std=0.01)

    def convolutions(self) -> list[nn.Conv2d]:
        """The convolutions in order; the last one makes the heatmaps."""
        return [layer for layer in self if isinstance(layer, nn.Conv2d)]

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden (R, in_channels, h, w) -> heatmaps (R, out_channels, h, w)."""
        return super().forward(hidden)
