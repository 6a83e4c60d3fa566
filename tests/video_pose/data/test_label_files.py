"""What labelling tools write, by hand: CVAT, Label Studio, Roboflow, DeepLabCut, SLEAP, plugins."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from video_pose.data.datasets.coco_json import choose_category, joint_set
from video_pose.data.datasets.coco_video import load_video_keypoints
from video_pose.data.datasets.label_files import FORMATS, open_labels
from video_pose.data.datasets.tracks import noted
from video_pose.data.json_fields import Field

CVAT_VIDEO = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><job><start_frame>10</start_frame>
<frame_filter>step=5</frame_filter>
<labels><label><name>person</name><type>skeleton</type></label>
<label><name>RHand</name><type>points</type><parent>person</parent></label>
<label><name>LHand</name><type>points</type><parent>person</parent></label></labels>
<original_size><width>64</width><height>48</height></original_size></job>
<source>walk.mp4</source></meta>
<track id="3" label="person" source="manual">
<skeleton frame="15" keyframe="15" z_order="0">
<points label="LHand" outside="0" occluded="1" points="20.5,8.00"/>
<points label="RHand" outside="0" occluded="0" points="10.25,4.50"/></skeleton>
<skeleton frame="20" keyframe="0" z_order="0">
<points label="LHand" outside="1" occluded="0" points="21.0,8.0"/>
<points label="RHand" outside="0" occluded="0" points="11,5"/></skeleton></track>
<track id="4" label="person"><box frame="15" outside="0" xtl="1" ytl="2" xbr="11" ybr="22"/>
<box frame="20" outside="1" xtl="1" ytl="2" xbr="11" ybr="22"/></track>
<track id="5" label="ball"><box frame="15" outside="0" xtl="1" ytl="2" xbr="3" ybr="4"/></track>
</annotations>"""


def _load(path: Path, joints: list[str], **options: Any) -> dict[str, Any]:
    tracks = load_video_keypoints(str(path), str(path.parent), joints, **options)
    return {track["track_id"]: track for track in tracks}


def _skeleton(path: Path) -> Any:
    return joint_set(choose_category(open_labels(str(path))))


