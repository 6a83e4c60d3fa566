#!/usr/bin/env python3
"""Tables of evaluated models, as Markdown.

python tools/analyze.py table "UniPose=output/unipose" output/unipose_lstm --protocols torso
python tools/analyze.py table --dataset sub_jhmdb_split1_test          the baseline alone
python tools/analyze.py compare output/unipose output/unipose_lstm     paired, with intervals
python tools/analyze.py models output/unipose_lstm "R-CNN=output/keypoint_rcnn" \\
    --dataset sub_jhmdb_split1_test MODEL.DEVICE cpu
python tools/analyze.py calibrate output/fit/inference/sub_jhmdb_split1_holdout \\
    --output my_model/calibration.json

A run is a predictions.npz of an evaluation, a folder that holds one, or an OUTPUT_DIR with one
evaluated dataset (else --dataset names it). All runs of a table must be of the same frames.
Intervals are drawn over whole source videos.

table    overall, by joint, action, speed and visibility, the mean-pose baseline before the runs
compare  differences B - A, each with an interval and a verdict
calibrate  curves from raw scores to the share of joints within .1 of the box, to lie beside a
         model; RUN is of clips that the model was not trained on, --check of others
models   PCK and AP of OUTPUT_DIRs; what has not been evaluated yet is evaluated now, by the
         folder's config.yaml and model_final.pth, R-CNNs on the dataset's frames
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import video_pose  # noqa: F401  (first: it silences a warning of Detectron2's import)

# isort: split
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog

from video_pose.data.frames import FRAMES_SUFFIX
from video_pose.evaluation import report
from video_pose.evaluation.calibration import fit_calibration, reliability
from video_pose.evaluation.mean_pose import mean_pose_of, place_pose
from video_pose.evaluation.predictions import (
    find_predictions,
    index_tracks,
    prediction_arrays,
    read_predictions,
    require_registered,
    scoring_facts,
)
from video_pose.evaluation.report import interval_text, markdown, number
from video_pose.files import read_text, with_nan

PCK = "keypoints_pck_"
# Detectron2's tasks: title of the columns.
COCO = {"keypoints": "keypoint", "bbox": "box", "segm": "mask"}
NOTES = (
    "B - A: points of PCK. 95 %: paired bootstrap over whole source videos. An interval that holds "
    f"0, or fewer than {report.MIN_SOURCES} source videos: {report.UNDECIDED}. Of twenty "
    "rows without a difference one is expected to claim one. Speed: a labelled joint's mean "
    "displacement per frame from two frames before to two after, in hundredths of the longer side "
    "of its box; quarters of the counted joints."
)

_WRITES = ("the text to this file", "the calibration to this file")

Stored = dict[str, np.ndarray]
Results = dict[str, dict[str, float]]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool; ``opts`` holds the trailing KEY VALUE of "models"."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    table = commands.add_parser("table", help="PCK of runs side by side")
    compare = commands.add_parser("compare", help="paired differences of two runs")
    models = commands.add_parser("models", help="one row a model, evaluated where needed")
    calibrate = commands.add_parser("calibrate", help="scores to probabilities")
    calibrate.add_argument("runs", nargs=1, metavar="RUN")
    calibrate.add_argument(
        "--check", type=Path, metavar="RUN", help="clips to measure the error on"
    )
    table.add_argument("runs", nargs="*", metavar="[NAME=]RUN")
    compare.add_argument("runs", nargs=2, metavar="RUN")
    models.add_argument("runs", nargs="+", metavar="[NAME=]OUTPUT_DIR")
    for command in (table, compare, models, calibrate):
        command.add_argument(
            "--dataset", help="a video dataset (not its frames)", required=command is models
        )
        command.add_argument(
            "--output", type=Path, help=f"also write {_WRITES[command is calibrate]}"
        )
    for command in (table, compare):
        command.add_argument("--protocols", nargs="+", help="default: the dataset's")
    table.add_argument("--sections", nargs="+", help="of overall, joint, action, speed, visibility")
    table.add_argument("--no-baseline", action="store_true", help="without the mean pose")
    compare.add_argument("--threshold", type=float, help="default: each protocol's own")
    compare.add_argument("--seed", type=int, default=0, help="of the intervals' draws")
    models.add_argument("--evaluate", action="store_true", help="evaluate all anew")
    args, rest = parser.parse_known_args(arguments)
    args.opts = rest
    wrong = [opt for opt in rest if opt.startswith("--")]
    if wrong or (args.opts and args.command != "models") or len(args.opts) % 2:
        parser.error(f"unrecognized arguments: {' '.join(wrong or args.opts)}")
    return args


def split_run(text: str) -> tuple[str, Path]:
    """Name and path of ``NAME=RUN``; without a name, the last part of the path."""
    name, separator, folder = text.partition("=")
    path = Path(folder if separator else text)
    return (name if separator else path.name), path


def load_runs(texts: Sequence[str], dataset: str | None) -> dict[str, Stored]:
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
        report.require_pair(next(iter(runs.values())), runs[name])
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


def add_baseline(first: Stored, runs: dict[str, Stored], min_visibility: int) -> dict[str, Stored]:
    """The runs, the mean pose before them; ``first`` has the frames and labels of all."""
    pose, source = mean_pose_of(str(first["dataset_name"]), min_visibility)
    placed = place_pose(pose, first["boxes"])
    return {f"mean pose ({source})": {**first, "predictions": placed}, **runs}


def tables(
    runs: dict[str, Stored],
    protocols: Sequence[str] | None = None,
    sections: Sequence[str] | None = None,
    dataset: str | None = None,
    baseline: bool = True,
) -> str:
    """Markdown: for each protocol and section, a row for each member and two columns a run.

    Args:
        runs: predictions by name; without any, ``dataset`` gives the frames of the baseline.
        protocols, sections: None takes all that the dataset has.
        baseline: begin with the mean pose.

    Raises:
        KeyError: unknown dataset or protocol.
        ValueError: neither a run nor a dataset.
    """
    if not runs and not dataset:
        raise ValueError("name runs, or a --dataset for its baseline")
    first_run = next(iter(runs.values())) if runs else labels(str(dataset))
    facts = scoring_facts(first_run)
    if baseline or not runs:
        runs = add_baseline(first_run, runs, facts["pck_min_visibility"])
    parts = []
    for protocol in protocols or facts["pck_protocols"]:
        options = protocol, facts["pck_min_visibility"], facts["head_segment"]
        scored = {name: report.score_joints(run, *options) for name, run in runs.items()}
        first = next(iter(scored.values()))
        for section, members in report.sections(first).items():
            if not sections or section in sections:
                title = f"{protocol} {first.protocol.metric()}, {section}"
                parts.append(_side_by_side(title, scored, members))
    return "\n\n".join(parts)


def _side_by_side(
    title: str, scored: dict[str, report.ScoredJoints], members: dict[str, np.ndarray]
) -> str:
    headers = [title, "joints", "source videos"]
    for name in scored:
        headers += [name, "95 %"]
    rows = []
    for member, chosen in members.items():
        shares = [report.share(run, chosen) for run in scored.values()]
        row = [member, str(shares[0].joints), str(shares[0].sources)]
        for share in shares:
            row += [number(share.value), interval_text(share.low, share.high)]
        rows.append(row)
    return markdown(rows, headers)


def compare(
    a: Stored,
    b: Stored,
    protocols: Sequence[str] | None = None,
    threshold: float | None = None,
    seed: int = 0,
) -> str:
    """The paired tables of all protocols, as Markdown.

    Args:
        a, b: of `read_predictions`.
        protocols: names; None takes the dataset's.
        threshold: None takes each protocol's own.
        seed: of the draws.

    Raises:
        ValueError: the files are not of the same frames and joints.
        KeyError: unknown protocol or dataset.
    """
    report.require_pair(a, b)
    facts = scoring_facts(a)
    parts = []
    for protocol in protocols or facts["pck_protocols"]:
        options = (protocol, facts["pck_min_visibility"], facts["head_segment"], threshold)
        first, second = (report.score_joints(stored, *options) for stored in (a, b))
        parts += [_headline(str(a["dataset_name"]), first), _differences(first, second, seed)]
    return "\n\n".join([*parts, NOTES])


def _headline(dataset: str, scored: report.ScoredJoints) -> str:
    unit = " px" if scored.protocol.unit else " of it"
    return (
        f"[{scored.protocol.name}] {dataset}, PCK at {scored.threshold:g}{unit}, reference length: "
        f"{scored.protocol.reference}; {len(scored.hits)} frames of "
        f"{len(set(scored.sources.tolist()))} source videos, {scored.frames_excluded} of them "
        "excluded (no reference length)."
    )


def _differences(a: report.ScoredJoints, b: report.ScoredJoints, seed: int) -> str:
    rows = []
    for section, members in report.sections(a).items():
        for title, chosen in members.items():
            change = report.difference(a, b, chosen, seed)
            rows.append(
                [
                    section if section == "overall" else f"{section}: {title}",
                    *(number(report.share(scored, chosen, seed).value) for scored in (a, b)),
                    f"{change.value:+.1f}" if change.joints else "nan",
                    interval_text(change.low, change.high),
                    str(change.joints),
                    str(change.sources),
                    report.verdict(change),
                ]
            )
    return markdown(rows, ["", "A", "B", "B - A", "95 %", "joints", "source videos", "verdict"])


def find_results(folder: Path, dataset: str) -> Results | None:
    """Figures that an evaluation has left in a model's folder, for clips or frames."""
    for name in (dataset, dataset + FRAMES_SUFFIX):
        path = folder / "inference" / name / "results.json"
        if path.is_file():
            return with_nan(json.loads(read_text(path)))
    return None


