#!/usr/bin/env python3
"""From nothing to a measured UniPose-LSTM: data, training, evaluation, pictures.

Runs three ordinary commands, each printed before it runs. What is there already is reused: the
dataset where it was made with the same arguments, the training from its last checkpoint.
"""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

CONFIG = "configs/quickstart/unipose_lstm_R18_synthetic_jhmdb.yaml"
DATASET = "synthetic_jhmdb_test"
# Videos for training and for testing; iterations. The short form only shows that everything runs.
FULL = {"videos": 320, "test_videos": 40}
SHORT = {"videos": 24, "test_videos": 8}
SHORT_ITERATIONS = 30


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="output/quickstart", help="folder of the run")
    parser.add_argument("--config-file", default=CONFIG)
    parser.add_argument(
        "--short", action="store_true", help="few videos and iterations: no figure worth reading"
    )
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="for train_net")
    return parser.parse_args()


def commands(args: argparse.Namespace, root: Path) -> list[list[str]]:
    """The commands, with paths relative to the project where they lie in it."""
    size = SHORT if args.short else FULL
    data = root / "synthetic" / "jhmdb"
    opts = list(args.opts)
    if args.short:
        opts += ["SOLVER.MAX_ITER", str(SHORT_ITERATIONS)]
    make = ["tools/make_synthetic.py", "--format", "jhmdb", "--output", str(data)]
    make += ["--videos", str(size["videos"]), "--test-videos", str(size["test_videos"])]
    make += ["--frames", "12", "16", "--size", "240", "180", "--seed", "1"]
    train = ["train_net.py", "--config-file", args.config_file, "--resume"]
    train += ["OUTPUT_DIR", args.output, *opts]
    draw = ["tools/visualize.py", "predictions", f"{args.output}/inference/{DATASET}"]
    return [make, train, draw]


def run(command: list[str], environment: dict[str, str]) -> None:
    """Show and run one Python command of the project; its failure ends the program."""
    shown = shlex.join(["python", *command])
    print(f"\n$ DETECTRON2_DATASETS={environment['DETECTRON2_DATASETS']} {shown}", flush=True)
    started = time.monotonic()
    code = subprocess.run([sys.executable, *command], env=environment, check=False).returncode
    if code:
        sys.exit(f"quickstart: `{shown}` ended with status {code}")
    print(f"  ({time.monotonic() - started:.0f} s)", flush=True)


def main() -> None:
    """Run all commands in the project's folder, then print the table and where everything is."""
    args = parse_args()
    os.chdir(Path(__file__).resolve().parent.parent)
    if args.short and args.output == "output/quickstart":
        args.output = "output/quickstart_short"
    root = Path("datasets/quickstart_short" if args.short else "datasets/quickstart")
    # The user's own DETECTRON2_DATASETS may be a read-only share: the small dataset stays here.
    environment = {**os.environ, "DETECTRON2_DATASETS": str(root)}
    for command in commands(args, root):
        run(command, environment)
    folder = Path(args.output) / "inference" / DATASET
    print(f"\n{(folder / 'pck.txt').read_text(encoding='utf-8')}")
    print("model:        ", Path(args.output) / "model_final.pth")
    print("table:        ", folder / "pck.txt")
    print("contact sheet:", folder / "contact_sheet_even.png")
    print("overlay video:", folder / "overlay.mp4")
    if args.short:
        print(f"--short: {SHORT_ITERATIONS} iterations only show that everything runs")


if __name__ == "__main__":
    main()
