"""Clips with known people: what is drawn is where the truth says it is."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import make_people_clips as tool
import numpy as np
import pytest

from video_pose.evaluation.score import read_annotations


def labelled(x: float, y: float, count: int = 17) -> np.ndarray:
    """(17, 3): ``count`` joints at one place."""
    points = np.zeros((17, 3))
    points[:count] = x, y, 2
    return points


def middle(picture: np.ndarray) -> np.ndarray:
    """Where the light is, (x, y) in continuous px."""
    light = picture[..., 1].astype(np.float64)
    y, x = np.mgrid[: light.shape[0], : light.shape[1]] + 0.5
    return np.array([(light * x).sum(), (light * y).sum()]) / light.sum()


def test_a_pan_moves_people_as_it_moves_pixels(tmp_path: Path) -> None:
    picture = np.zeros((120, 160, 3), np.uint8)
    picture[54:63, 76:85] = 255  # about the pixel (80, 58)
    pixel = [80, 58, 2] * 17
    person = {"id": 7, "keypoints": pixel, "num_keypoints": 17, "bbox": [76, 54, 9, 9], "area": 81}
    truth = tool.Truth()
    frames = tool.make_pan("a", picture, [person], truth, np.random.default_rng(0))
    assert len(frames) == len(truth.images) == len(truth.annotations) == tool.PAN_FRAMES
    places = []
    for frame, told in zip(frames, truth.annotations):
        x, y = told["keypoints"][:2]
        np.testing.assert_allclose(middle(frame), [x + 0.5, y + 0.5], atol=0.2)
        # At 3 to 4.3 times the size: 480 px for 112 to 152 of 160.
        assert 9 * 3 < told["bbox"][2] < 9 * 4.3
        assert told["area"] == pytest.approx(told["bbox"][2] ** 2, rel=1e-6)
        places.append((x, y))
    assert len(set(places)) == tool.PAN_FRAMES
    truth.write(tmp_path / "people.json")
    read = read_annotations(tmp_path / "people.json")
    assert len(read.frames) == tool.PAN_FRAMES and read.frames["a", 0].ids.tolist() == ["7"]


def test_who_is_cut_off_is_labelled_in_part_or_a_crowd() -> None:
    truth = tool.Truth()
    truth.frame("a", 0, (100, 100))
    points = labelled(50, 50)
    points[10:, 0] = 120
    truth.person("0", points, np.array([40.0, 0, 140, 100]), 5000)
    truth.person("1", labelled(50, 50, 2), np.array([0.0, 0, 20, 20]), 200)
    truth.person("2", labelled(150, 50), np.array([140.0, 0, 160, 20]), 200)
    first, second = truth.annotations  # the third is outside
    assert first["num_keypoints"] == 10 and first["bbox"] == [40, 0, 60, 100]
    assert first["area"] == pytest.approx(3000)
    assert first["keypoints"][:3] == [49.5, 49.5, 2] and first["keypoints"][-3:] == [0, 0, 0]
    assert second["num_keypoints"] == 0  # ignored by `video-pose score`


def walker(light: int) -> tool.Clip:
    """Somebody of 10 x 20 px who stands at (30, 30) of 60 x 80."""
    frames, masks = [], []
    for _ in range(tool.CLIP_FRAMES):
        mask = np.zeros((60, 80), bool)
        mask[20:40, 25:35] = True
        frames.append(np.repeat((mask * light).astype(np.uint8)[..., None], 3, axis=2))
        masks.append(mask)
    keypoints = np.stack([labelled(30, 30)] * tool.CLIP_FRAMES)
    return tool.Clip(frames, keypoints, np.array([[25.0, 20, 35, 40]] * tool.CLIP_FRAMES), masks)


def test_people_are_where_a_crossing_and_a_mosaic_say() -> None:
    truth = tool.Truth()
    frames = tool.make_crossing("c", [walker(0), walker(200), walker(0)], truth)
    told = [a for a in truth.annotations if a["track_id"] == "1"]
    assert len(told) == len(frames) == tool.CLIP_FRAMES
    # From .1 to .9 of the width; the third walker, who is black, hides the second for a while.
    for number in (0, 5, tool.CLIP_FRAMES - 1):
        x, y = told[number]["keypoints"][:2]
        np.testing.assert_allclose(middle(frames[number]), [x + 0.5, y + 0.5], atol=0.7)
    assert told[0]["keypoints"][0] < 10 and told[-1]["keypoints"][0] > 70
    truth = tool.Truth()
    frames = tool.make_mosaic("m", [walker(0), walker(0), walker(0), walker(200)], truth)
    np.testing.assert_allclose(middle(frames[3]), [80 + 30, 60 + 30], atol=0.1)
    assert truth.annotations[3]["keypoints"][:2] == [109.5, 89.5]


def test_a_clip_that_is_larger_than_its_tile_is_cut_with_its_labels() -> None:
    """The second walker is moved 50 px to the right in a clip of 60 x 160: its box, x 75 to 85, is
    cut at the tile's edge at 80, and joints behind it, which lie in no picture, are no labels."""
    one = walker(0)
    shift = np.array([50.0, 0])
    frames = [np.pad(frame, ((0, 0), (50, 30), (0, 0))) for frame in walker(200).frames]
    masks = [np.pad(mask, ((0, 0), (50, 30))) for mask in one.masks]
    points = one.keypoints + (*shift, 0)
    points[:, 10:, 0] += 4  # at 84; the others at 80 become 79
    points[:, :10, 0] -= 1
    wide = tool.Clip(frames, points, one.boxes + np.tile(shift, 2), masks)
    truth = tool.Truth()
    pictures = tool.make_mosaic("m", [one, wide, one, one], truth)
    told = truth.annotations[1]
    assert pictures[0].shape == (120, 160, 3) and pictures[0].max() == 200
    assert told["bbox"] == [80 + 75, 20, 5, 20] and told["area"] == 100  # half of 10 x 20
    assert told["keypoints"][:3] == [158.5, 29.5, 2] and told["num_keypoints"] == 10
    assert told["keypoints"][30:] == [0] * 21

    # In the left column the picture goes on behind the edge, with the next clip.
    truth = tool.Truth()
    tool.make_mosaic("m", [one, one, wide, one], truth)
    told = truth.annotations[2]
    assert told["bbox"] == [75, 80, 5, 20] and told["num_keypoints"] == 10


