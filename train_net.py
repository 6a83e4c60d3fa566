#!/usr/bin/env python3
"""Train and evaluate pose models, with Detectron2's command line.

python train_net.py --config-file configs/UniPose-LSTM/unipose_R101_penn_action.yaml --num-gpus 4
python train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/model_final.pth
python train_net.py --config-file ... --resume SOLVER.MAX_ITER 20000
"""

from __future__ import annotations

import sys
from argparse import Namespace
from typing import Any

import video_pose  # noqa: F401  (first: it silences a warning of Detectron2's import)

# isort: split
from detectron2.engine import default_argument_parser, launch
from detectron2.evaluation import verify_results
from detectron2.modeling import build_model
from detectron2.utils import comm
from torch.multiprocessing import ProcessRaisedException

from video_pose.engine.checkpointer import load_for_evaluation
from video_pose.engine.defaults import setup
from video_pose.engine.evaluation import evaluate
from video_pose.engine.trainer import PoseTrainer


def main(args: Namespace) -> dict[str, Any]:
    """Run on one process; returns the evaluation's results."""
    cfg = setup(args)
    if args.eval_only:
        model = build_model(cfg)
        load_for_evaluation(model, cfg, resume=args.resume)
        results = evaluate(cfg, model)
    else:
        trainer = PoseTrainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        results = trainer.train()
    if comm.is_main_process() and cfg.TEST.EXPECTED_RESULTS:
        verify_results(cfg, results)
    return results


def parse_args() -> Namespace:
    """Detectron2's arguments. ``--num-gpus`` counts processes where there is no GPU."""
    return default_argument_parser(epilog=__doc__).parse_args()


if __name__ == "__main__":
    arguments = parse_args()
    try:
        launch(
            main,
            arguments.num_gpus,
            num_machines=arguments.num_machines,
            machine_rank=arguments.machine_rank,
            dist_url=arguments.dist_url,
            args=(arguments,),
        )
    except KeyboardInterrupt:
        sys.exit(130)
    except (
        ProcessRaisedException
    ) as error:  # one of several processes; its text ends with the cause
        if not str(error).rstrip().endswith("KeyboardInterrupt"):
            raise
        sys.exit(130)
