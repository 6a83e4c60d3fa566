"""Stored poses against annotation files: rendered videos of people who cross, and PoseTrack's."""

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError, dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from video_pose.data.synthetic.dataset import SyntheticOptions, make_dataset
from video_pose.evaluation import score
from video_pose.evaluation.score import joint_facts, read_annotations, score_poses
from video_pose.inference.writers import read_poses


@dataclass(frozen=True)
class Poses:
    video: str
    index: int
    joint_names: list[str]
    keypoints: np.ndarray
    scores: np.ndarray
    track_ids: np.ndarray
    untracked: frozenset[int] = frozenset()


@pytest.fixture(scope="module")
def crossing(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("score")
    options = SyntheticOptions(
        "coco_video", videos=1, test_videos=2, frames=(8, 8), size=(160, 120), people=2
    )
    make_dataset(root, options, workers=1)
    return root / "annotations" / "test.json"


def poses_of(json_file: Path) -> list[Poses]:
    """The labels as predictions; a joint outside the image is not found."""
    content = json.loads(json_file.read_text())
    names = content["categories"][0]["keypoints"]
    people = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        people[annotation["image_id"]].append(annotation)
    frames = []
    for image in content["images"]:
        rows = people[image["id"]]
        points = np.array([a["keypoints"] for a in rows], float).reshape(-1, len(names), 3)
        points[..., :2] += 0.5
        points[points[..., 2] == 0] = np.nan
        points[..., 2] = np.where(np.isfinite(points[..., 2]), 0.8, np.nan)
        ids = np.array([a["track_id"] for a in rows], int)
        video = f"/clips/{image['video_file'].split('/')[-1]}"
        frames.append(
            Poses(video, image["frame_index"], names, points, np.full(len(rows), 0.8), ids)
        )
    return frames


def test_the_labels_themselves(crossing) -> None:
    results, text = score_poses(poses_of(crossing), crossing)
    assert results["AP"] == pytest.approx(100, abs=1e-6) and results["false"] == 0
    assert results["matched"] == results["persons"] > 20
    assert results["IDF1"] == results["HOTA"] == pytest.approx(100) and results["switches"] == 0
    assert "16 frames, 0 of them without predictions" in text


def test_a_table_without_anybody_names_no_joint(crossing, tmp_path) -> None:
    """As `read_poses` gives it; the other video's people count, those of this one are missed."""
    frames = poses_of(crossing)
    empty = frames[0].video
    path = tmp_path / "nobody.jsonl"
    row = {"video": empty, "track": -1, "person_score": None, "joint": None}
    row |= dict.fromkeys(("box_x0", "box_y0", "box_x1", "box_y1", "x", "y", "score"))
    lines = [
        json.dumps({**row, "frame": f.index, "time": f.index / 25})
        for f in frames
        if f.video == empty
    ]
    path.write_text("".join(line + chr(10) for line in lines))
    nobody = [replace(frame, video=empty) for frame in read_poses(path)]
    assert len(nobody) == 8 and {len(frame.keypoints) for frame in nobody} == {0}
    rest = [frame for frame in frames if frame.video != empty]
    results, _ = score_poses([*nobody, *rest], crossing)
    expected, _ = score_poses(rest, crossing)
    assert results == expected and 0 < results["matched"] < results["persons"]


def test_frames_that_lack_and_people_who_are_not_there(crossing) -> None:
    frames = poses_of(crossing)
    whole, _ = score_poses(frames, crossing)
    kept = [f for f in frames if f.index != 3]
    ghost = np.full((1, len(frames[0].joint_names), 3), 5.0)
    first = kept[0]
    kept[0] = replace(
        first,
        keypoints=np.concatenate([first.keypoints, ghost]),
        scores=np.append(first.scores, 0.1),
        track_ids=np.append(first.track_ids, 99),
    )
    results, text = score_poses(kept, crossing)
    lost = sum(len(f.scores) for f in frames if f.index == 3)
    assert whole["matched"] - results["matched"] == lost and results["false"] == 1
    assert "2 of them without predictions" in text


def test_joints_are_told_by_name_and_those_of_both_are_scored(crossing) -> None:
    frames = poses_of(crossing)
    order = [i for i, name in enumerate(frames[0].joint_names) if name != "left_wrist"][::-1]
    names = [frames[0].joint_names[i] for i in order]
    fewer = [replace(f, joint_names=names, keypoints=f.keypoints[:, order]) for f in frames]
    results, text = score_poses(fewer, crossing)
    assert results["AP"] == pytest.approx(100, abs=1e-6) and "left_wrist" not in text
    other = [replace(f, joint_names=["tail"], keypoints=f.keypoints[:, :1]) for f in frames]
    with pytest.raises(ValueError, match="none of the joints"):
        score_poses(other, crossing)


def test_errors_name_what_is_wrong(crossing, tmp_path) -> None:
    frames = poses_of(crossing)
    with pytest.raises(ValueError, match="'elsewhere' is none of .*test.json.*which has"):
        score_poses([replace(f, video="elsewhere") for f in frames], crossing)
    with pytest.raises(ValueError, match="frame 0 of video '.*' twice"):
        score_poses([frames[0], *frames], crossing)
    with pytest.raises(ValueError, match="no frame of predictions"):
        score_poses([], crossing)
    broken = tmp_path / "a.json"
    broken.write_text("{")
    with pytest.raises(ValueError, match="a.json is no JSON"):
        read_annotations(broken)
    broken.write_text(json.dumps({"images": [], "categories": []}))
    with pytest.raises(ValueError, match="needs images and a category"):
        read_annotations(broken)
    image = {"id": 1, "file_name": "1.jpg"}
    category = {"id": 1, "keypoints": ["neck"]}
    for lacking in (
        {"images": [], "categories": [category]},
        {"images": [image], "categories": [{"id": 1}]},
        {"images": [image]},
        {"categories": [category]},
    ):
        broken.write_text(json.dumps(lacking))
        with pytest.raises(ValueError, match="a.json: needs images and a category"):
            read_annotations(broken)
    broken.write_text(json.dumps({"images": [image], "categories": [category]}))
    with pytest.raises(ValueError, match=r"image 1 has no video_id \(nor vid_id\)"):
        read_annotations(broken)


def posetrack(path: Path) -> Path:
    """Two frames of one person and a crowd; the middle one of three is not labelled."""
    names = ["head_bottom", "head_top", "left_wrist", "right_wrist"]
    images = [
        {
            "id": 10 + n, "vid_id": "000342", "frame_id": 1000 + n, "is_labeled": n != 1,
            "file_name": f"images/val/000342_mpii/{n:06d}.jpg",
            "ignore_regions_x": [[200, 300, 300]], "ignore_regions_y": [[0, 0, 100]],
        }
        for n in (2, 0, 1)
    ]  # fmt: skip
    points = [50, 40, 1, 50, 20, 1, 20, 80, 1, 80, 80, 1]
    annotations = [
        {"id": i, "image_id": i, "track_id": 5, "keypoints": points, "bbox": [10, 10, 80, 90]}
        for i in (10, 12)
    ]
    category = {"id": 1, "name": "person", "keypoints": names}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    path.write_text(json.dumps(content))
    return path


def test_frames_are_in_the_order_of_their_numbers_from_0_on(tmp_path) -> None:
    """Ids say nothing of it: frame 0 has the largest."""
    file = posetrack(tmp_path / "a.json")
    content = json.loads(file.read_text())
    for image, frame in zip(content["images"], (2, 0, 1)):
        image["frame_id"] = frame
    content["images"][1]["id"] = content["annotations"][0]["image_id"] = 999
    file.write_text(json.dumps(content))
    found = read_annotations(file).frames
    assert sorted(found) == [("000342", 0), ("000342", 2)]
    assert [len(found["000342", frame].ids) for frame in (0, 2)] == [1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][0].pop("image_id"), r"annotations\[0\].image_id"),
        (lambda c: c["annotations"][0].update(image_id=7), r"\[0\].image_id .*one of images\[\]"),
        (lambda c: c["annotations"][0].update(bbox=["1", 2, 3, 4]), r"annotations\[0\].bbox"),
        (lambda c: c["annotations"][1].update(bbox=[1, 2]), r"annotations\[1\].bbox.*4 numbers"),
        (lambda c: c["annotations"][0].update(keypoints=[1, 2, 3]), r"keypoints.*12 numbers"),
        (lambda c: c["annotations"][0].update(keypoints=["x"] * 12), r"keypoints.*numbers"),
        (lambda c: c["annotations"][0].update(area="9"), r"area.*a number"),
        (
            lambda c: c["annotations"][0].update(keypoints=[1, 2, 0.9] * 4),
            r"keypoints.*v 0, 1 or 2",
        ),
        (lambda c: c["images"].append(c["images"][0]), r"images\[3\].id.*whole-number id"),
        (lambda c: c["images"][0].update(frame_id=1000), "two images of video '000342'"),
        (lambda c: c["images"][0].update(id="a"), r"images\[0\].id"),
        (lambda c: c["images"][1].update(id=[1]), r"images\[1\].id.*a whole number"),
        (lambda c: c["categories"][0].update(keypoints=["", "neck"]), "Joint names must be texts"),
        (lambda c: c["images"][0].update(ignore_regions_y=[]), "1 polygons, as ignore_regions_x"),
        (lambda c: c["images"][0].update(ignore_regions_x=[]), "0 polygons, as ignore_regions_x"),
        (lambda c: c.update(annotations=3), r"annotations.*a list"),
        (lambda c: c.update(images={}), r"images.*a list"),
        (lambda c: c["categories"].append(4), r"categories\[1\]"),
    ],
)
def test_a_wrong_field_is_named_with_its_place(tmp_path, change, message: str) -> None:
    file = posetrack(tmp_path / "a.json")
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message) as error:
        read_annotations(file)
    assert str(file) in str(error.value) and "\n" not in str(error.value)