def evaluate_run(folder: Path, dataset: str, opts: list[str]) -> Results:
    """Evaluate the model of a training's folder.

    Raises:
        FileNotFoundError: the folder lacks config.yaml or model_final.pth.
    """
    # Slow to import, and not needed to print figures that exist.
    from detectron2.utils.logger import setup_logger

    from video_pose.engine.checkpointer import load_model
    from video_pose.engine.defaults import complete_cfg, load_cfg
    from video_pose.engine.evaluation import evaluate
    from video_pose.engine.views import view_of

    for name in ("config.yaml", "model_final.pth"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing: give the OUTPUT_DIR of a finished training"
            )
    setup_logger()
    own = ["OUTPUT_DIR", str(folder), "MODEL.WEIGHTS", str(folder / "model_final.pth")]
    cfg = load_cfg(str(folder / "config.yaml"), [*own, *opts], complete=False)
    name = view_of(cfg).dataset_name(dataset)
    if name not in cfg.DATASETS.TEST and "TEST.PCK.PROTOCOLS" not in opts:
        cfg.TEST.PCK.PROTOCOLS = ()  # the run's are those of its own test datasets
    cfg.DATASETS.TEST = (name,)
    complete_cfg(cfg)
    cfg.freeze()
    return evaluate(cfg, load_model(cfg))


