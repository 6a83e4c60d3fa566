"""Clips and chunks cut from cached maps, in the place of those cut from videos.

T frames of a clip, N frames of a track.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from video_pose.data.clips import Chunk, sample_clip

from .cache import Clips

_PER_FRAME = ("image", "crop_to_image", "center", "frame_indices", "image_ids", "keypoints")


class MapMapper:
    """Called as `PoseClipMapper` is; the same keys, but maps (T, C, h, w) as ``image``.

    Args:
        views: the cached tracks, once for each augmentation; testing has one.
        is_train: draw clips of ``length`` frames at distance ``stride``, each from a view drawn at
            random; else cut the dict's ``chunk``.
    """

    def __init__(
        self, views: list[Clips], is_train: bool, length: int = 1, stride: int = 1
    ) -> None:
        self.is_train = is_train
        self._views = views
        self._length, self._stride = length, stride

    def usable_frames(self, track: dict[str, Any]) -> np.ndarray:
        """bool (N,): frames with at least one label of the model's joints."""
        stored = self._views[0][track["video_id"], track["track_id"]]
        return (stored["keypoints"][..., 2] > 0).any(dim=1).numpy()

    def __call__(self, track: dict[str, Any]) -> dict[str, Any]:
        key = track["video_id"], track["track_id"]
        if not self.is_train:
            chunk: Chunk = track["chunk"]
            frames = np.arange(chunk.start, chunk.stop)
            out = _rows(self._views[0][key], frames, np.zeros(len(frames), bool))
            return {**out, "is_first": chunk.is_first, "is_last": chunk.is_last}
        rng = np.random.default_rng(track["clip_seed"])
        stored = self._views[rng.integers(len(self._views))][key]
        count = len(stored["keypoints"])
        clip = sample_clip(count, self._length, self._stride, rng, self.usable_frames(track))
        return _rows(stored, clip.frames, clip.is_padding)


def _rows(stored: dict[str, Any], frames: np.ndarray, padding: np.ndarray) -> dict[str, Any]:
    rows = torch.from_numpy(frames)
    cut = {name: stored[name][rows] for name in _PER_FRAME if name in stored}
    # Autocast on a CPU refuses to stack half precision.
    cut["image"] = cut["image"].float()
    rest = {name: value for name, value in stored.items() if name not in _PER_FRAME}
    return {**rest, **cut, "is_padding": torch.from_numpy(padding)}
