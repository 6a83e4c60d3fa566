"""train_net.py as a user runs it: two CPU processes, interrupts, launchers, evaluation."""

from __future__ import annotations

import ast
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from video_pose.engine.checkpointer import PoseCheckpointer
from video_pose.files import with_nan

ROOT = Path(__file__).parents[1]
Start = Callable[..., subprocess.Popen]


@pytest.fixture
def start(tiny_cfg, datasets: Path, tmp_path: Path) -> Iterator[Start]:
    """start(*options, by=..., output=..., **environment): the program on two CPU processes, its
    output in ``tmp_path/log``.

    It has a session of its own, as a terminal's foreground job has a process group of its own.

    Args:
        by: who starts the processes: "Detectron2", "torchrun", "ray", or "none": this one alone.
    """
    write_config(tiny_cfg("UniPoseLSTM", *DROPOUT), tmp_path)
    started: list[subprocess.Popen] = []

    def run(*options: str, by: str = "Detectron2", **environment: str) -> subprocess.Popen:
        program = [str(ROOT / "train_net.py"), "--config-file", str(tmp_path / "config.yaml")]
        command = [sys.executable, *program]
        if by == "Detectron2":
            command += ["--num-gpus", "2", "--dist-url", "auto"]
        elif by == "ray":
            command += ["--launcher", "ray", "--num-gpus", "2"]
        elif by == "torchrun":
            elastic = ["--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
            command = [sys.executable, "-m", "torch.distributed.run", *elastic, *program]
        variables = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        variables |= {"DETECTRON2_DATASETS": str(datasets), **environment}
        with open(tmp_path / "log", "a", encoding="utf-8") as log:
            process = subprocess.Popen(
                [*command, *options],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | variables,
                start_new_session=True,
            )
        started.append(process)
        return process

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


DROPOUT = ["MODEL.UNIPOSE.WASP.DROPOUT", 0.5, "SOLVER.EMA_DECAY", 0.5]


def wait_for(text: str, process: subprocess.Popen, log: Path) -> None:
    """Until the log holds ``text``: signals are sent to a state, not to a time."""
    deadline = time.monotonic() + 300
    while text not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.2)


