"""A pose network as three graphs, ``encode``, ``begin`` and ``advance``, in a described folder.

The state is explicit: tensors of fixed names go in and come out, and dimension 0 of every tensor is
the row, of any number. Images are float32 0-255; normalisation is inside. ``model.json`` says what
the graphs are of, and holds their hashes: a folder that is not what it says is refused. `compare`
measures how far the graphs are from the model that they were made from.

Shapes: N images, R rows, C channels, H, W crop px, h, w cells.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import importlib.util
import io
import logging
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict, cast

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from video_pose.data.json_fields import Field, load_json
from video_pose.files import write_json
from video_pose.heatmap_codec import HeatmapCodec
from video_pose.modeling.backend import PoseBackend, TorchBackend
from video_pose.modeling.frequency_conv import FrequencyConv2d
from video_pose.modeling.layers import fold_norms
from video_pose.modeling.states import move_heatmap_state, still_moves
from video_pose.modeling.video_pose_net import VideoPoseNet

# Format -> ending of its files and the packages that writing it needs.
FORMATS = {
    "openvino": ("xml", ("openvino",)),
    "onnx": ("onnx", ("onnx", "onnxscript", "onnxruntime")),
    "pt2": ("pt2", ()),
}
NAMES = ("encode", "begin", "advance")
DESCRIPTION = "model.json"
# Of the folder's layout and of what the graphs take and give; a reader refuses another one.
VERSION = 2
# With fewer bytes than these a disk counts as full, once a file was not written to it.
_FULL = 1 << 20
_OPSET = 18


@functools.cache
def any_rows() -> Any:
    """Any number of rows, as a dimension of ``torch.export``. Made where a graph is written: it
    loads SymPy, which a process that runs graphs does not need."""
    return torch.export.Dim("rows", min=1, max=4096)


class ModelFacts(TypedDict):
    """What has to agree between a folder and the pipeline that runs it."""

    architecture: str
    joints: list[str]
    background: str
    stride: int
    encode_offset: float
    decode_offset: float
    crop_size: list[int]


class Description(TypedDict):
    """``model.json`` of any folder of graphs."""

    version: int
    format: str  # of FORMATS
    sha256: NotRequired[dict[str, str]]  # of every other file
    # Of a detector: its parts, those that could not be written -> why, nestings of the results.
    parts: NotRequired[list[str]]
    refused: NotRequired[dict[str, str]]
    results: NotRequired[dict[str, Any]]


class PoseDescription(Description, ModelFacts):
    """``model.json`` of a pose network."""

    precision: str  # of the encoder's weights
    state: list[str]  # names of the state's tensors
    returned: list[str]  # those that ``begin`` gives
    moves: bool  # whether ``advance`` takes those of the state; absent from earlier folders
    one_by_one: NotRequired[bool]  # whether images round otherwise together


class Graph(NamedTuple):
    """A module to write, with an example of its inputs by name, and the names of its outputs.

    ``shapes``: of the arguments of ``forward``, as ``torch.export`` wants open dimensions; None
    opens dimension 0 of all.
    """

    name: str
    module: nn.Module
    inputs: dict[str, Tensor]
    outputs: list[str]
    shapes: Any = None


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
    """With ``moves`` (R, 2, 3) after the state where a state moves with its crops."""

    def __init__(self, model: VideoPoseNet, state_type: type) -> None:
        super().__init__(model)
        self.state_type = state_type

    def forward(  # type: ignore[override]
        self, features: Tensor, center_map: Tensor, *rest: Tensor
    ) -> tuple[Tensor, ...]:
        fields = len(self.state_type._fields)  # type: ignore[attr-defined]
        state = self.state_type(*rest[:fields])
        if self.model.align_state:
            state = move_heatmap_state(state, rest[fields], self.model.codec)
        heatmaps, new = self.model.advance(features, center_map, state)
        # Maps that are part of the state as well come out once.
        return (heatmaps, *(tensor for tensor in new if tensor is not heatmaps))


def export_model(
    model: VideoPoseNet,
    folder: str | Path,
    *,
    crop_size: tuple[int, int],
    file_format: str,
    prepare: Callable[[VideoPoseNet], object] | None = None,
) -> list[Path]:
    """Write the three graphs and ``model.json``.

    Args:
        model: trained; it is not changed. Norms and gates are folded in the copy that is written.
        crop_size: (H, W) px; the graphs hold for this size.
        file_format: of FORMATS: "openvino" (its intermediate representation), "onnx", or "pt2"
            (``torch.export``; PyTorch runs code of such a file when it loads it).
        prepare: further changes of the folded copy, in place.

    Returns:
        The graphs' files.

    Raises:
        ValueError: an unknown format, its packages are missing, or a part does not export.
    """
    require_packages(file_format)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    folded = fold_norms(model).cpu()
    assert isinstance(folded, VideoPoseNet)
    folded.fold()
    if prepare is not None:
        prepare(folded)
    graphs, fields, returned = _graphs(folded, crop_size)
    paths = []
    for graph in graphs:
        path = folder / f"{graph.name}.{FORMATS[file_format][0]}"
        write_graph(graph, path, what=type(model).__name__)
        paths.append(path)
    description: PoseDescription = {
        "version": VERSION,
        "format": file_format,
        "precision": "float32",
        **describe_model(type(model).__name__, model.joint_names, model.codec, crop_size),
        "state": fields,
        "returned": returned,
        "moves": model.align_state,
    }
    if any(isinstance(module, FrequencyConv2d) for module in folded.modules()):
        description["one_by_one"] = True
    write_description(folder, description)
    return paths


def describe_model(
    architecture: str, joints: Sequence[str], codec: HeatmapCodec, crop_size: Sequence[int]
) -> ModelFacts:
    """What has to agree between a folder and the pipeline that runs it."""
    return {
        "architecture": architecture,
        "joints": list(joints),
        "background": codec.background,
        "stride": codec.stride,
        "encode_offset": codec.encode_offset,
        "decode_offset": codec.decode_offset,
        "crop_size": [int(side) for side in crop_size],
    }


def write_description(folder: Path, description: Description) -> None:
    """Write ``model.json``, with the hashes of all other files in ``folder``."""
    files = [path for path in sorted(folder.iterdir()) if path.name != DESCRIPTION]
    hashes = {path.name: file_hash(path) for path in files if path.is_file()}
    write_json(folder / DESCRIPTION, description | {"sha256": hashes}, indent=2)


def read_description(folder: str | Path) -> Description:
    """``model.json`` of a folder whose files are what it says.

    Raises:
        FileNotFoundError: no such export. ValueError: it is damaged, or of another version.
    """
    path = Path(folder) / DESCRIPTION
    if not path.is_file():
        raise FileNotFoundError(f"no exported model in {folder}: {DESCRIPTION} is missing")
    try:
        content = load_json(str(path))
        version = content.need("version").integer()
        if version != VERSION:
            raise ValueError(f"{path}: version {version}, expected {VERSION}")
        if content.need("format").text() not in FORMATS:
            raise content.need("format").error(f"one of {', '.join(FORMATS)}")
        _check_hashes(Path(folder), content.need("sha256"))
    except (ValueError, OSError) as error:
        raise ValueError(f"{error}; export the model again") from error
    return cast(Description, content.content())


def _check_hashes(folder: Path, hashes: Field) -> None:
    """Raise ValueError unless ``hashes`` has all graphs of ``folder``, and they are what it says.

    A graph that it does not have would be run unseen.
    """
    listed = hashes.content()
    endings = {f".{ending}" for ending, _ in FORMATS.values()} | {".bin"}
    graphs = {path.name for path in folder.iterdir() if path.suffix in endings}
    if not graphs <= set(listed):
        raise hashes.error(f"also the files {sorted(graphs - set(listed))}")
    for name in listed:
        expected = hashes.need(name).text()
        if Path(name).name != name or not (folder / name).is_file():
            raise ValueError(f"{folder / DESCRIPTION}: the file {name} is missing in {folder}")
        if file_hash(folder / name) != expected:
            raise ValueError(f"{folder / DESCRIPTION}: {name} has changed since it was written")


def check_description(folder: str | Path, description: PoseDescription, cfg: CfgNode) -> None:
    """Raise ValueError where a folder is of another model, codec or crop than ``cfg`` describes."""
    own = describe_model(
        cfg.MODEL.META_ARCHITECTURE,
        cfg.MODEL.POSE.JOINTS,
        HeatmapCodec.from_config(cfg),
        cfg.INPUT.CROP_SIZE,
    )
    for key, value in own.items():
        if description.get(key) != value:
            raise ValueError(
                f"{Path(folder) / DESCRIPTION}: {key} is {description.get(key)}, the config has "
                f"{value}; export the model again with this config"
            )


def file_hash(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def require_packages(file_format: str) -> None:
    """Raise ValueError for an unknown format, or one whose packages are missing."""
    if file_format not in FORMATS:
        raise ValueError(f"format {file_format!r}: choose from {', '.join(FORMATS)}")
    missing = [name for name in FORMATS[file_format][1] if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(
            f"{file_format} needs the package {missing[0]}: pip install {' '.join(missing)}"
        )


@torch.no_grad()
def _graphs(
    model: VideoPoseNet, crop_size: tuple[int, int]
) -> tuple[list[Graph], list[str], list[str]]:
    """The graphs, for two rows; the state's fields, and the output that becomes each of them."""
    images = torch.rand((2, 3, *crop_size)) * 255
    features = _Encode(model)(images)
    state = model.begin(model.normalize(images), features)
    middle = torch.tensor([[crop_size[1] / 2, crop_size[0] / 2]]).expand(2, 2)
    center = model.center_map(middle, crop_size, training=False)
    fields = list(type(state)._fields)
    heatmaps, new = model.advance(features, center, state)
    returned = ["out_heatmaps" if t is heatmaps else f"new_{n}" for n, t in zip(fields, new)]
    # Fresh tensors: an example in which two inputs are one tensor would tie them in the graph.
    inputs = {"features": features, "center_map": center}
    inputs |= {name: tensor.clone() for name, tensor in zip(fields, state)}
    row, states = {0: any_rows()}, tuple({0: any_rows()} for _ in fields)
    if model.align_state:
        inputs["moves"] = still_moves(2)
        states += (row,)
    outputs = ["out_heatmaps", *(name for name in returned if name != "out_heatmaps")]
    graphs = [
        Graph("encode", _Encode(model), {"images": images}, ["features"]),
        Graph("begin", _Begin(model), {"images": images, "features": features}, fields),
        Graph("advance", _Advance(model, type(state)), inputs, outputs, (row, row, states)),
    ]
    return graphs, fields, returned


