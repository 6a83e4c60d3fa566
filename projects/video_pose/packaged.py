"""Weights inside the package, by a name that works wherever it is installed.

``MODEL.WEIGHTS: video-pose://unipose_lstm_R50_res4`` in a config is the file
``video_pose/pretrained/unipose_lstm_R50_res4/model.safetensors``, for everything that opens files
through Detectron2's PathManager, as ``detectron2://`` is for its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler

PREFIX = "video-pose://"
ROOT = Path(__file__).resolve().parent / "pretrained"
_WEIGHTS = "model.safetensors"


class PackagedWeights(PathHandler):
    """Paths that begin with ``video-pose://``: the name of a model, or a file of one."""

    def _get_supported_prefixes(self) -> list[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        """Raises FileNotFoundError, with the names that there are, for another model."""
        name, _, file = path.removeprefix(PREFIX).strip("/").partition("/")
        found = ROOT / name / (file or _WEIGHTS)
        if not name or not found.resolve().is_relative_to(ROOT) or not found.is_file():
            known = sorted(p.parent.name for p in ROOT.glob(f"*/{_WEIGHTS}"))
            raise FileNotFoundError(f"{path}: the package's models are {', '.join(known)}")
        return str(found)

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        try:
            return Path(self._get_local_path(path)).is_file()
        except FileNotFoundError:
            return False

    _exists = _isfile

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        if set(mode) - set("rbt"):
            raise ValueError(f"{path}: the package's files are read only, got mode {mode!r}")
        return open(self._get_local_path(path), mode, buffering=buffering)


def register_packaged_weights() -> None:
    """Let Detectron2's PathManager open such paths; once."""
    PathManager.register_handler(PackagedWeights(), allow_override=True)
