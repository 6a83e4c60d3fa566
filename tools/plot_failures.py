#!/usr/bin/env python3
"""The worst frames of a run as stick figures: labels in grey, predictions in colour, no pictures.

python tools/plot_failures.py output/unipose_lstm --out docs/curves/failures.png --count 12

One frame, the worst by mean distance over the reference length, of each of the worst source videos.
A run is what tools/compare_runs.py takes; it holds no pixel of a frame, and neither does the plot.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

if str(Path(__file__).resolve().parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import video_pose  # noqa: E402, F401  (first: it silences a warning of Detectron2's import)

# isort: split
from compare_runs import find_predictions  # noqa: E402
from detectron2.data import MetadataCatalog  # noqa: E402
from plot_file import load_pyplot, save_plot  # noqa: E402

from video_pose.evaluation import pck  # noqa: E402
from video_pose.evaluation.predictions import (  # noqa: E402
    read_predictions,
    require_registered,
    scoring_facts,
)

_COLUMNS = 4
_LABEL_COLOR = "0.65"


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", required=True, type=Path, help="PNG")
    parser.add_argument("--dataset", help="where the run was evaluated on several")
    parser.add_argument("--protocol", default="torso")
    parser.add_argument("--count", type=int, default=12)
    return parser.parse_args(arguments)


def frame_errors(stored: dict[str, np.ndarray], protocol: str) -> np.ndarray:
    """Mean distance of each frame's counted joints in reference lengths, (M,).

    A frame without a prediction is infinitely far off; NaN where nothing counts.
    """
    require_registered(str(stored["dataset_name"]))  # for its links as well
    facts = scoring_facts(stored)
    names = [str(name) for name in stored["joint_names"]]
    truth = stored["ground_truth"]
    lengths = pck.reference_lengths(
        pck.get_protocol(protocol), truth, stored["boxes"], names, facts["head_segment"]
    )
    counted = pck.counted_joints(truth, lengths, facts["pck_min_visibility"])
    distances = pck.pixel_distances(stored["predictions"], truth)
    normalised = pck.normalised_distances(distances, lengths)
    sums = np.where(counted, normalised, 0).sum(axis=1)
    sizes = counted.sum(axis=1)
    return np.where(sizes > 0, sums / np.maximum(sizes, 1), np.nan)


def worst_frames(errors: np.ndarray, sources: np.ndarray, count: int) -> list[int]:
    """Rows of the worst frame of each source video, the worst first, at most ``count``.

    Frames without a prediction or without a counted joint cannot be drawn and are left out.
    """
    worst: dict[str, int] = {}
    for row in np.flatnonzero(np.isfinite(errors)):
        best = worst.get(sources[row])
        if best is None or errors[row] > errors[best]:
            worst[sources[row]] = int(row)
    return sorted(worst.values(), key=lambda row: -errors[row])[:count]


def plot(stored: dict[str, np.ndarray], rows: list[int], errors: np.ndarray, path: Path) -> None:
    """One small picture for each row, over its box."""
    pyplot = load_pyplot()
    links = MetadataCatalog.get(str(stored["dataset_name"])).keypoint_connection_rules
    names = [str(name) for name in stored["joint_names"]]
    height = -(-len(rows) // _COLUMNS)
    figure, grid = pyplot.subplots(
        height, _COLUMNS, figsize=(2.0 * _COLUMNS, 2.2 * height), dpi=80, squeeze=False
    )
    for axis in grid.flat:
        axis.axis("off")
    for axis, row in zip(grid.flat, rows):
        _figure(axis, stored["ground_truth"][row], names, links, _LABEL_COLOR)
        _figure(axis, stored["predictions"][row], names, links, None)
        x1, y1, x2, y2 = stored["boxes"][row]
        axis.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color="0.85", linewidth=0.8)
        axis.set_aspect("equal")
        axis.invert_yaxis()
        what = str(stored["actions"][row]) or str(stored["video_ids"][row])[:16]
        title = f"{what}, frame {int(stored['frame_indices'][row])}: {errors[row]:.2f}"
        axis.set_title(title, fontsize=7)
    save_plot(figure, path)


def _figure(
    axis: Any, pose: np.ndarray, names: list[str], links: list[Any], color: str | None
) -> None:
    """Lines of a pose (K, 3); ``color`` None takes those of the links."""
    for first, second, rgb in links:
        ends = pose[[names.index(first), names.index(second)]]
        if color is None or (ends[:, 2] > 0).all():
            shade = color or tuple(value / 255 for value in rgb)
            width = 2.2 if color else 1.3
            axis.plot(ends[:, 0], ends[:, 1], color=shade, linewidth=width)


def main(arguments: list[str] | None = None) -> None:
    """Write the plot; errors of use end the program with one line."""
    args = parse_arguments(arguments)
    try:
        stored = read_predictions(find_predictions(args.run, args.dataset))
        errors = frame_errors(stored, args.protocol)
    except (FileNotFoundError, ValueError, KeyError) as error:
        sys.exit(f"plot_failures: {error.args[0] if isinstance(error, KeyError) else error}")
    rows = worst_frames(errors, stored["source_videos"], args.count)
    if not rows:
        sys.exit(f"plot_failures: {args.run} has no predicted frame with a counted joint")
    plot(stored, rows, errors, args.out)
    for row in rows:
        print(f"{errors[row]:6.2f}  {stored['video_ids'][row]}  {stored['frame_indices'][row]}")


if __name__ == "__main__":
    main()
