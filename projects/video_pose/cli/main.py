"""The command's verbs, and what all of them share: arguments first, one line for an error.

A verb is a module with ``add_arguments(parser)`` and ``run(args)``, which returns the exit status.
On its top level it imports nothing of PyTorch or Detectron2.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

DISTRIBUTION = "video-pose-detectron2"
# What a user can get wrong or lacks; anything else is a defect and shows its traceback.
USER_ERRORS = (ValueError, KeyError, OSError, ImportError, FloatingPointError)
TRACEBACK = "VIDEO_POSE_TRACEBACK"


@dataclass(frozen=True)
class Verb:
    """A sub-command.

    Attributes:
        module: its functions ``add_arguments`` and ``run``.
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
    """Run one verb; returns 0, 1 for what a user can mend, 2 for wrong arguments, 130 after Ctrl-C.

    Args:
        prog: the name in the usage text; default ``video-pose NAME``.
    """
    verb = VERBS[name]
    module = importlib.import_module(verb.module)
    parser = argparse.ArgumentParser(
        prog=prog or f"video-pose {name}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    try:
        args = parser.parse_args([*verb.preset, *argv])
    except SystemExit as end:  # argparse's own: 0 after --help, 2 for wrong arguments
        return int(end.code or 0)
    try:
        if verb.needs_detectron2:
            import video_pose

            video_pose.register()
        return module.run(args)
    except KeyboardInterrupt:
        return 130
    except USER_ERRORS as error:
        if os.environ.get(TRACEBACK):
            raise
        return report_error(error)


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
