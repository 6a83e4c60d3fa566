from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs/LSTM-Pose-Machines/lstm_pm_small_synthetic_jhmdb.yaml")
SMALL = ["--opts", "INPUT.CROP_SIZE", "(64, 64)"]


@pytest.fixture
def tool(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tools/export_model.py")


def test_export_report_and_use(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    assert tool.main(["--config-file", CONFIG, "--output", str(tmp_path), *SMALL]) == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"encode.onnx", "begin.onnx", "advance.onnx", "model.json", "parity.json"}
    reports = json.loads((tmp_path / "parity.json").read_text())
    assert [report["rows"] for report in reports] == [1, 3]
    assert all(report["frames"] == 50 for report in reports)
    assert "largest difference: heatmaps" in capsys.readouterr().out


def test_models_without_memory_steps_are_refused(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "rcnn.yaml"
    path.write_text("VERSION: 2\nMODEL:\n  META_ARCHITECTURE: GeneralizedRCNN\n")
    assert tool.main(["--config-file", str(path), "--output", str(tmp_path / "out")]) == 1
    assert "GeneralizedRCNN has no encode" in capsys.readouterr().err


def test_an_export_that_differs_is_an_error(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch
) -> None:
    monkeypatch.setattr(tool, "HEATMAP_LIMIT", -1.0)
    monkeypatch.setattr(tool, "FRAMES", 5)
    arguments = ["--config-file", CONFIG, "--output", str(tmp_path), "--format", "pt2", *SMALL]
    assert tool.main(arguments) == 1
    assert "the export differs from the model" in capsys.readouterr().err
