"""Who starts a run's processes, who holds its folder, and memory that is freed and taken again,
counted in pages that the system had to give."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from video_pose.engine import launch
from video_pose.engine.launch import (
    INTERRUPTS,
    Launch,
    ShieldedLoader,
    choose_launch,
    errors_of_workers,
    lock_output,
    unlock_output,
)

_PROGRAM = """
import resource
import numpy as np
from video_pose.engine.launch import keep_freed_memory
told = {call}
faults = []
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**23)  # 64 MB, freed at once
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(told, max(faults[1:]))
"""


def run(call: str, **variables: str) -> tuple[str, int]:
    """What the call returned, and the most pages that a block of 64 MB took anew."""
    # Another allocator, loaded beforehand, would have its own way.
    environment = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.format(call=call)],
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    told, faults = done.stdout.split()
    return told, int(faults)


def is_glibc() -> bool:
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (AttributeError, ValueError):
        return False


@pytest.mark.skipif(not is_glibc(), reason="no glibc here")
def test_a_freed_block_is_taken_again_without_new_pages() -> None:
    told, kept = run("keep_freed_memory()")
    assert told == "True"
    _, plain = run("None")
    assert kept * 10 < plain


@pytest.mark.skipif(not is_glibc(), reason="no glibc here")
def test_a_users_choice_stands() -> None:
    for name, value in (("MALLOC_TOP_PAD_", "0"), ("GLIBC_TUNABLES", "glibc.malloc.top_pad=0")):
        assert run("keep_freed_memory()", **{name: value})[0] == "False"


@pytest.mark.skipif(not is_glibc(), reason="no glibc here")
def test_freed_memory_is_returned() -> None:
    """Of blocks that are too small to be mapped, below one that is kept: at the heap's top glibc
    returns them by itself."""
    program = """
import ctypes
from video_pose.engine.launch import return_freed_memory

def resident() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
blocks = [libc.malloc(65536) for _ in range(1000)]
for block in blocks:
    ctypes.memset(block, 1, 65536)
for block in blocks[:-1]:
    libc.free(block)
before = resident()
print(return_freed_memory(), before - resident())
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    told, returned = done.stdout.split()
    assert told == "True" and int(returned) > 40e6


TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"}
TORCHRUN |= {"MASTER_ADDR": "node0", "MASTER_PORT": "29500"}
SLURM = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "5", "SLURM_STEP_NUM_TASKS": "7"}
SLURM |= {"SLURM_JOB_ID": "40123", "SLURM_NODEID": "2", "SLURM_LOCALID": "1"}
SLURM |= {"SLURM_STEP_NODELIST": "gpu[003-005,9]", "SLURM_STEP_TASKS_PER_NODE": "2(x3),1"}
ONE_TASK = SLURM | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_STEP_TASKS_PER_NODE": "1"}
ONE_TASK |= {"SLURM_PROCID": "0", "SLURM_NODEID": "0", "SLURM_LOCALID": "0"}


def arguments(num_gpus: int = 1, num_machines: int = 1) -> Namespace:
    url = "tcp://127.0.0.1:5"
    return Namespace(num_gpus=num_gpus, num_machines=num_machines, machine_rank=0, dist_url=url)


