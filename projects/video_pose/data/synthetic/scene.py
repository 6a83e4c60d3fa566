"""Videos of articulated people with exact annotation, from a seed.

Shape letters: N frames, K joints (``body.JOINTS``), H W size of a frame, px. Coordinates are
continuous image pixels (c = index + 0.5); pictures are BGR uint8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from video_pose.data.synthetic.background import (
    OCCLUDER,
    Background,
    Occluder,
    blocking_occluders,
    passing_occluders,
)
from video_pose.data.synthetic.body import FAMILIES, JOINTS, Body, Posture, pose_body, sign
from video_pose.data.synthetic.figure import (
    Appearance,
    Layer,
    draw_appearance,
    draw_figure,
    visible_joints,
)

FPS = 25.0
OCCLUDERS = ("none", "light", "heavy", "blocking")
FRAMINGS = ("whole", "cut", "bust")
_LIMBS = [
    (f"{side}_{end}", f"{side}_{tip}")
    for side in ("right", "left")
    for end, tip in (("elbow", "wrist"), ("knee", "ankle"))
]
HEAVY_JOINTS = [name for name in JOINTS if name.endswith(("elbow", "wrist", "knee", "ankle"))]
# Times of the pictures that one blurred frame averages, in frames; the labels are those of time 0.
_SHUTTER = np.array([0.0, -0.3, 0.3])
# Px that a joint moves while the shutter is open before blur is worth drawing.
_SHARP = 1.0
# Standard deviation of the camera's tilt, degrees.
_TILT = 16.0


@dataclass(frozen=True)
class PersonTrack:
    """One person through a video: action, joints (N, K, 2), ``visible`` (nothing in front, inside
    the frame), ``covered`` (an occluder or another person is in front) and ``inside`` bool (N, K),
    silhouettes ``masks`` bool (N, H, W) (own shape, whatever
    is in front of it), ``boxes`` (N, 4) XYXY through the centres of the silhouette's extreme pixels
    (zeros where it is empty), ``scale`` (N,) px per body height."""

    action: str
    joints: np.ndarray
    visible: np.ndarray
    covered: np.ndarray
    inside: np.ndarray
    masks: np.ndarray
    boxes: np.ndarray
    scale: np.ndarray


@dataclass(frozen=True)
class Scene:
    """``frames`` uint8 (N, H, W, 3) and the people, named by their place in the list."""

    frames: np.ndarray
    people: list[PersonTrack]


@dataclass(frozen=True)
class _Actor:
    action: str
    body: Body
    look: Appearance
    posture: Posture
    scale: np.ndarray
    origin: np.ndarray
    depth: float

    def flat(self, index: int) -> np.ndarray:
        points = np.stack([self.posture.points[name][index, :2] for name in JOINTS])
        return points * self.scale[index] + self.origin[index]


def render_scene(
    seed: int | tuple[int, ...],
    *,
    people: int = 1,
    frames: int = 24,
    size: tuple[int, int] = (320, 240),
    action: str | None = None,
    occluders: str = "light",
    framing: str = "whole",
) -> Scene:
    """Render one video.

    Args:
        seed: fixes every pixel and every label.
        people: persons, at least 1; with more of them, they cross the picture.
        frames: N, at least 1.
        size: (W, H), px.
        action: a family of ``body.FAMILIES`` for everybody; ``None`` draws one each.
        occluders: "none", "light" (a quarter of the videos has one passing by), "heavy" (several
            hide limbs for five to nine frames each, so that one frame alone cannot know where they
            are) or "blocking" (one hides the whole person for about five frames, another a limb).
        framing: "whole" (the body stays inside the frame), "cut" (part of it leaves the frame) or
            "bust" (a signer from the waist up).

    Raises:
        ValueError: for an unknown action, occluders or framing, or counts below 1.
    """
    _check("action", action, (None, *FAMILIES))
    _check("occluders", occluders, OCCLUDERS)
    _check("framing", framing, FRAMINGS)
    if people < 1 or frames < 1:
        raise ValueError(f"people={people} and frames={frames} must both be at least 1")
    rng = np.random.default_rng(seed)
    width, height = size
    background = Background(rng, height, width, frames)
    actors = [_draw_actor(rng, i, people, frames, size, action, framing) for i in range(people)]
    things = [t for actor in actors for t in _draw_occluders(rng, actor, frames, occluders)]
    noise = rng.normal(0, rng.uniform(1, 7), (height + 16, width + 16)).astype(np.float32)
    gain = rng.uniform(0.8, 1.15)
    pictures, rows = [], []
    for n in range(frames):
        layers = [_draw_person(actor, n, size) for actor in actors]
        picture, labels = _compose(background.frame(n), actors, layers, things, n, frames)
        x, y = rng.integers(0, 16, 2)
        picture = picture * gain + noise[y : y + height, x : x + width, None]
        pictures.append(np.clip(picture + 0.5, 0, 255).astype(np.uint8))
        rows.append(labels)
    tracks = [_track(actor, [row[i] for row in rows], size) for i, actor in enumerate(actors)]
    return Scene(np.stack(pictures), tracks)


def _check(name: str, value: str | None, choices: tuple) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} is not one of {[c for c in choices if c is not None]}")


def _draw_actor(
    rng: np.random.Generator, index: int, people: int, frames: int, size: tuple[int, int],
    action: str | None, framing: str,
) -> _Actor:  # fmt: skip
    if action is None:
        action = str(
            rng.choice(["walk", "run", "wave", "dance"] if people > 1 else sorted(FAMILIES))
        )
    family = sign if framing == "bust" else FAMILIES[action]
    body, look = Body.draw(rng), draw_appearance(rng)
    # Sub-frames follow each other: index 3 n is the labelled time of frame n.
    times = (np.arange(frames)[:, None] + _SHUTTER).ravel() / FPS
    angles = family(rng, times)
    # Nobody holds a camera straight.
    angles["roll"] = angles.get("roll", 0.0) + rng.normal(0, _TILT)
    posture = pose_body(body, angles)
    zoom = 1 + rng.uniform(-0.25, 0.25) * np.linspace(-1, 1, times.size)
    if people > 1:
        scale, origin = place_crossing(rng, index, people, zoom, size)
    elif framing == "bust":
        scale, origin = place_bust(rng, zoom, size)
    else:
        scale, origin = place_whole(rng, posture, zoom, size, framing)
    return _Actor(
        "sign" if framing == "bust" else action, body, look, posture, scale, origin, scale[0]
    )


def _draw_occluders(
    rng: np.random.Generator, actor: _Actor, frames: int, kind: str
) -> list[Occluder]:
    if kind == "none" or (kind == "light" and rng.uniform() > 0.25):
        return []
    joints = np.stack([actor.flat(3 * n) for n in range(frames)])
    length = float(actor.scale.mean())
    if kind == "blocking":
        limb = [JOINTS.index(name) for name in _LIMBS[rng.integers(len(_LIMBS))]]
        return blocking_occluders(rng, joints, joints[:, limb], length)
    hidden: tuple[np.ndarray, ...] = ()
    if kind == "heavy":
        names = rng.choice(HEAVY_JOINTS, int(rng.integers(2, 5)), replace=False)
        hidden = tuple(joints[:, JOINTS.index(name)] for name in names)
    return passing_occluders(rng, frames, joints.mean(axis=1), length, hidden)


def _draw_person(actor: _Actor, n: int, size: tuple[int, int]) -> Layer:
    """The person at frame n, blurred by motion; part ids are those of the labelled time."""
    points = [actor.flat(i) for i in (3 * n, 3 * n + 1, 3 * n + 2)]
    moved = np.abs(points[2] - points[1]).max()
    layers = []
    for i in range(3 * n, 3 * n + (3 if moved > _SHARP else 1)):
        layer = Layer.empty(size[1], size[0])
        scale, origin = float(actor.scale[i]), actor.origin[i]
        draw_figure(layer, actor.posture, i, actor.body, actor.look, scale, origin)
        layers.append(layer)
    colour = np.mean([layer.colour for layer in layers], axis=0)
    alpha = np.mean([layer.alpha for layer in layers], axis=0)
    return Layer(colour, alpha, layers[0].part)


def _compose(
    picture: np.ndarray, actors: list[_Actor], layers: list[Layer], things: list[Occluder],
    n: int, frames: int,
) -> tuple[np.ndarray, list[tuple[np.ndarray, ...]]]:  # fmt: skip
    """The picture and, for each actor, joints (K, 2), visible (K,), covered (K,), mask (H, W)."""
    height, width = picture.shape[:2]
    front = np.zeros((height, width), np.uint8)
    order = sorted(range(len(actors)), key=lambda i: actors[i].depth)
    for i in order:
        picture = picture * (1 - layers[i].alpha[..., None]) + layers[i].colour
        front[layers[i].part > 0] = i + 1
    if things:
        cover = Layer.empty(height, width)
        for thing in things:
            thing.draw(cover, n)
        picture = picture * (1 - cover.alpha[..., None]) + cover.colour
        front[cover.part == OCCLUDER] = OCCLUDER
    labels = []
    for i, (actor, layer) in enumerate(zip(actors, layers)):
        flat = actor.flat(3 * n)
        visible = visible_joints(layer, actor.posture, 3 * n, flat)
        x, y = np.clip(np.floor(flat).astype(int), 0, (width - 1, height - 1)).T
        visible &= front[y, x] == i + 1
        covered = (front[y, x] != i + 1) & (front[y, x] > 0)
        labels.append((flat, visible, covered, layer.part > 0))
    return picture, labels


def _track(actor: _Actor, rows: list[tuple[np.ndarray, ...]], size: tuple[int, int]) -> PersonTrack:
    joints, visible, covered, masks = (np.stack(column) for column in zip(*rows))
    inside = ((joints >= 0) & (joints < size)).all(axis=2)
    boxes = np.stack([mask_box(mask) for mask in masks])
    return PersonTrack(
        actor.action, joints, visible, covered, inside, masks, boxes, actor.scale[::3]
    )


def mask_box(mask: np.ndarray) -> np.ndarray:
    """Box (4,) XYXY through the centres of a mask's extreme pixels; zeros if it is empty."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not xs.size:
        return np.zeros(4)
    return np.array([xs[0], ys[0], xs[-1], ys[-1]], dtype=np.float64) + 0.5


