"""Which rows there are, which are wanted, and the processes that measure them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import torch

from benchmarking.inference import CLIPS, FRAMES, PLAIN
from benchmarking.inputs import read_config, resolve_precision
from benchmarking.job import Job
from benchmarking.loading import WHATS
from benchmarking.stages import VIDEO
from video_pose.modeling.precision import PRECISIONS

FILES = ("avi", "png")
DATASET = "synthetic_jhmdb_{}"


@dataclass(frozen=True)
class Subject:
    """What is measured: config files by name, and what all jobs share.

    ``loader_config`` is the one whose crops, clips and batches the loader rows make; ``datasets``
    holds a synthetic dataset of each of ``FILES``.
    """

    configs: dict[str, str]
    loader_config: str
    common: Job
    datasets: Path


def name_configs(files: Sequence[str]) -> dict[str, str]:
    """Config files by their stem.

    Raises:
        FileNotFoundError: there is no such file. ValueError: two of one name.
    """
    named: dict[str, str] = {}
    for file in files:
        if not Path(file).is_file():
            raise FileNotFoundError(f"config not found: {file}")
        if Path(file).stem in named:
            raise ValueError(f"two configs are named {Path(file).stem!r}: {files}")
        named[Path(file).stem] = str(Path(file).resolve())
    return named


def all_rows(
    configs: dict[str, str],
    formats: dict[str, list[str]],
    ways: Sequence[str],
    datasets: Sequence[str] = (),
) -> list[str]:
    """Names of all rows, KIND/MODEL/PRECISION[/WAY] and loader/FILES/WHAT.

    Args:
        formats: precisions in turn, of "inference" and of "training".
        ways: of the fast form, see `inference`; the plain one comes before them.
        datasets: registered ones that loaders are measured on, besides the synthetic ones.
    """
    single = (FRAMES, CLIPS)
    rows: list[str] = []
    for model in configs:
        plain = f"{model}/float32/{PLAIN}"
        fast = [f"{model}/{p}/{way}" for p in formats["inference"] for way in ways]
        of_a_clip = [plain, *(row for row in fast if row.endswith(single))]
        rows += [f"inference/{row}" for row in (plain, *fast)]
        rows += [f"stages/{model}/{VIDEO}/{way}" for way in single]
        rows += [f"stages/{row}" for row in of_a_clip]
        rows += [f"stream/{row}" for row in of_a_clip]
        rows += [f"training/{model}/{precision}" for precision in formats["training"]]
    return rows + [f"loader/{files}/{what}" for files in (*FILES, *datasets) for what in WHATS]


def default_rows(rows: Sequence[str], first: str) -> list[str]:
    """All but training and streaming of the models after the ``first``: large ones take minutes."""
    return [
        row
        for row in rows
        if not row.startswith(("training/", "stream/")) or row.split("/")[1] == first
    ]


def resolve_precisions(names: Sequence[str], config_file: str, options: Sequence[str]) -> dict:
    """{"inference", "training": formats in turn, each once}: "auto" is measured as what it is here.

    Raises:
        ValueError: a precision that there is not.
    """
    unknown = sorted(set(names) - set(PRECISIONS))
    if unknown:
        raise ValueError(f"precisions {unknown}: choose from {PRECISIONS}")
    device = torch.device(read_config(config_file, options).MODEL.DEVICE)
    return {
        kind: list(dict.fromkeys(resolve_precision(n, device, kind == "training") for n in names))
        for kind in ("inference", "training")
    }


def choose_rows(rows: list[str], patterns: Sequence[str]) -> list[str]:
    """Rows that match one of the patterns, which may stop early: "inference/*R101*", "loader/avi".

    Raises:
        ValueError: a pattern that no row matches.
    """

    def matches(row: str, pattern: str) -> bool:
        return fnmatchcase(row, pattern) or fnmatchcase(row, f"{pattern.rstrip('/')}/*")

    for pattern in patterns:
        if not any(matches(row, pattern) for row in rows):
            listed = "\n  ".join(rows)
            raise ValueError(f"--rows {pattern!r} names no row. There are\n  {listed}")
    return [row for row in rows if any(matches(row, pattern) for pattern in patterns)]


def plan_jobs(rows: Sequence[str], subject: Subject) -> list[Job]:
    """One process for the rows of one kind and model, which are then measured in turn."""
    groups: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        kind, model = row.split("/")[:2]
        groups.setdefault((kind, model), []).append(row)
    jobs = []
    for (kind, model), members in groups.items():
        job = replace(subject.common, function=kind, rows=members)
        if kind == "loader":
            dataset = _dataset(subject, model) if model in FILES else {"dataset_name": model}
            job = replace(job, config_file=subject.loader_config, **dataset)
        else:
            job = replace(job, config_file=subject.configs[model])
        if kind == "stages":
            job = replace(job, **_dataset(subject, "avi", "test"))
        jobs.append(job)
    return jobs


def _dataset(subject: Subject, files: str, part: str = "train") -> dict[str, str]:
    return {"datasets": str(subject.datasets / files), "dataset_name": DATASET.format(part)}


def needs_dataset(rows: Sequence[str]) -> bool:
    """Whether videos must be made for these rows."""
    made = (*(f"loader/{files}/" for files in FILES), f"/{VIDEO}/")
    return any(part in row for row in rows for part in made)


def accuracy_jobs(
    pairs: Sequence[Sequence[str]], precisions: Sequence[str], common: Job
) -> list[Job]:
    """A process for each (config, weights) that scores the plain way, then the precisions'.

    Raises:
        FileNotFoundError: there is no such file.
    """
    jobs = []
    for config_file, weights in pairs:
        ((model, path),) = name_configs([config_file]).items()
        if not Path(weights).is_file():
            raise FileNotFoundError(f"weights not found: {weights}")
        rows = [f"{model}/float32/{PLAIN}", *(f"{model}/{p}/{CLIPS}" for p in precisions)]
        options = [*common.options, "MODEL.WEIGHTS", str(Path(weights).resolve())]
        named = [f"accuracy/{row}" for row in rows]
        jobs.append(
            replace(
                common,
                function="accuracy",
                rows=named,
                config_file=path,
                options=options,
                lean=True,
            )
        )
    return jobs


def memory_jobs(jobs: Sequence[Job]) -> list[Job]:
    """For each row a process of its own that runs twice and holds nothing besides.

    Only models and their training have them: stages and streams hold what the models hold.
    """
    return [
        replace(job, rows=[row], seconds=0.0, rounds=1, lean=True)
        for job in jobs
        if job.function in ("inference", "training")
        for row in job.rows
    ]
