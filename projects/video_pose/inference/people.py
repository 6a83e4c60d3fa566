"""Who is looked for where on the next frame: the policies of person regions.

`GivenBoxes` and `FollowedPerson` know one person; `detected_people.DetectedPeople` finds several.

Shape letters: P persons, K joints, N frames, D detections. Boxes are XYXY, image pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import numpy as np

from video_pose.data.cropping import fill_boxes, is_valid_box, union_box
from video_pose.inference.frames import Frame

# Detected boxes (D, 4) and scores (D,).
Detections = tuple[np.ndarray, np.ndarray]
# Of the people in a picture (H, W, 3).
Detector = Callable[[np.ndarray], Detections]
# A joint of a lower score was not found: its place is no place to look at. Of sure joints alone a
# region would shrink to a face, and lose the body.
FOUND_JOINT = 0.05


class Person(NamedTuple):
    """Somebody to be looked for on a frame."""

    track_id: int  # of the policy's own; what is shown is the verdict's number
    box: np.ndarray  # (4,), where the person is
    shot_box: np.ndarray  # (4,), where INPUT.REGION_PER "clip" looks through the whole shot


class Verdict(NamedTuple):
    """What the poses of P proposed people say about them."""

    track_ids: np.ndarray  # int64 (P,), under which the policy knows them from now on
    numbers: np.ndarray  # int64 (P,), for the results; -1 for those who are not shown


class People(Protocol):
    """A policy, of one stream.

    One that has a method ``ahead`` is handed the stream's frames by it, and gives them back, in
    turn, when it has prepared what it proposes on them as far as that needs no poses.

    Attributes:
        independent: whether ``propose`` does without earlier poses, so that frames can be encoded
            together.
        found: what a detector found on the frame proposed for last; None where none ran.
    """

    independent: bool
    found: Detections | None

    def propose(self, frame: Frame) -> list[Person]:
        """The people to be looked for on ``frame``."""

    def recall(self, frame: Frame, found: Detections | None) -> list[Person]:
        """As `propose`, with what the detector ``found`` when the frame was proposed for before."""

    def update(self, people: list[Person], keypoints: np.ndarray) -> Verdict:
        """Take in the poses (P, K, 3) found for them."""

    def tracked(self) -> set[int] | None:
        """Tracks whose memory is to be kept although they may be hidden now; None keeps all."""

    def reset(self) -> None:
        """Begin a new shot."""


class KnownPeople:
    """The rest of a policy that neither poses nor shots tell anything; ``propose`` is its own."""

    found: Detections | None = None

    def propose(self, frame: Frame) -> list[Person]:
        raise NotImplementedError

    def recall(self, frame: Frame, found: Detections | None) -> list[Person]:
        return self.propose(frame)

    def update(self, people: list[Person], keypoints: np.ndarray) -> Verdict:
        ids = np.array([person.track_id for person in people], np.int64)
        return Verdict(ids, ids)

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

    def propose(self, frame: Frame) -> list[Person]:
        if self._boxes is None:
            whole = np.array([0, 0, frame.image.shape[1], frame.image.shape[0]], np.float64)
            return [Person(0, whole, whole)]
        if len(self._boxes) > 1 and frame.index >= len(self._boxes):
            raise ValueError(f"frame {frame.index} has no box: {len(self._boxes)} were given")
        return [Person(0, self._boxes[min(frame.index, len(self._boxes) - 1)], self._union)]


class FollowedPerson(KnownPeople):
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
        self._size: tuple[int, int] | None = None

    def propose(self, frame: Frame) -> list[Person]:
        self._size = (frame.image.shape[0], frame.image.shape[1])
        (start,) = self._start.propose(frame)
        return [start if self._box is None else start._replace(box=self._box)]

    def update(self, people: list[Person], keypoints: np.ndarray) -> Verdict:
        (pose,) = keypoints
        self._box = pose_extent(pose, self._margin, self._min_score, self._size)
        return super().update(people, keypoints)

    def reset(self) -> None:
        self._box = None


def pose_extent(
    keypoints: np.ndarray,
    margin: float,
    min_score: float,
    size: tuple[int, int] | None = None,
) -> np.ndarray | None:
    """Where to look for somebody next: the extent of a pose (K, 3) in the picture times ``margin``.

    Joints count from `FOUND_JOINT` on; all, where fewer than two reach it. Others are guessed,
    often at the crop's edge or beyond the picture's, and a region that followed them would grow and
    leave the person.

    Args:
        size: (height, width) of the picture; None: it has no edges.

    Returns:
        A box (4,); None if the mean score of all joints is below ``min_score``, or the extent has
        no area in the picture.
    """
    if len(keypoints) == 0 or keypoints[:, 2].mean() < min_score:
        return None
    found = keypoints[:, 2] >= FOUND_JOINT
    points = keypoints[found if found.sum() > 1 else slice(None), :2].astype(np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    if size is not None:
        low, high = (corner.clip(0, (size[1], size[0])) for corner in (low, high))
    centre, half = (low + high) / 2, (high - low) / 2 * margin
    box = np.concatenate([centre - half, centre + half])
    return box if is_valid_box(box[None]).all() else None
