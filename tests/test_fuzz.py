"""Damaged and hostile files: one line with the file's name, no traceback, no hang, nothing run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.slow
def test_no_reader_breaks() -> None:
    """`dev/fuzz.py` judges by itself, and prints what it found. The number of inputs is fixed, so
    that a fast machine tries what a slow one does; docs/RELIABILITY.md has what more of them find.
    """
    command = [sys.executable, str(ROOT / "dev" / "fuzz.py"), "--show"]
    command += ["--inputs", "1500", "--seconds", "400"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, errors="replace")
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


@pytest.mark.slow
def test_killed_runs_end_with_the_weights_of_whole_ones() -> None:
    """A short form of the table in docs/RELIABILITY.md."""
    command = [sys.executable, str(ROOT / "dev" / "kill_and_resume.py"), "--kills", "2"]
    command += ["--models", "unipose_lstm", "keypoint_rcnn", "--processes", "1", "--steps", "12"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