def _save(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_cvats_video_xml(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = _save(tmp_path / "a.xml", CVAT_VIDEO)
    skeleton = _skeleton(path)
    assert skeleton.names == ["RHand", "LHand"]  # as the label's parts are ordered
    assert skeleton.flip_map == [("LHand", "RHand")]
    tracks = _load(path, skeleton.names)
    person = tracks["3"]
    # Numbers are the video's, whatever start and step the task has; points are continuous already.
    assert person["frame_numbers"].tolist() == [15, 20]
    assert person["video_file"] == str(tmp_path / "walk.mp4")
    assert (person["height"], person["width"]) == (48, 64)
    assert person["keypoints"][0].tolist() == [[10.25, 4.5, 2], [20.5, 8, 1]]
    assert person["keypoints"][1].tolist() == [[11, 5, 2], [0, 0, 0]]
    # A box without joints; that of frame 2 is outside.
    assert tracks["4"]["boxes"][0].tolist() == [1, 2, 11, 22]
    assert tracks["4"]["boxed"].tolist() == [True] and not tracks["4"]["labelled"].any()
    assert "1 <box> of label 'ball': left out" in caplog.text
    assert person["video_id"] == "walk.mp4"


def test_frames_of_a_cvat_task_without_a_video_are_named_by_number(tmp_path: Path) -> None:
    text = CVAT_VIDEO.replace("<source>walk.mp4</source>", "")
    person = _load(_save(tmp_path / "a.xml", text), ["RHand", "LHand"])["3"]
    assert person["video_id"] == "video"
    names = [f"frame_{number:06d}.PNG" for number in (15, 20)]
    assert person["file_names"] == [str(tmp_path / name) for name in names]


def test_cvats_image_xml(tmp_path: Path) -> None:
    path = _save(
        tmp_path / "a.xml",
        """<annotations><meta/><image id="0" name="v/7.png" width="64" height="48">
        <skeleton label="person"><points label="nose" outside="0" occluded="0" points="3,4"/>
        <attribute name="track_id">9</attribute></skeleton></image></annotations>""",
    )
    assert _load(path, ["nose"])["0"]["keypoints"].tolist() == [[[3, 4, 2]]]
    assert list(_load(path, ["nose"], videos="names")) == ["9"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<annotations>", "is no XML"),
        ('<?xml version="1.0" encoding="nothing"?><annotations/>', "is no XML: .*encoding"),
        ('<?xml version="1.0" encoding="utf-32"?><annotations/>', "is no XML: "),
        ("<x/>", "expected CVAT's <annotations>, got <x>"),
        ("<annotations/>", "expected <skeleton> shapes"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><annotations/>', "DOCTYPE or entities"),
        (CVAT_VIDEO.replace("10.25,4.50", "10.25"), "'RHand'>: expected points="),
        (CVAT_VIDEO.replace('frame="15" keyf', 'frame="one" keyf'), "frame: expected a who"),
        (CVAT_VIDEO.replace('xtl="1"', 'xtl="left"'), "xtl: expected a number, got 'left'"),
    ],
)
def test_what_cvats_xml_is_refused_for(tmp_path: Path, text: str, words: str) -> None:
    path = _save(tmp_path / "bad.xml", text)
    with pytest.raises(ValueError, match=f"bad.xml.*{words}"):
        _load(path, ["RHand", "LHand"])


def _region(kind: str, key: str, label: str, x: float, y: float, **more: Any) -> dict[str, Any]:
    value = {"x": x, "y": y, kind: [label], **more.pop("value", {})}
    size = {"original_width": 200, "original_height": 100}
    return {"id": key, "type": kind, "value": value, **size, **more}


def _task(*regions: dict[str, Any], image: str = "/data/upload/1/0a1b2c3d-v_0007.jpg") -> Any:
    return {"id": 5, "data": {"image": image}, "annotations": [{"result": list(regions)}]}


def test_label_studios_keypoints(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    box = _region("rectanglelabels", "r", "person", 10, 20, value={"width": 30, "height": 40})
    regions = [
        box,
        _region("keypointlabels", "k", "nose", 25, 50, parentID="r"),
        _region("keypointlabels", "l", "tail", 30, 10),
        {"type": "relation", "from_id": "l", "to_id": "r", "direction": "right"},
    ]
    path = _save(tmp_path / "ls.json", json.dumps([_task(*regions)]))
    person = _load(path, ["nose", "tail"])["0"]
    # Percent of 200 x 100 px; the name without what the upload put before it.
    assert person["keypoints"].tolist() == [[[50, 50, 2], [60, 10, 2]]]
    assert person["boxes"].tolist() == [[20, 20, 80, 60]]
    assert person["file_names"] == [str(tmp_path / "v_0007.jpg")]
    assert "left out" not in caplog.text
    local = _task(regions[1], image="/data/local-files/?d=shots/v_0007.jpg")
    path = _save(tmp_path / "ls.json", json.dumps([local]))
    assert _load(path, ["nose"])["0"]["file_names"] == [str(tmp_path / "shots" / "v_0007.jpg")]


def test_of_several_annotators_the_first_that_was_not_cancelled_counts(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Four annotations, of which the first was cancelled: two are left out, which is said."""
    task = _task()
    task["annotations"] = [
        {"result": [_region("keypointlabels", "k", "nose", x, 50)], "was_cancelled": x == 10}
        for x in (10, 20, 30, 40)
    ]
    path = _save(tmp_path / "ls.json", json.dumps([task]))
    assert _load(path, ["nose"])["0"]["keypoints"].tolist() == [[[40, 50, 2]]]
    assert "2 annotations of a task beside its first: left out" in caplog.text


@pytest.mark.parametrize(
    ("regions", "words"),
    [
        ([], "type 'keypointlabels', found none"),
        ([_region("keypointlabels", k, "nose", 1, 1) for k in "ab"], "one 'nose' a person"),
        ([_region("keypointlabels", "a", "nose", "1", 1)], r"value.x.*a number, got text '1'"),
        ([{"id": "a"}], r"result\[0\].type .*no such key"),
    ],
)
def test_what_label_studios_files_are_refused_for(
    tmp_path: Path, regions: list[Any], words: str
) -> None:
    path = _save(tmp_path / "ls.json", json.dumps([_task(*regions)]))
    with pytest.raises(ValueError, match=f"ls.json.*{words}"):
        _load(path, ["nose"])


DLC = """scorer,,,me,me,me,me
individuals,,,ann,ann,bob,bob
bodyparts,,,nose,nose,nose,nose
coords,,,x,y,x,y
labeled-data,walk,img002.png,1.0,2.0,,
labeled-data,walk,img010.png,3.0,4.0,30,40
"""


def test_deeplabcuts_csv(tmp_path: Path) -> None:
    for name in ("img002.png", "img010.png"):
        (tmp_path / "labeled-data" / "walk").mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48)).save(tmp_path / "labeled-data" / "walk" / name)
    path = _save(tmp_path / "CollectedData_me.csv", DLC)
    tracks = _load(path, ["nose"])
    assert tracks["ann"]["keypoints"].tolist() == [[[1.5, 2.5, 2]], [[3.5, 4.5, 2]]]
    assert tracks["bob"]["keypoints"].tolist() == [[[30.5, 40.5, 2]]]
    assert tracks["ann"]["video_id"] == "walk" and tracks["ann"]["height"] == 48
    single = "scorer,me,me\nbodyparts,nose,nose\ncoords,x,y\nlabeled-data/walk/img002.png,5,6\n"
    path = _save(tmp_path / "CollectedData_me.csv", single)
    assert _load(path, ["nose"])["0"]["keypoints"].tolist() == [[[5.5, 6.5, 2]]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (DLC.replace("1.0,2.0", "left,2.0"), "line 5: expected a number, got 'left'"),
        (DLC.replace(",30,40", ",30"), "line 6: expected 7 columns, got 6"),
        ("a,b\n1,2\n", "expected rows 'scorer'"),
        ("", "expected rows 'scorer'"),
    ],
)
def test_what_deeplabcuts_csv_is_refused_for(tmp_path: Path, text: str, words: str) -> None:
    path = _save(tmp_path / "bad.csv", text)
    with pytest.raises(ValueError, match=f"bad.csv.*{words}"):
        _load(path, ["nose"])


def test_deeplabcuts_h5_says_the_same(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    levels = ["scorer", "individuals", "bodyparts", "coords"]
    columns = pandas.MultiIndex.from_product([["me"], ["ann"], ["nose"], ["x", "y"]], names=levels)
    index = pandas.MultiIndex.from_tuples([("labeled-data", "walk", "img002.png")])
    table = pandas.DataFrame([[1.0, 2.0]], columns=columns, index=index)
    table.to_hdf(tmp_path / "CollectedData_me.h5", key="df_with_missing")
    content = open_labels(str(tmp_path / "CollectedData_me.h5")).value
    assert content["images"][0]["file_name"] == "labeled-data/walk/img002.png"
    assert content["annotations"][0]["keypoints"] == [1, 2, 2]
    assert content["annotations"][0]["track_id"] == "ann"


def test_sleaps_labels(tmp_path: Path) -> None:
    sleap = pytest.importorskip("sleap_io")
    nodes = [sleap.Node(name) for name in ("snout", "paw_A", "paw_B")]
    skeleton = sleap.Skeleton(
        nodes=nodes, edges=[sleap.Edge(nodes[0], nodes[1])],
        symmetries=[sleap.Symmetry([nodes[1], nodes[2]])],
    )  # fmt: skip
    video = sleap.Video(filename="mouse.mp4", open_backend=False)
    points = np.array([[1.0, 2], [np.nan, np.nan], [5, 6]])
    mine = sleap.Instance.from_numpy(points, skeleton=skeleton, track=sleap.Track("a"))
    guess = sleap.PredictedInstance.from_numpy(points + 9, skeleton=skeleton)
    frame = sleap.LabeledFrame(video=video, frame_idx=7, instances=[mine, guess])
    sleap.Labels([frame]).save(str(tmp_path / "mouse.slp"), verbose=False)
    content = open_labels(str(tmp_path / "mouse.slp"))
    assert [(i["video_file"], i["frame_index"]) for i in content.value["images"]] == [
        ("mouse.mp4", 7)
    ]
    (person,) = content.value["annotations"]
    assert person["keypoints"] == [1, 2, 2, 0, 0, 0, 5, 6, 2] and person["track_id"] == "a"
    skeleton = joint_set(choose_category(content))
    assert skeleton.flip_map == [("paw_A", "paw_B")]
    assert [line[:2] for line in skeleton.connections] == [("snout", "paw_A")]
    _save(tmp_path / "bad.slp", "no labels")
    with pytest.raises(ValueError, match="bad.slp cannot be read"):
        open_labels(str(tmp_path / "bad.slp"))


def test_roboflows_coco(tmp_path: Path) -> None:
    """A parent category without joints, ids from 0, and names with a hash of Roboflow's."""
    names = [f"walk_{n:04d}_jpg.rf.9f8e7d.jpg" for n in (9, 10)]
    images = [
        {"id": i, "file_name": name, "height": 48, "width": 64, "license": 1,
         "date_captured": "2025-01-01"} for i, name in enumerate(names)
    ]  # fmt: skip
    people = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 30, 40], "area": 9, "iscrowd": 0,
         "segmentation": [], "keypoints": [3 + i, 4, 2]} for i in (0, 1)
    ]  # fmt: skip
    categories = [
        {"id": 0, "name": "people", "supercategory": "none"},
        {"id": 1, "name": "person", "supercategory": "people", "keypoints": ["nose"]},
    ]
    content = {"images": images, "annotations": people, "categories": categories, "info": {}}
    path = _save(tmp_path / "_annotations.coco.json", json.dumps(content))
    stills = load_video_keypoints(str(path), str(tmp_path), ["nose"])
    assert [track["video_id"] for track in stills] == ["still_0", "still_1"]
    (walk,) = load_video_keypoints(str(path), str(tmp_path), ["nose"], videos="names")
    assert walk["video_id"] == "walk" and walk["keypoints"][:, 0, 0].tolist() == [3.5, 4.5]


def test_a_plugin_adds_a_format(tmp_path: Path) -> None:
    def read(path: str) -> Field:
        x = float(Path(path).read_text())
        return Field(
            {
                "images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 9}],
                "annotations": [{"image_id": 1, "category_id": 4, "keypoints": [x, 2, 2]}],
                "categories": [{"id": 4, "name": "person", "keypoints": ["nose"]}],
            },
            path,
        )

    FORMATS.add("one_number")(read)
    try:
        path = _save(tmp_path / "a.txt", "3")
        track = _load(path, ["nose"], file_format="one_number")["0"]
        assert track["keypoints"].tolist() == [[[3.5, 2.5, 2]]]
    finally:
        FORMATS.remove("one_number")
    with pytest.raises(ValueError, match="file_format 'one_number': choose from.*cvat"):
        _load(path, ["nose"], file_format="one_number")


TWO_LABELS = """<annotations><meta/><image id="0" name="7.png" width="64" height="48">
<skeleton label="person"><points label="nose" outside="0" occluded="1" points="3,4"/>
<points label="tail" outside="0" occluded="0" points="5,6"/></skeleton>
<skeleton label="dog"><points label="ear" outside="0" occluded="0" points="9,9"/></skeleton>
<polygon label="person" points="1,1;2,2"/><box label="dog" xtl="1" ytl="1" xbr="2" ybr="2"/>
<skeleton label="person" outside="1"><points label="nose" points="9,9"/></skeleton>
<skeleton label="person"><points label="nose" outside="1" points="9,9"/></skeleton>
</image></annotations>"""


def test_of_two_labels_the_people_are_taken(tmp_path: Path, caplog: Any) -> None:
    """What is no skeleton or box of theirs is counted; who has no joint is not there."""
    path = _save(tmp_path / "a.xml", TWO_LABELS)
    assert open_labels(str(path)).value["categories"][0]["keypoints"] == ["nose", "tail"]
    tracks = _load(path, ["nose", "tail"])
    assert list(tracks) == ["0"]
    assert tracks["0"]["keypoints"].tolist() == [[[3, 4, 1], [5, 6, 2]]]
    for words in (
        "<skeleton> of label 'dog'",
        "<polygon> of label 'person'",
        "<box> of label 'dog'",
    ):
        assert f"1 {words}: left out" in caplog.text
    other = _save(tmp_path / "b.xml", TWO_LABELS.replace('"person"', '"cat"'))
    with pytest.raises(ValueError, match=r"several labels \['cat', 'dog'\], none 'person'"):
        _load(other, ["nose"])


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('frame="15" keyframe', 'frame="x" keyframe', "<skeleton> frame: .* whole number, got 'x'"),
        ('width="64"', "", "<image> width: expected a whole number, got 'None'"),
        ('ytl="2"', "", "<box> ytl: expected a number, got None"),
        ('points="20.5,8.00"', 'points="1,2,3"', "'LHand'>: expected points="),
    ],
)
def test_each_field_of_cvats_is_named(tmp_path: Path, old: str, new: str, words: str) -> None:
    text = TWO_LABELS if "64" in old else CVAT_VIDEO
    path = _save(tmp_path / "bad.xml", text.replace(old, new))
    with pytest.raises(ValueError, match=f"bad.xml.*{words}"):
        _load(path, ["nose"])


