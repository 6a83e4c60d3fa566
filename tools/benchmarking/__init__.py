"""The parts of ``tools/benchmark.py``: each measurement runs in a process of its own."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# The code of this checkout is measured, whichever is installed.
if str(ROOT / "projects") not in sys.path:
    sys.path.insert(0, str(ROOT / "projects"))

import video_pose  # noqa: E402,F401  before Detectron2, whose import warns otherwise
