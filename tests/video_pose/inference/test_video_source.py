"""The reader of videos, piece by piece: what it counts, when it opens again, and what it reports.
FFmpeg's part is played by small objects, so that every number can be worked out by hand."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from video_pose.inference import video_source
from video_pose.inference.frames import Frame
from video_pose.inference.video_source import (
    Stalled,
    VideoSource,
    _Decoder,
    _duration,
    call_interruptibly,
    read_ahead,
)
from video_pose.video_io import reading
from video_pose.video_io.reading import VideoIndex

PICTURE = np.zeros((2, 2, 3), np.uint8)
WriteNumbers = Callable[..., str]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[..., VideoSource]:
    """A source of an address that nobody opens; its attributes are as given."""

    def source(path: str = "rtsp://h/v", reconnect: int = 0, **attributes: Any) -> VideoSource:
        with monkeypatch.context() as patch:
            patch.setattr(VideoSource, "_inspect", lambda self: vars(self).update(_expected=1))
            made = VideoSource(path, reconnect=reconnect)
        given = {"fps": 10.0, "_live": False, "_raw": False, "_aspect": 1, "_missing": 0}
        given |= {"_duration": 0.0, "_time_base": Fraction(1, 100), "_listed": 0, "_expected": 0}
        vars(made).update(given | attributes)
        return made

    return source


# ------------------------------------------------------------------ connections


def connect(source: VideoSource, *connections: Any) -> list[tuple[int, int]]:
    """Each is what one opening gives: times, and why it broke off; or an error. Returns what was
    asked for: (first frame, frames before)."""
    asked: list[tuple[int, int]] = []
    left = iter(connections)

    @contextlib.contextmanager
    def opened() -> Iterator[Any]:
        connection = next(left)
        if isinstance(connection, Exception):
            raise connection
        yield connection

    def frames(connection: Any, decoder: Any, first: int, count: int) -> Iterator[Frame]:
        asked.append((first, count))
        times, decoder.broken = connection
        for i, seconds in enumerate(times):
            yield Frame(first + count + i, seconds, PICTURE)

    source._open = opened  # type: ignore[method-assign]
    source._frames = frames  # type: ignore[method-assign]
    return asked


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    found: list[float] = []
    monkeypatch.setattr(time, "sleep", found.append)
    return found


def test_times_go_on_where_a_new_connection_begins_anew(
    make: Callable[..., VideoSource], waits: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    """Ten frames a second. The second connection's clock begins at 0, the third's goes on; the
    fourth begins at the very time that was the last. A frame that lags within one is left so."""
    source = make(reconnect=3)
    asked = connect(
        source, ([5.0, 5.1, 5.05], "torn"), ([0.0, 0.2], "gone"), ([9.0], "off"), ([9.0, 9.5], "")
    )
    frames = list(source._read(0, 0))
    assert [frame.index for frame in frames] == list(range(8))
    assert [frame.time for frame in frames] == pytest.approx(
        [5, 5.1, 5.05, 5.15, 5.35, 9, 9.1, 9.6]
    )
    assert asked == [(0, 0), (0, 3), (0, 5), (0, 6)] and waits == [0.5, 1, 2]
    assert [record.getMessage() for record in caplog.records] == [
        "rtsp://h/v: torn; opened again (1 of 3)",
        "rtsp://h/v: gone; opened again (2 of 3)",
        "rtsp://h/v: off; opened again (3 of 3)",
    ]
    assert source.problems == [] and not source._sound


def test_a_connection_that_gave_nothing_moves_no_time(
    make: Callable[..., VideoSource], waits: list[float]
) -> None:
    source = make(reconnect=1)
    connect(source, ([], "torn"), ([0.0, 0.1], ""))
    assert [(f.index, f.time) for f in source._read(0, 0)] == [(0, 0.0), (1, 0.1)]


def test_a_stream_that_stalls_keeps_what_came(
    make: Callable[..., VideoSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ahead(start: Any, timeout: float | None, name: str) -> Iterator[Frame]:
        yield from start()
        raise Stalled("rtsp://h/v: nothing came for 9 s (see --timeout)")

    monkeypatch.setattr(video_source, "read_ahead", ahead)
    source = make()
    source.problems = ["of the reading before"]
    connect(source, ([0.0, 0.1], ""))
    assert len(list(source)) == 2
    assert source.problems == ["rtsp://h/v: nothing came for 9 s (see --timeout)"]


def test_a_stream_is_waited_for_ten_seconds_at_most(
    make: Callable[..., VideoSource], waits: list[float]
) -> None:
    """An opening that fails counts as one; the last one's reason is told."""
    source = make(reconnect=7)
    connect(source, ([0.0], "torn"), *[ValueError(f"no {i}") for i in range(7)])
    assert len(list(source._read(0, 0))) == 1
    assert waits == [0.5, 1, 2, 4, 8, 10, 10]
    assert source.problems == ["rtsp://h/v: the data break off (no 6)"]


