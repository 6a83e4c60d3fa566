"""Checkpoints that survive a kill, start video from image models, and match joints by name."""

from __future__ import annotations

import logging
import os
from itertools import product
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from safetensors import safe_open
from torch import Tensor, nn

from video_pose.files import replacing_file, write_text

logger = logging.getLogger(__name__)

# Where the backbone's tensors lie in a file of the backbone alone, in a pose model and in an FPN.
_BACKBONE_PREFIXES = ("", "backbone.", "backbone.bottom_up.")


class PoseCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, and beyond it:

    * reads ``.safetensors`` (joint names comma-separated in the file's metadata, as "joints");
    * writes to a temporary file first, so that a kill never leaves half a checkpoint;
    * records the model's joints, and on loading moves the channels of joints that both models have
      to their new places; channels of other joints keep their initial values;
    * the backbone of a file with another layout, or of nothing else, is loaded into the backbone;
    * refuses a file of which no tensor fits, or whose background map is another channel, and says
      which file is missing.

    Attributes:
        complete: accept only checkpoints that fill a pose model wholly, for what continues or
            scores a trained model; a start from other weights may fill a part.
    """

    complete = False

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As Detectron2's. Raises FileNotFoundError for a local file that is not there."""
        if path and "://" not in path and not os.path.isfile(path.split("?")[0]):
            raise FileNotFoundError(
                f"checkpoint {path!r} (MODEL.WEIGHTS, or last_checkpoint of OUTPUT_DIR with "
                f"--resume) does not exist; working directory: {os.getcwd()}"
            )
        return super().load(path, *args, **kwargs)

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``name``.pth with the model, the checkpointables, the joints and ``kwargs``."""
        if not self.save_dir or not self.save_to_disk:
            return
        data: dict[str, Any] = {"model": kwargs.pop("model", None) or self.model.state_dict()}
        data.update({key: item.state_dict() for key, item in self.checkpointables.items()})
        if hasattr(self.model, "joint_names"):
            data["joints"] = list(self.model.joint_names)
        if hasattr(self.model, "codec"):
            data["background"] = self.model.codec.background
        data.update(kwargs)
        path = os.path.join(self.save_dir, f"{name}.pth")
        self.logger.info("Saving checkpoint to %s", path)
        with replacing_file(path) as file:
            torch.save(data, file)
        self.tag_last_checkpoint(os.path.basename(path))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the checkpoint that a resumed run starts from, in one step as well."""
        path = os.path.join(self.save_dir, "last_checkpoint")
        write_text(path, last_filename_basename)

    def _load_file(self, filename: str) -> dict[str, Any]:
        if not filename.endswith(".safetensors"):
            return super()._load_file(filename)
        with safe_open(filename, framework="pt") as file:
            metadata = file.metadata() or {}
            loaded: dict[str, Any] = {"model": {key: file.get_tensor(key) for key in file.keys()}}
        if metadata.get("joints"):
            loaded["joints"] = metadata["joints"].split(",")
        if metadata.get("background"):
            loaded["background"] = metadata["background"]
        return loaded

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        own = self.model.state_dict()
        other = [
            k for k, v in checkpoint["model"].items() if not isinstance(v, Tensor | np.ndarray)
        ]
        if other:
            raise ValueError(
                f"the checkpoint holds {other[:5]}, which are no tensors; for other code's "
                "weights see tools/convert_weights.py"
            )
        tensors = _prefixed({k: torch.as_tensor(v) for k, v in checkpoint["model"].items()}, own)
        fits = any(key in own and own[key].shape == value.shape for key, value in tensors.items())
        if not fits and not checkpoint.get("matching_heuristics"):
            raise ValueError(
                f"no tensor of the checkpoint fits the model: it has {list(tensors)[:3]}..., "
                f"the model wants {list(own)[:3]}..."
            )
        self._require_background(checkpoint.get("background"))
        joints = checkpoint.get("joints")
        if joints and joints != getattr(self.model, "joint_names", joints):
            tensors = carry_over_joints(self.model, tensors, joints)
            self.logger.info(
                "Joints carried over by name: %s of %s",
                [j for j in self.model.joint_names if j in joints],
                self.model.joint_names,
            )
        checkpoint["model"] = tensors
        incompatible = super()._load_model(checkpoint)
        if self.complete and hasattr(self.model, "joint_names"):
            self._require_complete(incompatible, joints)
        return incompatible

    def _require_complete(self, incompatible: Any, joints: list[str] | None) -> None:
        absent = [name for name in self.model.joint_names if joints and name not in joints]
        if absent:
            raise ValueError(f"the checkpoint has joints {joints}; it lacks the model's {absent}")
        misfit = misfits(incompatible)
        if misfit:
            raise ValueError(
                f"the checkpoint does not fit the configured model in {len(misfit)} tensors, "
                f"such as {misfit[:3]}"
            )

    def _require_background(self, stored: str | None) -> None:
        codec = getattr(self.model, "codec", None)
        if stored and codec is not None and stored != codec.background:
            raise ValueError(
                f"the checkpoint's background map is {stored!r}, the model's "
                f"(MODEL.POSE.HEATMAP.BACKGROUND) {codec.background!r}: every channel would shift"
            )


def misfits(incompatible: Any) -> list[str]:
    """Tensors of the model that a checkpoint lacks or has in another shape, of fvcore's result."""
    wrong = [*incompatible.missing_keys, *(key for key, *_ in incompatible.incorrect_shapes)]
    return list(dict.fromkeys(wrong))


def load_model(cfg: CfgNode, *, resume: bool = False, untrained: bool = False) -> nn.Module:
    """The trained model of a configuration, to be tested.

    Args:
        resume: see `load_for_evaluation`.
        untrained: where no weights are named, say so and go on with random ones.

    Raises:
        as `load_for_evaluation`.
    """
    model = build_model(cfg)
    if untrained and not cfg.MODEL.WEIGHTS:
        logger.warning("MODEL.WEIGHTS is empty: %s is untrained", cfg.MODEL.META_ARCHITECTURE)
    else:
        load_for_evaluation(model, cfg, resume=resume)
    return model.eval()


def load_for_evaluation(model: nn.Module, cfg: CfgNode, *, resume: bool) -> None:
    """Load the weights to score: MODEL.WEIGHTS, or with ``resume`` the run's last checkpoint.

    A checkpoint within a run holds the weights in training and their average; the average counts.

    Raises:
        ValueError: no weights are named, or a pose model's checkpoint does not fit in every tensor
            and every joint: a table of partly random weights means nothing.
    """
    checkpointer = _EvaluationCheckpointer(model, save_dir=cfg.OUTPUT_DIR)
    if not (resume and checkpointer.has_checkpoint()) and not cfg.MODEL.WEIGHTS:
        raise ValueError("--eval-only needs MODEL.WEIGHTS, or --resume and a run in OUTPUT_DIR")
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)


