"""The two ways in which a model sees the datasets: as clips of tracks, or as single frames."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import META_ARCH_REGISTRY
from torch import nn

from video_pose.data.build import build_pose_test_loader, build_pose_train_loader
from video_pose.data.frames import FRAMES_SUFFIX
from video_pose.data.frames_build import build_frames_test_loader, build_frames_train_loader
from video_pose.engine.frames_view import (
    FrameModel,
    build_frame_evaluators,
    complete_frames_cfg,
)
from video_pose.evaluation.coco import FrameCOCOEvaluator
from video_pose.evaluation.pck_evaluator import PCKEvaluator
from video_pose.modeling.fast_path import build_fast_path
from video_pose.modeling.region_modules import prepare_regions
from video_pose.modeling.video_pose_net import VideoPoseNet

logger = logging.getLogger(__name__)

EVALUATORS = ("pck", "coco")


class View(NamedTuple):
    """What differs between the views.

    Attributes:
        needs_joints: (cfg) -> whether a model without MODEL.POSE.JOINTS makes no sense.
        dataset_name: (dataset) -> the name under which the view has it.
        complete: (cfg) sets what follows from the datasets, and refuses what cannot work.
        build_train_loader: (cfg, start_iter).
        build_test_loader, build_evaluators: (cfg, dataset name).
        prepare: (model) for training in any precision, in place.
        tested: (cfg, model) -> the model as it is tested.
    """

    needs_joints: Callable[[CfgNode], bool]
    dataset_name: Callable[[str], str]
    complete: Callable[[CfgNode], None]
    build_train_loader: Callable[[CfgNode, int], Iterable[list[dict[str, Any]]]]
    build_test_loader: Callable[[CfgNode, str], Iterable[list[dict[str, Any]]]]
    build_evaluators: Callable[[CfgNode, str], list[DatasetEvaluator]]
    prepare: Callable[[nn.Module], None]
    tested: Callable[[CfgNode, nn.Module], nn.Module]


def default_view(cfg: CfgNode) -> str:
    """ "clips" for a meta-architecture that is a `VideoPoseNet`, else "frames"."""
    kind = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)
    is_recurrent = isinstance(kind, type) and issubclass(kind, VideoPoseNet)
    return "clips" if is_recurrent else "frames"


def view_of(cfg: CfgNode) -> View:
    """The view of ``INPUT.VIEW``, by default that of the model.

    Raises:
        ValueError: unknown view.
    """
    name = cfg.INPUT.VIEW or default_view(cfg)
    if name not in VIEWS:
        raise ValueError(f"INPUT.VIEW {name!r}: choose from {sorted(VIEWS)}")
    return VIEWS[name]


def check_evaluators(cfg: CfgNode) -> None:
    """Raise ValueError for a name in TEST.EVALUATORS that is none."""
    unknown = sorted(set(cfg.TEST.EVALUATORS) - set(EVALUATORS))
    if unknown:
        raise ValueError(f"TEST.EVALUATORS has {unknown}: choose from {EVALUATORS}")


def complete_clips_cfg(cfg: CfgNode) -> None:
    """Raise ValueError where frames are named in place of a video dataset."""
    for name in [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]:
        video_dataset = MetadataCatalog.get(name).get("video_dataset")
        if video_dataset is not None:
            raise ValueError(
                f"{cfg.MODEL.META_ARCHITECTURE} takes clips: name {video_dataset!r} instead of "
                f"{name!r}"
            )


def build_clip_evaluators(cfg: CfgNode, dataset_name: str) -> list[DatasetEvaluator]:
    """The evaluators of ``TEST.EVALUATORS``, writing to OUTPUT_DIR/inference/<dataset>."""
    output_dir = os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
    joints = list(cfg.MODEL.POSE.JOINTS)
    evaluators: list[DatasetEvaluator] = []
    if "coco" in cfg.TEST.EVALUATORS:
        if MetadataCatalog.get(dataset_name).get("keypoint_oks_sigmas"):
            # Boxes are given to these models, or follow from the joints: no figure of theirs.
            evaluators.append(FrameCOCOEvaluator(dataset_name, joints, ["keypoints"], output_dir))
        else:
            logger.info("%s has no keypoint_oks_sigmas: no keypoint AP", dataset_name)
    if "pck" in cfg.TEST.EVALUATORS:
        evaluators.append(
            PCKEvaluator(
                dataset_name,
                joint_names=joints,
                protocols=list(cfg.TEST.PCK.PROTOCOLS) or None,
                output_dir=output_dir,
                save_predictions=cfg.TEST.PCK.SAVE_PREDICTIONS,
            )
        )
    return evaluators


def frames_name(dataset: str) -> str:
    """The frames of a video dataset; an image dataset itself."""
    name = dataset + FRAMES_SUFFIX
    return name if name in DatasetCatalog.list() else dataset


VIEWS = {
    "clips": View(
        needs_joints=lambda cfg: True,
        dataset_name=lambda name: name,
        complete=complete_clips_cfg,
        build_train_loader=build_pose_train_loader,
        build_test_loader=build_pose_test_loader,
        build_evaluators=build_clip_evaluators,
        prepare=lambda model: None,
        tested=build_fast_path,
    ),
    "frames": View(
        needs_joints=lambda cfg: cfg.MODEL.KEYPOINT_ON,
        dataset_name=frames_name,
        complete=complete_frames_cfg,
        build_train_loader=build_frames_train_loader,
        build_test_loader=build_frames_test_loader,
        build_evaluators=build_frame_evaluators,
        prepare=prepare_regions,
        tested=FrameModel,
    ),
}
