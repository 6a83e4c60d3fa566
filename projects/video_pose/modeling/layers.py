"""Layers that several networks share: a convolutional LSTM, the convolutions of the heatmaps, and
convolutions that compute the norm behind them.

The LSTM has no peepholes, and its state is an explicit value. A norm whose statistics are fixed is
a scale and a shift: in training they go into the weights on the way (`join_frozen_norms`), in a
trained network for good (`fold_norms`).

Shapes: R rows (a person, or a person at one test scale), D hidden channels, h, w cells.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from detectron2.layers.batch_norm import NaiveSyncBatchNorm
from torch import Tensor, nn

GATES = ("g", "f", "i", "o")
_NORMS = (nn.BatchNorm2d, nn.SyncBatchNorm, NaiveSyncBatchNorm, FrozenBatchNorm2d)


class GatedCell(nn.Module):
    """The equations of a step, whatever computes the gates' sums.

    c' = sigmoid(s_f) c + sigmoid(s_i) tanh(s_g) and h' = sigmoid(s_o) tanh(c').
    """

    hidden_channels: int

    def zero_state(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden and cell maps of zeros, (R, D, h, w), for an input ``like`` (R, *, h, w)."""
        shape = (like.shape[0], self.hidden_channels, *like.shape[-2:])
        return like.new_zeros(shape), like.new_zeros(shape)

    def sums(self, x: Tensor, hidden: Tensor, fresh: Tensor) -> Sequence[Tensor]:
        """s_g, s_f, s_i, s_o, each (R, D, h, w); arguments as those of ``forward``."""
        raise NotImplementedError

    def forward(
        self, x: Tensor, hidden: Tensor, cell: Tensor, fresh: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Advance by one frame.

        Args:
            x: (R, in_channels, h, w). hidden, cell: (R, D, h, w). fresh: (R, 1, 1, 1), 1 on a row's
                first step.

        Returns:
            hidden, cell: (R, D, h, w).
        """
        g, f, i, o = self.sums(x, hidden, fresh)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(cell), cell


class ConvLSTMCell(GatedCell):
    """One step of a convolutional LSTM, with convolutions of its own for every gate.

    s_k = Wx_k * x + bx_k + Wh_k * h + bh_k (+ b_k) for each gate k of g, f, i, o.

    Args:
        in_channels, hidden_channels: of x and of h.
        kernel_size: odd, px of the map.
        gate_bias: initial values of one more bias per gate and channel (Caffe's Scale layers of
            LSTM Pose Machines); None leaves that bias out.
        forget_bias: initial value of the forget gate's x-bias.
        mask_fresh_bias: leave the h-convolutions' biases out on a row's first step.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        *,
        kernel_size: int = 3,
        gate_bias: dict[str, float] | None = None,
        forget_bias: float = 0.0,
        mask_fresh_bias: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.hidden_channels = hidden_channels
        self.mask_fresh_bias = mask_fresh_bias
        self.x = _gate_convolutions(GATES, in_channels, hidden_channels, kernel_size)
        self.h = _gate_convolutions(GATES, hidden_channels, hidden_channels, kernel_size)
        self.gate_bias = None
        if gate_bias is not None:
            self.gate_bias = nn.ParameterDict(
                {
                    k: nn.Parameter(torch.full((hidden_channels,), float(gate_bias[k])))
                    for k in GATES
                }
            )
        nn.init.constant_(self.x["f"].bias, forget_bias)

    def sums(self, x: Tensor, hidden: Tensor, fresh: Tensor) -> Sequence[Tensor]:
        if not self.training:
            return [self._sum(gate, x, hidden, fresh) for gate in GATES]
        # In training, too, one convolution computes all gates: each step joins its weights.
        weight, bias, h_bias = self._merged_weights()
        total = F.conv2d(torch.cat([x, hidden], 1), weight, bias, padding=weight.shape[-1] // 2)
        if self.mask_fresh_bias:
            total = total - fresh.to(total.dtype) * _as_map(h_bias, total)
        return total.chunk(4, dim=1)

    def _sum(self, gate: str, x: Tensor, hidden: Tensor, fresh: Tensor) -> Tensor:
        total = self.x[gate](x) + self.h[gate](hidden)
        if self.mask_fresh_bias:
            total = total - fresh.to(total.dtype) * _as_map(self.h[gate].bias, total)
        return total if self.gate_bias is None else total + _as_map(self.gate_bias[gate], total)

    @torch.no_grad()
    def merged(self) -> MergedCell:
        """A cell that computes the same by a single convolution, for inference."""
        weight, bias, h_bias = self._merged_weights()
        conv = convolution_of(weight, bias)
        return MergedCell(conv, self.hidden_channels, h_bias if self.mask_fresh_bias else None)

    def _merged_weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """All gates' x- and h-convolutions as one, (4 D, in_channels + D, k, k), all their biases
        (4 D,), and those of the h-convolutions among them (4 D,)."""
        weight = torch.cat([torch.cat([self.x[k].weight, self.h[k].weight], 1) for k in GATES])
        h_bias = torch.cat([self.h[k].bias for k in GATES])
        bias = h_bias + torch.cat([self.x[k].bias for k in GATES])
        if self.gate_bias is not None:
            bias = bias + torch.cat([self.gate_bias[k] for k in GATES])
        return weight, bias, h_bias


class MergedCell(GatedCell):
    """A cell whose x- and h-convolutions of all gates are one.

    Args:
        conv: of [x, h] to the sums of g, f, i, o. fresh_bias: (4 D,), what a row's first step
            leaves out; None leaves nothing out.
    """

    def __init__(self, conv: nn.Conv2d, hidden_channels: int, fresh_bias: Tensor | None) -> None:
        super().__init__()
        self.conv = conv
        self.hidden_channels = hidden_channels
        self.register_buffer("fresh_bias", fresh_bias)

    def sums(self, x: Tensor, hidden: Tensor, fresh: Tensor) -> Sequence[Tensor]:
        total = self.conv(torch.cat([x, hidden.to(x.dtype)], 1))
        if self.fresh_bias is not None:
            total = total - fresh.to(total.dtype) * _as_map(self.fresh_bias, total)
        return total.chunk(4, dim=1)


class FirstFrameGates(nn.Module):
    """The released UniPose-LSTM's cell for a row's first frame: c = tanh(g i), h = o c.

    Its gates are g = tanh(s_g), i = sigmoid(s_i), o = sigmoid(s_o), whatever computes the sums.
    """

    def sums(self, x: Tensor) -> Sequence[Tensor]:
        """s_g, s_i, s_o, each (R, D, h, w), of x (R, in_channels, h, w)."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (R, in_channels, h, w) -> hidden, cell (R, D, h, w)."""
        g, i, o = self.sums(x)
        cell = torch.tanh(torch.tanh(g) * torch.sigmoid(i))
        return torch.sigmoid(o) * cell, cell


class FirstFrameCell(FirstFrameGates):
    """A first-frame cell with a convolution of its own, s_k = W_k * x + b_k, for every gate."""

    def __init__(self, in_channels: int, hidden_channels: int, *, kernel_size: int = 3) -> None:
        super().__init__()
        self.x = _gate_convolutions(("g", "i", "o"), in_channels, hidden_channels, kernel_size)

    def sums(self, x: Tensor) -> Sequence[Tensor]:
        return [conv(x) for conv in self.x.values()]

    @torch.no_grad()
    def merged(self) -> MergedFirstFrameCell:
        """A cell that computes the same by a single convolution, for inference."""
        convolutions = list(self.x.values())
        return MergedFirstFrameCell(
            convolution_of(
                torch.cat([conv.weight for conv in convolutions]),
                torch.cat([conv.bias for conv in convolutions]),
            )
        )


class MergedFirstFrameCell(FirstFrameGates):
    """A first-frame cell whose gates' convolutions are one, ``conv``."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv

    def sums(self, x: Tensor) -> Sequence[Tensor]:
        return self.conv(x).chunk(3, dim=1)


def _as_map(values: Tensor, like: Tensor) -> Tensor:
    """values (C,) -> (1, C, 1, 1) of the type of ``like``."""
    return values.to(like.dtype)[None, :, None, None]


def _gate_convolutions(
    gates: Sequence[str], in_channels: int, hidden_channels: int, kernel_size: int
) -> nn.ModuleDict:
    """One size-preserving convolution per gate, initialised after Glorot, its bias 0."""
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size {kernel_size} of an LSTM must be odd")
    convolutions = nn.ModuleDict()
    for gate in gates:
        conv = nn.Conv2d(in_channels, hidden_channels, kernel_size, padding=kernel_size // 2)
        nn.init.xavier_uniform_(conv.weight)
        nn.init.zeros_(conv.bias)
        convolutions[gate] = conv
    return convolutions


class HeatmapHead(nn.Sequential):
    """``num_large`` large convolutions, a 1x1 and an output 1x1; ReLU between them.

    The papers' sizes: three 11x11 convolutions of 128 channels, 1x1 of 128, 1x1 of K + 1.

    Args:
        in_channels, channels, out_channels: of the input, of the inner layers and of the heatmaps.
        kernel_size: of the large convolutions, odd.
        num_large: how many there are, >= 1.
        final_relu: also a ReLU after the output (the released UniPose-LSTM).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        channels: int = 128,
        kernel_size: int = 11,
        num_large: int = 3,
        final_relu: bool = False,
    ) -> None:
        if kernel_size % 2 == 0:
            raise ValueError(f"kernel_size {kernel_size} of a heatmap head must be odd")
        if num_large < 1:
            raise ValueError(f"num_large {num_large} of a heatmap head must be at least 1")
        layers: list[nn.Module] = []
        width = in_channels
        for _ in range(num_large):
            layers += [nn.Conv2d(width, channels, kernel_size, padding=kernel_size // 2), nn.ReLU()]
            width = channels
        layers += [nn.Conv2d(width, channels, 1), nn.ReLU(), nn.Conv2d(channels, out_channels, 1)]
        if final_relu:
            layers.append(nn.ReLU())
        super().__init__(*layers)
        convolutions = self.convolutions()
        for conv in convolutions:
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            nn.init.zeros_(conv.bias)
        nn.init.normal_(convolutions[-1].weight, std=0.01)

    def convolutions(self) -> list[nn.Conv2d]:
        """The convolutions in order; the last one makes the heatmaps."""
        return [layer for layer in self if isinstance(layer, nn.Conv2d)]

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden (R, in_channels, h, w) -> heatmaps (R, out_channels, h, w)."""
        return super().forward(hidden)


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


def fold_norms(model: nn.Module) -> nn.Module:
    """A copy of ``model`` in evaluation mode whose batch norms are part of the convolutions.

    Covers Detectron2's ``Conv2d`` with a ``norm``, and a convolution directly before a norm in an
    ``nn.Sequential``. Norms of other kinds and in other places stay as they are.
    """
    folded = copy.deepcopy(model).eval()
    for module in folded.modules():
        norm = getattr(module, "norm", None)
        if isinstance(module, nn.Conv2d) and isinstance(norm, _NORMS):
            _fold(module, norm)
            module.norm = None
            if isinstance(module, FrozenNormConv2d):
                module.__class__ = Conv2d
        if isinstance(module, nn.Sequential):
            for i, (first, second) in enumerate(zip(list(module), list(module)[1:])):
                plain = isinstance(first, nn.Conv2d) and getattr(first, "norm", None) is None
                if plain and getattr(first, "activation", None) is None:
                    if isinstance(second, _NORMS):
                        _fold(first, second)
                        module[i + 1] = nn.Identity()
    return folded


def convolution_of(weight: Tensor, bias: Tensor | None) -> nn.Conv2d:
    """The size-preserving convolution with this weight (O, I, k, k) and bias (O,) or none."""
    out_channels, in_channels, kernel = weight.shape[:3]
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel,
        padding=kernel // 2,
        bias=bias is not None,
        device=weight.device,
    )
    conv.weight.data = weight
    if bias is not None:
        conv.bias.data = bias
    return conv


def _fold(conv: nn.Conv2d, norm: nn.Module) -> None:
    """y = scale (W x + b - mean) + shift, with scale = weight / sqrt(var + eps)."""
    scale = (norm.running_var + norm.eps).rsqrt()
    shift = torch.zeros_like(scale)
    if norm.weight is not None:
        scale, shift = scale * norm.weight, shift + norm.bias
    bias = torch.zeros_like(scale) if conv.bias is None else conv.bias
    conv.weight = nn.Parameter(conv.weight * scale[:, None, None, None])
    conv.bias = nn.Parameter((bias - norm.running_mean) * scale + shift)
