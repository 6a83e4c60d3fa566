"""Evaluation of a model on every test dataset of a configuration."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.utils import comm

from video_pose.data.build import build_pose_test_loader
from video_pose.evaluation.pck_evaluator import PCKEvaluator

logger = logging.getLogger(__name__)


def build_evaluator(cfg: CfgNode, dataset_name: str) -> PCKEvaluator:
    """The PCK evaluator of one dataset, writing to OUTPUT_DIR/inference/<dataset>."""
    return PCKEvaluator(
        dataset_name,
        joint_names=list(cfg.MODEL.POSE.JOINTS),
        protocols=list(cfg.TEST.PCK.PROTOCOLS) or None,
        output_dir=os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name),
        save_predictions=cfg.TEST.PCK.SAVE_PREDICTIONS,
    )


def evaluate(cfg: CfgNode, model: torch.nn.Module) -> dict[str, Any]:
    """Run ``model`` over DATASETS.TEST.

    Returns:
        One dataset: its results, {task: {metric: value}}, as ``verify_results`` wants them.
        Several: {dataset: results}. Ranks other than 0 return {} per dataset.
    """
    results: OrderedDict[str, Any] = OrderedDict()
    for name in cfg.DATASETS.TEST:
        loader = build_pose_test_loader(cfg, name)
        results[name] = inference_on_dataset(model, loader, build_evaluator(cfg, name)) or {}
        if comm.is_main_process():
            logger.info("Results on %s, for copying:", name)
            print_csv_format(results[name])
    return next(iter(results.values())) if len(results) == 1 else results
