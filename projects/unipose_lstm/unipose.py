"""UniPose, one frame at a time, as a model without memory.

Shapes: N images, R rows, C = K + 1 channels, h, w cells.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import detectron2.projects.deeplab  # noqa: F401  (registers build_resnet_deeplab_backbone)
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn

from unipose_lstm.decoder import Decoder
from unipose_lstm.wasp import WASP
from video_pose.modeling.video_pose_net import VideoPoseNet


class NoMemory(NamedTuple):
    """The state of a model without time; it only counts rows."""

    fresh: Tensor  # (R, 1, 1, 1)


@META_ARCH_REGISTRY.register()
class UniPose(VideoPoseNet):
    """Backbone, WASP and decoder; every frame by itself.

    Args:
        backbone: with the two features named below.
        low_feature, high_feature: backbone outputs for the decoder and for WASP.
        wasp, decoder: see their classes.
        base: the arguments of `VideoPoseNet`.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        low_feature: str,
        high_feature: str,
        wasp: WASP,
        decoder: Decoder,
        base: dict[str, Any],
    ) -> None:
        super().__init__(**base)
        missing = {low_feature, high_feature} - set(backbone.output_shape())
        if missing:
            raise ValueError(
                f"the backbone has no output {sorted(missing)}; it has "
                f"{sorted(backbone.output_shape())} (MODEL.RESNETS.OUT_FEATURES)"
            )
        self.backbone = backbone
        self.low_feature, self.high_feature = low_feature, high_feature
        self.wasp = wasp
        self.decoder = decoder

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from ``cfg.MODEL.UNIPOSE``, ``.POSE`` and the backbone's keys."""
        node, base = cfg.MODEL.UNIPOSE, VideoPoseNet.base_config(cfg)
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        check_grid(shapes, cfg)
        wasp = WASP(
            in_channels=shapes[node.HIGH_FEATURE].channels,
            channels=node.WASP.CHANNELS,
            dilations=node.WASP.DILATIONS,
            norm=node.NORM,
            pool_norm=node.WASP.POOL_NORM,
            dropout=node.WASP.DROPOUT,
        )
        decoder = Decoder(
            low_channels=shapes[node.LOW_FEATURE].channels,
            wasp_channels=node.WASP.CHANNELS,
            reduced_channels=node.DECODER.LOW_CHANNELS,
            channels=node.DECODER.CHANNELS,
            out_channels=base["codec"].num_channels(len(base["joint_names"])),
            norm=node.NORM,
            dropout=tuple(node.DECODER.DROPOUT),
        )
        return {
            "backbone": backbone,
            "low_feature": node.LOW_FEATURE,
            "high_feature": node.HIGH_FEATURE,
            "wasp": wasp,
            "decoder": decoder,
            "base": base,
        }

    def encoder_modules(self) -> list[nn.Module]:
        return [self.backbone, self.wasp, self.decoder]

    def encode(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> decoder maps (N, C, h, w)."""
        features = self.backbone(images)
        return self.decoder(self.wasp(features[self.high_feature]), features[self.low_feature])

    def begin(self, images: Tensor, features: Tensor) -> Any:
        return NoMemory(features.new_ones((features.shape[0], 1, 1, 1)))

    def advance(self, features: Tensor, center_map: Tensor, state: Any) -> tuple[Tensor, Any]:
        return features, NoMemory(state.fresh * 0)

    def fold(self) -> None:
        super().fold()
        self.wasp = self.wasp.folded()

    def channel_labels(self, joint_names: list[str]) -> dict[str, dict[int, list[str]]]:
        labels = self.codec.channel_labels(joint_names)
        return {"decoder.predict.weight": {0: labels}, "decoder.predict.bias": {0: labels}}


def check_grid(shapes: dict[str, ShapeSpec], cfg: CfgNode) -> None:
    """Hold backbone, codec and crop to one grid: maps have half the low-level features' resolution.

    Args:
        shapes: of the backbone's outputs.

    Raises:
        ValueError: a feature is missing, or the strides or the crop do not fit.
    """
    node, stride, crop = cfg.MODEL.UNIPOSE, cfg.MODEL.POSE.HEATMAP.STRIDE, cfg.INPUT.CROP_SIZE
    for name in (node.LOW_FEATURE, node.HIGH_FEATURE):
        if name not in shapes:
            raise ValueError(f"MODEL.UNIPOSE: backbone output {name!r} is not in {list(shapes)}")
    if stride != 2 * shapes[node.LOW_FEATURE].stride:
        raise ValueError(
            f"MODEL.POSE.HEATMAP.STRIDE is {stride}: the decoder's maps have a stride of "
            f"{2 * shapes[node.LOW_FEATURE].stride}, twice that of {node.LOW_FEATURE}"
        )
    if any(side % stride for side in crop):
        raise ValueError(f"INPUT.CROP_SIZE {tuple(crop)} must be multiples of {stride} px (a cell)")
