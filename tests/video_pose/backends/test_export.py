"""Exported graphs against the models that they were made from."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.layers import Conv2d, FrozenBatchNorm2d
from torch import nn

from video_pose.backends.export import export_model
from video_pose.backends.exported import ExportedBackend
from video_pose.backends.parity import compare
from video_pose.data.clip_mapper import build_pose_mapper
from video_pose.data.synthetic.scene import render_scene
from video_pose.inference import PredictorSettings, VideoPosePredictor
from video_pose.inference.frames import Frame
from video_pose.inference.people import KnownPeople, Person
from video_pose.inference.streaming import StreamingPosePredictor
from video_pose.modeling.backend import PoseBackend, TorchBackend
from video_pose.modeling.fold_norms import fold_norms

ROOT = Path(__file__).parents[3]
CONFIG = "configs/LSTM-Pose-Machines/lstm_pm_small_synthetic_jhmdb.yaml"
MakeCfg = Callable[..., CfgNode]
MakeBackend = Callable[[CfgNode], TorchBackend]
CROP = (64, 64)
OPTIONS = ("INPUT.CROP_SIZE", CROP)


def crops(frames: int) -> torch.Tensor:
    """A dark square that moves over noise."""
    random = np.random.default_rng(0)
    images = random.integers(60, 255, (frames, 3, *CROP), dtype=np.uint8)
    for t in range(frames):
        images[t, :, 20:40, t : t + 20] = 0
    return torch.from_numpy(images)


@pytest.mark.parametrize(
    ("model", "options", "file_format"),
    [
        ("unipose_lstm", (), "onnx"),
        ("unipose_lstm", ("MODEL.UNIPOSE.LSTM.FORM", "released"), "onnx"),
        ("unipose_lstm", ("MODEL.META_ARCHITECTURE", "UniPose"), "onnx"),
        ("lstm_pm", (), "onnx"),
        ("lstm_pm", (), "pt2"),
    ],
)
def test_rolling_state_stays_equal(
    pose_cfg: MakeCfg,
    build_backend: MakeBackend,
    tmp_path: Path,
    model: str,
    options: tuple[object, ...],
    file_format: str,
) -> None:
    """Exported with two rows as example; run with one and with three."""
    if file_format == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    cfg = pose_cfg(model, *OPTIONS, *options)
    reference = build_backend(cfg)
    export_model(reference.model, tmp_path, crop_size=CROP, file_format=file_format)
    exported = ExportedBackend.from_folder(tmp_path, cfg)
    for rows in (1, 3):
        report = compare(reference, exported, crops(12), rows=rows)
        assert report["heatmap_max_difference"] < 1e-3
        assert report["joint_max_difference_px"] < 0.1
    maps, _ = reference.advance(*first_step(reference))
    assert maps.std() > 0.01, "the maps are flat: nothing was compared"


@torch.no_grad()
def first_step(backend: PoseBackend) -> tuple:
    images, features = backend.encode(crops(1))
    center = backend.center_map(torch.tensor([[32.0, 32.0]]), CROP, training=False)
    return features, center, backend.begin(images, features)


class ComingAndGoing(KnownPeople):
    """One person on all frames, another on 2 to 4: fresh and old rows share a batch."""

    independent = False

    def find(self, frame: Frame) -> list[Person]:
        box = np.array([10.0, 10, 90, 110])
        people = [Person(0, box, box), Person(1, box + 40, box + 40)]
        return people if 2 <= frame.index <= 4 else people[:1]


def test_the_streaming_predictor_on_onnx(
    pose_cfg: MakeCfg, build_backend: MakeBackend, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    cfg = pose_cfg("lstm_pm", *OPTIONS)
    reference = build_backend(cfg)
    export_model(reference.model, tmp_path, crop_size=CROP, file_format="onnx")
    scene = render_scene(3, frames=6, size=(160, 120))
    frames = [Frame(i, i / 25, image) for i, image in enumerate(scene.frames)]
    results = [
        list(
            StreamingPosePredictor(
                backend=backend, mapper=build_pose_mapper(cfg, False), people=ComingAndGoing()
            )(frames)
        )
        for backend in (reference, ExportedBackend.from_folder(tmp_path, cfg))
    ]
    assert [len(frame) for frame in results[1]] == [1, 1, 2, 2, 2, 1]
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(theirs.keypoints, ours.keypoints, atol=0.1)


def test_the_backend_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "onnx" exports on the spot; without its packages it says which one to install."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    config = str(ROOT / CONFIG)
    pictures = render_scene(3, frames=3, size=(160, 120)).frames
    poses = []
    for backend in ("torch", "onnx"):
        torch.manual_seed(0)
        predictor = VideoPosePredictor.from_config(
            config,
            options=[*OPTIONS, "MODEL.DEVICE", "cpu"],
            settings=PredictorSettings(region="frame", backend=backend),
        )
        poses.append(np.stack([frame.keypoints[..., 2] for frame in predictor(pictures)]))
    # Heights of peaks; where they are is ill-conditioned in the flat maps of random weights.
    np.testing.assert_allclose(poses[1], poses[0], atol=1e-4)
    assert np.ptp(poses[0]) > 1e-3
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(ValueError, match="ONNX needs the package onnxscript"):
        VideoPosePredictor.from_config(
            config, settings=PredictorSettings(region="frame", backend="onnx")
        )


def test_folding_by_hand() -> None:
    """Weight 2, mean 3, variance 4, gamma 6, beta 5: y = 6 (2 x - 3) / 2 + 5 = 6 x - 4."""
    conv = Conv2d(1, 1, 1, bias=False, norm=nn.BatchNorm2d(1, eps=0.0))
    conv.weight.data.fill_(2)
    conv.norm.running_mean.fill_(3)
    conv.norm.running_var.fill_(4)
    conv.norm.weight.data.fill_(6)
    conv.norm.bias.data.fill_(5)
    folded = fold_norms(conv)
    assert folded.weight.item() == pytest.approx(6) and folded.bias.item() == pytest.approx(-4)
    assert folded.norm is None and conv.norm is not None and conv.weight.item() == 2


def test_folding_of_sequences_and_frozen_norms() -> None:
    torch.manual_seed(0)
    frozen = Conv2d(3, 4, 3, norm=FrozenBatchNorm2d(4), activation=nn.ReLU())
    frozen.norm.running_mean.normal_()
    frozen.norm.weight.normal_()
    # The last norm follows an activation and must stay.
    model = nn.Sequential(
        frozen, nn.Conv2d(4, 5, 1), nn.BatchNorm2d(5), nn.ReLU(), nn.BatchNorm2d(5)
    )
    model[2].running_mean.normal_()
    model[2].running_var.uniform_(0.5, 2)
    model.eval()
    folded = fold_norms(model)
    x = torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(folded(x), model(x), atol=1e-5, rtol=1e-5)
    kinds = [type(module).__name__ for module in folded.modules()]
    assert kinds.count("BatchNorm2d") == 1 and "FrozenBatchNorm2d" not in kinds


def test_exports_that_do_not_fit(
    pose_cfg: MakeCfg, build_backend: MakeBackend, tmp_path: Path
) -> None:
    cfg = pose_cfg("lstm_pm", *OPTIONS)
    with pytest.raises(FileNotFoundError, match="model.json is missing"):
        ExportedBackend.from_folder(tmp_path, cfg)
    with pytest.raises(ValueError, match="format 'caffe': choose from onnx, pt2"):
        export_model(build_backend(cfg).model, tmp_path, crop_size=CROP, file_format="caffe")
    description = {"joints": ["nose"], "crop_size": [64, 64], "format": "onnx", "state": []}
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(ValueError, match=r"exported with joints \['nose'\]"):
        ExportedBackend.from_folder(tmp_path, cfg)