def test_a_first_opening_that_fails_is_an_error(make: Callable[..., VideoSource]) -> None:
    source = make(reconnect=2)
    connect(source, ValueError("refused"))
    with pytest.raises(ValueError, match="^refused$"):
        list(source._read(0, 0))


@pytest.mark.parametrize(
    ("live", "reconnect", "openings"), [(False, 2, 1), (True, 0, 1), (True, 1, 2), (True, 2, 3)]
)
def test_only_a_live_stream_that_ends_is_opened_again(
    make: Callable[..., VideoSource],
    waits: list[float],
    caplog: pytest.LogCaptureFixture,
    live: bool,
    reconnect: int,
    openings: int,
) -> None:
    """A film that is served by a network is over when it is over."""
    source = make(reconnect=reconnect, _live=live)
    asked = connect(source, *[([i], "") for i in range(4)])
    assert len(list(source._read(0, 0))) == len(asked) == openings
    assert source._sound == (openings == 1)
    assert caplog.text.count("rtsp://h/v: the stream ended; opened again") == openings - 1


@pytest.mark.parametrize(
    ("lost", "made_up", "first", "sound"),
    [(0, 0, 0, True), (0, 0, 5, True), (1, 0, 0, False), (0, 1, 0, False)],
)
def test_a_reading_is_sound_where_nothing_was_lost(
    make: Callable[..., VideoSource], lost: int, made_up: int, first: int, sound: bool
) -> None:
    source = make()
    index = VideoIndex(np.arange(9), [])
    source._index, source._sound = index, False  # of the reading before

    def frames(container: Any, decoder: Any, first: int, count: int) -> Iterator[Frame]:
        yield Frame(first, 0.0, PICTURE)
        decoder.lost, decoder.made_up = lost, made_up
        yield Frame(first + 1, 0.1, PICTURE)

    source._open = lambda: contextlib.nullcontext()  # type: ignore
    source._frames = frames  # type: ignore
    reading = source._read(first, first)
    next(reading)
    assert source.sound
    assert len(list(reading)) == 1 and source.sound is sound
    source._sound, source._index = True, index._replace(stamps=None)
    assert not source.sound  # no place can be found again


def test_a_frame_that_is_missing_is_noticed(make: Callable[..., VideoSource]) -> None:
    source = make(_index=VideoIndex(np.arange(9), []))
    source._open = lambda: contextlib.nullcontext()  # type: ignore
    source._frames = lambda *_: iter([Frame(i, i, PICTURE) for i in (3, 5, 6)])  # type: ignore
    reading = source._read(3, 3)
    assert [(next(reading).index, source.sound) for _ in range(3)] == [
        (3, True), (5, False), (6, False),
    ]  # fmt: skip


