"""Rows ``loader/FILES/WHAT``: training clips from PNG or AVI files, and decoding alone.

Nothing is cached: in a dataset of real size, a frame is seldom read twice in time.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from benchmarking.inputs import read_config
from benchmarking.job import Job, Measured, measure
from benchmarking.timing import Pass, timed
from video_pose.data.build import build_pose_train_loader
from video_pose.data.clips import sample_clip
from video_pose.data.frame_reader import FrameReader

# "decode" reads the frames of random clips, and no more.
WHATS = ("decode", "0-workers", "1-workers")
# Batches that a worker of torch's loader has ready.
_PREFETCHED = 2


def measure_rows(job: Job) -> Measured:
    """Time loaders of one dataset against each other; a pass is one batch (of one worker: two)."""
    cfg = read_config(job.config_file, [*job.options, "DATASETS.TRAIN", (job.dataset_name,)])
    cfg.INPUT.FRAME_CACHE_BYTES, cfg.INPUT.CLIP.LENGTH = 0, job.clip_length
    cfg.SEED = job.seed
    frames = cfg.SOLVER.IMS_PER_BATCH * job.clip_length
    passes, counts = {}, {}
    for row in job.rows:
        what = row.split("/")[2]
        if what == "decode":
            passes[row], counts[row] = _decode_pass(cfg, job.dataset_name, job.seed), frames
        else:
            workers = int(what.removesuffix("-workers"))
            batches = 1 + workers
            passes[row], counts[row] = _loader_pass(cfg, workers, batches), frames * batches
    return measure(
        job,
        passes,
        torch.device("cpu"),
        precisions=dict.fromkeys(passes, ""),
        frames=counts,
        flops=dict.fromkeys(passes, 0),
    )


def _decode_pass(cfg: CfgNode, dataset_name: str, seed: int) -> Pass:
    reader = FrameReader(0, cfg.INPUT.FORMAT)
    tracks = DatasetCatalog.get(dataset_name)
    rng = np.random.default_rng(seed)

    def read() -> None:
        for _ in range(cfg.SOLVER.IMS_PER_BATCH):
            track = tracks[rng.integers(len(tracks))]
            count = len(track["keypoints"])
            clip = sample_clip(count, cfg.INPUT.CLIP.LENGTH, cfg.INPUT.CLIP.STRIDE, rng)
            reader.read(track, clip.frames.tolist())

    return timed(read, torch.device("cpu"))


def _loader_pass(cfg: CfgNode, workers: int, batches: int) -> Pass:
    cfg = cfg.clone()
    cfg.DATALOADER.NUM_WORKERS = workers
    stream: Iterator[Any] = iter(build_pose_train_loader(cfg))
    ready = _PREFETCHED * workers

    def run() -> float:
        for _ in range(ready):  # made while other rows were measured
            next(stream)
        started = time.perf_counter()
        for _ in range(batches):
            next(stream)
        seconds = time.perf_counter() - started
        # Workers make the next batches ready now, not while another row is measured.
        time.sleep(1.5 * seconds / batches * ready)
        return seconds

    return run
