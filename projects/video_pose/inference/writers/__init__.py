"""Files that poses are written to and read from, by format name; a plugin may add to `WRITERS`."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from video_pose.data.datasets.tracks import note, noted
from video_pose.files import naming
from video_pose.inference.frames import PoseFrame
from video_pose.inference.writers.coco import (
    CocoDatasetWriter,
    CocoResultsWriter,
    PoseTrackWriter,
    read_coco,
)
from video_pose.inference.writers.openpose import OpenPoseWriter, read_openpose
from video_pose.inference.writers.recordings import (
    C3dWriter,
    DeepLabCutWriter,
    NwbWriter,
    SleapWriter,
    TrcWriter,
    read_c3d,
    read_deeplabcut,
    read_nwb,
    read_sleap,
    read_trc,
)
from video_pose.inference.writers.tables import (
    COLUMNS,
    CsvWriter,
    JsonLinesWriter,
    ParquetWriter,
    PoseWriter,
    Recording,
    read_table,
    table_columns,
    table_rows,
    to_dataframe,
)
from video_pose.plugins import WRITERS

# Bytes; a row of a wide table has about 5,000 with 133 joints.
_LONGEST_LINE = 1 << 20
_LINES = (".jsonl", ".csv")

__all__ = [
    "COLUMNS",
    "WRITERS",
    "Format",
    "JsonLinesWriter",
    "PoseWriter",
    "Recording",
    "check_formats",
    "format_of",
    "open_writers",
    "read_poses",
    "result_paths",
    "table_columns",
    "table_rows",
    "to_dataframe",
    "writing_results",
]


@dataclass(frozen=True)
class Format:
    """An entry of `WRITERS`.

    Attributes:
        ending: of the file, or folder, after the video's name.
        open: makes the writer of a path and a recording.
        about: what it is, in a few words. read: the frames of a path, where it can be read.
        is_table: whether it goes by the recording's ``table`` and ``angles``; of a plugin's format
            nothing is known, so that the choice is left to it.
    """

    ending: str
    open: Callable[[Path, Recording], PoseWriter]
    about: str = ""
    read: Callable[[Path], list[PoseFrame]] | None = None
    is_table: bool = True


for _name, _format in {
    "jsonl": Format(".jsonl", JsonLinesWriter, "JSON Lines table", read_table),
    "csv": Format(".csv", CsvWriter, "table", read_table),
    "parquet": Format(".parquet", ParquetWriter, "table", read_table),
    "coco": Format(".coco.json", CocoResultsWriter, "COCO results"),
    "coco_dataset": Format(".coco_dataset.json", CocoDatasetWriter, "COCO dataset", read_coco),
    "posetrack": Format(".posetrack.json", PoseTrackWriter, "PoseTrack18", read_coco),
    "openpose": Format("_openpose", OpenPoseWriter, "OpenPose BODY_25 folder", read_openpose),
    "openpose18": Format(
        "_openpose18",
        partial(OpenPoseWriter, joints=18),
        "OpenPose COCO folder",
        partial(read_openpose, joints=18),
    ),
    "trc": Format("_trc", TrcWriter, "TRC, a file a person", read_trc),
    "c3d": Format("_c3d", C3dWriter, "C3D, a file a person", read_c3d),
    "dlc": Format(".dlc.csv", DeepLabCutWriter, "DeepLabCut CSV", read_deeplabcut),
    "dlc_h5": Format(
        ".dlc.h5", partial(DeepLabCutWriter, hdf=True), "DeepLabCut HDF5", read_deeplabcut
    ),
    "sleap": Format(".slp", SleapWriter, "SLEAP", read_sleap),
    "nwb": Format(".nwb", NwbWriter, "NWB with ndx-pose", read_nwb),
}.items():
    WRITERS.add(_name)(replace(_format, is_table=_format.read is read_table))


def check_formats(formats: Sequence[str]) -> None:
    """Raise ValueError for a format that there is not, or that is named twice."""
    for name in formats:
        WRITERS.check(name)
    if len(set(formats)) < len(formats):
        raise ValueError(f"format: named twice: {' '.join(formats)}")


def check_table_options(formats: Sequence[str], table: str, angles: bool) -> None:
    """Raise ValueError for ``--table`` ("": not given) or ``--angles`` where no format is a
    table."""
    if (table or angles) and not any(WRITERS.get(kind).is_table for kind in formats):
        option = "--angles" if angles else f"--table {table}"
        named = f"--format {' '.join(formats)}" if formats else "a drawn video or picture alone"
        raise ValueError(f"{option} has no effect with {named}: it is of jsonl, csv and parquet")


def result_paths(formats: Sequence[str], folder: str | Path, name: str) -> dict[str, Path]:
    """Format -> file, or folder, that a video's results go to."""
    check_formats(formats)
    return {kind: Path(folder) / f"{name}{WRITERS.get(kind).ending}" for kind in formats}


