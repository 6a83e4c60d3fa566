"""Ground truth and predictions of a registered video dataset, by (video, track), and their file.

N frames of a track, K joints. The file keeps a run's predictions, so that later tools can compare
runs. Arrays only (no pickle); M rows in the dataset's order of tracks, then of frames; K joints:

    predictions    float32 (M, K, 3)  x, y in original image px, score; NaN where nobody was found
    ground_truth   float32 (M, K, 3)  x, y, v
    boxes          float32 (M, 4)     XYXY
    video_ids, track_ids  str (M,)
    source_videos  str (M,)           the video that this one is a shot of; may be missing: itself
    actions        str (M,)           "" where the dataset names none; may be missing
    frame_indices  int64 (M,)
    head_sizes     float32 (M,)       px, of a dataset that has them; may be missing
    joint_names    str (K,)
    scored_joints  str (S,)           those that the model gives; may be missing: all
    dataset_name   str ()
    pck_protocols, pck_min_visibility, head_segment  str (P,), int64 (), str (2,) or (0,): how the
                   dataset is scored; may be missing
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from video_pose.data.records import Track
from video_pose.files import replacing_file

FILE = "predictions.npz"

TrackKey = tuple[str, str]  # (video_id, track_id)


@dataclass(frozen=True)
class TrackTruth:
    """One person's labels: ``keypoints`` (N, K, 3), ``boxes`` (N, 4), ``labelled`` (N,) bool.

    ``source_video`` is the video that this one is a shot of (itself where the dataset does not
    tell), ``action`` what it shows ("" where the dataset does not tell).
    """

    keypoints: np.ndarray
    boxes: np.ndarray
    labelled: np.ndarray
    source_video: str
    action: str
    head_sizes: np.ndarray | None = None
    areas: np.ndarray | None = None


def index_tracks(dataset_name: str, tracks: Iterable[Track]) -> dict[TrackKey, TrackTruth]:
    """Ground truth by (video_id, track_id), as copies.

    The sizes of heads are NaN in a track without them, beside others that have some.

    Raises:
        ValueError: two dicts are the same track of the same video.
    """
    tracks = list(tracks)
    have_heads = any("head_sizes" in track for track in tracks)
    truth: dict[TrackKey, TrackTruth] = {}
    for track in tracks:
        key = str(track["video_id"]), str(track["track_id"])
        if key in truth:
            raise ValueError(f"{dataset_name}: track {key[1]!r} of video {key[0]!r} appears twice")
        unknown = [np.nan] * len(track["labelled"])
        truth[key] = TrackTruth(
            np.array(track["keypoints"], np.float32),
            np.array(track["boxes"], np.float32),
            np.array(track["labelled"], bool),
            str(track.get("source_video", track["video_id"])),
            str(track.get("action", "")),
            np.array(track.get("head_sizes", unknown), np.float32) if have_heads else None,
            np.array(track["areas"], np.float32) if "areas" in track else None,
        )
    return truth


@dataclass
class TrackPredictions:
    """What a model said about one track, frame index -> (K, 3); None where it found nobody."""

    frames: dict[int, np.ndarray | None] = field(default_factory=dict)

    def rows(self, joints: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame indices, ascending, int64 (N,), and predictions float32 (N, K, 3), NaN: nobody."""
        order = sorted(self.frames)
        rows = np.full((len(order), joints, 3), np.nan, np.float32)
        for row, frame in enumerate(order):
            if self.frames[frame] is not None:
                rows[row] = self.frames[frame]
        return np.array(order, np.int64), rows


def merge_predictions(
    shares: Iterable[dict[TrackKey, TrackPredictions]],
) -> dict[TrackKey, TrackPredictions]:
    """The predictions of all ranks in one dict.

    Raises:
        ValueError: two ranks predicted the same frame.
    """
    merged: dict[TrackKey, TrackPredictions] = {}
    for share in shares:
        for key, track in share.items():
            mine = merged.setdefault(key, TrackPredictions())
            twice = sorted(mine.frames.keys() & track.frames.keys())
            if twice:
                raise ValueError(
                    f"video {key[0]!r}, track {key[1]!r}: frames {twice[:10]} were predicted by "
                    "two ranks; the test sampler must keep a track on one rank"
                )
            mine.frames.update(track.frames)
    return merged


def prediction_arrays(
    dataset_name: str,
    joint_names: Sequence[str],
    truth: Mapping[TrackKey, TrackTruth],
    predictions: Mapping[TrackKey, TrackPredictions],
    scored: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """The arrays of all labelled frames; NaN where a frame has no prediction.

    Args:
        scored: the joints that the model gives; None: all.
    """
    joints = len(joint_names)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in (*_COLUMNS, *_OPTIONAL)}
    for key, labels in truth.items():
        frames = np.flatnonzero(labels.labelled)
        rows = np.full((len(labels.labelled), joints, 3), np.nan, np.float32)
        if key in predictions:
            indices, found = predictions[key].rows(joints)
            rows[indices] = found
        columns["predictions"].append(rows[frames])
        columns["ground_truth"].append(labels.keypoints[frames])
        columns["boxes"].append(labels.boxes[frames])
        columns["video_ids"].append(np.full(len(frames), key[0]))
        columns["track_ids"].append(np.full(len(frames), key[1]))
        columns["source_videos"].append(np.full(len(frames), labels.source_video))
        columns["actions"].append(np.full(len(frames), labels.action))
        columns["frame_indices"].append(frames.astype(np.int64))
        if labels.head_sizes is not None:
            columns["head_sizes"].append(labels.head_sizes[frames])
    arrays = {name: np.concatenate(parts) for name, parts in columns.items() if parts}
    names = {
        "joint_names": np.array(list(joint_names)),
        "scored_joints": np.array(list(joint_names if scored is None else scored)),
        "dataset_name": np.array(dataset_name),
    }
    return {**names, **arrays}


