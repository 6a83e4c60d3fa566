"""Write frames with their own times, and the sound of their source, as a video.

Shape letters: H, W a frame's size.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import math
import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import cv2
import numpy as np
from av.bitstream import BitStreamFilterContext

from video_pose.files import naming, replacing, replacing_file
from video_pose.video_io.reading import is_address, local_path

logger = logging.getLogger(__name__)

# The first that this PyAV has.
_CODECS = ("libx264", "libopenh264", "mpeg4")
# Sound that players expect in an MP4; other kinds are encoded as AAC. So are AC-3 and E-AC-3: a
# track of them without a packet cannot be written.
_AUDIO_CODECS = frozenset({"aac", "mp3", "opus", "flac", "alac"})
# Of AAC, for sound whose rate it does not know; and seconds by which decoded frames may overlap.
_AUDIO_RATE, _OVERLAP = 48_000, 0.01
# Ticks per second of the written timestamps; a multiple of all usual frame rates.
_CLOCK = 90_000
# A fragment of the file is complete, and survives a kill, about once in this time.
_FRAGMENT_SECONDS = 1.0
_MIN_BIT_RATE = 2_000_000
# Errors of the place that is written to.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


class _Closing:
    """A context manager that closes what it gives."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class VideoWriter(_Closing):
    """An mp4 that grows by fragments: H.264, or MPEG-4 where PyAV has no H.264 encoder.

    Frames keep their times, hence a variable rate stays one. The first frame fixes the size; later
    ones of another size are fitted into it with grey margins. An odd side gets one repeated pixel.
    A writer that is killed leaves a file that plays up to the last second.
    """

    def __init__(
        self, path: str | Path, fps: float, audio: str | None = None, name: str = ""
    ) -> None:
        """
        Args:
            path: file to write. fps: the mean rate, a hint for the encoder.
            audio: a file whose sound goes along, by the times of the frames; one without sound, or
                whose sound cannot be read, gives none, and so does an address.
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
            "movflags": "+frag_keyframe+delay_moov+default_base_moof+frag_discont",
            "flush_packets": "1",
        }
        try:
            open(self.path, "wb").close()  # PyAV itself would fail only at the first frame
        except OSError as error:
            raise ValueError(f"cannot write {self._name}: {error.strerror}") from error
        self._container = av.open(local_path(self.path), "w", format="mp4", options=options)
        # A hint alone: a time lapse of a frame an hour has a rate as well.
        self._fps = max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))
        self._audio_path = audio
        self._audio: _Audio | None = None
        self._stream: Any = None
        self._size = (0, 0)
        self._start = 0.0
        self._last = -1
        self._failed = False

    def write(self, image: np.ndarray, time: float) -> None:
        """Append a frame.

        Args:
            image: uint8 (H, W, 3), BGR. time: seconds; one that does not grow is moved by a tick.

        Raises:
            OSError: it cannot be written (no space is left, for instance); names the file.
        """
        with self._naming():
            if self._stream is None:
                self._begin(image, time)
            frame = av.VideoFrame.from_ndarray(self._fit(image), format="bgr24")
            pts = max(round((time - self._start) * _CLOCK), self._last + 1)
            frame.pts, frame.time_base = pts, Fraction(1, _CLOCK)
            self._last = pts
            self._mux_audio(time)
            self._container.mux(self._stream.encode(frame))

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            with naming(self._name):
                yield
        except OSError:
            self._failed = True
            raise

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
        if self._audio_path is not None:
            self._audio = _open_audio(self._audio_path, self._container, time)

    def _mux_audio(self, until: float) -> None:
        """The sound before the time ``until``; where it breaks off, the video goes on mute."""
        if self._audio is None:
            return
        try:
            for packet in self._audio.packets(until):
                self._container.mux(packet)
        except (av.error.FFmpegError, ValueError) as error:
            if getattr(error, "errno", None) in _FULL:  # no fault of the sound
                raise
            logger.warning("%s: the sound breaks off (%s)", self._audio_path, _reason(error))
            self._audio.close()
            self._audio = None

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
        """Finish the file. A writer that was given no frame leaves no file.

        Raises:
            OSError: as `write`; not again where that has raised it.
        """
        try:
            with contextlib.nullcontext() if self._failed else self._naming():
                if self._stream is not None and not self._failed:
                    self._mux_audio(self._start + self._last / _CLOCK + 1 / float(self._fps))
                    self._container.mux(self._stream.encode())
                self._close_container()
        finally:
            if self._audio is not None:
                self._audio.close()
            if self._stream is None:
                Path(self.path).unlink(missing_ok=True)

    def _close_container(self) -> None:
        try:
            self._container.close()
        except OSError:
            if not self._failed:
                raise


class _Audio:
    """The sound of a file, packet by packet, for a container that is being written.

    Times of packets and frames grow: those of files that were joined byte by byte jump back, and
    what comes again is left out. Damaged packets are passed over.
    """

    def __init__(self, source: Any, output: Any, start: float) -> None:
        """
        Raises:
            ValueError: there is no sound from ``start`` on, or of no kind that is known.
        """
        self._source, self._start = source, start
        self._stream = source.streams.best("audio")
        if self._stream is None or self._stream.codec_context is None:
            raise ValueError("its kind is not known")
        self._is_damaged = False
        is_copied = self._stream.codec_context.name in _AUDIO_CODECS
        found = self._found_packets() if is_copied else self._found_frames()
        first = next(found, None)
        if first is None:
            raise ValueError(f"none can be read from {start:.3f} s on")
        found = itertools.chain([first], found)
        if is_copied:
            self._out = output.add_stream_from_template(self._stream)
            self._made = self._copied(found)
        else:
            rate = first[1].sample_rate
            rate = rate if rate in (av.Codec("aac", "w").audio_rates or ()) else _AUDIO_RATE
            layout = "mono" if first[1].layout.nb_channels == 1 else "stereo"
            self._out = output.add_stream("aac", rate=rate)
            self._out.layout = layout
            self._made = self._encoded(found, av.AudioResampler("fltp", layout, rate))
        self._waiting: tuple[float, list[Any]] | None = None

    def packets(self, until: float) -> Iterator[Any]:
        """Packets not given yet, that begin before ``until``, in seconds of the source."""
        while True:
            if self._waiting is None:
                self._waiting = next(self._made, None)
            if self._waiting is None or self._waiting[0] >= until:
                return
            ready, self._waiting = self._waiting[1], None
            yield from ready

    def _found_packets(self) -> Iterator[tuple[float, Any]]:
        # AAC of transport streams has a header in each packet, which an MP4 must not have.
        is_aac = self._stream.codec_context.name == "aac"
        bare = BitStreamFilterContext("aac_adtstoasc", self._stream) if is_aac else None
        # Times that differ by less are the same ones in the container.
        last, tick = -math.inf, 1 / self._stream.codec_context.sample_rate
        for packet in self._source.demux(self._stream):
            if packet.dts is None or packet.pts is None:
                continue
            base, pts = self._stream.time_base, packet.pts
            time = float(pts * base)
            if time < self._start or time - last < tick:
                continue
            try:
                parts = [packet] if bare is None else bare.filter(packet)
            except av.error.FFmpegError:
                self._say_damaged()
                continue
            for part in parts:
                last, part.time_base = time, base
                part.pts = part.dts = pts  # sound is shown in the order in which it is decoded
                yield time, part

    def _copied(self, found: Iterable[tuple[float, Any]]) -> Iterator[tuple[float, list[Any]]]:
        shift = round(self._start / self._stream.time_base)
        for time, packet in found:
            packet.pts = packet.dts = packet.pts - shift
            packet.stream = self._out
            yield time, [packet]

    def _found_frames(self) -> Iterator[tuple[float, Any]]:
        end = -math.inf
        for packet in self._source.demux(self._stream):
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self._say_damaged()
                continue
            for frame in frames:
                time = frame.time
                if time is None or time < max(self._start, end - _OVERLAP):
                    continue
                end = time + frame.samples / frame.sample_rate
                yield time, frame

    def _encoded(
        self, found: Iterable[tuple[float, Any]], resampler: Any
    ) -> Iterator[tuple[float, list[Any]]]:
        for time, frame in found:
            frame.pts -= round(self._start / frame.time_base)
            for part in resampler.resample(frame):
                yield time, list(self._out.encode(part))
        yield -math.inf, list(self._out.encode(None))

    def _say_damaged(self) -> None:
        if not self._is_damaged:
            logger.warning("%s: damaged parts of its sound are left out", self._source.name)
        self._is_damaged = True

    def close(self) -> None:
        self._source.close()


def _open_audio(path: str, output: Any, start: float) -> _Audio | None:
    """The sound of ``path`` from ``start`` on; None where there is none to be had."""
    if is_address(path):
        # A second connection might keep silent for ever, or give another part of the stream.
        logger.warning("%s: sound is kept of files alone: it is left out", path)
        return None
    source = None
    try:
        source = av.open(local_path(path))
        if source.streams.audio:
            return _Audio(source, output, start)
        source.close()
    except (av.error.FFmpegError, ValueError) as error:
        logger.warning("%s: its sound is left out (%s)", path, _reason(error))
        if source is not None:
            source.close()
    return None


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


class PictureWriter(_Closing):
    """One drawn picture, in the format of the file's ending (.jpg, .png); further ones are refused.

    Args:
        path: file to write; appears with the picture.
        name: of the file in messages, if it is another than ``path``.
    """

    def __init__(self, path: str | Path, name: str = "") -> None:
        self.path = str(path)
        self._name = name or self.path
        self._is_written = False

    def write(self, image: np.ndarray, time: float = 0.0) -> None:
        """Write uint8 (H, W, 3), BGR. ``time`` is that of `VideoWriter.write`, and is not kept.

        Raises:
            ValueError: a second picture, or one that the format cannot hold.
            OSError: it cannot be written; names the file.
        """
        if self._is_written:
            raise ValueError(f"{self._name}: a second picture; a sequence gives a video")
        check_image(image)
        ending = Path(self._name).suffix.lower()
        options = {".jpg": [cv2.IMWRITE_JPEG_QUALITY, 95]}.get(ending, [])
        try:
            is_encoded, data = cv2.imencode(ending, image, options)
        except cv2.error as error:  # a side of more than 65,500 px, for instance
            raise ValueError(f"{self._name}: cannot be encoded ({error})") from error
        if not is_encoded:
            raise ValueError(f"{self._name}: cannot be encoded as {ending}")
        with naming(self._name), replacing_file(self.path) as file:
            file.write(data.tobytes())
        self._is_written = True

    def close(self) -> None:
        """Nothing is left to do."""


def check_writable(folder: str | Path) -> None:
    """Make the folder; raise ValueError with its name if it cannot be written to."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise ValueError(f"cannot write to {folder}: {error.strerror}") from error
    if not os.access(folder, os.W_OK):
        raise ValueError(f"cannot write to {folder}: no permission, or a read-only disk")


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
