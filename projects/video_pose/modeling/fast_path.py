"""The form in which a trained model is evaluated: an equivalent copy that computes faster."""

from __future__ import annotations

import torch
from detectron2.config import CfgNode
from torch import nn

from video_pose.modeling.fold_norms import fold_norms
from video_pose.modeling.precision import check_precision
from video_pose.modeling.video_pose_net import VideoPoseNet


def fast_path(model: VideoPoseNet, *, precision: str = "") -> VideoPoseNet:
    """A copy of ``model`` in evaluation mode, folded and in channels-last layout.

    Batch norms become part of the convolutions before them, and the model's own ``fold`` replaces
    what else is linear: heatmaps differ by rounding alone. The copy does not follow ``model``: one
    that is trained on needs a new copy.

    Args:
        model: trained; it is not changed, nor are its mode and the states that it keeps.
        precision: of inference, as TEST.PRECISION; "" is the model's own.
    """
    folded = fold_norms(model)
    assert isinstance(folded, VideoPoseNet)
    folded.fold()
    folded.precision = check_precision(precision or model.precision)
    folded.layout = torch.channels_last
    return folded.requires_grad_(False).to(memory_format=folded.layout)


def build_fast_path(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """What ``cfg.TEST`` evaluates in the place of ``model``: `fast_path`, or ``model`` itself where
    TEST.FAST is off."""
    if cfg.TEST.FAST and isinstance(model, VideoPoseNet):
        return fast_path(model, precision=cfg.TEST.PRECISION)
    return model
