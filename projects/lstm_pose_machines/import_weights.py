"""Released weights of LSTM Pose Machines into `LSTMPoseMachine`.

Names and layouts: docs/PROTOCOLS.md, section 1. Widths and kernels are taken from the file, so that
the same code reads the release and a narrow network of the same layout.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lstm_pose_machines.config import add_config
from video_pose.modeling.layers import GATES
from video_pose.weights.conversion import Conversion, Importer
from video_pose.weights.reader import read_caffemodel, read_state_dict

# The order of the release's maps; the background's is the last one.
RELEASE_JOINTS = (
    "head", "neck",
    "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow", "left_wrist",
    "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle",
)  # fmt: skip
_BLOBS = ("weight", "bias")
# Positions of ConvNet3's convolutions in the head: three large ones, 1x1, 1x1, ReLU between them.
_HEAD = {str(i): f"head.{2 * (i - 1)}" for i in range(1, 6)}
# Caffe layer -> the model's module. The first frame is stage 2 (Mconv), later ones are Mres; all
# stages from 2 on share their weights, and the file holds a copy per stage.
_CAFFE_CONVOLUTIONS = (
    (re.compile(r"conv([1-7])_stage1"), lambda m: f"convnet1.conv{m[1]}"),
    (re.compile(r"conv([1-4])_stage(?:[2-9]|\d\d)"), lambda m: f"convnet2.conv{m[1]}"),
    (re.compile(r"([gio])_x_stage2"), lambda m: f"cell.x.{m[1]}"),
    (re.compile(r"([gfio])_([xh])_stage(?:[3-9]|\d\d)"), lambda m: f"cell.{m[2]}.{m[1]}"),
    (re.compile(r"Mconv([1-5])_stage2"), lambda m: _HEAD[m[1]]),
    (re.compile(r"Mres([1-5])_stage(?:[3-9]|\d\d)"), lambda m: _HEAD[m[1]]),
)
_CAFFE_SCALE = re.compile(r"(?:[gio]_stage2|[gfio]_stage(?:[3-9]|\d\d))")
# Layer of the PyTorch port -> the model's module; `lstm0` is the first frame's cell of its own.
_TORCH_CONVOLUTIONS = (
    (re.compile(r"conv([1-7])_convnet1"), lambda m: f"convnet1.conv{m[1]}"),
    (re.compile(r"conv([1-4])_convnet2"), lambda m: f"convnet2.conv{m[1]}"),
    (re.compile(r"conv_([gfio])([xh])_lstm"), lambda m: f"cell.{m[2]}.{m[1]}"),
    (re.compile(r"Mconv([1-5])_convnet3"), lambda m: _HEAD[m[1]]),
)


def import_caffe(path: Path, joints: Sequence[str] | None = None) -> Conversion:
    """Read the authors' ``.caffemodel``: both deploy networks' weights are in the one file.

    Args:
        path: of the file. joints: names of its maps without the background; None: the release's.

    Raises:
        FileNotFoundError, ValueError: see ``read_caffemodel``; copies of a shared blob that differ;
            a number of maps that ``joints`` does not explain.
    """
    conversion = Conversion(path)
    for layer, blobs in read_caffemodel(path).items():
        tensors = [torch.from_numpy(blob) for blob in blobs]
        if _CAFFE_SCALE.fullmatch(layer) and len(tensors) == 2:
            conversion.put(f"{layer}[1]", f"cell.gate_bias.{layer[0]}", tensors[1].flatten())
            _check_factor(conversion, f"{layer}[0]", tensors[0])
            continue
        module = _target(layer, _CAFFE_CONVOLUTIONS)
        for i, tensor in enumerate(tensors):
            if module is None or i >= len(_BLOBS):
                conversion.leave(f"{layer}[{i}]", tensor)
            else:
                # Old files give biases four dimensions.
                value = tensor if _BLOBS[i] == "weight" else tensor.flatten()
                conversion.put(f"{layer}[{i}]", f"{module}.{_BLOBS[i]}", value)
    return _complete(conversion, joints)


def _check_factor(conversion: Conversion, source: str, factor: Tensor) -> None:
    """A gate's Scale layer adds a bias; its factor must be the 1 that the model has built in."""
    if not torch.equal(factor, torch.ones_like(factor)):
        worst = float((factor - 1).abs().max())
        raise ValueError(
            f"{conversion.path}: {source}, a gate's fixed factor, must be 1 everywhere; "
            f"it is off by up to {worst:.3g}"
        )
    conversion.leave(source, factor, "the fixed factor 1, built into the model")


def import_torch(path: Path, joints: Sequence[str] | None = None) -> Conversion:
    """Read the PyTorch port's state dict; what it has no place for is listed and noted.

    Args and Raises: as `import_caffe`, with ``read_state_dict`` for the file.
    """
    conversion = Conversion(path)
    for name, tensor in read_state_dict(path).items():
        layer, _, kind = name.rpartition(".")
        module = _target(layer, _TORCH_CONVOLUTIONS)
        if module is None or kind not in _BLOBS:
            conversion.leave(name, tensor, _why_left(layer))
        else:
            conversion.put(name, f"{module}.{kind}", tensor)
    _reorder_inputs(conversion)
    _add_zero_biases(conversion)
    conversion.notes += [
        "the port's first frame has gates of its own (conv_{g,i,o}x_lstm0) and C = tanh(g i): not "
        "carried over. Here a first frame uses the later frames' gates, and its maps differ",
        "the port's maps have 45x45 cells at 368 px, these have 46x46 (pooling rounds up): values "
        "differ at the lower and right edges and by the cells' position",
        "the port's joint order, offsets, colour order and scale were not found: the release's are "
        "written (give other joints with --joints)",
    ]
    return _complete(conversion, joints)


