"""Synthetic clips in the files of JHMDB, with the surprises of the real ones.

``Rename_Images/<action>/<clip>/00001.png`` (or ``ReCompress_Videos/<action>/<clip>.avi``),
``joint_positions/.../joint_positions.mat``, ``puppet_mask/.../puppet_mask.mat``, ``splits/`` and
``sub_splits/`` with ``<action>_test_split{1,2,3}.txt``.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .files import write_image, write_mat, write_video
from .plan import VideoPlan
from .scene import Scene, render_scene
from .skeleton import JOINTS

JOINT_ORDER = (
    "neck belly head right_shoulder left_shoulder right_hip left_hip right_elbow left_elbow "
    "right_knee left_knee right_wrist left_wrist right_ankle left_ankle"
).split()
# Stems of clip names with characters that shells and globs trip over, as real clips have them.
_STEMS = (
    "film_scene",
    "Who's_there!_scene",
    "Take_2_(cut)",
    "me@home",
    'The_"Best"_Of',
    "A&B_[HD]",
)
_SPLITS = (1, 2, 3)


@dataclass(frozen=True)
class JHMDBClip:
    """What the split files tell of a clip; ``whole``: every joint is inside the frame."""

    action: str
    name: str
    is_test: bool
    whole: bool


def clip_name(plan: VideoPlan) -> str:
    """A unique name in the style of the real ones; each clip has a source video of its own."""
    stem = _STEMS[plan.index % len(_STEMS)]
    return f"{stem}_{plan.index}_{plan.action}_f_cm_np1_fr_med_0"


def write_clip(root: Path, plan: VideoPlan, frames_as: str = "png") -> JHMDBClip:
    """Render a clip and write its frames, joints and masks. ``frames_as``: "png" or "avi"."""
    framing = "cut" if plan.index % 12 == 7 else "whole"
    scene = render_scene(plan.seed, framing=framing, **plan.scene_arguments())
    name = clip_name(plan)
    _write_frames(root, plan.action, name, scene.frames, frames_as)
    person = scene.people[0]
    # Some real clips lack the last mask or the last joints.
    order = [JOINTS.index(name) for name in JOINT_ORDER]
    masks, joints, hidden = person.masks, person.joints[:, order], person.covered[:, order]
    if plan.index % 15 == 8:
        masks = masks[:-1]
    if plan.index % 15 == 11:
        joints = joints[:-1]
    write_mat(
        root / "puppet_mask" / plan.action / name / "puppet_mask.mat",
        {"part_mask": np.ascontiguousarray(masks.transpose(1, 2, 0)).astype(np.uint8)},
    )
    write_mat(
        root / "joint_positions" / plan.action / name / "joint_positions.mat",
        {
            **_positions(joints, person.scale, scene, plan.action),
            # Not in the real files: which joints something covers.
            "hidden": hidden[: len(joints)].T.astype(np.uint8),
        },
    )
    return JHMDBClip(plan.action, name, plan.is_test, bool(person.inside.all()))


def _write_frames(root: Path, action: str, name: str, frames: np.ndarray, frames_as: str) -> None:
    if frames_as == "avi":
        write_video(root / "ReCompress_Videos" / action / f"{name}.avi", frames)
        return
    for n, picture in enumerate(frames):
        write_image(root / "Rename_Images" / action / name / f"{n + 1:05d}.png", picture)


def _positions(joints: np.ndarray, scale: np.ndarray, scene: Scene, action: str) -> dict:
    """Fields of joint_positions.mat from continuous joints (N, K, 2); it counts pixels from 1."""
    height, width = scene.frames.shape[1:3]
    pixels = (joints + 0.5).transpose(2, 1, 0)
    # A puppet of scale 1 is taken to be 200 px high.
    scale = scale[: len(joints)] / 200
    centred = pixels / np.array([width, height])[:, None, None] - 0.5
    aspect = np.array([width / height, 1.0])[:, None, None]
    return {
        "pos_img": pixels,
        "pos_world": centred * aspect / scale,
        "scale": scale[None],
        "viewpoint": "S",
        "action": action,
    }


def write_splits(root: Path, clips: list[JHMDBClip]) -> None:
    """Split 1 is the one that was planned; 2 and 3 rotate each action's clips through the test
    part.

    ``sub_splits`` lists only clips whose joints are all inside the frame.
    """
    by_action = defaultdict(list)
    for clip in sorted(clips, key=lambda c: c.name):
        by_action[clip.action].append(clip)
    for action, members in sorted(by_action.items()):
        flags = [clip.is_test for clip in members]
        for split in _SPLITS:
            rotated = flags[split - 1 :] + flags[: split - 1]
            lines = [f"{c.name}.avi {2 if test else 1}\n" for c, test in zip(members, rotated)]
            whole = [line for line, clip in zip(lines, members) if clip.whole]
            for folder, content in (("splits", lines), ("sub_splits", whole)):
                path = root / folder / f"{action}_test_split{split}.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("".join(content))
