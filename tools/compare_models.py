#!/usr/bin/env python3
"""Print one table of several trained models on one video dataset.

python tools/compare_models.py --dataset sub_jhmdb_split1_test \\
    output/unipose_lstm output/lstm_pm "Keypoint R-CNN=output/keypoint_rcnn"

A model is the OUTPUT_DIR of its training. What it has not been evaluated on yet is evaluated now,
by its own config.yaml and model_final.pth, R-CNNs on the dataset's frames.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any

from tabulate import tabulate

if str(Path(__file__).resolve().parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "projects"))

from named_run import split_run  # noqa: E402

from video_pose.data.frames import FRAMES_SUFFIX  # noqa: E402

PCK = "keypoints_pck_"
# Detectron2's tasks: title of the columns.
COCO = {"keypoints": "keypoint", "bbox": "box", "segm": "mask"}

Results = dict[str, dict[str, float]]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("runs", nargs="+", metavar="[NAME=]OUTPUT_DIR")
    parser.add_argument("--dataset", required=True, help="a video dataset (not its frames)")
    parser.add_argument("--evaluate", action="store_true", help="evaluate all anew")
    parser.add_argument("--out", type=Path, help="also write the table to this file")
    parser.add_argument(
        "--opts", nargs="*", default=[], help="configuration keys and values for the evaluations"
    )
    return parser.parse_args(arguments)


def find_results(folder: Path, dataset: str) -> Results | None:
    """Figures that an evaluation has left in a model's folder, for clips or frames."""
    for name in (dataset, dataset + FRAMES_SUFFIX):
        path = folder / "inference" / name / "results.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))
    return None


def evaluate_run(folder: Path, dataset: str, opts: list[str]) -> Results:
    """Evaluate the model of a training's folder.

    Raises:
        FileNotFoundError: the folder lacks config.yaml or model_final.pth.
    """
    # Slow to import, and not needed to print figures that exist.
    from detectron2.modeling import build_model
    from detectron2.utils.logger import setup_logger

    from video_pose.engine.checkpointer import PoseCheckpointer
    from video_pose.engine.defaults import complete_cfg, get_pose_cfg, merge_config_file
    from video_pose.engine.evaluation import evaluate
    from video_pose.engine.views import view_of

    for name in ("config.yaml", "model_final.pth"):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder / name} is missing: give the OUTPUT_DIR of a finished training"
            )
    setup_logger()
    cfg = get_pose_cfg()
    merge_config_file(cfg, str(folder / "config.yaml"))
    cfg.OUTPUT_DIR = str(folder)
    cfg.MODEL.WEIGHTS = str(folder / "model_final.pth")
    cfg.merge_from_list(opts)
    cfg.DATASETS.TEST = (view_of(cfg).dataset_name(dataset),)
    complete_cfg(cfg)
    cfg.freeze()
    model = build_model(cfg)
    PoseCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    return evaluate(cfg, model)


def columns_of(all_results: list[Results]) -> list[tuple[str, str, str]]:
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


def format_table(models: list[tuple[str, Results]], dataset: str) -> str:
    """A Markdown table of the models and, where PCK was scored, the constant-pose floor.

    Raises:
        ValueError: the models were scored on different frames.
    """
    columns = columns_of([results for _, results in models])
    rows = [
        [name, *(_cell(results.get(task, {}).get(metric)) for _, task, metric in columns)]
        for name, results in models
    ]
    scored = [(name, results[t]) for name, results in models for t in results if t.startswith(PCK)]
    counts = {(values["frames"], values["joints"]) for _, values in scored if "frames" in values}
    by_model = {name: values["frames"] for name, values in scored}
    if len(set(by_model.values())) > 1:
        raise ValueError(f"the models were scored on different frames of {dataset}: {by_model}")
    note = f"{dataset}. PCK and AP in percent."
    if scored:
        floors = next(results for _, results in models if any(t.startswith(PCK) for t in results))
        rows.append(
            [
                "constant pose in the true box",
                *(_cell(floors.get(task, {}).get("floor_" + m)) for _, task, m in columns),
            ]
        )
        frames, joints = max(counts)
        note += (
            f" {frames:.0f} labelled frames, {joints:.0f} joints; missed frames count as misses."
        )
    headers = ["model", *(title for title, _, _ in columns)]
    align = ["left"] + ["right"] * len(columns)
    table = tabulate(rows, headers, tablefmt="pipe", colalign=align, disable_numparse=True)
    return f"{note}\n\n{table}"


def _cell(value: Any) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:.1f}"


def main(arguments: list[str] | None = None) -> None:
    """Evaluate what is missing, print the table; errors of use end the program with one line."""
    args = parse_arguments(arguments)
    models = []
    try:
        for name, folder in map(split_run, args.runs):
            results = None if args.evaluate else find_results(folder, args.dataset)
            if results is None:
                results = evaluate_run(folder, args.dataset, args.opts)
            models.append((name, results))
        table = format_table(models, args.dataset)
    except (FileNotFoundError, ValueError, KeyError) as error:
        sys.exit(f"compare_models: {error}")
    print(table)
    if args.out:
        args.out.write_text(table + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
