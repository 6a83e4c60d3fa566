"""JHMDB and sub-JHMDB (Jhuang et al., ICCV 2013): puppet-annotated clips of one person.

A clip's track has the frames that images (or the video) and joints have in common. Boxes are the
extent of the puppet mask, as in LSTM Pose Machines; a frame whose mask is missing or empty takes
the joints' extent x 1.25. Joints outside the image are kept with v = 1, all others have v = 2,
unless the joints' file has a field ``hidden`` (15, N), as synthetic ones do, which marks more of
them as v = 1.
Several clips may be shots of one source video, whose name begins the clip's name: a track's
``source_video``. N frames, h w the frame's size.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from video_pose.data.datasets.tracks import (
    joint_boxes,
    make_image_ids,
    make_keypoints,
    make_track,
    missing,
    require_labelled,
    require_path,
)
from video_pose.data.mat_file import load_mat, require_array
from video_pose.data.records import MaskReference, Track
from video_pose.skeleton import JHMDB
from video_pose.video_io.pictures import picture_size
from video_pose.video_io.reading import probe_video

TREE = """jhmdb/
  Rename_Images/<action>/<clip>/00001.png   (or ReCompress_Videos/<action>/<clip>.avi)
  joint_positions/<action>/<clip>/joint_positions.mat
  puppet_mask/<action>/<clip>/puppet_mask.mat
  splits/<action>_test_split1.txt           (JHMDB; _test_split_1.txt is read as well)
  sub_splits/<action>_test_split1.txt       (sub-JHMDB)"""
_SUBSETS = {"train": 1, "test": 2}


def load_jhmdb(
    root: str, split: int, subset: str, split_dirs: tuple[str, ...] = ("splits",)
) -> list[Track]:
    """Track dicts of one split, sorted by action and clip.

    Args:
        root: the folder of `TREE`.
        split: 1, 2 or 3.
        subset: "train", "test", or a part of "train" by source video: "holdout" (about a fifth, see
            `holdout_sources`) or "fit" (the rest).
        split_dirs: folders of split files, of which the first that exists is read ("sub_splits" for
            sub-JHMDB).

    Raises:
        FileNotFoundError: a folder or file is missing.
        ValueError: a file's content is not as described, or no frame is usable.
    """
    require_path(root, TREE)
    paths = [os.path.join(root, name) for name in split_dirs]
    split_dir = next((path for path in paths if os.path.isdir(path)), None)
    if split_dir is None:
        raise missing(" or ".join(paths), TREE)
    clips = select_clips(split_dir, split, subset)
    tracks = [
        _load_clip(root, action, clip, video) for video, (action, clip) in enumerate(sorted(clips))
    ]
    return require_labelled(tracks, f"{split_dir} (split {split}, {subset})")


def select_clips(split_dir: str, split: int, subset: str) -> list[tuple[str, str]]:
    """(action, clip) pairs of "train", "test", "fit" or "holdout", in the files' order.

    Raises:
        FileNotFoundError, ValueError: as `read_split`.
    """
    if subset not in ("fit", "holdout"):
        return read_split(split_dir, split, subset)
    clips = read_split(split_dir, split, "train")
    sources = [source_video(action, clip) for action, clip in clips]
    held = holdout_sources([(action, source) for (action, _), source in zip(clips, sources)])
    return [
        clip for clip, source in zip(clips, sources) if (source in held) == (subset == "holdout")
    ]


def source_video(action: str, clip: str) -> str:
    """What comes before ``_<action>_`` in the clip's name; the whole name where that is missing."""
    return clip.rpartition(f"_{action}_")[0] or clip


