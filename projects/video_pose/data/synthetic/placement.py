"""Where a body stands in the picture, and how large it is, over time.

M is the number of points in time (frames and the moments between them). Every function returns
the scale (M,), px per body height, and the origin (M, 2), px, of the body's zero.
"""

from __future__ import annotations

import numpy as np

from .skeleton import Posture

# Share of the body's height that the flesh reaches beyond the joints.
_FLESH = 0.11


def place_whole(
    rng: np.random.Generator,
    posture: Posture,
    zoom: np.ndarray,
    size: tuple[int, int],
    framing: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Scale (M,) and origin (M, 2) that put the motion inside the frame, or partly beyond it."""
    points = np.stack([posture.points[name][:, :2] for name in posture.points], axis=1)
    path = np.linspace(0, 1, zoom.size)[:, None] * rng.uniform(-0.25, 0.25, 2) * (1, 0.4)
    points = (points + path[:, None]) * zoom[:, None, None]
    low, high = points.min((0, 1)) - _FLESH * zoom.max(), points.max((0, 1)) + _FLESH * zoom.max()
    scale = float(np.min(size / (high - low))) * rng.uniform(0.72, 1.0)
    slack = size - scale * (high - low)
    shift = rng.uniform(0, 1, 2) * slack
    if framing == "cut":
        # A tenth to a quarter of the motion's extent lies beyond one edge.
        axis, beyond = rng.integers(2), rng.uniform(0.1, 0.25) * scale * (high - low)
        shift[axis] = rng.choice([-beyond[axis], slack[axis] + beyond[axis]])
    return scale * zoom, (shift - scale * low) + path * (scale * zoom)[:, None]


def place_bust(
    rng: np.random.Generator, zoom: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The hips near the lower edge, head and raised hands inside the frame."""
    scale = size[1] * rng.uniform(0.9, 1.25) * zoom
    path = np.linspace(-0.5, 0.5, zoom.size)[:, None] * rng.uniform(-20, 20, 2) * (1, 0.2)
    start = np.array([size[0] * rng.uniform(0.4, 0.6), size[1] * rng.uniform(0.9, 1.0)])
    return scale, start + path


def place_crossing(
    rng: np.random.Generator, index: int, people: int, zoom: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Every second person walks to the left, the others to the right; all meet near the middle."""
    scale = size[1] * rng.uniform(0.5, 0.75) * zoom
    ends = np.array([rng.uniform(0.1, 0.4), rng.uniform(0.6, 0.9)])[:: 1 if index % 2 else -1]
    x = np.linspace(*ends, zoom.size) * size[0]
    y = size[1] * rng.uniform(0.48, 0.6)
    return scale, np.stack([x, np.full_like(x, y)], axis=1)
