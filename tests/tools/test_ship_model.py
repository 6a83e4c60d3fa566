"""The command line of tools/ship_model.py, with a model of random weights."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from detectron2.modeling import build_model
from safetensors.torch import save_file

from video_pose import packaged
from video_pose.inference.predictor import load_cfg, load_model

ROOT = Path(__file__).parents[2]
CONFIG = str(ROOT / "configs/LSTM-Pose-Machines/lstm_pm_small_synthetic_jhmdb.yaml")
SMALL = ["INPUT.CROP_SIZE", "(64, 64)"]


@pytest.fixture
def tool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, load_script: Callable[[str], ModuleType]
) -> ModuleType:
    module = load_script("tools/ship_model.py")
    root = tmp_path / "pretrained"
    root.mkdir()
    (root / packaged.TABLE).write_text('{"pose": "", "detector": "somebody"}')
    monkeypatch.setattr(packaged, "ROOT", root)
    return module


@pytest.fixture
def weights(tmp_path: Path) -> str:
    torch.manual_seed(3)
    model = build_model(load_cfg(CONFIG, SMALL))
    path = tmp_path / "model_final.pth"
    torch.save({"model": model.state_dict(), "pose": {"joints": model.joint_names}}, path)
    return str(path)


def test_a_packaged_model_is_the_default_and_computes_as_before(
    tool: ModuleType, weights: str, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["--name", "tiny", "--config-file", CONFIG, "--as", "pose", *SMALL]
    assert tool.main([*arguments, "MODEL.WEIGHTS", weights, "OUTPUT_DIR", "/home/me/secret"]) == 0
    assert "MODEL_CARD.md" in capsys.readouterr().out
    (packaged.ROOT / "tiny" / packaged.CARD).write_text("# tiny\n")
    files = packaged.default_model()
    text = Path(files.config).read_text()
    assert "secret" not in text and weights not in text and "_BASE_" not in text
    table = json.loads((packaged.ROOT / packaged.TABLE).read_text())
    assert table == {"pose": "tiny", "detector": "somebody"}
    before = load_model(load_cfg(CONFIG, [*SMALL, "MODEL.WEIGHTS", weights]))
    after = load_model(load_cfg(files.config, ["MODEL.WEIGHTS", files.weights]))
    images = torch.rand(2, 3, 64, 64) - 0.5
    with torch.no_grad():
        expected, got = before.encode(images), after.encode(images)
    assert expected.abs().max() > 1e-3
    torch.testing.assert_close(got, expected, rtol=0, atol=2e-3 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--as", "pose", *SMALL], "name the trained weights"),
        (["--as", "detector", *SMALL, "MODEL.WEIGHTS", "{weights}"], "is no detector model"),
        (["--as", "pose", "--max-megabytes", "0.1", *SMALL, "MODEL.WEIGHTS", "{weights}"], "0.1"),
        (["--as", "pose", "MODEL.WEIGHTS", "gone.pth"], "gone.pth"),
    ],
)
def test_what_cannot_ship_says_why(
    tool: ModuleType, weights: str, extra: list[str], words: str, capsys: pytest.CaptureFixture
) -> None:
    filled = [part.replace("{weights}", weights) for part in extra]
    assert tool.main(["--name", "tiny", "--config-file", CONFIG, *filled]) == 1
    assert words in capsys.readouterr().err
    assert json.loads((packaged.ROOT / packaged.TABLE).read_text())["pose"] == ""
    assert not (packaged.ROOT / "tiny" / packaged.WEIGHTS).exists()


@pytest.mark.parametrize("kind", ["pth", "pkl", "safetensors"])
def test_a_detector_with_an_untrained_part_does_not_ship(
    tool: ModuleType, tmp_path: Path, kind: str
) -> None:
    model = torch.nn.ModuleDict({"box": torch.nn.Linear(2, 3), "mask": torch.nn.Linear(2, 1)})
    state = model.state_dict()
    path = str(tmp_path / f"w.{kind}")
    write_weights(path, state)
    tool.require_complete(model, path)
    write_weights(path, {**state, "box.weight": torch.zeros(4, 2)})
    with pytest.raises(ValueError, match=r"1 tensors .*box\.weight"):
        tool.require_complete(model, path)
    write_weights(path, {key: state[key] for key in state if "mask" not in key})
    with pytest.raises(ValueError, match=r"2 tensors .*mask"):
        tool.require_complete(model, path)


def write_weights(path: str, state: dict[str, torch.Tensor]) -> None:
    """In the format that the file's suffix names."""
    if path.endswith(".safetensors"):
        save_file(state, path)
    elif path.endswith(".pkl"):
        arrays = {key: value.numpy() for key, value in state.items()}
        Path(path).write_bytes(pickle.dumps({"model": arrays, "__author__": "test"}))
    else:
        torch.save({"model": state}, path)
