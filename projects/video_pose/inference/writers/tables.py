"""Poses as tables: one row a person (wide) or a row a joint (long), written as they come.

A frame without people has one row: its track is -1, all that follows is empty. So a table has rows
for every frame, and its frame and track columns are whole numbers wherever it is read.

Shape letters: P persons, K joints. Coordinates are continuous image pixels, time is in seconds.
"""

from __future__ import annotations

import csv
import itertools
import json
import math
import os
import re
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from video_pose.data.datasets.tracks import note
from video_pose.inference.angles import MEASURES, measure_pose
from video_pose.inference.frames import PoseFrame

# Of every row. Boxes are corners, in image pixels.
HEAD = (
    "video", "frame", "time", "track", "person_score", "box_x0", "box_y0", "box_x1", "box_y1",
)  # fmt: skip
COLUMNS = (*HEAD, "joint", "x", "y", "score")
NOBODY = -1
TABLES = ("long", "wide")
# What was written longer ago than this survives a kill.
FLUSH_SECONDS = 0.5
# Of a Parquet file, in rows.
ROW_GROUP = 1 << 16

Row = tuple[Any, ...]


class PoseWriter(Protocol):
    """Takes the frames of one video in order."""

    def write(self, frame: PoseFrame) -> None:
        """Append a frame."""

    def close(self) -> None:
        """Finish the file."""


@dataclass(frozen=True)
class Recording:
    """What is known of a video before its first frame, and how a user wants its tables.

    Attributes:
        name: of the video, in the files that tell it.
        joint_names: K names. fps: mean rate, for formats without times.
        path: of the source, "" where there is none.
        table: "long" or "wide", see `table_columns`.
        angles: add joint angles and segment lengths to wide tables, see `inference.angles`.
        probabilities: add every joint's probability to be right, which a calibrated model gives.
        connections: lines between joints, as pairs of places in ``joint_names``.
    """

    name: str
    joint_names: tuple[str, ...] = ()
    fps: float = 25.0
    path: str = ""
    table: str = "long"
    angles: bool = False
    probabilities: bool = False
    connections: tuple[tuple[int, int], ...] = field(default=())

    def __post_init__(self) -> None:
        if self.table not in TABLES:
            raise ValueError(f"table {self.table!r}: choose from {', '.join(TABLES)}")
        if self.angles and self.table != "wide":
            raise ValueError("angles are columns of the wide table: choose table wide")


def table_columns(recording: Recording) -> tuple[str, ...]:
    """`COLUMNS`, or of the wide table `HEAD`, x, y and score of every joint, and the measures; with
    a probability after each score where the recording has them."""
    more = ("probability",) if recording.probabilities else ()
    if recording.table == "long":
        return (*COLUMNS, *more)
    parts = ("x", "y", "score", *more)
    joints = [f"{name}_{part}" for name in recording.joint_names for part in parts]
    return (*HEAD, *joints, *(MEASURES if recording.angles else ()))


def table_rows(frame: PoseFrame, recording: Recording) -> Iterator[Row]:
    """The rows of one frame, in the order of `table_columns`; what is empty is None.

    In the long table a person of a model without joints has one row.
    """
    start = (frame.video, frame.index, number(frame.time, 6))
    width = len(table_columns(recording))
    if not len(frame):
        yield (*start, NOBODY, *[None] * (width - len(start) - 1))
    for i, track in enumerate(frame.track_ids.tolist()):
        box = [number(value, 3) for value in frame.boxes[i].tolist()]
        head = (*start, track, number(frame.scores[i], 5), *box)
        pose = [_joint(values) for values in _values(frame, i, recording).tolist()]
        if recording.table == "wide":
            measures = []
            if recording.angles:
                found = measure_pose(frame.keypoints[i], frame.joint_names)
                measures = [number(found.get(name, math.nan), 3) for name in MEASURES]
            yield (*head, *(value for joint in pose for value in joint), *measures)
        elif pose:
            yield from ((*head, name, *joint) for name, joint in zip(frame.joint_names, pose))
        else:
            yield (*head, *[None] * (width - len(head)))


def _values(frame: PoseFrame, person: int, recording: Recording) -> np.ndarray:
    """x, y and score of each joint (K, 3), and its probability, (K, 4), where it is wanted."""
    pose = frame.keypoints[person]
    if not recording.probabilities:
        return pose
    unknown = np.full(len(pose), np.nan)
    column = unknown if frame.probabilities is None else frame.probabilities[person]
    return np.concatenate([pose, column[:, None]], axis=1)


