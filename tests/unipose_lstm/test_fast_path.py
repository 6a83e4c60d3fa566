"""UniPose's folded forms against the modules that they stand for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from torch import Tensor, nn

from unipose_lstm.unipose import WASP, FoldedWASP
from video_pose.modeling.fast_path import fast_path
from video_pose.modeling.video_pose_net import VideoPoseNet

SIDE = 64
FORMS = {
    "image": ("UniPose", []),
    "paper": ("UniPoseLSTM", ["MODEL.UNIPOSE.LSTM.FORM", "paper"]),
    "residual": ("UniPoseLSTM", ["MODEL.UNIPOSE.LSTM.RESIDUAL", True]),
    "released": ("UniPoseLSTM", ["MODEL.UNIPOSE.LSTM.FORM", "released"]),
    "no pool norm": ("UniPose", ["MODEL.UNIPOSE.WASP.POOL_NORM", False]),
    "group norm": ("UniPose", ["MODEL.UNIPOSE.NORM", "GN", "MODEL.UNIPOSE.WASP.CHANNELS", 64,
                               "MODEL.UNIPOSE.DECODER.CHANNELS", 64,
                               "MODEL.UNIPOSE.DECODER.LOW_CHANNELS", 64]),
}  # fmt: skip


def randomize(model: nn.Module) -> nn.Module:
    """Weights of order 1 / sqrt(fan in), biases and running statistics as after training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            fan_in = max(parameter[0].numel(), 1)
            parameter.copy_(noise * (fan_in**-0.5 if parameter.dim() > 1 else 0.3))
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
                module.running_mean.normal_(0, 0.3, generator=generator)
                module.running_var.uniform_(0.5, 2.0, generator=generator)
    return model.eval()


def build(tiny_cfg: Callable[..., Any], form: str) -> VideoPoseNet:
    architecture, keys = FORMS[form]
    model = randomize(build_model(tiny_cfg(architecture, *keys)))
    assert isinstance(model, VideoPoseNet)
    return model


@pytest.mark.parametrize("form", FORMS)
def test_heatmaps_stay(
    tiny_cfg: Callable[..., Any], rolled: Callable[..., list[Tensor]], form: str
) -> None:
    model = build(tiny_cfg, form)
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(256, (10, 3, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    centers = torch.rand((10, 2), generator=generator) * SIDE
    plain = rolled(model, images, centers)
    assert max(float(maps.std()) for maps in plain) > 0.05  # maps worth comparing
    fast = fast_path(model)
    for ours, theirs in zip(rolled(fast, images, centers), plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_no_norm_and_no_gate_of_its_own_is_left(tiny_cfg: Callable[..., Any]) -> None:
    model = build(tiny_cfg, "released")
    fast = fast_path(model)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    # Gates of the LSTM and of the first frame, one convolution each in place of eight and three.
    for cell, plain in ((fast.cell, 8), (fast.first_cell, 3)):
        assert sum(isinstance(module, nn.Conv2d) for module in cell.modules()) == 1
        own = model.cell if cell is fast.cell else model.first_cell
        assert sum(isinstance(module, nn.Conv2d) for module in own.modules()) == plain


@torch.no_grad()
def test_the_waterfalls_linear_chain_is_one_convolution() -> None:
    torch.manual_seed(0)
    wasp = randomize(WASP(in_channels=6, channels=4, dilations=[2, 1]))
    assert isinstance(wasp, WASP)
    folded = wasp.folded()
    features = torch.randn(2, 6, 5, 7)
    torch.testing.assert_close(folded(features), wasp(features), atol=1e-5, rtol=1e-5)
    # Three branches; one projection of them, and one of the pooled features as vectors.
    shapes: list[tuple[int, ...]] = []
    for module in folded.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, i, out: shapes.append(tuple(out.shape[1:])))
    assert isinstance(folded, FoldedWASP)
    folded(features)
    assert sorted(shapes) == [(4, 1, 1)] * 2 + [(4, 5, 7)] * 4
