"""Which floating-point format to train in, on this machine."""

from __future__ import annotations

import torch

from video_pose.modeling.precision import fastest_dtype

_FORMATS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def training_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Format of autocast in training; None: no autocast.

    Args:
        precision: SOLVER.AMP.PRECISION: "auto", "bfloat16" or "float16". "auto" is float16 on a GPU
            and bfloat16 on a CPU that has instructions for it; others emulate it slowly, and train
            in float32.

    Raises:
        ValueError: unknown name, or float16 on a CPU, whose convolutions have no fast path for it.
    """
    if precision == "auto":
        return fastest_dtype(device)
    if precision not in _FORMATS:
        raise ValueError(f"SOLVER.AMP.PRECISION {precision!r}: choose from auto, bfloat16, float16")
    if precision == "float16" and device.type == "cpu":
        raise ValueError("SOLVER.AMP.PRECISION float16 needs a GPU; a CPU trains in bfloat16")
    return _FORMATS[precision]
