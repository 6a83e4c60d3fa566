"""From command line to a complete, frozen configuration."""

from __future__ import annotations

import argparse
import logging
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from video_pose import add_video_pose_config, load_models
from video_pose.data.datasets.builtin_meta import known_mirror_pairs
from video_pose.engine.config_file import find_config, merge_config_file, merge_options
from video_pose.engine.launch import keep_freed_memory, lock_output
from video_pose.engine.views import default_view, is_recurrent, is_video_pose, view_of
from video_pose.evaluation.pck_evaluator import PERSON_RULES
from video_pose.modeling.fast_path import COMPILE
from video_pose.modeling.precision import PRECISIONS
from video_pose.plugins import BACKENDS, CONFIG_KEYS, EVALUATORS
from video_pose.skeleton import mirror_pairs

# Evaluators register when they are imported.
from video_pose.engine import evaluation  # noqa: F401  isort: skip

logger = logging.getLogger(__name__)


def get_pose_cfg() -> CfgNode:
    """Detectron2's configuration with the keys of this project, of models and of plugins."""
    cfg = get_cfg()
    add_video_pose_config(cfg)
    for package in load_models().values():
        package.add_config(cfg)
    for name in CONFIG_KEYS:
        CONFIG_KEYS.get(name)(cfg)
    return cfg


def load_cfg(
    config_file: str = "",
    options: Sequence[object] = (),
    *,
    first: Sequence[object] = (),
    for_inference: bool = False,
    complete: bool = True,
) -> CfgNode:
    """The configuration of a program: the defaults, then ``first``, the file and ``options``.

    Args:
        config_file: a file, or a name in Detectron2's model zoo; "": none.
        options: keys and values in turn, as a command line has them. first: likewise.
        for_inference: the model will run on other data. A user's datasets need not be registered
            where the model's joints are known, nor where a detector names its classes itself.
        complete: call `complete_cfg`.

    Raises:
        FileNotFoundError: there is no such file. KeyError: an unknown key, dataset or protocol.
        ValueError: a file or a value cannot be read, or the configuration contradicts itself.
    """
    cfg = get_pose_cfg()
    merge_options(cfg, first)
    if config_file:
        merge_config_file(cfg, find_config(config_file))
    merge_options(cfg, options)
    if "MODEL.DEVICE" in options[::2]:
        require_device(cfg.MODEL.DEVICE)
    if for_inference and not _drop_unknown_datasets(cfg):
        return cfg
    if complete:
        complete_cfg(cfg)
    return cfg


def _drop_unknown_datasets(cfg: CfgNode) -> bool:
    """For inference: leave out datasets that are not registered. Returns whether to complete."""
    known = set(DatasetCatalog.list())
    if not is_recurrent(cfg):
        # Detectors of other projects need no more than their classes' names.
        choose_device(cfg)
        return {*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST} <= known
    if cfg.MODEL.POSE.JOINTS:
        cfg.DATASETS.TRAIN = tuple(name for name in cfg.DATASETS.TRAIN if name in known)
        cfg.DATASETS.TEST = tuple(name for name in cfg.DATASETS.TEST if name in known)
    return True


def require_device(device: str) -> None:
    """Raise ValueError for a GPU that is asked for by name and that this machine lacks."""
    if not device.startswith("cuda"):
        return
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    number = int(device.rpartition(":")[2]) if ":" in device else 0
    if number >= count:
        raise ValueError(
            f"MODEL.DEVICE {device!r}: this machine has {count} GPUs that PyTorch can use; "
            "leave the key out, or set MODEL.DEVICE cpu"
        )


def choose_device(cfg: CfgNode) -> None:
    """The CPU where a configuration was made for a GPU and there is none; in place."""
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        logger.info("No GPU: MODEL.DEVICE is cpu")
        cfg.MODEL.DEVICE = "cpu"


def complete_cfg(cfg: CfgNode) -> None:
    """Fill in what follows from dataset and machine: joints, their mirror pairs, device; in place.

    Raises:
        KeyError: a dataset that is not registered, or an unknown protocol.
        ValueError: MODEL.POSE.JOINTS is empty and there is no training dataset to take it from, a
            dataset does not go with the model's joints or with a protocol, or a key of
            Detectron2 is set that has no effect here.
    """
    choose_device(cfg)
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
    check_values(cfg)
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


# Keys whose values nothing else looks at before training is over: what each must be.
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "TEST.CHUNK_LENGTH": (lambda value: value >= 1, "1 frame or more"),
    "TEST.RESET_EVERY": (lambda value: value >= 0, "a number of frames, or 0: never"),
    "TEST.COMPILE": (lambda value: value in COMPILE, f"one of {COMPILE}"),
    "TEST.BACKEND": (
        lambda value: value == "auto" or value in BACKENDS or os.path.isdir(value),
        "auto, openvino, onnx, torch, a plugin's, or the folder of an export",
    ),
    "TEST.PRECISION": (lambda value: value in PRECISIONS, f"one of {PRECISIONS}"),
    "TEST.SCALES": (lambda value: value and min(value) > 0, "factors above 0"),
    "TEST.PCK.PERSON": (lambda value: value in PERSON_RULES, f"one of {PERSON_RULES}"),
    "MODEL.PIXEL_STD": (lambda value: value and min(map(abs, value)) > 0, "numbers other than 0"),
}


def check_values(cfg: CfgNode) -> None:
    """Refuse values that would end a run late, or change it in silence.

    Raises:
        ValueError: names the key, its value and what it must be.
    """
    for key, (allows, expected) in _RULES.items():
        value: Any = cfg
        for part in key.split("."):
            value = value[part]
        if not allows(value):
            raise ValueError(f"{key} is {value!r}: must be {expected}")
    for name in cfg.TEST.EVALUATORS:
        EVALUATORS.check(name)
    _warn_of_warmup(cfg)


def _warn_of_warmup(cfg: CfgNode) -> None:
    solver = cfg.SOLVER
    if 0 < solver.MAX_ITER < solver.WARMUP_ITERS and solver.WARMUP_METHOD == "linear":
        done = solver.MAX_ITER / solver.WARMUP_ITERS
        factor = solver.WARMUP_FACTOR * (1 - done) + done
        logger.warning(
            "SOLVER.MAX_ITER %d is below WARMUP_ITERS %d: the learning rate ends at %.3g and never "
            "reaches BASE_LR %g",
            solver.MAX_ITER, solver.WARMUP_ITERS, solver.BASE_LR * factor, solver.BASE_LR,
        )  # fmt: skip


def require_registered(names: list[str]) -> None:
    """Raise KeyError with the names that exist if one of ``names`` is no registered dataset."""
    for name in names:
        if name not in DatasetCatalog.list():
            known = [known for known in DatasetCatalog.list() if is_video_pose(known)]
            raise KeyError(f"dataset {name!r} is not registered; video datasets: {sorted(known)}")


def setup(args: argparse.Namespace) -> CfgNode:
    """Build the configuration of ``train_net.py``'s arguments, set up memory, logging and seeds.

    The first process holds OUTPUT_DIR from here on, see `lock_output`.

    Args:
        args: of ``detectron2.engine.default_argument_parser``.
    """
    keep_freed_memory()
    if args.config_file:
        args.config_file = find_config(args.config_file)  # Detectron2's set-up reads it, too
    cfg = load_cfg(args.config_file, args.opts)
    cfg.freeze()
    if comm.is_main_process():
        lock_output(cfg.OUTPUT_DIR)
    default_setup(cfg, args)
    setup_logger(cfg.OUTPUT_DIR, distributed_rank=comm.get_rank(), name="video_pose")
    return cfg
