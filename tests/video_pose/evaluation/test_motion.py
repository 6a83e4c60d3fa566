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


def test_frames_that_do_not_follow_are_runs_of_their_own() -> None:
    # A gap of one frame, the same frame twice, and one that goes back.
    spans = list(motion.runs(np.array(list("aaaaab")), np.array([0, 2, 2, 1, 2, 3])))
    assert [(s.start, s.stop) for s in spans] == [(0, 1), (1, 2), (2, 3), (3, 5), (5, 6)]
    assert motion.true_spans(np.array([True])) == [(0, 1)]
    assert motion.true_spans(np.array([0, 1, 1], bool)) == [(1, 3)]
    assert motion.true_spans(np.zeros(0, bool)) == motion.true_spans(np.zeros(2, bool)) == []


def test_the_longer_side_of_boxes_that_have_an_area() -> None:
    boxes = [[1, 1, 1.5, 1.25], [1, 2, 4, 9], [0, 0, 9, 0], [5, 0, 4, 9], [np.nan, 0, 1, 1]]
    np.testing.assert_equal(motion.box_sides(np.array(boxes)), [0.5, 7, *[np.nan] * 3])
    assert motion.box_sides(np.zeros((0, 4))).shape == (0,)


def test_pairs_at_the_bounds_of_a_swap() -> None:
    """Truths just .1 of the box apart count; as near to either side is not exchanged."""
    # Columns: another joint, right, left, and a second pair that is exchanged in every frame.
    truth = np.zeros((4, 5, 2))
    truth[:, 1, 1], truth[:, 2, 1] = 30, 20
    truth[:, 3] = [3, 4]
    points = truth.copy()
    points[:, 3], points[:, 4] = truth[:, 4], truth[:, 3]
    points[0, [1, 2]] = [[0, 20], [0, 30]]  # exchanged
    points[1, [1, 2]] = [[0, 20], [0, 25]]  # the left one is as near to both
    points[2, [1, 2]] = [[0, 25], [0, 30]]  # the right one is
    points[3, 1, 0] = np.nan
    pairs = [(2, 1), (3, 4)]
    sides = np.array([100.0, 100, 100, 50])
    found = motion.swap_rate(points, truth, sides, pairs)
    # The second pair is 5 apart, which is .1 of a box of 50 alone.
    assert found == {"swap_rate": 50.0, "swap_pairs": 4.0}


def test_paths_at_the_bounds_of_an_exchange() -> None:
    """Crossing has to cost less than half of staying, in both frames .1 of the box apart."""

    def rate(*places: tuple[float, float], side: float = 100.0) -> dict[str, float]:
        points = np.zeros((len(places), 3, 2))
        points[:, [0, 2], 1] = places
        sides = np.full(len(places), side)
        return motion.exchange_rate(points, sides, [slice(0, len(places))], [(0, 2)])

    assert rate((0, 30), (20, 10)) == {"exchange_rate": 0.0, "exchange_steps": 1.0}
    assert rate((0, 30), (20.1, 10)) == {"exchange_rate": 100.0, "exchange_steps": 1.0}
    assert rate((0, 30), (30, 0), side=301)["exchange_steps"] == 0
    nothing = rate((0, 30), (20, 10), side=101)
    assert np.isnan(nothing["exchange_rate"]) and nothing["exchange_steps"] == 0
    assert rate((20, 10), (0, 30), side=101)["exchange_steps"] == 0
    # A step is from the frame before: at first both go far, then they change places.
    found = rate((0, 30), (100, 130), (130, 100))
    assert found == {"exchange_rate": 50.0, "exchange_steps": 2.0}
    # Two pairs and two runs of other boxes: their counts are added.
    points = np.zeros((4, 4, 2))
    points[:, :, 0] = [[0, 30, 60, 90], [30, 0, 60, 90], [0, 30, 60, 90], [0, 30, 90, 60]]
    sides = np.array([100.0, 100, 300, 300])
    pairs = [(0, 1), (3, 2)]
    found = motion.exchange_rate(points, sides, [slice(0, 2), slice(2, 4)], pairs)
    assert found == {"exchange_rate": 50.0, "exchange_steps": 4.0}
    assert motion.exchange_rate(points, sides, [slice(2, 4)], pairs[:1])["exchange_rate"] == 0


