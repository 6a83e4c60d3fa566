"""Every format is read back by its own reader, finished and unfinished."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import resource
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from video_pose.inference.frames import PoseFrame
from video_pose.inference.writers import (
    COLUMNS,
    WRITERS,
    Format,
    Recording,
    _cut_to_whole_lines,
    _remove,
    check_formats,
    format_of,
    open_writers,
    read_poses,
    result_paths,
    tables,
    to_dataframe,
    writing_results,
)
from video_pose.inference.writers.coco import GrowingJson

JOINTS = ("head", "neck", "left_wrist")


def pose_frame(index: int, people: int, joints: tuple[str, ...] = JOINTS) -> PoseFrame:
    """Person p of frame i: joint k at (100 i + 10 p + k, k + .5), score .5; box 0, 1, 20, 31."""
    poses = np.zeros((people, len(joints), 3), np.float32)
    for p in range(people):
        for k in range(len(joints)):
            poses[p, k] = 100 * index + 10 * p + k, k + 0.5, 0.5
    return PoseFrame(
        index=index,
        time=index / 8,
        image=np.zeros((40, 30, 3), np.uint8),
        video="v",
        joint_names=joints,
        keypoints=poses,
        boxes=np.tile(np.float32([0, 1, 20, 31]), (people, 1)),
        scores=np.full(people, 0.25, np.float32),
        track_ids=np.arange(people, dtype=np.int64) + 4,
    )


FRAMES = [pose_frame(0, 2), pose_frame(1, 0), pose_frame(2, 1)]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes FRAMES as a format; ``finish`` False leaves the file as a kill would."""
    monkeypatch.setattr(tables, "FLUSH_SECONDS", 0.0)

    def make(
        name: str, frames: list[PoseFrame] = FRAMES, finish: bool = True, **choices: object
    ) -> Path:
        recording = Recording("v", frames[0].joint_names, **choices)  # type: ignore[arg-type]
        (writer,) = open_writers([name], tmp_path, recording)
        for frame in frames:
            writer.write(frame)
        if finish:
            writer.close()
        else:
            unfinished.append(writer)
        return tmp_path

    unfinished: list[object] = []
    return make


# Every person's score and box.
P = (0.25, 0.0, 1.0, 20.0, 31.0)
NOTHING = (None,) * 5
# The whole table, worked out by hand: 2 x 3 joints, a row for nobody, 1 x 3 joints.
ROWS = [
    ("v", 0, 0.0, 4, *P, "head", 0.0, 0.5, 0.5),
    ("v", 0, 0.0, 4, *P, "neck", 1.0, 1.5, 0.5),
    ("v", 0, 0.0, 4, *P, "left_wrist", 2.0, 2.5, 0.5),
    ("v", 0, 0.0, 5, *P, "head", 10.0, 0.5, 0.5),
    ("v", 0, 0.0, 5, *P, "neck", 11.0, 1.5, 0.5),
    ("v", 0, 0.0, 5, *P, "left_wrist", 12.0, 2.5, 0.5),
    ("v", 1, 0.125, -1, *NOTHING, None, None, None, None),
    ("v", 2, 0.25, 4, *P, "head", 200.0, 0.5, 0.5),
    ("v", 2, 0.25, 4, *P, "neck", 201.0, 1.5, 0.5),
    ("v", 2, 0.25, 4, *P, "left_wrist", 202.0, 2.5, 0.5),
]
# The same, a row a person.
WIDE = [
    ("v", 0, 0.0, 4, *P, 0.0, 0.5, 0.5, 1.0, 1.5, 0.5, 2.0, 2.5, 0.5),
    ("v", 0, 0.0, 5, *P, 10.0, 0.5, 0.5, 11.0, 1.5, 0.5, 12.0, 2.5, 0.5),
    ("v", 1, 0.125, -1, *NOTHING, *[None] * 9),
    ("v", 2, 0.25, 4, *P, 200.0, 0.5, 0.5, 201.0, 1.5, 0.5, 202.0, 2.5, 0.5),
]


@pytest.mark.parametrize("finish", [True, False])
def test_json_lines(write: Callable[..., Path], finish: bool) -> None:
    lines = (write("jsonl", finish=finish) / "v.jsonl").read_text().splitlines()
    assert [tuple(json.loads(line)[name] for name in COLUMNS) for line in lines] == ROWS


