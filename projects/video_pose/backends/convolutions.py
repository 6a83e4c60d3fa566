"""Large convolutions by whichever of two ways OpenVINO computes faster on this processor.

Each is timed once, when the graphs of a model are made; the graphs in the cache keep the choice.
Shapes: N images, C channels, H, W cells.
"""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from video_pose.backends.graphs import Graph, write_graph
from video_pose.backends.runtimes import load_graph
from video_pose.modeling.frequency_conv import FrequencyConv2d, has_frequency_form
from video_pose.modeling.video_pose_net import VideoPoseNet

logger = logging.getLogger(__name__)
# Smaller kernels, and fewer channels, have too few multiplications to save.
LEAST_KERNEL, LEAST_CHANNELS = 9, 32
# The frequency form rounds a little more, and is taken where the whole network gains so much.
WORTH = 1.3
_PASSES = 3


class _Use(NamedTuple):
    """A convolution, what it takes on a frame of one person, and its multiplications."""

    conv: nn.Conv2d
    shape: tuple[int, ...]
    products: int


def large_convolutions(model: nn.Module) -> dict[str, nn.Conv2d]:
    """By name, those whose frequency form may be faster."""
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
        and has_frequency_form(module)
        and module.kernel_size[0] >= LEAST_KERNEL
        and min(module.in_channels, module.out_channels) >= LEAST_CHANNELS
    }


def replace_large(model: VideoPoseNet, *, crop_size: tuple[int, int], precision: str) -> list[str]:
    """Put the frequency form in the place of large convolutions that it is faster than, in place.

    Nothing changes where the whole network would gain less than `WORTH`; what is not timed counts
    by its multiplications.

    Args:
        model: folded. precision: of OpenVINO, "float32" or "bfloat16".

    Returns:
        The names of those that were replaced.
    """
    uses = _uses(model, crop_size)
    large = {name: uses[name] for name in large_convolutions(model) if name in uses}
    products = sum(use.products for use in large.values())
    everything = sum(use.products for use in uses.values())
    if products < (1 - 1 / WORTH) * everything:
        return []
    times = {
        kind: _time_both(conv, kind[0], precision)
        for kind, conv in {
            (use.shape, use.conv.weight.shape): use.conv for use in large.values()
        }.items()
    }
    chosen, before, after = [], 0.0, 0.0
    for name, use in large.items():
        direct, frequency = times[use.shape, use.conv.weight.shape]
        before, after = before + direct, after + min(direct, frequency)
        if frequency < direct:
            chosen.append(name)
    rest = before * (everything - products) / products
    gain = (before + rest) / (after + rest)
    logger.info("large convolutions in the frequency domain: about %.2f times faster", gain)
    if gain < WORTH:
        return []
    for name in chosen:
        model.set_submodule(name, FrequencyConv2d(large[name].conv))
    return chosen


@torch.no_grad()
def _uses(model: VideoPoseNet, crop_size: tuple[int, int]) -> dict[str, _Use]:
    """By name, the convolutions that run on a first frame."""
    found: dict[str, _Use] = {}

    def watch(name: str) -> Callable[..., None]:
        def see(module: nn.Conv2d, inputs: tuple[Tensor, ...], out: Tensor) -> None:
            cells = out.shape[-2] * out.shape[-1]
            found[name] = _Use(module, tuple(inputs[0].shape), module.weight.numel() * cells)

        return see

    hooks = [
        module.register_forward_hook(watch(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    ]
    try:
        images = model.normalize(torch.zeros((1, 3, *crop_size)))
        features = model.encode(images)
        middle = torch.tensor([[crop_size[1] / 2, crop_size[0] / 2]])
        center = model.center_map(middle, crop_size, training=False)
        model.advance(features, center, model.begin(images, features))
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _time_both(conv: nn.Conv2d, shape: tuple[int, ...], precision: str) -> tuple[float, float]:
    """Seconds of the processor, directly and in the frequency domain: the shortest of some passes
    of OpenVINO."""
    maps = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    times = []
    for module in (conv, FrequencyConv2d(conv)):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "conv.xml")
            write_graph(Graph("conv", module, {"maps": maps}, ["out"], ({},)), path, what="a trial")
            run = load_graph(path, precision)
            passes = []
            for _ in range(_PASSES + 1):  # the first one prepares
                start = time.process_time()
                run({"maps": maps})
                passes.append(time.process_time() - start)
            times.append(min(passes[1:]))
    return times[0], times[1]
