#!/usr/bin/env python3
"""``video-pose predict`` for those who know Detectron2's demo: the same arguments and functions.

python demo/demo.py --input video.mp4 --output out/
python demo/demo.py --config-file C.yaml --input video.mp4 --output out/ --opts MODEL.WEIGHTS w.pth
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

REGISTERS_ITSELF = True  # read by video_pose: --help comes before anything heavy is imported

from video_pose.cli.main import run_verb  # noqa: E402


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit status: 0, 1 for bad input, 2 for wrong arguments, 130 after Ctrl-C."""
    return run_verb("predict", sys.argv[1:] if argv is None else argv, prog="demo.py")


if __name__ == "__main__":
    sys.exit(main())