def write_graph(graph: Graph, path: Path, *, what: str) -> None:
    """Write one graph in the format of the file's ending.

    Args:
        what: whose it is, for errors.

    Raises:
        ValueError: it does not export. OSError: it cannot be written.
    """
    shapes = tuple({0: any_rows()} for _ in graph.inputs) if graph.shapes is None else graph.shapes
    try:
        with torch.no_grad(), quiet():
            program = torch.export.export(
                graph.module.eval(),
                tuple(graph.inputs.values()),
                dynamic_shapes=shapes,
                strict=False,
            )
            _WRITERS[path.suffix](program, graph, path)
    except OSError:  # a full disk says nothing about the graph
        raise
    except Exception as error:  # whatever a user's network makes an exporter raise
        if shutil.disk_usage(path.parent).free < _FULL:  # OpenVINO says "iostream error"
            raise OSError(f"cannot write {path}: {os.strerror(errno.ENOSPC)}") from error
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{graph.name} of {what} does not export: {reason}") from error


def _write_openvino(program: torch.export.ExportedProgram, graph: Graph, path: Path) -> None:
    import openvino

    model = openvino.convert_model(program)
    # Ports are in the order of the arguments of `forward`. An input that is put out unchanged has
    # the names of both.
    assert len(model.inputs) == len(graph.inputs), model.inputs
    for ports, names in ((model.outputs, graph.outputs), (model.inputs, graph.inputs)):
        for port, name in zip(ports, names, strict=True):
            port.get_tensor().add_names({name})
    if any(op.get_type_name() == "GridSample" for op in model.get_ops()):
        # Without the sizes that are fixed, OpenVINO mistakes those of what was sampled.
        model.reshape(dict(zip(model.inputs, _open_shapes(program), strict=True)))
    openvino.save_model(model, path, compress_to_fp16=False)


