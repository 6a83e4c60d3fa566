"""Thousands of frames, from a video file to tables: does memory or time per frame grow?"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from benchmarking.memory import resident_mb
from tqdm import tqdm

from streaming_benchmark.figure import Figure
from streaming_benchmark.subject import FPS, Subject, moving_pictures
from video_pose.inference.detected_people import DetectedPeople
from video_pose.inference.frames import PoseFrame
from video_pose.inference.smoothing import OneEuroSmoother
from video_pose.inference.streaming import CutDetector
from video_pose.inference.trackers import IoUTracker
from video_pose.inference.video_source import VideoSource
from video_pose.inference.writers import Recording, open_writers
from video_pose.video_io.writing import VideoWriter

MEMORY_LIMIT_MB = 50.0
# More than the noise of a quiet machine, less than anything that adds up.
SLOWDOWN_LIMIT = 1.1
# Frames in which each of the two people is there and away, so that new ones keep coming.
_PRESENT, _ABSENT = 60, 40


class ComingAndGoing:
    """In place of a detector: two people who walk, vanish, and come back as others."""

    def __init__(self) -> None:
        self._frame = -1

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self._frame += 1
        height, width = image.shape[:2]
        boxes = []
        for shift in (0, 50):
            step = (self._frame + shift) % (_PRESENT + _ABSENT)
            if step < _PRESENT:
                left = (0.1 + 0.5 * step / _PRESENT) * width
                boxes.append([left, 0.1 * height, left + 0.3 * width, 0.9 * height])
        return np.reshape(boxes, (-1, 4)), np.full(len(boxes), 0.9)


def measure_long_run(subject: Subject, frames: int, start: int) -> list[Figure]:
    """Stream ``frames`` frames and compare the end with what was at frame ``start``.

    Everything that a demo with several people has runs along: decoding, tracking, states that are
    made and dropped, smoothing, tables, a video.
    """
    window = max(1, min(500, (frames - start) // 2))
    memory: dict[int, float] = {}
    wall, processor = [], []
    tracks: set[int] = set()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "long.mp4")
        _write_video(path, frames)
        last = time.perf_counter(), time.process_time()
        for frame in _stream(subject, path, Path(folder)):
            wall.append(time.perf_counter() - last[0])
            processor.append(time.process_time() - last[1])
            tracks.update(frame.track_ids.tolist())
            if frame.index % max(1, frames // 100) == 0 or frame.index in (start, frames - 1):
                memory[frame.index] = resident_mb()
            last = time.perf_counter(), time.process_time()
    growth = memory[frames - 1] - memory[start]
    details = {"frames": frames, "people_numbered": len(tracks), "resident_mb": memory}
    how = f"frame {start} to {frames}, {len(tracks)} people came and went"
    return [
        Figure("memory grows by", growth, "MB", MEMORY_LIMIT_MB, how, details),
        _slowdown("processor time of a late frame by an early one", processor, start, window),
        # Whatever else the machine does counts here.
        replace(_slowdown("elapsed time likewise", wall, start, window), limit=None),
    ]


def _slowdown(name: str, seconds: list[float], start: int, window: int) -> Figure:
    """Medians of the last ``window`` frames and of those from ``start`` on."""
    early, late = (
        1000 * float(np.median(part))
        for part in (seconds[start : start + window], seconds[-window:])
    )
    how = f"medians of {window} frames: {early:.1f} ms, then {late:.1f} ms"
    details = {"ms_early": early, "ms_late": late, "window": window}
    return Figure(name, late / early, "", SLOWDOWN_LIMIT, how, details)


def _write_video(path: Path, frames: int) -> None:
    pictures = moving_pictures(min(frames, 200))
    with VideoWriter(path, FPS) as writer:
        for i in range(frames):
            writer.write(pictures[i % len(pictures)], i / FPS)


def _stream(subject: Subject, path: Path, folder: Path) -> Iterator[PoseFrame]:
    people = DetectedPeople(ComingAndGoing(), IoUTracker(), max_missed=0.5, min_score=0.0)
    predictor = subject.predictor(people, cuts=CutDetector())
    recording = Recording("long", tuple(subject.backend.joint_names))
    writers = open_writers(["jsonl", "csv", "coco", "posetrack"], folder, recording)
    source = VideoSource(str(path))
    results = OneEuroSmoother()(predictor(source, source.name))
    with VideoWriter(folder / "drawn.mp4", FPS) as video:
        for frame in tqdm(results, total=source.num_frames, unit="frame", desc="long run"):
            for writer in writers:
                writer.write(frame)
            video.write(frame.image, frame.time)
            yield frame
    for writer in writers:
        writer.close()