# Where a body stands in the picture, and how large it is, over time.
#
# M is the number of points in time (frames and the moments between them). Every function returns
# the scale (M,), px per body height, and the origin (M, 2), px, of the body's zero.


# Share of the body's height that the flesh reaches beyond the joints.
_FLESH = 0.11


def place_whole(
    rng: np.random.Generator,
    posture: Posture,
    zoom: np.ndarray,
    size: tuple[int, int],
    framing: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Scale (M,) and origin (M, 2) that put the motion inside the frame, or partly beyond it."""
    points = np.stack([posture.points[name][:, :2] for name in posture.points], axis=1)
    path = np.linspace(0, 1, zoom.size)[:, None] * rng.uniform(-0.25, 0.25, 2) * (1, 0.4)
    points = (points + path[:, None]) * zoom[:, None, None]
    low, high = points.min((0, 1)) - _FLESH * zoom.max(), points.max((0, 1)) + _FLESH * zoom.max()
    scale = float(np.min(size / (high - low))) * rng.uniform(0.72, 1.0)
    slack = size - scale * (high - low)
    shift = rng.uniform(0, 1, 2) * slack
    if framing == "cut":
        # A tenth to a quarter of the motion's extent lies beyond one edge.
        axis, beyond = rng.integers(2), rng.uniform(0.1, 0.25) * scale * (high - low)
        shift[axis] = rng.choice([-beyond[axis], slack[axis] + beyond[axis]])
    return scale * zoom, (shift - scale * low) + path * (scale * zoom)[:, None]


def place_bust(
    rng: np.random.Generator, zoom: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """The hips near the lower edge, head and raised hands inside the frame."""
    scale = size[1] * rng.uniform(0.9, 1.25) * zoom
    path = np.linspace(-0.5, 0.5, zoom.size)[:, None] * rng.uniform(-20, 20, 2) * (1, 0.2)
    start = np.array([size[0] * rng.uniform(0.4, 0.6), size[1] * rng.uniform(0.9, 1.0)])
    return scale, start + path


def place_crossing(
    rng: np.random.Generator, index: int, people: int, zoom: np.ndarray, size: tuple[int, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Every second person walks to the left, the others to the right; all meet near the middle."""
    scale = size[1] * rng.uniform(0.5, 0.75) * zoom
    ends = np.array([rng.uniform(0.1, 0.4), rng.uniform(0.6, 0.9)])[:: 1 if index % 2 else -1]
    x = np.linspace(*ends, zoom.size) * size[0]
    y = size[1] * rng.uniform(0.48, 0.6)
    return scale, np.stack([x, np.full_like(x, y)], axis=1)
