"""Convolutions joined with their frozen norms compute, learn and store what they did apart."""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import Tensor, nn

from video_pose.modeling.layers import FrozenNormConv2d, fold_norms, join_frozen_norms


def make_net() -> nn.Sequential:
    """A strided convolution with frozen norm and ReLU, one with a norm that is trained, and a bare
    one."""
    torch.manual_seed(0)
    norm = FrozenBatchNorm2d(4)
    for name in ("weight", "bias", "running_mean"):
        getattr(norm, name).copy_(torch.randn(4))
    norm.running_var.copy_(torch.rand(4) + 0.5)
    return nn.Sequential(
        Conv2d(3, 4, 3, stride=2, padding=1, bias=False, norm=norm, activation=F.relu),
        Conv2d(4, 4, 1, bias=False, norm=nn.BatchNorm2d(4)),
        Conv2d(4, 2, 1),
    )


def gradients(net: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    out = net(images)
    out.square().sum().backward()
    return out, {name: p.grad for name, p in net.named_parameters()}


def test_maps_gradients_and_names_stay() -> None:
    apart, images = make_net(), torch.randn(2, 3, 9, 9)
    joined = copy.deepcopy(apart)
    join_frozen_norms(joined)
    assert [type(module) for module in joined] == [FrozenNormConv2d, Conv2d, Conv2d]
    expected, expected_gradients = gradients(apart, images)
    got, got_gradients = gradients(joined, images)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(got_gradients, expected_gradients)
    assert list(joined.state_dict()) == list(apart.state_dict())
    apart[0].norm.bias.add_(1)  # what a checkpoint brings counts
    joined.load_state_dict(apart.state_dict())
    torch.testing.assert_close(joined(images), apart(images))


def test_folding_for_inference_takes_joined_ones_too() -> None:
    net, images = make_net(), torch.randn(2, 3, 9, 9)
    join_frozen_norms(net)
    expected = net.eval()(images)
    folded = fold_norms(net)
    assert folded[0].norm is None and type(folded[0]) is Conv2d
    torch.testing.assert_close(folded(images), expected)
