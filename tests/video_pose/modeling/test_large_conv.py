"""Convolutions in the frequency domain against `F.conv2d`, and the rule that picks them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from video_pose.modeling import large_conv
from video_pose.modeling.frequency_conv import FrequencyConv2d
from video_pose.modeling.large_conv import LargeConv2d, choose, is_large, replace_large


def example(n: int, c: int, o: int, k: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Maps, weight and bias."""
    generator = torch.Generator().manual_seed(0)
    shapes = (n, c, *size), (o, c, k, k), (o,)
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("images", "kernel", "size", "tile"),
    [
        (1, 5, (12, 12), 8),  # a whole number of tiles, of 4 px
        (1, 5, (13, 17), 8),  # and of tiles with a rest
        (3, 9, (11, 23), 15),  # an odd tile
        (2, 11, (7, 6), 16),  # a kernel that is larger than the map
        (2, 11, (1, 3), 11),  # tiles of one px
        (1, 3, (30, 9), 64),  # a tile that is larger than the map
        (70, 3, (4, 4), 6),  # more tiles than are computed at once
    ],
)
def test_the_frequency_domain_gives_the_convolution(
    images: int, kernel: int, size: tuple[int, int], tile: int, layout: torch.memory_format
) -> None:
    maps, weight, bias = example(images, 4, 6, kernel, size)
    maps = maps.contiguous(memory_format=layout)
    expected = F.conv2d(maps.double(), weight.double(), bias.double(), padding=kernel // 2)
    found = FrequencyConv2d(weight, bias, tile)(maps)
    assert found.shape == expected.shape
    error = (found - expected).norm() / expected.norm()
    assert float(error) < 5e-6
    without = FrequencyConv2d(weight, None, tile)(maps)
    torch.testing.assert_close(without, found - bias[:, None, None], atol=1e-4, rtol=0)


def test_the_error_at_the_networks_own_size() -> None:
    maps, weight, bias = example(1, 32, 8, 11, (46, 46))
    expected = F.conv2d(maps.double(), weight.double(), bias.double(), padding=5)
    found = FrequencyConv2d(weight, bias, 33)(maps)
    assert float((found - expected).norm() / expected.norm()) < 1e-6


def test_the_error_of_bfloat16() -> None:
    """No more than twice that of a direct convolution in bfloat16."""
    maps, weight, _ = example(1, 32, 8, 11, (46, 46))
    expected = F.conv2d(maps, weight, padding=5)
    direct = F.conv2d(maps.bfloat16(), weight.bfloat16(), padding=5)
    found = FrequencyConv2d(weight, None, 22, torch.bfloat16)(maps)
    assert found.dtype == torch.float32
    error, usual = (float((m.float() - expected).norm()) for m in (found, direct))
    assert 0 < error < 2 * usual


def test_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large kernels of many channels gain; few channels, small kernels and small maps do not."""
    wide = torch.zeros(128, 128, 9, 9)
    # 4 tiles of 23 px a side; by hand, in G: 128 x 128 x 81 x 92 x 92 = 11.2 direct.
    choice = choose(wide, (92, 92), None)
    assert choice.tile == 23 + 8 and choice.direct_cost == pytest.approx(11.2e9, rel=0.01)
    assert 2.4e9 < choice.frequency_cost < 3.6e9
    assert choose(wide, (92, 92), None, "direct").tile == 0
    assert choose(wide.to("meta"), (92, 92), None).tile == 0  # no CPU
    assert choose(torch.zeros(32, 128, 5, 5), (46, 46), None).tile == 0
    assert choose(torch.zeros(128, 16, 7, 7), (8, 8), None).tile == 0
    monkeypatch.setattr(large_conv, "has_matrix_units", lambda: False)
    assert choose(wide, (92, 92), torch.bfloat16).tile == 31
    monkeypatch.setattr(large_conv, "has_matrix_units", lambda: True)
    assert choose(wide, (92, 92), torch.bfloat16).tile == 0
    with pytest.raises(ValueError, match=r"'fft': choose from \('auto', 'direct'\)"):
        choose(wide, (92, 92), None, "fft")


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 3, "padding": 1},
        {"kernel_size": 9, "padding": 0},
        {"kernel_size": 9, "padding": 4, "stride": 2},
        {"kernel_size": 9, "padding": 8, "dilation": 2},
        {"kernel_size": 9, "padding": 4, "groups": 2},
        {"kernel_size": 8, "padding": 4},
        {"kernel_size": (9, 5), "padding": (4, 2)},
        {"kernel_size": 9, "padding": 4, "padding_mode": "reflect"},
    ],
)
def test_other_convolutions_are_left_alone(options: dict) -> None:
    assert is_large(nn.Conv2d(16, 4, 9, padding=4))
    assert not is_large(nn.Conv2d(3, 4, 9, padding=4))
    assert not is_large(nn.Conv2d(16, 4, **options))


@torch.no_grad()
def test_a_model_with_maps_of_two_sizes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(16, 32, 11, padding=5), nn.ReLU(), nn.Conv2d(32, 3, 1))
    large, small = torch.randn(2, 16, 40, 40), torch.randn(1, 16, 2, 2)
    expected = [model(maps) for maps in (large, small)]
    replace_large(model, None, "auto")
    for maps, maps_expected in zip((large, small), expected, strict=True):
        torch.testing.assert_close(model(maps), maps_expected, atol=1e-4, rtol=0)
    first = model[0]
    assert isinstance(first, LargeConv2d) and type(model[2]) is nn.Conv2d
    assert first.choices[40, 40].tile > 0 and first.choices[2, 2].tile == 0
    lines = first.describe()
    assert lines[0].startswith("16 -> 32, 11x11 at 40x40: frequency domain, tiles of")
    assert lines[1].startswith("16 -> 32, 11x11 at 2x2: direct")


@torch.no_grad()
def test_it_stays_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 32, 11, padding=5)
    maps = torch.randn(1, 16, 40, 40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = LargeConv2d(conv, None, "auto")(maps)
    torch.testing.assert_close(found, conv(maps), atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_recorded_graph_has_the_plain_convolution() -> None:
    conv = LargeConv2d(nn.Conv2d(16, 32, 11, padding=5), None, "auto").eval()
    maps = torch.randn(1, 16, 40, 40)
    conv(maps)
    assert conv.choices[40, 40].tile > 0
    program = torch.export.export(conv, (maps,), strict=False)
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert names == {"aten.conv2d.default"}
    traced = torch.jit.trace(conv, maps)
    assert "conv" in str(traced.inlined_graph) and "bmm" not in str(traced.inlined_graph)
