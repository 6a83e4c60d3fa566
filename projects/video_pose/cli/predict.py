"""Find the poses of people in videos, image folders and camera streams, and draw and write them.

  predict --input video.mp4 --output out/
  predict --config-file C.yaml --input 'frames/*.png' --output out/ --opts MODEL.WEIGHTS w.pth
  predict --webcam --format csv coco --output out/

Each input gets OUTPUT/NAME.mp4 and a table in each format. Without --output, the rows are printed
as JSON Lines. The exit status is 0 only if all inputs could be read to their end.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

from video_pose.cli.main import USER_ERRORS, report_error

if TYPE_CHECKING:
    from video_pose.inference import VideoPosePredictor
    from video_pose.inference.sources import FrameSource
    from video_pose.inference.writers import PoseWriter


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Detectron2's demo arguments and those of video."""
    add = parser.add_argument
    add(
        "--config-file", metavar="FILE",
        help="of any of the models; default: the model that ships with the package",
    )  # fmt: skip
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--input", nargs="+", metavar="PATH",
        help="videos, folders, glob patterns; several image files are one sequence",
    )  # fmt: skip
    source.add_argument("--video-input", metavar="FILE", help="a video file or URL")
    source.add_argument(
        "--webcam", nargs="?", const=0, type=int, metavar="N", help="camera N (default 0)"
    )
    add("--output", metavar="DIR", help="folder for videos and tables")
    add("--confidence-threshold", type=float, default=0.5, help="of detections (default .5)")
    add(
        "--region", metavar="NAME", default="",
        help="where people are looked for: frame, box, pose or detector",
    )  # fmt: skip
    add("--box", nargs=4, type=float, metavar=("X0", "Y0", "X1", "Y1"), help="of one person, px")
    add(
        "--detector", default="", metavar="FILE",
        help="Detectron2 config with a person class; default: the one that ships with the package, "
        "for models trained on people's boxes",
    )  # fmt: skip
    add("--detector-opts", nargs="+", default=[], metavar="KEY VALUE", help="of its config")
    add("--detect-every", type=int, default=1, metavar="N", help="frames between detections")
    add(
        "--tracker", default="auto", metavar="NAME",
        help="auto (default): ByteTrack where its package is installed (extra track), else iou",
    )  # fmt: skip
    add("--max-missed", type=float, default=1.0, metavar="S", help="memory of lost people, seconds")
    add("--cut-threshold", type=float, default=0.2, help="0 to 1; 0 never restarts (default .2)")
    add("--smooth", action="store_true", help="One-Euro smoothing of the joints")
    add(
        "--backend", default="torch", metavar="NAME",
        help="torch; onnx (exported at the start); or the folder of an exported model",
    )  # fmt: skip
    add(
        "--format", nargs="+", default=["jsonl"], metavar="NAME",
        help="jsonl (default) csv parquet coco posetrack",
    )  # fmt: skip
    add("--no-video", action="store_true", help="write tables only")
    add("--heatmaps", action="store_true", help="draw heatmaps")
    add("--no-masks", action="store_true", help="do not draw masks")
    add("--fps", type=float, help="of image sequences (default 25)")
    add("--opts", nargs=argparse.REMAINDER, default=[], help="config keys and values; comes last")


def build_predictor(args: argparse.Namespace) -> VideoPosePredictor:
    """The predictor that the arguments describe."""
    from video_pose.inference import PredictorSettings, VideoPosePredictor

    settings = PredictorSettings(
        region=args.region,
        box=None if args.box is None else tuple(args.box),
        detector=args.detector,
        detector_options=tuple(args.detector_opts),
        detect_every=args.detect_every,
        tracker=args.tracker,
        min_score=args.confidence_threshold,
        max_missed=args.max_missed,
        cut_threshold=args.cut_threshold,
        smooth=args.smooth,
        heatmaps=args.heatmaps,
        backend=args.backend,
    )
    return VideoPosePredictor.from_config(args.config_file, options=args.opts, settings=settings)


def list_sources(args: argparse.Namespace) -> list[str | int]:
    """What the user names, one by one."""
    if args.webcam is not None:
        return [args.webcam]
    if args.video_input is not None:
        return [args.video_input]
    return list(args.input)


def predict(
    args: argparse.Namespace, predictor: VideoPosePredictor, source: FrameSource, name: str
) -> None:
    """Predict, draw and write one source, frame by frame; what was written stays if it fails."""
    from tqdm import tqdm

    from video_pose.inference.writers import JsonLinesWriter, open_writers
    from video_pose.video_io.writing import VideoWriter
    from video_pose.visualization.people import draw_people

    with ExitStack() as stack:
        video = None
        if args.output is not None and not args.no_video:
            path = os.path.join(args.output, f"{name}.mp4")
            if os.path.exists(path) and _same_file(path, getattr(source, "path", "")):
                raise ValueError(f"{path} would overwrite the input: choose another --output")
            video = stack.enter_context(VideoWriter(path, source.fps))
        writers: list[PoseWriter]
        if args.output is None:
            writers = [JsonLinesWriter("-")]
        else:
            writers = open_writers(args.format, args.output, name)
        for writer in writers:
            stack.enter_context(closing(writer))
        results = predictor(source)
        for frame in tqdm(results, desc=name, total=source.num_frames, unit="frame"):
            for writer in writers:
                writer.write(frame)
            if video is not None:
                picture = draw_people(
                    frame,
                    predictor.connections,
                    heatmaps=args.heatmaps,
                    masks=not args.no_masks,
                )
                video.write(picture, frame.time)


def _same_file(path: str, other: str) -> bool:
    return os.path.exists(other) and os.path.samefile(path, other)


def run(args: argparse.Namespace) -> int:
    """Returns the exit status: 0, 1 for bad input or arguments, 130 after Ctrl-C."""
    from video_pose.engine.launch import keep_freed_memory
    from video_pose.inference import open_source
    from video_pose.inference.inputs import find_inputs
    from video_pose.inference.writers import check_formats
    from video_pose.video_io.writing import check_writable

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    keep_freed_memory()
    check_formats(args.format)
    if args.output is not None:
        check_writable(args.output)
    predictor = build_predictor(args)
    failed = False
    for item in find_inputs(list_sources(args)):
        try:
            predict(args, predictor, open_source(item.spec, args.fps), item.name)
            for problem in predictor.problems:
                failed = True
                print(f"error: {problem}", file=sys.stderr)
        except USER_ERRORS as error:
            failed = True
            report_error(error)
    return int(failed)
