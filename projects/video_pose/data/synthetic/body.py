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
SIDES = ("right", "left")
_SIGNS = (-1.0, 1.0)
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
            the image, clockwise), ``pitch``, ``yaw`` (0 faces the camera), ``root_x``, ``root_y``
            (body heights). Trunk: ``bend`` (forward), ``side``, ``twist``; head: ``nod``, ``turn``.
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
    for side, sign in zip(SIDES, _SIGNS):
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


# Families of motion: each returns joint angles over time, its parameters drawn at random.
#
# A family is a function ``(rng, t) -> {channel: (T,)}``; t is (T,) in seconds, channels and units
# are those of ``pose_body``. Every family is smooth in t, so frames between frames (motion blur)
# exist.


Angles = dict[str, np.ndarray]
Family = Callable[[np.random.Generator, np.ndarray], Angles]


class _Draw:
    """Random smooth functions of time, drawn from one generator."""

    def __init__(self, rng: np.random.Generator, t: np.ndarray, rate: tuple[float, float]) -> None:
        self.rng, self.t = rng, t
        self.phase = 2 * np.pi * (rng.uniform(*rate) * t + rng.uniform())

    def value(self, low: float, high: float) -> np.ndarray:
        return np.full_like(self.t, self.rng.uniform(low, high))

    def wave(self, low: float, high: float, shift: float = 0.0) -> np.ndarray:
        """A cosine between ``low`` and ``high`` (each varied by a tenth); ``shift`` in turns."""
        low, high = (v + 0.1 * (high - low) * self.rng.uniform(-1, 1) for v in (low, high))
        return low + (high - low) * (0.5 - 0.5 * np.cos(self.phase + 2 * np.pi * shift))

    def drift(self, low: float, high: float) -> np.ndarray:
        """A slow random curve within ``low`` and ``high``."""
        middle, half = (low + high) / 2, (high - low) / 2
        turns = [(self.rng.uniform(0.15, 0.7), self.rng.uniform()) for _ in range(2)]
        waves = [np.sin(2 * np.pi * (f * self.t + p)) for f, p in turns]
        return middle + half * (0.65 * waves[0] + 0.35 * waves[1])

    def side(self) -> tuple[str, str]:
        """The two sides, in random order."""
        return SIDES if self.rng.uniform() < 0.5 else SIDES[::-1]

    def facing(self, half: float = 180.0) -> np.ndarray:
        """Towards the camera or away from it, within ``half`` degrees, slowly turning."""
        centre = 180.0 * self.rng.integers(2)
        return centre + self.value(-half, half) + self.drift(-12, 12)


def _gait(d: _Draw, swing: float, knee: float, elbow: tuple[float, float]) -> Angles:
    angles = {"yaw": d.facing(), "roll": d.drift(-12, 12), "twist": d.wave(-8, 8)}
    for side, shift in zip(SIDES, (0.0, 0.5)):
        angles[f"{side}_leg_flex"] = d.wave(-0.8 * swing, 1.2 * swing, shift)
        angles[f"{side}_knee"] = d.wave(6, knee, shift - 0.25)
        angles[f"{side}_arm_flex"] = d.wave(-swing, swing, shift + 0.5)
        angles[f"{side}_arm_out"] = d.value(4, 22)
        angles[f"{side}_elbow"] = d.value(*elbow)
    return angles


def walk(rng: np.random.Generator, t: np.ndarray) -> Angles:
    d = _Draw(rng, t, (0.7, 1.2))
    return {**_gait(d, rng.uniform(22, 38), 55, (10, 45)), "bend": d.value(-4, 12)}


def run(rng: np.random.Generator, t: np.ndarray) -> Angles:
    d = _Draw(rng, t, (1.1, 1.8))
    angles = _gait(d, rng.uniform(42, 62), 110, (60, 110))
    bob = 0.02 * np.cos(2 * d.phase)
    return {**angles, "bend": d.value(8, 35), "root_y": bob}


def jump(rng: np.random.Generator, t: np.ndarray) -> Angles:
    d = _Draw(rng, t, (0.6, 1.1))
    angles = {"yaw": d.facing(), "bend": d.wave(0, 45, 0.5), "roll": d.drift(-25, 25)}
    angles["root_y"] = -0.12 * (0.5 - 0.5 * np.cos(d.phase))
    tuck = rng.uniform(0, 70)
    for side in SIDES:
        angles[f"{side}_leg_flex"] = d.wave(tuck, 80, 0.5)
        angles[f"{side}_knee"] = d.wave(tuck, 105, 0.5)
        angles[f"{side}_leg_out"] = d.value(2, 25)
        angles[f"{side}_arm_flex"] = d.wave(-35, 165)
        angles[f"{side}_arm_out"] = d.value(5, 35)
        angles[f"{side}_elbow"] = d.value(5, 50)
    return angles


def jumping_jacks(rng: np.random.Generator, t: np.ndarray) -> Angles:
    d = _Draw(rng, t, (0.7, 1.2))
    angles = {"yaw": d.facing(50), "roll": d.drift(-15, 15)}
    for side in SIDES:
        angles[f"{side}_arm_out"] = d.wave(12, 170)
        angles[f"{side}_elbow"] = d.value(2, 30)
        angles[f"{side}_leg_out"] = d.wave(3, 42)
    return angles


