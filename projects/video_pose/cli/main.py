"""The command's verbs, and what all of them share: arguments first, one line for an error.

A verb is a module with ``add_arguments(parser)`` and ``run(args)``, which returns the exit status.
On its top level it imports nothing of PyTorch or Detectron2, and nor does its ``check(args)``, if
it has one, which is called first: what it raises is not waited for.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import importlib.metadata
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

DISTRIBUTION = "video-pose-detectron2"
# What a user can get wrong or lacks; anything else is a defect and shows its traceback.
USER_ERRORS = (ValueError, KeyError, OSError, ImportError, FloatingPointError)
TRACEBACK = "VIDEO_POSE_TRACEBACK"
# Exit statuses: after Ctrl-C or a signal that asks the same; of whom nobody reads any more, as a
# shell reports a program that SIGPIPE has ended.
INTERRUPTED, UNREAD = 130, 141
# Seconds within which a further signal belongs to the first: service managers send it to the group
# and to the process.
SAME_INTERRUPT = 1.0


@dataclass(frozen=True)
class Verb:
    """A sub-command.

    Attributes:
        module: its functions ``add_arguments``, ``run`` and perhaps ``check``.
        help: one line.
        preset: arguments that the verb stands for.
        needs_detectron2: whether it works only where Detectron2 is installed.
    """

    module: str
    help: str
    preset: tuple[str, ...] = ()
    needs_detectron2: bool = True


VERBS = {
    "predict": Verb("video_pose.cli.predict", "find the poses of people in videos and pictures"),
    "train": Verb("video_pose.cli.train", "train a model"),
    "evaluate": Verb("video_pose.cli.train", "score a trained model", ("--eval-only",)),
    "batch": Verb("video_pose.cli.batch", "find the poses in many videos, by many processes"),
    "convert": Verb("video_pose.cli.convert", "stored poses to another format"),
    "report": Verb("video_pose.cli.report", "a page about an evaluation, or a video's poses"),
    "score": Verb("video_pose.cli.score", "score stored poses against annotated videos"),
    "retrack": Verb("video_pose.cli.retrack", "new numbers and smoothing for stored poses"),
    "export": Verb("video_pose.cli.export", "write a model as graphs for other programs"),
    "datasets": Verb("video_pose.cli.datasets", "list the datasets that are registered"),
    "doctor": Verb(
        "video_pose.cli.doctor", "what is installed, and what is missing", (), False
    ),
}  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """``video-pose VERB ...``; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verb = arguments[0] if arguments else "--help"
    if verb in ("-h", "--help"):
        print(_usage())
        return 0
    if verb == "--version":
        print(f"video-pose {version()}")
        return 0
    if verb not in VERBS:
        print(f"error: no verb {verb!r}: choose from {', '.join(VERBS)}", file=sys.stderr)
        return 2
    return run_verb(verb, arguments[1:])


def run_verb(name: str, argv: Sequence[str], prog: str | None = None) -> int:
    """Run one verb.

    Args:
        prog: the name in the usage text; default ``video-pose NAME``.

    Returns:
        0, 1 for what a user can mend, 2 for wrong arguments, `INTERRUPTED` or `UNREAD`.
    """
    with printing() as printed, ended_by_signals() as came:
        try:
            status = _run(name, argv, prog)
            printed.flush()
            status = status or _status_of(printed.error, printed)
        except KeyboardInterrupt:
            status = INTERRUPTED
        except Exception as error:
            # An import, or a callback from another language, turns an interrupt into its own error.
            status = INTERRUPTED if came else _status_of(error, printed)
    if status == INTERRUPTED:
        print("interrupted", file=sys.stderr)
    return status


class _Parser(argparse.ArgumentParser):
    """Says what to do about files whose names are taken for options."""

    words: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        files = [word for word in self.words if word.startswith("-") and os.path.exists(word)]
        hint = f" ({files[0]} is a file: write ./{files[0]})" if files else ""
        super().error(message + hint)


