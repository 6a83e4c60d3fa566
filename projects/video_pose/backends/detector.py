"""The dense parts of Detectron2's detectors by OpenVINO or ONNX Runtime, on a CPU.

Backbone (with FPN), RPN head, box head and the layers of keypoint and mask heads are graphs of
tensors; of a recurrent keypoint head its convolutions and its step, which takes the state and its
moves. Proposals, non-maximum suppression, pooling of regions and predictors stay Detectron2's.
A part that does not export stays PyTorch's, and is named in a line of log.
Shapes: N images, R regions, C channels, H, W px, multiples of the backbone's divisor.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from torch import Tensor, nn

from video_pose.backends.cache import cached, graph_key
from video_pose.backends.graphs import (
    FORMATS,
    VERSION,
    Graph,
    any_rows,
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


# Parts that see pictures, not regions.
_WHOLE_PICTURES = ("backbone", "rpn_head")
# Many regions come in multiples of so many: see `_padded`.
_ROW_STEP = 16
# Of what the description of a cached folder holds besides its format.
_LAYOUT = "results"


class _Unwatched(ValueError):
    """A model that takes something else than a picture."""


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


def _nesting(value: Any) -> Any:
    """Of lists, tuples and dicts of tensors, as JSON: null for a tensor.

    Raises:
        TypeError: of something else, such as a state's tuple with names.
    """
    if isinstance(value, Tensor):
        return None
    if type(value) is dict:
        return {key: _nesting(part) for key, part in value.items()}
    if type(value) in (list, tuple):
        return [type(value).__name__, *map(_nesting, value)]
    raise TypeError(f"{type(value).__name__} is no list, tuple or dict")


def _from_nesting(nesting: Any) -> Any:
    """An example of the values of a `_nesting`."""
    if nesting is None:
        return torch.empty(0)
    if isinstance(nesting, dict):
        return {key: _from_nesting(part) for key, part in nesting.items()}
    kind = {"list": list, "tuple": tuple}[nesting[0]]
    return kind(map(_from_nesting, nesting[1:]))


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
    """What every part takes and gives on a random picture; parts that do not run are left out.

    Raises:
        _Unwatched: the model takes something else.
    """
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
    except Exception as error:  # whatever a meta-architecture raises
        raise _Unwatched(f"no part of it can be watched ({error})") from error
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
        shapes = [{0: any_rows()} for _ in tensors]
        tensors = [torch.rand((2, *tensor.shape[1:])) for tensor in tensors]
    inputs = {f"in{i}": tensor.float().contiguous() for i, tensor in enumerate(tensors)}
    with torch.no_grad():
        outputs = [f"out{i}" for i in range(len(flat(*inputs.values())))]
    return Graph(part.name, flat, inputs, outputs, (tuple(shapes),))


def accelerate(
    cfg: CfgNode, model: nn.Module, name: str = "", *, keep_weights: bool = True
) -> list[str]:
    """Let a backend compute the dense parts of a detector, in place.

    Args:
        cfg: ``model``'s; TEST.BACKEND is "auto", and TEST.PRECISION float32, where it lacks them.
        model: a detector whose weights will not change. One that has no
            backbone of its own, or that is on a GPU, stays as it is.
        name: in the place of TEST.BACKEND, unless "".
        keep_weights: False frees the weights of what graphs compute: ``model`` cannot be saved,
            trained or computed by PyTorch any more.

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
    precision = engine_precision(name, cfg.TEST.get("PRECISION", "float32"))
    try:
        graphs, examples = _from_cache(cfg, model, name, precision)
    except _Unwatched as error:
        logger.warning("the detector runs by PyTorch: %s", error)
        return []
    except ValueError as error:
        if not is_auto:
            raise ValueError(f"TEST.BACKEND {name}: {error}") from error
        logger.warning("TEST.BACKEND auto: the detector runs by PyTorch: %s", error)
        return []
    for part in _parts(model):
        if part.name in graphs:
            by_rows = part.name not in _WHOLE_PICTURES
            run = _runner(graphs[part.name], examples[part.name], by_rows)
            object.__setattr__(part.module, part.method, run)
            if not keep_weights and part.method == "forward":  # which is all that it computes
                for tensor in part.module.parameters():
                    tensor.data = tensor.data.new_empty(0)
    logger.info("the detector's %s run by %s in %s", ", ".join(graphs), name, precision)
    return list(graphs)


def _from_cache(
    cfg: CfgNode, model: nn.Module, engine: str, precision: str
) -> tuple[dict[str, LoadedGraph], dict[str, Any]]:
    """By name, the parts that ``engine`` computes, and examples of the nesting of their results.

    Raises:
        _Unwatched: see `_watch`. ValueError: see `cached`.
    """
    parts, ending = _parts(model), FORMATS[engine][0]

    def make(folder: Path) -> None:
        seen = _watch(model, parts)
        refused, results = {}, {}
        for part in parts:
            if part.name not in seen:
                continue
            arguments, result = seen[part.name]
            graph = _graph(part, arguments)
            try:
                write_graph(graph, folder / f"{part.name}.{ending}", what=type(model).__name__)
            except ValueError as error:
                refused[part.name] = str(error)
            # A state has a type of its own, which only the model knows.
            with contextlib.suppress(TypeError):
                results[part.name] = _nesting(result)
        write_description(
            folder,
            {
                "version": VERSION,
                "format": engine,
                "refused": refused,
                "parts": [part.name for part in parts if part.name in seen],
                "results": results,
            },
        )

    key = graph_key(cfg, model, engine, " ".join((_LAYOUT, *(part.name for part in parts))))
    with cached(key, make) as folder:
        description = read_description(folder)
        refused = description["refused"]
        for reason in refused.values():
            logger.warning("%s: PyTorch computes it", reason)
        graphs = {
            name: load_graph(folder / f"{name}.{ending}", precision)
            for name in description["parts"]
            if name not in refused
        }
    examples = {name: _from_nesting(of) for name, of in description["results"].items()}
    if not set(graphs) <= set(examples):
        examples = {name: result for name, (_, result) in _watch(model, parts).items()}
    return graphs, examples


def _runner(graph: LoadedGraph, example: Any, by_rows: bool) -> Callable[..., Any]:
    """A part's method, computed by ``graph``; ``example`` is of the nesting of its result.

    Args:
        by_rows: dimension 0 of all that goes in and comes out is the region.
    """

    def run(*arguments: Any) -> Any:
        tensors = [tensor.float() for tensor in _leaves(arguments)]
        rows = len(tensors[0])
        if by_rows and (more := _padded(rows) - rows):
            tensors = [F.pad(tensor, (0, 0) * (tensor.dim() - 1) + (0, more)) for tensor in tensors]
        out = graph({f"in{i}": tensor for i, tensor in enumerate(tensors)})
        return _like(example, [tensor[:rows] for tensor in out] if by_rows else out)

    return run


def _padded(rows: int) -> int:
    """How many rows a graph is given for ``rows``: no engine takes none, and each prepares anew,
    and keeps what it prepared, for every number that it has not seen."""
    return max(1, rows) if rows < _ROW_STEP else -(-rows // _ROW_STEP) * _ROW_STEP
