"""Frames in, poses out, one frame at a time and with bounded memory.

Shape letters: P persons, K joints, S test rows, C channels, h, w cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from video_pose.data.clip_mapper import PoseClipMapper
from video_pose.inference.crops import PersonCropper, PersonCrops
from video_pose.inference.cuts import CutDetector
from video_pose.inference.frames import Frame, PoseFrame
from video_pose.inference.people import People, Person
from video_pose.inference.person_rows import PersonRows, center_maps
from video_pose.modeling.backend import PoseBackend
from video_pose.modeling.heatmaps import decode_rows, to_instances


class _Prepared(NamedTuple):
    frame: Frame
    starts_shot: bool
    people: list[Person]
    crops: PersonCrops | None  # None where there is nobody


class StreamingPosePredictor:
    """A recurrent pose model on a stream of frames: the offline test's numbers, without its wait.

    The crops come from the clip mapper and the joints from the functions that the model's own
    ``forward`` uses. Every person has a state of the network, all people of a frame are one batch.
    At a cut, and where the frames' size changes, all states are dropped.
    """

    def __init__(
        self,
        *,
        backend: PoseBackend,
        mapper: PoseClipMapper,
        people: People,
        cuts: CutDetector | None = None,
        batch_frames: int = 1,
        keep_heatmaps: bool = False,
    ) -> None:
        """
        Args:
            mapper: of testing; it becomes the predictor's own.
            people: whom to look for where.
            cuts: None never restarts.
            batch_frames: frames that are encoded together, where ``people`` does not depend on
                poses; results do not depend on it, but come later.
            keep_heatmaps: put the joints' heatmaps (of the first test row) into the results.
        """
        if batch_frames < 1:
            raise ValueError(f"batches of {batch_frames} frames: expected 1 or more")
        self.backend = backend
        self.people = people
        self._cropper = PersonCropper(mapper)
        self._cuts = cuts
        self._batch_frames = batch_frames if people.independent else 1
        self._keep_heatmaps = keep_heatmaps
        self._rows = PersonRows(backend)
        self._is_new = True

    def __call__(self, frames: Iterable[Frame], video: str = "video") -> Iterator[PoseFrame]:
        """Yield a result for every frame, in order, also where nobody is found."""
        self._restart()
        if self._cuts is not None:
            self._cuts.reset()
        iterator = iter(frames)
        while batch := list(islice(iterator, self._batch_frames)):
            yield from self._run(batch, video)

    def _restart(self) -> None:
        self._rows.clear()
        self.people.reset()
        self._is_new = True

    @torch.no_grad()
    def _run(self, frames: list[Frame], video: str) -> list[PoseFrame]:
        with self.backend.autocast():
            prepared = [self._prepare(frame) for frame in frames]
            crops = [item.crops for item in prepared if item.crops is not None]
            encoded = iter(self._encode(crops)) if crops else iter(())
            return [
                self._step(item, next(encoded) if item.crops is not None else None, video)
                for item in prepared
            ]

    def _prepare(self, frame: Frame) -> _Prepared:
        is_cut = self._cuts is not None and self._cuts(frame.image)
        starts_shot, self._is_new = is_cut or self._is_new, False
        if is_cut:
            # States are dropped only when this frame's turn comes: earlier ones of the batch wait.
            self.people.reset()
        people = self.people.find(frame)
        crops = self._cropper(frame.image, people) if people else None
        return _Prepared(frame, starts_shot, people, crops)

    def _encode(self, crops: list[PersonCrops]) -> list[tuple[Tensor, Tensor]]:
        """Images as ``begin`` wants them and features, each (S, P, ...), of every frame."""
        shapes = [part.images.shape[:2] for part in crops]
        flat = torch.cat([part.images.flatten(0, 1) for part in crops])
        images, features = self.backend.encode(flat)
        counts = [rows * people for rows, people in shapes]
        return [
            (torch.unflatten(i, 0, shape), torch.unflatten(f, 0, shape))
            for i, f, shape in zip(images.split(counts), features.split(counts), shapes)
        ]

    def _step(
        self, item: _Prepared, encoded: tuple[Tensor, Tensor] | None, video: str
    ) -> PoseFrame:
        if item.starts_shot:
            self._rows.clear()
        tracked = self.people.tracked()
        if tracked is not None:
            self._rows.keep(tracked)
        if encoded is None or item.crops is None:
            return self._result(item, video, None)
        size = self._cropper.crop_size
        centers = center_maps(self.backend, item.crops.centers, size)
        tracks = [person.track_id for person in item.people]
        heatmaps = self._rows.step(tracks, *encoded, centers)
        return self._result(item, video, heatmaps)

    def _result(self, item: _Prepared, video: str, heatmaps: Tensor | None) -> PoseFrame:
        """``heatmaps``: (S, P, C, h, w), None where there is nobody."""
        frame, names = item.frame, tuple(self.backend.joint_names)
        keypoints = np.zeros((0, len(names), 3), np.float32)
        boxes, scores = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        extra: dict[str, np.ndarray] = {}
        if heatmaps is not None and item.crops is not None:
            size = (frame.image.shape[0], frame.image.shape[1])
            poses = decode_rows(
                heatmaps,
                item.crops.crop_to_image.to(heatmaps.device),
                codec=self.backend.codec,
                swap=self.backend.flip_channels,
                flipped=item.crops.flipped,
                image_size=size,
            )
            found = to_instances(poses, size)
            keypoints = poses.cpu().numpy()
            boxes = torch.cat([person.pred_boxes.tensor for person in found]).numpy()
            scores = torch.cat([person.scores for person in found]).numpy()
            if self._keep_heatmaps:
                maps = self.backend.codec.joint_maps(heatmaps[0]).cpu().numpy()
                extra = {"heatmaps": maps, "map_to_image": self._map_to_image(item.crops)}
            self.people.observe(item.people, keypoints)
        return PoseFrame(
            index=frame.index,
            time=frame.time,
            image=frame.image,
            video=video,
            joint_names=names,
            keypoints=keypoints,
            boxes=boxes,
            scores=scores,
            track_ids=np.array([person.track_id for person in item.people], np.int64),
            starts_shot=item.starts_shot,
            **extra,
        )

    def _map_to_image(self, crops: PersonCrops) -> np.ndarray:
        """(P, 2, 3): cell indices of the first row's maps to image pixels."""
        codec, matrices = self.backend.codec, crops.crop_to_image[0].numpy()
        linear, offset = matrices[..., :2], codec.decode_offset + 0.5
        shift = linear.sum(axis=-1, keepdims=True) * offset + matrices[..., 2:]
        return np.concatenate([linear * codec.stride, shift], axis=-1)
