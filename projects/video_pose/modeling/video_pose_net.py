"""The base of every recurrent pose model: everything except the networks themselves.

Shapes: B clips, T frames, S test rows of one clip (scales and flips), R rows, K joints, C channels,
H, W crop px, h, w heatmap cells. A model is a heavy part without time and a light one with it:

    encode(images (N, 3, H, W))              -> features (N, ...)        no time, batched, cacheable
    begin(images_1 (R, 3, H, W), features_1) -> state                    a fresh row
    advance(features_t, center_map, state)   -> heatmaps (R, C, h, w), state

``advance`` runs for every frame, the first one included, right after ``begin``.
"""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import get_event_storage, has_event_storage
from torch import Tensor, nn

from video_pose.data.records import ClipRecord
from video_pose.heatmap_codec import HeatmapCodec
from video_pose.modeling.backend import TorchBackend, infer_chunk
from video_pose.modeling.heatmaps import (
    CenterMap,
    heatmap_loss,
    move_outside_away,
)
from video_pose.modeling.precision import check_precision, inference_autocast, inference_dtype
from video_pose.modeling.states import TrackStates, align_state
from video_pose.skeleton import find_mirror_pairs, flip_permutation


class ClipMaps(NamedTuple):
    """Maps of a scan: ``heatmaps`` (B, T, C, h, w), and by name further ones with a weight."""

    heatmaps: Tensor
    extra: dict[str, tuple[Tensor, float]]