@pytest.mark.parametrize("finish", [True, False])
def test_csv(write: Callable[..., Path], finish: bool) -> None:
    with open(write("csv", finish=finish) / "v.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(COLUMNS)
    assert rows[1:] == [["" if v is None else str(v) for v in row] for row in ROWS]


@pytest.mark.parametrize("finish", [True, False])
def test_parquet(write: Callable[..., Path], finish: bool) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    folder = write("parquet", finish=finish)
    table = parquet.read_table(folder / ("v.parquet" if finish else "v.parquet.parts"))
    assert [tuple(row[name] for name in COLUMNS) for row in table.to_pylist()] == ROWS
    assert (folder / "v.parquet.parts").exists() != finish


def test_parts_of_a_killed_run_are_not_taken_for_those_of_the_next(tmp_path: Path) -> None:
    """Three parts were left, the next run writes one: its own rows are all that the file has."""
    parquet = pytest.importorskip("pyarrow.parquet")
    parts = tmp_path / "v.parquet.parts"
    (killed,) = open_writers(["parquet"], tmp_path, Recording("v", JOINTS))
    killed.write(FRAMES[0])
    killed.close()
    parts.mkdir()
    for number in range(3):
        shutil.copy(tmp_path / "v.parquet", parts / f"part-{number:06d}.parquet")
    (writer,) = open_writers(["parquet"], tmp_path, Recording("v", JOINTS))
    writer.write(FRAMES[2])
    writer.close()
    rows = parquet.read_table(tmp_path / "v.parquet").to_pylist()
    assert [row["frame"] for row in rows] == [2, 2, 2]


def ground_truth(joints: int) -> COCO:
    """FRAMES' people as ground truth; coordinates by index, ours minus a half."""
    data: dict = {"images": [], "annotations": [], "info": {}}
    data["categories"] = [{"id": 1, "name": "person", "keypoints": list(JOINTS), "skeleton": []}]
    for frame in FRAMES:
        data["images"].append({"id": frame.index, "height": 40, "width": 30})
        for pose in frame.keypoints:
            points = [v for x, y, _ in pose.tolist() for v in (x - 0.5, y - 0.5, 2)]
            data["annotations"].append(
                {
                    "id": len(data["annotations"]) + 1, "image_id": frame.index, "category_id": 1,
                    "keypoints": points, "num_keypoints": joints, "area": 100.0, "iscrowd": 0,
                    "bbox": [0, 0, 10, 10],
                }
            )  # fmt: skip
    coco = COCO()
    coco.dataset = data
    coco.createIndex()
    return coco


@pytest.mark.parametrize("finish", [True, False])
def test_coco_results_score_full_marks_in_its_own_evaluator(
    write: Callable[..., Path], finish: bool
) -> None:
    """Half a pixel off would show: sigmas are so small that OKS falls below .95 at .1 px."""
    path = write("coco", finish=finish) / "v.coco.json"
    with contextlib.redirect_stdout(io.StringIO()):
        truth = ground_truth(3)
        evaluator = COCOeval(truth, truth.loadRes(str(path)), "keypoints")
        evaluator.params.kpt_oks_sigmas = np.full(3, 0.01)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    assert evaluator.stats[0] == pytest.approx(1.0)


def test_an_empty_coco_file_is_an_empty_list(write: Callable[..., Path]) -> None:
    assert json.loads((write("coco", [pose_frame(0, 0)]) / "v.coco.json").read_text()) == []


def test_people_without_joints(write: Callable[..., Path]) -> None:
    """Mask R-CNN: a row per person in tables, masks or boxes in COCO's file."""
    from dataclasses import replace

    from pycocotools import mask as mask_tools

    bare = pose_frame(3, 1, ())
    (line,) = (write("jsonl", [bare]) / "v.jsonl").read_text().splitlines()
    assert tuple(json.loads(line).values()) == ("v", 3, 0.375, 4, *P, None, None, None, None)
    (entry,) = json.loads((write("coco", [bare]) / "v.coco.json").read_text())
    assert entry["bbox"] == [0, 1, 20, 30] and "keypoints" not in entry
    mask = np.zeros((1, 40, 30), bool)
    mask[0, 3:9, 5:7] = True
    (entry,) = json.loads((write("coco", [replace(bare, masks=mask)]) / "v.coco.json").read_text())
    np.testing.assert_array_equal(mask_tools.decode(entry["segmentation"]), mask[0])


@pytest.mark.parametrize("finish", [True, False])
def test_posetrack(write: Callable[..., Path], finish: bool) -> None:
    path = write("posetrack", finish=finish) / "v.posetrack.json"
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(path))  # the format extends COCO's
    assert coco.getImgIds() == [0, 1, 2]
    assert coco.imgs[2]["file_name"] == "v/000002.jpg"
    assert [(a["image_id"], a["track_id"]) for a in coco.anns.values()] == [(0, 4), (0, 5), (2, 4)]
    names = coco.loadCats(1)[0]["keypoints"]
    points = np.reshape(coco.anns[2]["keypoints"], (17, 3))
    # Person 5 of frame 0: neck at (11, 1.5), which is pixel index (10.5, 1). The head, which may be
    # the face's centre, is no top of a head.
    assert points[names.index("head_top")].tolist() == [0, 0, 0]
    assert points[names.index("head_bottom")].tolist() == [10.5, 1, 1]
    assert points[names.index("left_wrist")].tolist() == [11.5, 2, 1]
    assert points[:, 2].sum() == 2
    assert coco.anns[2]["scores"][names.index("nose")] == 0
    assert coco.anns[2]["bbox"] == [0, 1, 20, 30]


