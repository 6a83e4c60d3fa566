"""One-Euro smoothing of poses after the model (Casiez, Roussel & Vogel, CHI 2012).

Shape letters: K joints.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np

from video_pose.inference.frames import PoseFrame


class OneEuroSmoother:
    """A low-pass filter per joint whose cut-off rises with the joint's speed.

    Speeds are counted in sizes of the person per second (the larger side of the pose), so that
    one setting serves all resolutions. Steps in time are the frames' own. A person, or a joint of
    score 0, that is away for more than ``max_gap`` begins anew, as does everybody at a cut.
    """

    def __init__(
        self,
        *,
        min_cutoff: float = 1.5,
        beta: float = 4.0,
        speed_cutoff: float = 1.0,
        max_gap: float = 0.25,
    ) -> None:
        """
        Args:
            min_cutoff: Hz, of a joint at rest; lower is smoother.
            beta: Hz per (size / second); higher lags less in fast motion.
            speed_cutoff: Hz, of the speed's own filter.
            max_gap: seconds.

        Raises:
            ValueError: a cut-off is not positive, or another number is negative.
        """
        if min(min_cutoff, speed_cutoff) <= 0 or min(beta, max_gap) < 0:
            raise ValueError(
                f"One-Euro: min_cutoff {min_cutoff} and speed_cutoff {speed_cutoff} must be more "
                f"than 0, beta {beta} and max_gap {max_gap} at least 0"
            )
        self._min_cutoff, self._beta = min_cutoff, beta
        self._speed_cutoff, self._max_gap = speed_cutoff, max_gap

    def __call__(self, frames: Iterable[PoseFrame]) -> Iterator[PoseFrame]:
        """Yield every frame with smoothed x and y; scores and boxes stay."""
        filters: dict[int, _PoseFilter] = {}
        for frame in frames:
            if frame.starts_shot:
                filters = {}
            keypoints = frame.keypoints.copy()
            for pose, number in zip(keypoints, frame.track_ids.tolist()):
                if number not in filters:
                    filters[number] = _PoseFilter(len(pose))
                pose[:, :2] = self._smooth(filters[number], pose, frame.time)
            filters = {
                number: state
                for number, state in filters.items()
                if frame.time - state.time.max(initial=-math.inf) <= self._max_gap
            }
            yield replace(frame, keypoints=keypoints)

    def _smooth(self, state: _PoseFilter, pose: np.ndarray, time: float) -> np.ndarray:
        """x and y (K, 2) for a pose (K, 3)."""
        xy = pose[:, :2].astype(np.float64)
        elapsed = time - state.time
        valid = (pose[:, 2] > 0) & np.isfinite(xy).all(axis=1)
        if not valid.any():
            return xy
        going_on = valid & (elapsed <= self._max_gap) & (elapsed > 0)
        step = np.where(going_on, elapsed, 1.0)[:, None]
        size = max(float(np.ptp(xy[valid], axis=0).max()), 1.0)
        measured = (xy - state.raw) / step / size
        speed = state.speed + _gain(self._speed_cutoff, step) * (measured - state.speed)
        cutoff = self._min_cutoff + self._beta * np.linalg.norm(speed, axis=1, keepdims=True)
        smooth = state.xy + _gain(cutoff, step) * (xy - state.xy)
        keep = going_on[:, None]
        out = np.where(keep, smooth, xy)
        # A joint that is not there leaves its filter as it was.
        state.xy = np.where(valid[:, None], out, state.xy)
        state.raw = np.where(valid[:, None], xy, state.raw)
        state.speed = np.where(keep, speed, np.where(valid[:, None], 0.0, state.speed))
        state.time = np.where(valid, time, state.time)
        return out


class _PoseFilter:
    """The last smoothed and measured places (K, 2), speeds (K, 2) and times (K,)."""

    def __init__(self, joints: int) -> None:
        self.xy = self.raw = self.speed = np.zeros((joints, 2))
        self.time = np.full(joints, -math.inf)


def _gain(cutoff: np.ndarray | float, step: np.ndarray) -> np.ndarray:
    """Weight of the new value in a first-order low-pass filter."""
    turn = 2 * math.pi * cutoff * step
    return turn / (turn + 1)
