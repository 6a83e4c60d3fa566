#!/usr/bin/env python3
"""PCK tables of evaluated models as Markdown: overall, by joint, by action, by speed.

python tools/tabulate_pck.py "UniPose=output/unipose" "UniPose-LSTM=output/unipose_lstm" \\
    --protocols torso
python tools/tabulate_pck.py --dataset sub_jhmdb_split1_test      the floor alone

A run is what tools/compare_runs.py takes. All runs must be of the same frames. The floor is the
constant pose of the training data in each ground-truth box; intervals are over source videos.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from tabulate import tabulate

if str(Path(__file__).resolve().parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).resolve().parent))

import video_pose  # noqa: E402, F401  (first: it silences a warning of Detectron2's import)

# isort: split
from compare_runs import find_predictions  # noqa: E402
from detectron2.data import DatasetCatalog, MetadataCatalog  # noqa: E402
from named_run import split_run  # noqa: E402

from video_pose.evaluation import report as breakdown  # noqa: E402
from video_pose.evaluation.mean_pose import constant_pose_of, place_pose  # noqa: E402
from video_pose.evaluation.predictions import (  # noqa: E402
    index_tracks,  # noqa: E402
    prediction_arrays,
    read_predictions,
    require_registered,
    scoring_facts,
)
from video_pose.evaluation.report import interval_text, number  # noqa: E402

Stored = dict[str, np.ndarray]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs="*", metavar="[NAME=]RUN")
    parser.add_argument("--dataset", help="where a run was evaluated on several, or there is none")
    parser.add_argument("--protocols", nargs="+", help="default: the dataset's")
    parser.add_argument(
        "--sections", nargs="+", help="of overall, joint, action, speed, visibility"
    )
    parser.add_argument("--no-floor", action="store_true", help="without the constant pose")
    return parser.parse_args(arguments)


def load_runs(texts: list[str], dataset: str | None) -> dict[str, Stored]:
    """The predictions by name, all of the same frames.

    Raises:
        FileNotFoundError, ValueError: as `find_predictions` and `require_pair`; names repeat.
    """
    runs: dict[str, Stored] = {}
    for text in texts:
        name, path = split_run(text)
        if name in runs:
            raise ValueError(f"two runs are called {name!r}: give names, as A={path}")
        runs[name] = read_predictions(find_predictions(path, dataset))
        breakdown.require_pair(next(iter(runs.values())), runs[name])
    return runs


def labels(dataset: str) -> Stored:
    """The arrays of a dataset's labelled frames without any prediction.

    Raises:
        KeyError: the dataset is not registered.
    """
    require_registered(dataset)
    names = MetadataCatalog.get(dataset).keypoint_names
    truth = index_tracks(dataset, DatasetCatalog.get(dataset))
    return prediction_arrays(dataset, names, truth, {})


def add_floor(first: Stored, runs: dict[str, Stored], min_visibility: int) -> dict[str, Stored]:
    """The runs with the constant pose before them; ``first`` has the frames and labels of all."""
    pose, source = constant_pose_of(str(first["dataset_name"]), min_visibility)
    placed = place_pose(pose, first["boxes"])
    return {f"floor ({source})": {**first, "predictions": placed}, **runs}


def tables(
    runs: dict[str, Stored],
    protocols: list[str] | None = None,
    sections: list[str] | None = None,
    dataset: str | None = None,
    floor: bool = True,
) -> str:
    """Markdown: for each protocol and section, a row for each member and two columns a run.

    Args:
        runs: predictions by name; without any, ``dataset`` gives the frames of the floor.
        protocols, sections: None takes all that the dataset has.
        floor: begin with the constant pose.

    Raises:
        KeyError: unknown dataset or protocol.
        ValueError: neither a run nor a dataset.
    """
    if not runs and not dataset:
        raise ValueError("name runs, or a --dataset for its floor")
    first_run = next(iter(runs.values())) if runs else labels(str(dataset))
    facts = scoring_facts(first_run)
    if floor or not runs:
        runs = add_floor(first_run, runs, facts["pck_min_visibility"])
    parts = []
    for protocol in protocols or facts["pck_protocols"]:
        options = protocol, facts["pck_min_visibility"], facts["head_segment"]
        scored = {name: breakdown.score_joints(run, *options) for name, run in runs.items()}
        first = next(iter(scored.values()))
        for section, members in breakdown.sections(first).items():
            if sections and section not in sections:
                continue
            parts.append(
                _table(f"{protocol} {first.protocol.metric()}, {section}", scored, members)
            )
    return "\n\n".join(parts)


def _table(
    title: str, scored: dict[str, breakdown.ScoredJoints], members: dict[str, np.ndarray]
) -> str:
    headers = [title, "joints", "source videos"]
    for name in scored:
        headers += [name, "95 %"]
    rows = []
    for member, chosen in members.items():
        shares = [breakdown.share(run, chosen) for run in scored.values()]
        row = [member, str(shares[0].joints), str(shares[0].sources)]
        for share in shares:
            row += [number(share.value), interval_text(share.low, share.high)]
        rows.append(row)
    align = ["left", *["right"] * (len(headers) - 1)]
    return tabulate(rows, headers, tablefmt="pipe", colalign=align, disable_numparse=True)


def main(arguments: list[str] | None = None) -> None:
    """Print the tables; errors of use end the program with one line."""
    args = parse_arguments(arguments)
    try:
        runs = load_runs(args.runs, args.dataset)
        print(tables(runs, args.protocols, args.sections, args.dataset, not args.no_floor))
    except (FileNotFoundError, ValueError, KeyError) as error:
        sys.exit(f"tabulate_pck: {error.args[0] if isinstance(error, KeyError) else error}")


if __name__ == "__main__":
    main()
