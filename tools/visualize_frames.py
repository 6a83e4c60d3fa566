#!/usr/bin/env python3
"""Draw single frames as R-CNNs have them, boxes, masks and joints, on a contact sheet.

    python tools/visualize_frames.py --config-file configs/Mask-RCNN/X.yaml
    python tools/visualize_frames.py --config-file configs/Mask-RCNN/X.yaml --source test \\
        MODEL.WEIGHTS output/X/model_final.pth

``--source train`` shows augmented frames with the annotations of training; ``test`` what the model
finds in frames spread evenly over the first test dataset.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from typing import Any

import video_pose  # noqa: F401  (first: it silences a warning of Detectron2's import)

# isort: split
import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import Instances

from video_pose.data.frames_build import build_frames_test_loader, build_frames_train_loader
from video_pose.engine.checkpointer import PoseCheckpointer
from video_pose.engine.defaults import complete_cfg, get_pose_cfg, merge_config_file
from video_pose.engine.views import view_of
from video_pose.visualization import connection_indices, contact_sheet, display_factor, draw_pose

COLUMNS, SIDE = 6, 320
BOX_COLOR, MASK_COLOR = (0, 200, 255), (80, 200, 80)

# Images uint8 BGR (H, W, 3) with the persons on them.
Frames = Iterator[tuple[str, np.ndarray, Instances]]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True, help="YAML of an R-CNN")
    parser.add_argument("--source", choices=("train", "test"), default="train")
    parser.add_argument("--frames", type=int, default=24, help="how many (24)")
    parser.add_argument("--min-score", type=float, default=0.5, help="of detections drawn (0.5)")
    parser.add_argument("--output", default="visualize_frames.png", help="PNG to write")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    return parser.parse_args(arguments)


def make_cfg(args: argparse.Namespace) -> CfgNode:
    """The configuration, made to load single frames in this process."""
    cfg = get_pose_cfg()
    merge_config_file(cfg, args.config_file)
    cfg.merge_from_list(args.opts)
    cfg.INPUT.VIEW = "frames"
    cfg.SOLVER.IMS_PER_BATCH, cfg.DATALOADER.NUM_WORKERS = 1, 0
    complete_cfg(cfg)
    return cfg


def training_frames(cfg: CfgNode, count: int) -> Frames:
    """Augmented frames with the annotations that losses see."""
    for batch in itertools.islice(build_frames_train_loader(cfg), count):
        yield title_of(batch[0]), to_bgr(batch[0]["image"], cfg), batch[0]["instances"]


def detected_frames(cfg: CfgNode, count: int, min_score: float) -> Frames:
    """Frames spread evenly over the first test dataset, with what the model finds there."""
    model = build_model(cfg)
    PoseCheckpointer(model).load(cfg.MODEL.WEIGHTS)
    model = view_of(cfg).tested(cfg, model.eval()).eval()
    dataset = build_frames_test_loader(cfg, cfg.DATASETS.TEST[0]).dataset
    for index in np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int):
        frame = dataset[int(index)]
        # Results in the pixels of the picture drawn, not of the original image.
        size = dict(zip(("height", "width"), frame["image"].shape[1:]))
        with torch.no_grad():
            found = model([{**frame, **size}])[0]["instances"].to("cpu")
        yield title_of(frame), to_bgr(frame["image"], cfg), found[found.scores >= min_score]


def title_of(frame: dict[str, Any]) -> str:
    """Where a frame is from."""
    if "video_id" in frame:
        return f"{frame['video_id'][-28:]} {frame['frame_index']}"
    return str(frame.get("file_name", "four in one"))[-32:]


def to_bgr(image: torch.Tensor, cfg: CfgNode) -> np.ndarray:
    """(C, H, W) in INPUT.FORMAT -> (H, W, 3) BGR."""
    picture = image.permute(1, 2, 0).numpy()
    return np.ascontiguousarray(picture[..., ::-1] if cfg.INPUT.FORMAT == "RGB" else picture)


def draw(picture: np.ndarray, persons: Instances, connections: list[Any]) -> np.ndarray:
    """Masks, then boxes with their scores, then poses; of annotations or of detections."""
    given = persons.get_fields()
    boxes = given.get("gt_boxes", given.get("pred_boxes")).tensor
    masks = given["gt_masks"].tensor if "gt_masks" in given else given.get("pred_masks", [])
    poses = given["gt_keypoints"].tensor if "gt_keypoints" in given else None
    poses = given.get("pred_keypoints", poses)
    for mask in masks:
        picture[mask.numpy()] = (picture[mask.numpy()] // 2) + np.array(MASK_COLOR) // 2
    # As `draw_pose` would for the first pose.
    factor = display_factor(picture.shape[:2])
    picture = cv2.resize(picture, None, fx=factor, fy=factor)
    for row, (x1, y1, x2, y2) in enumerate((boxes * factor).round().int().tolist()):
        cv2.rectangle(picture, (x1, y1), (x2, y2), BOX_COLOR, 2)
        if "scores" in given:
            text = f"{float(given['scores'][row]):.2f}"
            cv2.putText(picture, text, (x1 + 4, y1 + 20), 0, 0.6, BOX_COLOR, 2, cv2.LINE_AA)
    for pose in [] if poses is None else poses.numpy():
        # Joints of annotations carry v, those of detections a score: draw all that exist.
        shown = np.concatenate([pose[:, :2] * factor, pose[:, 2:] > 0], axis=1)
        picture = draw_pose(picture, shown, connections)
    return picture


def main(arguments: list[str] | None = None) -> None:
    """Write the sheet and say where it is."""
    args = parse_arguments(arguments)
    cfg = make_cfg(args)
    train = args.source == "train"
    metadata = MetadataCatalog.get((cfg.DATASETS.TRAIN if train else cfg.DATASETS.TEST)[0])
    joints = list(cfg.MODEL.POSE.JOINTS) if cfg.MODEL.KEYPOINT_ON else []
    lines = connection_indices(joints, metadata.get("keypoint_connection_rules", []))
    frames = (
        training_frames(cfg, args.frames)
        if train
        else detected_frames(cfg, args.frames, args.min_score)
    )
    titles, pictures = [], []
    for title, picture, persons in frames:
        titles.append(title)
        pictures.append(draw(picture, persons, lines))
    if not cv2.imwrite(args.output, contact_sheet(pictures, COLUMNS, titles, max_side=SIDE)):
        raise OSError(f"cannot write {args.output}")
    print(f"{len(pictures)} frames: {args.output}")


if __name__ == "__main__":
    main()
