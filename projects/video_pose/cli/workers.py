"""Processes that each hold a model and do one video after another: own ones, or Ray's."""

from __future__ import annotations

import argparse
import multiprocessing
import signal
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from typing import Any

from video_pose.cli.batch import do_job, record_of
from video_pose.cli.main import USER_ERRORS, error_text
from video_pose.cli.predict import Job, build_predictor

_STOP_SECONDS = 5.0


def _prepare(args: argparse.Namespace) -> Any:
    """The predictor of a worker, with its share of the processor."""
    import logging
    import os

    import torch

    from video_pose.engine.launch import keep_freed_memory

    logging.basicConfig(level=logging.ERROR, format="%(levelname)s: %(message)s")
    keep_freed_memory()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // args.workers))
    return build_predictor(args)


def _work(args: argparse.Namespace, connection: Connection) -> None:
    """Do the jobs that come until None does, or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    try:
        predictor = _prepare(args)
        connection.send(None)
    except USER_ERRORS as error:
        connection.send(error_text(error))
        return
    try:
        while (job := connection.recv()) is not None:
            connection.send(do_job(args, predictor, job))
    except (EOFError, BrokenPipeError):
        return


class _Worker:
    """A process and the job that it does."""

    def __init__(self, args: argparse.Namespace) -> None:
        # Spawned: PyTorch's threads do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(args, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.job: Job | None = None
        self.start = time.monotonic()

    def give(self, job: Job) -> None:
        self.job, self.start = job, time.monotonic()
        self.connection.send(job)

    def stop(self) -> None:
        self.process.terminate()
        self.process.join(_STOP_SECONDS)
        if self.process.is_alive():
            self.process.kill()


def run_on_processes(args: argparse.Namespace, jobs: Sequence[Job]) -> Iterator[dict[str, Any]]:
    """The record of every job, as they end. A process that dies costs the video that it did.

    Raises:
        ValueError: a worker cannot build the model.
    """
    waiting = list(jobs)[::-1]
    workers = [_Worker(args) for _ in range(min(args.workers, len(jobs)))]
    try:
        while workers:
            for connection in wait([worker.connection for worker in workers]):
                worker = next(w for w in workers if w.connection is connection)
                try:
                    message = worker.connection.recv()
                except EOFError:
                    workers.remove(worker)
                    yield from _take_over(args, worker, waiting, workers)
                    continue
                if isinstance(message, str):
                    raise ValueError(message)
                if message is not None:
                    yield message
                if waiting:
                    worker.give(waiting.pop())
                else:
                    workers.remove(worker)
                    worker.connection.send(None)
                    worker.process.join(_STOP_SECONDS)
    finally:
        for worker in workers:
            worker.stop()


def _take_over(
    args: argparse.Namespace, dead: _Worker, waiting: list[Job], workers: list[_Worker]
) -> Iterator[dict[str, Any]]:
    """Record the video of a process that died, and start another one for what is left."""
    dead.process.join(_STOP_SECONDS)
    code = dead.process.exitcode
    if dead.job is None:
        raise ValueError(f"a worker ended with status {code} before its first video")
    why = f"signal {-code}" if code is not None and code < 0 else f"status {code}"
    seconds = time.monotonic() - dead.start
    yield record_of(dead.job, f"its process ended with {why}", seconds)
    if waiting:
        workers.append(_Worker(args))


def run_on_ray(args: argparse.Namespace, jobs: Sequence[Job]) -> Iterator[dict[str, Any]]:
    """The record of every job, as they end, by Ray Data: an actor a worker, on any machine of the
    cluster; videos and OUT must have the same paths on all of them.

    Raises:
        ValueError: the package ``ray`` is not installed.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ValueError('--engine ray needs: pip install "video-pose-detectron2[ray]"') from error

    class RayWorker:
        def __init__(self) -> None:
            import video_pose

            video_pose.register()
            self.predictor = _prepare(args)

        def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
            return {"record": do_job(args, self.predictor, jobs[int(row["item"])])}

    data = ray.data.from_items(list(range(len(jobs))), override_num_blocks=len(jobs))
    worker: Any = RayWorker
    done = data.map(worker, concurrency=min(args.workers, len(jobs)))
    for row in done.iter_rows():
        yield row["record"]
