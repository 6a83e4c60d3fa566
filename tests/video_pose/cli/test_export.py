from __future__ import annotations

import json
from pathlib import Path

import pytest

from video_pose.cli import export
from video_pose.cli.main import main

ROOT = Path(__file__).parents[3]
CONFIG = str(ROOT / "configs/LSTM-Pose-Machines/lstm_pm_small_synthetic_jhmdb.yaml")
SMALL = ["INPUT.CROP_SIZE", "(64, 64)"]


def test_export_report_and_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert main(["export", "--config-file", CONFIG, "--output", str(tmp_path), *SMALL]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"encode.onnx", "begin.onnx", "advance.onnx", "model.json", "parity.json"}
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


def test_an_export_that_differs_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setattr(export, "HEATMAP_LIMIT", -1.0)
    monkeypatch.setattr(export, "FRAMES", 5)
    arguments = ["--config-file", CONFIG, "--output", str(tmp_path), "--format", "pt2", *SMALL]
    assert main(["export", *arguments]) == 1
    assert "the export differs from the model" in capsys.readouterr().err
