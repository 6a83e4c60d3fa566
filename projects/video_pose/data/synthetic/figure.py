"""Draw a posed body: tapered textured limbs, trunk and head, far parts first.

Coordinates are continuous image pixels (the centre of pixel 0 is 0.5). H W is the picture's size.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np

from video_pose.data.synthetic.body import JOINTS, SIDES, Body, Posture

# Part -> (start, end, radius at start, radius at end), radii in body heights.
_LIMBS = {
    "upper_arm": ("shoulder", "elbow", 0.034, 0.027),
    "forearm": ("elbow", "wrist", 0.027, 0.02),
    "hand": ("wrist", "hand", 0.022, 0.02),
    "thigh": ("hip", "knee", 0.05, 0.036),
    "shin": ("knee", "ankle", 0.035, 0.023),
    "foot": ("ankle", "toe", 0.026, 0.02),
}
_NAMES = [f"{side}_{limb}" for side in SIDES for limb in _LIMBS]
PARTS = {name: i + 1 for i, name in enumerate(["torso", "neck", "head", *_NAMES])}
# Parts that show a joint: where one of them is in front at the joint's pixel, the joint is visible.
_OWN_PARTS = {
    "head": ("head",), "neck": ("neck", "torso", "head"), "belly": ("torso",), "shoulder":
    ("upper_arm",), "elbow": ("upper_arm", "forearm"), "wrist": ("forearm", "hand"), "hip":
    ("thigh",), "knee": ("thigh", "shin"), "ankle": ("shin", "foot"),
}  # fmt: skip
# A shoulder or hip that is at most this much behind the trunk's middle shows through the shirt.
_TORSO_SLACK = 0.05


@dataclass
class Layer:
    """A picture ``colour`` (H, W, 3), premultiplied by ``alpha`` (H, W), with ``part`` ids or 0."""

    colour: np.ndarray
    alpha: np.ndarray
    part: np.ndarray

    @classmethod
    def empty(cls, height: int, width: int) -> Layer:
        colour = np.zeros((height, width, 3), np.float32)
        return cls(
            colour, np.zeros((height, width), np.float32), np.zeros((height, width), np.uint8)
        )

    def blend(
        self, box: tuple[slice, slice], alpha: np.ndarray, colour: np.ndarray, part: int
    ) -> None:
        """Put ``colour`` with coverage ``alpha`` in front of what is there."""
        keep = 1 - alpha
        self.colour[box] = self.colour[box] * keep[..., None] + colour * alpha[..., None]
        self.alpha[box] = self.alpha[box] * keep + alpha
        self.part[box][alpha > 0.5] = part


def draw_capsule(
    layer: Layer,
    a: np.ndarray,
    b: np.ndarray,
    radii: tuple[float, float],
    texture: np.ndarray,
    part: int,
) -> None:
    """A rounded bar from ``a`` to ``b`` (2,), px, with its texture along and across."""
    reach = max(radii)
    grid = _grid(layer, np.minimum(a, b) - reach, np.maximum(a, b) + reach)
    if grid is None:
        return
    box, xs, ys = grid
    length = max(float(np.hypot(*(b - a))), 1e-3)
    ux, uy = (b - a) / length if length > 1e-3 else (0.0, 1.0)
    dx, dy = xs - a[0], ys - a[1]
    along = np.clip((dx * ux + dy * uy) / length, 0, 1)
    across = dy * ux - dx * uy
    distance = np.hypot(dx - along * length * ux, dy - along * length * uy)
    radius = radii[0] + (radii[1] - radii[0]) * along
    alpha = np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)
    colour = _lookup(texture, along, across / radius * 0.5 + 0.5)
    shade = 1 - 0.35 * np.minimum(distance / radius, 1) ** 2
    layer.blend(box, alpha, colour * shade[..., None].astype(np.float32), part)


def draw_figure(layer: Layer, posture: Posture, index: int, body: Body, look: Appearance, scale:
float,
                origin: np.ndarray) -> None:  # fmt: skip
    """Draw the posture at time ``index``: ``scale`` px per body height, its zero at ``origin``."""
    points = {name: p[index] for name, p in posture.points.items()}
    flat = {name: p[:2] * scale + origin for name, p in points.items()}
    thick = scale * body.thickness
    jobs: list[tuple[float, Callable[..., None], tuple[Any, ...]]] = []
    for side in SIDES:
        for limb, (start, end, r0, r1) in _LIMBS.items():
            name, start, end = f"{side}_{limb}", f"{side}_{start}", f"{side}_{end}"
            depth = (points[start][2] + points[end][2]) / 2 - (
                0.02 if limb in ("hand", "foot") else 0
            )
            radii = (max(r0 * thick, 0.8), max(r1 * thick, 0.8))
            args = (layer, flat[start], flat[end], radii, look.limbs[name], PARTS[name])
            jobs.append((depth, draw_capsule, args))
    torso, head = posture.torso[index], posture.head[index]
    jobs.append((_torso_depth(points), _draw_torso, (layer, flat, torso, thick, look)))
    neck = (
        layer,
        flat["neck"],
        flat["head"],
        (0.03 * thick,) * 2,
        look.limbs["neck"],
        PARTS["neck"],
    )
    jobs.append((points["neck"][2], draw_capsule, neck))
    jobs.append(
        (points["head"][2], _draw_head, (layer, flat["head"], head, scale * body.head, look))
    )
    for _, draw, args in sorted(jobs, key=lambda job: -job[0]):
        draw(*args)


def visible_joints(layer: Layer, posture: Posture, index: int, flat: np.ndarray) -> np.ndarray:
    """Which joints ``flat`` (K, 2), px, the person's own body leaves in sight: bool (K,)."""
    height, width = layer.part.shape
    depth = _torso_depth({name: p[index] for name, p in posture.points.items()})
    visible = np.zeros(len(JOINTS), bool)
    for k, name in enumerate(JOINTS):
        x, y = np.floor(flat[k]).astype(int)
        if not (0 <= x < width and 0 <= y < height):
            continue
        side, _, kind = name.rpartition("_")
        own = [PARTS[f"{side}_{part}" if side else part] for part in _OWN_PARTS[kind]]
        if kind in ("shoulder", "hip") and posture.points[name][index, 2] < depth + _TORSO_SLACK:
            own.append(PARTS["torso"])
        visible[k] = layer.part[y, x] in own
    return visible


