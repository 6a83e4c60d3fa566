"""The backends of a recurrent model, and the choice of one: ``torch``, ``openvino``, ``onnx``.

A backend is made from a configuration and a model with weights. Plugins add their own::

    @BACKENDS.add("mine")
    def build_mine(cfg: CfgNode, model: VideoPoseNet) -> PoseBackend: ...
"""

from __future__ import annotations

import collections
import contextlib
import functools
import logging
import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, cast

import torch
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from torch import Tensor, nn

from video_pose.backends.cache import cached, graph_key
from video_pose.backends.convolutions import large_convolutions, replace_large
from video_pose.backends.graphs import (
    DESCRIPTION,
    FORMATS,
    NAMES,
    PoseDescription,
    check_description,
    export_model,
    read_description,
    require_packages,
)
from video_pose.backends.runtimes import LoadedGraph, engine_precision, is_installed, load_graph
from video_pose.data.json_fields import Field
from video_pose.modeling.backend import (
    IMAGES_AT_ONCE,
    ClipInference,
    PoseBackend,
    TorchBackend,
    even_parts,
)
from video_pose.modeling.fast_path import fast_path
from video_pose.modeling.sequences import FILE as REFINER_FILE
from video_pose.modeling.sequences import OverTime, SequenceRefiner
from video_pose.modeling.states import move_heatmap_state, still_moves
from video_pose.modeling.video_pose_net import VideoPoseNet
from video_pose.packaged import PREFIX
from video_pose.plugins import BACKENDS
from video_pose.skeleton import flip_permutation

logger = logging.getLogger(__name__)
# What "auto" tries on a CPU, in order; PyTorch is always there.
AUTO_ON_CPU = ("openvino", "onnx")
OVER_TIME_MODES = ("causal", "lag", "offline")


class GraphBackend:
    """Graphs in a folder in the place of a PyTorch model, on the CPU."""

    device = torch.device("cpu")

    def __init__(
        self,
        graphs: dict[str, LoadedGraph],
        *,
        fields: list[str],
        returned: list[str],
        moves: bool = False,
        cfg: CfgNode,
        name: str,
        images_at_once: int = IMAGES_AT_ONCE,
    ) -> None:
        """
        Args:
            graphs: by NAMES. fields: names of the state's tensors. returned: the output of
                ``advance`` that becomes each of them. moves: whether ``advance`` takes them; else
                states are moved before it.
            cfg: of the model; codec, centre map and reset period are its.
            name: for `describe`.
            images_at_once: most images of which each gives the same, bit by bit, as alone.
        """
        base = VideoPoseNet.base_config(cfg)
        self.joint_names: list[str] = base["joint_names"]
        self.codec, self.center_map = base["codec"], base["center_map"]
        labels = self.codec.channel_labels(self.joint_names)
        self.flip_channels = flip_permutation(labels, base["flip_map"])
        self.reset_every: int = base["reset_every"]
        self.align_state: bool = base["align_state"]
        self._graphs, self._name, self._takes_moves = graphs, name, moves
        self._images_at_once = images_at_once
        self._state_type: Any = collections.namedtuple("State", fields)  # type: ignore[misc]
        # Place of every field among the outputs, of which maps that are part of the state are one.
        outputs = ["out_heatmaps", *(field for field in returned if field != "out_heatmaps")]
        self._places = [outputs.index(field) for field in returned]

    @classmethod
    def from_folder(
        cls, folder: str | Path, cfg: CfgNode, *, trust_programs: bool = False
    ) -> GraphBackend:
        """Load an exported model for the pipeline that ``cfg`` describes.

        Args:
            trust_programs: load a folder of ``.pt2``, which can run any code.

        Raises:
            FileNotFoundError: no such export.
            ValueError: it is damaged, of another model, codec or crop, or needs a package.
        """
        description = cast(PoseDescription, read_description(folder))
        check_description(folder, description, cfg)
        content = Field(description, str(Path(folder) / DESCRIPTION))
        fields, returned = _state_fields(content)
        kind = description["format"]
        precision = engine_precision(kind, cfg.TEST.PRECISION)
        graphs = {
            name: load_graph(
                Path(folder) / f"{name}.{FORMATS[kind][0]}",
                precision,
                trust_programs=trust_programs,
            )
            for name in NAMES
        }
        made = content.need("precision").text()
        shown = precision if made == "float32" else f"{made} and {precision}"
        return cls(
            graphs,
            fields=fields,
            returned=returned,
            moves=description.get("moves") is True,
            cfg=cfg,
            name=f"{_ENGINES[kind]} on the CPU, {shown}",
            images_at_once=1 if description.get("one_by_one") is True else IMAGES_AT_ONCE,
        )

    def autocast(self) -> AbstractContextManager[Any]:
        return contextlib.nullcontext()

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        pictures = images.float()
        together = even_parts(pictures, self._images_at_once)
        parts = [self._graphs["encode"]({"images": part})[0] for part in together]
        return pictures, parts[0] if len(parts) == 1 else torch.cat(parts)

    def begin(self, images: Tensor, features: Tensor) -> Any:
        return self._state_type(*self._graphs["begin"]({"images": images, "features": features}))

    def advance(
        self, features: Tensor, center_map: Tensor, state: Any, moves: Tensor | None = None
    ) -> tuple[Tensor, Any]:
        if state._fields != self._state_type._fields:
            raise ValueError(
                f"a state of {list(state._fields)} is not this model's, whose states have "
                f"{list(self._state_type._fields)}: begin anew"
            )
        if moves is not None and not self._takes_moves:
            state = move_heatmap_state(state, moves, self.codec)
        inputs = {"features": features, "center_map": center_map, **state._asdict()}
        if self._takes_moves:
            inputs["moves"] = still_moves(len(features)) if moves is None else moves
        out = self._graphs["advance"](inputs)
        return out[0], self._state_type(*(out[place] for place in self._places))

    def describe(self) -> str:
        return self._name


