"""A sheet of a dataset's frames with the people that were understood in them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.data import MetadataCatalog

from video_pose.data.describe import DatasetDescription
from video_pose.data.frame_reader import FrameReader
from video_pose.data.records import Track
from video_pose.visualization.poses import (
    Connection,
    connection_indices,
    contact_sheet,
    draw_pose,
    label_confidence,
)

_BOX, _CROWD = (255, 255, 255), (0, 200, 255)
_NO_PICTURE = 96


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
        picture = reader.read(track, [index])[0].copy()  # type: ignore[arg-type]
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
