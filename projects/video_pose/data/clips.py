"""Which frames of a track make a clip: pure functions on frame counts, without images.

Shape letters: T frames of a clip, N frames of a track.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Clip:
    """Frames of one training clip.

    Attributes:
        frames: int64 (T,), positions in the track, ascending.
        is_padding: bool (T,), True where the last frame is repeated because the track is too short.
    """

    frames: np.ndarray
    is_padding: np.ndarray


@dataclass(frozen=True)
class Chunk:
    """Frames [start, stop) of a test track, a part of the run [run_start, run_stop).

    A run is a stretch of frames that the recurrent state is carried over.
    """

    start: int
    stop: int
    run_start: int
    run_stop: int

    @property
    def is_first(self) -> bool:
        return self.start == self.run_start

    @property
    def is_last(self) -> bool:
        return self.stop == self.run_stop


def sample_clip(
    num_frames: int,
    length: int,
    stride: int,
    rng: np.random.Generator,
    usable: np.ndarray | None = None,
) -> Clip:
    """Draw a clip with a uniformly random start.

    Args:
        num_frames: N >= 1.
        length: T >= 1.
        stride: distance between neighbouring frames of the clip, >= 1.
        usable: bool (N,), frames with labels. The start is drawn among those whose clip holds at
            least one of them; None, or all True, draws among all starts.

    Returns:
        A clip. A track too short for T frames at this stride gives as many as it has, then its last
        one again as padding.

    Raises:
        ValueError: no frame is usable, or a number is out of range.
    """
    if num_frames < 1 or length < 1 or stride < 1:
        raise ValueError(
            f"a clip needs at least 1 frame, length and stride: got {num_frames} frames, "
            f"length {length}, stride {stride}"
        )
    count = min(length, (num_frames - 1) // stride + 1)
    num_starts = num_frames - (count - 1) * stride
    offsets = stride * np.arange(count)
    if usable is None or usable.all():
        start = int(rng.integers(num_starts))
    else:
        starts = np.unique(np.flatnonzero(usable)[:, None] - offsets)
        starts = starts[(starts >= 0) & (starts < num_starts)]
        if len(starts) == 0:
            raise ValueError(f"none of {num_frames} frames can be used for training")
        start = int(rng.choice(starts))
    steps = np.minimum(np.arange(length), count - 1)
    return Clip(
        frames=(start + stride * steps).astype(np.int64), is_padding=np.arange(length) >= count
    )


def whole_run(num_frames: int) -> list[tuple[int, int]]:
    """The one run (start, stop) that covers a track; none for an empty one."""
    return [(0, num_frames)] if num_frames else []


def warmup_runs(labelled: np.ndarray, warmup: int) -> list[tuple[int, int]]:
    """Runs that score each labelled frame after ``warmup`` frames from a fresh state.

    Runs that overlap or touch are one run, so that no frame is computed twice; a later labelled
    frame of it has seen more frames than ``warmup``, never fewer. At the start of the track there
    are as many as exist.

    Args:
        labelled: bool (N,).
        warmup: frames before a labelled one, >= 0.

    Returns:
        (start, stop) of each run, ascending, disjoint.
    """
    if warmup < 0:
        raise ValueError(f"warm-up of {warmup} frames: expected 0 or more")
    runs: list[tuple[int, int]] = []
    for frame in np.flatnonzero(labelled).tolist():
        start = max(0, frame - warmup)
        if runs and start <= runs[-1][1]:
            runs[-1] = (runs[-1][0], frame + 1)
        else:
            runs.append((start, frame + 1))
    return runs


def cut_run(run: tuple[int, int], chunk_length: int) -> list[Chunk]:
    """Cut a run into chunks of ``chunk_length`` >= 1 frames, the last may be shorter."""
    if chunk_length < 1:
        raise ValueError(f"chunk length {chunk_length}: expected 1 or more")
    start, stop = run
    return [
        Chunk(at, min(at + chunk_length, stop), start, stop)
        for at in range(start, stop, chunk_length)
    ]