def test_posetracks_file_opens_as_a_dataset_of_detectron2(write: Callable[..., Path]) -> None:
    from detectron2.data.datasets import load_coco_json

    path = write("posetrack") / "v.posetrack.json"
    records = load_coco_json(str(path), str(path.parent), "writers_test_posetrack")
    assert [(r["height"], r["width"], len(r["annotations"])) for r in records] == [
        (40, 30, 2), (40, 30, 0), (40, 30, 1),
    ]  # fmt: skip


def test_a_coco_dataset_trains_the_next_model(write: Callable[..., Path]) -> None:
    """Its own reader of videos takes it: joints by name, every frame, tracks."""
    from detectron2.data import DatasetCatalog

    from video_pose.data.datasets.coco_video import register_video_keypoints

    joints = ("head", "left_wrist", "right_wrist")
    frames = [pose_frame(0, 2, joints), pose_frame(1, 0, joints), pose_frame(2, 1, joints)]
    path = write("coco_dataset", frames) / "v.coco_dataset.json"
    (category,) = json.loads(path.read_text())["categories"]
    assert category["keypoints"] == list(joints)
    register_video_keypoints("writers_test_coco", str(path), str(path.parent))
    tracks = {track["track_id"]: track for track in DatasetCatalog.get("writers_test_coco")}
    assert set(tracks) == {"4", "5"}
    labelled = tracks["4"]["keypoints"][tracks["4"]["labelled"]]
    np.testing.assert_allclose(labelled[:, 0], [[0, 0.5, 2], [200, 0.5, 2]])


def test_wide_tables(write: Callable[..., Path]) -> None:
    names = ["head_x", "head_y", "head_score", "neck_x"]
    for kind in ("jsonl", "csv"):
        folder = write(kind, table="wide")
        with open(folder / f"v.{kind}", newline="") as file:
            if kind == "csv":
                rows = list(csv.reader(file))
                assert rows[0][9:13] == names
                assert rows[1:] == [["" if v is None else str(v) for v in row] for row in WIDE]
            else:
                found = [json.loads(line) for line in file]
                assert list(found[0])[9:13] == names
                assert [tuple(row.values()) for row in found] == WIDE


def test_whole_numbers_stay_whole_where_nobody_is_found(write: Callable[..., Path]) -> None:
    """In the files, as pandas reads them without being told, and in the DataFrame."""
    pandas = pytest.importorskip("pandas")
    read = {"csv": pandas.read_csv, "jsonl": lambda path: pandas.read_json(path, lines=True)}
    tables_ = [read[kind](write(kind) / f"v.{kind}") for kind in read]
    for table in (*tables_, to_dataframe(FRAMES), to_dataframe(FRAMES, "long")):
        assert str(table["track"].dtype) == str(table["frame"].dtype) == "int64"
        assert table["track"].tolist()[-1] == 4 and -1 in table["track"].tolist()
        assert str(table["person_score"].dtype) == "float64"
    wide = to_dataframe(FRAMES)
    assert wide.shape == (4, 18) and wide["left_wrist_x"].tolist()[3] == 202
    whole = {"frame": "int64", "track": "int64"}
    for kind, words in (("wide", ["video"]), ("long", ["video", "joint"])):
        for content in (FRAMES, [], [pose_frame(0, 0)], [pose_frame(3, 1, ())]):
            table = to_dataframe(content, kind)
            reals = {n: str(t) for n, t in table.dtypes.items() if n not in words}
            assert reals == {name: whole.get(name, "float64") for name in reals}
            assert len(table) == sum(max(len(f), 1) for f in content) or content is FRAMES
    assert list(to_dataframe([], "long").columns) == list(COLUMNS)
    assert list(to_dataframe([]).columns) == list(tables.HEAD)
    joints = ("left_shoulder", "left_elbow", "left_wrist")
    bent = to_dataframe([pose_frame(0, 1, joints)], angles=True)
    assert bent["angle_left_elbow"].tolist() == [180]
    assert np.isnan(bent["length_trunk"][0]) and "angle_left_elbow" not in to_dataframe(FRAMES)


