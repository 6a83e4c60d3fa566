#!/usr/bin/env python3
"""Compare two models on the same frames: paired differences of PCK, each with an interval.

python tools/compare_runs.py output/unipose output/unipose_lstm
python tools/compare_runs.py A/inference/X B/predictions.npz --protocols torso --out compared.md

A and B are predictions.npz files of evaluations, folders that hold one, or OUTPUT_DIRs with one
evaluated dataset (else --dataset names it). Differences are given overall, by joint, by action, by
speed and, where joints are hidden, by visibility; intervals are drawn over whole source videos.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from tabulate import tabulate

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "projects"))

import video_pose  # noqa: E402, F401  (registers the datasets)
from video_pose.evaluation import report as breakdown  # noqa: E402
from video_pose.evaluation.predictions import read_predictions, scoring_facts  # noqa: E402
from video_pose.evaluation.report import interval_text, number  # noqa: E402

FILE = "predictions.npz"
NOTES = (
    "B - A: points of PCK. 95 %: paired bootstrap over whole source videos. An interval that holds "
    f"0, or fewer than {breakdown.MIN_SOURCES} source videos: {breakdown.UNDECIDED}. Of twenty "
    "rows without a difference one is expected to claim one. Speed: a labelled joint's mean "
    "displacement per frame from two frames before to two after, in hundredths of the longer side "
    "of its box; quarters of the counted joints."
)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("a", type=Path)
    parser.add_argument("b", type=Path)
    parser.add_argument("--dataset", help="where a run was evaluated on several")
    parser.add_argument("--protocols", nargs="+", help="default: the dataset's")
    parser.add_argument("--threshold", type=float, help="default: each protocol's own")
    parser.add_argument("--seed", type=int, default=0, help="of the intervals' draws")
    parser.add_argument("--out", type=Path, help="also write the text to this file")
    return parser.parse_args(arguments)


def find_predictions(path: Path, dataset: str | None = None) -> Path:
    """The predictions file that ``path`` is, holds, or has under inference/<dataset>.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several, and ``dataset`` names none of them.
    """
    if path.is_file():
        return path
    if (path / FILE).is_file():
        return path / FILE
    found = sorted((path / "inference").glob(f"{dataset or '*'}/{FILE}"))
    if not found:
        raise FileNotFoundError(
            f"{path} is no predictions file, and neither {path / FILE} nor "
            f"{path / 'inference' / (dataset or '<dataset>') / FILE} exists"
        )
    if len(found) > 1:
        names = [file.parent.name for file in found]
        raise ValueError(f"{path} was evaluated on {names}: name one by --dataset")
    return found[0]


def compare(
    a: dict[str, np.ndarray],
    b: dict[str, np.ndarray],
    protocols: list[str] | None = None,
    threshold: float | None = None,
    seed: int = 0,
) -> str:
    """The tables of all protocols, as Markdown.

    Args:
        a, b: of `read_predictions`.
        protocols: names; None takes the dataset's.
        threshold: None takes each protocol's own.
        seed: of the draws.

    Raises:
        ValueError: the files are not of the same frames and joints.
        KeyError: unknown protocol or dataset.
    """
    breakdown.require_pair(a, b)
    facts = scoring_facts(a)
    parts = []
    for protocol in protocols or facts["pck_protocols"]:
        options = (protocol, facts["pck_min_visibility"], facts["head_segment"], threshold)
        scored = [breakdown.score_joints(stored, *options) for stored in (a, b)]
        parts += [_headline(str(a["dataset_name"]), scored[0]), _table(*scored, seed)]
    return "\n\n".join([*parts, NOTES])


def _headline(dataset: str, scored: breakdown.ScoredJoints) -> str:
    unit = " px" if scored.protocol.unit else " of it"
    return (
        f"[{scored.protocol.name}] {dataset}, PCK at {scored.threshold:g}{unit}, reference length: "
        f"{scored.protocol.reference}; {len(scored.hits)} frames of "
        f"{len(set(scored.sources.tolist()))} source videos, {scored.frames_excluded} of them "
        "excluded (no reference length)."
    )


def _table(a: breakdown.ScoredJoints, b: breakdown.ScoredJoints, seed: int) -> str:
    rows = []
    for section, members in breakdown.sections(a).items():
        for title, chosen in members.items():
            change = breakdown.difference(a, b, chosen, seed)
            values = [number(breakdown.share(scored, chosen, seed).value) for scored in (a, b)]
            rows.append(
                [
                    section if section == "overall" else f"{section}: {title}",
                    *values,
                    f"{change.value:+.1f}" if change.joints else "nan",
                    interval_text(change.low, change.high),
                    str(change.joints),
                    str(change.sources),
                    breakdown.verdict(change),
                ]
            )
    headers = ["", "A", "B", "B - A", "95 %", "joints", "source videos", "verdict"]
    align = ["left", *["right"] * 6, "left"]
    return tabulate(rows, headers, tablefmt="pipe", colalign=align, disable_numparse=True)


def main() -> None:
    """Print the comparison; errors of use end the program with one line."""
    args = parse_arguments()
    try:
        files = [find_predictions(path, args.dataset) for path in (args.a, args.b)]
        text = compare(
            *(read_predictions(file) for file in files), args.protocols, args.threshold, args.seed
        )
    except (FileNotFoundError, ValueError, KeyError) as error:
        message = error.args[0] if isinstance(error, KeyError) else error
        sys.exit(f"compare_runs: {message}")
    text = f"A: {files[0]}\nB: {files[1]}\n\n{text}"
    print(text)
    if args.out:
        args.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
