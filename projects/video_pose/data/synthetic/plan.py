"""Which videos a synthetic dataset holds, decided before anything is rendered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .motion import FAMILIES


@dataclass(frozen=True)
class VideoPlan:
    """One video: its place ``index`` (from 0; training videos first), part, action and length N."""

    index: int
    part: str
    action: str
    frames: int
    size: tuple[int, int]
    occluders: str
    seed: tuple[int, ...]

    @property
    def is_test(self) -> bool:
        return self.part == "test"

    def scene_arguments(self) -> dict[str, Any]:
        """Arguments that every format hands to ``render_scene``."""
        return {
            "frames": self.frames,
            "size": self.size,
            "action": self.action,
            "occluders": self.occluders,
        }


def plan_videos(
    parts: dict[str, int],
    *,
    frames: tuple[int, int],
    size: tuple[int, int],
    seed: int,
    occluders: str,
) -> list[VideoPlan]:
    """Plan the videos of every part: actions in turn, so that each part has as many kinds as it
    can.

    Args:
        parts: "train", "val", "test" -> number of videos.
        frames: shortest and longest video.
        size: (W, H), px.
        seed: of the dataset; a video's own seed is (seed, index).
        occluders: as in ``render_scene``.
    """
    rng = np.random.default_rng((seed, 0xDA7A))
    names = list(FAMILIES)
    plans: list[VideoPlan] = []
    for part, count in parts.items():
        start = int(rng.integers(len(names)))
        for i in range(count):
            length = int(rng.integers(frames[0], frames[1] + 1))
            action, index = names[(start + i) % len(names)], len(plans)
            plans.append(VideoPlan(index, part, action, length, size, occluders, (seed, index)))
    return plans
