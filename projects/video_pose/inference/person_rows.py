"""Recurrent states of several people, advanced as one batch.

Shapes: P persons, S test rows of each, R = P S rows, C channels, H, W crop px, h, w cells.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from video_pose.modeling.backend import PoseBackend
from video_pose.modeling.states import append_rows, select_rows


class PersonRows:
    """One state of S rows, and its age in frames, for every track."""

    def __init__(self, backend: PoseBackend) -> None:
        self._backend = backend
        self._states: dict[int, tuple[int, Any]] = {}

    def __len__(self) -> int:
        return len(self._states)

    def clear(self) -> None:
        """Forget everybody."""
        self._states.clear()

    def keep(self, tracks: Collection[int]) -> None:
        """Forget everybody else."""
        for track in set(self._states) - set(tracks):
            del self._states[track]

    def step(
        self, tracks: Sequence[int], images: Tensor, features: Tensor, center_maps: Tensor
    ) -> Tensor:
        """Advance these people by one frame; those without a state begin.

        Args:
            tracks: P numbers. images, features: (S, P, ...), as the backend's ``encode`` made them.
            center_maps: (S, P, 1, h, w).

        Returns:
            Heatmaps (S, P, C, h, w), float32.
        """
        rows = features.shape[0]
        ages = {track: self._states[track][0] if track in self._states else 0 for track in tracks}
        period = self._backend.reset_every
        fresh = [
            i
            for i, track in enumerate(tracks)
            if track not in self._states or (period and ages[track] % period == 0)
        ]
        # Person by person, so that a person's rows lie together.
        by_person = features.transpose(0, 1)
        old = {track: self._states[track][1] for track in tracks if track in self._states}
        if fresh:
            first = images.transpose(0, 1)[fresh].flatten(0, 1)
            begun = self._backend.begin(first, by_person[fresh].flatten(0, 1))
            for place, i in enumerate(fresh):
                old[tracks[i]] = select_rows(begun, range(place * rows, (place + 1) * rows))
        state = append_rows([old[track] for track in tracks])
        heatmaps, state = self._backend.advance(
            by_person.flatten(0, 1), center_maps.transpose(0, 1).flatten(0, 1), state
        )
        for i, track in enumerate(tracks):
            # A copy of the rows: a view would keep everybody's memory alive.
            part = select_rows(state, range(i * rows, (i + 1) * rows))
            self._states[track] = (ages[track] + 1, part)
        heatmaps = heatmaps.float().view(len(tracks), rows, *heatmaps.shape[1:])
        return heatmaps.transpose(0, 1)


def center_maps(backend: PoseBackend, centers: Tensor, crop_size: tuple[int, int]) -> Tensor:
    """Centres (S, P, 2) in crop px -> centre maps (S, P, 1, h, w), as in the offline test."""
    size = (int(crop_size[0]), int(crop_size[1]))
    flat = backend.center_map(centers.flatten(0, 1).to(backend.device), size, training=False)
    return torch.unflatten(flat, 0, centers.shape[:2])
