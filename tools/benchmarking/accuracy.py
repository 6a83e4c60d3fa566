"""Rows ``accuracy/MODEL/PRECISION/WAY``: PCK of trained weights on the config's test datasets.

Timing needs no trained weights; whether a faster way costs accuracy does. All ways score the same
model on the same frames; the plain one is what the others are compared with.
"""

from __future__ import annotations

import tempfile
from typing import Any

from detectron2.modeling import build_model

from benchmarking.inference import PLAIN
from benchmarking.inputs import read_config
from benchmarking.job import Job, Measured, Score
from benchmarking.memory import peak_mb, resident_mb
from video_pose.engine.checkpointer import load_for_evaluation
from video_pose.engine.evaluation import evaluate
from video_pose.evaluation.pck_evaluator import TASK_PREFIX


def measure_rows(job: Job) -> Measured:
    """Evaluate one model in several precisions and ways.

    Raises:
        ValueError: the weights do not fill the model, there is no test dataset, or it has no PCK.
    """
    cfg = read_config(job.config_file, job.options)
    if not cfg.DATASETS.TEST:
        raise ValueError(f"{job.config_file}: DATASETS.TEST is empty, or not registered")
    model = build_model(cfg).eval()
    load_for_evaluation(model, cfg, resume=False)
    rest = resident_mb()
    scores = []
    for row in job.rows:
        _, _, precision, way = row.split("/")
        cfg.TEST.FAST, cfg.TEST.PRECISION = way != PLAIN, precision
        model.precision = precision
        with tempfile.TemporaryDirectory() as folder:
            cfg.OUTPUT_DIR = folder
            scores.append(Score(row, *_first_pck(evaluate(cfg, model), cfg.DATASETS.TEST[0])))
    return Measured([], {}, rest, peak_mb(), scores=scores)


def _first_pck(results: dict[str, Any], dataset: str) -> tuple[str, float]:
    """Name and value of the first metric of the first protocol, of the first dataset."""
    results = results.get(dataset, results)
    for task, metrics in results.items():
        if task.startswith(TASK_PREFIX):
            metric, value = next(iter(metrics.items()))
            return f"{metric} {task.removeprefix(TASK_PREFIX)}, {dataset}", float(value)
    raise ValueError(f"{dataset}: the evaluation gives no PCK, only {sorted(results)}")
