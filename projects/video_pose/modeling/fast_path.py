"""The form in which a trained model is evaluated: an equivalent copy that computes faster."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from video_pose.modeling.encode_batch import frames_that_fit
from video_pose.modeling.fold_norms import fold_norms
from video_pose.modeling.large_conv import LargeConv2d, replace_large
from video_pose.modeling.packed_conv import PackedConv2d, can_pack, pack
from video_pose.modeling.precision import check_precision, inference_dtype
from video_pose.modeling.video_pose_net import VideoPoseNet


def fast_path(
    model: VideoPoseNet,
    *,
    precision: str = "",
    large_convolutions: str = "auto",
    compile: str = "off",
    crop_size: tuple[int, int] | None = None,
) -> VideoPoseNet:
    """A copy of ``model`` in evaluation mode, folded and in channels-last layout.

    Batch norms become part of the convolutions before them, and the model's own ``fold`` replaces
    what else is linear: heatmaps differ by rounding alone. The copy does not follow ``model``: one
    that is trained on needs a new copy. It is fixed to the device, type and weights of its making,
    and has no complete ``state_dict``.

    Args:
        model: trained; it is not changed, nor are its mode and the states that it keeps.
        precision: of inference, as TEST.PRECISION; "" is the model's own. It is fixed in the copy.
        large_convolutions, compile: as TEST.LARGE_CONVOLUTIONS and TEST.COMPILE.
        crop_size: (H, W) of the images to come. On a CPU no more of them are encoded at once than
            suit its caches; None encodes as many as ``model`` does.

    Raises:
        ValueError: an unknown name.
    """
    folded = fold_norms(model)
    assert isinstance(folded, VideoPoseNet)
    folded.fold()
    folded.precision = check_precision(precision or model.precision)
    dtype = inference_dtype(folded.precision, folded.device)
    folded.layout = torch.channels_last
    folded.requires_grad_(False).to(memory_format=folded.layout)
    if folded.device.type == "cpu" and crop_size is not None:
        folded.encode_batch = min(folded.encode_batch, frames_that_fit(folded, crop_size))
    replace_large(folded, dtype, large_convolutions)
    if can_pack(folded.device, dtype or torch.float32) and compile == "off":
        pack(folded, dtype or torch.float32)
    compile_functions(folded, compile)
    return folded


def build_fast_path(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """What ``cfg.TEST`` evaluates in the place of ``model``: `fast_path`, or ``model`` itself where
    TEST.FAST is off."""
    if cfg.TEST.FAST and isinstance(model, VideoPoseNet):
        return fast_path(
            model,
            precision=cfg.TEST.PRECISION,
            large_convolutions=cfg.TEST.LARGE_CONVOLUTIONS,
            compile=cfg.TEST.COMPILE,
            crop_size=tuple(cfg.INPUT.CROP_SIZE),
        )
    return model


def describe(model: nn.Module) -> list[str]:
    """What was chosen for a model that ran: lines on precision, layout and large convolutions.

    Convolutions of the same choice share a line. Empty for a model that is no `fast_path`.
    """
    if not isinstance(model, VideoPoseNet) or model.layout != torch.channels_last:
        return []
    dtype = inference_dtype(model.precision, model.device)
    packed = sum(isinstance(module, PackedConv2d) for module in model.modules())
    name = str(dtype or torch.float32).removeprefix("torch.")
    lines = [f"{name}, channels last, {packed} convolutions with weights packed for oneDNN"]
    lines.append(f"at most {model.encode_batch} frames encoded at once")
    large = [line for m in model.modules() if isinstance(m, LargeConv2d) for line in m.describe()]
    counts = Counter(large)
    return lines + [f"{count} x {line}" for line, count in counts.items()]


logger = logging.getLogger(__name__)
# As TEST.COMPILE.
COMPILE = ("off", "kernels", "graphs")


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