def _run(name: str, argv: Sequence[str], prog: str | None) -> int:
    verb = VERBS[name]
    module = importlib.import_module(verb.module)
    parser = _Parser(
        prog=prog or f"video-pose {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    parser.words = argv
    try:
        args = parser.parse_args([*verb.preset, *argv])
    except SystemExit as end:  # argparse's own: 0 after --help, 2 for wrong arguments
        return int(end.code or 0)
    if hasattr(module, "check"):
        module.check(args)
    if verb.needs_detectron2:
        import video_pose

        video_pose.register()
    return int(module.run(args))


@contextlib.contextmanager
def ended_by_signals() -> Iterator[list[int]]:
    """Within the block SIGTERM, and SIGHUP outside ``nohup``, act as Ctrl-C: what is half written
    is taken away, and workers are ended. Yields the signals that have come.

    A training has handlers of its own while it makes steps. Where the caller has some, or is not in
    the main thread, they stay.
    """
    came: list[int] = []
    process, since = os.getpid(), 0.0

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal since
        if os.getpid() != process:  # forked by a library, which ends its processes so
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        if came and time.monotonic() - since < SAME_INTERRUPT:
            return
        came.append(number)
        since = time.monotonic()
        raise KeyboardInterrupt

    previous = {}
    for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
            with contextlib.suppress(ValueError):  # not in the main thread
                previous[number] = signal.signal(number, end)
    try:
        yield came
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _status_of(error: Exception | None, printed: Printed) -> int:
    """Say what has ended a command, unless it is a defect, whose traceback is wanted."""
    if printed.error is not None:
        if printed.error.errno == errno.EPIPE:  # `| head` has seen enough
            return UNREAD
        error = OSError(f"cannot write standard output: {printed.error.strerror}")
    if error is None:
        return 0
    if not isinstance(error, USER_ERRORS) or os.environ.get(TRACEBACK):
        raise error
    return report_error(error)


class Printed:
    """Standard output, which remembers when it takes nothing more: a training goes on then.

    Attributes:
        error: the first one. All that comes later is dropped.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.error: OSError | None = None

    def write(self, text: str) -> int:
        self._do(self._stream.write, text)
        return len(text)

    def flush(self) -> None:
        self._do(self._stream.flush)

    def _do(self, function: Callable[..., Any], *args: Any) -> None:
        try:
            function(*args)
        except OSError as error:
            self.error = self.error or error
            # The interpreter would print a traceback at its end of what still waits.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextlib.contextmanager
def printing() -> Iterator[Printed]:
    """Within the block standard output is a `Printed`, also where whoever started the program has
    closed it."""
    before = sys.stdout
    with contextlib.ExitStack() as stack:
        if before is None:
            stream: Any = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        else:
            stream = before
        printed = Printed(stream)
        sys.stdout = printed
        try:
            yield printed
        finally:
            sys.stdout = before


def report_error(error: BaseException) -> int:
    """Print an error as one line on standard error; returns the exit status 1."""
    print(f"error: {error_text(error)}", file=sys.stderr)
    return 1


def error_text(error: BaseException) -> str:
    """What an error says, in one line; its type where it says nothing."""
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


def version() -> str:
    """Of the installed distribution; "not installed" in a bare checkout."""
    try:
        return importlib.metadata.version(DISTRIBUTION)
    except importlib.metadata.PackageNotFoundError:
        return f"(not installed, {Path(__file__).resolve().parents[1]})"


def _usage() -> str:
    width = max(map(len, VERBS))
    lines = [f"  {name:{width}}  {verb.help}" for name, verb in VERBS.items()]
    return "\n".join(
        [
            "usage: video-pose VERB ...",
            "",
            *lines,
            "",
            "video-pose VERB --help shows the arguments of each; video-pose --version the version.",
            f"{TRACEBACK}=1 in the environment shows where an error came from.",
        ]
    )
