"""Formats of movement science, written when a video is over: TRC, C3D, DeepLabCut, SLEAP, NWB.

The poses are kept in memory until then, 12 bytes a joint, frame and person; docs/OUTPUTS.md says
what writing them takes. Coordinates are pixel indices, ours minus .5: the centre of the first pixel
is (0, 0), y grows downwards. What was not found stays empty.

Shape letters: N frames, K joints.
"""

from __future__ import annotations

import csv
import datetime
import importlib
import itertools
import math
import re
import uuid
from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from video_pose.data.datasets.coco_json import name_number
from video_pose.data.datasets.tracks import distinct_names, note
from video_pose.inference.frames import PoseFrame
from video_pose.inference.writers.tables import (
    NOBODY,
    Recording,
    number_names,
    number_untracked,
    stored_frame,
)

# Names that DeepLabCut gives: to whoever made the predictions, and to the table in HDF5.
SCORER, _DLC_KEY = "video_pose", "df_with_missing"
# Of a video. Larger numbers are ids, as PoseTrack's files have them.
_MOST_FRAMES = 100_000_000


class RecordingWriter:
    """Keeps a video's poses; a format writes them in `save` when all are there.

    Attributes:
        path: file, or folder, to write. recording: what is known of the video.
        frames: so far, without pictures.
    """

    def __init__(self, path: str | Path, recording: Recording) -> None:
        self.path, self.recording = Path(path), recording
        self.frames: list[PoseFrame] = []

    def write(self, frame: PoseFrame) -> None:
        if frame.index >= _MOST_FRAMES:
            raise ValueError(
                f"{self.path}: frame {frame.index}: expected a number below {_MOST_FRAMES}, since "
                "this format has a place for every frame from 0"
            )
        size = frame.image.shape[:2]
        picture = np.broadcast_to(np.zeros(3, np.uint8), (*size, 3))
        left: dict[str, Any] = dict.fromkeys(
            ("heatmaps", "map_to_image", "masks", "peaks", "probabilities")
        )
        self.frames.append(replace(frame, image=picture, **left))

    def close(self) -> None:
        """Write the file."""
        self.save()

    def save(self) -> None:
        raise NotImplementedError

    def count(self) -> int:
        """N: frames up to the last, with those that were left out."""
        return self.frames[-1].index + 1 if self.frames else 0

    def track_ids(self) -> list[int]:
        """Of everybody, in the order in which they are met."""
        return list(dict.fromkeys(n for frame in self.frames for n in frame.track_ids.tolist()))

    def tracks(self) -> Iterator[tuple[int, np.ndarray]]:
        """Every track and its (N, K, 3): x, y as pixel indices and score, NaN where there is
        nothing.

        They are made one at a time: together, the N frames of everybody who walks through a long
        video fill any memory.
        """
        places: dict[int, array[int]] = {}
        for place, frame in enumerate(self.frames):
            for row, track in enumerate(frame.track_ids.tolist()):
                places.setdefault(track, array("q")).extend((place, row))
        for track, found in places.items():
            poses = np.full((self.count(), len(self.recording.joint_names), 3), np.nan, np.float32)
            for place, row in zip(found[::2], found[1::2]):
                poses[self.frames[place].index] = self.frames[place].keypoints[row]
            poses[~np.isfinite(poses).all(axis=2)] = np.nan
            poses[..., :2] -= 0.5
            yield track, poses

    def times(self) -> np.ndarray:
        """(N,) seconds; those of frames that were left out by the mean rate."""
        times = np.arange(self.count()) / self.recording.fps
        for frame in self.frames:
            if math.isfinite(frame.time):
                times[frame.index] = frame.time
        return times