@pytest.mark.parametrize(
    ("args", "environment", "expected"),
    [
        (arguments(), {}, Launch("one process")),
        (
            arguments(2, 3),
            {},
            Launch("Detectron2", 6, local_size=2, address="tcp://127.0.0.1:5"),
        ),
        (arguments(), TORCHRUN, Launch("torchrun", 4, 3, 1, 2, "tcp://node0:29500")),
        (
            arguments(),
            TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "1"},
            Launch("torchrun", 4, 3, 1, 2, "tcp://node0:29500", True),
        ),
        # torchrun inside of srun: torchrun has started this process
        (arguments(), SLURM | TORCHRUN, Launch("torchrun", 4, 3, 1, 2, "tcp://node0:29500")),
        (arguments(), SLURM, Launch("SLURM", 7, 5, 1, 2, "tcp://gpu003:20123")),
        (
            arguments(),
            SLURM | {"MASTER_PORT": "7", "MASTER_ADDR": "h", "SLURM_RESTART_COUNT": "2"},
            Launch("SLURM", 7, 5, 1, 2, "tcp://h:7", True),
        ),
        # one task may start processes of its own, in a shell by ``srun --pty``, for instance
        (
            arguments(8),
            ONE_TASK,
            Launch("Detectron2", 8, local_size=8, address="tcp://127.0.0.1:5"),
        ),
        (
            arguments(2),
            ONE_TASK | {"SLURM_RESTART_COUNT": "1"},
            Launch("Detectron2", 2, 0, 0, 2, "tcp://127.0.0.1:5", True),
        ),
        (
            arguments(),
            ONE_TASK,
            Launch("SLURM", 1, 0, 0, 1, "tcp://gpu003:20123"),
        ),
        # a batch script's own process is no task of a step
        (arguments(), {"SLURM_PROCID": "0", "SLURM_JOB_ID": "1"}, Launch("one process")),
        (
            arguments(2),
            {"SLURM_PROCID": "0"},
            Launch("Detectron2", 2, local_size=2, address="tcp://127.0.0.1:5"),
        ),
    ],
)
def test_one_function_decides(args, environment, expected: Launch) -> None:
    assert choose_launch(args, environment) == expected


@pytest.mark.parametrize(
    ("args", "environment", "message"),
    [
        (
            arguments(2), TORCHRUN,
            "torchrun has started 4 processes, and --num-gpus 2 --num-machines 1 ask for more: "
            "leave them out",
        ),
        (
            arguments(1, 2), SLURM,
            "SLURM has started 7 processes, and --num-gpus 1 --num-machines 2 ask for more: "
            "leave them out",
        ),
        (
            arguments(), {"WORLD_SIZE": "4", "MASTER_ADDR": "h", "MASTER_PORT": "1"},
            "the environment has WORLD_SIZE, as torchrun sets it, but lacks ['RANK', "
            "'LOCAL_RANK', 'LOCAL_WORLD_SIZE']: start by torchrun, or unset it",
        ),
        (
            arguments(), TORCHRUN | {"RANK": "x"},
            "the environment's RANK is 'x': expected a number",
        ),
        (
            arguments(), {k: v for k, v in SLURM.items() if k != "SLURM_JOB_ID"},
            "the environment's SLURM_JOB_ID is None: expected a number",
        ),
        (arguments(0), {}, "--num-gpus 0 --num-machines 1"),
        (arguments(1, 0), {}, "--num-gpus 1 --num-machines 0"),
    ],
)  # fmt: skip
def test_contradictions_are_refused(args, environment, message: str) -> None:
    with pytest.raises(ValueError) as error:
        choose_launch(args, environment)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("changed", "attribute", "value"),
    [
        ({"SLURM_JOB_ID": "39999"}, "address", "tcp://gpu003:39999"),
        ({"SLURM_JOB_ID": "40000"}, "address", "tcp://gpu003:20000"),
        ({"SLURM_JOB_ID": "7"}, "address", "tcp://gpu003:20007"),
        ({"MASTER_ADDR": ""}, "address", "tcp://gpu003:20123"),
        ({"SLURM_NODEID": "3"}, "local_size", 1),
        ({"SLURM_NODEID": None}, "local_size", 2),  # of the first machine
        ({"SLURM_STEP_TASKS_PER_NODE": "7", "SLURM_NODEID": "0"}, "local_size", 7),
        ({"SLURM_STEP_TASKS_PER_NODE": "1,3(x2)"}, "local_size", 3),
        ({"SLURM_RESTART_COUNT": "0"}, "restarted", False),
        ({"SLURM_RESTART_COUNT": "1"}, "restarted", True),
        ({}, "restarted", False),
        ({"SLURM_STEP_ID": None}, "kind", "one process"),
        ({"SLURM_PROCID": None}, "kind", "one process"),
    ],
)
def test_what_slurm_says(changed: dict, attribute: str, value: object) -> None:
    environment = {k: v for k, v in (SLURM | changed).items() if v is not None}
    assert getattr(choose_launch(arguments(), environment), attribute) == value


def test_torchruns_first_try_is_no_restart() -> None:
    environment = TORCHRUN | {"TORCHELASTIC_RESTART_COUNT": "0"}
    assert not choose_launch(arguments(), environment).restarted


