"""docs/CUSTOM_DATA.md, run as it is printed: its files, its plugins, its commands."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from video_pose.cli import datasets
from video_pose.data.register import complete_track, load_tracks, register_video_tracks
from video_pose.engine.defaults import complete_cfg, get_pose_cfg
from video_pose.engine.views import view_of
from video_pose.report.dataset import dataset_sheet, describe_dataset
from video_pose.video_io.writing import VideoWriter

ROOT = Path(__file__).parents[3]
DOC = (ROOT / "docs" / "CUSTOM_DATA.md").read_text(encoding="utf-8")
# What the command of the page does in two small steps.
SHORT = (
    "SOLVER.MAX_ITER 1 SOLVER.IMS_PER_BATCH 1 DATALOADER.NUM_WORKERS 0 INPUT.CLIP.LENGTH 2 "
    "SOLVER.WARMUP_ITERS 0"
)


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", DOC, flags=re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The page's files: annotations, frames and plugins; the working folder of the test."""
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_text(_blocks("json")[0])
    (tmp_path / "frames" / "a").mkdir(parents=True)
    for name in ("0001", "0002"):
        Image.new("RGB", (96, 72), (90, 120, 60)).save(tmp_path / f"frames/a/{name}.jpg")
    for block in _blocks("python"):
        (tmp_path / block.splitlines()[0].removeprefix("# ")).write_text(block)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def plugins(folder: Path) -> Iterator[list[str]]:
    """Runs both plugins; the names that they register."""
    before = set(DatasetCatalog.list())
    for name in ("my_datasets.py", "my_tracks.py"):
        exec(compile((folder / name).read_text(), name, "exec"), {})
    names = sorted(set(DatasetCatalog.list()) - before)
    yield names
    for name in names:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_both_recipes_give_the_same_people(plugins: list[str]) -> None:
    assert plugins == [
        f"my_{name}{view}" for name in ("test", "tracks", "train") for view in ("", "_frames")
    ]
    (by_file,), (by_loader,) = DatasetCatalog.get("my_train"), DatasetCatalog.get("my_tracks")
    # The file counts pixels, the loader has continuous ones.
    np.testing.assert_allclose(by_file["keypoints"][..., :2], by_loader["keypoints"][..., :2] + 0.5)
    facts = MetadataCatalog.get("my_train").as_dict(), MetadataCatalog.get("my_tracks").as_dict()
    same = set(facts[0]) & set(facts[1]) - {"name", "root_hint"}
    assert all(facts[0][key] == facts[1][key] for key in same)
    assert facts[0]["thing_dataset_id_to_contiguous_id"] == {1: 0}
    assert facts[0]["box_margin"] == facts[1]["box_margin"] == 0
    frames = DatasetCatalog.get("my_tracks_frames")
    assert [len(frame["annotations"]) for frame in frames] == [1, 1]


@pytest.mark.parametrize("name", ["my_train", "my_tracks"])
def test_both_views_train_on_them(plugins: list[str], name: str) -> None:
    for dataset, meta in ((name, "UniPoseLSTM"), (f"{name}_frames", "GeneralizedRCNN")):
        cfg = get_pose_cfg()
        cfg.MODEL.DEVICE, cfg.MODEL.META_ARCHITECTURE = "cpu", meta
        cfg.MODEL.KEYPOINT_ON = meta == "GeneralizedRCNN"
        cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = (dataset,), (dataset,)
        cfg.DATALOADER.NUM_WORKERS, cfg.SOLVER.IMS_PER_BATCH = 0, 2
        cfg.DATALOADER.ASPECT_RATIO_GROUPING, cfg.SEED = False, 1
        if meta == "UniPoseLSTM":
            cfg.INPUT.CROP_SIZE = (64, 64)
        complete_cfg(cfg)
        assert cfg.MODEL.POSE.FLIP_MAP == [["left_shoulder", "right_shoulder"]]
        batch = next(iter(view_of(cfg).build_train_loader(cfg, 0)))
        assert len(batch) == 2 and "image" in batch[0]


