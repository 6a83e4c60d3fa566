"""The encoder in int8: near the float one, and what cannot be quantised is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode

from video_pose.backends.graphs import export_model
from video_pose.backends.pose import GraphBackend
from video_pose.backends.quantize import quantize_encoder
from video_pose.modeling.backend import TorchBackend

CROP = (64, 64)


def crops(count: int) -> torch.Tensor:
    """Noise with a dark square, (T, 3, H, W)."""
    images = np.random.default_rng(0).integers(60, 255, (count, 3, *CROP), dtype=np.uint8)
    for t in range(count):
        images[t, :, 20:40, t : t + 20] = 0
    return torch.from_numpy(images)


@torch.no_grad()
def test_the_encoder_in_int8(
    pose_cfg: Callable[..., CfgNode],
    build_backend: Callable[[CfgNode], TorchBackend],
    tmp_path: Path,
) -> None:
    pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    cfg = pose_cfg("lstm_pm", "INPUT.CROP_SIZE", CROP)
    reference = build_backend(cfg)
    export_model(reference.model, tmp_path, crop_size=CROP, file_format="openvino")
    before = (tmp_path / "encode.bin").stat().st_size
    images = crops(8)
    assert quantize_encoder(tmp_path, (image[None].float() for image in images)) == 8
    assert json.loads((tmp_path / "model.json").read_text())["precision"] == "int8"
    assert (tmp_path / "encode.bin").stat().st_size < before / 2
    int8 = GraphBackend.from_folder(tmp_path, cfg)
    assert int8.describe() == "OpenVINO on the CPU, int8 and float32"
    _, plain = reference.encode(images)
    _, found = int8.encode(images)
    error = float((found - plain).norm() / plain.norm())
    assert 0 < error < 0.1


def test_what_cannot_be_quantised(
    pose_cfg: Callable[..., CfgNode],
    build_backend: Callable[[CfgNode], TorchBackend],
    tmp_path: Path,
) -> None:
    cfg = pose_cfg("lstm_pm", "INPUT.CROP_SIZE", CROP)
    export_model(build_backend(cfg).model, tmp_path, crop_size=CROP, file_format="pt2")
    with pytest.raises(ValueError, match="int8 is made of format openvino, not pt2"):
        quantize_encoder(tmp_path, [torch.zeros(1, 3, *CROP)])
    text = (tmp_path / "model.json").read_text().replace('"pt2"', '"openvino"')
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(ValueError, match="int8 needs crops to calibrate with"):
        quantize_encoder(tmp_path, [])