def _state_fields(description: Field) -> tuple[list[str], list[str]]:
    """The state's names, and the outputs that become them.

    Raises:
        ValueError: they do not fit each other; names the file.
    """
    state, returned = description.need("state"), description.need("returned")
    fields, outputs = state.texts(), returned.texts()
    if len(set(fields)) < len(fields) or not all(name.isidentifier() for name in fields):
        raise state.error("names, no two of which are the same")
    known = [("out_heatmaps", f"new_{name}") for name in fields]
    if len(outputs) != len(fields) or not all(a in b for a, b in zip(outputs, known)):
        raise returned.error(f"an output for each of the state's {fields}")
    return fields, outputs


_ENGINES = {"openvino": "OpenVINO", "onnx": "ONNX Runtime", "pt2": "torch.export"}


@BACKENDS.add("torch")
def build_torch(cfg: CfgNode, model: VideoPoseNet) -> TorchBackend:
    """PyTorch: the fast form, or the modules as they are trained where TEST.FAST is off."""
    if not cfg.TEST.FAST:
        return TorchBackend(model)
    return TorchBackend(fast_path(model, precision=cfg.TEST.PRECISION, compile=cfg.TEST.COMPILE))


@BACKENDS.add("openvino")
def build_openvino(cfg: CfgNode, model: VideoPoseNet) -> GraphBackend:
    """OpenVINO, its graphs from the cache."""
    return _from_cache(cfg, model, "openvino")


@BACKENDS.add("onnx")
def build_onnx(cfg: CfgNode, model: VideoPoseNet) -> GraphBackend:
    """ONNX Runtime, its graphs from the cache."""
    return _from_cache(cfg, model, "onnx")


def _from_cache(cfg: CfgNode, model: VideoPoseNet, engine: str) -> GraphBackend:
    require_packages(engine)
    size = (int(cfg.INPUT.CROP_SIZE[0]), int(cfg.INPUT.CROP_SIZE[1]))
    form, prepare = "", None
    if engine == "openvino" and large_convolutions(model):
        # What of them is fastest depends on the precision: each has graphs of its own.
        form = engine_precision(engine, cfg.TEST.PRECISION)
        prepare = functools.partial(replace_large, crop_size=size, precision=form)

    def make(folder: Path) -> None:
        export_model(model, folder, crop_size=size, file_format=engine, prepare=prepare)

    with cached(graph_key(cfg, model, engine, form), make) as folder:
        return GraphBackend.from_folder(folder, cfg)


