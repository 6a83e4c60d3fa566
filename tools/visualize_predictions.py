#!/usr/bin/env python3
"""Draw a run's predictions beside the labels: a contact sheet, and an overlay video.

    python tools/visualize_predictions.py output/quickstart/inference/synthetic_jhmdb_test

The folder is that of an evaluation (or the predictions.npz in it); the pictures go there, too.
``--order worst`` shows the worst frame of each video, worst video first; ``even`` frames spread
over the videos.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import video_pose  # noqa: F401  (first: it silences a warning of Detectron2's import)

# isort: split
import cv2
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from video_pose.data.frame_reader import FrameReader
from video_pose.evaluation.predictions import read_predictions
from video_pose.visualization import (
    connection_indices,
    contact_sheet,
    side_by_side,
    write_video,
)

_CACHE_BYTES = 256 * 1024 * 1024


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("predictions", type=Path, help="folder of an evaluation, or its npz file")
    parser.add_argument("--output", type=Path, help="folder for the pictures (default: the same)")
    parser.add_argument("--frames", type=int, default=24, help="frames on the sheet")
    parser.add_argument("--order", choices=("even", "worst"), default="even")
    parser.add_argument("--videos", type=int, default=4, help="videos in the overlay; 0: no video")
    parser.add_argument("--fps", type=float, default=12.0, help="of the overlay video")
    return parser.parse_args()


class Pictures:
    """Frames of a predictions file with both poses drawn."""

    def __init__(self, stored: dict[str, np.ndarray]) -> None:
        self.stored = stored
        name = str(stored["dataset_name"])
        joints = [str(joint) for joint in stored["joint_names"]]
        rules = MetadataCatalog.get(name).keypoint_connection_rules
        self._connections = connection_indices(joints, rules)
        self._tracks = {(t["video_id"], t["track_id"]): t for t in DatasetCatalog.get(name)}
        self._reader = FrameReader(_CACHE_BYTES, "BGR")

    def draw(self, row: int) -> np.ndarray:
        """Labels and prediction of one row of the file, side by side."""
        video, track = str(self.stored["video_ids"][row]), str(self.stored["track_ids"][row])
        frame = int(self.stored["frame_indices"][row])
        image = self._reader.read(self._tracks[video, track], [frame])[0]
        return side_by_side(
            image,
            self.stored["ground_truth"][row],
            np.nan_to_num(self.stored["predictions"][row]),
            self._connections,
            self.stored["boxes"][row],
            (f"label {video} {frame}", "prediction"),
        )


def chosen_rows(stored: dict[str, np.ndarray], count: int, order: str) -> np.ndarray:
    """Rows to show: spread evenly, or the largest mean errors relative to the box's longer side."""
    total = len(stored["frame_indices"])
    if order == "even":
        return np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))
    truth, boxes = stored["ground_truth"], stored["boxes"]
    distance = np.linalg.norm(stored["predictions"][..., :2] - truth[..., :2], axis=-1)
    distance = np.where(truth[..., 2] > 0, np.nan_to_num(distance, nan=np.inf), np.nan)
    side = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1), 1)
    order_of_error = np.argsort(-np.nanmean(distance, axis=1) / side)
    # One frame a video: the neighbours of a bad frame are bad in the same way.
    _, first = np.unique(stored["video_ids"][order_of_error], return_index=True)
    return order_of_error[np.sort(first)][:count]


def video_frames(pictures: Pictures, videos: int) -> Iterator[np.ndarray]:
    """All rows of some videos, spread over the dataset, on a canvas of the first one's size."""
    names = list(dict.fromkeys(pictures.stored["video_ids"].tolist()))
    picked = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, videos).astype(int))]
    size = None
    for name in picked:
        for row in np.flatnonzero(pictures.stored["video_ids"] == name):
            picture = pictures.draw(row)
            size = size or (picture.shape[1], picture.shape[0])
            same = (picture.shape[1], picture.shape[0]) == size
            yield picture if same else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def main() -> None:
    """Draw, and print the path of each picture; a missing file ends the program with one line."""
    args = parse_args()
    file = args.predictions
    file = file / "predictions.npz" if file.is_dir() else file
    try:
        stored = read_predictions(file)
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"visualize_predictions: {error}")
    folder = args.output or file.parent
    folder.mkdir(parents=True, exist_ok=True)
    pictures = Pictures(stored)
    rows = chosen_rows(stored, args.frames, args.order)
    sheet = folder / f"contact_sheet_{args.order}.png"
    cv2.imwrite(str(sheet), contact_sheet([pictures.draw(row) for row in rows], columns=3))
    print(f"contact sheet: {sheet}")
    if args.videos > 0:
        overlay = folder / "overlay.mp4"
        codec = write_video(overlay, video_frames(pictures, args.videos), args.fps)
        print(f"overlay video ({codec}): {overlay}")


if __name__ == "__main__":
    main()
