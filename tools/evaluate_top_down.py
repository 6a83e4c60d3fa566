#!/usr/bin/env python3
"""AP of poses in a detector's boxes, on pictures annotated in COCO's format.

python tools/evaluate_top_down.py --json-file person_keypoints_val.json --image-root val \\
    [--config-file POSE.yaml] [--detector DETECTOR.yaml] [KEY VALUE ...]

Without a config the package's models. A person's score is that of the detection times that of the
pose (the mean of the better half of its joints); of two poses with an OKS of ``--same-pose`` and
more the one of less score is left out of the poses' AP; crowds are ignored, as COCO does. Prints AP
of boxes and keypoints.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import video_pose  # noqa: F401  (first: it silences a warning of Detectron2's import)

# isort: split
import cv2
import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from video_pose.backends.detector import accelerate
from video_pose.backends.pose import build_backend
from video_pose.data.clip_mapper import build_pose_mapper
from video_pose.inference.detected_people import pairwise_oks
from video_pose.inference.people import Person
from video_pose.inference.predictor import load_cfg, load_model
from video_pose.inference.rcnn import PersonRCNN
from video_pose.inference.streaming import FrameCropper, center_maps
from video_pose.modeling.heatmaps import decode_rows, pose_scores
from video_pose.modeling.video_pose_net import VideoPoseNet
from video_pose.packaged import default_detector, default_model
from video_pose.skeleton import infer_sigmas, match_joints

METRICS = ("AP", "AP50", "AP75")
# Two boxes of one person overlap less than the detector's suppression asks; their poses agree.
SAME_POSE = 0.9
SAME_POSE_HELP = f"from which on two poses are one person's (default {SAME_POSE}; above 1: none)"


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Command line of this tool."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--json-file", required=True, metavar="FILE", help="annotations")
    add("--image-root", required=True, metavar="FOLDER", help="of the annotations' file names")
    add("--config-file", metavar="FILE", help="of the pose model (default: the package's)")
    add("--detector", metavar="FILE", help="config of the detector (default: the package's)")
    add("--min-score", type=float, default=0.05, help="of a detection (default 0.05)")
    add("--same-pose", type=float, default=SAME_POSE, metavar="OKS", help=SAME_POSE_HELP)
    add("--as-video", action="store_true", help="one look at each, as at a video's frames")
    add("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="keys of the pose model")
    return parser.parse_args(argv)


class TopDown:
    """A detector and a pose model, which see pictures as photos, or as videos' first frames."""

    def __init__(self, args: argparse.Namespace) -> None:
        options: list[object] = list(args.opts)
        if args.config_file is None:
            args.config_file, weights = default_model()
            options = ["MODEL.WEIGHTS", weights, *options]
        cfg = load_cfg(args.config_file, options)
        model = cast(VideoPoseNet, load_model(cfg))
        self._backend = build_backend(cfg, model)
        self._cropper = FrameCropper(build_pose_mapper(cfg, False), stills=not args.as_video)
        self._detector = _load_detector(args)
        self.joint_names = self._backend.joint_names

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """uint8 (H, W, 3) BGR -> boxes (P, 4), detections' scores (P,), joints (P, K, 3)."""
        boxes, scores = self._detector(image)
        if len(boxes) == 0:
            return boxes, scores, np.zeros((0, len(self.joint_names), 3))
        people = [Person(number, box, box) for number, box in enumerate(boxes)]
        crops = self._cropper(image, people)
        backend, shape = self._backend, crops.images.shape[:2]
        with backend.autocast():
            pictures, features = backend.encode(crops.images.flatten(0, 1))
            centers = center_maps(backend, crops.centers, self._cropper.crop_size).flatten(0, 1)
            state = backend.begin(pictures, features)
            heatmaps = backend.advance(features, centers, state)[0].float()
        poses = decode_rows(
            torch.unflatten(heatmaps, 0, shape),
            crops.crop_to_image.to(heatmaps.device),
            codec=backend.codec,
            swap=backend.flip_channels,
            flipped=crops.flipped,
            image_size=(image.shape[0], image.shape[1]),
        )
        return boxes, scores, poses.cpu().numpy()


