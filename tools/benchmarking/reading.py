"""Reading clips of a video as training does: an x264 file as its encoder makes it by default, with
B-frames and a key frame every 250 frames."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from video_pose.data.frame_reader import FrameReader, VideoFile

from .demo import write_video
from .measuring import Cost, Work, alternate

CLIPS, LENGTH = 30, 5


def measure_reading(folder: Path, frames: int, rounds: int) -> dict[str, tuple[Cost, float]]:
    """Order of the clips -> cost of a frame that is used, and how many were decoded for it.

    Args:
        frames: of the video, 640 x 360. rounds: passes over `CLIPS` clips of `LENGTH` frames.
    """
    path = str(write_video(folder / "clips.mp4", frames))
    numbers = np.arange(len(VideoFile(path)))
    track = {"video_id": "v", "video_file": path, "frame_numbers": numbers} | {
        "height": 360, "width": 640,
    }  # fmt: skip
    random = np.random.default_rng(0).integers(0, frames - LENGTH, CLIPS)
    orders = {"clips at random": random, "clips in order": np.sort(random)}

    def work(starts: np.ndarray) -> Work:
        reader = FrameReader(0, "BGR")
        return lambda: [reader.read(track, range(s, s + LENGTH)) for s in starts.tolist()]

    works = {name: work(starts) for name, starts in orders.items()}
    decoded = {name: _count(works[name]) / (CLIPS * LENGTH) for name in works}
    costs = alternate(works, rounds)
    return {name: (cost.per(CLIPS * LENGTH), decoded[name]) for name, cost in costs.items()}


def _count(work: Callable[[], object]) -> int:
    """Frames that a pass decodes."""
    plain, count = VideoFile._decode, [0]

    def counting(self: VideoFile) -> object:
        count[0] += 1
        return plain(self)

    VideoFile._decode = counting  # type: ignore[method-assign,assignment]
    try:
        work()
    finally:
        VideoFile._decode = plain  # type: ignore[method-assign]
    return count[0]
