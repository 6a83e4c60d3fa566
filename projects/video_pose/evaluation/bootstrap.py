"""How sure a percentage is: percentile intervals over whole clusters of frames.

Frames of a video resemble each other, and so do shots of one source video, so that an interval over
frames would be far too narrow: whole clusters are drawn with replacement. V clusters; "..." stands
for further axes (joints, say), each with an interval of its own from the same draws.
"""

from __future__ import annotations

import math

import numpy as np

SAMPLES = 2000
LEVEL = 0.95


def share_interval(
    hits: np.ndarray,
    counted: np.ndarray,
    seed: int = 0,
    samples: int = SAMPLES,
    level: float = LEVEL,
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of 100 * sum(hits) / sum(counted).

    Args:
        hits: (V, ...) counts.
        counted: (V, ...) counts.
        seed: of the draws.
        samples: number of draws of V clusters.
        level: share of the draws inside the interval.

    Returns:
        (low, high), each float64 (...), in percent; NaN where fewer than two clusters have a
        counted joint.
    """
    values, counted = np.asarray(hits), np.asarray(counted)
    columns = math.prod(values.shape[1:])
    flat, weights = (array.reshape(len(array), columns) for array in (values, counted))
    used = (weights > 0).any(axis=1)
    flat, weights = flat[used].astype(np.float64), weights[used].astype(np.float64)
    low = np.full(flat.shape[1], np.nan)
    high = low.copy()
    known = (weights > 0).sum(axis=0) >= 2
    if known.any():
        # How often each cluster is drawn, (samples, V): small even for a thousand videos.
        generator = np.random.default_rng(seed)
        draws = generator.multinomial(len(flat), np.full(len(flat), 1 / len(flat)), size=samples)
        with np.errstate(invalid="ignore"):  # a draw may miss all clusters that have a joint
            shares = 100.0 * (draws @ flat[:, known]) / (draws @ weights[:, known])
        bounds = np.nanquantile(shares, [(1 - level) / 2, (1 + level) / 2], axis=0)
        low[known], high[known] = bounds
    return low.reshape(values.shape[1:]), high.reshape(values.shape[1:])


def difference_interval(
    hits_a: np.ndarray,
    hits_b: np.ndarray,
    counted: np.ndarray,
    seed: int = 0,
    samples: int = SAMPLES,
    level: float = LEVEL,
) -> tuple[np.ndarray, np.ndarray]:
    """Interval of B's percentage minus A's on the same joints, in points, as `share_interval`.

    Both are scored on the same draws: what makes a video hard for both cancels out.
    """
    return share_interval(np.asarray(hits_b) - np.asarray(hits_a), counted, seed, samples, level)
