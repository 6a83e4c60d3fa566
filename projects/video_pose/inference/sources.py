"""Where frames come from: videos, files and folders of pictures, arrays, cameras."""

from __future__ import annotations

import contextlib
import glob
import itertools
import logging
import math
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

import cv2
import numpy as np
from PIL import Image

from video_pose.inference.frames import Frame
from video_pose.inference.inputs import (
    find_files,
    how_to_read,
    is_picture,
    is_picture_file,
    is_unread_picture,
    is_video,
)
from video_pose.inference.video_source import (
    DEFAULT_TIMEOUT,
    Stalled,
    VideoSource,
    call_interruptibly,
    read_ahead,
)
from video_pose.video_io.pictures import PICTURE_SUFFIXES, count_pages, from_pillow, read_pages

logger = logging.getLogger(__name__)

_DEFAULT_FPS = 25.0

Picture: TypeAlias = "np.ndarray | Image.Image"
SourceSpec: TypeAlias = (
    "str | os.PathLike[str] | int | Picture | Iterable[str | os.PathLike[str] | Picture]"
)


@runtime_checkable
class FrameSource(Protocol):
    """Frames that can be iterated once or more; see :class:`VideoSource` for the attributes.

    One that can be iterated once alone has the attribute ``reads_twice``, False.
    """

    name: str
    fps: float
    num_frames: int | None
    problems: list[str]

    def __iter__(self) -> Iterator[Frame]: ...


class ImageSource:
    """Picture files in the given order; frame i has the time i / fps.

    Every picture of an animated or multi-page file is a frame. Those of a single such file have the
    times that the file tells, unless ``fps`` is given.
    """

    def __init__(self, paths: Sequence[str], name: str, fps: float | None = None) -> None:
        """Raises ValueError if there is no image or ``fps`` is not positive."""
        if not paths:
            raise ValueError(f"no image in {name} (of {', '.join(PICTURE_SUFFIXES)})")
        self.paths = list(paths)
        self.name = name
        self._fps = fps
        self.fps = _checked_rate(fps)
        self.num_frames: int | None = len(self.paths)
        if len(self.paths) == 1:
            with contextlib.suppress(ValueError, FileNotFoundError):  # iteration says what is wrong
                self.num_frames = count_pages(*self.paths)
        self.problems: list[str] = []

    def __iter__(self) -> Iterator[Frame]:
        """Yield the images that can be read; ``problems`` then names the others."""
        self.problems = []
        first = None
        index, shown = 0, 0.0
        for path in self.paths:
            begin = index
            try:
                for image, seconds in read_pages(path):
                    first = first or image.shape[:2]
                    if image.shape[:2] != first:
                        logger.warning(
                            "%s: %d x %d px (width x height), the first image is %d x %d; its "
                            "poses are in its own pixels. With --photos pictures are no sequence",
                            path, *image.shape[1::-1], *first[::-1],
                        )  # fmt: skip
                    own = self._fps is None and len(self.paths) == 1
                    yield Frame(index, shown if own else index / self.fps, image)
                    index += 1
                    shown += seconds or 1 / self.fps
            except (ValueError, FileNotFoundError) as error:
                self.problems.append(f"{path}: cannot be read ({error})")
                index += index == begin  # it keeps its place


class ArraySource:
    """Pictures in memory, or made one by one by an iterator; frame i has the time i / fps."""

    def __init__(self, pictures: Iterable[Picture], fps: float | None = None) -> None:
        """
        Args:
            pictures: uint8 (H, W, 3) BGR each, or a picture of Pillow. Those of a sequence are
                checked now; of an iterator's, which serves once, the first is.

        Raises:
            ValueError: there is none, one is something else, or ``fps`` is not positive.
        """
        self.name = "arrays"
        self.fps = _checked_rate(fps)
        self.problems: list[str] = []
        self._once = not isinstance(pictures, (Sequence, np.ndarray))
        self.reads_twice = not self._once
        self._used = False
        if self._once:
            iterator = iter(pictures)
            peeked = list(itertools.islice(iterator, 1))
            pictures = itertools.chain(peeked, iterator)
        else:
            peeked = list(pictures)
            pictures = peeked
        self.num_frames: int | None = None if self._once else len(peeked)
        if not peeked:
            raise ValueError("a list of pictures is empty")
        for index, picture in enumerate(peeked):
            _check_picture(picture, index)
        self._pictures = pictures

    def __iter__(self) -> Iterator[Frame]:
        if self._once and self._used:
            raise ValueError("an iterator of pictures serves once: pass a list, or a new iterator")
        self._used = True
        for index, picture in enumerate(self._pictures):
            _check_picture(picture, index)
            if isinstance(picture, Image.Image):
                picture = from_pillow(picture)
            yield Frame(index, index / self.fps, np.ascontiguousarray(picture))


