"""Checkpoints that survive a kill, start video from image models, and match joints by name."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Iterator, Sequence
from itertools import count, product
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.file_io import Detectron2Handler, PathManager
from torch import Tensor, nn

from video_pose.files import naming, read_text, replacing_file, write_text
from video_pose.modeling.rcnn_parts import head_labels
from video_pose.skeleton import spell_as
from video_pose.weights.reader import read_weights, require_finite

logger = logging.getLogger(__name__)

# Where the backbone's tensors lie in a file of the backbone alone, in a pose model and in an FPN.
_BACKBONE_PREFIXES = ("", "backbone.", "backbone.bottom_up.")
# A run's configuration in its folder; the earlier run's, from when a new one is set up there until
# it has read its weights.
CONFIG, EARLIER_CONFIG = "config.yaml", "config.earlier.yaml"
# What a checkpoint must hold for a run to go on as if it had never ended.
_OF_A_RUN = ("optimizer", "scheduler", "trainer")


class PoseCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, and beyond it:

    * reads every kind of file by `video_pose.weights.reader`, which executes nothing of it and
      refuses damaged files and numbers that are not finite;
    * writes to a temporary file first, so that a kill never leaves half a checkpoint, and no
      weights that are not finite;
    * records the model's joints, and on loading moves the channels of joints that both models have
      to their new places; channels of other joints keep their initial values. A file that does not
      say its joints is taken to have the model's, in their order, which is said;
    * the backbone of a file with another layout, or of nothing else, is loaded into the backbone;
    * refuses a file of which no tensor fits, or whose background map is another channel, and says
      which file is missing.

    Attributes:
        joints: of the model; empty where it has none.
        strict: accept only checkpoints that fill a model wholly, for what continues or scores a
            trained model; a start from other weights may fill a part.
    """

    strict = False

    def __init__(
        self, model: nn.Module, save_dir: str = "", *, joints: Sequence[str] = (), **rest: Any
    ) -> None:
        """
        Args:
            joints: in the order of the channels, of a model that does not name them by itself, as
                Detectron2's do not.
            rest: of Detectron2's checkpointer.
        """
        super().__init__(model, save_dir, **rest)
        self.joints: list[str] = list(getattr(self.model, "joint_names", joints))

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """As Detectron2's; weights of an address are fetched, or found in its cache.

        Args:
            checkpointables: those to load; None: all.

        Raises:
            FileNotFoundError: a local file is not there. OSError: an address cannot be reached.
            ValueError: the file is damaged or does not fit; names it.
        """
        if not path:
            self.logger.info("No checkpoint: the model starts from random weights")
            return {}
        address, _, query = path.partition("?")
        if query not in ("", "matching_heuristics=True"):
            raise ValueError(f"MODEL.WEIGHTS {path}: unknown query {query!r}")
        self.logger.info("Loading from %s", path)
        checkpoint = self._load_file(local_file(address))
        if query:
            checkpoint["matching_heuristics"] = True
        wanted = list(self.checkpointables) if checkpointables is None else checkpointables
        return self._take(path, checkpoint, wanted)

    def _take(self, path: str, checkpoint: dict[str, Any], wanted: list[str]) -> dict[str, Any]:
        """Load what was read; returns the rest."""
        try:
            incompatible = self._load_model(checkpoint)
            self._log_incompatible_keys(incompatible)
            for key in wanted:
                if key in checkpoint:
                    self._take_state(path, key, checkpoint.pop(key))
        except (ValueError, KeyError, TypeError, RuntimeError) as error:
            reason = error.args[0] if isinstance(error, KeyError) and error.args else error
            raise ValueError(f"{path}: {' '.join(str(reason).split())}") from error
        return checkpoint

    def _take_state(self, path: str, key: str, state: Any) -> None:
        """Give ``state`` to the checkpointable of that name."""
        item = self.checkpointables[key]
        # What scales losses has no state in a run without float16, and refuses such a one.
        if key == "scaler" and state == {}:
            if item.state_dict():
                self.logger.info("%s was trained without loss scaling, which begins here", path)
            return
        item.load_state_dict(state)

    def save(self, name: str, **kwargs: Any) -> None:
        """Write ``name``.pth with the model, the checkpointables, the joints and ``kwargs``.

        Raises:
            FloatingPointError: a weight is not finite; nothing is written.
            OSError: the file cannot be written; earlier ones are whole.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data: dict[str, Any] = {"model": kwargs.pop("model", None) or self.model.state_dict()}
        path = os.path.join(self.save_dir, f"{name}.pth")
        try:
            require_finite(f"{path} is not written", data["model"])
        except ValueError as error:
            raise FloatingPointError(str(error)) from None
        data.update({key: item.state_dict() for key, item in self.checkpointables.items()})
        if self.joints:
            data["joints"] = list(self.joints)
        if hasattr(self.model, "codec"):
            data["background"] = self.model.codec.background
        data.update(kwargs)
        self.logger.info("Saving checkpoint to %s", path)
        with replacing_file(path) as file:
            torch.save(data, file)
        self.tag_last_checkpoint(os.path.basename(path))

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Name the checkpoint that a resumed run starts from, in one step as well."""
        write_text(os.path.join(self.save_dir, "last_checkpoint"), last_filename_basename)

    def set_aside(self) -> None:
        """Move an earlier run's checkpoints, and its configuration, from the folder to
        ``earlier-N`` in it, and say so: a run that starts anew neither replaces them nor goes back
        to one of them.

        Raises:
            OSError: they cannot be moved.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        folder = Path(self.save_dir)
        found = run_files(folder)
        if not found:
            return
        places = (folder / f"earlier-{number}" for number in count(1))
        place = next(path for path in places if not path.exists())
        with naming(place):
            place.mkdir()
            for path in found:
                path.rename(place / path.name)
            if (folder / EARLIER_CONFIG).is_file():
                (folder / EARLIER_CONFIG).rename(place / CONFIG)
        self.logger.warning(
            "%s held a run, and this one starts anew, without --resume: its checkpoints are in %s",
            folder, place,
        )  # fmt: skip

    def get_checkpoint_file(self) -> str:
        """The file of OUTPUT_DIR that ``last_checkpoint`` names.

        Raises:
            ValueError: it names something else.
        """
        tag = os.path.join(self.save_dir, "last_checkpoint")
        name = read_text(tag).strip()
        if not name or name in (".", "..") or os.path.basename(name) != name or "\0" in name:
            raise ValueError(f"{tag}: expected the name of a file beside it, found {name[:80]!r}")
        return os.path.join(self.save_dir, name)

    def resume(self) -> dict[str, Any]:
        """Load the run's last checkpoint with all that the run needs; the newest good one before
        it, with a warning, where that one is damaged, missing, or of a broken state.

        Raises:
            FileNotFoundError, ValueError: there is no good one; of the last one. ValueError: the
                run has other joints, or in another order.
        """
        last = self.get_checkpoint_file()
        first_error: Exception | None = None
        for path in [last, *self._older_than(last)]:
            try:
                checkpoint = self._load_file(local_file(path))
                self._require_run(path, checkpoint)
            except (FileNotFoundError, ValueError) as error:
                self.logger.warning("Cannot resume from %s: %s", path, error)
                first_error = first_error or error
                continue
            if path != last:
                self.logger.warning("Going back to %s, the newest good checkpoint", path)
            self.logger.info("Resuming from %s", path)
            self._require_joints(path, checkpoint.get("joints"))
            return self._take(path, checkpoint, list(self.checkpointables))
        assert first_error is not None
        raise first_error

    def _require_joints(self, path: str, joints: list[str] | None) -> None:
        """Weights can be moved to other joints' places; what optimizer and average hold stays."""
        if joints and self.joints and spell_as(joints, self.joints) != self.joints:
            raise ValueError(
                f"{path} is of a run with the joints {joints}, and MODEL.POSE.JOINTS is "
                f"{self.joints}: name the run's, or start from its weights without --resume"
            )

    def _older_than(self, last: str) -> list[str]:
        """Other checkpoints of the folder, the newest first."""
        found = [path for path in self.get_all_checkpoint_files() if path != last]
        return sorted(found, key=os.path.getmtime, reverse=True)

    def _require_run(self, path: str, checkpoint: dict[str, Any]) -> None:
        needed = [key for key in _OF_A_RUN if key in self.checkpointables]
        lacking = [key for key in needed if not isinstance(checkpoint.get(key), dict)]
        if lacking:
            raise ValueError(f"{path} holds weights, but no run to go on with: it lacks {lacking}")
        for key in ("optimizer", "average"):
            require_finite(path, dict(_all_tensors(checkpoint.get(key), key)))
        if "scheduler" in self.checkpointables:
            own = self.checkpointables["scheduler"].state_dict()
            for key, value in checkpoint["scheduler"].items():
                is_number = type(value) in (int, float) and math.isfinite(value)
                if type(own.get(key)) in (int, float) and not is_number:
                    raise ValueError(f"{path}: the schedule's {key} is {value!r}, no number")

    def _load_file(self, filename: str) -> dict[str, Any]:
        return read_weights(filename)

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        own = self.model.state_dict()
        tensors = _prefixed(checkpoint["model"], own)
        fits = any(key in own and own[key].shape == value.shape for key, value in tensors.items())
        if not fits and not checkpoint.get("matching_heuristics"):
            raise ValueError(
                f"no tensor of the checkpoint fits the model: it has {list(tensors)[:3]}..., "
                f"the model wants {list(own)[:3]}..."
            )
        for key, value in tensors.items():
            if key in own and own[key].is_floating_point() != value.is_floating_point():
                raise ValueError(f"{key} is of type {value.dtype}, the model's is {own[key].dtype}")
        self._require_background(checkpoint.get("background"))
        joints = checkpoint.get("joints")
        if joints and self.joints:
            joints = spell_as(joints, self.joints)
            if joints != self.joints:
                tensors = carry_over_joints(self.model, tensors, joints, self.joints)
                self.logger.info(
                    "Joints carried over by name: %s of %s",
                    [joint for joint in self.joints if joint in joints],
                    self.joints,
                )
        elif self.joints:
            self._say_joints(tensors, own)
        checkpoint["model"] = tensors
        incompatible = super()._load_model(checkpoint)
        if self.strict:
            self._require_strict(incompatible, joints)
        return incompatible

    def _say_joints(self, tensors: dict[str, Tensor], own: dict[str, Tensor]) -> None:
        """Of a file without names: which joints its channels are taken for, where any fit."""
        labelled = channel_labels(self.model, self.joints)
        if any(key in tensors and tensors[key].shape == own[key].shape for key in labelled):
            self.logger.info(
                "The weights do not say their joints: taken for %s, in this order", self.joints
            )

    def _require_strict(self, incompatible: Any, joints: list[str] | None) -> None:
        absent = [name for name in self.joints if joints and name not in joints]
        if absent:
            raise ValueError(f"the checkpoint has joints {joints}; it lacks the model's {absent}")
        neutral = tuple(getattr(self.model, "neutral_untrained", ()))
        misfit = [name for name in misfits(incompatible) if not name.startswith(neutral)]
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