def open_writers(
    formats: Sequence[str], folder: str | Path, recording: Recording, name: str = ""
) -> list[PoseWriter]:
    """Create ``folder``/``name`` with each format's ending.

    Args:
        name: of the files; default the recording's.

    Raises:
        ValueError: an unknown format, a missing package, or a file that cannot be written.
    """
    paths = result_paths(formats, folder, name or recording.name)
    return [_open_writer(kind, path, recording, path) for kind, path in paths.items()]


def _open_writer(kind: str, path: Path, recording: Recording, name: Path) -> PoseWriter:
    """``name``: of the file in messages."""
    try:
        return _NamingWriter(WRITERS.get(kind).open(path, recording), path, name)
    except OSError as error:
        raise ValueError(f"cannot write {name}: {error.strerror}") from error


class _NamingWriter:
    """A writer whose errors (no space is left, the folder is gone) name its file, once. Tables of
    lines then end with their last whole one."""

    def __init__(self, writer: PoseWriter, path: Path, name: Path) -> None:
        self._writer, self._path, self._name = writer, path, name
        self._failed = False

    def write(self, frame: PoseFrame) -> None:
        with self._naming():
            self._writer.write(frame)

    def close(self) -> None:
        if self._failed:
            self._give_up()
            return
        try:
            with self._naming():
                self._writer.close()
        except OSError:
            self._give_up()
            raise

    def _give_up(self) -> None:
        with contextlib.suppress(OSError):  # it has been said
            self._writer.close()
        if self._path.suffix in _LINES and self._path.is_file():
            _cut_to_whole_lines(self._path)

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        try:
            with naming(self._name):
                yield
        except OSError:
            self._failed = True
            raise


def _cut_to_whole_lines(path: Path) -> None:
    with open(path, "r+b") as file:
        start = max(0, path.stat().st_size - _LONGEST_LINE)
        file.seek(start)
        file.truncate(start + file.read().rfind(b"\n") + 1)


@contextlib.contextmanager
def writing_results(
    paths: dict[str, Path], recording: Recording, *, beside: bool
) -> Iterator[list[PoseWriter]]:
    """Writers for the block; afterwards the files are complete.

    Args:
        paths: as `result_paths` gives them.
        beside: write beside the paths and move there at the end, so that whatever was there stays
            until the block has ended well. Otherwise what was written survives an error or a kill.

    Raises:
        ValueError: a file cannot be written.
    """
    places = {kind: _partial(path) if beside else path for kind, path in paths.items()}
    writers: list[PoseWriter] = []
    try:
        with contextlib.ExitStack() as stack:
            for kind, place in places.items():
                writers.append(_open_writer(kind, place, recording, paths[kind]))
                stack.callback(writers[-1].close)
            yield writers
        if beside:
            for kind, path in paths.items():
                with naming(path):
                    _take_place(places[kind], path)
    finally:
        if beside:
            for place in places.values():
                for left in (place, Path(f"{place}.parts")):
                    _remove(left)


def _partial(path: Path) -> Path:
    return path.with_name(f".partial-{os.getpid()}-{path.name}")


