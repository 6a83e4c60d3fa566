#!/usr/bin/env python3
"""Draw what the clip mapper returns: one row a clip, one column a frame, on a contact sheet.

    python tools/visualize_data.py --dataset sub_jhmdb_split1_train --output clips.png
    python tools/visualize_data.py --config-file configs/X.yaml --source test --clips 4

``--source train`` shows augmented crops with the joints of training; ``test`` shows the crops
of inference with the dataset's joints mapped into them, one row per test scale and mirrored copy.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

import video_pose  # noqa: F401  (first: it silences a warning of Detectron2's import)

# isort: split
import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from video_pose.data.build import build_pose_test_loader, build_pose_train_loader
from video_pose.data.joints import match_joints
from video_pose.data.regions import apply_affine, invert_affine
from video_pose.engine.defaults import complete_cfg, get_pose_cfg, merge_config_file
from video_pose.visualization import (
    connection_indices,
    contact_sheet,
    draw_pose,
    label_confidence,
)

_MIN_COLUMNS = 6


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Formatter)
    parser.add_argument("--config-file", default="", help="YAML; default: the bare configuration")
    parser.add_argument(
        "--dataset", default="", help="default: the first of DATASETS.TRAIN or TEST"
    )
    parser.add_argument("--source", choices=("train", "test"), default="train")
    parser.add_argument("--clips", type=int, default=6, help="clips, or chunks of the test loader")
    parser.add_argument("--output", default="visualize_data.png", help="PNG to write")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    return parser.parse_args()


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The module's text as it is, and the default of every option."""


def make_cfg(args: argparse.Namespace) -> CfgNode:
    """The configuration, made to load the wanted dataset in this process, always the same clips."""
    cfg = get_pose_cfg()
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False
    cfg.INPUT.VIEW = "clips"
    if args.config_file:
        merge_config_file(cfg, args.config_file)
    cfg.SEED = 0
    cfg.merge_from_list(args.opts)
    if args.dataset:
        cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = (args.dataset,)
    cfg.SOLVER.IMS_PER_BATCH = 1
    cfg.DATALOADER.NUM_WORKERS = 0
    complete_cfg(cfg)
    return cfg


def train_rows(cfg: CfgNode, clips: int) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
    """Per clip: the mapper's dict, its images (T, 3, H, W) and joints (T, K, 3) in crop px."""
    loader = iter(build_pose_train_loader(cfg))
    for _ in range(clips):
        clip = next(loader)[0]
        yield clip, clip["image"].numpy(), clip["keypoints"].numpy()


def test_rows(cfg: CfgNode, clips: int) -> Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray]]:
    """As :func:`train_rows`, one item per row of each chunk; joints come from the catalog."""
    name = cfg.DATASETS.TEST[0]
    metadata = MetadataCatalog.get(name)
    joints = match_joints(
        metadata.keypoint_names, cfg.MODEL.POSE.JOINTS, metadata.get("derived_joints")
    )
    truth = {(t["video_id"], t["track_id"]): t["keypoints"] for t in DatasetCatalog.get(name)}
    for _, batch in zip(range(clips), build_pose_test_loader(cfg, name), strict=False):
        clip = batch[0]
        images, to_image = clip["image"].numpy(), clip["crop_to_image"].numpy()
        if images.ndim == 4:
            images, to_image = images[None], to_image[None]
        labels = truth[clip["video_id"], clip["track_id"]][clip["frame_indices"].numpy()]
        for row, inverse in zip(images, to_image, strict=True):
            keypoints = np.array(joints.apply(labels), dtype=np.float64)
            for frame, matrix in zip(keypoints, invert_affine(inverse), strict=True):
                frame[:, :2] = apply_affine(matrix, frame[:, :2])
            yield clip, row, keypoints


def main() -> None:
    args = parse_arguments()
    cfg = make_cfg(args)
    name = (cfg.DATASETS.TRAIN if args.source == "train" else cfg.DATASETS.TEST)[0]
    connections = connection_indices(
        cfg.MODEL.POSE.JOINTS, MetadataCatalog.get(name).keypoint_connection_rules
    )
    rows = train_rows(cfg, args.clips) if args.source == "train" else test_rows(cfg, args.clips)
    tiles, titles = [], []
    # Test chunks differ in length; clips of a few frames share a row.
    longest = cfg.INPUT.CLIP.LENGTH if args.source == "train" else cfg.TEST.CHUNK_LENGTH
    for clip, images, keypoints in rows:
        for index, (image, joints) in enumerate(zip(images, keypoints, strict=True)):
            picture = np.ascontiguousarray(image.transpose(1, 2, 0))
            if cfg.INPUT.FORMAT == "RGB":
                picture = picture[:, :, ::-1].copy()
            tiles.append(draw_pose(picture, label_confidence(joints), connections))
            padding = " (padding)" if clip["is_padding"][index] else ""
            titles.append(f"{clip['video_id'][-24:]} {int(clip['frame_indices'][index])}{padding}")
        blank = longest - len(images)
        tiles += [np.full_like(tiles[-1], 64)] * blank
        titles += [""] * blank
    columns = longest * max(1, _MIN_COLUMNS // longest)
    if not cv2.imwrite(args.output, contact_sheet(tiles, columns, titles, max_side=256)):
        raise OSError(f"cannot write {args.output}")
    print(f"{args.clips} clips of {name}: {args.output}")


if __name__ == "__main__":
    main()
