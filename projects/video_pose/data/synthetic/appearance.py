"""What a person wears: small textures for each part of the body.

The person's **right** limbs are warm (red to yellow), the **left** ones cool (cyan to violet), on
everybody: with the face this tells left from right in every picture. A mirrored picture breaks the
rule, so training on this data must not flip (``INPUT.AUG.FLIP_PROB 0``).

Textures are float32 (U, V, 3), BGR 0-255: U runs along the bone, V across it (trunk: around it,
from the back over the person's right, the front and the left to the back).
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass

import numpy as np

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
    return np.clip(base * gain[..., None], 0, 255).astype(np.float32)


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
