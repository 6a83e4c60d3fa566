"""Models inside the package, and the names by which configurations call their weights.

``video_pose/pretrained/models.json`` names the pose model and the person detector that serve where
a user names none, {"pose": NAME, "detector": NAME}; an empty name says that there is none. A model
is a folder::

    video_pose/pretrained/NAME/config.yaml        needs no other file: no _BASE_, MODEL.WEIGHTS ""
    video_pose/pretrained/NAME/model.safetensors  written by `save_weights`
    video_pose/pretrained/NAME/MODEL_CARD.md      data, licence, training, figures

``MODEL.WEIGHTS: video-pose://NAME`` in a config is the second of these files, for everything that
opens files through Detectron2's PathManager, as ``detectron2://`` is for its own.

Weights are plain tensors: nothing is unpickled, and a file that does not fit the model in every
name, shape and type is refused. Floating tensors of two or more dimensions are stored as float16;
in memory all are float32.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from video_pose.files import replacing_file

PREFIX = "video-pose://"
ROOT = Path(__file__).resolve().parent / "pretrained"
TABLE = "models.json"
CONFIG, WEIGHTS, CARD = "config.yaml", "model.safetensors", "MODEL_CARD.md"
# Types on disk (as safetensors names them) that become float32.
_REAL_TYPES = ("F16", "BF16", "F32")
# Counts of training steps in norms, which inference does not read.
_UNUSED = "num_batches_tracked"


class PackagedWeights(PathHandler):
    """Paths that begin with ``video-pose://``: the name of a model, or a file of one."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        """Raises FileNotFoundError, with the names that there are, for another model."""
        name, _, file = path.removeprefix(PREFIX).strip("/").partition("/")
        found = ROOT / name / (file or WEIGHTS)
        if not name or not found.resolve().is_relative_to(ROOT) or not found.is_file():
            known = sorted(p.parent.name for p in ROOT.glob(f"*/{WEIGHTS}"))
            raise FileNotFoundError(f"{path}: the package's models are {', '.join(known)}")
        return str(found)

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        try:
            return Path(self._get_local_path(path)).is_file()
        except FileNotFoundError:
            return False

    _exists = _isfile

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        if set(mode) - set("rbt"):
            raise ValueError(f"{path}: the package's files are read only, got mode {mode!r}")
        return open(self._get_local_path(path), mode, buffering=buffering)


def register_packaged_weights() -> None:
    """Let Detectron2's PathManager open such paths; once."""
    PathManager.register_handler(PackagedWeights(), allow_override=True)


class PretrainedModel(NamedTuple):
    """Files of a model in the package."""

    config: str
    weights: str


def default_model() -> PretrainedModel:
    """The pose model that serves where a user names no config.

    Raises:
        FileNotFoundError: none ships with this version, or a file of it is missing.
        ValueError: the table of models is damaged.
    """
    name = _default_name("pose")
    if not name:
        raise FileNotFoundError(
            "no pose model ships with this version: name one by --config-file (in Python, the "
            "argument config_file) and its weights by MODEL.WEIGHTS"
        )
    return _files(name)


def default_detector() -> PretrainedModel | None:
    """The person detector that serves where a user names none; None if none ships.

    Raises:
        FileNotFoundError, ValueError: as `default_model`.
    """
    name = _default_name("detector")
    return _files(name) if name else None


def is_pretrained(path: str) -> bool:
    """Whether ``path`` is a file of the package's models."""
    return bool(path) and Path(os.path.abspath(path)).is_relative_to(ROOT)


def _default_name(kind: str) -> str:
    path = ROOT / TABLE
    try:
        name = json.loads(path.read_text(encoding="utf-8"))[kind]
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: expected an object with a name under {kind!r}") from error
    if not isinstance(name, str) or Path(name).name != name:
        raise ValueError(f"{path}: {kind!r} is {name!r}, expected the name of a folder beside it")
    return name


def _files(name: str) -> PretrainedModel:
    folder = ROOT / name
    lacking = [file for file in (CONFIG, WEIGHTS, CARD) if not (folder / file).is_file()]
    if lacking:
        raise FileNotFoundError(f"the package's model {name!r} lacks {', '.join(lacking)}")
    return PretrainedModel(str(folder / CONFIG), str(folder / WEIGHTS))


def save_weights(model: nn.Module, path: str | Path) -> None:
    """Write a trained model's state for shipping, joints and background channel as metadata.

    Weights of two or more dimensions become float16; biases and norms stay float32.

    Raises:
        ValueError: a value is not finite, or is too large for float16.
    """
    tensors = {}
    for name, value in _state(model).items():
        stored = value.detach().cpu()
        if stored.is_floating_point():
            stored = stored.half() if stored.dim() > 1 else stored.float()
            if not stored.isfinite().all():
                raise ValueError(f"{name}: a value is not finite as {stored.dtype}")
        tensors[name] = stored.contiguous()
    metadata = {"format": "pt", "model": type(model).__name__, **_meaning(model)}
    with replacing_file(path) as file:
        file.write(save(tensors, metadata=metadata))


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Fill ``model`` from a file that `save_weights` wrote.

    Raises:
        ValueError: it is no safetensors file, or does not fit: a tensor is missing, unknown, of
            another shape or type, or not finite; or it belongs to other joints. The model is then
            unchanged.
    """
    own = _state(model)
    try:
        with safe_open(path, framework="pt") as file:
            _compare(path, {key: file.get_slice(key) for key in file.keys()}, own)
            _compare_meaning(path, file.metadata() or {}, _meaning(model))
            loaded = {key: file.get_tensor(key) for key in own}
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file: {error}") from error
    broken = [key for key, value in loaded.items() if not value.float().isfinite().all()]
    if broken:
        raise ValueError(f"{path}: {broken[0]} has a value that is not finite")
    with torch.no_grad():
        for key, value in loaded.items():
            own[key].copy_(value)


def _compare(path: str | Path, stored: dict, own: dict[str, Tensor]) -> None:
    lacking, unknown = sorted(set(own) - set(stored)), sorted(set(stored) - set(own))
    if lacking or unknown:
        raise ValueError(
            f"{path} does not fit the model: {len(lacking)} tensors are missing {lacking[:3]}, "
            f"{len(unknown)} are unknown {unknown[:3]}"
        )
    for key, tensor in own.items():
        shape, kind = tuple(stored[key].get_shape()), stored[key].get_dtype()
        types = _REAL_TYPES if tensor.is_floating_point() else ("I64",)
        if shape != tuple(tensor.shape):
            raise ValueError(f"{path}: {key} has the shape {shape}, expected {tuple(tensor.shape)}")
        if kind not in types:
            raise ValueError(f"{path}: {key} is of type {kind}, expected one of {types}")


def _compare_meaning(path: str | Path, stored: dict[str, str], own: dict[str, str]) -> None:
    for key, value in own.items():
        if stored.get(key) != value:
            raise ValueError(f"{path}: its {key} are {stored.get(key)!r}, the config's {value!r}")


def _state(model: nn.Module) -> dict[str, Tensor]:
    return {key: value for key, value in model.state_dict().items() if not key.endswith(_UNUSED)}


def _meaning(model: nn.Module) -> dict[str, str]:
    """What the channels of a pose model stand for; empty for a detector."""
    if not hasattr(model, "joint_names") or not hasattr(model, "codec"):
        return {}
    return {"joints": ",".join(model.joint_names), "background": model.codec.background}
