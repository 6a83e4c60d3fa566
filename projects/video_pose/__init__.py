"""Human pose on video for Detectron2: datasets, clips, recurrent models, evaluation.

Importing the package registers the built-in datasets, without reading a file, and runs the Python
files named by the environment variable VIDEO_POSE_PLUGINS, in which users register their own
datasets, models, metrics, trackers and writers.
"""

from __future__ import annotations

import logging
import warnings
from importlib.metadata import entry_points
from typing import Any

# Detectron2 and fvcore call torch.jit.script while they are imported, and recent PyTorch warns of
# each call. The filter stands before their first import, hence before the imports below; programs
# import this package before Detectron2.
warnings.filterwarnings(
    "ignore", message=r"`torch\.jit\.script` is deprecated", category=FutureWarning
)
# Its region pooling asks whether it is being traced, by a name that recent PyTorch has renamed; of
# that, too, users of this project need not hear.
logging.getLogger("torch.fx._symbolic_trace").addFilter(
    lambda record: "is_fx_tracing will return true" not in str(record.msg)
)

from video_pose.config import add_video_pose_config  # noqa: E402
from video_pose.data.datasets.builtin import register_builtin  # noqa: E402
from video_pose.plugins import run_plugins  # noqa: E402

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
run_plugins()
