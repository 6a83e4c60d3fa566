"""Human pose on video for Detectron2: datasets, clips, recurrent models, evaluation.

Importing the package registers the built-in datasets, without reading a file.
"""

from __future__ import annotations

import warnings
from importlib.metadata import entry_points
from typing import Any

# Detectron2 and fvcore call torch.jit.script while they are imported, and recent PyTorch warns of
# each call. The filter stands before their first import, hence before the imports below; programs
# import this package before Detectron2.
warnings.filterwarnings(
    "ignore", message=r"`torch\.jit\.script` is deprecated", category=FutureWarning
)

from video_pose.config import add_video_pose_config  # noqa: E402
from video_pose.data.datasets.builtin import register_builtin  # noqa: E402

__all__ = ["add_video_pose_config", "load_models"]

MODEL_GROUP = "video_pose.models"


def load_models() -> dict[str, Any]:
    """Import the packages that register models, found by their entry points.

    A function rather than an import: those packages import this one.

    Returns:
        Entry point name -> the loaded module, whose ``add_config(cfg)`` adds its keys. Empty where
        no package with such an entry point is installed.
    """
    return {point.name: point.load() for point in entry_points(group=MODEL_GROUP)}


register_builtin()
