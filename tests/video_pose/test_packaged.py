"""Models inside the package, with small ones that the tests put there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from detectron2.config import CfgNode
from safetensors.torch import load_file, save_file
from torch import nn

from video_pose import packaged
from video_pose.data.synthetic.scene import render_scene
from video_pose.inference import VideoPosePredictor
from video_pose.inference.predictor import choose_detector, load_cfg, load_model
from video_pose.inference.settings import PredictorSettings
from video_pose.modeling.backend import TorchBackend
from video_pose.video_io.writing import VideoWriter

MakeCfg = Callable[..., CfgNode]
MakeBackend = Callable[[CfgNode], TorchBackend]
OWN_ROOT = packaged.ROOT
OWN_NAMES = sorted(path.parent.name for path in OWN_ROOT.glob(f"*/{packaged.CONFIG}"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package's folder of models, as it is where none ships."""
    monkeypatch.setattr(packaged, "ROOT", tmp_path)
    (tmp_path / packaged.TABLE).write_text('{"pose": "", "detector": ""}')
    return tmp_path


@pytest.fixture
def tiny(
    root: Path, pose_cfg: MakeCfg, build_backend: MakeBackend
) -> tuple[packaged.PretrainedModel, nn.Module]:
    """A model of random weights in that folder, named in the table, and the model itself."""
    cfg = pose_cfg("unipose_lstm", "INPUT.CROP_SIZE", (64, 64))
    model = build_backend(cfg).model
    folder = root / "tiny"
    folder.mkdir()
    (folder / packaged.CONFIG).write_text(cfg.dump())
    (folder / packaged.CARD).write_text("# tiny\n")
    packaged.save_weights(model, folder / packaged.WEIGHTS)
    (root / packaged.TABLE).write_text(json.dumps({"pose": "tiny", "detector": ""}))
    return packaged.default_model(), model