def test_label_studios_other_results_and_pictures(tmp_path: Path, caplog: Any) -> None:
    """A name that no upload made stays; the first field that holds text is the picture."""
    nose = _region("keypointlabels", "k", "nose", 25, 50)
    task = _task(nose, {"id": "t", "type": "textarea", "value": {"text": ["x"]}}, image="x.jpg")
    path = _save(tmp_path / "ls.json", json.dumps([task]))
    assert _load(path, ["nose"])["0"]["file_names"] == [str(tmp_path / "x.jpg")]
    assert "1 results of type 'textarea': left out" in caplog.text
    for data, name in (
        ({"photo": "y.jpg"}, "y.jpg"),
        ({"a": "no.jpg", "img": "z.jpg"}, "z.jpg"),
        ({"image": "/data/0a1b2c3d-v.jpg"}, "0a1b2c3d-v.jpg"),
        ({"image": "/data/upload/0a1b2c3-v.jpg"}, "0a1b2c3-v.jpg"),
    ):
        path.write_text(json.dumps([{**task, "data": data}]))
        assert _load(path, ["nose"])["0"]["file_names"][0].endswith(name)
    path.write_text(json.dumps([{**task, "data": {}}]))
    with pytest.raises(ValueError, match="data.*expected the picture's path"):
        _load(path, ["nose"])
    two = _region("keypointlabels", "k", "nose", 25, 50, value={"keypointlabels": ["a", "b"]})
    path.write_text(json.dumps([_task(two)]))
    with pytest.raises(ValueError, match="keypointlabels.*expected one joint's name"):
        _load(path, ["nose"])


