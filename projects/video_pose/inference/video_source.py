"""Frames of a video file or stream, in display order, with exact numbers and times.

A read that blocks inside FFmpeg or OpenCV answers neither Ctrl-C nor a clock. So slow and silent
sources are read in a daemon thread, while the caller waits in short steps (`read_ahead`).
"""

from __future__ import annotations

import logging
import math
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import av

from video_pose.inference.frames import Frame
from video_pose.video_io.reading import (
    Container,
    Stream,
    VideoIndex,
    choose_stream,
    expected_frames,
    is_raw,
    is_restart,
    missing_bytes,
    open_video,
    pixel_aspect,
    read_index,
    say_ignored,
    stated_bytes,
    to_array,
)

logger = logging.getLogger(__name__)

_DEFAULT_FPS = 25.0
# A higher one is that of a clock, and not of frames; cameras give some thousands.
_HIGHEST_RATE = 10_000.0
# Seconds that a source may keep silent, while it is opened or between two frames.
DEFAULT_TIMEOUT = 30.0
# Words of FFmpeg's decoders about a picture whose references are not there, or were repaired.
_MADE_UP = ("ref", "poc", "conceal", "damaged", "error at mb", "error while dec")
_GAP = "Frame num gap"  # of H.264, which FFmpeg logs at a low level

T = TypeVar("T")

# Items that may wait for the caller. Frames of 8K video have 100 MB.
_DEPTH = 2
_STEP_SECONDS = 0.1


