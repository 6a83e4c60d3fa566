"""Where datasets lie on disk, and the error for what is not there."""

from __future__ import annotations

import os

ROOT_VARIABLE = "DETECTRON2_DATASETS"


def datasets_root() -> str:
    """The folder of all datasets: $DETECTRON2_DATASETS, or ``datasets``; read on every call."""
    return os.path.expanduser(os.environ.get(ROOT_VARIABLE, "datasets"))


def require_path(path: str, tree: str) -> str:
    """``path`` itself, where it exists.

    Args:
        path: a file or folder that a loader needs.
        tree: what the dataset's folder should look like, for the error.

    Raises:
        FileNotFoundError: with the path, the variable that sets the root and the expected tree.
    """
    if not os.path.exists(path):
        raise missing(path, tree)
    return path


def missing(path: str, tree: str) -> FileNotFoundError:
    """The error that says what was looked for, which variable leads there, what should be there."""
    value = os.environ.get(ROOT_VARIABLE)
    setting = f"{value!r}" if value is not None else "not set (the default is 'datasets')"
    return FileNotFoundError(
        f"{path} does not exist. Datasets are looked for under ${ROOT_VARIABLE}, which is "
        f"{setting}. Expected:\n{tree}"
    )
