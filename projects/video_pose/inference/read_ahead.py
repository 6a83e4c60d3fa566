"""Slow and silent sources: work in a thread, so that waiting for it can end.

A read that blocks inside FFmpeg or OpenCV answers neither Ctrl-C nor a clock. Here it blocks a
daemon thread, while the caller waits in short steps.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

# Items that may wait for the caller. Frames of 8K video have 100 MB.
_DEPTH = 2
_STEP_SECONDS = 0.1


class Stalled(ValueError):
    """A source gave nothing for longer than its time-out."""


def call_interruptibly(function: Callable[[], T], timeout: float | None, name: str) -> T:
    """``function()``, which Ctrl-C ends at once.

    Raises:
        Stalled: it took longer than ``timeout`` seconds (None: no limit).
    """
    return next(read_ahead(lambda: iter([function()]), timeout, name))


def read_ahead(start: Callable[[], Iterator[T]], timeout: float | None, name: str) -> Iterator[T]:
    """The items of ``start()``, made in a thread that is up to three items ahead.

    What the iterator raises is raised here. A caller that stops early ends the thread.

    Raises:
        Stalled: no item came for ``timeout`` seconds (None: no limit).
    """
    items: queue.Queue[tuple[str, Any]] = queue.Queue(_DEPTH)
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
