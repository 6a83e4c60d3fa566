"""Find the poses of people in videos, pictures and camera streams, and draw and write them.

  predict video.mp4 --output out/
  predict video.mp4 --output drawn.mp4 --start 1:30 --end 1:40
  predict clips/ 'more/*.mov' --output out/ --format csv coco_dataset --table wide
  predict --webcam --show
  predict video.mp4 --config-file C.yaml --output out/ --opts MODEL.WEIGHTS w.pth

Each video, and each folder of pictures, gets OUTPUT/NAME.mp4 and a file in each format, a photo
OUTPUT/NAME.jpg. With --photos each picture of a folder is a photo, and nobody is followed. Where
all are photos the packaged models look at each mirrored as well and at several sizes (not so:
--opts TEST.FLIP_STILLS False TEST.SCALES_STILLS "()" --detector-opts TEST.AUG.STILLS False).
Without --output, the rows are printed as JSON Lines. Nothing that exists is replaced without
--overwrite. A run that was cut off goes on with --resume: OUTPUT/NAME.resume holds what was done,
and is gone when NAME is. Which input has which NAME is kept in the cache folder. The exit status is
0 only if all inputs could be read to their end.
"""

from __future__ import annotations

import argparse
import glob
import logging
import os
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from video_pose.cli.jobs import (
    PHOTO_ENDINGS,
    Job,
    list_inputs,
    named_inputs,
    plan_jobs,
    remove_partial,
    taken_back,
)
from video_pose.cli.main import USER_ERRORS, report_error

if TYPE_CHECKING:
    import numpy as np

    from video_pose.inference import PoseFrame, VideoPosePredictor
    from video_pose.inference.inputs import Input
    from video_pose.inference.resume import Checkpoint
    from video_pose.inference.selection import Moment
    from video_pose.inference.sources import FrameSource
    from video_pose.inference.writers import PoseWriter, Recording
    from video_pose.video_io.writing import PictureWriter, VideoWriter
    from video_pose.visualization.overlay import LiveWindow