def run_files(folder: Path) -> list[Path]:
    """The checkpoints of a run in ``folder``, and the file that names the last one."""
    return [*folder.glob("last_checkpoint"), *sorted(folder.glob("model_*.pth"))]


def local_file(address: str) -> str:
    """The file behind MODEL.WEIGHTS: itself, or what was fetched from an address of the network.

    Raises:
        FileNotFoundError: no such file, or the address cannot be reached; says what to do.
    """
    if "://" not in address:
        if not os.path.isfile(address):
            raise FileNotFoundError(
                f"checkpoint {address!r} (MODEL.WEIGHTS, or last_checkpoint of OUTPUT_DIR with "
                f"--resume) does not exist; working directory: {os.getcwd()}"
            )
        return address
    try:
        return str(PathManager.get_local_path(address))
    except (OSError, RuntimeError) as error:
        url = address.replace("detectron2://", Detectron2Handler.S3_DETECTRON2_PREFIX)
        raise FileNotFoundError(
            f"MODEL.WEIGHTS {address}: {url} cannot be fetched ({error}); without a network, "
            "download it elsewhere and name the file, or '' for random weights"
        ) from error


def _all_tensors(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """The tensors inside nested dicts, with dotted names."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _all_tensors(inner, f"{name}.{key}")


def misfits(incompatible: Any) -> list[str]:
    """Tensors of the model that a checkpoint lacks or has in another shape, of fvcore's result.

    A norm's count of batches is none: nothing is computed from it, and frozen norms have it or not.
    """
    wrong = [*incompatible.missing_keys, *(key for key, *_ in incompatible.incorrect_shapes)]
    return [key for key in dict.fromkeys(wrong) if not key.endswith("num_batches_tracked")]


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


def keypoint_joints(cfg: CfgNode) -> list[str]:
    """The joints of an R-CNN's keypoint head, which does not name them; empty without one."""
    node = cfg.MODEL
    return list(node.POSE.JOINTS) if node.get("KEYPOINT_ON") and "POSE" in node else []


def load_for_evaluation(model: nn.Module, cfg: CfgNode, *, resume: bool) -> None:
    """Load the weights to score: MODEL.WEIGHTS, or with ``resume`` the run's last checkpoint.

    A checkpoint within a run holds the weights in training and their average; the average counts.

    Raises:
        ValueError: no weights are named, or the checkpoint does not fit in every tensor and every
            joint: a table of partly random weights means nothing.
    """
    joints = keypoint_joints(cfg)
    checkpointer = _EvaluationCheckpointer(model, save_dir=cfg.OUTPUT_DIR, joints=joints)
    if not (resume and checkpointer.has_checkpoint()) and not cfg.MODEL.WEIGHTS:
        raise ValueError("--eval-only needs MODEL.WEIGHTS, or --resume and a run in OUTPUT_DIR")
    checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)


