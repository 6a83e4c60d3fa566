"""The dense parts of Detectron2's detectors by OpenVINO or ONNX Runtime, on a CPU.

Backbone (with FPN), RPN head, box head and the layers of keypoint and mask heads are graphs of
tensors; of a recurrent keypoint head its convolutions and its step, which takes the state and its
moves. Proposals, non-maximum suppression, pooling of regions and predictors stay Detectron2's.
A part that does not export stays PyTorch's, and is named in a line of log.
Shapes: N images, R regions, C channels, H, W px, multiples of the backbone's divisor.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from video_pose.backends.cache import cached, graph_key
from video_pose.backends.graphs import (
    FORMATS,
    ROWS,
    VERSION,
    Graph,
    read_description,
    require_packages,
    write_description,
    write_graph,
)
from video_pose.backends.pose import choose_backend
from video_pose.backends.runtimes import LoadedGraph, engine_precision, load_graph
from video_pose.modeling.recurrent_keypoint_rcnn import RecurrentKeypointHead

logger = logging.getLogger(__name__)
# Height and width of the example picture, px: different, so that no part can confuse them.
_EXAMPLE = (256, 320)


class _Part(NamedTuple):
    """A method of a module that a graph may stand for."""

    name: str
    module: nn.Module
    method: str


class _Flat(nn.Module):
    """A part as a function of tensors to tensors."""

    def __init__(self, part: _Part, arguments: tuple[Any, ...]) -> None:
        """``arguments``: of the method, an example of their nesting."""
        super().__init__()
        self.module = part.module
        self.method, self.arguments = part.method, arguments

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        arguments = _like(self.arguments, list(inputs))
        out = getattr(type(self.module), self.method)(self.module, *arguments)
        return tuple(_leaves(out))


def _leaves(value: Any) -> list[Tensor]:
    """The tensors of nested lists, tuples and dicts, in order."""
    if isinstance(value, Tensor):
        return [value]
    values = value.values() if isinstance(value, dict) else value
    return [leaf for part in values for leaf in _leaves(part)]


def _like(value: Any, leaves: list[Tensor]) -> Any:
    """``leaves``, taken from the front, in the nesting of ``value``."""
    if isinstance(value, Tensor):
        return leaves.pop(0)
    if isinstance(value, dict):
        return {key: _like(part, leaves) for key, part in value.items()}
    parts = [_like(part, leaves) for part in value]
    return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)


def _parts(model: nn.Module) -> list[_Part]:
    """What of a detector may be a graph, in the order in which it runs."""
    found = [_Part("backbone", model.backbone, "forward")]
    rpn_head = getattr(getattr(model, "proposal_generator", None), "rpn_head", None)
    heads = getattr(model, "roi_heads", None)
    candidates = [("rpn_head", rpn_head, "forward")]
    candidates += [("box_head", getattr(heads, "box_head", None), "forward")]
    keypoint_head = getattr(heads, "keypoint_head", None)
    if isinstance(keypoint_head, RecurrentKeypointHead):
        candidates += [("keypoint_convolutions", keypoint_head, "convolve")]
        candidates += [("keypoint_step", keypoint_head, "advance")]
    else:
        candidates += [("keypoint_head", keypoint_head, "layers")]
    candidates += [("mask_head", getattr(heads, "mask_head", None), "layers")]
    # A cascade has a list of box heads.
    if isinstance(candidates[1][1], nn.ModuleList):
        stages = enumerate(candidates[1][1], start=1)
        candidates[1:2] = [(f"box_head{i}", stage, "forward") for i, stage in stages]
    for name, module, method in candidates:
        if isinstance(module, nn.Module) and hasattr(type(module), method):
            found.append(_Part(name, module, method))
    return found


@torch.no_grad()
def _watch(model: nn.Module, parts: list[_Part]) -> dict[str, tuple[tuple[Any, ...], Any]]:
    """What every part takes and gives on a random picture; parts that do not run are left out."""
    seen: dict[str, tuple[tuple[Any, ...], Any]] = {}

    def watched(part: _Part) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            out = getattr(type(part.module), part.method)(part.module, *arguments)
            seen[part.name] = (arguments, out)
            return out

        return run

    for part in parts:
        object.__setattr__(part.module, part.method, watched(part))
    was_training = model.training
    model.eval()
    try:
        generator = torch.Generator().manual_seed(0)
        picture = torch.rand((3, *_EXAMPLE), generator=generator) * 255
        model([{"image": picture, "height": _EXAMPLE[0], "width": _EXAMPLE[1]}])
    finally:
        for part in parts:
            part.module.__dict__.pop(part.method)
        model.train(was_training)
    return seen


def _graph(part: _Part, arguments: tuple[Any, ...]) -> Graph:
    """A part with open dimensions: height and width of maps, or the number of regions."""
    flat = _Flat(part, arguments)
    tensors, shapes = _leaves(arguments), []
    if part.name == "backbone":
        divisor = max(getattr(part.module, "size_divisibility", 0), 32)
        height, width = (torch.export.Dim(name, min=2, max=128) for name in ("high", "wide"))
        shapes = [{2: divisor * height, 3: divisor * width}]
    elif part.name == "rpn_head":
        for i in range(len(tensors)):
            height, width = (torch.export.Dim(f"{name}{i}", min=2) for name in ("high", "wide"))
            shapes.append({2: height, 3: width})
    else:
        shapes = [{0: ROWS} for _ in tensors]
        tensors = [torch.rand((2, *tensor.shape[1:])) for tensor in tensors]
    inputs = {f"in{i}": tensor.float().contiguous() for i, tensor in enumerate(tensors)}
    with torch.no_grad():
        outputs = [f"out{i}" for i in range(len(flat(*inputs.values())))]
    return Graph(part.name, flat, inputs, outputs, (tuple(shapes),))


def accelerate(cfg: CfgNode, model: nn.Module, name: str = "") -> list[str]:
    """Let a backend compute the dense parts of a detector, in place.

    Args:
        cfg: ``model``'s; TEST.BACKEND is "auto", and TEST.PRECISION float32, where it lacks them.
        model: a detector whose weights will not change. One that has no
            backbone of its own, or that is on a GPU, stays as it is.
        name: in the place of TEST.BACKEND, unless "".

    Returns:
        The names of the parts that a graph computes now.

    Raises:
        ValueError: the backend's packages are missing, the precision is unknown, or graphs have no
            room; there "auto" takes PyTorch.
    """
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    name = name or cfg.TEST.get("BACKEND", "auto")
    is_auto = name == "auto"
    if is_auto:
        name = choose_backend(cfg, device) if hasattr(model, "backbone") else "torch"
    # A folder, and what a plugin registers, is of the pose network.
    if name not in ("openvino", "onnx") or not hasattr(model, "backbone"):
        return []
    require_packages(name)
    parts = _parts(model)
    try:
        seen = _watch(model, parts)
    except Exception as error:  # a meta-architecture that takes something else than a picture
        logger.warning("the detector runs by PyTorch: no part of it can be watched (%s)", error)
        return []
    parts = [part for part in parts if part.name in seen]
    ending = FORMATS[name][0]

    def make(folder: Path) -> None:
        refused = {}
        for part in parts:
            graph = _graph(part, seen[part.name][0])
            try:
                write_graph(graph, folder / f"{part.name}.{ending}", what=type(model).__name__)
            except ValueError as error:
                refused[part.name] = str(error)
        write_description(folder, {"version": VERSION, "format": name, "refused": refused})

    precision = engine_precision(name, cfg.TEST.get("PRECISION", "float32"))
    key = graph_key(cfg, model, name, " ".join(part.name for part in parts))
    graphs: dict[str, LoadedGraph] = {}
    try:
        with cached(key, make) as folder:
            refused = read_description(folder)["refused"]
            for part in parts:
                if part.name in refused:
                    logger.warning("%s: PyTorch computes it", refused[part.name])
                else:
                    path = folder / f"{part.name}.{ending}"
                    graphs[part.name] = load_graph(path, precision)
    except ValueError as error:
        if not is_auto:
            raise ValueError(f"TEST.BACKEND {name}: {error}") from error
        logger.warning("TEST.BACKEND auto: the detector runs by PyTorch: %s", error)
        return []
    for part in parts:
        if part.name in graphs:
            run = _runner(graphs[part.name], seen[part.name][1], part)
            object.__setattr__(part.module, part.method, run)
    logger.info("the detector's %s run by %s in %s", ", ".join(graphs), name, precision)
    return list(graphs)


def _runner(graph: LoadedGraph, example: Any, part: _Part) -> Callable[..., Any]:
    """A part's method, computed by ``graph``; ``example`` is of the nesting of its result."""
    plain = getattr(type(part.module), part.method)

    def run(*arguments: Any) -> Any:
        tensors = _leaves(arguments)
        if len(tensors[0]) == 0:  # nobody is there: no engine takes empty tensors
            return plain(part.module, *arguments)
        out = graph({f"in{i}": tensor.float() for i, tensor in enumerate(tensors)})
        return _like(example, out)

    return run
