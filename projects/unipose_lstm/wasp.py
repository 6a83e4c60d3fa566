"""WASP, the waterfall atrous spatial pooling of UniPose.

Artacho & Savakis, CVPR 2020, section 3.1.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm
from torch import Tensor, nn

from video_pose.modeling.fold_norms import convolution_of


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
