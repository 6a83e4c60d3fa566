"""Convolutions with packed weights against the modules that they stand for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from torch import nn

from video_pose.modeling import packed_conv
from video_pose.modeling.packed_conv import PackedConv2d, can_pack, is_packable, multiply, pack

CPU = torch.device("cpu")
pytestmark = pytest.mark.skipif(not can_pack(CPU, torch.float32), reason="PyTorch without oneDNN")


@pytest.fixture(autouse=True)
def tried_anew() -> Iterator[None]:
    """What was found out about this machine does not outlive a test that pretends another one."""
    packed_conv._computes.cache_clear()
    yield
    packed_conv._computes.cache_clear()


@torch.no_grad()
@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(3, 8, 7, stride=2, padding=3),
        nn.Conv2d(16, 8, 1, bias=False),
        nn.Conv2d(8, 8, 3, padding=4, dilation=4, groups=2),
        Conv2d(8, 5, 3, padding=1, activation=F.relu),
        Conv2d(8, 5, 3, padding=(2, 1), activation=nn.ReLU()),
    ],
    ids=str,
)
def test_it_is_the_convolution(conv: nn.Conv2d) -> None:
    torch.manual_seed(0)
    packed = PackedConv2d(conv, torch.float32)
    for size in ((1, 9, 11), (3, 9, 11), (2, 16, 7)):  # the first call's layout serves them all
        maps = torch.randn(size[0], conv.in_channels, *size[1:])
        torch.testing.assert_close(packed(maps), conv(maps), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_it_computes_in_its_own_type() -> None:
    if not can_pack(CPU, torch.bfloat16):
        pytest.skip("no bfloat16 instructions")
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 8, 3, padding=1)
    maps = torch.randn(2, 16, 9, 9)
    found = PackedConv2d(conv, torch.bfloat16)(maps)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), conv(maps), atol=0.03, rtol=0.03)


@torch.no_grad()
def test_weights_for_one_image_and_for_several() -> None:
    """oneDNN brings weights in the layout of the other number into its own at every call."""
    torch.manual_seed(0)
    conv = nn.Conv2d(64, 256, 1)
    packed = PackedConv2d(conv, torch.float32)
    for images in (3, 1, 2, 1):
        maps = torch.randn(images, 64, 23, 23)
        torch.testing.assert_close(packed(maps), conv(maps), atol=1e-5, rtol=1e-5)
    assert set(packed._packed) == {True, False}


def test_products() -> None:
    torch.manual_seed(0)
    left, right = torch.randn(5, 7), torch.randn(7, 30)
    torch.testing.assert_close(multiply(left, right), left @ right)
    torch.testing.assert_close(multiply(right.t(), left.t()), (left @ right).t())


def test_what_is_packed() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3),
        Conv2d(4, 4, 1, norm=nn.BatchNorm2d(4)),
        Conv2d(4, 4, 1, activation=torch.sigmoid),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Sequential(nn.Conv2d(4, 4, 1)),
    )
    assert [is_packable(layer) for layer in model[:5]] == [True, False, False, False, False]
    assert pack(model, torch.float32) == 2
    assert isinstance(model[0], PackedConv2d) and isinstance(model[5][0], PackedConv2d)
    assert type(model[1]) is Conv2d


def test_other_devices_and_types_are_not_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not can_pack(torch.device("cuda"), torch.float32)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert not can_pack(CPU, torch.bfloat16)


def test_operators_that_fail_are_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def changed(*args: object) -> None:
        raise TypeError("unexpected argument")

    monkeypatch.setattr(torch._C._nn, "mkldnn_reorder_conv2d_weight", changed)
    state = torch.random.get_rng_state()
    assert not can_pack(CPU, torch.float32) and not can_pack(CPU, torch.float32)
    assert torch.equal(torch.random.get_rng_state(), state)
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 1 and "unexpected argument" in messages[0]
    monkeypatch.undo()
    packed_conv._computes.cache_clear()
    assert can_pack(CPU, torch.float32)


def test_a_user_may_switch_onednn_off() -> None:
    with torch.backends.mkldnn.flags(enabled=False):
        assert not can_pack(CPU, torch.float32)
    assert can_pack(CPU, torch.float32)
