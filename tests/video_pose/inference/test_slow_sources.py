"""Sources that stall, break off or never end: what a user waits for ends, and Ctrl-C works."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from video_pose.inference.sources import CameraSource, open_source
from video_pose.inference.video_source import Stalled, VideoSource, call_interruptibly, read_ahead

WriteNumbers = Callable[..., str]


# ------------------------------------------------------------------ reading ahead


def test_items_come_in_order_and_an_error_at_its_place() -> None:
    def start() -> Iterator[int]:
        yield from range(7)
        raise KeyError("the eighth")

    items = read_ahead(start, 5, "x")
    assert list(itertools.islice(items, 7)) == list(range(7))
    with pytest.raises(KeyError, match="the eighth"):
        next(items)
    assert list(read_ahead(lambda: iter(()), 5, "x")) == []
    assert call_interruptibly(lambda: 3, 5, "x") == 3


def test_few_items_wait_and_an_early_end_ends_the_thread() -> None:
    made, closed = [], threading.Event()

    def start() -> Iterator[int]:
        try:
            for number in itertools.count():
                made.append(number)
                yield number
        finally:
            closed.set()

    items = read_ahead(start, 5, "x")
    assert next(items) == 0
    end = time.monotonic() + 5
    while len(made) < 4 and time.monotonic() < end:
        time.sleep(0.005)
    time.sleep(0.05)
    assert len(made) == 4  # one is taken, two wait, one is in hand
    items.close()  # type: ignore[attr-defined]
    assert closed.wait(5)


def test_silence_ends() -> None:
    release = threading.Event()
    begin = time.monotonic()
    with pytest.raises(Stalled, match=r"^cam: nothing came for 0.3 s \(see --timeout\)$"):
        call_interruptibly(release.wait, 0.3, "cam")
    assert time.monotonic() - begin < 3
    release.set()


def test_ctrl_c_works_while_nothing_comes() -> None:
    """A stream that is connected but silent: the signal comes while FFmpeg waits."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def interrupt() -> None:
            connection, _ = server.accept()  # FFmpeg has begun to wait
            time.sleep(0.2)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(5)
            connection.close()

        # A runner of tests by several processes has its workers ignore Ctrl-C.
        previous = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            threading.Thread(target=interrupt, daemon=True).start()
            begin = time.monotonic()
            with pytest.raises(KeyboardInterrupt):
                open_source(f"tcp://127.0.0.1:{server.getsockname()[1]}", timeout=600)
            assert time.monotonic() - begin < 4
        finally:
            signal.signal(signal.SIGINT, previous)


# ------------------------------------------------------------------ streams


@pytest.fixture
def serve(request: pytest.FixtureRequest) -> Callable[..., str]:
    """serve(parts) -> an address; connection i gets ``parts[i]``, and is then closed or kept."""

    def start(parts: list[bytes], keep: bool = False) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        kept: list[socket.socket] = []

        def run() -> None:
            for part in parts:
                try:
                    connection, _ = server.accept()
                    connection.sendall(part)
                except OSError:
                    return
                kept.append(connection) if keep else connection.close()
            server.close()

        def stop() -> None:
            server.close()
            for connection in kept:
                connection.close()

        threading.Thread(target=run, daemon=True).start()
        request.addfinalizer(stop)
        return f"tcp://127.0.0.1:{server.getsockname()[1]}"

    return start


def test_a_stream_that_stalls_ends_with_a_line(
    numbers_video: WriteNumbers, serve: Callable[..., str]
) -> None:
    data = Path(numbers_video("v.ts", 120, b_frames=0)).read_bytes()
    # Connections of the opening and of the reading.
    address = serve([data, data], keep=True)
    source = VideoSource(address, timeout=2)
    begin = time.monotonic()
    frames = list(source)
    assert 0 < len(frames) <= 120 and time.monotonic() - begin < 20
    (problem,) = source.problems
    assert address in problem


def test_a_silent_stream_is_not_opened(serve: Callable[..., str]) -> None:
    with pytest.raises(ValueError, match="tcp://"):
        open_source(serve([b""], keep=True), timeout=1)


