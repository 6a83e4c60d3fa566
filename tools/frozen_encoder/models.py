"""UniPose and UniPose-LSTM without their image network: the encoder's maps come as ``image``.

Everything else (targets, losses, states, decoding) is that of the models themselves. R rows, C
channels, h, w cells.
"""

from __future__ import annotations

from typing import Any

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from unipose_lstm.unipose import UniPose
from unipose_lstm.unipose_lstm import UniPoseLSTM


class _OnMaps(UniPose):
    """What differs: images (N, C, h, w) are features already, at one cell a pixel."""

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__(cfg)
        self._stride = cfg.MODEL.POSE.HEATMAP.STRIDE
        # Nothing of it is trained, tested or saved.
        self.backbone = self.wasp = self.decoder = None

    def encoder_modules(self) -> list[nn.Module]:
        return []

    def normalize(self, images: Tensor) -> Tensor:
        return images.to(self.device).float()

    def encode(self, images: Tensor) -> Tensor:
        return images

    def _center_maps(self, centers: Tensor, crop_size: tuple[int, int]) -> Tensor:
        return super()._center_maps(centers, self._pixels(crop_size))

    def _targets(
        self, batch: list[dict[str, Any]], crop_size: tuple[int, int], map_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        return super()._targets(batch, self._pixels(crop_size), map_size)

    def _pixels(self, cells: tuple[int, int]) -> tuple[int, int]:
        return cells[0] * self._stride, cells[1] * self._stride


@META_ARCH_REGISTRY.register()
class UniPoseOnMaps(_OnMaps):
    """The encoder's own maps as the result, frame by frame."""


@META_ARCH_REGISTRY.register()
class UniPoseLSTMOnMaps(_OnMaps, UniPoseLSTM):
    """The recurrent part alone."""