@pytest.mark.parametrize("restarted", [False, True])
def test_one_process_runs_here_and_joins_no_group(monkeypatch, restarted: bool) -> None:
    chosen = Launch("one process", restarted=restarted)
    monkeypatch.setattr(launch, "choose_launch", lambda args, environment: chosen)
    seen: list[tuple[int, bool, bool]] = []

    def main(args: Namespace) -> None:
        seen.append((os.getpid(), args.resume, torch.distributed.is_initialized()))

    given = Namespace(**vars(arguments()), resume=False)
    assert launch.run(main, given) == 0
    assert seen == [(os.getpid(), restarted, False)]

    def interrupted(args: Namespace) -> None:
        raise KeyboardInterrupt

    assert launch.run(interrupted, given) == 130


HOLD = """
import sys, time
from video_pose.engine.launch import lock_output
lock_output(sys.argv[1])
print("held", flush=True)
time.sleep(600)
"""


def test_a_folder_belongs_to_one_run_until_that_ends(tmp_path: Path) -> None:
    (tmp_path / ".model_final.pth.7.tmp").write_text("of a process that was killed")
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match=rf"{tmp_path} belongs to a run .*process {other.pid}"):
            lock_output(str(tmp_path))
        (tmp_path / ".lock").write_text("")  # as a full disk leaves it
        with pytest.raises(ValueError) as error:
            lock_output(str(tmp_path))
        assert str(error.value) == (
            f"OUTPUT_DIR {tmp_path} belongs to a run that is under way (process unknown): wait for "
            "it, or name another folder"
        )
        other.kill()  # leaves the file behind, but no lock
    (tmp_path / ".lock").write_text("999999999999\nand more\n")
    lock_output(str(tmp_path))
    assert (tmp_path / ".lock").read_text() == f"{os.getpid()}\n"
    lock_output(str(tmp_path))  # the run itself may ask again
    unlock_output(str(tmp_path))
    assert os.listdir(tmp_path) == [".lock"]


def test_a_folder_that_is_let_go_of_can_be_held_again(monkeypatch, tmp_path: Path) -> None:
    """A half-written file that somebody else removes meanwhile does no harm."""
    gone = tmp_path / ".x.pth.7.tmp"
    monkeypatch.setattr(launch.Path, "glob", lambda folder, pattern: [gone])
    unlock_output(str(tmp_path))  # nobody holds it
    lock_output(str(tmp_path))
    ((path, file),) = [(k, v) for k, v in launch._locks.items() if k.startswith(str(tmp_path))]
    assert path == str(tmp_path / ".lock") and not file.closed
    unlock_output(str(tmp_path))
    assert file.closed and path not in launch._locks
    lock_output(str(tmp_path))
    unlock_output(str(tmp_path))