def test_what_was_understood_is_told_and_drawn(plugins: list[str]) -> None:
    description = describe_dataset("my_train_frames")
    text = "\n".join(description.lines())
    assert re.search(r"videos +1\n", text) and re.search(r"poses \(person and frame\) +2\n", text)
    assert re.search(r"left_shoulder +1 +1 +0", text)
    assert "mirror pairs: left_shoulder/right_shoulder" in text
    sheet = dataset_sheet(description, count=2, columns=2)
    assert sheet.dtype == np.uint8 and sheet.shape[1] > sheet.shape[0] / 2


def test_the_command_shows_a_dataset(
    plugins: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = argparse.Namespace(words=["show", "my_train"], sheet="sheet.png", count=2)
    assert datasets.run(args) == 0
    assert "dataset my_train" in capsys.readouterr().out
    assert cv2.imread(str(folder / "sheet.png")) is not None
    for words, error in ((["show"], ValueError), (["show", "nobody"], KeyError)):
        with pytest.raises(error):
            datasets.run(argparse.Namespace(words=words, sheet=None, count=2))


@pytest.mark.slow
def test_the_pages_commands(folder: Path) -> None:
    """Training from the packaged model, its evaluation, the trained model, and the sheet."""
    with VideoWriter("video.mp4", 10) as writer:
        for i in range(3):
            writer.write(np.full((48, 64, 3), 90 + i, np.uint8), i / 10)
    lines = re.findall(r"^    (video-pose .*)$", DOC, flags=re.MULTILINE)
    env = {**os.environ, "VIDEO_POSE_PLUGINS": "my_datasets.py"}
    for line in lines:
        words = shlex.split(line)[1:]
        words = [str(ROOT / word) if word.startswith("configs/") else word for word in words]
        words += shlex.split(SHORT) if words[0] == "train" else []
        done = subprocess.run(
            [sys.executable, "-m", "video_pose", *words],
            env=env, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
    assert (folder / "my_train.png").stat().st_size > 1000
    assert (folder / "out" / "video.mp4").stat().st_size > 0
    results = folder / "output/mine/inference/my_test/coco_instances_results.json"
    found = json.loads(results.read_text())
    assert {row["category_id"] for row in found} == {1} and len(found) == 2


# ---- a loader's mistakes are said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"height": None}, "height: expected a whole number of px, got None"),
        ({"video_id": ...}, "expected video_id, height, width, keypoints"),
        ({"file_names": ...}, "and file_names or video_file with frame_numbers"),
        ({"video_file": "a.mp4"}, "and file_names or video_file with frame_numbers"),
        ({"keypoints": np.zeros((2, 3, 2))}, r"keypoints: expected shape \(2, 3, 3\)"),
        ({"keypoints": [[["x"] * 3] * 3] * 2}, "keypoints: expected numbers of shape"),
        ({"keypoints": np.full((2, 3, 3), 0.5)}, "expected v 0, 1 or 2, got 0.5"),
        ({"keypoints": np.array([[[0, 0, 2]] * 3, [[0, 0, 1], [0, 0, 3], [0, 0, 4]]])}, "2, got 3"),
        ({"boxes": np.zeros((1, 4))}, r"boxes: expected shape \(2, 4\), got \(1, 4\)"),
        ({"image_ids": [1]}, r"image_ids: expected shape \(2,\)"),
        ({"bboxes": 1}, r"the keys \['bboxes'\] mean nothing"),
    ],
)
def test_a_track_that_is_wrong_is_named(changes: dict[str, object], words: str) -> None:
    track = {"video_id": "a", "file_names": ["1.jpg", "2.jpg"], "height": 9, "width": 9,
             "keypoints": np.full((2, 3, 3), 1.0), **changes}  # fmt: skip
    track = {key: value for key, value in track.items() if value is not ...}
    register_video_tracks("wrong_tracks", lambda: [track], ["a", "left_b", "right_b"])
    try:
        with pytest.raises(ValueError, match=f"dataset 'wrong_tracks', track 0: .*{words}"):
            DatasetCatalog.get("wrong_tracks")
        with pytest.raises(ValueError, match="already registered"):
            register_video_tracks("wrong_tracks", lambda: [track], ["a"])
    finally:
        for name in ("wrong_tracks", "wrong_tracks_frames"):
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 0}, "height: expected a whole number of px, got 0"),
        ({"width": -1}, "width: expected a whole number of px, got -1"),
        ({"height": 4.0}, "height: expected a whole number of px, got 4.0"),
        ({"keypoints": [[[1, 2, 3]]]}, r"keypoints: expected v 0, 1 or 2"),
        ({"keypoints": [[1, 2, 2]]}, r"keypoints: expected shape \(1, 1, 3\), got \(1, 3\)"),
        ({"keypoints": "x"}, r"keypoints: expected numbers of shape \(1, 1, 3\)"),
        ({"boxes": [[1, 2, 3]]}, r"boxes: expected shape \(1, 4\)"),
        ({"image_ids": [1, 2]}, r"image_ids: expected shape \(1,\)"),
        ({"video_id": None, "drop": "video_id"}, "expected video_id, height, width, keypoints"),
        ({"drop": "file_names"}, "and file_names or video_file with frame_numbers"),
        ({"video_file": "v.mp4"}, "and file_names or video_file with frame_numbers"),
        ({"colour": 1}, r"the keys \['colour'\] mean nothing"),
    ],
)
def test_each_field_of_a_track_is_held(change: dict, words: str) -> None:
    track = {
        "video_id": "v", "height": 4, "width": 6, "file_names": ["a.png"],
        "keypoints": [[[1, 2, 2]]],
    }  # fmt: skip
    dropped = change.pop("drop", None)
    track = {k: v for k, v in {**track, **change}.items() if k != dropped}
    with pytest.raises(ValueError, match=f"here: .*{words}|{words}"):
        complete_track(track, 1, 3, "here")


