"""Speeds from ground truth (neighbours of the same track only, in box sides per frame), and the
worst frames."""

from __future__ import annotations

import numpy as np
import pytest

from video_pose.evaluation.report import (
    frame_errors,
    joint_speeds,
    quartile_numbers,
    require_pair,
    worst_frames,
)
from video_pose.skeleton import JHMDB


def _moving(places: list[float], v: list[int] | None = None) -> np.ndarray:
    """One joint on a line: (M, 1, 3)."""
    keypoints = np.zeros((len(places), 1, 3))
    keypoints[:, 0, 0] = places
    keypoints[:, 0, 2] = [2] * len(places) if v is None else v
    return keypoints


def _boxes(count: int, side: float = 100) -> np.ndarray:
    return np.tile([0, 0, side / 2, side], (count, 1))


def test_mean_displacement_of_four_steps_over_the_box() -> None:
    # Steps 1, 2, 4, 8 and 16; frame 2 has two before and two after it, frames at the ends fewer.
    keypoints = _moving([0, 1, 3, 7, 15, 31])
    speeds = joint_speeds(keypoints, _boxes(6), np.arange(6), np.zeros(6))
    expected = [(1 + 2) / 2, (1 + 2 + 4) / 3, 15 / 4, 30 / 4, (4 + 8 + 16) / 3, (8 + 16) / 2]
    np.testing.assert_allclose(speeds[:, 0], np.array(expected) / 100)
    boxes = _boxes(6)
    boxes[2] = [0, 0, 200, 10]
    again = joint_speeds(keypoints, boxes, np.arange(6), np.zeros(6))
    assert again[2, 0] == pytest.approx(15 / 4 / 200) and again[1, 0] == speeds[1, 0]


def test_no_step_crosses_a_gap_or_another_track() -> None:
    keypoints = _moving([0, 2, 100, 104, 500])
    # Track a: frames 0, 1 and, after a gap, 5, 6; track b: frame 7.
    speeds = joint_speeds(keypoints, _boxes(5), np.array([0, 1, 5, 6, 7]), np.array(list("aaaab")))
    np.testing.assert_allclose(speeds[:, 0], [0.02, 0.02, 0.04, 0.04, np.nan])


def test_an_unlabelled_joint_has_no_speed_and_gives_none() -> None:
    keypoints = _moving([0, 10, 30, 60], v=[2, 0, 1, 2])
    speeds = joint_speeds(keypoints, _boxes(4), np.arange(4), np.zeros(4))
    # Only the step from frame 2 to 3 is known; it is within two frames of all but frame 0.
    np.testing.assert_allclose(speeds[:, 0], [np.nan, 0.3, 0.3, 0.3])
    assert np.isnan(joint_speeds(keypoints, np.zeros((4, 4)), np.arange(4), np.zeros(4))).all()


def test_quarters_of_the_counted_joints() -> None:
    speeds = np.array([[0.0, 1, 2, 3, 4, 100, np.nan]])
    counted = np.array([[True, True, True, True, True, False, True]])
    numbers, bounds = quartile_numbers(speeds, counted)
    # Quantiles of 0..4 are 1, 2 and 3; a speed at a bound is of the slower quarter.
    assert bounds.tolist() == [1, 2, 3]
    assert numbers.tolist() == [[0, 0, 1, 2, 3, -1, -1]]
    numbers, bounds = quartile_numbers(speeds, counted & False)
    assert (numbers == -1).all() and np.isnan(bounds).all()


def _worst() -> dict[str, np.ndarray]:
    """Four frames, all joints (50, 40) in a box of 100 px; predictions 10, 30, 20 px off, none."""
    truth = np.zeros((4, len(JHMDB.names), 3), np.float32)
    truth[:] = (50, 40, 2)
    predictions = truth.copy()
    predictions[..., 0] += np.array([10, 30, 20, np.nan], np.float32)[:, None]
    return {
        "predictions": predictions, "ground_truth": truth,
        "boxes": np.tile(np.array([0, 0, 100, 80], np.float32), (4, 1)),
        "video_ids": np.array(["a", "b", "c", "d"]), "track_ids": np.full(4, "0"),
        "frame_indices": np.arange(4), "source_videos": np.array(["x", "x", "y", "z"]),
        "actions": np.array(["run", "run", "", "run"]),
        "joint_names": np.array(JHMDB.names), "dataset_name": np.array("sub_jhmdb_split1_test"),
    }  # fmt: skip


def test_errors_and_order() -> None:
    stored = _worst()
    stored["ground_truth"][0, 3:, 2] = 0
    errors = frame_errors(stored, "bbox", 1)
    np.testing.assert_allclose(errors, [0.1, 0.3, 0.2, np.inf], rtol=1e-5)
    stored["ground_truth"][0, :, 2] = 0
    assert np.isnan(frame_errors(stored, "bbox", 1)[0])
    # Source x by its second frame, then y; the frame without a prediction cannot be drawn.
    assert worst_frames(errors, stored["source_videos"], 12) == [1, 2]
    assert worst_frames(errors, stored["source_videos"], 1) == [1]


def test_two_evaluations_of_the_same_frames_are_a_pair() -> None:
    require_pair(_worst(), _worst())
    # An unlabelled joint, NaN in both, is no difference; predictions may differ.
    a, b = _worst(), _worst()
    a["ground_truth"][1, 2] = b["ground_truth"][1, 2] = np.nan
    b["predictions"] += 5
    require_pair(a, b)
    # What an older file does not tell was all joints.
    require_pair({**a, "scored_joints": a["joint_names"]}, b)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset_name": np.array("other")}, "A was scored on 'sub_.*', B on 'other': no pair"),
        ({"scored_joints": np.array(["neck"])}, r"the scored_joints differ: .*, B \['neck'\]"),
        ({"joint_names": np.array(["neck"])}, r"the joint_names differ: .*, B \['neck'\]"),
        (
            {"video_ids": np.array(["a", "b", "q", "d"])},
            r"A has 4 rows, 1 that B lacks \(\[\('c', '0', 2\)\]\); B has 4, 1 that A lacks "
            r"\(\[\('q', '0', 2\)\]\)",
        ),
        ({"track_ids": np.array(["0", "0", "0", "1"])}, r"1 that A lacks \(\[\('d', '1', 3\)"),
        ({"frame_indices": np.array([1, 0, 2, 3])}, "come in another order: A has 4 rows, 2 that"),
        ({"source_videos": np.array(["x"] * 4)}, "other source videos .* Evaluate both anew"),
    ],
)
def test_evaluations_of_other_joints_or_frames_are_no_pair(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        require_pair(_worst(), {**_worst(), **change})


def test_three_frames_that_the_other_lacks_are_named() -> None:
    other = {**_worst(), "video_ids": np.array(list("pqrs"))}
    message = (
        r"A has 4 rows, 4 that B lacks \(\[\('a', '0', 0\), \('b', '0', 1\), \('c', '0', 2\)\]\); "
        r"B has 4, 4 that A lacks \(\[\('p', '0', 0\), \('q', '0', 1\), \('r', '0', 2\)\]\)$"
    )
    with pytest.raises(ValueError, match=message):
        require_pair(_worst(), other)


@pytest.mark.parametrize("name", ["ground_truth", "boxes"])
def test_other_labels_or_boxes_are_no_pair(name: str) -> None:
    other = _worst()
    other[name][2, 1] += 1
    other[name][3, 0] += 1
    with pytest.raises(ValueError, match=rf"{name} differs in 2 frames, first in \('c', '0', 2\)"):
        require_pair(_worst(), other)
