"""Poses that wait for later frames: by a fixed lag, or for the whole of a recorded video.

A track's frames are corrected by the rule that evaluation uses too (`modeling.sequences.OverTime`).
Of a recorded video, moreover, tracks of one person are joined across gaps, short gaps are filled,
and the source is read a second time for its pictures.

Shape letters: P persons, K joints, C peaks, N frames of a path.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from video_pose.inference.detected_people import CONTINUES, pairwise_fit, pose_boxes
from video_pose.inference.frames import Frame, PoseFrame
from video_pose.modeling.sequences import CONTEXT, OverTime, fill_gaps
from video_pose.skeleton import infer_sigmas

# Frames from which a path's speed at its end is told.
_SPEED_FRAMES = 5


@dataclass
class _Path:
    """One person in one shot: from frame ``first`` of it on.

    Attributes:
        peaks: (N, K, C, 3), poses: (N, K, 3) as found, boxes: (N, 4), scores: (N,); NaN in frames
            without the person.
    """

    number: int
    first: int
    peaks: np.ndarray
    poses: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray

    @property
    def end(self) -> int:
        """The frame after the last."""
        return self.first + len(self.peaks)


def late(frames: Iterable[PoseFrame], rule: OverTime) -> Iterator[PoseFrame]:
    """The frames ``rule.lag`` frames late, corrected by what came in between.

    At a cut, and at the end, the frames that wait are given out with what there is.
    """
    assert rule.lag is not None
    seen: deque[PoseFrame] = deque(maxlen=CONTEXT + 1 + rule.lag)
    waiting = 0
    for frame in frames:
        if frame.starts_shot:
            yield from _give_out(seen, waiting, rule)
            seen.clear()
            waiting = 0
        seen.append(replace(frame, peaks=_peaks_of(frame)))
        waiting += 1
        if waiting > rule.lag:
            yield _corrected(seen, len(seen) - waiting, rule)
            seen[-waiting] = _without_picture(seen[-waiting])
            waiting -= 1
    yield from _give_out(seen, waiting, rule)


def _give_out(seen: deque[PoseFrame], waiting: int, rule: OverTime) -> Iterator[PoseFrame]:
    for place in range(len(seen) - waiting, len(seen)):
        yield _corrected(seen, place, rule)


def _corrected(seen: deque[PoseFrame], place: int, rule: OverTime) -> PoseFrame:
    """Frame ``place`` of those that were seen."""
    assert rule.lag is not None
    frame, start = seen[place], max(0, place - CONTEXT)
    window = [seen[i] for i in range(start, min(len(seen), place + rule.lag + 1))]
    keypoints = frame.keypoints.copy()
    for row, number in enumerate(frame.track_ids.tolist()):
        path = _path_of(window, number)
        found = rule.whole(path, frame.joint_names)[place - start]
        keypoints[row] = _with_scores(found, frame.keypoints[row])
    return replace(frame, keypoints=keypoints, peaks=None)


def _without_picture(frame: PoseFrame) -> PoseFrame:
    """Many frames are kept for their poses; pictures would fill the memory."""
    return replace(frame, image=np.empty((0, 0, 3), np.uint8))


def _path_of(frames: Sequence[PoseFrame], number: int) -> np.ndarray:
    """Peaks (N, K, C, 3) of one person; NaN where the person is not there."""
    path = np.full((len(frames), *_peaks_of(frames[0]).shape[1:]), np.nan, np.float32)
    for place, frame in enumerate(frames):
        numbers = frame.track_ids.tolist()
        if number in numbers:
            path[place] = _peaks_of(frame)[numbers.index(number)]
    return path


def _peaks_of(frame: PoseFrame) -> np.ndarray:
    """(P, K, C, 3); the keypoints themselves where peaks were not kept, or are of a file. A joint
    without a score counts as sure."""
    if frame.peaks is not None:
        return frame.peaks
    poses = frame.keypoints.copy()
    there = np.isfinite(poses[..., :2]).all(axis=-1)
    poses[..., 2] = np.where(there & ~np.isfinite(poses[..., 2]), 1, poses[..., 2])
    # A joint of score 0 that has a place was not found.
    poses[there & (poses[..., 2] <= 0)] = np.nan
    return poses[:, :, None]


def _with_scores(found: np.ndarray, before: np.ndarray) -> np.ndarray:
    """``found`` (K, 3), without scores where there were none before, and as before where a joint
    is nowhere found."""
    pose = np.where(np.isfinite(found[:, :2]).all(axis=1, keepdims=True), found, before)
    pose[:, 2] = np.where(np.isfinite(before[:, 2]), pose[:, 2], before[:, 2])
    return pose


def correct_video(
    frames: Sequence[PoseFrame], rule: OverTime, *, max_gap: float = 0.5, join_gap: float = 2.0
) -> list[PoseFrame]:
    """The frames of one video, corrected over all of it.

    Args:
        frames: in order; their pictures are not looked at.
        max_gap: seconds; somebody who is missing for at most so long is filled in.
        join_gap: seconds; who comes back within them, where the pose of the lost one would have
            been by then, is the same person.

    Raises:
        ValueError: ``max_gap`` or ``join_gap`` is below 0, or no number.
    """
    if not (max_gap >= 0 and join_gap >= 0):
        raise ValueError(f"max_gap {max_gap} and join_gap {join_gap}: expected 0 or more")
    out: list[PoseFrame] = []
    begins = [i for i, frame in enumerate(frames) if not i or frame.starts_shot]
    for start, stop in zip(begins, [*begins[1:], len(frames)]):
        out += _correct_shot(frames[start:stop], rule, max_gap, join_gap)
    return out


def _correct_shot(
    shot: Sequence[PoseFrame], rule: OverTime, max_gap: float, join_gap: float
) -> list[PoseFrame]:
    names = shot[0].joint_names
    seconds = (shot[-1].time - shot[0].time) / max(len(shot) - 1, 1)
    longest = _frames_of(max_gap, seconds)
    rows: list[list[tuple[int, np.ndarray, np.ndarray, float]]] = [[] for _ in shot]
    for path in join_paths(_paths(shot), names, seconds, join_gap):
        found = [_with_scores(*both) for both in zip(rule(path.peaks, names), path.poses)]
        poses = fill_gaps(np.stack(found), longest)
        boxes = _filled_boxes(path.boxes)
        for place, (pose, box, score) in enumerate(zip(poses, boxes, path.scores)):
            if np.isfinite(pose[:, :2]).all(axis=1).any():
                rows[path.first + place].append((path.number, pose, box, _score(score, pose)))
    return [_with_people(frame, sorted(found, key=_number)) for frame, found in zip(shot, rows)]


def _score(score: float, pose: np.ndarray) -> float:
    """Somebody's own, else the mean of the joints' of a pose (K, 3); NaN where none is told."""
    told = pose[np.isfinite(pose[:, 2]), 2]
    return score if np.isfinite(score) or not len(told) else float(told.mean())


def _frames_of(gap: float, seconds: float) -> float:
    """How many frames of so many seconds a gap has; none where times do not tell it to be short."""
    return gap / seconds + 1e-6 if seconds > 0 else 0.0


def _number(row: tuple[int, np.ndarray, np.ndarray, float]) -> int:
    return row[0]


def _with_people(
    frame: PoseFrame, rows: Sequence[tuple[int, np.ndarray, np.ndarray, float]]
) -> PoseFrame:
    """The frame with these people: numbers, poses (K, 3), boxes (4,) and scores."""
    joints = len(frame.joint_names)
    numbers, poses, boxes, scores = zip(*rows) if rows else ((), (), (), ())
    return replace(
        frame,
        keypoints=np.array(poses, np.float32).reshape(-1, joints, 3),
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        scores=np.array(scores, np.float32),
        track_ids=np.array(numbers, np.int64),
        peaks=None,
        heatmaps=None,
        map_to_image=None,
        masks=None,
    )


def _filled_boxes(boxes: np.ndarray) -> np.ndarray:
    """(N, 4), between known ones on straight lines."""
    known, time = np.isfinite(boxes).all(axis=1), np.arange(len(boxes))
    if not known.any():
        return boxes
    return np.stack([np.interp(time, time[known], side[known]) for side in boxes.T], axis=1)


def _paths(shot: Sequence[PoseFrame]) -> list[_Path]:
    """Everybody's path, by first frame."""
    found: dict[int, dict[int, list[np.ndarray]]] = {}
    for place, frame in enumerate(shot):
        every = zip(_peaks_of(frame), frame.keypoints, frame.boxes, frame.scores, strict=True)
        for number, own in zip(frame.track_ids.tolist(), every, strict=True):
            found.setdefault(number, {}).setdefault(place, list(own))
    paths = []
    for number, parts in found.items():
        first, length = min(parts), max(parts) - min(parts) + 1
        arrays = [np.full((length, *np.shape(value)), np.nan, np.float32) for value in parts[first]]
        for place, values in parts.items():
            for array, value in zip(arrays, values, strict=True):
                array[place - first] = value
        paths.append(_Path(number, first, *arrays))
    return paths  # numbers were met in the order of their first frames


