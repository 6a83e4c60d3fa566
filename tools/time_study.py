#!/usr/bin/env python3
"""What does memory add? Train UniPose-LSTM's recurrent part on the maps of a frozen encoder.

python tools/time_study.py --output output/time_study \\
    --config-file configs/UniPose-LSTM/unipose_lstm_R50_res4_sub_jhmdb_split1.yaml \\
    --encoder output/unipose_R50_res4_sub_jhmdb_split1_lspet/model_final.pth

The encoder (an image model, UniPose) runs once over each frame: --views times over the training
clips, under one fixed augmentation each, the first without any. Then each training takes minutes:
clips of T frames (--lengths) in the first of --forms, the other forms at --other-forms-at frames,
all with as many frames a step and as many steps. Each starts from a training of the same form on
single frames, as long (so that T = 1 goes on with what it did), and is tested with its state
carried over whole videos and dropped every n frames (--resets; 0 carries). A second call reads what
is there, and refuses what was made with another encoder, configuration, data folder, or number of
views, steps or frames a step.

Forms: "residual" and "paper" read the previous frame's maps, with and without the decoder's maps
added to the result; "released" is the released graph.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

if str(Path(__file__).resolve().parent) not in sys.path:
    sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "projects"))

import video_pose  # noqa: E402, F401  (first: it silences a warning of Detectron2's import)

# isort: split
import torch  # noqa: E402
from detectron2.config import CfgNode  # noqa: E402
from detectron2.utils.logger import setup_logger  # noqa: E402
from frozen_encoder import results, study  # noqa: E402
from frozen_encoder.cache import MapCache  # noqa: E402

from video_pose.engine.defaults import complete_cfg, get_pose_cfg, merge_config_file  # noqa: E402


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="of UniPose-LSTM")
    parser.add_argument("--encoder", required=True, help="weights of the image model")
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6])
    parser.add_argument("--forms", nargs="+", default=["residual", "paper", "released"])
    parser.add_argument("--other-forms-at", type=int, default=5, metavar="T")
    parser.add_argument("--resets", type=int, nargs="+", default=[0, 5])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--steps", type=int, default=600, help="of each training")
    parser.add_argument("--frames-per-step", type=int, default=60)
    parser.add_argument("--protocols", nargs="+", default=["torso", "bbox"])
    parser.add_argument("--plot", type=Path, help="PNG; default: OUTPUT/time.png")
    parser.add_argument(
        "--opts", nargs="*", default=[], help="configuration keys and values, as DATASETS.TEST"
    )
    return parser.parse_args(arguments)


def build_config(args: argparse.Namespace) -> CfgNode:
    """The recurrent model's configuration with the study's own settings."""
    cfg = get_pose_cfg()
    merge_config_file(cfg, args.config_file)
    cfg.SOLVER.MAX_ITER = args.steps
    cfg.SOLVER.CHECKPOINT_PERIOD = args.steps
    cfg.TEST.EVALUATORS = ("pck",)
    cfg.MODEL.WEIGHTS = args.encoder
    cfg.merge_from_list(args.opts)
    complete_cfg(cfg)
    cfg.freeze()
    return cfg


def encoder_config(cfg: CfgNode) -> CfgNode:
    """The image model's configuration."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.META_ARCHITECTURE = "UniPose"
    cfg.freeze()
    return cfg


def main(arguments: list[str] | None = None) -> str:
    """Run everything that is not there yet; returns and writes the table."""
    args = parse_arguments(arguments)
    cfg = build_config(args)
    setup_logger(str(args.output), name="video_pose")
    train, test = study.require_datasets(cfg)
    settings = {
        "--views": args.views,
        "--steps": args.steps,
        "--frames-per-step": args.frames_per_step,
    }
    study.require_same_study(cfg, args.output, settings)
    runs = study.plan_runs(args.forms, args.lengths, args.resets, args.other_forms_at, args.seeds)
    started = time.monotonic()
    cache = MapCache(encoder_config(cfg), args.output / "maps")
    views = [cache.train(train, view) for view in range(args.views)]
    study.register_view(views, cache.test(test), cfg)
    print(f"maps of {args.views} views and the test: {time.monotonic() - started:.0f} s")
    rows = [results.Row(results.FRAME_BY_FRAME, 1, 0, 0, study.test_encoder(cfg, args.output))]
    for run in runs:
        started = time.monotonic()
        for reset, folder in study.train_and_test(cfg, run, args.output, args.frames_per_step):
            rows.append(results.Row(run.form, run.frames, run.seed, reset, folder))
        print(f"{run.name}: {time.monotonic() - started:.0f} s")
    figures = {protocol: results.measure(rows, protocol) for protocol in args.protocols}
    text = results.table(rows, figures)
    text += (
        f"\n\n{train} to {test}, frozen encoder {args.encoder}, {args.views} views, {args.steps} "
        f"steps of about {args.frames_per_step} frames; intervals over source videos, differences "
        f"paired; {torch.get_num_threads()} threads."
    )
    (args.output / "time.md").write_text(text + "\n", encoding="utf-8")
    first = args.protocols[0]
    results.plot(rows, figures[first], first, args.plot or args.output / "time.png")
    print(text)
    return text


if __name__ == "__main__":
    try:
        main()
    except (ValueError, KeyError, FileNotFoundError) as error:
        sys.exit(f"time_study: {error.args[0] if isinstance(error, KeyError) else error}")