def _joint(values: Sequence[float]) -> tuple[float | None, ...]:
    x, y, *scores = values
    return number(x, 4), number(y, 4), *(number(score, 5) for score in scores)


def number(value: float, digits: int) -> float | None:
    """``value`` rounded, or None for what is no number: JSON and tables have no NaN."""
    value = float(value)
    return round(value, digits) if math.isfinite(value) else None


def to_dataframe(frames: Iterable[PoseFrame], table: str = "wide", angles: bool = False) -> Any:
    """The poses of a video as a pandas DataFrame.

    Args:
        frames: as a predictor yields them; their pictures are not kept.
        table: "wide", a row a frame and person, or "long", a row a joint.
        angles: joint angles and segment lengths as further columns of the wide table.

    Returns:
        Columns as `table_columns`; frame and track are int64.

    Raises:
        ValueError: pandas is not installed, or ``table`` is another word.
    """
    try:
        import pandas
    except ImportError as error:
        raise ValueError("a DataFrame needs the package pandas: pip install pandas") from error
    recording = Recording("", table=table, angles=angles)
    rows: list[Row] = []
    for frame in frames:
        recording = Recording(
            frame.video,
            frame.joint_names,
            table=table,
            angles=angles,
            probabilities=frame.probabilities is not None,
        )
        rows.extend(table_rows(frame, recording))
    data = pandas.DataFrame(rows, columns=list(table_columns(recording)))
    texts = ("video", "joint")
    types = {"frame": "int64", "track": "int64"}
    reals = {name: "float64" for name in data.columns if name not in (*types, *texts)}
    return data.astype({**types, **reals})


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
    """One JSON object per row, with the columns as keys; what is empty is null."""

    def __init__(self, path: str | Path, recording: Recording) -> None:
        """Create ``path``, or write to standard output for "-"."""
        self._file = sys.stdout if path == "-" else open(path, "w", encoding="utf-8")
        self._recording, self._columns = recording, table_columns(recording)
        self._flusher = Flusher()

    def write(self, frame: PoseFrame) -> None:
        for row in table_rows(frame, self._recording):
            line = json.dumps(dict(zip(self._columns, row)), allow_nan=False)
            self._file.write(line + "\n")
        if self._flusher.is_due():
            self._file.flush()
        error = getattr(self._file, "error", None)  # of a command's standard output
        if error is not None:
            raise error

    def close(self) -> None:
        self._file.flush() if self._file is sys.stdout else self._file.close()


class CsvWriter:
    """Comma-separated, with a header; what is empty is the empty string."""

    def __init__(self, path: str | Path, recording: Recording) -> None:
        self._file = open(path, "w", newline="", encoding="utf-8")
        self._writer = csv.writer(self._file)
        self._writer.writerow(table_columns(recording))
        self._recording = recording
        self._flusher = Flusher()

    def write(self, frame: PoseFrame) -> None:
        self._writer.writerows(table_rows(frame, self._recording))
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

    def __init__(self, path: str | Path, recording: Recording) -> None:
        """Raises ValueError if ``pyarrow`` is not installed."""
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise ValueError("the format parquet needs the package pyarrow") from error
        self._parquet: Any = pyarrow.parquet
        self._table: Any = pyarrow.Table
        self._concat: Any = pyarrow.concat_tables
        self._recording, self._columns = recording, table_columns(recording)
        kinds = {"video": pyarrow.string(), "joint": pyarrow.string()}
        kinds |= {"frame": pyarrow.int64(), "track": pyarrow.int64()}
        self._schema = pyarrow.schema(
            [(name, kinds.get(name, pyarrow.float64())) for name in self._columns]
        )
        self._path = Path(path)
        self._parts = Path(f"{path}.parts")
        self._parts.mkdir(exist_ok=True)
        for old in self._parts.glob("*.parquet"):
            old.unlink()
        self._rows: list[Row] = []
        self._count = 0
        self._flusher = Flusher()

    def write(self, frame: PoseFrame) -> None:
        self._rows.extend(table_rows(frame, self._recording))
        if self._flusher.is_due():
            self._write_part()

    def _write_part(self) -> None:
        columns = zip(*self._rows) if self._rows else ([] for _ in self._columns)
        table = self._table.from_pydict(
            {name: list(column) for name, column in zip(self._columns, columns)},
            schema=self._schema,
        )
        partial = self._parts / f".part-{self._count:06d}"
        self._parquet.write_table(table, partial)
        partial.rename(self._parts / f"part-{self._count:06d}.parquet")
        self._rows, self._count = [], self._count + 1

    def close(self) -> None:
        self._write_part()
        parts = sorted(self._parts.glob("*.parquet"))
        partial = self._path.with_name(f".partial-{self._path.name}")
        with self._parquet.ParquetWriter(partial, self._schema) as writer:
            for group in self._row_groups(parts):
                writer.write_table(group)
        partial.replace(self._path)
        for part in parts:
            part.unlink()
        self._parts.rmdir()

    def _row_groups(self, parts: Sequence[Path]) -> Iterator[Any]:
        """All rows in tables of ROW_GROUP. Parts are as large as the clock has made them; the file
        follows from the rows alone."""
        waiting = self._schema.empty_table()
        for part in parts:
            read = self._parquet.read_table(part, partitioning=None)
            waiting = self._concat([waiting, read])
            while waiting.num_rows >= ROW_GROUP:
                yield waiting.slice(0, ROW_GROUP).combine_chunks()
                waiting = waiting.slice(ROW_GROUP)
        yield waiting.combine_chunks()


