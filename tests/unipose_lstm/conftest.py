"""State dicts in the released layout (docs/PROTOCOLS.md, section 2) with random values."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch

Tensors = dict[str, torch.Tensor]


class Layout(NamedTuple):
    blocks: tuple[int, ...]  # per stage
    stem: (
        int  # width; a block's is the same in stage 1 and doubles per stage, its output is 4 times
    )
    branch: int
    low: int
    head: int
    joints: int


NARROW = Layout((3, 4, 6, 3), 4, 8, 6, 5, 3)
RELEASED = Layout((3, 4, 23, 3), 64, 256, 48, 128, 13)


class Writer:
    """Collects random tensors of a state dict."""

    def __init__(self) -> None:
        self.random = torch.Generator().manual_seed(0)
        self.tensors = {}

    def conv(self, name: str, out: int, inp: int, kernel: int, bias: bool = False) -> None:
        scale = (2 / (inp * kernel**2)) ** 0.5
        weight = torch.randn((out, inp, kernel, kernel), generator=self.random) * scale
        self.tensors[f"{name}.weight"] = weight
        if bias:
            self.tensors[f"{name}.bias"] = torch.randn(out, generator=self.random) * 0.1

    def norm(self, name: str, channels: int) -> None:
        def uniform(low: float, high: float) -> torch.Tensor:
            return torch.rand(channels, generator=self.random) * (high - low) + low

        self.tensors |= {
            f"{name}.weight": uniform(0.5, 1.0),
            f"{name}.bias": uniform(-0.2, 0.2),
            f"{name}.running_mean": uniform(-0.2, 0.2),
            f"{name}.running_var": uniform(0.5, 1.5),
            f"{name}.num_batches_tracked": torch.tensor(7),
        }


def write_image_model(
    layout: Layout, *, video: bool, in_channels: int = 3, maps: int | None = None
) -> Writer:
    w, maps = Writer(), maps or layout.joints + 1
    w.conv("backbone.conv1", layout.stem, in_channels, 7)
    w.norm("backbone.bn1", layout.stem)
    inp = layout.stem
    for stage, count in enumerate(layout.blocks, start=1):
        width = layout.stem * 2 ** (stage - 1)
        for block in range(count):
            name = f"backbone.layer{stage}.{block}"
            for i, (o, c, k) in enumerate(
                [(width, inp, 1), (width, width, 3), (4 * width, width, 1)], 1
            ):
                w.conv(f"{name}.conv{i}", o, c, k)
                w.norm(f"{name}.bn{i}", o)
            if block == 0:
                w.conv(f"{name}.downsample.0", 4 * width, inp, 1)
                w.norm(f"{name}.downsample.1", 4 * width)
            inp = 4 * width
    b = layout.branch
    for i in range(1, 5):
        w.conv(f"wasp.aspp{i}.atrous_conv", b, inp if i == 1 else b, 1 if i == 1 else 3)
        w.norm(f"wasp.aspp{i}.bn", b)
    w.conv("wasp.global_avg_pool.1", b, inp, 1)
    if not video:
        w.norm("wasp.global_avg_pool.2", b)
    w.conv("wasp.conv1", b, 5 * b, 1)
    w.norm("wasp.bn1", b)
    w.conv("wasp.conv2", b, b, 1)
    w.conv("decoder.conv1", layout.low, 4 * layout.stem, 1)
    w.norm("decoder.bn1", layout.low)
    w.conv("decoder.conv2", b, inp, 1)  # unused
    w.norm("decoder.bn2", b)
    w.conv("decoder.last_conv.0", b, b + layout.low, 3)
    w.norm("decoder.last_conv.1", b)
    w.conv("decoder.last_conv.4", b, b, 3)
    w.norm("decoder.last_conv.5", b)
    w.conv("decoder.last_conv.8", maps, b, 1, bias=True)
    return w


def write_video_model(layout: Layout, *, maps: int | None = None) -> Writer:
    w, maps = write_image_model(layout, video=True, maps=maps), maps or layout.joints + 1
    for gate in "gio":
        w.conv(f"lstm_0.conv_{gate}_lstm", maps + 1, maps + 1, 3, bias=True)
    for gate in "gfio":
        for kind in "xh":
            w.conv(f"lstm.conv_{gate}{kind}_lstm", maps + 1, maps + 1, 3, bias=True)
    h = layout.head
    sizes = [(h, maps + 1, 11), (h, h, 11), (h, h, 11), (h, h, 1), (maps, h, 1)]
    for i, (o, c, k) in enumerate(sizes, start=1):
        w.conv(f"conv{i}", o, c, k, bias=True)
    return w


@pytest.fixture
def image_tensors() -> Callable[..., Tensors]:
    """Narrow, 3 joints; see ``write_image_model`` for its arguments."""
    return lambda **options: write_image_model(NARROW, video=False, **options).tensors


@pytest.fixture
def video_tensors() -> Callable[..., Tensors]:
    """Narrow, or of the release's widths with 13 joints."""

    def write(*, released: bool = False, maps: int | None = None) -> Tensors:
        return write_video_model(RELEASED if released else NARROW, maps=maps).tensors

    return write
