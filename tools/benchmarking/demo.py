"""The row that a user sees: ``video-pose predict`` on a video, as it runs by default.

Detector, tracker, pose network, drawing, and writing of video and table, in a process of its own.
Two lengths of the same video are run, and their difference is the cost of a frame: the rest is the
start, which is told apart.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import av

from video_pose.data.synthetic.scene import render_scene


class DemoCost(NamedTuple):
    """Milliseconds of wall and processor a frame, seconds of the start, and MB at most."""

    wall: float
    processor: float
    start: float
    megabytes: float


class _Run(NamedTuple):
    wall: float
    processor: float
    megabytes: float


def write_video(path: Path, frames: int, size: tuple[int, int] = (640, 360)) -> Path:
    """A synthetic video of one person at 25 frames a second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for picture in render_scene(0, frames=frames, size=size).frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode(None))
    return path


def measure_demo(folder: Path, frames: tuple[int, int], options: list[str]) -> DemoCost:
    """Run the command on two videos of so many frames.

    Args:
        folder: for videos and results. options: of the command, such as --backend torch.
    """
    runs = []
    for count in frames:
        video = folder / f"{count}.mp4"
        if not video.is_file():
            write_video(video, count)
        runs.append(_run(video, folder / "results", options))
    short, long = runs
    count = frames[1] - frames[0]
    return DemoCost(
        wall=1e3 * (long.wall - short.wall) / count,
        processor=1e3 * (long.processor - short.processor) / count,
        start=short.wall - frames[0] * (long.wall - short.wall) / count,
        megabytes=long.megabytes,
    )


def _run(video: Path, results: Path, options: list[str]) -> _Run:
    """Raises RuntimeError, with the command's last line, where it fails."""
    command = [sys.executable, "-m", "video_pose", "predict", "--input", str(video)]
    command += ["--output", str(results), "--overwrite", *options]
    start = time.perf_counter()
    with open(video.with_suffix(".log"), "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        # Of this child alone, with the most memory that it held.
        _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        last = video.with_suffix(".log").read_text(errors="replace").strip().splitlines()[-1:]
        raise RuntimeError(f"{' '.join(command)} failed: {' '.join(last)}")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return _Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / unit)
