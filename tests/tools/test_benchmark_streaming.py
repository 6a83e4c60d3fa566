"""The benchmark of streaming, small: what it measures and tells, not how fast this machine is."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs/quickstart/unipose_lstm_R18_synthetic_jhmdb.yaml")
RCNN = str(ROOT / "configs/Mask-RCNN/mask_rcnn_R50_FPN_small_sub_jhmdb_split1.yaml")
SMALL = [
    *("--config-file", CONFIG, "--frames", "110", "--start", "20", "--people", "3"),
    *("--rounds", "1", "--agreement-frames", "6", "--parity-frames", "6"),
]
CROP = ["--opts", "INPUT.CROP_SIZE", "(64, 64)"]


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch, load_script: Callable[[str], ModuleType]) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    return load_script("tools/benchmark_streaming.py")


def test_one_table_and_its_json(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tool.main([*SMALL, "--only", "agreement", "people", "long", "--output", str(tmp_path), *CROP])
    table = capsys.readouterr().out
    report = json.loads((tmp_path / "streaming.json").read_text())
    rows = {row["name"]: row for row in report["rows"]}
    assert list(rows) == [
        "streaming differs from offline by", "3 people by one person", "memory grows by",
        "processor time of a late frame by an early one", "elapsed time likewise",
    ]  # fmt: skip
    assert all(name in table for name in rows)
    assert (tmp_path / "streaming.md").read_text() == table
    agreement = rows["streaming differs from offline by"]
    # Two unlike computations would differ by pixels; poses must differ from each other, too.
    assert 0 <= agreement["value"] < 0.01 < agreement["details"]["spread_px"]
    assert report["machine"]["cores"] >= 1 and report["arguments"]["people"] == 3
    growth = rows["memory grows by"]["details"]
    # There for 60 frames of 100, two of them: from frames 0 and 100, and from 0 and 50.
    assert growth["people_numbered"] == 4
    assert {"20", "109"} <= set(growth["resident_mb"])
    one, many = (rows["3 people by one person"]["details"][key] for key in ("ms_one", "ms_many"))
    assert rows["3 people by one person"]["value"] == pytest.approx(many / one)


def test_export_is_measured_or_said_not_to_be(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tool.main([*SMALL, "--only", "export", *CROP])
    table = capsys.readouterr().out
    measured = all(importlib.util.find_spec(name) for name in ("onnx", "onnxscript", "onnxruntime"))
    assert ("not measured" in table) != measured
    assert ("time of ONNX by eager PyTorch, 3 persons" in table) == measured


def test_limits_decide_the_exit_status(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = sys.modules["streaming_benchmark.figure"]
    good, bad = (figure.Figure("a", value, "MB", 50.0) for value in (50.0, 50.1))
    told, lacking = figure.Figure("a", 9.0, ""), figure.Figure("a", None, "", 1.0)
    assert [f.reached for f in (good, bad, told, lacking)] == [True, False, None, None]
    for figures, status in (([good, told, lacking], 0), ([good, bad], 1)):
        monkeypatch.setattr(tool, "measure", lambda args, subject, found=figures: found)
        assert tool.main(SMALL) == status


def test_growth_and_slowdown_are_seen(tool: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up memory and time: 1 MB a frame, and frames that take twice as long in the end; the
    processor is busy for half of the time, and steadily."""
    long_run = sys.modules["streaming_benchmark.long_run"]
    elapsed = iter(np.cumsum([v for i in range(40) for v in (0, 1 + i // 20)]))
    busy, held = iter(np.cumsum([v for i in range(40) for v in (0, 0.5)])), iter(range(99))
    frame = type("Frame", (), {"track_ids": np.array([3])})
    frames = [type("F", (frame,), {"index": i})() for i in range(40)]
    monkeypatch.setattr(long_run, "_write_video", lambda path, count: None)
    monkeypatch.setattr(long_run, "_stream", lambda subject, path, folder: iter(frames))
    monkeypatch.setattr(long_run, "resident_mb", lambda: float(next(held)))
    monkeypatch.setattr(long_run.time, "perf_counter", lambda: float(next(elapsed, 99)))
    monkeypatch.setattr(long_run.time, "process_time", lambda: float(next(busy, 99)))
    memory, processor, wall = long_run.measure_long_run(None, 40, 0)
    # One look at the memory a frame: 0 MB at frame 0, 39 MB at frame 39.
    assert (memory.value, processor.value, wall.value) == (39, 1, 2)
    assert (processor.limit, wall.limit) == (1.1, None)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--start", "109"], "--start 109: expected 0 to 108"),
        (["--config-file", "none.yaml"], "config not found: none.yaml"),
        (["--weights", "none.pth"], "MODEL.WEIGHTS not found: none.pth"),
        (["--config-file", RCNN], "GeneralizedRCNN is no recurrent pose model"),
    ],
)
def test_wrong_arguments(
    tool: ModuleType, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert tool.main([*SMALL, *arguments]) == 1
    assert message in capsys.readouterr().err