def test_only_a_stream_may_keep_silent(
    monkeypatch: pytest.MonkeyPatch, make: Callable[..., VideoSource]
) -> None:
    """A file on a slow disk is waited for; of a stream the opening and each read are limited."""
    waited: list[Any] = []
    monkeypatch.setattr(video_source, "open_video", lambda path, timeout: waited.append(timeout))

    def ahead(start: Any, timeout: float | None, name: str) -> Iterator[Frame]:
        waited.append((timeout, name))
        return iter(())

    monkeypatch.setattr(video_source, "read_ahead", ahead)

    def call(function: Callable[[], None], timeout: float | None, name: str) -> None:
        waited.append((timeout, name))
        function()

    monkeypatch.setattr(video_source, "call_interruptibly", call)
    with monkeypatch.context() as patch:
        patch.setattr(VideoSource, "_inspect", lambda self: None)
        source = VideoSource("rtsp://h/v", timeout=7, reconnect=2)
    source._open()
    assert list(source) == [] and waited == [(7, "rtsp://h/v"), 7, (7, "rtsp://h/v")]
    waited.clear()
    file = make("v.mp4", reconnect=2)
    file._open()
    assert list(file) == [] and waited == [(None, "v.mp4"), None, (None, "v.mp4")]
    assert (file._reconnect, source._reconnect) == (0, 2)


def test_a_file_without_a_frame_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for listed, packets in ((0, 0), (1, 0), (0, 1), (3, 2)):

        def inspect(self: VideoSource, listed: int = listed, packets: int = packets) -> None:
            self._listed, self._index = listed, VideoIndex(None, [], [], packets)

        monkeypatch.setattr(VideoSource, "_inspect", inspect)
        if listed or packets:
            source = VideoSource("v.mp4")
            assert source._expected == max(listed, packets) and source.num_frames is None
            assert source._sound  # nothing was read yet
        else:
            with pytest.raises(ValueError, match=r"^cannot read video v.mp4: it holds no frame$"):
                VideoSource("v.mp4")


def test_what_an_opening_tells(numbers_video: WriteNumbers, serve: Callable[..., str]) -> None:
    """By a file, and by a network that has no places: what is counted and listed differs."""
    path = numbers_video("v.mp4", 12, options={"movflags": "faststart"})
    file = VideoSource(path)
    assert (file._listed, file._expected, file.num_frames, file._missing) == (12, 12, 12, 0)
    assert (file.fps, file._live, file._raw, file.start_time) == (25, False, False, 0.0)
    data = Path(path).read_bytes()
    stream = VideoSource(serve([data, data]), timeout=10, reconnect=3)
    assert (stream._listed, stream._expected, stream.num_frames) == (0, 0, None)
    assert not stream._live and stream._missing == 0
    frames = list(stream)  # its header tells how long it is: it is not opened again
    assert [frame.index for frame in frames] == list(range(12)) and stream.problems == []
    matroska = Path(numbers_video("v.mkv", 12)).read_bytes()
    assert not VideoSource(serve([matroska]), timeout=10)._live  # the container tells, no stream
    transport = Path(numbers_video("v.ts", 12)).read_bytes()
    assert VideoSource(serve([transport]), timeout=10)._live


@pytest.fixture
def serve(request: pytest.FixtureRequest) -> Callable[..., str]:
    """serve(parts) -> an address; connection i gets ``parts[i]`` and is closed."""
    import socket

    def start(parts: list[bytes]) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        request.addfinalizer(server.close)

        def run() -> None:
            for part in parts:
                with contextlib.suppress(OSError):
                    connection, _ = server.accept()
                    connection.sendall(part)
                    connection.close()

        threading.Thread(target=run, daemon=True).start()
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"

    return start


# ------------------------------------------------------------------ rates and places


@pytest.mark.parametrize(
    ("average", "guessed", "rate"),
    [(Fraction(30000, 1001), 24, 30000 / 1001), (None, Fraction(24), 24), (None, None, 25)],
)
def test_the_rate_of_a_container(
    make: Callable[..., VideoSource], average: Any, guessed: Any, rate: float
) -> None:
    stream: Any = SimpleNamespace(average_rate=average, guessed_rate=guessed)
    found = make()._rate(stream)
    assert found == rate and isinstance(found, float)