def choose_backend(cfg: CfgNode, device: torch.device) -> str:
    """The name that TEST.BACKEND "auto" stands for on ``device``."""
    if device.type != "cpu" or not cfg.TEST.get("FAST", True):
        return "torch"
    return next((name for name in AUTO_ON_CPU if is_installed(name)), "torch")


def build_backend(cfg: CfgNode, model: VideoPoseNet, name: str = "") -> PoseBackend:
    """What computes ``model``, said in one line.

    Args:
        cfg: ``model``'s, complete.
        name: of BACKENDS, or "auto"; "" is TEST.BACKEND.

    Raises:
        ValueError: an unknown name, a package is missing, or the model does not export. "auto"
            takes PyTorch then.
    """
    name = name or cfg.TEST.BACKEND
    chosen = choose_backend(cfg, model.device) if name == "auto" else name
    if chosen not in BACKENDS:
        raise ValueError(f"TEST.BACKEND {chosen!r}: choose from {['auto', *BACKENDS.names()]}")
    try:
        backend = BACKENDS.get(chosen)(cfg, model)
    except ValueError as error:
        if name != "auto" or chosen == "torch":
            raise ValueError(f"TEST.BACKEND {chosen}: {error}") from error
        logger.warning("TEST.BACKEND auto: PyTorch in the place of %s: %s", chosen, error)
        backend = BACKENDS.get("torch")(cfg, model)
    logger.info("the pose network runs by %s", backend.describe())
    return backend


def is_folder(name: str) -> bool:
    """Whether a backend's name is an exported folder's path."""
    return name not in BACKENDS and (os.path.isdir(name) or os.sep in name) and name != ""


def build_tested(cfg: CfgNode, model: nn.Module, *, changes: bool = False) -> nn.Module:
    """A model as evaluation runs it: a recurrent one by its backend, another one itself.

    Args:
        changes: its weights will change, as within a training: "auto" is PyTorch then, which needs
            no graphs.
    """
    if not isinstance(model, VideoPoseNet):
        return model
    over_time = over_time_from_config(cfg)
    if is_folder(cfg.TEST.BACKEND):
        return ClipInference(GraphBackend.from_folder(cfg.TEST.BACKEND, cfg), over_time)
    name = "torch" if changes and cfg.TEST.BACKEND == "auto" else cfg.TEST.BACKEND
    if not cfg.TEST.FAST and name in ("auto", "torch") and over_time is None:
        return model
    return ClipInference(build_backend(cfg, model, name), over_time)


def over_time_from_config(cfg: CfgNode) -> OverTime | None:
    """How TEST.OVER_TIME corrects poses; None for a causal test.

    Raises:
        ValueError: an unknown mode, a lag below 0, or a file that is no refiner.
        FileNotFoundError: the named refiner is missing.
    """
    node = cfg.TEST.OVER_TIME
    if node.MODE not in OVER_TIME_MODES:
        raise ValueError(
            f"TEST.OVER_TIME.MODE {node.MODE!r}: choose from {', '.join(OVER_TIME_MODES)}"
        )
    if node.MODE == "causal":
        return None
    refiner = load_refiner(node.REFINER, cfg.MODEL.WEIGHTS)
    lag = int(node.LAG) if node.MODE == "lag" else None
    return OverTime(lag, refiner, bool(node.REPAIR_SIDES))


def load_refiner(name: str, weights: str = "") -> SequenceRefiner | None:
    """The refiner of a file; "auto": the one beside a model's weights, None where there is none.

    Raises:
        FileNotFoundError, ValueError: as `SequenceRefiner.load`.
    """
    if name != "auto":
        return SequenceRefiner.load(name) if name else None
    beside = file_beside(weights, REFINER_FILE)
    return None if beside is None else SequenceRefiner.load(beside)


def file_beside(weights: str, name: str) -> Path | None:
    """The file ``name`` in the folder of a model's weights; None where there is none."""
    if not weights or "://" in weights and not weights.startswith(PREFIX):
        return None
    local = PathManager.get_local_path(weights) if weights.startswith(PREFIX) else weights
    beside = Path(local).with_name(name)
    return beside if beside.is_file() else None
