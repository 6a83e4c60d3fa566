"""What a command on videos and pictures opens, and which files each source gives: before a model is
loaded, and where a run before was cut off.
"""

from __future__ import annotations

import argparse
import glob
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from video_pose.inference.inputs import Input, Owners

logger = logging.getLogger(__name__)

VIDEO_ENDING, PHOTO_ENDINGS = ".mp4", (".jpg", ".png")
RESUME_ENDING = ".resume"
# Of tables and pages, besides those of the formats: not of folders.
_OTHER_ENDINGS = (".html", ".trc", ".c3d", ".tsv", ".xlsx", ".pdf")


@dataclass(frozen=True)
class Job:
    """One source and the files that it gives.

    Attributes:
        item: the source. video: the overlay, a picture for a photo, or None. tables: format ->
            path. report: the page about it, or None. checkpoint: the folder that a run cut off is
            gone on from, or None. owners: of the results' folder, or None. name: of the results.
    """

    item: Input
    video: Path | None
    tables: dict[str, Path]
    report: Path | None = None
    checkpoint: Path | None = None
    owners: Owners | None = None
    name: str = ""

    def claim(self) -> None:
        """Write down that the results are of this source."""
        if self.owners is not None:
            begun = [self.checkpoint] if self.checkpoint else []
            files = [path.name for path in (*self.paths, *begun)]
            self.owners.add(self.item, self.name, files)

    @property
    def is_begun(self) -> bool:
        """Whether a run of it was cut off."""
        return self.checkpoint is not None and self.checkpoint.exists()

    @property
    def paths(self) -> list[Path]:
        single = [path for path in (self.video, self.report) if path is not None]
        return [*single, *self.tables.values()]


def named_inputs(args: argparse.Namespace) -> list[str | int]:
    """Files, folders, patterns, addresses and cameras' numbers.

    Raises:
        ValueError: nothing is named, or a camera as well as files.
    """
    named: list[str | int] = [*args.inputs, *args.input]
    named += [args.video_input] if args.video_input else []
    if args.webcam is not None and named:
        raise ValueError("--webcam and files: name one of them")
    named += [args.webcam] if args.webcam is not None else []
    if not named:
        raise ValueError("no input: name videos, pictures, folders or patterns, or use --webcam")
    return named


def list_inputs(args: argparse.Namespace) -> list[Input]:
    """What to open, one by one.

    Raises:
        ValueError: nothing is named, or a camera as well as files. FileNotFoundError: a folder or
            pattern without videos and pictures.
    """
    from video_pose.inference.inputs import Owners, find_inputs

    named = named_inputs(args)
    if args.output is None or is_file_output(args.output):
        items = find_inputs(named, photos=args.photos)
    else:
        owners = Owners(args.output)
        taken = owners.inputs if args.resume else {}
        items = find_inputs(named, args.photos, [args.output], owners.files, taken)
    for item in items:
        if item.is_doubtful:
            logger.warning(
                "%s: its %d pictures are read as one sequence, in which people are followed, and "
                "seem to be photos: with --photos each is looked at by itself",
                item.name, len(item.files),
            )  # fmt: skip
    return items


def is_file_output(output: str) -> bool:
    """Whether --output is a video or a picture, and no folder.

    Raises:
        ValueError: it ends as a file of another kind.
    """
    from video_pose.inference.inputs import VIDEO_SUFFIXES
    from video_pose.inference.writers import WRITERS
    from video_pose.video_io.pictures import PICTURE_SUFFIXES

    if os.path.isdir(output):
        return False
    ending = Path(output).suffix.lower()
    if ending in (VIDEO_ENDING, *PHOTO_ENDINGS):
        return True
    tables = {Path("name" + WRITERS.get(name).ending).suffix for name in WRITERS}
    if ending and ending in {*VIDEO_SUFFIXES, *PICTURE_SUFFIXES, *tables, *_OTHER_ENDINGS}:
        raise ValueError(
            f"--output {output}: a file is a video ({VIDEO_ENDING}) or the picture of a photo "
            f"({', '.join(PHOTO_ENDINGS)}); tables go to a folder, by --format"
        )
    return False