def test_accelerations_of_two_joints_over_the_box_of_the_middle_frame() -> None:
    truth = np.zeros((5, 2, 2))
    points = truth.copy()
    points[2, 0] = [3, 4]  # errors 5, 10 and 5
    points[2, 1, 0] = 1  # 1, 2 and 1
    sides = np.array([7.0, 100, 50, 20, 9])
    found = motion.jitter(points, truth, sides, [slice(0, 5)])
    assert found == {
        "acceleration_error_px": 4.0, "acceleration_px": 4.0, "acceleration_joints": 6.0,
        "acceleration_error": pytest.approx(100 * (6 / 100 + 12 / 50 + 6 / 20) / 6),
    }  # fmt: skip
    # Runs of one, three and one frame: the first second difference is the only one.
    spans = [slice(0, 1), slice(1, 4), slice(4, 5)]
    assert motion.jitter(points, truth, sides, spans)["acceleration_error_px"] == (10 + 2) / 2


def test_movement_of_known_frequencies() -> None:
    """Velocities of 1/8, 3/8 and 1/2 of the frame rate, eight steps each: the power of a wave is
    half its height squared, that of 1/2 the whole."""
    time = np.arange(8)
    velocity = np.zeros((8, 2))
    velocity[:, 0] = 2 * np.cos(np.pi * time / 4) + 4 * np.cos(3 * np.pi * time / 4)
    velocity[:, 0] += 3 * (-1.0) ** time + 5  # and a steady walk, which is no wave
    velocity[:, 1] = 2 * np.sin(np.pi * time / 4)
    path = np.concatenate([np.zeros((1, 2)), velocity.cumsum(axis=0)]) / 1000

    def share(points: np.ndarray) -> float:
        spans = [slice(0, len(points))]
        return motion.high_frequency_share(points, spans)["high_frequency_share"]

    expected = 100 * (8 + 9) / (2 + 8 + 9 + 2)
    assert share(path[:, None]) == pytest.approx(expected)
    # A run of seven frames, a gap, nine frames: the first is too short to count. A joint that
    # rests adds nothing.
    parted = np.zeros((17, 2, 2))
    parted[:7, 1, 0] = [0, 9, 0, 9, 0, 9, 0]
    parted[7, 1] = np.nan
    parted[8:, 1] = path
    assert share(parted) == pytest.approx(expected)
    assert np.isnan(share(parted[:, :1]))
    # A quarter of the frame rate is not above it; eight frames are enough.
    quarter = np.concatenate([[0], np.cos(np.pi * time / 2).cumsum()])
    assert share(np.stack([quarter, quarter], 1)[:, None]) == pytest.approx(0, abs=1e-9)
    assert share(np.stack([quarter, quarter], 1)[:8, None]) > 0
    # Two runs are added up.
    twice = np.concatenate([path, np.stack([quarter, 0 * quarter], 1)])[:, None]
    found = motion.high_frequency_share(twice, [slice(0, 9), slice(9, 18)])
    power = np.array([2 + 8 + 9 + 2, 17]) / 1e6
    assert found["high_frequency_share"] == pytest.approx(100 * power[1] / (power[0] + 0.5))


