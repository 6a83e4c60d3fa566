"""What a measuring process is asked, and what it answers; both travel as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch

from benchmarking.memory import forget_peak, gpu_peak_mb, peak_mb, resident_mb
from benchmarking.timing import Pass, Yardstick, alternate


@dataclass(frozen=True)
class Job:
    """Rows that are measured in one process, in turn.

    ``function`` is a key of ``worker.FUNCTIONS``; ``seconds`` and ``rounds`` as in ``alternate``.
    ``lean`` leaves out yardstick and counters: the process then holds what the row needs.
    ``datasets`` is the root of the datasets, "" for the user's own.
    """

    function: str
    rows: list[str]
    config_file: str
    options: list[str] = field(default_factory=list)
    clip_length: int = 5
    train_clips: int = 0
    seconds: float = 10.0
    rounds: int = 3
    seed: int = 0
    lean: bool = False
    datasets: str = ""
    dataset_name: str = ""


@dataclass(frozen=True)
class Timing:
    """One row: the seconds of each pass, and what a pass holds (0 operations: not counted)."""

    row: str
    precision: str
    frames: int
    flops: int
    seconds: list[float]


@dataclass(frozen=True)
class Score:
    """The accuracy of one row: the metric's name, and its value in percent."""

    row: str
    metric: str
    value: float


@dataclass(frozen=True)
class Measured:
    """The answer: timings, the yardstick's speed by precision (operations a second, each pass),
    memory in MB (after building, at most from then on, and at most on the GPU), what the fast forms
    do in words, and accuracies."""

    timings: list[Timing]
    peak_flops: dict[str, list[float]]
    rest_mb: float
    peak_mb: float
    gpu_peak_mb: float | None = None
    notes: list[str] = field(default_factory=list)
    scores: list[Score] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Measured:
        values = {**values, "timings": [Timing(**item) for item in values["timings"]]}
        return cls(**{**values, "scores": [Score(**item) for item in values["scores"]]})


def measure(
    job: Job,
    passes: Mapping[str, Pass],
    device: torch.device,
    *,
    precisions: Mapping[str, str],
    frames: Mapping[str, int],
    flops: Mapping[str, int],
) -> Measured:
    """Run the passes in turn, the yardsticks of their precisions among them.

    Args:
        passes: by row. precisions, frames, flops: of a pass, by row; a row without a precision
            ("") has no yardstick.
    """
    forget_peak()
    rest = resident_mb()
    sticks: dict[str, Yardstick] = {}
    if not job.lean:
        wanted = sorted({precisions[row] for row in passes if precisions[row]})
        sticks = {precision: Yardstick(precision, device) for precision in wanted}
    everything = {**passes, **{f"yardstick {name}": stick.run for name, stick in sticks.items()}}
    seconds = alternate(everything, job.seconds, job.rounds)
    timings = [
        Timing(row, precisions[row], frames[row], flops[row], seconds[row]) for row in passes
    ]
    speeds = {
        name: [stick.flops / s for s in seconds[f"yardstick {name}"]]
        for name, stick in sticks.items()
    }
    return Measured(timings, speeds, rest, peak_mb(), gpu_peak_mb())
