"""The program of a measuring process: ``python -m benchmarking.worker JOB.json ANSWER.json``."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from benchmarking import ROOT
from benchmarking.job import Job, Measured
from video_pose.engine.launch import keep_freed_memory

# Modules with a function ``measure_rows(job) -> Measured``.
FUNCTIONS = {
    "accuracy": "benchmarking.accuracy",
    "inference": "benchmarking.inference",
    "stages": "benchmarking.stages",
    "stream": "benchmarking.streaming",
    "training": "benchmarking.training",
    "loader": "benchmarking.loading",
    "long video": "benchmarking.long_video",
}


# glibc raises the size from which it hands freed blocks back at once as the program goes, so that
# the same work holds some 30 MB more or less; a memory measurement holds it at its first value.
_STEADY = {"MALLOC_MMAP_THRESHOLD_": "131072"}


class JobError(RuntimeError):
    """A measuring process failed; the message is the end of what it said."""


def run_job(job: Job) -> Measured:
    """Run ``job`` in a new process.

    Raises:
        JobError: the process failed.
    """
    paths = [str(ROOT / "tools"), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    if job.function == "long video":
        environment.update(_STEADY)
    if job.datasets:
        environment["DETECTRON2_DATASETS"] = job.datasets
    with tempfile.TemporaryDirectory(prefix="benchmark_") as folder:
        question, answer = Path(folder, "job.json"), Path(folder, "answer.json")
        question.write_text(json.dumps(asdict(job)), encoding="utf-8")
        command = [sys.executable, "-m", "benchmarking.worker", str(question), str(answer)]
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode or not answer.is_file():
            end = "\n".join(done.stdout.strip().splitlines()[-3:])
            raise JobError(f"exit status {done.returncode}: {end}")
        return Measured.from_json(json.loads(answer.read_text(encoding="utf-8")))


def main() -> None:
    """Measure what the first file asks, write the answer to the second."""
    question, answer = Path(sys.argv[1]), Path(sys.argv[2])
    keep_freed_memory()  # as train_net.py and the demo do
    job = Job(**json.loads(question.read_text(encoding="utf-8")))
    measured = importlib.import_module(FUNCTIONS[job.function]).measure_rows(job)
    answer.write_text(json.dumps(measured.to_json()), encoding="utf-8")


if __name__ == "__main__":
    main()
