"""Poses as tables: one row per frame, person and joint, written as they come.

A frame without people has one row whose track, joint and so on are empty.
"""

from __future__ import annotations

import csv
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from video_pose.files import replacing
from video_pose.inference.frames import PoseFrame

COLUMNS = ("video", "frame", "time", "track", "joint", "x", "y", "score")
# What was written longer ago than this survives a kill.
FLUSH_SECONDS = 0.5

Row = tuple[str, int, float, int | None, str | None, float | None, float | None, float | None]


class PoseWriter(Protocol):
    """Takes the frames of one video in order."""

    def write(self, frame: PoseFrame) -> None:
        """Append a frame."""

    def close(self) -> None:
        """Finish the file."""


def table_rows(frame: PoseFrame) -> Iterator[Row]:
    """The rows of one frame, in the order of `COLUMNS`; time in seconds, x and y in image pixels.

    A person of a model without joints has one row with the person's score.
    """
    head = (frame.video, frame.index, round(float(frame.time), 6))
    if not len(frame):
        yield (*head, None, None, None, None, None)
    for number, pose, score in zip(frame.track_ids.tolist(), frame.keypoints, frame.scores):
        if not len(pose):
            yield (*head, number, None, None, None, round(float(score), 5))
        for name, (x, y, confidence) in zip(frame.joint_names, pose.tolist()):
            yield (*head, number, name, _number(x, 4), _number(y, 4), _number(confidence, 5))


def _number(value: float, digits: int) -> float | None:
    return round(value, digits) if math.isfinite(value) else None


class Flusher:
    """Tells when a file is to be flushed."""

    def __init__(self) -> None:
        self._last = time.monotonic()

    def is_due(self) -> bool:
        """True once `FLUSH_SECONDS` have passed since it was last true."""
        now = time.monotonic()
        if now - self._last < FLUSH_SECONDS:
            return False
        self._last = now
        return True


class JsonLinesWriter:
    """One JSON object per row, with the keys `COLUMNS`; what is empty is null."""

    def __init__(self, path: str | Path) -> None:
        """Create ``path``, or write to standard output for "-"."""
        self._file = open(1, "w", closefd=False) if path == "-" else open(path, "w")
        self._flusher = Flusher()

    def write(self, frame: PoseFrame) -> None:
        for row in table_rows(frame):
            self._file.write(json.dumps(dict(zip(COLUMNS, row))) + "\n")
        if self._flusher.is_due():
            self._file.flush()

    def close(self) -> None:
        self._file.close()


class CsvWriter:
    """Comma-separated, with a header; what is empty is the empty string."""

    def __init__(self, path: str | Path) -> None:
        self._file = open(path, "w", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(COLUMNS)
        self._flusher = Flusher()

    def write(self, frame: PoseFrame) -> None:
        self._writer.writerows(table_rows(frame))
        if self._flusher.is_due():
            self._file.flush()

    def close(self) -> None:
        self._file.close()


class ParquetWriter:
    """A Parquet file (package ``pyarrow``).

    The format is readable only when it is complete. Until then the rows are in the folder
    ``<path>.parts``, a data set of small files that survives a kill and that pyarrow and pandas
    read as well; at the end it becomes the one file.
    """

    def __init__(self, path: str | Path) -> None:
        """Raises ValueError if ``pyarrow`` is not installed."""
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise ValueError("the format parquet needs the package pyarrow") from error
        self._parquet: Any = pyarrow.parquet
        self._table: Any = pyarrow.Table
        text, real = pyarrow.string(), pyarrow.float64()
        types = (text, pyarrow.int64(), real, pyarrow.int64(), text, real, real, real)
        self._schema = pyarrow.schema(list(zip(COLUMNS, types)))
        self._path = Path(path)
        self._parts = Path(f"{path}.parts")
        self._parts.mkdir(exist_ok=True)
        for old in self._parts.glob("*.parquet"):
            old.unlink()
        self._rows: list[Row] = []
        self._count = 0
        self._flusher = Flusher()

    def write(self, frame: PoseFrame) -> None:
        self._rows.extend(table_rows(frame))
        if self._flusher.is_due():
            self._write_part()

    def _write_part(self) -> None:
        columns = zip(*self._rows) if self._rows else ([] for _ in COLUMNS)
        table = self._table.from_pydict(
            {name: list(column) for name, column in zip(COLUMNS, columns)}, schema=self._schema
        )
        with replacing(self._parts / f"part-{self._count:06d}.parquet") as partial:
            self._parquet.write_table(table, partial)
        self._rows, self._count = [], self._count + 1

    def close(self) -> None:
        self._write_part()
        parts = sorted(self._parts.glob("*.parquet"))
        with replacing(self._path) as partial:
            with self._parquet.ParquetWriter(partial, self._schema) as writer:
                for part in parts:
                    writer.write_table(self._parquet.read_table(part, partitioning=None))
        for part in parts:
            part.unlink()
        self._parts.rmdir()