def join_paths(
    paths: Sequence[_Path], joint_names: Sequence[str], seconds: float, join_gap: float
) -> list[_Path]:
    """Paths of one person, put together under the first one's number.

    Of two paths the later begins within ``join_gap`` after the end of the earlier, and its first
    pose is where the earlier one's last pose would have moved by then: the mean of OKS and overlap
    is at least `CONTINUES`. The best fit is joined first.

    Args:
        seconds: from one frame to the next. join_gap: seconds.
    """
    paths = list(paths)
    sigmas = np.asarray(infer_sigmas(joint_names))
    longest = _frames_of(join_gap, seconds)
    while True:
        best, pair = CONTINUES, None
        for one, other in itertools.permutations(paths, 2):
            if one.end <= other.first <= one.end + longest:
                fit = _fit(one, other, sigmas)
                if fit >= best:
                    best, pair = fit, (one, other)
        if pair is None:
            return paths
        paths = [path for path in paths if not any(path is part for part in pair)]
        paths.append(_joined(*pair))
        paths.sort(key=lambda path: path.first)


def _fit(one: _Path, other: _Path, sigmas: np.ndarray) -> float:
    """How well the first pose of ``other`` continues ``one``, 0 to 1."""
    gap = other.first - one.end + 1
    last, first = one.poses[-1], other.poses[0]
    # From the earlier path on, and from the later one back.
    moved = last.copy(), first.copy()
    moved[0][:, :2] += gap * _speed(one.poses[-_SPEED_FRAMES:])
    moved[1][:, :2] -= gap * _speed(other.poses[:_SPEED_FRAMES])
    fits = []
    for pair in zip(moved, (first, last), strict=True):
        pose, goal = (np.nan_to_num(part)[None] for part in pair)
        fits.append(pairwise_fit(pose, pose_boxes(pose), goal, sigmas).item())
    return max(fits)