def plan_jobs(args: argparse.Namespace, items: Sequence[Input]) -> list[Job]:
    """Which files each source gives, before the first is opened.

    Raises:
        ValueError: a file would replace an input, or one that exists without --overwrite; or
            --resume is asked for where nothing can be gone on with, or meets another source's
            results.
    """
    from video_pose.inference.inputs import Owners
    from video_pose.inference.writers import check_table_options, result_paths
    from video_pose.video_io.writing import check_writable

    if args.output is None:
        if args.format:
            raise ValueError("--format needs --output: without it rows are printed as JSON Lines")
        if args.report:
            raise ValueError("--report needs --output: it is a file")
        if args.resume:
            raise ValueError("--resume needs --output: what was done is kept there")
        return [Job(item, None, {}) for item in items]
    is_file = is_file_output(args.output)
    if is_file and (len(items) > 1 or args.no_video):
        kind = "video" if args.output.lower().endswith(VIDEO_ENDING) else "picture"
        raise ValueError(f"--output {args.output} is one {kind}: name a folder for {len(items)}")
    if is_file and not items[0].is_photo and not args.output.lower().endswith(VIDEO_ENDING):
        raise ValueError(f"--output {args.output}: {items[0].name} is no photo: name a folder")
    folder = os.path.dirname(args.output) or "." if is_file else args.output
    check_writable(folder)
    formats = args.format or ([] if is_file else ["jsonl"])
    check_table_options(formats, args.table or "", args.angles)
    owners = Owners(folder)
    jobs = []
    for item in items:
        name = Path(args.output).stem if is_file else item.name
        video = Path(args.output) if is_file else Path(folder, name + overlay_ending(item))
        tables = result_paths(formats, folder, name)
        page = Path(folder, f"{name}.html") if args.report else None
        # Cameras and streams give other frames the next time.
        kept = Path(folder, name + RESUME_ENDING) if item.files else None
        drawn = None if args.no_video else video
        jobs.append(Job(item, drawn, tables, page, kept, owners, name))
    if args.resume:
        jobs = [job for job in jobs if not is_done(job)]
    begun = [job for job in jobs if args.resume and job.is_begun]
    others = [job for job in jobs if job not in begun]
    check_outputs([path for job in begun for path in job.paths], items, True)
    try:
        check_outputs([path for job in others for path in job.paths], items, args.overwrite)
    except ValueError as error:
        if any(job.is_begun for job in others):
            raise ValueError(f"{error}; --resume goes on where a run was cut off") from error
        raise
    return jobs


def is_done(job: Job) -> bool:
    """Whether all files of a source are there, and no run of it was cut off.

    Raises:
        ValueError: they are there, of another source.
    """
    from video_pose.inference.inputs import is_other

    if job.is_begun or not all(path.exists() for path in job.paths):
        return False
    owner = job.owners.inputs.get(job.name.lower()) if job.owners is not None else None
    if is_other(owner, job.item):
        raise ValueError(
            f"{job.paths[0]} is of {owner}, and not of {job.item.identity}: choose another "
            "--output, or --overwrite in the place of --resume"
        )
    if owner != job.item.content:
        known = "which input it is of is not kept here" if owner is None else f"{owner} is gone"
        logger.warning("%s exists and is taken for done, by its name: %s", job.paths[0], known)
    return True


def overlay_ending(item: Input) -> str:
    """Of the file that shows a source with its people: a video, but for a photo."""
    return PHOTO_ENDINGS[0] if item.is_photo else VIDEO_ENDING


def remove_partial(job: Job) -> None:
    """Take away what a killed run left of a source beside its files."""
    for path in job.paths:
        name = glob.escape(path.name)
        for pattern in (f".partial-*-{name}*", f".{name}.*.tmp", f"{name}.parts"):
            for left in path.parent.glob(pattern):
                _remove(left)


def _remove(path: Path) -> None:
    """A file or folder, if it is there."""
    import shutil

    shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(True)


@contextmanager
def taken_back(job: Job, is_empty: Callable[[], bool]) -> Iterator[None]:
    """After an error in the block, files and checkpoint go if they hold no frame."""
    try:
        yield
    except BaseException:
        if is_empty():
            remove_partial(job)
            for path in filter(None, (*job.paths, job.checkpoint)):
                _remove(path)
        raise


def check_outputs(paths: Sequence[Path], items: Sequence[Input], overwrite: bool) -> None:
    """Refuse to write over an input, and over anything that exists unless ``overwrite``.

    Raises:
        ValueError: with the file's name.
    """
    existing = [path for path in paths if path.exists()]
    inputs = {
        _identity(file): file for item in items for file in item.files if os.path.exists(file)
    }
    for path in existing:
        if _identity(path) in inputs:
            raise ValueError(f"{path} would overwrite the input: choose another --output")
    if existing and not overwrite:
        more = f" and {len(existing) - 1} more" if len(existing) > 1 else ""
        raise ValueError(f"{existing[0]}{more} exists: choose another --output, or --overwrite")


def _identity(path: str | Path) -> tuple[int, int]:
    state = os.stat(path)
    return state.st_dev, state.st_ino