logger = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Detectron2's demo arguments and those of video."""
    add = parser.add_argument
    add("inputs", nargs="*", metavar="INPUT", help="videos, pictures, folders, quoted patterns")
    add("--input", nargs="+", default=[], metavar="PATH", help="the same, as in Detectron2's demo")
    add("--video-input", metavar="FILE", help="a video file or URL")
    add("--photos", action="store_true", help="each picture is a photo, and not part of a sequence")
    add("--webcam", nargs="?", const=0, type=int, metavar="N", help="camera N (default 0)")
    add_model_arguments(parser)
    add_part_arguments(parser)
    add_output_arguments(parser)
    parser.add_argument(
        "--opts", nargs=argparse.REMAINDER, default=[], help="config keys and values; comes last"
    )


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model looks for whom where."""
    model = parser.add_argument_group("model and people")
    add = model.add_argument
    add("--config-file", metavar="FILE", help="of any of the models; default: the packaged one")
    add("--device", metavar="NAME", help="cpu, cuda, cuda:1; default: cuda where there is one")
    add("--precision", default="auto", metavar="NAME", help="auto (default), float32, bfloat16")
    add(
        "--backend", metavar="NAME",
        help="auto, openvino, onnx, torch, or the folder of an export; default: TEST.BACKEND",
    )  # fmt: skip
    add("--trust-programs", action="store_true", help="load an export of .pt2: it can run any code")
    add(
        "--confidence-threshold", type=fraction, metavar="F",
        help="of detections (default .4 where poses are judged, too, else .5)",
    )  # fmt: skip
    add("--max-people", type=int, default=0, metavar="N", help="at most so many (0: everybody)")
    add(
        "--person-threshold", type=fraction, metavar="F",
        help="of poses; people with a lower score are not shown (default: the model's)",
    )  # fmt: skip
    add("--class", dest="class_name", default="", metavar="NAME", help="of those to find (person)")
    add("--joint-threshold", type=fraction, default=0.0, metavar="F", help="lower ones stay empty")
    add("--region", default="", metavar="NAME", help="where: frame, box, pose or detector")
    add("--box", nargs=4, type=float, metavar=("X0", "Y0", "X1", "Y1"), help="of one person, px")
    add("--detector", default="", metavar="FILE", help="Detectron2 config; default: the packaged")
    add("--detector-opts", nargs="+", default=[], metavar="KEY VALUE", help="of its config")
    add("--detect-every", type=int, default=1, metavar="N", help="frames between detections")
    add("--tracker", default="auto", metavar="NAME", help="auto (default), iou, bytetrack ...")
    add("--max-missed", type=float, default=1.0, metavar="S", help="memory of lost people, seconds")
    add(
        "--cut-threshold", type=fraction, default=0.2, metavar="F",
        help="0 to 1; 0 never restarts (default .2)",
    )  # fmt: skip
    add("--smooth", action="store_true", help="One-Euro smoothing of the joints")
    add_time_arguments(parser)


def add_time_arguments(parser: argparse.ArgumentParser, refiner: str = "auto") -> None:
    """Which later frames correct a pose; ``refiner``: the default."""
    add = parser.add_argument_group("over time").add_argument
    add("--offline", action="store_true", help="correct poses by the whole video (two passes)")
    add("--lag", type=int, metavar="N", help="correct poses by N later frames, and come so late")
    about = "smoothing" if not refiner else "the model's"
    add("--refiner", default=refiner, metavar="FILE", help=f"what corrects (default: {about})")
    add("--repair-sides", action="store_true", help="undo sudden exchanges of left and right")
    add("--max-gap", type=float, default=0.5, metavar="S", help="offline: fill in so long (.5 s)")
    add("--join-gap", type=float, default=2.0, metavar="S", help="offline: join tracks (2 s)")


def add_part_arguments(parser: argparse.ArgumentParser) -> None:
    """Which part of a source is read, and how patiently."""
    add = parser.add_argument_group("which part").add_argument
    add("--start", metavar="T", help="seconds of the video, 1:30, or frames: 250f")
    add("--end", metavar="T", help="the first that is left out")
    add("--step", metavar="T", help="every 2f: each second frame")
    add("--fps", type=float, help="of image sequences (default 25)")
    add("--timeout", type=float, metavar="S", help="of cameras and streams that give nothing")
    add("--reconnect", type=int, default=0, metavar="N", help="times to a stream")
    add(
        "--checkpoint-every", default="60", metavar="T",
        help="to go on from after a kill: seconds (default 60), or frames: 500f",
    )  # fmt: skip


def add_output_arguments(parser: argparse.ArgumentParser) -> None:
    """What is written where."""
    output = parser.add_argument_group("output")
    add = output.add_argument
    add("--output", metavar="PATH", help="folder for videos and tables, NAME.mp4, or NAME.jpg")
    add(
        "--format", nargs="+", metavar="NAME",
        help="jsonl (default), csv, parquet, coco, coco_dataset, posetrack, openpose, openpose18, "
        "trc, c3d, dlc, dlc_h5, sleap, nwb",
    )  # fmt: skip
    add("--table", metavar="KIND", help="long (default): a row a joint; wide: a row a person")
    add("--angles", action="store_true", help="joint angles, segment lengths in the wide table")
    add("--report", action="store_true", help="also a page about the people, NAME.html")
    add("--overwrite", action="store_true", help="replace results that exist")
    add("--resume", action="store_true", help="go on where a run was cut off; skip what is done")
    add("--show", action="store_true", help="show the drawn frames in a window; q ends")
    add("--no-video", action="store_true", help="write tables only")
    add("--heatmaps", action="store_true", help="draw heatmaps")
    add("--no-masks", action="store_true", help="do not draw masks")


def fraction(text: str) -> float:
    """A number of 0 to 1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 0 to 1")
    return value


