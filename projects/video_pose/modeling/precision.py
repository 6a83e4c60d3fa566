"""Which floating-point format inference computes in."""

from __future__ import annotations

import torch

_FORMATS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
PRECISIONS = (*_FORMATS, "auto")


def check_precision(precision: str) -> str:
    """``precision`` itself. Raises ValueError for a name that TEST.PRECISION does not know."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: choose from {PRECISIONS}")
    return precision


def inference_autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context that a model on ``device`` infers in.

    Args:
        precision: "float32", "bfloat16", "float16" or "auto", the fastest that the device computes
            in hardware: float16 on a GPU, bfloat16 on a CPU with instructions for it, else float32.
    """
    dtype = _fastest(device) if precision == "auto" else _FORMATS[precision]
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def _fastest(device: torch.device) -> torch.dtype | None:
    if device.type == "cuda":
        return torch.float16
    # Older PyTorch does not tell what a CPU can do; float32 is right on all of them.
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    features = ("avx512_bf16", "amx_bf16", "bf16")
    return torch.bfloat16 if any(capabilities.get(name) for name in features) else None