def _torso_depth(points: dict[str, np.ndarray]) -> float:
    corners = [points[f"{side}_{joint}"][2] for side in SIDES for joint in ("shoulder", "hip")]
    return float(np.mean(corners))


def _draw_torso(
    layer: Layer, flat: dict[str, np.ndarray], frame: np.ndarray, thick: float, look: Appearance
) -> None:
    """The hull of four discs, its texture wrapped around like a cylinder's."""
    discs = [(flat[f"{side}_shoulder"], 0.034 * thick) for side in SIDES]
    discs += [(flat[f"{side}_hip"], 0.05 * thick) for side in SIDES]
    discs += [(flat["belly"], 0.055 * thick)]
    turn = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    ring = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    outline = np.concatenate([centre + radius * ring for centre, radius in discs]).astype(
        np.float32
    )
    grid = _grid(layer, outline.min(0) - 1, outline.max(0) + 1)
    if grid is None:
        return
    box, xs, ys = grid
    hull = cv2.convexHull(outline)[:, 0] - (box[1].start, box[0].start) - 0.5
    mask = np.zeros((ys.size, xs.size), np.uint8)
    cv2.fillConvexPoly(mask, np.round(hull * 16).astype(np.int32), 255, cv2.LINE_AA, shift=4)
    top = (flat["left_shoulder"] + flat["right_shoulder"]) / 2
    bottom = (flat["left_hip"] + flat["right_hip"]) / 2
    length = max(float(np.hypot(*(bottom - top))), 0.08 * thick)
    ux, uy = (bottom - top) / max(float(np.hypot(*(bottom - top))), 1e-3)
    dx, dy = xs - top[0], ys - top[1]
    along = np.clip((dx * ux + dy * uy) / length, 0, 1)
    across = dx * uy - dy * ux
    half = max(np.abs((outline - top) @ (uy, -ux)).max(), 1.0)
    s = np.clip(across / half, -1, 1)
    c = np.sqrt(1 - s**2)
    # The surface's normal is s * (uy, -ux, 0) + c * (0, 0, -1) in camera axes; seen in body axes it
    # gives the angle around the trunk, 0 at the front.
    left = s * (uy * frame[0, 0] - ux * frame[1, 0]) - c * frame[2, 0]
    front = -(s * (uy * frame[0, 2] - ux * frame[1, 2]) - c * frame[2, 2])
    around = np.arctan2(left, front) / (2 * np.pi) + 0.5
    colour = _lookup(look.torso, along, around * (1 - 0.5 / AROUND))
    shade = (0.7 + 0.3 * c).astype(np.float32)
    layer.blend(box, mask.astype(np.float32) / 255, colour * shade[..., None], PARTS["torso"])