def _prepared_folder(path: Path, pattern: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for old in path.glob(pattern):
        old.unlink()
    return path


class TrcWriter(RecordingWriter):
    """A folder with a file of markers for each person, ``person_4.trc``, as of OpenSim, Sports2D
    and Pose2Sim: X and Y in pixels, Z 0."""

    def save(self) -> None:
        folder = _prepared_folder(self.path, "person_*.trc")
        names = list(self.recording.joint_names)
        rate, times = f"{self.recording.fps:g}", self.times().tolist()
        for track, poses in self.tracks():
            name = f"person_{track}.trc"
            with open(folder / name, "w", newline="", encoding="utf-8") as file:
                rows = csv.writer(file, delimiter="\t", lineterminator="\n")
                rows.writerow(["PathFileType", 4, "(X/Y/Z)", name])
                rows.writerow(
                    ["DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units",
                     "OrigDataRate", "OrigDataStartFrame", "OrigNumFrames"]
                )  # fmt: skip
                rows.writerow([rate, rate, len(poses), len(names), "px", rate, 1, len(poses)])
                rows.writerow(["Frame#", "Time", *(v for n in names for v in (n, "", ""))])
                axes = [f"{axis}{i}" for i in range(1, len(names) + 1) for axis in "XYZ"]
                rows.writerow(["", "", *axes])
                rows.writerow([])
                for number, (seconds, pose) in enumerate(zip(times, poses), 1):
                    cells = [
                        v for x, y, _ in pose.tolist()
                        for v in (("", "", "") if math.isnan(x) else (f"{x:.4f}", f"{y:.4f}", "0"))
                    ]  # fmt: skip
                    rows.writerow([number, f"{seconds:.6f}", *cells])


def read_trc(path: str | Path) -> list[PoseFrame]:
    """The frames of a TRC file, or of a folder of them, one person each.

    Frames and times are those of the columns Frame# and Time; a row without a time has that of
    DataRate. Frame numbers count from 1, or from 0 where a file has a frame 0.

    Raises:
        ValueError: it is none; names the file and the line.
    """
    return _read_people(Path(path), ".trc", _read_trc_file)


class _OneFile(NamedTuple):
    """One person: joint names, frames a second (0: not known), and of N frames number, time in
    seconds (NaN: by the rate) and pose (N, K, 3)."""

    names: list[str]
    rate: float
    numbers: np.ndarray
    times: np.ndarray
    poses: np.ndarray


def _read_people(path: Path, suffix: str, read: Callable[[Path], _OneFile]) -> list[PoseFrame]:
    """The frames of a file of one person, or of a folder of such files."""
    files = {track: read(file) for track, file in _person_files(path, suffix)}
    names = next(iter(files.values())).names
    if any(file.names != names for file in files.values()):
        raise ValueError(f"{path}: its files have different markers")
    first = min((int(file.numbers.min(initial=1)) for file in files.values()), default=1)
    tracks: dict[int, tuple[Sequence[int], np.ndarray]] = {}
    times: dict[int, float] = {}
    for track, file in files.items():
        numbers = file.numbers - min(first, 1)
        tracks[track] = numbers.tolist(), file.poses
        by_rate = numbers / file.rate if file.rate else math.nan
        seconds = np.where(np.isnan(file.times), by_rate, file.times)
        times |= dict(zip(numbers.tolist(), seconds.tolist()))
    return _join_tracks(path, names, tracks, times)


def _person_files(path: Path, suffix: str) -> list[tuple[int, Path]]:
    """(track, file) of a folder ``person_<track>`` + suffix, or (0, the file itself)."""
    if path.is_file():
        return [(0, path)]
    found = []
    for file in path.glob(f"person_*{suffix}"):
        number = re.fullmatch(r"person_(-?\d+)", file.stem)
        if number:
            found.append((int(number[1]), file))
    if not found:
        raise ValueError(f"{path}: no file person_<number>{suffix}")
    return sorted(found)


def _read_trc_file(path: Path) -> _OneFile:
    lines = path.read_text(encoding="utf-8-sig").splitlines()
    if len(lines) < 5:
        raise ValueError(f"{path}: no TRC file: {len(lines)} lines: expected 5 lines of a header")
    rows: dict[int, tuple[float, np.ndarray]] = {}
    place = 4
    try:
        markers = _trc_markers(lines[3].split("\t"))
        place = 3
        head = [cell.strip() for cell in lines[2].split("\t")]
        rate = float(head[0])
        for place, line in enumerate(lines[5:], 6):  # noqa: B007  (of the message)
            if line.strip():
                number, seconds, pose = _read_trc_row(line.split("\t"), list(markers.values()))
                if number in rows:
                    raise ValueError(f"frame {number} stands twice")
                rows[number] = seconds, pose
    except (IndexError, ValueError) as error:
        raise ValueError(f"{path}: no TRC file: line {place}: {error}") from error
    if len(head) > 4:
        _note_units(head[4])
        if head[2].isdigit() and int(head[2]) != len(rows):
            note(f"TRC files whose NumFrames, {head[2]}, is not that of their rows, {len(rows)}")
    numbers = np.array(list(rows), np.int64)
    times = np.array([time for time, _ in rows.values()])
    poses = np.array([pose for _, pose in rows.values()], np.float32)
    poses = poses.reshape(len(rows), len(markers), 3)
    return _OneFile(list(markers), rate, numbers, times, poses)


def _trc_markers(cells: Sequence[str]) -> dict[str, int]:
    """Name -> its place among the markers, of the cells of the line of names.

    Names stand above X of three columns each; some programs write them one after the other.
    """
    names = [cell.strip() for cell in cells[2:]]
    places = [place for place, name in enumerate(names) if name]
    if len({names[place] for place in places}) < len(places):
        raise ValueError("a marker's name stands twice")
    if places == list(range(len(places))):
        return {names[place]: place for place in places}
    if any(place % 3 for place in places):
        raise ValueError("expected a marker's name above every third column, from the third on")
    note("markers without a name: not read", max(places) // 3 + 1 - len(places))
    return {names[place]: place // 3 for place in places}


def _note_units(units: str) -> None:
    if units.lower() not in ("", "px", "pixel", "pixels"):
        note(f"recordings in {units!r}: their numbers are taken for px")


def _read_trc_row(cells: list[str], places: Sequence[int]) -> tuple[int, float, np.ndarray]:
    """Number, time (NaN where there is none) and pose (K, 3) of a row's cells; ``places`` of the
    joints among the markers."""
    # NumPy and pandas write whole numbers as 1.0, or 1.0000e+00.
    count, time = float(cells[0]), cells[1].strip()
    if not count.is_integer():
        raise ValueError(f"frame {cells[0].strip()!r}: expected a whole number")
    number = int(count)
    if number < 0:
        raise ValueError(f"frame {number}: expected a number from 0")
    seconds = float(time) if time else math.nan
    if time and not math.isfinite(seconds):
        raise ValueError(f"time {time!r}: expected seconds")
    pose = np.full((len(places), 3), np.nan, np.float32)
    for k, place in enumerate(places):
        x, y, z = ([cell.strip() for cell in cells[2 + 3 * place : 5 + 3 * place]] + [""] * 3)[:3]
        if x and y:
            pose[k] = float(x), float(y), 1
        note("points with a Z: it is not read", abs(float(z or 0)) > 0)
    return number, seconds, pose


def _join_tracks(
    path: Path,
    names: Sequence[str],
    tracks: Mapping[int, tuple[Sequence[int], np.ndarray]],
    times: Mapping[int, float],
) -> list[PoseFrame]:
    """Frames from the frame numbers and poses (N, K, 3) of every track; somebody without a joint is
    not there. ``times``: of frames, in seconds, as far as they are known."""
    people: dict[int, dict[int, np.ndarray]] = {}
    for track, (numbers, poses) in tracks.items():
        there = np.isfinite(poses[..., :2]).any(axis=(1, 2)).tolist()
        for index, pose, is_there in zip(numbers, poses, there, strict=True):
            here = people.setdefault(index, {})
            if is_there:
                here[track] = pose
    # A folder's name has no ending but ours.
    video = path.stem.removesuffix(".dlc")
    if path.is_dir():
        video = re.sub("_(trc|c3d)$", "", path.name) or path.name
    frames = []
    for index in sorted(people):
        here = people[index]
        poses = np.array(list(here.values()), np.float32).reshape(len(here), len(names), 3)
        poses[..., :2] += 0.5
        frames.append(
            stored_frame(
                index, times.get(index, math.nan), video, tuple(names), poses,
                track_ids=np.array(list(here), np.int64),
            )
        )  # fmt: skip
    return frames


class C3dWriter(RecordingWriter):
    """A folder with a C3D file for each person, ``person_4.c3d`` (package ``ezc3d``): X and Y in
    pixels, Z 0; a marker that is not there has no coordinates."""

    def __init__(self, path: str | Path, recording: Recording) -> None:
        super().__init__(path, recording)
        self._ezc3d = _require("ezc3d", "c3d")

    def save(self) -> None:
        folder = _prepared_folder(self.path, "person_*.c3d")
        for track, poses in self.tracks():
            file = self._ezc3d.c3d()
            points = file["parameters"]["POINT"]
            points["RATE"]["value"] = [self.recording.fps]
            points["UNITS"]["value"] = ["px"]
            points["LABELS"]["value"] = list(self.recording.joint_names)
            data = np.ones((4, poses.shape[1], len(poses)))
            data[:2] = poses[..., :2].transpose(2, 1, 0)
            data[2] = np.where(np.isnan(data[0]), np.nan, 0)
            file["data"]["points"] = data
            file.write(str(folder / f"person_{track}.c3d"))


def read_c3d(path: str | Path) -> list[PoseFrame]:
    """The frames of a C3D file, or of a folder of them, one person each, from the file's first
    frame on; Z is left out."""
    ezc3d = _require("ezc3d", "c3d")

    def read(file: Path) -> _OneFile:
        try:
            content = ezc3d.c3d(str(file))
        except OSError as error:
            raise ValueError(f"{file}: no C3D file: {error}") from error
        about, points = content["parameters"]["POINT"], content["data"]["points"]
        poses = np.ones((points.shape[2], points.shape[1], 3), np.float32)
        poses[..., :2] = points[:2].transpose(2, 1, 0)
        poses[np.isnan(poses[..., 0])] = np.nan
        names, rate = list(about["LABELS"]["value"]), float(about["RATE"]["value"][0])
        _note_units(next(iter(about["UNITS"]["value"]), "") if "UNITS" in about else "")
        note("points with a Z: it is not read", int((np.nan_to_num(points[2]) != 0).sum()))
        # ezc3d counts from 0 what the file counts from 1.
        start = 1 + int(content["header"]["points"]["first_frame"])
        numbers, times = np.arange(start, start + len(poses)), np.full(len(poses), np.nan)
        return _OneFile(names, rate, numbers, times, poses)

    return _read_people(Path(path), ".c3d", read)


class DeepLabCutWriter(RecordingWriter):
    """DeepLabCut's table of predictions, CSV (package ``pandas``) or HDF5 (``tables`` as well): a
    row a frame; scorer, individuals (where there are several people), bodyparts and coords above.
    """

    def __init__(self, path: str | Path, recording: Recording, hdf: bool = False) -> None:
        super().__init__(path, recording)
        self._pandas, self._hdf = _require("pandas", "dlc"), hdf
        if hdf:
            _require("tables", "dlc_h5")

    def save(self) -> None:
        tracks = self.track_ids()
        names = list(self.recording.joint_names)
        several = len(tracks) != 1
        levels = ["scorer", *(["individuals"] if several else []), "bodyparts", "coords"]
        columns = [
            (SCORER, *([f"person_{track}"] if several else []), name, coordinate)
            for track in tracks
            for name in names
            for coordinate in ("x", "y", "likelihood")
        ]
        # One table of all frames and everybody.
        values = np.empty((self.count(), len(tracks), 3 * len(names)), np.float32)
        for place, (_, poses) in enumerate(self.tracks()):
            values[:, place] = poses.reshape(self.count(), -1)
        table = self._pandas.DataFrame(
            values.reshape(self.count(), len(columns)),
            columns=self._pandas.MultiIndex.from_tuples(columns, names=levels)
            if columns
            else self._pandas.MultiIndex.from_arrays([[] for _ in levels], names=levels),
        )
        if self._hdf:
            table.to_hdf(self.path, key=_DLC_KEY, mode="w")
        else:
            table.to_csv(self.path)


def read_deeplabcut(path: str | Path) -> list[PoseFrame]:
    """The frames of DeepLabCut's table, CSV or HDF5, of one or of several individuals."""
    pandas = _require("pandas", "dlc")
    path = Path(path)
    table = _dlc_csv(path, pandas) if path.suffix.lower() == ".csv" else pandas.read_hdf(path)
    if table is None:
        return []
    scorers = list(dict.fromkeys(table.columns.get_level_values("scorer")))
    if len(scorers) > 1 or not table.columns.is_unique:
        raise ValueError(f"{path}: columns of several scorers, {scorers}: expected one")
    table.columns = table.columns.droplevel("scorer")
    names = list(dict.fromkeys(table.columns.get_level_values("bodyparts")))
    people = [""]
    if "individuals" in table.columns.names:
        people = list(dict.fromkeys(table.columns.get_level_values("individuals")))
    wanted = pandas.MultiIndex.from_product([names, ("x", "y", "likelihood")])
    indices, numbers = _dlc_frames(path, list(table.index)), number_names(filter(None, people))
    tracks = {}
    for person in people:
        # A project's unique bodyparts are those of the individual "single" alone.
        part = table[person] if person else table
        lacking = part.columns.symmetric_difference(
            wanted[wanted.get_level_values(0).isin(part.columns.get_level_values(0))]
        )
        if len(lacking):
            name = lacking[0][0]
            raise ValueError(
                f"{path}: {person or 'the table'}: expected x, y and likelihood of every bodypart, "
                f"got {list(part[name].columns)} of {name!r}"
            )
        values = part.reindex(columns=wanted).to_numpy(np.float32)
        tracks[numbers.get(person, 0)] = indices, values.reshape(len(table), len(names), 3)
    return _join_tracks(path, names, tracks, {})


def _dlc_csv(path: Path, pandas: Any) -> Any:
    """The table of a CSV file; None where nobody was found: pandas then forgets the names of the
    levels."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        scorers, second = itertools.islice(csv.reader(file), 2)
    levels = 4 if second[:1] == ["individuals"] else 3
    # Parts of a picture's path stand in columns of their own, below the first and empty cells.
    first = next((i for i, cell in enumerate(scorers) if i and cell), 1)
    table = pandas.read_csv(path, header=list(range(levels)), index_col=list(range(first)))
    return None if scorers == ["scorer"] and table.columns.empty else table


def _dlc_frames(path: Path, rows: Sequence[Any]) -> list[int]:
    """The frames' numbers of the first column: as they are, or the last in the pictures' names, of
    which the folders are columns of their own."""
    numbers = []
    for place, row in enumerate(rows, 1):
        name = "/".join(map(str, row)) if isinstance(row, tuple) else row
        if isinstance(name, str):
            found = name_number(name)[1]
            note("rows with a picture's name: the number in it is taken")
        else:
            found = int(row) if np.isreal(row) and float(row).is_integer() else None
        if found is None:
            raise ValueError(f"{path}: row {place}: {row!r}: expected a frame's number")
        numbers.append(found)
    twice = [number for number, count in Counter(numbers).items() if count > 1]
    if twice:
        raise ValueError(f"{path}: frame {twice[0]} stands twice")
    return numbers


class SleapWriter(RecordingWriter):
    """SLEAP's .slp, through the package ``sleap-io``."""

    def __init__(self, path: str | Path, recording: Recording) -> None:
        super().__init__(path, recording)
        self._sio = _require("sleap_io", "sleap")

    def save(self) -> None:
        sio, recording = self._sio, self.recording
        nodes = [sio.Node(name) for name in recording.joint_names]
        edges = [sio.Edge(nodes[a], nodes[b]) for a, b in recording.connections]
        skeleton = sio.Skeleton(nodes, edges, name="person")
        video = sio.Video(recording.path or f"{recording.name}.mp4", open_backend=False)
        followed = (frame.track_ids[~self._is_untracked(frame)] for frame in self.frames)
        numbers = dict.fromkeys(track for ids in followed for track in ids.tolist())
        tracks = {track: sio.Track(f"person_{track}") for track in numbers}
        labelled = []
        for frame in self.frames:
            people = []
            is_untracked = self._is_untracked(frame)
            for i, track in enumerate(frame.track_ids.tolist()):
                pose = np.asarray(frame.keypoints[i], np.float64)
                pose = np.where(np.isfinite(pose).all(axis=1, keepdims=True), pose, np.nan)
                scores = np.nan_to_num(pose[:, 2])
                people.append(
                    sio.PredictedInstance.from_numpy(
                        pose[:, :2] - 0.5, skeleton, point_scores=scores,
                        score=float(np.nan_to_num(frame.scores[i])),
                        track=None if is_untracked[i] else tracks[track],
                    )
                )  # fmt: skip
            if people:
                labelled.append(sio.LabeledFrame(video, frame.index, people))
        labels = sio.Labels(
            labelled, videos=[video], skeletons=[skeleton], tracks=list(tracks.values())
        )
        sio.save_slp(labels, str(self.path), verbose=False)

    @staticmethod
    def _is_untracked(frame: PoseFrame) -> np.ndarray:
        return np.isin(frame.track_ids, list(frame.untracked))


def read_sleap(path: str | Path) -> list[PoseFrame]:
    """The frames of a .slp file of one video, predictions or labels; who has no track gets a number
    as `number_untracked` says."""
    sio = _require("sleap_io", "sleap")
    labels = sio.load_slp(str(path), open_videos=False)
    if len(labels.videos) > 1 or len(labels.skeletons) != 1:
        raise ValueError(
            f"{path}: {len(labels.videos)} videos and {len(labels.skeletons)} skeletons: expected "
            "one of each"
        )
    names = tuple(node.name for node in labels.skeleton.nodes)
    numbers_of = _sleap_numbers(labels.tracks)
    everybody = [_without_corrected(labelled.instances) for labelled in labels.labeled_frames]
    tracks = number_untracked(
        [[numbers_of.get(id(person.track)) for person in people] for people in everybody]
    )
    found: dict[int, PoseFrame] = {}
    for labelled, people, (numbers, untracked) in zip(
        labels.labeled_frames, everybody, tracks, strict=True
    ):
        poses = []
        for person in people:
            points = person.numpy(scores=True) if hasattr(person, "score") else person.numpy()
            pose = np.ones((len(names), 3))
            pose[:, : points.shape[1]] = points
            pose[np.isnan(pose[:, 0])] = np.nan
            pose[:, :2] += 0.5
            poses.append(pose)
        if labelled.frame_idx in found:
            raise ValueError(f"{path}: frame {labelled.frame_idx} stands twice")
        found[labelled.frame_idx] = stored_frame(
            labelled.frame_idx, math.nan, Path(path).stem, names,
            np.array(poses).reshape(-1, len(names), 3),
            scores=np.array([getattr(p, "score", 1.0) for p in people], np.float32),
            track_ids=numbers, untracked=untracked,
        )  # fmt: skip
    return [
        found.get(i) or stored_frame(i, math.nan, Path(path).stem, names, np.zeros(0))
        for i in range(max(found, default=NOBODY) + 1)
    ]


def _sleap_numbers(tracks: Sequence[Any]) -> dict[int, int]:
    """By the identity of a track: its number. Tracks may share a name, and are others still."""
    names = distinct_names(track.name for track in tracks)
    numbers = number_names(names)
    return {id(track): numbers[name] for track, name in zip(tracks, names, strict=True)}


def _without_corrected(people: Sequence[Any]) -> list[Any]:
    """The people of a frame without predictions of which a user has made labels."""
    corrected = [getattr(person, "from_predicted", None) for person in people]
    kept = [person for person in people if not any(person is other for other in corrected)]
    note("people whom SLEAP predicted and a user corrected: left out", len(people) - len(kept))
    return kept


class NwbWriter(RecordingWriter):
    """NWB with ndx-pose (packages ``pynwb`` and ``ndx-pose``): a PoseEstimation a person, a series
    a joint, with the time in seconds of every frame; NaN where nobody was found.

    Names are those that sleap-io gives, whose own writer rounds frame rates to whole numbers.
    """

    def __init__(self, path: str | Path, recording: Recording) -> None:
        """Raises ValueError for names that NWB cannot take, or a missing package."""
        super().__init__(path, recording)
        self._pynwb, self._pose = _require("pynwb", "nwb"), _require("ndx_pose", "nwb")
        for name in (recording.name, *recording.joint_names):
            if ":" in name or "/" in name:
                raise ValueError(
                    f"{path}: the name {name!r} has a ':' or '/', which NWB has for its own paths: "
                    "expected a name of the video, and of joints, without"
                )

    def save(self) -> None:
        now = datetime.datetime.now(datetime.UTC)
        name = self.recording.name
        nwb = self._pynwb.NWBFile(f"Poses of {name}", str(uuid.uuid4()), now)
        edges = np.array(self.recording.connections, np.uint8).reshape(-1, 2)
        skeleton = self._pose.Skeleton(
            name="person", nodes=list(self.recording.joint_names), edges=edges
        )
        behavior = nwb.create_processing_module("behavior", "skeletons of poses")
        behavior.add(self._pose.Skeletons(skeletons=[skeleton]))
        module = nwb.create_processing_module(f"SLEAP_VIDEO_000_{name}", "poses of a video")
        camera = nwb.create_device(name="camera_0", description=f"camera of {name}")
        video = self.recording.path or f"{name}.mp4"
        times = self.times()
        series = {track: self._series(times) for track in self.track_ids()}
        for track, joints in series.items():
            module.add(
                self._pose.PoseEstimation(
                    name=f"track=person_{track}",
                    description=f"Estimated positions of joints in {video}",
                    pose_estimation_series=joints,
                    skeleton=skeleton,
                    devices=[camera],
                    original_videos=[video],
                    labeled_videos=[video],
                    source_software=SCORER,
                )
            )
        with self._pynwb.NWBHDF5IO(str(self.path), "w") as file:
            file.write(nwb)
            for track, poses in self.tracks():
                for k, joint in enumerate(series[track]):
                    joint.data.dataset[:] = poses[:, k, :2]
                    joint.confidence.dataset[:] = poses[:, k, 2]

    def _series(self, times: np.ndarray) -> list[Any]:
        """Of one person's joints, with places for N frames that are to be filled: the poses of
        everybody together would fill the memory."""
        empty, count = self._pynwb.H5DataIO, len(times)
        return [
            self._pose.PoseEstimationSeries(
                name=name,
                description=f"Positions of {name}.",
                data=empty(shape=(count, 2), dtype=np.dtype("float32")),
                unit="pixels",
                reference_frame="(0, 0) is the centre of the top-left pixel, y grows downwards",
                timestamps=times,
                confidence=empty(shape=(count,), dtype=np.dtype("float32")),
                confidence_definition="the joint's score of the model, 0 to 1",
            )
            for name in self.recording.joint_names
        ]


def read_nwb(path: str | Path) -> list[PoseFrame]:
    """The frames of an NWB file of one video, as written here."""
    pynwb = _require("pynwb", "nwb")
    _require("ndx_pose", "nwb")
    tracks: dict[int, tuple[Sequence[int], np.ndarray]] = {}
    times: dict[int, float] = {}
    names: tuple[str, ...] = ()
    with pynwb.NWBHDF5IO(str(path), "r") as file:
        modules = [m for key, m in file.read().processing.items() if key != "behavior"]
        poses = [pose for module in modules for pose in module.data_interfaces.values()]
        people = [pose.name.removeprefix("track=") for pose in poses]
        if len(set(people)) < len(people):
            twice = next(name for name in people if people.count(name) > 1)
            raise ValueError(f"{path}: people of one name, {twice!r}: expected one video")
        numbers = number_names(people)
        for person, pose in zip(people, poses, strict=True):
            names = tuple(pose.skeleton.nodes[:])
            rows = [np.column_stack([pose[n].data[:], pose[n].confidence[:]]) for n in names]
            tracks[numbers[person]] = range(len(rows[0])), np.stack(rows, axis=1)
            times |= enumerate(np.asarray(pose[names[0]].timestamps[:]).tolist())
    return _join_tracks(Path(path), names, tracks, times)


def _require(module: str, name: str) -> Any:
    """Import a package of an extra. Raises ValueError with the command that brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ValueError(
            f"the format {name} needs the package {module.replace('_', '-')}: "
            'pip install "video-pose-detectron2[interchange]"'
        ) from error
