"""Train and evaluate pose models, with Detectron2's arguments.

  train --config-file configs/UniPose-LSTM/unipose_R101_penn_action.yaml --num-gpus 4
  train --config-file ... --resume SOLVER.MAX_ITER 20000
  evaluate --config-file ... MODEL.WEIGHTS output/model_final.pth

The config is a file, or the name of one in the package or in Detectron2's model zoo.
"""

from __future__ import annotations

import argparse
from typing import Any


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Detectron2's arguments. ``--num-gpus`` counts processes where there is no GPU."""
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE", help="a configuration")
    add("--resume", action="store_true", help="go on from OUTPUT_DIR's last checkpoint")
    add("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS, do not train")
    add("--num-gpus", type=int, default=1, help="of each machine; processes without a GPU")
    add("--num-machines", type=int, default=1, help="machines in all")
    add("--machine-rank", type=int, default=0, help="number of this machine, from 0")
    add("--dist-url", default=_local_url(), metavar="URL", help="where machines meet")
    add(
        "--launcher",
        choices=("auto", "ray"),
        default="auto",
        help="ray: --num-gpus workers of Ray Train; auto: torchrun's, srun's or own processes",
    )
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="configuration keys and values")


def _local_url() -> str:
    """A port of this user's, so that two users of one machine do not meet: as in Detectron2."""
    import os

    user = os.getuid() if hasattr(os, "getuid") else 0
    return f"tcp://127.0.0.1:{2**15 + 2**14 + user % 2**14}"


def main(args: argparse.Namespace) -> dict[str, Any]:
    """Run on one process; returns the evaluation's results."""
    from detectron2.evaluation import verify_results
    from detectron2.utils import comm

    from video_pose.engine.checkpointer import load_model
    from video_pose.engine.defaults import setup
    from video_pose.engine.evaluation import evaluate
    from video_pose.engine.launch import unlock_output
    from video_pose.engine.trainer import PoseTrainer

    cfg = setup(args)
    try:
        if args.eval_only:
            results = evaluate(cfg, load_model(cfg, resume=args.resume))
        else:
            trainer = PoseTrainer(cfg)
            trainer.resume_or_load(resume=args.resume)
            results = trainer.train()
    finally:
        unlock_output(cfg.OUTPUT_DIR)
    if comm.is_main_process() and cfg.TEST.EXPECTED_RESULTS:
        verify_results(cfg, results)
    return results


def run(args: argparse.Namespace) -> int:
    """Start ``main`` on all processes; returns 0, or 130 after an interrupt."""
    from video_pose.engine import launch

    return launch.run(main, args)
