"""Backbones: a feature pyramid on a ResNet cut at res4, and frozen norms within convolutions."""

from __future__ import annotations

from detectron2.config import CfgNode
from detectron2.layers import Conv2d, FrozenBatchNorm2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY
from detectron2.modeling.backbone import FPN, build_resnet_backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from torch import Tensor, nn


@BACKBONE_REGISTRY.register()
def build_short_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """As Detectron2's ``build_resnet_fpn_backbone``, for any last stage of MODEL.FPN.IN_FEATURES.

    With res2, res3, res4 it gives p2 to p4, and p5, which is p4 thinned by two. Detectron2's thins
    the level p5, that is, wants res5.
    """
    bottom_up = build_resnet_backbone(cfg, input_shape)
    in_features = cfg.MODEL.FPN.IN_FEATURES
    top = LastLevelMaxPool()
    top.in_feature = in_features[-1].replace("res", "p")
    return FPN(
        bottom_up=bottom_up,
        in_features=in_features,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=top,
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


class FrozenNormConv2d(Conv2d):
    """Detectron2's ``Conv2d`` whose frozen norm scales the weights instead of the maps.

    scale (W x) + shift = (scale W) x + shift: the maps are written once instead of three times. The
    weights, and what a checkpoint calls them, are those of ``Conv2d``.
    """

    def forward(self, x: Tensor) -> Tensor:
        """x (N, C, H, W) -> (N, O, H', W')."""
        norm = self.norm
        assert isinstance(norm, FrozenBatchNorm2d), norm
        scale = norm.weight * (norm.running_var + norm.eps).rsqrt()
        shift = norm.bias - norm.running_mean * scale
        x = self._conv_forward(x, self.weight * scale[:, None, None, None], shift)
        return x if self.activation is None else self.activation(x)


def join_frozen_norms(model: nn.Module) -> None:
    """Let all convolutions of ``model`` that a frozen norm follows compute both at once, in place.

    Parameters, buffers and their names stay as they are.
    """
    for module in model.modules():
        norm = getattr(module, "norm", None)
        if type(module) is Conv2d and isinstance(norm, FrozenBatchNorm2d) and module.bias is None:
            module.__class__ = FrozenNormConv2d