class CameraSource:
    """A camera, or an open ``cv2.VideoCapture``, until it ends; times are seconds since its start.

    Attributes: as of `VideoSource`.
    """

    num_frames: int | None = None
    reads_twice = False

    def __init__(
        self,
        camera: int | cv2.VideoCapture,
        timeout: float = DEFAULT_TIMEOUT,
        reconnect: int = 0,
    ) -> None:
        """
        Args:
            timeout: seconds without a picture after which the camera counts as stalled.
            reconnect: how many times a camera (of a number) that fails is opened again.

        Raises:
            ValueError: the camera cannot be opened, or does not answer.
        """
        self._number = camera if isinstance(camera, int) else None
        self._timeout, self._reconnect = timeout, reconnect if isinstance(camera, int) else 0
        self.name = "capture" if self._number is None else f"camera{camera}"
        self.problems: list[str] = []
        self._capture: Any = camera
        if self._number is not None:
            self._capture = call_interruptibly(self._open, timeout, self.name)
        if not self._capture.isOpened():
            raise ValueError(
                "an open cv2.VideoCapture is expected: this one is closed"
                if self._number is None
                else f"camera {camera} cannot be opened"
            )
        fps = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.fps = fps if 1 <= fps <= 1000 else _DEFAULT_FPS

    def _open(self) -> cv2.VideoCapture:
        with _silent_opencv():
            return cv2.VideoCapture(self._number)

    def __iter__(self) -> Iterator[Frame]:
        self.problems = []
        try:
            yield from read_ahead(self._read, self._timeout, self.name)
        except Stalled as error:
            self.problems.append(str(error))

    def _read(self) -> Iterator[Frame]:
        start, index, attempts = None, 0, 0
        try:
            while True:
                good, image = self._capture.read()
                if good:
                    now = time.monotonic()
                    start = now if start is None else start
                    yield Frame(index, now - start, image)
                    index += 1
                    continue
                if attempts >= self._reconnect:
                    if self._number is not None:
                        self.problems.append(f"{self.name}: no more frames after {index}")
                    return
                attempts += 1
                logger.warning(
                    "%s failed after %d frames; opened again (%d of %d)",
                    self.name, index, attempts, self._reconnect,
                )  # fmt: skip
                self._capture.release()
                time.sleep(min(2.0 ** (attempts - 1) / 2, 10.0))
                self._capture = self._open()
        finally:
            if self._number is not None:
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


def open_source(
    spec: SourceSpec | FrameSource | cv2.VideoCapture,
    fps: float | None = None,
    timeout: float = DEFAULT_TIMEOUT,
    reconnect: int = 0,
) -> FrameSource:
    """Open what a user names: one source.

    Args:
        spec: a video file or URL, a folder of images, a glob pattern of images, one image, a list
            of image files, pictures in memory (uint8 (H, W, 3) BGR arrays or Pillow's: one, a
            list, an iterator, or one array (N, H, W, 3)), a camera's number (int, or "camera:0"),
            an open ``cv2.VideoCapture``, or a source, which is given back. A folder or pattern may
            also lead to one video; to several see `inputs.find_inputs`.
        fps: of images, and of videos without times; default 25.
        timeout, reconnect: of cameras and streams, see `VideoSource`.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: something is there that cannot be read.
    """
    if isinstance(spec, FrameSource):
        return spec
    if isinstance(spec, bool):
        raise ValueError(f"{spec} is no source")
    if isinstance(spec, (int, cv2.VideoCapture)):
        return CameraSource(spec, timeout, reconnect)
    if isinstance(spec, (str, os.PathLike)):
        return _open_named(os.fspath(spec), fps, timeout, reconnect)
    if isinstance(spec, Image.Image) or (isinstance(spec, np.ndarray) and spec.ndim < 4):
        return ArraySource([spec], fps)
    if type(spec).__module__.partition(".")[0] == "torch" or not isinstance(spec, Iterable):
        raise ValueError(_expectation(spec, "a source"))
    return _open_list(spec, fps)


