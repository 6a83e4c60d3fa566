"""From timings to a table and to JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate

from benchmarking.inference import PLAIN
from benchmarking.job import Measured, Timing

HEADERS = [
    "row", "ms/frame median", "p95", "frames/s", "GFLOP/frame", "GFLOP/s", "of peak", "times",
    "peak MB", "above built", "PCK", "change",
]  # fmt: skip


@dataclass
class Line:
    """One row of the table; None where something was not measured.

    ``share`` of the yardstick's speed; ``times`` faster than the first row of the same kind and
    model (same stage); ``peak_mb`` of a process that does this alone, ``above_mb`` what the work
    adds to the built model; ``pck`` in percent by ``metric``, ``pck_change`` against the plain way.
    """

    row: str
    ms_median: float
    ms_p95: float
    frames_per_second: float
    passes: int
    gflop_per_frame: float | None = None
    gflops: float | None = None
    share: float | None = None
    times: float | None = None
    peak_mb: float | None = None
    above_mb: float | None = None
    gpu_peak_mb: float | None = None
    metric: str = ""
    pck: float | None = None
    pck_change: float | None = None
    error: str = ""


def line_of(timing: Timing) -> Line:
    """The figures of one row; a pass of several frames counts as that many equal ones."""
    seconds = np.array(timing.seconds) / timing.frames
    median = float(np.median(seconds))
    line = Line(
        timing.row,
        1000 * median,
        1000 * float(np.percentile(seconds, 95)),
        1 / median if median else float("nan"),
        len(seconds),
    )
    if timing.flops and median:
        line.gflop_per_frame = timing.flops / timing.frames / 1e9
        line.gflops = line.gflop_per_frame / median
    return line


def lines_of(answers: Sequence[Measured]) -> tuple[list[Line], dict[str, float]]:
    """All rows, and the peak of each precision: the yardstick's fastest pass in the whole run."""
    peaks: dict[str, float] = {}
    for measured in answers:
        for precision, speeds in measured.peak_flops.items():
            peaks[precision] = max([peaks.get(precision, 0.0), *speeds])
    lines = []
    for timing in (timing for measured in answers for timing in measured.timings):
        line = line_of(timing)
        if line.gflops is not None and timing.precision in peaks:
            line.share = 1e9 * line.gflops / peaks[timing.precision]
        lines.append(line)
    return lines, peaks


def add_memory(lines: Sequence[Line], memory: dict[str, Measured]) -> None:
    """Fill in what the processes of single rows held."""
    for line in lines:
        if line.row in memory:
            found = memory[line.row]
            line.peak_mb, line.above_mb = found.peak_mb, found.peak_mb - found.rest_mb
            line.gpu_peak_mb = found.gpu_peak_mb


def add_times(lines: Sequence[Line]) -> None:
    """Fill in how many times faster each row is than the first that it is measured against."""
    first: dict[tuple[str, ...], float] = {}
    for line in lines:
        kind, model, *rest = line.row.split("/")
        key = (kind, model, *rest[2:]) if kind == "stages" and len(rest) == 3 else (kind, model)
        if line.error or not line.ms_median:
            continue
        line.times = first.setdefault(key, line.ms_median) / line.ms_median


def add_scores(lines: list[Line], answers: Sequence[Measured]) -> None:
    """Fill in accuracies: of inference by model, precision and way, whatever the batch; those that
    no row is timed for become lines of their own."""
    for measured in answers:
        for score in measured.scores:
            _, model, precision, way = score.row.split("/")
            change = score.value - measured.scores[0].value
            rows = _rows_of(lines, model, precision, way)
            if not rows:
                rows = [failed_line(score.row, "")]
                lines += rows
            for line in rows:
                line.metric, line.pck, line.pck_change = score.metric, score.value, change


def _rows_of(lines: Sequence[Line], model: str, precision: str, way: str) -> list[Line]:
    """Inference of the plain way, or of all ways of the fast form: they give the same poses."""
    prefix = f"inference/{model}/{precision}/"
    return [
        line
        for line in lines
        if line.row.startswith(prefix)
        and (line.row == prefix + way or way != PLAIN and line.row != prefix + PLAIN)
    ]


def failed_line(row: str, error: str) -> Line:
    """A row that was not timed, because its process failed or (no ``error``) for want of one."""
    nan = float("nan")
    return Line(row, nan, nan, nan, 0, error=error)


def format_table(lines: Sequence[Line]) -> str:
    """A Markdown table."""
    rows = [
        [
            line.row,
            "failed" if line.error else _number(line.ms_median),
            _number(line.ms_p95),
            _number(line.frames_per_second),
            _number(line.gflop_per_frame),
            _number(line.gflops),
            "" if line.share is None else f"{100 * line.share:.0f} %",
            "" if line.times is None else f"{line.times:.2f}",
            _number(line.peak_mb),
            _number(line.above_mb),
            "" if line.pck is None else f"{line.pck:.2f}",
            "" if line.pck_change is None else f"{line.pck_change:+.2f}",
        ]
        for line in lines
    ]
    align = ["left"] + ["right"] * (len(HEADERS) - 1)
    return tabulate(rows, HEADERS, tablefmt="pipe", colalign=align, disable_numparse=True)


def _number(value: float | None) -> str:
    """Three digits, or all before the point."""
    if value is None or not np.isfinite(value):
        return ""
    digits = 2 - int(np.floor(np.log10(abs(value)))) if value else 0
    return f"{value:.{max(0, digits)}f}"


def describe_machine() -> dict[str, Any]:
    """What figures depend on besides the code."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    units = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "units": [name for name in units if capabilities.get(name)],
        "gpu": torch.cuda.get_device_name(0) if torch.cuda.is_available() else None,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load": [round(value, 1) for value in os.getloadavg()],
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.is_file():
        for text in info.read_text(encoding="utf-8").splitlines():
            if text.startswith("model name"):
                return text.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def describe(machine: dict[str, Any], peaks: dict[str, float]) -> str:
    """Machine and yardsticks in words."""
    units = ", ".join(machine["units"]) or "no vector units known"
    text = (
        f"{machine['gpu'] or machine['processor']}, {machine['cores']} cores ({units}), "
        f"{machine['threads']} threads, torch {machine['torch']}, load {machine['load'][0]} at the "
        "start."
    )
    for precision, speed in peaks.items():
        text += f" Matrix product in {precision}: {speed / 1e9:.0f} GFLOP/s."
    return text


def write_report(
    folder: Path, name: str, text: str, lines: Sequence[Any], facts: dict[str, Any]
) -> None:
    """``name``.md and ``name``.json in ``folder``; NaN becomes null."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    rows = [
        {key: None if value != value else value for key, value in asdict(line).items()}
        for line in lines
    ]
    whole = json.dumps({**facts, "rows": rows}, indent=1)
    (folder / f"{name}.json").write_text(whole + "\n", encoding="utf-8")
