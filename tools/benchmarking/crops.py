"""Decoding and cropping the frames of videos as a test does, without a model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from video_pose.data.clips import cut_run
from video_pose.data.dataset_mapper import build_pose_mapper


def crop_runner(cfg: CfgNode, dataset_name: str, way: str, frames: int) -> Callable[[], None]:
    """Something that decodes and crops the next ``frames`` frames when called.

    Args:
        way: "frames" takes them one a chunk, "clips" all in one.
    """
    cfg = cfg.clone()
    cfg.INPUT.FRAME_CACHE_BYTES = 0  # every frame is decoded
    mapper = build_pose_mapper(cfg, False)
    parts = frames if way == "frames" else 1
    chunks = _chunks(DatasetCatalog.get(dataset_name), frames, frames // parts)

    def run() -> None:
        for _ in range(parts):
            mapper(next(chunks))

    return run


def _chunks(tracks: list[dict[str, Any]], frames: int, length: int) -> Iterator[dict[str, Any]]:
    """Chunks of ``length`` frames of all tracks in order, again and again; a track's last frames
    that fill no clip of ``frames`` are left out."""
    for track in itertools.cycle(tracks):
        whole = len(track["keypoints"]) // frames * frames
        for chunk in cut_run((0, whole), length):
            yield {**track, "chunk": chunk}
