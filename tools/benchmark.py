#!/usr/bin/env python3
"""Measure speed: the demo as it runs by default, networks by every backend, training, shared cores.

python tools/benchmark.py
python tools/benchmark.py --rows network --config-file configs/X.yaml --precisions bfloat16
python tools/benchmark.py --rows network --accuracy sub_jhmdb_split1_test --output out/

Rows, of which --rows chooses:
  demo      ``video-pose predict`` on a 640x360 video: detector, tracker, drawing, writing
  given-box the same in one process with a given box: no detector, no drawing, no writing
  network   clips by every backend and precision, in turn, with the plain modules as the measure
  training  steps of the trainer
  reading   30 clips of 5 frames of an x264 file with B-frames, as training reads them
  shared    network and training beside two busy processes, against their fair share
  people    a detector that remembers people: a frame with one of them, and with eight
  stream    it, and a small UniPose-LSTM, over --stream-frames frames: megabytes after a tenth of
            them, and at the end

Backends are columns of one process that take turns. ms are medians a frame; "cpu ms" is the
processor time of all threads, which other processes disturb less. PCK is a packaged model's on
the dataset of --accuracy.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from benchmarking.demo import measure_demo
from benchmarking.measuring import (
    Cost,
    Work,
    alternate,
    busy_processes,
    convolution_peak,
    fair_share,
)
from benchmarking.networks import (
    PLAIN,
    clip_flops,
    clip_works,
    count_flops,
    training_step,
    with_options,
)
from benchmarking.people import (
    megabytes_over,
    people_model,
    people_works,
    pose_megabytes_over,
)
from benchmarking.reading import measure_reading
from detectron2.config import CfgNode
from tabulate import tabulate

from video_pose.backends.pose import AUTO_ON_CPU
from video_pose.backends.runtimes import is_installed
from video_pose.data.synthetic.scene import render_scene
from video_pose.engine.evaluation import evaluate
from video_pose.files import write_json, write_text
from video_pose.inference import PredictorSettings, VideoPosePredictor
from video_pose.inference.predictor import is_recurrent, load_cfg, load_model
from video_pose.packaged import default_model

ROWS = ("demo", "given-box", "network", "training", "reading", "shared", "people", "stream")
PEOPLE = (1, 8)
_CONFIGS = Path(__file__).resolve().parents[1] / "configs"
_PEOPLE_CONFIG = str(
    _CONFIGS / "Keypoint-RCNN/recurrent_keypoint_rcnn_R18_FPN_small_sub_jhmdb_split1.yaml"
)
_POSE_STREAM_CONFIG = str(_CONFIGS / "quickstart/unipose_lstm_R18_synthetic_jhmdb.yaml")
_PCK_TASK = "keypoints_pck_"
BUSY = 2
_READING_FRAMES = 750  # three groups of pictures
Row = dict[str, Any]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rows", nargs="+", default=list(ROWS), choices=ROWS, metavar="NAME", help=", ".join(ROWS))
    add(
        "--config-file", "--configs", dest="configs", nargs="+", default=[], metavar="FILE",
        help="one or several; default: the packaged model",
    )  # fmt: skip
    add("--backends", nargs="+", default=[], metavar="NAME", help="or folders; default: all")
    add("--precisions", nargs="+", default=["float32", "bfloat16"], metavar="NAME")
    add("--frames", type=int, default=5, help="of a clip (default 5)")
    add("--rounds", type=int, default=5, help="passes of every variant (default 5)")
    add("--threads", type=int, default=0, help="default: as many as there are cores")
    add("--demo-frames", nargs=2, type=int, default=[20, 120], metavar="N", help="default 20 120")
    add("--people-config", default=_PEOPLE_CONFIG, metavar="FILE", help="of rows people, stream")
    add("--stream-frames", type=int, default=10_000, metavar="N", help="default 10000")
    add("--accuracy", metavar="DATASET", help="also PCK of every backend on this dataset")
    add("--output", metavar="DIR", help="write benchmark.md and benchmark.json")
    return parser.parse_args(argv)


def read_model(config: str | None) -> CfgNode:
    """The configuration of ``config``, default: the packaged model's; weights stay random unless
    they stand beside it, as those of the packaged models do.

    Raises:
        ValueError: its model has no recurrent interface.
    """
    name, weights = default_model() if config is None else (config, "")
    beside = Path(name).with_name("model.safetensors")
    weights = weights or (str(beside) if beside.is_file() else "")
    cfg = load_cfg(str(name), ["MODEL.WEIGHTS", weights])
    if not is_recurrent(cfg):
        raise ValueError(f"{config}: {cfg.MODEL.META_ARCHITECTURE} is no recurrent pose model")
    return cfg


def installed_backends() -> list[str]:
    """The built-in ones that can run here."""
    return ["torch", *(name for name in AUTO_ON_CPU if is_installed(name))]


def demo_rows(args: argparse.Namespace) -> list[Row]:
    """The command by default, and by PyTorch alone."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in ("auto", "torch"):
            options = ["--backend", name, *(["--detector-opts", "TEST.BACKEND", name])]
            short, long = args.demo_frames
            measure_demo(Path(folder), (2, 3), options)  # graphs are made once
            cost = measure_demo(Path(folder), (short, long), options)
            rows.append(
                {
                    "row": f"demo, backend {name}",
                    "ms": cost.wall,
                    "cpu ms": cost.processor,
                    "frames/s": 1e3 / cost.wall,
                    "start s": cost.start,
                    "MB": cost.megabytes,
                }
            )
    return rows