def _draw_head(
    layer: Layer, centre: np.ndarray, frame: np.ndarray, radius: float, look: Appearance
) -> None:
    """An ellipsoid with hair, eyes, nose and mouth on it: from behind it is all hair."""
    up = -frame[:, 1]
    flat = max(float(np.hypot(up[0], up[1])), 1e-3)
    vx, vy = up[0] / flat, up[1] / flat
    wide = 0.62 * radius
    high = float(np.hypot(0.84 * radius * flat, wide * up[2]))
    grid = _grid(layer, centre - high - 1, centre + high + 1)
    if grid is None:
        return
    box, xs, ys = grid
    dx, dy = xs - centre[0], ys - centre[1]
    b = (dx * vx + dy * vy) / high
    a = (dy * vx - dx * vy) / wide
    r = np.hypot(a, b)
    alpha = np.clip((1 - r) * wide + 0.5, 0, 1).astype(np.float32)
    z = -np.sqrt(np.clip(1 - r**2, 0, 1))
    normal = np.stack([b * vx - a * vy, b * vy + a * vx, z], axis=-1)
    left, down, back = np.moveaxis(normal @ frame, -1, 0)
    colour = np.broadcast_to(look.skin, (*r.shape, 3)).copy()
    face = back < 0
    colour[(np.abs(left) < 0.13) & (down > -0.1) & (down < 0.28) & face] *= 0.75
    colour[(np.abs(left) < 0.34) & (np.abs(down - 0.48) < 0.1) & face] = (50, 40, 150)
    colour[((np.abs(left) - 0.38) ** 2 + (down + 0.08) ** 2 < 0.05) & face] = 235
    colour[((np.abs(left) - 0.38) ** 2 + (down + 0.08) ** 2 < 0.022) & face] = 25
    colour[((back > -0.15) & (down < 0.55)) | (down < -0.55)] = look.hair
    shade = (0.75 - 0.25 * z).astype(np.float32)
    layer.blend(box, alpha, colour * shade[..., None], PARTS["head"])


def _grid(
    layer: Layer, low: np.ndarray, high: np.ndarray
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray] | None:
    """The rectangle's pixels in the picture: slices, x (1, w) and y (h, 1) of their centres."""
    height, width = layer.alpha.shape
    x0, y0 = np.maximum(np.floor(low), 0).astype(int)
    x1, y1 = np.minimum(np.ceil(high), (width, height)).astype(int)
    if x0 >= x1 or y0 >= y1:
        return None
    xs = np.arange(x0, x1, dtype=np.float32)[None] + 0.5
    ys = np.arange(y0, y1, dtype=np.float32)[:, None] + 0.5
    return (slice(y0, y1), slice(x0, x1)), xs, ys


