"""Streaming against the offline test on the same frames."""

from __future__ import annotations

import tempfile
from pathlib import Path

import cv2
import numpy as np

from streaming_benchmark.figure import Figure
from streaming_benchmark.subject import Subject, endless, moving_pictures
from video_pose.data.clip_mapper import build_pose_mapper
from video_pose.data.clips import Chunk
from video_pose.inference.people import GivenBoxes

LIMIT_PX = 1e-4
_CHUNK = 16


def measure_agreement(subject: Subject, frames: int) -> list[Figure]:
    """The largest difference of a joint's coordinate between the two, image px."""
    pictures = moving_pictures(frames)
    height, width = pictures.shape[1:3]
    shift = np.linspace(0, 0.3 * width, frames)
    boxes = np.stack([shift, shift * 0 + 10, shift + 0.5 * width, shift * 0 + height - 10], axis=1)
    expected = _offline(subject, pictures, boxes)
    predictor = subject.predictor(GivenBoxes(boxes))
    found = np.stack([frame.keypoints[0] for frame in predictor(endless(pictures, frames))])
    difference = float(np.abs(found - expected)[..., :2].max())
    details = {"frames": frames, "spread_px": float(np.ptp(found[..., 0]))}
    how = f"{frames} frames, one person, offline in chunks of {_CHUNK}"
    return [Figure("streaming differs from offline by", difference, "px", LIMIT_PX, how, details)]


def _offline(subject: Subject, pictures: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Poses (N, K, 3) of the mapper and the model's own ``forward``."""
    count = len(pictures)
    mapper = build_pose_mapper(subject.cfg, False)
    poses = []
    with tempfile.TemporaryDirectory() as folder:
        names = [str(Path(folder, f"{i:05d}.png")) for i in range(count)]
        for name, picture in zip(names, pictures):
            cv2.imwrite(name, picture)
        track = {
            "video_id": "v", "track_id": "0", "file_names": names,
            "height": pictures.shape[1], "width": pictures.shape[2],
            "keypoints": np.zeros((count, 1, 3), np.float32), "boxes": boxes,
            "labelled": np.ones(count, bool), "image_ids": np.arange(count),
        }  # fmt: skip
        for start in range(0, count, _CHUNK):
            chunk = Chunk(start, min(start + _CHUNK, count), 0, count)
            out = subject.backend.model([mapper({**track, "chunk": chunk})])[0]["instances"]
            poses += [instances.pred_keypoints[0].cpu().numpy() for instances in out]
    return np.stack(poses)
