"""Which items a rank reads, and in which order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from detectron2.utils import comm
from torch.utils.data import Sampler


class ResumableTrainingSampler(Sampler):
    """An infinite shuffled stream of (item, position), sharded by rank, that can start anywhere.

    All ranks share one stream, which depends on the seed alone; rank r of R reads its positions
    r, r + R, ... Detectron2's ``TrainingSampler`` always starts at 0, so that a resumed run would
    see the first items again. The position is handed on, to seed the augmentation of that clip.
    """

    def __init__(
        self,
        size: int,
        seed: int,
        start: int = 0,
        repeats: Sequence[float] | None = None,
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        """
        Args:
            size: number of items.
            start: positions of the common stream that were consumed already, over all ranks.
            repeats: how often each item comes in an epoch on average, > 0; None: once.
            rank, world_size: this process and their number; None asks Detectron2.
        """
        if size < 1 or start < 0:
            raise ValueError(f"sampler of {size} items from position {start}: nothing to sample")
        self._repeats = None if repeats is None else torch.tensor(repeats, dtype=torch.float64)
        if self._repeats is not None and (len(self._repeats) != size or self._repeats.min() <= 0):
            raise ValueError(f"repeat factors of {size} items must be {size} numbers above 0")
        self._size = size
        self._seed = int(seed)
        self._start = start
        self._rank = comm.get_rank() if rank is None else rank
        self._world_size = comm.get_world_size() if world_size is None else world_size

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position, epoch = 0, 0
        if self._repeats is None:
            epoch = self._start // self._size
            position = epoch * self._size
        while True:
            for item in self._epoch(epoch):
                if position >= self._start and position % self._world_size == self._rank:
                    yield item, position
                position += 1
            epoch += 1

    def _epoch(self, epoch: int) -> list[int]:
        generator = torch.Generator()
        generator.manual_seed((self._seed * 1_000_003 + epoch) % 2**63)
        items = torch.arange(self._size)
        if self._repeats is not None:
            # A fraction is drawn anew each epoch, so that it holds on average.
            extra = torch.rand(self._size, generator=generator) < self._repeats.frac()
            items = items.repeat_interleave(self._repeats.long() + extra)
        return items[torch.randperm(len(items), generator=generator)].tolist()


class WholeRunSampler(Sampler):
    """Items of consecutive runs, each run on one rank and in order.

    Detectron2's ``InferenceSampler`` cuts the item list into equal parts, which tears a video apart
    that a recurrent model must see in order.
    """

    def __init__(
        self,
        items: Sequence[Sequence[int]],
        frames: Sequence[int],
        rank: int | None = None,
        world_size: int | None = None,
    ) -> None:
        """
        Args:
            items: per run, its item numbers in order.
            frames: per run, its number of frames; runs are dealt so that ranks get about equally
                many.
            rank, world_size: this process and their number; None asks Detectron2.
        """
        rank = comm.get_rank() if rank is None else rank
        world_size = comm.get_world_size() if world_size is None else world_size
        mine = deal_runs(frames, world_size)[rank]
        self._items = [item for run in mine for item in items[run]]

    def __iter__(self) -> Iterator[int]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)


def deal_runs(frames: Sequence[int], world_size: int) -> list[list[int]]:
    """Deal runs to ranks, the longest first, each to the rank with the fewest frames so far.

    Returns:
        Per rank, the ascending numbers of its runs; every run is in exactly one of them.
    """
    ranks: list[list[int]] = [[] for _ in range(world_size)]
    loads = [0] * world_size
    for run in sorted(range(len(frames)), key=lambda i: (-frames[i], i)):
        rank = loads.index(min(loads))
        ranks[rank].append(run)
        loads[rank] += frames[run]
    return [sorted(runs) for runs in ranks]