def test_deeplabcuts_lines_that_do_not_fit(tmp_path: Path) -> None:
    short = DLC.replace("bodyparts,,,nose,nose,nose,nose", "bodyparts,,,nose,nose,nose")
    without = DLC.replace("coords,,,x,y,x,y", "coords,,,a,b,c,d")
    for text in (short, without):
        with pytest.raises(ValueError, match="expected rows of one length at the top"):
            _load(_save(tmp_path / "a.csv", text), ["nose"])
    (tmp_path / "b.csv").write_bytes(b"scorer,\xff\n")
    with pytest.raises(ValueError, match="b.csv is no csv in UTF-8"):
        open_labels(str(tmp_path / "b.csv"))
    pytest.importorskip("tables")
    (tmp_path / "c.h5").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="c.h5 is no table of DeepLabCut"):
        open_labels(str(tmp_path / "c.h5"))
    with pytest.raises(FileNotFoundError, match="annotation file .*d.csv does not exist"):
        open_labels(str(tmp_path / "d.csv"))


def test_sleaps_lists_of_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleap = pytest.importorskip("sleap_io")
    skeleton = sleap.Skeleton(nodes=[sleap.Node("a")])
    video = sleap.Video(filename=["p/0.png", "q/1.png"], open_backend=False)
    person = sleap.Instance.from_numpy(np.array([[3.0, 4]]), skeleton=skeleton)
    frame = sleap.LabeledFrame(video=video, frame_idx=1, instances=[person])
    monkeypatch.setattr(sleap, "load_slp", lambda path, **_: sleap.Labels([frame]))
    content = open_labels(str(_save(tmp_path / "a.slp", ""))).value
    (image,) = content["images"]
    assert (image["file_name"], image["video_id"], image["frame_index"]) == ("q/1.png", "p", 1)
    assert "video_file" not in image and "track_id" not in content["annotations"][0]


@pytest.mark.parametrize(
    ("module", "name", "words"),
    [
        ("pandas", "a.h5", "DeepLabCut's h5 needs pandas with tables; the csv beside it needs"),
        ("sleap_io", "a.slp", r".slp needs sleap-io: pip install -e"),
    ],
)
def test_packages_of_a_tool_that_are_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, name: str, words: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=f"{name}.*{words}"):
        open_labels(str(_save(tmp_path / name, "")))


# ---- the whole content of each format, and every bound


def _content(path: Path) -> tuple[list[Any], list[Any], dict[str, Any]]:
    value = open_labels(str(path)).value
    (category,) = value["categories"]
    return value["images"], value["annotations"], category


def _category(*joints: str, lines: Any = (), pairs: Any = ()) -> dict[str, Any]:
    return {
        "id": 1, "name": "person", "keypoints": list(joints),
        "skeleton": [list(line) for line in lines], "mirror_pairs": [list(pair) for pair in pairs],
    }  # fmt: skip


def test_the_content_of_cvats_video(tmp_path: Path) -> None:
    images, people, category = _content(_save(tmp_path / "A.XML", CVAT_VIDEO))
    assert category == _category("RHand", "LHand")
    video = {"video_id": "walk.mp4", "width": 64, "height": 48, "video_file": "walk.mp4"}
    assert images == [
        {"id": 1, "frame_index": 15, **video}, {"id": 2, "frame_index": 20, **video},
    ]  # fmt: skip
    own = {"category_id": 1, "track_id": "3"}
    assert people == [
        {"id": 1, "image_id": 1, **own, "keypoints": [9.75, 4, 2, 20, 7.5, 1]},
        {"id": 2, "image_id": 2, **own, "keypoints": [10.5, 4.5, 2, 0, 0, 0]},
        {"id": 3, "image_id": 1, "category_id": 1, "track_id": "4", "bbox": [1, 2, 10, 20]},
    ]