def test_other_categories_are_no_people(tmp_path, caplog) -> None:
    file = posetrack(tmp_path / "a.json")
    content = json.loads(file.read_text())
    content["categories"].append({"id": 2, "name": "ball"})
    content["annotations"][0]["category_id"] = 1
    content["annotations"].append({"id": 3, "image_id": 10, "category_id": 2, "bbox": [1, 2, 3, 4]})
    # A crowd is no person either, and hides none that come after it.
    crowd = {"id": 4, "image_id": 10, "category_id": 1, "iscrowd": 1, "bbox": [1, 2, 3, 4]}
    content["annotations"].insert(0, crowd)
    for annotation in content["annotations"][2:-1]:
        annotation["category_id"] = 1
    file.write_text(json.dumps(content))
    found = read_annotations(file).frames["000342", 0]
    assert found.ids.tolist() == ["5"]
    # The region of the image, and the crowd.
    assert found.ignored.tolist() == [[200, 0, 300, 100], [1, 2, 4, 6]]
    assert "1 annotations of category 2, which is not 'person': left out" in caplog.text


def test_posetrack(tmp_path) -> None:
    file = posetrack(tmp_path / "000342_mpii.json")
    annotations = read_annotations(file)
    assert sorted(annotations.frames) == [("000342", 0), ("000342", 2)]
    assert "000342_mpii" in annotations.names["000342"]
    # One wrist is 9 px off: .45 of the head, which is 20 px high.
    names = ["head_bottom", "head_top", "right_wrist", "left_wrist"]
    person = np.array([[50.5, 40.5, 1], [50.5, 20.5, 1], [80.5, 80.5, 1], [29.5, 80.5, 1]])
    in_crowd = person + [200, 0, 0]
    frames = [
        Poses("000342_mpii", n, names, np.stack([person, in_crowd]), np.ones(2), np.array([1, 2]))
        for n in range(3)
    ]
    results, text = score_poses(frames, file)
    assert (results["persons"], results["matched"], results["false"]) == (2, 2, 0)
    assert results["PCKh@0.5"] == 100 and results["PCKh@0.1"] == 75
    assert results["switches"] == 0 and "head_bottom" in text


