"""One table of models: recurrent ones and R-CNNs, with what each has."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def tool(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tools/compare_models.py")


def pck(value: float, frames: float = 47.0, missed: float = 0.0) -> dict[str, float]:
    return {
        "PCK@0.2": value, "PCK@0.2_low": 1.0, "PCK@0.2-head": 2.0, "PCK@0.1": value / 2,
        "floor_PCK@0.2": 76.2, "floor_PCK@0.1": 39.7, "frames": frames, "joints": 15 * frames,
        "missed_frames": missed,
    }  # fmt: skip


def store(folder: Path, dataset: str, results: dict) -> str:
    path = folder / "inference" / dataset
    path.mkdir(parents=True)
    (path / "results.json").write_text(json.dumps(results))
    return str(folder)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_models_of_both_views_in_one_table(tool, tmp_path, capsys) -> None:
    lstm = {"keypoints_pck_bbox": pck(90.0), "keypoints_pck_torso": pck(70.0)}
    rcnn = {
        "keypoints_pck_bbox": pck(80.26, missed=3.0),
        "keypoints_pck_torso": pck(float("nan")),
        "keypoints": {"AP": 50.0, "AP50": 88.0},
        "bbox": {"AP": 61.0, "AP50": 95.0},
    }
    mask = {"bbox": {"AP": 60.0, "AP50": 94.0}, "segm": {"AP": 40.0, "AP50": 90.0}}
    runs = [
        store(tmp_path / "lstm", "d", lstm),
        "R-CNN=" + store(tmp_path / "x", "d_frames", rcnn),
        "mask=" + store(tmp_path / "y", "d_frames", mask),
    ]
    out = tmp_path / "table.md"
    tool.main([*runs, "--dataset", "d", "--out", str(out)])
    text = capsys.readouterr().out
    assert out.read_text() == text
    assert "47 labelled frames, 705 joints" in text
    header, _, *rows = [line for line in text.splitlines() if line.startswith("|")]
    assert cells(header) == [
        "model", "bbox PCK@0.2", "bbox PCK@0.1", "missed frames", "torso PCK@0.2",
        "keypoint AP", "keypoint AP50", "box AP", "box AP50", "mask AP", "mask AP50",
    ]  # fmt: skip
    assert [cells(row) for row in rows] == [
        ["lstm", "90.0", "45.0", "0.0", "70.0", "", "", "", "", "", ""],
        ["R-CNN", "80.3", "40.1", "3.0", "", "50.0", "88.0", "61.0", "95.0", "", ""],
        ["mask", "", "", "", "", "", "", "60.0", "94.0", "40.0", "90.0"],
        ["constant pose in the true box", "76.2", "39.7", "", "76.2", "", "", "", "", "", ""],
    ]


def test_different_frames_make_no_table(tool, tmp_path) -> None:
    runs = [
        store(tmp_path / name, "d", {"keypoints_pck_bbox": pck(50, frames)})
        for name, frames in (("a", 47.0), ("b", 46.0))
    ]
    with pytest.raises(SystemExit, match=r"different frames of d: \{'a': 47.0, 'b': 46.0\}"):
        tool.main([*runs, "--dataset", "d"])


def test_a_folder_without_a_model_is_named(tool, tmp_path) -> None:
    with pytest.raises(SystemExit, match="config.yaml is missing"):
        tool.main([str(tmp_path), "--dataset", "d"])