class VideoSource:
    """A video, decoded once from start to end by PyAV; a few frames are held at a time.

    A file is indexed first by demuxing, without decoding: a frame's number is the rank of its
    timestamp among those of all packets, so that a damaged frame leaves a gap and shifts no other.
    A stream from the network has no index, and its frames are counted. Pictures are turned,
    mirrored and widened as a player would. Times are the container's own (an MPEG transport stream
    seldom begins at 0). Decoding runs ahead in a thread.

    Attributes:
        name: the file's name. fps: mean frames per second.
        num_frames: None where it is not known beforehand.
        restarts: how often a file's clock begins anew; times go on then, its sound's do not.
        problems: after iteration, one line for each thing that was wrong with the data.
    """

    def __init__(
        self,
        path: str,
        fps: float | None = None,
        timeout: float = DEFAULT_TIMEOUT,
        reconnect: int = 0,
    ) -> None:
        """Open and index ``path``, a file or a URL that FFmpeg knows.

        Args:
            fps: of a bare stream (.h264, .hevc and so on), whose frames have no times. Without it,
                25 is taken and said. A container's frames keep their own times.
            timeout: seconds without data after which the source counts as stalled.
            reconnect: how many times a stream from the network is opened again when it breaks.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is empty, no video, holds no video stream, or does not answer.
        """
        if fps is not None and not 0 < fps < math.inf:
            raise ValueError(f"fps is {fps}: expected a number above 0")
        if not 0 < timeout < math.inf or reconnect < 0:
            raise ValueError(f"timeout {timeout}, reconnect {reconnect}: expected > 0 and >= 0")
        self.path = path
        self.name = os.path.basename(path.rstrip("/")) or path
        self.problems: list[str] = []
        self._is_file = self.reads_twice = "://" not in path
        self._fps = fps
        # A file is read from a disk: only a stream may keep silent.
        self._timeout = None if self._is_file else timeout
        self._reconnect = 0 if self._is_file else reconnect
        self._index: VideoIndex | None = None
        self._sound = True
        self._is_said = False
        self.restarts = 0
        self._listed = self._expected = 0
        call_interruptibly(self._inspect, self._timeout, path)
        self.num_frames: int | None = None
        if self._index is not None:
            self._expected = max(self._listed, self._index.packets)
            if self._index.stamps is not None:
                self.num_frames = len(self._index.stamps)
        if self._is_file and self._expected == 0:
            raise ValueError(f"cannot read video {path}: it holds no frame")

    def _open(self) -> Container:
        return open_video(self.path, timeout=self._timeout)

    def _inspect(self) -> None:
        with self._open() as container:
            self._missing = missing_bytes(self.path) if self._is_file else 0
            stream = choose_stream(container, say=True)
            self._aspect = pixel_aspect(stream)
            self._raw = is_raw(container)
            self.fps = self._rate(stream)
            self._live = stream.duration is None and container.duration is None
            self._duration = _duration(container, stream)
            self._time_base = stream.time_base
            if self._is_file:
                self._index = read_index(container, stream)
                self._listed = expected_frames(container, stream)
                self.restarts = self._index.restarts
                if not self._raw:
                    self.fps = self._likely_rate(self.fps, self._index)
        if self.restarts:
            logger.warning(
                "%s: its clock begins anew (%d x), as where files were joined byte by byte: the "
                "times of frames go on from those before", self.path, self.restarts,
            )  # fmt: skip

    def _rate(self, stream: Stream) -> float:
        if not self._raw:
            if self._fps is not None:
                logger.warning("%s has times of its own: fps has no effect on it", self.path)
            return float(stream.average_rate or stream.guessed_rate or _DEFAULT_FPS)
        rate = self._fps or self._rate_in_codec(stream)
        if rate is None:
            logger.warning(
                "%s: a bare stream without times or a frame rate; %g frames a second are assumed "
                "(see --fps)", self.path, _DEFAULT_FPS,
            )  # fmt: skip
        return rate or _DEFAULT_FPS

    def _likely_rate(self, stated: float, index: VideoIndex) -> float:
        """The container's rate, unless it is far above that of the packets: of files that were
        joined, and some others, FFmpeg gives the clock's."""
        if index.step is None:
            return stated if stated <= _HIGHEST_RATE else _DEFAULT_FPS
        typical = float(1 / (index.step * self._time_base))
        return typical if index.restarts or stated > 2 * typical else stated

    def _rate_in_codec(self, stream: Stream) -> float | None:
        """What the codec's own header tells. FFmpeg fills in a rate where it tells nothing, so that
        another filling tells which it is."""
        rate = stream.codec_context.framerate
        if not rate or not self._is_file:
            return None
        with open_video(self.path, options={"framerate": "7"}) as container:
            again = choose_stream(container).codec_context.framerate
        return float(rate) if again == rate else None

    def __iter__(self) -> Iterator[Frame]:
        """Yield the frames that can be decoded; ``problems`` then tells about the others."""
        return self.frames_from(0)

    @property
    def start_time(self) -> float | None:
        """When the first frame is shown, in the container's time; None where it is not known."""
        if self._index is None or self._index.stamps is None or not len(self._index.stamps):
            return None
        return float(self._index.stamps[0] * self._time_base)

    def number_at(self, seconds: float) -> int | None:
        """The first frame that is shown ``seconds`` after the first one, or later; None where it is
        not known."""
        if self.start_time is None:
            return None
        if self._raw:
            return math.ceil((seconds - 1e-6) * self.fps)
        assert self._index is not None and self._index.stamps is not None
        stamp = math.ceil((seconds - 1e-6) / self._time_base) + int(self._index.stamps[0])
        return int(self._index.stamps.searchsorted(stamp))

    def time_of(self, number: int) -> float | None:
        """The time of frame ``number``, as reading gives it; None where it is not known."""
        stamps = None if self._index is None else self._index.stamps
        if stamps is None or number >= len(stamps):
            return None
        return number / self.fps if self._raw else float(stamps[number] * self._time_base)

    @property
    def sound(self) -> bool:
        """Whether all frames so far were whole and none was missing, and places are known."""
        return self._sound and self._index is not None and self._index.stamps is not None

    def resume_at(self, index: int, since: int = 0) -> Iterator[Frame]:
        """The rest of a reading from frame ``since`` on that was `sound` up to frame ``index``."""
        return self.frames_from(index, since)

    def frames_from(self, first: int, since: int | None = None) -> Iterator[Frame]:
        """As iteration, from frame ``first`` on, beginning at the key frame before it.

        Args:
            since: count the frames from this one up to ``first`` among those that were read.
        """
        self.problems = []
        since = first if since is None else since
        try:
            yield from read_ahead(lambda: self._read(first, since), self._timeout, self.path)
        except Stalled as error:
            self.problems.append(str(error))

    def _read(self, first: int, since: int) -> Iterator[Frame]:
        """Frames of one connection after another."""
        count, last, attempts = 0, -math.inf, 0
        self._sound = True
        while True:
            decoder = _Decoder()
            later = 0.0
            try:
                with self._open() as container:
                    for frame in self._frames(container, decoder, first, count):
                        step = frame.time + later - last
                        if (attempts and step <= 0) or (
                            self.restarts and count and is_restart(step)
                        ):
                            later = last + 1 / self.fps - frame.time  # its clock began anew
                        last = frame.time + later
                        hurt = decoder.lost or decoder.made_up or attempts
                        self._sound &= not hurt and frame.index == first + count
                        yield Frame(frame.index, last, frame.image)
                        count += 1
            except ValueError as error:
                if not attempts:
                    raise
                decoder.broken = str(error)
            if attempts >= self._reconnect or not (decoder.broken or self._live):
                break
            attempts += 1
            logger.warning(
                "%s: %s; opened again (%d of %d)",
                self.path, decoder.broken or "the stream ended", attempts, self._reconnect,
            )  # fmt: skip
            time.sleep(min(2.0 ** (attempts - 1) / 2, 10.0))
        self._report(count + first - since, since, decoder)

    def _frames(
        self, container: Container, decoder: _Decoder, first: int, count: int
    ) -> Iterator[Frame]:
        stream = choose_stream(container)
        if first:
            self._seek(container, stream, first)
        for frame in decoder.decode(container, stream):
            number = None if self._index is None else self._index.number(frame.pts)
            index = count if number is None else number
            count += 1
            if not self._is_said:
                self._is_said = True
                say_ignored(self.path, frame)
            if index < first:
                continue
            seconds = None if self._raw else frame.time
            seconds = index / self.fps if seconds is None else float(seconds)
            yield Frame(index, seconds, to_array(frame, "BGR", self._aspect))

    def _seek(self, container: Container, stream: Stream, first: int) -> None:
        """To a key frame before frame ``first``, where the index knows one after the start."""
        keys = [] if self._index is None else self._index.keys
        before = [at for at, (number, _) in enumerate(keys) if number <= first]
        if before and before[-1] > 0:
            assert self._index is not None
            stamp, decoded = keys[before[-1]][1], self._index.decode_stamps[before[-1]]
            container.seek(stamp if decoded is None else min(stamp, decoded), stream=stream)

    def _report(self, count: int, first: int, decoder: _Decoder) -> None:
        expected = max(0, self._expected - first)
        begin = f"{self.path}: "
        if decoder.broken:
            self.problems.append(f"{begin}the data break off ({decoder.broken})")
        if self._missing and not self._listed:  # the index has only what is there
            self.problems.append(
                f"{begin}truncated, {self._missing} bytes are missing at its end; {count} "
                "frames could be read"
            )
        elif self._is_file and count < expected:
            self.problems.append(
                f"{begin}damaged or truncated, {count} of {expected} frames could be read"
            )
        elif decoder.lost:
            self.problems.append(f"{begin}{decoder.lost} packets could not be decoded")
        else:
            self._compare_duration()
        if decoder.made_up:
            self.problems.append(
                f"{begin}{decoder.made_up} of the {count} frames were decoded after damaged or "
                "lost data: the decoder may have made them up in part"
            )

    def _compare_duration(self) -> None:
        """Whether the header promises more than the packets hold. A file that is whole by the sizes
        of its parts has a wrong header, which is no damage; others were cut off."""
        if self._index is None or self._index.end is None:
            return
        end = float(self._index.end * self._time_base)
        if self._duration - end <= 1.0 + 2 / self.fps:
            return
        text = f"the frames end at {end:.2f} s of {self._duration:.2f} s"
        if stated_bytes(self.path) >= os.path.getsize(self.path):
            logger.warning("%s: by its header, %s; no data are missing", self.path, text)
        else:
            self.problems.append(f"{self.path}: truncated, {text}")