def test_people_whose_box_or_area_is_not_told(tmp_path) -> None:
    """The labelled joints' extent, in continuous px; an area of 0 is none; v 0 says nothing."""
    file = posetrack(tmp_path / "a.json")
    content = json.loads(file.read_text())
    first, second = content["annotations"]
    del first["bbox"]
    first["keypoints"][:3] = [900, 900, 0]
    second.update(area=0)
    content["images"][0]["frame_id"], content["images"][2]["is_labeled"] = 1002, True
    file.write_text(json.dumps(content))
    frames = read_annotations(file).frames
    person = frames["000342", 0]
    assert person.boxes.tolist() == [[20.5, 20.5, 80.5, 80.5]] and person.areas.tolist() == [3600]
    assert frames["000342", 2].areas.tolist() == [80 * 90]
    assert len(frames["000342", 1].ids) == 0
    second.update(area=123.5)
    file.write_text(json.dumps(content))
    assert read_annotations(file).frames["000342", 2].areas.tolist() == [123.5]
    # Tools write a box of zeros for none: it is no area.
    for box in ([0, 0, 0, 0], [30, 30, -5, 8]):
        first.update(bbox=box)
        file.write_text(json.dumps(content))
        person = read_annotations(file).frames["000342", 0]
        assert person.boxes.tolist() == [[20.5, 20.5, 80.5, 80.5]]
        assert person.areas.tolist() == [3600]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["annotations"][0].update(bbox=[1, 2, None, 4]), "bbox.*finite numbers"),
        (lambda c: c["annotations"][0]["keypoints"].__setitem__(0, None), "keypoints.*finite"),
        (lambda c: c.pop("annotations"), "annotations: expected a value, got no such key"),
        (
            lambda c: [a.update(keypoints=[0.5, 0.25, 1] * 4) for a in c["annotations"]],
            r"expected px, got numbers from 0 to 1 alone, as \[0.5, 0.25\]",
        ),
    ],
)
def test_numbers_that_are_not_told_are_named(tmp_path, change, message: str) -> None:
    file = posetrack(tmp_path / "a.json")
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_annotations(file)