def read_split(split_dir: str, split: int, subset: str) -> list[tuple[str, str]]:
    """(action, clip) pairs of a subset, from lines ``clip.avi 1`` (train) or ``2`` (test).

    A 0 marks a clip that the split leaves out.

    Raises:
        FileNotFoundError: no file of this split.
        ValueError: a line is not understood.
    """
    pattern = re.compile(rf"(?P<action>.+)_test_split_?{split}\.txt")
    marks: dict[tuple[str, str], tuple[int, str]] = {}
    found = False
    for name in sorted(os.listdir(split_dir)):
        match = pattern.fullmatch(name)
        if match is None:
            continue
        found = True
        path = os.path.join(split_dir, name)
        if not os.path.getsize(path):
            raise ValueError(f"{path} is empty: expected lines '<clip>.avi 1' or '2'.")
        for number, line in enumerate(_read_lines(path), start=1):
            if not line.strip():
                continue
            clip, _, mark = line.strip().rpartition(" ")
            if not clip or mark not in ("0", "1", "2"):
                raise ValueError(
                    f"{path}, line {number}: expected '<clip>.avi 1' (train) or '2' (test), "
                    f"got {line.strip()!r}."
                )
            key = match["action"], clip.strip().removesuffix(".avi")
            known, place = marks.setdefault(key, (int(mark), f"line {number}"))
            if known != int(mark):
                raise ValueError(
                    f"{path}, line {number}: {clip.strip()!r} is marked {mark}, but {known} in "
                    f"{place}: a clip is of one part only."
                )
    if not found:
        raise missing(os.path.join(split_dir, f"<action>_test_split{split}.txt"), TREE)
    return [key for key, (mark, _) in marks.items() if mark == _SUBSETS[subset]]


def _read_lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}") from error


def read_masks(reference: MaskReference) -> np.ndarray:
    """Load a track's ``masks``: (N', h, w) bool, where N' may be less than the track's N frames.

    Raises:
        FileNotFoundError, ValueError: the file or its field is missing or of another shape.
    """
    path, field = reference["mat_file"], reference["field"]
    masks = require_masks(load_mat(path), field, path)
    return np.moveaxis(masks, 2, 0)


def require_masks(content: dict[str, Any], field: str, path: str) -> np.ndarray:
    """The puppet masks (h, w, N'), bool: not cast to float64 as joints are, at 25 MB a clip."""
    masks: Any = content.get(field)
    if not (isinstance(masks, np.ndarray) and masks.ndim == 3 and masks.dtype.kind in "buif"):
        masks = require_array(content, field, (None, None, None), path)
    return np.asarray(masks != 0)


