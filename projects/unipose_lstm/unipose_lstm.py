"""UniPose-LSTM: UniPose's maps, refined by a convolutional LSTM over time.

The paper fixes that the LSTM receives the previous frame's final heatmaps along with the current
frame's decoder heatmaps, and that convolutions after it give the final maps. Everything else of the
"paper" form is this project's reading; the "released" form follows the released graph.
Shapes: R rows, C = K + 1 channels, D hidden channels, h, w cells.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor

from unipose_lstm.unipose import UniPose
from video_pose.modeling.layers import (
    ConvLSTMCell,
    FirstFrameCell,
    FirstFrameGates,
    GatedCell,
    HeatmapHead,
)

FORMS = ("paper", "released")


class UniPoseLSTMState(NamedTuple):
    """One row per person."""

    heatmaps: Tensor  # (R, C, h, w), the previous frame's final maps; its decoder maps when fresh
    hidden: Tensor  # (R, D, h, w)
    cell: Tensor  # (R, D, h, w)
    fresh: Tensor  # (R, 1, 1, 1), 1 before a row's first step


@META_ARCH_REGISTRY.register()
class UniPoseLSTM(UniPose):
    """UniPose with memory.

    Args:
        form: "paper" or "released".
        cell, first_cell, head: the LSTM, the first frame's cell ("released" only) and what follows.
        residual: add the decoder maps to the head's output ("paper" only).
        decoder_loss_weight: of the additional loss on the decoder maps.
        unipose: the arguments of `UniPose`.
    """

    has_memory = True

    @configurable
    def __init__(
        self,
        *,
        form: str,
        cell: ConvLSTMCell,
        first_cell: FirstFrameCell | None,
        head: HeatmapHead,
        residual: bool = False,
        decoder_loss_weight: float = 0.0,
        unipose: dict[str, Any],
    ) -> None:
        super().__init__(**unipose)
        if form not in FORMS:
            raise ValueError(f"MODEL.UNIPOSE.LSTM.FORM {form!r}: choose from {FORMS}")
        if (form == "released") != (first_cell is not None):
            raise ValueError("the released form, and it alone, has a first-frame cell")
        self.form = form
        self.cell: GatedCell = cell
        self.first_cell: FirstFrameGates | None = first_cell
        self.head = head
        self.residual = residual
        self.decoder_loss_weight = decoder_loss_weight

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Constructor arguments from ``cfg.MODEL.UNIPOSE.LSTM``, and UniPose's own."""
        node, unipose = cfg.MODEL.UNIPOSE.LSTM, UniPose.from_config(cfg)
        base = unipose["base"]
        height, width = cfg.INPUT.CROP_SIZE
        stride = base["codec"].stride
        base["center_map"].check_cells(
            (height, width),
            (height // stride, width // stride),
            "at a stride of 8, POOL_KERNEL 9, POOL_PADDING 1 and POOL_CEIL False",
        )
        maps = base["codec"].num_channels(len(base["joint_names"]))
        released = node.FORM == "released"
        width = maps + 1 if released else 2 * maps + 1
        return {
            "form": node.FORM,
            "cell": ConvLSTMCell(
                width,
                width,
                kernel_size=node.KERNEL,
                forget_bias=0.0 if released else node.FORGET_BIAS,
            ),
            "first_cell": (
                FirstFrameCell(width, width, kernel_size=node.KERNEL) if released else None
            ),
            "head": HeatmapHead(
                width,
                maps,
                channels=node.HEAD.CHANNELS,
                kernel_size=node.HEAD.KERNEL,
                num_large=node.HEAD.NUM_LARGE,
                final_relu=released,
            ),
            "residual": node.RESIDUAL and not released,
            "decoder_loss_weight": node.DECODER_LOSS_WEIGHT,
            "unipose": unipose,
        }

    def begin(self, images: Tensor, features: Tensor) -> UniPoseLSTMState:
        """A fresh row: zero memory, and its own decoder maps as the "previous" ones."""
        hidden, cell = self.cell.zero_state(features)
        fresh = features.new_ones((features.shape[0], 1, 1, 1))
        return UniPoseLSTMState(features, hidden, cell, fresh)

    def advance(
        self, features: Tensor, center_map: Tensor, state: UniPoseLSTMState
    ) -> tuple[Tensor, UniPoseLSTMState]:
        """Decoder maps (R, C, h, w), centre maps (R, 1, h, w) -> final maps (R, C, h, w), state."""
        center_map = center_map.to(features.dtype)
        if self.form == "paper":
            x = torch.cat([features, state.heatmaps.to(features.dtype), center_map], 1)
        else:
            x = torch.cat([features, center_map], 1)
        hidden, cell = self.cell(x, state.hidden, state.cell, state.fresh)
        if self.first_cell is not None:
            hidden, cell = self._first_step(x, hidden, cell, state.fresh)
        heatmaps = self.head(hidden)
        if self.residual:
            heatmaps = heatmaps + features
        return heatmaps, UniPoseLSTMState(heatmaps, hidden, cell, torch.zeros_like(state.fresh))

    def _first_step(
        self, x: Tensor, hidden: Tensor, cell: Tensor, fresh: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Fresh rows take the first-frame cell's result.

        It is computed for every row in training, so that all parameters receive a gradient in every
        batch, and only where needed otherwise.
        """
        mask = fresh > 0
        # A graph cannot branch on values.
        recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()
        if not self.training and not recorded and not bool(mask.any()):
            return hidden, cell
        assert self.first_cell is not None
        first_hidden, first_cell = self.first_cell(x)
        return torch.where(mask, first_hidden, hidden), torch.where(mask, first_cell, cell)

    def extra_maps(
        self, features: Tensor, first_state: UniPoseLSTMState
    ) -> dict[str, tuple[Tensor, float]]:
        weight = self.decoder_loss_weight
        return {"decoder": (features, weight)} if weight > 0 else {}

    def fold(self) -> None:
        super().fold()
        self.cell = self.cell.merged()
        if self.first_cell is not None:
            self.first_cell = self.first_cell.merged()

    def channel_labels(self, joint_names: list[str]) -> dict[str, dict[int, list[str]]]:
        maps = self.codec.channel_labels(joint_names)
        if self.form == "paper":
            x = [*(f"decoder {m}" for m in maps), *(f"previous {m}" for m in maps), "center"]
        else:
            x = [*(f"decoder {m}" for m in maps), "center"]
        labels = super().channel_labels(joint_names)
        for gate in self.cell.x:
            labels[f"cell.x.{gate}.weight"] = {0: x, 1: x}
            labels[f"cell.h.{gate}.weight"] = {0: x, 1: x}
            labels[f"cell.x.{gate}.bias"] = labels[f"cell.h.{gate}.bias"] = {0: x}
        for gate in self.first_cell.x if self.first_cell is not None else ():
            labels[f"first_cell.x.{gate}.weight"] = {0: x, 1: x}
            labels[f"first_cell.x.{gate}.bias"] = {0: x}
        first = next(name for name, p in self.head.named_parameters() if p.dim() == 4)
        last = [name for name, _ in self.head.named_parameters()][-2:]
        labels[f"head.{first}"] = {1: x}
        labels[f"head.{last[0]}"] = labels[f"head.{last[1]}"] = {0: maps}
        return labels
