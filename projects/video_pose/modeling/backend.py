"""A pose network as evaluation and streaming use it, whatever computes it.

Shapes: N images, R rows, S test rows of one clip, T frames, C channels, H, W crop px, h, w cells.
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn

from video_pose.data.records import ClipPrediction, ClipRecord
from video_pose.heatmap_codec import HeatmapCodec
from video_pose.modeling.heatmaps import CenterMap, decode_rows, to_instances
from video_pose.modeling.sequences import PEAKS, OverTime
from video_pose.modeling.states import TrackStates, codec_moves, move_heatmap_state

if TYPE_CHECKING:
    from video_pose.modeling.video_pose_net import VideoPoseNet

# Most images in one call of an encoder: weights are read once for them, and more only take memory.
IMAGES_AT_ONCE = 8


class PoseBackend(Protocol):
    """`encode`, `begin` and `advance` of a model, and what surrounds them.

    A state is a NamedTuple of tensors whose dimension 0 is the row; rows are taken and put together
    by the functions of `modeling.states`, whatever computes them.
    """

    joint_names: list[str]
    codec: HeatmapCodec
    center_map: CenterMap
    flip_channels: list[int]
    reset_every: int
    # Whether a state is to move with its crops: `advance` is then given the moves.
    align_state: bool

    @property
    def device(self) -> torch.device:
        """Where heatmaps are."""

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision to compute in."""

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) of 0-255 -> what ``begin`` wants of the images, and features (N, ...)."""

    def begin(self, images: Tensor, features: Tensor) -> Any:
        """First images and features of R fresh rows -> their state."""

    def advance(
        self, features: Tensor, center_map: Tensor, state: Any, moves: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        """Features (R, ...), centre maps (R, 1, h, w), state -> heatmaps (R, C, h, w), state.

        Args:
            moves: (R, 2, 3), from this step's cells to those that the state lies in
                (`states.crop_moves`); None: the same cells.
        """

    def describe(self) -> str:
        """What computes, and in which precision, for a line of log."""


class TorchBackend:
    """A `VideoPoseNet` in evaluation mode."""

    def __init__(self, model: VideoPoseNet) -> None:
        # `eval` drops the states that the model keeps between chunks.
        self.model = model.eval() if model.training else model
        self.joint_names = model.joint_names
        self.codec = model.codec
        self.center_map = model.center_map
        self.flip_channels = model.flip_channels
        self.reset_every = model.reset_every
        self.align_state = model.align_state

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.model.device

    def autocast(self) -> AbstractContextManager[Any]:
        return self.model.autocast()

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        normalized = self.model.normalize(images)
        # Convolutions of PyTorch on a CPU round one image otherwise than several: there every image
        # is encoded by itself, so that a track gives the same numbers in chunks of any length.
        one_by_one = normalized.device.type == "cpu"
        several = even_parts(normalized)
        chosen = normalized.split(1) if one_by_one and len(normalized) else several
        parts = [self.model.encode(part) for part in chosen]
        return normalized, parts[0] if len(parts) == 1 else torch.cat(parts)

    def begin(self, images: Tensor, features: Tensor) -> Any:
        return self.model.begin(images, features)

    def advance(
        self, features: Tensor, center_map: Tensor, state: Any, moves: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        if moves is not None:
            state = move_heatmap_state(state, moves, self.codec)
        return self.model.advance(features, center_map, state)

    def describe(self) -> str:
        return f"PyTorch on {self.device.type}, {self.model.precision_name}"


class ClipInference(nn.Module):
    """A backend as a model for Detectron2's ``inference_on_dataset``.

    The chunks of a track arrive in order; states are kept between them.
    """

    def __init__(self, backend: PoseBackend, over_time: OverTime | None = None) -> None:
        """``over_time``: corrects the poses of whole tracks, each of which is one chunk then."""
        super().__init__()
        self.backend = backend
        self._over_time = over_time
        self._states = TrackStates()

    @property
    def device(self) -> torch.device:
        """Where heatmaps are."""
        return self.backend.device

    @torch.no_grad()
    def forward(self, batch: list[ClipRecord]) -> list[ClipPrediction]:
        """``{"instances": [Instances] * T}`` per clip; the mapper's docstring lists its keys."""
        return [infer_chunk(self.backend, self._states, clip, self._over_time) for clip in batch]


def even_parts(images: Tensor, most: int = IMAGES_AT_ONCE) -> tuple[Tensor, ...]:
    """``images`` in parts of nearly one size, at most ``most``."""
    return images.tensor_split(max(1, math.ceil(len(images) / most)))


