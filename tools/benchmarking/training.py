"""Rows ``training/MODEL/PRECISION``: forward, backward and step of the trainer on one batch."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from torch.utils.flop_counter import FlopCounterMode

from benchmarking.inputs import random_clip, read_config
from benchmarking.job import Job, Measured, measure
from benchmarking.timing import timed
from video_pose.engine.trainer import PoseTrainer


def measure_rows(job: Job) -> Measured:
    """Time training steps of one model in several precisions against each other."""
    cfg = read_config(job.config_file, job.options)
    cfg.SOLVER.IMS_PER_BATCH = job.train_clips or cfg.SOLVER.IMS_PER_BATCH
    cfg.INPUT.CLIP.LENGTH = job.clip_length
    cfg.MODEL.POSE.ENCODER = "train"  # the whole network, also of a config that trains a part
    cfg.SOLVER.BASE_LR = 1e-9  # noise is no task: weights stay, the work is the same
    device = torch.device(cfg.MODEL.DEVICE)
    passes, precisions, steps = {}, {}, {}
    with tempfile.TemporaryDirectory() as folder, EventStorage(1):
        cfg.OUTPUT_DIR = folder
        for row in job.rows:
            _, _, precision = row.split("/")
            steps[row] = step_runner(cfg, precision, job.seed)
            passes[row], precisions[row] = timed(steps[row], device), precision
        flops = 0
        if not job.lean:
            with FlopCounterMode(display=False) as counter:
                next(iter(steps.values()))()
            flops = counter.get_total_flops()
        frames = cfg.SOLVER.IMS_PER_BATCH * job.clip_length
        return measure(
            job,
            passes,
            device,
            precisions=precisions,
            frames=dict.fromkeys(passes, frames),
            flops=dict.fromkeys(passes, flops),
        )


def step_runner(cfg: CfgNode, precision: str, seed: int) -> Callable[[], None]:
    """The trainer's own step on one batch of IMS_PER_BATCH random clips."""
    cfg = cfg.clone()
    cfg.SOLVER.AMP.ENABLED = precision != "float32"
    cfg.SOLVER.AMP.PRECISION = precision if cfg.SOLVER.AMP.ENABLED else "auto"
    torch.manual_seed(seed)
    trainer = PoseTrainer(cfg)
    clips = range(cfg.SOLVER.IMS_PER_BATCH)
    batch = [random_clip(cfg, cfg.INPUT.CLIP.LENGTH, seed + i) for i in clips]
    # What `train` would set up, with one batch in the loader's place.
    trainer._batches = itertools.repeat(batch)
    trainer.iter = 1
    return trainer.run_step
