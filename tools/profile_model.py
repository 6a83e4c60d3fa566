#!/usr/bin/env python3
"""Print where the processor time of a clip goes, operator by operator.

python tools/profile_model.py --config-file C.yaml --precision bfloat16
python tools/profile_model.py --config-file C.yaml --plain

Random weights and a seeded clip, as in tools/benchmark.py; times are of the operators themselves,
without what they call.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import torch
from benchmarking.networks import random_clip
from tabulate import tabulate
from torch.profiler import ProfilerActivity, profile

from video_pose.inference.predictor import load_cfg, load_model
from video_pose.modeling.fast_path import fast_path


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, metavar="FILE", help="of a recurrent pose model")
    add("--precision", default="float32", help="of the fast form (default float32)")
    add("--plain", action="store_true", help="the modules as they are trained, in float32")
    add("--clip-length", type=int, default=5, help="frames of the clip (default 5)")
    add("--passes", type=int, default=3, help="profiled ones, after two others (default 3)")
    add("--rows", type=int, default=8, help="operators to show (default 8)")
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="configuration keys and values")
    return parser.parse_args(argv)


def profile_clip(args: argparse.Namespace) -> list[tuple[str, float, float, int]]:
    """Operator, ms a frame, share of all, calls a frame; the slowest first.

    Raises:
        FileNotFoundError, ValueError, KeyError: the config or the precision is wrong.
    """
    cfg = load_cfg(args.config_file, ["MODEL.WEIGHTS", "", *args.opts])
    torch.manual_seed(0)
    model = load_model(cfg)
    if not args.plain:
        model = fast_path(model, precision=args.precision)
    clip = random_clip(cfg, args.clip_length)
    for _ in range(2):
        model([clip])
    with profile(activities=[ProfilerActivity.CPU]) as record:
        for _ in range(args.passes):
            model([clip])
    frames = args.passes * args.clip_length
    found = [(e.key, e.self_cpu_time_total / 1000 / frames, e.count) for e in record.key_averages()]
    total = sum(ms for _, ms, _ in found)
    found.sort(key=lambda item: -item[1])
    return [(key, ms, 100 * ms / total, round(count / frames)) for key, ms, count in found]


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 with a message on standard error."""
    args = parse_args(argv)
    try:
        rows = profile_clip(args)[: args.rows]
    except (ValueError, KeyError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    headers = ["operator", "ms a frame", "%", "calls a frame"]
    print(tabulate(rows, headers, tablefmt="pipe", floatfmt=("", ".2f", ".1f", "d")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