def test_interrupts_reach_no_worker_of_a_loader() -> None:
    masks = []

    class Loader:
        def __iter__(self):
            masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, []))
            return iter([1, 2])

        def __len__(self) -> int:
            return 2

    assert list(ShieldedLoader(Loader())) == [1, 2] and len(ShieldedLoader(Loader())) == 2
    shielded = ShieldedLoader(Loader())
    shielded._loader.batch_size = 3
    assert shielded.batch_size == 3, "whatever else a loader has"
    assert masks[0] >= set(INTERRUPTS)  # workers inherit it
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(INTERRUPTS)


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, 130), (signal.SIGUSR1, 130), (signal.SIGKILL, None)]
)
def test_a_rank_that_a_signal_ends_before_its_first_step(monkeypatch, number, status) -> None:
    """It has no handler yet. SIGKILL is the system's, when memory runs out."""

    def ended(*_args, **_kwargs) -> None:
        raise ProcessExitedException("process 1 terminated", 1, 4711, -number)

    monkeypatch.setattr(launch, "detectron2_launch", ended)
    args = Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="", resume=False)
    if status is not None:
        assert launch.run(print, args) == status
        return
    with pytest.raises(OSError, match="process 1 of the run was ended by SIGKILL.*--resume"):
        launch.run(print, args)


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ("FileNotFoundError: no a.pth", FileNotFoundError),
        ("PermissionError: [Errno 13] denied", OSError),
        ("UnicodeDecodeError: 'utf-8' codec", ValueError),
        ("FloatingPointError: loss at iteration 3", FloatingPointError),
        ("ModuleNotFoundError: no module", ImportError),
        ("KeyError: 'a: b'", KeyError),
    ],
)
def test_a_childs_error_is_raised_as_the_kind_that_a_user_can_mend(
    last: str, kind: type[Exception]
) -> None:
    child = ProcessRaisedException(f"\n-- Process 1 terminated:\nTraceback ...\n{last}\n", 1, 2)
    with pytest.raises(kind) as raised:
        launch._raise_users(child)
    assert raised.value.args == (last.partition(": ")[2],) and raised.value.__cause__ is child
    for defect in ("AssertionError: 3", "print: 3", "ValueError"):
        child = ProcessRaisedException(f"Traceback ...\n{defect}", 1, 2)
        with pytest.raises(ProcessRaisedException):
            launch._raise_users(child)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (Launch("one process"), "one process"),
        (Launch("torchrun"), "one process (torchrun)"),
        (Launch("SLURM", 6, local_size=2), "6 processes, 2 a machine (SLURM)"),
        (Launch("Detectron2", 2, local_size=2), "2 processes, 2 a machine (Detectron2)"),
    ],
)
def test_what_is_said_of_processes(given: Launch, text: str) -> None:
    assert str(given) == text


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("node7", "node7"),
        ("a1,b2", "a1"),
        ("a1,b[2-3]", "a1"),
        ("gpu[003-005,9]", "gpu003"),
        ("gpu[7,9-12]", "gpu7"),
        ("gpu[1-2]-ib", "gpu1-ib"),
        ("gpu[01,3]-ib,gpu[5-6]", "gpu01-ib"),
        ("r[1-2]n[3-4]", "r1n3"),
        ("r[1-2]n[3-4,7].x,s1", "r1n3.x"),
        ("n-a[2-3]", "n-a2"),
    ],
)
def test_the_first_host_of_slurms_list(nodes: str, host: str) -> None:
    environment = SLURM | {"SLURM_STEP_NODELIST": nodes}
    assert choose_launch(arguments(), environment).address == f"tcp://{host}:20123"


@pytest.mark.parametrize("missing", [*TORCHRUN, "all"])
def test_a_half_set_environment_is_refused(missing: str) -> None:
    environment = {k: v for k, v in TORCHRUN.items() if k != missing}
    if missing == "all":
        assert choose_launch(arguments(), environment).kind == "torchrun"
        return
    with pytest.raises(ValueError, match=rf"as torchrun sets it, but lacks \['{missing}'\]"):
        choose_launch(arguments(), environment)


def test_signals_are_handed_to_the_processes_of_a_run(monkeypatch) -> None:
    """The first as a request, however often Ctrl-C is pressed; a second SIGTERM as it is."""
    sent: list[tuple[int, int]] = []
    children = [Namespace(pid=11), Namespace(pid=None), Namespace(pid=12)]
    monkeypatch.setattr(torch.multiprocessing, "active_children", lambda: children)

    def kill(pid: int, number: int) -> None:
        if pid == 11:
            raise ProcessLookupError  # it has ended
        sent.append((pid, number))

    monkeypatch.setattr(launch.os, "kill", kill)

    def interrupted(*_args, **_kwargs) -> None:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            signal.getsignal(number)(number, None)
        raise ProcessRaisedException("Traceback\nValueError: no", 0, 1)

    monkeypatch.setattr(launch, "detectron2_launch", interrupted)
    args = Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="", resume=False)
    before = signal.getsignal(signal.SIGTERM)
    assert launch.run(print, args) == 130
    requests = [launch.REQUEST, launch.REQUEST, signal.SIGTERM]
    assert sent == [(12, number) for number in requests]
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("code", [None, 0, 1, 3, -9])
def test_a_run_that_was_interrupted_has_ended_so(monkeypatch, code: int | None) -> None:
    """However its processes end then."""

    def ended(*_args: object, **_kwargs: object) -> None:
        signal.getsignal(signal.SIGTERM)(signal.SIGTERM, None)
        if code is not None:
            raise ProcessExitedException("process 1 terminated", 1, 4711, code)

    monkeypatch.setattr(torch.multiprocessing, "active_children", lambda: [])
    monkeypatch.setattr(launch, "detectron2_launch", ended)
    args = Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="", resume=False)
    assert launch.run(print, args) == 130


