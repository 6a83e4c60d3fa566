#!/usr/bin/env python3
"""Learning curves of runs as small files: one CSV a run, and one plot of all.

python tools/plot_curves.py output/unipose_R50_res4_lspet "video=output/unipose_lstm" \\
    --out docs/curves

A run is an OUTPUT_DIR (its metrics.json) or such a file. Values are means over --points equal
stretches of the run: the total loss, and the mean distance of peaks from joints in training, px of
the crop.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np

if str(Path(__file__).resolve().parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).resolve().parent))

from named_run import split_run  # noqa: E402
from plot_file import load_pyplot, save_plot  # noqa: E402

COLUMNS = {"total_loss": "loss", "pose/train_error_px": "train_error_px", "lr": "learning_rate"}

Curve = dict[str, np.ndarray]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="[NAME=]OUTPUT_DIR")
    parser.add_argument("--out", required=True, type=Path, help="folder of the files")
    parser.add_argument("--name", default="curves", help="of the plot")
    parser.add_argument("--points", type=int, default=60, help="rows of a CSV at most")
    return parser.parse_args(arguments)


def find_metrics(text: str) -> tuple[str, Path]:
    """Name and metrics file of ``NAME=OUTPUT_DIR``; without a name, the folder's."""
    name, path = split_run(text)
    file = path / "metrics.json" if path.is_dir() else path
    return (name if "=" in text else file.parent.name), file


def read_curve(file: Path) -> dict[str, dict[int, float]]:
    """Values by column and iteration. A resumed run repeats iterations: the last value counts.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a line before the last is no JSON (the last may be cut off), or it has no loss.
    """
    curve: dict[str, dict[int, float]] = {title: {} for title in COLUMNS.values()}
    lines = file.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, start=1):
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise ValueError(f"{file}, line {number}: {error}") from error
        for key, title in COLUMNS.items():
            if key in entry:
                curve[title][int(entry["iteration"])] = float(entry[key])
    if not curve["loss"]:
        raise ValueError(f"{file} has no total_loss: not the metrics.json of a training")
    return curve


def thin(curve: dict[str, dict[int, float]], points: int) -> Curve:
    """Means over at most ``points`` equal stretches of the iterations; NaN where there is no value.

    ``iteration`` is the last one of each stretch, counted from 1.
    """
    last = max(max(values) for values in curve.values() if values) + 1
    count = min(points, len(curve["loss"]))
    edges = np.linspace(0, last, count + 1)
    rows: Curve = {"iteration": np.ceil(edges[1:]).astype(int)}
    for title, values in curve.items():
        iterations = np.array(sorted(values))
        numbers = np.array([values[i] for i in iterations])
        stretch = np.clip(np.searchsorted(edges, iterations, side="right") - 1, 0, count - 1)
        sums = np.bincount(stretch, weights=numbers, minlength=count)
        sizes = np.bincount(stretch, minlength=count)
        with np.errstate(invalid="ignore"):
            rows[title] = sums / sizes
    return rows


def write_csv(curve: Curve, path: Path) -> None:
    """Four significant digits; an empty cell where there is no value."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(curve)
        for row in zip(*curve.values()):
            writer.writerow([row[0], *("" if np.isnan(v) else f"{v:.4g}" for v in row[1:])])


def plot(curves: dict[str, Curve], path: Path) -> None:
    """Loss (logarithmic) and training error of all runs, side by side."""
    pyplot = load_pyplot()
    figure, axes = pyplot.subplots(1, 2, figsize=(8.0, 3.2), dpi=90)
    for axis, title, label in zip(
        axes, ("loss", "train_error_px"), ("loss", "training error, crop px")
    ):
        for name, curve in curves.items():
            known = np.isfinite(curve[title])
            axis.plot(curve["iteration"][known], curve[title][known], label=name, linewidth=1.2)
        axis.set_xlabel("iteration")
        axis.set_ylabel(label)
        axis.grid(alpha=0.3)
    axes[0].set_yscale("log")
    axes[0].legend(fontsize=7)
    save_plot(figure, path)


def main(arguments: list[str] | None = None) -> None:
    """Write the files; errors of use end the program with one line."""
    args = parse_arguments(arguments)
    try:
        curves = {
            name: thin(read_curve(file), args.points) for name, file in map(find_metrics, args.runs)
        }
    except (FileNotFoundError, ValueError) as error:
        sys.exit(f"plot_curves: {error}")
    if len(curves) < len(args.runs):
        sys.exit(f"plot_curves: names repeat: {[find_metrics(run)[0] for run in args.runs]}")
    args.out.mkdir(parents=True, exist_ok=True)
    for name, curve in curves.items():
        write_csv(curve, args.out / f"{name}.csv")
    plot(curves, args.out / f"{args.name}.png")
    print(f"{args.out}: {', '.join(f'{name}.csv' for name in curves)}, {args.name}.png")


if __name__ == "__main__":
    main()
