#!/usr/bin/env python
"""Make a synthetic video-pose dataset in the files of a real one.

python tools/make_synthetic.py --format jhmdb --output datasets/synthetic/jhmdb --videos 60 --seed 1
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

from video_pose.data.synthetic.dataset import FORMATS, SyntheticOptions, make_dataset
from video_pose.data.synthetic.scene import OCCLUDERS


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--format", required=True, choices=sorted(FORMATS))
    parser.add_argument(
        "--output", "--out", required=True, type=Path, metavar="DIR", help="of the dataset"
    )
    parser.add_argument("--videos", required=True, type=int, help="training videos")
    parser.add_argument(
        "--test-videos", type=int, help="default: a quarter of --videos, at least 1"
    )
    parser.add_argument("--frames", type=int, nargs=2, default=(16, 32), metavar=("LO", "HI"))
    parser.add_argument("--size", type=int, nargs=2, default=(320, 240), metavar=("W", "H"))
    parser.add_argument("--seed", type=int, default=0, help="fixes every byte")
    parser.add_argument("--occluders", choices=OCCLUDERS, default="light")
    parser.add_argument(
        "--frames-as", choices=("png", "avi"), default="png", help="avi: jhmdb only"
    )
    parser.add_argument("--people", type=int, help="in a video; coco_video only (default 3)")
    parser.add_argument("--workers", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument(
        "--force", action="store_true", help="replace another synthetic dataset there"
    )
    return parser.parse_args(arguments)


def main() -> None:
    """Write the dataset, or say that it is there; errors of use end the program with one line."""
    args = parse_arguments()
    test_videos = max(1, args.videos // 4) if args.test_videos is None else args.test_videos
    options = SyntheticOptions(
        format=args.format,
        videos=args.videos,
        test_videos=test_videos,
        frames=tuple(args.frames),
        size=tuple(args.size),
        seed=args.seed,
        occluders=args.occluders,
        frames_as=args.frames_as,
        people=args.people or (3 if args.format == "coco_video" else 1),
    )
    start = time.perf_counter()
    try:
        written = make_dataset(args.output, options, force=args.force, workers=args.workers)
    except (ValueError, FileExistsError) as error:
        sys.exit(f"make_synthetic: {error}")
    if written:
        print(f"{args.output}: written in {time.perf_counter() - start:.1f} s")
    else:
        print(
            f"{args.output}: already complete for these arguments, kept (--force writes it again)"
        )


if __name__ == "__main__":
    main()
