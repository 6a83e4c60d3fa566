"""Batches on their way from a loader's worker to the process that trains.

PyTorch moves every tensor through a piece of shared memory of its own: a file to create, to send a
handle of and to map. A clip has one large tensor and many small ones, which cost most of the time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

# Up to this size a tensor is part of the message.
_SMALL_BYTES = 1 << 14


class _Inline:
    """A small tensor that is pickled by value, and arrives as the tensor."""

    def __init__(self, array: np.ndarray) -> None:
        self.array = array

    def __reduce__(self) -> tuple[Any, ...]:
        return torch.from_numpy, (self.array,)


def collate(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The batch as it is; where a worker sends it, its small tensors are sent by value."""
    if get_worker_info() is None:
        return batch
    return [{key: _prepare(value) for key, value in item.items()} for item in batch]


def _prepare(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.nbytes <= _SMALL_BYTES:
        return _Inline(value.numpy())
    return value
