"""Measuring several variants of one work against each other, on a machine that does other things.

Wall time says how long a user waits. Processor time, the sum over threads, says what a work costs:
other processes disturb it far less.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections.abc import Callable, Iterator, Mapping
from statistics import median
from typing import NamedTuple

import torch
import torch.nn.functional as F

Work = Callable[[], object]


class Cost(NamedTuple):
    """Of one pass: milliseconds on the wall and of the processor, medians over the passes."""

    wall: float
    processor: float

    def per(self, count: int) -> Cost:
        """Of one of ``count`` frames."""
        return Cost(self.wall / count, self.processor / count)


def alternate(works: Mapping[str, Work], rounds: int) -> dict[str, Cost]:
    """Run all variants in turn, so that whatever else the machine does hits them alike.

    Every variant runs once unmeasured first; every other round runs in reverse order.

    Raises:
        ValueError: fewer than one round.
    """
    if rounds < 1:
        raise ValueError(f"--rounds {rounds}: at least 1")
    for work in works.values():
        work()
    found: dict[str, list[Cost]] = {name: [] for name in works}
    order = list(works)
    for _ in range(rounds):
        for name in order:
            wall, processor = time.perf_counter(), time.process_time()
            works[name]()
            spent = time.process_time() - processor
            found[name].append(Cost(1e3 * (time.perf_counter() - wall), 1e3 * spent))
        order.reverse()
    return {
        name: Cost(median(c.wall for c in costs), median(c.processor for c in costs))
        for name, costs in found.items()
    }


def convolution_peak(dtype: torch.dtype, repetitions: int = 3) -> float:
    """GFLOP a second of processor time that a large convolution reaches, the machine's yardstick.

    It is the best of some passes of 256 channels, 3x3, at 64x64.
    """
    maps = torch.ones((1, 256, 64, 64), dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.ones((256, 256, 3, 3), dtype=dtype).to(memory_format=torch.channels_last)
    operations, best = 2 * 256 * 256 * 9 * 64 * 64, float("inf")
    with torch.no_grad():
        for _ in range(repetitions + 1):
            start = time.process_time()
            F.conv2d(maps, weight, padding=1)
            best = min(best, time.process_time() - start)
    return operations / best / 1e9


def _spin(stop: multiprocessing.synchronize.Event) -> None:
    while not stop.is_set():
        sum(range(10000))


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Within the block, ``count`` other processes keep a core busy each."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    processes = [context.Process(target=_spin, args=(stop,), daemon=True) for _ in range(count)]
    for process in processes:
        process.start()
    try:
        time.sleep(1.0)  # until they are under way
        yield
    finally:
        stop.set()
        for process in processes:
            process.join()


def fair_share(threads: int, others: int, cores: int) -> float:
    """How many times longer a work of so many threads takes beside others, fairly divided.

    Every runnable thread gets an equal part of the cores, and no more than one core.
    """
    return max(1.0, (threads + others) / cores) / max(1.0, threads / cores)
