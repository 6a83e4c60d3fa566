"""Find the poses in many videos, with one model in memory, and go on where a run was stopped.

  batch videos/ --output OUT --workers 2
  batch 'archive/**/*.mp4' --output OUT --shard 3/20      # of a SLURM array, say
  batch @list.txt --output OUT --retry-failed
  batch videos/ --output OUT --engine ray --workers 64

OUT/FORMAT/NAME.FORMAT is the table of a video (Parquet unless --format says otherwise), and appears
when it is complete: pandas.read_parquet("OUT/parquet") reads them all. OUT/manifest*.jsonl has a
line for every video: done or failed, the reason, seconds, frames and people. A second run passes
over what is in the manifest, and goes on inside the videos that were under way (OUT/resume holds
what was done of them). Each process holds a model and does one video after another. A video that
fails, even one that ends its process, never stops the others. The exit status is 0 only if all
videos of the run could be read to their end.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import multiprocessing
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, TypedDict

from video_pose.cli.jobs import Job, overlay_ending, remove_partial
from video_pose.cli.main import INTERRUPTED, USER_ERRORS, error_text
from video_pose.cli.predict import (
    Summary,
    add_model_arguments,
    add_part_arguments,
    build_predictor,
    checkpoint_interval,
    count_of,
)
from video_pose.files import CACHE_VARIABLE, lock

if TYPE_CHECKING:
    from video_pose.inference.inputs import Input

SETTINGS, RESUME, VIDEOS = "settings.json", "resume", "video"
DONE, FAILED = "done", "failed"
ENGINES = ("local", "ray")
# Arguments that change how a run is made, and not what it gives.
_FREE = {"inputs", "output", "workers", "shard", "engine", "retry_failed", "device", "timeout"}
_FREE |= {"checkpoint_every", "resume"}
_STOP_SECONDS = 5.0
_LINE = "%(levelname)s: %(message)s"


class Record(TypedDict):
    """A line of the manifest: what became of a video."""

    input: str  # its `Input.identity`
    name: str
    status: str  # DONE or FAILED
    reason: str  # why it failed; "" where it did not
    problems: list[str]  # what was wrong with its data
    seconds: float
    frames: int
    people: int
    resumed: int  # frames of these that an earlier run had done
    files: list[str]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which videos, where to, and by how many processes."""
    add = parser.add_argument
    add("inputs", nargs="+", metavar="INPUT", help="videos, folders, patterns, @FILE with a list")
    add("--output", required=True, metavar="DIR")
    add("--workers", type=int, default=1, metavar="N", help="processes (default 1)")
    add("--shard", default="1/1", metavar="I/N", help="only the I-th of N parts, from 1")
    add("--engine", default="local", metavar="NAME", help="local (default) or ray")
    add("--retry-failed", action="store_true", help="do failed videos once more")
    add("--format", nargs="+", default=["parquet"], metavar="NAME", help="as of predict")
    add("--table", default="long", metavar="KIND", help="long (default) or wide")
    add("--angles", action="store_true", help="joint angles, segment lengths in the wide table")
    add("--video", action="store_true", help="write the overlay videos as well")
    add_model_arguments(parser)
    add_part_arguments(parser)
    parser.set_defaults(show=False, heatmaps=False, no_masks=False, resume=True)
    add("--opts", nargs=argparse.REMAINDER, default=[], help="config keys and values; comes last")


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 if a video of this run failed, or had damaged or missing data.

    Raises:
        ValueError: the arguments contradict each other, or OUT was begun with other ones.
    """
    from video_pose.inference.writers import Recording, check_formats, check_table_options
    from video_pose.video_io.writing import check_writable

    logging.basicConfig(level=logging.WARNING, format=_LINE)
    check_formats(args.format)
    checkpoint_interval(args)
    Recording("", table=args.table, angles=args.angles)
    check_table_options(args.format, "" if args.table == "long" else args.table, args.angles)
    shard, shards = parse_shard(args.shard)
    if args.workers < 1:
        raise ValueError(f"--workers {args.workers}: expected 1 or more")
    if args.engine not in ENGINES:
        raise ValueError(f"--engine {args.engine!r}: choose from {', '.join(ENGINES)}")
    check_writable(args.output)
    keep_settings(args)
    manifest = Manifest(Path(args.output), shard, shards)
    items = list_videos(args.inputs, manifest.names, [args.output, str(Path(args.output, VIDEOS))])
    mine = items[shard - 1 :: shards]
    jobs = [plan(args, item) for item in mine if manifest.wants(item, args.retry_failed)]
    for job in jobs:
        remove_partial(job)
        begun_mark(args, job).unlink(missing_ok=True)
    counts = {DONE: 0, FAILED: 0, "frames": 0, "damaged": 0}
    start = time.monotonic()
    with closing(manifest):
        for record in run_jobs(args, jobs):
            manifest.add(record)
            counts[record["status"]] += 1
            counts["frames"] += record["frames"]
            counts["damaged"] += bool(record["problems"])
            print(_progress(record, counts, len(jobs), start), file=sys.stderr)
            for problem in record["problems"]:
                print(f"error: {problem}", file=sys.stderr)
    seconds = time.monotonic() - start
    with contextlib.suppress(OSError):  # it holds what failed videos have, or is not there
        Path(args.output, RESUME).rmdir()
    damaged = f" ({counts['damaged']} with problems)" if counts["damaged"] else ""
    print(
        f"{len(mine)} videos: {counts[DONE]} done{damaged}, {counts[FAILED]} failed, "
        f"{len(mine) - len(jobs)} passed over; {counts['frames']} frames in {seconds:.1f} s "
        f"({counts['frames'] / max(seconds, 1e-9):.1f} frames/s); {manifest.path}"
    )
    return int(counts[FAILED] + counts["damaged"] > 0)


def parse_shard(text: str) -> tuple[int, int]:
    """``3/20`` -> (3, 20). Raises ValueError unless 1 <= I <= N."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    shard, shards = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= shard <= shards:
        raise ValueError(f"--shard {text!r}: expected I/N with I from 1 to N, as 3/20")
    return shard, shards


