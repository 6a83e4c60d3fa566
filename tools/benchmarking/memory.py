"""How much memory a process holds, and held at most."""

from __future__ import annotations

import gc
import multiprocessing
import os
import resource
import sys
from pathlib import Path

import torch


def resident_mb() -> float:
    """Memory of this process and its children now, MB (2^20 bytes)."""
    return sum(_status_mb(pid, "VmRSS") for pid in _processes())


def peak_mb() -> float:
    """The most that this process and its living children have held, each for itself, MB.

    ``getrusage`` would count what the parent held before it started this program, too, and serves
    only where there is no /proc.
    """
    return sum(_status_mb(pid, "VmHWM") for pid in _processes())


def forget_peak() -> None:
    """Let the peak begin at what the process holds now, where Linux allows it."""
    gc.collect()
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5", encoding="utf-8")
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def gpu_peak_mb() -> float | None:
    """The most that tensors have taken on the GPU, MB; None without one."""
    return torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else None


def _processes() -> list[int]:
    children = multiprocessing.active_children()
    return [os.getpid(), *(child.pid for child in children if child.pid is not None)]


def _status_mb(pid: int, key: str) -> float:
    status = Path(f"/proc/{pid}/status")
    if status.is_file():
        for line in status.read_text(encoding="utf-8").splitlines():
            if line.startswith(key + ":"):
                return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss if pid == os.getpid() else 0
    return peak / (2**20 if sys.platform == "darwin" else 2**10)
