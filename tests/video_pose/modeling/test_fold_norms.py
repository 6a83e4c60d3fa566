"""Norms folded into convolutions."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn

from video_pose.modeling.layers import fold_norms


def test_folding_by_hand() -> None:
    """Weight 2, mean 3, variance 4, gamma 6, beta 5: y = 6 (2 x - 3) / 2 + 5 = 6 x - 4."""
    conv = Conv2d(1, 1, 1, bias=False, norm=nn.BatchNorm2d(1, eps=0.0))
    conv.weight.data.fill_(2)
    conv.norm.running_mean.fill_(3)
    conv.norm.running_var.fill_(4)
    conv.norm.weight.data.fill_(6)
    conv.norm.bias.data.fill_(5)
    folded = fold_norms(conv)
    assert folded.weight.item() == pytest.approx(6) and folded.bias.item() == pytest.approx(-4)
    assert folded.norm is None and conv.norm is not None and conv.weight.item() == 2


def test_folding_of_sequences_and_frozen_norms() -> None:
    torch.manual_seed(0)
    frozen = Conv2d(3, 4, 3, norm=FrozenBatchNorm2d(4), activation=nn.ReLU())
    frozen.norm.running_mean.normal_()
    frozen.norm.weight.normal_()
    # The last norm follows an activation and must stay.
    model = nn.Sequential(
        frozen, nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5), nn.ReLU(), nn.BatchNorm2d(5)
    )
    model[2].running_mean.normal_()
    model[2].running_var.uniform_(0.5, 2)
    model.eval()
    folded = fold_norms(model)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(folded(x), model(x), atol=1e-5, rtol=1e-5)
    kinds = [type(module).__name__ for module in folded.modules()]
    assert kinds.count("BatchNorm2d") == 1 and "FrozenBatchNorm2d" not in kinds
