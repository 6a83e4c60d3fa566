"""Evaluation of a model on every test dataset of a configuration."""

from __future__ import annotations

import logging
import os
from collections import OrderedDict
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import (
    DatasetEvaluator,
    DatasetEvaluators,
    inference_on_dataset,
    print_csv_format,
)
from detectron2.utils import comm

from video_pose.data.frames import register_tracks
from video_pose.engine.checkpointer import CONFIG
from video_pose.engine.launch import ShieldedLoader
from video_pose.engine.views import is_video_pose, oks_sigmas, view_of
from video_pose.evaluation.coco import FrameCOCOEvaluator, ImageCOCOEvaluator
from video_pose.evaluation.pck_evaluator import FramePCKEvaluator, ImagePCKEvaluator, PCKEvaluator
from video_pose.evaluation.people import PeopleEvaluator
from video_pose.files import write_json, write_text
from video_pose.plugins import EVALUATORS
from video_pose.skeleton import with_widths

logger = logging.getLogger(__name__)


def build_evaluators(cfg: CfgNode, dataset_name: str) -> list[DatasetEvaluator]:
    """Those of ``TEST.EVALUATORS`` that model and dataset have something for, in the order in which
    they are registered. They write to OUTPUT_DIR/inference/<dataset>."""
    wanted = [name for name in EVALUATORS if name in cfg.TEST.EVALUATORS]
    made = [EVALUATORS.get(name)(cfg, dataset_name) for name in wanted]
    return [evaluator for evaluator in made if evaluator is not None]


@EVALUATORS.add("coco")
def build_coco(cfg: CfgNode, dataset_name: str) -> DatasetEvaluator | None:
    """AP of boxes, masks and keypoints, as far as the model predicts them."""
    folder, joints = output_folder(cfg, dataset_name), predicted_joints(cfg)
    metadata, widths = MetadataCatalog.get(dataset_name), given_widths(cfg)
    if is_video_pose(dataset_name):
        if not metadata.get("keypoint_oks_sigmas"):
            logger.info("%s has no keypoint_oks_sigmas: no keypoint AP", dataset_name)
            return None
        # These models are given boxes, or take them from the joints: AP of boxes is not theirs.
        return FrameCOCOEvaluator(dataset_name, joints, ["keypoints"], folder, widths=widths)
    tasks = ["bbox"]
    tasks += ["segm"] * cfg.MODEL.MASK_ON + ["keypoints"] * cfg.MODEL.KEYPOINT_ON
    video_dataset = metadata.get("video_dataset")
    if video_dataset is not None:
        return FrameCOCOEvaluator(video_dataset, joints, tasks, folder, widths=widths)
    names = list(metadata.get("keypoint_names", joints))
    sigmas = with_widths(names, oks_sigmas(names, [dataset_name]), widths) if joints else []
    if names == joints:
        sigmas = list(cfg.TEST.KEYPOINT_OKS_SIGMAS)
    return ImageCOCOEvaluator(dataset_name, joints, tasks, sigmas, folder)


@EVALUATORS.add("pck")
def build_pck(cfg: CfgNode, dataset_name: str) -> DatasetEvaluator | None:
    """PCK by the protocols of TEST.PCK.PROTOCOLS, else the dataset's; None without joints."""
    joints = predicted_joints(cfg)
    if is_video_pose(dataset_name):
        return _pck_evaluator(cfg, dataset_name, dataset_name)
    if not joints:
        return None
    metadata = MetadataCatalog.get(dataset_name)
    video_dataset = metadata.get("video_dataset")
    if video_dataset is not None:
        inner = _pck_evaluator(cfg, video_dataset, dataset_name)
        return FramePCKEvaluator(inner, video_dataset, cfg.TEST.PCK.PERSON)
    tracks = register_tracks(dataset_name, list(metadata.get("keypoint_names", joints)))
    if not DatasetCatalog.get(tracks):
        logger.info("%s has no labelled joint: no PCK", dataset_name)
        return None
    return ImagePCKEvaluator(_pck_evaluator(cfg, tracks, dataset_name), tracks)


@EVALUATORS.add("people")
def build_people(cfg: CfgNode, dataset_name: str) -> DatasetEvaluator | None:
    """People and their identity, on the frames of a video dataset that shows several at once."""
    joints, metadata = predicted_joints(cfg), MetadataCatalog.get(dataset_name)
    video_dataset = metadata.get("video_dataset")
    if video_dataset is None or not joints or not metadata.get("keypoint_oks_sigmas"):
        return None
    videos = [track["video_id"] for track in DatasetCatalog.get(video_dataset)]
    if len(set(videos)) == len(videos):
        return None
    folder = output_folder(cfg, dataset_name)
    return PeopleEvaluator(video_dataset, joints, folder, widths=given_widths(cfg))


