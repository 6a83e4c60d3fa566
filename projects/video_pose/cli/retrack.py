"""Give the people of stored poses new numbers, and correct them over time, without a model.

  retrack out/video.csv --output again --format csv --tracker bytetrack --max-missed 2
  retrack out/*.parquet --output again --format csv --smooth --joint-threshold .3
  retrack out/video.csv --output again --format csv --offline --refiner refiner.safetensors

Inputs and formats are those of convert. People are followed by their boxes; who is not found for
--max-missed seconds is somebody new afterwards.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from video_pose.cli.convert import add_file_arguments, convert_files
from video_pose.cli.predict import add_time_arguments, fraction

if TYPE_CHECKING:
    from video_pose.inference.frames import PoseFrame


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Files as of convert, and how people are followed."""
    add_file_arguments(parser)
    add = parser.add_argument
    add("--tracker", default="auto", metavar="NAME", help="auto (default), iou, bytetrack ...")
    add(
        "--confidence-threshold", type=fraction, metavar="F",
        help="person's score that begins a track; weaker ones go on (default: everybody is sure)",
    )  # fmt: skip
    add("--max-missed", type=float, default=1.0, metavar="S", help="memory of lost people, seconds")
    add("--person-threshold", type=fraction, default=0.0, metavar="F", help="of poses, 0 to 1")
    add("--joint-threshold", type=fraction, default=0.0, metavar="F", help="lower ones stay empty")
    add("--smooth", action="store_true", help="One-Euro smoothing of the joints")
    add_time_arguments(parser, refiner="")


def run(args: argparse.Namespace) -> int:
    """Returns 0. Raises as `convert.convert_files`, and ValueError for an unknown tracker."""
    return convert_files(args, lambda frames: list(retrack(args, frames)))


def retrack(args: argparse.Namespace, frames: Sequence[PoseFrame]) -> Iterator[PoseFrame]:
    """The frames of one video with new numbers; who has none is left out and counted."""
    from video_pose.inference.selection import keep_wanted

    numbered = list(number_people(frames, args))
    before, after = (sum(map(len, part)) for part in (frames, numbered))
    if after < before:
        print(
            f"{frames[0].video}: {before - after} of {before} poses are left out: below "
            "--confidence-threshold and in no track, or without box and joints"
        )
    for frame in over_time(numbered, args, frames[0].joint_names):
        yield keep_wanted(frame, args.person_threshold, args.joint_threshold)


def over_time(
    frames: Iterable[PoseFrame], args: argparse.Namespace, names: Sequence[str]
) -> Iterable[PoseFrame]:
    """The frames, of joints of these names, as --smooth, --lag or --offline corrects them.

    Raises:
        ValueError: several of them, what needs one of the latter two alone, or no joints.
    """
    from dataclasses import replace

    from video_pose.backends.pose import load_refiner
    from video_pose.inference.over_time import correct_video, late
    from video_pose.inference.settings import PredictorSettings
    from video_pose.modeling.sequences import OverTime

    gaps = {"max_gap": args.max_gap, "join_gap": args.join_gap}
    PredictorSettings(offline=args.offline, **gaps)  # refuses what has no effect
    chosen = [args.smooth, args.offline, args.lag is not None]
    if sum(chosen) > 1:
        raise ValueError("--smooth, --offline and --lag: name one of them")
    if any(chosen) and not names:
        raise ValueError("--smooth, --offline and --lag correct joints: the poses have none")
    if not any(chosen[1:]):
        if args.repair_sides or args.refiner:
            raise ValueError("--repair-sides and --refiner need --offline or --lag")
        return smooth(frames) if args.smooth else frames
    # They are of the poses before: a correction changes what a score is worth.
    frames = (replace(frame, probabilities=None) for frame in frames)
    rule = OverTime(args.lag, load_refiner(args.refiner), args.repair_sides)
    if args.offline:
        return correct_video(list(frames), rule, **gaps)
    return late(frames, rule)


def smooth(frames: Iterable[PoseFrame]) -> Iterator[PoseFrame]:
    """One-Euro smoothing, which begins anew for a joint that was empty."""
    from dataclasses import replace

    import numpy as np

    from video_pose.inference.smoothing import OneEuroSmoother

    known = list(frames)
    empty = [~np.isfinite(frame.keypoints).all(axis=2, keepdims=True) for frame in known]
    # The smoother takes a score of 0 for a joint that is not there.
    without = (
        replace(frame, keypoints=np.where(gone, np.float32(0), frame.keypoints))
        for frame, gone in zip(known, empty)
    )
    for frame, gone, origin in zip(OneEuroSmoother()(without), empty, known):
        yield replace(frame, keypoints=np.where(gone, origin.keypoints, frame.keypoints))


def number_people(frames: Sequence[PoseFrame], args: argparse.Namespace) -> Iterator[PoseFrame]:
    """As a tracker sees the people's boxes; a person without a box has the joints' extent.

    Everybody in the file has been accepted, and is sure for the tracker; under a threshold, those
    who have no score are.
    """
    from dataclasses import replace

    import numpy as np

    from video_pose.inference.settings import SURE_SCORE
    from video_pose.inference.trackers import build_tracker
    from video_pose.inference.writers.tables import extent

    threshold = args.confidence_threshold
    tracker = build_tracker(
        args.tracker,
        min_score=SURE_SCORE if threshold is None else threshold,
        max_missed_seconds=args.max_missed,
    )
    for frame in frames:
        boxes = np.array(
            [box if np.isfinite(box).all() else extent(pose)
             for box, pose in zip(frame.boxes, frame.keypoints)], np.float32,
        ).reshape(-1, 4)  # fmt: skip
        there = np.isfinite(boxes).all(axis=1)
        scores = np.nan_to_num(frame.scores[there], nan=1.0)
        scores = np.ones_like(scores) if threshold is None else scores
        numbers = np.full(len(frame), -1, np.int64)
        numbers[there] = tracker.update(boxes[there], scores, frame.time)
        kept = numbers >= 0
        yield replace(
            frame,
            keypoints=frame.keypoints[kept],
            boxes=boxes[kept],
            scores=frame.scores[kept],
            track_ids=numbers[kept],
            untracked=frozenset(),
            probabilities=None if frame.probabilities is None else frame.probabilities[kept],
        )
