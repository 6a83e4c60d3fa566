"""One import of foreign weights: what went where, what is left over or missing, and the result."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import META_ARCH_REGISTRY
from safetensors.torch import save
from torch import Tensor

from video_pose.config import add_video_pose_config
from video_pose.files import replacing_file

# (file, joint names or None) -> Conversion. A model's package offers its own as ``IMPORTERS``.
Importer = Callable[[Path, Sequence[str] | None], "Conversion"]
_SUFFIX = ".safetensors"


class Conversion:
    """Collects the tensors of one model out of a file.

    Args:
        path: the file that is read. Messages name it.

    Attributes:
        tensors: of the model, by name, float32.
        config: keys of the configuration that these weights need, with their values.
        notes: what could not be carried over exactly, in sentences.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.tensors: dict[str, Tensor] = {}
        self.config: dict[str, Any] = {}
        self.notes: list[str] = []
        self._matched: list[tuple[str, str]] = []
        self._left_over: list[tuple[str, tuple[int, ...], str]] = []
        self._missing: list[str] = []
        self._misfits: list[str] = []

    def put(self, source: str, target: str, value: Tensor) -> None:
        """Take ``value``, called ``source`` in the file, as the model's ``target``.

        Raises:
            ValueError: another copy of ``target`` was taken before, and differs.
        """
        value = value.detach().float().contiguous()
        if target in self.tensors:
            self._check_copy(source, target, value)
        self.tensors[target] = value
        self._matched.append((source, target))

    def _check_copy(self, source: str, target: str, value: Tensor) -> None:
        first = next(name for name, taken in self._matched if taken == target)
        other = self.tensors[target]
        if value.shape == other.shape and torch.equal(value, other):
            return
        found = f"shapes {tuple(other.shape)} and {tuple(value.shape)}"
        if value.shape == other.shape:
            found = f"they differ by up to {float((value - other).abs().max()):.3g}"
        raise ValueError(f"{self.path}: {first} and {source} must be copies of one tensor: {found}")

    def leave(self, source: str, value: Tensor, reason: str = "not part of the model") -> None:
        """Note a tensor, or a part of one, that the model does not take."""
        self._left_over.append((source, tuple(value.shape), reason))

    def complete(self, add_config: Callable[[CfgNode], None]) -> None:
        """Compare with the model that ``config`` describes; call it last.

        Args:
            add_config: adds the model's keys to a configuration.
        """
        expected = expected_shapes(self.config, add_config)
        for name, shape in expected.items():
            if name in self.tensors:
                found = tuple(self.tensors[name].shape)
                if found != shape:
                    self._misfits.append(f"{name}: expected {shape}, found {found}")
            elif not name.endswith("num_batches_tracked"):
                self._missing.append(f"{name} {shape}")
        for name in set(self.tensors) - set(expected):
            self._misfits.append(f"{name}: the model has no such tensor")

    def report(self) -> str:
        """A line per tensor: matched (shape), left over or missing; then the notes."""
        lines = [
            f"matched    {source} -> {target} {tuple(self.tensors[target].shape)}"
            for source, target in self._matched
        ]
        lines += [f"left over  {name} {shape}: {why}" for name, shape, why in self._left_over]
        lines += [f"wrong      {line}" for line in self._misfits]
        lines += [f"missing    {line}" for line in self._missing]
        lines += [f"note       {line}" for line in self.notes]
        lines.append(
            f"{len(self._matched)} matched, {len(self._left_over)} left over, "
            f"{len(self._misfits)} wrong, {len(self._missing)} missing"
        )
        return "\n".join(lines)

    def config_yaml(self) -> str:
        """The keys of ``config`` as YAML, to be put into a configuration file."""
        tree: dict[str, Any] = {}
        for key, value in self.config.items():
            *parents, leaf = key.split(".")
            node = tree
            for parent in parents:
                node = node.setdefault(parent, {})
            node[leaf] = list(value) if isinstance(value, tuple) else value
        return yaml.safe_dump(tree, sort_keys=False, default_flow_style=None)

    def write(self, path: str | Path) -> None:
        """Write the tensors, with joints, background, offsets and ``config`` as metadata.

        The file appears whole or not at all.

        Raises:
            ValueError: a required tensor is missing or of a wrong shape, or ``path`` is not named
                ``.safetensors``.
        """
        path = Path(path)
        if path.suffix != _SUFFIX:
            raise ValueError(f"{path}: the output must be named *{_SUFFIX}")
        wrong = self._missing + self._misfits
        if wrong:
            listed = "; ".join(wrong[:5]) + ("; ..." if len(wrong) > 5 else "")
            raise ValueError(
                f"{self.path}: {len(self._missing)} required tensors are missing and "
                f"{len(self._misfits)} do not fit, nothing is written: {listed}"
            )
        with replacing_file(path) as file:
            file.write(save(self.tensors, metadata=self._metadata()))

    def _metadata(self) -> dict[str, str]:
        heatmap = "MODEL.POSE.HEATMAP"
        return {
            "format": "pt",
            "model": self.config["MODEL.META_ARCHITECTURE"],
            "source": self.path.name,
            "joints": ",".join(self.config["MODEL.POSE.JOINTS"]),
            "background": self.config[f"{heatmap}.BACKGROUND"],
            "encode_offset": str(self.config[f"{heatmap}.ENCODE_OFFSET"]),
            "decode_offset": str(self.config[f"{heatmap}.DECODE_OFFSET"]),
            "config": json.dumps(self.config),
        }


def expected_shapes(
    config: dict[str, Any], add_config: Callable[[CfgNode], None]
) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the state of the model that ``config`` describes, without its memory."""
    cfg = get_cfg()
    add_video_pose_config(cfg)
    add_config(cfg)
    cfg.merge_from_list([item for pair in config.items() for item in pair])
    with torch.device("meta"):
        model = META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE)(cfg)
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}