def _target(layer: str, table: Sequence[tuple[re.Pattern[str], Any]]) -> str | None:
    for pattern, module in table:
        if match := pattern.fullmatch(layer):
            return module(match)
    return None


def _why_left(layer: str) -> str:
    if re.fullmatch(r"conv_[gio]x_lstm0", layer):
        return "the first frame's own gates, which the model does not have"
    return "not part of the model"


def _reorder_inputs(conversion: Conversion) -> None:
    """Input channels [heatmaps, features, centre] of the port -> [features, heatmaps, centre]."""
    features = conversion.tensors.get("convnet2.conv4.weight")
    for gate in GATES:
        weight = conversion.tensors.get(f"cell.x.{gate}.weight")
        if weight is None or features is None or weight.shape[1] < features.shape[0] + 2:
            continue
        maps = weight.shape[1] - features.shape[0] - 1
        parts = [weight[:, maps:-1], weight[:, :maps], weight[:, -1:]]
        conversion.tensors[f"cell.x.{gate}.weight"] = torch.cat(parts, 1)
    conversion.notes.append(
        "input channels of the gates were reordered from [heatmaps, features, centre] to "
        "[features, heatmaps, centre]: exact"
    )


def _add_zero_biases(conversion: Conversion) -> None:
    """The port lacks the h-convolutions' biases and the gates' additional ones: zeros are exact."""
    for gate in GATES:
        weight = conversion.tensors.get(f"cell.h.{gate}.weight")
        if weight is not None:
            for name in (f"cell.h.{gate}.bias", f"cell.gate_bias.{gate}"):
                conversion.tensors.setdefault(name, torch.zeros(len(weight)))
    conversion.notes.append(
        "the port has no biases of the h-convolutions (cell.h.*.bias) and none beside the gates' "
        "own (cell.gate_bias.*): set to zero, which is exact"
    )


def _complete(conversion: Conversion, joints: Sequence[str] | None) -> Conversion:
    maps = _size(conversion, "convnet1.conv7.weight", 0, 15)
    names = list(joints or RELEASE_JOINTS)
    if maps != len(names) + 1:
        raise ValueError(
            f"{conversion.path}: it has {maps} maps, the last one the background, but there are "
            f"{len(names)} joints {names}; name them with --joints, in the file's order"
        )
    conversion.config = {**_fixed_config(names), **_shape_config(conversion)}
    conversion.complete(add_config)
    return conversion


def _size(conversion: Conversion, name: str, dim: int, default: int) -> int:
    """Size of a tensor of the file; the paper's where it is missing (and will be reported so)."""
    tensor = conversion.tensors.get(name)
    return default if tensor is None or tensor.dim() != 4 else int(tensor.shape[dim])


def _shape_config(conversion: Conversion) -> dict[str, Any]:
    def size(name: str, dim: int, default: int) -> int:
        return _size(conversion, f"{name}.weight", dim, default)

    node = "MODEL.LSTM_PM"
    return {
        f"{node}.STEM.CHANNELS": [size(f"convnet2.conv{i}", 0, 128) for i in (1, 2, 3)],
        f"{node}.STEM.KERNEL": size("convnet2.conv1", 2, 9),
        f"{node}.STEM.FEATURE_CHANNELS": size("convnet2.conv4", 0, 32),
        f"{node}.STEM.FEATURE_KERNEL": size("convnet2.conv4", 2, 5),
        f"{node}.INITIAL.CHANNELS": size("convnet1.conv5", 0, 512),
        f"{node}.INITIAL.KERNEL": size("convnet1.conv5", 2, 9),
        f"{node}.LSTM.HIDDEN_CHANNELS": size("cell.x.g", 0, 48),
        f"{node}.LSTM.KERNEL": size("cell.x.g", 2, 3),
        f"{node}.HEAD.CHANNELS": size("head.0", 0, 128),
        f"{node}.HEAD.KERNEL": size("head.0", 2, 11),
        f"{node}.HEAD.NUM_LARGE": 3,
    }


def _fixed_config(joints: list[str]) -> dict[str, Any]:
    """What the release was trained and tested with; targets and decoding differ by one pixel."""
    heatmap, center = "MODEL.POSE.HEATMAP", "MODEL.POSE.CENTER_MAP"
    return {
        "MODEL.META_ARCHITECTURE": "LSTMPoseMachine",
        "MODEL.PIXEL_MEAN": [128.0, 128.0, 128.0],
        "MODEL.PIXEL_STD": [256.0, 256.0, 256.0],
        "INPUT.FORMAT": "BGR",
        "INPUT.CROP_SIZE": [368, 368],
        "INPUT.SCALE_MODE": "absolute",
        "MODEL.POSE.JOINTS": joints,
        f"{heatmap}.STRIDE": 8,
        f"{heatmap}.SIGMA": 7.0,
        f"{heatmap}.BACKGROUND": "last",
        f"{heatmap}.ENCODE_OFFSET": 2.5,
        f"{heatmap}.DECODE_OFFSET": 3.5,
        f"{center}.SIGMA": 21.0,
        f"{center}.THRESHOLD_IN_TEST": False,
        f"{center}.POOL_KERNEL": 9,
        f"{center}.POOL_PADDING": 0,
        f"{center}.POOL_CEIL": True,
    }


IMPORTERS: dict[str, Importer] = {"lstm_pm_caffe": import_caffe, "lstm_pm_torch": import_torch}
