"""Synthetic videos in the files of Penn Action, with the surprises of the real ones.

``frames/NNNN/FFFFFF.jpg`` from 000001 and ``labels/NNNN.mat``. Index 1 of each pair of joints is
the person's **right**, as the real data have it (and the official README does not).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .files import write_image, write_mat
from .plan import VideoPlan
from .scene import PersonTrack, render_scene
from .skeleton import JOINTS

JOINT_ORDER = (
    "head right_shoulder left_shoulder right_elbow left_elbow right_wrist left_wrist "
    "right_hip left_hip right_knee left_knee right_ankle left_ankle"
).split()


def write_video(root: Path, plan: VideoPlan) -> None:
    """Render a video and write its frames and its label file."""
    framing = "cut" if plan.index % 9 == 4 else "whole"
    scene = render_scene(plan.seed, framing=framing, **plan.scene_arguments())
    name = f"{plan.index + 1:04d}"
    for n, picture in enumerate(scene.frames):
        write_image(root / "frames" / name / f"{n + 1:06d}.jpg", picture)
    write_mat(root / "labels" / f"{name}.mat", _labels(plan, scene.people[0]))


def finish(root: Path, results: list[None]) -> None:
    """Penn Action has no file about all videos: nothing is left to write."""


def _labels(plan: VideoPlan, person: PersonTrack) -> dict:
    order = [JOINTS.index(name) for name in JOINT_ORDER]
    # 1-based pixels.
    x, y = np.moveaxis(person.joints[:, order] + 0.5, -1, 0)
    visible = person.visible[:, order].astype(np.uint8)
    boxes = person.boxes + 0.5
    if plan.index % 8 == 3:
        # Unannotated joints stand at (1, 1): here one that the frame cuts off or something hides.
        hidden = (visible == 0) & ~person.inside[:, order]
        x, y = np.where(hidden, 1.0, x), np.where(hidden, 1.0, y)
    if plan.index % 5 == 2:
        x, y = _as_integers(x), _as_integers(y)
    if plan.index % 10 == 9:
        # And some have a box without area.
        boxes[len(boxes) // 2, 2:] = boxes[len(boxes) // 2, :2]
    if plan.index % 10 == 6:
        # Some real files lack the last frame's box.
        boxes = boxes[:-1]
    width, height = plan.size
    count = len(person.joints)
    return {
        "action": plan.action,
        "pose": "other",
        "x": x,
        "y": y,
        "visibility": visible,
        "train": np.int32(-1 if plan.is_test else 1),
        "bbox": boxes,
        "dimensions": np.array([[height, width, count]], dtype=np.uint16),
        # As in the real files: a counter that overflows when one calculates with it.
        "nframes": np.uint8(count) if count < 256 else np.uint16(count),
    }


def _as_integers(values: np.ndarray) -> np.ndarray:
    """Rounded, in the smallest unsigned type that holds them, as some real files are stored."""
    rounded = np.maximum(np.round(values), 0)
    return rounded.astype(np.uint8 if rounded.max() < 256 else np.uint16)
