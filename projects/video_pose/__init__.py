"""Human pose on video for Detectron2: datasets, clips, recurrent models, evaluation.

Importing the package registers the built-in datasets, without reading a file.
"""

from __future__ import annotations

from importlib.metadata import entry_points

from video_pose.config import add_video_pose_config
from video_pose.data.datasets.builtin import register_builtin

__all__ = ["add_video_pose_config", "load_models"]

MODEL_GROUP = "video_pose.models"


def load_models() -> dict[str, object]:
    """Import the packages that register models, found by their entry points.

    A function rather than an import: those packages import this one.

    Returns:
        Entry point name -> the loaded module, whose ``add_config(cfg)`` adds its keys. Empty where
        no package with such an entry point is installed.
    """
    return {point.name: point.load() for point in entry_points(group=MODEL_GROUP)}


register_builtin()
