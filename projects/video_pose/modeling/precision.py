"""Which floating-point format inference and training compute in, on this machine."""

from __future__ import annotations

import functools
import time

import torch
import torch.nn.functional as F

_FORMATS = {"float32": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
PRECISIONS = (*_FORMATS, "auto")
_TRAINING_FORMATS = {"bfloat16": torch.bfloat16, "float16": torch.float16}
TRAINING_PRECISIONS = (*_TRAINING_FORMATS, "auto")
# bfloat16 has to be that much faster to be worth its rounding.
_WORTH = 1.2


def check_precision(precision: str) -> str:
    """``precision`` itself. Raises ValueError for a name that TEST.PRECISION does not know."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision {precision!r}: choose from {PRECISIONS}")
    return precision


def inference_autocast(precision: str, device: torch.device) -> torch.autocast:
    """The context that a model on ``device`` infers in; ``precision`` as TEST.PRECISION."""
    dtype = inference_dtype(precision, device)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def inference_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """The format that ``precision`` means on ``device``; None: float32.

    "auto" is float16 on a GPU; on a CPU bfloat16 where that is faster, else float32.
    """
    if precision != "auto":
        return _FORMATS[precision]
    if device.type == "cuda":
        return torch.float16
    return torch.bfloat16 if bfloat16_is_faster() else None


def training_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Format of autocast in training; None: no autocast.

    Args:
        precision: SOLVER.AMP.PRECISION: "auto", "bfloat16" or "float16". "auto" is float16 on a GPU
            and bfloat16 on a CPU that has instructions for it; others emulate it slowly, and train
            in float32. Nothing is timed: a resumed run must not change its format.

    Raises:
        ValueError: unknown name, or float16 on a CPU, whose convolutions have no fast path for it.
    """
    if precision == "auto":
        if device.type == "cuda":
            return torch.float16
        return torch.bfloat16 if has_bfloat16() else None
    if precision not in _TRAINING_FORMATS:
        raise ValueError(f"SOLVER.AMP.PRECISION {precision!r}: choose from auto, bfloat16, float16")
    if precision == "float16" and device.type == "cpu":
        raise ValueError("SOLVER.AMP.PRECISION float16 needs a GPU; a CPU trains in bfloat16")
    return _TRAINING_FORMATS[precision]


def has_bfloat16() -> bool:
    """Whether this CPU has instructions for bfloat16."""
    if hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.cpu._is_avx512_bf16_supported()  # an older PyTorch


def has_matrix_units() -> bool:
    """Whether this CPU multiplies bfloat16 matrices in units of their own (AMX)."""
    if hasattr(torch.cpu, "get_capabilities"):
        return bool(torch.cpu.get_capabilities().get("amx_bf16"))
    return torch.cpu._is_amx_tile_supported()  # an older PyTorch


@functools.lru_cache(maxsize=1)
def bfloat16_is_faster() -> bool:
    """Whether this CPU convolves clearly faster in bfloat16 than in float32.

    True with matrix units, False without instructions. Between the two there are processors of
    either kind: a convolution is timed, once in a process, by the thread's own time, which other
    processes on the machine hardly disturb.
    """
    if not has_bfloat16() or has_matrix_units():
        return has_bfloat16()
    return _time_convolution(torch.float32) > _WORTH * _time_convolution(torch.bfloat16)


def _time_convolution(dtype: torch.dtype, repetitions: int = 5) -> float:
    """Seconds of one thread for a 3x3 convolution of 64 channels; the shortest of some."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        maps = torch.ones((1, 64, 48, 48), dtype=dtype).to(memory_format=torch.channels_last)
        weight = torch.ones((64, 64, 3, 3), dtype=dtype).to(memory_format=torch.channels_last)
        times = []
        for _ in range(repetitions + 1):  # the first one prepares
            start = time.thread_time()
            F.conv2d(maps, weight, padding=1)
            times.append(time.thread_time() - start)
        return min(times[1:])
    finally:
        torch.set_num_threads(threads)
