"""From command line to a complete, frozen configuration."""

from __future__ import annotations

import argparse
import logging
import os
from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from video_pose import add_video_pose_config, load_models
from video_pose.data.datasets.builtin_meta import known_mirror_pairs
from video_pose.engine.launch import keep_freed_memory
from video_pose.engine.views import default_view, is_video_pose, view_of
from video_pose.plugins import EVALUATORS
from video_pose.skeleton import mirror_pairs

# Evaluators register when they are imported.
from video_pose.engine import evaluation  # noqa: F401  isort: skip


def get_pose_cfg() -> CfgNode:
    """Detectron2's configuration with the keys of video pose and of every installed model."""
    cfg = get_cfg()
    add_video_pose_config(cfg)
    for package in load_models().values():
        package.add_config(cfg)
    return cfg


def find_config(name: str) -> str:
    """The file of a config: a path, or a name in the package or in Detectron2's model zoo.

    Args:
        name: ``configs/UniPose-LSTM/x.yaml`` names the package's own wherever there is no such
            file; ``COCO-Keypoints/x.yaml`` is the zoo's.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    if os.path.isfile(name):
        return name
    package = Path(__file__).resolve().parents[1]
    # A wheel carries the configs in the package; a checkout has them beside its sources.
    for root in (package / "configs", package.parents[1] / "configs"):
        path = root / name.removeprefix("configs/")
        if path.is_file():
            return str(path)
    from detectron2 import model_zoo  # pulls in pkg_resources: only where it is wanted

    try:
        return model_zoo.get_config_file(name)
    except RuntimeError:
        raise FileNotFoundError(f"config not found: {name}") from None


def merge_config_file(cfg: CfgNode, path: str) -> None:
    """Merge a YAML file, and the files that it names as ``_BASE_``, in place.

    Raises:
        yaml.YAMLError: it is no YAML, or has tags: Detectron2's default would run what they name.
    """
    cfg.merge_from_file(path, allow_unsafe=False)


def complete_cfg(cfg: CfgNode) -> None:
    """Fill in what follows from dataset and machine: joints, their mirror pairs, device; in place.

    Raises:
        KeyError: a dataset that is not registered, or an unknown protocol.
        ValueError: MODEL.POSE.JOINTS is empty and there is no training dataset to take it from, a
            dataset does not go with the model's joints or with a protocol, or a key of
            Detectron2 is set that has no effect here.
    """
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logging.getLogger(__name__).info("No GPU: MODEL.DEVICE is cpu")
        cfg.MODEL.DEVICE = "cpu"
    require_registered([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])
    cfg.INPUT.VIEW = cfg.INPUT.VIEW or default_view(cfg)
    pose = cfg.MODEL.POSE
    if not pose.JOINTS and cfg.DATASETS.TRAIN:
        metadata = MetadataCatalog.get(cfg.DATASETS.TRAIN[0])
        pose.JOINTS = list(metadata.get("keypoint_names", []))
    if not pose.JOINTS and view_of(cfg).needs_joints(cfg):
        raise ValueError(
            "MODEL.POSE.JOINTS is empty and no dataset of DATASETS.TRAIN "
            f"({list(cfg.DATASETS.TRAIN)}) has keypoint_names to take it from"
        )
    if pose.JOINTS:
        known, _ = known_mirror_pairs([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])
        pairs = mirror_pairs(pose.JOINTS, pose.FLIP_MAP, known)
        pose.FLIP_MAP = [list(pair) for pair in pairs]
    refuse_unused_keys(cfg)
    for name in cfg.TEST.EVALUATORS:
        EVALUATORS.check(name)
    view_of(cfg).complete(cfg)


def refuse_unused_keys(cfg: CfgNode) -> None:
    """Raise ValueError for keys of Detectron2 that this project replaces by others."""
    solver = cfg.SOLVER
    for key, is_set, instead in (
        ("CLIP_GRADIENTS.ENABLED", solver.CLIP_GRADIENTS.ENABLED, "CLIP_GLOBAL_NORM"),
        ("BIAS_LR_FACTOR", solver.BIAS_LR_FACTOR != 1.0, "BIAS_LR_MULTIPLIER"),
        ("WEIGHT_DECAY_BIAS", solver.WEIGHT_DECAY_BIAS is not None, "BIAS_DECAY"),
    ):
        if is_set:
            raise ValueError(f"SOLVER.{key} has no effect here: use SOLVER.{instead}")


def require_registered(names: list[str]) -> None:
    """Raise KeyError with the names that exist if one of ``names`` is no registered dataset."""
    for name in names:
        if name not in DatasetCatalog.list():
            known = [known for known in DatasetCatalog.list() if is_video_pose(known)]
            raise KeyError(f"dataset {name!r} is not registered; video datasets: {sorted(known)}")


def setup(args: argparse.Namespace) -> CfgNode:
    """Build the configuration of ``train_net.py``'s arguments, set up memory, logging and seeds.

    Args:
        args: of ``detectron2.engine.default_argument_parser``.
    """
    keep_freed_memory()
    cfg = get_pose_cfg()
    if args.config_file:
        args.config_file = find_config(args.config_file)  # Detectron2's set-up reads it, too
        merge_config_file(cfg, args.config_file)
    cfg.merge_from_list(args.opts)
    complete_cfg(cfg)
    cfg.freeze()
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="video_pose")
    return cfg