def _take_place(new: Path, path: Path) -> None:
    """Move a file or folder to ``path``. A folder, which the system replaces only if it is empty,
    comes back if that fails."""
    if not path.is_dir():
        os.replace(new, path)
        return
    old = new.with_name(f"{new.name}.old")
    os.replace(path, old)
    try:
        os.replace(new, path)
    except OSError:
        os.replace(old, path)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):  # it is not there, or the disk became read-only
            path.unlink()


def format_of(path: str | Path) -> str:
    """The format that a path's ending stands for; of several the one with the longest ending.

    Raises:
        ValueError: none.
    """
    path_text = str(path).rstrip("/\\")
    text = path_text.lower()
    if text.endswith(".csv") and _starts_with(path_text, "scorer"):
        return "dlc"
    for suffix, kind in ((".trc", "trc"), (".c3d", "c3d"), (".h5", "dlc_h5")):
        if text.endswith(suffix):
            return kind
    found = [name for name in WRITERS if text.endswith(WRITERS.get(name).ending.lower())]
    is_folder = os.path.isdir(path_text)
    if is_folder and not found and any(Path(path_text).glob("*_keypoints.json")):
        return "openpose"
    if text.endswith(".json") and not found:
        return "coco_dataset"
    if not found:
        endings = ", ".join(f"{WRITERS.get(name).ending} ({name})" for name in WRITERS)
        raise ValueError(f"{path}: no known ending of poses: expected {endings}")
    return max(found, key=lambda name: len(WRITERS.get(name).ending))


def _starts_with(path: str, word: str) -> bool:
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read(len(word)) == word
    except (OSError, UnicodeDecodeError):
        return False


def read_poses(path: str | Path, kind: str = "") -> list[PoseFrame]:
    """The frames of a file or folder of poses, each video's in order; they have no pictures.

    Fields that are not read, and what was mended, are counted in a warning.

    Args:
        kind: its format; default by the ending, see `format_of`.

    Raises:
        FileNotFoundError: nothing is there. ValueError: it cannot be read, a video has a frame
            twice or below 0, or a frame two people of one track; names file and place.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"no such file or folder of poses: {path}")
    kind = kind or format_of(path)
    read = WRITERS.get(kind).read
    if read is None:
        raise ValueError(f"{path}: {kind} cannot be read back: convert a table or a COCO dataset")
    try:
        with noted(str(path)):
            return _in_order(path, read(Path(path)))
    except Exception as error:  # whatever the bytes of a stranger's file lead to
        is_one_line = "\n" not in str(error)
        if is_one_line and str(path) in str(error) and isinstance(error, ValueError | OSError):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: no poses can be read from it as {kind}: {reason}") from error


def _in_order(path: str | Path, frames: Sequence[PoseFrame]) -> list[PoseFrame]:
    """The frames of each video by number; raises as `read_poses`."""
    videos: dict[str, dict[int, PoseFrame]] = {}
    for frame in frames:
        where = f"{path}: frame {frame.index} of video {frame.video!r}"
        if frame.index < 0:
            raise ValueError(f"{where}: expected a number from 0")
        if videos.setdefault(frame.video, {}).setdefault(frame.index, frame) is not frame:
            raise ValueError(f"{where} is there twice")
        tracks = frame.track_ids.tolist()
        if len(set(tracks)) < len(tracks):
            twice = next(track for track in tracks if tracks.count(track) > 1)
            raise ValueError(f"{where} has two people of track {twice}")
    _note_normalised(frames)
    return [found[index] for found in videos.values() for index in sorted(found)]


def _note_normalised(frames: Sequence[PoseFrame]) -> None:
    """Say so where all joints of a file lie in its first pixel."""
    points = [pose[..., :2].ravel() for pose in (frame.keypoints for frame in frames)]
    joined = np.concatenate([*points, np.zeros(0)])
    known = joined[np.isfinite(joined)]
    # Numbers from 0 to 1, and half a pixel more, where they were taken for pixel indices.
    if len(known) > 2 and 0 <= known.min() and known.max() <= 1.5:
        note("poses with all joints between 0 and 1: px are expected", sum(map(len, frames)))
