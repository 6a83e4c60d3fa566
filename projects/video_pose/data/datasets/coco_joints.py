"""The skeleton of a COCO-style JSON file, from the names and links of its keypoint category."""

from __future__ import annotations

from typing import Any

from video_pose.skeleton import JointSet, connect


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
        head_segment=segment if set(segment) <= set(names) else None,
    )
