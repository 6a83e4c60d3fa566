"""The demo with input that is wrong, and killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from video_pose import packaged
from video_pose.inference.video_source import VideoSource

ROOT = Path(__file__).parents[1]
CONFIG = str(ROOT / "configs/quickstart/unipose_lstm_R18_synthetic_jhmdb.yaml")


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT / "demo"))
    import demo

    return demo


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--input", "nothing.mp4"], "no such file, folder or pattern: nothing.mp4"),
        (["--input", "empty.mp4"], "empty.mp4: the file is empty"),
        (["--webcam", "77"], "camera 77 cannot be opened"),
        (["--input", "ok.png", "--format", "xml"], "format 'xml': choose from"),
        (["--input", "ok.png", "--output", "empty.mp4/sub"], "cannot write to empty.mp4/sub"),
        (["--input", "ok.png", "--detector", "none.yaml"], "config not found: none.yaml"),
        (["--input", "ok.png", "--detector", CONFIG], "it is a pose model"),
        (["--input", "ok.png", "--box", "5", "5", "5", "9"], "no box has an area"),
        (["--input", "ok.png", "--opts", "NO.KEY", "1"], "Non-existent key: NO.KEY"),
        (["--input", "ok.png", "--opts", "MODEL.WEIGHTS", "w.pth"], "not found: w.pth"),
        (["--input", "ok.png", "--opts", "MODEL.META_ARCHITECTURE", "X"], "is 'X': registered are"),
    ],
)
def test_bad_input_is_one_clear_line(
    demo: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.mp4").touch()
    cv2.imwrite("ok.png", np.zeros((64, 64, 3), np.uint8))
    head = ["--config-file", CONFIG]
    head += ["--tracker", "iou"] if "--detector" in arguments else ["--region", "pose"]
    assert demo.main([*head, *arguments]) == 1
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and message in errors[0]


def test_no_config_and_no_model_in_the_package(
    demo: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(packaged, "ROOT", tmp_path)
    (tmp_path / packaged.TABLE).write_text('{"pose": "", "detector": ""}')
    video = tmp_path / "any.mp4"
    video.touch()
    assert demo.main(["--input", str(video)]) == 1
    assert "error: no pose model ships with this version: name one" in capfd.readouterr().err


def test_a_kill_loses_at_most_the_last_moments(tmp_path: Path) -> None:
    """A long folder of images, killed without warning: table and video are readable."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for i in range(3000):
        os.link(_picture(tmp_path), folder / f"{i:05d}.png")
    arguments = ["--config-file", CONFIG, "--input", str(folder), "--output", str(tmp_path)]
    arguments += ["--region", "frame", "--format", "jsonl", "coco"]
    command = [sys.executable, str(ROOT / "demo/demo.py"), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
    table, results = tmp_path / "frames.jsonl", tmp_path / "frames.coco.json"
    # Each is written out by a clock of its own.
    least = {table: 150_000, results: 40_000}
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and any(
        not path.exists() or path.stat().st_size < size for path, size in least.items()
    ):
        time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    lines = table.read_text().splitlines()
    rows = [json.loads(line) for line in lines[:-1]]
    seen = rows[-1]["frame"]
    assert 40 < seen < 2999
    coco = json.loads(results.read_text())
    assert coco[-1]["image_id"] > 20
    assert len(list(VideoSource(str(tmp_path / "frames.mp4")))) >= 24


def _picture(folder: Path) -> Path:
    path = folder / "picture.png"
    if not path.exists():
        cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8))
    return path