def test_the_content_of_cvats_images(tmp_path: Path) -> None:
    text = """<annotations><image id="4" name="a.png" width="5" height="6">
    <skeleton label="man"><points label="x" points="1.5,2.5"/>
    <points points="7,8"/><attribute name="mood">good</attribute>
    <attribute name="track_id">t</attribute></skeleton>
    <box label="man" xtl="1" ytl="2" xbr="4" ybr="8"/><attribute name="x">1</attribute></image>
    <image id="7" name="b.png" width="7" height="8">
    <skeleton label="man"><points label="x" points="3,4" occluded="1"/>
    <points label="y" points="5,5"/></skeleton></image>
    <image id="9" name="c.png" width="1" height="0"/></annotations>"""
    images, people, category = _content(_save(tmp_path / "a.xml", text))
    assert category == _category("x", "y")  # whose label is no "person": the only one
    assert images == [
        {"id": 1, "file_name": "a.png", "width": 5, "height": 6},
        {"id": 2, "file_name": "b.png", "width": 7, "height": 8},
        {"id": 3, "file_name": "c.png", "width": 1, "height": 0},
    ]
    assert people == [
        {"id": 1, "image_id": 1, "category_id": 1, "keypoints": [1, 2, 2, 0, 0, 0],
         "track_id": "t"},
        {"id": 2, "image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 6]},
        {"id": 3, "image_id": 2, "category_id": 1, "keypoints": [2.5, 3.5, 1, 4.5, 4.5, 2]},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("meta", "size"),
    [
        ("", None),
        ("<job><start_frame>0</start_frame><frame_filter>step=3</frame_filter></job>", None),
        ("<original_size><width>9</width><height>x</height></original_size>", (9, None)),
        ("<task><original_size><height>8</height></original_size></task>", (None, 8)),
    ],
)
def test_frames_of_cvat_keep_their_numbers(tmp_path: Path, meta: str, size: Any) -> None:
    start = CVAT_VIDEO.index("<meta>"), CVAT_VIDEO.index("<track")
    text = f"{CVAT_VIDEO[: start[0]]}<meta>{meta}</meta>{CVAT_VIDEO[start[1] :]}"
    images = _content(_save(tmp_path / "a.xml", text))[0]
    assert [image["frame_index"] for image in images] == [15, 20]
    assert [image["file_name"] for image in images] == [f"frame_{n:06d}.PNG" for n in (15, 20)]
    assert (images[0].get("width"), images[0].get("height")) == (size or (None, None))


def test_each_task_of_a_cvat_project_has_its_own_video(tmp_path: Path) -> None:
    size = (
        "<task><id>{}</id><original_size><width>{}</width><height>9</height></original_size></task>"
    )
    skeleton = '<skeleton frame="0"><points label="x" points="3,4"/></skeleton>'
    text = (
        f"<annotations><meta><project><tasks>{size.format(4, 20)}{size.format(6, 30)}</tasks>"
        f'</project></meta><track id="0" label="man" task_id="4" subset="train">{skeleton}</track>'
        f'<track id="1" label="man" task_id="6" subset="val">{skeleton}</track></annotations>'
    )
    images, people, _ = _content(_save(tmp_path / "a.xml", text))
    assert images == [
        {"id": 1, "video_id": "task 4", "frame_index": 0, "file_name": "train/frame_000000.PNG",
         "width": 20, "height": 9},
        {"id": 2, "video_id": "task 6", "frame_index": 0, "file_name": "val/frame_000000.PNG",
         "width": 30, "height": 9},
    ]  # fmt: skip
    assert [(person["image_id"], person["track_id"]) for person in people] == [(1, "0"), (2, "1")]


def test_pictures_of_a_cvat_project_repeat_their_ids(tmp_path: Path) -> None:
    picture = (
        '<image id="0" name="{}" subset="{}" task_id="{}" width="5" height="6">'
        '<skeleton label="man"><points label="x" points="1,2"/></skeleton></image>'
    )
    told = [("a.png", "train", 1), ("b.png", "train", 2), ("c.png", "val", 2), ("a.png", "val", 3)]
    text = "".join(picture.format(*each) for each in told)
    images, people, _ = _content(_save(tmp_path / "a.xml", f"<annotations>{text}</annotations>"))
    names = [image["file_name"] for image in images]
    assert names == ["train/a.png", "b.png", "c.png", "val/a.png"]
    assert [person["image_id"] for person in people] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("source", "is_video"), [("A.MP4", True), ("x.webm", True), ("mp4", False), ("a.zip", False)]
)
def test_which_sources_of_cvat_are_videos(tmp_path: Path, source: str, is_video: bool) -> None:
    path = _save(tmp_path / "a.xml", CVAT_VIDEO.replace("walk.mp4", source))
    (image, _) = _content(path)[0]
    assert image["video_id"] == source
    name = {"video_file": source} if is_video else {"file_name": "frame_000015.PNG"}
    assert {key: image[key] for key in image if key.endswith(("file", "name"))} == name


@pytest.mark.parametrize("text", ["<!DOCTYPE x>", '<!ENTITY a "b">'])
def test_xml_that_defines_anything_is_not_read(tmp_path: Path, text: str) -> None:
    path = _save(tmp_path / "a.xml", f"{text}{TWO_LABELS}")
    with pytest.raises(ValueError) as error:
        open_labels(str(path))
    assert str(error.value) == f"{path}: an XML file with a DOCTYPE or entities is not read"


