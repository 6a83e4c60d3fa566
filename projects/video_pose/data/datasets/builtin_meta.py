"""What `MetadataCatalog` says of a pose dataset: its skeleton's facts and its protocols."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from detectron2.data import MetadataCatalog

from video_pose.skeleton import JOINT_SETS, JointSet

_TORSO = {"right_shoulder", "left_shoulder", "right_hip", "left_hip"}
# Protocols of PCK (the first is the default) and the smallest visibility that counts.
_BOX_FIRST = ["bbox", "torso", "torso_diagonal"]
PCK_FACTS: dict[str, dict[str, Any]] = {
    "penn_action": {"pck_protocols": _BOX_FIRST, "pck_min_visibility": 2},
    "bbc_pose": {"pck_protocols": ["pixels"], "pck_min_visibility": 1},
    "jhmdb": {"pck_protocols": [*_BOX_FIRST, "head"], "pck_min_visibility": 1},
    "lspet": {"pck_protocols": ["torso", "torso_diagonal", "head"], "pck_min_visibility": 1},
    "lsp": {"pck_protocols": ["torso", "torso_diagonal", "head"], "pck_min_visibility": 1},
    "mpii": {"pck_protocols": ["head", "torso", "torso_diagonal"], "pck_min_visibility": 1},
    "coco": {"pck_protocols": _BOX_FIRST, "pck_min_visibility": 1},
    "coco_video": {"pck_protocols": _BOX_FIRST, "pck_min_visibility": 1},
}


def dataset_metadata(kind: str, joints: JointSet, root_hint: str) -> dict[str, Any]:
    """The entries of a dataset's `MetadataCatalog`; ``kind`` is a key of `PCK_FACTS`."""
    facts = dict(PCK_FACTS[kind])
    if not _TORSO <= set(joints.names):
        facts["pck_protocols"] = [p for p in facts["pck_protocols"] if not p.startswith("torso")]
    return {
        "thing_classes": ["person"],
        "evaluator_type": "video_pose",
        "dataset_kind": kind,
        "root_hint": root_hint,
        "keypoint_names": list(joints.names),
        "keypoint_flip_map": list(joints.flip_map),
        "mirror_known": joints.mirror_known,
        "keypoint_connection_rules": list(joints.connections),
        "keypoint_oks_sigmas": list(joints.sigmas),
        "joint_groups": {group: list(names) for group, names in joints.groups.items()},
        "derived_joints": {**joints.derived, **joints.equivalents},
        "head_segment": joints.head_segment,
        "pck_constant_pose": None,
        **facts,
    }


def known_mirror_pairs(dataset_names: Iterable[str]) -> tuple[list[tuple[str, str]], bool]:
    """(left, right) pairs of the datasets' metadata, and whether one says that these are all."""
    facts = [MetadataCatalog.get(name).as_dict() for name in dataset_names]
    pairs = [(left, right) for each in facts for left, right in each.get("keypoint_flip_map", [])]
    declared = any("keypoint_flip_map" in each and each.get("mirror_known", True) for each in facts)
    return list(dict.fromkeys(pairs)), declared


__all__ = ["JOINT_SETS", "JointSet", "PCK_FACTS", "dataset_metadata", "known_mirror_pairs"]