def test_pictures_of_two_to_five_people_are_chosen_and_errors_are_lines(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    person = {"keypoints": [5, 5, 2] * 17, "num_keypoints": 17, "area": 5000, "bbox": [0, 0, 9, 9]}
    counts = {1: 1, 2: 2, 3: 6}
    content = {
        "images": [{"id": i, "file_name": f"{i}.png"} for i in counts],
        "annotations": [
            {**person, "id": 10 * i + n, "image_id": i} for i, c in counts.items() for n in range(c)
        ],
    }
    chosen = tool.choose_pictures(content, 9, np.random.default_rng(0))
    assert [image["id"] for image, _ in chosen] == [2] and len(chosen[0][1]) == 2
    path = tmp_path / "people.json"
    path.write_text(json.dumps(content))
    given = ["--output", str(tmp_path / "out"), "--json-file", str(path)]
    assert tool.main(given) == 1 and "--image-root" in capsys.readouterr().err
    assert tool.main([*given, "--image-root", str(tmp_path)]) == 1
    assert "2.png: no such picture" in capsys.readouterr().err
    cv2.imwrite(str(tmp_path / "2.png"), np.zeros((50, 60, 3), np.uint8))
    assert tool.main([*given, "--image-root", str(tmp_path)]) == 0
    assert (tmp_path / "out" / "pan_2.mp4").stat().st_size > 0


def body(knee: float, ankles: int = 2) -> list[float]:
    """Keypoints of a person of 40 px: shoulders at y 10, hips at 30, knees at ``knee``."""
    points = np.zeros((17, 3))
    points[:, 2] = 2
    points[5:7, 1], points[11:13, 1], points[13:15, 1] = 10, 30, knee
    points[13:, 2] = ankles
    return points.ravel().tolist()


def test_pictures_of_seated_people_and_of_people_cut_off_are_told_by_their_joints() -> None:
    """The trunk is 20 px long: seated with a thigh of 7 px, not of 9; cut off at the lower edge of
    100 px without a knee."""
    people = {
        1: {"keypoints": body(knee=37), "bbox": [0, 5, 40, 90]},
        2: {"keypoints": body(knee=39), "bbox": [0, 5, 40, 90]},
        3: {"keypoints": body(knee=0, ankles=0), "bbox": [0, 5, 40, 94]},
        4: {"keypoints": body(knee=0, ankles=0), "bbox": [0, 5, 40, 80]},
    }
    common = {"num_keypoints": 13, "area": 600, "iscrowd": 0}
    content = {
        "images": [{"id": i, "width": 100, "height": 100} for i in people],
        "annotations": [{**common, **p, "id": i, "image_id": i} for i, p in people.items()],
    }

    def chosen(kind: str) -> list[int]:
        found = tool.choose_pictures(content, 9, np.random.default_rng(0), kind)
        return sorted(image["id"] for image, _ in found)

    assert (chosen("seated"), chosen("cut_off"), chosen("several")) == ([1], [3], [])
    content["annotations"][0]["area"] = 300  # 3 % of the picture is too small
    content["annotations"] += [{**common, **people[3], "id": 9, "image_id": 3, "iscrowd": 1}]
    assert (chosen("seated"), chosen("cut_off")) == ([], [])
