"""Write frames with their own times to a video that stays playable if the writer is killed."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import av
import cv2
import numpy as np

from video_pose.files import replacing

# The first that this PyAV has.
_CODECS = ("libx264", "libopenh264", "mpeg4")
# Ticks per second of the written timestamps; a multiple of all usual frame rates.
_CLOCK = 90_000
# A fragment of the file is complete, and survives a kill, about once in this time.
_FRAGMENT_SECONDS = 1.0
_MIN_BIT_RATE = 2_000_000


class VideoWriter:
    """An mp4 that grows by fragments: H.264, or MPEG-4 where PyAV has no H.264 encoder.

    Frames keep their times, hence a variable rate stays one. The first frame fixes the size; later
    ones of another size are fitted into it with grey margins. An odd side gets one repeated pixel.
    """

    def __init__(self, path: str | Path, fps: float, name: str = "") -> None:
        """
        Args:
            path: file to write; ``fps``: the mean rate, a hint for the encoder.
            name: of the file in messages, if it is another than ``path``.

        Raises:
            ValueError: the file cannot be written, or ``fps`` is not positive.
        """
        self._name = name or str(path)
        if not 0 < fps < math.inf:
            raise ValueError(f"{self._name}: fps is {fps}: expected a number above 0")
        self.path = str(path)
        self.codec = next(name for name in _CODECS if name in av.codecs_available)
        options = {
            "movflags": "+frag_keyframe+empty_moov+default_base_moof+frag_discont",
            "flush_packets": "1",
        }
        try:
            open(self.path, "wb").close()  # PyAV itself would fail only at the first frame
        except OSError as error:
            raise ValueError(f"cannot write {self._name}: {error.strerror}") from error
        self._container = av.open(self.path, "w", format="mp4", options=options)
        self._fps = Fraction(fps).limit_denominator(1001)
        self._stream: av.VideoStream | None = None
        self._size = (0, 0)
        self._start = 0.0
        self._last = -1

    def write(self, image: np.ndarray, time: float) -> None:
        """Append a frame.

        Args:
            image: uint8 (H, W, 3), BGR. time: seconds; one that does not grow is moved by a tick.
        """
        if self._stream is None:
            self._begin(image, time)
        frame = av.VideoFrame.from_ndarray(self._fit(image), format="bgr24")
        pts = max(round((time - self._start) * _CLOCK), self._last + 1)
        frame.pts, frame.time_base = pts, Fraction(1, _CLOCK)
        self._last = pts
        assert self._stream is not None
        self._container.mux(self._stream.encode(frame))

    def _begin(self, image: np.ndarray, time: float) -> None:
        height, width = image.shape[:2]
        stream = self._container.add_stream(self.codec, rate=self._fps)
        self._size = (height + height % 2, width + width % 2)
        stream.height, stream.width = self._size
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = Fraction(1, _CLOCK)
        stream.codec_context.gop_size = max(1, round(float(self._fps) * _FRAGMENT_SECONDS))
        stream.codec_context.max_b_frames = 0
        if self.codec == "libx264":
            stream.options = {"preset": "veryfast", "crf": "20", "tune": "zerolatency"}
        else:
            # MPEG-4 counts time in at most 1 / 65535 s.
            stream.codec_context.time_base = Fraction(1, 30_000)
            stream.bit_rate = max(_MIN_BIT_RATE, 4 * height * width)
        self._stream, self._start = stream, time

    def _fit(self, image: np.ndarray) -> np.ndarray:
        height, width = self._size
        if 0 <= height - image.shape[0] <= 1 and 0 <= width - image.shape[1] <= 1:
            odd = (height - image.shape[0], width - image.shape[1])
            return np.pad(image, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")
        scale = min(height / image.shape[0], width / image.shape[1])
        size = [max(1, int(side * scale)) for side in (image.shape[1], image.shape[0])]
        out = np.full((height, width, 3), 64, np.uint8)
        top, left = (height - size[1]) // 2, (width - size[0]) // 2
        out[top : top + size[1], left : left + size[0]] = cv2.resize(image, size)
        return out

    def close(self) -> None:
        """Finish the file. A writer that was given no frame leaves no file."""
        if self._stream is None:
            self._container.close()
            Path(self.path).unlink(missing_ok=True)
            return
        self._container.mux(self._stream.encode())
        self._container.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def check_writable(folder: str | Path) -> None:
    """Make the folder; raise ValueError with its name if it cannot be written to."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise ValueError(f"cannot write to {folder}: permission denied")


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> str:
    """Write uint8 BGR frames of one size as a video of constant rate; see `VideoWriter`.

    Args:
        path: file to write (.mp4); directories are made. It appears only when it is complete.
        frames: (H, W, 3) each; read one at a time.
        fps: frames per second, > 0.

    Returns:
        The name of the encoder.

    Raises:
        ValueError: no frame, frames of different sizes, or ``fps`` not positive.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    first = None
    with replacing(path) as partial, VideoWriter(partial, fps, name=str(path)) as writer:
        for number, frame in enumerate(frames):
            check_image(frame)
            first = first or frame.shape
            if frame.shape != first:
                raise ValueError(f"{path}: frame {number} is {frame.shape}, the first was {first}")
            writer.write(frame, number / fps)
        if first is None:
            raise ValueError(f"{path}: no frame to write")
    return writer.codec


def check_image(image: np.ndarray) -> None:
    """Raise ValueError unless the image is uint8 (H, W, 3)."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"images are uint8 (H, W, 3), got {image.dtype} {image.shape}")
