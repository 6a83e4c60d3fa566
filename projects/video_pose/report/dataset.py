"""What was understood of a dataset: its people, joints and frames, and what was mended or not read,
in words and as a sheet of frames.

N frames of a track, K joints.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from video_pose.data.datasets.tracks import noted
from video_pose.data.frame_reader import FrameReader
from video_pose.data.frames import images_to_tracks
from video_pose.data.records import Track, is_person
from video_pose.visualization.poses import (
    Connection,
    connection_indices,
    contact_sheet,
    draw_pose,
    label_confidence,
)

_BOX, _CROWD = (255, 255, 255), (0, 200, 255)
_NO_PICTURE = 96


@dataclass(frozen=True)
class DatasetDescription:
    """Counts of one dataset; ``lines`` is the text of them.

    Attributes:
        name: registered.
        counts: what -> how many: videos, frames, people, frames with joints, ...
        joints: name -> (visible, hidden, not labelled) in the frames with joints of the person.
        pairs: (left, right) that a mirror swaps.
        derived: joints that formulas give.
        notes: what was mended, left out or not read -> how often.
        tracks: the dataset.
    """

    name: str
    counts: dict[str, int]
    joints: dict[str, tuple[int, int, int]]
    pairs: list[tuple[str, str]]
    mirror_known: bool
    derived: list[str]
    notes: dict[str, int]
    tracks: Sequence[Track] = field(repr=False)

    def lines(self) -> list[str]:
        """A line a fact, as `video-pose datasets show` prints them."""
        width = max(map(len, self.counts))
        lines = [f"dataset {self.name}"]
        lines += [f"  {what:{width}}  {count}" for what, count in self.counts.items()]
        pairs = ", ".join(f"{left}/{right}" for left, right in self.pairs)
        unknown = "none" if self.mirror_known else "unknown: mirroring is refused"
        lines += [f"  mirror pairs: {pairs or unknown}"]
        lines += [f"  joints by formula: {', '.join(self.derived) or 'none'}"]
        width = max(map(len, self.joints), default=0)
        lines += [f"  {'joint':{width}}  visible   hidden  without label"]
        lines += [
            f"  {joint:{width}}  {visible:7}  {hidden:7}  {absent:13}"
            for joint, (visible, hidden, absent) in self.joints.items()
        ]
        lines += ["  mended, left out or not read:"] if self.notes else []
        lines += [f"    {count} {what}" for what, count in self.notes.items()]
        return lines


def describe_dataset(name: str) -> DatasetDescription:
    """Load a registered dataset of people, in videos or images, and count what it holds.

    Raises:
        KeyError: it is not registered.
        FileNotFoundError, ValueError: it cannot be loaded, or has no joint names.
    """
    if name not in DatasetCatalog.list():
        raise KeyError(f"dataset {name!r} is not registered")
    metadata = MetadataCatalog.get(name)
    names = metadata.get("keypoint_names")
    if not names:
        raise ValueError(f"dataset {name!r} has no keypoint_names in its metadata")
    name = metadata.get("video_dataset", name)
    with noted(f"dataset {name!r}") as notes:
        found: Any = DatasetCatalog.get(name)
    if found and "annotations" in found[0]:
        found = images_to_tracks(found, len(names), name)
    return DatasetDescription(
        name=name,
        counts=count_frames(found),
        joints=_count_joints(found, list(names)),
        pairs=[(left, right) for left, right in metadata.get("keypoint_flip_map", [])],
        mirror_known=bool(metadata.get("mirror_known", "keypoint_flip_map" in metadata.as_dict())),
        derived=sorted(set(metadata.get("derived_joints", {})) - set(names)),
        notes=dict(notes),
        tracks=found,
    )


def count_frames(tracks: Sequence[Track]) -> dict[str, int]:
    """Videos, frames and people, and the frames on which they are labelled."""
    people = [track for track in tracks if is_person(track)]
    frames: Counter[int] = Counter()
    labelled: set[int] = set()
    for track in tracks:
        frames.update(track["image_ids"].tolist())
        shown = track["labelled"] | track.get("boxed", track["labelled"])
        labelled.update(track["image_ids"][shown].tolist())
    videos: dict[str, set[int]] = {}
    for track in tracks:
        videos.setdefault(track["video_id"], set()).update(track["image_ids"].tolist())
    areas = np.concatenate([_without_area(track) for track in tracks]) if tracks else np.zeros(0)
    return {
        "videos": len(videos),
        "of one frame": sum(len(ids) == 1 for ids in videos.values()),
        "frames": len(frames),
        "frames without a label": len(frames) - len(labelled),
        "people (tracks)": len(people),
        "poses (person and frame)": sum(int(t["labelled"].sum()) for t in people),
        "boxes without joints": sum(
            int((t["boxed"] & ~t["labelled"]).sum())
            for t in tracks
            if "boxed" in t and not t.get("crowd")
        ),
        "crowd regions": sum(bool(t.get("crowd")) for t in tracks),
        "poses with a box without area": int(areas.sum()),
        "joints outside the picture": sum(_outside(track) for track in people),
    }


def _without_area(track: Track) -> np.ndarray:
    boxes = track["boxes"]
    return track["labelled"] & ~(boxes[:, 2:] > boxes[:, :2]).all(axis=1)


def _outside(track: Track) -> int:
    points = track["keypoints"]
    limit = np.array([track["width"], track["height"]])
    outside = ((points[..., :2] < 0) | (points[..., :2] > limit)).any(axis=-1)
    return int((outside & (points[..., 2] > 0)).sum())


def _count_joints(tracks: Sequence[Track], names: list[str]) -> dict[str, tuple[int, int, int]]:
    seen = [track["keypoints"][track["labelled"]][..., 2] for track in tracks]
    v = np.concatenate(seen) if seen else np.zeros((0, len(names)))
    return {
        name: (int((v[:, k] == 2).sum()), int((v[:, k] == 1).sum()), int((v[:, k] == 0).sum()))
        for k, name in enumerate(names)
    }


def dataset_sheet(description: DatasetDescription, count: int = 12, columns: int = 4) -> np.ndarray:
    """Frames spread evenly over the labelled ones: joints, boxes (white), crowds (yellow).

    A frame whose file cannot be read is grey, and its title says so.

    Args:
        description: of `describe_dataset`.
        count: frames. columns: of the sheet.

    Returns:
        uint8 BGR.

    Raises:
        ValueError: the dataset has no labelled frame.
    """
    by_frame: dict[int, list[tuple[Track, int]]] = {}
    for track in description.tracks:
        shown = track["labelled"] | track.get("boxed", track["labelled"])
        for i in np.flatnonzero(shown).tolist():
            by_frame.setdefault(int(track["image_ids"][i]), []).append((track, i))
    if not by_frame:
        raise ValueError(f"dataset {description.name!r} has no labelled frame to draw")
    keys = list(by_frame)
    chosen = np.unique(np.linspace(0, len(keys) - 1, min(count, len(keys))).round().astype(int))
    rules = MetadataCatalog.get(description.name).get("keypoint_connection_rules", [])
    lines = connection_indices(list(description.joints), rules)
    reader = FrameReader(0, "BGR")
    drawn = [_draw_frame(by_frame[keys[i]], lines, reader) for i in chosen]
    return contact_sheet([picture for picture, _ in drawn], columns, [title for _, title in drawn])


def _draw_frame(
    people: list[tuple[Track, int]], lines: Sequence[Connection], reader: FrameReader
) -> tuple[np.ndarray, str]:
    track, index = people[0]
    title = f"{track['video_id']} {index}"
    try:
        picture = reader.read(track, [index])[0].copy()
    except (OSError, ValueError):
        size = min(track["height"], 4096), min(track["width"], 4096)
        picture = np.full((*size, 3), _NO_PICTURE, np.uint8)
        title += ": no picture"
    thickness = max(1, round(max(picture.shape[:2]) / 400))
    for person, i in people:
        x0, y0, x1, y1 = (round(float(side)) for side in person["boxes"][i].clip(-9999, 9999))
        color = _CROWD if person.get("crowd") else _BOX
        cv2.rectangle(picture, (x0, y0), (x1, y1), color, thickness, cv2.LINE_AA)
    poses = [person["keypoints"][i] for person, i in people if person["labelled"][i]]
    for number, pose in enumerate(poses):
        # Enlarged once at most: the next pose is drawn on the picture as it is by then.
        factor = picture.shape[0] / track["height"] if number else 1.0
        scaled = pose * [factor, factor, 1]
        picture = draw_pose(picture, label_confidence(scaled), lines)
    return picture, title
