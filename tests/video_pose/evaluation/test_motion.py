"""Swaps, jitter, lag and recovery worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from video_pose.evaluation import motion

PAIR = [(0, 1)]


def _path(*places: float) -> np.ndarray:
    """One joint along x: (N, 1, 2)."""
    return np.array([[[x, 0.0]] for x in places])


def _sides(count: int) -> np.ndarray:
    return np.full(count, 100.0)


def test_runs_end_at_gaps_and_other_tracks() -> None:
    tracks = np.array(list("aaaabb"))
    spans = list(motion.runs(tracks, np.array([0, 1, 5, 6, 7, 8])))
    assert [(s.start, s.stop) for s in spans] == [(0, 2), (2, 4), (4, 6)]
    assert list(motion.runs(tracks[:0], np.zeros(0))) == []
    assert motion.true_spans(np.array([1, 1, 0, 1, 0], bool)) == [(0, 2), (3, 4)]


def test_a_pair_is_swapped_where_both_joints_are_nearer_to_the_other_side() -> None:
    truth = np.tile(np.array([[[10.0, 0.0], [50.0, 0.0]]]), (5, 1, 1))
    points = truth.copy()
    points[0] = [[50, 0], [10, 0]]  # swapped
    points[1] = [[49, 0], [50, 0]]  # both on one side: wrong, but no swap
    points[2] = [[31, 0], [29, 0]]  # just nearer to the other side
    points[3, 0] = np.nan  # not predicted: not counted
    truth[4] = [[10, 0], [19.9, 0]]  # 9.9 % of the box apart: not counted
    points[4] = [[19.9, 0], [10, 0]]
    found = motion.swap_rate(points, truth, _sides(5), PAIR)
    assert found == {"swap_rate": pytest.approx(200 / 3), "swap_pairs": 3.0}
    assert np.isnan(motion.swap_rate(points[3:], truth[3:], _sides(2), PAIR)["swap_rate"])


def test_sudden_exchanges_need_no_truth() -> None:
    # Left walks 10, 11, 12; right 50. They change places at the third frame and stay so.
    places = [(10, 50), (11, 50), (50, 12), (50, 13)]
    points = np.array([[[a, 0], [b, 0]] for a, b in places], float)
    found = motion.exchange_rate(points, _sides(4), [slice(0, 4)], PAIR)
    assert found == {"exchange_rate": pytest.approx(100 / 3), "exchange_steps": 3.0}
    # In two runs the step between them is none.
    apart = motion.exchange_rate(points, _sides(4), [slice(0, 2), slice(2, 4)], PAIR)
    assert apart == {"exchange_rate": 0.0, "exchange_steps": 2.0}
    # Hands that pass each other slowly are not exchanged.
    slow = np.array([[[10, 0], [25, 0]], [[15, 0], [20, 0]], [[20, 0], [10, 0]]], float)
    assert motion.exchange_rate(slow, _sides(3), [slice(0, 3)], PAIR)["exchange_steps"] == 0


def test_acceleration_error_is_a_second_difference() -> None:
    truth = _path(0, 1, 4, 9)  # second differences 2, 2
    points = _path(0, 1, 4, 12)  # 2, 5
    sides = np.array([100.0, 100.0, 50.0, 50.0])
    found = motion.jitter(points, truth, sides, [slice(0, 4)])
    assert found["acceleration_error_px"] == pytest.approx(1.5)  # 0 and 3
    assert found["acceleration_error"] == pytest.approx(100 * (0 / 100 + 3 / 50) / 2)
    assert found["acceleration_px"] == pytest.approx(3.5)
    assert found["acceleration_joints"] == 2
    truth[0] = np.nan  # unlabelled: the first second difference is gone
    assert motion.jitter(points, truth, sides, [slice(0, 4)])["acceleration_error_px"] == 3
    short = motion.jitter(points, truth, sides, [slice(0, 2), slice(2, 4)])
    assert np.isnan(short["acceleration_px"])


def test_high_frequencies_of_a_shaking_joint() -> None:
    time = np.arange(64)
    slow = np.stack([50 + 20 * np.sin(2 * np.pi * time / 32), 0 * time], axis=-1)[:, None]
    shaking = np.stack([50 + (-1.0) ** time, 0 * time], axis=-1)[:, None]
    spans = [slice(0, 64)]
    assert motion.high_frequency_share(slow, spans)["high_frequency_share"] < 1
    assert motion.high_frequency_share(shaking, spans)["high_frequency_share"] > 99
    noise = np.random.default_rng(0).normal(50, 1, (4096, 1, 2))
    share = motion.high_frequency_share(noise, [slice(0, 4096)])["high_frequency_share"]
    assert share == pytest.approx(50 + 100 / np.pi, abs=2)  # the integral of 1 - cos
    assert np.isnan(motion.high_frequency_share(noise, [slice(0, 7)])["high_frequency_share"])
    # A gap parts the path: two runs of seven are too short.
    noise[7] = np.nan
    assert np.isnan(motion.high_frequency_share(noise[:15], [slice(0, 15)])["high_frequency_share"])


@pytest.mark.parametrize("late", [0.0, 1.0, -2.0, 0.5])
def test_lag_is_the_best_shift(late: float) -> None:
    time = np.arange(40.0)
    truth = np.stack([50 + 10 * np.sin(time / 3), 5 * np.cos(time / 4)], axis=-1)[:, None]
    moved = time - late
    points = np.stack([50 + 10 * np.sin(moved / 3), 5 * np.cos(moved / 4)], axis=-1)[:, None]
    points[5] += 90  # one wild frame is no lag
    found = motion.lag(points, truth, _sides(40), [slice(0, 40)])
    assert found["lag_frames"] == pytest.approx(late, abs=0.05)


@pytest.mark.parametrize(("late", "found"), [(3, 3.0), (-3, -3.0), (5, 3.0), (-5, -3.0), (2, 2.0)])
def test_lag_is_at_most_the_greatest_shift(late: int, found: float) -> None:
    """At an end there is no neighbour to fit a parabola through: the shift itself is told."""
    time = np.arange(40.0)
    truth, points = (np.stack([at, 0 * at], axis=-1)[:, None] for at in (time, time - late))
    assert motion.lag(points, truth, _sides(40), [slice(0, 40)], 3)["lag_frames"] == found


def test_lag_of_still_joints_is_none_and_far_ones_count_alike() -> None:
    still = _path(*[7] * 20)
    # All shifts fit alike: the first one is told.
    assert motion.lag(still, still, _sides(20), [slice(0, 20)], 2) == {"lag_frames": -2.0}
    far = still + 1e6
    assert motion.lag(far, still, _sides(20), [slice(0, 20)], 2) == {"lag_frames": -2.0}


def test_lag_needs_a_run_longer_than_twice_the_shift() -> None:
    path = _path(*range(6))
    assert np.isnan(motion.lag(path, path, _sides(6), [slice(0, 6)])["lag_frames"])


def test_frames_until_a_joint_is_right_again() -> None:
    v = np.array([2, 1, 1, 2, 2, 2, 1, 2, 2, 1, 2])
    keypoints = np.zeros((11, 1, 3))
    keypoints[:, 0, 2] = v
    points = np.zeros((11, 1, 2))
    points[1:5] = 30  # back at 3, right at 5: two frames; a run of four misses
    points[10] = 30  # back at 10, and the run ends: lost; a run of one miss
    found = motion.recovery(points, keypoints, _sides(11), [slice(0, 11)])
    assert found["recovery_frames"] == pytest.approx((2 + 0) / 2)  # at 7 it is right at once
    assert found["recovery_events"] == 3 and found["recovery_lost"] == pytest.approx(100 / 3)
    assert found["miss_run_frames"] == pytest.approx((4 + 1) / 2)
    # A joint that was unlabelled, not hidden, does not come back.
    keypoints[[1, 2], 0, 2] = 0
    assert motion.recovery(points, keypoints, _sides(11), [slice(0, 11)])["recovery_events"] == 2


def test_a_prediction_that_is_missing_is_a_miss() -> None:
    keypoints = np.zeros((3, 1, 3))
    keypoints[:, 0, 2] = 2
    points = np.full((3, 1, 2), np.nan)
    found = motion.recovery(points, keypoints, _sides(3), [slice(0, 3)])
    assert found["miss_run_frames"] == 3 and found["recovery_events"] == 0


def test_all_figures_of_a_file() -> None:
    names = ["left_wrist", "right_wrist"]
    truth = np.full((6, 2, 3), 2.0, np.float32)
    truth[:, 0, 0], truth[:, 1, 0] = 20, 60
    predictions = truth.copy()
    predictions[2, :, 0] = [60, 20]
    predictions[3] = np.nan
    stored = {
        "predictions": predictions, "ground_truth": truth, "joint_names": np.array(names),
        "boxes": np.tile(np.array([0, 0, 100, 80], np.float32), (6, 1)),
        "video_ids": np.full(6, "v"), "track_ids": np.full(6, "0"),
        "frame_indices": np.arange(6),
    }  # fmt: skip
    found = motion.motion_metrics(stored, [("left_wrist", "right_wrist")])
    assert found["swap_rate"] == 20 and found["swap_pairs"] == 5
    assert found["exchange_rate"] == pytest.approx(100 / 3)  # steps 0-1, 1-2, 4-5
    assert found["miss_run_frames"] == 2
    with pytest.raises(ValueError, match="is not in list"):
        motion.motion_metrics(stored, [("left_knee", "right_knee")])