def list_videos(
    specs: Sequence[str], taken: Mapping[str, str] | None = None, outputs: Sequence[str] = ()
) -> list[Input]:
    """All videos, in an order that every shard finds; names of their own, also in later runs.

    Args:
        taken: of earlier runs, name in lower case -> `Input.identity` of the video that has it.
        outputs: folders of results, see `find_inputs`.

    Raises:
        FileNotFoundError: a list, folder or pattern that gives nothing.
    """
    from dataclasses import replace
    from hashlib import sha1

    from video_pose.inference.inputs import find_inputs

    named: list[str] = []
    for spec in specs:
        named += _read_list(spec[1:]) if spec.startswith("@") else [spec]
    items = {item.identity: item for item in find_inputs(named, outputs=outputs)}
    stems: dict[str, int] = {}
    for key in items:
        stem = _stem(items[key])
        stems[stem.lower()] = stems.get(stem.lower(), 0) + 1
    found = []
    for key, item in items.items():
        stem = _stem(item)
        shared = stems[stem.lower()] > 1 or (taken or {}).get(stem.lower(), key) != key
        # A counted number would move when a video is added.
        mark = f"-{sha1(os.fsencode(key)).hexdigest()[:8]}" if shared else ""
        found.append(replace(item, name=stem + mark))
    return found


def _read_list(path: str) -> list[str]:
    """The lines of a list, without empty ones and comments (``#``)."""
    from video_pose.files import read_text

    lines = [line.strip() for line in read_text(path).removeprefix("\ufeff").splitlines()]
    return [line for line in lines if line and (line[0] != "#" or os.path.exists(line))]


def _stem(item: Input) -> str:
    return Path(item.files[0]).stem if len(item.files) == 1 else item.name


def plan(args: argparse.Namespace, item: Input) -> Job:
    """The files that a video gives: a folder a format."""
    from video_pose.inference.writers import result_paths

    tables: dict[str, Path] = {}
    for kind in args.format:
        folder = Path(args.output, kind)
        folder.mkdir(exist_ok=True)
        tables |= result_paths([kind], folder, item.name)
    video = Path(args.output, VIDEOS, item.name + overlay_ending(item)) if args.video else None
    if video is not None:
        video.parent.mkdir(exist_ok=True)
    kept = Path(args.output, RESUME, item.name) if item.files else None
    return Job(item, video, tables, checkpoint=kept)


