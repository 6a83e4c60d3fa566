"""Joint angles and segment lengths of a pose, in the picture's plane.

They are those of the projection: a camera from the side shows a knee's flexion, one from the front
does not. What lacks a joint is absent.

* A joint angle is the inner one between two segments at their common joint, in degrees, 0 to 180:
  a straight knee has 180.
* The trunk's inclination is that of the line from the middle of the hips to the middle of the
  shoulders against the picture's vertical, in degrees, -180 to 180, positive
  to the picture's right.
* A segment's length is in image pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

# Name -> the end of one segment, the joint, the end of the other; for each side.
_ANGLES = {
    "shoulder": ("elbow", "shoulder", "hip"),
    "elbow": ("shoulder", "elbow", "wrist"),
    "hip": ("shoulder", "hip", "knee"),
    "knee": ("hip", "knee", "ankle"),
    "ankle": ("knee", "ankle", "big_toe"),
}
_SEGMENTS = {
    "upper_arm": ("shoulder", "elbow"),
    "forearm": ("elbow", "wrist"),
    "thigh": ("hip", "knee"),
    "shank": ("knee", "ankle"),
}
_SIDES = ("left", "right")
_WIDTHS = {"shoulder": "shoulder_width", "hip": "hip_width"}

ANGLES = tuple(f"angle_{side}_{name}" for name in _ANGLES for side in _SIDES) + (
    "angle_trunk_inclination",
)
LENGTHS = tuple(f"length_{side}_{name}" for name in _SEGMENTS for side in _SIDES) + (
    "length_trunk",
    *(f"length_{name}" for name in _WIDTHS.values()),
)
MEASURES = ANGLES + LENGTHS

Point = tuple[float, float]


def measure_pose(keypoints: np.ndarray, joint_names: Sequence[str]) -> dict[str, float]:
    """Angles (degrees) and lengths (px) by the names in `MEASURES`, those that can be had.

    Args:
        keypoints: (K, 3), x, y and score; a joint that is not finite is absent.
        joint_names: K names, ``left_elbow`` and so on.
    """
    points: dict[str, Point] = {
        name: (float(x), float(y))
        for name, (x, y, _) in zip(joint_names, keypoints.tolist())
        if math.isfinite(x) and math.isfinite(y)
    }
    found: dict[str, float] = {}
    for side in _SIDES:
        for name, parts in _ANGLES.items():
            ends = [points.get(f"{side}_{part}") for part in parts]
            if all(ends):
                found[f"angle_{side}_{name}"] = _inner_angle(*ends)  # type: ignore[arg-type]
        for name, (first, second) in _SEGMENTS.items():
            _add_length(
                found, f"length_{side}_{name}", points, f"{side}_{first}", f"{side}_{second}"
            )
    for part, name in _WIDTHS.items():
        _add_length(found, f"length_{name}", points, f"left_{part}", f"right_{part}")
        ends = [points.get(f"{side}_{part}") for side in _SIDES]
        if all(ends):
            points[f"mid_{part}"] = _middle(*ends)  # type: ignore[arg-type]
    _add_length(found, "length_trunk", points, "mid_shoulder", "mid_hip")
    if found.get("length_trunk"):
        (x0, y0), (x1, y1) = points["mid_hip"], points["mid_shoulder"]
        # y grows downwards.
        found["angle_trunk_inclination"] = math.degrees(math.atan2(x1 - x0, y0 - y1))
    return {name: value for name, value in found.items() if math.isfinite(value)}


def _add_length(
    found: dict[str, float], name: str, points: dict[str, Point], first: str, second: str
) -> None:
    if first in points and second in points:
        found[name] = math.dist(points[first], points[second])


def _middle(a: Point, b: Point) -> Point:
    return (a[0] + b[0]) / 2, (a[1] + b[1]) / 2


def _inner_angle(a: Point, joint: Point, b: Point) -> float:
    """Degrees, 0 to 180; NaN where a segment has no length."""
    u, v = (a[0] - joint[0], a[1] - joint[1]), (b[0] - joint[0], b[1] - joint[1])
    if u == (0, 0) or v == (0, 0):
        return math.nan
    return math.degrees(abs(math.atan2(u[0] * v[1] - u[1] * v[0], u[0] * v[0] + u[1] * v[1])))
