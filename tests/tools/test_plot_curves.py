"""Curves from metrics.json: means over stretches, resumed runs, files of a few kB."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest


@pytest.fixture(scope="module")
def tool(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tools/plot_curves.py")


def _write(folder: Path, entries: list[dict], tail: str = "") -> Path:
    folder.mkdir(parents=True)
    text = "".join(json.dumps(entry) + "\n" for entry in entries)
    (folder / "metrics.json").write_text(text + tail)
    return folder


def test_means_over_equal_stretches(tool: ModuleType, tmp_path: Path) -> None:
    # 80 iterations, logged every 20; in the second part of four a second value of a resumed run.
    entries = [{"iteration": 19 + 20 * i, "total_loss": 8.0 / 2**i, "lr": 0.1} for i in range(4)]
    entries.insert(2, {"iteration": 39, "total_loss": 100.0, "lr": 0.1})
    entries.append({"iteration": 39, "total_loss": 6.0, "lr": 0.1})
    entries += [{"iteration": 60, "pose/train_error_px": 3.0}]
    run = _write(tmp_path / "a", entries, tail='{"iteration": 99, "total_lo')
    curve = tool.thin(tool.read_curve(run / "metrics.json"), 2)
    # The last iteration is 79, so that the stretches are 0-39 and 40-79.
    assert curve["iteration"].tolist() == [40, 80]
    np.testing.assert_allclose(curve["loss"], [(8 + 6) / 2, (2 + 1) / 2])
    assert np.isnan(curve["train_error_px"][0]) and curve["train_error_px"][1] == 3
    tool.write_csv(curve, tmp_path / "a.csv")
    lines = (tmp_path / "a.csv").read_text().splitlines()
    assert lines == [
        "iteration,loss,train_error_px,learning_rate", "40,7,,0.1", "80,1.5,3,0.1",
    ]  # fmt: skip


def test_files(tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    entries = [
        {"iteration": i, "total_loss": 1 / (i + 1), "pose/train_error_px": 9.0, "lr": 0.1}
        for i in range(0, 4000, 20)
    ]
    runs = [str(_write(tmp_path / "first", entries)), f"second={_write(tmp_path / 'x', entries)}"]
    out = tmp_path / "docs"
    tool.main([*runs, "--out", str(out), "--name", "both"])
    assert sorted(p.name for p in out.iterdir()) == ["both.png", "first.csv", "second.csv"]
    assert "both.png" in capsys.readouterr().out
    assert len((out / "first.csv").read_text().splitlines()) == 61
    assert (out / "first.csv").stat().st_size < 4000
    assert 2000 < (out / "both.png").stat().st_size < 20000


def test_what_is_no_run(tool: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="plot_curves: .*nowhere"):
        tool.main([str(tmp_path / "nowhere"), "--out", str(tmp_path)])
    run = _write(tmp_path / "a", [{"iteration": 1}])
    with pytest.raises(ValueError, match="no total_loss"):
        tool.read_curve(run / "metrics.json")
    broken = _write(tmp_path / "b", [], tail='{"iter\n{"iteration": 1, "total_loss": 1}\n')
    with pytest.raises(ValueError, match="line 1"):
        tool.read_curve(broken / "metrics.json")
    good = _write(tmp_path / "c", [{"iteration": 1, "total_loss": 1.0}])
    with pytest.raises(SystemExit, match="names repeat"):
        tool.main([str(good), str(good), "--out", str(tmp_path)])
