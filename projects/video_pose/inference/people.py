"""Who is looked for where on the next frame: the policies of person regions.

Shape letters: P persons, K joints, N frames, D detections. Boxes are XYXY, image pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from video_pose.data.cropping import fill_boxes, is_valid_box, union_box
from video_pose.inference.frames import Frame
from video_pose.inference.trackers import Tracker

# Detected boxes (D, 4) and scores (D,) of the people in a picture (H, W, 3).
Detector = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


class Person(NamedTuple):
    """Somebody to be looked for on a frame."""

    track_id: int
    box: np.ndarray  # (4,), where the person is
    shot_box: np.ndarray  # (4,), where INPUT.REGION_PER "clip" looks through the whole shot


class People(Protocol):
    """A policy.

    Attributes:
        independent: whether ``find`` does without earlier poses, so that frames can be encoded
            together.
    """

    independent: bool

    def find(self, frame: Frame) -> list[Person]:
        """The people to be looked for on ``frame``."""

    def observe(self, people: list[Person], keypoints: np.ndarray) -> None:
        """Take in the poses (P, K, 3) found for them."""

    def tracked(self) -> set[int] | None:
        """Tracks whose memory is to be kept although they may be hidden now; None keeps all."""

    def reset(self) -> None:
        """Begin a new shot."""


class KnownPeople:
    """The rest of a policy to which neither poses nor shots tell anything: ``find`` is its own."""

    def observe(self, people: list[Person], keypoints: np.ndarray) -> None:
        pass

    def tracked(self) -> set[int] | None:
        return None

    def reset(self) -> None:
        pass


class GivenBoxes(KnownPeople):
    """One person, in the whole frame, in one box, or in a box for every frame.

    Boxes of zero area take the nearest valid one, as in the clip mapper.
    """

    independent = True

    def __init__(self, boxes: np.ndarray | Sequence[float] | None = None) -> None:
        """``boxes``: (4,) or (N, 4); None is the whole frame.

        Raises:
            ValueError: another shape, or a single box without area.
        """
        self._boxes = None if boxes is None else np.asarray(boxes, np.float64)
        if self._boxes is not None:
            if self._boxes.shape[-1:] != (4,) or self._boxes.ndim > 2:
                raise ValueError(f"boxes must be (4,) or (N, 4), got {self._boxes.shape}")
            self._boxes = self._boxes.reshape(-1, 4)
            valid = is_valid_box(self._boxes)
            if not valid.any():
                raise ValueError(f"no box has an area: {self._boxes[0].tolist()} (x0 y0 x1 y1)")
            self._union = union_box(self._boxes[valid])
            self._boxes = fill_boxes(self._boxes, 0, 0)

    def find(self, frame: Frame) -> list[Person]:
        if self._boxes is None:
            whole = np.array([0, 0, frame.image.shape[1], frame.image.shape[0]], np.float64)
            return [Person(0, whole, whole)]
        if len(self._boxes) > 1 and frame.index >= len(self._boxes):
            raise ValueError(f"frame {frame.index} has no box: {len(self._boxes)} were given")
        return [Person(0, self._boxes[min(frame.index, len(self._boxes) - 1)], self._union)]


class FollowedPerson:
    """One person, first in the given box or the whole frame, then where the last pose was.

    After a frame on which the mean score falls below ``min_score`` the search begins anew.
    """

    independent = False

    def __init__(
        self,
        box: Sequence[float] | None = None,
        *,
        margin: float = 1.2,
        min_score: float = 0.1,
    ) -> None:
        self._start = GivenBoxes(box)
        self._margin, self._min_score = margin, min_score
        self._box: np.ndarray | None = None

    def find(self, frame: Frame) -> list[Person]:
        start = self._start.find(frame)[0]
        return [start if self._box is None else start._replace(box=self._box)]

    def observe(self, people: list[Person], keypoints: np.ndarray) -> None:
        self._box = pose_extent(keypoints[0], self._margin, self._min_score)

    def tracked(self) -> set[int] | None:
        return None

    def reset(self) -> None:
        self._box = None


@dataclass
class _Track:
    box: np.ndarray
    shot_box: np.ndarray
    seen: float  # seconds, when a detection was last matched
    shown: bool


class DetectedPeople:
    """Several people: a detector every n frames, a tracker, and the poses' extents in between.

    * A new track begins with a fresh memory on the frame on which the tracker confirms it. While a
      sure detection awaits confirmation, the detector also runs on the next frame.
    * Between detections a person is looked for in the last pose's extent, as long as its mean score
      is at least ``min_score``; else the person counts as lost until a detection matches again.
    * A lost person has no row in the output, and the memory stands still. Found again within
      ``max_missed`` seconds, it goes on; after that it is dropped, and
      whoever is found next is new.
    * At a cut everything is forgotten, and the detector runs.
    """

    independent = False

    def __init__(
        self,
        detector: Detector,
        tracker: Tracker,
        *,
        every: int = 1,
        max_missed: float = 1.0,
        margin: float = 1.2,
        min_score: float = 0.1,
        sure_score: float = 0.5,
    ) -> None:
        """
        Args:
            every: frames between two detections, >= 1.
            max_missed: seconds.
            margin: factor on a pose's extent.
            sure_score: of a detection that the tracker can begin a track with.
        """
        if every < 1:
            raise ValueError(f"a detection every {every} frames: expected 1 or more")
        self._detector, self._tracker, self._every = detector, tracker, every
        self._max_missed, self._margin, self._min_score = max_missed, margin, min_score
        self._sure_score = sure_score
        self._tracks: dict[int, _Track] = {}
        self._due = 0

    def find(self, frame: Frame) -> list[Person]:
        if frame.index >= self._due:
            self._detect(frame)
        return [
            Person(number, track.box, track.shot_box)
            for number, track in sorted(self._tracks.items())
            if track.shown
        ]

    def _detect(self, frame: Frame) -> None:
        boxes, scores = self._detector(frame.image)
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        valid = is_valid_box(boxes)
        boxes, scores = boxes[valid], np.asarray(scores)[valid]
        ids = self._tracker.update(boxes, scores, frame.time)
        for track in self._tracks.values():
            track.shown = False
        for number, box in zip(ids.tolist(), boxes):
            if number >= 0:
                known = self._tracks.get(number)
                shot_box = box if known is None else known.shot_box
                self._tracks[number] = _Track(box, shot_box, frame.time, True)
        self._tracks = {
            number: track
            for number, track in self._tracks.items()
            if frame.time - track.seen <= self._max_missed
        }
        awaited = ((ids < 0) & (scores >= self._sure_score)).any()
        self._due = frame.index + (1 if awaited else self._every)

    def observe(self, people: list[Person], keypoints: np.ndarray) -> None:
        for person, pose in zip(people, keypoints, strict=True):
            track = self._tracks[person.track_id]
            box = pose_extent(pose, self._margin, self._min_score)
            track.shown = box is not None
            track.box = track.box if box is None else box

    def tracked(self) -> set[int] | None:
        return set(self._tracks)

    def reset(self) -> None:
        self._tracker.reset()
        self._tracks = {}
        self._due = 0


def pose_extent(keypoints: np.ndarray, margin: float, min_score: float) -> np.ndarray | None:
    """Box (4,) around a pose (K, 3) times ``margin``; None if its mean score is below ``min_score``
    or the box has no area."""
    if len(keypoints) == 0 or keypoints[:, 2].mean() < min_score:
        return None
    low, high = keypoints[:, :2].min(axis=0), keypoints[:, :2].max(axis=0)
    centre, half = (low + high) / 2, (high - low) / 2 * margin
    box = np.concatenate([centre - half, centre + half]).astype(np.float64)
    return box if is_valid_box(box[None])[0] else None