def columns_of(all_results: Sequence[Results]) -> list[tuple[str, str, str]]:
    """(title, task, metric) of every column that a model has: PCK, misses, then AP."""
    present = {task: values for results in all_results for task, values in results.items()}
    columns: list[tuple[str, str, str]] = []
    protocols = [task for task in present if task.startswith(PCK)]
    for rank, task in enumerate(protocols):
        names = [n for n in present[task] if n.startswith("PCK@") and not set("_-") & set(n)]
        for metric in names if rank == 0 else names[:1]:
            columns.append((f"{task.removeprefix(PCK)} {metric}", task, metric))
        if rank == 0:
            columns.append(("missed frames", task, "missed_frames"))
    for task, title in COCO.items():
        if task in present:
            columns += [(f"{title} {metric}", task, metric) for metric in ("AP", "AP50")]
    return columns


def model_table(models: Sequence[tuple[str, Results]], dataset: str) -> str:
    """A Markdown table of the models and, where PCK was scored, the mean-pose baseline.

    Raises:
        ValueError: the models were scored on different frames.
    """
    columns = columns_of([results for _, results in models])
    rows = [
        [name, *(_cell(results.get(task, {}).get(metric)) for _, task, metric in columns)]
        for name, results in models
    ]
    scored = [(name, results[t]) for name, results in models for t in results if t.startswith(PCK)]
    by_model = {name: values["frames"] for name, values in scored}
    if len(set(by_model.values())) > 1:
        raise ValueError(f"the models were scored on different frames of {dataset}: {by_model}")
    note = f"{dataset}. PCK and AP in percent."
    if scored:
        first = next(results for _, results in models if any(t.startswith(PCK) for t in results))
        rows.append(
            ["mean pose in the true box", *(_cell(_baseline(first, t, m)) for _, t, m in columns)]
        )
        frames, joints = max((v["frames"], v["joints"]) for _, v in scored if "frames" in v)
        note += (
            f" {frames:.0f} labelled frames, {joints:.0f} joints; missed frames count as misses."
        )
    return f"{note}\n\n{markdown(rows, ['model', *(title for title, _, _ in columns)])}"


