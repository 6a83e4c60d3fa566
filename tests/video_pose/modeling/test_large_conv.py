"""Convolutions by tiles against `F.conv2d`, and the rule that picks them."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d
from torch import Tensor, nn

from video_pose.modeling import conv_choice
from video_pose.modeling.conv_choice import choose
from video_pose.modeling.frequency_conv import FrequencyConv2d
from video_pose.modeling.large_conv import LargeConv2d, is_large, replace_large
from video_pose.modeling.matrix_products import MatrixProducts
from video_pose.modeling.packed_conv import can_pack
from video_pose.modeling.winograd_conv import WinogradConv2d

CPU = torch.device("cpu")
PRODUCTS = [
    False,
    pytest.param(
        True, marks=pytest.mark.skipif(not can_pack(CPU, torch.float32), reason="no oneDNN")
    ),
]


def example(n: int, c: int, o: int, k: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Maps, weight and bias."""
    generator = torch.Generator().manual_seed(0)
    shapes = (n, c, *size), (o, c, k, k), (o,)
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


def convolution(c: int, o: int, kernel: int, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(c, o, kernel, padding=padding, dilation=dilation, device="meta")


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("packed", PRODUCTS)
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
    images: int,
    kernel: int,
    size: tuple[int, int],
    tile: int,
    layout: torch.memory_format,
    packed: bool,
) -> None:
    maps, weight, bias = example(images, 4, 6, kernel, size)
    maps = maps.contiguous(memory_format=layout)
    expected = F.conv2d(maps.double(), weight.double(), bias.double(), padding=kernel // 2)
    found = FrequencyConv2d(weight, bias, tile, packed=packed, map_size=size)(maps)
    assert relative_error(found, expected) < 5e-6
    without = FrequencyConv2d(weight, None, tile, packed=packed)(maps)
    torch.testing.assert_close(without, found - bias[:, None, None], atol=1e-4, rtol=0)


@pytest.mark.parametrize("packed", PRODUCTS)
@pytest.mark.parametrize(
    ("images", "dilation", "size"),
    [
        (1, 1, (12, 16)),  # a whole number of tiles
        (2, 1, (13, 6)),  # and with a rest
        (3, 2, (23, 23)),
        (1, 3, (7, 20)),
        (2, 6, (5, 4)),  # most taps lie outside
        (1, 1, (1, 1)),
    ],
)
def test_winograds_products_give_the_convolution(
    images: int, dilation: int, size: tuple[int, int], packed: bool
) -> None:
    maps, weight, bias = example(images, 20, 6, 3, size)
    options = {"padding": dilation, "dilation": dilation}
    expected = F.conv2d(maps.double(), weight.double(), bias.double(), **options)
    found = WinogradConv2d(weight, bias, dilation, packed)(maps)
    assert found.dtype == torch.float32 and relative_error(found, expected) < 5e-6
    assert found.is_contiguous(memory_format=torch.channels_last)
    without = WinogradConv2d(weight, None, dilation, packed)(maps)
    torch.testing.assert_close(without, found - bias[:, None, None], atol=1e-4, rtol=0)


@pytest.mark.parametrize("packed", PRODUCTS)
def test_parts_of_a_map_and_calls_of_other_sizes(packed: bool) -> None:
    """Products are made for two numbers of tiles; more, fewer and odd numbers follow."""
    maps, weight, bias = example(5, 16, 16, 3, (24, 24))
    conv = WinogradConv2d(weight, bias, packed=packed)
    expected = F.conv2d(maps.double(), weight.double(), bias.double(), padding=1)
    # 36 tiles a map in 6 rows: rows of two maps, single rows, and less than a row.
    for at_once, images in ((80, 5), (36, 1), (13, 3), (1, 2), (400, 5)):
        conv.at_once = at_once
        assert relative_error(conv(maps[:images]), expected[:images]) < 5e-6
    if packed:
        # Rows of 2 maps (80), then of 36; from there on everything in these.
        assert conv.products.products.sizes == [72, 36]
    frequencies = FrequencyConv2d(weight, bias, 12, packed=packed, map_size=(24, 24))
    for images in (1, 5, 2):
        assert relative_error(frequencies(maps[:images]), expected[:images]) < 5e-6


def test_no_images() -> None:
    maps, weight, bias = example(0, 16, 8, 3, (12, 12))
    assert WinogradConv2d(weight, bias)(maps).shape == (0, 8, 12, 12)
    assert FrequencyConv2d(weight, bias, 8)(maps).shape == (0, 8, 12, 12)


@pytest.mark.skipif(not can_pack(CPU, torch.float32), reason="no oneDNN")
def test_numbers_of_tiles_are_computed_in_the_cheaper_size() -> None:
    """Every call reads all weights: fifteen single rows cost more than one padded to sixteen."""
    multipliers = torch.randn(3, 8, 8)
    products = MatrixProducts(multipliers, packed=True)
    for count in (16, 1, 15, 17, 160):
        factors = torch.randn(3, count, 8)
        expected = torch.bmm(factors, multipliers)
        torch.testing.assert_close(products(factors), expected, atol=1e-5, rtol=1e-5)
    assert products.sizes == [16, 1]
    assert [products._choose_size(count) for count in (1, 15, 17, 160)] == [1, 16, 16, 16]


def test_spectra_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, weight, bias = example(1, 4, 6, 5, (20, 20))
    whole = FrequencyConv2d(weight, bias, 12, map_size=(20, 20))
    monkeypatch.setattr("video_pose.modeling.frequency_conv._BYTES_AT_ONCE", 20000)
    parts = FrequencyConv2d(weight, bias, 12, map_size=(20, 20))
    # A row of spectra of 9 tiles: 3 x 12 x 9 values of 6 channels, 7776 bytes.
    assert len(whole.products) == 1 and parts.rows_at_once == 2 and len(parts.products) == 4
    torch.testing.assert_close(parts(maps), whole(maps), atol=1e-5, rtol=0)


def test_the_error_at_the_networks_own_size() -> None:
    maps, weight, bias = example(1, 32, 8, 11, (46, 46))
    expected = F.conv2d(maps.double(), weight.double(), bias.double(), padding=5)
    assert relative_error(FrequencyConv2d(weight, bias, 33)(maps), expected) < 1e-6
    weight = weight[..., 4:7, 4:7]
    expected = F.conv2d(maps.double(), weight.double(), bias.double(), padding=1)
    assert relative_error(WinogradConv2d(weight, bias)(maps), expected) < 3e-6


def test_the_error_of_bfloat16() -> None:
    """No more than two and a half times that of a direct convolution in bfloat16."""
    maps, weight, _ = example(1, 32, 8, 11, (46, 46))
    expected = F.conv2d(maps, weight, padding=5)
    direct = F.conv2d(maps.bfloat16(), weight.bfloat16(), padding=5)
    packed = can_pack(CPU, torch.bfloat16)
    found = FrequencyConv2d(weight, None, 22, torch.bfloat16, packed=packed)(maps)
    assert found.dtype == torch.bfloat16
    error, usual = (relative_error(m.float(), expected) for m in (found, direct))
    assert 0 < error < 2.5 * usual


def on_cpu(conv: nn.Conv2d) -> nn.Conv2d:
    return conv.to_empty(device="cpu")


def test_the_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large kernels of many channels gain; few channels, small kernels and small maps do not."""
    wide = on_cpu(convolution(128, 128, 9))
    # 4 tiles of 23 px a side. Of 92 x 9 taps a side 20 lie outside: 128 x 128 x 808 x 808.
    choice = choose(wide, (92, 92), None)
    assert choice[:2] == ("frequency domain", 23 + 8)
    assert choice.direct_cost == pytest.approx(10.7e9, rel=0.01)
    assert 2.4e9 < choice.tile_cost < 3.6e9
    assert choose(wide, (92, 92), None, "direct")[:2] == ("direct", 0)
    assert choose(convolution(128, 128, 9), (92, 92), None).tile == 0  # no CPU
    assert choose(on_cpu(convolution(128, 32, 5)), (46, 46), None).tile == 0
    assert choose(on_cpu(convolution(16, 128, 7)), (8, 8), None).tile == 0
    monkeypatch.setattr(conv_choice, "has_matrix_units", lambda: False)
    assert choose(wide, (92, 92), torch.bfloat16).tile == 31
    small = on_cpu(convolution(128, 128, 7))
    assert choose(small, (46, 46), torch.bfloat16).tile > 0
    monkeypatch.setattr(conv_choice, "has_matrix_units", lambda: True)
    assert choose(small, (46, 46), torch.bfloat16).tile == 0
    with pytest.raises(ValueError, match=r"'fft': choose from \('auto', 'direct'\)"):
        choose(wide, (92, 92), None, "fft")


def test_the_rule_for_winograds_products() -> None:
    """They gain on large maps of many channels."""
    deep = on_cpu(convolution(256, 256, 3))
    assert choose(deep, (46, 46), None)[:2] == ("Winograd", 6)
    assert choose(deep, (23, 23), None)[:2] == ("Winograd", 6)
    assert choose(deep, (8, 8), None).tile == 0
    assert choose(deep, (46, 46), torch.bfloat16).tile == 0
    assert choose(deep, (46, 46), None, packed=False).tile == 0
    assert choose(on_cpu(convolution(64, 64, 3)), (92, 92), None).tile == 0
    # Dilated by 18 on 23 px, most of nine taps lie outside, and every tile has one row of px.
    assert choose(on_cpu(convolution(256, 256, 3, dilation=18)), (23, 23), None).tile == 0


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_size": 1},
        {"kernel_size": 3},
        {"kernel_size": 3, "padding": 1, "dilation": 2},
        {"kernel_size": 9, "padding": 0},
        {"kernel_size": 9, "padding": 4, "stride": 2},
        {"kernel_size": 9, "padding": 8, "dilation": 2},
        {"kernel_size": 9, "padding": 4, "groups": 2},
        {"kernel_size": 8, "padding": 4},
        {"kernel_size": (9, 5), "padding": (4, 2)},
        {"kernel_size": 9, "padding": 4, "padding_mode": "reflect"},
        {"kernel_size": 9, "padding": "same"},
    ],
)
def test_other_convolutions_are_left_alone(options: dict) -> None:
    assert is_large(nn.Conv2d(16, 16, 9, padding=4))
    assert is_large(nn.Conv2d(16, 16, 3, padding=2, dilation=2))
    assert not is_large(nn.Conv2d(3, 16, 9, padding=4))
    assert not is_large(nn.Conv2d(16, 16, **options))


def test_which_of_detectron2s_convolutions() -> None:
    assert is_large(Conv2d(16, 16, 3, padding=1, activation=F.relu))
    assert not is_large(Conv2d(16, 16, 3, padding=1, activation=torch.sigmoid))
    assert not is_large(Conv2d(16, 16, 3, padding=1, norm=nn.BatchNorm2d(16)))


@torch.no_grad()
@pytest.mark.skipif(not can_pack(CPU, torch.float32), reason="no oneDNN")
def test_its_activation_follows() -> None:
    torch.manual_seed(0)
    conv = Conv2d(256, 256, 3, padding=1, activation=F.relu)
    maps = torch.randn(2, 256, 32, 32)
    large = LargeConv2d(conv, None, "auto")
    torch.testing.assert_close(large(maps), conv(maps), atol=1e-4, rtol=0)
    assert large.choices[32, 32].way == "Winograd"


@torch.no_grad()
def test_a_model_with_maps_of_two_sizes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(32, 64, 11, padding=5), nn.ReLU(), nn.Conv2d(64, 3, 1))
    large, small = torch.randn(2, 32, 40, 40), torch.randn(1, 32, 2, 2)
    expected = [model(maps) for maps in (large, small)]
    replace_large(model, None, "auto")
    for maps, maps_expected in zip((large, small), expected, strict=True):
        torch.testing.assert_close(model(maps), maps_expected, atol=1e-4, rtol=0)
    first = model[0]
    assert isinstance(first, LargeConv2d) and type(model[2]) is nn.Conv2d
    assert first.choices[40, 40].tile > 0 and first.choices[2, 2].tile == 0
    lines = first.describe()
    assert lines[0].startswith("32 -> 64, 11x11 at 40x40: frequency domain, tiles of")
    assert lines[1].startswith("32 -> 64, 11x11 at 2x2: direct")


@torch.no_grad()
def test_it_stays_in_float32_under_autocast() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(32, 64, 11, padding=5)
    maps = torch.randn(1, 32, 40, 40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = LargeConv2d(conv, None, "auto")(maps)
    torch.testing.assert_close(found, conv(maps), atol=1e-4, rtol=0)


@torch.no_grad()
def test_a_recorded_graph_has_the_plain_convolution() -> None:
    conv = LargeConv2d(nn.Conv2d(32, 64, 11, padding=5), None, "auto").eval()
    maps = torch.randn(1, 32, 40, 40)
    conv(maps)
    assert conv.choices[40, 40].tile > 0
    program = torch.export.export(conv, (maps,), strict=False)
    names = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert names == {"aten.conv2d.default"}
    traced = torch.jit.trace(conv, maps)
    graph = str(traced.inlined_graph)
    assert "conv" in graph and "bmm" not in graph and "mkldnn" not in graph
