"""COCO's evaluation where some persons have no mask or no joints."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.io
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.structures import Boxes, Instances
from pycocotools import mask as coco_mask

from video_pose.evaluation.coco import (
    FrameCOCOEvaluator,
    ImageCOCOEvaluator,
    complete_person,
    complete_truth,
    shared_joints,
)

SIZE = (60, 80)
BOX = [20.0, 10.0, 50.0, 30.0]


def detection(box=BOX, mask=None, score: float = 0.9) -> Instances:
    """A person in ``box`` whose mask fills it, or ``mask``; joints at its corners."""
    x1, y1, x2, y2 = (int(v) for v in box)
    found = torch.zeros(1, *SIZE, dtype=torch.bool)
    mx1, my1, mx2, my2 = mask or (x1, y1, x2, y2)
    found[0, my1:my2, mx1:mx2] = True
    return Instances(
        SIZE,
        pred_boxes=Boxes(torch.tensor([box])),
        scores=torch.tensor([score]),
        pred_classes=torch.zeros(1, dtype=torch.int64),
        pred_masks=found,
        pred_keypoints=torch.tensor([[[x1 + 0.5, y1 + 0.5, 1.0], [x2 + 0.5, y2 + 0.5, 1.0]]]),
    )


@pytest.fixture
def clip(register, tmp_path: Path) -> str:
    """One person in three frames: a mask in the first, an empty one in the second; the file of
    masks ends there, so that masks and frames have different lengths."""
    masks = np.zeros((*SIZE, 2), np.uint8)
    masks[10:30, 20:50, 0] = 1
    scipy.io.savemat(tmp_path / "m.mat", {"part_mask": masks})
    keypoints = np.full((3, 2, 3), 2, np.float32)
    keypoints[..., :2] = [[25, 15], [45, 25]]
    track = {
        "video_id": "v", "track_id": "0", "file_names": ["a", "b", "c"],
        "height": SIZE[0], "width": SIZE[1], "keypoints": keypoints,
        "boxes": np.tile(np.array([20.5, 10.5, 49.5, 29.5], np.float32), (3, 1)),
        "labelled": np.ones(3, bool), "image_ids": np.arange(3),
        "masks": {"mat_file": str(tmp_path / "m.mat"), "field": "part_mask"},
    }  # fmt: skip
    return register(
        "partly_masked", [track], keypoint_names=["a", "b"], thing_classes=["person"],
        keypoint_oks_sigmas=[0.05] * 2,
    )  # fmt: skip


def score_clip(name: str, detections: list[Instances]) -> dict:
    evaluator = FrameCOCOEvaluator(name, ["a", "b"], ["bbox", "segm"], distributed=False)
    evaluator.reset()
    for image, found in enumerate(detections):
        evaluator.process([{"image_id": image}], [{"instances": found}])
    return evaluator.evaluate()


def test_frames_without_a_mask_count_for_boxes_and_not_for_masks(clip) -> None:
    wrong = (60, 40, 70, 50)
    right = score_clip(clip, [detection()] * 3)
    assert (right["bbox"]["AP"], right["segm"]["AP"]) == pytest.approx((100, 100))
    # A detection on a person without a mask may be surer than others: it is left out.
    unmasked = score_clip(clip, [detection(score=0.5), detection(), detection()])
    assert unmasked["segm"]["AP"] == pytest.approx(100)
    masked = score_clip(clip, [detection(mask=wrong), detection(), detection()])
    assert masked["segm"]["AP"] == 0 and masked["bbox"]["AP"] == pytest.approx(100)
    # Their boxes are scored: three persons, of whom the last two are not found.
    boxes = score_clip(clip, [detection()] + [detection(box=[60.0, 40, 70, 50])] * 2)
    assert boxes["bbox"]["AP50"] == pytest.approx(34, abs=1)


@pytest.fixture
def images(tmp_path: Path) -> Iterator[str]:
    """Two images of a user: one person with joints, and another with nothing but a box."""
    person = {"category_id": 1, "iscrowd": 0, "area": 600, "bbox": [20, 10, 30, 20]}
    content = {
        "images": [
            {"id": i, "file_name": f"{i}.jpg", "height": SIZE[0], "width": SIZE[1]} for i in (1, 2)
        ],
        "annotations": [
            {**person, "id": 1, "image_id": 1},
            {**person, "id": 2, "image_id": 2, "keypoints": [20, 10, 2, 50, 30, 2]},
        ],
        "categories": [{"id": 1, "name": "person"}],
    }
    path = tmp_path / "user.json"
    path.write_text(json.dumps(content))
    register_coco_instances("partly_posed", {"keypoint_names": ["a", "b"]}, str(path), "")
    yield "partly_posed"
    DatasetCatalog.remove("partly_posed")
    MetadataCatalog.remove("partly_posed")


@pytest.mark.parametrize(("sigmas", "right"), [([0.05] * 2, 50), ([], 80)])
def test_similarity_is_measured_with_the_widths_given_or_those_of_the_names(
    images, sigmas: list[float], right: float
) -> None:
    """Both joints 2 px off in an area of 600: exp(-4 / (2 * 600 (2 s)^2)) is .72 with s = .05 and
    .87 with .079, the shoulders', which joints of other names take: right at .5 to .7, to .85."""
    evaluator = ImageCOCOEvaluator(images, ["a", "b"], ["keypoints"], sigmas)
    evaluator.reset()
    moved = detection()
    moved.pred_keypoints = moved.pred_keypoints + torch.tensor([2.0, 0, 0])
    evaluator.process([{"image_id": 2}], [{"instances": moved}])
    assert evaluator.evaluate()["keypoints"]["AP"] == pytest.approx(right)


