#!/usr/bin/env python3
"""Draw what a model is given and what it says, on a contact sheet.

    python tools/visualize.py clips --config-file configs/X.yaml --output clips.png
    python tools/visualize.py clips --dataset sub_jhmdb_split1_train --source test --count 4
    python tools/visualize.py frames --config-file configs/Mask-RCNN/X.yaml
    python tools/visualize.py frames --config-file configs/Mask-RCNN/X.yaml --source test \\
        MODEL.WEIGHTS output/X/model_final.pth
    python tools/visualize.py predictions output/X/inference/sub_jhmdb_split1_test --order worst

clips        what the clip mapper returns, one row a clip: augmented crops with the joints of
             training, or (--source test) the crops of inference with the dataset's joints mapped
             into them, one row a test scale and mirrored copy
frames       single frames as R-CNNs have them, boxes, masks and joints: augmented, with the
             annotations of training, or (--source test) what the model finds in frames spread
             evenly over the first test dataset
predictions  a run's predictions beside the labels, and an overlay video; --order worst shows the
             worst frame of each source video, worst first, even frames spread over the videos
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import video_pose  # noqa: F401  (first: it silences a warning of Detectron2's import)

# isort: split
import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Instances

from video_pose.data.build import build_pose_test_loader, build_pose_train_loader
from video_pose.data.cropping import apply_affine, invert_affine
from video_pose.data.frame_reader import FrameReader
from video_pose.data.frames import build_frames_test_loader, build_frames_train_loader
from video_pose.engine.checkpointer import load_model
from video_pose.engine.defaults import load_cfg
from video_pose.engine.views import view_of
from video_pose.evaluation.predictions import find_predictions, read_predictions, scoring_facts
from video_pose.evaluation.report import frame_errors, worst_frames
from video_pose.skeleton import match_joints
from video_pose.visualization import (
    connection_indices,
    contact_sheet,
    display_factor,
    draw_pose,
    label_confidence,
    side_by_side,
    write_video,
)

MIN_COLUMNS = 6
BOX_COLOR, MASK_COLOR = (0, 200, 255), (80, 200, 80)
_CACHE_BYTES = 256 * 1024 * 1024

# A clip's dict, its images (T, 3, H, W) and joints (T, K, 3) in crop px.
Rows = Iterator[tuple[dict[str, Any], np.ndarray, np.ndarray]]
# Titles and images uint8 BGR (H, W, 3) with the persons on them.
Frames = Iterator[tuple[str, np.ndarray, Instances]]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    clips = commands.add_parser("clips", help="what the clip mapper returns")
    clips.add_argument("--config-file", default="", help="YAML; default: the bare configuration")
    clips.add_argument("--dataset", help="default: the first of DATASETS.TRAIN or TEST")
    clips.add_argument("--count", type=int, default=6, help="clips, or chunks of test videos (6)")
    frames = commands.add_parser("frames", help="single frames as R-CNNs have them")
    frames.add_argument("--config-file", required=True, help="YAML of an R-CNN")
    frames.add_argument("--count", type=int, default=24, help="frames (24)")
    frames.add_argument("--min-score", type=float, default=0.5, help="of detections drawn (0.5)")
    for command, name in ((clips, "clips.png"), (frames, "frames.png")):
        command.add_argument("--source", choices=("train", "test"), default="train")
        command.add_argument("--output", default=name, help=f"PNG to write ({name})")
        command.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE")
    predictions = commands.add_parser("predictions", help="a run's poses beside the labels")
    predictions.add_argument("run", type=Path, help="as tools/analyze.py takes it")
    predictions.add_argument("--dataset", help="where the run was evaluated on several")
    predictions.add_argument("--count", type=int, default=24, help="frames on the sheet (24)")
    predictions.add_argument("--order", choices=("even", "worst"), default="even")
    predictions.add_argument("--videos", type=int, default=4, help="in the overlay; 0: none (4)")
    predictions.add_argument("--fps", type=float, default=12.0, help="of the overlay (12)")
    predictions.add_argument("--output", type=Path, help="folder (default: that of the run)")
    return parser.parse_args(arguments)


def make_cfg(args: argparse.Namespace, view: str) -> CfgNode:
    """The configuration, made to load one item at a time in this process, always the same ones."""
    name = getattr(args, "dataset", None)
    dataset = ["DATASETS.TRAIN", (name,), "DATASETS.TEST", (name,)] if name else []
    fixed = ["INPUT.VIEW", view, "SOLVER.IMS_PER_BATCH", 1, "DATALOADER.NUM_WORKERS", 0]
    return load_cfg(
        args.config_file,
        ["SEED", 0, *args.opts, *dataset, *fixed],
        first=["DATALOADER.ASPECT_RATIO_GROUPING", False],
    )


def first_dataset(cfg: CfgNode, source: str) -> str:
    """The dataset that the sheet shows."""
    return (cfg.DATASETS.TRAIN if source == "train" else cfg.DATASETS.TEST)[0]


def training_clips(cfg: CfgNode, count: int) -> Rows:
    """Augmented clips with the joints that losses see."""
    for batch in itertools.islice(build_pose_train_loader(cfg), count):
        yield batch[0], batch[0]["image"].numpy(), batch[0]["keypoints"].numpy()


def test_clips(cfg: CfgNode, count: int) -> Rows:
    """One item for each row of each chunk; joints come from the catalog."""
    name = cfg.DATASETS.TEST[0]
    metadata = MetadataCatalog.get(name)
    joints = match_joints(
        metadata.keypoint_names, cfg.MODEL.POSE.JOINTS, metadata.get("derived_joints")
    )
    truth = {(t["video_id"], t["track_id"]): t["keypoints"] for t in DatasetCatalog.get(name)}
    for batch in itertools.islice(build_pose_test_loader(cfg, name), count):
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


def clips_sheet(args: argparse.Namespace) -> str:
    """Write the sheet of clips; returns a line about it."""
    cfg = make_cfg(args, "clips")
    name = first_dataset(cfg, args.source)
    connections = connection_indices(
        cfg.MODEL.POSE.JOINTS, MetadataCatalog.get(name).keypoint_connection_rules
    )
    train = args.source == "train"
    tiles: list[np.ndarray] = []
    titles: list[str] = []
    # Test chunks differ in length; clips of a few frames share a row.
    longest = cfg.INPUT.CLIP.LENGTH if train else cfg.TEST.CHUNK_LENGTH
    for clip, images, keypoints in (training_clips if train else test_clips)(cfg, args.count):
        for index, (image, joints) in enumerate(zip(images, keypoints, strict=True)):
            picture = to_bgr(image, cfg)
            tiles.append(draw_pose(picture, label_confidence(joints), connections))
            padding = " (padding)" if clip["is_padding"][index] else ""
            titles.append(f"{clip['video_id'][-24:]} {int(clip['frame_indices'][index])}{padding}")
        blank = longest - len(images)
        tiles += [np.full_like(tiles[-1], 64)] * blank
        titles += [""] * blank
    columns = longest * max(1, MIN_COLUMNS // longest)
    write_picture(args.output, contact_sheet(tiles, columns, titles, max_side=256))
    return f"{args.count} clips of {name}: {args.output}"


def training_frames(cfg: CfgNode, count: int) -> Frames:
    """Augmented frames with the annotations that losses see."""
    for batch in itertools.islice(build_frames_train_loader(cfg), count):
        image = to_bgr(batch[0]["image"].numpy(), cfg)
        yield title_of(batch[0]), image, batch[0]["instances"]


def detected_frames(cfg: CfgNode, count: int, min_score: float) -> Frames:
    """Frames spread evenly over the first test dataset, with what the model finds there."""
    model = load_model(cfg, untrained=True)
    model = view_of(cfg).tested(cfg, model.eval()).eval()
    dataset = build_frames_test_loader(cfg, cfg.DATASETS.TEST[0]).dataset
    for index in np.linspace(0, len(dataset) - 1, min(count, len(dataset))).round().astype(int):
        frame = dataset[int(index)]
        # Results in the pixels of the picture drawn, not of the original image.
        size = dict(zip(("height", "width"), frame["image"].shape[1:]))
        with torch.no_grad():
            found = model([{**frame, **size}])[0]["instances"].to("cpu")
        image = to_bgr(frame["image"].numpy(), cfg)
        yield title_of(frame), image, found[found.scores >= min_score]


def title_of(frame: dict[str, Any]) -> str:
    """Where a frame is from."""
    if "video_id" in frame:
        return f"{frame['video_id'][-28:]} {frame['frame_index']}"
    return str(frame.get("file_name", "four in one"))[-32:]


def to_bgr(image: np.ndarray, cfg: CfgNode) -> np.ndarray:
    """(C, H, W) in INPUT.FORMAT -> (H, W, 3) BGR."""
    picture = image.transpose(1, 2, 0)
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


def frames_sheet(args: argparse.Namespace) -> str:
    """Write the sheet of single frames; returns a line about it."""
    cfg = make_cfg(args, "frames")
    metadata = MetadataCatalog.get(first_dataset(cfg, args.source))
    joints = list(cfg.MODEL.POSE.JOINTS) if cfg.MODEL.KEYPOINT_ON else []
    lines = connection_indices(joints, metadata.get("keypoint_connection_rules", []))
    frames = (
        training_frames(cfg, args.count)
        if args.source == "train"
        else detected_frames(cfg, args.count, args.min_score)
    )
    titles, pictures = [], []
    for title, picture, persons in frames:
        titles.append(title)
        pictures.append(draw(picture, persons, lines))
    write_picture(args.output, contact_sheet(pictures, MIN_COLUMNS, titles, max_side=320))
    return f"{len(pictures)} frames: {args.output}"


class Pictures:
    """Frames of a predictions file with both poses drawn."""

    def __init__(self, stored: dict[str, np.ndarray]) -> None:
        self.stored = stored
        name = str(stored["dataset_name"])
        joints = [str(joint) for joint in stored["joint_names"]]
        rules = MetadataCatalog.get(name).keypoint_connection_rules
        self._connections = connection_indices(joints, rules)
        self._tracks = {(t["video_id"], t["track_id"]): t for t in DatasetCatalog.get(name)}
        self._reader = FrameReader(_CACHE_BYTES, "BGR")

    def draw(self, row: int) -> np.ndarray:
        """Labels and prediction of one row of the file, side by side."""
        video, track = str(self.stored["video_ids"][row]), str(self.stored["track_ids"][row])
        frame = int(self.stored["frame_indices"][row])
        image = self._reader.read(self._tracks[video, track], [frame])[0]
        return side_by_side(
            image,
            self.stored["ground_truth"][row],
            np.nan_to_num(self.stored["predictions"][row]),
            self._connections,
            self.stored["boxes"][row],
            (f"label {video} {frame}", "prediction"),
        )


def chosen_rows(stored: dict[str, np.ndarray], count: int, order: str) -> Sequence[int]:
    """Rows to show: spread evenly, or the worst by mean distance over the box's longer side."""
    if order == "even":
        total = len(stored["frame_indices"])
        return np.unique(np.linspace(0, total - 1, min(count, total)).astype(int)).tolist()
    errors = frame_errors(stored, "bbox", scoring_facts(stored)["pck_min_visibility"])
    return worst_frames(errors, stored["source_videos"], count)