def build_predictor(args: argparse.Namespace, stills: bool = False) -> VideoPosePredictor:
    """The predictor that the arguments describe; ``stills``: all that it is given are photos."""
    from video_pose.inference import PredictorSettings, VideoPosePredictor

    settings = PredictorSettings(
        region=args.region,
        box=None if args.box is None else tuple(args.box),
        detector=args.detector,
        detector_options=tuple(args.detector_opts),
        class_name=args.class_name,
        detect_every=args.detect_every,
        person_threshold=args.person_threshold,
        max_people=args.max_people,
        tracker=args.tracker,
        min_score=args.confidence_threshold,
        max_missed=args.max_missed,
        cut_threshold=args.cut_threshold,
        smooth=args.smooth,
        offline=args.offline,
        lag=args.lag,
        refiner=args.refiner,
        repair_sides=args.repair_sides,
        max_gap=args.max_gap,
        join_gap=args.join_gap,
        heatmaps=getattr(args, "heatmaps", False),
        stills=stills,
        backend=args.backend or "",
        trust_programs=args.trust_programs,
    )
    options = [*device_options(args.device), "TEST.PRECISION", args.precision, *args.opts]
    return VideoPosePredictor.from_config(args.config_file, options=options, settings=settings)


def device_options(device: str | None) -> list[str]:
    """MODEL.DEVICE for ``--device``; none where it is left to the machine.

    Raises:
        ValueError: it is not there.
    """
    import torch

    if device is None:
        return []
    try:
        kind = torch.device(device).type
    except RuntimeError as error:
        raise ValueError(f"--device {device}: expected cpu, cuda or cuda:N") from error
    if kind == "cuda" and not torch.cuda.is_available():
        built = torch.version.cuda or "none: it is a build for CPUs"
        raise ValueError(
            f"--device {device}: PyTorch {torch.__version__} finds no GPU (its CUDA: {built}); "
            "leave --device out to run on the CPU"
        )
    return ["MODEL.DEVICE", device]


@dataclass
class Summary:
    """What a run did.

    Attributes:
        sources, frames, people: counts; people by number, in each source anew.
        files: that were written. failed: inputs, or parts of them, that were not read.
        resumed: frames that a run before this one had done. stopped: the source at which the user
            ended the run, or None.
    """

    sources: int = 0
    frames: int = 0
    people: int = 0
    files: list[Path] = field(default_factory=list)
    failed: int = 0
    resumed: int = 0
    stopped: Job | None = None
    start: float = field(default_factory=time.monotonic)

    def line(self, place: str) -> str:
        """One line for the user."""
        seconds = time.monotonic() - self.start
        rate = f" ({(self.frames - self.resumed) / seconds:.1f} frames/s)" if self.frames else ""
        before = f" ({self.resumed} done before)" if self.resumed else ""
        parts = [count_of(self.sources, "source"), count_of(self.frames, "frame") + before]
        parts += [count_of(self.people, "person", "people"), f"{seconds:.1f} s{rate}"]
        where = (
            f"{count_of(len(self.files), 'file')} in {place}" if self.files else "no file written"
        )
        where = str(self.files[0]) if len(self.files) == 1 else where
        failed = f"; {count_of(self.failed, 'error')}" if self.failed else ""
        return f"{', '.join(parts)}: {where}{failed}{self._where_stopped()}"

    def _where_stopped(self) -> str:
        if self.stopped is None or not any(path.exists() for path in self.stopped.paths):
            return ""
        more = ": the same command with --resume goes on" if self.stopped.is_begun else ""
        return f"; results of {self.stopped.item.name} are not whole{more}"


def count_of(number: int, one: str, many: str = "") -> str:
    """A number with the word that goes with it."""
    return f"{number} {one if number == 1 else many or one + 's'}"


