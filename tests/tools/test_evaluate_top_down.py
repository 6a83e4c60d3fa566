"""AP of poses in a detector's boxes, on results made by hand."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import cv2
import evaluate_top_down as tool
import numpy as np
import pytest
from pycocotools.coco import COCO

from video_pose.skeleton import COCO_PERSON


@pytest.fixture
def truth(tmp_path: Path) -> COCO:
    """Two people side by side in one picture, one in another; joints on a slant through the box."""
    slant = np.linspace(4, 36, 17)
    people = []
    for number, (image, left) in enumerate(((1, 0), (1, 50), (2, 0))):
        joints = np.stack([slant + left, slant, np.full(17, 2)], 1)
        people.append(
            {
                "id": number + 1, "image_id": image, "category_id": 1, "iscrowd": 0,
                "area": 1600.0, "bbox": [left, 0, 40, 40], "num_keypoints": 17,
                "keypoints": joints.reshape(-1).tolist(),
            }
        )  # fmt: skip
    images = [{"id": i, "file_name": f"{i}.png", "height": 48, "width": 100} for i in (1, 2)]
    for image in images:
        cv2.imwrite(str(tmp_path / image["file_name"]), np.zeros((48, 100, 3), np.uint8))
    categories = [{"id": 1, "name": "person", "keypoints": list(COCO_PERSON.names)}]
    path = tmp_path / "people.json"
    path.write_text(json.dumps({"images": images, "annotations": people, "categories": categories}))
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


class Found:
    """In place of the models: two boxes in every picture, the second pose moved by ``shift``."""

    joint_names = list(COCO_PERSON.names)

    def __init__(self, shift: float) -> None:
        self.shift = shift

    def __call__(self, image: np.ndarray) -> tuple[Any, ...]:
        slant = np.linspace(4, 36, 17) + 0.5
        joints = np.stack(
            [np.stack([slant + left, slant, np.full(17, 0.5)], 1) for left in (0, 50)]
        )
        joints[1, :, 0] += self.shift
        return np.array([[0, 0, 40, 40], [50, 0, 90, 40.0]]), np.array([0.9, 0.8]), joints


def test_right_poses_are_right(truth: COCO, tmp_path: Path) -> None:
    results = tool.find_people(Found(0.0), truth, tmp_path)
    assert len(results) == 4 and results[0]["score"] == pytest.approx(0.45)
    assert results[0]["bbox"] == [0, 0, 40, 40]
    found = tool.evaluate(truth, results)
    # The second picture's second person is the only false one, less sure than two right ones of
    # score .9 and as sure as the third: recall 1 at a precision of 3 / 4 or, first come, 1.
    assert found["keypoints"]["AP50"] > 90 and found["bbox"]["AP50"] > 90
    assert found["keypoints"]["AP"] == pytest.approx(found["keypoints"]["AP50"])


def test_wrong_poses_in_right_boxes_count_for_boxes_alone(truth: COCO, tmp_path: Path) -> None:
    found = tool.evaluate(truth, tool.find_people(Found(60.0), truth, tmp_path))
    # Two of three people at the first two places: 67 of 101 recalls have a precision of 1.
    assert found["keypoints"]["AP50"] == pytest.approx(100 * 67 / 101, abs=0.1)
    assert found["bbox"]["AP50"] > 90


@pytest.mark.parametrize(("same_pose", "kept"), [(0.9, [True, False]), (1.1, [True, True])])
def test_of_two_equal_poses_the_surer_one_counts(
    truth: COCO, tmp_path: Path, same_pose: float, kept: list[bool]
) -> None:
    # Both boxes hold the left person's pose.
    results = tool.find_people(Found(-50.0), truth, tmp_path, same_pose)
    assert [item["first"] for item in results] == kept * 2
    # The second poses come before the other picture's right one: with them it is the third of four.
    results[1]["score"] = 0.44
    results[2]["score"] = 0.43
    found = tool.evaluate(truth, results)
    second = 1.0 if same_pose < 1 else 2 / 3
    assert found["keypoints"]["AP50"] == pytest.approx(100 * (34 + 33 * second) / 101, abs=0.1)
    assert found["bbox"]["AP50"] > 90  # boxes are all scored


def test_poses_of_two_people_are_both_kept() -> None:
    slant = np.linspace(4, 36, 17)
    poses = np.stack([np.stack([slant + left, slant, np.ones(17)], 1) for left in (0, 60, 0.5)])
    sigmas = np.asarray(COCO_PERSON.sigmas)
    assert tool.first_poses(poses, np.array([0.2, 0.3, 0.4]), sigmas, 0.9) == [False, True, True]


def test_nobody_found_is_zero_and_a_missing_picture_an_error(truth: COCO, tmp_path: Path) -> None:
    assert tool.evaluate(truth, [])["keypoints"] == {"AP": 0.0, "AP50": 0.0, "AP75": 0.0}
    with pytest.raises(FileNotFoundError, match="1.png"):
        tool.find_people(Found(0.0), truth, tmp_path / "other")