def test_what_stands_for_a_joint_that_is_not_labelled_says_nothing(tmp_path, caplog) -> None:
    """null, NaN and shares of the picture; a person of one joint, without a box, has no size."""
    file = posetrack(tmp_path / "a.json")
    content = json.loads(file.read_text())
    first = content["annotations"][0]
    first["keypoints"] = [50, 40, 1, None, float("nan"), 0, 0.5, 0.5, 0, 80, 80, 1]
    file.write_text(json.dumps(content))
    person = read_annotations(file).frames["000342", 0]
    assert person.keypoints[0, [0, 3]].tolist() == [[50.5, 40.5, 1], [80.5, 80.5, 1]]
    assert np.isfinite(person.keypoints).all() and "of no size" not in caplog.text
    del first["bbox"]
    first["keypoints"][11] = 0
    file.write_text(json.dumps(content))
    assert read_annotations(file).frames["000342", 0].areas.tolist() == [0]
    assert "1 people of no size (no area, no box, joints in one place)" in caplog.text


def test_frames_without_numbers_are_in_the_order_of_their_ids(tmp_path) -> None:
    file = posetrack(tmp_path / "a.json")
    content = json.loads(file.read_text())
    for image, number in zip(content["images"], (7, 3, 5)):
        del image["frame_id"]
        image["id"] = number
    content["annotations"][0]["image_id"], content["annotations"][1]["image_id"] = 3, 7
    file.write_text(json.dumps(content))
    frames = read_annotations(file).frames
    assert {key: len(people.ids) for key, people in frames.items()} == {
        ("000342", 0): 1, ("000342", 2): 1,
    }  # fmt: skip


def test_one_video_is_that_of_the_file_whatever_its_name(tmp_path) -> None:
    """But not where the predictions are of two, and all have the joints of the first."""
    file = posetrack(tmp_path / "a.json")
    names = ["head_bottom", "head_top", "right_wrist", "left_wrist"]
    person = np.array([[50.5, 40.5, 1], [50.5, 20.5, 1], [80.5, 80.5, 1], [20.5, 80.5, 1]])
    frame = Poses("mine", 0, names, person[None], np.ones(1), np.array([1]))
    results, text = score_poses([frame], file)
    assert results["matched"] == 1 and "2 frames, 1 of them without predictions" in text
    with pytest.raises(ValueError, match="'mine' is none of"):
        score_poses([frame, replace(frame, video="other")], file)
    with pytest.raises(ValueError, match="frame 2 of 'mine' has the joints .*the first one"):
        score_poses([frame, replace(frame, index=2, joint_names=names[::-1])], file)