def kick_ball(rng: np.random.Generator, t: np.ndarray) -> Angles:
    d = _Draw(rng, t, (0.6, 1.1))
    kick, stand = d.side()
    angles = {"yaw": d.facing(), "bend": d.wave(15, -20), "roll": d.drift(-22, 22)}
    angles[f"{kick}_leg_flex"] = d.wave(-45, rng.uniform(70, 125))
    angles[f"{kick}_leg_out"] = d.value(0, 55)
    angles[f"{kick}_knee"] = d.wave(80, 5)
    angles[f"{stand}_leg_flex"] = d.wave(20, -5)
    angles[f"{stand}_knee"] = d.wave(25, 5)
    for side in SIDES:
        angles[f"{side}_arm_out"] = d.value(25, 100)
        angles[f"{side}_arm_flex"] = d.drift(-40, 40)
        angles[f"{side}_elbow"] = d.value(5, 60)
    return angles


def pick(rng: np.random.Generator, t: np.ndarray) -> Angles:
    d = _Draw(rng, t, (0.3, 0.6))
    angles = {"yaw": d.facing(), "bend": d.wave(25, 120), "nod": d.value(-20, 20)}
    squat = rng.uniform(0, 90)
    for side in SIDES:
        angles[f"{side}_leg_flex"] = d.wave(0, 0.9 * squat)
        angles[f"{side}_knee"] = d.wave(5, 1.3 * squat)
        angles[f"{side}_leg_out"] = d.value(0, 20)
        angles[f"{side}_arm_flex"] = d.value(40, 120)
        angles[f"{side}_arm_out"] = d.value(-5, 30)
        angles[f"{side}_elbow"] = d.drift(0, 70)
    return angles


def wave(rng: np.random.Generator, t: np.ndarray) -> Angles:
    d = _Draw(rng, t, (0.9, 1.7))
    up, other = d.side()
    angles = {"yaw": d.facing(100), "roll": d.drift(-20, 20), "side": d.drift(-15, 15)}
    angles[f"{up}_arm_out"] = d.value(85, 170)
    angles[f"{up}_arm_twist"] = d.value(-100, -60)
    angles[f"{up}_elbow"] = d.wave(5, 95)
    angles[f"{other}_arm_out"] = d.value(5, 120)
    angles[f"{other}_arm_flex"] = d.value(-30, 60)
    angles[f"{other}_arm_twist"] = d.value(-60, 80)
    angles[f"{other}_elbow"] = d.drift(5, 110)
    for side in SIDES:
        angles[f"{side}_leg_out"] = d.value(0, 22)
        angles[f"{side}_leg_flex"] = d.drift(-10, 25)
        angles[f"{side}_knee"] = d.value(0, 35)
    return angles


def throw(rng: np.random.Generator, t: np.ndarray) -> Angles:
    d = _Draw(rng, t, (0.5, 1.0))
    main, other = d.side()
    angles = {"yaw": d.facing(), "roll": d.drift(-20, 20), "bend": d.wave(-20, 40)}
    angles["twist"] = d.wave(-30, 30)
    angles[f"{main}_arm_flex"] = d.wave(200, 20)
    angles[f"{main}_elbow"] = d.wave(95, 5)
    angles[f"{other}_arm_flex"] = d.wave(90, -30)
    angles[f"{other}_elbow"] = d.value(5, 60)
    angles[f"{other}_leg_flex"] = d.wave(75, 30)
    angles[f"{other}_knee"] = d.wave(70, 25)
    angles[f"{main}_leg_flex"] = d.wave(0, -35)
    angles[f"{main}_knee"] = d.value(5, 45)
    return {**angles, "right_arm_out": d.value(5, 50), "left_arm_out": d.value(5, 50)}


def climb(rng: np.random.Generator, t: np.ndarray) -> Angles:
    d = _Draw(rng, t, (0.5, 0.9))
    angles = {"yaw": d.facing(), "roll": d.drift(-25, 25), "bend": d.value(-5, 25)}
    for side, shift in zip(SIDES, (0.0, 0.5)):
        angles[f"{side}_arm_flex"] = d.wave(85, 175, shift)
        angles[f"{side}_arm_out"] = d.value(0, 35)
        angles[f"{side}_elbow"] = d.wave(90, 5, shift)
        angles[f"{side}_leg_flex"] = d.wave(0, 105, shift + 0.5)
        angles[f"{side}_knee"] = d.wave(5, 115, shift + 0.5)
        angles[f"{side}_leg_out"] = d.value(5, 35)
    return angles


def sit(rng: np.random.Generator, t: np.ndarray) -> Angles:
    d = _Draw(rng, t, (0.4, 0.9))
    angles = {"yaw": d.facing(), "bend": d.drift(-15, 35), "turn": d.drift(-30, 30)}
    for side in SIDES:
        angles[f"{side}_leg_flex"] = d.value(65, 110)
        angles[f"{side}_knee"] = d.wave(25, 105, rng.uniform())
        angles[f"{side}_leg_out"] = d.value(0, 40)
        angles[f"{side}_arm_flex"] = d.drift(0, 110)
        angles[f"{side}_arm_out"] = d.value(5, 70)
        angles[f"{side}_elbow"] = d.drift(5, 110)
    return angles