def keep_settings(args: argparse.Namespace) -> None:
    """Write what the results depend on to OUT, or hold it against what is there.

    Raises:
        ValueError: the folder was begun with other arguments; names them.
    """
    from video_pose.data.json_fields import load_json
    from video_pose.files import write_json

    path = Path(args.output, SETTINGS)
    own = {key: value for key, value in sorted(vars(args).items()) if key not in _FREE}
    own = json.loads(json.dumps(own))
    if not path.exists():
        write_json(path, own, indent=1)
        return
    stored = load_json(str(path)).content()
    other = [key for key in own if stored.get(key) != own[key]]
    if other:
        key = other[0]
        raise ValueError(
            f"{path}: this folder was begun with --{key.replace('_', '-')} {stored.get(key)!r}, "
            f"now it is {own[key]!r}: choose another --output"
        )


class Manifest:
    """The record of every video, a JSON object a line; each shard appends to a file of its own."""

    def __init__(self, folder: Path, shard: int, shards: int) -> None:
        """
        Raises:
            ValueError: a line is no record, or another process writes the file. A torn last line is
                passed over.
        """
        name = "manifest" if shards == 1 else f"manifest-{shard:05d}-of-{shards:05d}"
        self.path = folder / f"{name}.jsonl"
        self._known: dict[str, str] = {}
        self.names: dict[str, str] = {}  # in lower case -> `Input.identity`
        for path in sorted(folder.glob("manifest*.jsonl")):
            self._read(path)
        whole = not self.path.exists() or self.path.read_bytes()[-1:] in (b"\n", b"")
        self._file = open(self.path, "a", encoding="utf-8")
        lock(self._file, self.path)
        if not whole:
            self._file.write("\n")

    def _read(self, path: Path) -> None:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        for place, line in enumerate(lines, 1):
            try:
                record = json.loads(line) if line.strip() else None
                if record is not None and self._known.get(record["input"]) != DONE:
                    self._known[record["input"]] = record["status"]
                    self.names[record["name"].lower()] = record["input"]
            except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
                # A kill tears a line; the video that it told of is done again.
                if isinstance(error, json.JSONDecodeError) and not line.endswith("}"):
                    continue
                raise ValueError(f"{path}: line {place} is no record of a video") from error

    def wants(self, item: Input, retry_failed: bool) -> bool:
        """Whether the video is still to be done."""
        status = self._known.get(item.identity)
        return status is None or (status == FAILED and retry_failed)

    def add(self, record: Record) -> None:
        """Append a record; it is on the disk when this returns."""
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def run_jobs(args: argparse.Namespace, jobs: Sequence[Job]) -> Iterator[Record]:
    """The record of every job, as they end."""
    if not jobs:
        return
    if args.engine == "ray":
        yield from run_on_ray(args, jobs)
    else:
        yield from run_on_processes(args, jobs)


def do_job(args: argparse.Namespace, predictor: Any, job: Job) -> Record:
    """Do one video; returns its record."""
    from video_pose.cli.predict import predict

    summary, start = Summary(), time.monotonic()
    problems: list[str] = []
    reason = ""
    try:
        problems = predict(args, predictor, job, summary, whole=True)
    except (*USER_ERRORS, RuntimeError, MemoryError) as error:
        reason = f"{type(error).__name__}: {error_text(error)}"
    return record_of(job, reason, time.monotonic() - start, summary, problems)


def record_of(
    job: Job,
    reason: str,
    seconds: float,
    summary: Summary | None = None,
    problems: Sequence[str] = (),
) -> Record:
    """A line of the manifest; without a ``reason`` the video is done."""
    return {
        "input": job.item.identity,
        "name": job.item.name,
        "status": FAILED if reason else DONE,
        "reason": reason,
        "problems": list(problems),
        "seconds": round(seconds, 3),
        "frames": summary.frames if summary and not reason else 0,
        "people": summary.people if summary and not reason else 0,
        "resumed": summary.resumed if summary and not reason else 0,
        "files": [] if reason else [str(path) for path in job.paths],
    }


