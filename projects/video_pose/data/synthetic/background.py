"""What is behind and in front of people: a panned canvas, and occluders that pass by.

H W is the size of a frame, px; pictures are float32 BGR 0-255.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from video_pose.data.synthetic.figure import colour

from .figure import Layer, draw_capsule

_MARGIN = 24
# The part id of whatever hides people.
OCCLUDER = 255


@dataclass(frozen=True)
class Occluder:
    """A bar, or a disc where both ends meet: its centre is (T, 2), half its axis (2,), px."""

    centre: np.ndarray
    half_axis: np.ndarray
    radius: float
    texture: np.ndarray

    def draw(self, layer: Layer, index: int) -> None:
        """Put the occluder at time ``index`` in front of ``layer``."""
        start, end = self.centre[index] - self.half_axis, self.centre[index] + self.half_axis
        draw_capsule(layer, start, end, (self.radius, self.radius), self.texture, OCCLUDER)


class Background:
    """A random canvas, a little larger than the frame, over which the camera pans slowly."""

    def __init__(self, rng: np.random.Generator, height: int, width: int, frames: int) -> None:
        self.size = (width, height)
        canvas = _paint(rng, height + 2 * _MARGIN, width + 2 * _MARGIN)
        self.canvas = np.clip(canvas, 0, 255).astype(np.uint8)
        still = np.full((2, 2), _MARGIN)
        start, end = rng.uniform(0, 2 * _MARGIN, (2, 2)) if rng.uniform() < 0.7 else still
        self.path = np.linspace(start, end, frames)

    def frame(self, index: int) -> np.ndarray:
        """The background at frame ``index``: float32 (H, W, 3)."""
        x, y = self.path[index]
        matrix = np.array([[1, 0, -x], [0, 1, -y]], dtype=np.float64)
        picture = cv2.warpAffine(self.canvas, matrix, self.size, flags=cv2.INTER_LINEAR)
        return picture.astype(np.float32)


def _paint(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    canvas = _gradient(rng, height, width)
    for layer, chance in ((_noise, 0.6), (_tiles, 0.45), (_shapes, 0.65), (_clutter, 0.4)):
        if rng.uniform() < chance:
            canvas = layer(rng, canvas)
    # Muted, so that people stand out a little, as they do in a film with a shallow focus.
    grey = canvas.mean(axis=2, keepdims=True)
    canvas = grey + (canvas - grey) * rng.uniform(0.15, 0.65)
    return cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.4, 1.6))


def _any_colour(rng: np.random.Generator) -> np.ndarray:
    return colour(rng.uniform(), rng.uniform(0, 0.7), rng.uniform(0.1, 1.0))


def _gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    corners = np.stack([_any_colour(rng) for _ in range(4)]).reshape(2, 2, 3)
    return cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)


def _noise(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    height, width = canvas.shape[:2]
    for cell in (48, 16, 5):
        small = rng.normal(0, rng.uniform(4, 22), (height // cell + 2, width // cell + 2, 3))
        canvas = canvas + cv2.resize(
            small.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC
        )
    return canvas


def _tiles(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Bricks or a chequered floor, below or above a random line."""
    height, width = canvas.shape[:2]
    ys, xs = np.mgrid[:height, :width]
    cell = int(rng.integers(12, 48))
    if rng.uniform() < 0.5:
        rows = ys // (cell // 2)
        pattern = (ys % (cell // 2) < 2) | ((xs + rows % 2 * (cell // 2)) % cell < 2)
    else:
        pattern = (ys // cell + xs // cell) % 2 == 0
    line = int(rng.uniform(0, 0.7) * height)
    pattern = pattern & (ys >= line) if rng.uniform() < 0.6 else pattern
    amount = rng.uniform(0.3, 0.9)
    return np.where(pattern[..., None], canvas * (1 - amount) + _any_colour(rng) * amount, canvas)


def _shapes(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    height, width = canvas.shape[:2]
    canvas = np.ascontiguousarray(canvas, dtype=np.float32)
    for _ in range(rng.integers(3, 14)):
        centre = [int(v) for v in rng.uniform((0, 0), (width, height))]
        size = [int(v) for v in rng.uniform(6, 60, 2)]
        paint = [float(v) for v in _any_colour(rng)]
        if rng.uniform() < 0.5:
            cv2.ellipse(canvas, (centre, size, float(rng.uniform(0, 180))), paint, cv2.FILLED)
        else:
            corner = [c + s for c, s in zip(centre, size)]
            cv2.rectangle(canvas, centre, corner, paint, cv2.FILLED)
    return canvas


def _clutter(rng: np.random.Generator, canvas: np.ndarray) -> np.ndarray:
    """Thin bars that look a little like limbs."""
    height, width = canvas.shape[:2]
    canvas = np.ascontiguousarray(canvas, dtype=np.float32)
    for _ in range(rng.integers(3, 10)):
        start = rng.uniform((0, 0), (width, height))
        end = start + rng.uniform(-70, 70, 2)
        paint = [float(v) for v in _any_colour(rng)]
        ends = [[int(v) for v in point] for point in (start, end)]
        cv2.line(canvas, *ends, paint, int(rng.integers(3, 12)), cv2.LINE_AA)
    return canvas


def passing_occluders(
    rng: np.random.Generator,
    frames: int,
    centre: np.ndarray,
    length: float,
    heavy: tuple[np.ndarray, ...] = (),
) -> list[Occluder]:
    """Draw the occluders of a clip.

    Args:
        rng: source of randomness.
        frames: N.
        centre: (N, 2), px, the middle of the person that they pass.
        length: height of the person, px.
        heavy: joints' tracks (N, 2), px; each is hidden for a while. Empty: one light bar or disc.
    """
    tracks = heavy or (centre + rng.normal(0, 0.12 * length, 2),)
    return [_occluder(rng, frames, track, length, bool(heavy)) for track in tracks]


def blocking_occluders(
    rng: np.random.Generator, joints: np.ndarray, limb: np.ndarray, length: float
) -> list[Occluder]:
    """A panel that passes before the whole person and a disc that passes before one limb.

    Either covers its target wholly for about five frames, at a time of its own in the middle of
    the clip, so that frames before and after show what a frame in between does not.

    Args:
        rng: source of randomness.
        joints: (N, K, 2), px.
        limb: (N, 2, 2), px, two joints of a limb, of which the disc covers both.
        length: height of the person, px.
    """
    flesh = 0.06 * length
    low, high = joints.min(axis=1), joints.max(axis=1)
    half = ((high - low) / 2).mean(axis=0) + flesh
    panel = _blocker(rng, (low + high) / 2, half[0], np.array([0.0, half[1]]), 0.0)
    reach = np.linalg.norm(limb[:, 1] - limb[:, 0], axis=1).max() / 2 + flesh / 2
    return [panel, _blocker(rng, limb.mean(axis=1), reach, np.zeros(2), rng.uniform(0, np.pi))]


def _blocker(
    rng: np.random.Generator,
    target: np.ndarray,
    reach: float,
    half_axis: np.ndarray,
    angle: float,
) -> Occluder:
    """A bar with ``half_axis`` that goes past ``target`` (N, 2) along ``angle``, and covers what
    is within ``reach`` of it for three to five frames at the least."""
    frames = len(target)
    stay, step = rng.uniform(3, 5), reach * rng.uniform(0.35, 0.6)
    meet = rng.uniform(0.35, 0.75) * (frames - 1)
    direction = rng.choice([-1, 1]) * np.array([np.cos(angle), np.sin(angle)])
    centre = target + (np.arange(frames) - meet)[:, None] * step * direction
    texture = np.broadcast_to(_any_colour(rng), (12, 8, 3)) + rng.normal(0, 18, (12, 8, 1))
    radius = reach + step * stay / 2
    return Occluder(centre, half_axis, radius, np.clip(texture, 0, 255).astype(np.float32))


def _occluder(
    rng: np.random.Generator, frames: int, track: np.ndarray, length: float, heavy: bool
) -> Occluder:
    """An occluder that drifts past ``track``: it meets it in the middle of its way."""
    radius = length * (rng.uniform(0.11, 0.17) if heavy else rng.uniform(0.04, 0.1))
    # A heavy one stays over the joint for five to nine frames.
    stay = rng.uniform(5, 9) if heavy else rng.uniform(3, 8)
    meet = int(rng.integers(frames // 4, max(3 * frames // 4, frames // 4 + 1)))
    angle = rng.uniform(0, 2 * np.pi)
    direction = np.array([np.cos(angle), np.sin(angle)])
    steps = np.arange(frames)[:, None] - meet
    window = track[max(0, meet - 3) : meet + 4].mean(axis=0)
    anchor = track * 0.7 + window * 0.3 if heavy else window[None]
    centre = anchor + steps * direction * (2 * radius / stay)
    axis = rng.uniform(0, np.pi)
    half = rng.uniform(0, 1.2 if heavy else 4) * radius * np.array([np.cos(axis), np.sin(axis)])
    texture = np.broadcast_to(_any_colour(rng), (12, 8, 3)) + rng.normal(0, 18, (12, 8, 1))
    return Occluder(centre, half, radius, np.clip(texture, 0, 255).astype(np.float32))
