"""A narrow LSTM Pose Machine, the clips that it eats, and random weights in the released layout."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from detectron2.config import CfgNode, get_cfg

from lstm_pose_machines import LSTMPoseMachine, add_config
from video_pose import add_video_pose_config

JOINTS = ["head", "left_hand", "right_hand"]


@pytest.fixture
def small_cfg() -> CfgNode:
    """3 joints, 4 feature and 6 hidden channels, 64 px crops; the paper's conventions."""
    cfg = get_cfg()
    add_video_pose_config(cfg)
    add_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "LSTMPoseMachine"
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [128.0] * 3, [256.0] * 3
    pose, node = cfg.MODEL.POSE, cfg.MODEL.LSTM_PM
    pose.JOINTS = JOINTS
    pose.HEATMAP.SIGMA = 7.0
    pose.CENTER_MAP.POOL_PADDING, pose.CENTER_MAP.POOL_CEIL = 0, True
    pose.CENTER_MAP.THRESHOLD_IN_TEST = False
    pose.LOSS.REDUCTION = "half_sum"
    cfg.INPUT.CROP_SIZE = (64, 64)
    node.INIT_STD = 0.0
    node.STEM.CHANNELS, node.STEM.KERNEL = [5, 6, 7], 5
    node.STEM.FEATURE_CHANNELS = 4
    node.INITIAL.CHANNELS, node.INITIAL.KERNEL = 8, 3
    node.LSTM.HIDDEN_CHANNELS = 6
    node.HEAD.CHANNELS, node.HEAD.KERNEL = 7, 5
    return cfg


@pytest.fixture
def build(small_cfg: CfgNode) -> Callable[..., LSTMPoseMachine]:
    """Builds the model of ``small_cfg`` with further keys; biases are random, as after training."""

    def make(*options: Any) -> LSTMPoseMachine:
        torch.manual_seed(0)
        small_cfg.merge_from_list(list(options))
        model = LSTMPoseMachine(small_cfg)
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.3)
        return model

    return make


@pytest.fixture
def make_clip() -> Callable[..., dict[str, Any]]:
    """Writes a mapper's dict for T frames of noise; ``rows`` > 0 adds test scales."""

    def make(
        frames: int, *, seed: int = 0, rows: int = 0, size: int = 64, video: str = "a"
    ) -> dict[str, Any]:
        random = torch.Generator().manual_seed(seed)
        shape = (rows, frames) if rows else (frames,)
        keypoints = torch.rand((frames, len(JOINTS), 3), generator=random) * size
        keypoints[..., 2] = 2
        scale = torch.linspace(1.0, 1.5, rows) if rows else torch.ones(())
        matrix = torch.zeros((*shape, 2, 3))
        matrix[..., 0, 0] = matrix[..., 1, 1] = scale.view(-1, 1) if rows else scale
        clip = {
            "image": torch.randint(
                0, 256, (*shape, 3, size, size), dtype=torch.uint8, generator=random
            ),
            "keypoints": keypoints,
            "crop_to_image": matrix,
            "center": torch.full((*shape, 2), size / 2.0),
            "is_padding": torch.zeros(frames, dtype=torch.bool),
            "frame_indices": torch.arange(frames),
            "video_id": video,
            "track_id": "0",
            "height": size,
            "width": size,
            "is_first": True,
            "is_last": True,
        }
        if rows:
            clip["flipped"] = torch.zeros(rows, dtype=torch.bool)
        return clip

    return make


class Widths(NamedTuple):
    stem: int
    features: int
    initial: int
    hidden: int
    head: int
    maps: int


NARROW = Widths(6, 5, 8, 7, 6, 4)
RELEASED = Widths(128, 32, 512, 48, 128, 15)


def draw(random: torch.Generator, out: int, inp: int, kernel: int) -> list[torch.Tensor]:
    scale = (2 / (inp * kernel**2)) ** 0.5
    weight = torch.randn((out, inp, kernel, kernel), generator=random) * scale
    return [weight, torch.randn(out, generator=random) * 0.2]


def draw_weights(released: bool = False) -> dict[str, list[torch.Tensor]]:
    """[weight, bias] by short names: a ConvNet1, b ConvNet2, x h s the gates, m ConvNet3."""
    w = RELEASED if released else NARROW
    random = torch.Generator().manual_seed(0)
    out = {}
    for net in "ab":
        for i, (o, c, k) in enumerate(
            [(w.stem, 3, 9), (w.stem, w.stem, 9), (w.stem, w.stem, 9), (w.features, w.stem, 5)], 1
        ):
            out[f"{net}{i}"] = draw(random, o, c, k)
    for i, (o, c, k) in enumerate(
        [(w.initial, w.features, 9), (w.initial, w.initial, 1), (w.maps, w.initial, 1)], 5
    ):
        out[f"a{i}"] = draw(random, o, c, k)
    for gate in "gfio":
        out[f"x{gate}"] = draw(random, w.hidden, w.features + w.maps + 1, 3)
        out[f"h{gate}"] = draw(random, w.hidden, w.hidden, 3)
        out[f"s{gate}"] = [torch.ones(w.hidden), torch.randn(w.hidden, generator=random)]
    sizes = [(w.head, w.hidden, 11), (w.head, w.head, 11), (w.head, w.head, 11)]
    for i, (o, c, k) in enumerate([*sizes, (w.head, w.head, 1), (w.maps, w.head, 1)], 1):
        out[f"m{i}"] = draw(random, o, c, k)
    return out


def layers_of(weights: dict[str, list[torch.Tensor]], stages: int) -> list[tuple[str, list]]:
    """(layer, blobs) as the release stores them: a copy of each shared layer per stage."""
    layers = [(f"conv{i}_stage1", weights[f"a{i}"]) for i in range(1, 8)]
    for stage in range(2, stages + 1):
        layers += [(f"conv{i}_stage{stage}", weights[f"b{i}"]) for i in range(1, 5)]
        for gate in "gio" if stage == 2 else "gfio":
            layers.append((f"{gate}_x_stage{stage}", weights[f"x{gate}"]))
            if stage > 2:
                layers.append((f"{gate}_h_stage{stage}", weights[f"h{gate}"]))
            layers.append((f"{gate}_stage{stage}", weights[f"s{gate}"]))
        name = "Mconv" if stage == 2 else "Mres"
        layers += [(f"{name}{i}_stage{stage}", weights[f"m{i}"]) for i in range(1, 6)]
    return [(name, [tensor.numpy() for tensor in blobs]) for name, blobs in layers]


@pytest.fixture
def random_weights() -> Callable[..., dict[str, list[torch.Tensor]]]:
    return draw_weights


@pytest.fixture
def caffe_layers() -> Callable[..., list[tuple[str, list]]]:
    """Called with the weights and the number of stages."""
    return layers_of
