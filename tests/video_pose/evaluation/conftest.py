"""A registered dataset of two people and known poses."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

JOINTS = [
    "head", "left_shoulder", "right_shoulder", "left_hip", "right_hip", "left_wrist", "right_wrist"
]  # fmt: skip
GROUPS = {
    "head": ["head"],
    "shoulder": ["left_shoulder", "right_shoulder"],
    "hip": ["left_hip", "right_hip"],
    "wrist": ["left_wrist", "right_wrist"],
}
# In a box of 100 x 100: torso 40.
POSE = [(50, 10), (65, 30), (35, 30), (60, 70), (40, 70), (90, 50), (10, 50)]


@pytest.fixture
def joints() -> list[str]:
    return list(JOINTS)


@pytest.fixture
def make_track() -> Callable[..., dict]:
    return _make_track


def _make_track(video: str, track: str, frames: int, left: float = 0.0) -> dict:
    """The same pose in a box (left, 0, left + 100, 100) in each frame, all joints visible."""
    keypoints = np.zeros((frames, len(JOINTS), 3), np.float32)
    keypoints[..., :2] = np.array(POSE) + [left, 0]
    keypoints[..., 2] = 2
    return {
        "video_id": video,
        "track_id": track,
        "height": 120,
        "width": 320,
        "keypoints": keypoints,
        "boxes": np.tile(np.array([left, 0, left + 100, 100], np.float32), (frames, 1)),
        "labelled": np.ones(frames, bool),
    }


@pytest.fixture
def register(register: Callable[..., str]) -> Callable[..., str]:
    """register(name, tracks, **metadata): of the skeleton above, where metadata says no other."""
    facts = {
        "keypoint_names": JOINTS,
        "keypoint_flip_map": [
            (f"left_{part}", f"right_{part}") for part in ("shoulder", "hip", "wrist")
        ],
        "joint_groups": GROUPS,
        "derived_joints": {},
        "head_segment": None,
        "pck_protocols": ["bbox", "torso"],
        "pck_min_visibility": 1,
    }

    def add(name: str, tracks: list[dict], **metadata: object) -> str:
        return register(name, tracks, **{**facts, **metadata})

    return add