def _speed(poses: np.ndarray) -> np.ndarray:
    """px a frame, (2,): the median of the joints' mean steps; 0 where nothing is known."""
    steps = np.diff(poses[..., :2], axis=0).reshape(-1, 2)
    steps = steps[np.isfinite(steps).all(axis=1)]
    return np.median(steps, axis=0) if len(steps) else np.zeros(2)


def _joined(one: _Path, other: _Path) -> _Path:
    gap = other.first - one.end
    parts = []
    for name in ("peaks", "poses", "boxes", "scores"):
        a, b = getattr(one, name), getattr(other, name)
        between = np.full((gap, *a.shape[1:]), np.nan, np.float32)
        parts.append(np.concatenate([a, between, b]))
    return _Path(one.number, one.first, *parts)


def offline(
    results: Iterable[PoseFrame],
    rule: OverTime,
    source: Iterable[Frame],
    *,
    max_gap: float = 0.5,
    join_gap: float = 2.0,
) -> Iterator[PoseFrame]:
    """The corrected frames, with pictures from a second reading of ``source``.

    Args:
        results: of the first reading; used up before the first frame comes.
    """
    kept = [_without_picture(frame) for frame in results]
    corrected = correct_video(kept, rule, max_gap=max_gap, join_gap=join_gap)
    again = iter(source)
    for found in corrected:
        frame = next(again, None)
        if frame is None or frame.index != found.index:
            became = "nothing" if frame is None else f"frame {frame.index}"
            raise ValueError(
                f"{found.video}: where frame {found.index} was, the second reading found {became}: "
                "a source that reads otherwise each time cannot be taken offline"
            )
        yield replace(found, image=frame.image)


def require_twice(source: object) -> None:
    """Raises ValueError for a source that cannot be read a second time: a camera, a stream, an
    iterator."""
    if getattr(source, "reads_twice", True):
        return
    raise ValueError(
        f"{getattr(source, 'name', source)} can be read once alone, and offline poses need a "
        "second reading for the pictures: record it first, or give a lag"
    )
