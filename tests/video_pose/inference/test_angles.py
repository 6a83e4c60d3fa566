"""Angles and lengths worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from video_pose.inference.angles import MEASURES, measure_pose

NAMES = ("left_shoulder", "right_shoulder", "left_elbow", "left_wrist", "left_hip", "right_hip",
         "left_knee", "left_ankle")  # fmt: skip
# Upright, then bent: forearm at a right angle, the shank back by 45 degrees.
POSE = [(12, 10), (8, 10), (12, 20), (22, 20), (12, 40), (8, 40), (12, 60), (2, 70)]


def pose(points: list[tuple[float, float]]) -> np.ndarray:
    return np.array([(*point, 1.0) for point in points])


def test_by_hand() -> None:
    found = measure_pose(pose(POSE), NAMES)
    assert set(found) <= set(MEASURES)
    assert found["angle_left_elbow"] == pytest.approx(90)
    assert found["angle_left_knee"] == pytest.approx(135)
    assert found["angle_left_hip"] == pytest.approx(180)
    assert found["angle_left_shoulder"] == pytest.approx(0)  # the arm hangs along the trunk
    assert found["angle_trunk_inclination"] == pytest.approx(0)
    assert found["length_trunk"] == pytest.approx(30)
    assert found["length_left_shank"] == pytest.approx(200**0.5)
    assert found["length_shoulder_width"] == pytest.approx(4)
    assert "angle_right_elbow" not in found and "angle_left_ankle" not in found


# The right arm and leg on lengths that Pythagoras' triangles give, and all toes.
RIGHT = {"right_elbow": (5, 14), "right_wrist": (1, 17), "right_knee": (17, 52),
         "right_ankle": (17, 72), "right_big_toe": (32, 72), "left_big_toe": (2, 80)}  # fmt: skip
RIGHT_ANGLES = {"shoulder": 4 / 5, "elbow": -24 / 25, "hip": -4 / 5, "knee": -4 / 5, "ankle": 0}
LEFT_ANGLES = {"shoulder": 0, "elbow": 90, "hip": 180, "knee": 135, "ankle": 135}


def whole_body() -> dict[str, tuple[float, float]]:
    return dict(zip(NAMES, POSE, strict=True)) | RIGHT


def test_every_measure_of_a_whole_body() -> None:
    """Angles of the right side by their cosines, in degrees."""
    points = whole_body()
    found = measure_pose(pose(list(points.values())), list(points))
    lengths = {"left_upper_arm": 10, "left_forearm": 10, "left_thigh": 20, "left_shank": 200**0.5,
               "right_upper_arm": 5, "right_forearm": 5, "right_thigh": 15, "right_shank": 20,
               "trunk": 30, "shoulder_width": 4, "hip_width": 4}  # fmt: skip
    expected = {f"length_{name}": value for name, value in lengths.items()}
    expected |= {f"angle_left_{name}": value for name, value in LEFT_ANGLES.items()}
    for name, cosine in RIGHT_ANGLES.items():
        expected[f"angle_right_{name}"] = math.degrees(math.acos(cosine))
    assert found == pytest.approx(expected | {"angle_trunk_inclination": 0}, abs=1e-4)
    assert set(found) == set(MEASURES) and len(MEASURES) == 22


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_joint_without_x_or_without_y_is_absent(axis: int, value: float) -> None:
    points = whole_body()
    whole = measure_pose(pose(list(points.values())), list(points))
    keypoints = pose(list(points.values()))
    keypoints[list(points).index("left_hip"), axis] = value
    found = measure_pose(keypoints, list(points))
    gone = {"angle_left_shoulder", "angle_left_hip", "angle_left_knee", "length_left_thigh",
            "length_hip_width", "length_trunk", "angle_trunk_inclination"}  # fmt: skip
    assert found == {name: value for name, value in whole.items() if name not in gone}


@pytest.mark.parametrize(("moved", "onto"), [("left_hip", "left_knee"), ("left_ankle", "left_knee"),
                                             ("left_ankle", "left_hip")])  # fmt: skip
def test_a_segment_without_length_has_no_direction(moved: str, onto: str) -> None:
    """Either of the two that meet at the knee; where the ends meet, the angle is 0."""
    points = whole_body()
    points[moved] = points[onto]
    found = measure_pose(pose(list(points.values())), list(points))
    assert found.get("angle_left_knee") == (0 if onto == "left_hip" else None)
    assert found["length_left_thigh" if moved == "left_hip" else "length_left_shank"] == (
        20 if onto == "left_hip" else 0
    )


def test_a_trunk_without_length_leans_nowhere() -> None:
    points = {"left_shoulder": (3, 4), "right_shoulder": (5, 8), "left_hip": (4, 6)}
    points["right_hip"] = (4, 6)
    found = measure_pose(pose(list(points.values())), list(points))
    assert found == pytest.approx(
        {"length_shoulder_width": 20**0.5, "length_hip_width": 0, "length_trunk": 0}
    )


@pytest.mark.parametrize(
    ("to_the_right", "degrees"), [(30, 45), (-30, -45), (0, 0), (-60, -63.435)]
)
def test_a_trunk_that_leans(to_the_right: float, degrees: float) -> None:
    points = [(x + to_the_right, y) if y == 10 else (x, y) for x, y in POSE]
    found = measure_pose(pose(points), NAMES)
    assert found["angle_trunk_inclination"] == pytest.approx(degrees, abs=1e-3)
    assert found["length_trunk"] == pytest.approx(math.hypot(30, to_the_right))


def test_what_is_missing_is_absent() -> None:
    points = pose(POSE)
    points[2, 0] = np.nan  # the elbow
    points[6] = points[4]  # the knee on the hip: no direction
    found = measure_pose(points, NAMES)
    assert not {"angle_left_elbow", "angle_left_shoulder", "angle_left_knee"} & set(found)
    assert found["length_left_thigh"] == 0 and "length_left_forearm" not in found
