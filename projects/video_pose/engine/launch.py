"""What a run does once: its processes, their signals, its folder, its memory.

A run has one process, or several that Detectron2 starts (``--num-gpus``, ``--num-machines``), or it
is one of several that torchrun, SLURM's ``srun`` or Ray started. `choose_launch` decides, by the
arguments and the environment alone.
"""

from __future__ import annotations

import ast
import builtins
import contextlib
import ctypes
import logging
import multiprocessing
import multiprocessing.util
import os
import re
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from detectron2.engine import launch as detectron2_launch
from detectron2.utils import comm
from torch import distributed
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from video_pose.files import PARTIAL, naming

logger = logging.getLogger(__name__)

# Exit status of a run that was interrupted and has saved, as of any program after Ctrl-C.
INTERRUPTED = 130
# What asks a run to save and to end; systems without POSIX signals know the first two.
HANGUP: int = getattr(signal, "SIGHUP", signal.SIGTERM)
REQUEST: int = getattr(signal, "SIGUSR1", signal.SIGTERM)
INTERRUPTS = tuple(dict.fromkeys((signal.SIGINT, signal.SIGTERM, HANGUP, REQUEST)))

Main = Callable[[Namespace], Any]


@dataclass(frozen=True)
class Launch:
    """How this process takes part in a run.

    Attributes:
        kind: "one process", "Detectron2", "torchrun", "SLURM".
        rank, world_size: this process and their number; of the machine: local_rank, local_size.
            Of "Detectron2", what it will start.
        address: where the processes meet.
        restarted: whether this is another try of a run that was cut off.
    """

    kind: str
    world_size: int = 1
    rank: int = 0
    local_rank: int = 0
    local_size: int = 1
    address: str = ""
    restarted: bool = False

    def __str__(self) -> str:
        if self.world_size == 1:
            return f"one process ({self.kind})" if self.kind != "one process" else self.kind
        return f"{self.world_size} processes, {self.local_size} a machine ({self.kind})"


def choose_launch(args: Namespace, environment: Mapping[str, str]) -> Launch:
    """Who starts the processes of a run.

    A step of SLURM's with one task (``srun --pty bash``, for instance) is no group: Detectron2
    starts the processes that the arguments ask for.

    Args:
        args: ``num_gpus``, ``num_machines`` of Detectron2's command line.

    Raises:
        ValueError: the environment of torchrun or SLURM and the arguments both ask for processes,
            or that environment is incomplete.
    """
    asked = args.num_gpus * args.num_machines
    launch = _of_torchrun(environment) or _of_slurm(environment)
    restarted = False
    if launch is not None and launch.kind == "SLURM" and launch.world_size == 1 < asked:
        restarted = launch.restarted
        launch = None
    if launch is None:
        if asked < 1:
            raise ValueError(f"--num-gpus {args.num_gpus} --num-machines {args.num_machines}")
        if asked == 1:
            return Launch("one process")
        return Launch(
            "Detectron2", asked, 0, 0, args.num_gpus, address=args.dist_url, restarted=restarted
        )
    if asked > 1:
        raise ValueError(
            f"{launch.kind} has started {launch.world_size} processes, and --num-gpus "
            f"{args.num_gpus} --num-machines {args.num_machines} ask for more: leave them out"
        )
    return launch


_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def _of_torchrun(environment: Mapping[str, str]) -> Launch | None:
    if "RANK" not in environment and "WORLD_SIZE" not in environment:
        return None
    lacking = [name for name in _TORCHRUN if name not in environment]
    if lacking:
        raise ValueError(
            f"the environment has {'RANK' if 'RANK' in environment else 'WORLD_SIZE'}, as torchrun "
            f"sets it, but lacks {lacking}: start by torchrun, or unset it"
        )
    return Launch(
        "torchrun",
        _number(environment, "WORLD_SIZE"),
        _number(environment, "RANK"),
        _number(environment, "LOCAL_RANK"),
        _number(environment, "LOCAL_WORLD_SIZE"),
        f"tcp://{environment['MASTER_ADDR']}:{_number(environment, 'MASTER_PORT')}",
        _number(environment, "TORCHELASTIC_RESTART_COUNT", 0) > 0,
    )


