"""Stock Detectron2 models on frames: what the datasets decide, evaluators, the model as tested."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from torch import nn

from video_pose.data.datasets.builtin_meta import JointSet, infer_flip_map
from video_pose.data.frames import FRAMES_SUFFIX
from video_pose.data.image_tracks import register_tracks
from video_pose.evaluation.coco import FrameCOCOEvaluator, ImageCOCOEvaluator
from video_pose.evaluation.pck_evaluator import FramePCKEvaluator, ImagePCKEvaluator, PCKEvaluator
from video_pose.modeling.precision import inference_autocast
from video_pose.modeling.region_modules import prepare_regions
from video_pose.modeling.roi_keypoint_flip import KeypointRCNNWithTTA

# Heads and backbones register when they are imported.
from video_pose.modeling import roi_mask_head, short_fpn  # noqa: F401  isort: skip

logger = logging.getLogger(__name__)


def complete_frames_cfg(cfg: CfgNode) -> None:
    """Set what follows from the model's joints: their number, OKS widths, mirror pairs; in place.

    Raises:
        ValueError: a video dataset is named in place of its frames, or mirror pairs or OKS widths
            cannot be had.
    """
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    for name in names:
        if MetadataCatalog.get(name).get("evaluator_type") == "video_pose":
            raise ValueError(
                f"{cfg.MODEL.META_ARCHITECTURE} takes single frames: name {name + FRAMES_SUFFIX!r} "
                f"instead of {name!r}"
            )
    if not cfg.MODEL.KEYPOINT_ON:
        return
    joints = list(cfg.MODEL.POSE.JOINTS)
    cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = len(joints)
    if not cfg.TEST.KEYPOINT_OKS_SIGMAS:
        cfg.TEST.KEYPOINT_OKS_SIGMAS = oks_sigmas(joints, names)
    if len(cfg.TEST.KEYPOINT_OKS_SIGMAS) != len(joints):
        raise ValueError(
            f"TEST.KEYPOINT_OKS_SIGMAS has {len(cfg.TEST.KEYPOINT_OKS_SIGMAS)} values for "
            f"{len(joints)} joints {joints}; leave it empty to take them from the datasets"
        )
    if not cfg.MODEL.POSE.FLIP_MAP:
        cfg.MODEL.POSE.FLIP_MAP = [list(pair) for pair in mirror_pairs(joints, names)]
    mirrors = cfg.INPUT.RANDOM_FLIP == "horizontal" or (cfg.TEST.AUG.ENABLED and cfg.TEST.AUG.FLIP)
    known = any("keypoint_flip_map" in MetadataCatalog.get(name).as_dict() for name in names)
    if mirrors and not cfg.MODEL.POSE.FLIP_MAP and not known:
        raise ValueError(
            f"which of the joints {joints} a mirror image swaps is unknown: set "
            "MODEL.POSE.FLIP_MAP, or keypoint_flip_map in the dataset's metadata, or "
            "INPUT.RANDOM_FLIP to 'none' (and TEST.AUG.FLIP to False)"
        )


def oks_sigmas(joints: Sequence[str], dataset_names: Sequence[str]) -> list[float]:
    """Width of each joint: of the first dataset that has one for it, else that of its name."""
    found: dict[str, float] = {}
    for name in dataset_names:
        metadata = MetadataCatalog.get(name)
        pairs = zip(metadata.get("keypoint_names", []), metadata.get("keypoint_oks_sigmas", []))
        for joint, sigma in pairs:
            found.setdefault(joint, float(sigma))
    # With a pair given, no mirror images are asked for, which a list of joints may lack.
    defaults = dict(zip(joints, JointSet(list(joints), flip_map=[("", "")]).sigmas))
    return [found.get(joint, defaults[joint]) for joint in joints]


def mirror_pairs(joints: Sequence[str], dataset_names: Sequence[str]) -> list[tuple[str, str]]:
    """(left, right) pairs among ``joints``, of the datasets' metadata and by their names.

    Raises:
        ValueError: a left joint lacks its right one, or the reverse.
    """
    pairs = [
        (left, right)
        for name in dataset_names
        for left, right in MetadataCatalog.get(name).get("keypoint_flip_map", [])
        if left in joints and right in joints
    ]
    paired = {joint for pair in pairs for joint in pair}
    pairs += infer_flip_map([joint for joint in joints if joint not in paired])
    return list(dict.fromkeys(pairs))


def build_frame_evaluators(cfg: CfgNode, dataset_name: str) -> list[DatasetEvaluator]:
    """The evaluators of ``TEST.EVALUATORS`` that model and dataset have something for."""
    output_dir = os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
    joints = list(cfg.MODEL.POSE.JOINTS) if cfg.MODEL.KEYPOINT_ON else []
    tasks = ["bbox"]
    tasks += ["segm"] * cfg.MODEL.MASK_ON + ["keypoints"] * cfg.MODEL.KEYPOINT_ON
    video_dataset = MetadataCatalog.get(dataset_name).get("video_dataset")
    if video_dataset is None:
        return _image_evaluators(cfg, dataset_name, joints, tasks, output_dir)
    evaluators: list[DatasetEvaluator] = []
    if "coco" in cfg.TEST.EVALUATORS:
        evaluators.append(FrameCOCOEvaluator(video_dataset, joints, tasks, output_dir))
    if "pck" in cfg.TEST.EVALUATORS and joints:
        inner = _pck_evaluator(cfg, video_dataset, joints, output_dir)
        evaluators.append(FramePCKEvaluator(inner, video_dataset, cfg.TEST.PCK.PERSON))
    return evaluators


def _image_evaluators(
    cfg: CfgNode, dataset_name: str, joints: list[str], tasks: list[str], output_dir: str
) -> list[DatasetEvaluator]:
    """As `build_frame_evaluators`, of an image dataset."""
    names = list(MetadataCatalog.get(dataset_name).get("keypoint_names", joints))
    evaluators: list[DatasetEvaluator] = []
    if "coco" in cfg.TEST.EVALUATORS:
        sigmas = oks_sigmas(names, [dataset_name]) if joints else []
        if names == joints:
            sigmas = list(cfg.TEST.KEYPOINT_OKS_SIGMAS)
        evaluators.append(ImageCOCOEvaluator(dataset_name, joints, tasks, sigmas, output_dir))
    if "pck" in cfg.TEST.EVALUATORS and joints:
        tracks = register_tracks(dataset_name, names)
        if DatasetCatalog.get(tracks):
            inner = _pck_evaluator(cfg, tracks, joints, output_dir)
            evaluators.append(ImagePCKEvaluator(inner, tracks))
        else:
            logger.info("%s has no labelled joint: no PCK", dataset_name)
    return evaluators


def _pck_evaluator(
    cfg: CfgNode, dataset_name: str, joints: list[str], output_dir: str
) -> PCKEvaluator:
    return PCKEvaluator(
        dataset_name,
        joint_names=joints,
        protocols=list(cfg.TEST.PCK.PROTOCOLS) or None,
        output_dir=output_dir,
        save_predictions=cfg.TEST.PCK.SAVE_PREDICTIONS,
    )


class FrameModel(nn.Module):
    """A stock model as it is tested: in TEST.PRECISION, with TEST.AUG where that is enabled."""

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        super().__init__()
        self.model = KeypointRCNNWithTTA(cfg, model) if cfg.TEST.AUG.ENABLED else model
        self._precision = cfg.TEST.PRECISION
        self._device = torch.device(cfg.MODEL.DEVICE)
        prepare_regions(model)
        self.train(model.training)

    def forward(self, batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """As the model's: one ``{"instances": Instances}`` an image."""
        with inference_autocast(self._precision, self._device):
            return self.model(batch)