def test_the_label_of_the_people_among_several(tmp_path: Path) -> None:
    """A track's skeletons have the track's label; joints that no frame shows are known too."""
    both = CVAT_VIDEO.replace(
        "</annotations>",
        '<track id="9" label="Dog"><skeleton frame="1"><points label="ear" points="1,1"/>'
        "</skeleton></track></annotations>",
    )
    _, people, category = _content(_save(tmp_path / "a.xml", both))
    assert category["keypoints"] == ["RHand", "LHand"] and len(people) == 3
    extra = both.replace('label="LHand" outside="0"', 'label="Tail" outside="0"')
    assert _content(_save(tmp_path / "a.xml", extra))[2]["keypoints"] == ["RHand", "LHand", "Tail"]
    cased = both.replace('"person"', '"PERSON"').replace("<name>person", "<name>PERSON")
    category = _content(_save(tmp_path / "a.xml", cased))[2]
    assert category["keypoints"] == ["LHand", "RHand"]  # those of the frames, in their order
    nobody = CVAT_VIDEO.replace("skeleton", "polygon")
    with pytest.raises(ValueError) as error:
        open_labels(str(_save(tmp_path / "a.xml", nobody)))
    assert str(error.value) == f"{tmp_path}/a.xml: expected <skeleton> shapes, found none"


def test_the_content_of_label_studio(tmp_path: Path) -> None:
    """Two people by rectangles, of which one has no joints, and a joint of no rectangle."""
    size = {"value": {"width": 50, "height": 20}}
    regions = [
        {"type": "relation", "from_id": "k2", "to_id": "r2"},
        {"type": "choices"},
        _region("keypointlabels", "k1", "nose", 50, 30, parentID="r2"),
        _region("rectanglelabels", "r1", "person", 10, 20, **size),
        _region("rectanglelabels", "r2", "person", 30, 40, value={"width": 5, "height": 15}),
        _region("keypointlabels", "k2", "tail", 0, 100),
        _region("keypointlabels", "k3", "nose", 100, 0, parentID="gone"),
    ]
    task = _task(*regions, image="s3://b/x.jpg")
    empty = {**_task(image="/data/upload/2/12345678-y.jpg"), "annotations": []}
    old = {**_task(), "data": {"img": "z.jpg"}, "completions": _task(regions[6])["annotations"]}
    del old["annotations"]
    path = _save(tmp_path / "ls.json", json.dumps([task, empty, old]))
    images, people, category = _content(path)
    assert category == _category("nose", "tail")
    assert images == [
        {"id": 1, "file_name": "s3://b/x.jpg", "width": 200, "height": 100},
        {"id": 2, "file_name": "y.jpg"},
        {"id": 3, "file_name": "z.jpg", "width": 200, "height": 100},
    ]
    own = {"category_id": 1}
    assert people == [
        {"id": 1, "image_id": 1, **own, "keypoints": [99.5, 29.5, 2, -0.5, 99.5, 2],
         "bbox": [60, 40, 10, 15]},
        {"id": 2, "image_id": 1, **own, "keypoints": [199.5, -0.5, 2, 0, 0, 0]},
        {"id": 3, "image_id": 1, **own, "bbox": [20, 20, 100, 20]},
        {"id": 4, "image_id": 3, **own, "keypoints": [199.5, -0.5, 2, 0, 0, 0]},
    ]  # fmt: skip


