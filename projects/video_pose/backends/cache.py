"""Graphs are made once for weights, configuration and versions, and kept in a cache folder.

They may be removed at any time. Nothing is ever written beside the user's weights.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from detectron2.config import CfgNode
from torch import nn

from video_pose.backends.graphs import VERSION, read_description
from video_pose.files import CACHE_VARIABLE, cache_folder

logger = logging.getLogger(__name__)
# Seconds without a new file, after which nobody makes a folder any more.
ABANDONED = 3600.0


def graph_key(cfg: CfgNode, model: nn.Module, engine: str, form: str = "") -> str:
    """A folder's name that changes with whatever the graphs depend on.

    These are weights, the model's configuration and crop size, the sources of its modules, the
    versions of PyTorch, the engine and the graphs' layout, and ``form``, what else the caller
    makes the graphs by.
    """
    digest = hashlib.sha256()
    node = cfg.clone()
    node.defrost()
    node.MODEL.WEIGHTS = node.MODEL.DEVICE = ""
    for text in (
        *(str(VERSION), engine, torch.__version__, _engine_version(engine), form),
        # Configurations of other projects have no crops.
        *(node.MODEL.dump(), str(tuple(cfg.INPUT.get("CROP_SIZE", ())))),
    ):
        digest.update(text.encode() + b"\0")
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode() + b"\0")
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    for path in _sources(model):
        digest.update(path.read_bytes())
    return f"{type(model).__name__}-{engine}-{digest.hexdigest()[:20]}"


def _engine_version(engine: str) -> str:
    try:
        return version({"onnx": "onnxruntime"}.get(engine, engine))
    except PackageNotFoundError:
        return ""


def _sources(model: nn.Module) -> list[Path]:
    """The files that define a model's modules, but those of PyTorch and Detectron2."""
    files = set()
    for kind in {base for module in model.modules() for base in type(module).__mro__}:
        if kind.__module__.split(".")[0] not in ("torch", "detectron2", "builtins"):
            with contextlib.suppress(TypeError, OSError):
                files.add(Path(inspect.getsourcefile(kind) or ""))
    return sorted(path for path in files if path.is_file())


@contextlib.contextmanager
def cached(key: str, make: Callable[[Path], object]) -> Iterator[Path]:
    """The folder of graphs with this key, for as long as the block takes.

    ``make`` writes a described folder where there is none yet, or where it is damaged. A cache that
    cannot be written costs a line of log: the graphs are then made in a temporary folder.

    Raises:
        ValueError: there is no room for one either.
    """
    folder = cache_folder() / key
    try:
        _provide(folder, make)
    except OSError as error:
        logger.warning(
            "graphs cannot be kept in %s (%s): they are made anew each time; %s names another "
            "folder", folder.parent, error.strerror or error, CACHE_VARIABLE,
        )  # fmt: skip
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
            try:
                make(Path(temporary))
            except OSError as second:
                raise ValueError(
                    f"graphs cannot be written to {temporary} either ({second.strerror or second}):"
                    f" make room, or name a folder by {CACHE_VARIABLE}"
                ) from second
            yield Path(temporary)
        return
    yield folder


def _provide(folder: Path, make: Callable[[Path], object]) -> None:
    """Make ``folder`` whole. Raises OSError where it cannot be written."""
    if folder.exists():
        try:
            read_description(folder)
            return
        except (ValueError, FileNotFoundError) as error:
            logger.warning("graphs in the cache are damaged, and are made anew: %s", error)
            shutil.rmtree(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder.parent)
    logger.info("making graphs in %s, once for these weights", folder)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        make(temporary)
        with contextlib.suppress(OSError):  # another process was first
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    if not folder.exists():
        raise OSError(f"cannot create {folder}")


def _remove_abandoned(cache: Path) -> None:
    """Remove what processes that were killed had begun; what is young may be under way."""
    for folder in cache.glob(".*.*"):
        with contextlib.suppress(OSError):  # another process removes it, or it is somebody else's
            newest = max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
            if time.time() - newest > ABANDONED:
                shutil.rmtree(folder, ignore_errors=True)
