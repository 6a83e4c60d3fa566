"""The command line of tools/profile_model.py, with a small model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs/LSTM-Pose-Machines/lstm_pm_small_synthetic_jhmdb.yaml")
SMALL = ["--clip-length", "2", "--passes", "1", "INPUT.CROP_SIZE", "(64, 64)"]


@pytest.fixture(scope="module")
def tool(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tools/profile_model.py")


def test_shares_add_up_and_convolutions_lead(tool: ModuleType) -> None:
    args = tool.parse_args(["--config-file", CONFIG, "--plain", *SMALL])
    rows = tool.profile_clip(args)
    assert sum(share for _, _, share, _ in rows) == pytest.approx(100)
    assert [ms for _, ms, _, _ in rows] == sorted((ms for _, ms, _, _ in rows), reverse=True)
    calls = {key: count for key, _, _, count in rows}
    # The configuration's stem has four convolutions, the head three or more; gates come on top.
    assert calls["aten::convolution"] >= 7


def test_an_unknown_precision_is_one_line(
    tool: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool.main(["--config-file", CONFIG, "--precision", "int3", *SMALL]) == 1
    assert "int3" in capsys.readouterr().err
