"""Carry joints to a skeleton that the source gives only in part.

A model trained on several datasets has a shared list of joints. What a dataset lacks of it is
v = 0, which carries no loss. Shapes: Ks joints of the source, Kt joints of the target.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .joints import Formula, JointMap, match_joints


@dataclass(frozen=True)
class PartialJointMap:
    """Built by `match_present`.

    Attributes:
        joint_map: to those target joints that the source gives.
        rows: their places among the target joints.
        target_names: all Kt joints.
    """

    joint_map: JointMap
    rows: tuple[int, ...]
    target_names: tuple[str, ...]

    @property
    def is_identity(self) -> bool:
        return self.joint_map.source_names == self.target_names

    def apply(self, keypoints: np.ndarray) -> np.ndarray:
        """(..., Ks, 3) -> a new (..., Kt, 3); absent joints are (0, 0, 0)."""
        out = np.zeros((*keypoints.shape[:-2], len(self.target_names), 3), keypoints.dtype)
        out[..., list(self.rows), :] = self.joint_map.apply(keypoints)
        return out


def match_present(
    source_names: Sequence[str],
    target_names: Sequence[str],
    derived: Mapping[str, Formula] | None = None,
) -> PartialJointMap:
    """As `match_joints`, but target joints that cannot be had stay unlabelled.

    Raises:
        ValueError: the two have no joint in common; both lists are named.
    """
    formulas = derived or {}
    given = set(source_names)
    given |= {
        name
        for name, formula in formulas.items()
        if all(source in given for axis in formula.values() for source in axis)
    }
    rows = tuple(row for row, name in enumerate(target_names) if name in given)
    if not rows:
        raise ValueError(
            f"none of the joints {list(target_names)} is among {list(source_names)}, or can be "
            f"derived from them (derivable: {sorted(formulas)})"
        )
    names = [target_names[row] for row in rows]
    return PartialJointMap(match_joints(source_names, names, formulas), rows, tuple(target_names))
