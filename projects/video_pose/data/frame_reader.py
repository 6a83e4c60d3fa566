"""Frames of a track as arrays: image files, or video files with exact frame numbers.

Shape letters: H, W image size.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from video_pose.data.video_file import VideoFile
from video_pose.video_io.pictures import read_picture
from video_pose.video_io.reading import PIXEL_FORMATS, VideoIndex, to_array

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

    def read(self, track: dict[str, Any], indices: Sequence[int]) -> list[np.ndarray]:
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
