#!/usr/bin/env python3
"""Measure the frames view: frames/s of the loader, milliseconds a frame of the evaluators.

python tools/benchmark_frames.py --datasets sub_jhmdb_split1_test synthetic_jhmdb_test

Frames come in random order, as in training (JHMDB's are in AVIs, the synthetic ones in PNGs unless
made with --frames-as avi). Evaluators get the true poses, as predictions of one person a track;
scoring is what they do once, at the end.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "projects"))

import video_pose  # noqa: E402,F401  (first: it silences a warning of Detectron2's import)

# isort: split
import numpy as np  # noqa: E402
import torch  # noqa: E402
from detectron2.data import DatasetCatalog, MetadataCatalog  # noqa: E402
from detectron2.structures import Boxes, Instances  # noqa: E402
from tabulate import tabulate  # noqa: E402

from video_pose.data.frame_reader import FrameReader  # noqa: E402
from video_pose.data.frames_mapper import FrameMapper  # noqa: E402
from video_pose.evaluation.coco import FrameCOCOEvaluator  # noqa: E402
from video_pose.evaluation.pck_evaluator import (
    FramePCKEvaluator,  # noqa: E402
    PCKEvaluator,  # noqa: E402
)


def loader_speed(frames: list[dict], count: int, cache_bytes: int) -> float:
    """Frames a second of one worker, without augmentation."""
    mapper = FrameMapper(
        False,
        reader=FrameReader(cache_bytes, "BGR"),
        joint_maps={},
        augmentations=[],
        image_format="BGR",
    )
    order = np.random.default_rng(0).integers(0, len(frames), count)
    started = time.perf_counter()
    for index in order:
        mapper(frames[index])
    return count / (time.perf_counter() - started)


def true_poses(frame: dict, joints: int) -> Instances:
    """The labelled persons of a frame, as if a model had found them."""
    people = frame["annotations"]
    keypoints = np.array([item["keypoints"] for item in people]).reshape(-1, joints, 3)
    return Instances(
        (frame["height"], frame["width"]),
        pred_boxes=Boxes(torch.tensor([item["bbox"] for item in people]).reshape(-1, 4)),
        pred_keypoints=torch.as_tensor(keypoints, dtype=torch.float32),
        scores=torch.ones(len(people)),
        pred_classes=torch.zeros(len(people), dtype=torch.int64),
    )


def evaluator_times(dataset: str, frames: list[dict]) -> dict[str, tuple[float, float]]:
    """Evaluator -> ms a frame of collecting, and of scoring at the end."""
    names = MetadataCatalog.get(dataset).keypoint_names
    inner = PCKEvaluator(dataset, names, distributed=False)
    evaluators = {
        "PCK": FramePCKEvaluator(inner, dataset, "overlap"),
        "COCO": FrameCOCOEvaluator(dataset, names, ["bbox", "keypoints"], distributed=False),
    }
    outputs = [{"instances": true_poses(frame, len(names))} for frame in frames]
    times = {}
    for label, evaluator in evaluators.items():
        evaluator.reset()
        started = time.perf_counter()
        for frame, output in zip(frames, outputs):
            evaluator.process([frame], [output])
        collected = time.perf_counter()
        evaluator.evaluate()
        parts = collected - started, time.perf_counter() - collected
        times[label] = (1000 * parts[0] / len(frames), 1000 * parts[1] / len(frames))
    return times


def main() -> None:
    """Print one row a dataset."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--datasets", nargs="+", required=True, help="video datasets")
    parser.add_argument("--count", type=int, default=1000, help="frames to load")
    parser.add_argument("--cache-mb", type=int, default=256, help="INPUT.FRAME_CACHE_BYTES")
    args = parser.parse_args()
    rows = []
    for dataset in args.datasets:
        frames = DatasetCatalog.get(dataset + "_frames")
        kind = "video" if "frame_number" in frames[0] else "images"
        speed = loader_speed(frames, args.count, args.cache_mb << 20)
        uncached = loader_speed(frames, args.count, 0)
        times = evaluator_times(dataset, frames)
        costs = [f"{a:.2f} + {b:.2f}" for a, b in times.values()]
        rows.append([dataset, kind, len(frames), f"{speed:.0f}", f"{uncached:.0f}", *costs])
    headers = [
        "dataset", "frames from", "frames", "frames/s", "without cache",
        "PCK ms/frame (collect + score)", "COCO ms/frame",
    ]  # fmt: skip
    print(tabulate(rows, headers, tablefmt="pipe", disable_numparse=True))


if __name__ == "__main__":
    main()