def test_what_detectron2_is_told(monkeypatch, capsys) -> None:
    told: list[tuple] = []
    monkeypatch.setattr(
        launch, "detectron2_launch", lambda *args, **keys: told.append((args, keys))
    )
    args = Namespace(num_gpus=2, num_machines=3, machine_rank=1, dist_url="u", resume=False)
    assert launch.run(print, args) == 0 and args.resume is False
    keys = {"num_machines": 3, "machine_rank": 1, "dist_url": "u", "args": (print, args)}
    assert told == [((launch._main_of_child, 2), keys)]
    assert capsys.readouterr().out == "Processes: 6 processes, 2 a machine (Detectron2)\n"


def test_the_line_on_processes_is_there_at_once(monkeypatch) -> None:
    """Ahead of whatever the processes write."""
    lines: list[dict] = []
    monkeypatch.setattr("builtins.print", lambda text, **keys: lines.append(keys))
    monkeypatch.setattr(launch, "detectron2_launch", lambda *args, **keys: None)
    launch.run(id, Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="", resume=True))
    assert lines == [{"flush": True}]


def test_a_child_that_ends_well_or_with_an_error_does_so() -> None:
    seen: list[object] = []
    launch._main_of_child(seen.append, Namespace(a=1))
    assert seen == [Namespace(a=1)]

    def broken(args: Namespace) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        launch._main_of_child(broken, Namespace())


class Worker:
    def __init__(self, error: type[Exception] | None = None) -> None:
        self.killed, self.error = 0, error

    def kill(self) -> None:
        if self.error:
            raise self.error
        self.killed += 1


def test_workers_of_a_loader_are_ended_before_python_waits_for_them(monkeypatch) -> None:
    """Those that were started within the block alone; whoever is gone does not keep the others."""
    old, new = Worker(), [Worker(ValueError), Worker(OSError), Worker()]
    alive = [old]
    made: list[tuple] = []
    handled: list[tuple] = []
    monkeypatch.setattr(launch.multiprocessing, "active_children", lambda: list(alive))
    monkeypatch.setattr(
        launch.multiprocessing.util, "Finalize", lambda *args, **keys: made.append((args, keys))
    )
    with launch.signals_held():
        alive.extend(new)
    (((thing, end), keys),) = made
    # Python ends what is left at priority 0.
    assert thing is None and keys["args"] == (new,) and keys["exitpriority"] > 0
    monkeypatch.setattr(launch.signal, "signal", lambda *args: handled.append(args))
    end(*keys["args"])
    assert new[2].killed == 1 and old.killed == 0
    assert handled == [(signal.SIGCHLD, signal.SIG_DFL)]

    def elsewhere(*_args: object) -> None:
        raise ValueError("signal only works in main thread of the main interpreter")

    monkeypatch.setattr(launch.signal, "signal", elsewhere)
    end(new)
    assert new[2].killed == 2


def test_signals_that_come_while_workers_start_take_effect_behind_it(monkeypatch) -> None:
    seen: list[str] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append("signal"))
    try:
        with pytest.raises(KeyError), launch.signals_held():
            signal.raise_signal(signal.SIGUSR1)  # to this thread, whatever others there are
            seen.append("block")
            raise KeyError
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == ["block", "signal"]
    monkeypatch.delattr(launch.signal, "pthread_sigmask")  # another system
    with launch.signals_held():
        seen.append("again")
    assert seen[-1] == "again"


def test_a_run_of_ray_writes_where_its_configuration_says(tmp_path: Path) -> None:
    """Also where the configuration is whole only on the workers."""
    unknown = ["MODEL.META_ARCHITECTURE", "UniPose", "DATASETS.TRAIN", ("of_a_plugin",)]
    args = Namespace(config_file="", opts=["OUTPUT_DIR", str(tmp_path), *unknown])
    assert launch._output_of(args) == str(tmp_path)


