"""An exported encoder in int8, by NNCF's post-training quantisation (OpenVINO's format).

The encoder alone is quantised: it takes most of the time, and its rounding is not carried on from
frame to frame, as that of the recurrent part would be.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from detectron2.config import CfgNode
from torch import Tensor

from video_pose.backends.graphs import (
    DESCRIPTION,
    PoseDescription,
    quiet,
    read_description,
    write_description,
)
from video_pose.backends.runtimes import openvino_core
from video_pose.data.build import build_pose_test_loader

CALIBRATION_IMAGES = 300


def calibration_crops(
    cfg: CfgNode, dataset: str, count: int = CALIBRATION_IMAGES
) -> Iterator[Tensor]:
    """Crops (1, 3, H, W) of 0-255, float32, spread over the tracks of a registered dataset."""
    clips = build_pose_test_loader(cfg, dataset)
    images = (clip["image"] for batch in clips for clip in batch)
    frames = (part.reshape(-1, *part.shape[-3:]) for part in images)
    # The first, the middle and the last frame of a chunk: neighbours show the same.
    chosen = (part[i] for part in frames for i in sorted({0, len(part) // 2, len(part) - 1}))
    return (crop[None].float() for crop in itertools.islice(chosen, count))


def quantize_encoder(folder: str | Path, crops: Iterable[Tensor]) -> int:
    """Replace the encoder of an exported folder (format "openvino") by one in int8.

    Args:
        crops: (1, 3, H, W) of 0-255, of pictures like those to come, not of the test.

    Returns:
        How many crops it was calibrated with.

    Raises:
        ValueError: another format, no crops, or the package nncf is missing.
    """
    folder = Path(folder)
    description = cast(PoseDescription, read_description(folder))
    if description["format"] != "openvino":
        raise ValueError(f"{folder}: int8 is made of format openvino, not {description['format']}")
    examples = [crop.numpy() for crop in crops]
    if not examples:
        raise ValueError("int8 needs crops to calibrate with: the dataset gives none")
    try:
        import nncf
    except ImportError as error:
        raise ValueError("int8 needs the package nncf: pip install nncf") from error
    import openvino

    path = folder / "encode.xml"
    # Read without mapping the file, which is replaced below.
    model = openvino_core().read_model(path.read_bytes(), path.with_suffix(".bin").read_bytes())
    with torch.no_grad(), quiet():
        quantized = nncf.quantize(
            model, nncf.Dataset(examples), subset_size=len(examples), preset=_preset(nncf)
        )
    openvino.save_model(quantized, path, compress_to_fp16=False)
    write_description(folder, description | {"precision": "int8"})
    return len(examples)


def _preset(nncf: Any) -> Any:
    # Asymmetric activations: they follow ReLUs, and have one sign.
    return nncf.QuantizationPreset.MIXED


def folder_size(folder: str | Path) -> int:
    """Bytes of an exported folder's files."""
    description = json.loads((Path(folder) / DESCRIPTION).read_text(encoding="utf-8"))
    return sum((Path(folder) / name).stat().st_size for name in description["sha256"])
