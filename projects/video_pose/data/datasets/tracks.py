"""What every loader builds on: the dict of one person track, and where datasets lie on disk.

N frames of a track, K joints. Points are continuous pixels c = d + 0.5 (d: 0-based pixel index);
boxes are XYXY through the centres of the extreme pixels.
"""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, cast

import numpy as np

from video_pose.data.records import Track
from video_pose.video_io.pictures import PICTURE_SUFFIXES

# A box made from joints: their extent times this. On JHMDB the puppet mask's box is 1.24 times as
# wide and 1.20 times as high as the joints' extent (medians, 8,517 frames), and BBC Pose uses 1.25.
JOINT_BOX_FACTOR = 1.25
# Image ids are video * stride + frame: unique as long as no video has more frames than this.
_VIDEO_STRIDE = 1_000_000


def make_image_ids(video: int, frames: int | np.ndarray) -> np.ndarray:
    """Ids (N,) int64, unique per video and frame of a dataset.

    Args:
        video: the video's number in the dataset, from 0 and independent of its tracks.
        frames: the number of frames, or their indices (N,).
    """
    indices = np.arange(frames) if isinstance(frames, int) else np.asarray(frames)
    assert indices.size == 0 or indices.max() < _VIDEO_STRIDE, indices.max()
    return video * _VIDEO_STRIDE + indices.astype(np.int64)


def joint_boxes(keypoints: np.ndarray, factor: float = JOINT_BOX_FACTOR) -> np.ndarray:
    """Boxes (N, 4) about the joints with v > 0 of (N, K, 3), enlarged about their centre.

    Boxes are not clipped to the image. A frame without such a joint has the box 0 0 0 0.
    """
    known = keypoints[..., 2:] > 0
    low = np.where(known, keypoints[..., :2], np.inf).min(axis=1)
    high = np.where(known, keypoints[..., :2], -np.inf).max(axis=1)
    some = known.any(axis=(1, 2))
    low[~some], high[~some] = 0, 0
    center, half = (low + high) / 2, (high - low) / 2 * factor
    return np.concatenate([center - half, center + half], axis=1)


def make_keypoints(xy: np.ndarray, visibility: np.ndarray) -> np.ndarray:
    """Joints (N, K, 3) from points (N, K, 2) and v (N, K); unlabelled or NaN ones are 0."""
    finite = np.isfinite(xy).all(axis=-1)
    note(
        "joints whose coordinates are no numbers: not labelled", (~finite & (visibility > 0)).sum()
    )
    v = np.where(finite & np.isfinite(visibility), visibility, 0)
    xy = np.where((v > 0)[..., None], xy, 0)
    return np.concatenate([xy, v[..., None]], axis=-1).astype(np.float32)


def make_track(
    *,
    video_id: str,
    source: dict[str, Any],
    size: tuple[int, int],
    keypoints: np.ndarray,
    boxes: np.ndarray,
    image_ids: np.ndarray,
    track_id: str = "0",
    **extra: Any,
) -> Track:
    """One track's dict. A frame is labelled where at least one joint has v > 0.

    Args:
        video_id: the video; unique in the dataset.
        source: ``{"file_names": [...]}``, or ``{"video_file": ..., "frame_numbers": (N,)}``.
        size: (height, width) of the frames.
        keypoints: (N, K, 3).
        boxes: (N, 4).
        image_ids: (N,).
        track_id: the person.
        extra: further keys of `records.Track`; a value of None is left out.
    """
    keypoints, boxes = _within_reach(keypoints, boxes, size)
    frames = source["file_names"] if "file_names" in source else source["frame_numbers"]
    lengths = [len(frames), len(keypoints), len(boxes), len(image_ids)]
    assert len(set(lengths)) == 1, (video_id, lengths)
    track = {
        "video_id": video_id,
        "track_id": track_id,
        **source,
        "height": int(size[0]),
        "width": int(size[1]),
        "keypoints": np.ascontiguousarray(keypoints, dtype=np.float32),
        "boxes": np.ascontiguousarray(boxes, dtype=np.float32),
        "labelled": (keypoints[..., 2] > 0).any(axis=1),
        "image_ids": np.asarray(image_ids, dtype=np.int64),
        **{key: value for key, value in extra.items() if value is not None},
    }
    return cast(Track, track)


