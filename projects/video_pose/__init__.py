"""Human pose on video for Detectron2: datasets, clips, recurrent models, evaluation.

Importing the package registers the built-in datasets, without reading a file, and runs the Python
files named by the environment variable VIDEO_POSE_PLUGINS, in which users register their own
datasets, models, metrics, trackers and writers.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import multiprocessing
import os
import sys
import warnings
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from video_pose.moved import keep_old_paths

if TYPE_CHECKING:
    from video_pose.config import add_video_pose_config

__all__ = ["add_video_pose_config", "load_models", "register"]

# OpenMP's threads wait for each other by spinning, which takes the cores that the others need as
# soon as another process is busy. It is read once, when PyTorch is imported; a user's value stays.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# Detectron2 and fvcore call torch.jit.script while they are imported, and recent PyTorch warns of
# each call. Programs import this package before Detectron2.
warnings.filterwarnings(
    "ignore", message=r"`torch\.jit\.script` is deprecated", category=FutureWarning
)
warnings.filterwarnings("ignore", message="pkg_resources is deprecated", category=UserWarning)
warnings.filterwarnings("ignore", message="torch.meshgrid: in an upcoming", category=UserWarning)
# Its region pooling asks whether it is being traced, by a name that recent PyTorch has changed:
# users need not hear of that either.
logging.getLogger("torch.fx._symbolic_trace").addFilter(
    lambda record: "is_fx_tracing will return true" not in str(record.msg)
)

MODEL_GROUP = "video_pose.models"
_COMPILER = ("torch._dynamo", "torch._dynamo.utils")

NO_DETECTRON2 = (
    "Detectron2 is not installed: `video-pose doctor --install` fetches its Python files from the "
    "package index, or build it: pip install --no-build-isolation "
    "git+https://github.com/facebookresearch/detectron2"
)


def load_models() -> dict[str, Any]:
    """Import the packages that register models, found by their entry points.

    A function rather than an import: those packages import this one.

    Returns:
        Entry point name -> the loaded module, whose ``add_config(cfg)`` adds its keys. Empty where
        no package with such an entry point is installed.
    """
    return {point.name: point.load() for point in entry_points(group=MODEL_GROUP)}


class _Later(ModuleType):
    """A module that is imported when the first of its functions is called."""

    __path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args: Any, **kwargs: Any) -> Any:
            _remove_stand_ins()
            return getattr(importlib.import_module(self.__name__), name)(*args, **kwargs)

        return call


def _remove_stand_ins() -> None:
    for name in _COMPILER:
        if isinstance(sys.modules.get(name), _Later):
            del sys.modules[name]


def _import_torchvision() -> None:
    """Import torchvision without PyTorch's compiler, 110 MB and a fifth of a command's start.

    torchvision takes one function of it, for region pooling in deterministic mode on a GPU. Who
    compiles imports the compiler as ever.
    """
    if "torchvision" in sys.modules or any(name in sys.modules for name in _COMPILER):
        return
    sys.modules.update({name: _Later(name) for name in _COMPILER})
    try:
        importlib.import_module("torchvision")
    finally:
        _remove_stand_ins()


_registered = False


def register() -> None:
    """Register the built-in datasets and the package's weights, and run the user's plugins; once.

    No file of a dataset is read.

    Raises:
        ImportError: Detectron2 is not installed; the text says how to get it.
        FileNotFoundError: see `plugins.plugin_files`. What is wrong inside such a file is raised
            with the file's own traceback.
    """
    global _registered
    if _registered:
        return
    if importlib.util.find_spec("detectron2") is None:
        raise ImportError(NO_DETECTRON2)
    _import_torchvision()
    _registered = True  # before the plugins: they import this package's modules
    from video_pose.data.datasets.builtin import register_builtin
    from video_pose.packaged import register_packaged_weights
    from video_pose.plugins import run_plugins

    register_packaged_weights()
    register_builtin()
    run_plugins()


def _is_command() -> bool:
    """Whether this process is one of the project's commands, which registers by itself, after it
    has read its arguments: nobody waits seconds for PyTorch to see ``--help``.

    These are ``video-pose``, ``python -m video_pose``, and scripts that say so by a variable
    ``REGISTERS_ITSELF``. The processes that a command starts are not.
    """
    if multiprocessing.parent_process() is not None:
        return False
    script = Path(sys.argv[0]).name if sys.argv else ""
    is_module = any(pair == ("-m", "video_pose") for pair in zip(sys.orig_argv, sys.orig_argv[1:]))
    main = sys.modules.get("__main__")
    return is_module or script == "video-pose" or getattr(main, "REGISTERS_ITSELF", False)


def __getattr__(name: str) -> Any:
    if name == "add_video_pose_config":
        from video_pose.config import add_video_pose_config

        return add_video_pose_config
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


keep_old_paths()
if not _is_command():
    register()