# ---- reading


def read_table(path: str | Path) -> list[PoseFrame]:
    """The frames of a table that was written here: JSON Lines, CSV or Parquet, long or wide, with
    the joints' probabilities where it has their columns. A joint without a score has 1. Further
    columns are noted.

    Raises:
        ValueError: it is none of these, a person or a joint stands twice on a frame, or the row of
            nobody (track -1) is somebody's; names the file, the row and the column.
    """
    try:
        return _table_frames([_Row(*row) for row in _read_rows(Path(path))])
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


class _Row(NamedTuple):
    """A row, with its number from 1."""

    place: int
    cells: dict[str, Any]

    def get(self, column: str) -> Any:
        """A cell, which the row must have."""
        try:
            return self.cells[column]
        except KeyError:
            raise ValueError(f"row {self.place} lacks the column {column!r}") from None

    def whole(self, column: str) -> int:
        """A whole number, 3.0 included."""
        value = self.get(column)
        try:
            # Of a text that int does not take, such as "3.0", float tells whether it is whole.
            number = int(value) if type(value) in (int, str) else _as_float(value)
        except ValueError:
            number = _as_float(value)
        # int64 is what frames and tracks are kept in; no comparison with NaN holds.
        if isinstance(value, bool) or not abs(number) < 2**63 or number != int(number):
            raise ValueError(f"row {self.place}, column {column}: {value!r} is no whole number")
        return int(number)

    def real(self, column: str) -> float:
        """A number, NaN where the cell is empty."""
        value = self.get(column)
        if value is None or value == "":
            return math.nan
        number = _as_float(value)
        if math.isinf(number) or isinstance(value, bool):
            raise ValueError(f"row {self.place}, column {column}: {value!r} is no number")
        return number

    def first_filled(self, columns: Iterable[str]) -> str:
        """The first of some columns whose cell is not empty, "" if all are."""
        values = ((column, self.cells.get(column)) for column in columns)
        return next((c for c, v in values if v not in (None, "") and v == v), "")


