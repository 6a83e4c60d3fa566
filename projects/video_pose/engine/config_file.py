"""Configuration files, read as data: nothing in them is executed, and nothing makes a run hang.

A file is YAML in UTF-8: a mapping of keys, that may name others as ``_BASE_``. Whatever is wrong
with it is one line with the file's name.
"""

from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager

from video_pose.files import read_text
from video_pose.packaged import PREFIX

_BASE = "_BASE_"
# Aliases (&a, *a) let some lines of YAML stand for any number of values; Detectron2's widest
# configuration has some hundred.
_MOST_VALUES = 100_000


def merge_config_file(cfg: CfgNode, path: str) -> None:
    """Merge a YAML file, and the files that it names as ``_BASE_``, in place.

    Raises:
        FileNotFoundError: there is no such file. KeyError: it has a key that does not exist.
        ValueError: it is no mapping of keys in YAML and UTF-8, it has tags or too many aliases, its
            bases lead back to itself, or a value is of another type than the key's.
    """
    _check(path, ())
    with _one_line(path, cfg):
        cfg.merge_from_file(path, allow_unsafe=False)


def merge_options(cfg: CfgNode, options: Sequence[object]) -> None:
    """Merge keys and values in turn, as a command line has them. Raises as `merge_config_file`."""
    if len(options) % 2:
        raise ValueError(f"options {list(map(str, options))}: expected KEY VALUE pairs")
    with _one_line("options", cfg):
        cfg.merge_from_list(list(options))


def find_config(name: str) -> str:
    """The file of a config: a path, or a name in the package or in Detectron2's model zoo.

    Args:
        name: ``configs/UniPose-LSTM/x.yaml`` names the package's own wherever there is no such
            file; ``COCO-Keypoints/x.yaml`` is the zoo's; ``video-pose://NAME`` is that of a model
            inside the package.

    Raises:
        FileNotFoundError: there is none of that name.
    """
    if os.path.isfile(name):
        return name
    if name.startswith(PREFIX):
        file = name if name.endswith(".yaml") else f"{name.rstrip('/')}/config.yaml"
        return str(PathManager.get_local_path(file))
    package = Path(__file__).resolve().parents[1]
    # A wheel carries the configs in the package; a checkout has them beside its sources.
    for root in (package / "configs", package.parents[1] / "configs"):
        path = root / name.removeprefix("configs/")
        if path.is_file():
            return str(path)
    from detectron2 import model_zoo  # pulls in pkg_resources: only where it is wanted

    try:
        return str(model_zoo.get_config_file(name))
    except RuntimeError:
        raise FileNotFoundError(f"config not found: {name}") from None


@contextlib.contextmanager
def _one_line(source: str, cfg: CfgNode) -> Iterator[None]:
    """Turn what yacs raises into an error of one line that names ``source``."""
    try:
        yield
    except (KeyError, AssertionError) as error:
        text = str(error.args[0]) if error.args else "an unknown key"
        if isinstance(error, AssertionError) and "Non-existent key" not in text:
            raise ValueError(f"{source}: {text}") from error
        raise KeyError(f"{source}: {text}{_suggestion(text.rpartition(' ')[2], cfg)}") from error
    except (AttributeError, TypeError, ValueError, SyntaxError, MemoryError) as error:
        raise ValueError(f"{source}: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise ValueError(f"{source}: a value is nested too deeply") from None


def _suggestion(key: str, cfg: CfgNode) -> str:
    known = list(_keys(cfg))
    close = difflib.get_close_matches(key, known, n=1) or difflib.get_close_matches(
        key.rpartition(".")[2], [name.rpartition(".")[2] for name in known], n=1
    )
    return f"; did you mean {close[0]}?" if close else ""


def _keys(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from _keys(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _check(path: str, seen: tuple[str, ...]) -> None:
    """Look at a file and its bases before Detectron2 reads them."""
    if not os.path.isfile(path):
        named = f", named as {_BASE} in {seen[-1]}" if seen else ""
        raise FileNotFoundError(f"config not found: {path}{named}")
    real = os.path.realpath(path)
    if real in seen:
        raise ValueError(f"{path}: its {_BASE} leads back to itself: {' -> '.join([*seen, real])}")
    try:
        content = yaml.safe_load(read_text(path))
        values = _count(content, {})
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: no plain YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise ValueError(f"{path}: it is nested too deeply, or refers to itself") from None
    except (ValueError, OverflowError) as error:  # a date or a number that does not exist
        if str(error).startswith(str(path)):
            raise
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a YAML mapping of keys, found {type(content).__name__}")
    if values > _MOST_VALUES:
        raise ValueError(
            f"{path}: its aliases stand for more than {_MOST_VALUES} values: write them out"
        )
    for base in _bases(path, content.get(_BASE, [])):
        _check(base, (*seen, real))


def _bases(path: str, named: Any) -> Iterable[str]:
    for base in named if isinstance(named, list) else [named]:
        if not isinstance(base, str):
            raise ValueError(f"{path}: {_BASE} must be a file's name, found {base!r}")
        if base.startswith(("http://", "https://")):
            raise ValueError(f"{path}: {_BASE} {base} is on the network: download it first")
        yield os.path.join(os.path.dirname(path), os.path.expanduser(base))


def _count(value: Any, known: dict[int, int]) -> int:
    """The number of values that ``value`` stands for with all its aliases written out."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = _MOST_VALUES + 1  # of one that contains itself
        inner = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_count(one, known) for one in inner)
    return known[id(value)]
