"""Frames of a video file or stream, in display order, with exact numbers and times."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

import av
import numpy as np

from video_pose.inference.container_size import missing_bytes
from video_pose.inference.frames import Frame

# Degrees by which a display matrix is allowed to be off a multiple of 90.
_ROTATION_TOLERANCE = 1.0


class VideoSource:
    """A video, decoded once from start to end by PyAV; one frame is held at a time.

    A file is indexed first by demuxing, without decoding: a frame's number is the rank of its
    timestamp among those of all packets, so that a damaged frame leaves a gap and shifts no other.
    A stream from the network has no index, and its frames are counted. Rotation metadata turn the
    picture as a player would. Times are the container's own (an MPEG transport stream seldom begins
    at 0).

    Attributes:
        name: the file's name. fps: mean frames per second. size: (height, width) as displayed.
        num_frames: None where it is not known beforehand.
        problems: after iteration, one line for each thing that was wrong with the data.
    """

    def __init__(self, path: str) -> None:
        """Open and index ``path``, a file or a URL that FFmpeg knows.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is empty, no video, or holds no video stream.
        """
        self.path = path
        self.name = os.path.basename(path.rstrip("/")) or path
        self.problems: list[str] = []
        self._is_file = "://" not in path
        if self._is_file and not os.path.isfile(path):
            raise FileNotFoundError(f"video file not found: {path}")
        if self._is_file and os.path.getsize(path) == 0:
            raise ValueError(f"cannot read video {path}: the file is empty")
        self._missing = missing_bytes(path) if self._is_file else 0
        with self._open() as container:
            stream = container.streams.video[0]
            rate = stream.average_rate or stream.guessed_rate or 25
            self.fps = float(rate)
            # An MP4 counts its samples; the count in an AVI's header includes empty time steps.
            self._stated = stream.frames if "mp4" in container.format.name else 0
            self._duration = _duration(container)
            self._ranks = _timestamp_ranks(container, stream) if self._is_file else None
        self.num_frames = len(self._ranks) if self._ranks is not None else None
        if self.num_frames == 0:
            raise ValueError(f"cannot read video {path}: it holds no frame")

    def _open(self) -> av.container.InputContainer:
        try:
            container = av.open(self.path)
        except av.error.FFmpegError as error:
            cut = f" (truncated: {self._missing} bytes are missing)" if self._missing else ""
            raise ValueError(f"cannot read video {self.path}: {error.strerror}{cut}") from error
        if not container.streams.video:
            container.close()
            raise ValueError(f"cannot read video {self.path}: it holds no video stream")
        return container

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames that can be decoded; ``problems`` then tells about the others."""
        self.problems = []
        lost = count = 0
        last = -math.inf
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for decoded in self._decode(container, stream):
                if decoded is None or decoded.is_corrupt:
                    lost += 1
                    continue
                index = count
                if self._ranks is not None and decoded.pts in self._ranks:
                    index = self._ranks[decoded.pts]
                time = decoded.time if decoded.time is not None else index / self.fps
                last = max(last, time)
                yield Frame(index, float(time), _upright(decoded))
                count += 1
        self._report(count, lost, last)

    def _decode(
        self, container: av.container.InputContainer, stream: av.VideoStream
    ) -> Iterator[av.VideoFrame | None]:
        """Decoded frames; None for a packet that cannot be decoded."""
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError as error:
                self.problems.append(f"{self.path}: the data break off ({error.strerror})")
                return
            try:
                yield from packet.decode()
            except av.error.FFmpegError:
                yield None

    def _report(self, count: int, lost: int, last: float) -> None:
        expected = max(self._stated, self.num_frames or 0)
        if self._missing and not self._stated:  # the index has only what is there
            self.problems.append(
                f"{self.path}: truncated, {self._missing} bytes are missing at its end; {count} "
                "frames could be read"
            )
        elif self._is_file and count < expected:
            self.problems.append(
                f"{self.path}: damaged or truncated, {count} of {expected} frames could be read"
            )
        elif lost:
            self.problems.append(f"{self.path}: {lost} packets could not be decoded")
        elif self._is_file and self._duration - last > 1.0 + 2 / self.fps:
            self.problems.append(
                f"{self.path}: truncated, the frames end at {last:.2f} s of {self._duration:.2f} s"
            )


def _duration(container: av.container.InputContainer) -> float:
    """End of the video by the container's header, seconds; 0 where it does not tell.

    A container that only estimates its duration by its size counts as silent.
    """
    stream = container.streams.video[0]
    if stream.duration is not None and stream.time_base is not None:
        return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    if container.format.name.startswith("matroska") and container.duration is not None:
        # Audio may be longer than the picture.
        return container.duration / av.time_base if len(container.streams) == 1 else 0.0
    return 0.0


def _timestamp_ranks(
    container: av.container.InputContainer, stream: av.VideoStream
) -> dict[int, int] | None:
    """Presentation timestamp -> number of the frame; None where packets do not tell."""
    stamps = []
    try:
        for packet in container.demux(stream):
            if packet.size and not packet.is_discard:
                stamps.append(packet.pts)
    except av.error.FFmpegError:
        pass  # the frames before the damage exist; decoding reports it
    if None in stamps or len(set(stamps)) != len(stamps):
        return None
    return {stamp: rank for rank, stamp in enumerate(sorted(stamps))}


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """The picture, uint8 (H, W, 3) BGR, turned as its display matrix says."""
    image = frame.to_ndarray(format="bgr24")
    turns = round(frame.rotation / 90)
    if turns % 4 == 0 or abs(frame.rotation - 90 * turns) > _ROTATION_TOLERANCE:
        return image
    return np.ascontiguousarray(np.rot90(image, turns))