def children_of(process: subprocess.Popen) -> list[int]:
    """The ranks that Detectron2 has started, by their main argument of multiprocessing."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            name, _, rest = path.read_text().rpartition(")")
            line = (path.parent / "cmdline").read_bytes()
            if int(rest.split()[1]) == process.pid and b"spawn_main" in line:
                found.append(int(path.parent.name))
    return sorted(found)


def write_config(cfg: CfgNode, folder: Path) -> None:
    cfg.MODEL.POSE.JOINTS, cfg.MODEL.POSE.FLIP_MAP = [], []
    (folder / "config.yaml").write_text(cfg.dump())


@pytest.fixture(scope="module")
def train_net(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("train_net.py")


def arguments(folder: Path, *opts: str, eval_only: bool = False, resume: bool = False) -> Namespace:
    return Namespace(
        config_file=str(folder / "config.yaml"), eval_only=eval_only, resume=resume, opts=list(opts)
    )


def test_two_processes_score_what_one_does(start: Start, train_net, tmp_path: Path) -> None:
    process = start("SOLVER.MAX_ITER", "3", "TEST.EVAL_PERIOD", "2")
    assert process.wait(timeout=300) == 0, (tmp_path / "log").read_text()[-3000:]
    log = (tmp_path / "log").read_text()
    assert "FutureWarning" not in log
    assert log.count("PCK on synthetic_jhmdb_test") == 2  # once per evaluation, by rank 0 alone
    output = tmp_path / "output"
    folder = output / "inference" / "synthetic_jhmdb_test"
    two = with_nan(json.loads((folder / "results.json").read_text()))
    # The same weights on one process. The norms' running statistics differed between the ranks.
    final = str(output / "model_final.pth")
    # A training evaluates by PyTorch; another engine differs in the last digits.
    opts = ["MODEL.WEIGHTS", final, "OUTPUT_DIR", str(tmp_path / "one"), "TEST.BACKEND", "torch"]
    one = train_net.main(arguments(tmp_path, *opts, eval_only=True))
    assert {task: pytest.approx(metrics, nan_ok=True) for task, metrics in one.items()} == two
    assert one["keypoints_pck_bbox"]["frames"] > 0
    assert one["keypoints_pck_bbox"]["never_predicted_frames"] == 0
    alone = tmp_path / "one" / "inference" / "synthetic_jhmdb_test"
    # Files of the two differ in the folder's name alone.
    assert (alone / "results.json").read_bytes() == (folder / "results.json").read_bytes()
    poses = [np.load(place / "predictions.npz") for place in (alone, folder)]
    assert set(poses[0].files) == set(poses[1].files)
    for name in poses[0].files:
        assert poses[0][name].tobytes() == poses[1][name].tobytes(), name


@pytest.mark.slow
def test_two_processes_train_and_score_a_detector_with_a_memory(
    start: Start, train_net, tiny_rcnn_cfg, tmp_path: Path
) -> None:
    """Each has clips of its own, also some in which it finds nobody; whole videos are tested."""
    write_config(tiny_rcnn_cfg("TEST.BACKEND", "torch"), tmp_path)
    process = start("SOLVER.MAX_ITER", "2")
    assert process.wait(timeout=300) == 0, (tmp_path / "log").read_text()[-3000:]
    results = tmp_path / "output" / "inference" / "synthetic_jhmdb_test_frames" / "results.json"
    two = with_nan(json.loads(results.read_text()))
    final = str(tmp_path / "output" / "model_final.pth")
    opts = ["MODEL.WEIGHTS", final, "OUTPUT_DIR", str(tmp_path / "one")]
    one = train_net.main(arguments(tmp_path, *opts, eval_only=True))
    assert {task: pytest.approx(metrics, nan_ok=True) for task, metrics in one.items()} == two
    assert one["keypoints_pck_bbox"]["frames"] > 0


SENDERS = {
    "Ctrl-C in the terminal": (signal.SIGINT, "group"),
    "a service manager": (signal.SIGTERM, "group"),
    "SLURM's warning": (signal.SIGUSR1, "launcher"),
    "docker stop": (signal.SIGTERM, "launcher"),
    "one rank": (signal.SIGTERM, "rank"),
}


@pytest.mark.parametrize(
    "sender",
    [pytest.param(name, marks=() if "Ctrl-C" in name else pytest.mark.slow) for name in SENDERS],
)
def test_an_interrupt_leaves_a_run_that_resumes(start, train_net, tmp_path, sender: str) -> None:
    """It reaches both ranks, their loaders' workers and the parent, or one of them alone."""
    number, target = SENDERS[sender]
    process = start("SOLVER.MAX_ITER", "100000", "DATALOADER.NUM_WORKERS", "1")
    log = tmp_path / "log"
    wait_for("iter: 19", process, log)
    if target == "group":
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid if target == "launcher" else children_of(process)[-1], number)
    assert process.wait(timeout=300) == 130, log.read_text()[-3000:]
    assert "--resume continues from here" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert (tmp_path / "output" / "last_checkpoint").read_text() == "model_resume.pth"
    done = int(log.read_text().split("Interrupted after ")[1].split()[0])
    opts = ["SOLVER.MAX_ITER", str(done + 1), "OUTPUT_DIR", str(tmp_path / "output")]
    opts += ["DATASETS.TEST", "()"]
    with pytest.raises(ValueError, match="trained by 2 processes and is resumed by 1"):
        train_net.main(arguments(tmp_path, *opts, resume=True))
    # One process takes over, where that is allowed.
    opts += ["SOLVER.RESUME_OTHER_PROCESSES", "True"]
    train_net.main(arguments(tmp_path, *opts, resume=True))
    rows = (tmp_path / "output" / "metrics.json").read_text().splitlines()
    assert json.loads(rows[-1])["iteration"] == done


KILL_ONCE = """
import os, signal
from pathlib import Path
from video_pose.engine.trainer import PoseTrainer
step = PoseTrainer.run_step
def run_step(self):
    mark = Path({mark!r})
    if os.environ["RANK"] == "1" and self.iter == 3 and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    step(self)
PoseTrainer.run_step = run_step
"""


