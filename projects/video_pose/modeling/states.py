"""Recurrent states: operations on their rows, and those of tracks kept between chunks.

A state is a NamedTuple of tensors whose dimension 0 is the row. A row is one person, or one person
at one test scale or flip. People who appear or vanish are rows that are appended or dropped;
nothing else about a state depends on who shares the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

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


def put_rows(state: State, rows: Sequence[int], values: State) -> State:
    """A copy of ``state`` with the rows of ``values`` in the given places."""

    def put(old: Tensor, new: Tensor) -> Tensor:
        index = torch.as_tensor(rows, device=old.device, dtype=torch.long)
        return old.index_copy(0, index, new.to(old.dtype))

    return type(state)(*(put(a, b) for a, b in zip(state, values, strict=True)))


def replace_rows(state: State, mask: Tensor, other: State) -> State:
    """``other`` where the row's ``mask`` (R,) is true, else ``state``; gradients flow to both."""

    def choose(old: Tensor, new: Tensor) -> Tensor:
        return torch.where(mask.view(-1, *[1] * (old.dim() - 1)), new, old)

    return type(state)(*(choose(a, b) for a, b in zip(state, other, strict=True)))


class TrackStates:
    """The state, the position and the next frame of every track that is under way."""

    def __init__(self) -> None:
        self._tracks: dict[tuple[str, str], tuple[int, int, Any]] = {}

    def clear(self) -> None:
        """Forget all tracks."""
        self._tracks.clear()

    def __len__(self) -> int:
        return len(self._tracks)

    def resume(self, clip: dict[str, Any]) -> tuple[int, Any]:
        """Frames already run and the state for a chunk; (0, None) for a track's first chunk.

        Args:
            clip: a mapper's dict: video_id, track_id, is_first, frame_indices.

        Raises:
            ValueError: the chunk does not follow the last one of its track.
        """
        if clip["is_first"]:
            return 0, None
        key, start = _key(clip), int(clip["frame_indices"][0])
        expected, position, state = self._tracks.get(key, (None, 0, None))
        if expected != start:
            came = "no chunk before it" if expected is None else f"frame {expected} expected next"
            raise ValueError(
                f"video {key[0]!r} track {key[1]!r}: chunk starts at frame {start}, {came}; "
                "the chunks of a track must come in order, without a gap"
            )
        return position, state

    def store(self, clip: dict[str, Any], position: int, state: Any) -> None:
        """Keep ``state`` after a chunk that ends ``position`` frames into its track, or drop it."""
        if clip["is_last"]:
            self._tracks.pop(_key(clip), None)
        else:
            following = int(clip["frame_indices"][-1]) + 1
            self._tracks[_key(clip)] = (following, position, state)


def _key(clip: dict[str, Any]) -> tuple[str, str]:
    return clip["video_id"], clip["track_id"]