def _of_slurm(environment: Mapping[str, str]) -> Launch | None:
    """Of ``srun``: a batch script's own process has no step, and is one process."""
    if "SLURM_STEP_ID" not in environment or "SLURM_PROCID" not in environment:
        return None
    size = _number(environment, "SLURM_STEP_NUM_TASKS")
    job = _number(environment, "SLURM_JOB_ID")
    node = _number(environment, "SLURM_NODEID", 0)
    host = environment.get("MASTER_ADDR") or _first_host(environment["SLURM_STEP_NODELIST"])
    # Jobs that share a machine meet at ports of their own.
    port = _number(environment, "MASTER_PORT", 20000 + job % 20000)
    return Launch(
        "SLURM",
        size,
        _number(environment, "SLURM_PROCID"),
        _number(environment, "SLURM_LOCALID"),
        _tasks_of_nodes(environment["SLURM_STEP_TASKS_PER_NODE"])[node],
        f"tcp://{host}:{port}",
        _number(environment, "SLURM_RESTART_COUNT", 0) > 0,
    )


def _number(environment: Mapping[str, str], name: str, default: int | None = None) -> int:
    text = environment.get(name, default)
    try:
        return int(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"the environment's {name} is {text!r}: expected a number") from None


def _first_host(nodes: str) -> str:
    """The first of SLURM's list of hosts: ``gpu[003-005,9]-ib,x`` begins with ``gpu003-ib``, and
    ``r[1-2]n[3-4]`` with ``r1n3``."""
    # Of all brackets the first number; a comma outside of them ends the name.
    return re.sub(r"\[([^],-]*)[^]]*\]", r"\1", nodes).partition(",")[0]


def _tasks_of_nodes(text: str) -> list[int]:
    """SLURM's tasks of each node: ``2(x3),1`` is 2, 2, 2, 1."""
    tasks: list[int] = []
    for part in text.split(","):
        count, _, times = part.partition("(x")
        tasks += [int(count)] * (int(times.rstrip(")")) if times else 1)
    return tasks


def run(main: Main, args: Namespace) -> int:
    """Run ``main(args)`` on all processes of the run; returns the exit status of this one.

    A run that is started again by its launcher (torchrun's ``--max-restarts``, SLURM's requeue)
    resumes by itself.

    Raises:
        ValueError: see `choose_launch`; otherwise what ``main`` raises.
    """
    if getattr(args, "launcher", "auto") == "ray":
        return _run_on_ray(main, args)
    launch = choose_launch(args, os.environ)
    if launch.rank == 0 and launch.world_size > 1:
        print(f"Processes: {launch}", flush=True)
    args.resume = args.resume or launch.restarted
    if launch.kind == "Detectron2":
        return _spawn(main, args)
    try:
        if launch.kind == "one process":
            main(args)
        else:
            with _joined(launch):
                main(args)
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


@contextlib.contextmanager
def _joined(launch: Launch) -> Iterator[None]:
    """Within the block this process is one of the launcher's group."""
    on_gpu = torch.cuda.is_available()
    if on_gpu and launch.local_rank >= torch.cuda.device_count():
        raise ValueError(
            f"{launch.kind} has started {launch.local_size} processes on a machine with "
            f"{torch.cuda.device_count()} GPUs: start one for each"
        )
    if on_gpu:
        torch.cuda.set_device(launch.local_rank)
    backend = "nccl" if on_gpu else "gloo"
    if launch.kind == "torchrun":
        # The agent's store outlives a try, and with it the addresses of processes that are gone.
        store, _, _ = next(distributed.rendezvous("env://"))
        own = distributed.PrefixStore(
            f"try {os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}", store
        )
        distributed.init_process_group(
            backend, store=own, rank=launch.rank, world_size=launch.world_size
        )
    else:
        distributed.init_process_group(
            backend, init_method=launch.address, rank=launch.rank, world_size=launch.world_size
        )
    try:
        join_local_group(launch.local_size)
        yield
    finally:
        with contextlib.suppress(RuntimeError):  # another process may be gone already
            distributed.destroy_process_group()


def join_local_group(local_size: int) -> None:
    """Tell Detectron2 which processes share a machine.

    Raises:
        ValueError: machines have different numbers of processes, which Detectron2 does not know.
    """
    sizes = [0] * distributed.get_world_size()
    distributed.all_gather_object(sizes, local_size)
    if len(set(sizes)) > 1:
        raise ValueError(f"machines have {sorted(set(sizes))} processes: start as many on each")
    comm.create_local_process_group(local_size)
    comm.synchronize()


