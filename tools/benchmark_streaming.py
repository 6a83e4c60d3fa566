#!/usr/bin/env python3
"""Measure streaming inference: memory and speed over a long video, people, agreement, export.

python tools/benchmark_streaming.py --config-file C.yaml --weights w.pth --output benchmarks/
python tools/benchmark_streaming.py --config-file C.yaml --only people export

Prints one table and writes it with all details to OUTPUT/streaming.md and streaming.json. Without
--weights they are random, which costs the same; for the agreement with the offline test take
trained ones, as the peaks of random maps are ill-conditioned. The exit status is 1 if a figure
misses what it must reach. Ratios of times need a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

if str(Path(__file__).resolve().parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).resolve().parent))

from benchmarking.report import describe, describe_machine, write_report  # noqa: E402
from streaming_benchmark.agreement import measure_agreement  # noqa: E402
from streaming_benchmark.export_cost import measure_export  # noqa: E402
from streaming_benchmark.figure import Figure, format_figures  # noqa: E402
from streaming_benchmark.long_run import measure_long_run  # noqa: E402
from streaming_benchmark.people_cost import measure_people  # noqa: E402
from streaming_benchmark.subject import Subject, load_subject  # noqa: E402

from video_pose.backends.parity import FRAMES as PARITY_FRAMES  # noqa: E402
from video_pose.video_io.writing import check_writable  # noqa: E402

PARTS = ("agreement", "people", "export", "long")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="of a recurrent pose model")
    add("--weights", default="", metavar="FILE", help="default: random weights")
    add("--only", nargs="+", choices=PARTS, default=list(PARTS), help="default: everything")
    add("--frames", type=int, default=10_000, metavar="N", help="of the long video")
    add("--start", type=int, default=1000, metavar="N", help="frame that growth counts from")
    add("--people", type=int, default=8, metavar="N", help="that are compared with one person")
    add("--rounds", type=int, default=15, metavar="N", help="repetitions of what is timed")
    add("--agreement-frames", type=int, default=60, metavar="N", help="streamed and offline")
    add("--parity-frames", type=int, default=PARITY_FRAMES, metavar="N", help="of the export")
    add("--threads", type=int, metavar="N", help="default: PyTorch's choice")
    add("--output", metavar="DIR", help="folder for streaming.md and streaming.json")
    add("--opts", nargs=argparse.REMAINDER, default=[], help="config keys and values; comes last")
    return parser.parse_args(argv)


def measure(args: argparse.Namespace, subject: Subject) -> list[Figure]:
    """The figures of the parts that ``args`` name; the long run comes last."""
    parts: dict[str, Callable[[], list[Figure]]] = {
        "agreement": lambda: measure_agreement(subject, args.agreement_frames),
        "people": lambda: measure_people(subject, args.people, args.rounds),
        "export": lambda: measure_export(subject, args.parity_frames, args.rounds),
        "long": lambda: measure_long_run(subject, args.frames, args.start),
    }
    return [figure for name in PARTS if name in args.only for figure in parts[name]()]


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 for bad arguments and for a figure that misses its limit."""
    args = parse_args(argv)
    try:
        if not 0 <= args.start < args.frames - 1:
            raise ValueError(
                f"--start {args.start}: expected 0 to {args.frames - 2} (--frames - 2)"
            )
        if args.output is not None:
            check_writable(args.output)
        if args.threads:
            torch.set_num_threads(args.threads)
        subject = load_subject(args.config_file, args.weights, args.opts)
        machine = describe_machine()
        figures = measure(args, subject)
    except (ValueError, KeyError, OSError) as error:
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        print(f"error: {' '.join(text.split())}", file=sys.stderr)
        return 1
    weights = args.weights or "random weights"
    told = f"{args.config_file}, {weights}.\n{describe(machine, {})}"
    text = f"{told}\n\n{format_figures(figures)}"
    print(text)
    if args.output is not None:
        facts = {"machine": machine, "arguments": vars(args)}
        write_report(Path(args.output), "streaming", text, figures, facts)
    return int(any(figure.reached is False for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
