"""Synthetic signers in the files of BBC Pose, with the surprises of the real ones.

``bbcpose.mat`` (a struct array, one entry per video) and directories ``1``, ``2``, ... of
``N.jpg``, N the frame number, with gaps. The person is seen from the waist up.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .files import write_image, write_mat
from .plan import VideoPlan
from .scene import render_scene
from .skeleton import JOINTS

JOINT_ORDER = (
    "head right_wrist left_wrist right_elbow left_elbow right_shoulder left_shoulder".split()
)
_FIELDS = (
    "videoName",
    "type",
    "source",
    "train_frames",
    "train_joints",
    "test_frames",
    "test_joints",
)


@dataclass(frozen=True)
class BBCEntry:
    """One entry of ``bbcpose.mat``: annotated frame numbers (M,) and 1-based joints (2, 7, M)."""

    name: str
    part: str
    frames: np.ndarray
    joints: np.ndarray


def write_video(root: Path, plan: VideoPlan) -> BBCEntry:
    """Render a video, write its frames, return its entry."""
    arguments = {**plan.scene_arguments(), "action": None}
    scene = render_scene(plan.seed, framing="bust", **arguments)
    rng = np.random.default_rng((*plan.seed, 1))
    # Frame numbers start anywhere and have gaps.
    numbers = rng.integers(1, 500) + np.cumsum(rng.choice([1, 1, 1, 1, 1, 1, 1, 3], plan.frames))
    name = str(plan.index + 1)
    for number, picture in zip(numbers, scene.frames):
        write_image(root / name / f"{number}.jpg", picture)
    annotated = np.ones(plan.frames, bool)
    if plan.part != "train":
        # The manual labels cover a part of a validation or test video only.
        annotated = np.arange(plan.frames) % 3 == 2
    elif plan.index % 4 == 1:
        annotated = rng.uniform(size=plan.frames) < 0.7
    annotated |= ~annotated.any()
    order = [JOINTS.index(joint) for joint in JOINT_ORDER]
    joints = scene.people[0].joints[annotated][:, order] + 0.5
    return BBCEntry(name, plan.part, numbers[annotated], joints.transpose(2, 1, 0))


def finish(root: Path, entries: list[BBCEntry]) -> None:
    """Write ``bbcpose.mat``."""
    table = np.empty((1, len(entries)), dtype=[(field, object) for field in _FIELDS])
    none = (np.zeros((1, 0)), np.zeros((2, len(JOINT_ORDER), 0)))
    for i, entry in enumerate(entries):
        labels = (entry.frames[None].astype(np.float64), entry.joints)
        train, test = (labels, none) if entry.part == "train" else (none, labels)
        table[0, i] = (entry.name, entry.part, "synthetic", *train, *test)
    write_mat(root / "bbcpose.mat", {"bbcpose": table})
