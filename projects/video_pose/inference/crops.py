"""Crops of the people of one frame, made by the clip mapper that made them in training.

Shape letters: P persons, S test rows (scales and flips), H W size of a crop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from video_pose.data.clip_mapper import PoseClipMapper
from video_pose.data.clips import Chunk
from video_pose.inference.people import Person


class PersonCrops(NamedTuple):
    """The mapper's tensors, with persons in the place of frames."""

    images: Tensor  # uint8 (S, P, 3, H, W), in the model's channel order
    crop_to_image: Tensor  # (S, P, 2, 3)
    centers: Tensor  # (S, P, 2), crop px
    flipped: Tensor  # bool (S,)


class PersonCropper:
    """Shows a test mapper one frame as if it were a track: person p in place of frame p."""

    def __init__(self, mapper: PoseClipMapper) -> None:
        """``mapper``: of testing; its reader is replaced."""
        assert not mapper.is_train
        self._mapper = mapper
        self._held = _HeldImage()
        mapper.reader = self._held  # type: ignore[assignment]
        self.crop_size: tuple[int, int] = mapper.rule.crop_size

    def __call__(self, image: np.ndarray, people: Sequence[Person]) -> PersonCrops:
        """``image``: uint8 (H, W, 3), BGR; ``people``: at least one."""
        swap = self._mapper.image_format == "RGB"
        self._held.image = np.ascontiguousarray(image[:, :, ::-1]) if swap else image
        if self._mapper.rule.per == "clip":
            parts = [self._crop(person.box[None], person.shot_box[None]) for person in people]
        else:
            parts = [self._crop(np.stack([person.box for person in people]), np.zeros((0, 4)))]
        images, matrices, centers = (
            torch.cat([part[key] for part in parts], 1)
            for key in ("image", "crop_to_image", "center")
        )
        flipped = parts[0].get("flipped", torch.zeros(1, dtype=torch.bool))
        return PersonCrops(images, matrices, centers, flipped)

    def _crop(self, boxes: np.ndarray, shot_boxes: np.ndarray) -> dict[str, Tensor]:
        """The mapper on P boxes; ``shot_boxes`` only widen the run whose union it may show."""
        height, width = self._held.image.shape[:2]
        count, run = len(boxes), len(boxes) + len(shot_boxes)
        track: dict[str, Any] = {
            "video_id": "stream",
            "track_id": "0",
            "height": height,
            "width": width,
            "keypoints": np.zeros((run, 0, 3), np.float32),
            "boxes": np.concatenate([boxes, shot_boxes]),
            "image_ids": np.arange(run),
            "chunk": Chunk(0, count, 0, run),
        }
        out = self._mapper(track)
        if out["image"].dim() == 4:
            out |= {key: out[key][None] for key in ("image", "crop_to_image", "center")}
        return out


class _HeldImage:
    """In place of a frame reader: every frame is the one at hand."""

    image: np.ndarray

    def read(self, track: dict[str, Any], indices: Sequence[int]) -> list[np.ndarray]:
        return [self.image] * len(indices)
