"""train_net.py as a user runs it: two CPU processes, an interrupt from the keyboard, evaluation."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from video_pose.engine.checkpointer import PoseCheckpointer
from video_pose.files import with_nan

ROOT = Path(__file__).parents[1]
Start = Callable[..., subprocess.Popen]


@pytest.fixture
def start(tiny_cfg, datasets: Path, tmp_path: Path) -> Start:
    """start(*arguments): the program on two CPU processes, its output in ``tmp_path/log``.

    It has a session of its own, as a terminal's foreground job has a process group of its own.
    """
    write_config(tiny_cfg("UniPoseLSTM"), tmp_path)

    def run(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, str(ROOT / "train_net.py"), "--num-gpus", "2"]
        command += ["--dist-url", "auto", "--config-file", str(tmp_path / "config.yaml")]
        variables = {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
        variables["DETECTRON2_DATASETS"] = str(datasets)
        with open(tmp_path / "log", "w", encoding="utf-8") as log:
            return subprocess.Popen(
                [*command, *arguments],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=os.environ | variables,
                start_new_session=True,
            )

    return run


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
    opts = ["MODEL.WEIGHTS", final, "OUTPUT_DIR", str(tmp_path / "one")]
    one = train_net.main(arguments(tmp_path, *opts, eval_only=True))
    assert {task: pytest.approx(metrics, nan_ok=True) for task, metrics in one.items()} == two
    assert one["keypoints_pck_bbox"]["frames"] > 0
    assert one["keypoints_pck_bbox"]["never_predicted_frames"] == 0


def test_a_keyboard_interrupt_leaves_a_run_that_resumes(start: Start, train_net, tmp_path) -> None:
    """Ctrl-C reaches both ranks, their loaders' workers and the parent at the same time."""
    process = start("SOLVER.MAX_ITER", "100000", "DATALOADER.NUM_WORKERS", "1")
    log, deadline = tmp_path / "log", time.monotonic() + 300
    while "iter: 19" not in log.read_text():
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=120) == 130, log.read_text()[-3000:]
    assert "--resume continues from here" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert (tmp_path / "output" / "last_checkpoint").read_text() == "model_resume.pth"
    done = int(log.read_text().split("Interrupted after ")[1].split()[0])
    # One process takes over.
    opts = ["SOLVER.MAX_ITER", str(done + 1), "OUTPUT_DIR", str(tmp_path / "output")]
    results = train_net.main(arguments(tmp_path, *opts, resume=True))
    assert results["keypoints_pck_bbox"]["frames"] > 0
    rows = (tmp_path / "output" / "metrics.json").read_text().splitlines()
    assert json.loads(rows[-1])["iteration"] == done


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