def test_angles_are_columns_of_the_wide_table(write: Callable[..., Path]) -> None:
    joints = ("left_shoulder", "left_elbow", "left_wrist")
    folder = write("csv", [pose_frame(0, 1, joints)], table="wide", angles=True)
    with open(folder / "v.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    # The three joints lie on a line with steps of (1, 1).
    assert row["angle_left_elbow"] == "180.0" and row["length_left_forearm"] == "1.414"
    assert row["angle_right_elbow"] == "" and row["length_trunk"] == ""
    with pytest.raises(ValueError) as error:
        Recording("v", joints, angles=True)
    assert str(error.value) == "angles are columns of the wide table: choose table wide"
    assert len({Recording("v"), Recording("v"), Recording("v", fps=30)}) == 2  # it is a value


def test_unknown_formats_and_unwritable_places(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format 'xml': choose from .*jsonl.*nwb"):
        open_writers(["xml"], tmp_path, Recording("v"))
    with pytest.raises(ValueError, match="^format: named twice: csv jsonl csv$"):
        open_writers(["csv", "jsonl", "csv"], tmp_path, Recording("v"))
    with pytest.raises(ValueError) as error:
        open_writers(["csv"], tmp_path / "nowhere", Recording("v"))
    check_formats(["csv", "jsonl"])
    with pytest.raises(ValueError, match="format 'xml': choose from"):
        check_formats(["csv", "xml"])
    path = tmp_path / "nowhere" / "v.csv"
    assert str(error.value) == f"cannot write {path}: No such file or directory"
    assert open_writers([], tmp_path, Recording("v")) == []
    open_writers(["csv"], tmp_path, Recording("v"), "of another name")[0].close()
    assert [path.name for path in tmp_path.iterdir()] == ["of another name.csv"]
    with pytest.raises(ValueError, match="table 'broad': choose from long, wide"):
        Recording("v", table="broad")


def test_a_plugin_adds_a_format(tmp_path: Path) -> None:
    class Counter:
        def __init__(self, path: Path, recording: Recording) -> None:
            self.path, self.count = path, 0

        def write(self, frame: PoseFrame) -> None:
            self.count += len(frame)

        def close(self) -> None:
            self.path.write_text(str(self.count))

    WRITERS.add("count")(Format(".count", Counter))
    try:
        with writing_results(
            result_paths(["count"], tmp_path, "v"), Recording("v"), beside=False
        ) as (writer,):
            for frame in FRAMES:
                writer.write(frame)
    finally:
        WRITERS.remove("count")
    assert (tmp_path / "v.count").read_text() == "3"


@pytest.mark.parametrize("kind", ["csv", "parquet", "openpose"])
def test_beside_leaves_what_was_there_until_the_end(tmp_path: Path, kind: str) -> None:
    paths = result_paths([kind], tmp_path, "v")
    with writing_results(paths, Recording("v", JOINTS + WRISTS), beside=True) as (writer,):
        writer.write(FRAMES[0] if kind != "openpose" else pose_frame(0, 1, JOINTS + WRISTS))
        assert not paths[kind].exists()
    before = content(paths[kind])
    with (
        pytest.raises(RuntimeError),
        writing_results(paths, Recording("v", JOINTS + WRISTS), beside=True) as (writer,),
    ):
        writer.write(pose_frame(7, 1, JOINTS + WRISTS))
        raise RuntimeError
    assert content(paths[kind]) == before
    assert [path.name for path in tmp_path.iterdir()] == [paths[kind].name]


WRISTS = ("right_wrist",)


def content(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(path.iterdir())
    return {file.name: file.read_bytes() for file in files}


def test_a_folder_that_cannot_be_replaced_comes_back(tmp_path: Path, monkeypatch) -> None:
    """And the message names what the user knows, not the file beside it."""
    names = JOINTS + WRISTS
    paths = result_paths(["openpose"], tmp_path, "v")
    (tmp_path / "v_openpose").mkdir()
    (tmp_path / "v_openpose" / "old").touch()
    replace = os.replace

    def refuse(source, target) -> None:
        if Path(target).name == "v_openpose" and not str(source).endswith(".old"):
            raise OSError(30, "Read-only file system")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match=r"cannot write .*/v_openpose: Read-only file system"):
        with writing_results(paths, Recording("v", names), beside=True) as (writer,):
            writer.write(pose_frame(0, 1, names))
    assert os.listdir(tmp_path) == ["v_openpose"]
    assert os.listdir(tmp_path / "v_openpose") == ["old"]


@pytest.mark.parametrize("kind", ["jsonl", "coco", "coco_dataset", "posetrack", "openpose"])
def test_numbers_that_are_none(write: Callable[..., Path], kind: str) -> None:
    """JSON has no NaN, wherever it comes from."""
    broken = pose_frame(0, 1, ("head", "left_wrist"))
    broken.keypoints[0, 0, 0] = broken.scores[0] = broken.boxes[0, 2] = np.nan
    folder = write(kind, [broken])
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert files

    def refuse(word: str) -> None:
        raise AssertionError(word)

    for path in files:
        for text in path.read_text().splitlines() if kind == "jsonl" else [path.read_text()]:
            found = json.loads(text, parse_constant=refuse)
    if kind == "coco_dataset":
        assert found["annotations"][0]["keypoints"] == [0, 0, 0, 0.5, 1, 2]
    if kind == "coco":
        assert found[0]["keypoints"] == [0, 0, 0, 0.5, 1, 0.5]


def test_a_growing_file_is_complete_between_flushes(tmp_path: Path) -> None:
    """A kill may come at any time: far more than a buffer's worth waits without a flush."""
    path = tmp_path / "list.json"
    growing = GrowingJson(path, '{"list": [')
    growing.append({"number": 0})
    growing.flush('], "tail": "a long one"}')
    for number in range(1, 3001):
        growing.append({"number": number, "text": "x" * 50})
        if number % 500 == 0:
            assert len(json.loads(path.read_text())["list"]) == 1
    growing.flush('], "tail": ""}')
    found = json.loads(path.read_text())
    assert [entry["number"] for entry in found["list"]] == list(range(3001))
    growing.close("]}")
    assert set(json.loads(path.read_text())) == {"list"}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "coco", "coco_dataset", "posetrack"])