def given_box_rows(args: argparse.Namespace, backends: list[str]) -> list[Row]:
    """The Python interface on pictures in memory, one person in a given box."""
    scene = render_scene(0, frames=20, size=(640, 360))
    box = tuple(float(value) for value in scene.people[0].boxes[0])
    works: dict[str, Work] = {}
    for name in backends:
        predictor = VideoPosePredictor.from_config(
            options=["TEST.PRECISION", "auto"],
            settings=PredictorSettings(region="box", box=box, backend=name),  # type: ignore[arg-type]
        )
        works[name] = lambda predictor=predictor: list(predictor(scene.frames))  # type: ignore[misc]
    costs = alternate(works, args.rounds)
    return [_row(f"given box, {name}", cost.per(len(scene.frames))) for name, cost in costs.items()]


def reading_rows(args: argparse.Namespace) -> list[Row]:
    """Clips of an x264 file with B-frames; "decoded" counts frames for one that is used."""
    with tempfile.TemporaryDirectory() as folder:
        found = measure_reading(Path(folder), _READING_FRAMES, args.rounds)
    return [
        {**_row(f"reading, {name}", cost), "decoded": decoded}
        for name, (cost, decoded) in found.items()
    ]


def _row(name: str, cost: Cost) -> Row:
    return {"row": name, "ms": cost.wall, "cpu ms": cost.processor, "frames/s": 1e3 / cost.wall}


def network_rows(
    args: argparse.Namespace, config: str | None, backends: list[str], peaks: dict[str, float]
) -> list[Row]:
    """A network by every backend and precision; ratios of processor time to the plain modules."""
    cfg = read_model(config)
    torch.manual_seed(0)
    model: Any = load_model(cfg)
    works = clip_works(cfg, model, backends, args.precisions, args.frames)
    costs = alternate(works, args.rounds)
    size = (int(cfg.INPUT.CROP_SIZE[0]), int(cfg.INPUT.CROP_SIZE[1]))
    flops = clip_flops(count_flops(model, size), args.frames) / args.frames
    title = Path(config or "packaged").stem
    title = Path(str(config)).parent.name if title == "config" else title
    rows = []
    for name, cost in costs.items():
        frame = cost.per(args.frames)
        speed = flops / frame.processor / 1e6
        row = _row(f"{title}, {name}", frame)
        row["times"] = costs[PLAIN].processor / cost.processor
        row["of peak"] = f"{100 * speed / peaks[name.split()[-1]]:.0f} %"
        if args.accuracy and cfg.MODEL.WEIGHTS and "direct" not in name:
            row["PCK"] = accuracy(cfg, model, name, args.accuracy)
        rows.append(row)
    return rows


def accuracy(cfg: CfgNode, model: Any, variant: str, dataset: str) -> str:
    """PCK of a variant of `clip_works` on a dataset, all of its protocols."""
    backend, precision = variant.rsplit(maxsplit=1)
    options = ["TEST.BACKEND", "torch" if backend == "plain" else backend]
    options += ["TEST.FAST", backend != "plain", "TEST.PRECISION", precision]
    with tempfile.TemporaryDirectory() as folder:
        changed = with_options(cfg, *options, "DATASETS.TEST", (dataset,), "OUTPUT_DIR", folder)
        results = evaluate(changed, model)
    return pck_figures(results)


def pck_figures(results: dict[str, Any]) -> str:
    """Each protocol's own figure, its first threshold's, of an evaluation's results."""
    tasks = {name: task for name, task in results.items() if name.startswith(_PCK_TASK)}
    firsts = {
        name: next(key for key in task if key.startswith("PCK@")) for name, task in tasks.items()
    }
    return " / ".join(
        f"{name.removeprefix(_PCK_TASK)} {tasks[name][key]:.2f}" for name, key in firsts.items()
    )


def training_rows(args: argparse.Namespace, config: str | None) -> list[Row]:
    """A step of the trainer, a frame, in each precision."""
    cfg = read_model(config)
    clips = 2
    works = {
        precision: training_step(cfg, precision, clips, args.frames)
        for precision in args.precisions
    }
    costs = alternate(works, args.rounds)
    return [
        _row(f"training, {name}", cost.per(clips * args.frames)) for name, cost in costs.items()
    ]


