"""Timing several variants of one work against each other, and against the machine's peak."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from video_pose.modeling import packed_conv

# One pass of a variant; returns its seconds.
Pass = Callable[[], float]

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# Side lengths of the yardstick's matrices: which is fastest depends on caches and launch costs.
_SIDES = {"cpu": (512, 1024, 2048), "cuda": (4096, 8192)}


def wait_for(device: torch.device) -> None:
    """Return when ``device`` has done all that it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(work: Callable[[], object], device: torch.device) -> Pass:
    """``work`` as a pass."""

    def run() -> float:
        wait_for(device)
        started = time.perf_counter()
        work()
        wait_for(device)
        return time.perf_counter() - started

    return run


def alternate(passes: Mapping[str, Pass], seconds: float, rounds: int) -> dict[str, list[float]]:
    """Run all variants in turn, so that whatever else the machine does hits them alike.

    Every variant runs once unmeasured first; every other round runs in reverse order.

    Args:
        seconds: of measuring for each variant on average. rounds: the fewest, >= 1.

    Returns:
        The seconds of each pass, equally many for each variant.
    """
    if rounds < 1:
        raise ValueError(f"{rounds} rounds: at least 1 is needed")
    for run in passes.values():
        run()
    found: dict[str, list[float]] = {name: [] for name in passes}
    order = list(passes)
    until = time.perf_counter() + seconds * len(order)
    done = 0
    while done < rounds or time.perf_counter() < until:
        for name in order:
            found[name].append(passes[name]())
        order.reverse()
        done += 1
    return found


class Yardstick:
    """A matrix product in one precision; its speed is the peak that shares are given of.

    It is the fastest of several sizes, by ``torch.mm``, as a 1x1 convolution, and by oneDNN where
    the fast form has its products from there: on a CPU they come from different libraries, of which
    one may not know the processor. Its passes belong among those of the variants, to catch the
    moments in which they are fast.
    """

    def __init__(self, precision: str, device: torch.device, seed: int = 0) -> None:
        self._device = device
        generator = torch.Generator().manual_seed(seed)
        ways = [torch.mm, _multiply_as_convolution]
        if packed_conv.can_pack(device, _DTYPES[precision]):
            ways.append(packed_conv.multiply)
        best = 0.0
        for side in _SIDES[device.type]:
            shape = (2, side, side)
            pair = torch.randn(shape, generator=generator).to(device, _DTYPES[precision])
            for multiply in ways:
                product = timed(partial(multiply, pair[0], pair[1]), device)
                product()
                speed = 2 * side**3 / min(product() for _ in range(3))
                if speed > best:
                    best, self._product, self.flops = speed, product, 2 * side**3

    def run(self) -> float:
        """One product, ``flops`` floating-point operations."""
        with torch.no_grad():
            return self._product()


def _multiply_as_convolution(left: Tensor, right: Tensor) -> Tensor:
    """left (M, I) and right (O, I) -> left @ right.T (M, O), pixels being the rows of ``left``."""
    pixels = left.t()[None, :, :, None]  # (1, I, M, 1), channels last in memory
    return F.conv2d(pixels, right[:, :, None, None])
