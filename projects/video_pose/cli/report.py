"""Write a report that opens in a browser: of an evaluation, of two, or of a video's poses.

  report output/X/inference/sub_jhmdb_split1_test --output report.html
  report output/A output/B --dataset sub_jhmdb_split1_test --output compared.html --pictures
  report --poses out/clip.csv --overlay out/clip.mp4 --output clip.html

A run is a predictions.npz, a folder that holds one, or an OUTPUT_DIR. Two runs must be of the same
frames. The page needs no network; pictures of a dataset go into it with --pictures alone.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from video_pose.report.evaluation import ReadFrame

_DEFAULT_FPS = 25.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Runs or poses, and where the page goes."""
    add = parser.add_argument
    add("runs", nargs="*", type=Path, metavar="RUN", help="one evaluation, or two of a kind")
    add("--poses", type=Path, metavar="FILE", help="stored poses of one video instead")
    add("--output", required=True, type=Path, metavar="FILE", help="the page, .html")
    add("--dataset", help="where a run was evaluated on several")
    add("--pictures", action="store_true", help="frames of the dataset behind the worst clips")
    add("--calibration", type=Path, metavar="FILE", help="calibration.json of the model")
    add("--overlay", type=Path, metavar="FILE", help="video to show beside the poses")
    add("--fps", type=float, help="of the poses' video (default: by their times, else 25)")


def run(args: argparse.Namespace) -> int:
    """Write the page and say where; returns 0.

    Raises:
        ValueError: neither runs nor poses, or both.
    """
    if bool(args.runs) == bool(args.poses):
        raise ValueError("name one or two runs, or a file of poses by --poses")
    command = "video-pose report " + shlex.join(sys.argv[2:])
    if args.poses:
        _video(args, command)
    else:
        _evaluation(args, command)
    print(f"report: {args.output}")
    return 0


def _video(args: argparse.Namespace, command: str) -> None:
    from video_pose.inference.frames import is_timed, mean_rate
    from video_pose.inference.writers import read_poses
    from video_pose.report.video import write_video_report

    frames = read_poses(args.poses)
    fps = mean_rate(frames) if args.fps is None else args.fps
    if fps is None:
        fps = _DEFAULT_FPS
        if not any(map(is_timed, frames)):
            print(f"{args.poses}: its frames have no times: {fps:g} a second are taken (--fps)")
    write_video_report(
        args.output,
        frames,
        args.poses.stem,
        fps=fps,
        overlay=args.overlay,
        tables=[args.poses],
        command=command,
    )


def _evaluation(args: argparse.Namespace, command: str) -> None:
    from video_pose.evaluation.calibration import Calibration
    from video_pose.report.evaluation import write_evaluation_report

    write_evaluation_report(
        args.output,
        args.runs,
        args.dataset,
        command,
        _frame_reader(args) if args.pictures else None,
        Calibration.read(args.calibration) if args.calibration else None,
    )


def _frame_reader(args: argparse.Namespace) -> ReadFrame:
    """Reads frames of the registered dataset that the first run is of."""
    from detectron2.data import DatasetCatalog

    import video_pose  # noqa: F401  (registers the datasets)
    from video_pose.data.frame_reader import FrameReader
    from video_pose.evaluation.predictions import (
        find_predictions,
        read_predictions,
        require_registered,
    )

    name = str(read_predictions(find_predictions(args.runs[0], args.dataset))["dataset_name"])
    require_registered(name)
    tracks = {(str(t["video_id"]), str(t["track_id"])): t for t in DatasetCatalog.get(name)}
    reader = FrameReader(256 * 1024 * 1024, "BGR")
    return lambda video, track, frame: reader.read(tracks[video, track], [frame])[0]