@pytest.mark.parametrize("refused", [None, -4, -1, -2])
def test_what_the_allocator_is_told(monkeypatch, refused: int | None) -> None:
    """No mapping of its own for large blocks, nothing given back below 2 GiB, 64 MiB at a time."""
    told: list[tuple[int, int]] = []

    def mallopt(option: int, value: int) -> int:
        told.append((option, value))
        return int(option != refused)

    monkeypatch.setattr(launch, "_has_glibc", lambda: True)
    monkeypatch.setattr(launch, "_chosen_by_user", lambda: False)
    monkeypatch.setattr(launch.ctypes, "CDLL", lambda name: Namespace(mallopt=mallopt))
    assert launch.keep_freed_memory() is (refused is None)
    assert told == [(-4, 0), (-1, 2147483647), (-2, 67108864)]
    for has, chosen in ((False, False), (True, True), (False, True)):
        monkeypatch.setattr(launch, "_has_glibc", lambda has=has: has)
        monkeypatch.setattr(launch, "_chosen_by_user", lambda chosen=chosen: chosen)
        assert not launch.keep_freed_memory()
    assert len(told) == 3


@pytest.mark.parametrize(
    ("has", "trimmed", "expected"), [(True, 1, True), (True, 0, False), (False, 1, False)]
)
def test_whether_memory_was_given_back(monkeypatch, has: bool, trimmed: int, expected) -> None:
    told: list[int] = []
    library = Namespace(malloc_trim=lambda kept: told.append(kept) or trimmed)
    monkeypatch.setattr(launch, "_has_glibc", lambda: has)
    monkeypatch.setattr(launch.ctypes, "CDLL", lambda name: library)
    assert launch.return_freed_memory() is expected
    assert told == [0] * has


@pytest.mark.parametrize(
    ("platform", "version", "has"),
    [
        ("linux", "glibc 2.36", True),
        ("linux", "musl 1.2", False),
        ("linux", None, False),
        ("linux", ValueError, False),
        ("darwin", "glibc 2.36", False),
    ],
)
def test_whose_allocator_it_is(monkeypatch, platform: str, version: object, has: bool) -> None:
    def confstr(name: str) -> object:
        assert name == "CS_GNU_LIBC_VERSION"
        if version is ValueError:
            raise ValueError
        return version

    monkeypatch.setattr(launch.sys, "platform", platform)
    monkeypatch.setattr(launch.os, "confstr", confstr)
    assert launch._has_glibc() is has


@pytest.mark.parametrize(
    ("variables", "chosen"),
    [
        ({}, False),
        ({"GLIBC_TUNABLES": "glibc.malloc.top_pad=0"}, True),
        ({"GLIBC_TUNABLES": "glibc.rtld.nns=3"}, False),
        ({"MALLOC_TOP_PAD_": "0"}, True),
        ({"MALLOC_CONF": "x"}, False),  # jemalloc's
        ({"A_MALLOC_": "x"}, False),
    ],
)
def test_whether_a_user_has_chosen(monkeypatch, variables: dict, chosen: bool) -> None:
    monkeypatch.setattr(launch.os, "environ", variables)
    assert launch._chosen_by_user() is chosen


@pytest.mark.parametrize("code", [0, 1, 3, 130])
def test_how_a_run_of_several_processes_ends(monkeypatch, code: int) -> None:
    def ended(*_args, **_kwargs) -> None:
        if code:
            raise ProcessExitedException("process 1 terminated", 1, 4711, code)

    monkeypatch.setattr(launch, "detectron2_launch", ended)
    args = Namespace(num_gpus=2, num_machines=1, machine_rank=0, dist_url="", resume=False)
    if code in (0, 130):
        assert launch.run(print, args) == code
    else:
        with pytest.raises(ProcessExitedException):
            launch.run(print, args)


def test_an_interrupted_process_has_the_status_of_one() -> None:
    def main(args: Namespace) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as raised:
        launch._main_of_child(main, Namespace())
    assert raised.value.code == 130


