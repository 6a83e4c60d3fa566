"""UniPose, one frame at a time, as a model without memory: WASP, decoder and network.

Artacho & Savakis, CVPR 2020, sections 3.1 (WASP, the waterfall atrous spatial pooling) and 3.2
(decoder). Shapes: N images, R rows, C = K + 1 channels, h, w cells.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import detectron2.projects.deeplab  # noqa: F401  (registers build_resnet_deeplab_backbone)
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, ShapeSpec, get_norm
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.backbone import Backbone
from torch import Tensor, nn

from video_pose.modeling.layers import convolution_of
from video_pose.modeling.video_pose_net import VideoPoseNet


def conv_norm_relu(
    in_channels: int, out_channels: int, kernel_size: int, norm: str, *, dilation: int = 1
) -> Conv2d:
    """A size-preserving convolution, norm and ReLU; a bias only where there is no norm."""
    conv = Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        padding=dilation * (kernel_size // 2),
        dilation=dilation,
        bias=norm == "",
        norm=get_norm(norm, out_channels),
        activation=F.relu,
    )
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
    return conv


class WASP(nn.Module):
    """A cascade of dilated convolutions whose every stage is also an output.

    Branch 0 is a 1x1 convolution; each further branch is a dilated 3x3 of the one before. All pass
    the same 1x1 convolution twice (linear, shared), are concatenated with the globally pooled
    features, and are projected.

    Args:
        in_channels, channels: of the input and of every branch.
        dilations: of the 3x3 convolutions, in order.
        norm: Detectron2's name of a norm. pool_norm: whether the pooling branch has one.
        dropout: after the projection.
    """

    def __init__(
        self,
        *,
        in_channels: int,
        channels: int = 256,
        dilations: list[int],
        norm: str = "BN",
        pool_norm: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.branches = nn.ModuleList([conv_norm_relu(in_channels, channels, 1, norm)])
        for dilation in dilations:
            self.branches.append(conv_norm_relu(channels, channels, 3, norm, dilation=dilation))
        self.shared = Conv2d(channels, channels, 1, bias=False)
        nn.init.kaiming_normal_(self.shared.weight, nonlinearity="linear")
        # Batch norm over one pixel per image needs a batch; the released video model (batch of one
        # clip) leaves it out, and its convolution has no bias either.
        self.pool = Conv2d(
            in_channels,
            channels,
            1,
            bias=False,
            norm=get_norm(norm, channels) if pool_norm else None,
            activation=F.relu,
        )
        nn.init.kaiming_normal_(self.pool.weight, nonlinearity="relu")
        self.project = conv_norm_relu((len(dilations) + 2) * channels, channels, 1, norm)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Tensor) -> Tensor:
        """features (N, in_channels, h, w) -> (N, channels, h, w).

        Raises:
            ValueError: batch norm of the pooled features in training, over a single image.
        """
        if self.training and len(features) == 1 and type(self.pool.norm) is nn.BatchNorm2d:
            raise ValueError(
                "batch norm over the pooled features needs two images per process in training: "
                "raise SOLVER.IMS_PER_BATCH or INPUT.CLIP.LENGTH, or set "
                "MODEL.UNIPOSE.WASP.POOL_NORM False"
            )
        outputs, x = [], features
        for branch in self.branches:
            x = branch(x)
            outputs.append(self.shared(self.shared(x)))
        pooled = self.pool(features.mean(dim=(2, 3), keepdim=True))
        outputs.append(pooled.expand(-1, -1, *features.shape[-2:]))
        return self.dropout(self.project(torch.cat(outputs, 1)))

    def folded(self) -> FoldedWASP:
        """What computes the same at inference, with its linear 1x1 convolutions as one."""
        return FoldedWASP(self)


class FoldedWASP(nn.Module):
    """WASP at inference: P_k S S of branch k is one matrix, and a pooled vector stays one.

    The projection P of the concatenation is a sum over its parts, and all maps of the pooled part
    are constant: it is projected as a vector per image and added.

    Args:
        wasp: its modules are shared.
    """

    @torch.no_grad()
    def __init__(self, wasp: WASP) -> None:
        super().__init__()
        self.branches, self.pool = wasp.branches, wasp.pool
        self.norm, self.activation = wasp.project.norm, wasp.project.activation
        shared = wasp.shared.weight[:, :, 0, 0]
        *parts, pooled = wasp.project.weight[:, :, 0, 0].split(shared.shape[0], dim=1)
        weight = torch.cat([part @ shared @ shared for part in parts], 1)
        self.project = convolution_of(weight[:, :, None, None], wasp.project.bias)
        self.project_pooled = convolution_of(pooled[:, :, None, None].contiguous(), None)

    def forward(self, features: Tensor) -> Tensor:
        """features (N, in_channels, h, w) -> (N, channels, h, w)."""
        outputs, x = [], features
        for branch in self.branches:
            x = branch(x)
            outputs.append(x)
        pooled = self.pool(features.mean(dim=(2, 3), keepdim=True))
        x = self.project(torch.cat(outputs, 1)) + self.project_pooled(pooled)
        return self.activation(x if self.norm is None else self.norm(x))


class Decoder(nn.Module):
    """Heatmaps at half the low-level features' resolution.

    Args:
        low_channels: of the backbone's low-level features (stride 4).
        wasp_channels: of WASP's output. reduced_channels: low-level features are reduced to these.
        channels: of the two 3x3 convolutions. out_channels: heatmaps, background included.
        norm: Detectron2's name of a norm. dropout: after the first and the second 3x3 convolution.
    """

    def __init__(
        self,
        *,
        low_channels: int,
        wasp_channels: int,
        reduced_channels: int = 48,
        channels: int = 256,
        out_channels: int,
        norm: str = "BN",
        dropout: tuple[float, float] = (0.5, 0.1),
    ) -> None:
        super().__init__()
        self.reduce = conv_norm_relu(low_channels, reduced_channels, 1, norm)
        self.conv1 = conv_norm_relu(wasp_channels + reduced_channels, channels, 3, norm)
        self.dropout1 = nn.Dropout(dropout[0])
        self.conv2 = conv_norm_relu(channels, channels, 3, norm)
        self.dropout2 = nn.Dropout(dropout[1])
        self.predict = Conv2d(channels, out_channels, 1)
        nn.init.normal_(self.predict.weight, std=0.01)
        nn.init.zeros_(self.predict.bias)

    def forward(self, wasp: Tensor, low: Tensor) -> Tensor:
        """Heatmaps (N, out_channels, h, w).

        Args:
            wasp: (N, wasp_channels, h', w'). low: (N, low_channels, 2h, 2w).
        """
        low = F.max_pool2d(self.reduce(low), kernel_size=3, stride=2, padding=1)
        wasp = F.interpolate(wasp, size=low.shape[-2:], mode="bilinear", align_corners=True)
        x = self.dropout1(self.conv1(torch.cat([wasp, low], 1)))
        return self.predict(self.dropout2(self.conv2(x)))


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

    has_memory = False

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
        check_norm(node.NORM)
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


def check_norm(name: str) -> None:
    """Raise ValueError where MODEL.UNIPOSE.NORM is no norm of Detectron2's."""
    try:
        get_norm(name, 32)
    except KeyError:
        raise ValueError(
            f"MODEL.UNIPOSE.NORM is {name!r}: must be 'BN', 'SyncBN', 'FrozenBN', 'GN', 'LN' or, "
            "for none, ''"
        ) from None
