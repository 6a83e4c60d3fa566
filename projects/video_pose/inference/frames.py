"""What goes into a streaming predictor, and what comes out: one value per frame.

Shape letters: P persons, K joints, H W image size. Coordinates are continuous image pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from detectron2.structures import Boxes, Instances
from torch import from_numpy, zeros


@dataclass(frozen=True)
class Frame:
    """A frame of a video: its number from 0 in display order, its time and its picture."""

    index: int
    time: float  # seconds, by the container's timestamps
    image: np.ndarray  # uint8 (H, W, 3), BGR


@dataclass(frozen=True)
class PoseFrame:
    """The people on one frame; P is 0 where nobody is found.

    Attributes:
        index, time, image: as in :class:`Frame`.
        video: name of the source.
        joint_names: K names.
        keypoints: float32 (P, K, 3), x, y in image pixels and a score in [0, 1]: the height of the
            heatmap's peak, whose target is 1 (recurrent models), or the share of the softmax that
            lies in the peak's cell (Keypoint R-CNN). Both order joints by confidence; neither is a
            calibrated probability, and their levels differ between models.
        boxes: float32 (P, 4) XYXY, the joints' extent or the detector's box.
        scores: float32 (P,).
        track_ids: int64 (P,), equal for one person on all frames.
        heatmaps: float32 (P, K, h, w) where they were asked for.
        map_to_image: float32 (P, 2, 3), from cell indices (x, y) of the heatmaps to image pixels.
        masks: bool (P, H, W) where the model has them.
        peaks: float32 (P, K, C, 3), the highest peaks of every joint's heatmap, as ``keypoints``
            has the first, where they were asked for.
        probabilities: float32 (P, K), how likely each joint is to lie within .1 of the person's
            box, where the model is calibrated.
        starts_shot: whether memories were dropped before this frame: the first one, or a cut.
        untracked: those of ``track_ids`` that are of people whom a file does not follow. They are
            told apart on this frame; that other frames have the number says nothing.
    """

    index: int
    time: float
    image: np.ndarray
    video: str
    joint_names: tuple[str, ...]
    keypoints: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    track_ids: np.ndarray
    heatmaps: np.ndarray | None = None
    map_to_image: np.ndarray | None = None
    masks: np.ndarray | None = None
    starts_shot: bool = False
    peaks: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    untracked: frozenset[int] = frozenset()

    @property
    def is_tracked(self) -> bool:
        """Whether everybody is followed: ``track_ids`` say who is who."""
        return not self.untracked.intersection(self.track_ids.tolist())

    def __len__(self) -> int:
        """Number of people."""
        return len(self.track_ids)

    def __repr__(self) -> str:
        """One line: where, how large, and who."""
        height, width = self.image.shape[:2]
        people = ", ".join(map(str, self.track_ids.tolist())) or "nobody"
        return (
            f"PoseFrame({self.video!r}, index={self.index}, time={self.time:.3f}, "
            f"{width}x{height}, people: {people})"
        )

    def instances(self) -> Instances:
        """The same as Detectron2 has it, with a field ``track_ids`` more."""
        return Instances(
            self.image.shape[:2],
            pred_keypoints=from_numpy(self.keypoints),
            pred_boxes=Boxes(from_numpy(self.boxes)),
            scores=from_numpy(self.scores),
            pred_classes=zeros(len(self)).long(),
            track_ids=from_numpy(self.track_ids),
        )


def is_timed(frame: PoseFrame) -> bool:
    """Whether the frame's time is known."""
    return bool(np.isfinite(frame.time))


def mean_rate(frames: Sequence[PoseFrame]) -> float | None:
    """Frames a second by number and time of the first and the last; None where times do not tell.

    Args:
        frames: of one video, in any order; a frame's time may be NaN.
    """
    timed = [frame for frame in frames if is_timed(frame)]
    if not timed:
        return None
    first, last = (end(timed, key=lambda frame: frame.index) for end in (min, max))
    span, seconds = last.index - first.index, last.time - first.time
    return round(span / seconds, 6) if span and seconds > 0 else None