def _as_float(value: Any) -> float:
    """``value`` as a number, infinity where it is none."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.inf


class _Layout(NamedTuple):
    """The joints of a table; the parts of each, x, y, score, and probability, if it has it; the
    columns of these for each joint, or, in a long table, for the joint of a row."""

    joints: tuple[str, ...]
    parts: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    is_long: bool

    def pose_columns(self) -> Iterator[str]:
        return itertools.chain(("joint",) if self.is_long else (), *self.columns)


def _table_frames(rows: Sequence[_Row]) -> list[PoseFrame]:
    columns: dict[str, None] = {}
    for row in rows:
        columns |= dict.fromkeys(row.cells)
    lacking = [name for name in HEAD if rows and name not in columns]
    if lacking:
        raise ValueError(f"the columns {lacking} are missing: it is no table of poses")
    layout = _layout_of(rows, columns)
    # pandas writes its row numbers into a column without a name.
    read = {"", *HEAD, *layout.pose_columns(), *MEASURES}
    for column in columns:
        note(f"columns {column!r}: not read", column not in read)
    grouped: dict[tuple[str, int], list[_Row]] = {}
    for row in rows:
        video = row.get("video")
        key = "" if video is None else str(video), row.whole("frame")
        grouped.setdefault(key, []).append(row)
    return [_frame_of(key, group, layout) for key, group in grouped.items()]


def _layout_of(rows: Sequence[_Row], columns: Collection[str]) -> _Layout:
    is_long = "joint" in columns
    if is_long:
        found = (row.cells.get("joint") for row in rows)
        names = tuple(dict.fromkeys(str(name) for name in found if name))
    else:
        names = tuple(key.removesuffix("_score") for key in columns
                      if key.endswith("_score") and key != "person_score")  # fmt: skip
    parts: tuple[str, ...] = ("x", "y", "score")
    if any(column in columns for column in ("probability", *(f"{n}_probability" for n in names))):
        parts = (*parts, "probability")
    of_joints = tuple(tuple(f"{name}_{part}" for part in parts) for name in names)
    return _Layout(names, parts, (parts,) if is_long else of_joints, is_long)


def _read_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    if path.suffix.lower() == ".csv":
        yield from _read_csv(path)
    elif path.suffix.lower() == ".parquet":
        try:
            import pyarrow.parquet
        except ImportError as error:
            raise ValueError("Parquet needs the package pyarrow") from error
        yield from enumerate(pyarrow.parquet.read_table(path).to_pylist(), 1)
    else:
        with open(path, encoding="utf-8-sig") as file:
            for place, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except json.JSONDecodeError as error:
                    raise ValueError(f"line {place} is no JSON: {error}") from error
                if not isinstance(row, dict):
                    raise ValueError(f"line {place} is no JSON object")
                yield place, row


def _read_csv(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with open(path, newline="", encoding="utf-8-sig") as file:  # Excel writes the mark
        rows = csv.reader(file)
        head = next(rows, [])
        if len(head) == 1 and (found := re.search("[;\t]", head[0])):
            raise ValueError(f"its cells are separated by {found[0]!r}: expected ','")
        # Spreadsheets write commas for cells beside the table that were once filled.
        while head and not head[-1]:
            head.pop()
        twice = [name for name in head if head.count(name) > 1]
        if twice:
            raise ValueError(f"the column {twice[0]!r} is there twice")
        cells: list[str] = head
        for place, cells in enumerate(rows, 1):
            if any(cells[len(head) :]):
                raise ValueError(f"row {place} has {len(cells)} cells: expected {len(head)}")
            if cells and len(cells) < len(head):
                # Excel leaves out commas behind the last cell that is filled.
                note("rows that lack cells: taken as empty")
                yield place, dict(itertools.zip_longest(head, cells, fillvalue=""))
            elif cells:
                yield place, dict(zip(head, cells))
        if len(cells) < len(head) and not _ends_a_line(path):
            raise ValueError(f"the last row has {len(cells)} of {len(head)} cells: it is cut off")


def _ends_a_line(path: Path) -> bool:
    with open(path, "rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) in b"\r\n"


def _frame_of(key: tuple[str, int], rows: Sequence[_Row], layout: _Layout) -> PoseFrame:
    names = layout.joints
    people: dict[int, list[_Row]] = {}
    for row in rows:
        track = row.whole("track")
        if track != NOBODY:
            people.setdefault(track, []).append(row)
        elif column := row.first_filled(itertools.chain(HEAD[4:], layout.pose_columns())):
            raise ValueError(
                f"row {row.place}, column {column}: {row.cells[column]!r}: expected nothing, since "
                f"track {NOBODY} is of frames without people"
            )
    values = np.full((len(people), len(names), len(layout.parts)), np.nan, np.float32)
    for i, group in enumerate(people.values()):
        _set_pose(values[i], group, layout)
    unscored = np.isfinite(values[..., :2]).all(axis=-1) & np.isnan(values[..., 2])
    note("joints without a score: 1 is taken", int(unscored.sum()))
    values[..., 2][unscored] = 1
    first = [group[0] for group in people.values()]
    frame = stored_frame(
        key[1], rows[0].real("time"), key[0], names, values[..., :3],
        np.array([[row.real(side) for side in HEAD[5:]] for row in first], float).reshape(-1, 4),
        np.array([row.real("person_score") for row in first], np.float32),
        np.array(list(people), np.int64),
    )  # fmt: skip
    return replace(frame, probabilities=values[..., 3]) if len(layout.parts) > 3 else frame


def _set_pose(values: np.ndarray, rows: Sequence[_Row], layout: _Layout) -> None:
    """Fill (K, 3) or, with probabilities, (K, 4) from the rows of one person on one frame."""
    seen: set[str] = set()
    for row in rows:
        joint = str(row.get("joint") or "") if layout.is_long else ""
        if joint in seen or (seen and not layout.is_long):
            of = f"joint {joint!r} of " if joint else ""
            raise ValueError(
                f"row {row.place}: {of}track {row.whole('track')} is on frame "
                f"{row.whole('frame')} twice"
            )
        seen.add(joint)
        if joint:
            place = layout.joints.index(joint)
            values[place] = [row.real(column) for column in layout.columns[0]]
        elif not layout.is_long and layout.joints:
            values[:] = [[row.real(column) for column in columns] for columns in layout.columns]


def stored_frame(
    index: int,
    seconds: float,
    video: str,
    names: tuple[str, ...],
    keypoints: np.ndarray,
    boxes: np.ndarray | None = None,
    scores: np.ndarray | None = None,
    track_ids: np.ndarray | None = None,
    size: tuple[int, int] = (0, 0),
    untracked: Collection[int] = (),
) -> PoseFrame:
    """A frame that was read from a file: it has no picture, only its ``size`` (H, W).

    Args:
        keypoints: (P, K, 3), NaN where a joint is empty; of a model without joints (P, 0, 3). (0,)
            where nobody is.
        boxes: default the joints' extent. scores: default the joints' mean. track_ids: default 0 to
            P - 1, of people who are not followed. untracked: as in `PoseFrame`.
    """
    keypoints = np.asarray(keypoints, np.float32).reshape(len(keypoints), len(names), 3)
    if boxes is None:
        boxes = np.array([extent(pose) for pose in keypoints], np.float32).reshape(-1, 4)
    if scores is None:
        scores = np.array([_mean_score(pose) for pose in keypoints], np.float32)
    if track_ids is None:
        track_ids = np.arange(len(keypoints), dtype=np.int64)
        untracked = range(len(keypoints))
    picture = np.broadcast_to(np.zeros(3, np.uint8), (*size, 3))
    return PoseFrame(
        index, seconds, picture, video, names, keypoints, boxes, scores, track_ids,
        untracked=frozenset(untracked),
    )  # fmt: skip


def number_untracked(
    tracks: Sequence[Sequence[int | None]],
) -> list[tuple[np.ndarray, frozenset[int]]]:
    """Numbers for everybody in a file that may follow some people only.

    Who is followed keeps the number. Others get numbers that nobody else has, new ones on each
    frame: equal ones would make one person of several. Where the file follows nobody, and no frame
    has two people, all have number 0.

    Args:
        tracks: of each frame, the number of each person; None: not followed.

    Returns:
        of each frame, the numbers, int64 (P,), and those of the people who are not followed.
    """
    known = [track for people in tracks for track in people if track is not None]
    is_one = not known and max(map(len, tracks), default=0) <= 1
    free = itertools.repeat(0) if is_one else itertools.count(max([NOBODY, *known]) + 1)
    found = []
    for people in tracks:
        numbers = [next(free) if track is None else track for track in people]
        others = (n for n, track in zip(numbers, people, strict=True) if track is None)
        found.append((np.array(numbers, np.int64), frozenset(others)))
    return found


def number_names(names: Iterable[str]) -> dict[str, int]:
    """The numbers of people who are told by names: 4 of ``person_4`` and of ``4``; of another name
    its place among the names, or where that is taken, the lowest number that is not. Such numbers
    are noted."""
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    numbers: dict[str, int] = {}
    taken = {NOBODY}
    for name in places:
        found = re.fullmatch(r"(?:person_)?(-?\d{1,18})", name)
        if found and (number := int(found[1])) not in taken:
            numbers[name] = number
            taken.add(number)
    others = [name for name in places if name not in numbers]
    free = itertools.count()
    for name in others:
        place = places[name]
        numbers[name] = place if place not in taken else next(n for n in free if n not in taken)
        taken.add(numbers[name])
    said = ", ".join(f"{name!r} is {numbers[name]}" for name in others[:10])
    more = " ..." if len(others) > 10 else ""
    note(f"people with names are given numbers: {said}{more}", len(others))
    return numbers


def extent(pose: np.ndarray) -> np.ndarray:
    """Box (4,) around the joints (K, 3) that are there; NaN without any."""
    points = pose[np.isfinite(pose[:, :2]).all(axis=1), :2]
    if not len(points):
        return np.full(4, np.nan, np.float32)
    return np.concatenate([points.min(axis=0), points.max(axis=0)])


def _mean_score(pose: np.ndarray) -> float:
    scores = pose[np.isfinite(pose).all(axis=1), 2]
    return float(scores.mean()) if len(scores) else math.nan
