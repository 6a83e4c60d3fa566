"""The form in which a trained model is evaluated: an equivalent copy that computes faster."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from video_pose.modeling.layers import fold_norms
from video_pose.modeling.precision import check_precision
from video_pose.modeling.video_pose_net import VideoPoseNet

logger = logging.getLogger(__name__)
# As TEST.COMPILE.
COMPILE = ("off", "kernels", "graphs")


def fast_path(model: VideoPoseNet, *, precision: str = "", compile: str = "off") -> VideoPoseNet:
    """A copy of ``model`` in evaluation mode, folded and in channels-last layout.

    Batch norms become part of the convolutions before them, and the model's own ``fold`` replaces
    what else is linear: heatmaps differ by rounding alone. The copy does not follow ``model``: one
    that is trained on needs a new copy. It is fixed to the device and weights of its making, and
    has no complete ``state_dict``.

    Args:
        model: trained; it is not changed, nor are its mode and the states that it keeps.
        precision: of inference, as TEST.PRECISION; "" is the model's own.
        compile: as TEST.COMPILE.

    Raises:
        ValueError: an unknown name.
    """
    folded = fold_norms(model)
    assert isinstance(folded, VideoPoseNet)
    folded.fold()
    folded.precision = check_precision(precision or model.precision)
    folded.layout = torch.channels_last
    folded.requires_grad_(False).to(memory_format=folded.layout)
    compile_functions(folded, compile)
    return folded


class Compiled:
    """Calls ``function`` compiled; at the first failure one line of log, and plainly from then on.

    Args:
        function: of tensors and NamedTuples of tensors.
        graphs: replay CUDA graphs; results are copied, since the next call would overwrite them.
    """

    def __init__(self, function: Callable[..., Any], *, graphs: bool) -> None:
        self.function, self.graphs = function, graphs
        mode = "reduce-overhead" if graphs else None
        self._compiled: Callable[..., Any] | None = torch.compile(function, mode=mode)

    def __call__(self, *args: Any) -> Any:
        if self._compiled is None:
            return self.function(*args)
        try:
            if self.graphs:
                torch.compiler.cudagraph_mark_step_begin()
            out = self._compiled(*args)
        except torch.OutOfMemoryError:  # says nothing about the compiler
            raise
        except Exception as error:
            reason = str(error).strip().splitlines() or [type(error).__name__]
            name = getattr(self.function, "__name__", "function")
            logger.warning("TEST.COMPILE: %s runs uncompiled: %s", name, reason[0])
            self._compiled = None
            return self.function(*args)
        return _copied(out) if self.graphs else out


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    parts = [_copied(part) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def compile_functions(model: nn.Module, how: str) -> None:
    """Put `Compiled` in the place of ``encode`` and ``advance`` of a model, in place.

    Args:
        how: "off"; "kernels", fused by ``torch.compile``; "graphs", as CUDA graphs besides. On a
            CPU "graphs" is "kernels", with one line of log.

    Raises:
        ValueError: unknown ``how``.
    """
    if how not in COMPILE:
        raise ValueError(f"TEST.COMPILE {how!r}: choose from {COMPILE}")
    if how == "off":
        return
    on_gpu = next(model.parameters(), torch.empty(0)).device.type == "cuda"
    if how == "graphs" and not on_gpu:
        logger.warning("TEST.COMPILE: no CUDA graphs on a CPU, kernels alone are compiled")
    for name in ("encode", "advance"):
        setattr(model, name, Compiled(getattr(model, name), graphs=how == "graphs" and on_gpu))
