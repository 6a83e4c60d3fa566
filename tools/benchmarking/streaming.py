"""Rows ``stream/MODEL/PRECISION/WAY``: end to end, as a user streams, one person in a box.

Cut detection, cropping, the model, decoding and packing, through ``StreamingPosePredictor``; frames
are in memory, and nothing is drawn. "plain" and "frames" take one frame at a time; "clips" encodes
the frames of a clip together, so that results come later.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from torch import nn

from benchmarking.inference import CLIPS, build_forms
from benchmarking.inputs import build_seeded, read_config
from benchmarking.job import Job, Measured, measure
from benchmarking.timing import timed
from video_pose.data.clip_mapper import build_pose_mapper
from video_pose.inference.frames import Frame
from video_pose.inference.people import GivenBoxes
from video_pose.inference.streaming import CutDetector, StreamingPosePredictor
from video_pose.modeling.backend import TorchBackend

_SIZE = (640, 480)  # width, height, px
_BOX = (200.0, 60.0, 440.0, 420.0)
# Frames of a pass, in clips.
_CLIPS = 4


def moving_frames(count: int, seed: int) -> list[Frame]:
    """``count`` frames of one blurred texture that moves by 3 px a frame: no cuts."""
    noise = np.random.default_rng(seed).integers(0, 256, (*_SIZE[::-1], 3), dtype=np.uint8)
    texture = cv2.GaussianBlur(noise, (0, 0), 4)
    return [Frame(i, i / 25, np.roll(texture, 3 * i, axis=1)) for i in range(count)]


def stream_runner(
    cfg: CfgNode, model: nn.Module, frames: list[Frame], batch_frames: int
) -> Callable[[], None]:
    """Something that streams ``frames`` from a fresh state when called."""
    predictor = StreamingPosePredictor(
        backend=TorchBackend(model),  # type: ignore[arg-type]
        mapper=build_pose_mapper(cfg, False),
        people=lambda: GivenBoxes(_BOX),
        cuts=CutDetector,
        batch_frames=batch_frames,
    )

    def run() -> None:
        deque(predictor(frames), maxlen=0)

    return run


def measure_rows(job: Job) -> Measured:
    """Time the rows of one model against each other."""
    cfg = read_config(job.config_file, job.options)
    device = torch.device(cfg.MODEL.DEVICE)
    frames = moving_frames(_CLIPS * job.clip_length, job.seed)
    passes = {}
    for row, form in build_forms(cfg, build_seeded(cfg, job.seed), job.rows).items():
        together = job.clip_length if row.endswith(f"/{CLIPS}") else 1
        passes[row] = timed(stream_runner(cfg, form, frames, together), device)
    return measure(
        job,
        passes,
        device,
        precisions=dict.fromkeys(passes, ""),
        frames=dict.fromkeys(passes, len(frames)),
        flops=dict.fromkeys(passes, 0),
    )
