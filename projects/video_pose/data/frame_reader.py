"""Frames of a track as arrays: image files, or video files with exact frame numbers.

A video is indexed once by demuxing (no decoding); see `video_io.reading`. A read decodes from the
key frame before the wanted frame; one that continues where the last one ended does not seek.
OpenCV's seeking is not exact for variable frame rates and B-frames, so it is not used.

Shape letters: H, W image size.
"""

from __future__ import annotations

import bisect
import itertools
import os
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import Any

import av
import numpy as np

from video_pose.data.records import FrameSource
from video_pose.video_io.pictures import read_picture
from video_pose.video_io.reading import (
    PIXEL_FORMATS,
    VideoIndex,
    choose_stream,
    open_video,
    pixel_aspect,
    read_index,
    to_array,
)

# Open containers (file handles, decoder state) that one reader keeps.
_MAX_OPEN_VIDEOS = 4
_FROM_PARENT: list[Any] = []


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
        if image_format not in PIXEL_FORMATS:
            raise ValueError(
                f"image format {image_format!r}: expected one of {sorted(PIXEL_FORMATS)}"
            )
        self._image_format = image_format
        self._cache_bytes = int(cache_bytes)
        self._reset()

    def _reset(self) -> None:
        self._cached: OrderedDict[tuple[str, int], np.ndarray] = OrderedDict()
        self._used_bytes = 0
        self._videos: OrderedDict[str, VideoFile] = OrderedDict()
        self._indices: dict[str, VideoIndex] = {}
        self._pid = os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        return {"_image_format": self._image_format, "_cache_bytes": self._cache_bytes}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()

    def read(self, track: FrameSource, indices: Sequence[int]) -> list[np.ndarray]:
        """Decode frames of one track.

        Args:
            track: a catalog dict with ``file_names``, or ``video_file`` and ``frame_numbers``, and
                with ``height`` and ``width``: of upright frames, either in the pixels that are
                stored or, where those are not square, in square ones.
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
        size = int(track["height"]), int(track["width"])
        frames: dict[int, np.ndarray] = {}
        for i in sorted({int(index) for index in indices}):
            if not 0 <= i < total:
                video = track.get("video_id")
                raise ValueError(f"video {video!r} has {total} frames, no index {i}")
            if names is not None:
                frames[i] = self._read_image(str(names[i]), i, size)
                path, number = str(names[i]), i
            else:
                path, number = str(track["video_file"]), int(track["frame_numbers"][i])
                frames[i] = self._read_video(path, number, size)
            _check_size(frames[i], size, path, number)
        return [frames[int(index)] for index in indices]

    def _read_image(self, path: str, number: int, size: tuple[int, int]) -> np.ndarray:
        found = self._lookup((path, 0))
        if found is not None:
            return found
        try:
            image = read_picture(path, self._image_format, size)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"frame {number} is missing: {path}") from error
        except ValueError as error:
            raise ValueError(f"frame {number} cannot be read: {error}") from error
        return self._store((path, 0), image)

    def _read_video(self, path: str, number: int, size: tuple[int, int]) -> np.ndarray:
        found = self._lookup((path, number))
        if found is not None:
            return found
        video = self._video(path)
        frame = video.decode_frame(number)
        image = to_array(frame, self._image_format)
        if video.aspect != 1.0 and image.shape[:2] != size:
            # Labels of a dataset with this size were made on pictures with square pixels.
            image = to_array(frame, self._image_format, video.aspect)
        return self._store((path, number), image)

    def _video(self, path: str) -> VideoFile:
        if path not in self._videos:
            self._videos[path] = VideoFile(path, self._indices.get(path))
            self._indices[path] = self._videos[path].index
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


def _check_size(image: np.ndarray, expected: tuple[int, int], path: str, number: int) -> None:
    if image.shape[:2] != expected:
        raise ValueError(
            f"frame {number} of {path} is {image.shape[0]} x {image.shape[1]} (height x width), "
            f"the dataset says {expected[0]} x {expected[1]}"
        )


class VideoFile:
    """One open video, readable by frame number.

    Numbers count the frames in display order from 0, which is the order in which a decoder puts
    them out. Where a packet has no timestamp, or two have the same, frames are counted by decoding
    from the start.

    Attributes:
        index: of its packets. aspect: of its stored pixels, see `pixel_aspect`.
    """

    # From the key frame on that decoding began at: the frame that is asked for, the one that the
    # decoder puts out next, and whether there was damage after the frame that is asked for.
    _wanted: int
    _next: int
    _damage_ahead: bool

    def __init__(self, path: str, index: VideoIndex | None = None) -> None:
        """Open ``path``, and index it unless its ``index`` is known.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no video that can be read.
        """
        self.path = path
        self._seek_by_decode_stamp = False
        # Frames whose packets were decoded and that are not out yet.
        self._fed: set[int | None] = set()
        self._open(say=index is None)
        self.aspect = pixel_aspect(self._stream)
        if index is None:
            try:
                index = self._read_index()
            except BaseException:
                self._container.close()
                raise
            self._restart()
        self.index = index
        self._count = None if index.stamps is None else len(index.stamps)

    def _open(self, say: bool = False) -> None:
        self._container: Any = open_video(self.path)
        try:
            self._stream = choose_stream(self._container, say)
        except ValueError:
            self._container.close()
            raise
        # A loader runs one worker a core; frame threads would only delay the output.
        self._stream.codec_context.thread_count = 1
        self._frames: Iterator[av.VideoFrame] | None = None
        self._at_start = True

    def _read_index(self) -> VideoIndex:
        return read_index(self._container, self._stream)

    def _restart(self) -> None:
        self._container.close()
        self._open()

    def __len__(self) -> int:
        """Number of frames; decodes the file once where packets do not tell."""
        if self._count is None:
            self._restart()
            try:
                self._count = sum(1 for _ in self._container.decode(self._stream))
            except av.error.FFmpegError as error:
                raise ValueError(f"cannot count the frames of {self.path}: {error}") from error
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
        self._wanted = wanted
        first = self._seek(wanted)
        number = -1
        while number != wanted:
            try:
                number, frame = self._decode()
            except (StopIteration, av.error.FFmpegError) as error:
                self._frames = None
                why = str(error) or "the data end before it"
                raise ValueError(f"cannot decode frame {wanted} of {self.path}: {why}") from error
            if number > wanted and self._damage_ahead and wanted in self._fed:
                continue  # a decoder that met damage puts out some frames late
            # Frames shown before the key frame that decoding began at may lack their references.
            if number > wanted or (number >= first and frame.is_corrupt):
                self._frames = None
                lost = min(number, wanted)
                raise ValueError(f"frame {lost} of {self.path} is missing or damaged")
        if self._damage_ahead:
            self._frames = None
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
        packets = None
        while packets is None and at > 0:
            first, packets = self.index.keys[at][0], self._packets_from_key(at)
            at -= 1
        if packets is None:
            # The start of the file needs no index that a broken file may lack.
            if not self._at_start:
                self._restart()
            first, packets = 0, self._container.demux(self._stream)
        self._at_start = False
        self._next = first
        self._damage_ahead = False
        self._frames = self._decode_packets(packets)
        return first

    def _packets_from_key(self, at: int) -> Iterator[av.Packet] | None:
        """Packets from key frame ``at`` on; None where no seek of the container leads to it.

        MP4 and Matroska seek by the time at which a frame is shown, other containers by that at
        which it is decoded. A seek that lands early costs no decoding: packets before the key
        frame are passed over.
        """
        stamp, decode_stamp = self.index.keys[at][1], self.index.decode_stamps[at]
        early = stamp if decode_stamp is None else min(stamp, decode_stamp)
        for target in [early] if self._seek_by_decode_stamp else [stamp, early]:
            try:
                self._container.seek(target, stream=self._stream, backward=True)
                packets = self._container.demux(self._stream)
                for packet in packets:
                    if packet.pts == stamp:
                        return itertools.chain([packet], packets)
                    if decode_stamp is None or packet.dts is None or packet.dts > decode_stamp:
                        break  # too late
            except av.error.FFmpegError:
                pass
            self._seek_by_decode_stamp = True
        return None

    def _decode_packets(self, packets: Iterator[av.Packet]) -> Iterator[av.VideoFrame]:
        """Frames of packets.

        A decoder takes some more packets before it puts out a frame. Damage in those that come
        after the wanted frame's own is not its damage, but ends the reading on.
        """
        self._fed = fed = set()
        for packet in packets:
            number = self.index.number(packet.pts)
            if number is not None:
                fed.add(number)
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                if number == self._wanted or self._wanted not in fed:
                    raise
                self._damage_ahead = True
                continue
            fed.difference_update(self.index.number(frame.pts) for frame in frames)
            yield from frames