def _pck_evaluator(cfg: CfgNode, tracks: str, dataset_name: str) -> PCKEvaluator:
    """PCK on the dataset ``tracks``, for the test of ``dataset_name``."""
    return PCKEvaluator(
        tracks,
        joint_names=predicted_joints(cfg),
        protocols=list(cfg.TEST.PCK.PROTOCOLS) or None,
        output_dir=output_folder(cfg, dataset_name),
        save_predictions=cfg.TEST.PCK.SAVE_PREDICTIONS,
    )


def given_widths(cfg: CfgNode) -> dict[str, float]:
    """TEST.KEYPOINT_OKS_SIGMAS by joint, where a user has set it: other datasets have widths of
    their own, which hold where it has what `oks_sigmas` gives."""
    joints, sigmas = predicted_joints(cfg), list(cfg.TEST.KEYPOINT_OKS_SIGMAS)
    train, test = list(cfg.DATASETS.TRAIN), list(cfg.DATASETS.TEST)
    if any(sigmas == oks_sigmas(joints, names) for names in ([], train, [*train, *test])):
        return {}
    return dict(zip(joints, sigmas, strict=True)) if sigmas else {}


def output_folder(cfg: CfgNode, dataset_name: str) -> str:
    """Where the files of one dataset's evaluation go."""
    return os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)


def predicted_joints(cfg: CfgNode) -> list[str]:
    """The joints of the model; none of an R-CNN without keypoints."""
    return list(cfg.MODEL.POSE.JOINTS) if view_of(cfg).needs_joints(cfg) else []


def evaluate(cfg: CfgNode, model: torch.nn.Module, *, changes: bool = False) -> dict[str, Any]:
    """Run ``model`` over DATASETS.TEST; a model in training is in training afterwards.

    Args:
        changes: its weights will change, as within a training.

    Returns:
        One dataset: its results, {task: {metric: value}}, as ``verify_results`` wants them.
        Several: {dataset: results}. Ranks other than 0 return {} per dataset.
    """
    was_training = model.training
    try:
        results = _results(cfg, view_of(cfg).tested(cfg, model, changes=changes))
    finally:
        # A backend of the model itself puts it in evaluation mode, out of Detectron2's sight.
        if model.training != was_training:
            model.train(was_training)
    return next(iter(results.values())) if len(results) == 1 else results


def require_test_data(cfg: CfgNode) -> None:
    """Read every test dataset once: a training would end at its first evaluation otherwise.

    Raises:
        FileNotFoundError, ValueError: one cannot be read, or its classes have other numbers than
            those of DATASETS.TRAIN.
    """
    for name in cfg.DATASETS.TEST:
        try:
            DatasetCatalog.get(name)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f'DATASETS.TEST {name!r}: {error}; DATASETS.TEST "()" trains without an evaluation'
            ) from error
        require_class_order(cfg, name)


def require_class_order(cfg: CfgNode, dataset_name: str) -> None:
    """Models know classes by number: those of a test dataset must have the training's numbers.

    Raises:
        ValueError: a class of ``dataset_name`` has another number in a dataset of DATASETS.TRAIN
            whose classes are known: that is part of the program, or was read.
    """
    tested = list(MetadataCatalog.get(dataset_name).get("thing_classes", []))
    for name in cfg.DATASETS.TRAIN:
        trained = list(MetadataCatalog.get(name).get("thing_classes", []))
        moved = [c for c in tested if c in trained and trained.index(c) != tested.index(c)]
        if moved:
            raise ValueError(
                f"classes have other numbers in DATASETS.TEST {dataset_name!r} ({tested}) than in "
                f"DATASETS.TRAIN {name!r} ({trained}), such as {moved[0]!r}: give both files the "
                "same categories, with the same ids"
            )


def _results(cfg: CfgNode, tested: torch.nn.Module) -> dict[str, Any]:
    """Of every test dataset, written and logged."""
    results: OrderedDict[str, Any] = OrderedDict()
    view = view_of(cfg)
    for name in cfg.DATASETS.TEST:
        made = build_evaluators(cfg, name)
        require_class_order(cfg, name)
        if not made:
            results[name] = {}
            logger.warning(
                "%s is not run: TEST.EVALUATORS %s have nothing to score on it with %s",
                name, list(cfg.TEST.EVALUATORS), cfg.MODEL.META_ARCHITECTURE,
            )  # fmt: skip
            continue
        loader = ShieldedLoader(view.build_test_loader(cfg, name))
        results[name] = inference_on_dataset(tested, loader, DatasetEvaluators(made)) or {}
        if comm.is_main_process():
            if not results[name]:
                logger.warning("%s has no annotations to score by: there are no figures", name)
            write_results(cfg, name, results[name])
            logger.info("Results on %s, for copying:", name)
            print_csv_format(results[name])
    return results


def write_results(cfg: CfgNode, dataset_name: str, results: dict[str, Any]) -> None:
    """Keep the figures in OUTPUT_DIR/inference/<dataset>/results.json, for tables of models, and
    what they were made with in config.yaml there."""
    folder = output_folder(cfg, dataset_name)
    os.makedirs(folder, exist_ok=True)
    write_text(os.path.join(folder, CONFIG), cfg.dump())
    write_json(os.path.join(folder, "results.json"), results, indent=1)