def situp(rng: np.random.Generator, t: np.ndarray) -> Angles:
    d = _Draw(rng, t, (0.4, 0.8))
    way = rng.choice([-1.0, 1.0])
    # Seen from the side and lying on the back: the front (at yaw 90 the image's left) turns up.
    angles = {"yaw": way * 90 + d.drift(-35, 35), "roll": way * (90 + d.value(-15, 15))}
    angles["bend"] = d.wave(-5, 85)
    for side in SIDES:
        angles[f"{side}_leg_flex"] = d.value(15, 80)
        angles[f"{side}_knee"] = d.value(20, 105)
        angles[f"{side}_arm_flex"] = d.wave(180, 70)
        angles[f"{side}_arm_out"] = d.value(0, 30)
        angles[f"{side}_elbow"] = d.value(0, 90)
    return angles


def cartwheel(rng: np.random.Generator, t: np.ndarray) -> Angles:
    d = _Draw(rng, t, (0.4, 0.8))
    speed = rng.choice([-1.0, 1.0]) * rng.uniform(70, 190)
    angles = {"yaw": d.facing(35), "roll": speed * (t - t.mean()) + d.value(-180, 180)}
    for side in SIDES:
        angles[f"{side}_arm_out"] = d.value(120, 170)
        angles[f"{side}_elbow"] = d.value(0, 20)
        angles[f"{side}_leg_out"] = d.drift(10, 60)
        angles[f"{side}_leg_flex"] = d.drift(-20, 30)
        angles[f"{side}_knee"] = d.drift(0, 50)
    return angles


def handstand(rng: np.random.Generator, t: np.ndarray) -> Angles:
    d = _Draw(rng, t, (0.4, 0.8))
    angles = {"yaw": d.facing(), "roll": 180 + d.drift(-35, 35), "bend": d.drift(-15, 20)}
    for side, shift in zip(SIDES, (0.0, 0.5)):
        angles[f"{side}_arm_flex"] = d.value(155, 185)
        angles[f"{side}_arm_out"] = d.value(0, 25)
        angles[f"{side}_elbow"] = d.value(0, 25)
        angles[f"{side}_leg_flex"] = d.wave(-50, 60, shift)
        angles[f"{side}_leg_out"] = d.value(0, 35)
        angles[f"{side}_knee"] = d.wave(0, 80, shift + 0.3)
    return angles


def dance(rng: np.random.Generator, t: np.ndarray) -> Angles:
    """Every joint wanders on its own; the body leans by up to 60 degrees."""
    d = _Draw(rng, t, (0.4, 0.8))
    angles = {"yaw": d.facing(), "roll": d.value(-50, 50) + d.drift(-15, 15)}
    angles.update(bend=d.drift(-20, 60), side=d.drift(-25, 25), twist=d.drift(-30, 30))
    for side in SIDES:
        for name, low, high in _WIDE:
            angles[f"{side}_{name}"] = d.value(low, high) * 0.5 + d.drift(low, high) * 0.5
    return angles


def lie(rng: np.random.Generator, t: np.ndarray) -> Angles:
    """Stretched out across the picture, on any side."""
    angles = dance(rng, t)
    d = _Draw(rng, t, (0.4, 0.8))
    angles["roll"] = rng.choice([-90.0, 90.0]) + d.value(-20, 20) + d.drift(-8, 8)
    return angles


def sign(rng: np.random.Generator, t: np.ndarray) -> Angles:
    """A signer, seen from the front: arms and trunk move freely, the legs hang."""
    d = _Draw(rng, t, (0.5, 1.0))
    angles = {"yaw": d.value(-50, 50) + d.drift(-15, 15), "roll": d.value(-35, 35) + d.drift(-8, 8)}
    angles.update(bend=d.drift(-10, 25), side=d.drift(-25, 25), turn=d.drift(-30, 30))
    for side in SIDES:
        angles[f"{side}_arm_flex"] = d.value(-20, 90) + d.drift(-30, 60)
        angles[f"{side}_arm_out"] = d.value(0, 130) + d.drift(-10, 50)
        angles[f"{side}_arm_twist"] = d.value(-100, 60) + d.drift(-20, 20)
        angles[f"{side}_elbow"] = d.drift(5, 135)
    return angles


_WIDE = (
    ("arm_flex", -40.0, 190.0),
    ("arm_out", 0.0, 110.0),
    ("arm_twist", -100.0, 60.0),
    ("elbow", 0.0, 120.0),
    ("leg_flex", -40.0, 115.0),
    ("leg_out", 0.0, 60.0),
    ("knee", 0.0, 110.0),
)

FAMILIES: dict[str, Family] = {
    family.__name__: family
    for family in (
        walk, cartwheel, jump, dance, kick_ball, lie, pick, handstand,
        wave, situp, throw, climb, jumping_jacks, sit, run,
    )
}  # fmt: skip
