"""Which floating-point format inference and training compute in, on this machine."""

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
    dtype = inference_dtype(precision, device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def inference_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The format that ``precision`` means on ``device``, see above; None: float32."""
    return fastest_dtype(device) if precision == "auto" else _FORMATS[precision]


def has_matrix_units() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in units of their own (AMX)."""
    if hasattr(torch.cpu, "get_capabilities"):
        return bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return torch.cpu._is_amx_tile_supported()  # an older PyTorch


def fastest_dtype(device: torch.device) -> torch.dtype | None:
    """float16 on a GPU, bfloat16 on a CPU with instructions for it, else None: float32."""
    if device.type == "cuda":
        return torch.float16
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        able = any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    else:  # an older PyTorch
        able = torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if able else None


_TRAINING_FORMATS = {"bfloat16": torch.bfloat16, "float16": torch.float16}


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
    if precision not in _TRAINING_FORMATS:
        raise ValueError(f"SOLVER.AMP.PRECISION {precision!r}: choose from auto, bfloat16, float16")
    if precision == "float16" and device.type == "cpu":
        raise ValueError("SOLVER.AMP.PRECISION float16 needs a GPU; a CPU trains in bfloat16")
    return _TRAINING_FORMATS[precision]
