"""Import paths of earlier versions, which plugin files and scripts of users may still name.

An old path gives the names of its new home, with one warning. Paths whose content is gone are not
here. Nothing in the project itself imports by an old path.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Old path -> the modules that have its names now. Paths below video_pose unless they say otherwise.
_MOVED = {
    "backends.parity": "backends.graphs",
    "cli.install_detectron2": "cli.doctor",
    "cli.workers": "cli.batch",
    "data.dataset_mapper": "data.clip_mapper",
    "data.datasets.builtin_meta": "data.records skeleton",
    "data.datasets.coco_joints": "skeleton",
    "data.datasets.holdout": "data.datasets.jhmdb",
    "data.datasets.lspet": "data.datasets.photos",
    "data.datasets.roots": "data.datasets.tracks",
    "data.describe": "report.dataset",
    "data.frame_masks": "data.frames_mapper",
    "data.frames_build": "data.frames",
    "data.image_tracks": "data.frames",
    "data.joints": "skeleton",
    "data.mapper_config": "data.clip_mapper",
    "data.regions": "data.cropping",
    "data.samplers": "data.build",
    "data.video_file": "data.frame_reader",
    "data.worker_batch": "data.build",
    "engine.allocator": "engine.launch",
    "engine.config_file": "engine.defaults",
    "engine.optimizer": "engine.trainer",
    "engine.precision": "modeling.precision",
    "evaluation.breakdown": "evaluation.report",
    "evaluation.coco_json": "evaluation.coco",
    "evaluation.constant_pose": "evaluation.mean_pose",
    "evaluation.frames_adapter": "evaluation.coco",
    "evaluation.frames_pck": "evaluation.pck_evaluator",
    "evaluation.ground_truth": "evaluation.predictions",
    "evaluation.image_coco": "evaluation.coco",
    "evaluation.partly_labelled": "evaluation.coco",
    "evaluation.pck_accumulator": "evaluation.pck",
    "evaluation.predicted_pose": "evaluation.pck_evaluator",
    "evaluation.predictions_file": "evaluation.predictions",
    "evaluation.speed": "evaluation.report",
    "inference.backend": "modeling.backend",
    "inference.building": "inference.predictor",
    "inference.container_size": "video_io.reading",
    "inference.crops": "inference.streaming data.cropping",
    "inference.cuts": "inference.streaming",
    "inference.export": "backends.graphs",
    "inference.overlay": "visualization.overlay",
    "inference.parity": "backends.graphs",
    "inference.person_rows": "inference.streaming",
    "inference.pretrained": "packaged",
    "inference.read_ahead": "inference.video_source",
    "inference.shipped": "packaged",
    "inference.video_writer": "video_io.writing",
    "modeling.alignment": "modeling.states",
    "modeling.backbones": "modeling.layers modeling.rcnn_parts",
    "modeling.center_map": "modeling.heatmaps",
    "modeling.compiled": "modeling.fast_path",
    "modeling.conv_lstm": "modeling.layers",
    "modeling.fold_norms": "modeling.layers",
    "modeling.frozen_norm_conv": "modeling.layers",
    "modeling.heatmap_head": "modeling.layers",
    "modeling.ignored_regions": "modeling.rcnn_parts",
    "modeling.losses": "modeling.heatmaps",
    "modeling.outside_joints": "modeling.heatmaps",
    "modeling.postprocess": "modeling.heatmaps skeleton",
    "modeling.region_modules": "modeling.rcnn_parts",
    "modeling.roi_heads": "modeling.rcnn_parts",
    "modeling.roi_keypoint_flip": "modeling.rcnn_parts",
    "modeling.roi_keypoint_head": "modeling.rcnn_parts",
    "modeling.roi_mask_head": "modeling.rcnn_parts",
    "modeling.rows": "modeling.states",
    "modeling.short_fpn": "modeling.rcnn_parts",
    "modeling.track_states": "modeling.states",
    "video_io.container_size": "video_io.reading",
    "visualization.dataset_sheet": "report.dataset",
    "visualization.overlay_video": "visualization.poses",
    "visualization.people": "visualization.overlay",
    "visualization.pictures": "visualization.poses video_io.writing",
    "visualization.window": "visualization.overlay",
    "weights.caffemodel": "weights.reader",
    "weights.torch_file": "weights.reader",
}
MOVED = {
    f"video_pose.{old}": tuple(f"video_pose.{name}" for name in new.split())
    for old, new in _MOVED.items()
} | {
    "lstm_pose_machines.cpm_encoder": ("lstm_pose_machines.lstm_pose_machine",),
    "unipose_lstm.decoder": ("unipose_lstm.unipose",),
    "unipose_lstm.wasp": ("unipose_lstm.unipose",),
}


class _OldModule(ModuleType):
    """Looks for every name in the new homes, so that importing it imports nothing else."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        for home in MOVED[self.__name__]:
            module = importlib.import_module(home)
            if hasattr(module, name):
                return getattr(module, name)
        homes = " or ".join(MOVED[self.__name__])
        raise AttributeError(f"{self.__name__} is now {homes}, which has no {name!r}")


class _OldPaths(MetaPathFinder, Loader):
    """Finds the modules of `MOVED`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _OldModule(spec.name, f"Now {' and '.join(MOVED[spec.name])}.")

    def exec_module(self, module: ModuleType) -> None:
        homes = " and ".join(MOVED[module.__name__])
        warnings.warn(f"{module.__name__} is now {homes}", DeprecationWarning, stacklevel=2)


def keep_old_paths() -> None:
    """Let old paths be found, after everything that is really there."""
    if not any(isinstance(finder, _OldPaths) for finder in sys.meta_path):
        sys.meta_path.append(_OldPaths())