def test_label_studios_rectangles_of_others_and_turned_ones(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Labels of people are those of rectangles with keypoints, in any picture of the file."""
    size = {"width": 50, "height": 20, "rotation": 90}
    people = [
        _region("rectanglelabels", "r", "man", 60, 20, value=size),
        _region("keypointlabels", "k", "nose", 50, 30, parentID="r"),
        _region("keypointlabels", "l", "nose", 50, 30, parentID="gone"),
    ]
    others = [_region("rectanglelabels", "r", name, 0, 0, value={**size, "rotation": 0})
              for name in ("dog", "man")]  # fmt: skip
    tasks = [_task(*people), {**_task(*others, image="y.jpg"), "predictions": [{"result": []}]}]
    path = _save(tmp_path / "ls.json", json.dumps(tasks))
    with noted("a file") as said:
        _, found, _ = _content(path)
    # 100 x 20 px, turned clockwise about the corner (120, 20): it lies to the left, and below.
    assert found[0]["bbox"] == pytest.approx([100, 20, 20, 100])
    assert [person.get("bbox") for person in found[1:]] == [None, [0, 0, 100, 20]]
    assert said == {
        "turned boxes: their extent is taken": 1,
        "keypoints whose parent is no rectangle: of a person without one": 1,
        "rectangles of label 'dog': left out": 1,
        "tasks with predictions, which are not read": 1,
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"original_width": 201},
            r"the original_width and original_height of the others, \(200, 100",
        ),
        (
            {"image_rotation": 90},
            "image_rotation .*expected 0: results on a turned picture are not",
        ),
    ],
)
def test_pictures_of_label_studio_have_one_size_and_are_not_turned(
    tmp_path: Path, change: dict, words: str
) -> None:
    regions = [_region("keypointlabels", "k", "nose", 50, 30),
               _region("keypointlabels", "l", "tail", 50, 30, **change)]  # fmt: skip
    path = _save(tmp_path / "ls.json", json.dumps([_task(*regions)]))
    with pytest.raises(ValueError, match=f"ls.json: .*{words}"):
        open_labels(str(path))


def test_turned_boxes_and_attributes_of_cvat(tmp_path: Path) -> None:
    """About its middle (6, 12); what nobody reads is counted; a flag is 0 or 1, a point is once."""
    text = CVAT_VIDEO.replace('ybr="22"/>\n', 'ybr="22" rotation="90"/>\n')
    text = text.replace('z_order="0">', 'z_order="0"><attribute name="mood">good</attribute>', 1)
    with noted("a file") as said:
        _, people, _ = _content(_save(tmp_path / "a.xml", text))
    assert people[-1]["bbox"] == pytest.approx([-4, 7, 20, 10])
    assert said["turned boxes: their extent is taken"] == 1
    assert said["attributes 'mood': not read"] == 1
    for old, new, words in (
        ('occluded="1"', 'occluded="yes"', "<points> occluded: expected 0 or 1, got 'yes'"),
        ('label="LHand" outside', 'label="RHand" outside', "'person' has two points 'RHand'"),
    ):
        path = _save(tmp_path / "b.xml", CVAT_VIDEO.replace(old, new))
        with pytest.raises(ValueError, match=words):
            open_labels(str(path))


def test_columns_of_deeplabcut_by_their_names(tmp_path: Path) -> None:
    """y before x; what is not read is counted; two folders of one name are two videos."""
    text = (
        "bodyparts,nose,nose,nose,tail\ncoords,y,x,likelihood,x\n"
        "cam1/walk/1.png,1,2,9,5\ncam2/walk/2.png,3,4,9,5\ncam2/run/2.png,5,6,9,5\n"
    )
    with noted("a file") as said:
        images, people, _ = _content(_save(tmp_path / "a.csv", text))
    assert [image["video_id"] for image in images] == ["cam1/walk", "cam2/walk", "run"]
    assert [person["keypoints"][:3] for person in people] == [[2, 1, 2], [4, 3, 2], [6, 5, 2]]
    assert said == {
        "columns 'likelihood': not read": 1,
        "bodyparts with a column x or y alone: not labelled": 1,
    }
    twice = _save(tmp_path / "a.csv", text.replace("likelihood", "x"))
    with pytest.raises(
        ValueError, match="bodypart 'nose' has two columns 'x': expected the labels"
    ):
        open_labels(str(twice))


def test_sleaps_tracks_of_one_name_are_two_people(tmp_path: Path) -> None:
    sleap_io = pytest.importorskip("sleap_io")
    skeleton = sleap_io.Skeleton([sleap_io.Node("nose")])
    video = sleap_io.Video("v.mp4", open_backend=False)
    tracks = [sleap_io.Track(name) for name in ("a", "a", "b")]
    people = [sleap_io.Instance.from_numpy(np.array([[x, 2.0]]), skeleton, track=track)
              for x, track in enumerate(tracks)]  # fmt: skip
    labels = sleap_io.Labels(
        [sleap_io.LabeledFrame(video, n, [people[n]]) for n in range(3)], videos=[video],
        skeletons=[skeleton], tracks=tracks,
    )  # fmt: skip
    sleap_io.save_slp(labels, str(tmp_path / "a.slp"), verbose=False)
    _, found, _ = _content(tmp_path / "a.slp")
    assert [person["track_id"] for person in found] == ["a", "a (1)", "b"]


@pytest.mark.parametrize("key", ["original_width", "original_height"])
def test_sizes_of_label_studios_pictures_are_at_least_one(tmp_path: Path, key: str) -> None:
    region = _region("keypointlabels", "k", "nose", 50, 50)
    path = _save(tmp_path / "ls.json", json.dumps([_task({**region, key: 1})]))
    assert _content(path)[0][0][key.removeprefix("original_")] == 1
    path = _save(tmp_path / "ls.json", json.dumps([_task({**region, key: 0})]))
    with pytest.raises(ValueError) as error:
        open_labels(str(path))
    assert str(error.value) == (
        f"{path}: [0].annotations[0].result[0].{key} (id text 'k'): expected a whole number of at "
        "least 1, got 0"
    )


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        ({"image": "/data/local-files/?d=a%20b/c.jpg&d=e"}, "a b/c.jpg"),
        ({"image": "/data/upload/3/0123abcd-0123abcd-x.jpg"}, "0123abcd-x.jpg"),
        ({"image": "/data/upload/3/x-0123abcd-y.jpg"}, "x-0123abcd-y.jpg"),
        ({"image": "/other/0123abcd-x.jpg?e=1"}, "/other/0123abcd-x.jpg?e=1"),
        ({"img": "b.jpg", "image": "a.jpg"}, "a.jpg"),
        ({"note": None, "photo": "c.jpg", "z": "d.jpg"}, "c.jpg"),
    ],
)
def test_names_of_label_studios_pictures(tmp_path: Path, texts: dict, name: str) -> None:
    task = {**_task(_region("keypointlabels", "k", "nose", 1, 1)), "data": texts}
    path = _save(tmp_path / "ls.json", json.dumps([task]))
    assert _content(path)[0][0]["file_name"] == name


def test_the_content_of_deeplabcut(tmp_path: Path) -> None:
    """Columns of other numbers are passed over; a joint counts where both of its numbers do."""
    text = (
        "scorer,me,me,me,me,me,me\nbodyparts,nose,nose,nose,ear,ear,tail\n"
        "coords,x,likelihood,y,x,y,x\n\n"
        "a\\walk2\\img3_007.png,1,9,2,5,,6\nimg.png,3,9,inf,4,5,1\nb/img1.png,,,,,,\n"
    )
    images, people, category = _content(_save(tmp_path / "A.CSV", text))
    assert category == _category("nose", "ear", "tail")
    assert images == [
        {"id": 1, "file_name": "a/walk2/img3_007.png", "video_id": "walk2", "frame_index": 7},
        {"id": 2, "file_name": "img.png", "video_id": "video"},
        {"id": 3, "file_name": "b/img1.png", "video_id": "b", "frame_index": 1},
    ]
    own = {"category_id": 1, "track_id": "0"}
    assert people == [
        {"id": 1, "image_id": 1, **own, "keypoints": [1, 2, 2, *[0] * 6]},
        {"id": 2, "image_id": 2, **own, "keypoints": [0, 0, 0, 4, 5, 2, 0, 0, 0]},
    ]
    images, people, category = _content(_save(tmp_path / "b.csv", DLC))
    walk = {"video_id": "walk"}
    assert images == [
        {"id": 1, "file_name": "labeled-data/walk/img002.png", **walk, "frame_index": 2},
        {"id": 2, "file_name": "labeled-data/walk/img010.png", **walk, "frame_index": 10},
    ]
    assert [(p["image_id"], p["track_id"], p["keypoints"]) for p in people] == [
        (1, "ann", [1, 2, 2]), (2, "ann", [3, 4, 2]), (2, "bob", [30, 40, 2]),
    ]  # fmt: skip


def test_lines_of_deeplabcuts_csv_are_named(tmp_path: Path) -> None:
    single = "bodyparts,nose,nose\ncoords,x,y\na.png,1,2\nb.png,{}\n"
    assert len(_content(_save(tmp_path / "a.csv", single.format(" ,3")))[1]) == 1
    for values, words in (
        ("3", "expected 3 columns, got 2"), ("1,x", "expected a number, got 'x'"),
        ("1,2,3", "expected 3 columns, got 4"),
    ):  # fmt: skip
        path = _save(tmp_path / "a.csv", single.format(values))
        with pytest.raises(ValueError) as error:
            open_labels(str(path))
        assert str(error.value) == f"{path}, line 4: {words}"
    top = "expected rows 'scorer', 'bodyparts' and 'coords' at the top"
    one = "expected rows of one length at the top, 'coords' with x and y"
    for text, words in (
        ("bodyparts,nose\na.png,1\n", top), ("coords,x\na.png,1\n", top), ("bodyparts,a\n", top),
        ("bodyparts,nose\ncoords,x,y\n", one), ("bodyparts,a\ncoords,z\n", one),
    ):  # fmt: skip
        path = _save(tmp_path / "a.csv", text)
        with pytest.raises(ValueError) as error:
            open_labels(str(path))
        assert str(error.value) == f"{path}: {words}"


def test_the_content_of_deeplabcuts_h5(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("tables")
    columns = pandas.MultiIndex.from_product(
        [["me"], ["nose", "ear"], ["x", "y"]], names=["scorer", "bodyparts", "coords"]
    )
    table = pandas.DataFrame(
        [[1.0, 2.0, None, None], [3.25, 4.0, 5.0, 6.0]], columns=columns,
        index=["labeled-data/walk/img2.png", "labeled-data/walk/img3.png"],
    )  # fmt: skip
    table.to_hdf(tmp_path / "a.H5", key="df")
    images, people, category = _content(tmp_path / "a.H5")
    assert category == _category("nose", "ear")
    walk = {"video_id": "walk"}
    assert images == [
        {"id": 1, "file_name": "labeled-data/walk/img2.png", **walk, "frame_index": 2},
        {"id": 2, "file_name": "labeled-data/walk/img3.png", **walk, "frame_index": 3},
    ]
    assert [person["keypoints"] for person in people] == [
        [1, 2, 2, 0, 0, 0], [3.25, 4, 2, 5, 6, 2],
    ]  # fmt: skip
    empty = pandas.DataFrame([], columns=columns)
    empty.to_hdf(tmp_path / "b.h5", key="df")
    assert _content(tmp_path / "b.h5")[:2] == ([], [])


def test_the_content_of_sleap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sleap = pytest.importorskip("sleap_io")
    nodes = [sleap.Node(name) for name in ("b", "a", "c")]
    skeleton = sleap.Skeleton(
        nodes=nodes, edges=[sleap.Edge(nodes[0], nodes[2])],
        symmetries=[sleap.Symmetry([nodes[0], nodes[1]])],
    )  # fmt: skip
    video = sleap.Video(filename="d/m.mp4", open_backend=False)
    video.backend_metadata["shape"] = (9, 48, 64, 1)
    points = np.array([[1.0, 2], [3, np.nan], [np.inf, 4]])
    mine = sleap.Instance.from_numpy(points, skeleton=skeleton, track=sleap.Track("t"))
    guess = sleap.PredictedInstance.from_numpy(points, skeleton=skeleton)
    other = sleap.Skeleton(nodes=[sleap.Node(name) for name in "xy"])
    dog = sleap.Instance.from_numpy(points[:2], skeleton=other)
    frames = [
        sleap.LabeledFrame(video=video, frame_idx=i, instances=who)
        for i, who in ((3, [guess, dog, mine]), (5, [mine, guess]), (8, []))
    ]
    labels = sleap.Labels(frames, skeletons=[skeleton, other])
    monkeypatch.setattr(sleap, "load_slp", lambda path, **_: labels)
    with noted("labels") as said:
        images, people, category = _content(_save(tmp_path / "a.SLP", ""))
    assert category == _category("b", "a", "c", lines=[("b", "c")], pairs=[("a", "b")])
    same = {"video_id": "d/m.mp4", "height": 48, "width": 64, "video_file": "d/m.mp4"}
    assert images == [
        {"id": n, "frame_index": i, **same} for n, i in ((1, 3), (2, 5), (3, 8))
    ]  # fmt: skip
    own = {"category_id": 1, "track_id": "t", "keypoints": [1, 2, 2, *[0] * 6]}
    assert people == [{"id": 1, "image_id": 1, **own}, {"id": 2, "image_id": 2, **own}]
    assert dict(said) == {
        "people that SLEAP predicted: left out": 2,
        "people of another skeleton than the file's first: left out": 1,
    }
    for source in ("x.slp", None):
        video.filename = source
        with pytest.raises(ValueError) as error:
            open_labels(str(tmp_path / "a.SLP"))
        assert str(error.value) == (
            f"{tmp_path}/a.SLP: pictures inside the file are not read; export the videos"
        )


@pytest.mark.parametrize("text", ["[]", "{}"])
def test_of_json_a_list_is_label_studios(tmp_path: Path, text: str) -> None:
    path = _save(tmp_path / "a.txt", text)
    words = "'keypointlabels'" if text == "[]" else r"the lists \['images', 'categories'\]"
    with pytest.raises(ValueError, match=words):
        open_labels(str(path))
    with pytest.raises(FileNotFoundError) as error:
        open_labels(str(tmp_path))
    assert str(error.value) == f"annotation file {tmp_path} does not exist"
