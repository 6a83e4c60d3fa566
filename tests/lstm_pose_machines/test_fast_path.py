"""The LSTM Pose Machine's merged cell in the model, over frames and rows of different age."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lstm_pose_machines import LSTMPoseMachine
from video_pose.modeling.fast_path import fast_path


@pytest.mark.parametrize("stages", [1, 3])
def test_heatmaps_stay(
    build: Callable[..., LSTMPoseMachine], rolled: Callable[..., list[Tensor]], stages: int
) -> None:
    model = build("MODEL.LSTM_PM.STAGES_PER_FRAME", stages).eval()
    for layer in (model.head.convolutions()[-1], model.convnet1.get_submodule("conv7")):
        nn.init.normal_(layer.weight, std=0.3)  # the last layers start near 0
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(256, (10, 3, 64, 64), generator=generator, dtype=torch.uint8)
    centers = torch.rand((10, 2), generator=generator) * 64
    plain = rolled(model, images, centers)
    assert min(float(maps.std()) for maps in plain) > 0.05  # maps worth comparing
    fast = fast_path(model)
    assert sum(isinstance(module, nn.Conv2d) for module in fast.cell.modules()) == 1
    for ours, theirs in zip(rolled(fast, images, centers), plain, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