def _run_on_ray(main: Main, args: Namespace) -> int:
    """Ray Train's workers, ``--num-gpus`` in all; after a failure of one all resume, up
    to three times, unless OUTPUT_DIR held another run.

    Raises:
        ValueError: Ray is not installed.
    """
    try:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
    except ImportError as error:
        raise ValueError(f"--launcher ray needs Ray: pip install 'ray[train]' ({error})") from error
    if not ray.is_initialized():
        kept = ("DETECTRON2_DATASETS", "VIDEO_POSE_PLUGINS", "PYTHONPATH", "OMP_NUM_THREADS")
        variables = {name: os.environ[name] for name in kept if name in os.environ}
        ray.init(runtime_env={"env_vars": variables}, log_to_driver=True)
    print(f"Processes: {args.num_gpus} (Ray)", flush=True)
    folder, output = os.path.abspath("."), _output_of(args)
    # A new folder has nothing to resume yet; in an old one no run may be continued by mistake.
    args.resume = args.resume or not os.path.exists(os.path.join(output, "last_checkpoint"))
    trainer = TorchTrainer(
        _main_of_ray,
        train_loop_config={"main": main, "args": args, "folder": folder},
        scaling_config=ScalingConfig(num_workers=args.num_gpus, use_gpu=torch.cuda.is_available()),
        run_config=RunConfig(
            storage_path=os.path.join(os.path.abspath(output), "ray"),
            failure_config=FailureConfig(max_failures=3 if args.resume else 0),
        ),
    )
    trainer.fit()
    return 0


def _output_of(args: Namespace) -> str:
    from video_pose.engine.defaults import load_cfg  # which imports this module

    return str(load_cfg(args.config_file, args.opts, complete=False).OUTPUT_DIR)


def _main_of_ray(config: dict[str, Any]) -> None:
    """On one of Ray's workers, whose process group Ray has made."""
    args = config["args"]
    os.chdir(config["folder"])  # Ray starts a worker in a folder of its own
    join_local_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    config["main"](args)


def _main_of_child(main: Main, args: Namespace) -> None:
    """On a process that Detectron2 started. PyTorch's wrapper takes a KeyboardInterrupt for the
    parent's, and ends with status 0."""
    try:
        main(args)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)


def _spawn(main: Main, args: Namespace) -> int:
    """Detectron2's launch of ``--num-gpus`` processes on each of ``--num-machines``.

    Signals to this process alone (a service manager's, a batch system's) are handed on to its
    children as a request, and it waits until they have saved.
    """
    interrupts: list[int] = []

    def hand_on(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        # A terminal sends Ctrl-C to the children as well: as a request, it counts once.
        again = len(interrupts) > 1 and number != signal.SIGINT
        for process in torch.multiprocessing.active_children():
            if process.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, number if again else REQUEST)

    previous = {number: signal.signal(number, hand_on) for number in INTERRUPTS}
    try:
        detectron2_launch(
            _main_of_child,
            args.num_gpus,
            num_machines=args.num_machines,
            machine_rank=args.machine_rank,
            dist_url=args.dist_url,
            args=(main, args),
        )
    except ProcessExitedException as error:
        # Before a process makes steps, a signal ends it as any program.
        ended_by = -error.exit_code if error.exit_code < 0 else 0
        if interrupts or error.exit_code == INTERRUPTED or ended_by in INTERRUPTS:
            return INTERRUPTED
        if not ended_by:
            raise
        raise OSError(
            f"process {error.error_index} of the run was ended by {signal.Signals(ended_by).name} "
            "(SIGKILL: by the system, when memory runs out); --resume goes on from the last "
            "checkpoint"
        ) from error
    except ProcessRaisedException as error:
        if interrupts:
            return INTERRUPTED
        _raise_users(error)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    return INTERRUPTED if interrupts else 0


