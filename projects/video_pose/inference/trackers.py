"""From boxes of single frames to boxes with identities.

A tracker sees boxes; what poses tell beyond them, `video_pose.inference.people` adds, whichever
tracker is chosen. Trackers are a registry by name (`video_pose.plugins.TRACKERS`): the built-in
"iou", and those of the package ``trackers``. A plugin adds another::

    @TRACKERS.add("nearest")
    def nearest(*, min_score: float, max_missed_seconds: float) -> Tracker: ...

Shape letters: D detections, M tracks. Boxes are XYXY, image pixels.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any, Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment

from video_pose.plugins import TRACKERS

logger = logging.getLogger(__name__)

# What "auto" means, where the package is installed and where it is not; see docs/MODEL_ZOO.md for
# the trackers' figures.
DEFAULT_TRACKER, WITHOUT_PACKAGE = "ocsort", "iou"
# A box of the package's is the one that waited for a number, where they overlap by so much (IoU).
_SAME_BOX = 0.2
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
        name: of `TRACKERS`, or "auto": `DEFAULT_TRACKER`, or the built-in one where its package is
            missing, which a line in the log then says.
        min_score: a detection needs it to begin a track; weaker ones only continue one.
        max_missed_seconds: a person who is not found for longer is forgotten.

    Raises:
        ValueError: no such tracker, or its package is not installed.
    """
    if name == "auto":
        name = DEFAULT_TRACKER
        if importlib.util.find_spec("trackers") is None:
            name = WITHOUT_PACKAGE
            logger.warning(
                "the package trackers is not installed: the built-in tracker 'iou' gives people "
                "their numbers (pip install trackers)"
            )
    make = TRACKERS.get(name)
    return make(min_score=min_score, max_missed_seconds=max_missed_seconds)


@TRACKERS.add("iou")
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
        self._boxes = self._velocity = np.zeros((0, 4))  # px, and px per second
        self._seen = np.zeros(0)  # seconds

    def update(self, boxes: np.ndarray, scores: np.ndarray, time: float) -> np.ndarray:
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        keep = time - self._seen <= self.max_missed_seconds
        self._select(keep)
        elapsed = (time - self._seen)[:, None]
        predicted = self._boxes + self._velocity * elapsed
        overlap = pairwise_iou(predicted, boxes)
        strong = np.asarray(scores) >= self.min_score
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


class LibraryTracker:
    """A tracker of the package ``trackers``.

    These confirm a person at the second detection or later. Here a sure detection has a number at
    once: the one that the package gives to the same box afterwards is taken for it.
    """

    def __init__(self, tracker: Any, *, min_score: float = 0.5) -> None:
        self._tracker, self._min_score = tracker, min_score
        self._next_id = 0
        self.reset()

    def reset(self) -> None:
        self._tracker.reset()
        self._numbers: dict[int, int] = {}
        # Boxes (N, 4) of the last frame that the package has not numbered yet, and our numbers.
        self._waiting = np.zeros((0, 4)), np.zeros(0, np.int64)

    def update(self, boxes: np.ndarray, scores: np.ndarray, time: float) -> np.ndarray:
        import supervision

        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        scores = np.asarray(scores, np.float64)
        detections: Any = supervision.Detections(
            xyxy=boxes, confidence=scores, data={"place": np.arange(len(boxes))}
        )
        tracked = self._tracker.update(detections, timestamp=time)
        ids = np.full(len(boxes), -1, np.int64)
        numbers = () if tracked.tracker_id is None else tracked.tracker_id
        for place, number in zip(tracked.data.get("place", ()), numbers):
            if number >= 0:
                ids[int(place)] = self._own_number(int(number), boxes[int(place)])
        self._number_sure(boxes, scores, ids)
        return ids

    def _own_number(self, number: int, box: np.ndarray) -> int:
        if number not in self._numbers:
            self._numbers[number] = self._waiting_number(box)
        return self._numbers[number]

    def _number_sure(self, boxes: np.ndarray, scores: np.ndarray, ids: np.ndarray) -> None:
        """Number the sure detections that the package left out, in ``ids``, and remember them."""
        sure = np.flatnonzero((ids < 0) & (scores >= self._min_score))
        for place in sure:
            ids[place] = self._waiting_number(boxes[place])
        self._waiting = boxes[sure], ids[sure]

    def _waiting_number(self, box: np.ndarray) -> int:
        """The number of the waiting box that overlaps ``box`` most, at least by `_SAME_BOX`, and of
        it alone; else a new one."""
        boxes, numbers = self._waiting
        overlap = pairwise_iou(boxes, box[None]).ravel()
        if len(overlap) and overlap.max() >= _SAME_BOX:
            best = int(overlap.argmax())
            keep = np.arange(len(numbers)) != best
            self._waiting = boxes[keep], numbers[keep]
            return int(numbers[best])
        self._next_id += 1
        return self._next_id - 1


def _add_library_tracker(name: str, kind: str, sure_keys: tuple[str, ...], **fixed: Any) -> None:
    """Register ``trackers.<kind>``; ``sure_keys`` are its arguments that take ``min_score``."""

    @TRACKERS.add(name)
    def make(*, min_score: float, max_missed_seconds: float) -> Tracker:
        if importlib.util.find_spec("trackers") is None:
            raise ValueError(
                f"tracker {name!r} needs the package trackers: pip install trackers, or choose "
                f"the built-in tracker 'iou'"
            )
        import trackers

        # The package counts its memory in frames of 1/30 s.
        tracker = getattr(trackers, kind)(
            lost_track_buffer=max(1, round(30 * max_missed_seconds)),
            **dict.fromkeys(sure_keys, min_score),
            **fixed,
        )
        return LibraryTracker(tracker, min_score=min_score)


_SURE = ("track_activation_threshold", "high_conf_det_threshold")
_add_library_tracker("bytetrack", "ByteTrackTracker", _SURE, minimum_consecutive_frames=1)
_add_library_tracker("ocsort", "OCSORTTracker", _SURE[1:], minimum_consecutive_frames=1)
# Camera motion would need the pictures, which trackers here do not get.
_add_library_tracker("botsort", "BoTSORTTracker", _SURE, enable_cmc=False)
_add_library_tracker("cbiou", "CBIoUTracker", _SURE)


def pairwise_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """(M, 4) and (D, 4) -> (M, D)."""
    shared = shared_areas(a, b)
    return shared / np.maximum(box_areas(a)[:, None] + box_areas(b) - shared, 1e-9)


def shared_areas(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of boxes (M, 4) with boxes (D, 4): (M, D), px^2."""
    low = np.maximum(a[:, None, :2], b[:, :2])
    high = np.minimum(a[:, None, 2:], b[:, 2:])
    return np.clip(high - low, 0, None).prod(axis=2)


def box_areas(boxes: np.ndarray) -> np.ndarray:
    """(P, 4) -> (P,), px^2; 0 for one without a width or a height."""
    return (boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1)
