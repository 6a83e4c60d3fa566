"""Configurations, models and seeded clips to measure with.

Shapes: T frames, K joints, H, W crop px.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from video_pose.inference.building import is_recurrent, load_cfg, load_model
from video_pose.modeling.precision import inference_autocast, training_dtype


def read_config(config_file: str, options: Sequence[str]) -> CfgNode:
    """A configuration with random weights unless ``options`` name some.

    Raises:
        ValueError: its model has no recurrent interface.
    """
    cfg = load_cfg(config_file, ["MODEL.WEIGHTS", "", *options])
    if not is_recurrent(cfg):
        raise ValueError(
            f"{config_file}: {cfg.MODEL.META_ARCHITECTURE} is no recurrent pose model; "
            "tools/benchmark_frames.py measures the frames view"
        )
    return cfg


def build_seeded(cfg: CfgNode, seed: int) -> nn.Module:
    """The model for inference; equal seeds give equal weights."""
    torch.manual_seed(seed)
    return load_model(cfg).eval()


def resolve_precision(precision: str, device: torch.device, training: bool) -> str:
    """The name of the format that ``precision``, maybe "auto", stands for on ``device``."""
    if precision != "auto":
        return precision
    if training:
        return str(training_dtype("auto", device) or torch.float32).removeprefix("torch.")
    with inference_autocast("auto", device):
        if not torch.is_autocast_enabled(device.type):
            return "float32"
        return str(torch.get_autocast_dtype(device.type)).removeprefix("torch.")


def random_clip(cfg: CfgNode, frames: int, seed: int) -> dict[str, Any]:
    """A mapper's dict of T frames, of training and testing alike: noise and joints drawn by seed.

    Keys as in ``PoseClipMapper``; the crop is the whole image.
    """
    height, width = cfg.INPUT.CROP_SIZE
    generator = torch.Generator().manual_seed(seed)
    size = torch.tensor([width, height], dtype=torch.float32)
    joints = (frames, len(cfg.MODEL.POSE.JOINTS), 2)
    xy = torch.rand(joints, generator=generator) * size
    return {
        "image": torch.randint(
            256, (frames, 3, height, width), generator=generator, dtype=torch.uint8
        ),
        "keypoints": torch.cat([xy, torch.full((*joints[:2], 1), 2.0)], dim=-1),
        "crop_to_image": torch.eye(3)[:2].repeat(frames, 1, 1),
        "center": (size / 2).repeat(frames, 1),
        "is_padding": torch.zeros(frames, dtype=torch.bool),
        "frame_indices": torch.arange(frames),
        "image_ids": torch.arange(frames),
        "video_id": f"random {seed}",
        "track_id": "0",
        "height": height,
        "width": width,
        "is_first": True,
        "is_last": True,
    }


def single_frames(clip: dict[str, Any]) -> list[dict[str, Any]]:
    """The clip as T chunks of one frame each, in order."""
    frames = len(clip["frame_indices"])
    chunks = []
    for t in range(frames):
        chunk = {
            key: value[t : t + 1] if isinstance(value, torch.Tensor) else value
            for key, value in clip.items()
        }
        chunks.append({**chunk, "is_first": t == 0, "is_last": t == frames - 1})
    return chunks