def test_a_system_without_such_locks(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    lock_output(str(tmp_path))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("asked", "holds", "initialized", "resumes"),
    [(False, False, False, True), (False, True, True, False), (True, True, False, True)],
)
def test_what_ray_is_told(
    monkeypatch, tmp_path: Path, asked: bool, holds: bool, initialized: bool, resumes: bool
) -> None:
    """A failed run goes on up to three times, unless the folder held another one."""
    told: dict[str, object] = {}

    def record(name: str):
        return lambda *args, **kwargs: told.update({name: (args, kwargs)}) or (name, kwargs)

    class Trainer:
        def __init__(self, loop: object, **kwargs: object) -> None:
            told.update(loop=loop, **kwargs)

        def fit(self) -> None:
            told["fitted"] = True

    ray, train, of_torch = (ModuleType(name) for name in ("ray", "ray.train", "ray.train.torch"))
    ray.is_initialized, ray.init = (lambda: initialized), record("init")
    for name in ("FailureConfig", "RunConfig", "ScalingConfig"):
        setattr(train, name, record(name))
    of_torch.TorchTrainer = Trainer
    for module in (ray, train, of_torch):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(launch, "_output_of", lambda args: str(tmp_path))
    monkeypatch.setenv("VIDEO_POSE_PLUGINS", "own")
    monkeypatch.setenv("OF_NOBODY", "x")
    for name in ("DETECTRON2_DATASETS", "PYTHONPATH", "OMP_NUM_THREADS"):
        if initialized:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, name.lower())
    monkeypatch.chdir(tmp_path)
    if holds:
        (tmp_path / "last_checkpoint").write_text("x")
    args = Namespace(**vars(arguments(2)), launcher="ray", resume=asked)
    monkeypatch.setattr("builtins.print", record("print"))
    assert launch.run(print, args) == 0
    assert told["print"] == (("Processes: 2 (Ray)",), {"flush": True}), "ahead of the workers"
    assert told["fitted"] and told["loop"] is launch._main_of_ray and args.resume is resumes
    assert told["train_loop_config"] == {"main": print, "args": args, "folder": str(tmp_path)}
    scaling = {"num_workers": 2, "use_gpu": torch.cuda.is_available()}
    assert told["ScalingConfig"] == ((), scaling)
    assert told["FailureConfig"] == ((), {"max_failures": 3 if resumes else 0})
    assert told["RunConfig"][1]["storage_path"] == str(tmp_path / "ray")
    kept = {"DETECTRON2_DATASETS": "detectron2_datasets", "VIDEO_POSE_PLUGINS": "own",
            "PYTHONPATH": "pythonpath", "OMP_NUM_THREADS": "omp_num_threads"}  # fmt: skip
    init = ((), {"runtime_env": {"env_vars": kept}, "log_to_driver": True})
    assert told.get("init") == (None if initialized else init)


def test_ray_that_is_not_installed_is_asked_for(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    args = Namespace(**vars(arguments(2)), launcher="ray", resume=False)
    with pytest.raises(ValueError, match=r"--launcher ray needs Ray: pip install 'ray\[train\]'"):
        launch.run(print, args)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        OSError, match=f"cannot write OUTPUT_DIR {tmp_path}/file/x: Not a directory"
    ):
        lock_output(str(tmp_path / "file" / "x"))


@pytest.fixture
def group(monkeypatch) -> list[tuple]:
    """What is asked of PyTorch's group of processes, of which this is one of two."""
    asked: list[tuple] = []
    fake = launch.distributed
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(fake, "rendezvous", lambda url: iter([("agent's store", 0, 2)]))
    monkeypatch.setattr(fake, "PrefixStore", lambda prefix, store: (prefix, store))
    monkeypatch.setattr(
        fake, "init_process_group", lambda backend, **keys: asked.append((backend, keys))
    )
    monkeypatch.setattr(fake, "destroy_process_group", lambda: asked.append(("destroyed",)))
    monkeypatch.setattr(launch, "join_local_group", lambda size: asked.append(("local", size)))
    return asked


def test_how_a_process_joins_its_group(group: list[tuple], monkeypatch) -> None:
    """torchrun's keeps its addresses of each try apart; SLURM's meets at an address."""
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "3")
    with launch._joined(Launch("torchrun", 2, 1, 1, 2, "tcp://h:1")):
        assert len(group) == 2
    store = {"store": ("try 3", "agent's store"), "rank": 1, "world_size": 2}
    assert group == [("gloo", store), ("local", 2), ("destroyed",)]
    group.clear()
    monkeypatch.delenv("TORCHELASTIC_RESTART_COUNT")
    with pytest.raises(KeyError), launch._joined(Launch("SLURM", 4, 3, 1, 2, "tcp://h:1")):
        raise KeyError
    address = {"init_method": "tcp://h:1", "rank": 3, "world_size": 4}
    assert group == [("gloo", address), ("local", 2), ("destroyed",)]
    group.clear()
    with launch._joined(Launch("torchrun", 2, 0, 0, 2)):
        assert group[0][1]["store"][0] == "try 0"


