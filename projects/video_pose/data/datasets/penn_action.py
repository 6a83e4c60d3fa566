"""Penn Action (Zhang et al., ICCV 2013): 2,326 videos of one person each.

Labels have defects that are handled here: counters and coordinates stored as uint8 (cast before
arithmetic), a missing last box (the one before is used), zero-area boxes (kept: metrics exclude
them), unannotated joints. Joints outside the frame are kept. N frames.
"""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

import numpy as np

from video_pose.data.datasets.tracks import (
    make_image_ids,
    make_keypoints,
    make_track,
    missing,
    note,
    noted,
    require_labelled,
    require_path,
    require_size,
)
from video_pose.data.mat_file import load_mat, require_array
from video_pose.data.records import Track
from video_pose.skeleton import PENN_ACTION

TREE = """Penn_Action/
  frames/0001/000001.jpg ...
  labels/0001.mat ..."""
_SUBSETS = {"train": 1, "test": -1}
# A joint stored at or below this (1-based px, both axes) with visibility 0 was never placed.
_UNANNOTATED = 1.5


class PennLabel(NamedTuple):
    """One label file, in the catalog's units.

    Attributes:
        keypoints: (N, 13, 3), continuous px and v.
        boxes: (N, 4) XYXY, continuous px.
        train: whether the video belongs to the official training set.
        action, pose: texts ("" where the file has none).
        height, width: of the frames.
    """

    keypoints: np.ndarray
    boxes: np.ndarray
    train: bool
    action: str
    pose: str
    height: int
    width: int


def parse_penn_label(path: str) -> PennLabel:
    """Read one ``labels/NNNN.mat``; no frame is needed.

    v: stored visibility 1 -> 2, 0 -> 1, an unannotated joint -> 0. ``nframes`` is not read: the
    rows of ``x`` say the same and cannot overflow.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a field is missing or of a wrong shape or value.
    """
    content = load_mat(path)
    joints = len(PENN_ACTION.names)
    x = require_array(content, "x", (None, joints), path)
    frames = len(x)
    y = require_array(content, "y", (frames, joints), path)
    visible = require_array(content, "visibility", (frames, joints), path)
    dimensions = require_array(content, "dimensions", (1, 3), path).ravel()
    height, width = require_size(dimensions[:2], path)
    if not frames:
        raise ValueError(f"{path}: field 'x': expected at least one frame, got none.")
    unknown = ~np.isfinite(visible)
    note("joints of NaN visibility: not labelled", unknown.sum())
    wrong = visible[~unknown & (visible != 0) & (visible != 1)]
    if wrong.size:
        raise ValueError(f"{path}: field 'visibility': expected 0 or 1, got {wrong.flat[0]:g}.")
    train = require_array(content, "train", (1, 1), path).item()
    if train not in _SUBSETS.values():
        raise ValueError(f"{path}: field 'train': expected 1 (train) or -1 (test), got {train:g}.")

    unannotated = unknown | (visible == 0) & (x <= _UNANNOTATED) & (y <= _UNANNOTATED)
    v = np.where(unannotated, 0, np.where(visible > 0, 2, 1))
    # 1-based MATLAB pixels -> continuous ones: m - 0.5.
    return PennLabel(
        keypoints=make_keypoints(np.stack([x, y], axis=-1) - 0.5, v),
        boxes=(_read_boxes(content, frames, path) - 0.5).astype(np.float32),
        train=train == 1,
        action=_optional_text(content, "action"),
        pose=_optional_text(content, "pose"),
        height=height,
        width=width,
    )


def load_penn_action(root: str, subset: str, require_frames: bool = True) -> list[Track]:
    """Track dicts of the videos whose label says ``subset``, in order of their number.

    Args:
        root: the folder of `TREE`.
        subset: "train" or "test".
        require_frames: False names the frames without looking for them, to look at labels alone.

    Raises:
        FileNotFoundError: a folder or a labelled frame is missing.
        ValueError: a label file is not as described, or no frame is usable.
    """
    with noted(f"Penn Action ({subset})"):
        require_path(root, TREE)
        labels = require_path(os.path.join(root, "labels"), TREE)
        frames = os.path.join(root, "frames")
        if require_frames:
            require_path(frames, TREE)
        names = sorted(n for n in os.listdir(labels) if re.fullmatch(r"\d+\.mat", n))
        tracks = []
        for video, name in enumerate(names):
            label = parse_penn_label(os.path.join(labels, name))
            if label.train != (_SUBSETS[subset] == 1):
                continue
            video_id = os.path.splitext(name)[0]
            count = len(label.keypoints)
            files = _frame_files(os.path.join(frames, video_id), count, require_frames)
            tracks.append(
                make_track(
                    video_id=video_id,
                    source={"file_names": files},
                    size=(label.height, label.width),
                    keypoints=label.keypoints,
                    boxes=label.boxes,
                    image_ids=make_image_ids(video, count),
                    action=label.action or None,
                )
            )
        return require_labelled(tracks, f"{labels} ({subset})")


def _frame_files(folder: str, count: int, require: bool) -> list[str]:
    """Files of frames 1 to ``count``; a missing one is an error, as it would shift the labels."""
    names = [f"{number:06d}.jpg" for number in range(1, count + 1)]
    present = set(os.listdir(require_path(folder, TREE)) if require else names)
    lacking = [name for name in names if name not in present]
    if lacking:
        raise missing(os.path.join(folder, lacking[0]), TREE)
    return [os.path.join(folder, name) for name in names]


def _read_boxes(content: dict[str, Any], frames: int, path: str) -> np.ndarray:
    """``bbox`` (N, 4); where the last row is missing (1154, 1865), the one before it again."""
    boxes = require_array(content, "bbox", (None, 4), path)
    if len(boxes) == frames - 1 and len(boxes):
        boxes = np.concatenate([boxes, boxes[-1:]])
    if len(boxes) != frames:
        raise ValueError(
            f"{path}: field 'bbox': expected shape ({frames}, 4) or one row less, "
            f"got {boxes.shape}."
        )
    return boxes


def _optional_text(content: dict[str, Any], field: str) -> str:
    value = content.get(field, "")
    return value if isinstance(value, str) else ""
