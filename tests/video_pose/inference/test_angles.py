"""Angles and lengths worked out by hand."""

from __future__ import annotations

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


@pytest.mark.parametrize(("to_the_right", "degrees"), [(30, 45), (-30, -45), (0, 0)])
def test_a_trunk_that_leans(to_the_right: float, degrees: float) -> None:
    points = [(x + to_the_right, y) if y == 10 else (x, y) for x, y in POSE]
    found = measure_pose(pose(points), NAMES)
    assert found["angle_trunk_inclination"] == pytest.approx(degrees)


def test_what_is_missing_is_absent() -> None:
    points = pose(POSE)
    points[2, 0] = np.nan  # the elbow
    points[6] = points[4]  # the knee on the hip: no direction
    found = measure_pose(points, NAMES)
    assert not {"angle_left_elbow", "angle_left_shoulder", "angle_left_knee"} & set(found)
    assert found["length_left_thigh"] == 0 and "length_left_forearm" not in found