# A coordinate is no label where it is this many times as far out as the image is large.
FAR = 10


def is_far(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Whether points (..., 2) are further out than `FAR` times the image's longer side; (...)."""
    return (np.abs(points) > FAR * max(size)).any(axis=-1)


def drop_far_joints(keypoints: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(N, K, 3) with the labelled joints that `is_far` as unlabelled, (0, 0, 0); they are noted."""
    far = is_far(keypoints[..., :2], size) & (keypoints[..., 2] > 0)
    note(
        f"joints more than {FAR} times as far out as the picture is large: not labelled", far.sum()
    )
    return np.where(far[..., None], 0, keypoints)


def _within_reach(
    keypoints: np.ndarray, boxes: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    corners = np.asarray(boxes, np.float64).reshape(-1, 2, 2)
    useless = ~np.isfinite(corners).all(axis=(1, 2)) | is_far(corners, size).any(axis=1)
    note(f"boxes that are no numbers or more than {FAR} times as far out as the picture is large: "
         "taken as none", useless.sum())  # fmt: skip
    return drop_far_joints(keypoints, size), np.where(useless[:, None], 0, boxes)


# Of a picture, px: what JPEG can say.
_LARGEST_SIDE = 65535


def require_size(values: np.ndarray, where: str) -> tuple[int, int]:
    """(height, width) of (2,), whole numbers above 0, and no larger than pictures are.

    Raises:
        ValueError: they are none; ``where`` is named.
    """
    fits = np.isfinite(values).all() and ((values >= 1) & (values <= _LARGEST_SIDE)).all()
    if not fits or (values != np.round(values)).any():
        raise ValueError(
            f"{where}: field 'dimensions': expected a height and a width in whole px, got "
            f"{np.asarray(values).tolist()}."
        )
    return int(values[0]), int(values[1])


def require_labelled(tracks: Sequence[Track], source: str) -> list[Track]:
    """The tracks that have a frame.

    Raises:
        ValueError: not one frame has a labelled joint; ``source`` says where they were looked for.
    """
    kept = [track for track in tracks if len(track["labelled"])]
    if not any(track["labelled"].any() for track in kept):
        raise ValueError(
            f"{source} has no usable frame: {len(tracks)} tracks were read and none has a frame "
            "with a labelled joint."
        )
    return kept


# ---- what a loader did not take as it stands

_notes: ContextVar[Counter[str] | None] = ContextVar("notes", default=None)


def note(text: str, count: int = 1) -> None:
    """Count something that was mended, left out or not read, to be said when the dataset is whole.

    Args:
        text: what, in the plural: "boxes without area: the joints' extent is used".
    """
    notes = _notes.get()
    if count and notes is not None:
        notes[text] += int(count)


@contextmanager
def noted(source: str) -> Iterator[Counter[str]]:
    """Within the block `note` counts; afterwards one line says it all.

    Args:
        source: the dataset, for the line. Blocks may be nested: the outermost says it.
    """
    outer = _notes.get()
    if outer is not None:
        yield outer
        return
    notes: Counter[str] = Counter()
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)
    if notes:
        said = "; ".join(f"{count} {text}" for text, count in notes.items())
        logging.getLogger(__name__).warning("%s: %s", source, said)


def distinct_names(names: Iterable[str]) -> list[str]:
    """The names, of which a repeated one has its place behind it: a, b, ``a (2)``; noted."""
    found: dict[str, None] = {}
    for place, name in enumerate(names):
        note("tracks with another's name: told apart by their place", name in found)
        while name in found:
            name = f"{name} ({place})"
        found[name] = None
    return list(found)


# ---- where datasets lie on disk

ROOT_VARIABLE = "DETECTRON2_DATASETS"


def datasets_root() -> str:
    """The folder of all datasets: $DETECTRON2_DATASETS, or ``datasets``; read on every call."""
    return os.path.expanduser(os.environ.get(ROOT_VARIABLE, "datasets"))


def require_path(path: str, tree: str) -> str:
    """``path`` itself, where it exists.

    Args:
        path: a file or folder that a loader needs.
        tree: what the dataset's folder should look like, for the error.

    Raises:
        FileNotFoundError: with the path, the variable that sets the root and the expected tree.
    """
    if not os.path.exists(path):
        raise missing(path, tree)
    return path


def missing(path: str, tree: str) -> FileNotFoundError:
    """The error that says what was looked for, which variable leads there, what should be there."""
    value = os.environ.get(ROOT_VARIABLE)
    setting = f"{value!r}" if value is not None else "not set (the default is 'datasets')"
    return FileNotFoundError(
        f"{path} does not exist. Datasets are looked for under ${ROOT_VARIABLE}, which is "
        f"{setting}. Expected:\n{tree}"
    )


class ImageFolder:
    """Finds files that labels name, below one folder.

    A name is taken as it stands where there is such a file. Else it may be a path of another system
    (``C:\\data\\a\\1.JPG``) or of the annotator's machine, whose end lies below the folder, or end
    in another case, spell its letters in Unicode's other form (macOS), or lack the ending of the
    only picture that is called so (frames of a video in CVAT's "for images").
    """

    def __init__(self, root: str) -> None:
        self.root = root
        self._names: dict[str, dict[str, str]] = {}
        # By path: the name that led there, and whether it is that very path.
        self._found: dict[str, tuple[str, bool]] = {}
        self._missing: list[str] = []

    def find(self, name: str) -> str:
        """The path of a file; that which the name tells where there is none.

        Raises:
            ValueError: it is the file of another name as well.
        """
        if "://" in name:
            return name
        parts = [p for p in name.replace("\\", "/").split("/") if p not in ("", ".")]
        if len(parts) > 1 and re.fullmatch(r"[A-Za-z]:", parts[0]):
            parts = parts[1:]
        if os.path.isabs(name) and os.path.isfile(name):
            return name
        for start in range(len(parts)):
            path = self._look(os.path.join(self.root, *parts[start:]))
            if path is not None:
                exact = path == os.path.join(self.root, name)
                if not exact:
                    note("paths of another system or machine: found by their end")
                self._require_own(path, name, exact)
                return path
        self._missing.append(name)
        return os.path.join(self.root, *parts)

    def note_missing(self) -> None:
        """Count the files that were not found; the first is named."""
        if self._missing:
            note(
                f"files that do not exist below {self.root} (the first is {self._missing[0]!r})",
                len(self._missing),
            )

    def _require_own(self, path: str, name: str, exact: bool) -> None:
        other, other_exact = self._found.setdefault(path, (name, exact))
        if other != name and not (exact and other_exact):
            raise ValueError(
                f"{name!r} and {other!r} both end in {path}: choose an image_root below which "
                "every name has a file of its own"
            )

    def _look(self, path: str) -> str | None:
        """The path as the folder has it, however it is spelt there."""
        folder, name = os.path.split(path)
        if folder not in self._names:
            lies_below = len(folder) > len(self.root) and not os.path.isdir(folder)
            present = (self._look(folder) if lies_below else None) or folder
            self._names[folder] = {
                spelt: os.path.join(present, each) if each else ""
                for spelt, each in _spellings_in(present).items()
            }
        names = self._names[folder]
        return names.get(name) or names.get(_loose(name)) or None


def _spellings_in(folder: str) -> dict[str, str]:
    """Names by which files of a folder are found; "" for what several could be meant by."""
    present = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    names: dict[str, str] = {}
    for each in present:
        stem, ending = os.path.splitext(_loose(each))
        if ending in PICTURE_SUFFIXES:
            names[stem] = "" if stem in names else each
    for each in present:
        names.setdefault(_loose(each), each)
    return names | {each: each for each in present}


def _loose(name: str) -> str:
    stem, ending = os.path.splitext(unicodedata.normalize("NFC", name))
    return stem + ending.lower()