def _progress(record: Record, counts: dict[str, int], total: int, start: float) -> str:
    done = counts[DONE] + counts[FAILED]
    left = (time.monotonic() - start) / done * (total - done)
    people = count_of(record["people"], "person", "people")
    text = record["reason"] or f"{count_of(record['frames'], 'frame')}, {people}"
    if record["problems"]:
        text += ", " + count_of(len(record["problems"]), "problem")
    name = " ".join(record["name"].split())  # a name may hold a new line
    return f"{done}/{total} ({left:.0f} s left) {name}: {record['status']}, {text}"


class _Lines(logging.Handler):
    """Warnings of a worker, kept until they go along with a record: workers have most in common."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.setFormatter(logging.Formatter(_LINE))
        self._lines: list[str] = []

    @classmethod
    def of_process(cls) -> Self:
        """A handler of all that this process logs."""
        lines = cls()
        logging.getLogger().addHandler(lines)
        return lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(self.format(record))

    def take(self) -> list[str]:
        """The lines since the last call."""
        lines, self._lines = self._lines, []
        return lines


class _Message(NamedTuple):
    """Of a worker: that it is ready, that it cannot be (``error``), or what became of a video; and
    the lines that it has logged."""

    lines: list[str]
    record: Record | None = None
    error: str = ""


def _say(lines: Iterable[str], said: set[str]) -> None:
    """Print lines that are not in ``said``, and add them to it."""
    for line in lines:
        if line not in said:
            print(line, file=sys.stderr)
        said.add(line)


def _prepare(args: argparse.Namespace) -> Any:
    """The predictor of a worker, with its share of the processor."""
    import torch

    from video_pose.engine.launch import keep_freed_memory

    keep_freed_memory()
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // args.workers))
    return build_predictor(args)


def _work(args: argparse.Namespace, connection: Connection) -> None:
    """Do the jobs that come until None does, or the parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    # The parent's, or a service manager's: what is half written is taken away.
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lines = _Lines.of_process()
    with contextlib.suppress(EOFError, ConnectionError):
        try:
            predictor = _prepare(args)
        except USER_ERRORS as error:
            connection.send(_Message(lines.take(), error=error_text(error)))
            return
        connection.send(_Message(lines.take()))
        while (job := connection.recv()) is not None:
            record = do_job(args, predictor, job)
            connection.send(_Message(lines.take(), record))


def _end(number: int, frame: FrameType | None) -> None:
    """End a worker; a service manager's signal comes once more, from the parent."""
    signal.signal(number, signal.SIG_IGN)
    sys.exit(INTERRUPTED)