def check(args: argparse.Namespace) -> None:
    """What a mistyped name needs no model for.

    Raises:
        ValueError: as `named_inputs`. FileNotFoundError: nothing of all that is named is there.
    """
    named = named_inputs(args)
    is_done = args.resume  # of a run before, perhaps, whose videos are gone
    if not is_done and all(isinstance(name, str) and _is_missing(name) for name in named):
        hint = f" (a camera is --webcam {named[0]})" if str(named[0]).isdecimal() else ""
        names = ", ".join(map(str, named))
        raise FileNotFoundError(f"no such file, folder or pattern: {names}{hint}")


def _is_missing(name: str) -> bool:
    """Whether it names a file or folder, and none is there."""
    is_place = "://" not in name and not name.startswith("camera:") and not glob.has_magic(name)
    return is_place and not os.path.exists(name)


def open_part(args: argparse.Namespace, item: Input) -> FrameSource:
    """The source, or the part of it that --start, --end and --step leave.

    Raises:
        FileNotFoundError, ValueError: it cannot be read.
    """
    from video_pose.inference import open_source
    from video_pose.inference.selection import Excerpt, Moment

    limits = {"timeout": args.timeout} if args.timeout is not None else {}
    source = open_source(item.spec, args.fps, reconnect=args.reconnect, **limits)
    texts = (args.start, args.end, args.step)
    start, end, step = (None if text is None else Moment.parse(text) for text in texts)
    return Excerpt(source, start, end, step) if any(texts) else source


def predict(
    args: argparse.Namespace,
    predictor: VideoPosePredictor,
    job: Job,
    summary: Summary,
    whole: bool = False,
) -> list[str]:
    """Predict, draw and write one source, frame by frame; returns what was wrong with its data.

    What was written stays if it fails, unless it takes the place of an earlier result, or ``whole``
    says that results appear only when they are complete.
    """
    from video_pose.inference.selection import keep_wanted
    from video_pose.visualization.overlay import LiveWindow

    source = open_part(args, job.item)
    begun = args.resume and job.is_begun
    checkpoint = open_checkpoint(args, predictor, job)
    resumed = 0 if checkpoint is None else checkpoint.count
    recording = recording_of(args, predictor, job, source)
    tracks: set[int] = set()
    seen: list[PoseFrame] = []
    before = summary.frames
    beside = whole or any(path.exists() for path in job.paths)
    with ExitStack() as stack:
        if not beside:
            stack.enter_context(taken_back(job, lambda: summary.frames == before))
        stack.enter_context(kept(checkpoint, beside and not begun))
        video, writers = open_outputs(args, job, source, recording, stack, beside)
        window = stack.enter_context(LiveWindow(job.item.name)) if args.show else None
        poses = predictor(source, checkpoint=None if args.heatmaps else checkpoint)
        for frame in poses if whole else with_progress(poses, source, job.item.name):
            frame = keep_wanted(frame, min_joint_score=args.joint_threshold)
            if whole:
                frame = replace(frame, video=job.item.name)
            summary.frames += 1
            if summary.frames == before + 1 and not beside:
                job.claim()
            tracks |= set(frame.track_ids.tolist())
            if job.report is not None:
                # A part of the picture would keep all of it alive.
                seen.append(replace(frame, image=frame.image[:0].copy(), heatmaps=None, masks=None))
            for writer in writers:
                writer.write(frame)
            if video is not None or window is not None:
                if not show(draw(args, predictor, frame), frame.time, video, window):
                    break
        if summary.frames == before:
            require_frames(args, job, poses.problems)
    require_folders(job.paths)
    if job.report is not None:
        report_on(job, seen, source.fps, predictor.mode)
    summary.people += len(tracks)
    summary.resumed += resumed
    summary.files += [path for path in job.paths if path.exists()]
    job.claim()
    if checkpoint is not None:
        checkpoint.remove()
    return poses.problems


def with_progress(
    poses: Iterable[PoseFrame], source: FrameSource, name: str
) -> Iterable[PoseFrame]:
    """``poses`` with a bar about them, where standard error is a terminal."""
    from tqdm import tqdm

    return tqdm(poses, desc=name, total=source.num_frames, unit="frame", disable=None)


