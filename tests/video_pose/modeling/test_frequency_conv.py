"""The frequency form against PyTorch's own convolution, in double precision."""

from __future__ import annotations

import pytest
import torch
from detectron2.layers import Conv2d
from torch import nn

from video_pose.modeling.frequency_conv import FrequencyConv2d, has_frequency_form


@pytest.mark.parametrize(
    ("kernel", "tile", "size", "bias"),
    [
        (9, 16, (30, 41), True),
        (3, 8, (6, 6), False),
        (11, 24, (14, 9), True),
        (5, 6, (3, 2), True),
        (1, 2, (3, 4), True),
    ],
)
@torch.no_grad()
def test_the_same_as_a_direct_convolution(
    kernel: int, tile: int, size: tuple[int, int], bias: bool
) -> None:
    """Whole tiles, parts of tiles, and maps smaller than the kernel; two images of a batch."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, kernel, padding=kernel // 2, bias=bias).double()
    maps = torch.randn(2, 3, *size, dtype=torch.float64)
    changed = FrequencyConv2d(conv, tile)
    before = {name: tensor.clone() for name, tensor in conv.state_dict().items()}
    torch.testing.assert_close(changed(maps), conv(maps), atol=1e-9, rtol=0)
    changed.float()
    assert all(torch.equal(before[name], tensor) for name, tensor in conv.state_dict().items())


@torch.no_grad()
def test_one_tap_by_hand() -> None:
    """A kernel of one 1, two cells right of its middle: the maps move two cells to the left."""
    conv = nn.Conv2d(1, 1, 5, padding=2, bias=False)
    conv.weight.zero_()
    conv.weight[0, 0, 2, 4] = 1
    maps = torch.arange(42.0).view(1, 1, 6, 7)
    expected = torch.zeros_like(maps)
    expected[..., :5] = maps[..., 2:]
    torch.testing.assert_close(FrequencyConv2d(conv, 8)(maps), expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize(
    "options",
    [{"stride": 2}, {"dilation": 2}, {"groups": 2}, {"padding": 0}, {"padding_mode": "reflect"}],
)
def test_other_convolutions_are_refused(options: dict[str, object]) -> None:
    conv = nn.Conv2d(2, 2, 5, **{"padding": 2, **options})  # type: ignore[arg-type]
    assert not has_frequency_form(conv)
    with pytest.raises(ValueError, match="Conv2d.* has no frequency form with tiles of 16"):
        FrequencyConv2d(conv, 16)


def test_tiles_that_do_not_fit() -> None:
    conv = nn.Conv2d(2, 2, 5, padding=2)
    for tile in (9, 4):
        with pytest.raises(ValueError, match=f"tiles of {tile}"):
            FrequencyConv2d(conv, tile)
    assert not has_frequency_form(nn.Conv2d(2, 2, 4, padding=2))
    assert not has_frequency_form(nn.ReLU())
    assert has_frequency_form(nn.Conv2d(2, 2, 1)) and has_frequency_form(conv)
    for size, padding in (((3, 5), (1, 2)), ((5, 3), (2, 1)), (5, (2, 1)), (5, (1, 2)), (5, 3)):
        assert not has_frequency_form(nn.Conv2d(2, 2, size, padding=padding))
    for option in ({"stride": (1, 2)}, {"dilation": (2, 1)}):
        assert not has_frequency_form(nn.Conv2d(2, 2, 5, padding=2, **option))
    # What computes more than the convolution is none.
    assert has_frequency_form(Conv2d(2, 2, 5, padding=2))
    assert not has_frequency_form(Conv2d(2, 2, 5, padding=2, norm=nn.BatchNorm2d(2)))
    assert not has_frequency_form(Conv2d(2, 2, 5, padding=2, activation=nn.ReLU()))


def test_the_convolution_may_be_changed_afterwards() -> None:
    """What was made of it keeps its own weights and bias."""
    conv = nn.Conv2d(1, 1, 3, padding=1)
    changed, maps = FrequencyConv2d(conv, 8), torch.ones(1, 1, 4, 4)
    before = changed(maps)
    with torch.no_grad():
        conv.bias += 1  # type: ignore[operator]
        conv.weight += 1
    assert torch.equal(changed(maps), before) and not before.requires_grad
