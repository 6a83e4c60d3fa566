"""Speeds from ground truth: neighbours of the same track only, in box sides per frame."""

from __future__ import annotations

import numpy as np

from video_pose.evaluation.speed import joint_speeds, quartile_numbers


def test_displacement_from_the_frame_before_over_the_box() -> None:
    # Track a: frames 0, 1, 2 and, after a gap, 5; track b: frame 6.
    points = np.array([[0, 0], [3, 4], [3, 14], [9, 14], [500, 500]], np.float32)
    keypoints = np.concatenate([points, np.full((5, 1), 2, np.float32)], axis=1)[:, None]
    boxes = np.array([[0, 0, 50, 20], [0, 0, 100, 20], [0, 0, 20, 100], [0, 0, 9, 9], [0, 0, 9, 9]])
    speeds = joint_speeds(keypoints, boxes, np.array([0, 1, 2, 5, 6]), np.array(list("aaaab")))
    # Frame 0 takes the 5 px to frame 1, over its own 50; 5 / 100; 10 / 100. Frames 5 and 6 have no
    # neighbour.
    np.testing.assert_allclose(speeds[:, 0], [0.1, 0.05, 0.1, np.nan, np.nan])


def test_an_unlabelled_joint_has_no_speed_and_gives_none() -> None:
    keypoints = np.zeros((3, 2, 3))
    keypoints[..., 0] = [[0, 0], [10, 10], [30, 30]]
    keypoints[..., 2] = [[2, 2], [0, 1], [2, 2]]
    speeds = joint_speeds(keypoints, np.tile([0, 0, 10, 10], (3, 1)), np.arange(3), np.zeros(3))
    assert np.isnan(speeds[:, 0]).all()
    np.testing.assert_allclose(speeds[:, 1], [1, 1, 2])
    boxes = np.zeros((3, 4))
    assert np.isnan(joint_speeds(keypoints, boxes, np.arange(3), np.zeros(3))).all()


def test_quarters_of_the_counted_joints() -> None:
    speeds = np.array([[0.0, 1, 2, 3, 4, 100, np.nan]])
    counted = np.array([[True, True, True, True, True, False, True]])
    numbers, bounds = quartile_numbers(speeds, counted)
    # Quantiles of 0..4 are 1, 2 and 3; a speed at a bound is of the slower quarter.
    assert bounds.tolist() == [1, 2, 3]
    assert numbers.tolist() == [[0, 0, 1, 2, 3, -1, -1]]
    numbers, bounds = quartile_numbers(speeds, counted & False)
    assert (numbers == -1).all() and np.isnan(bounds).all()
