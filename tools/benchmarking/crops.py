"""Decoding and cropping the frames of videos as a test does, without a model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from video_pose.data.clip_mapper import PoseClipMapper, build_pose_mapper
from video_pose.data.clips import cut_run


def build_uncached_mapper(cfg: CfgNode) -> PoseClipMapper:
    """The mapper of testing; every frame is decoded."""
    cfg = cfg.clone()
    cfg.INPUT.FRAME_CACHE_BYTES = 0
    return build_pose_mapper(cfg, False)


def crop_runner(
    mapper: PoseClipMapper, dataset_name: str, frames: int, parts: int
) -> Callable[[], None]:
    """Something that decodes and crops the next ``frames`` frames, in ``parts`` chunks, when
    called."""
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
