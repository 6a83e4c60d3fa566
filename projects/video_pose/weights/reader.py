"""Read a state dict of a PyTorch file, executing nothing that the file holds."""

from __future__ import annotations

import pickle
from pathlib import Path

import torch
from torch import Tensor

_PREFIX = "module."


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint.

    Args:
        path: written by ``torch.save``: a dict of tensors, or one under the key ``state_dict``;
            names with or without the prefix ``module.`` of DataParallel.

    Returns:
        {name without the prefix: tensor on the CPU}.

    Raises:
        FileNotFoundError: no such file.
        ValueError: truncated, of another kind, or it holds objects other than plain data; names
            file, expectation and finding.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "it ends too early"
        raise ValueError(
            f"{path}: expected a PyTorch checkpoint of plain tensors, found {path.stat().st_size} "
            f"bytes that cannot be read safely (truncated, or another kind of file): {reason}"
        ) from error
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a state dict, found {type(content).__name__}")
    tensors = {
        name.removeprefix(_PREFIX): value
        for name, value in content.items()
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    if not tensors:
        raise ValueError(
            f"{path}: expected a state dict, found no tensors under {list(content)[:5]}"
        )
    return tensors
