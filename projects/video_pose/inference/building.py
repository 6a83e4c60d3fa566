"""Models and person regions from configuration files, for inference."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import replace

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from torch import nn

from video_pose.engine import defaults
from video_pose.engine.checkpointer import PoseCheckpointer, load_for_evaluation
from video_pose.engine.views import is_recurrent
from video_pose.inference.people import DetectedPeople, FollowedPerson, GivenBoxes, People
from video_pose.inference.pretrained import default_detector, is_pretrained, load_weights
from video_pose.inference.rcnn import PersonRCNN
from video_pose.inference.settings import WEAK_SCORE, PredictorSettings
from video_pose.inference.trackers import Tracker, build_tracker
from video_pose.visualization import connection_indices
from video_pose.visualization.poses import Connection

logger = logging.getLogger(__name__)


def load_cfg(config_file: str, options: Sequence[object] = ()) -> CfgNode:
    """Read a config for inference on this machine; see `video_pose.engine.defaults.load_cfg`."""
    return defaults.load_cfg(config_file, options, for_inference=True)


def load_model(cfg: CfgNode) -> nn.Module:
    """Build the config's model and load MODEL.WEIGHTS; without weights it says so and goes on.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the weights do not fit a recurrent model, or one of the package, in every part.
    """
    weights = cfg.MODEL.WEIGHTS
    if weights and "://" not in weights and not os.path.isfile(weights):
        raise FileNotFoundError(f"MODEL.WEIGHTS not found: {weights}")
    model = build_model(cfg)
    if is_pretrained(weights):
        load_weights(model, weights)
    elif weights and is_recurrent(cfg):
        load_for_evaluation(model, cfg, resume=False)
    elif weights:
        own_format = weights.endswith(".safetensors")
        (PoseCheckpointer if own_format else DetectionCheckpointer)(model).load(weights)
    else:
        logger.warning("MODEL.WEIGHTS is empty: %s is untrained", cfg.MODEL.META_ARCHITECTURE)
    return model.eval()


def load_tracker(settings: PredictorSettings) -> Tracker:
    """The tracker of ``settings``."""
    return build_tracker(
        settings.tracker,
        min_score=settings.min_score,
        max_missed_seconds=settings.max_missed,
    )


def load_detector(cfg: CfgNode, settings: PredictorSettings) -> PersonRCNN:
    """The people's detector of ``cfg``, with the weak detections that a tracker wants as well.

    Raises:
        ValueError: it has no class "person".
    """
    return PersonRCNN.from_cfg(cfg, load_model(cfg), min(WEAK_SCORE, settings.min_score))


def choose_detector(settings: PredictorSettings, region: str) -> PredictorSettings:
    """``settings`` with the package's detector where one is wanted and none is named.

    It is wanted for region "detector", and by a model whose crops show people's boxes where
    ``settings`` say nothing about the region. Without it such a model looks for one person in the
    whole frame, and says so.

    Args:
        region: INPUT.REGION of the model, "box" or "frame".

    Raises:
        ValueError: region "detector", and none ships.
    """
    open_choice = not settings.region and settings.box is None and region == "box"
    if settings.detector or not (open_choice or settings.region == "detector"):
        return settings
    packaged = default_detector()
    if packaged is not None:
        options = ("MODEL.WEIGHTS", packaged.weights, *settings.detector_options)
        return replace(settings, detector=packaged.config, detector_options=options)
    if settings.region == "detector":
        raise ValueError("region 'detector' needs a detector: name its config, as none ships")
    logger.warning(
        "the model was trained on people's boxes and gets none (no detector, no box): one person "
        "is looked for in the whole frame"
    )
    return settings


def load_people(settings: PredictorSettings) -> People:
    """The policy of person regions that ``settings`` describe, its detector loaded."""
    if settings.where in ("frame", "box"):
        return GivenBoxes(settings.box)
    if settings.where == "pose":
        return FollowedPerson(settings.box, min_score=settings.min_pose_score)
    # First what may be missing and costs nothing to find out.
    tracker = load_tracker(settings)
    cfg = load_cfg(settings.detector, settings.detector_options)
    if is_recurrent(cfg):
        raise ValueError(f"detector {settings.detector}: it detects nobody, it is a pose model")
    detector = load_detector(cfg, settings)
    return DetectedPeople(
        detector,
        tracker,
        every=settings.detect_every,
        max_missed=settings.max_missed,
        min_score=settings.min_pose_score,
        sure_score=settings.min_score,
    )


def find_connections(cfg: CfgNode, joint_names: Sequence[str]) -> list[Connection]:
    """Lines between joints, by the first of the config's datasets that has such rules."""
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        if name in MetadataCatalog.list():
            rules = MetadataCatalog.get(name).get("keypoint_connection_rules")
            if rules:
                return connection_indices(joint_names, rules)
    return []
