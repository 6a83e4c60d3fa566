"""Table and plot of a study of time, from the predictions of its runs."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
from plot_file import load_pyplot, save_plot
from tabulate import tabulate

from video_pose.evaluation import report as breakdown
from video_pose.evaluation.predictions import read_predictions, scoring_facts
from video_pose.evaluation.report import interval_text, number

FRAME_BY_FRAME = "frame by frame"
_MARKERS = "os^vD<>P"


@dataclass(frozen=True)
class Row:
    """One test: ``form`` ("frame by frame" without memory), training ``frames``, seed, reset."""

    form: str
    frames: int
    seed: int
    reset: int
    folder: Path


@dataclass(frozen=True)
class Figures:
    """Of one row and protocol: overall, of the fastest quarter of joints, of hidden joints (None
    where the dataset has none), and the paired difference to the frame-by-frame row."""

    overall: breakdown.Share
    fast: breakdown.Share
    hidden: breakdown.Share | None
    change: breakdown.Share


def measure(rows: list[Row], protocol: str) -> list[Figures]:
    """Figures of all rows; the first is the frame-by-frame one that the others are paired with."""
    base = read_predictions(rows[0].folder / "predictions.npz")
    facts = scoring_facts(base)
    options = protocol, facts["pck_min_visibility"], facts["head_segment"]
    reference = breakdown.score_joints(base, *options)
    tables = breakdown.sections(reference)
    everything = tables["overall"]["all"]
    fast = list(tables["speed"].values())[-1]
    hidden = tables.get("visibility", {}).get("hidden")
    figures = []
    for row in rows:
        stored = read_predictions(row.folder / "predictions.npz")
        breakdown.require_pair(base, stored)
        scored = breakdown.score_joints(stored, *options)
        figures.append(
            Figures(
                breakdown.share(scored, everything),
                breakdown.share(scored, fast),
                None if hidden is None else breakdown.share(scored, hidden),
                breakdown.difference(reference, scored, everything),
            )
        )
    return figures


def table(rows: list[Row], figures: dict[str, list[Figures]]) -> str:
    """Markdown; ``figures`` by protocol."""
    headers = ["model", "T", "seed", "state"]
    has_hidden = any(each.hidden for each in next(iter(figures.values())))
    for protocol in figures:
        headers += [f"{protocol} PCK", "95 %", "fastest quarter"]
        headers += ["hidden joints"] if has_hidden else []
        headers += ["against frame by frame", "95 %"]
    lines = []
    for index, row in enumerate(rows):
        line = [row.form, str(row.frames), str(row.seed), _state(row)]
        if row.form == FRAME_BY_FRAME:
            line = [row.form, "1", "", "none"]
        for protocol in figures:
            line += _cells(figures[protocol][index], index > 0)
        lines.append(line)
    return tabulate(lines, headers, tablefmt="pipe", disable_numparse=True)


def _cells(figures: Figures, paired: bool) -> list[str]:
    cells = [
        number(figures.overall.value),
        interval_text(figures.overall.low, figures.overall.high),
        number(figures.fast.value),
    ]
    if figures.hidden is not None:
        cells.append(number(figures.hidden.value))
    change = figures.change
    return [
        *cells,
        f"{change.value:+.1f}" if paired else "",
        interval_text(change.low, change.high) if paired else "",
    ]


def _state(row: Row) -> str:
    return f"reset every {row.reset}" if row.reset else "carried"


def plot(rows: list[Row], figures: list[Figures], protocol: str, path: Path) -> None:
    """PCK over the length of training clips: a line for each form and way of testing, the mean over
    seeds; the frame-by-frame figure across."""
    pyplot = load_pyplot()
    lines: dict[str, dict[int, list[float]]] = {}
    for row, each in zip(rows[1:], figures[1:]):
        points = lines.setdefault(f"{row.form}, {_state(row)}", {})
        points.setdefault(row.frames, []).append(each.overall.value)
    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), dpi=110)
    axes.axhline(figures[0].overall.value, color="0.4", linestyle="--", label=FRAME_BY_FRAME)
    for marker, (label, points) in zip(cycle(_MARKERS), lines.items()):
        lengths = sorted(points)
        means = [np.mean(points[t]) for t in lengths]
        axes.plot(lengths, means, marker=marker, label=label)
    axes.set_xlabel("frames of a training clip, T")
    axes.set_ylabel(f"PCK by {protocol}, %")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    save_plot(figure, path)
