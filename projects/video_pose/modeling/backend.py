"""A pose network as the predictor uses it, whatever computes it: PyTorch here, ONNX elsewhere.

Shapes: N images, R rows, C channels, H, W crop px, h, w cells.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor

from video_pose.heatmap_codec import HeatmapCodec
from video_pose.modeling.heatmaps import CenterMap
from video_pose.modeling.video_pose_net import VideoPoseNet


class PoseBackend(Protocol):
    """`encode`, `begin` and `advance` of a model, and what surrounds them."""

    joint_names: list[str]
    codec: HeatmapCodec
    center_map: CenterMap
    flip_channels: list[int]
    reset_every: int
    # Whether states are to be moved with their crops (`alignment.align_state`) before `advance`.
    align_state: bool

    @property
    def device(self) -> torch.device:
        """Where heatmaps are."""

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision to compute in."""

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 (N, 3, H, W) -> what ``begin`` wants of the images, and features (N, ...)."""

    def begin(self, images: Tensor, features: Tensor) -> Any:
        """First images and features of R fresh rows -> their state."""

    def advance(self, features: Tensor, center_map: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Features (R, ...), centre maps (R, 1, h, w), state -> heatmaps (R, C, h, w), state."""


class TorchBackend:
    """A `VideoPoseNet` in evaluation mode."""

    def __init__(self, model: VideoPoseNet) -> None:
        self.model = model.eval()
        self.joint_names = model.joint_names
        self.codec = model.codec
        self.center_map = model.center_map
        self.flip_channels = model.flip_channels
        self.reset_every = model.reset_every
        self.align_state = model.align_state

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    def autocast(self) -> AbstractContextManager[Any]:
        return self.model.autocast()

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        normalized = self.model.normalize(images)
        return normalized, self.model.encode_all(normalized)

    def begin(self, images: Tensor, features: Tensor) -> Any:
        return self.model.begin(images, features)

    def advance(self, features: Tensor, center_map: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.model.advance(features, center_map, state)
