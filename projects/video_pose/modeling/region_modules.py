"""What Detectron2's region heads need, to train under autocast and in channels-last layout."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads import BaseKeypointRCNNHead
from torch import nn


def prepare_regions(model: nn.Module) -> None:
    """Adapt the region poolers and keypoint heads of ``model``, in place.

    * A pooler reads its features in float32: ROIAlign casts the boxes to the features' format, and
      bfloat16 knows whole pixels only up to 256, so that boxes would be off by pixels.
    * A keypoint head keeps the plain layout, which the views of its loss and decoding ask for.

    A model without such parts is left as it is, and a second call changes nothing.
    """
    for module in model.modules():
        if isinstance(module, ROIPooler) and not hasattr(module, "pools_in_float32"):
            module.register_forward_pre_hook(_plain_features)
            module.pools_in_float32 = True
        if isinstance(module, BaseKeypointRCNNHead):
            module.to(memory_format=torch.contiguous_format)


def _plain_features(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
    features, *rest = args
    return ([feature.float().contiguous() for feature in features], *rest)
