"""Convolutional LSTM without peepholes, its state an explicit value.

Shapes: R rows (a person, or a person at one test scale), D hidden channels, h, w cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GATES = ("g", "f", "i", "o")


class ConvLSTMCell(nn.Module):
    """One step of a convolutional LSTM.

    s_k = Wx_k * x + bx_k + Wh_k * h + bh_k (+ b_k) for each gate k of g, f, i, o; then
    c' = sigmoid(s_f) c + sigmoid(s_i) tanh(s_g) and h' = sigmoid(s_o) tanh(c').

    Each gate keeps convolutions of its own, as released weights have them, computed as one.

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

    def zero_state(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden and cell maps of zeros, (R, D, h, w), for an input ``like`` (R, *, h, w)."""
        shape = (like.shape[0], self.hidden_channels, *like.shape[-2:])
        return like.new_zeros(shape), like.new_zeros(shape)

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
        weight, bias = self._joint_weights()
        gates = F.conv2d(torch.cat([x, hidden], 1), weight, bias, padding=weight.shape[-1] // 2)
        if self.mask_fresh_bias:
            h_bias = torch.cat([self.h[k].bias for k in GATES])
            gates = gates - fresh.to(gates.dtype) * h_bias.to(gates.dtype)[None, :, None, None]
        g, f, i, o = gates.chunk(4, dim=1)
        cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(cell), cell

    def _joint_weights(self) -> tuple[Tensor, Tensor]:
        """All gates' x- and h-convolutions as one: (4 D, in_channels + D, k, k) and (4 D,)."""
        weight = torch.cat([torch.cat([self.x[k].weight, self.h[k].weight], 1) for k in GATES])
        bias = torch.cat([self.x[k].bias + self.h[k].bias for k in GATES])
        if self.gate_bias is not None:
            bias = bias + torch.cat([self.gate_bias[k] for k in GATES])
        return weight, bias


class FirstFrameCell(nn.Module):
    """The released UniPose-LSTM's cell for a row's first frame: c = tanh(g i), h = o c.

    Its gates g = tanh(Wg * x), i = sigmoid(Wi * x), o = sigmoid(Wo * x) have weights of their own.
    """

    def __init__(self, in_channels: int, hidden_channels: int, *, kernel_size: int = 3) -> None:
        super().__init__()
        self.x = _gate_convolutions(("g", "i", "o"), in_channels, hidden_channels, kernel_size)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (R, in_channels, h, w) -> hidden, cell (R, D, h, w)."""
        g, i, o = (self.x[k](x) for k in ("g", "i", "o"))
        cell = torch.tanh(torch.tanh(g) * torch.sigmoid(i))
        return torch.sigmoid(o) * cell, cell


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
