#!/usr/bin/env python3
"""Measure speed and memory of models, training and loaders: one table, and JSON beside it.

python tools/benchmark.py                                  the usual rows
python tools/benchmark.py --list                           names of all rows
python tools/benchmark.py --rows 'inference/*R50*' loader --seconds 2
python tools/benchmark.py --accuracy CONFIG WEIGHTS        PCK by precision beside the speed
python tools/benchmark.py --memory --frames 100 600        a seven-scale test by video length

Rows of one model run in turn in one process, the plain modules frame by frame against their fast
form, with a matrix product of the same precision among them, whose fastest pass is the peak that
shares are given of. "times" compares with the first row of the same kind and model (of the same
stage; of decoding alone). Weights are random (else --opts MODEL.WEIGHTS FILE), inputs are drawn by
--seed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from tqdm import tqdm

if str(Path(__file__).resolve().parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).resolve().parent))

from benchmarking import ROOT, memory_mode, plan, report  # noqa: E402
from benchmarking.inference import ways_on  # noqa: E402
from benchmarking.inputs import read_config  # noqa: E402
from benchmarking.job import Job, Measured  # noqa: E402
from benchmarking.worker import JobError, run_job  # noqa: E402

from video_pose.data.synthetic.dataset import SyntheticOptions, make_dataset  # noqa: E402

CONFIGS = ROOT / "configs"
MODELS = [
    CONFIGS / "UniPose-LSTM/unipose_lstm_R50_res4_sub_jhmdb_split1.yaml",
    CONFIGS / "UniPose-LSTM/unipose_lstm_R101_sub_jhmdb_split1.yaml",
    CONFIGS / "LSTM-Pose-Machines/lstm_pm_cpm_sub_jhmdb_split1.yaml",
    CONFIGS / "quickstart/unipose_lstm_R18_synthetic_jhmdb.yaml",
]
SEVEN_SCALES = CONFIGS / "LSTM-Pose-Machines/lstm_pm_small_penn_action.yaml"


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", nargs="+", metavar="FILE", help="default: the four models; the loader's\n"
        "crops and batches are the first one's")  # fmt: skip
    add("--precisions", nargs="+", default=["float32", "bfloat16", "auto"])
    add("--rows", nargs="+", help="patterns of names, which may stop early; default: all but\n"
        "training and streaming of the models after the first; '*' is all")  # fmt: skip
    add("--list", action="store_true", help="print the names of the rows and stop")
    add("--accuracy", nargs=2, action="append", default=[], metavar=("CONFIG", "WEIGHTS"),
        help="also score WEIGHTS on the config's DATASETS.TEST, in every precision, and the\n"
        "change against the plain way; may be given several times")  # fmt: skip
    add("--loader-datasets", nargs="+", default=[], metavar="NAME",
        help="registered datasets with loader rows of their own")  # fmt: skip
    add("--seconds", type=float, default=4.0, help="of measuring for each row (default 4)")
    add("--rounds", type=int, default=3, help="fewest passes of each row (default 3)")
    add("--clip-length", type=int, default=5, help="frames of a clip (default 5)")
    add("--train-clips", type=int, default=4, help="clips of a training batch (4); 0: the config's")
    add("--skip-peak-memory", action="store_true", help="no process for each row's memory")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("output/benchmark"), help="folder of table and JSON")
    add("--memory", action="store_true", help="the long videos instead of the rows")
    add("--frames", type=int, nargs="+", default=[100, 600], help="--memory: lengths")
    add("--size", type=int, nargs=2, default=[320, 240], help="--memory: width and height, px")
    add("--chunk-length", type=int, default=4, help="--memory: TEST.CHUNK_LENGTH")
    add("--opts", nargs="*", default=[], help="configuration keys and values, for all configs")
    return parser.parse_args(arguments)


def common_job(args: argparse.Namespace, config_file: str) -> Job:
    """What all jobs of a run share."""
    return Job(
        function="",
        rows=[],
        config_file=config_file,
        options=list(args.opts),
        clip_length=args.clip_length,
        train_clips=args.train_clips,
        seconds=args.seconds,
        rounds=args.rounds,
        seed=args.seed,
    )


def make_videos(root: Path, seed: int) -> None:
    """The same small JHMDB as PNG and as AVI files, a root each."""
    for files in plan.FILES:
        (root / files / "synthetic").mkdir(parents=True)
        options = SyntheticOptions("jhmdb", 8, 2, frames=(30, 40), seed=seed, frames_as=files)
        make_dataset(root / files / "synthetic" / "jhmdb", options, workers=1)


def run_jobs(
    jobs: list[Job], memory: list[Job], accuracy: list[Job]
) -> tuple[list[report.Line], dict[str, float], list[str]]:
    """Run all processes one after another; returns lines, the peaks by precision, and notes."""
    answers: list[Measured] = []
    failed: list[report.Line] = []
    held: dict[str, Measured] = {}
    scored: list[Measured] = []
    # By experience a row without time to measure costs about four seconds: start and first pass.
    costs = [4 + len(job.rows) * (job.seconds + 4) for job in jobs] + [8.0] * len(memory)
    costs += [60.0 * len(job.rows) for job in accuracy]
    form = "{percentage:3.0f}% {elapsed}, about {remaining} left: {desc}"
    with tqdm(total=sum(costs), bar_format=form, file=sys.stderr) as bar:
        for job, cost in zip([*jobs, *memory, *accuracy], costs):
            what = "memory of " if job.lean and job not in accuracy else ""
            bar.set_description_str(what + job.rows[0] + (" ..." if len(job.rows) > 1 else ""))
            try:
                measured = run_job(job)
                if job in accuracy:
                    scored.append(measured)
                elif job.lean:
                    held[job.rows[0]] = measured
                else:
                    answers.append(measured)
            except JobError as error:
                tqdm.write(f"{what}{', '.join(job.rows)} failed: {error}", file=sys.stderr)
                failed += [report.failed_line(what + row, str(error)) for row in job.rows]
            bar.update(cost)
    lines, peaks = report.lines_of(answers)
    report.add_memory(lines, held)
    report.add_times(lines)
    report.add_scores(lines, scored)
    notes = [
        f"{answer.timings[0].row.split('/')[1]}, {note}."
        for answer in answers
        for note in answer.notes
    ]
    notes += sorted({f"PCK is {line.metric}." for line in lines if line.metric})
    return lines + failed, peaks, notes


def measure_rows(args: argparse.Namespace) -> int:
    """The table of rows; 1 where one of them failed."""
    configs = plan.name_configs(args.config_file or [str(path) for path in MODELS])
    first = next(iter(configs.values()))
    formats = plan.resolve_precisions(args.precisions, first, args.opts)
    ways = ways_on(torch.device(read_config(first, args.opts).MODEL.DEVICE))
    rows = plan.all_rows(configs, formats, ways, args.loader_datasets)
    if not args.list or args.rows:
        rows = choose_rows(args, rows, next(iter(configs)))
    if args.list:
        print("\n".join(rows))
        return 0
    machine = report.describe_machine()
    with tempfile.TemporaryDirectory(prefix="benchmark_") as folder:
        if plan.needs_dataset(rows):
            make_videos(Path(folder), args.seed)
        common = common_job(args, first)
        jobs = plan.plan_jobs(rows, plan.Subject(configs, first, common, Path(folder)))
        memory = [] if args.skip_peak_memory else plan.memory_jobs(jobs)
        accuracy = plan.accuracy_jobs(args.accuracy, formats["inference"], common)
        lines, peaks, notes = run_jobs(jobs, memory, accuracy)
    if "auto" in args.precisions:
        notes.append("; ".join(f"auto is {_auto(args, first, k)} in {k}" for k in formats) + ".")
    text = "\n\n".join([report.describe(machine, peaks), report.format_table(lines), *notes])
    print(text)
    facts = {"machine": machine, "peak_flops": peaks, "notes": notes, "arguments": _plain(args)}
    report.write_report(args.out, "benchmark", text, lines, facts)
    return int(any(line.error for line in lines))


def choose_rows(args: argparse.Namespace, rows: list[str], first: str) -> list[str]:
    """The rows of ``--rows``, else the usual ones, or none where only accuracy is asked for."""
    if args.rows:
        return plan.choose_rows(rows, args.rows)
    return [] if args.accuracy else plan.default_rows(rows, first)


def _auto(args: argparse.Namespace, config_file: str, kind: str) -> str:
    return plan.resolve_precisions(["auto"], config_file, args.opts)[kind][0]


def _plain(args: argparse.Namespace) -> dict[str, object]:
    return {key: str(v) if isinstance(v, Path) else v for key, v in vars(args).items()}


def measure_memory(args: argparse.Namespace) -> int:
    """The table of long videos."""
    config_file = (args.config_file or [str(SEVEN_SCALES)])[0]
    kind = memory_mode.dataset_kind(config_file, args.opts)
    options = ["TEST.CHUNK_LENGTH", str(args.chunk_length), *args.opts]
    job = replace(common_job(args, config_file), function="long video", options=options)
    videos = []
    for frames in tqdm(args.frames, desc="long videos", unit="video"):
        with tempfile.TemporaryDirectory(prefix="benchmark_") as folder:
            size = (args.size[0], args.size[1])
            videos.append(memory_mode.measure_length(job, kind, frames, size, Path(folder)))
    machine = report.describe_machine()
    text = f"{Path(config_file).stem}\n\n{memory_mode.format_lengths(videos)}"
    print(text)
    facts = {"machine": machine, "arguments": _plain(args)}
    report.write_report(args.out, "memory", text, videos, facts)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; errors of use end the program with one line."""
    args = parse_arguments(arguments)
    try:
        return measure_memory(args) if args.memory else measure_rows(args)
    except (FileNotFoundError, ValueError, KeyError, JobError) as error:
        sys.exit(f"benchmark: {error}")


if __name__ == "__main__":
    sys.exit(main())