def test_a_bare_stream_of_a_network_is_not_opened_twice(make: Callable[..., VideoSource]) -> None:
    """To ask its codec again would take a second connection: 25 are assumed."""
    stream: Any = SimpleNamespace(codec_context=SimpleNamespace(framerate=Fraction(50)))
    source = make(_raw=True)
    assert source._rate_in_codec(stream) is None and source._rate(stream) == 25
    source._fps = 12.5
    assert source._rate(stream) == 12.5
    silent: Any = SimpleNamespace(codec_context=SimpleNamespace(framerate=None))
    assert make("v.h264", _raw=True)._rate_in_codec(silent) is None


def test_a_moment_is_the_first_frame_at_or_behind_it(make: Callable[..., VideoSource]) -> None:
    """Frames at 5.00, 5.04, 5.08 and 5.20 s of the container: seconds count from the first."""
    source = make(_index=VideoIndex(np.array([500, 504, 508, 520]), []))
    assert source.start_time == 5.0 and isinstance(source.start_time, float)
    moments = (0, 0.0100001, 0.04, 0.0400005, 0.041, 0.08, 0.0801, 0.2, 0.21, 9)
    assert [source.number_at(t) for t in moments] == [0, 1, 1, 1, 2, 2, 3, 3, 4, 4]
    assert isinstance(source.number_at(0.04), int)
    for stamps in (None, np.array([], np.int64)):
        source._index = VideoIndex(stamps, [])
        assert source.start_time is None and source.number_at(0.5) is None
        assert source.time_of(0) is None


def test_the_time_of_a_frame_is_the_one_that_reading_gives(
    make: Callable[..., VideoSource],
) -> None:
    source = make(_index=VideoIndex(np.array([500, 504, 508, 520]), []))
    assert [source.time_of(n) for n in range(5)] == [5.0, 5.04, 5.08, 5.2, None]
    source._raw, source.fps = True, 20.0  # whose stamps are the decoder's own
    assert [source.time_of(n) for n in range(5)] == [0, 0.05, 0.1, 0.15, None]
    assert make().time_of(0) is None


def test_reading_begins_at_the_key_frame_before(make: Callable[..., VideoSource]) -> None:
    """At its decoding time where that is earlier; never where it is the very first frame."""
    keys = [(0, 0), (12, 480), (24, 960)]
    index = VideoIndex(np.arange(36) * 40, keys, [None, 470, 990])
    source, sought = make(_index=index), []
    container: Any = SimpleNamespace(seek=lambda stamp, stream: sought.append((stamp, stream)))
    for first in (1, 11, 12, 23, 24, 35):
        source._seek(container, "stream", first)  # type: ignore[arg-type]
    assert sought == [(470, "stream"), (470, "stream"), (960, "stream"), (960, "stream")]
    sought.clear()
    source._index = index._replace(decode_stamps=[None, None, None])
    source._seek(container, "stream", 12)  # type: ignore[arg-type]
    source._index = index._replace(keys=[], decode_stamps=[])
    source._seek(container, "stream", 12)  # type: ignore[arg-type]
    source._index = None
    source._seek(container, "stream", 12)  # type: ignore[arg-type]
    assert sought == [(480, "stream")]


class Decoded:
    """A decoder that gives frames of these time stamps and seconds."""

    def __init__(self, frames: Sequence[tuple[int | None, float | None]], turn: int = 0) -> None:
        self.frames, self.turn = frames, turn

    def decode(self, container: Any, stream: Any) -> Iterator[Any]:
        for pts, seconds in self.frames:
            yield SimpleNamespace(
                pts=pts, time=seconds, rotation=self.turn, interlaced_frame=False, color_trc=1
            )


