"""COCO's evaluation of persons that lack a mask or joints, which it fails on with a KeyError.

Rules:

* a person without joints counts for none of them: COCO's own rule for ``num_keypoints`` 0, under
  which detections of that person are no false ones;
* a person without a mask is a crowd region, its box, in the evaluation of masks alone: a detection
  there is neither right nor wrong. Boxes are scored as ever.
"""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

from detectron2.evaluation import COCOEvaluator
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

Record = dict[str, Any]


def complete_truth(evaluator: COCOEvaluator, joints: int) -> list[COCOEvaluator]:
    """The evaluators that together give the results of ``evaluator`` by the module's rules.

    Args:
        evaluator: with its annotations loaded and ``tasks`` given; changed in place.
        joints: of a person in the annotations.

    Returns:
        ``evaluator``, and where persons lack a mask, another one for the masks.
    """
    truth, tasks = evaluator._coco_api, tuple(evaluator._tasks)
    annotations = truth.dataset.get("annotations", [])
    if "keypoints" in tasks:
        for annotation in annotations:
            _complete_joints(annotation, joints)
    if "segm" not in tasks or all(item.get("segmentation") for item in annotations):
        return [evaluator]
    masks = copy.copy(evaluator)
    masks._tasks, masks._predictions, masks._output_dir = ("segm",), [], None
    masks._coco_api = COCO()
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth.dataset["images"]}
    completed = [_with_mask(item, sizes[item["image_id"]]) for item in annotations]
    masks._coco_api.dataset = {**truth.dataset, "annotations": completed}
    with contextlib.redirect_stdout(io.StringIO()):
        masks._coco_api.createIndex()
    evaluator._tasks = tuple(task for task in tasks if task != "segm")
    return [evaluator, masks] if evaluator._tasks else [masks]


def _complete_joints(annotation: Record, joints: int) -> None:
    if not annotation.get("keypoints"):
        annotation["keypoints"] = [0] * (3 * joints)
    if "num_keypoints" not in annotation:
        annotation["num_keypoints"] = sum(v > 0 for v in annotation["keypoints"][2::3])


def _with_mask(annotation: Record, size: tuple[int, int]) -> Record:
    if annotation.get("segmentation"):
        return annotation
    x, y, w, h = annotation["bbox"]
    outline = [x, y, x + w, y, x + w, y + h, x, y + h]
    (region,) = coco_mask.frPyObjects([outline], *size)
    return {**annotation, "segmentation": region, "iscrowd": 1}
