"""Video files that are readable by exact frame number.

A video is indexed once by demuxing (no decoding): the sorted presentation timestamps of its packets
number the frames. A read seeks to the key frame before the wanted frame and decodes forward; a read
that continues where the last one ended does not seek. OpenCV's seeking is not exact for variable
frame rates and B-frames, so it is not used.

Shape letter: N frames.
"""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import av
import numpy as np


class VideoIndex(NamedTuple):
    """What a file's packets tell about its frames; some bytes a frame, so that it can be kept.

    Attributes:
        stamps: int64 (N,), the presentation timestamp of every frame, ascending; None where a
            packet has none, or two have the same.
        keys: (number of the frame, timestamp to seek to) of every key frame, ascending.
    """

    stamps: np.ndarray | None
    keys: list[tuple[int, int]]

    def number(self, stamp: int | None) -> int | None:
        """The frame of this timestamp; None where there is none."""
        if self.stamps is None or stamp is None:
            return None
        at = int(self.stamps.searchsorted(stamp))
        return at if at < len(self.stamps) and self.stamps[at] == stamp else None


class VideoFile:
    """One open video, readable by frame number.

    Numbers count the frames in display order from 0, which is the order in which a decoder puts
    them out. Where a packet has no timestamp, or two have the same, frames are counted by decoding
    from the start.
    """

    def __init__(self, path: str, index: VideoIndex | None = None) -> None:
        """Open ``path``, and index it unless its ``index`` is known.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no video that can be read.
        """
        if not os.path.isfile(path):
            raise FileNotFoundError(f"video file not found: {path}")
        self.path = path
        self._container: Any = None
        try:
            self._open()
            if index is None:
                index = self._read_index()
                self._restart()
        except (av.error.FFmpegError, IndexError) as error:
            if self._container is not None:
                self._container.close()
            raise ValueError(f"cannot read video {path}: {error}") from error
        self.index = index
        self._count = None if index.stamps is None else len(index.stamps)

    def _open(self) -> None:
        self._container = av.open(self.path)
        self._stream = self._container.streams.video[0]
        # A loader runs one worker a core; frame threads would only delay the output.
        self._stream.codec_context.thread_count = 1
        self._frames: Iterator[av.VideoFrame] | None = None
        self._next = 0
        self._at_start = True

    def _read_index(self) -> VideoIndex:
        # Discarded packets (edit lists) are decoded, but never put out.
        # A packet holds its frame's data: of each only its times are kept.
        packets = [
            (p.pts, p.dts, p.is_keyframe)
            for p in self._container.demux(self._stream)
            if p.size and not p.is_discard
        ]
        stamps = [pts for pts, _, _ in packets if pts is not None]
        if len(set(stamps)) != len(packets):
            return VideoIndex(None, [])
        index = VideoIndex(np.array(sorted(stamps), np.int64), [])
        # Seeking goes by decoding time, which is the earlier of the two.
        keys = []
        for pts, dts, is_key in packets:
            number = index.number(pts) if is_key else None
            if number is not None:
                keys.append((number, pts if dts is None else min(pts, dts)))
        index.keys.extend(sorted(keys))
        return index

    def _restart(self) -> None:
        self._container.close()
        self._open()

    def __len__(self) -> int:
        """Number of frames; decodes the file once where packets do not tell."""
        if self._count is None:
            self._restart()
            self._count = sum(1 for _ in self._container.decode(self._stream))
            self._restart()
        return self._count

    def close(self) -> None:
        self._container.close()

    def decode_frame(self, wanted: int) -> av.VideoFrame:
        """The frame of number ``wanted``; the next call reads on from there without a seek.

        Raises:
            ValueError: the video has no such frame, or its data are damaged.
        """
        if wanted < 0 or (self._count is not None and wanted >= self._count):
            raise ValueError(f"{self.path} has no frame {wanted} (frames: {self._count})")
        first = self._seek(wanted)
        number = -1
        while number != wanted:
            try:
                number, frame = self._decode()
            except (StopIteration, av.error.FFmpegError) as error:
                self._frames = None
                why = str(error) or "the data end before it"
                raise ValueError(f"cannot decode frame {wanted} of {self.path}: {why}") from error
            if number > wanted and first > 0:  # the container's seek landed too late
                first = self._seek_to_key(self._key_before(first - 1))
                continue
            # Frames shown before the key frame that decoding began at may lack their references.
            if number > wanted or (number >= first and frame.is_corrupt):
                self._frames = None
                lost = min(number, wanted)
                raise ValueError(f"frame {lost} of {self.path} is missing or damaged")
        return frame

    def _decode(self) -> tuple[int, av.VideoFrame]:
        assert self._frames is not None, self.path
        frame = next(self._frames)
        number = self._next
        if self.index.stamps is not None:
            found = self.index.number(frame.pts)
            if found is None:
                raise ValueError(f"{self.path}: no packet has the timestamp {frame.pts} of a frame")
            number = found
        self._next = number + 1
        return number, frame

    def _seek(self, wanted: int) -> int:
        """Place the decoder before ``wanted``; returns the first frame that is whole from there."""
        going_on = self._frames is not None and self._next <= wanted
        at = self._key_before(wanted)
        if going_on and (at < 0 or self.index.keys[at][0] <= self._next):
            return 0
        return self._seek_to_key(at)

    def _key_before(self, number: int) -> int:
        return bisect.bisect_right(self.index.keys, number, key=lambda key: key[0]) - 1

    def _seek_to_key(self, at: int) -> int:
        if at <= 0:
            # The start of the file needs no index that a broken file may lack.
            if not self._at_start:
                self._restart()
            first = 0
        else:
            first, stamp = self.index.keys[at]
            self._container.seek(stamp, stream=self._stream, backward=True)
        self._at_start = False
        self._frames = self._container.decode(self._stream)
        self._next = first
        return first
