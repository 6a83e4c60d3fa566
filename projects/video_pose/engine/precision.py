"""Which floating-point format to compute in, on this machine."""

from __future__ import annotations

import torch

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def training_dtype(precision: str, device: torch.device) -> torch.dtype:
    """Format of autocast in training.

    Args:
        precision: SOLVER.AMP.PRECISION: "auto", "bfloat16" or "float16". "auto" is float16 on a GPU
            and bfloat16 on a CPU.

    Raises:
        ValueError: unknown name, or float16 on a CPU, whose convolutions have no fast path for it.
    """
    if precision == "auto":
        return torch.float16 if device.type == "cuda" else torch.bfloat16
    if precision not in ("bfloat16", "float16"):
        raise ValueError(f"SOLVER.AMP.PRECISION {precision!r}: choose from auto, bfloat16, float16")
    if precision == "float16" and device.type == "cpu":
        raise ValueError("SOLVER.AMP.PRECISION float16 needs a GPU; a CPU trains in bfloat16")
    return PRECISIONS[precision]