def test_frames_have_the_numbers_of_their_time_stamps(
    make: Callable[..., VideoSource],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Without an index, or a stamp that is in it, they are counted on; those before the first that
    is wanted are passed over. A turn that is not applied is said once."""
    monkeypatch.setattr(video_source, "choose_stream", lambda container: None)
    monkeypatch.setattr(video_source, "to_array", lambda *how: how[1:])
    monkeypatch.setattr(reading, "orientation_of", lambda frame: None)
    source, sought = make(), []
    source._seek = lambda container, stream, first: sought.append(first)  # type: ignore
    decoded: Any = Decoded([(500, 5.0), (None, None), (508, 5.08), (521, 5.21)], turn=-30)

    def read(first: int, count: int = 0) -> list[tuple[int, float]]:
        frames = list(source._frames(None, decoded, first, count))  # type: ignore[arg-type]
        assert all(frame.image == ("BGR", 1) for frame in frames)
        return [(frame.index, frame.time) for frame in frames]

    assert read(0) == [(0, 5.0), (1, 0.1), (2, 5.08), (3, 5.21)] and sought == []
    assert [record.getMessage() for record in caplog.records] == [
        "rtsp://h/v is to be turned by 30 degrees: no quarter turn, it is not applied"
    ]
    caplog.clear()
    assert read(0, 3) == [(3, 5.0), (4, 0.4), (5, 5.08), (6, 5.21)]
    source._index = VideoIndex(np.array([500, 504, 508, 520]), [])
    assert read(0) == [(0, 5.0), (1, 0.1), (2, 5.08), (3, 5.21)]
    caplog.clear()
    assert read(1) == [(1, 0.1), (2, 5.08), (3, 5.21)] and sought == [1]
    assert read(2) == [(2, 5.08), (3, 5.21)] and caplog.text == ""
    source._raw = True
    assert [seconds for _, seconds in read(0)] == [0, 0.1, 0.2, 0.3]


def test_two_streams_are_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At the opening, and not again where it is read."""
    with av.open(str(tmp_path / "two.mkv"), "w") as container:
        for _ in range(2):
            stream = container.add_stream("mpeg4", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for stream in container.streams.video:
            for _ in range(3):
                picture = np.full((48, 64, 3), 99, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
            container.mux(stream.encode())
    source = VideoSource(str(tmp_path / "two.mkv"))
    assert caplog.text.count("is read, ignored: stream") == 1
    assert len(list(source)) == 3 and caplog.text.count("is read, ignored: stream") == 1


# ------------------------------------------------------------------ what is reported


@pytest.mark.parametrize(
    ("path", "attributes", "decoder", "count", "first", "problems"),
    [
        ("v.mp4", {"_expected": 9}, {}, 9, 0, []),
        ("v.mp4", {"_expected": 9}, {}, 8, 0,
         ["damaged or truncated, 8 of 9 frames could be read"]),
        ("v.mp4", {"_expected": 9}, {}, 4, 4,
         ["damaged or truncated, 4 of 5 frames could be read"]),
        ("v.mp4", {"_expected": 9}, {}, 5, 4, []),
        ("v.mp4", {"_expected": 9}, {}, 0, 12, []),
        ("v.mp4", {"_expected": 9}, {}, 10, 0, []),  # a packet may hold two
        ("rtsp://h/v", {"_expected": 9}, {}, 8, 0, []),
        ("v.mp4", {"_expected": 9}, {"lost": 1}, 9, 0, ["1 packets could not be decoded"]),
        ("v.mp4", {"_expected": 9}, {"lost": 1}, 8, 0,
         ["damaged or truncated, 8 of 9 frames could be read"]),
        ("v.mkv", {"_missing": 7}, {"lost": 2}, 3, 0,
         ["truncated, 7 bytes are missing at its end; 3 frames could be read"]),
        ("v.mp4", {"_missing": 7, "_listed": 9, "_expected": 9}, {}, 3, 0,
         ["damaged or truncated, 3 of 9 frames could be read"]),
        ("v.mp4", {"_missing": 7, "_listed": 9, "_expected": 9}, {}, 9, 0, []),
        ("v.mp4", {"_expected": 3}, {"made_up": 2}, 3, 0,
         ["2 of the 3 frames were decoded after damaged or lost data: the decoder may have made "
          "them up in part"]),
        ("v.mp4", {"_expected": 3}, {"made_up": 1, "broken": "I/O error", "lost": 4}, 3, 0,
         ["the data break off (I/O error)", "4 packets could not be decoded",
          "1 of the 3 frames were decoded after damaged or lost data: the decoder may have made "
          "them up in part"]),
    ],
)  # fmt: skip
def test_what_was_wrong_is_told(
    make: Callable[..., VideoSource],
    path: str,
    attributes: dict[str, int],
    decoder: dict[str, Any],
    count: int,
    first: int,
    problems: list[str],
) -> None:
    source = make(path, **attributes)
    told = {"lost": 0, "made_up": 0, "broken": "", **decoder}
    source._report(count, first, SimpleNamespace(**told))  # type: ignore[arg-type]
    assert source.problems == [f"{path}: {problem}" for problem in problems]


@pytest.mark.parametrize(
    ("end", "stated", "problem", "said"),
    [
        (None, 0, False, False),
        (450, 0, False, False),  # a second and two frames may be missing
        (449, 0, True, False),
        (449, 99, True, False),
        (449, 100, False, True),
        (449, 101, False, True),
        (700, 0, False, False),
    ],
)
def test_a_header_that_promises_more_than_the_packets(
    make: Callable[..., VideoSource],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    end: int | None,
    stated: int,
    problem: bool,
    said: bool,
) -> None:
    """A file of 100 bytes that says, or not, that it has as many: a wrong header or a cut."""
    path = str(tmp_path / "v.mkv")
    Path(path).write_bytes(bytes(100))
    monkeypatch.setattr(video_source, "stated_bytes", lambda path: stated)
    source = make(path, fps=4.0, _duration=6.0, _index=VideoIndex(None, [], end=end))
    source._compare_duration()
    text = "the frames end at 4.49 s of 6.00 s"
    assert source.problems == ([f"{path}: truncated, {text}"] if problem else [])
    assert [record.getMessage() for record in caplog.records] == (
        [f"{path}: by its header, {text}; no data are missing"] if said else []
    )
    source._index = None
    source._compare_duration()
    assert len(source.problems) == problem


def test_problems_count_the_frames_of_a_reading_that_was_gone_on_with(
    make: Callable[..., VideoSource],
) -> None:
    """Of 9 frames from the second on 8 were expected; 3 were read before, 4 now: one is missing."""
    source = make("v.mp4", _expected=9)
    connect(source, ([0.4, 0.5, 0.6, 0.7], ""), ([0.4, 0.5, 0.6, 0.7], ""))
    assert len(list(source.resume_at(4, 1))) == 4
    assert source.problems == ["v.mp4: damaged or truncated, 7 of 8 frames could be read"]
    assert len(list(source.frames_from(4))) == 4
    assert source.problems == ["v.mp4: damaged or truncated, 4 of 5 frames could be read"]


# ------------------------------------------------------------------ damage


def packet(pts: int | None, frames: Sequence[Any] = (), **about: Any) -> Any:
    """A packet of H.264 (or ``codec``), which logs ``says`` while it is decoded."""
    given = {"codec": "h264", "says": (), "is_keyframe": False, "is_corrupt": False} | about

    def decode() -> list[Any]:
        for level, words in given["says"]:
            if level <= av.logging.get_level():  # as FFmpeg
                av.logging.log(level, "decoder", words)
        if isinstance(frames, Exception):
            raise frames
        return list(frames)

    stream = SimpleNamespace(codec_context=SimpleNamespace(name=given["codec"]))
    return SimpleNamespace(pts=pts, decode=decode, stream=stream, is_keyframe=given["is_keyframe"],
                           is_corrupt=given["is_corrupt"])  # fmt: skip


def frame(pts: int | None, is_corrupt: bool = False) -> Any:
    return SimpleNamespace(pts=pts, is_corrupt=is_corrupt)


def decode(*packets: Any) -> tuple[list[int | None], _Decoder]:
    """Time stamps of the frames, and what the decoder counted."""
    stream: Any = SimpleNamespace(codec_context=SimpleNamespace(thread_count=4))

    def demux(_: Any) -> Iterator[Any]:
        for one in packets:
            if isinstance(one, Exception):
                raise one
            yield one

    decoder = _Decoder()
    container: Any = SimpleNamespace(demux=demux)
    found = [one.pts for one in decoder.decode(container, stream)]
    assert stream.codec_context.thread_count == 1
    return found, decoder


def counted(decoder: _Decoder) -> tuple[int, int, str]:
    return decoder.lost, decoder.made_up, decoder.broken


ERROR, WARNING, DEBUG = av.logging.ERROR, av.logging.WARNING, av.logging.DEBUG
BROKEN = av.error.InvalidDataError(1094995529, "Invalid data found", "v.mp4")


def test_damage_lasts_until_the_next_key_frame() -> None:
    """Frames shown before the damage are sound, those from it on are not, and the key frame and
    what is shown behind it are sound again; frames that are shown before it, and come later in the
    file, are not."""
    found, decoder = decode(
        packet(0, [frame(0)], is_keyframe=True),
        packet(3, BROKEN, is_corrupt=True),
        packet(1, [frame(1), frame(2)]),
        packet(4, [frame(3), frame(4), frame(None)]),
        packet(8, [frame(5), frame(8)], is_keyframe=True),
        packet(9, [frame(9)]),
    )
    assert found == [0, 1, 2, 3, 4, None, 5, 8, 9] and counted(decoder) == (1, 4, "")


def test_damage_of_a_key_frame_lasts_beyond_it() -> None:
    found, decoder = decode(
        packet(4, [frame(4)], is_keyframe=True, is_corrupt=True),
        packet(5, [frame(5)]),
        packet(8, [frame(8)], is_keyframe=True),
        packet(9, [frame(9)]),
    )
    assert found == [4, 5, 8, 9] and counted(decoder) == (0, 1, "")


def test_damage_that_is_shown_behind_a_key_frame_outlives_it() -> None:
    found, decoder = decode(
        packet(10, is_corrupt=True),
        packet(8, [frame(8)], is_keyframe=True),
        packet(9, [frame(9), frame(10), frame(11)]),
    )
    assert found == [8, 9, 10, 11] and counted(decoder) == (0, 2, "")


def test_damage_without_a_time_counts_from_the_start() -> None:
    _, decoder = decode(packet(None, is_corrupt=True), packet(1, [frame(-5), frame(None)]))
    assert counted(decoder) == (0, 2, "")
    # The first damage is what counts.
    first, later = (packet(pts, BROKEN, is_corrupt=True) for pts in (2, 7))
    _, decoder = decode(first, later, packet(3, [frame(1), frame(2)]))
    assert counted(decoder) == (2, 1, "")


def test_frames_that_are_marked_as_damaged_are_left_out() -> None:
    found, decoder = decode(packet(0, [frame(0), frame(1, True), frame(2)]), packet(3, [frame(3)]))
    assert found == [0, 2, 3] and counted(decoder) == (1, 0, "")


def test_data_that_break_off_end_the_reading() -> None:
    found, decoder = decode(packet(0, [frame(0)]), BROKEN, packet(1, [frame(1)]))
    assert found == [0] and counted(decoder) == (0, 0, "Invalid data found")


@pytest.mark.parametrize(
    ("codec", "says", "made_up"),
    [
        ("h264", [(ERROR, "Missing Reference picture")], 1),
        ("h264", [(ERROR, "concealing 8 DC errors")], 1),
        ("h264", [(ERROR, "number of reference"), (ERROR, "error while decoding MB 1 2")], 1),
        ("h264", [(ERROR, "something"), (ERROR, "else")], 0),
        ("h264", [(WARNING, "Missing reference picture")], 0),
        ("h264", [(DEBUG, "Frame num gap: 5 3")], 1),
        ("hevc", [(DEBUG, "Frame num gap: 5 3")], 0),
        ("av1", [(DEBUG, "Frame num gap: 5 3")], 0),
        ("hevc", [(ERROR, "Could not find ref with POC 4")], 1),
        ("mpeg4", [(ERROR, "Error at MB: 9")], 1),
        ("h264", [], 0),
    ],
)
def test_words_of_the_decoder_that_tell_of_damage(
    codec: str, says: list[tuple[int, str]], made_up: int
) -> None:
    """FFmpeg logs them as errors; a gap in H.264's numbers at a low level."""
    level = av.logging.get_level()
    _, decoder = decode(packet(0, [frame(0)], codec=codec, says=says))
    assert counted(decoder) == (0, made_up, "") and av.logging.get_level() == level


@pytest.mark.parametrize(
    ("duration", "start", "name", "whole", "streams", "seconds"),
    [
        (500, None, "mov,mp4", 9_000_000, 1, 5.0),
        (500, 20, "mov,mp4", 9_000_000, 1, 5.2),
        (None, 20, "matroska,webm", 9_000_000, 1, 9.0),
        (None, 20, "matroska,webm", 9_000_000, 2, 0.0),
        (None, 20, "matroska,webm", None, 1, 0.0),
        (None, 20, "mpegts", 9_000_000, 1, 0.0),
    ],
)
def test_how_long_a_header_says_that_a_video_is(
    duration: int | None, start: int | None, name: str, whole: int | None, streams: int,
    seconds: float,
) -> None:  # fmt: skip
    """Of Matroska only the container tells, in millionths; with sound that may be the sound's end.
    Others estimate it by their size, which tells nothing about a cut."""
    stream: Any = SimpleNamespace(duration=duration, start_time=start, time_base=Fraction(1, 100))
    container: Any = SimpleNamespace(
        format=SimpleNamespace(name=name), duration=whole, streams=[stream] * streams
    )
    assert _duration(container, stream) == seconds
    assert isinstance(_duration(container, stream), float)
    stream.time_base = None
    assert _duration(container, stream) == (9.0 if whole and name[0] == "m" and streams == 1
                                            and name.startswith("matroska") else 0)  # fmt: skip


# ------------------------------------------------------------------ waiting


def test_so_many_items_wait_as_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of ``depth`` 1: one is taken, one waits, one is in hand, for as long as the caller works.
    Nothing else bounds the memory."""
    monkeypatch.setattr(video_source, "_STEP_SECONDS", 0.001)
    made: list[int] = []
    stop = threading.Event()

    def start() -> Iterator[int]:
        for number in range(50):
            made.append(number)
            yield number
        stop.set()

    items = read_ahead(start, 5, "x", depth=1)
    assert next(items) == 0
    time.sleep(0.05)
    assert len(made) <= 3
    assert list(items) == list(range(1, 50)) and stop.is_set()


def test_a_caller_waits_as_long_as_he_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three seconds pass, by a clock of ours; without a limit he waits on."""
    clock, release = [0.0], threading.Event()

    def tick() -> float:
        clock[0] += 1
        if clock[0] > 9:
            release.set()
        return clock[0]

    monkeypatch.setattr(video_source, "_STEP_SECONDS", 0.001)
    monkeypatch.setattr(video_source.time, "monotonic", tick)

    def wait() -> int:
        release.wait(5)
        return 4

    with pytest.raises(Stalled, match=r"^v: nothing came for 3 s \(see --timeout\)$"):
        call_interruptibly(wait, 3, "v")
    assert clock[0] == 5  # begun at 1: 4 is no more than 3 s later, 5 is
    assert not release.is_set()
    release.set()
    monkeypatch.undo()  # how soon a thread begins is no matter of our clock
    assert call_interruptibly(wait, 3, "v") == call_interruptibly(wait, None, "v") == 4


def test_an_error_of_any_kind_reaches_the_caller() -> None:
    class Odd(BaseException):
        pass

    def fail() -> int:
        raise Odd

    with pytest.raises(Odd):
        call_interruptibly(fail, None, "v")
    # A thread that is blocked for ever does not keep the program from ending.
    assert call_interruptibly(lambda: threading.current_thread().daemon, None, "v") is True
