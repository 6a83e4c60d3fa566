"""``python -m video_pose``: the command ``video-pose``."""

from __future__ import annotations

import sys

from video_pose.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
