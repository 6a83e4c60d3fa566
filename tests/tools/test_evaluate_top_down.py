"""AP of poses in a detector's boxes, on results made by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import evaluate_top_down as tool
import numpy as np
import pytest
from pycocotools.coco import COCO

from video_pose.skeleton import COCO_PERSON, infer_sigmas


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
    return tool.read_truth(str(path))


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


def _changed(tmp_path: Path, change: Callable[[dict], object]) -> Path:
    path = tmp_path / "people.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def _bare(content: dict) -> None:
    for annotation in content["annotations"]:
        for key in ("num_keypoints", "iscrowd", "area", "bbox"):
            del annotation[key]
        annotation["id"] -= 1
    content["annotations"][0]["area"] = None


def test_other_joints_than_cocos_have_their_own_widths(truth: COCO, tmp_path: Path) -> None:
    """Heads and wrists, as they are called: COCO's evaluator has 17 widths, and fails on four."""
    names = ["head_top", "neck", "left_wrist", "right_wrist"]

    def shorten(content: dict) -> None:
        content["categories"][0]["keypoints"] = names
        for annotation in content["annotations"]:
            annotation["keypoints"] = annotation["keypoints"][:12]
            annotation["num_keypoints"] = 4

    class FourJoints(Found):
        joint_names = names

        def __call__(self, image: np.ndarray) -> tuple[Any, ...]:
            boxes, scores, joints = super().__call__(image)
            return boxes, scores, joints[:, :4]

    four = tool.read_truth(str(_changed(tmp_path, shorten)))
    found = tool.evaluate(four, tool.find_people(FourJoints(0.0), four, tmp_path))
    assert found["keypoints"]["AP"] > 90
    # The first poses are 3 px too far right: OKS, by hand, of widths by the joints' names.
    results = tool.find_people(FourJoints(0.0), four, tmp_path)[:1]
    for x in range(0, 12, 3):
        results[0]["keypoints"][x] += 3
    oks = np.exp(-9 / (8 * 1600 * np.asarray(infer_sigmas(names)) ** 2)).mean()
    found = tool.evaluate(four, results)["keypoints"]
    # One of three people found: 34 of 101 recalls, at the thresholds up to the similarity.
    thresholds = (np.arange(0.5, 1, 0.05) <= oks).sum()
    assert 0 < thresholds < 10 and found["AP"] == pytest.approx(thresholds * 340 / 101)


def test_things_of_other_categories_are_no_people(truth: COCO, tmp_path: Path) -> None:
    def add_a_ball(content: dict) -> None:
        content["categories"].insert(0, {"id": 7, "name": "ball"})
        content["annotations"].append(
            {"id": 9, "image_id": 2, "category_id": 7, "bbox": [1, 2, 3, 4]}
        )

    results = tool.find_people(Found(0.0), truth, tmp_path)
    expected = tool.evaluate(truth, results)
    other = tool.read_truth(str(_changed(tmp_path, add_a_ball)))
    assert tool.evaluate(other, tool.find_people(Found(0.0), other, tmp_path)) == expected
    # Nor do they count in a truth that has them all.
    other.dataset["categories"].insert(0, {"id": 7, "name": "ball"})
    ball = {"id": 9, "image_id": 2, "category_id": 7, "bbox": [1, 2, 3, 4], "area": 12}
    other.dataset["annotations"].append({**ball, "iscrowd": 0})
    other.createIndex()
    assert tool.evaluate(other, results) == expected


def test_what_a_file_leaves_out_is_filled_in(truth: COCO, tmp_path: Path) -> None:
    """Area and box are those of the joints, 4 to 36; ids count from 1, as 0 would be nobody."""
    bare = tool.read_truth(str(_changed(tmp_path, _bare)))
    person = bare.loadAnns([1])[0]
    assert person["bbox"] == [4, 4, 32, 32] and person["area"] == 32 * 32
    assert (person["num_keypoints"], person["iscrowd"], person["category_id"]) == (17, 0, 1)
    found = tool.evaluate(bare, tool.find_people(Found(0.0), bare, tmp_path))
    assert found["keypoints"]["AP50"] > 90


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["categories"][0].pop("keypoints"),
         "people.json: expected one list of joint names in categories[].keypoints, got"),
        (lambda c: c["annotations"][1].update(keypoints=[1, 2, 2]),
         "annotations[1].keypoints (id 2): expected 51 numbers"),
        (lambda c: c["annotations"][0].update(bbox=[1, 2, None, 4]),
         "annotations[0].bbox (id 1): expected finite numbers"),
        (lambda c: c["annotations"][2].update(image_id=5),
         "annotations[2].image_id (id 3): expected the id of one of images[]"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_scored_is_said(
    truth: COCO, tmp_path: Path, capsys, change, message: str
) -> None:
    path = _changed(tmp_path, change)
    with pytest.raises(ValueError, match=re.escape(message)):
        tool.read_truth(str(path))
    assert tool.main(["--json-file", str(path), "--image-root", str(tmp_path)]) == 1
    assert message in capsys.readouterr().err