def _baseline(results: Results, task: str, metric: str) -> float | None:
    """The mean pose's figure; results of earlier versions call it "floor_"."""
    values = results.get(task, {})
    return values.get(f"baseline_{metric}", values.get(f"floor_{metric}"))


def _cell(value: Any) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.1f}"


def model_results(args: argparse.Namespace) -> list[tuple[str, Results]]:
    """Name and figures of every model, evaluated where there are none."""
    models = []
    for name, folder in map(split_run, args.runs):
        results = None if args.evaluate else find_results(folder, args.dataset)
        if results is None:
            results = evaluate_run(folder, args.dataset, args.opts)
        models.append((name, results))
    return models


def calibrate_run(run: Path, check: Path | None, output: Path | None, dataset: str | None) -> str:
    """Fit a calibration, write it, and say how large the calibration error is.

    Raises:
        FileNotFoundError, ValueError: as `find_predictions` and `fit_calibration`.
    """
    file = find_predictions(run, dataset)
    stored = read_predictions(file)
    least = scoring_facts(stored)["pck_min_visibility"]
    names = [str(name) for name in stored["joint_names"]]
    source = f"{stored['dataset_name']}, {len(stored['frame_indices'])} frames"
    calibration = fit_calibration(stored, least, source)
    if output:
        calibration.write(output)
    tested = read_predictions(find_predictions(check, None)) if check else stored
    raw = tested["predictions"][..., 2]
    errors = [
        reliability(scores, tested, least).error for scores in (raw, calibration.apply(raw, names))
    ]
    return (
        f"fitted on {source}; expected calibration error on {tested['dataset_name']}: raw "
        f"{errors[0]:.3f}, calibrated {errors[1]:.3f}"
    )


def run_command(args: argparse.Namespace) -> str:
    """The text that the command line asks for."""
    if args.command == "models":
        return model_table(model_results(args), args.dataset)
    if args.command == "table":
        runs = load_runs(args.runs, args.dataset)
        return tables(runs, args.protocols, args.sections, args.dataset, not args.no_baseline)
    if args.command == "calibrate":
        return calibrate_run(Path(args.runs[0]), args.check, args.output, args.dataset)
    files = [find_predictions(Path(path), args.dataset) for path in args.runs]
    a, b = (read_predictions(file) for file in files)
    text = compare(a, b, args.protocols, args.threshold, args.seed)
    return f"A: {files[0]}\nB: {files[1]}\n\n{text}"


def main(arguments: list[str] | None = None) -> None:
    """Print the tables; errors of use end the program with one line."""
    args = parse_arguments(arguments)
    try:
        text = run_command(args)
    except (FileNotFoundError, ValueError, KeyError) as error:
        message = error.args[0] if isinstance(error, KeyError) else error
        sys.exit(f"analyze {args.command}: {message}")
    print(text)
    if args.output and args.command != "calibrate":
        args.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
