"""Write a pose network as three graphs, ``encode``, ``begin`` and ``advance``.

The state is explicit: tensors of fixed names go in and come out, and dimension 0 of every tensor is
the row, of any number. Images are float32 0-255; normalisation is inside.
Shapes: N images, R rows, C channels, H, W crop px, h, w cells.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from video_pose.modeling.fold_norms import fold_norms
from video_pose.modeling.video_pose_net import VideoPoseNet

FORMATS = ("onnx", "pt2")
DESCRIPTION = "model.json"
_OPSET = 18


class _Encode(nn.Module):
    def __init__(self, model: VideoPoseNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return self.model.encode(self.model.normalize(images))


class _Begin(_Encode):
    def forward(self, images: Tensor, features: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        state = self.model.begin(self.model.normalize(images), features)
        # A graph cannot put out an input, or one tensor twice.
        return tuple(tensor.clone() for tensor in state)


class _Advance(_Encode):
    def __init__(self, model: VideoPoseNet, state_type: type) -> None:
        super().__init__(model)
        self.state_type = state_type

    def forward(  # type: ignore[override]
        self, features: Tensor, center_map: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        heatmaps, new = self.model.advance(features, center_map, self.state_type(*state))
        return (heatmaps, *(tensor.clone() for tensor in new))


def export_model(
    model: VideoPoseNet, folder: str | Path, *, crop_size: tuple[int, int], file_format: str
) -> list[Path]:
    """Write the three graphs and ``model.json``, which names the state's tensors.

    Args:
        model: trained; it is not changed. Norms are folded in the copy that is written.
        crop_size: (H, W) px; the graphs hold for this size.
        file_format: "onnx" (packages of the extra ``export``) or "pt2" (``torch.export``).

    Returns:
        The graphs' files.

    Raises:
        ValueError: an unknown format, or its packages are missing.
    """
    if file_format not in FORMATS:
        raise ValueError(f"format {file_format!r}: choose from {', '.join(FORMATS)}")
    if file_format == "onnx":
        _require_onnx()
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    folded = fold_norms(model).cpu()
    assert isinstance(folded, VideoPoseNet)
    paths: list[Path] = []
    fields: tuple[str, ...] = ()
    for name, graph, inputs, outputs in _graphs(folded, crop_size):
        path = folder / f"{name}.{file_format}"
        with torch.no_grad(), _quiet():
            _write_graph(graph, inputs, outputs, path)
        paths.append(path)
        fields = tuple(outputs[1:]) if name == "advance" else fields
    description = {
        "format": file_format,
        "architecture": type(model).__name__,
        "joints": model.joint_names,
        "crop_size": list(crop_size),
        "state": [name.removeprefix("new_") for name in fields],
    }
    (folder / DESCRIPTION).write_text(json.dumps(description, indent=2) + "\n")
    return paths


def _graphs(
    model: VideoPoseNet, crop_size: tuple[int, int]
) -> Iterator[tuple[str, nn.Module, dict[str, Tensor], list[str]]]:
    """(name, module, inputs by name, names of outputs) of each graph, for two rows."""
    images = torch.rand((2, 3, *crop_size)) * 255
    with torch.no_grad():
        features = _Encode(model)(images)
        state = model.begin(model.normalize(images), features)
        side = torch.tensor([[crop_size[1] / 2, crop_size[0] / 2]]).expand(2, 2)
        center = model.center_map(side, crop_size, training=False)
    fields: list[str] = list(type(state)._fields)
    yield "encode", _Encode(model), {"images": images}, ["features"]
    yield "begin", _Begin(model), {"images": images, "features": features}, fields
    inputs = {"features": features, "center_map": center}
    # Fresh tensors: an example in which two inputs are one tensor would tie them in the graph.
    inputs |= {name: tensor.clone() for name, tensor in zip(fields, state)}
    outputs = ["out_heatmaps", *(f"new_{name}" for name in fields)]
    yield "advance", _Advance(model, type(state)), inputs, outputs


def _write_graph(
    graph: nn.Module, inputs: dict[str, Tensor], outputs: list[str], path: Path
) -> None:
    rows = torch.export.Dim("rows", min=1, max=4096)
    shapes: Any = tuple({0: rows} for _ in inputs)
    if isinstance(graph, _Advance):
        shapes = (shapes[0], shapes[1], shapes[2:])
    program = torch.export.export(
        graph.eval(), tuple(inputs.values()), dynamic_shapes=shapes, strict=False
    )
    if path.suffix == ".pt2":
        torch.export.save(program, path)
        return
    torch.onnx.export(
        program,
        f=str(path),
        input_names=list(inputs),
        output_names=outputs,
        opset_version=_OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _require_onnx() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ValueError(
            f'ONNX needs the package {error.name}: pip install -e ".[export]"'
        ) from error


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's progress on standard output and its notes on its own parts."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.getLogger("torch.onnx").setLevel(level)
