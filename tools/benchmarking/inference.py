"""Rows ``inference/MODEL/PRECISION/WAY``: a clip through ``model.forward``, maps decoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from benchmarking.flops import clip_flops, count_flops
from benchmarking.inputs import build_seeded, random_clip, read_config, single_frames
from benchmarking.job import Job, Measured, measure
from benchmarking.timing import timed

# "frames": one frame a call, as in streaming; "clips": all frames of the clip in one call.
WAYS = ("frames", "clips")


def clip_runner(
    model: nn.Module, precision: str, way: str, clip: dict[str, Any]
) -> Callable[[], None]:
    """Something that runs ``clip`` from a fresh state when called."""
    chunks = single_frames(clip) if way == "frames" else [clip]

    def run() -> None:
        model.precision = precision
        for chunk in chunks:
            model([chunk])

    return run


def measure_rows(job: Job) -> Measured:
    """Time the rows of one model against each other."""
    cfg = read_config(job.config_file, job.options)
    model = build_seeded(cfg, job.seed)
    device = torch.device(cfg.MODEL.DEVICE)
    clip = random_clip(cfg, job.clip_length, job.seed)
    passes, precisions = {}, {}
    for row in job.rows:
        _, _, precision, way = row.split("/")
        passes[row] = timed(clip_runner(model, precision, way, clip), device)
        precisions[row] = precision
    flops = 0
    if not job.lean:
        flops = clip_flops(count_flops(model, tuple(cfg.INPUT.CROP_SIZE)), job.clip_length)
    return measure(
        job,
        passes,
        device,
        precisions=precisions,
        frames=dict.fromkeys(passes, job.clip_length),
        flops=dict.fromkeys(passes, flops),
    )