def test_what_a_track_does_not_tell_is_filled_in() -> None:
    track = {
        "video_id": 7, "height": np.int64(1), "width": 6, "video_file": "v.mp4",
        "frame_numbers": [4, 9], "keypoints": [[[1, 1, 2], [3, 1, 1]], [[0, 0, 0], [0, 0, 0]]],
        "action": "run",
    }  # fmt: skip
    found = complete_track(track, 2, 3, "here")
    assert (found["video_id"], found["track_id"], found["height"]) == ("7", "0", 1)
    assert found["image_ids"].tolist() == [3_000_000, 3_000_001] and found["action"] == "run"
    assert found["labelled"].tolist() == [True, False]
    assert found["boxes"].tolist() == [[0.75, 1, 3.25, 1], [0, 0, 0, 0]]
    given = complete_track({**track, "boxes": [[1, 1, 2, 2]] * 2, "track_id": 5}, 2, 3, "here")
    assert given["boxes"].tolist() == [[1, 1, 2, 2]] * 2 and given["track_id"] == "5"


@pytest.mark.parametrize("given", [{"a": {}}, [{}, 3], ({} for _ in range(2)), "ab", None])
def test_a_loader_gives_a_list_of_dicts(given: object) -> None:
    words = f"the loader of 'some' must give a list of dicts, got {given!r:.80}"
    with pytest.raises(ValueError, match=re.escape(words)):
        load_tracks(lambda: given, "some", 1)


def test_a_list_or_tuple_of_labelled_tracks_is_taken() -> None:
    track = {
        "video_id": "v", "height": 4, "width": 6, "file_names": ["a.png"],
        "keypoints": [[[1, 2, 2]]],
    }  # fmt: skip
    for given in ([track, track], (track, track)):
        found = load_tracks(lambda given=given: given, "some", 1)
        assert [t["image_ids"].tolist() for t in found] == [[0], [1_000_000]]
    nobody = {**track, "keypoints": [[[1, 2, 0]]]}
    for given in ([], [nobody]):
        with pytest.raises(ValueError, match="dataset 'some'"):
            load_tracks(lambda given=given: given, "some", 1)
    with pytest.raises(ValueError, match="dataset 'some', track 1: keypoints: expected v 0, 1 or"):
        load_tracks(lambda: [track, {**track, "keypoints": [[[1, 2, 5]]]}], "some", 1)