def shared_rows(args: argparse.Namespace, backends: list[str]) -> list[Row]:
    """Inference and training alone, then beside busy processes: how far from a fair share."""
    cfg = read_model(None)
    model: Any = load_model(cfg)
    precision = args.precisions[-1]
    works = clip_works(cfg, model, backends, [precision], args.frames)
    del works[PLAIN]
    works["training"] = training_step(cfg, precision, 2, args.frames)
    alone = alternate(works, args.rounds)
    with busy_processes(BUSY):
        beside = alternate(works, args.rounds)
    share = fair_share(torch.get_num_threads(), BUSY, len(os.sched_getaffinity(0)))
    rows = []
    for name in works:
        ratio = beside[name].wall / alone[name].wall
        row = _row(f"{name} beside {BUSY} busy processes", beside[name].per(args.frames))
        row["alone ms"] = alone[name].per(args.frames).wall
        row["of fair share"] = f"{ratio / share:.2f}"
        rows.append(row)
    return rows


def people_rows(args: argparse.Namespace, backends: list[str]) -> list[Row]:
    """What further people cost; ratios of processor time to one person's."""
    cfg = load_cfg(args.people_config, ["MODEL.WEIGHTS", ""])
    rows = []
    for name in backends:
        works = people_works(cfg, people_model(cfg, name), PEOPLE, args.frames)
        costs = alternate(works, args.rounds)
        first = next(iter(costs.values())).processor
        for title, cost in costs.items():
            ratio = f"{cost.processor / first:.2f}"
            rows.append({**_row(f"{title}, {name}", cost.per(args.frames)), "of one": ratio})
    return rows


def stream_rows(args: argparse.Namespace) -> list[Row]:
    """Megabytes of this process over long streams with people who come and go."""
    cfg = load_cfg(args.people_config, ["MODEL.WEIGHTS", "", "INPUT.MIN_SIZE_TEST", 96])
    found = megabytes_over(cfg, people_model(cfg, "auto"), args.stream_frames)
    rows: list[Row] = [_stream_row("detector that remembers", *item) for item in found]
    pose = load_cfg(_POSE_STREAM_CONFIG, ["MODEL.POSE.ALIGN_STATE", True])
    rows += [_stream_row("UniPose-LSTM", *i) for i in pose_megabytes_over(pose, args.stream_frames)]
    return rows


def _stream_row(name: str, frame: int, megabytes: float) -> Row:
    return {"row": f"stream, {name}, after {frame} frames", "MB": megabytes}


def measure(args: argparse.Namespace) -> tuple[list[Row], dict[str, float]]:
    """All rows that are wanted, and the machine's peaks in GFLOP a second of processor time."""
    backends = args.backends or installed_backends()
    torch.set_num_threads(args.threads or len(os.sched_getaffinity(0)))
    peaks = {p: convolution_peak(getattr(torch, p)) for p in {"float32", *args.precisions}}
    configs = args.configs or [None]
    rows: list[Row] = []
    if "demo" in args.rows:
        rows += demo_rows(args)
    if "given-box" in args.rows:
        rows += given_box_rows(args, backends)
    if "network" in args.rows:
        for config in configs:
            rows += network_rows(args, config, backends, peaks)
    if "training" in args.rows:
        for config in configs:
            rows += training_rows(args, config)
    if "reading" in args.rows:
        rows += reading_rows(args)
    if "shared" in args.rows:
        rows += shared_rows(args, backends)
    if "people" in args.rows:
        rows += people_rows(args, backends)
    if "stream" in args.rows:
        rows += stream_rows(args)
    return rows, peaks


def as_table(rows: list[Row]) -> str:
    """Markdown; columns in the order in which rows bring them."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [[_cell(row.get(column, "")) for column in columns] for row in rows]
    return tabulate(cells, columns, tablefmt="pipe", disable_numparse=True)


def _cell(value: object) -> str:
    return f"{value:#.3g}".rstrip(".") if isinstance(value, float) else str(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 with a message on standard error."""
    args = parse_args(argv)
    try:
        rows, peaks = measure(args)
    except (ValueError, KeyError, OSError, RuntimeError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return 1
    threads = torch.get_num_threads()
    head = [f"PyTorch {torch.__version__}, {threads} threads; load {os.getloadavg()[0]:.1f}"]
    head += [f"peak {p}: {peak:.0f} GFLOP a second of a core" for p, peak in sorted(peaks.items())]
    text = "\n".join(head) + "\n\n" + as_table(rows) + "\n"
    print(text)
    if args.output:
        os.makedirs(args.output, exist_ok=True)
        write_text(Path(args.output, "benchmark.md"), text)
        write_json(Path(args.output, "benchmark.json"), {"peaks": peaks, "rows": rows}, indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
