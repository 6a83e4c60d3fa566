"""The convolutions of a convolutional pose machine, as LSTM Pose Machines use them per frame.

Luo et al., CVPR 2018, section 3.3 (ConvNet1 and ConvNet2). Shapes: N images, C = K + 1 channels,
H, W crop px, h, w cells.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn


class FrameFeatures(nn.Sequential):
    """ConvNet2: pooled convolutions and a last one without pooling, all with ReLU.

    Pooling is 3x3, stride 2, without padding, and **rounds up**, as Caffe's does: 368 px become
    184, 92 and 46 cells, where PyTorch's default would end at 45.

    Args:
        channels: width of each pooled convolution. kernel_size: theirs, odd.
        feature_channels, feature_kernel: of the last convolution.
    """

    def __init__(
        self,
        *,
        channels: Sequence[int] = (128, 128, 128),
        kernel_size: int = 9,
        feature_channels: int = 32,
        feature_kernel: int = 5,
    ) -> None:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        width = 3
        for i, out in enumerate(channels, start=1):
            layers[f"conv{i}"] = same_convolution(width, out, kernel_size)
            layers[f"relu{i}"] = nn.ReLU(inplace=True)
            layers[f"pool{i}"] = nn.MaxPool2d(3, stride=2, ceil_mode=True)
            width = out
        last = len(channels) + 1
        layers[f"conv{last}"] = same_convolution(width, feature_channels, feature_kernel)
        layers[f"relu{last}"] = nn.ReLU(inplace=True)
        super().__init__(layers)
        self.num_poolings = len(channels)
        self.out_channels = feature_channels

    def forward(self, images: Tensor) -> Tensor:
        """images (N, 3, H, W) -> features (N, feature_channels, h, w)."""
        return super().forward(images)


class InitialMaps(FrameFeatures):
    """ConvNet1: `FrameFeatures` with weights of its own, then three convolutions to heatmaps.

    Args:
        out_channels: of the maps, background included.
        hidden_channels, hidden_kernel: of the large convolution after the features.
        dropout: after each of the two hidden convolutions.
        stem: the arguments of `FrameFeatures`.
    """

    def __init__(
        self,
        out_channels: int,
        *,
        hidden_channels: int = 512,
        hidden_kernel: int = 9,
        dropout: float = 0.5,
        **stem: Any,
    ) -> None:
        super().__init__(**stem)
        first = self.num_poolings + 2
        width, kernel = self.out_channels, hidden_kernel
        for i in (first, first + 1):
            self.add_module(f"conv{i}", same_convolution(width, hidden_channels, kernel))
            self.add_module(f"relu{i}", nn.ReLU(inplace=True))
            self.add_module(f"dropout{i}", nn.Dropout(dropout))
            width, kernel = hidden_channels, 1
        predict = same_convolution(width, out_channels, 1)
        nn.init.normal_(predict.weight, std=0.01)
        self.add_module(f"conv{first + 2}", predict)
        self.predict_name = f"conv{first + 2}"
        self.out_channels = out_channels

    def forward(self, images: Tensor) -> Tensor:
        """images (N, 3, H, W) -> heatmaps (N, C, h, w)."""
        return super().forward(images)


def same_convolution(in_channels: int, out_channels: int, kernel_size: int) -> nn.Conv2d:
    """A size-preserving convolution with a bias, initialised after He et al.

    Raises:
        ValueError: an even kernel has no centre.
    """
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size {kernel_size} of a convolution of MODEL.LSTM_PM must be odd")
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    nn.init.zeros_(conv.bias)
    return conv