def test_a_stream_that_drops_is_opened_again(
    numbers_video: WriteNumbers, serve: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    """Its numbers go on, its times never go back, and each new start is said."""
    data = Path(numbers_video("v.ts", 60, b_frames=0)).read_bytes()
    half = data[: len(data) // 2 // 188 * 188]
    source = VideoSource(serve([data, half, half, data]), timeout=10, reconnect=2)
    frames = list(source)
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert 80 < len(frames) <= 120
    assert all(a.time < b.time for a, b in itertools.pairwise(frames))
    assert not any("truncated" in problem for problem in source.problems)
    assert "opened again (1 of 2)" in caplog.text and "opened again (2 of 2)" in caplog.text


# ------------------------------------------------------------------ cameras


class FakeCamera:
    """An OpenCV camera that gives ``counts[i]`` pictures when it is opened the i-th time."""

    def __init__(self, counts: list[int], hangs: bool = False) -> None:
        self.counts, self.opened, self.hangs, self.released = counts, -1, hangs, 0

    def open(self, number: int) -> FakeCamera:
        self.number = number
        self.opened += 1
        self.left = self.counts[self.opened] if self.opened < len(self.counts) else 0
        return self

    def isOpened(self) -> bool:  # noqa: N802
        return True

    def get(self, _: int) -> float:
        return 30.0

    def read(self) -> tuple[bool, np.ndarray | None]:
        if self.left == 0 and self.hangs:
            time.sleep(3)
        self.left -= 1
        return (True, np.zeros((4, 6, 3), np.uint8)) if self.left >= 0 else (False, None)

    def release(self) -> None:
        self.released += 1


@pytest.mark.parametrize(("reconnect", "count"), [(0, 3), (1, 5), (2, 6)])
def test_a_camera_that_fails_is_opened_again(
    monkeypatch: pytest.MonkeyPatch, reconnect: int, count: int
) -> None:
    camera = FakeCamera([3, 2, 1])
    monkeypatch.setattr(cv2, "VideoCapture", camera.open)
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    source = CameraSource(1, reconnect=reconnect)
    assert [frame.index for frame in source] == list(range(count))
    assert source.problems == [f"camera1: no more frames after {count}"]
    # It is the same device each time, and is let go each time.
    assert (camera.number, camera.opened, camera.released) == (1, reconnect, reconnect + 1)
    list(source)
    assert len(source.problems) == 1  # of this reading alone


def test_a_camera_that_hangs_ends_with_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera([2], hangs=True).open)
    source = CameraSource(5, timeout=0.4)
    assert len(list(source)) == 2
    assert source.problems == ["camera5: nothing came for 0.4 s (see --timeout)"]


def test_an_open_capture_is_a_source(numbers_video: WriteNumbers) -> None:
    capture = cv2.VideoCapture(numbers_video("v.mp4", 12))
    source = open_source(capture)
    frames = list(source)
    assert len(frames) == 12 and source.problems == [] and source.fps == pytest.approx(25)
    assert capture.isOpened() and source.name == "capture"  # it is the caller's


@pytest.mark.parametrize(("timeout", "reconnect"), [(0, 0), (-1, 0), (float("nan"), 0), (1, -1)])
def test_wrong_limits(timeout: float, reconnect: int) -> None:
    with pytest.raises(ValueError, match="expected > 0 and >= 0"):
        VideoSource("a.mp4", timeout=timeout, reconnect=reconnect)


@pytest.mark.parametrize(
    ("told", "rate"), [(0.0, 25), (0.9, 25), (1.0, 1), (30.0, 30), (1000.0, 1000), (1001.0, 25)]
)
def test_a_cameras_rate_where_it_is_one(monkeypatch, told: float, rate: float) -> None:
    monkeypatch.setattr(FakeCamera, "get", lambda self, key: told)
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera([2]).open)
    source = CameraSource(3)
    assert (source.fps, source.name, source.num_frames, source.reads_twice) == (
        rate, "camera3", None, False,
    )  # fmt: skip


def test_how_long_a_camera_is_waited_for(monkeypatch, caplog) -> None:
    """Half a second, then twice as long each time, ten seconds at most."""
    waits: list[float] = []
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera([1]).open)
    monkeypatch.setattr(time, "sleep", waits.append)
    source = CameraSource(4, reconnect=7)
    assert len(list(source)) == 1
    assert waits == [0.5, 1, 2, 4, 8, 10, 10]
    assert [record.getMessage() for record in caplog.records] == [
        f"camera4 failed after 1 frames; opened again ({i} of 7)" for i in range(1, 8)
    ]
    assert source.problems == ["camera4: no more frames after 1"]


def test_a_camera_gives_seconds_since_its_first_picture(monkeypatch) -> None:
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera([3]).open)
    clock = itertools.count(50, 0.5)
    source = CameraSource(0)
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    times = [frame.time for frame in source._read()]
    assert times == [0, 0.5, 1.0]


def test_a_camera_that_cannot_be_opened(monkeypatch) -> None:
    monkeypatch.setattr(FakeCamera, "isOpened", lambda self: False)
    monkeypatch.setattr(cv2, "VideoCapture", FakeCamera([]).open)
    with pytest.raises(ValueError, match="^camera 2 cannot be opened$"):
        CameraSource(2)


@pytest.mark.parametrize("address", ["rtsp://h/live/", "rtsp://h/live"])
def test_a_stream_is_named_by_its_end_and_read_once(monkeypatch, address: str) -> None:
    monkeypatch.setattr(VideoSource, "_inspect", lambda self: None)
    source = VideoSource(address, reconnect=3)
    assert (source.name, source.reads_twice, source.num_frames) == ("live", False, None)
    assert source._reconnect == 3 and not source.sound and source.start_time is None
    assert source.number_at(2.0) is None
    for wrong in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"fps is {wrong}: expected a number above 0"):
            VideoSource(address, fps=wrong)
    for wrong in (0, -1, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"timeout {wrong}, reconnect 0: expected > 0"):
            VideoSource(address, timeout=wrong)


def test_a_capture_of_the_callers_is_not_opened_again() -> None:
    """Nobody but him knows how; nor is it let go."""
    camera: Any = FakeCamera([2])
    camera.left = 2
    source = CameraSource(camera, reconnect=3)
    assert len(list(source)) == 2 and source.problems == []
    assert (camera.opened, camera.released) == (-1, 0)