class _EvaluationCheckpointer(PoseCheckpointer):
    """Takes the averaged weights of a checkpoint where there are any."""

    strict = True

    def _load_file(self, filename: str) -> dict[str, Any]:
        checkpoint = super()._load_file(filename)
        average = checkpoint.pop("average", None)
        if average:
            if not isinstance(average, dict) or not isinstance(average.get("average"), dict):
                raise ValueError(f"{filename}: its average of weights is damaged")
            checkpoint["model"] = dict(average["average"])
            require_finite(filename, checkpoint["model"])
        return checkpoint


def _prefixed(tensors: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """``tensors`` with the backbone's moved to the prefix under which most are in ``own``."""

    def moved(key: str, old: str, new: str) -> str:
        key = key.removeprefix("module.")
        return new + key.removeprefix(old) if key.startswith(old) else key

    moves = list(product(_BACKBONE_PREFIXES, repeat=2))  # the first one changes nothing
    old, new = max(moves, key=lambda move: sum(moved(key, *move) in own for key in tensors))
    return {moved(key, old, new): value for key, value in tensors.items()}


def channel_labels(model: nn.Module, joints: list[str]) -> dict[str, dict[int, list[str]]]:
    """Which channels of which tensors belong to which joint: {tensor: {dimension: labels}}.

    Of a ``VideoPoseNet`` it is the model's own method, else what the keypoint heads in it say.
    """
    if hasattr(model, "channel_labels"):
        return model.channel_labels(joints)
    return head_labels(model, joints)


def carry_over_joints(
    model: nn.Module, tensors: dict[str, Tensor], joints: list[str], own_joints: list[str]
) -> dict[str, Tensor]:
    """Rearrange the joints' channels of a checkpoint for a model with other joints.

    Args:
        model: see `channel_labels`.
        tensors: of the checkpoint, by name. joints: the checkpoint's joints.
        own_joints: the model's.

    Returns:
        A dict as ``tensors``; of the affected ones, the model's own values with the channels of the
        shared labels replaced.
    """
    old_labels = channel_labels(model, joints)
    new_labels = channel_labels(model, own_joints)
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
