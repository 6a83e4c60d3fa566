"""Memory of a test over one long video: the real mapper, loader, model and evaluators."""

from __future__ import annotations

import tempfile
import time

from benchmarking.inputs import build_seeded, read_config
from benchmarking.job import Job, Measured, Timing
from benchmarking.memory import gpu_peak_mb, peak_mb, resident_mb
from video_pose.engine.evaluation import evaluate

# The seven scales of LSTM Pose Machines' test on Penn Action.
SEVEN_SCALES = (0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4)


def measure_rows(job: Job) -> Measured:
    """Evaluate the model on ``dataset_name``, in this process alone (no loader workers)."""
    train = job.dataset_name.removesuffix("test") + "train"
    options = [
        *("DATASETS.TRAIN", (train,), "DATASETS.TEST", (job.dataset_name,)),
        *("TEST.SCALES", SEVEN_SCALES, "DATALOADER.NUM_WORKERS", 0),
    ]
    cfg = read_config(job.config_file, [*options, *job.options])
    model = build_seeded(cfg, job.seed)
    rest = resident_mb()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        cfg.OUTPUT_DIR = folder
        evaluate(cfg, model)
    timing = Timing(job.rows[0], "", job.clip_length, 0, [time.perf_counter() - started])
    return Measured([timing], {}, rest, peak_mb(), gpu_peak_mb())
