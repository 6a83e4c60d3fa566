#!/usr/bin/env python3
"""Kill trainings at random moments, resume them, and compare their weights with a whole run's.

    python dev/kill_and_resume.py --kills 20
    python dev/kill_and_resume.py --kills 3 --models keypoint_rcnn --processes 2

Every other kill waits until a checkpoint is half written. A try is a fork of this process, which
has imported everything: it takes about a second. The table goes to standard output.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import cv2
import torch

import video_pose  # noqa: F401  (first: it silences a warning of Detectron2's import)
from video_pose.cli.train import main as train_main
from video_pose.data.synthetic.dataset import SyntheticOptions, make_dataset
from video_pose.engine import launch
from video_pose.engine.defaults import load_cfg

ROOT = Path(__file__).parents[1]
_SMALL_RCNN = [
    *("MODEL.RESNETS.STEM_OUT_CHANNELS", 8, "MODEL.RESNETS.WIDTH_PER_GROUP", 8),
    *("MODEL.RESNETS.RES2_OUT_CHANNELS", 32, "MODEL.RESNETS.NORM", "BN"),
    *("MODEL.BACKBONE.FREEZE_AT", 0, "MODEL.FPN.OUT_CHANNELS", 16),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", 16, "MODEL.ROI_MASK_HEAD.CONV_DIM", 16),
    *("MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS", [16], "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 16),
    *("INPUT.MIN_SIZE_TRAIN", (64,), "MODEL.WEIGHTS", "", "SOLVER.AMP.ENABLED", False),
    *("INPUT.FRAMES.STRIDE", 1, "DATASETS.TRAIN", ("synthetic_jhmdb_train_frames",)),
]
# A config of the repository and what makes it small: some seconds a run.
MODELS: dict[str, tuple[str, list[Any]]] = {
    "unipose_lstm": (
        "quickstart/unipose_lstm_R18_synthetic_jhmdb.yaml",
        [*("INPUT.CROP_SIZE", (64, 64), "MODEL.UNIPOSE.WASP.DROPOUT", 0.5, "MODEL.WEIGHTS", "")],
    ),
    "lstm_pm": (
        "LSTM-Pose-Machines/lstm_pm_small_synthetic_jhmdb.yaml",
        ["INPUT.CROP_SIZE", (64, 64), "MODEL.LSTM_PM.INITIAL.DROPOUT", 0.5, "MODEL.WEIGHTS", ""],
    ),
    "keypoint_rcnn": (
        "Keypoint-RCNN/keypoint_rcnn_R50_FPN_small_sub_jhmdb_split1.yaml",
        _SMALL_RCNN,
    ),
    "mask_rcnn": ("Mask-RCNN/mask_rcnn_R50_FPN_small_sub_jhmdb_split1.yaml", _SMALL_RCNN),
}


def parse_arguments() -> Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=20, help="of each model (20)")
    parser.add_argument("--models", nargs="+", choices=list(MODELS), default=list(MODELS))
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--steps", type=int, default=40, help="of a training (40)")
    parser.add_argument("--workers", type=int, default=1, help="of a loader (1)")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def write_config(name: str, args: Namespace, folder: Path) -> Path:
    config, small = MODELS[name]
    common = ["DATASETS.TEST", (), "SOLVER.IMS_PER_BATCH", 2, "SOLVER.MAX_ITER", args.steps]
    common += ["SOLVER.CHECKPOINT_PERIOD", 2, "DATALOADER.NUM_WORKERS", args.workers, "SEED", 1]
    common += ["SOLVER.EMA_DECAY", 0.9, "MODEL.DEVICE", "cpu", "SOLVER.WARMUP_ITERS", 0]
    cfg = load_cfg(str(ROOT / "configs" / config), [*small, *common])
    path = folder / f"{name}.yaml"
    path.write_text(cfg.dump(), encoding="utf-8")
    return path


class Run:
    """One try of a training, in processes of its own."""

    def __init__(self, config: Path, output: Path, processes: int, port: int) -> None:
        self.output = output
        self.pids = [self._start(config, rank, processes, port) for rank in range(processes)]

    def _start(self, config: Path, rank: int, processes: int, port: int) -> int:
        pid = os.fork()
        if pid:
            return pid
        os.setsid()
        log = os.open(f"{self.output}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        if processes > 1:
            numbers = {"RANK": rank, "WORLD_SIZE": processes, "LOCAL_RANK": rank}
            numbers |= {"LOCAL_WORLD_SIZE": processes, "MASTER_PORT": port}
            os.environ |= {key: str(value) for key, value in numbers.items()}
            os.environ["MASTER_ADDR"] = "127.0.0.1"
        args = Namespace(
            config_file=str(config), resume=True, eval_only=False, num_gpus=1, num_machines=1,
            machine_rank=0, dist_url="", opts=["OUTPUT_DIR", str(self.output)],
        )  # fmt: skip
        status = 1
        try:
            status = launch.run(train_main, args)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(status)

    def wait(self) -> list[int]:
        """Exit statuses; negative: of a signal."""
        statuses = [os.waitpid(pid, 0)[1] for pid in self.pids]
        self.pids = []
        return [os.waitstatus_to_exitcode(status) for status in statuses]

    def is_over(self) -> bool:
        done, _ = os.waitpid(self.pids[0], os.WNOHANG)
        if done:
            self.pids.remove(done)
        return bool(done)

    def kill(self) -> None:
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)
        self.wait()


def kill_at_random(run: Run, inside_checkpoint: bool, rng: random.Random) -> tuple[bool, bool]:
    """Returns whether the run was killed (it may have ended before), and inside a checkpoint."""
    known = set(run.output.glob("*.pth"))
    end = time.monotonic() + 120
    while set(run.output.glob("*.pth")) == known and time.monotonic() < end:  # it trains
        if run.is_over():
            return False, False
        time.sleep(0.005)
    if inside_checkpoint:
        while not list(run.output.glob(".*.pth.*.tmp")) and time.monotonic() < end:
            if run.is_over():
                return False, False
            time.sleep(0.001)
        time.sleep(rng.uniform(0, 0.002))
    else:
        time.sleep(rng.uniform(0, 1))
        if run.is_over():
            return False, False
    half = bool(list(run.output.glob(".*.pth.*.tmp")))
    run.kill()
    return True, half


def final_weights(output: Path) -> dict[str, torch.Tensor]:
    state = torch.load(output / "model_final.pth", weights_only=True)
    averages = {f"average of {key}": value for key, value in state["model"].items()}
    return {**state["trained_model"], **averages}


def study(name: str, processes: int, args: Namespace, folder: Path) -> str:
    """One row of the table."""
    rng = random.Random(f"{args.seed} {name} {processes}")
    port = 20000 + rng.randrange(20000)
    config = write_config(name, args, folder)
    whole, cut = folder / f"{name}_{processes}_whole", folder / f"{name}_{processes}_cut"
    statuses = Run(config, whole, processes, port).wait()
    if any(statuses):
        raise RuntimeError(Path(f"{whole}.log").read_text()[-2000:])
    kills = halves = starts = 0
    while kills < args.kills:
        starts += 1
        run = Run(config, cut, processes, port + starts)
        killed, half = kill_at_random(run, kills % 2 == 1, rng)
        if not killed:
            run.kill()
            if (cut / "model_final.pth").exists():  # it got to the end: once more from the start
                shutil.rmtree(cut)
            elif starts > 5 * args.kills:
                raise RuntimeError(Path(f"{cut}.log").read_text()[-2000:])
        kills, halves = kills + killed, halves + half
    statuses = Run(config, cut, processes, port + starts + 1).wait()
    if any(statuses):
        raise RuntimeError(Path(f"{cut}.log").read_text()[-2000:])
    expected, found = final_weights(whole), final_weights(cut)
    differing = [key for key in expected if not torch.equal(expected[key], found[key])]
    left = [path.name for path in cut.iterdir() if path.name.endswith(".tmp")]
    verdict = "equal" if not differing and not left else f"{len(differing)} differ, left {left}"
    return f"| {name} | {processes} | {kills} | {halves} | {len(expected)} | {verdict} |"


def main() -> int:
    args = parse_arguments()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)  # before the forks: its threads do not survive one
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        options = SyntheticOptions(
            format="jhmdb", videos=3, test_videos=1, frames=(5, 7), size=(96, 72), seed=1
        )
        (folder / "synthetic").mkdir()
        make_dataset(folder / "synthetic" / "jhmdb", options, workers=1)
        os.environ["DETECTRON2_DATASETS"] = str(folder)
        print("| model | processes | kills | inside a checkpoint | tensors | weights |")
        print("|---|---|---|---|---|---|")
        for name in args.models:
            for processes in args.processes:
                rows.append(study(name, processes, args, folder))
                print(rows[-1], flush=True)
    return 0 if all(row.endswith("| equal |") for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
