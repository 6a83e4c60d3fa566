"""Carry joints from one skeleton to another, by name.

Shapes: Ks joints of the source, Kt joints of the target; any leading axes are kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch

# {"x": {source joint: weight}, "y": {source joint: weight}}
Formula = Mapping[str, Mapping[str, float]]
Keypoints = TypeVar("Keypoints", np.ndarray, torch.Tensor)


@dataclass(frozen=True)
class DerivedJoint:
    """One computed joint: its row in the target and the weights of source columns, per axis."""

    target: int
    x: tuple[tuple[int, float], ...]
    y: tuple[tuple[int, float], ...]

    @property
    def sources(self) -> list[int]:
        """Columns that must all be labelled for the joint to exist."""
        return sorted({index for index, _ in self.x + self.y})


@dataclass(frozen=True)
class JointMap:
    """How each target joint is had from the source joints; built by `match_joints`.

    Attributes:
        source_names, target_names: the two skeletons, in order.
        index: per target joint the source column to copy (for a derived joint: any of its sources).
        derived: the target joints that are computed.
    """

    source_names: tuple[str, ...]
    target_names: tuple[str, ...]
    index: tuple[int, ...]
    derived: tuple[DerivedJoint, ...]

    @property
    def is_identity(self) -> bool:
        return self.source_names == self.target_names

    def apply(self, keypoints: Keypoints) -> Keypoints:
        """Reorder and derive joints.

        Args:
            keypoints: (..., Ks, 3) array or tensor of (x, y, v), v a visibility or a score.

        Returns:
            A new (..., Kt, 3). A derived joint has the least v of its sources where all of them are
            above 0, and is (0, 0, 0) where one is not: then its formula means nothing.

        Raises:
            ValueError: the last two axes are not (Ks, 3).
        """
        expected = (len(self.source_names), 3)
        if tuple(keypoints.shape[-2:]) != expected:
            raise ValueError(
                f"Keypoints of shape {tuple(keypoints.shape)} do not end in {expected}, "
                f"the joints {list(self.source_names)}."
            )
        out = keypoints[..., list(self.index), :]
        for joint in self.derived:
            v = keypoints[..., joint.sources[0], 2]
            for source in joint.sources[1:]:
                other = keypoints[..., source, 2]
                v = v * (v <= other) + other * (other < v)
            v = v * (v > 0)
            out[..., joint.target, 0] = _weighted(keypoints[..., 0], joint.x) * (v > 0)
            out[..., joint.target, 1] = _weighted(keypoints[..., 1], joint.y) * (v > 0)
            out[..., joint.target, 2] = v
        return out


def match_joints(
    source_names: Sequence[str],
    target_names: Sequence[str],
    derived: Mapping[str, Formula] | None = None,
) -> JointMap:
    """Find every target joint among the source joints: by the same name, else by a formula.

    Args:
        source_names: joints that exist, in the order of the arrays to convert.
        target_names: joints that are wanted, in order.
        derived: formulas by name of the derived joint (a dataset's ``derived_joints``).

    Raises:
        KeyError: a target joint is neither a source joint nor derivable; both lists are named.
    """
    derived = derived or {}
    source = {name: i for i, name in enumerate(source_names)}
    usable = {
        name: formula
        for name, formula in derived.items()
        if name not in source and all(s in source for axis in "xy" for s in formula[axis])
    }
    missing = [name for name in target_names if name not in source and name not in usable]
    if missing:
        raise KeyError(
            f"Joints {missing} cannot be had from the source skeleton. "
            f"Source joints: {list(source_names)}; derivable from them: {sorted(usable)}; "
            f"target joints: {list(target_names)}."
        )
    index: list[int] = []
    computed: list[DerivedJoint] = []
    for row, name in enumerate(target_names):
        if name in source:
            index.append(source[name])
            continue
        axes = [tuple((source[s], w) for s, w in usable[name][axis].items()) for axis in "xy"]
        computed.append(DerivedJoint(target=row, x=axes[0], y=axes[1]))
        index.append(axes[0][0][0])
    return JointMap(tuple(source_names), tuple(target_names), tuple(index), tuple(computed))


def _weighted(values: Keypoints, weights: tuple[tuple[int, float], ...]) -> Keypoints:
    total = values[..., weights[0][0]] * weights[0][1]
    for index, weight in weights[1:]:
        total = total + values[..., index] * weight
    return total