def test_a_full_disk_leaves_what_was_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A limit on the size of files stands for the disk: writes fail in the middle of a row."""
    monkeypatch.setattr(tables.Flusher, "is_due", lambda self: True)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    (path,) = result_paths([kind], tmp_path, "v").values()
    written = 0
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_001, limits[1]))
        with (
            pytest.raises(OSError, match=rf"^cannot write {re.escape(str(path))}: File too large$"),
            writing_results({kind: path}, Recording("v", JOINTS), beside=False) as (writer,),
        ):
            for written in range(500):  # noqa: B007
                writer.write(pose_frame(written, 2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert 3 < written < 499 and path.stat().st_size > 10_000
    text = path.read_text()
    if kind in ("jsonl", "csv"):
        lines = text.splitlines()
        assert text.endswith("\n")
        rows = list(csv.DictReader(lines)) if kind == "csv" else [json.loads(x) for x in lines]
        assert None not in rows[-1].values()  # a row of CSV that ends early
        last = int(rows[-1]["frame"])
    else:
        found = json.loads(text)
        people = found if kind == "coco" else found["annotations"]
        last = people[-1]["image_id"] % 10_000
    assert written - 2 <= last <= written


def judged(frame: PoseFrame) -> PoseFrame:
    """Joint k of person p is right with probability .1 k + .5 p."""
    people, joints = frame.keypoints.shape[:2]
    shares = 0.5 * np.arange(people)[:, None] + 0.1 * np.arange(joints)
    return replace(frame, probabilities=shares.astype(np.float32))


@pytest.mark.parametrize("table", ["long", "wide"])
def test_probabilities_stand_after_the_scores(write: Callable[..., Path], table: str) -> None:
    """Of a calibrated model; a table that has them is read as one that has not."""
    frames = [judged(frame) for frame in FRAMES]
    folder = write("csv", frames, table=table, probabilities=True)
    with open(folder / "v.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    if table == "long":
        assert list(rows[0])[-2:] == ["score", "probability"]
        assert [row["probability"] for row in rows] == [
            "0.0", "0.1", "0.2", "0.5", "0.6", "0.7", "", "0.0", "0.1", "0.2",
        ]  # fmt: skip
    else:
        assert list(rows[0])[-2:] == ["left_wrist_score", "left_wrist_probability"]
        assert [row["neck_probability"] for row in rows] == ["0.1", "0.6", "", "0.1"]
    again = tables.read_table(folder / "v.csv")
    assert [len(frame) for frame in again] == [2, 0, 1]
    assert again[0].joint_names == JOINTS
    np.testing.assert_allclose(again[0].keypoints, FRAMES[0].keypoints)
    pytest.importorskip("pandas")
    frame = to_dataframe(frames, table)
    assert ("probability" if table == "long" else "neck_probability") in frame.columns
    assert not any("probability" in name for name in to_dataframe(FRAMES, table).columns)


def test_numbers_have_the_digits_of_their_format(write: Callable[..., Path]) -> None:
    """Enough for a hundredth of a pixel, and no noise of float32: whole rows, worked out by hand.
    Thirds, sevenths and ninths are told apart by every digit."""
    frame = pose_frame(3, 1, ("nose",))
    frame.keypoints[0, 0] = 100 / 3, 200 / 7, 1 / 9
    frame.boxes[0] = 1 / 3, 2 / 7, 100 / 3, 200 / 7
    frame.scores[0] = 2 / 7
    frame = replace(frame, time=1 / 7, probabilities=np.full((1, 1), 1 / 3))
    row = (write("csv", [frame], probabilities=True) / "v.csv").read_text().splitlines()[1]
    assert row == (
        "v,3,0.142857,4,0.28571,0.333,0.286,33.333,28.571,nose,33.3333,28.5714,0.11111,0.33333"
    )
    (entry,) = json.loads((write("coco", [frame]) / "v.coco.json").read_text())
    assert entry == {
        "image_id": 3, "category_id": 1, "score": 0.28571, "track_id": 4,
        "keypoints": [32.8333, 28.0714, 0.1111],
    }  # fmt: skip
    (found,) = json.loads((write("coco_dataset", [frame]) / "v.coco_dataset.json").read_text())[
        "annotations"
    ]
    assert found == {
        "id": 1, "image_id": 3, "category_id": 1, "track_id": 4, "iscrowd": 0, "score": 0.28571,
        # 33 times 28.285
        "bbox": [0.333, 0.286, 33.0, 28.285], "area": 933.405, "num_keypoints": 1,
        "keypoints": [32.833, 28.071, 2], "scores": [0.11111],
    }  # fmt: skip
    (file,) = (write("openpose", [frame]) / "v_openpose").iterdir()
    (person,) = json.loads(file.read_text())["people"]
    assert person["pose_keypoints_2d"][:3] == [32.8333, 28.0714, 0.1111]
    joints = ("left_shoulder", "left_elbow", "left_wrist")
    arm = pose_frame(0, 1, joints)
    arm.keypoints[0, :, :2] = [[0, 0], [3, 0], [5, 1]]
    lines = (write("csv", [arm], table="wide", angles=True) / "v.csv").read_text().splitlines()
    measured = dict(zip(*(line.split(",") for line in lines)))
    # 180 degrees less the arctangent of a half; the root of 5.
    assert measured["angle_left_elbow"] == "153.435"
    assert measured["length_left_forearm"] == "2.236"


def test_a_file_is_flushed_every_half_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written longer ago survives a kill."""
    now = [100.0]
    monkeypatch.setattr(tables.time, "monotonic", lambda: now[0])
    flusher = tables.Flusher()
    found = []
    for seconds in (100.0, 100.4375, 100.5, 100.75, 100.9375, 101.0, 103.0, 103.4375):
        now[0] = seconds
        found.append(flusher.is_due())
    assert found == [False, False, True, False, False, True, True, False]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "coco", "coco_dataset", "posetrack"])
