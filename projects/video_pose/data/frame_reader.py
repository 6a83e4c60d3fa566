"""Frames of a track as arrays: image files, or video files with exact frame numbers.

A video is indexed once by demuxing (no decoding): the sorted presentation timestamps of its packets
number the frames. A read seeks to the key frame before the wanted frame and decodes forward; a read
that continues where the last one ended does not seek. OpenCV's seeking is not exact for variable
frame rates and B-frames, so it is not used.

Shape letters: H, W image size.
"""

from __future__ import annotations

import bisect
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import av
import numpy as np
from detectron2.data.detection_utils import read_image

_PIXEL_FORMATS = {"BGR": "bgr24", "RGB": "rgb24"}
# Open containers (file handles, decoder state) that one reader keeps.
_MAX_OPEN_VIDEOS = 4
_FROM_PARENT: list[Any] = []


class VideoFile:
    """One open video, readable by frame number.

    Numbers count the frames in display order from 0, which is the order in which a decoder puts
    them out. Where a packet has no timestamp, or two have the same, frames are counted by decoding
    from the start.
    """

    def __init__(self, path: str) -> None:
        """Open and index ``path``.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no video that can be read.
        """
        if not os.path.isfile(path):
            raise FileNotFoundError(f"video file not found: {path}")
        self.path = path
        try:
            self._open()
            self._index()
        except (av.error.FFmpegError, IndexError) as error:
            raise ValueError(f"cannot read video {path}: {error}") from error

    def _open(self) -> None:
        self._container = av.open(self.path)
        self._stream = self._container.streams.video[0]
        # A loader runs one worker a core; frame threads would only delay the output.
        self._stream.codec_context.thread_count = 1
        self._frames: Iterator[av.VideoFrame] | None = None
        self._next = 0
        self._at_start = True

    def _index(self) -> None:
        # Discarded packets (edit lists) are decoded, but never put out.
        packets = [p for p in self._container.demux(self._stream) if p.size and not p.is_discard]
        stamps = [p.pts for p in packets]
        self._by_stamp: dict[int, int] | None = None
        self._keys: list[tuple[int, int]] = []
        if None not in stamps and len(set(stamps)) == len(stamps):
            self._by_stamp = {stamp: i for i, stamp in enumerate(sorted(stamps))}
            # Seeking goes by decoding time, which is the earlier of the two.
            self._keys = sorted(
                (self._by_stamp[p.pts], p.pts if p.dts is None else min(p.pts, p.dts))
                for p in packets
                if p.is_keyframe
            )
        self._count: int | None = len(packets) if self._by_stamp is not None else None
        self._restart()

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
        if self._by_stamp is not None:
            if frame.pts not in self._by_stamp:
                raise ValueError(f"{self.path}: no packet has the timestamp {frame.pts} of a frame")
            number = self._by_stamp[frame.pts]
        self._next = number + 1
        return number, frame

    def _seek(self, wanted: int) -> int:
        """Place the decoder before ``wanted``; returns the first frame that is whole from there."""
        going_on = self._frames is not None and self._next <= wanted
        at = self._key_before(wanted)
        if going_on and (at < 0 or self._keys[at][0] <= self._next):
            return 0
        return self._seek_to_key(at)

    def _key_before(self, number: int) -> int:
        return bisect.bisect_right(self._keys, number, key=lambda key: key[0]) - 1

    def _seek_to_key(self, at: int) -> int:
        if at <= 0:
            # The start of the file needs no index that a broken file may lack.
            if not self._at_start:
                self._restart()
            first = 0
        else:
            first, stamp = self._keys[at]
            self._container.seek(stamp, stream=self._stream, backward=True)
        self._at_start = False
        self._frames = self._container.decode(self._stream)
        self._next = first
        return first


