"""Files that poses are written to, by format name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from video_pose.inference.writers.coco import CocoResultsWriter, PoseTrackWriter
from video_pose.inference.writers.tables import (
    COLUMNS,
    CsvWriter,
    JsonLinesWriter,
    ParquetWriter,
    PoseWriter,
    table_rows,
)

__all__ = [
    "COLUMNS",
    "FORMATS",
    "CocoResultsWriter",
    "CsvWriter",
    "JsonLinesWriter",
    "ParquetWriter",
    "PoseTrackWriter",
    "PoseWriter",
    "check_formats",
    "open_writers",
    "table_rows",
]

# Name -> ending of the file and what writes it, called with the path and the video's name.
_WRITERS: dict[str, tuple[str, Callable[[Path, str], PoseWriter]]] = {
    "jsonl": (".jsonl", lambda path, video: JsonLinesWriter(path)),
    "csv": (".csv", lambda path, video: CsvWriter(path)),
    "parquet": (".parquet", lambda path, video: ParquetWriter(path)),
    "coco": (".coco.json", lambda path, video: CocoResultsWriter(path)),
    "posetrack": (".posetrack.json", PoseTrackWriter),
}
FORMATS = tuple(_WRITERS)


def check_formats(formats: Sequence[str]) -> None:
    """Raise ValueError for a format that there is not."""
    unknown = [name for name in formats if name not in _WRITERS]
    if unknown:
        raise ValueError(f"format {unknown[0]!r}: choose from {', '.join(FORMATS)}")


def open_writers(formats: Sequence[str], folder: str | Path, video: str) -> list[PoseWriter]:
    """Create ``folder``/``video`` with each format's ending.

    Raises:
        ValueError: an unknown format, a missing package, or a file that cannot be written.
    """
    check_formats(formats)
    writers: list[PoseWriter] = []
    for name in formats:
        ending, make = _WRITERS[name]
        path = Path(folder) / f"{video}{ending}"
        try:
            writers.append(make(path, video))
        except OSError as error:
            raise ValueError(f"cannot write {path}: {error.strerror}") from error
    return writers