def write_predictions(
    path: Path,
    dataset_name: str,
    joint_names: Sequence[str],
    truth: Mapping[TrackKey, TrackTruth],
    predictions: Mapping[TrackKey, TrackPredictions],
    facts: Mapping[str, Any],
    scored: Sequence[str] | None = None,
) -> None:
    """Write all labelled frames; an existing file is replaced at once or not at all.

    Args:
        facts: of `scoring_facts`.
        scored: the joints that the model gives; None: all.
    """
    arrays = prediction_arrays(dataset_name, joint_names, truth, predictions, scored)
    for name, kind in _FACTS.items():
        arrays[name] = np.array([] if facts[name] is None else facts[name], kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(path) as file:
        np.savez_compressed(file, **arrays)


def find_predictions(path: Path, dataset: str | None = None) -> Path:
    """The predictions file that ``path`` is, holds, or has under inference/<dataset>.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several, and ``dataset`` names none of them.
    """
    if path.is_file():
        return path
    if (path / FILE).is_file():
        return path / FILE
    found = sorted((path / "inference").glob(f"{dataset or '*'}/{FILE}"))
    if not found:
        raise FileNotFoundError(
            f"{path} is no predictions file, and neither {path / FILE} nor "
            f"{path / 'inference' / (dataset or '<dataset>') / FILE} exists"
        )
    if len(found) > 1:
        names = [file.parent.name for file in found]
        raise ValueError(f"{path} was evaluated on {names}: name one by --dataset")
    return found.pop()


def read_predictions(path: str | Path) -> dict[str, np.ndarray]:
    """The arrays of a predictions file; those that may be missing are filled in.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it is no such file, damaged, or of another program; names what is wrong.
    """
    arrays = _read_arrays(Path(path))
    missing = [name for name in (*_COLUMNS, "joint_names", "dataset_name") if name not in arrays]
    if missing:
        raise ValueError(f"{path}: arrays {missing} are missing, it has {list(arrays)}")
    rows, joints = arrays["frame_indices"].shape[:1], arrays["joint_names"].shape
    expected = {name: rows for name in ("video_ids", "track_ids", "frame_indices")}
    expected |= {"predictions": (*rows, *joints, 3), "ground_truth": (*rows, *joints, 3)}
    expected |= {"boxes": (*rows, 4), "dataset_name": ()}
    for name, shape in expected.items():
        if arrays[name].shape != shape:
            raise ValueError(f"{path}: {name} has the shape {arrays[name].shape}, expected {shape}")
    for name, kinds in (("predictions", "f"), ("ground_truth", "f"), ("boxes", "fiu")):
        if arrays[name].dtype.kind not in kinds:
            raise ValueError(f"{path}: {name} is of type {arrays[name].dtype}, expected numbers")
    if arrays["frame_indices"].dtype.kind not in "iu":
        raise ValueError(f"{path}: frame_indices are of type {arrays['frame_indices'].dtype}")
    arrays.setdefault("source_videos", arrays["video_ids"])
    arrays.setdefault("scored_joints", arrays["joint_names"])
    arrays.setdefault("actions", np.full(len(arrays["video_ids"]), ""))
    return arrays


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of a file of NumPy's; raises ValueError for a damaged one."""
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        # An archive by its first bytes: NumPy takes others for pickles, or for single arrays.
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the check sum of {damaged} is wrong")
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        for name, array in arrays.items():
            if not isinstance(array, np.ndarray):  # NumPy gives the bytes of what it does not know
                raise ValueError(f"{name} is no array")
        return arrays
    except Exception as error:  # NumPy and zipfile raise some ten kinds on damaged bytes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: no file of predictions can be read from it: {reason}") from error


def scoring_facts(stored: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """``pck_protocols``, ``pck_min_visibility`` and ``head_segment`` (None: none) of the dataset.

    The file's own, so that a dataset need not be registered where its predictions are read; of a
    file without them, those of the registered dataset.

    Args:
        stored: of `read_predictions`.

    Raises:
        KeyError: the file lacks them, and its dataset is not registered.
    """
    if all(name in stored for name in _FACTS):
        segment = [str(joint) for joint in stored["head_segment"]]
        return {
            "pck_protocols": [str(name) for name in stored["pck_protocols"]],
            "pck_min_visibility": int(stored["pck_min_visibility"]),
            "head_segment": tuple(segment) if segment else None,
        }
    dataset_name = str(stored["dataset_name"])
    require_registered(dataset_name)
    metadata = MetadataCatalog.get(dataset_name)
    return {name: metadata.get(name) for name in _FACTS}


def require_registered(dataset_name: str) -> None:
    """Raises KeyError, with what to do, for a dataset that is not registered."""
    if dataset_name not in DatasetCatalog.list():
        raise KeyError(
            f"dataset {dataset_name!r} is not registered; name the file that registers it in "
            "VIDEO_POSE_PLUGINS"
        )


_FACTS = {"pck_protocols": np.str_, "pck_min_visibility": np.int64, "head_segment": np.str_}
_COLUMNS = ("predictions", "ground_truth", "boxes", "video_ids", "track_ids", "frame_indices")
_OPTIONAL = ("source_videos", "actions", "head_sizes")
