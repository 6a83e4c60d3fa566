"""From command line to a complete, frozen configuration."""

from __future__ import annotations

import argparse
import logging

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from video_pose import add_video_pose_config, load_models


def get_pose_cfg() -> CfgNode:
    """Detectron2's configuration with the keys of video pose and of every installed model."""
    cfg = get_cfg()
    add_video_pose_config(cfg)
    for package in load_models().values():
        package.add_config(cfg)
    return cfg


def complete_cfg(cfg: CfgNode) -> None:
    """Fill in what follows from dataset and machine: joints, their mirror pairs, device; in place.

    Raises:
        ValueError: MODEL.POSE.JOINTS is empty and there is no training dataset to take it from, or
            Detectron2's per-parameter clipping is on together with the global one.
    """
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logging.getLogger(__name__).info("No GPU: MODEL.DEVICE is cpu")
        cfg.MODEL.DEVICE = "cpu"
    pose = cfg.MODEL.POSE
    if not pose.JOINTS and cfg.DATASETS.TRAIN:
        metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
        pose.JOINTS = list(metadata.get("keypoint_names", []))
        if not pose.FLIP_MAP:
            pose.FLIP_MAP = [list(pair) for pair in metadata.get("keypoint_flip_map", [])]
    if not pose.JOINTS:
        raise ValueError(
            "MODEL.POSE.JOINTS is empty and no dataset of DATASETS.TRAIN "
            f"({list(cfg.DATASETS.TRAIN)}) has keypoint_names to take it from"
        )
    if cfg.SOLVER.CLIP_GLOBAL_NORM > 0 and cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        raise ValueError("SOLVER.CLIP_GLOBAL_NORM and SOLVER.CLIP_GRADIENTS.ENABLED exclude each other")


def setup(args: argparse.Namespace) -> CfgNode:
    """Build the configuration of ``train_net.py``'s arguments, set up logging and seeds.

    Args:
        args: of ``detectron2.engine.default_argument_parser``.
    """
    cfg = get_pose_cfg()
    if args.config_file:
        cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    complete_cfg(cfg)
    cfg.freeze()
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="video_pose")
    return cfg
