"""The skeleton of a COCO-style JSON file, from the names and links of its keypoint category."""

from __future__ import annotations

from typing import Any

from video_pose.data.datasets.builtin_meta import (
    BELLY_FORMULA,
    NECK_FORMULA,
    JointSet,
    connect,
)

# Joints of our other skeletons, each by the first formula whose sources exist. COCO has no head:
# its nose is nearest to JHMDB's centre of the face. PoseTrack's head_bottom is the upper neck.
_FORMULAS = (
    ("head", {"x": {"nose": 1.0}, "y": {"nose": 1.0}}),
    ("neck", {"x": {"head_bottom": 1.0}, "y": {"head_bottom": 1.0}}),
    ("neck", NECK_FORMULA),
    (
        "neck",
        {axis: {"left_shoulder": 0.5, "right_shoulder": 0.5} for axis in "xy"},
    ),
    ("belly", BELLY_FORMULA),
)


def infer_joints(content: dict[str, Any], json_file: str) -> JointSet:
    """The skeleton of the JSON's keypoint category.

    Raises:
        ValueError: no category has keypoint names, several differ, a skeleton's link names no
            joint, or a left joint lacks its right one.
    """
    lists = [c for c in content["categories"] if c.get("keypoints")]
    if not lists or any(c["keypoints"] != lists[0]["keypoints"] for c in lists):
        found = [(c.get("name"), c.get("keypoints")) for c in content["categories"]]
        raise ValueError(
            f"{json_file}: expected one list of joint names in categories[].keypoints, "
            f"got {found}. Pass joints=JointSet(names=[...]) to give the names."
        )
    names = list(lists[0]["keypoints"])
    pairs = lists[0].get("skeleton") or []
    if any(not 1 <= index <= len(names) for pair in pairs for index in pair):
        raise ValueError(
            f"{json_file}: categories[].skeleton counts joints from 1 to {len(names)}, got {pairs}."
        )
    links = connect(names, [(names[a - 1], names[b - 1]) for a, b in pairs]) if pairs else []
    segment = ("head_top", "head_bottom")
    return JointSet(
        names=names,
        connections=links,
        derived=derivable(names),
        head_segment=segment if set(segment) <= set(names) else None,
    )


def derivable(names: list[str]) -> dict[str, dict[str, dict[str, float]]]:
    """Formulas of joints that ``names`` lack but allow to compute."""
    formulas: dict[str, dict[str, dict[str, float]]] = {}
    for joint, formula in _FORMULAS:
        known = all(source in names for axis in formula.values() for source in axis)
        if known and joint not in names:
            formulas.setdefault(joint, formula)
    return formulas