@pytest.mark.parametrize(
    ("joints", "protocol", "segment"),
    [
        (["head_top", "upper_neck", "head_bottom"], "head", ("head_top", "upper_neck")),
        (["head_top", "neck", "head_bottom"], "head", ("head_top", "head_bottom")),
        (["head_top", "neck"], "head", ("head_top", "neck")),
        (["head_top", "nose"], "bbox", None),
        (["neck", "nose"], "bbox", None),
    ],
)
def test_pckh_where_the_head_has_two_ends(joints, protocol: str, segment) -> None:
    facts = joint_facts(joints)
    assert (facts.protocol, facts.head_segment, facts.min_visibility) == (protocol, segment, 1)
    assert len(facts.sigmas) == len(joints)


def test_five_videos_of_a_file_are_named(tmp_path) -> None:
    file = posetrack(tmp_path / "a.json")
    content = json.loads(file.read_text())
    content["images"] = [{**content["images"][1], "id": n, "vid_id": f"v{n}"} for n in range(7)]
    content["annotations"] = []
    file.write_text(json.dumps(content))
    frame = Poses("w", 0, ["head_top"], np.zeros((1, 1, 3)), np.ones(1), np.array([1]))
    with pytest.raises(ValueError, match=r"which has \['v0', 'v1', 'v2', 'v3', 'v4'\]$"):
        score_poses([frame], file)


def test_what_hides_predictions_and_what_does_not(tmp_path) -> None:
    """Crowds, persons without joints (of no place, where they have no box), and polygons; a crowd
    of 0 is a person, and a polygon without points is none."""
    file = posetrack(tmp_path / "a.json")
    content = json.loads(file.read_text())
    image, person = content["images"][1], content["annotations"][0]
    image["ignore_regions_x"] += [[], [7], [4, 1, 2]]
    image["ignore_regions_y"] += [[8], [], [9, 3, 5]]
    person["iscrowd"] = 0
    content["annotations"] += [
        {"id": 1, "image_id": 10, "keypoints": [5, 5, 0] * 4},
        {"id": 2, "image_id": 10, "keypoints": [], "bbox": []},
        {"id": 3, "image_id": 10, "bbox": [1, 2, 10, 20]},
        {**person, "id": 4, "iscrowd": True, "bbox": [5, 6, 7, 8]},
    ]
    file.write_text(json.dumps(content))
    found = read_annotations(file).frames["000342", 0]
    assert found.ids.tolist() == ["5"] and found.boxes.tolist() == [[10, 10, 90, 100]]
    assert found.ignored.tolist() == [
        [200, 0, 300, 100], [1, 3, 4, 9], [0] * 4, [0] * 4, [1, 2, 11, 22], [5, 6, 12, 14],
    ]  # fmt: skip
    del content["images"][0]["ignore_regions_y"]
    file.write_text(json.dumps(content))
    assert read_annotations(file).frames["000342", 2].ignored.tolist() == []
    assert found.keypoints.tolist() == [
        [[50.5, 40.5, 1], [50.5, 20.5, 1], [20.5, 80.5, 1], [80.5, 80.5, 1]]
    ]


def test_frames_are_told_by_their_index_where_all_have_one(tmp_path) -> None:
    file = posetrack(tmp_path / "a.json")
    content = json.loads(file.read_text())
    for image, index in zip(content["images"], (7, 5, 6)):
        image["frame_index"] = index
    file.write_text(json.dumps(content))
    assert sorted(read_annotations(file).frames) == [("000342", 5), ("000342", 7)]
    content["images"][0]["frame_index"] = 5
    file.write_text(json.dumps(content))
    message = f"{file}: two images of video '000342' have one frame_index, or one frame_id"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_annotations(file)
    del content["images"][2]["frame_index"]  # then all by their place
    file.write_text(json.dumps(content))
    assert sorted(read_annotations(file).frames) == [("000342", 0), ("000342", 2)]