def infer_chunk(
    backend: PoseBackend,
    states: TrackStates,
    clip: ClipRecord,
    over_time: OverTime | None = None,
) -> ClipPrediction:
    """Advance one track by one chunk: ``{"instances": [Instances] * T}``.

    Args:
        states: of the tracks under way. clip: a test mapper's dict. over_time: corrects the chunk's
            poses, which must be a whole track's.

    Raises:
        ValueError: the chunk does not follow the last one of its track, or is a part of one that is
            to be corrected over time.
    """
    if over_time is not None and not (clip["is_first"] and clip["is_last"]):
        raise ValueError(
            f"{clip['video_id']}, track {clip['track_id']}: poses are corrected over whole tracks, "
            "and this is a part of one"
        )
    images, matrices, centers = clip["image"], clip["crop_to_image"], clip["center"]
    if images.dim() == 4:
        images, matrices, centers = images[None], matrices[None], centers[None]
    heatmaps = run_chunk(backend, states, clip, images, centers, matrices)
    size = (clip["height"], clip["width"])
    flipped = torch.as_tensor(clip.get("flipped", [False] * len(images)))
    poses = decode_rows(
        heatmaps,
        matrices.to(heatmaps.device),
        codec=backend.codec,
        swap=backend.flip_channels,
        flipped=flipped,
        image_size=size,
    )
    if over_time is not None:
        peaks = image_peaks(backend, heatmaps, matrices, flipped, poses).cpu().numpy()
        poses = torch.from_numpy(over_time(peaks, backend.joint_names)).to(poses)
    return {"instances": to_instances(poses, size)}


def image_peaks(
    backend: PoseBackend, heatmaps: Tensor, matrices: Tensor, flipped: Tensor, poses: Tensor
) -> Tensor:
    """The highest peaks of every joint, (N, K, C, 3) image px: `PEAKS` of them from the maps of one
    scale (and the mean with those of the mirrored crop); of several scales the merged poses alone.

    Args:
        heatmaps: (S, N, C, h, w). matrices: (S, N, 2, 3), crop px to image px. flipped: (S,) bool.
        poses: (N, K, 3), of `decode_rows`.
    """
    codec, maps = backend.codec, heatmaps[0]
    if len(heatmaps) == 2 and not flipped[0] and flipped[1] and codec.is_centered:
        maps = (maps + heatmaps[1][:, backend.flip_channels].flip(-1)) / 2
    elif len(heatmaps) > 1:
        return poses[:, :, None]
    peaks = codec.peaks(maps, PEAKS)
    affine = matrices[0].to(peaks)
    xy = peaks[..., :2].flatten(1, 2) @ affine[:, :, :2].transpose(1, 2) + affine[:, None, :, 2]
    return torch.cat([xy.view_as(peaks[..., :2]), peaks[..., 2:]], dim=-1)


def run_chunk(
    backend: PoseBackend,
    states: TrackStates,
    clip: ClipRecord,
    images: Tensor,
    centers: Tensor,
    crop_to_image: Tensor | None = None,
) -> Tensor:
    """Heatmaps (S, T, C, h, w) of a chunk, whose last state is kept with the place of its crop.

    Args:
        images: (S, T, 3, H, W). centers: (S, T, 2).
        crop_to_image: (S, T, 2, 3), for states that move with their crops.
    """
    position, kept = states.resume(clip)
    state, place = kept or (None, None)
    rows, frames = images.shape[:2]
    size = (images.shape[-2], images.shape[-1])
    with backend.autocast():
        flat_images, flat = backend.encode(images.flatten(0, 1))
        features = flat.view(rows, frames, *flat.shape[1:])
        prepared = flat_images.view(rows, frames, *flat_images.shape[1:])
        flat_centers = centers.flatten(0, 1).to(backend.device)
        center_maps = backend.center_map(flat_centers, size, training=False)
        center_maps = center_maps.view(rows, frames, *center_maps.shape[1:])
        heatmaps = []
        for t in range(frames):
            period, moves = backend.reset_every, None
            if state is None or (period and (position + t) % period == 0):
                state = backend.begin(prepared[:, t], features[:, t])
            elif backend.align_state and place is not None and crop_to_image is not None:
                moves = codec_moves(place, crop_to_image[:, t], backend.codec)
            place = None if crop_to_image is None else crop_to_image[:, t]
            maps, state = backend.advance(features[:, t], center_maps[:, t], state, moves)
            heatmaps.append(maps.float())
    states.store(clip, position + frames, (state, place))
    return torch.stack(heatmaps, 1)
