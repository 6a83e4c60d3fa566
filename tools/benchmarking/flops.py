"""Floating-point operations of a model's parts, by fvcore's counter (two a multiply-add)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from fvcore.nn import FlopCountAnalysis
from torch import Tensor, nn


class _Part(nn.Module):
    """A function of a model as a module, which is what the counter takes."""

    def __init__(self, model: nn.Module, function: Callable[..., Any]) -> None:
        super().__init__()
        self.model = model
        self.function = function

    def forward(self, *tensors: Tensor) -> Any:
        return self.function(*tensors)


@torch.no_grad()
def count_flops(model: nn.Module, crop_size: tuple[int, int]) -> dict[str, int]:
    """Operations of "encode" and "advance" for one frame, and of "begin" for one row."""
    images = torch.zeros((1, 3, *crop_size), device=model.device)
    center = torch.tensor([[crop_size[1] / 2, crop_size[0] / 2]], device=model.device)
    center_map = model.center_map(center, tuple(crop_size), training=False)
    features = model.encode(images)
    state = model.begin(images, features)

    def advance(features: Tensor, center_map: Tensor, *tensors: Tensor) -> Any:
        return model.advance(features, center_map, type(state)(*tensors))

    return {
        "encode": _count(_Part(model, model.encode), (images,)),
        "begin": _count(_Part(model, model.begin), (images, features)),
        "advance": _count(_Part(model, advance), (features, center_map, *state)),
    }


def clip_flops(parts: dict[str, int], frames: int) -> int:
    """Operations of a clip of ``frames`` from a fresh state."""
    return parts["begin"] + frames * (parts["encode"] + parts["advance"])


def _count(part: nn.Module, inputs: tuple[Tensor, ...]) -> int:
    counter = FlopCountAnalysis(part, inputs)
    counter.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return 2 * int(counter.total())
