"""Where frames come from: videos, folders and globs of images, arrays, cameras."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from typing import Protocol, TypeAlias, cast

import cv2
import numpy as np
from detectron2.data.detection_utils import read_image

from video_pose.inference.frames import Frame
from video_pose.inference.video_source import VideoSource

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
_DEFAULT_FPS = 25.0

PathOrArray: TypeAlias = str | os.PathLike[str] | np.ndarray
SourceSpec: TypeAlias = str | os.PathLike[str] | int | Sequence[PathOrArray] | np.ndarray


class FrameSource(Protocol):
    """Frames that can be iterated once or more; see :class:`VideoSource` for the attributes."""

    name: str
    fps: float
    num_frames: int | None
    problems: list[str]

    def __iter__(self) -> Iterator[Frame]: ...


class ImageSource:
    """Image files in the given order; frame i has the time i / fps."""

    def __init__(self, paths: Sequence[str], name: str, fps: float = _DEFAULT_FPS) -> None:
        """Raises ValueError if there is no image or ``fps`` is not positive."""
        if not paths:
            raise ValueError(f"no image in {name} (of {', '.join(IMAGE_SUFFIXES)})")
        if fps <= 0:
            raise ValueError(f"fps is {fps}: expected more than 0")
        self.paths = list(paths)
        self.name = name
        self.fps = fps
        self.num_frames: int | None = len(self.paths)
        self.problems: list[str] = []

    def __iter__(self) -> Iterator[Frame]:
        """Yield the images that can be read; ``problems`` then names the others."""
        self.problems = []
        first = None
        for index, path in enumerate(self.paths):
            try:
                image = np.ascontiguousarray(read_image(path, format="BGR"))
            except (OSError, ValueError, SyntaxError) as error:
                self.problems.append(f"{path}: cannot be read ({error})")
                continue
            first = first or image.shape[:2]
            if image.shape[:2] != first:
                logger.warning(
                    "%s: %d x %d px (width x height), the first image is %d x %d; its poses are in "
                    "its own pixels", path, *image.shape[1::-1], *first[::-1],
                )  # fmt: skip
            yield Frame(index, index / self.fps, image)


class ArraySource:
    """Pictures in memory; frame i has the time i / fps."""

    def __init__(self, pictures: Sequence[np.ndarray], fps: float = _DEFAULT_FPS) -> None:
        """``pictures``: uint8 (H, W, 3) each, BGR. Raises ValueError if there is none, one is
        something else, or ``fps`` is not positive."""
        if not len(pictures):
            raise ValueError("a list of pictures is empty")
        for index, picture in enumerate(pictures):
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise ValueError(
                    f"picture {index} is {picture.dtype} {picture.shape}: expected uint8 (H, W, 3)"
                )
        if fps <= 0:
            raise ValueError(f"fps is {fps}: expected more than 0")
        self.name = "arrays"
        self.fps = fps
        self.num_frames: int | None = len(pictures)
        self.problems: list[str] = []
        self._pictures = pictures

    def __iter__(self) -> Iterator[Frame]:
        for index, picture in enumerate(self._pictures):
            yield Frame(index, index / self.fps, np.ascontiguousarray(picture))


class CameraSource:
    """A camera, until it ends; times are seconds since its first frame."""

    num_frames: int | None = None

    def __init__(self, number: int) -> None:
        """Raises ValueError if the camera cannot be opened."""
        self.name = f"camera{number}"
        self.problems: list[str] = []
        with _silent_opencv():
            self._capture = cv2.VideoCapture(number)
        if not self._capture.isOpened():
            raise ValueError(f"camera {number} cannot be opened")
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if 1 <= fps <= 1000 else _DEFAULT_FPS

    def __iter__(self) -> Iterator[Frame]:
        start, index = None, 0
        try:
            while True:
                good, image = self._capture.read()
                if not good:
                    self.problems.append(f"{self.name}: no more frames after {index}")
                    return
                now = time.monotonic()
                start = now if start is None else start
                yield Frame(index, now - start, image)
                index += 1
        finally:
            self._capture.release()


@contextlib.contextmanager
def _silent_opencv() -> Iterator[None]:
    """Without OpenCV's own lines on standard error about a device that is not there."""
    log = cv2.utils.logging
    level = log.getLogLevel()
    log.setLogLevel(log.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        log.setLogLevel(level)


def open_source(spec: SourceSpec, fps: float | None = None) -> FrameSource:
    """Open what a user names.

    Args:
        spec: a video file or URL, a folder of images, a glob pattern of images, one image, a list
            of image files, pictures in memory (a list of uint8 (H, W, 3) BGR arrays, or one array
            (N, H, W, 3)), or a camera's number (int, or "camera:0").
        fps: of images; default 25.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: something is there that cannot be read.
    """
    rate = _DEFAULT_FPS if fps is None else fps
    if isinstance(spec, int):
        return CameraSource(spec)
    if isinstance(spec, (np.ndarray, list, tuple)):
        return _open_list(spec, rate)
    spec = os.fspath(cast("str | os.PathLike[str]", spec))
    if re.fullmatch(r"camera:\d+", spec):
        return CameraSource(int(spec.split(":")[1]))
    if os.path.isdir(spec):
        paths = [entry.path for entry in os.scandir(spec) if _is_image(entry.name)]
        return ImageSource(natural_order(paths), os.path.basename(os.path.normpath(spec)), rate)
    if os.path.isfile(spec) or "://" in spec:
        if _is_image(spec):
            return ImageSource([spec], os.path.basename(spec), rate)
        return VideoSource(spec)
    if glob.has_magic(spec):
        paths = [path for path in glob.glob(spec, recursive=True) if _is_image(path)]
        if not paths:
            raise FileNotFoundError(f"no image matches {spec}")
        folder = os.path.basename(os.path.dirname(os.path.abspath(paths[0])))
        return ImageSource(natural_order(paths), folder, rate)
    raise FileNotFoundError(f"no such file, folder or pattern: {spec}")


def _open_list(items: Sequence[PathOrArray] | np.ndarray, fps: float) -> FrameSource:
    arrays = [item for item in items if isinstance(item, np.ndarray)]
    if len(arrays) == len(items) and arrays:
        return ArraySource(arrays, fps)
    if arrays:
        raise ValueError("a list of pictures holds files and arrays: expected one kind")
    return ImageSource([os.fspath(item) for item in items], "images", fps)


def natural_order(paths: Sequence[str]) -> list[str]:
    """Sorted so that numbers count as numbers: frame2 before frame10."""

    def key(path: str) -> list[tuple[int, int, str]]:
        parts = re.split(r"(\d+)", path)
        return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]

    return sorted(paths, key=key)


def _is_image(path: str) -> bool:
    return path.lower().endswith(IMAGE_SUFFIXES)