class FrameReader:
    """Reads frames of track dicts, keeping the last ones within a byte limit.

    Picklable, and safe after a fork: open videos belong to the process that opened them.
    """

    def __init__(self, cache_bytes: int, image_format: str) -> None:
        """
        Args:
            cache_bytes: bytes of decoded frames to keep, the last used ones; 0 keeps none.
            image_format: channel order, "BGR" or "RGB".
        """
        if image_format not in _PIXEL_FORMATS:
            raise ValueError(
                f"image format {image_format!r}: expected one of {sorted(_PIXEL_FORMATS)}"
            )
        self._image_format = image_format
        self._cache_bytes = int(cache_bytes)
        self._reset()

    def _reset(self) -> None:
        self._cached: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()
        self._used_bytes = 0
        self._videos: OrderedDict[str, VideoFile] = OrderedDict()
        self._pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"_image_format": self._image_format, "_cache_bytes": self._cache_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def read(self, track: dict[str, Any], indices: Sequence[int]) -> list[np.ndarray]:
        """Decode frames of one track.

        Args:
            track: a catalog dict with ``file_names``, or ``video_file`` and ``frame_numbers``, and
                with ``height`` and ``width``.
            indices: positions in the track, in any order, repeats allowed.

        Returns:
            One read-only uint8 (H, W, 3) array per index; equal indices share theirs.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a frame cannot be read, or has another size than the track says.
        """
        if self._pid != os.getpid():
            # A handle shared with the parent shares its file position. The parent's objects are
            # kept alive: closing them would wait for threads that a fork does not copy.
            _FROM_PARENT.append(self._videos)
            self._reset()
        names = track.get("file_names")
        total = len(names) if names is not None else len(track["frame_numbers"])
        frames: dict[int, np.ndarray] = {}
        for i in sorted({int(index) for index in indices}):
            if not 0 <= i < total:
                video = track.get("video_id")
                raise ValueError(f"video {video!r} has {total} frames, no index {i}")
            if names is not None:
                frames[i] = self._read_image(str(names[i]), i)
                path, number = str(names[i]), i
            else:
                path, number = str(track["video_file"]), int(track["frame_numbers"][i])
                frames[i] = self._read_video(path, number)
            _check_size(frames[i], track, path, number)
        return [frames[int(index)] for index in indices]

    def _read_image(self, path: str, number: int) -> np.ndarray:
        found = self._lookup((path, 0))
        if found is not None:
            return found
        try:
            image = np.ascontiguousarray(read_image(path, format=self._image_format))
        except FileNotFoundError as error:
            raise FileNotFoundError(f"frame {number} is missing: {path}") from error
        except (OSError, ValueError, SyntaxError) as error:
            raise ValueError(f"frame {number} cannot be read: {path}: {error}") from error
        return self._store((path, 0), image)

    def _read_video(self, path: str, number: int) -> np.ndarray:
        found = self._lookup((path, number))
        if found is not None:
            return found
        frame = self._video(path).decode_frame(number)
        image = frame.to_ndarray(format=_PIXEL_FORMATS[self._image_format], threads=1)
        # Phones store turned pictures with the angle (counter-clockwise) beside them.
        image = np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))
        return self._store((path, number), image)

    def _video(self, path: str) -> VideoFile:
        if path not in self._videos:
            self._videos[path] = VideoFile(path)
            while len(self._videos) > _MAX_OPEN_VIDEOS:
                self._videos.popitem(last=False)[1].close()
        self._videos.move_to_end(path)
        return self._videos[path]

    def _lookup(self, key: tuple[str, int]) -> np.ndarray | None:
        if key in self._cached:
            self._cached.move_to_end(key)
        return self._cached.get(key)

    def _store(self, key: tuple[str, int], image: np.ndarray) -> np.ndarray:
        image.flags.writeable = False
        if image.nbytes <= self._cache_bytes:
            self._cached[key] = image
            self._used_bytes += image.nbytes
            while self._used_bytes > self._cache_bytes:
                self._used_bytes -= self._cached.popitem(last=False)[1].nbytes
        return image


def _check_size(image: np.ndarray, track: dict[str, Any], path: str, number: int) -> None:
    expected = (int(track["height"]), int(track["width"]))
    if image.shape[:2] != expected:
        raise ValueError(
            f"frame {number} of {path} is {image.shape[0]} x {image.shape[1]} (height x width), "
            f"the dataset says {expected[0]} x {expected[1]}"
        )