class _Decoder:
    """Decodes a container once, and counts what went wrong.

    Attributes:
        lost: packets and pictures that could not be decoded. broken: why the data broke off.
        made_up: frames of a group of pictures after damage: decoders repeat or guess what is lost.
    """

    def __init__(self) -> None:
        self.lost = self.made_up = 0
        self.broken = ""
        self._damage: float | None = None  # timestamp from which on frames are doubtful

    def decode(self, container: Container, stream: Stream) -> Iterator[av.VideoFrame]:
        # By a single thread, as FFmpeg's words about damage come in the thread that decodes.
        stream.codec_context.thread_count = 1
        packets = container.demux(stream)
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                return
            except av.error.FFmpegError as error:
                self.broken = str(error.strerror)
                return
            sound_from = packet.pts if packet.is_keyframe else None
            for frame in self._decode_packet(packet):
                if frame.is_corrupt:
                    self.lost += 1
                    continue
                self._count_doubtful(frame, sound_from)
                yield frame
            if sound_from is not None and self._damage is not None and self._damage < sound_from:
                self._damage = None

    def _decode_packet(self, packet: av.Packet) -> list[av.VideoFrame]:
        with av.logging.Capture() as messages:
            level = av.logging.get_level()
            loud = packet.stream.codec_context.name != "h264"
            av.logging.set_level(av.logging.ERROR if loud else av.logging.DEBUG)
            try:
                frames = packet.decode()
            except av.error.FFmpegError:
                self.lost += 1
                frames = []
            finally:
                av.logging.set_level(level)
        text = " ".join(m.lower() for level, _, m in messages if level <= av.logging.ERROR)
        gap = any(_GAP in message for _, _, message in messages)
        if gap or packet.is_corrupt or any(word in text for word in _MADE_UP):
            if self._damage is None:
                self._damage = -math.inf if packet.pts is None else packet.pts
        return frames

    def _count_doubtful(self, frame: av.VideoFrame, sound_from: int | None) -> None:
        if self._damage is None or (frame.pts is not None and frame.pts < self._damage):
            return
        if sound_from is None or frame.pts is None or frame.pts < sound_from:
            self.made_up += 1