def test_a_file_is_not_flushed_for_every_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    due = iter([False, True, False])
    monkeypatch.setattr(tables.Flusher, "is_due", lambda self: next(due))
    (writer,) = open_writers([kind], tmp_path, Recording("v", JOINTS))
    (path,) = result_paths([kind], tmp_path, "v").values()
    sizes = []
    for frame in FRAMES:
        writer.write(frame)
        sizes.append(path.stat().st_size)
    assert sizes[0] < sizes[1] == sizes[2]
    writer.close()
    assert path.stat().st_size > sizes[2]


def test_rows_for_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the caller's: it is flushed and stays open, and an error of it ends the run."""

    class Terminal(io.StringIO):
        flushed, error = 0, None

        def flush(self) -> None:
            self.flushed += 1

    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    writer = tables.JsonLinesWriter("-", Recording("v", JOINTS))
    writer.write(FRAMES[1])
    assert terminal.flushed == 0
    writer.close()
    assert terminal.flushed == 1 and not terminal.closed
    assert tuple(json.loads(terminal.getvalue()).values()) == ROWS[6]
    terminal.error = BrokenPipeError("gone")  # type: ignore[assignment]
    with pytest.raises(BrokenPipeError, match="gone"):
        writer.write(FRAMES[1])


def test_files_are_closed(tmp_path: Path) -> None:
    for writer in (
        tables.JsonLinesWriter(tmp_path / "a.jsonl", Recording("v")),
        tables.CsvWriter(tmp_path / "a.csv", Recording("v")),
    ):
        writer.close()
        assert writer._file.closed


@pytest.mark.parametrize("content", [[], [pose_frame(0, 0)]])
def test_a_parquet_file_of_nobody_has_its_columns(tmp_path: Path, content: list) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    (writer,) = open_writers(["parquet"], tmp_path, Recording("v", JOINTS))
    for frame in content:
        writer.write(frame)
    writer.close()
    table = parquet.read_table(tmp_path / "v.parquet")
    kinds = {"video": "string", "joint": "string", "frame": "int64", "track": "int64"}
    assert {name: str(kind) for name, kind in zip(table.column_names, table.schema.types)} == {
        name: kinds.get(name, "double") for name in COLUMNS
    }
    assert table.num_rows == len(content)
    assert [path.name for path in tmp_path.iterdir()] == ["v.parquet"]


def test_parts_of_a_parquet_file_are_numbered(tmp_path: Path, monkeypatch) -> None:
    """Each is there as a whole or not at all."""
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(tables, "FLUSH_SECONDS", 0.0)
    (writer,) = open_writers(["parquet"], tmp_path, Recording("v", JOINTS))
    for frame in FRAMES:
        writer.write(frame)
    names = sorted(path.name for path in (tmp_path / "v.parquet.parts").iterdir())
    assert names == [f"part-{i:06d}.parquet" for i in range(3)]
    writer.close()


