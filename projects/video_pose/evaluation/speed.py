"""How fast joints move, from ground truth alone: what a model knows never decides it.

Shape letters: M rows (frames of tracks), K joints.
"""

from __future__ import annotations

import numpy as np


def joint_speeds(
    keypoints: np.ndarray, boxes: np.ndarray, frame_indices: np.ndarray, tracks: np.ndarray
) -> np.ndarray:
    """Speed of every joint in the image, in longer box sides per frame.

    The mean of the labelled joint's displacements between neighbouring frames, from two frames
    before to two frames after (as far as the track has them), over the longer side of the frame's
    own box. One displacement alone would not do: annotators move a puppet every few frames, so that
    on JHMDB 42 % of the joints have not moved since the frame before, and 13 % in four steps. The
    camera's movement is part of the speed, as it is of what a model sees.

    Args:
        keypoints: ground truth (M, K, 3), the frames of a track in a row and ascending.
        boxes: ground truth (M, 4), XYXY.
        frame_indices: (M,).
        tracks: (M,), anything that differs between tracks.

    Returns:
        float64 (M, K); NaN where no such displacement is known, or the box has no side.
    """
    points = np.where(keypoints[..., 2:] > 0, keypoints[..., :2].astype(np.float64), np.nan)
    follows = (tracks[1:] == tracks[:-1]) & (frame_indices[1:] == frame_indices[:-1] + 1)
    steps = np.sqrt(((points[1:] - points[:-1]) ** 2).sum(axis=-1))
    steps = np.where(follows[:, None], steps, np.nan)
    total = np.zeros(points.shape[:2])
    count = np.zeros(points.shape[:2])
    # Steps (t-1, t) and (t, t+1), then their neighbours, which count only beyond a step of the
    # same track.
    beyond = (
        np.where(follows[1:, None], steps[:-1], np.nan),
        np.where(follows[:-1, None], steps[1:], np.nan),
    )
    for first, values in ((1, steps), (0, steps), (2, beyond[0]), (0, beyond[1])):
        known = np.isfinite(values)
        total[first : first + len(values)] += np.where(known, values, 0)
        count[first : first + len(values)] += known
    sides = (boxes[:, 2:].astype(np.float64) - boxes[:, :2]).max(axis=1)
    scale = np.where(sides > 0, sides, np.nan)[:, None]
    return np.where(count > 0, total, np.nan) / np.maximum(count, 1) / scale


def quartile_numbers(speeds: np.ndarray, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The quarter of a dataset's joints that each belongs to.

    Args:
        speeds: (M, K) of `joint_speeds`.
        counted: bool (M, K), joints that are scored.

    Returns:
        int (M, K), 0 for the slowest to 3 for the fastest quarter and -1 for joints that are not
        scored or have no speed, and the three bounds between quarters (all NaN without a joint). A
        speed equal to a bound belongs to the slower side.
    """
    usable = counted & np.isfinite(speeds)
    if not usable.any():
        return np.full(speeds.shape, -1), np.full(3, np.nan)
    bounds = np.quantile(speeds[usable], [0.25, 0.5, 0.75])
    return np.where(usable, np.searchsorted(bounds, speeds, side="left"), -1), bounds
