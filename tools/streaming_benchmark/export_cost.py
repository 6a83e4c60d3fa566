"""ONNX against PyTorch: the same numbers, and no slower, in float32 on the CPU."""

from __future__ import annotations

import importlib.util
import tempfile
from typing import Any

import numpy as np
import torch
from benchmarking.timing import alternate, timed

from streaming_benchmark.figure import Figure
from streaming_benchmark.subject import Subject, moving_pictures
from video_pose.backends.export import export_model
from video_pose.backends.exported import ExportedBackend
from video_pose.backends.parity import compare
from video_pose.data.clip_mapper import build_pose_mapper
from video_pose.inference.people import Person
from video_pose.inference.streaming import FrameCropper
from video_pose.modeling.backend import PoseBackend, TorchBackend
from video_pose.modeling.fast_path import fast_path

HEATMAP_LIMIT, JOINT_LIMIT_PX = 1e-3, 0.1
_ROWS = (1, 3)
_TIMED_FRAMES = 10


def measure_export(subject: Subject, frames: int, rounds: int) -> list[Figure]:
    """Parity over ``frames`` frames of rolling state, and time per frame, of 1 and 3 people."""
    names = ("ONNX heatmaps differ by", "ONNX joints differ by", "time of ONNX by eager PyTorch")
    lacking = [
        name for name in ("onnx", "onnxscript", "onnxruntime") if not importlib.util.find_spec(name)
    ]
    if lacking:
        note = f'needs {", ".join(lacking)}: pip install -e ".[export]"'
        return [Figure(name, None, "", note=note) for name in names]
    size = (int(subject.cfg.INPUT.CROP_SIZE[0]), int(subject.cfg.INPUT.CROP_SIZE[1]))
    crops = _crops(subject, frames)
    with tempfile.TemporaryDirectory() as folder:
        export_model(subject.model, folder, crop_size=size, file_format="onnx")
        exported = ExportedBackend.from_folder(folder, subject.cfg)
    eager = TorchBackend(subject.model)
    reports = [compare(eager, exported, crops, rows=rows) for rows in _ROWS]
    backends = {
        "eager": eager,
        "fast path": TorchBackend(fast_path(subject.model, precision="float32")),
        "onnx": exported,
    }
    times = {rows: _times(backends, crops, rows, rounds) for rows in _ROWS}
    how = f"{frames} frames of rolling state, 1 and 3 people"
    figures = []
    for name, key, unit, limit in (
        (names[0], "heatmap_max_difference", "", HEATMAP_LIMIT),
        (names[1], "joint_max_difference_px", "px", JOINT_LIMIT_PX),
    ):
        worst = max(report[key] for report in reports)
        figures.append(Figure(name, worst, unit, limit, how, {"reports": reports}))
    for rows, found in times.items():
        told = ", ".join(f"{name} {value:.1f} ms" for name, value in found.items())
        label = f"{names[2]}, {rows} person{'s' if rows > 1 else ''}"
        note = f"float32; {told}"
        figures.append(Figure(label, found["onnx"] / found["eager"], "", 1.0, note, found))
        label = label.replace("eager PyTorch", "the fast path")
        figures.append(Figure(label, found["onnx"] / found["fast path"], "", None, "told only"))
    return figures


def _crops(subject: Subject, frames: int) -> torch.Tensor:
    """uint8 (T, 3, H, W), by the config's own mapper."""
    pictures = moving_pictures(frames)
    cropper = FrameCropper(build_pose_mapper(subject.cfg, False))
    height, width = pictures.shape[1:3]
    box = np.array([0.2 * width, 0.1 * height, 0.8 * width, 0.9 * height])
    return torch.stack([cropper(image, [Person(0, box, box)]).images[0, 0] for image in pictures])


def _times(
    backends: dict[str, PoseBackend], crops: torch.Tensor, rows: int, rounds: int
) -> dict[str, float]:
    """Milliseconds per frame of `encode` and `advance`, interleaved, medians."""
    passes = {name: timed(_pass(backend, crops, rows), backend.device) for name, backend in
              backends.items()}  # fmt: skip
    seconds = alternate(passes, 0.0, rounds)
    return {name: 1000 * float(np.median(s)) / _TIMED_FRAMES for name, s in seconds.items()}


def _pass(backend: PoseBackend, crops: torch.Tensor, rows: int) -> Any:
    size = (int(crops.shape[-2]), int(crops.shape[-1]))
    centers = torch.tensor([[size[1] / 2, size[0] / 2]]).expand(rows, 2)
    center_map = backend.center_map(centers, size, training=False)
    images = [crops[t % len(crops)].expand(rows, -1, -1, -1) for t in range(_TIMED_FRAMES)]

    @torch.no_grad()
    def run() -> None:
        state = None
        for picture in images:
            prepared, features = backend.encode(picture)
            state = backend.begin(prepared, features) if state is None else state
            _, state = backend.advance(features, center_map, state)

    return run