def test_by_what_a_video_may_be_called(tmp_path) -> None:
    """Its file, else the folder of its pictures; a picture without a folder names no video."""
    file = posetrack(tmp_path / "a.json")
    content = json.loads(file.read_text())
    first, second, third = content["images"]
    first.update(vid_id="a", video_file="clips/walk.mp4")
    second.update(vid_id="b")
    third.update(vid_id="c", file_name="7.jpg")
    file.write_text(json.dumps(content))
    assert read_annotations(file).names == {
        "a": {"a", "clips/walk.mp4", "walk.mp4", "walk"},
        "b": {"b", "images/val/000342_mpii", "000342_mpii"},
        "c": {"c"},
    }
    frame = Poses("x/walk.avi", 0, ["head_top"], np.zeros((1, 1, 3)), np.ones(1), np.array([1]))
    assert "3 frames" not in score_poses([frame], file)[1]  # the third is not labelled
    second["video_file"] = "other/walk.mp4"
    file.write_text(json.dumps(content))
    message = (
        f"the predictions' video 'x/walk.avi' is ['a', 'b'] of {file}, which has ['a', 'b', 'c']"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        score_poses([frame], file)


def test_the_figures_in_words(tmp_path) -> None:
    """And a joint of score 0 was found: the score says nothing of the place."""
    file = posetrack(tmp_path / "a.json")
    names = ["head_bottom", "head_top", "right_wrist"]
    person = np.array([[50.5, 40.5, 0], [50.5, 20.5, 0], [80.5, np.nan, 1]])
    frame = Poses("mine", 0, names, person[None], np.ones(1), np.array([1]))
    results, text = score_poses([frame], file)
    assert (results["matched"], results["PCKh@0.5"]) == (1, pytest.approx(100 / 3))
    first, _, last = text.splitlines()
    assert first == (
        f"[people] {file}: 2 labelled persons, 1 matched (OKS of at least 0.5), 0 false; frames "
        "with two skeletons on one person: 0; joints: head_bottom, head_top, right_wrist."
    )
    assert last == "2 frames, 1 of them without predictions."
    bare = replace(frame, untracked=frozenset([1]))
    assert "IDF1" in results and "IDF1" not in score_poses([bare, replace(bare, index=2)], file)[0]
    message = f"frame 1 of 'mine' has the joints {names[:2]}, the first one {names}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        score_poses([frame, replace(frame, index=1, joint_names=names[:2])], file)


HEAD_AND_WRISTS = ["head_bottom", "head_top", "left_wrist", "right_wrist"]


def walk(path: Path, frames: int = 6, people: int = 1, **images: list) -> Path:
    """A file of people who walk to the right, 30 px a frame; ``images``: their keys, frame by
    frame."""
    content: dict = {"images": [], "annotations": []}
    content["categories"] = [{"id": 1, "name": "person", "keypoints": HEAD_AND_WRISTS}]
    for n in range(frames):
        more = {key: values[n] for key, values in images.items()}
        content["images"].append({"id": n + 1, "video_id": "walk", **more})
        for person in range(people):
            x, y = 50 + 30 * n, 40 + 200 * person
            points = [x, y, 2, x, y - 20, 2, x - 30, y + 40, 2, x + 30, y + 40, 2]
            content["annotations"].append(
                {
                    "id": 10 * n + person + 1, "image_id": n + 1, "category_id": 1,
                    "track_id": person, "keypoints": points, "bbox": [x - 40, y - 30, 80, 90],
                    "area": 7200,
                }
            )  # fmt: skip
    path.write_text(json.dumps(content))
    return path


def change(file: Path, each) -> Path:
    """Apply ``each`` to every annotation."""
    content = json.loads(file.read_text())
    for annotation in content["annotations"]:
        each(annotation)
    file.write_text(json.dumps(content))
    return file


def walking(numbers, people: int = 1) -> list[Poses]:
    """What `walk` labels, as predictions whose frames have these numbers."""
    frames = []
    for n, number in enumerate(numbers):
        rows = []
        for person in range(people):
            x, y = 50.5 + 30 * n, 40.5 + 200 * person
            rows.append([[x, y, 1], [x, y - 20, 1], [x - 30, y + 40, 1], [x + 30, y + 40, 1]])
        points = np.array(rows)
        frames.append(
            Poses("walk", number, HEAD_AND_WRISTS, points, np.ones(people), np.arange(people))
        )
    return frames


def test_frames_are_scored_in_the_order_of_time(tmp_path) -> None:
    """Where a file lists them otherwise, one exchange of two people is one for each, no more."""
    order = np.random.default_rng(0).permutation(20).tolist()
    file = walk(tmp_path / "a.json", 20, 2, frame_index=list(range(20)))
    frames = [
        replace(frame, track_ids=frame.track_ids if frame.index < 9 else frame.track_ids[::-1])
        for frame in walking(range(20), 2)
    ]
    expected, _ = score_poses(frames, file)
    content = json.loads(file.read_text())
    content["images"] = [content["images"][n] for n in order]
    file.write_text(json.dumps(content))
    assert [number for _, number in read_annotations(file).frames] == list(range(20))
    results, _ = score_poses(frames, file)
    assert results["switches"] == expected["switches"] == 2 and results == expected


def test_numbers_of_posetracks_files(tmp_path) -> None:
    """Its own are large; those of our predictions are from 0 on."""
    official = [10003420000 + n for n in range(6)]
    file = walk(tmp_path / "a.json", frame_id=official)
    for numbers, said in ((range(6), ""), (official, "Video 'walk': the predictions' frames are")):
        results, text = score_poses(walking(numbers), file)
        assert results["AP"] == pytest.approx(100) and results["matched"] == 6
        lines = text.splitlines()
        assert lines[2] == "6 frames, 0 of them without predictions."
        assert "".join(lines[3:]).startswith(said) and len(lines) == (4 if said else 3)


def test_the_index_that_a_file_states_is_the_frame(tmp_path) -> None:
    """Also where predictions of one frame before begin at 0; what else they may be is said."""
    file = walk(tmp_path / "a.json", frame_index=list(range(1, 7)))
    frames = walking([0]) + walking(range(1, 6))
    results, text = score_poses(frames, file)
    assert results["matched"] == 5 and results["false"] == 0
    assert "6 frames, 1 of them without predictions. Predicted frames that are not" in text
    assert "are taken for frame_index, as 5 of 6 are, from 1 to 6; they may be places" in text
    # Places are what is left where no number is one of the file's.
    file = walk(tmp_path / "a.json", frame_index=list(range(11, 17)))
    results, text = score_poses(walking(range(6)), file)
    assert results["AP"] == pytest.approx(100) and "of frame_index 11 to 16." in text


def test_every_tenth_frame(tmp_path) -> None:
    """By the file's numbers where the predictions are of the whole video, and said either way."""
    file = walk(tmp_path / "a.json", 3, frame_id=[0, 10, 20])
    frames = [
        replace(walking([n])[0], keypoints=walking([n])[0].keypoints + 900) for n in range(25)
    ]
    for n, frame in enumerate(walking(range(3))):
        frames[10 * n] = replace(frame, index=10 * n)
    results, text = score_poses(frames, file)
    assert results["matched"] == 3 and "taken for frame_id" in text
    assert "Predicted frames that are not annotated: 22 of 25." in text
    results, text = score_poses(walking(range(3)), file)
    assert results["matched"] == 3 and "frame_id has gaps" in text


def test_predictions_of_other_frames_are_refused(tmp_path) -> None:
    file = walk(tmp_path / "a.json", frame_id=list(range(1, 7)))
    message = (
        "none of the predicted frames of video 'walk', 40 to 45, is annotated in "
        f"{file}, which has 0 to 5 of places 0 to 5 (frame_id 1 to 6)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        score_poses(walking(range(40, 46)), file)


def test_labels_without_track_ids_have_no_identity(tmp_path) -> None:
    frames = walking(range(6), 2)
    file = walk(tmp_path / "a.json", people=2, frame_index=list(range(6)))
    assert score_poses(frames, file)[0]["MOTA"] == 100
    for key, value in (("track_id", None), ("track_id", -1), ("attributes", 3)):
        change(file, lambda a, key=key, value=value: a.update({"track_id": None, key: value}))
        results, text = score_poses(frames, file)
        assert results["matched"] == 12 and not {"IDF1", "MOTA", "switches"} & results.keys()
        assert text.endswith(
            "No IDF1, HOTA, MOTA and switches: 12 labelled persons have no track id."
        )
    # Any other number is an id.
    change(file, lambda a: a.update(track_id=a["id"] % 10 - 5))
    assert score_poses(frames, file)[0]["MOTA"] == 100
    below = [replace(frame, track_ids=frame.track_ids - 3) for frame in frames]
    assert score_poses(below, file)[0]["MOTA"] == 100
    # As CVAT's exports have it.
    change(file, lambda a: a.update(track_id=None, attributes={"track_id": a["id"] % 10}))
    assert score_poses(frames, file)[0]["MOTA"] == 100


def test_predictions_without_track_ids_have_no_identity(tmp_path) -> None:
    file = walk(tmp_path / "a.json", people=2, frame_index=list(range(6)))
    frames = walking(range(6), 2)
    for first, count in (
        (replace(frames[0], untracked=frozenset([0, 1])), 2),
        (replace(frames[0], untracked=frozenset([1, 5])), 1),
        (replace(frames[0], track_ids=np.array([-1, -1])), 2),
        (replace(frames[0], track_ids=np.array([3, -1])), 1),
    ):
        results, text = score_poses([first, *frames[1:]], file)
        assert results["matched"] == 12 and "IDF1" not in results and "switches" not in results
        assert text.endswith(
            f"No IDF1, HOTA, MOTA and switches: {count} predicted persons have no track id."
        )


def test_two_people_of_one_track_are_refused(tmp_path) -> None:
    file = walk(tmp_path / "a.json", people=2, frame_index=list(range(6)))
    frames = walking(range(6), 2)
    same = [*frames[:4], replace(frames[4], track_ids=np.array([7, 7])), frames[5]]
    message = "the predictions: frame 4 of video 'walk' has two people of track 7"
    with pytest.raises(ValueError, match=f"^{message}$"):
        score_poses(same, file)
    change(file, lambda a: a.update(track_id=0 if a["id"] == 42 else a["track_id"]))
    message = (
        f"{file}: annotations[9].track_id (id 42): expected an id that no other person of frame 4 "
        "of video 'walk' has, got 0"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        score_poses(frames, file)
    # A crowd is no person.
    change(file, lambda a: a.update(iscrowd=int(a["id"] == 42)))
    assert score_poses(frames, file)[0]["switches"] == 0


def test_a_skeleton_on_a_person_of_other_joints_is_no_false_one(tmp_path) -> None:
    """Of the second person only the wrists are labelled, which the model lacks."""
    file = walk(tmp_path / "a.json", people=2, frame_index=list(range(6)))
    change(file, lambda a: a["track_id"] and a["keypoints"].__setitem__(slice(0, 6), [0] * 6))
    fewer = [
        replace(f, joint_names=HEAD_AND_WRISTS[:2], keypoints=f.keypoints[:, :2])
        for f in walking(range(6), 2)
    ]
    results, _ = score_poses(fewer, file)
    assert (results["persons"], results["matched"], results["false"]) == (6, 6, 0)


def test_a_name_is_looked_up_once(tmp_path, monkeypatch) -> None:
    """Not frame by frame: of long videos that took longer than the rest."""
    file = walk(tmp_path / "a.json", 50, frame_index=list(range(50)))
    asked = []
    spellings = score._spellings
    monkeypatch.setattr(score, "_spellings", lambda name: asked.append(name) or spellings(name))
    score_poses(walking(range(50)), file)
    assert asked == ["walk"]


def test_annotations_stay_as_they_were_read(tmp_path) -> None:
    with pytest.raises(FrozenInstanceError):
        read_annotations(posetrack(tmp_path / "a.json")).names = {}
