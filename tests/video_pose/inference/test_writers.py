"""Every format is read back by its own reader, finished and unfinished."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from video_pose.inference.frames import PoseFrame
from video_pose.inference.writers import COLUMNS, FORMATS, open_writers, tables
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

    def make(name: str, frames: list[PoseFrame] = FRAMES, finish: bool = True) -> Path:
        (writer,) = open_writers([name], tmp_path, "v")
        for frame in frames:
            writer.write(frame)
        if finish:
            writer.close()
        else:
            unfinished.append(writer)
        return tmp_path

    unfinished: list[object] = []
    return make


# The whole table, worked out by hand: 2 x 3 joints, an empty row, 1 x 3 joints.
ROWS = [
    ("v", 0, 0.0, 4, "head", 0.0, 0.5, 0.5),
    ("v", 0, 0.0, 4, "neck", 1.0, 1.5, 0.5),
    ("v", 0, 0.0, 4, "left_wrist", 2.0, 2.5, 0.5),
    ("v", 0, 0.0, 5, "head", 10.0, 0.5, 0.5),
    ("v", 0, 0.0, 5, "neck", 11.0, 1.5, 0.5),
    ("v", 0, 0.0, 5, "left_wrist", 12.0, 2.5, 0.5),
    ("v", 1, 0.125, None, None, None, None, None),
    ("v", 2, 0.25, 4, "head", 200.0, 0.5, 0.5),
    ("v", 2, 0.25, 4, "neck", 201.0, 1.5, 0.5),
    ("v", 2, 0.25, 4, "left_wrist", 202.0, 2.5, 0.5),
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
    assert tuple(json.loads(line).values()) == ("v", 3, 0.375, 4, None, None, None, 0.25)
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
    points = np.reshape(coco.anns[1]["keypoints"], (17, 3))
    # Person 5 of frame 0: head at (10, .5), which is pixel index (9.5, 0); neck at (11, 1.5).
    assert points[names.index("head_top")].tolist() == [9.5, 0, 1]
    assert points[names.index("head_bottom")].tolist() == [10.5, 1, 1]
    assert points[names.index("left_wrist")].tolist() == [11.5, 2, 1]
    assert points[:, 2].sum() == 3
    assert coco.anns[1]["scores"][names.index("nose")] == 0
    assert coco.anns[1]["bbox"] == [0, 1, 20, 30]


def test_unknown_formats_and_unwritable_places(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format 'xml': choose from " + ", ".join(FORMATS)):
        open_writers(["xml"], tmp_path, "v")
    with pytest.raises(ValueError, match=r"cannot write .*nowhere.*v.csv"):
        open_writers(["csv"], tmp_path / "nowhere", "v")


def test_numbers_that_are_none(write: Callable[..., Path]) -> None:
    """JSON has no NaN."""
    broken = pose_frame(0, 1, ("head",))
    broken.keypoints[0, 0, 0] = np.nan
    (line,) = (write("jsonl", [broken]) / "v.jsonl").read_text().splitlines()
    assert json.loads(line)["x"] is None and json.loads(line)["y"] == 0.5


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