def require_frames(args: argparse.Namespace, job: Job, problems: Sequence[str]) -> None:
    """Raise ValueError with the reason, where there is one, why a source gave no frame."""
    if problems:
        raise ValueError("; ".join(problems))
    if args.start or args.end:
        raise ValueError(f"{job.item.name}: no frame between --start and --end")


def require_folders(paths: Sequence[Path]) -> None:
    """Raise FileNotFoundError if the folder of a result is gone: a file that is open takes all that
    is written also after it was removed."""
    for path in paths:
        if not path.parent.is_dir():
            raise FileNotFoundError(f"cannot write {path}: its folder was removed meanwhile")


def show(
    picture: np.ndarray,
    time: float,
    video: VideoWriter | PictureWriter | None,
    window: LiveWindow | None,
) -> bool:
    """Put a drawn frame where it is wanted; whether the user wants more."""
    if video is not None:
        video.write(picture, time)
    return window is None or window.show(picture)


def sound_of(source: FrameSource, recording: Recording) -> str | None:
    """The file whose sound goes along with the frames, by their times; None where there is none."""
    if getattr(source, "restarts", 0):
        logger.warning(
            "%s: its sound, if any, does not go by the times of its frames: left out",
            recording.path,
        )
        return None
    return recording.path or None


def recording_of(
    args: argparse.Namespace, predictor: VideoPosePredictor, job: Job, source: FrameSource
) -> Recording:
    """What writers are told of a source."""
    from video_pose.inference.writers import Recording

    return Recording(
        job.item.name,
        predictor.joint_names,
        source.fps,
        str(getattr(source, "path", "")),
        args.table or ("wide" if args.angles else "long"),
        args.angles,
        predictor.calibrated,
        tuple((line[0], line[1]) for line in predictor.connections),
    )


def open_outputs(
    args: argparse.Namespace,
    job: Job,
    source: FrameSource,
    recording: Recording,
    stack: ExitStack,
    beside: bool,
) -> tuple[VideoWriter | PictureWriter | None, list[PoseWriter]]:
    """The overlay's writer, where one is wanted, and those of the poses; ``stack`` closes them.

    Args:
        beside: write beside the files, and move there at the end.
    """
    from video_pose.files import replacing
    from video_pose.inference.writers import JsonLinesWriter, writing_results
    from video_pose.video_io.writing import PictureWriter, VideoWriter

    video: VideoWriter | PictureWriter | None = None
    if job.video is not None:
        path = stack.enter_context(replacing(job.video)) if beside else job.video
        if job.video.suffix.lower() in PHOTO_ENDINGS:
            video = stack.enter_context(PictureWriter(path, name=str(job.video)))
        else:
            sound = sound_of(source, recording)
            writer = VideoWriter(path, recording.fps, audio=sound, name=str(job.video))
            video = stack.enter_context(writer)
    writers: list[PoseWriter] = []
    if args.output is None and not args.show:
        writers = [stack.enter_context(closing(JsonLinesWriter("-", recording)))]
    writers += stack.enter_context(writing_results(job.tables, recording, beside=beside))
    return video, writers


def open_checkpoint(
    args: argparse.Namespace, predictor: VideoPosePredictor, job: Job
) -> Checkpoint | None:
    """The checkpoint of a source, begun anew unless --resume; None where it can have none.

    Raises:
        ValueError: it is of another model, other choices or another file.
    """
    import shutil

    if job.checkpoint is None:
        return None
    if not args.resume:
        shutil.rmtree(job.checkpoint, ignore_errors=True)
    every = checkpoint_interval(args)
    checkpoint = predictor.checkpoint(
        job.checkpoint,
        job.item.files,
        f"{args.start} to {args.end}, step {args.step}, {args.fps} frames/s",
        seconds=every.seconds or 0.0,
        frames=every.frames or 0,
        pictures=job.video is not None or args.show,
    )
    if args.resume:
        remove_partial(job)
    return checkpoint