def _load_detector(args: argparse.Namespace) -> PersonRCNN:
    options: list[object] = []
    if args.detector is None:
        packaged = default_detector()
        if packaged is None:
            raise ValueError("no detector ships with this version: name one by --detector")
        args.detector, options = packaged.config, ["MODEL.WEIGHTS", packaged.weights]
    cfg = load_cfg(args.detector, options)
    detector = PersonRCNN.from_cfg(cfg, load_model(cfg), args.min_score)
    accelerate(cfg, detector.model)  # as `train_net.py --eval-only` computes it
    if cfg.TEST.AUG.STILLS and not args.as_video:
        detector.augment(cfg)
    return detector


def first_poses(
    poses: np.ndarray, scores: np.ndarray, sigmas: np.ndarray, same: float
) -> list[bool]:
    """Which of poses (P, K, 3) no kept one of more score (P,) resembles by an OKS of ``same``."""
    similar = pairwise_oks(poses, poses, sigmas) >= same
    first = np.zeros(len(poses), bool)
    for number in np.argsort(-scores, kind="stable"):
        first[number] = not (similar[number] & first).any()
    return first.tolist()


def find_people(
    model: TopDown, truth: COCO, image_root: Path, same_pose: float = SAME_POSE
) -> list[dict[str, Any]]:
    """Everybody found in the pictures of ``truth``, in COCO's format of results, and ``first``, as
    `first_poses`.

    Raises:
        FileNotFoundError: a picture is missing.
        KeyError: a joint of the annotations that the model's joints do not give.
    """
    category = next(c for c in truth.loadCats(truth.getCatIds()) if c.get("keypoints"))
    joint_map = match_joints(model.joint_names, category["keypoints"])
    sigmas = np.asarray(infer_sigmas(category["keypoints"]))
    results = []
    for number, record in enumerate(truth.loadImgs(sorted(truth.getImgIds()))):
        path = image_root / record["file_name"]
        image = cv2.imread(str(path))
        if image is None:
            raise FileNotFoundError(f"{path}: no such picture, or none that can be read")
        boxes, scores, found = model(image)
        poses = joint_map.apply(found.astype(np.float64))
        totals = scores * pose_scores(torch.from_numpy(poses)).numpy()
        first = first_poses(poses, totals, sigmas, same_pose)
        poses[..., :2] -= 0.5  # continuous -> indices of pixels
        for i, (x0, y0, x1, y1) in enumerate(boxes.tolist()):
            results.append(
                {
                    "image_id": record["id"],
                    "category_id": category["id"],
                    "bbox": [x0, y0, x1 - x0, y1 - y0],
                    "keypoints": poses[i].round(2).reshape(-1).tolist(),
                    "box_score": float(scores[i]),
                    "score": float(totals[i]),
                    "first": first[i],
                }
            )
        if number % 50 == 49:
            print(f"{number + 1} pictures, {len(results)} people", file=sys.stderr)
    return results


def evaluate(truth: COCO, results: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """AP of the boxes, by the detections' scores, and of the keypoints, in percent."""
    by_box = [
        {key: value for key, value in item.items() if key != "keypoints"}
        | {"score": item["box_score"]}
        for item in results
    ]
    by_pose = [{k: v for k, v in item.items() if k != "bbox"} for item in results if item["first"]]
    found = {}
    for task, items in (("bbox", by_box), ("keypoints", by_pose)):
        if not items:
            found[task] = dict.fromkeys(METRICS, 0.0)
            continue
        with contextlib.redirect_stdout(io.StringIO()):
            run = COCOeval(truth, truth.loadRes(items), task)
            run.evaluate()
            run.accumulate()
            run.summarize()
        found[task] = {name: 100 * float(v) for name, v in zip(METRICS, run.stats[:3])}
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    args = parse_args(argv)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            truth = COCO(args.json_file)
        results = find_people(TopDown(args), truth, Path(args.image_root), args.same_pose)
    except (FileNotFoundError, KeyError, ValueError) as error:
        print(error.args[0] if isinstance(error, KeyError) else error, file=sys.stderr)
        return 1
    print(json.dumps(evaluate(truth, results), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
