"""Exported graphs in place of the PyTorch model: ONNX Runtime, or ``torch.export`` programs.

Shapes: N images, R rows, H, W crop px, h, w cells.
"""

from __future__ import annotations

import collections
import contextlib
import json
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from torch import Tensor

from video_pose.backends.export import DESCRIPTION, export_model
from video_pose.modeling.video_pose_net import VideoPoseNet
from video_pose.skeleton import flip_permutation

Graph = Callable[[dict[str, Tensor]], list[Tensor]]


class ExportedBackend:
    """`encode`, `begin` and `advance` of files that `video-pose export` wrote, on the CPU."""

    device = torch.device("cpu")

    def __init__(
        self, encode: Graph, begin: Graph, advance: Graph, *, fields: list[str], cfg: CfgNode
    ) -> None:
        """
        Args:
            fields: names of the state's tensors. cfg: of the model; codec, centre map, reset period
                and batch size are its.
        """
        base = VideoPoseNet.base_config(cfg)
        self.joint_names: list[str] = base["joint_names"]
        self.codec, self.center_map = base["codec"], base["center_map"]
        labels = self.codec.channel_labels(self.joint_names)
        self.flip_channels = flip_permutation(labels, base["flip_map"])
        self.reset_every: int = base["reset_every"]
        self.align_state: bool = base["align_state"]
        self._encode_batch: int = base["encode_batch"]
        self._encode, self._begin, self._advance = encode, begin, advance
        self._state_type: Any = collections.namedtuple("State", fields)  # type: ignore[misc]

    @classmethod
    def from_folder(cls, folder: str | Path, cfg: CfgNode) -> ExportedBackend:
        """Load an exported model for the pipeline that ``cfg`` describes.

        Raises:
            FileNotFoundError: no such export.
            ValueError: it was made from a config of other joints or another crop size, or needs a
                package that is missing.
        """
        path = Path(folder) / DESCRIPTION
        if not path.is_file():
            raise FileNotFoundError(f"no exported model in {folder}: {DESCRIPTION} is missing")
        description = json.loads(path.read_text())
        for key, own in (
            ("joints", list(cfg.MODEL.POSE.JOINTS)),
            ("crop_size", list(cfg.INPUT.CROP_SIZE)),
        ):
            if description[key] != own:
                raise ValueError(
                    f"{folder} was exported with {key} {description[key]}, the config has {own}"
                )
        load = _load_onnx if description["format"] == "onnx" else _load_program
        names = ("encode", "begin", "advance")
        graphs = [load(Path(folder) / f"{name}.{description['format']}") for name in names]
        return cls(*graphs, fields=description["state"], cfg=cfg)

    @classmethod
    def from_model(cls, model: VideoPoseNet, cfg: CfgNode) -> ExportedBackend:
        """Export ``model`` as ONNX and load the graphs; no file stays.

        Raises:
            ValueError: a package of the extra ``export`` is missing.
        """
        size = (int(cfg.INPUT.CROP_SIZE[0]), int(cfg.INPUT.CROP_SIZE[1]))
        with tempfile.TemporaryDirectory() as folder:
            export_model(model, folder, crop_size=size, file_format="onnx")
            return cls.from_folder(folder, cfg)

    def autocast(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pictures = images.float()
        parts = [self._encode({"images": part})[0] for part in pictures.split(self._encode_batch)]
        return pictures, torch.cat(parts)

    def begin(self, images: Tensor, features: Tensor) -> Any:
        return self._state_type(*self._begin({"images": images, "features": features}))

    def advance(self, features: Tensor, center_map: Tensor, state: Any) -> tuple[Tensor, Any]:
        inputs = {"features": features, "center_map": center_map, **state._asdict()}
        heatmaps, *new = self._advance(inputs)
        return heatmaps, self._state_type(*new)


def _load_onnx(path: Path) -> Graph:
    try:
        import onnxruntime
    except ImportError as error:
        raise ValueError(
            'ONNX needs the package onnxruntime: pip install -e ".[export]"'
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # The graphs take turns with each other and with PyTorch: threads that wait by spinning hold
    # the cores that the next one needs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    # The exporter leaves out inputs that a graph does not use.
    names = [item.name for item in session.get_inputs()]

    def run(inputs: dict[str, Tensor]) -> list[Tensor]:
        arrays = {name: inputs[name].contiguous().numpy() for name in names}
        return [torch.from_numpy(array) for array in session.run(None, arrays)]

    return run


def _load_program(path: Path) -> Graph:
    module = torch.export.load(path).module()

    def run(inputs: dict[str, Tensor]) -> list[Tensor]:
        out = module(*inputs.values())
        return [out] if isinstance(out, Tensor) else list(out)

    return run
