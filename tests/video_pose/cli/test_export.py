from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from video_pose.backends.graphs import VERSION, read_description, write_description
from video_pose.cli import export
from video_pose.cli.main import main

ROOT = Path(__file__).parents[3]
CONFIG = str(ROOT / "configs/LSTM-Pose-Machines/lstm_pm_small_synthetic_jhmdb.yaml")
SMALL = ["INPUT.CROP_SIZE", "(64, 64)"]


def test_export_report_and_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino")
    assert main(["export", "--config-file", CONFIG, "--output", str(tmp_path), *SMALL]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    graphs = {f"{name}.{end}" for name in ("encode", "begin", "advance") for end in ("xml", "bin")}
    assert names == {*graphs, "model.json", "parity.json"}
    reports = json.loads((tmp_path / "parity.json").read_text())
    assert [report["rows"] for report in reports] == [1, 3]
    assert all(report["frames"] == 50 for report in reports)
    assert "largest difference: heatmaps" in capsys.readouterr().out


def test_models_without_memory_steps_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rcnn.yaml"
    path.write_text("VERSION: 2\nMODEL:\n  META_ARCHITECTURE: GeneralizedRCNN\n")
    assert main(["export", "--config-file", str(path), "--output", str(tmp_path / "out")]) == 1
    assert "GeneralizedRCNN has no encode" in capsys.readouterr().err
    path = (
        ROOT / "configs/Keypoint-RCNN/recurrent_keypoint_rcnn_R18_FPN_small_sub_jhmdb_split1.yaml"
    )
    assert main(["export", "--config-file", str(path), "--output", str(tmp_path / "out")]) == 1
    assert "RecurrentKeypointRCNN finds people by PyTorch" in capsys.readouterr().err


def test_an_export_that_differs_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setattr(export, "HEATMAP_LIMIT", -1.0)
    monkeypatch.setattr(export, "FRAMES", 5)
    arguments = ["--config-file", CONFIG, "--output", str(tmp_path), "--format", "pt2", *SMALL]
    (tmp_path / "model.json").write_text("an earlier one")
    assert main(["export", *arguments]) == 1
    assert "the export differs from the model" in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == ["an earlier one"]


def test_a_new_export_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    """Only when it is whole; and what else is there does not make the folder unreadable."""
    description: dict = {"version": VERSION, "format": "pt2"}
    (tmp_path / "encode.pt2").write_bytes(b"earlier")
    (tmp_path / "more.onnx").write_bytes(b"mine")
    write_description(tmp_path, description)
    with export._replacing_export(tmp_path) as folder:
        assert folder.parent == tmp_path
        (folder / "encode.pt2").write_bytes(b"new")
        write_description(folder, description)
        assert read_description(tmp_path) and (tmp_path / "encode.pt2").read_bytes() == b"earlier"
    assert (tmp_path / "encode.pt2").read_bytes() == b"new"
    assert set(read_description(tmp_path)["sha256"]) == {"encode.pt2", "more.onnx"}
    assert {path.name for path in tmp_path.iterdir()} == {"encode.pt2", "more.onnx", "model.json"}


def test_int8_is_not_calibrated_on_the_test(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from video_pose.engine.defaults import get_pose_cfg

    cfg = get_pose_cfg()
    args = argparse.Namespace(calibrate=None)
    with pytest.raises(ValueError, match="--int8 needs --calibrate DATASET"):
        export.calibration_dataset(args, cfg)
    cfg.DATASETS.TRAIN, cfg.DATASETS.TEST = ("train", "more"), ("test",)
    assert export.calibration_dataset(args, cfg) == "train"
    args.calibrate = "test"
    with pytest.raises(ValueError, match="--calibrate test: the accuracy is measured on it"):
        export.calibration_dataset(args, cfg)