def _late(by: float, frames: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Truth of 10 px a frame, and predictions ``by`` px behind."""
    truth = np.zeros((frames, 1, 2))
    truth[:, 0, 1] = 10 * np.arange(frames)
    return truth - [0, by], truth


def test_lag_by_hand() -> None:
    """.13, .03 and .07 of the box off at shifts of -1, 0 and 1: squares .0169, .0009, .0049, whose
    parabola is lowest at .5 * (.0169 - .0049) / .02."""

    def told(points: np.ndarray, spans: list[slice], sides: np.ndarray | None = None) -> float:
        boxes = _sides(len(truth)) if sides is None else sides
        return motion.lag(points, truth, boxes, spans, 1)["lag_frames"]

    points, truth = _late(3)
    whole = [slice(0, 12)]
    assert told(points, whole) == pytest.approx(0.3)
    # Five times farther away in five times larger boxes; a wild frame is as far at all shifts.
    far, truth = _late(3, 30)
    far[12:24, :, 1] = truth[12:24, :, 1] - 500
    spans = [slice(12, 14), slice(0, 12), slice(12, 24)]
    assert told(far, spans) == pytest.approx(0.3)
    # A truth that is not known is missing at three frames.
    truth[5] = np.nan
    points, _ = _late(3, 30)
    points[4:7] += 4
    assert told(points, whole) == pytest.approx(0.3)
    # Two runs count together: 10 frames of .3 in a box of 100, 10 of -.3 in one of 200.
    _, truth = _late(3, 24)
    points = truth - [0, 3]
    points[12:] = truth[12:] + [0, 3]
    sides = np.repeat([100.0, 200.0], 12)
    before, after = 0.0169 + 0.0049 / 4, 0.0049 + 0.0169 / 4
    expected = 0.5 * (before - after) / (before + after - 2 * 0.0009 * 1.25)
    assert told(points, [slice(0, 12), slice(12, 24)], sides) == pytest.approx(expected)


def test_a_run_of_one_frame_more_than_both_shifts_is_enough() -> None:
    points, truth = _late(3, 7)
    assert motion.lag(points, truth, _sides(7), [slice(0, 7)])["lag_frames"] == pytest.approx(0.3)
    assert np.isnan(motion.lag(points, truth, _sides(7), [slice(0, 6)])["lag_frames"])
    assert motion.lag(points, truth, _sides(7), [slice(0, 7)], 0) == {"lag_frames": 0.0}


def test_coming_back_at_the_bounds() -> None:
    """Right at just .1 of the box; a joint that was visible or unlabelled before is not back, nor
    one at the start of a run."""
    v = np.array([[2, 1, 2, 2, 0, 2, 1], [1, 1, 1, 2, 1, 2, 1]]).T
    keypoints = np.zeros((7, 2, 3))
    keypoints[..., 2] = v
    points = np.zeros((7, 2, 2))
    points[:, :, 0] = 10
    points[2, 0] = [8, 6.1]
    sides = np.array([100.0] * 6 + [np.nan])
    found = motion.recovery(points, keypoints, sides, [slice(0, 7)])
    # Three come back, one of them a frame late; the box without a side has no miss.
    assert found == {
        "recovery_frames": pytest.approx(1 / 3), "recovery_lost": 0.0, "recovery_events": 3.0,
        "miss_run_frames": 1.0,
    }  # fmt: skip
    points[:] = 11
    lost = motion.recovery(points, keypoints, sides, [slice(0, 7)])
    # Runs of four frames and one, an unlabelled one between them, and of six.
    assert np.isnan(lost.pop("recovery_frames")) and lost == {
        "recovery_lost": 100.0, "recovery_events": 3.0, "miss_run_frames": pytest.approx(11 / 3),
    }  # fmt: skip
    assert np.isnan(motion.recovery(points * 0, keypoints, sides, [])["miss_run_frames"])


def test_joints_that_are_not_scored_are_left_out_of_all_figures() -> None:
    """And so are hidden ones, where visible ones alone count, and poses at infinity."""
    truth = np.full((9, 2, 3), 2.0, np.float32)
    truth[:, 0, :2], truth[:, 1, :2] = [20, 30], [60, 0]
    predictions = truth.copy()
    predictions[0, 0, 0] = 25
    stored = {
        "predictions": predictions, "ground_truth": truth, "joint_names": np.array(["a", "b"]),
        "boxes": np.tile(np.array([0, 0, 100, 80], np.float32), (9, 1)),
        "video_ids": np.full(9, "v"), "track_ids": np.full(9, "0"), "frame_indices": np.arange(9),
    }  # fmt: skip
    found = motion.motion_metrics(stored, [("a", "b")])
    # A second difference of 5 in one of 14.
    assert found["acceleration_error_px"] == pytest.approx(5 / 14)
    assert found["swap_pairs"] == 9 and found["lag_frames"] == -3
    assert np.isnan(found["miss_run_frames"])
    scored = motion.motion_metrics({**stored, "scored_joints": np.array(["b"])}, [("a", "b")])
    assert scored["acceleration_error_px"] == 0 and scored["acceleration_joints"] == 7
    assert scored["swap_pairs"] == 0 and scored["exchange_steps"] == 8
    truth[0, 0, 2] = 1
    hidden = motion.motion_metrics(stored, [("a", "b")], 2)
    assert hidden["acceleration_error_px"] == 0 and hidden["acceleration_joints"] == 13
    assert hidden["swap_pairs"] == 8
    predictions[3, 1, 1] = np.inf
    assert motion.motion_metrics(stored, [("a", "b")])["acceleration_joints"] == 14 - 3
