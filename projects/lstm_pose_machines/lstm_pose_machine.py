"""LSTM Pose Machines: stages of a pose machine unrolled over time, with a convolutional LSTM.

Luo et al., CVPR 2018 (arXiv 1712.06316), section 3.3; the network follows docs/PROTOCOLS.md,
section 1. Shapes: B clips, T frames, N images, R rows, C = K + 1 channels, E feature channels, D
hidden channels, S stages per frame, H, W crop px, h, w cells.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from video_pose.modeling.layers import GATES, ConvLSTMCell, HeatmapHead
from video_pose.modeling.video_pose_net import ClipMaps, VideoPoseNet


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


class LSTMPMState(NamedTuple):
    """One row per person."""

    heatmaps: Tensor  # (R, C, h, w), the previous step's maps; ConvNet1's when fresh
    hidden: Tensor  # (R, D, h, w)
    cell: Tensor  # (R, D, h, w)
    fresh: Tensor  # (R, 1, 1, 1), 1 before a row's first step


@META_ARCH_REGISTRY.register()
class LSTMPoseMachine(VideoPoseNet):
    """ConvNet1 for a row's first maps, ConvNet2 for every frame, the LSTM and ConvNet3 for time.

    Args:
        convnet1, convnet2: see their classes.
        cell: of [features, previous heatmaps, centre map], in this order. On a fresh row C = 0
            silences the forget gate and the h-convolutions' biases are masked, which is the paper's
            first-frame cell.
        head: ConvNet3.
        stages_per_frame: steps of cell and head on every frame, >= 1.
        convnet1_lr_factor: on ConvNet1's learning rate.
        init_std: of all convolutions' weights, with biases of 0; 0 keeps the modules' own values.
        base: the arguments of `VideoPoseNet`.
    """

    @configurable
    def __init__(
        self,
        *,
        convnet1: InitialMaps,
        convnet2: FrameFeatures,
        cell: ConvLSTMCell,
        head: HeatmapHead,
        stages_per_frame: int = 1,
        convnet1_lr_factor: float = 1.0,
        init_std: float = 0.0,
        base: dict[str, Any],
    ) -> None:
        super().__init__(**base)
        if stages_per_frame < 1:
            raise ValueError(f"MODEL.LSTM_PM.STAGES_PER_FRAME is {stages_per_frame}: at least 1")
        self.convnet1 = convnet1
        self.convnet2 = convnet2
        self.cell = cell
        self.head = head
        self.stages_per_frame = stages_per_frame
        self.convnet1_lr_factor = convnet1_lr_factor
        if init_std > 0:
            for module in self.modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.normal_(module.weight, std=init_std)
                    nn.init.zeros_(module.bias)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from ``MODEL.LSTM_PM``, ``MODEL.POSE`` and ``INPUT.CROP_SIZE``."""
        node, base = cfg.MODEL.LSTM_PM, VideoPoseNet.base_config(cfg)
        maps = base["codec"].num_channels(len(base["joint_names"]))
        stem = {
            "channels": node.STEM.CHANNELS,
            "kernel_size": node.STEM.KERNEL,
            "feature_channels": node.STEM.FEATURE_CHANNELS,
            "feature_kernel": node.STEM.FEATURE_KERNEL,
        }
        if len(node.LSTM.GATE_BIAS) != len(GATES):
            raise ValueError(f"MODEL.LSTM_PM.LSTM.GATE_BIAS {node.LSTM.GATE_BIAS}: one per {GATES}")
        check_map_size(base, len(node.STEM.CHANNELS), tuple(cfg.INPUT.CROP_SIZE))
        hidden = node.LSTM.HIDDEN_CHANNELS
        return {
            "convnet1": InitialMaps(
                maps,
                hidden_channels=node.INITIAL.CHANNELS,
                hidden_kernel=node.INITIAL.KERNEL,
                dropout=node.INITIAL.DROPOUT,
                **stem,
            ),
            "convnet2": FrameFeatures(**stem),
            "cell": ConvLSTMCell(
                node.STEM.FEATURE_CHANNELS + maps + 1,
                hidden,
                kernel_size=node.LSTM.KERNEL,
                gate_bias=dict(zip(GATES, node.LSTM.GATE_BIAS, strict=True)),
                mask_fresh_bias=True,
            ),
            "head": HeatmapHead(
                hidden,
                maps,
                channels=node.HEAD.CHANNELS,
                kernel_size=node.HEAD.KERNEL,
                num_large=node.HEAD.NUM_LARGE,
            ),
            "stages_per_frame": node.STAGES_PER_FRAME,
            "convnet1_lr_factor": node.CONVNET1_LR_FACTOR,
            "init_std": node.INIT_STD,
            "base": base,
        }

    def encoder_modules(self) -> list[nn.Module]:
        return [self.convnet1, self.convnet2]

    def encode(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> ConvNet2's features (N, E, h, w)."""
        return self.convnet2(images)

    def begin(self, images: Tensor, features: Tensor) -> LSTMPMState:
        """A fresh row: ConvNet1's maps of its first frame as the "previous" ones, zero memory."""
        hidden, cell = self.cell.zero_state(features)
        fresh = features.new_ones((features.shape[0], 1, 1, 1))
        return LSTMPMState(self.convnet1(images), hidden, cell, fresh)

    def advance(
        self, features: Tensor, center_map: Tensor, state: LSTMPMState
    ) -> tuple[Tensor, LSTMPMState]:
        """Features (R, E, h, w), centre maps (R, 1, h, w) -> heatmaps (R, C, h, w), state."""
        for _ in range(self.stages_per_frame):
            state = self.step(features, center_map, state)
        return state.heatmaps, state

    def step(self, features: Tensor, center_map: Tensor, state: LSTMPMState) -> LSTMPMState:
        """One step of LSTM and ConvNet3; the maps are the new state's."""
        maps = [features, state.heatmaps.to(features.dtype), center_map.to(features.dtype)]
        hidden, cell = self.cell(torch.cat(maps, 1), state.hidden, state.cell, state.fresh)
        return LSTMPMState(self.head(hidden), hidden, cell, torch.zeros_like(state.fresh))

    def scan_features(
        self,
        features: Tensor,
        center_maps: Tensor,
        state: LSTMPMState,
        crop_to_image: Tensor | None = None,
    ) -> ClipMaps:
        """As the base, with the maps of the stages before a frame's last one as further maps."""
        extra = self.extra_maps(features, state)
        stages: list[list[Tensor]] = [[] for _ in range(self.stages_per_frame)]
        for t in range(features.shape[1]):
            state = self.follow(state, crop_to_image, t)
            for maps in stages:
                state = self.step(features[:, t], center_maps[:, t], state)
                maps.append(state.heatmaps)
        *earlier, last = (torch.stack(maps, 1) for maps in stages)
        # ConvNet1 is stage 1 of the pre-model.
        extra |= {f"stage{i}": (maps, 1.0) for i, maps in enumerate(earlier, start=2)}
        return ClipMaps(last, extra)

    def extra_maps(
        self, features: Tensor, first_state: LSTMPMState
    ) -> dict[str, tuple[Tensor, float]]:
        return {"initial": (first_state.heatmaps[:, None], 1.0)}

    def fold(self) -> None:
        super().fold()
        self.cell = self.cell.merged()

    def lr_factors(self) -> dict[str, float]:
        """Factors on the learning rate of the parameters whose names begin so."""
        return {"convnet1.": self.convnet1_lr_factor}

    def channel_labels(self, joint_names: list[str]) -> dict[str, dict[int, list[str]]]:
        maps = self.codec.channel_labels(joint_names)
        features = [f"feature {i}" for i in range(self.convnet2.out_channels)]
        x = [*features, *(f"previous {name}" for name in maps), "center"]
        last = [f"head.{name}" for name, _ in self.head.named_parameters()][-2:]
        outputs = [f"convnet1.{self.convnet1.predict_name}.{kind}" for kind in ("weight", "bias")]
        labels = {name: {0: maps} for name in [*outputs, *last]}
        return labels | {f"cell.x.{gate}.weight": {1: x} for gate in GATES}


def check_map_size(base: dict[str, Any], num_poolings: int, crop_size: tuple[int, int]) -> None:
    """Hold network, codec and centre map to one grid.

    Args:
        base: the arguments of `VideoPoseNet`. num_poolings: of the network. crop_size: (H, W) px.

    Raises:
        ValueError: the stride or the map's size differs among the three.
    """
    stride, center = base["codec"].stride, base["center_map"]
    if stride != 2**num_poolings:
        raise ValueError(
            f"MODEL.POSE.HEATMAP.STRIDE is {stride}, but the {num_poolings} poolings of "
            f"MODEL.LSTM_PM.STEM.CHANNELS give {2**num_poolings}"
        )
    maps = torch.zeros((1, 1, *crop_size), device="meta")  # its size alone is wanted
    for _ in range(num_poolings):
        maps = F.max_pool2d(maps, 3, stride=2, ceil_mode=True)
    center.check_cells(
        crop_size,
        (maps.shape[-2], maps.shape[-1]),
        "at a stride of 8, POOL_KERNEL 9, POOL_PADDING 0, POOL_CEIL True and a crop of whole cells",
    )