@pytest.mark.parametrize("gpus", [1, 2])
def test_each_process_of_a_machine_has_a_gpu(group: list[tuple], monkeypatch, gpus: int) -> None:
    chosen: list[int] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    joined = launch._joined(Launch("SLURM", 2, 1, 1, 2, "tcp://h:1"))
    if gpus == 1:
        with pytest.raises(ValueError, match="started 2 processes on a machine with 1 GPUs"):
            joined.__enter__()
    else:
        with joined:
            assert chosen == [1] and group[0][0] == "nccl"


def test_a_run_of_slurm_is_said_by_its_first_process(
    group: list[tuple], monkeypatch, capsys
) -> None:
    for rank in (0, 1):
        chosen = Launch("SLURM", 2, rank, rank, 2, "tcp://h:1")
        monkeypatch.setattr(launch, "choose_launch", lambda args, environment, c=chosen: c)
        args = Namespace(**vars(arguments()), resume=True)
        assert launch.run(lambda args: None, args) == 0 and args.resume
        line = "Processes: 2 processes, 2 a machine (SLURM)\n"
        assert capsys.readouterr().out == ("" if rank else line)
        assert [one[0] for one in group] == ["gloo", "local", "destroyed"], "main ran in its group"
        group.clear()
    chosen = Launch("torchrun", 1, 0, 0, 1, "tcp://h:1")  # one alone
    monkeypatch.setattr(launch, "choose_launch", lambda args, environment: chosen)
    assert launch.run(lambda args: None, args) == 0
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("others", [2, 3])
def test_machines_have_as_many_processes(monkeypatch, others: int) -> None:
    made: list[int] = []
    monkeypatch.setattr(launch.distributed, "get_world_size", lambda: 2)

    def gather(sizes: list[int], own: int) -> None:
        assert len(sizes) == 2
        sizes[:] = [own, others]

    monkeypatch.setattr(launch.distributed, "all_gather_object", gather)
    monkeypatch.setattr(launch.comm, "create_local_process_group", made.append)
    monkeypatch.setattr(launch.comm, "synchronize", lambda: made.append(-1))
    if others == 2:
        launch.join_local_group(2)
        assert made == [2, -1]
    else:
        with pytest.raises(ValueError, match=r"machines have \[2, 3\] processes: start as many"):
            launch.join_local_group(2)


def test_a_worker_of_ray_goes_to_the_runs_folder(monkeypatch, tmp_path: Path) -> None:
    seen: list[object] = []
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(launch, "join_local_group", seen.append)
    monkeypatch.chdir("/")
    launch._main_of_ray({
        "args": 7, "folder": str(tmp_path), "main": lambda args: seen.append((args, os.getcwd())),
    })  # fmt: skip
    assert seen == [4, (7, str(tmp_path))]


class Failing(torch.utils.data.Dataset):
    """Whose second item raises, with a cause."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        if index:
            try:
                {}["cause"]
            except KeyError as cause:
                raise self._error from cause
        return index


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (FileNotFoundError("no such file: a: b.png"), "no such file: a: b.png"),
        (ValueError("frame 3 of 'v'\nfound: no mask"), "frame 3 of 'v'\nfound: no mask"),
        (KeyError("no joint map for 'x'"), "no joint map for 'x'"),
    ],
)
def test_errors_of_a_loaders_workers_say_what_they_said(error, text: str, workers: int) -> None:
    """PyTorch's text is the worker's whole traceback."""
    loader = ShieldedLoader(torch.utils.data.DataLoader(Failing(error), num_workers=workers))
    batches = iter(loader)
    assert next(batches).tolist() == [0]
    with pytest.raises(type(error)) as raised:
        next(batches)
    assert raised.value.args[0] == text
    with pytest.raises(ValueError, match="^Caught nothing$"), errors_of_workers():
        raise ValueError("Caught nothing")