def _raise_users(error: ProcessRaisedException) -> None:
    """Raise ``error`` of a child as the kind that it was there, where a user can mend it."""
    last = str(error).rstrip().splitlines()[-1]
    name, _, text = last.partition(": ")
    kind = getattr(builtins, name, None)
    known = (ValueError, KeyError, FileNotFoundError, OSError, ImportError, FloatingPointError)
    for base in known:
        if text and isinstance(kind, type) and issubclass(kind, base):
            raise base(text) from error
    raise error


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """For starting a loader's workers: they inherit that interrupts do not reach them.

    Ctrl-C, service managers and batch systems signal every process of a run. A worker that dies of
    it takes the step under way with it; workers end when their loader does. What arrives within
    the block takes effect behind it.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    known = multiprocessing.active_children()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        workers = [child for child in multiprocessing.active_children() if child not in known]
        multiprocessing.util.Finalize(None, _end_workers, args=(workers,), exitpriority=10)


def _end_workers(workers: list[Any]) -> None:
    """At the end of the process: multiprocessing would send SIGTERM, which they do not receive, and
    wait for them."""
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler takes it for an accident
    for worker in workers:
        with contextlib.suppress(ValueError, OSError):  # it has ended already
            worker.kill()


# How PyTorch begins the text of an error that a loader's worker raised; its traceback follows.
_OF_WORKER = re.compile(r"Caught \w+ in DataLoader worker process \d+\.\nOriginal Traceback ")
# The line of a traceback that names the error.
_NAMED = re.compile(r"^[\w.]+: ", re.MULTILINE)


@contextlib.contextmanager
def errors_of_workers() -> Iterator[None]:
    """Within the block, what a loader's worker raised says what it said there; the whole traceback
    is the cause's text."""
    try:
        yield
    except Exception as error:
        text = str(error)
        innermost = text.rfind("\n  File ")
        named = _NAMED.search(text, innermost) if _OF_WORKER.match(text) else None
        if named is None:
            raise
        reason = text[named.end() :].strip()
        if isinstance(error, KeyError):  # whose text is its argument's
            with contextlib.suppress(ValueError, SyntaxError):
                reason = ast.literal_eval(reason)
        raise type(error)(reason) from error


class ShieldedLoader:
    """A loader whose workers no interrupt reaches, and whose errors are `errors_of_workers`;
    otherwise as ``loader``."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Any]:
        with signals_held():
            batches = iter(self._loader)
        return self._each(batches)

    @staticmethod
    def _each(batches: Iterator[Any]) -> Iterator[Any]:
        with errors_of_workers():
            yield from batches

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)


_locks: dict[str, Any] = {}


def lock_output(folder: str) -> None:
    """Hold ``folder`` for this process until it ends; the system frees it also after a crash.

    Raises:
        ValueError: another run holds it. OSError: it cannot be written to.
    """
    try:
        import fcntl
    except ImportError:  # a system without such locks
        return
    path = os.path.join(os.path.realpath(folder), ".lock")
    if path in _locks:
        return
    try:
        os.makedirs(folder, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")
    except OSError as error:
        raise OSError(f"cannot write OUTPUT_DIR {folder}: {error.strerror}") from error
    try:
        # A lock of the process, which workers that outlive it do not inherit.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise ValueError(
            f"OUTPUT_DIR {folder} belongs to a run that is under way (process {holder}): wait for "
            "it, or name another folder"
        ) from None
    for partial in Path(folder).glob(f".*{PARTIAL}"):  # of a process that was killed
        partial.unlink(missing_ok=True)
    _locks[path] = file
    with naming(path):
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()


def unlock_output(folder: str) -> None:
    """Let go of ``folder`` before the process ends."""
    file = _locks.pop(os.path.join(os.path.realpath(folder), ".lock"), None)
    if file is not None:
        file.close()


# Options of mallopt(3).
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the allocator of this process, and of processes forked from it, to keep what is freed.

    Nothing is done outside Linux and glibc, or where the user has set an option of glibc's
    allocator by an environment variable (``MALLOC_..._``, ``GLIBC_TUNABLES``); other allocators
    (tcmalloc, jemalloc) ignore it.

    Returns:
        Whether glibc was told.
    """
    if not _has_glibc() or _chosen_by_user():
        return False
    mallopt = ctypes.CDLL(None).mallopt
    options = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _LARGEST), (_TOP_PAD, 2**26))
    return all([bool(mallopt(option, value)) for option, value in options])


def return_freed_memory() -> bool:
    """Give what was freed back to the system, once: after much was read that is not kept.

    Returns:
        Whether there was something; False outside Linux and glibc.
    """
    return _has_glibc() and bool(ctypes.CDLL(None).malloc_trim(0))


def _has_glibc() -> bool:
    if not sys.platform.startswith("linux"):
        return False
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except ValueError:  # another C library does not know the name
        return False


def _chosen_by_user() -> bool:
    return "glibc.malloc" in os.environ.get("GLIBC_TUNABLES", "") or any(
        name.startswith("MALLOC_") and name.endswith("_") for name in os.environ
    )