def _end_with_parent() -> None:
    """A parent that is killed ends nobody: the next run would meet its workers at their videos."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


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
        """
        Raises:
            ConnectionError: the process has ended; `job` is still the one before.
        """
        self.connection.send(job)
        self.job, self.start = job, time.monotonic()

    def stop(self) -> None:
        self.process.terminate()
        self.process.join(_STOP_SECONDS)
        if self.process.is_alive():
            self.process.kill()


def run_on_processes(args: argparse.Namespace, jobs: Sequence[Job]) -> Iterator[Record]:
    """The record of every job, as they end. A process that dies costs the video that it did.

    Raises:
        ValueError: a worker cannot build the model.
    """
    waiting = list(jobs)[::-1]
    said: set[str] = set()
    workers = [_Worker(args) for _ in range(min(args.workers, len(jobs)))]
    try:
        while workers:
            for connection in wait([worker.connection for worker in workers]):
                worker = next(w for w in workers if w.connection is connection)
                try:
                    message: _Message = worker.connection.recv()
                except (EOFError, OSError):  # OSError: within a message
                    workers.remove(worker)
                    if worker.job is not None:
                        yield _record_of_dead(worker)
                    _replace(args, worker, waiting, workers)
                    continue
                _say(message.lines, said)
                if message.error:
                    raise ValueError(message.error)
                if message.record is not None:
                    yield message.record
                if not waiting:
                    workers.remove(worker)
                    with contextlib.suppress(ConnectionError):
                        worker.connection.send(None)
                    worker.process.join(_STOP_SECONDS)
                    continue
                try:
                    worker.give(waiting[-1])
                except ConnectionError:  # it died behind its record, or before its first video
                    workers.remove(worker)
                    _replace(args, worker, waiting, workers)
                else:
                    waiting.pop()
    finally:
        for worker in workers:
            worker.stop()


def _record_of_dead(dead: _Worker) -> Record:
    """Of the video that a process did when it died."""
    dead.process.join(_STOP_SECONDS)
    code = dead.process.exitcode
    why = f"signal {-code}" if code is not None and code < 0 else f"status {code}"
    assert dead.job is not None
    return record_of(dead.job, f"its process ended with {why}", time.monotonic() - dead.start)


def _replace(
    args: argparse.Namespace, dead: _Worker, waiting: list[Job], workers: list[_Worker]
) -> None:
    """Start another process for what is left.

    Raises:
        ValueError: the dead one had no video yet: nor would the next.
    """
    dead.process.join(_STOP_SECONDS)
    if dead.job is None:
        code = dead.process.exitcode
        raise ValueError(f"a worker ended with status {code} before its first video")
    if waiting:
        workers.append(_Worker(args))


def run_on_ray(args: argparse.Namespace, jobs: Sequence[Job]) -> Iterator[Record]:
    """The record of every job, as they end, by Ray Data: an actor a worker, on any machine of the
    cluster; videos and OUT must have the same paths on all of them. An actor that dies costs the
    video that it did.

    Raises:
        ValueError: the package ``ray`` is not installed, or a worker cannot build the model.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise ValueError('--engine ray needs: pip install "video-pose-detectron2[ray]"') from error
    if not ray.is_initialized():
        kept = {name: os.environ[name] for name in _RAY_VARIABLES if name in os.environ}
        ray.init(runtime_env={"env_vars": kept}, log_to_driver=False)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.max_errored_blocks = -1  # a block is a video
    numbers = [{"item": number} for number in range(len(jobs))]
    count = min(args.workers, len(jobs))
    done = ray.data.from_items(numbers, override_num_blocks=len(jobs)).map(
        _RayWorker,  # type: ignore[arg-type]
        fn_constructor_args=(args, list(jobs), os.getcwd()),
        compute=ray.data.ActorPoolStrategy(size=count, max_tasks_in_flight_per_actor=1),
    )
    missing = dict(enumerate(jobs))
    said: set[str] = set()
    for row in done.iter_rows():
        _say(json.loads(row["lines"]), said)
        if row["error"]:
            raise ValueError(row["error"])
        missing.pop(int(row["item"]))
        yield json.loads(row["record"])
    for job in missing.values():
        begun_mark(args, job).unlink(missing_ok=True)
        yield record_of(job, _ACTOR_ENDED, 0.0)


_ACTOR_ENDED = "its process, an actor of Ray's, ended: see Ray's log"


def begun_mark(args: argparse.Namespace, job: Job) -> Path:
    """A file that says, while it is there, that an actor of Ray's has begun a video."""
    return Path(args.output, RESUME, f".begun-{job.item.name}")


# What workers on other machines need to know.
_RAY_VARIABLES = ("PYTHONPATH", "OMP_NUM_THREADS", "VIDEO_POSE_PLUGINS", CACHE_VARIABLE)


class _RayWorker:
    """An actor of Ray Data's: a row in, a row out."""

    def __init__(self, args: argparse.Namespace, jobs: list[Job], folder: str) -> None:
        import video_pose

        os.chdir(folder)  # Ray may start a worker in a folder of its own
        video_pose.register()
        self._args, self._jobs, self._error = args, jobs, ""
        self._lines = _Lines.of_process()
        try:
            self._predictor = _prepare(args)
        except USER_ERRORS as error:  # Ray would build it again and again
            self._error = error_text(error)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        if self._error:
            return self._answer(row, "", self._error)
        job = self._jobs[int(row["item"])]
        begun = begun_mark(self._args, job)
        if begun.exists():  # Ray may give the video of an actor that died to others, for ever
            record = record_of(job, _ACTOR_ENDED, 0.0)
        else:
            begun.parent.mkdir(exist_ok=True)
            begun.touch()
            record = do_job(self._args, self._predictor, job)
        begun.unlink(missing_ok=True)
        return self._answer(row, json.dumps(record), "")

    def _answer(self, row: dict[str, Any], record: str, error: str) -> dict[str, Any]:
        lines = json.dumps(self._lines.take())
        return {**row, "record": record, "error": error, "lines": lines}
