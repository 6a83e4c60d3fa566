"""Evaluation of a model on every test dataset of a configuration."""

from __future__ import annotations

import json
import logging
import os
from collections import OrderedDict
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import DatasetEvaluators, inference_on_dataset, print_csv_format
from detectron2.utils import comm

from video_pose.engine.views import view_of

logger = logging.getLogger(__name__)


def build_evaluator(cfg: CfgNode, dataset_name: str) -> DatasetEvaluators:
    """All evaluators of one dataset, writing to OUTPUT_DIR/inference/<dataset>."""
    return DatasetEvaluators(view_of(cfg).build_evaluators(cfg, dataset_name))


def evaluate(cfg: CfgNode, model: torch.nn.Module) -> dict[str, Any]:
    """Run ``model`` over DATASETS.TEST.

    Returns:
        One dataset: its results, {task: {metric: value}}, as ``verify_results`` wants them.
        Several: {dataset: results}. Ranks other than 0 return {} per dataset.
    """
    results: OrderedDict[str, Any] = OrderedDict()
    view = view_of(cfg)
    tested = view.tested(cfg, model)
    for name in cfg.DATASETS.TEST:
        loader = view.build_test_loader(cfg, name)
        results[name] = inference_on_dataset(tested, loader, build_evaluator(cfg, name)) or {}
        if comm.is_main_process():
            write_results(cfg, name, results[name])
            logger.info("Results on %s, for copying:", name)
            print_csv_format(results[name])
    return next(iter(results.values())) if len(results) == 1 else results


def write_results(cfg: CfgNode, dataset_name: str, results: dict[str, Any]) -> None:
    """Keep the figures in OUTPUT_DIR/inference/<dataset>/results.json, for tables of models."""
    folder = os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "results.json"), "w", encoding="utf-8") as file:
        json.dump(results, file, indent=1)
