"""Convert stored poses from one format to another, without running a network.

  convert out/video.csv --output converted/ --format sleap nwb --fps 30
  convert out/video.jsonl --output converted/ --format csv --table wide --angles
  convert poses/openpose_folder --output converted/ --format trc --skeleton coco

Inputs are tables (jsonl, csv, parquet), COCO datasets, PoseTrack18, OpenPose folders, TRC, C3D,
DeepLabCut, SLEAP and NWB files, known by their endings. Joints go by name; --skeleton names another
set of joints: what it lacks is left out, what can be computed is, what is missing stays empty.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

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
    add("--fps", type=float, help="of inputs without times (default 25)")
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
        ValueError: an input cannot be read, or a format lacks something. FileNotFoundError: an
            input is missing.
    """
    from video_pose.inference.writers import check_formats, read_poses, result_paths
    from video_pose.video_io.writing import check_writable

    check_formats(args.format)
    check_writable(args.output)
    if args.fps is not None and not 0 < args.fps < math.inf:
        raise ValueError(f"--fps {args.fps}: expected a number above 0")
    for path in args.inputs:
        frames = read_poses(path, args.source)
        if not frames:
            raise ValueError(f"{path}: it has no frames")
        for video in dict.fromkeys(frame.video for frame in frames):
            part = [frame for frame in frames if frame.video == video]
            name = Path(video).stem if video else Path(path).stem
            paths = result_paths(args.format, args.output, name)
            existing = [str(place) for place in paths.values() if place.exists()]
            if existing and not args.overwrite:
                raise ValueError(f"{existing[0]} exists: choose another --output, or --overwrite")
            write(args, change(completed(args, part)), paths, name)
            print(f"{path}: {len(part)} frames to {', '.join(map(str, paths.values()))}")
    return 0


def completed(args: argparse.Namespace, frames: Iterable[PoseFrame]) -> list[PoseFrame]:
    """The frames with the times and sizes that the arguments name."""
    import numpy as np

    found = list(frames)
    fps = args.fps or _DEFAULT_FPS
    if args.fps is not None or any(not math.isfinite(frame.time) for frame in found):
        found = [replace(frame, time=frame.index / fps) for frame in found]
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
    return replace(frame, joint_names=tuple(joints.names), keypoints=poses.astype(np.float32))


def write(
    args: argparse.Namespace, frames: list[PoseFrame], paths: dict[str, Path], name: str
) -> None:
    """Write one video's frames in all formats; nothing is left of them if one fails.

    Raises:
        ValueError: frames whose joints are others than the first frame's, or as the formats say.
    """
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
    times = [frame.time for frame in frames]
    span = frames[-1].index - frames[0].index
    rate = span / (times[-1] - times[0]) if span and times[-1] > times[0] else args.fps
    recording = Recording(
        name,
        names,
        round(rate or _DEFAULT_FPS, 6),
        "",
        args.table or ("wide" if args.angles else "long"),
        args.angles,
        connections=tuple(lines),
    )
    with writing_results(paths, recording, beside=True) as writers:
        for frame in frames:
            for writer in writers:
                writer.write(frame)
