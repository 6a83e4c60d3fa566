"""UniPose's decoder: WASP's and low-level features to heatmaps (section 3.2 of the paper)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from torch import Tensor, nn

from unipose_lstm.wasp import conv_norm_relu


class Decoder(nn.Module):
    """Heatmaps at half the low-level features' resolution.

    Args:
        low_channels: of the backbone's low-level features (stride 4).
        wasp_channels: of WASP's output. reduced_channels: low-level features are reduced to these.
        channels: of the two 3x3 convolutions. out_channels: heatmaps, background included.
        norm: Detectron2's name of a norm. dropout: after the first and the second 3x3 convolution.
    """

    def __init__(
        self,
        *,
        low_channels: int,
        wasp_channels: int,
        reduced_channels: int = 48,
        channels: int = 256,
        out_channels: int,
        norm: str = "BN",
        dropout: tuple[float, float] = (0.5, 0.1),
    ) -> None:
        super().__init__()
        self.reduce = conv_norm_relu(low_channels, reduced_channels, 1, norm)
        self.conv1 = conv_norm_relu(wasp_channels + reduced_channels, channels, 3, norm)
        self.dropout1 = nn.Dropout(dropout[0])
        self.conv2 = conv_norm_relu(channels, channels, 3, norm)
        self.dropout2 = nn.Dropout(dropout[1])
        self.predict = Conv2d(channels, out_channels, 1)
        nn.init.normal_(self.predict.weight, std=0.01)
        nn.init.zeros_(self.predict.bias)

    def forward(self, wasp: Tensor, low: Tensor) -> Tensor:
        """Heatmaps (N, out_channels, h, w).

        Args:
            wasp: (N, wasp_channels, h', w'). low: (N, low_channels, 2h, 2w).
        """
        low = F.max_pool2d(self.reduce(low), kernel_size=3, stride=2, padding=1)
        wasp = F.interpolate(wasp, size=low.shape[-2:], mode="bilinear", align_corners=True)
        x = self.dropout1(self.conv1(torch.cat([wasp, low], 1)))
        return self.predict(self.dropout2(self.conv2(x)))
