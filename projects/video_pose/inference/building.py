"""Models from configuration files, for inference."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from torch import nn

from video_pose.engine import defaults
from video_pose.engine.checkpointer import PoseCheckpointer, load_for_evaluation
from video_pose.engine.views import is_recurrent
from video_pose.inference.pretrained import is_pretrained, load_weights

logger = logging.getLogger(__name__)


def load_cfg(config_file: str, options: Sequence[object] = ()) -> CfgNode:
    """Read a config for inference on this machine; see `video_pose.engine.defaults.load_cfg`.

    A name in Detectron2's model zoo comes with the zoo's trained weights, where ``options`` name no
    others: the file itself names those that its training began with.
    """
    options = [*zoo_weights(config_file), *options]
    return defaults.load_cfg(config_file, options, for_inference=True)


def zoo_weights(config_file: str) -> list[str]:
    """MODEL.WEIGHTS and the address of the zoo's trained model; [] for any other config."""
    if not config_file or os.path.isfile(config_file):
        return []
    try:
        return ["MODEL.WEIGHTS", model_zoo.get_checkpoint_url(config_file)]
    except RuntimeError:  # not in the zoo, or nobody trained it
        return []


def load_model(cfg: CfgNode) -> nn.Module:
    """Build the config's model and load MODEL.WEIGHTS; without weights it says so and goes on.

    Raises:
        FileNotFoundError: there is no such file, or it cannot be fetched.
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
        PoseCheckpointer(model).load(weights)
    else:
        logger.warning("MODEL.WEIGHTS is empty: %s is untrained", cfg.MODEL.META_ARCHITECTURE)
    return model.eval()