def _lookup(texture: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Nearest texel of coordinates within 0-1."""
    rows = np.clip(u * texture.shape[0], 0, texture.shape[0] - 1).astype(np.intp)
    columns = np.clip(v * texture.shape[1], 0, texture.shape[1] - 1).astype(np.intp)
    return texture[rows, columns]


# What a person wears: small textures for each part of the body.
#
# The person's **right** limbs are warm (red to yellow), the **left** ones cool (cyan to violet), on
# everybody: with the face this tells left from right in every picture. A mirrored picture breaks
# the rule, so training on this data must not flip (``INPUT.AUG.FLIP_PROB 0``).
#
# Textures are float32 (U, V, 3), BGR 0-255: U runs along the bone, V across it (trunk: around it,
# from the back over the person's right, the front and the left to the back).


LENGTH, WIDTH, AROUND = 24, 8, 48
_HUES = {"right": (0.97, 1.13), "left": (0.52, 0.72)}


@dataclass(frozen=True)
class Appearance:
    """``limbs`` name of a part -> texture; ``torso`` (U, AROUND, 3); colours (3,), BGR 0-255."""

    limbs: dict[str, np.ndarray]
    torso: np.ndarray
    skin: np.ndarray
    hair: np.ndarray


def colour(hue: float, saturation: float, value: float) -> np.ndarray:
    """BGR 0-255 of a hue in turns."""
    red, green, blue = colorsys.hsv_to_rgb(hue % 1.0, min(saturation, 1.0), min(value, 1.0))
    return np.array([blue, green, red], dtype=np.float32) * 255


def draw_appearance(rng: np.random.Generator) -> Appearance:
    """Clothes, skin and hair of a random person."""
    skin = colour(rng.uniform(0.03, 0.1), rng.uniform(0.25, 0.6), rng.uniform(0.35, 0.95))
    hair = colour(rng.uniform(0, 0.14), rng.uniform(0.1, 0.7), rng.uniform(0.05, 0.7))
    long_sleeves, long_trousers = rng.uniform(size=2) < (0.6, 0.7)
    limbs: dict[str, np.ndarray] = {}
    for side, hues in _HUES.items():
        hue, shade = rng.uniform(*hues), rng.uniform(0.75, 1.0)
        sleeve = colour(hue, rng.uniform(0.7, 0.95), shade)
        trouser = colour(hue + rng.uniform(-0.03, 0.03), rng.uniform(0.55, 0.9), 0.55 * shade)
        shoe = colour(hue, 0.5, rng.uniform(0.2, 0.9))
        limbs[f"{side}_upper_arm"] = _cloth(rng, sleeve, (LENGTH, WIDTH))
        limbs[f"{side}_thigh"] = _cloth(rng, trouser, (LENGTH, WIDTH))
        limbs[f"{side}_forearm"] = _lower(rng, long_sleeves, sleeve * 0.85, skin)
        limbs[f"{side}_shin"] = _lower(rng, long_trousers, trouser * 0.85, skin)
        # Patches on elbows and knees: bright on dark cloth, dark on bright.
        for upper, lower in (("upper_arm", "forearm"), ("thigh", "shin")):
            cloth = limbs[f"{side}_{upper}"]
            patch = (
                colour(hue, 0.2, 1.0) if cloth.max(axis=2).mean() < 150 else colour(hue, 0.9, 0.2)
            )
            limbs[f"{side}_{upper}"][-3:] = limbs[f"{side}_{lower}"][:3] = patch
        limbs[f"{side}_hand"] = _cloth(rng, skin, (4, WIDTH), plain=True)
        limbs[f"{side}_foot"] = _cloth(rng, shoe, (8, WIDTH), plain=True)
    limbs["neck"] = _cloth(rng, skin * 0.9, (4, WIDTH), plain=True)
    return Appearance(limbs, _shirt(rng), skin, hair)


def _lower(
    rng: np.random.Generator, covered: bool, cloth: np.ndarray, skin: np.ndarray
) -> np.ndarray:
    """Forearm or shin: cloth, or skin that ends in a band (or sock) of the cloth's colour."""
    if covered:
        return _cloth(rng, cloth, (LENGTH, WIDTH))
    texture = _cloth(rng, skin, (LENGTH, WIDTH), plain=True)
    texture[int(rng.uniform(0.6, 0.8) * LENGTH) :] = cloth
    return texture


def _cloth(
    rng: np.random.Generator, base: np.ndarray, size: tuple[int, int], plain: bool = False
) -> np.ndarray:
    """Weave noise over stripes along or across, checks, or nothing."""
    u, v = np.meshgrid(np.arange(size[0]), np.arange(size[1]), indexing="ij")
    period = rng.integers(3, 9)
    patterns = (0 * u, u // period % 2, v // 2 % 2, (u // period + v // 2) % 2)
    pattern = patterns[0 if plain else rng.integers(len(patterns))]
    gain = 1 + rng.choice([-0.45, -0.3, 0.3]) * pattern + rng.normal(0, 0.06, size)
    return np.minimum(base * gain[..., None], 255).astype(np.float32)


def _shirt(rng: np.random.Generator) -> np.ndarray:
    """The trunk: shirt with a badge on the chest's front, then a belt."""
    base = colour(rng.uniform(0.15, 0.5), rng.uniform(0, 0.6), rng.uniform(0.25, 0.95))
    if rng.uniform() < 0.3:
        base = colour(rng.uniform(0.75, 0.93), rng.uniform(0.2, 0.6), rng.uniform(0.3, 0.9))
    texture = _cloth(rng, base, (LENGTH, AROUND))
    front = AROUND // 2
    if rng.uniform() < 0.75:
        top, high, wide = rng.integers(3, 8), rng.integers(4, 9), rng.integers(3, 8)
        badge = colour(rng.uniform(), 0.3, 0.95 if base.mean() < 128 else 0.15)
        texture[top : top + high, front - wide : front + wide] = badge
    texture[-4:-1] = rng.uniform(20, 90)
    return texture