def test_a_model_without_probabilities_leaves_their_column_empty(
    write: Callable[..., Path],
) -> None:
    frames = [FRAMES[2], judged(FRAMES[0]), pose_frame(3, 1, ())]
    with open(write("csv", frames, probabilities=True) / "v.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    found = [row["probability"] for row in rows]
    assert found == ["", "", "", "0.0", "0.1", "0.2", "0.5", "0.6", "0.7", ""]
    assert [row["joint"] for row in rows][-2:] == ["left_wrist", ""]


@pytest.mark.parametrize(
    ("text", "left"),
    [
        (b"", b""),
        (b"half", b""),
        (b"one\n", b"one\n"),
        (b"one\ntwo\nhal", b"one\ntwo\n"),
        (b"\nhalf", b"\n"),
        (b"a" * 3000 + b"\n" + b"b" * 5000, b"a" * 3000 + b"\n"),
    ],
)
def test_half_a_line_at_the_end_is_cut_off(tmp_path: Path, text: bytes, left: bytes) -> None:
    """A wide row of 133 joints has 5,000 bytes."""
    path = tmp_path / "v.csv"
    path.write_bytes(text)
    _cut_to_whole_lines(path)
    assert path.read_bytes() == left


def test_a_folder_of_results_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    """Nothing of the old one is left in it, or beside it."""
    names = JOINTS + WRISTS
    paths = result_paths(["openpose", "csv"], tmp_path, "v")
    for index in (0, 7):
        with writing_results(paths, Recording("v", names), beside=True) as writers:
            for writer in writers:
                writer.write(pose_frame(index, 1, names))
    assert sorted(os.listdir(tmp_path)) == ["v.csv", "v_openpose"]
    assert os.listdir(tmp_path / "v_openpose") == ["v_000000000007_keypoints.json"]
    assert len((tmp_path / "v.csv").read_text().splitlines()) == 5


def test_a_run_that_does_not_write_beside_leaves_what_it_has(tmp_path: Path) -> None:
    paths = result_paths(["jsonl"], tmp_path, "v")
    with (
        pytest.raises(RuntimeError),
        writing_results(paths, Recording("v", JOINTS), beside=False) as (writer,),
    ):
        writer.write(FRAMES[2])
        raise RuntimeError
    assert len(paths["jsonl"].read_text().splitlines()) == 3


FULL, FULL_DISK = OSError(28, "full"), "cannot write {}: No space left on device"


class Failing:
    """A format of a plugin whose calls fail as they are told to."""

    def __init__(self, write: Exception | None = None, close: Exception | None = None) -> None:
        self.fails = {"write": write, "close": close}
        self.closed = 0

    def __call__(self, path: Path, recording: Recording) -> Failing:
        path.write_text("a whole line\nhalf")
        return self

    def write(self, frame: PoseFrame) -> None:
        if self.fails["write"]:
            raise self.fails["write"]

    def close(self) -> None:
        self.closed += 1
        if self.fails["close"]:
            raise self.fails["close"]


@pytest.mark.parametrize(
    ("ending", "write", "close", "message", "closed", "left"),
    [
        (".csv", FULL, None, FULL_DISK, 1, "a whole line\n"),
        (".csv", FULL, OSError(5, "another"), FULL_DISK, 1, "a whole line\n"),
        (".csv", None, FULL, FULL_DISK, 2, "a whole line\n"),
        (".jsonl", None, FULL, FULL_DISK, 2, "a whole line\n"),
        (".bin", FULL, None, FULL_DISK, 1, "a whole line\nhalf"),
        (".csv", ValueError("its own"), None, "its own", 1, "a whole line\nhalf"),
        (".csv", None, None, "", 1, "a whole line\nhalf"),
    ],
)  # fmt: skip
def test_a_writer_that_fails_is_closed_and_names_its_file(
    tmp_path: Path, ending: str, write: Exception | None, close: Exception | None, message: str,
    closed: int, left: str,
) -> None:  # fmt: skip
    """Once: whatever its closing says after that is no news."""
    failing = Failing(write, close)
    WRITERS.add("failing")(Format(ending, failing))
    path = tmp_path / f"v{ending}"
    try:
        with contextlib.ExitStack() as stack:
            error = stack.enter_context(pytest.raises(Exception)) if message else None
            with writing_results({"failing": path}, Recording("v"), beside=False) as (writer,):
                writer.write(FRAMES[0])
    finally:
        WRITERS.remove("failing")
    if error is not None:
        assert str(error.value) == message.format(path)
    assert failing.closed == closed and path.read_text() == left


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (KeyError("a"), "{}: no poses can be read from it as odd: 'a'"),
        (ValueError("line 3 is bad"), "{}: no poses can be read from it as odd: line 3 is bad"),
        (ValueError("{}: line 3\nis bad"),
         "{}: no poses can be read from it as odd: {}: line 3 is bad"),
        (RuntimeError("{} is bad"), "{}: no poses can be read from it as odd: {} is bad"),
        (MemoryError(), "{}: no poses can be read from it as odd: MemoryError"),
        (ValueError("{} is bad"), "{} is bad"),
        (FileNotFoundError("{} is gone"), "{} is gone"),
    ],
)  # fmt: skip
def test_what_goes_wrong_in_a_reader_is_one_line_with_the_file(
    tmp_path: Path, error: Exception, message: str
) -> None:
    path = tmp_path / "v.odd"
    path.touch()

    def read(given: Path) -> list[PoseFrame]:
        raise type(error)(*(str(words).replace("{}", str(given)) for words in error.args))

    WRITERS.add("odd")(Format(".odd", Failing(), read=read))
    try:
        with pytest.raises(Exception) as raised:
            read_poses(path)
    finally:
        WRITERS.remove("odd")
    assert isinstance(raised.value, ValueError | OSError)
    assert str(raised.value) == message.replace("{}", str(path))