@pytest.mark.slow
def test_launchers_give_the_same_weights_also_after_a_killed_rank(start, tmp_path: Path) -> None:
    """Detectron2's launch; torchrun, which restarts both ranks after one was killed; and srun, as
    its tasks see it."""
    options = ["SOLVER.MAX_ITER", "5", "DATASETS.TEST", "()", "SOLVER.CHECKPOINT_PERIOD", "2"]

    def output(name: str) -> list[str]:
        return [*options, "OUTPUT_DIR", str(tmp_path / name)]

    assert start(*output("detectron2")).wait(timeout=300) == 0
    plugin = tmp_path / "kill.py"
    plugin.write_text(KILL_ONCE.format(mark=str(tmp_path / "killed")))
    killed = start(*output("torchrun"), by="torchrun", VIDEO_POSE_PLUGINS=str(plugin))
    assert killed.wait(timeout=300) == 0, (tmp_path / "log").read_text()[-3000:]
    assert (tmp_path / "killed").exists()
    slurm = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost"}
    slurm |= {"SLURM_JOB_ID": str(os.getpid()), "SLURM_STEP_TASKS_PER_NODE": "2"}
    tasks = [
        start(*output("slurm"), by="none", SLURM_PROCID=n, SLURM_LOCALID=n, **slurm) for n in "01"
    ]
    assert [task.wait(timeout=300) for task in tasks] == [0, 0], (tmp_path / "log").read_text()[
        -3000:
    ]
    log = (tmp_path / "log").read_text()
    for kind in ("Detectron2", "torchrun", "SLURM"):
        assert f"Processes: 2 processes, 2 a machine ({kind})" in log
    assert "Resuming from" in log and "model_0000001.pth" in log
    expected = torch.load(tmp_path / "detectron2" / "model_final.pth")["trained_model"]
    for name in ("torchrun", "slurm"):
        found = torch.load(tmp_path / name / "model_final.pth")["trained_model"]
        assert all(torch.equal(found[key], value) for key, value in expected.items()), name


@pytest.mark.slow
def test_rays_workers_give_the_same_weights(start, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    options = ["SOLVER.MAX_ITER", "3", "DATASETS.TEST", "()", "OUTPUT_DIR"]
    assert start(*options, str(tmp_path / "detectron2")).wait(timeout=600) == 0
    ray = start(*options, str(tmp_path / "ray"), by="ray")
    assert ray.wait(timeout=600) == 0, (tmp_path / "log").read_text()[-3000:]
    assert "Processes: 2 (Ray)" in (tmp_path / "log").read_text()
    expected = torch.load(tmp_path / "detectron2" / "model_final.pth")["trained_model"]
    found = torch.load(tmp_path / "ray" / "model_final.pth")["trained_model"]
    assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_expected_results_are_checked(train_net, tiny_cfg, datasets, tmp_path: Path) -> None:
    cfg = tiny_cfg("UniPose", "TEST.EXPECTED_RESULTS", [["keypoints_pck_bbox", "PCK@0.2", 200, 1]])
    PoseCheckpointer(build_model(cfg), str(tmp_path)).save("model_final")
    write_config(cfg, tmp_path)
    weights = ["MODEL.WEIGHTS", str(tmp_path / "model_final.pth")]
    with pytest.raises(SystemExit):
        train_net.main(arguments(tmp_path, *weights, eval_only=True))


@pytest.mark.parametrize(
    "path",
    [ROOT / "train_net.py", *sorted((ROOT / "tools").glob("*.py")), *(ROOT / "demo").glob("*.py")],
    ids=lambda path: path.name,
)
def test_programs_import_the_project_before_detectron2(path: Path) -> None:
    """Its import holds the filter for a warning that Detectron2's makes PyTorch print."""
    names = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module)
    # detectron2.config prints nothing.
    relevant = [n for n in names if n.startswith(("detectron2", "video_pose"))]
    relevant = [n for n in relevant if n != "detectron2.config"]
    assert not relevant or relevant[0].startswith("video_pose")
