"""Released weights of UniPose and UniPose-LSTM into `UniPose` and the "released" `UniPoseLSTM`.

Names: docs/PROTOCOLS.md, section 2. Depth and widths are taken from the file, so that the same code
reads the release and a narrow network of the same layout.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from unipose_lstm.config import add_config
from video_pose.weights.conversion import Conversion, Importer
from video_pose.weights.reader import read_state_dict

# The joints that 14 (or 19) maps stand for when no names are given: Penn Action's, in its order.
PENN_JOINTS = ("head",) + tuple(
    f"{side}_{joint}"
    for joint in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
    for side in ("right", "left")
)
# Some checkpoints have five more maps after the joints'.
_EXTRA = 5
_NORM = r"(weight|bias|running_mean|running_var|num_batches_tracked)"
_KIND = r"(weight|bias)"
# Convolutions of the image model and their norms -> the model's modules.
_CONVOLUTIONS = {
    **{f"wasp.aspp{i}.atrous_conv": f"wasp.branches.{i - 1}" for i in range(1, 5)},
    "wasp.global_avg_pool.1": "wasp.pool",
    "wasp.conv2": "wasp.shared",
    "wasp.conv1": "wasp.project",
    "decoder.conv1": "decoder.reduce",
    "decoder.last_conv.0": "decoder.conv1",
    "decoder.last_conv.4": "decoder.conv2",
    "decoder.last_conv.8": "decoder.predict",
    "backbone.conv1": "backbone.stem.conv1",
    # The video model's convolutions after the LSTM, with ReLU between them.
    **{f"conv{i}": f"head.{2 * (i - 1)}" for i in range(1, 6)},
}
_NORMS = {
    **{f"wasp.aspp{i}.bn": f"wasp.branches.{i - 1}" for i in range(1, 5)},
    "wasp.global_avg_pool.2": "wasp.pool",
    "wasp.bn1": "wasp.project",
    "decoder.bn1": "decoder.reduce",
    "decoder.last_conv.1": "decoder.conv1",
    "decoder.last_conv.5": "decoder.conv2",
    "backbone.bn1": "backbone.stem.conv1",
}
# Within a bottleneck block, and in the LSTM.
_BLOCK_NAMES = (
    (r"(conv\d)\.weight", r"\1.weight"),
    (rf"bn(\d)\.{_NORM}", r"conv\1.norm.\2"),
    (r"downsample\.0\.weight", r"shortcut.weight"),
    (rf"downsample\.1\.{_NORM}", r"shortcut.norm.\1"),
)
_LSTM_NAMES = (
    (rf"lstm_0\.conv_([gio])_lstm\.{_KIND}", r"first_cell.x.\1.\2"),
    (rf"lstm\.conv_([gfio])([xh])_lstm\.{_KIND}", r"cell.\2.\1.\3"),
)
_UNUSED = re.compile(r"decoder\.(conv2|bn2)\..*|backbone\.fc\..*")
_DEPTH_OF_LAYER3 = {6: 50, 23: 101, 36: 152}


def target_name(name: str) -> str | None:
    """The model's name of a released tensor, None where it has no such tensor."""
    layer, _, kind = name.rpartition(".")
    if layer in _CONVOLUTIONS and kind in ("weight", "bias"):
        return f"{_CONVOLUTIONS[layer]}.{kind}"
    if layer in _NORMS and re.fullmatch(_NORM, kind):
        return f"{_NORMS[layer]}.norm.{kind}"
    if match := re.fullmatch(r"backbone\.layer(\d)\.(\d+)\.(.+)", name):
        # torchvision counts stages from 1, Detectron2 from 2.
        inner = _renamed(match[3], _BLOCK_NAMES)
        return inner and f"backbone.res{int(match[1]) + 1}.{match[2]}.{inner}"
    return _renamed(name, _LSTM_NAMES)


def _renamed(name: str, table: Sequence[tuple[str, str]]) -> str | None:
    for pattern, form in table:
        if match := re.fullmatch(pattern, name):
            return match.expand(form)
    return None


def import_unipose(path: Path, joints: Sequence[str] | None = None) -> Conversion:
    """Read a released checkpoint of either model; the file's tensors tell which one.

    Args:
        path: of the file. joints: names of the joints' maps, without the background (channel 0);
            None: Penn Action's.

    Raises:
        FileNotFoundError, ValueError: see ``read_state_dict``; a number of maps that ``joints``
            does not explain.
    """
    conversion = Conversion(path)
    source = read_state_dict(path)
    for name, tensor in source.items():
        target = target_name(name)
        if target is None:
            reason = "unused in the release, too" if _UNUSED.fullmatch(name) else "no such tensor"
            conversion.leave(name, tensor, reason)
        elif target == "backbone.stem.conv1.weight" and tensor.dim() == 4 and tensor.shape[1] == 4:
            conversion.put(name, target, tensor[:, :3])
            conversion.leave(f"{name}[:, 3]", tensor[:, 3], "a fourth input channel")
            conversion.notes.append(
                "the first convolution's fourth input channel is dropped: the model sees three "
                "colours, so its results differ from the release's by what that channel contributed"
            )
        else:
            conversion.put(name, target, tensor)
    video = any(name.startswith(("lstm.", "lstm_0.")) for name in source)
    names = _carry_maps(conversion, list(joints or PENN_JOINTS), video)
    conversion.config = {
        **_fixed_config(names, video),
        **_shape_config(conversion.tensors, source, video),
    }
    conversion.complete(add_config)
    return conversion