def _open_shapes(program: torch.export.ExportedProgram) -> list[list[int]]:
    """Sizes of a program's inputs, -1 where they are open."""
    names = program.graph_signature.user_inputs
    values = {node.name: node.meta["val"] for node in program.graph.nodes if node.name in names}
    return [
        [side if isinstance(side, int) else -1 for side in values[name].shape] for name in names
    ]


def _write_onnx(program: torch.export.ExportedProgram, graph: Graph, path: Path) -> None:
    torch.onnx.export(
        program,
        f=str(path),
        input_names=list(graph.inputs),
        output_names=graph.outputs,
        opset_version=_OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )


_WRITERS = {
    ".xml": _write_openvino,
    ".onnx": _write_onnx,
    ".pt2": lambda program, graph, path: torch.export.save(program, path),
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the exporters' progress on standard output and their notes on their own parts."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@torch.no_grad()
def compare(
    reference: TorchBackend, exported: PoseBackend, crops: Tensor, *, rows: int = 1
) -> dict[str, float]:
    """Run both over the same frames, each with a state of its own that rolls on.

    Where states move with their crops, each row's crop wanders by up to two cells a frame.

    Args:
        crops: uint8 (T, 3, H, W), shown to every row with another first frame.

    Returns:
        ``heatmap_max_difference``, ``joint_max_difference_px`` (crop px) of all frames and rows,
        ``frames``, ``rows``, and milliseconds per frame of each, the first five frames left out.
    """
    reference_maps, reference_time = _run(reference, crops, rows)
    exported_maps, exported_time = _run(exported, crops, rows)
    codec = reference.codec
    joints = [codec.decode(maps.flatten(0, 1))[..., :2] for maps in (reference_maps, exported_maps)]
    return {
        "frames": len(crops),
        "rows": rows,
        "heatmap_max_difference": float((reference_maps - exported_maps).abs().max()),
        "joint_max_difference_px": float((joints[0] - joints[1]).norm(dim=-1).max()),
        "reference_ms_per_frame": reference_time,
        "exported_ms_per_frame": exported_time,
        "threads": torch.get_num_threads(),
    }


def _run(backend: PoseBackend, crops: Tensor, rows: int) -> tuple[Tensor, float]:
    """Heatmaps (T, R, C, h, w), and milliseconds per frame."""
    size = (int(crops.shape[-2]), int(crops.shape[-1]))
    centers = torch.tensor([[size[1] / 2, size[0] / 2]]).expand(rows, 2)
    maps: list[Tensor] = []
    state: Any = None
    times = []
    generator = torch.Generator().manual_seed(0)
    for t in range(len(crops)):
        images = torch.stack([crops[(t + 7 * row) % len(crops)] for row in range(rows)])
        moves = None
        if backend.align_state and t > 0:
            moves = still_moves(rows)
            moves[:, :, 2] = 4 * torch.rand((rows, 2), generator=generator) - 2
        start = time.perf_counter()
        prepared, features = backend.encode(images)
        center_map = backend.center_map(centers, size, training=False)
        if state is None:
            state = backend.begin(prepared, features)
        heatmaps, state = backend.advance(features, center_map, state, moves)
        times.append(time.perf_counter() - start)
        maps.append(heatmaps.float())
    steady = times[5:] or times
    return torch.stack(maps), 1000 * sum(steady) / len(steady)