def test_joints_that_a_model_lacks_are_named(images, caplog) -> None:
    ImageCOCOEvaluator(images, ["b"], ["keypoints"], [0.05] * 2)
    told = f"{images}: AP of keypoints is that of the joints ['b']; the model has no ['a']"
    assert told in [record.getMessage() for record in caplog.records]


def test_a_person_without_joints_counts_for_none(images) -> None:
    evaluator = ImageCOCOEvaluator(images, ["a", "b"], ["bbox", "segm", "keypoints"], [0.05] * 2)
    evaluator.reset()
    # The surest pose is that of the person without joints: no false one.
    for image, found in ((1, detection(score=0.99)), (2, detection(score=0.5))):
        evaluator.process([{"image_id": image}], [{"instances": found}])
    results = evaluator.evaluate()
    assert set(results) == {"bbox", "keypoints"}  # nobody has a mask
    assert results["keypoints"]["AP"] == pytest.approx(100)
    assert results["bbox"]["AP"] == pytest.approx(100)


def test_a_model_without_joints_and_a_dataset_without_names(images, tmp_path: Path) -> None:
    """Boxes ask for no joints. Joints that the dataset does not name are the model's."""
    evaluator = ImageCOCOEvaluator(images, [], ["bbox"], output_dir=str(tmp_path / "out"))
    evaluator.reset()
    for image in (1, 2):
        evaluator.process([{"image_id": image}], [{"instances": detection()}])
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        "coco_instances_results.json", "instances_predictions.pth",
    }  # fmt: skip
    facts = MetadataCatalog.get(images).as_dict()
    MetadataCatalog.remove(images)
    MetadataCatalog.get(images).set(
        **{key: value for key, value in facts.items() if key not in ("name", "keypoint_names")}
    )
    evaluator = ImageCOCOEvaluator(images, ["a", "b"], ["keypoints"], [0.05] * 2)
    evaluator.reset()
    for image, score in ((1, 0.99), (2, 0.5)):
        evaluator.process([{"image_id": image}], [{"instances": detection(score=score)}])
    assert evaluator.evaluate()["keypoints"]["AP"] == pytest.approx(100)