def test_without_a_model_the_message_says_what_to_name(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no pose model ships .* --config-file"):
        VideoPosePredictor.from_config()
    assert packaged.default_detector() is None


def test_weights_come_back_as_float32(
    tiny: tuple[packaged.PretrainedModel, nn.Module],
) -> None:
    """Half precision on disk: 11 bits, a relative error below 2^-11; norms exactly."""
    files, model = tiny
    stored = load_file(files.weights)
    loaded = load_model(load_cfg(files.config, ["MODEL.WEIGHTS", files.weights]))
    pairs = [(key, value, loaded.state_dict()[key]) for key, value in model.state_dict().items()]
    pairs = [pair for pair in pairs if not pair[0].endswith("num_batches_tracked")]
    assert {key for key, _, _ in pairs} == set(stored)
    kinds = {stored[key].dtype for key in stored}
    assert kinds == {torch.float16, torch.float32}
    for key, before, after in pairs:
        assert after.dtype == torch.float32
        if before.dim() > 1:
            assert stored[key].dtype == torch.float16
            # Below 6e-5 float16 has fewer bits.
            torch.testing.assert_close(after, before, rtol=2**-11, atol=1e-7)
        else:
            assert torch.equal(after, before)
    assert "running_var" in " ".join(stored)


def test_the_default_model_needs_no_arguments(
    tiny: tuple[packaged.PretrainedModel, nn.Module],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same poses as from its config and weights, named; other options still count."""
    files, _ = tiny
    path = str(tmp_path / "clip.mp4")
    with VideoWriter(path, 25) as writer:
        for i, image in enumerate(render_scene(2, frames=3, size=(160, 120)).frames):
            writer.write(image, i / 25)
    settings = PredictorSettings(region="frame")
    default = VideoPosePredictor.from_config(settings=settings)
    named = VideoPosePredictor.from_config(files.config, weights=files.weights, settings=settings)
    for ours, theirs in zip(default(path), named(path), strict=True):
        np.testing.assert_array_equal(ours.keypoints, theirs.keypoints)
    assert "untrained" not in caplog.text
    with pytest.raises(FileNotFoundError, match="not found: other.pth"):
        VideoPosePredictor.from_config(weights="other.pth")


NAME = "decoder.predict.weight"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (NAME, None, "1 tensors are missing .*" + NAME),
        ("more", torch.zeros(2), r"1 are unknown \['more'\]"),
        (NAME, torch.zeros(3), r"has the shape \(3,\), expected \("),
        (NAME, "double", "is of type F64, expected one of"),
        (NAME, "broken", "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(
    tiny: tuple[packaged.PretrainedModel, nn.Module], key: str, value: object, message: str
) -> None:
    files, model = tiny
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    own = before[NAME]
    tensors, changed = load_file(files.weights), value
    if value == "double":
        changed = own.double()
    elif value == "broken":
        changed = torch.full_like(own, torch.inf)
    tensors.pop(key, None)
    if changed is not None:
        tensors[key] = changed  # type: ignore[assignment]
    meaning = {"joints": ",".join(model.joint_names), "background": "first"}
    save_file(tensors, files.weights, metadata=meaning)
    with pytest.raises(ValueError, match=message):
        packaged.load_weights(model, files.weights)
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


def test_other_joints_and_other_files_are_refused(
    tiny: tuple[packaged.PretrainedModel, nn.Module], tmp_path: Path
) -> None:
    files, model = tiny
    tensors = load_file(files.weights)
    save_file(tensors, files.weights, metadata={"joints": "neck,belly", "background": "first"})
    with pytest.raises(ValueError, match="its joints are 'neck,belly', the config's"):
        packaged.load_weights(model, files.weights)
    torch.save(model.state_dict(), files.weights)  # a pickle under the right name
    with pytest.raises(ValueError, match="is no safetensors file"):
        load_model(load_cfg(files.config, ["MODEL.WEIGHTS", files.weights]))


def test_values_that_half_precision_cannot_hold(tmp_path: Path) -> None:
    """The largest float16 is 65504."""
    layer = nn.Conv2d(1, 1, 1)
    nn.init.constant_(layer.weight, 65505.0 * 2)
    with pytest.raises(ValueError, match="weight: a value is not finite as torch.float16"):
        packaged.save_weights(layer, tmp_path / packaged.WEIGHTS)
    assert list(tmp_path.iterdir()) == []


def test_incomplete_models_and_damaged_tables(
    tiny: tuple[packaged.PretrainedModel, nn.Module], root: Path
) -> None:
    (root / "tiny" / packaged.CARD).unlink()
    with pytest.raises(FileNotFoundError, match="'tiny' lacks MODEL_CARD.md"):
        packaged.default_model()
    for text in ("{", "[]", '{"detector": ""}', '{"pose": "../tiny"}', '{"pose": 3}'):
        (root / packaged.TABLE).write_text(text)
        with pytest.raises(ValueError, match="models.json"):
            packaged.default_model()


def test_when_the_packages_detector_serves(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    """For a model of boxes that is told nothing, and where a detector is asked for."""
    nothing = PredictorSettings(detector_options=("MODEL.DEVICE", "cpu"))
    assert choose_detector(nothing, "box") == nothing
    assert "gets none" in caplog.text
    with pytest.raises(ValueError, match="needs a detector: name its config, as none ships"):
        choose_detector(PredictorSettings(region="detector"), "box")
    (root / "d").mkdir()
    for name in (packaged.CONFIG, packaged.WEIGHTS, packaged.CARD):
        (root / "d" / name).touch()
    (root / packaged.TABLE).write_text('{"pose": "", "detector": "d"}')
    chosen = choose_detector(nothing, "box")
    assert (chosen.where, chosen.detector) == ("detector", str(root / "d" / packaged.CONFIG))
    weights = ("MODEL.WEIGHTS", str(root / "d" / packaged.WEIGHTS))
    # The user's options come last and win.
    assert chosen.detector_options == (*weights, "MODEL.DEVICE", "cpu")
    assert choose_detector(PredictorSettings(region="detector"), "frame").detector
    for settings, region in (
        (PredictorSettings(), "frame"),
        (PredictorSettings(region="frame"), "box"),
        (PredictorSettings(region="pose"), "box"),
        (PredictorSettings(box=(0, 0, 9, 9)), "box"),
        (PredictorSettings(detector="mine.yaml"), "box"),
    ):
        assert choose_detector(settings, region) == settings


@pytest.mark.parametrize("name", OWN_NAMES)
def test_models_that_ship_are_whole(name: str) -> None:
    """Every folder loads by itself: no _BASE_ outside the package, weights that fit."""
    files = packaged._files(name)
    assert "_BASE_" not in yaml.safe_load(Path(files.config).read_text())
    cfg = load_cfg(files.config, ["MODEL.WEIGHTS", files.weights])
    assert load_model(cfg).training is False


def test_the_package_takes_its_models_along() -> None:
    """The table is where an installed package looks, and setup.py packs table and folders."""
    names = json.loads((OWN_ROOT / packaged.TABLE).read_text())
    assert set(names) == {"pose", "detector"} and set(names.values()) - {""} <= set(OWN_NAMES)
    setup = (Path(__file__).parents[2] / "setup.py").read_text()
    assert '("json", "yaml", "safetensors", "md")' in setup