def _open_named(spec: str, fps: float | None, timeout: float, reconnect: int) -> FrameSource:
    if re.fullmatch(r"camera:\d+", spec):
        return CameraSource(int(spec.split(":")[1]), timeout, reconnect)
    name = os.path.basename(os.path.normpath(spec))
    if "://" in spec or os.path.isfile(spec):
        if "://" not in spec and is_picture_file(spec):
            return ImageSource([spec], name, fps)
        if is_unread_picture(spec):
            raise ValueError(f"cannot read picture {spec}: {how_to_read(spec)}")
        return VideoSource(spec, fps, timeout, reconnect)
    if not os.path.isdir(spec) and not glob.has_magic(spec):
        if os.path.exists(spec):
            device = re.fullmatch(r"/dev/video(\d+)", spec)
            hint = f" (a camera is camera:{device[1]})" if device else ""
            raise ValueError(f"cannot read {spec}: it is neither a regular file nor a folder{hint}")
        raise FileNotFoundError(f"no such file, folder or pattern: {spec}")
    files = find_files(spec)
    pictures = [path for path in files if is_picture(path)]
    videos = [path for path in files if is_video(path)]
    if len(videos) + bool(pictures) > 1:
        raise ValueError(
            f"{spec} holds {len(pictures)} images and {len(videos)} videos: open one of them at a "
            "time (see find_inputs)"
        )
    if videos:
        (video,) = videos
        return VideoSource(video, fps, timeout, reconnect)
    if os.path.isdir(spec):
        return ImageSource(pictures, name, fps)
    if not pictures:
        raise FileNotFoundError(f"no image matches {spec}, nor a video")
    return ImageSource(
        pictures, os.path.basename(os.path.dirname(os.path.abspath(pictures[0]))), fps
    )


def _open_list(items: Iterable[Any], fps: float | None) -> FrameSource:
    if not isinstance(items, (Sequence, np.ndarray)):
        iterator = iter(items)
        first = list(itertools.islice(iterator, 1))
        items = itertools.chain(first, iterator)
        if first and isinstance(first[0], (str, os.PathLike)):  # of Path.glob, for instance
            items = list(items)
    if isinstance(items, (Sequence, np.ndarray)):
        named = [isinstance(item, (str, os.PathLike)) for item in items]
        if named and all(named):
            paths = [os.fspath(cast("str | os.PathLike[str]", item)) for item in items]
            return ImageSource(paths, "images", fps)
        if any(named):
            raise ValueError("a list of pictures holds files and arrays: expected one kind")
        if not named:
            return ImageSource([], "an empty list", fps)
    return ArraySource(items, fps)


def _check_picture(picture: object, index: int) -> None:
    if isinstance(picture, np.ndarray) and picture.dtype == np.uint8:
        if picture.ndim == 3 and picture.shape[2] == 3 and picture.size:
            return
    elif isinstance(picture, Image.Image) and picture.width and picture.height:
        return
    raise ValueError(_expectation(picture, f"picture {index}"))


def _expectation(thing: object, name: str) -> str:
    """What to pass in place of ``thing``."""
    shape = getattr(thing, "shape", None)
    found = type(thing).__name__
    if shape is not None:
        found = f"{getattr(thing, 'dtype', found)} {tuple(shape)}"
    if isinstance(thing, Image.Image):
        found = f"{found} {thing.size}"
    hint = ""
    if type(thing).__module__.partition(".")[0] == "torch":
        found = f"a tensor, {found}"
        hint = "; of a tensor (3, H, W) pass tensor.permute(1, 2, 0).numpy()"
    return f"{name} is {found}: expected uint8 (H, W, 3) in the order BGR, or a Pillow image{hint}"


def _checked_rate(fps: float | None) -> float:
    rate = _DEFAULT_FPS if fps is None else fps
    if not 0 < rate < math.inf:
        raise ValueError(f"fps is {fps}: expected a number above 0")
    return rate