def _carry_maps(conversion: Conversion, joints: list[str], video: bool) -> list[str]:
    """Names of the model's joints; cuts five further maps off the image model."""
    final = "head.8" if video else "decoder.predict"
    weight = conversion.tensors.get(f"{final}.weight")
    maps = len(joints) + 1 if weight is None else len(weight)
    if maps == len(joints) + 1:
        return joints
    if maps != len(joints) + 1 + _EXTRA:
        raise ValueError(
            f"{conversion.path}: it has {maps} maps; {len(joints)} joints make {len(joints) + 1} "
            f"with the background, or {len(joints) + 1 + _EXTRA} with five further maps. "
            f"The joints are {joints}; name others with --joints, in the file's order"
        )
    if video:
        conversion.notes.append(
            "the five further maps feed the LSTM and are kept, as joints extra_1 to extra_5"
        )
        return [*joints, *(f"extra_{i}" for i in range(1, _EXTRA + 1))]
    for kind in ("weight", "bias"):
        tensor = conversion.tensors.get(f"{final}.{kind}")
        if tensor is not None:
            keep = len(joints) + 1
            name = f"decoder.last_conv.8.{kind}[{keep}:]"
            conversion.leave(name, tensor[keep:], "five maps beside the joints'")
            conversion.tensors[f"{final}.{kind}"] = tensor[:keep].contiguous()
    return joints


def _shape_config(
    tensors: dict[str, Tensor], source: dict[str, Tensor], video: bool
) -> dict[str, Any]:
    """Keys whose values follow from the file; the release's where a tensor is missing."""

    def size(name: str, dim: int, default: int) -> int:
        tensor = tensors.get(f"{name}.weight")
        return default if tensor is None or tensor.dim() != 4 else int(tensor.shape[dim])

    blocks = {int(m[1]) for m in (re.match(r"backbone\.layer3\.(\d+)\.", k) for k in source) if m}
    node = "MODEL.UNIPOSE"
    config: dict[str, Any] = {
        "MODEL.RESNETS.DEPTH": _DEPTH_OF_LAYER3.get(len(blocks), 101),
        "MODEL.RESNETS.STEM_OUT_CHANNELS": size("backbone.stem.conv1", 0, 64),
        "MODEL.RESNETS.WIDTH_PER_GROUP": size("backbone.res2.0.conv1", 0, 64),
        "MODEL.RESNETS.RES2_OUT_CHANNELS": size("backbone.res2.0.conv3", 0, 256),
        f"{node}.WASP.CHANNELS": size("wasp.branches.0", 0, 256),
        f"{node}.WASP.POOL_NORM": not video or "wasp.pool.norm.weight" in tensors,
        f"{node}.DECODER.LOW_CHANNELS": size("decoder.reduce", 0, 48),
        f"{node}.DECODER.CHANNELS": size("decoder.conv1", 0, 256),
    }
    if video:
        config |= {
            f"{node}.LSTM.KERNEL": size("cell.x.g", 2, 3),
            f"{node}.LSTM.HEAD.CHANNELS": size("head.0", 0, 128),
            f"{node}.LSTM.HEAD.KERNEL": size("head.0", 2, 11),
            f"{node}.LSTM.HEAD.NUM_LARGE": 3,
        }
    return config


def _fixed_config(joints: list[str], video: bool) -> dict[str, Any]:
    """What the release was trained and tested with."""
    heatmap, center = "MODEL.POSE.HEATMAP", "MODEL.POSE.CENTER_MAP"
    config: dict[str, Any] = {
        "MODEL.META_ARCHITECTURE": "UniPoseLSTM" if video else "UniPose",
        "MODEL.PIXEL_MEAN": [128.0, 128.0, 128.0],
        "MODEL.PIXEL_STD": [256.0, 256.0, 256.0],
        "INPUT.FORMAT": "BGR",
        "INPUT.CROP_SIZE": [368, 368],
        "INPUT.REGION": "frame",
        "INPUT.STRETCH": True,
        "MODEL.BACKBONE.NAME": "build_resnet_deeplab_backbone",
        "MODEL.BACKBONE.FREEZE_AT": 0,
        "MODEL.RESNETS.NORM": "BN",
        "MODEL.RESNETS.STRIDE_IN_1X1": False,
        "MODEL.RESNETS.OUT_FEATURES": ["res2", "res5"],
        "MODEL.RESNETS.RES5_DILATION": 2,
        "MODEL.RESNETS.RES5_MULTI_GRID": [1, 2, 4],
        "MODEL.POSE.JOINTS": joints,
        f"{heatmap}.STRIDE": 8,
        f"{heatmap}.SIGMA": 8.0 if video else 24.0,
        f"{heatmap}.BACKGROUND": "first",
        f"{heatmap}.ENCODE_OFFSET": 0.0,
        f"{heatmap}.DECODE_OFFSET": 0.0,
        f"{heatmap}.DECODE": "argmax",
        f"{center}.SIGMA": 3.0,
        f"{center}.THRESHOLD": 0.0099,
        f"{center}.POOL_KERNEL": 9,
        f"{center}.POOL_PADDING": 1,
        f"{center}.POOL_CEIL": False,
    }
    if video:
        config["MODEL.UNIPOSE.LSTM.FORM"] = "released"
    return config


IMPORTERS: dict[str, Importer] = {"unipose": import_unipose}
