"""A toy network whose maps can be worked out by hand, and random clips for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_pose.heatmap_codec import HeatmapCodec
from video_pose.modeling.heatmaps import CenterMap
from video_pose.modeling.video_pose_net import VideoPoseNet

JOINTS = ["head", "right_hand", "left_hand"]
SIDE, CELLS = 64, 8


class Total(NamedTuple):
    maps: Tensor  # (R, C, h, w)
    fresh: Tensor  # (R, 1, 1, 1)


class ToyNet(VideoPoseNet):
    """Features: pooled images through a 1x1 convolution. Maps: half the last ones, or half of 1,
    plus features plus the centre map."""

    def __init__(self, **kwargs: Any) -> None:
        arguments = {
            "joint_names": JOINTS,
            "flip_map": [("left_hand", "right_hand")],
            "codec": HeatmapCodec(stride=8, sigma=8.0, background="first", decode="argmax"),
            "center_map": CenterMap(sigma=8.0, padding=1, ceil=False),
            "pixel_mean": [100.0, 50.0, 0.0],
            "pixel_std": [50.0, 100.0, 200.0],
        }
        super().__init__(**(arguments | kwargs))
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.gain = nn.Parameter(torch.ones(1))
        self.encoded: list[int] = []

    def encoder_modules(self) -> list[nn.Module]:
        return [self.encoder]

    def encode(self, images: Tensor) -> Tensor:
        self.encoded.append(len(images))
        return self.encoder(F.avg_pool2d(images, 8))

    def begin(self, images: Tensor, features: Tensor) -> Total:
        return Total(torch.ones_like(features), features.new_ones((len(features), 1, 1, 1)))

    def advance(self, features: Tensor, center_map: Tensor, state: Total) -> tuple[Tensor, Total]:
        maps = 0.5 * state.maps + self.gain * features + center_map
        return maps, Total(maps, torch.zeros_like(state.fresh))


def random_clip(frames: int, *, seed: int = 0, labels: float = 2.0) -> dict[str, Any]:
    """A training clip of random pictures and joints."""
    generator = torch.Generator().manual_seed(seed)
    keypoints = torch.rand((frames, 3, 3), generator=generator) * SIDE
    keypoints[..., 2] = labels
    return {
        "image": torch.randint(
            256, (frames, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8
        ),
        "center": torch.rand((frames, 2), generator=generator) * SIDE,
        "crop_to_image": torch.tensor([[1.0, 0, 10], [0, 1, 5]]).expand(frames, 2, 3),
        "keypoints": keypoints,
        "is_padding": torch.zeros(frames, dtype=torch.bool),
        "height": 100,
        "width": 120,
    }


@pytest.fixture
def toy_net() -> type[ToyNet]:
    """The class; its keyword arguments replace those of `VideoPoseNet`."""
    return ToyNet


@pytest.fixture
def clip() -> Callable[..., dict[str, Any]]:
    """clip(frames, seed=, labels=): a clip of three joints in 64x64 crops."""
    return random_clip
