#!/usr/bin/env python3
"""AP of poses in a detector's boxes, on pictures annotated in COCO's format.

python tools/evaluate_top_down.py --json-file person_keypoints_val.json --image-root val \\
    [--config-file POSE.yaml] [--detector DETECTOR.yaml] [KEY VALUE ...]

Without a config the package's models. A person's score is that of the detection times that of the
pose (the mean of the better half of its joints); of two poses with an OKS of ``--same-pose`` and
more the one of less score is left out of the poses' AP; crowds are ignored, as COCO does. The
people are those of the file's category with joints, whose widths follow from their names. Prints AP
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
from video_pose.data.datasets.coco_json import choose_category
from video_pose.data.json_fields import load_json
from video_pose.evaluation.coco import complete_person
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


def read_truth(json_file: str) -> COCO:
    """The pictures of a file and its people, in one category, with all that COCO's evaluator asks
    for (`complete_person`).

    Raises:
        FileNotFoundError: no such file.
        ValueError: it has no category with joints, or several, or an annotation of another number
            of joints or of no picture. Names file and place.
    """
    content = load_json(json_file)
    category = choose_category(content)
    number = category.ids[0] if category.ids else 1
    images = {
        item.need("id").number_id(): item.content() for item in content.need("images").items()
    }
    people: list[dict[str, Any]] = []
    for item in content.need("annotations").items():
        kind, image = item.get("category_id"), item.need("image_id")
        if kind is not None and category.ids and kind.number_id() not in category.ids:
            continue
        if image.number_id() not in images:
            raise image.error("the id of one of images[]")
        for key, count in (("keypoints", 3 * len(category.joints)), ("bbox", 4)):
            given = item.get(key)
            if given is None or not given.members():
                continue
            if not np.isfinite(given.numbers(count)).all():
                raise given.error("finite numbers")
        # COCO's evaluator takes what matches the annotation of id 0 for unmatched.
        ids = {"id": len(people) + 1, "image_id": image.number_id(), "category_id": number}
        told = {key: value for key, value in item.content().items() if value is not None}
        people.append({**told, **ids})
        complete_person(people[-1], category.joints)
    truth = COCO()
    truth.dataset = {
        "images": [{**image, "id": key} for key, image in images.items()],
        "annotations": people,
        "categories": [{"id": number, "name": category.name, "keypoints": category.joints}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
    return truth


def _people_of(truth: COCO) -> dict[str, Any]:
    """The category with joints."""
    return next(c for c in truth.loadCats(truth.getCatIds()) if c.get("keypoints"))


def find_people(
    model: TopDown, truth: COCO, image_root: Path, same_pose: float = SAME_POSE
) -> list[dict[str, Any]]:
    """Everybody found in the pictures of ``truth``, in COCO's format of results, and ``first``, as
    `first_poses`.

    Raises:
        FileNotFoundError: a picture is missing.
        KeyError: a joint of the annotations that the model's joints do not give.
    """
    category = _people_of(truth)
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
    """AP of the boxes, by the detections' scores, and of the keypoints, in percent.

    Args:
        truth: as `read_truth` gives it. results: as `find_people` does.
    """
    category = _people_of(truth)
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
            run.params.catIds = [category["id"]]
            if task == "keypoints":
                run.params.kpt_oks_sigmas = np.asarray(infer_sigmas(category["keypoints"]))
            run.evaluate()
            run.accumulate()
            run.summarize()
        found[task] = {name: 100 * float(v) for name, v in zip(METRICS, run.stats[:3])}
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit status."""
    args = parse_args(argv)
    try:
        truth = read_truth(args.json_file)
        results = find_people(TopDown(args), truth, Path(args.image_root), args.same_pose)
    except (FileNotFoundError, KeyError, ValueError) as error:
        print(error.args[0] if isinstance(error, KeyError) else error, file=sys.stderr)
        return 1
    print(json.dumps(evaluate(truth, results), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
