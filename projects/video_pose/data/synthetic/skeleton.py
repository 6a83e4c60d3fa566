"""An articulated body in three dimensions: joint angles in, joint positions out.

Camera axes: x to the image's right, y down, z away from the camera. Body axes of a person who faces
the camera: x to the person's left, y down, z to the back. So the person's left is the image's
right. Lengths are in body heights, angles in degrees. T is the number of points in time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import numpy as np

JOINTS = (
    "head neck belly right_shoulder left_shoulder right_elbow left_elbow right_wrist left_wrist "
    "right_hip left_hip right_knee left_knee right_ankle left_ankle"
).split()
# Ends of hands and feet are drawn, but no dataset labels them.
TIPS = ("right_hand", "left_hand", "right_toe", "left_toe")
SIDES = {"right": -1.0, "left": 1.0}
_DOWN = np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True)
class Body:
    """Lengths of a person's bones and thickness of the flesh, in body heights."""

    shoulder: float = 0.115
    hip: float = 0.062
    spine: float = 0.29
    neck: float = 0.03
    head: float = 0.105
    upper_arm: float = 0.17
    forearm: float = 0.15
    hand: float = 0.035
    thigh: float = 0.24
    shin: float = 0.235
    foot: float = 0.075
    thickness: float = 1.0

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Body:
        """A random person: every length within 8 % of the mean, thickness within 25 %."""
        values = {f.name: f.default * rng.uniform(0.92, 1.08) for f in fields(cls)}
        return cls(**{**values, "thickness": rng.uniform(0.85, 1.25)})


@dataclass(frozen=True)
class Posture:
    """``points`` name -> (T, 3), and rotations (T, 3, 3), body to camera, of torso and head."""

    points: dict[str, np.ndarray]
    torso: np.ndarray
    head: np.ndarray


def rotation(axis: str, degrees: np.ndarray) -> np.ndarray:
    """Right-handed rotations (T, 3, 3) by ``degrees`` (T,) about a camera axis "x", "y" or "z"."""
    angle = np.deg2rad(np.asarray(degrees, dtype=np.float64))
    i, j = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}[axis]
    matrix = np.tile(np.eye(3), (*angle.shape, 1, 1))
    matrix[..., i, i] = matrix[..., j, j] = np.cos(angle)
    matrix[..., j, i] = np.sin(angle)
    matrix[..., i, j] = -np.sin(angle)
    return matrix


def pose_body(body: Body, angles: Mapping[str, np.ndarray]) -> Posture:
    """Forward kinematics.

    Args:
        body: the bones.
        angles: channel -> (T,), in degrees; a channel that is absent is 0. Whole body: ``roll`` (in
        the
            image, clockwise), ``pitch``, ``yaw`` (0 faces the camera), ``root_x``, ``root_y`` (body
            heights). Trunk: ``bend`` (forward), ``side``, ``twist``; head: ``nod``, ``turn``.
            Limbs, for ``right`` and ``left``: ``<side>_arm_flex`` (forward), ``_arm_out``,
            ``_arm_twist``, ``_elbow``, ``_leg_flex``, ``_leg_out``, ``_leg_twist``, ``_knee``.
    """
    frames = max((np.size(v) for v in angles.values()), default=1)

    def get(name: str) -> np.ndarray:
        return np.broadcast_to(np.asarray(angles.get(name, 0.0), dtype=np.float64), (frames,))

    pelvis = rotation("z", get("roll")) @ rotation("x", get("pitch")) @ rotation("y", get("yaw"))
    torso = pelvis @ rotation("x", get("bend")) @ rotation("z", get("side"))
    torso = torso @ rotation("y", get("twist"))
    head = torso @ rotation("x", get("nod")) @ rotation("y", get("turn"))
    root = np.stack([get("root_x"), get("root_y"), np.zeros(frames)], axis=1)
    points = {"belly": root - 0.35 * body.spine * torso[..., 1]}
    points["neck"] = root - (body.spine + 0.3 * body.neck) * torso[..., 1]
    points["head"] = (
        points["neck"] - 0.7 * body.neck * torso[..., 1] - body.head * 0.8 * head[..., 1]
    )
    for side, sign in SIDES.items():
        shoulder = root - 0.97 * body.spine * torso[..., 1] + sign * body.shoulder * torso[..., 0]
        hip = root + sign * body.hip * pelvis[..., 0]
        arm = torso @ _limb(get, side, "arm", sign)
        fore = arm @ rotation("x", -get(f"{side}_elbow"))
        leg = pelvis @ _limb(get, side, "leg", sign)
        shin = leg @ rotation("x", get(f"{side}_knee"))
        elbow = shoulder + body.upper_arm * (arm @ _DOWN)
        wrist = elbow + body.forearm * (fore @ _DOWN)
        knee = hip + body.thigh * (leg @ _DOWN)
        ankle = knee + body.shin * (shin @ _DOWN)
        toe = ankle + body.foot * (shin @ np.array([0.0, 0.35, -0.94]))
        hand = wrist + body.hand * (fore @ _DOWN)
        parts = dict(shoulder=shoulder, elbow=elbow, wrist=wrist, hand=hand)
        parts.update(hip=hip, knee=knee, ankle=ankle, toe=toe)
        points.update({f"{side}_{name}": value for name, value in parts.items()})
    return Posture(points, torso, head)


def _limb(get: Callable[[str], np.ndarray], side: str, limb: str, sign: float) -> np.ndarray:
    """Rotation (T, 3, 3) of an upper arm or thigh that hangs down at zero angles."""
    out = rotation("z", -sign * get(f"{side}_{limb}_out"))
    flex = rotation("x", -get(f"{side}_{limb}_flex"))
    return flex @ out @ rotation("y", sign * get(f"{side}_{limb}_twist"))
