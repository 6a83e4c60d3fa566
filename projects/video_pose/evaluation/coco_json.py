"""COCO annotation files of frame dicts, masks included, for Detectron2's COCOEvaluator.

Detectron2's own conversion changes the keypoints of the dicts in place, knows no mask references,
and keeps a file that has become stale.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from video_pose.data.frame_masks import MaskReader

Record = dict[str, Any]


def write_coco_json(
    path: Path, frames: Iterable[Record], classes: Sequence[str], keypoint_names: Sequence[str]
) -> None:
    """Write frames (see `video_pose.data.frames`) as COCO's object and keypoint annotations.

    Keypoints become pixel indices (continuous - 0.5), as COCO has them. ``area``, the reference of
    keypoint similarity, is the mask's where there is one, else the box's. An existing file is
    replaced at once or not at all.
    """
    reader = MaskReader()
    images: list[Record] = []
    annotations: list[Record] = []
    for frame in frames:
        number = f"#{frame['frame_number']}" if "frame_number" in frame else ""
        images.append(
            {
                "id": frame["image_id"],
                "file_name": frame["file_name"] + number,
                "height": frame["height"],
                "width": frame["width"],
            }
        )
        for annotation in frame["annotations"]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": frame["image_id"],
                    **coco_annotation(annotation, reader),
                }
            )
    categories: list[Record] = [{"id": i, "name": name} for i, name in enumerate(classes)]
    for category in categories:
        category["keypoints"] = list(keypoint_names)
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content), encoding="utf-8")
    os.replace(partial, path)


def coco_annotation(annotation: Record, reader: MaskReader) -> Record:
    """COCO's fields of one person, but for the ids."""
    x1, y1, x2, y2 = annotation["bbox"]
    out: Record = {
        "category_id": annotation["category_id"],
        "iscrowd": annotation["iscrowd"],
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": (x2 - x1) * (y2 - y1),
    }
    reference = annotation.get("segmentation_ref")
    mask = reader.read(reference) if reference is not None else None
    if mask is not None:
        out["area"] = float(coco_mask.area(mask))
        out["segmentation"] = {**mask, "counts": mask["counts"].decode("ascii")}
    keypoints = np.array(annotation["keypoints"], np.float64).reshape(-1, 3)
    keypoints[:, :2] -= 0.5
    keypoints[keypoints[:, 2] == 0] = 0
    out["keypoints"] = keypoints.reshape(-1).tolist()
    out["num_keypoints"] = int((keypoints[:, 2] > 0).sum())
    return out
