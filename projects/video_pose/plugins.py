"""Names that a configuration or an option chooses from, and the user's files that add to them.

Importing `video_pose` runs the files that the environment variable VIDEO_POSE_PLUGINS names. Such
a file may register datasets (`video_pose.data`), backbones and meta-architectures (Detectron2's
registries), and entries of the registries below. docs/EXTENDING.md has examples.
"""

from __future__ import annotations

import logging
import os
import runpy
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

logger = logging.getLogger(__name__)

Entry = TypeVar("Entry")
VARIABLE, OLD_VARIABLE = "VIDEO_POSE_PLUGINS", "VIDEO_POSE_DATASETS"


class Registry(Generic[Entry]):
    """Entries by name. fvcore's registry names an entry after its class, and answers an unknown
    name with a table of many lines; here the name is the one that a user writes.

    Usage::

        @TRACKERS.add("nearest")
        class NearestTracker: ...

    Args:
        key: what chooses from it: a configuration key, or an option of the command line.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._entries: dict[str, Entry] = {}

    def add(self, name: str, *, replace: bool = False) -> Callable[[Entry], Entry]:
        """A decorator that registers what follows.

        Raises:
            ValueError: the name is taken, and ``replace`` is not set.
        """

        def register(entry: Entry) -> Entry:
            if name in self._entries and not replace:
                raise ValueError(f"{self.key}: {name!r} is registered already; choose another name")
            self._entries[name] = entry
            return entry

        return register

    def get(self, name: str) -> Entry:
        """The entry. Raises ValueError, with the names that exist, for an unknown one."""
        if name not in self._entries:
            raise ValueError(f"{self.key} {name!r}: choose from {self.names()}")
        return self._entries[name]

    def check(self, name: str) -> str:
        """``name`` itself. Raises as `get`."""
        self.get(name)
        return name

    def names(self) -> list[str]:
        """In the order of registration, the built-in ones first."""
        return list(self._entries)

    def remove(self, name: str) -> None:
        """Take an entry away. Raises as `get`."""
        self.get(name)
        del self._entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())


# The built-in entries are registered by the modules that define them.

# Functions (cfg) that add a model's own keys to the configuration, in place.
CONFIG_KEYS: Registry[Callable[[Any], None]] = Registry("configuration")
# Classes to subclass: `video_pose.engine.views.View`.
VIEWS: Registry[Any] = Registry("INPUT.VIEW")
# (cfg, dataset name) -> a DatasetEvaluator, or None where model or dataset have nothing for it.
EVALUATORS: Registry[Callable[..., Any]] = Registry("TEST.EVALUATORS")
# How far off a joint may be: see `video_pose.evaluation.pck`.
PCK_PROTOCOLS: Registry[Any] = Registry("TEST.PCK.PROTOCOLS")
# Makers of trackers: see `video_pose.inference.trackers`.
TRACKERS: Registry[Any] = Registry("tracker")
# Makers of writers of results: see `video_pose.inference.writers`.
WRITERS: Registry[Any] = Registry("format")
# (cfg, model) -> a `video_pose.modeling.backend.PoseBackend`: see `video_pose.backends.pose`.
BACKENDS: Registry[Any] = Registry("TEST.BACKEND")


def plugin_files() -> list[str]:
    """The files of VIDEO_POSE_PLUGINS, else of VIDEO_POSE_DATASETS, separated as in PATH.

    Raises:
        FileNotFoundError: one of them does not exist.
    """
    name = VARIABLE if os.environ.get(VARIABLE) else OLD_VARIABLE
    paths = [path for path in os.environ.get(name, "").split(os.pathsep) if path]
    for path in paths:
        if not os.path.isfile(path):
            raise FileNotFoundError(f"{name} names {path!r}, which is no file")
    return paths


def run_plugins() -> None:
    """Run the user's files; an error in one ends the import, with the file's own traceback."""
    for path in plugin_files():
        runpy.run_path(path)
