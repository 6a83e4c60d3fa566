"""From boxes of single frames to boxes with identities.

Shape letters: D detections, M tracks. Boxes are XYXY, image pixels.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any, Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment

logger = logging.getLogger(__name__)

TRACKERS = ("auto", "bytetrack", "iou")
# The velocity of a box is averaged over about two updates.
_VELOCITY_GAIN = 0.5


class Tracker(Protocol):
    """Gives the same number to one person's boxes; numbers are not used again after ``reset``."""

    def update(self, boxes: np.ndarray, scores: np.ndarray, time: float) -> np.ndarray:
        """Boxes (D, 4) and scores (D,) of one frame -> int64 (D,), -1 for one not (yet) tracked."""

    def reset(self) -> None:
        """Forget everybody, as at a cut."""


def build_tracker(name: str, *, min_score: float, max_missed_seconds: float) -> Tracker:
    """The tracker of that name.

    Args:
        name: "bytetrack" (package ``trackers``), "iou" (built in), or "auto": ByteTrack where its
            package is installed, else the built-in one, which a line in the log then says.
        min_score: a detection needs it to begin a track; weaker ones only continue one.
        max_missed_seconds: a person who is not found for longer is forgotten.

    Raises:
        ValueError: no such tracker, or its package is not installed.
    """
    if name not in TRACKERS:
        raise ValueError(f"tracker {name!r}: choose from {', '.join(TRACKERS)}")
    installed = importlib.util.find_spec("trackers") is not None
    if name == "auto" and not installed:
        logger.warning(
            "ByteTrack's package trackers is not installed: the built-in tracker 'iou' gives "
            "people their numbers"
        )
    if name == "iou" or (name == "auto" and not installed):
        return IoUTracker(min_score=min_score, max_missed_seconds=max_missed_seconds)
    if not installed:
        raise ValueError(
            "tracker 'bytetrack' needs the package trackers: pip install trackers, or choose the "
            "built-in tracker 'iou'"
        )
    return ByteTracker(min_score=min_score, max_missed_seconds=max_missed_seconds)


class IoUTracker:
    """Hungarian matching on the overlap with boxes that move on at constant velocity.

    Detections of ``min_score`` are matched first; weaker ones may continue the tracks that are
    left, and begin none. For people who are found again after a gap, the box is extrapolated over
    the gap; the velocity carries two people through a crossing in which their boxes change places.
    """

    def __init__(
        self, *, min_score: float = 0.5, max_missed_seconds: float = 1.0, min_iou: float = 0.2
    ) -> None:
        self.min_score = min_score
        self.max_missed_seconds = max_missed_seconds
        self.min_iou = min_iou
        self._next_id = 0
        self.reset()

    def reset(self) -> None:
        self._ids = np.zeros(0, np.int64)
        self._boxes = np.zeros((0, 4))
        self._velocity = np.zeros((0, 4))  # px per second
        self._seen = np.zeros(0)  # seconds

    def update(self, boxes: np.ndarray, scores: np.ndarray, time: float) -> np.ndarray:
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        keep = time - self._seen <= self.max_missed_seconds
        self._select(keep)
        elapsed = (time - self._seen)[:, None]
        predicted = self._boxes + self._velocity * elapsed
        overlap = pairwise_iou(predicted, boxes)
        strong = np.asarray(scores).reshape(-1) >= self.min_score
        ids = np.full(len(boxes), -1, np.int64)
        free = np.ones(len(predicted), bool)
        for group in (strong, ~strong):
            rows, columns = self._match(overlap, free, group)
            ids[columns], free[rows] = self._ids[rows], False
            self._move(rows, boxes[columns], time)
        new = np.flatnonzero((ids < 0) & strong)
        ids[new] = self._next_id + np.arange(len(new))
        self._next_id += len(new)
        self._append(ids[new], boxes[new], time)
        return ids

    def _match(
        self, overlap: np.ndarray, free: np.ndarray, group: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Tracks (of those ``free``) and detections (of the ``group``) that belong together."""
        tracks, detections = np.flatnonzero(free), np.flatnonzero(group)
        part = overlap[np.ix_(tracks, detections)]
        rows, columns = linear_sum_assignment(-part)
        good = part[rows, columns] >= self.min_iou
        return tracks[rows[good]], detections[columns[good]]

    def _move(self, rows: np.ndarray, boxes: np.ndarray, time: float) -> None:
        elapsed = (time - self._seen[rows])[:, None]
        # Two frames of one time say nothing about a velocity: it stays as it is.
        known = elapsed > 0
        measured = (boxes - self._boxes[rows]) / np.where(known, elapsed, 1)
        # Size changes slowly, and a partly hidden person's box jumps: only the centre moves on.
        centre = (measured[:, :2] + measured[:, 2:]) / 2
        measured = np.concatenate([centre, centre], axis=1)
        self._velocity[rows] += known * _VELOCITY_GAIN * (measured - self._velocity[rows])
        self._boxes[rows] = boxes
        self._seen[rows] = time

    def _select(self, keep: np.ndarray) -> None:
        self._ids, self._boxes = self._ids[keep], self._boxes[keep]
        self._velocity, self._seen = self._velocity[keep], self._seen[keep]

    def _append(self, ids: np.ndarray, boxes: np.ndarray, time: float) -> None:
        self._ids = np.concatenate([self._ids, ids])
        self._boxes = np.concatenate([self._boxes, boxes])
        self._velocity = np.concatenate([self._velocity, np.zeros_like(boxes)])
        self._seen = np.concatenate([self._seen, np.full(len(ids), time)])


class ByteTracker:
    """ByteTrack of the package ``trackers``; a person has a number from the second detection on."""

    def __init__(self, *, min_score: float = 0.5, max_missed_seconds: float = 1.0) -> None:
        from trackers import ByteTrackTracker

        # ByteTrack counts its buffer in frames of 1/30 s.
        self._tracker = ByteTrackTracker(
            lost_track_buffer=max(1, round(30 * max_missed_seconds)),
            track_activation_threshold=min_score,
            high_conf_det_threshold=min_score,
            minimum_consecutive_frames=1,
        )
        self._next_id = 0
        self._numbers: dict[int, int] = {}

    def reset(self) -> None:
        self._tracker.reset()
        self._numbers = {}

    def update(self, boxes: np.ndarray, scores: np.ndarray, time: float) -> np.ndarray:
        import supervision

        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        detections: Any = supervision.Detections(
            xyxy=boxes,
            confidence=np.asarray(scores, np.float64),
            data={"place": np.arange(len(boxes))},
        )
        tracked = self._tracker.update(detections, timestamp=time)
        ids = np.full(len(boxes), -1, np.int64)
        numbers = () if tracked.tracker_id is None else tracked.tracker_id
        for place, number in zip(tracked.data.get("place", ()), numbers):
            ids[int(place)] = self._own_number(int(number))
        return ids

    def _own_number(self, number: int) -> int:
        if number < 0:
            return -1
        if number not in self._numbers:
            self._numbers[number] = self._next_id
            self._next_id += 1
        return self._numbers[number]


def pairwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(M, 4) and (D, 4) -> (M, D)."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).clip(0).prod(axis=1) for x in (a, b))
    return shared / np.maximum(area_a[:, None] + area_b[None] - shared, 1e-9)