def video_frames(pictures: Pictures, videos: int) -> Iterator[np.ndarray]:
    """All rows of some videos, spread over the dataset, on a canvas of the first one's size."""
    names = list(dict.fromkeys(pictures.stored["video_ids"].tolist()))
    picked = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, videos).astype(int))]
    size = None
    for name in picked:
        for row in np.flatnonzero(pictures.stored["video_ids"] == name):
            picture = pictures.draw(row)
            size = size or (picture.shape[1], picture.shape[0])
            same = (picture.shape[1], picture.shape[0]) == size
            yield picture if same else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def predictions_sheet(args: argparse.Namespace) -> str:
    """Write sheet and overlay video; returns a line about each."""
    file = find_predictions(args.run, args.dataset)
    stored = read_predictions(file)
    folder = args.output or file.parent
    folder.mkdir(parents=True, exist_ok=True)
    pictures = Pictures(stored)
    rows = chosen_rows(stored, args.count, args.order)
    sheet = folder / f"contact_sheet_{args.order}.png"
    write_picture(str(sheet), contact_sheet([pictures.draw(row) for row in rows], columns=3))
    lines = [f"contact sheet: {sheet}"]
    if args.videos > 0:
        overlay = folder / "overlay.mp4"
        codec = write_video(overlay, video_frames(pictures, args.videos), args.fps)
        lines.append(f"overlay video ({codec}): {overlay}")
    return "\n".join(lines)


def write_picture(path: str, picture: np.ndarray) -> None:
    """Raises OSError where the file cannot be written."""
    if not cv2.imwrite(path, picture):
        raise OSError(f"cannot write {path}")


COMMANDS = {"clips": clips_sheet, "frames": frames_sheet, "predictions": predictions_sheet}


def main(arguments: list[str] | None = None) -> None:
    """Draw, and print the path of each picture; a missing file ends the program with one line."""
    args = parse_arguments(arguments)
    try:
        print(COMMANDS[args.command](args))
    except (OSError, ValueError) as error:
        sys.exit(f"visualize {args.command}: {error}")


if __name__ == "__main__":
    main()