def mask_boxes(masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N', 4) of masks (h, w, N') and whether each mask has a pixel, (N',).

    A box runs through the centres of the extreme pixels: index + 0.5. An empty mask's box is 0.
    """

    def extent(line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return line.argmax(axis=0), len(line) - 1 - line[::-1].argmax(axis=0)

    columns, rows = np.any(masks, axis=0), np.any(masks, axis=1)
    (x1, x2), (y1, y2) = extent(columns), extent(rows)
    present = columns.any(axis=0)
    boxes = np.stack([x1, y1, x2, y2], axis=1) + 0.5
    return np.where(present[:, None], boxes, 0.0), present


def _load_clip(root: str, action: str, clip: str, video: int) -> Track:
    joint_file = os.path.join(root, "joint_positions", action, clip, "joint_positions.mat")
    mask_file = os.path.join(root, "puppet_mask", action, clip, "puppet_mask.mat")
    content = load_mat(require_path(joint_file, TREE))
    positions = require_array(content, "pos_img", (2, len(JHMDB.names), None), joint_file)
    mask_content = load_mat(require_path(mask_file, TREE))
    masks = require_masks(mask_content, "part_mask", mask_file)

    source, available, size = _find_frames(root, action, clip)
    if masks.shape[:2] != size:
        raise ValueError(
            f"{mask_file}: field 'part_mask': expected masks of the frames' size {size} (height, "
            f"width), got {masks.shape[:2]}."
        )
    length = positions.shape[2]
    if not length:
        raise ValueError(f"{joint_file}: field 'pos_img': expected at least one frame, got none.")
    if available < length:
        where = source.get("video_file") or os.path.dirname(source["file_names"][0])
        raise ValueError(
            f"{where}: {available} frames, but {joint_file} has joints of {length}; frame "
            f"{available + 1} is missing."
        )
    key = "file_names" if "file_names" in source else "frame_numbers"
    source[key] = source[key][:length]

    # 1-based MATLAB pixels -> continuous ones: m - 0.5.
    points = positions.transpose(2, 1, 0) - 0.5
    visibility = _visibility(points, size)
    if "hidden" in content:
        hidden = require_array(content, "hidden", (len(JHMDB.names), length), joint_file)
        visibility[hidden.T > 0] = 1
    keypoints = make_keypoints(points, visibility)
    boxes = joint_boxes(keypoints)
    from_masks, present = mask_boxes(masks[..., :length])
    boxes[: len(present)][present] = from_masks[present]
    return make_track(
        video_id=f"{action}/{clip}",
        source=source,
        size=size,
        keypoints=keypoints,
        boxes=boxes,
        image_ids=make_image_ids(video, length),
        action=action,
        source_video=source_video(action, clip),
        masks={"mat_file": mask_file, "field": "part_mask"},
    )


def _visibility(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """v (N, K): 2 inside the image, 1 outside."""
    inside = ((points >= 0) & (points < np.array([size[1], size[0]]))).all(axis=-1)
    return np.where(inside, 2, 1)


def _find_frames(root: str, action: str, clip: str) -> tuple[dict[str, Any], int, tuple[int, int]]:
    """The clip's images, else its video: source for `make_track`, frame count, (height, width)."""
    folder = os.path.join(root, "Rename_Images", action, clip)
    if os.path.isdir(folder):
        names = [n for n in os.listdir(folder) if re.fullmatch(r"\d+\.png", n)]
        by_number = {int(os.path.splitext(name)[0]): name for name in names}
        # One that lacks in between would shift the rest.
        lacking = sorted(set(range(1, max(by_number, default=1) + 1)) - set(by_number))
        if lacking:
            raise missing(os.path.join(folder, f"{lacking[0]:05d}.png"), TREE)
        files = [os.path.join(folder, by_number[number]) for number in sorted(by_number)]
        return {"file_names": files}, len(files), picture_size(files[0])
    video_file = os.path.join(root, "ReCompress_Videos", action, f"{clip}.avi")
    if not os.path.isfile(video_file):
        raise missing(f"{folder} (nor {video_file})", TREE)
    count, size = probe_video(video_file)
    return {"video_file": video_file, "frame_numbers": np.arange(count)}, count, size


# Hyper-parameters are chosen on a part of the training clips that is held back by whole source
# video, since shots of one video are near-duplicates. Which side a video is on depends on the names
# alone, so that every machine divides the same clips in the same way.
HOLDOUT_SHARE = 0.2


def holdout_sources(clips: Sequence[tuple[str, str]], share: float = HOLDOUT_SHARE) -> set[str]:
    """The source videos to hold back, stratified by action.

    A source that shows several actions belongs to the one with most of its clips (on a tie, the
    first by name). The sources of each action are taken in the order of a hash of their names, each
    where it brings the action's held-back clips closer to ``share`` of its clips; an action with a
    single source keeps it.

    Args:
        clips: (action, source video) of every clip, in any order.
        share: of each action's clips, above 0 and at most 0.5.

    Raises:
        ValueError: ``share`` is outside its range.
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"the share held back must be above 0 and at most 0.5, got {share}")
    actions: dict[str, Counter[str]] = defaultdict(Counter)
    for action, source in clips:
        actions[source][action] += 1
    by_action: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for source, counts in actions.items():
        main = min(counts, key=lambda action: (-counts[action], action))
        by_action[main].append((source, counts.total()))
    held: set[str] = set()
    for members in by_action.values():
        wanted = share * sum(count for _, count in members)
        taken = 0
        for source, count in sorted(members, key=lambda member: _digest(member[0])):
            if abs(taken + count - wanted) < abs(taken - wanted):
                held.add(source)
                taken += count
    return held


def _digest(source: str) -> str:
    # Not hash(): that differs from one process to the next.
    return hashlib.sha256(source.encode()).hexdigest()
