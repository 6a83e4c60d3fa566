"""Rows ``inference/MODEL/PRECISION/WAY``: a clip through the model, maps decoded.

Ways:

* "plain": the modules as they are trained, float32, one frame a call, images in NCHW layout;
* "frames": their fast form (``modeling/fast_path.py``), one frame a call, as in streaming;
* "clips": the fast form, all frames of the clip in one call;
* "clips8", "clips64" (on a GPU): so many clips in one call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import nn

from benchmarking.choices import describe_fast
from benchmarking.flops import clip_flops, count_flops
from benchmarking.inputs import build_seeded, random_clip, read_config, single_frames
from benchmarking.job import Job, Measured, measure
from benchmarking.timing import timed
from video_pose.modeling.fast_path import build_fast_path

PLAIN, FRAMES, CLIPS = "plain", "frames", "clips"
_GPU_BATCHES = (8, 64)


def ways_on(device: torch.device) -> list[str]:
    """The ways of the fast form that are measured on ``device``."""
    batches = [f"{CLIPS}{n}" for n in _GPU_BATCHES] if device.type == "cuda" else []
    return [FRAMES, CLIPS, *batches]


def clips_of(way: str) -> int:
    """How many clips run at once."""
    return int(way.removeprefix(CLIPS)) if way.startswith(CLIPS) and way != CLIPS else 1


def build_forms(cfg: CfgNode, model: nn.Module, rows: list[str]) -> dict[str, nn.Module]:
    """What each of the rows KIND/MODEL/PRECISION/WAY runs; rows of a precision share it."""
    cfg = cfg.clone()
    cfg.TEST.FAST = True
    fast: dict[str, nn.Module] = {}
    forms: dict[str, nn.Module] = {}
    for row in rows:
        precision, way = row.split("/")[2:4]
        if way == PLAIN:
            model.precision = precision
            forms[row] = model
        else:
            if precision not in fast:
                cfg.TEST.PRECISION = precision
                fast[precision] = build_fast_path(cfg, model)
            forms[row] = fast[precision]
    return forms


def clip_runner(model: nn.Module, way: str, clip: dict[str, Any]) -> Callable[[], None]:
    """Something that runs ``clip`` from a fresh state when called."""
    if clips_of(way) > 1:
        return _batch_runner(model, clip, clips_of(way))
    chunks = [clip] if way == CLIPS else single_frames(clip)

    def run() -> None:
        for chunk in chunks:
            model([chunk])

    return run


def _batch_runner(model: nn.Module, clip: dict[str, Any], clips: int) -> Callable[[], None]:
    """``clips`` copies of the clip as the rows of one batch."""
    images = clip["image"].expand(clips, *clip["image"].shape)
    centers = clip["center"].expand(clips, *clip["center"].shape)

    @torch.no_grad()
    def run() -> None:
        heatmaps = model._run_chunk(clip, images, centers)
        model.codec.decode(heatmaps.flatten(0, 1))

    return run


def measure_rows(job: Job) -> Measured:
    """Time the rows of one model against each other."""
    cfg = read_config(job.config_file, job.options)
    model = build_seeded(cfg, job.seed)
    device = torch.device(cfg.MODEL.DEVICE)
    clip = random_clip(cfg, job.clip_length, job.seed)
    # The work is counted on the plain modules for all ways: shares are of equal work.
    flops = 0
    if not job.lean:
        flops = clip_flops(count_flops(model, tuple(cfg.INPUT.CROP_SIZE)), job.clip_length)
    forms = build_forms(cfg, model, job.rows)
    plain = None if job.lean else model
    del model  # a row of the fast form is alone in its process where memory is measured
    ways = {row: row.split("/")[3] for row in job.rows}
    measured = measure(
        job,
        {row: timed(clip_runner(form, ways[row], clip), device) for row, form in forms.items()},
        device,
        precisions={row: row.split("/")[2] for row in job.rows},
        frames={row: job.clip_length * clips_of(way) for row, way in ways.items()},
        flops={row: flops * clips_of(way) for row, way in ways.items()},
    )
    if plain is not None:
        measured.notes.extend(describe_fast(plain, list(forms.values())))
    return measured