def _truth(tasks: tuple[str, ...], *annotations: dict) -> SimpleNamespace:
    dataset = {
        "images": [{"id": 3, "height": 8, "width": 12}], "annotations": list(annotations),
        "categories": [{"id": 1}],
    }  # fmt: skip
    return SimpleNamespace(
        _coco_api=SimpleNamespace(dataset=dataset), _tasks=tasks, _output_dir="out", _predictions=[]
    )


def test_joints_of_the_truth_that_are_scored() -> None:
    """Those that the model has, counted anew; a person without any has as many zeros."""
    posed = {"keypoints": [1, 2, 2, 3, 4, 0, 5, 6, 1], "num_keypoints": 9}
    truth = _truth(("keypoints",), dict(posed), {}, {"keypoints": [], "num_keypoints": 0})
    assert complete_truth(truth, ["a", "b", "c"]) == [truth]
    zeros = {"keypoints": [0] * 9, "num_keypoints": 0}
    assert truth._coco_api.dataset["annotations"] == [posed, zeros, zeros]
    truth = _truth(("bbox", "keypoints"), dict(posed), {})
    joint_map = shared_joints(["c", "a", "x"], ["a", "b", "c"], None)
    assert complete_truth(truth, ["a", "b", "c"], joint_map) == [truth]
    assert truth._coco_api.dataset["annotations"] == [
        {"keypoints": [1, 2, 2, 5, 6, 1], "num_keypoints": 2},
        {"keypoints": [0] * 6, "num_keypoints": 0},
    ]
    untouched = _truth(("bbox",), {})
    assert complete_truth(untouched, ["a"]) == [untouched]
    assert untouched._coco_api.dataset["annotations"] == [{}]


def test_what_a_person_lacks_is_filled_in() -> None:
    person = {"keypoints": [1, 2, 2, 99, 99, 0, 5, 10, 1], "area": 0}
    complete_person(person, ["a", "b", "c"])
    filled = {"num_keypoints": 2, "iscrowd": 0, "bbox": [1, 2, 4, 8], "area": 32}
    assert person == {"keypoints": [1, 2, 2, 99, 99, 0, 5, 10, 1], **filled}
    told = {"keypoints": [0] * 3, "num_keypoints": 0, "iscrowd": 1, "bbox": [1, 2, 3, 4], "area": 5}
    person = dict(told)
    complete_person(person, ["a"])
    assert person == told
    nothing: dict = {}
    complete_person(nothing, ["a"])
    assert nothing["bbox"] == [0, 0, 0, 0] and nothing["area"] == nothing["num_keypoints"] == 0


def test_a_person_without_a_mask_is_a_crowd_of_its_box() -> None:
    bare = {"id": 1, "image_id": 3, "category_id": 1, "bbox": [2, 1, 5, 4], "iscrowd": 0}
    masked = {**bare, "id": 2, "segmentation": [[0, 0, 1, 0, 1, 1]]}
    truth = _truth(("bbox", "segm"), bare, masked)
    first, masks = complete_truth(truth, [])
    assert first is truth and first._tasks == ("bbox",) and first._output_dir == "out"
    assert masks._tasks == ("segm",) and masks._output_dir is None
    one, two = masks._coco_api.dataset["annotations"]
    assert one["iscrowd"] == 1 and two == masked and bare["iscrowd"] == 0
    inside = np.zeros((8, 12), np.uint8)
    inside[1:5, 2:7] = 1
    assert coco_mask.decode(one["segmentation"]).tolist() == inside.tolist()
    assert masks._coco_api.getAnnIds() == [1, 2]
    (alone,) = complete_truth(_truth(("segm",), bare), [])
    assert alone._tasks == ("segm",) and alone._coco_api.dataset["annotations"][0]["iscrowd"] == 1
    all_masked = _truth(("bbox", "segm"), masked)
    assert complete_truth(all_masked, []) == [all_masked] and all_masked._tasks == ("bbox", "segm")
