"""Which frames of a source, and which people and joints of a frame, somebody wants."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from video_pose.inference.detected_people import pose_scores
from video_pose.inference.frames import Frame, PoseFrame
from video_pose.inference.sources import FrameSource
from video_pose.inference.video_source import VideoSource

_CLOCK = re.compile(r"(?:(\d+):)?(\d+):(\d+(?:\.\d+)?)")
# Times of frames are sums of fractions: one so many seconds early counts.
_EARLY = 1e-6


@dataclass(frozen=True)
class Moment:
    """A place in a video: of frames, counted from 0, or of seconds after the first frame, whose
    own time need not be 0; exactly one is given."""

    frames: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, text: str) -> Moment:
        """``250f`` is a frame; ``10``, ``2.5s``, ``1:30`` and ``1:02:03.5`` are seconds.

        Raises:
            ValueError: it is none of these, or negative.
        """
        clock = _CLOCK.fullmatch(text)
        if clock:
            hours, minutes, seconds = clock.groups()
            return cls(seconds=int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds))
        try:
            if text.endswith("f"):
                moment = cls(frames=int(text[:-1]))
            else:
                moment = cls(seconds=float(text.removesuffix("s")))
        except ValueError:
            moment = cls()
        value = moment.frames if moment.seconds is None else moment.seconds
        if value is None or not 0 <= value < math.inf:
            raise ValueError(f"{text!r}: expected frames (250f), seconds (2.5) or a time (1:30)")
        return moment

    def is_reached(self, frame: Frame, begin: float) -> bool:
        """Whether ``frame`` is at this place or behind it. Args: ``begin`` the first one's time."""
        if self.frames is not None:
            return frame.index >= self.frames
        return self.seconds is not None and frame.time - begin >= self.seconds - _EARLY


class Excerpt:
    """A part of a source; frames keep their numbers and times.

    Of a video whose index is known, reading begins at the key frame before ``start``; else frames
    before it are decoded and passed over. ``end`` itself is left out.
    """

    def __init__(
        self,
        source: FrameSource,
        start: Moment | None = None,
        end: Moment | None = None,
        step: Moment | None = None,
    ) -> None:
        """
        Args:
            step: every n-th frame, or one frame in so many seconds: of each such stretch of time
                the first. They are counted from ``start`` where that is in seconds, else from the
                first frame, which is always there.

        Raises:
            ValueError: ``step`` is 0.
        """
        if step is not None and not (step.frames or step.seconds):
            raise ValueError("a step of 0: expected 1f or more, or seconds above 0")
        self._source, self._start, self._end, self._step = source, start, end, step
        self.name, self.fps = source.name, source.fps
        whole = start is None and end is None and step is None
        self.num_frames: int | None = source.num_frames if whole else None
        self.path = getattr(source, "path", "")
        self.restarts = getattr(source, "restarts", 0)
        self.reads_twice = getattr(source, "reads_twice", True)
        self.problems: list[str] = []

    def __iter__(self) -> Iterator[Frame]:
        """Afterwards ``problems`` are the source's: what comes after ``end`` was not met."""
        due = self._start or Moment(frames=0)
        return self._part(self._from_start(), due, due.seconds)

    @property
    def sound(self) -> bool:
        """As of `VideoSource`."""
        return isinstance(self._source, VideoSource) and self._source.sound

    def resume_at(self, index: int) -> Iterator[Frame]:
        """As of `VideoSource`; ``index`` is one of the part's own."""
        assert isinstance(self._source, VideoSource)
        first = self._first() or 0
        origin = None if self._start is None else self._start.seconds
        if origin is None and self._step is not None and self._step.seconds is not None:
            time, begin = self._source.time_of(first), self._source.time_of(0)
            origin = None if time is None or begin is None else time - begin
        return self._part(self._source.resume_at(index, first), Moment(frames=index), origin)

    def _part(self, frames: Iterator[Frame], due: Moment, origin: float | None) -> Iterator[Frame]:
        """``origin``: the second that steps are counted from; None: that of the part's first
        frame."""
        # Of what has no index, the first frame that comes is the first.
        begin = self._source.time_of(0) if isinstance(self._source, VideoSource) else None
        try:
            for frame in frames:
                begin = frame.time if begin is None else begin
                if self._end is not None and self._end.is_reached(frame, begin):
                    return
                if due.is_reached(frame, begin):
                    seconds = frame.time - begin
                    origin = seconds if origin is None else origin
                    due = self._after(frame.index, seconds, origin)
                    yield frame
        finally:
            self.problems = list(self._source.problems)

    def _from_start(self) -> Iterator[Frame]:
        first = self._first()
        if first is None:
            return iter(self._source)
        return cast(VideoSource, self._source).frames_from(first)

    def _first(self) -> int | None:
        """The frame of a video where reading begins; None where it is the first that comes."""
        if self._start is None or not isinstance(self._source, VideoSource):
            return None
        if self._start.frames is not None:
            return self._start.frames
        return self._source.number_at(cast(float, self._start.seconds))

    def _after(self, index: int, seconds: float, origin: float) -> Moment:
        step = self._step or Moment(frames=1)
        if step.frames is not None:
            return Moment(frames=index + step.frames)
        assert step.seconds is not None
        # Counted from one place: from frame to frame, all that they are late would add up.
        done = math.floor((seconds - origin + _EARLY) / step.seconds)
        return Moment(seconds=origin + (done + 1) * step.seconds)


def keep_wanted(
    frame: PoseFrame, min_person_score: float = 0.0, min_joint_score: float = 0.0
) -> PoseFrame:
    """The frame without people whose pose scores less, and without coordinates of doubtful joints.

    Args:
        min_person_score: of a pose, see `pose_scores`, 0 to 1. People who are found by a detector
            are judged by it before they are shown; here everybody is.
        min_joint_score: joints with a lower score are left empty; their score stays.
    """
    if min_person_score > 0:
        wanted = pose_scores(frame.keypoints) >= min_person_score
        parts = (
            "keypoints", "boxes", "scores", "track_ids", "heatmaps", "map_to_image", "masks",
            "peaks", "probabilities",
        )  # fmt: skip
        kept = {name: getattr(frame, name)[wanted] for name in parts if _has(frame, name)}
        frame = replace(frame, **kept)
    if min_joint_score > 0:
        keypoints = frame.keypoints.copy()
        keypoints[keypoints[..., 2] < min_joint_score, :2] = np.nan
        frame = replace(frame, keypoints=keypoints)
    return frame


def _has(frame: PoseFrame, name: str) -> bool:
    return getattr(frame, name) is not None