class VideoPoseNet(nn.Module):
    """Normalises images, scans clips, keeps states between chunks, computes losses and poses.

    Args:
        joint_names: joints in the order of the maps. flip_map: pairs (left, right) of them.
        codec, center_map: see their classes.
        pixel_mean, pixel_std: of the input's channels.
        loss_reduction, loss_weight: see `heatmap_loss`.
        draw_outside: whether joints outside image or crop keep the visible part of their Gaussian.
        freeze_encoder: keep the encoder as loaded, its norms in evaluation mode.
        reset_every: drop the state every n frames at inference; 0 never does.
        align_state: move a row's state with its crop (`states.py`) before each step.
        precision: of inference: "float32", "bfloat16", "float16" or "auto" (see precision.py).
    """

    def __init__(
        self,
        *,
        joint_names: list[str],
        flip_map: list[tuple[str, str]],
        codec: HeatmapCodec,
        center_map: CenterMap,
        pixel_mean: list[float],
        pixel_std: list[float],
        loss_reduction: str = "mean",
        loss_weight: float = 1.0,
        draw_outside: bool = True,
        freeze_encoder: bool = False,
        reset_every: int = 0,
        align_state: bool = False,
        precision: str = "float32",
    ) -> None:
        super().__init__()
        if not joint_names:
            raise ValueError("a pose model needs joint names: MODEL.POSE.JOINTS is empty")
        self.joint_names = list(joint_names)
        self.codec = codec
        self.center_map = center_map
        self.loss_reduction = loss_reduction
        self.loss_weight = loss_weight
        self.draw_outside = draw_outside
        self.freeze_encoder = freeze_encoder
        self.reset_every = reset_every
        self.align_state = align_state
        self.precision = check_precision(precision)
        # Memory layout of the images that the network sees; the layers behind keep it.
        self.layout = torch.contiguous_format
        self.flip_channels = flip_permutation(codec.channel_labels(joint_names), flip_map)
        shape = (1, -1, 1, 1)
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(shape), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(shape), persistent=False)
        self._states = TrackStates()

    # Whether its state holds maps, which may move with a crop.
    has_memory: ClassVar[bool] = True

    @staticmethod
    def base_config(cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments that all models read from ``cfg`` alike."""
        pose, joints = cfg.MODEL.POSE, list(cfg.MODEL.POSE.JOINTS)
        if pose.ENCODER not in ("train", "freeze"):
            raise ValueError(f"MODEL.POSE.ENCODER {pose.ENCODER!r}: choose from 'train', 'freeze'")
        return {
            "joint_names": joints,
            "flip_map": [tuple(pair) for pair in pose.FLIP_MAP] or find_mirror_pairs(joints),
            "codec": HeatmapCodec.from_config(cfg),
            "center_map": CenterMap.from_config(cfg),
            "pixel_mean": list(cfg.MODEL.PIXEL_MEAN),
            "pixel_std": list(cfg.MODEL.PIXEL_STD),
            "loss_reduction": pose.LOSS.REDUCTION,
            "loss_weight": pose.LOSS.WEIGHT,
            "draw_outside": pose.HEATMAP.DRAW_OUTSIDE,
            "freeze_encoder": pose.ENCODER == "freeze",
            "reset_every": cfg.TEST.RESET_EVERY,
            "align_state": pose.ALIGN_STATE,
            "precision": cfg.TEST.PRECISION,
        }

    # ---- what a model defines

    def encoder_modules(self) -> list[nn.Module]:
        """The modules of the part without time (for freezing and learning-rate factors)."""
        raise NotImplementedError

    def encode(self, images: Tensor) -> Tensor:
        """Normalised images (N, 3, H, W) -> features (N, ...)."""
        raise NotImplementedError

    def begin(self, images: Tensor, features: Tensor) -> Any:
        """First frames (R, 3, H, W) and their features -> the state of fresh rows."""
        raise NotImplementedError

    def advance(self, features: Tensor, center_map: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Features (R, ...), centre maps (R, 1, h, w), state -> heatmaps (R, C, h, w), state."""
        raise NotImplementedError

    def extra_maps(self, features: Tensor, first_state: Any) -> dict[str, tuple[Tensor, float]]:
        """Further maps (B, T', C, h, w) to train on the first T' frames' targets, and weights.

        features (B, T, ...) are the clips', first_state that of ``begin``.
        """
        return {}

    def channel_labels(self, joint_names: list[str]) -> dict[str, dict[int, list[str]]]:
        """Which dimensions of which parameters belong to joints: {parameter: {dim: labels}}."""
        return {}

    def fold(self) -> None:
        """Replace parts by equivalent ones that compute faster, in place.

        `fast_path` calls it on a copy for inference, whose batch norms are folded already.
        """

    # ---- life

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return self.pixel_mean.device

    def train(self, mode: bool = True) -> VideoPoseNet:
        """As ``nn.Module``; a frozen encoder stays in evaluation mode. Drops all kept states."""
        super().train(mode)
        self._states.clear()
        if self.freeze_encoder:
            for module in self.encoder_modules():
                module.eval().requires_grad_(False)
        return self

    def normalize(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) of 0-255, any type -> normalised float32 on the model's device."""
        pictures = images.to(self.device).float(memory_format=self.layout)
        return (pictures - self.pixel_mean) / self.pixel_std

    def forward(self, batch: list[ClipRecord]) -> Any:
        """Losses by name in training; at inference ``{"instances": [Instances] * T}`` per clip.

        The mapper's docstring lists the keys of ``batch``. At inference the chunks of a track
        arrive in order; states are kept between them and dropped after ``is_last``.
        """
        if self.training:
            return self._losses(batch)
        with torch.no_grad():
            return [infer_chunk(TorchBackend(self), self._states, clip) for clip in batch]

    # ---- training

    def scan(
        self, images: Tensor, centers: Tensor, crop_to_image: Tensor | None = None
    ) -> ClipMaps:
        """Run whole clips from fresh states.

        Args:
            images: (B, T, 3, H, W). centers: (B, T, 2) crop px. crop_to_image: (B, T, 2, 3), for
                states that move with their crops.
        """
        clips, frames = images.shape[:2]
        normalized = self.normalize(images.flatten(0, 1))
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_encoder):
            flat = self.encode(normalized)
        features = flat.view(clips, frames, *flat.shape[1:])
        center_maps = self._center_maps(centers.flatten(0, 1), images.shape[-2:])
        center_maps = center_maps.view(clips, frames, *center_maps.shape[1:])
        first = normalized.view(clips, frames, *normalized.shape[1:])[:, 0]
        state = self.begin(first, features[:, 0])
        return self.scan_features(features, center_maps, state, crop_to_image)

    def scan_features(
        self,
        features: Tensor,
        center_maps: Tensor,
        state: Any,
        crop_to_image: Tensor | None = None,
    ) -> ClipMaps:
        """Advance fresh rows over clips: features (B, T, ...), center_maps (B, T, 1, h, w)."""
        extra = self.extra_maps(features, state)
        heatmaps = []
        for t in range(features.shape[1]):
            state = self.follow(state, crop_to_image, t)
            maps, state = self.advance(features[:, t], center_maps[:, t], state)
            heatmaps.append(maps)
        return ClipMaps(torch.stack(heatmaps, 1), extra)

    def follow(self, state: Any, crop_to_image: Tensor | None, t: int) -> Any:
        """The state that frame ``t`` of clips finds: moved with its crops, if the model does so.

        Args:
            crop_to_image: (B, T, 2, 3), or None where crops stay.
        """
        if not self.align_state or t == 0 or crop_to_image is None:
            return state
        return align_state(state, crop_to_image[:, t - 1], crop_to_image[:, t], self.codec)

    def _center_maps(self, centers: Tensor, crop_size: tuple[int, int]) -> Tensor:
        height, width = crop_size
        return self.center_map(centers.to(self.device), (height, width), training=self.training)

    def _losses(self, batch: list[ClipRecord]) -> dict[str, Tensor]:
        images = torch.stack([clip["image"] for clip in batch])
        centers = torch.stack([clip["center"] for clip in batch])
        crop_to_image = torch.stack([clip["crop_to_image"] for clip in batch])
        maps = self.scan(images, centers, crop_to_image)
        target, weight = self._targets(batch, images.shape[-2:], maps.heatmaps.shape[-2:])
        if has_event_storage():
            self._log_error(maps.heatmaps, batch)
        losses = {"loss_heatmap": self._loss(maps.heatmaps, target, weight)}
        for name, (extra, factor) in maps.extra.items():
            n = extra.shape[1]
            losses[f"loss_{name}"] = factor * self._loss(extra, target[:, :n], weight[:, :n])
        return losses

    def _loss(self, maps: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        return self.loss_weight * heatmap_loss(maps, target, weight, self.loss_reduction)

    def _targets(
        self, batch: list[ClipRecord], crop_size: tuple[int, int], map_size: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Targets (B, T, C, h, w) and weights (B, T, C), padding frames weighted 0."""
        keypoints = torch.stack([clip["keypoints"] for clip in batch]).to(self.device)
        padding = torch.stack([clip["is_padding"] for clip in batch]).to(self.device)
        clips, frames = keypoints.shape[:2]
        if not self.draw_outside:
            keypoints = move_outside_away(keypoints, batch, crop_size)
        maps, weights = self.codec.encode(keypoints.flatten(0, 1), (map_size[0], map_size[1]))
        weights = weights.view(clips, frames, -1) * (~padding)[..., None]
        return maps.view(clips, frames, *maps.shape[1:]), weights

    @torch.no_grad()
    def _log_error(self, heatmaps: Tensor, batch: list[ClipRecord]) -> None:
        """Every 20 iterations: mean distance of the last frames' peaks from the joints, crop px."""
        storage = get_event_storage()
        # Maps that are not finite have no peaks; their loss ends the run.
        if storage.iter % 20 or not torch.isfinite(heatmaps[:, -1]).all():
            return
        truth = torch.stack([clip["keypoints"][-1] for clip in batch]).to(self.device)
        found = self.codec.decode(heatmaps[:, -1])
        distance = (found - truth)[..., :2].norm(dim=-1)
        valid = truth[..., 2] > 0
        if valid.any():
            storage.put_scalar("pose/train_error_px", distance[valid].mean().item())

    # ---- inference

    def autocast(self) -> torch.autocast:
        """The precision that inference runs in."""
        return inference_autocast(self.precision, self.device)

    @property
    def precision_name(self) -> str:
        """What `autocast` comes to on this device."""
        return str(inference_dtype(self.precision, self.device) or torch.float32)[6:]
