"""Operations on recurrent states: NamedTuples of tensors whose dimension 0 is the row.

A row is one person, or one person at one test scale or flip. People who appear or vanish are rows
that are appended or dropped; nothing else about a state depends on who shares the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

State = TypeVar("State", bound=tuple)


def select_rows(state: State, rows: Tensor | Sequence[int]) -> State:
    """The given rows of a state, in the given order."""
    first = state[0]
    index = torch.as_tensor(rows, device=first.device, dtype=torch.long)
    return type(state)(*(tensor.index_select(0, index) for tensor in state))


def append_rows(states: Sequence[State]) -> State:
    """One state that holds the rows of all ``states``, in order."""
    if not states:
        raise ValueError("no states to append")
    return type(states[0])(*(torch.cat(tensors, 0) for tensors in zip(*states, strict=True)))


def replace_rows(state: State, mask: Tensor, other: State) -> State:
    """``other`` where the row's ``mask`` (R,) is true, else ``state``; gradients flow to both."""

    def choose(old: Tensor, new: Tensor) -> Tensor:
        return torch.where(mask.view(-1, *[1] * (old.dim() - 1)), new, old)

    return type(state)(*(choose(a, b) for a, b in zip(state, other, strict=True)))
