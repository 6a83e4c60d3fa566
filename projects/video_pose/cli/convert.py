"""Convert stored poses from one format to another, without running a network.

  convert out/video.csv --output converted/ --format sleap nwb
  convert out/video.jsonl --output converted/ --format csv --table wide --angles
  convert poses/openpose_folder --output converted/ --format trc --skeleton coco --fps 30

Inputs are tables (jsonl, csv, parquet), COCO datasets, PoseTrack18, OpenPose folders, TRC, C3D,
DeepLabCut, SLEAP and NWB files, known by their endings. Joints go by name; --skeleton names another
set of joints: what it lacks is left out, what can be computed is, what is missing stays empty.
"""

from __future__ import annotations

import argparse
import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from video_pose.inference.frames import PoseFrame

_DEFAULT_FPS = 25.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Files, and the joints that are wanted."""
    add_file_arguments(parser)
    parser.add_argument(
        "--skeleton", default="", metavar="NAME", help="coco, openpose_25, mpii, jhmdb ..."
    )


def add_file_arguments(parser: argparse.ArgumentParser) -> None:
    """Stored poses, the formats to write, and what the files themselves do not tell."""
    add = parser.add_argument
    add("inputs", nargs="+", metavar="FILE", help="stored poses")
    add("--output", required=True, metavar="DIR")
    add("--format", nargs="+", required=True, metavar="NAME", help="as of predict")
    add("--from", dest="source", default="", metavar="NAME", help="format of the inputs")
    add("--fps", type=float, help="of frames without times (default 25)")
    add("--size", nargs=2, type=int, metavar=("W", "H"), help="of the pictures, px")
    add("--table", metavar="KIND", help="long (default): a row a joint; wide: a row a person")
    add("--angles", action="store_true", help="joint angles, segment lengths in the wide table")
    add("--overwrite", action="store_true", help="replace results that exist")


def run(args: argparse.Namespace) -> int:
    """Returns 0. Raises as `convert_files`, and ValueError for an unknown skeleton."""
    change = partial(with_joints, skeleton=args.skeleton)
    return convert_files(
        args, lambda frames: list(map(change, frames)) if args.skeleton else frames
    )


def convert_files(
    args: argparse.Namespace, change: Callable[[list[PoseFrame]], list[PoseFrame]]
) -> int:
    """Read every file, change the frames of each of its videos, write them; returns 0.

    Args:
        args: with those of `add_file_arguments`.

    Raises:
        ValueError: an input cannot be read, a format lacks something, an option has no effect, or
            a result would take the place of another one, of another input, or, without --overwrite,
            of a file that exists. FileNotFoundError: an input is missing.
    """
    from video_pose.inference.frames import is_timed
    from video_pose.inference.writers import check_formats, check_table_options, read_poses
    from video_pose.video_io.writing import check_writable

    check_formats(args.format)
    check_table_options(args.format, args.table or "", args.angles)
    check_writable(args.output)
    if args.fps is not None and not 0 < args.fps < math.inf:
        raise ValueError(f"--fps {args.fps}: expected a number above 0")
    results: list[Result] = []
    untimed = False
    frames: list[PoseFrame] = []
    for path in args.inputs:
        frames = read_poses(path, args.source)
        if not frames:
            raise ValueError(f"{path}: it has no frames")
        videos = dict.fromkeys(frame.video for frame in frames)
        results += [Result(path, video) for video in videos]
        untimed |= not all(map(is_timed, frames))
    if args.fps is not None and not untimed:
        raise ValueError(
            f"--fps {args.fps:g} has no effect: every frame of the inputs has a time of its own"
        )
    places = plan_results(args, list(dict.fromkeys(results)))
    for path in dict.fromkeys(args.inputs):
        # One input is read once; of many the frames would fill the memory until all are planned.
        frames = frames if len(args.inputs) == 1 else read_poses(path, args.source)
        for result, (name, paths) in places.items():
            if result.source != path:
                continue
            part = [frame for frame in frames if frame.video == result.video]
            changed = change(completed(args, part))
            _say_who_is_untracked(path, changed)
            write(args, changed, paths, name)
            fps = args.fps or _DEFAULT_FPS
            taken = "" if all(map(is_timed, part)) else f" without times, {fps:g} a second,"
            print(f"{path}: {len(part)} frames{taken} to {', '.join(map(str, paths.values()))}")
    return 0


def _say_who_is_untracked(path: str, frames: Sequence[PoseFrame]) -> None:
    count = sum(len(frame.untracked.intersection(frame.track_ids.tolist())) for frame in frames)
    if count:
        print(
            f"{path}: {count} of {sum(map(len, frames))} poses are of people who are not followed: "
            "their numbers do not say who is who (retrack gives new ones)"
        )


class Result(NamedTuple):
    """One video of an input."""

    source: str
    video: str

    @property
    def whole_name(self) -> str:
        """The video's name without folders, or the input's without ending."""
        return Path(self.video).name or Path(self.source).stem

    @property
    def short_name(self) -> str:
        """The name without an ending that is a video's or a picture's: another point is a part of
        the name."""
        from video_pose.inference.inputs import is_picture, is_video

        name = self.whole_name
        has_ending = self.video and (is_video(name) or is_picture(name))
        return (Path(name).stem if has_ending else "") or name


def plan_results(
    args: argparse.Namespace, results: Sequence[Result]
) -> dict[Result, tuple[str, dict[str, Path]]]:
    """Name and files of every result, before the first is written.

    Names are short ones; where two videos share one, as clip.mp4 and clip.avi do, whole ones.

    Raises:
        ValueError: as `convert_files`.
    """
    from video_pose.inference.writers import result_paths

    shared = Counter(result.short_name.lower() for result in results)
    inputs = {os.path.realpath(path): path for path in args.inputs}
    taken: dict[str, Result] = {}
    planned = {}
    for result in results:
        short = result.short_name
        name = short if shared[short.lower()] == 1 else result.whole_name
        paths = result_paths(args.format, args.output, name)
        for path in paths.values():
            # File systems may not tell cases apart.
            other = taken.setdefault(str(path).lower(), result)
            if other != result:
                raise ValueError(
                    f"{path} would hold both video {other.video!r} of {other.source} and video "
                    f"{result.video!r} of {result.source}: convert each to an --output of its own"
                )
            replaced = inputs.get(os.path.realpath(path), result.source)
            if replaced != result.source:
                raise ValueError(f"{path} would overwrite another input: choose another --output")
            if path.exists() and not args.overwrite:
                raise ValueError(f"{path} exists: choose another --output, or --overwrite")
        planned[result] = name, paths
    return planned


def completed(args: argparse.Namespace, frames: Iterable[PoseFrame]) -> list[PoseFrame]:
    """The frames with the sizes that the arguments name, and with their times where a frame has
    none."""
    import numpy as np

    from video_pose.inference.frames import is_timed

    fps = args.fps or _DEFAULT_FPS
    found = [frame if is_timed(frame) else replace(frame, time=frame.index / fps)
             for frame in frames]  # fmt: skip
    if args.size is not None:
        width, height = args.size
        picture = np.broadcast_to(np.zeros(3, np.uint8), (height, width, 3))
        found = [replace(frame, image=picture) for frame in found]
    return found


def with_joints(frame: PoseFrame, skeleton: str) -> PoseFrame:
    """The frame's people with the joints of a named skeleton, matched by name.

    Raises:
        ValueError: no such skeleton, or it shares no joint with the frame's.
    """
    import numpy as np

    from video_pose.skeleton import JOINT_SETS, match_joints

    if skeleton not in JOINT_SETS:
        raise ValueError(f"--skeleton {skeleton!r}: choose from {', '.join(JOINT_SETS)}")
    joints = JOINT_SETS[skeleton]
    match = match_joints(frame.joint_names, joints.names, joints.equivalents, partial=True)
    there = np.isfinite(frame.keypoints).all(axis=2, keepdims=True)
    poses = match.apply(np.where(there, frame.keypoints, 0))
    poses[poses[..., 2] <= 0] = np.nan
    chances = frame.probabilities
    if chances is not None:
        chances = chances[:, list(match.index)]
        # Of a point between joints nothing is known.
        chances[:, [*match.absent, *(joint.target for joint in match.derived)]] = np.nan
    return replace(
        frame,
        joint_names=tuple(joints.names),
        keypoints=poses.astype(np.float32),
        probabilities=chances,
    )


def write(
    args: argparse.Namespace, frames: list[PoseFrame], paths: dict[str, Path], name: str
) -> None:
    """Write one video's frames in all formats; nothing is left of them if one fails.

    Raises:
        ValueError: frames whose joints are others than the first frame's, or as the formats say.
    """
    from video_pose.inference.frames import mean_rate
    from video_pose.inference.writers import Recording, writing_results
    from video_pose.skeleton import connect

    names = frames[0].joint_names
    for frame in frames:
        if frame.joint_names != names:
            raise ValueError(
                f"{name}: frame {frame.index} has the joints {list(frame.joint_names)}, frame "
                f"{frames[0].index} has {list(names)}: expected the same on all frames"
            )
    lines = [(names.index(a), names.index(b)) for a, b, _ in connect(names)]
    recording = Recording(
        name,
        names,
        mean_rate(frames) or args.fps or _DEFAULT_FPS,
        "",
        args.table or ("wide" if args.angles else "long"),
        args.angles,
        any(frame.probabilities is not None for frame in frames),
        connections=tuple(lines),
    )
    with writing_results(paths, recording, beside=True) as writers:
        for frame in frames:
            for writer in writers:
                writer.write(frame)