class _EvaluationCheckpointer(PoseCheckpointer):
    """Takes the averaged weights of a checkpoint where there are any."""

    complete = True

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        average = checkpoint.pop("average", None)
        if average:
            checkpoint["model"] = dict(average["average"])
        return super()._load_model(checkpoint)


def _prefixed(tensors: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """``tensors`` with the backbone's moved to the prefix under which most are in ``own``."""

    def moved(key: str, old: str, new: str) -> str:
        key = key.removeprefix("module.")
        return new + key.removeprefix(old) if key.startswith(old) else key

    moves = list(product(_BACKBONE_PREFIXES, repeat=2))  # the first one changes nothing
    old, new = max(moves, key=lambda move: sum(moved(key, *move) in own for key in tensors))
    return {moved(key, old, new): value for key, value in tensors.items()}


def carry_over_joints(
    model: nn.Module, tensors: dict[str, Tensor], joints: list[str]
) -> dict[str, Tensor]:
    """Rearrange the joints' channels of a checkpoint for a model with other joints.

    Args:
        model: a ``VideoPoseNet``; its ``channel_labels`` says which channels belong to which joint.
        tensors: of the checkpoint, by name. joints: the checkpoint's joints.

    Returns:
        A dict as ``tensors``; of the affected ones, the model's own values with the channels of the
        shared labels replaced.
    """
    old_labels = model.channel_labels(joints)
    new_labels = model.channel_labels(model.joint_names)
    own, out = model.state_dict(), dict(tensors)
    for name, dims in new_labels.items():
        if name not in tensors or name not in own:
            continue
        merged, source = own[name].detach().clone().cpu(), tensors[name].to(own[name].dtype)
        if merged.shape[2:] != source.shape[2:]:  # other kernels: reported as incompatible
            continue
        old_index: list[Any] = [slice(None)] * merged.dim()
        new_index: list[Any] = [slice(None)] * merged.dim()
        for dim, labels in dims.items():
            old = old_labels[name][dim]
            if len(old) != source.shape[dim]:
                raise ValueError(
                    f"checkpoint tensor {name} has {source.shape[dim]} channels in dimension "
                    f"{dim}, but its joints {joints} make {len(old)}"
                )
            shared = [label for label in labels if label in old]
            old_index[dim] = torch.tensor([old.index(label) for label in shared]).long()
            new_index[dim] = torch.tensor([labels.index(label) for label in shared]).long()
        if len(dims) == 2:  # both index lists at once: rows x columns
            for index in (old_index, new_index):
                index[0], index[1] = index[0][:, None], index[1][None, :]
        merged[tuple(new_index)] = source[tuple(old_index)]
        out[name] = merged
    return out