def _duration(container: Container, stream: Stream) -> float:
    """End of the video by the container's header, seconds; 0 where it does not tell.

    A container that only estimates its duration by its size counts as silent.
    """
    if stream.duration is not None and stream.time_base is not None:
        return float((stream.duration + (stream.start_time or 0)) * stream.time_base)
    if container.format.name.startswith("matroska") and container.duration is not None:
        # Audio may be longer than the picture.
        return container.duration / av.time_base if len(container.streams) == 1 else 0.0
    return 0.0


class Stalled(ValueError):
    """A source gave nothing for longer than its time-out."""


def call_interruptibly(function: Callable[[], T], timeout: float | None, name: str) -> T:
    """``function()``, which Ctrl-C ends at once.

    Raises:
        Stalled: it took longer than ``timeout`` seconds (None: no limit).
    """
    return next(read_ahead(lambda: iter([function()]), timeout, name))


def read_ahead(
    start: Callable[[], Iterator[T]], timeout: float | None, name: str, depth: int = _DEPTH
) -> Iterator[T]:
    """The items of ``start()``, made in a thread: ``depth`` of them wait, one more is under way.

    What the iterator raises is raised here. A caller that stops early ends the thread.

    Raises:
        Stalled: no item came for ``timeout`` seconds (None: no limit).
    """
    items: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()
    thread = threading.Thread(target=_produce, args=(start, items, stop), daemon=True)
    thread.start()
    try:
        while True:
            kind, value = _wait(items, timeout, name)
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stop.set()
        thread.join(_STEP_SECONDS)  # it closes its file, unless it is blocked


def _produce(
    start: Callable[[], Iterator[T]], items: queue.Queue[tuple[str, Any]], stop: threading.Event
) -> None:
    def put(kind: str, value: object) -> bool:
        while not stop.is_set():
            try:
                items.put((kind, value), timeout=_STEP_SECONDS)
                return True
            except queue.Full:
                pass
        return False

    try:
        for item in start():
            if not put("item", item):
                return
    except BaseException as error:  # handed to the caller, whatever it is
        put("error", error)
    else:
        put("end", None)


def _wait(items: queue.Queue[tuple[str, Any]], timeout: float | None, name: str) -> tuple[str, Any]:
    begin = time.monotonic()
    while True:
        try:
            return items.get(timeout=_STEP_SECONDS)
        except queue.Empty:
            if timeout is not None and time.monotonic() - begin > timeout:
                raise Stalled(f"{name}: nothing came for {timeout:g} s (see --timeout)") from None
