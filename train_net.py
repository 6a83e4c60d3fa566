#!/usr/bin/env python3
"""``video-pose train`` for those who know Detectron2's scripts: the same arguments and functions.

python train_net.py --config-file configs/UniPose-LSTM/unipose_R101_penn_action.yaml --num-gpus 4
python train_net.py --config-file ... --eval-only MODEL.WEIGHTS output/model_final.pth
"""

from __future__ import annotations

import sys

REGISTERS_ITSELF = True  # read by video_pose: --help comes before anything heavy is imported

from video_pose.cli.main import run_verb  # noqa: E402
from video_pose.cli.train import main  # noqa: E402

__all__ = ["main"]

if __name__ == "__main__":
    sys.exit(run_verb("train", sys.argv[1:], prog="train_net.py"))
