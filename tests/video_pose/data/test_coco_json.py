"""Each field of a COCO-style file by itself: what is read, refused with its place, or counted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from video_pose.data.datasets.coco_json import (
    Labels,
    choose_category,
    joint_set,
    list_files,
    open_coco,
    read_area,
    read_labels,
)
from video_pose.data.datasets.tracks import noted
from video_pose.data.json_fields import Field

PERSON = {"id": 1, "name": "person", "keypoints": ["nose", "tail"]}


def _read(
    images: list[Any] | None = None, people: Any = (), categories: Any = (PERSON,), **options: Any
) -> tuple[Labels, dict[str, int]]:
    """Labels of one file "a.json", and what was noted."""
    content = {
        "images": [{"id": 3, "file_name": "x.jpg"}] if images is None else images,
        "annotations": people if people is None else list(people), "categories": list(categories),
    }  # fmt: skip
    with noted("a dataset") as said:
        labels = read_labels([Field(content, "a.json")], **options)
    return labels, dict(said)


def _person(**changes: Any) -> dict[str, Any]:
    values = {"id": 8, "image_id": 3, "category_id": 1, "keypoints": [1, 2, 2, 3, 4, 1], **changes}
    return {key: value for key, value in values.items() if value is not ...}


# ---- files


def test_which_files_a_path_stands_for(tmp_path: Path) -> None:
    for name in ("b.json", "a.JSON", ".c.json", "d.jsonl", "[e].json"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / "sub" / "deep" / "f.json").write_text("{}")
    (tmp_path / "sub.json").mkdir()

    def found(pattern: str) -> list[str]:
        return [str(Path(p).relative_to(tmp_path)) for p in list_files(str(tmp_path / pattern))]

    assert found("") == ["[e].json", "a.JSON", "b.json", "sub.json"]
    assert found("?.json") == ["b.json"] and found("**/f.json") == ["sub/deep/f.json"]
    with noted("a dataset") as said:
        list_files(str(tmp_path))
    place, pattern = f".json files in folders below {tmp_path}", f"{tmp_path}/**/*.json"
    assert said == {f"{place}: not read (a pattern, {pattern}, takes them)": 1}
    (tmp_path / "sub" / "deep" / "f.json").rename(tmp_path / "sub" / "f.jpg")
    with noted("a dataset") as said:
        list_files(str(tmp_path))
    assert not said
    # A file of this very name is no pattern; a folder that a pattern fits is no file.
    assert found("[e].json") == ["[e].json"] and found("*.json") == ["[e].json", "b.json"]
    files = [tmp_path / "b.json", str(tmp_path / "a.JSON")]
    assert list_files(files) == [str(files[0]), files[1]] and list_files(files[0]) == [
        str(files[0])
    ]
    for path, words in (
        (tmp_path / "sub", f"the folder {tmp_path / 'sub'} has no .json file"),
        (tmp_path / "x*.json", f"no file matches the pattern {tmp_path / 'x*.json'}"),
        (tmp_path / "x.json", f"{tmp_path / 'x.json'} does not exist. Datasets are looked for"),
        ([], "the list of annotation files is empty"),
    ):
        with pytest.raises(FileNotFoundError) as error:
            list_files(path)
        assert str(error.value).startswith(words)


def test_the_lists_that_a_file_must_have(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"info": 1, "images": null, "annotations": []}')
    with pytest.raises(ValueError) as error:
        open_coco(str(path))
    assert str(error.value) == (
        f"{path}: expected the lists ['images', 'categories'], got "
        "['annotations', 'images', 'info']."
    )
    path.write_text('{"images": [], "categories": []}')
    assert open_coco(str(path)).content() == {"images": [], "categories": []}


# ---- categories


def _chosen(*categories: dict[str, Any], **options: Any) -> tuple[str, list[str], list[int]]:
    content = Field({"categories": list(categories)}, "a.json")
    found = choose_category(content, **options)
    return found.name, found.joints, found.ids


CAT = {"id": 2, "name": "cat", "keypoints": ["a", "b"]}


@pytest.mark.parametrize(
    ("categories", "options", "expected"),
    [
        ([{"id": 0, "name": "people"}, PERSON], {}, ("person", ["nose", "tail"], [1])),
        ([CAT, PERSON], {}, ("person", ["nose", "tail"], [1])),
        ([CAT, {**PERSON, "name": "Person"}], {}, ("Person", ["nose", "tail"], [1])),
        ([CAT, PERSON], {"category": "cat"}, ("cat", ["a", "b"], [2])),
        ([CAT, PERSON], {"joints": ["a", "b"]}, ("cat", ["a", "b"], [2])),
        # Names of a user's own for those of the file.
        ([CAT, PERSON], {"joints": ["c", "d"]}, ("person", ["c", "d"], [1])),
        ([CAT], {"joints": ["c", "d"]}, ("cat", ["c", "d"], [2])),
        ([CAT, PERSON], {"joints": ["c"], "category": "cat"}, ("cat", ["c"], [2])),
        ([{"name": "x"}], {"joints": ["c"]}, ("x", ["c"], [])),
        ([{"keypoints": ["c"]}], {}, ("", ["c"], [])),
        # Several of the same joints are one.
        ([CAT, {**CAT, "id": 5, "name": "dog"}], {}, ("cat", ["a", "b"], [2, 5])),
        ([{**CAT, "keypoints": []}, PERSON], {}, ("person", ["nose", "tail"], [1])),
        ([{**CAT, "keypoints": None, "name": None}, PERSON], {}, ("person", ["nose", "tail"], [1])),
    ],
)
def test_the_category_of_the_people(categories: list, options: dict, expected: tuple) -> None:
    assert _chosen(*categories, **options) == expected


@pytest.mark.parametrize(
    ("categories", "options", "listed"),
    [
        ([], {}, "[]"),
        ([], {"joints": ["c"]}, "[]"),
        ([{"name": "x"}], {}, "[('x', [])]"),
        ([{"name": "x"}], {"category": "x"}, "[('x', [])]"),
        ([CAT], {"category": "person"}, "[('cat', ['a', 'b'])]"),
        ([CAT, {"name": "x", "keypoints": ["c"]}], {}, "[('cat', ['a', 'b']), ('x', ['c'])]"),
        ([PERSON, {**CAT, "name": "person"}], {},
         "[('person', ['nose', 'tail']), ('person', ['a', 'b'])]"),
    ],
)  # fmt: skip
def test_categories_of_which_none_is_the_peoples(
    categories: list, options: dict, listed: str
) -> None:
    with pytest.raises(ValueError) as error:
        _chosen(*categories, **options)
    assert str(error.value) == (
        "a.json: expected one list of joint names in categories[].keypoints, got "
        f"{listed}. Call the people's category 'person', or, in Python, pass "
        "joints=JointSet(names=[...]) to give the names, or category='<name>' to choose."
    )


@pytest.mark.parametrize(
    ("skeleton", "lines", "dropped"),
    [
        ([[1, 2], [2, 3]], [("a", "b"), ("b", "c")], 0),
        ([[0, 1], [1, 2]], [("a", "b"), ("b", "c")], 0),
        # 0 with a number that only counting from 1 has: no line from 0.
        ([[0, 1], [1, 3]], [("a", "c")], 1),
        ([["c", "a"], ["a", 2]], [("c", "a"), ("a", "b")], 0),
        ([[1, 4], [1], [1, 2, 3], 7, [True, 1], [1, 2.0], [None, 1], ["x", 1], (1, 3)],
         [("a", "c")], 8),
        ([], [], 0),
        (None, [], 0),
    ],
)  # fmt: skip
def test_lines_between_the_joints(skeleton: Any, lines: list, dropped: int) -> None:
    category = {"name": "person", "keypoints": ["a", "b", "c"], "skeleton": skeleton}
    with noted("a dataset") as said:
        assert choose_category(Field({"categories": [category]}, "a.json")).lines == lines
    text = "lines of the skeleton between joints that do not exist: not drawn"
    assert dict(said) == ({text: dropped} if dropped else {})


def test_a_skeleton_that_is_no_list_is_said() -> None:
    category = {**PERSON, "skeleton": "1-2"}
    with noted("a dataset") as said:
        assert choose_category(Field({"categories": [category]}, "a.json")).lines == []
    assert dict(said) == {"categories whose skeleton is no list: lines by the joints' names": 1}


def test_mirror_pairs_of_a_file() -> None:
    """Which of two is left follows from the names, else from the order."""
    names = ["left_ear", "right_ear", "x", "y", "z"]
    pairs = [["right_ear", "left_ear"], ["y", "x"]]
    category = {"name": "person", "keypoints": names, "mirror_pairs": pairs}
    found = choose_category(Field({"categories": [category]}, "a.json"))
    assert found.mirror_pairs == [("left_ear", "right_ear"), ("y", "x")]
    assert joint_set(found).flip_map == [("left_ear", "right_ear"), ("y", "x")]
    for pair in (["x"], ["x", "y", "z"]):
        content = {"categories": [{**category, "mirror_pairs": [pair]}]}
        with pytest.raises(ValueError, match=r"mirror_pairs\[0\]: expected two names, got a list"):
            choose_category(Field(content, "a.json"))


def test_what_a_category_does_not_say_follows_from_the_names() -> None:
    def skeleton(names: list[str], **changes: Any) -> Any:
        category = {"name": "person", "keypoints": names, **changes}
        return joint_set(choose_category(Field({"categories": [category]}, "a.json")))

    head = skeleton(["head_top", "head_bottom", "left_eye", "right_eye"])
    assert head.head_segment == ("head_top", "head_bottom")
    assert head.flip_map == [("left_eye", "right_eye")]
    assert skeleton(["head_top", "nose"]).head_segment is None
    lines = skeleton(["a", "b"], skeleton=[[2, 1]]).connections
    assert [line[:2] for line in lines] == [("b", "a")]
    assert skeleton(["a", "b"]).connections == []
    with pytest.raises(ValueError, match=r"^a\.json: Joint names repeat"):
        skeleton(["a", "a"])


# ---- images


def test_fields_of_an_image() -> None:
    images = [
        {"id": 3, "video_id": "v", "vid_id": "w", "frame_index": "0", "frame_id": "9",
         "file_name": "a.jpg", "height": 1, "width": 2},
        {"id": 4, "vid_id": 0, "frame_id": "007", "video_file": "b.mp4", "height": 5},
        {"id": 2.0, "file_name": "c.jpg", "width": 5, "colour": "x", "license": 3, "mood": None},
        {"id": 7, "file_name": "d.jpg", "colour": 4},
    ]  # fmt: skip
    labels, said = _read(images)
    assert [tuple(image)[:6] for image in labels.images] == [
        (3, "v", 0, "a.jpg", None, (1, 2)),
        (4, "0", 7, None, "b.mp4", None),
        (2, None, None, "c.jpg", None, None),
        (7, None, None, "d.jpg", None, None),
    ]
    assert [image.where for image in labels.images[:2]] == [
        "a.json: images[0] (id 3)", "a.json: images[1] (id 4)",
    ]  # fmt: skip
    # Of two names of one thing the first is read, the other counted.
    assert said == {
        "fields images[].colour: not read": 2,
        "fields images[].vid_id: not read": 1,
        "fields images[].frame_id: not read": 1,
        "frames of a video_file by frame_id, without frame_index: taken for a count from 0": 1,
    }
    assert labels.source == "a.json" and labels.people == []


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ({}, "a.json: image 3 has no file_name (nor video_file)."),
        ({"file_name": "a", "height": 0}, "a.json: images[0].height (id 3): expected a whole "
         "number of at least 1, got 0"),
        ({"file_name": "a", "width": 0}, "a.json: images[0].width (id 3): expected a whole "
         "number of at least 1, got 0"),
        ({"file_name": "a", "frame_id": "-1"}, "a.json: images[0].frame_id (id 3): expected a "
         "whole number, or its digits as text, got text '-1'"),
        ({"file_name": "a", "frame_index": ""}, "a.json: images[0].frame_index (id 3): expected a "
         "whole number, or its digits as text, got text ''"),
    ],
)  # fmt: skip
def test_images_that_are_refused(image: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as error:
        _read([{"id": 3, **image}])
    assert str(error.value) == words


@pytest.mark.parametrize("key", ["frame_index", "frame_id"])
def test_numbers_and_texts_of_frames_do_not_mix(key: str) -> None:
    images: list[dict[str, Any]] = [
        {"id": n, "file_name": "a", key: value} for n, value in enumerate([None, 4, "5", 6, "7"])
    ]
    with pytest.raises(ValueError) as error:
        _read(images)
    assert str(error.value) == (
        f"a.json: images[2].{key} (id 2): expected a number, as images[1].{key} is 4, got text '5'"
    )
    # The two keys are two counts.
    labels, _ = _read([{"id": 1, "file_name": "a", "frame_index": 1, "frame_id": "2"}])
    assert labels.images[0].frame == 1


@pytest.mark.parametrize(("value", "number"), [(0, 0), (-3, -3), (5.0, 5), ("0", 0), ("010", 10)])
def test_a_frames_number(value: Any, number: int) -> None:
    assert Field(value, "a.json").number_id() == number


# ---- people


def test_fields_of_a_person() -> None:
    people = [
        _person(track_id=0, bbox=[1, 2, 3, 4], area=5.5, iscrowd=1, attributes={"track_id": 7}),
        _person(id=..., attributes={"track_id": "b", "mood": "good"}, num_keypoints=2, note=1),
        _person(keypoints=[1, 2, 0, 3, 4, 0], attributes=["x"], iscrowd=0, note=2),
        _person(keypoints=[], area=-1, bbox=[0, 0, 0, 0]),
        _person(keypoints=..., track_id="c", segmentation=[[1, 2]]),
    ]
    labels, said = _read(people=people)
    found = [
        (p.image_id, p.track, p.keypoints is not None, p.box is not None, p.area, p.crowd)
        for p in labels.people
    ]
    assert found == [
        (3, "0", True, True, 5.5, True),
        (3, "b", True, False, None, False),
        (3, None, False, False, None, False),
        (3, None, False, True, None, False),
        (3, "c", False, False, None, False),
    ]
    assert labels.people[0].keypoints is not None and labels.people[0].box is not None
    assert labels.people[0].keypoints.tolist() == [[1, 2, 2], [3, 4, 1]]
    assert labels.people[0].box.tolist() == [1, 2, 3, 4]
    assert [p.where for p in labels.people[:2]] == [
        "a.json: annotation 8 (annotations[0])",
        "a.json: annotation annotations[1] (annotations[1])",
    ]
    assert said == {
        "areas of 0 or below: taken as not told": 1,
        "fields annotations[].note: not read": 2,
        "fields annotations[].attributes.mood: not read": 1,
        "fields annotations[].attributes: not read": 1,
        "fields annotations[].segmentation: not read": 1,
    }


@pytest.mark.parametrize(
    ("area", "expected"), [(None, None), (0, None), (-2, None), (0.25, 0.25), (7, 7.0)]
)
def test_the_area_of_a_person(area: Any, expected: float | None) -> None:
    assert read_area(Field({"area": area}, "a.json")) == expected


@pytest.mark.parametrize(
    ("keypoints", "words"),
    [
        ([1, 2, 2], "6 numbers (2 x (x, y, v))"),
        ([1, 2, 2, 3, 4, 3], "2 x (x, y, v) with v 0, 1 or 2, not 3"),
        ([1, 2, -1, 3, 4, 2], "2 x (x, y, v) with v 0, 1 or 2, not -1"),
        ([1, 2, 0.5, 3, 4, 2], "2 x (x, y, v) with v 0, 1 or 2, not 0.5"),
        ([1, 2, 2] * 3, "6 numbers (2 x (x, y, v))"),
    ],
)
def test_keypoints_that_do_not_fit_the_joints(keypoints: list[float], words: str) -> None:
    with pytest.raises(ValueError) as error:
        _read(people=[_person(keypoints=keypoints)])
    assert str(error.value) == (
        f"a.json: annotations[0].keypoints (id 8): expected {words}, got a list {keypoints}"
    )


def test_people_of_other_categories_and_of_no_image() -> None:
    people = [
        _person(), _person(category_id=2), _person(category_id=4), _person(category_id=2.0),
        _person(category_id=2),
    ]  # fmt: skip
    labels, said = _read(people=people, categories=(PERSON, CAT))
    assert [p.where for p in labels.people] == ["a.json: annotation 8 (annotations[0])"]
    assert said == {
        "annotations of category 2, which is not 'person': left out": 2,
        "annotations of category 4, which is not 'person': left out": 1,
        "annotations of category 2.0, which is not 'person': left out": 1,
    }
    # A category without an id has everybody; of a single one the annotations need not say it.
    bare = {key: value for key, value in PERSON.items() if key != "id"}
    assert len(_read(people=people, categories=(bare,))[0].people) == 5
    assert len(_read(people=[_person(category_id=...)])[0].people) == 1
    assert _read(people=None)[0].people == []
    with pytest.raises(ValueError, match=r"annotations\[0\].category_id \(id 8\): expected a val"):
        _read(people=[_person(category_id=...)], categories=(PERSON, CAT))
    with pytest.raises(ValueError) as error:
        _read(people=[_person(image_id=4)])
    assert str(error.value) == (
        "a.json: annotations[0].image_id (id 8): expected the id of one of images[], got 4"
    )


def test_fields_of_the_file_and_of_its_category_that_are_not_read_are_counted() -> None:
    """Of the people's category alone; those for drawing and of the file's origin say nothing."""
    own = {**PERSON, "flip_idx": [1, 0], "supercategory": "animal", "color": "#fff"}
    _, said = _read(people=[_person()], categories=(own, {**CAT, "breed": "x"}))
    assert said == {"fields categories[].flip_idx: not read": 1}
    content = {"images": [{"id": 3, "file_name": "x.jpg"}], "annotations": [], "videos": [4],
               "categories": [PERSON], "info": {"year": 1}, "licenses": [4]}  # fmt: skip
    with noted("a dataset") as found:
        read_labels([Field(content, "a.json")])
    assert found == {"fields videos: not read": 1}


def test_a_track_of_minus_1_is_none() -> None:
    """Trackers number people so whom they do not follow."""
    tracks = (-1, "-1", -1.0, 0, -2)
    people, _ = _read(people=[_person(track_id=track) for track in tracks])
    assert [person.track for person in people.people] == [None, None, None, "0", "-2"]


def test_who_is_told_by_a_mask_alone_is_left_out_and_counted() -> None:
    mask = {"segmentation": [[1, 2]]}
    people = [
        _person(keypoints=..., **mask), _person(keypoints=[0] * 6, **mask), _person(**mask),
        _person(keypoints=..., bbox=[1, 2, 3, 4], **mask),
        _person(keypoints=..., track_id=1, **mask), _person(keypoints=...),
        _person(keypoints=..., segmentation=[]),
    ]  # fmt: skip
    labels, said = _read(people=people)
    assert [int(p.where[-3]) for p in labels.people] == [2, 3, 4, 5, 6]
    assert said == {
        "annotations with a mask (segmentation) alone, without bbox and joints: left out": 2,
        "fields annotations[].segmentation: not read": 6,
    }


# ---- several files


def _file(name: str, ids: list[int], video: Any, joints: Any = ("nose",)) -> Field:
    images = [{"id": n, "file_name": "a", "video_id": video, "frame_id": n} for n in ids]
    people = [{"id": n, "image_id": n, "keypoints": [1, 1, 2] * len(joints)} for n in ids]
    category = {"name": "person", "keypoints": list(joints)}
    content = {"images": images, "annotations": people, "categories": [category]}
    return Field(content, f"/labels/{name}.json")


def _all(*files: Field) -> tuple[list[tuple[int, str | None]], list[int], dict[str, int]]:
    with noted("a dataset") as said:
        labels = read_labels(files)
    return (
        [(image.id, image.video) for image in labels.images],
        [person.image_id for person in labels.people],
        dict(said),
    )


def test_files_that_count_from_one_are_set_apart() -> None:
    step = 10**12
    apart = "files whose image ids another file has too: their ids are set apart"
    images, people, said = _all(
        _file("a", [1, 2], 7), _file("b", [3], 8), _file("c", [2, 5], 7), _file("d", [5], None),
    )  # fmt: skip
    # c is the third file; d repeats no id that is left: c's 5 became another.
    expected = [(1, "a/7"), (2, "a/7"), (3, "8"), (3 * step + 2, "c/7"), (3 * step + 5, "c/7"),
                (5, None)]  # fmt: skip
    assert images == expected and people == [image for image, _ in expected]
    videos = "video ids that two files have: taken as videos of their own"
    assert said == {apart: 1, videos: 1}
    labels = read_labels([_file(name, [n], None) for n, name in enumerate("abcd")])
    assert labels.source == "/labels/a.json, /labels/b.json, /labels/c.json"  # three for all
    images, people, said = _all(_file("a", [1], 7), _file("b", [1], None), _file("c", [1], 7))
    assert images == [(1, "a/7"), (2 * step + 1, None), (3 * step + 1, "c/7")]
    assert people == [1, 2 * step + 1, 3 * step + 1] and said == {apart: 2, videos: 1}


def test_files_of_one_name_are_told_apart_by_their_folders() -> None:
    """Labelling tools call every export the same."""
    images, _, _ = _all(
        _file("x/one/annotations", [1], 7), _file("x/two/annotations", [1], 7),
        _file("y/two/annotations", [2], 7), _file("b", [3], 7), _file("annotations", [4], 7),
    )  # fmt: skip
    assert [video for _, video in images] == [
        "one/annotations/7", "x/two/annotations/7", "y/two/annotations/7", "b/7",
        "labels/annotations/7",
    ]  # fmt: skip


def test_ids_may_be_digits_as_text() -> None:
    content = _file("a", [1, 2], 7).value
    for image in content["images"]:
        image["id"] = str(image["id"])
    content["annotations"][1]["image_id"] = "2"
    content["categories"][0]["id"] = 1
    content["annotations"][0]["category_id"] = "1"
    assert _all(Field(content, "a.json"))[:2] == ([(1, "7"), (2, "7")], [1, 2])
    content["images"][1]["id"] = "01"
    with pytest.raises(
        ValueError, match=r"images\[1\].id .* which no other has: repeated are \[1\]"
    ):
        _all(Field(content, "a.json"))
    content["images"][1]["id"] = "b"
    with pytest.raises(ValueError, match=r"images\[1\].id .*a whole number, or its digits as text"):
        _all(Field(content, "a.json"))


def test_a_video_of_two_files_is_two_videos() -> None:
    images, _, said = _all(
        _file("a", [1, 2], 7), _file("b", [3], 7), _file("c", [4], 8), _file("d", [5], None),
        _file("e", [6], None), _file("f", [9], 9), _file("g", [10], 9),
    )  # fmt: skip
    assert images == [
        (1, "a/7"), (2, "a/7"), (3, "b/7"), (4, "8"), (5, None), (6, None), (9, "f/9"),
        (10, "g/9"),
    ]  # fmt: skip
    assert said == {"video ids that two files have: taken as videos of their own": 2}


def test_files_of_other_joints_are_refused() -> None:
    files = _file("a", [1], 7), _file("b", [2], 7), _file("c", [3], 7, ("ear",))
    with pytest.raises(ValueError) as error:
        read_labels(files)
    assert str(error.value) == (
        "/labels/c.json: expected the joints of /labels/a.json, ['nose'], got ['ear']"
    )
    # Names that are given stand for those of all.
    assert len(read_labels(files, ["x"]).people) == 3
    assert [c.joints for c in read_labels(files, ["x"]).categories] == [["x"]] * 3
