"""What every loader builds on: the dict of one person track, and where datasets lie on disk.

N frames of a track, K joints. Points are continuous pixels c = d + 0.5 (d: 0-based pixel index);
boxes are XYXY through the centres of the extreme pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
import numpy as np
import os


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
    """Joints (N, K, 3) from points (N, K, 2) and v (N, K); unlabelled or non-finite ones are 0."""
    finite = np.isfinite(xy).all(axis=-1)
    v = np.where(finite, visibility, 0)
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
) -> dict[str, Any]:
    """One track's dict. A frame is labelled where at least one joint has v > 0.

    Args:
        video_id: the video; unique in the dataset.
        source: ``{"file_names": [...]}``, or ``{"video_file": ..., "frame_numbers": (N,)}``.
        size: (height, width) of the frames.
        keypoints: (N, K, 3).
        boxes: (N, 4).
        image_ids: (N,).
        track_id: the person.
        extra: ``action``, ``source_video`` (of which the video is one shot) or ``masks``; a value
            of None is left out.
    """
    frames = source["file_names"] if "file_names" in source else source["frame_numbers"]
    lengths = [len(frames), len(keypoints), len(boxes), len(image_ids)]
    assert len(set(lengths)) == 1, (video_id, lengths)
    return {
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


def require_labelled(tracks: Sequence[dict[str, Any]], source: str) -> list[dict[str, Any]]:
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


def image_size(path: str) -> tuple[int, int]:
    """(height, width) from an image file's header; no pixel is decoded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no image.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return image.height, image.width
    except FileNotFoundError:
        raise FileNotFoundError(f"Image {path} does not exist.") from None
    except UnidentifiedImageError as error:
        raise ValueError(f"Image {path} cannot be read: {error}") from error





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