def test_formats_that_are_not_read_and_endings_that_are_not_known(tmp_path: Path) -> None:
    path = tmp_path / "v.coco.json"
    path.write_text("[]")
    with pytest.raises(ValueError) as error:
        read_poses(path)
    assert str(error.value) == (
        f"{path}: coco cannot be read back: convert a table or a COCO dataset"
    )
    with pytest.raises(ValueError) as error:
        format_of("v.doc")
    assert str(error.value) == (
        "v.doc: no known ending of poses: expected .jsonl (jsonl), .csv (csv), .parquet (parquet), "
        ".coco.json (coco), .coco_dataset.json (coco_dataset), .posetrack.json (posetrack), "
        "_openpose (openpose), _openpose18 (openpose18), _trc (trc), _c3d (c3d), .dlc.csv (dlc), "
        ".dlc.h5 (dlc_h5), .slp (sleap), .nwb (nwb)"
    )
    (tmp_path / "odd.csv").write_bytes(b"\xff\xfe\x00")
    assert format_of(tmp_path / "odd.csv") == "csv"  # no text: whoever reads it says so
    assert format_of("clip_openpose\\") == "openpose"
    (tmp_path / "x_keypoints.json").touch()
    assert format_of(tmp_path / "x_keypoints.json") == "coco_dataset"


def test_masks_of_people_with_joints(write: Callable[..., Path]) -> None:
    """A COCO dataset has both; COCO's results have the joints, by which its reader knows them."""
    from pycocotools import mask as mask_tools

    masks = np.zeros((1, 40, 30), bool)
    masks[0, 3:9, 5:7] = True
    frame = replace(pose_frame(3, 1), masks=masks)
    (person,) = json.loads((write("coco_dataset", [frame]) / "v.coco_dataset.json").read_text())[
        "annotations"
    ]
    np.testing.assert_array_equal(mask_tools.decode(person["segmentation"]), masks[0])
    assert person["num_keypoints"] == 3
    (entry,) = json.loads((write("coco", [frame]) / "v.coco.json").read_text())
    assert "segmentation" not in entry and len(entry["keypoints"]) == 9


def test_a_growing_file_that_cannot_grow_is_as_it_was(tmp_path: Path) -> None:
    """A disk that takes three bytes at a time, and then none."""

    class Disk:
        def __init__(self, file: io.FileIO, room: int) -> None:
            self.file, self.room = file, room

        def write(self, data: memoryview) -> int:
            if not self.room:
                raise OSError(28, "No space left")
            self.room -= 1
            return self.file.write(data[:3])

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

    path = tmp_path / "a.json"
    growing = GrowingJson(path, "[")
    growing.append({"a": 1})
    growing._file = Disk(growing._file, 1000)  # type: ignore[assignment,arg-type]
    growing.flush("\n]\n")
    whole = path.read_text()
    assert json.loads(whole) == [{"a": 1}]
    growing.append({"b": "x" * 100})
    plain = growing._write
    growing._file.room = 4  # type: ignore[attr-defined]

    def room_again(data: bytes) -> None:
        if data == growing._tail:
            growing._file.room = 9  # type: ignore[attr-defined]
        plain(data)

    growing._write = room_again  # type: ignore[method-assign]
    with pytest.raises(OSError, match="No space left"):
        growing.flush("\n]\n")
    assert path.read_text() == whole
    growing.append({"c": 2})  # without the one before it a reader would take it for the second
    growing.close("\n]\n")
    assert path.read_text() == whole and growing._file.closed


@pytest.mark.parametrize("word", ["long", "wide"])
def test_a_table_that_is_named_by_a_file_or_a_command(word: str) -> None:
    """Words that are equal are the same choice."""
    typed = "".join(list(word))
    chosen, expected = (Recording("v", JOINTS, table=table) for table in (typed, word))
    assert tables.table_columns(chosen) == tables.table_columns(expected)
    rows = ROWS if word == "long" else WIDE
    assert [row for frame in FRAMES for row in tables.table_rows(frame, chosen)] == rows
    if word == "wide":
        assert Recording("v", JOINTS, table=typed, angles=True).angles


def test_what_is_no_number_is_never_written_as_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should a format let one through, the run ends: other programs could not read the file."""
    growing = GrowingJson(tmp_path / "a.json", "[")
    with pytest.raises(ValueError, match="not JSON compliant"):
        growing.append({"a": np.nan})
    monkeypatch.setattr(tables, "table_rows", lambda *_: [(np.nan,)])
    lines = tables.JsonLinesWriter(tmp_path / "a.jsonl", Recording("v"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        lines.write(FRAMES[0])
    (people,) = open_writers(["openpose"], tmp_path, Recording("v", JOINTS + WRISTS))
    broken = np.full((25, 3), np.nan)
    monkeypatch.setattr(type(people._writer._map), "apply", lambda *_: broken)  # type: ignore
    with pytest.raises(ValueError, match="not JSON compliant"):
        people.write(pose_frame(0, 1, JOINTS + WRISTS))


def test_what_cannot_be_tidied_up_stays_in_silence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The results are there; a disk that became read-only is said where it matters."""
    (tmp_path / "folder" / "file").parent.mkdir()
    (tmp_path / "folder" / "file").touch()
    _remove(tmp_path / "absent")
    with monkeypatch.context() as patch:

        def refuse(*_: object, **__: object) -> None:
            raise OSError(30, "Read-only file system")

        for name in ("rmdir", "unlink"):
            patch.setattr(os, name, refuse)
        _remove(tmp_path / "folder")
        _remove(tmp_path / "folder" / "file")
    assert (tmp_path / "folder" / "file").exists()
    _remove(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