@contextmanager
def kept(checkpoint: Checkpoint | None, no_trace: bool) -> Iterator[None]:
    """After an error in the block, a checkpoint stays where it holds frames, or where it alone says
    that results are not whole. ``no_trace``: the block leaves no results then."""
    try:
        yield
    except BaseException:
        if checkpoint is not None and no_trace and checkpoint.count == 0:
            checkpoint.remove()
        raise


def checkpoint_interval(args: argparse.Namespace) -> Moment:
    """What --checkpoint-every says. Raises ValueError if it is no time, nor a number of frames."""
    from video_pose.inference.selection import Moment

    every = Moment.parse(args.checkpoint_every)
    if every.frames == 0:
        raise ValueError("--checkpoint-every 0f: expected 1f or more")
    return every


def report_on(job: Job, frames: Sequence[PoseFrame], fps: float, mode: str) -> None:
    """Write the page about one source, once its video and tables are complete.

    Args:
        mode: which frames a pose goes by, in words.
    """
    from video_pose.report.video import write_video_report

    assert job.report is not None
    write_video_report(
        job.report,
        frames,
        job.item.name,
        fps=fps,
        overlay=job.video,
        tables=list(job.tables.values()),
        cuts=[frame.index for frame in frames[1:] if frame.starts_shot],
        notes={"mode": mode},
        command="video-pose " + shlex.join(sys.argv[1:]),
    )


def draw(args: argparse.Namespace, predictor: VideoPosePredictor, frame: PoseFrame) -> Any:
    """The frame with the people on it, uint8 (H, W, 3) BGR."""
    from video_pose.visualization.overlay import draw_people

    return draw_people(
        frame,
        predictor.connections,
        heatmaps=args.heatmaps,
        masks=not args.no_masks,
        least_score=predictor.least_score,
    )


def run(args: argparse.Namespace) -> int:
    """Returns the exit status: 0, 1 for bad input or arguments."""
    from video_pose.engine.launch import keep_freed_memory
    from video_pose.inference.selection import Moment
    from video_pose.inference.writers import check_formats
    from video_pose.visualization.overlay import LiveWindow

    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    keep_freed_memory()
    check_formats(args.format or [])
    for text in filter(None, (args.start, args.end, args.step)):
        Moment.parse(text)
    checkpoint_interval(args)
    if args.resume and (args.overwrite or args.heatmaps):
        other = "--overwrite" if args.overwrite else "--heatmaps, which no checkpoint keeps"
        raise ValueError(f"--resume does not go with {other}: leave one of them out")
    if args.angles and args.table == "long":
        raise ValueError("--angles are columns of the wide table: --table wide")
    if args.show:
        LiveWindow("video-pose").close()  # where there is no display, say so first
    items = list_inputs(args)
    jobs = plan_jobs(args, items)
    if len(jobs) < len(items):
        print(f"{count_of(len(items) - len(jobs), 'source')} done before")
    if not jobs:
        return 0
    predictor = build_predictor(args, stills=all(item.is_photo for item in items))
    summary = Summary()
    try:
        for problem in run_jobs(args, predictor, jobs, summary):
            print(f"error: {problem}", file=sys.stderr)
            summary.failed += 1
    finally:
        print(summary.line(args.output or "."), file=sys.stdout if args.output else sys.stderr)
    return int(summary.failed > 0)


def run_jobs(
    args: argparse.Namespace, predictor: VideoPosePredictor, jobs: Sequence[Job], summary: Summary
) -> Iterator[str]:
    """Do all jobs; yields what went wrong, a line each, and goes on with the next.

    Raises:
        OSError: standard output takes nothing more.
    """
    for job in jobs:
        try:
            summary.sources += 1
            yield from predict(args, predictor, job, summary)
        except KeyboardInterrupt:
            summary.stopped = job
            raise
        except USER_ERRORS as error:
            if getattr(sys.stdout, "error", None):  # nor will it take the others' rows
                raise
            summary.failed += 1
            report_error(error)
