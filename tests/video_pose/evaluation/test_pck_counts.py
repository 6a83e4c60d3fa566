"""Counts that add up: per joint, per group, over videos and ranks."""

from __future__ import annotations

import pickle
import re

import numpy as np
import pytest

from video_pose.evaluation.pck import PCKAccumulator

NAMES = ["head", "left_wrist", "right_wrist", "neck"]
GROUPS = {"head": ["head"], "wrist": ["left_wrist", "right_wrist"], "neck": ["neck"]}
BOX = np.array([[0, 0, 100, 50]], np.float32)


def _accumulator(protocol: str = "bbox", **kwargs: object) -> PCKAccumulator:
    return PCKAccumulator(protocol, NAMES, GROUPS, **kwargs)


def _frame(distances: list[float], visibility: list[int]) -> tuple[np.ndarray, np.ndarray]:
    truth = np.array([[[30.0, 20.0, v] for v in visibility]], np.float32)
    predictions = truth.copy()
    predictions[0, :, 0] += distances
    return predictions, truth


def test_hand_worked_table() -> None:
    accumulator = _accumulator()
    # Length 100. Frame 1: hits at .2 (20), not at 20.5, hit at .1 and .05 (3), v = 0 not counted.
    accumulator.add("a", *_frame([20, 20.5, 3, 0], [2, 2, 1, 0]), BOX)
    # Frame 2: 8 (.1), left wrist not annotated, 40 miss, 6 (.1).
    accumulator.add("b", *_frame([8, 0, 40, 6], [2, 0, 2, 2]), BOX)
    metrics = accumulator.metrics()
    # Counted: 2 heads, 1 left wrist, 2 right wrists, 1 neck = 6. Hits at .2: 2 + 0 + 1 + 1 = 4.
    assert metrics["PCK@0.2"] == pytest.approx(400 / 6)
    assert metrics["PCK@0.1"] == pytest.approx(300 / 6)
    assert metrics["PCK@0.05"] == pytest.approx(100 / 6)
    assert metrics["PCK@0.2-head"] == 100
    assert metrics["PCK@0.2-left_wrist"] == 0
    assert metrics["PCK@0.2-right_wrist"] == 50
    assert metrics["PCK@0.2-wrist"] == pytest.approx(100 / 3)  # counts, not the mean of 0 and 50
    assert metrics["PCK@0.1-head"] == 50
    # A group of one joint of its name is that joint: it is told once.
    assert "PCK@0.2-head_joint" not in metrics
    # Mean of head and wrist; the neck is no part of it.
    assert metrics["PCK@0.2_groups"] == pytest.approx((100 + 100 / 3) / 2)
    errors = [20, 20.5, 3, 8, 40, 6]
    assert metrics["mean_error_px"] == pytest.approx(np.mean(errors))
    assert metrics["median_error_px"] == pytest.approx(14)
    # Areas 1 - d / 20 of the hits: 0, .85, .6, .7.
    assert metrics["AUC"] == pytest.approx(100 * 2.15 / 6, abs=0.1)
    assert (metrics["frames"], metrics["joints"], metrics["uncounted_joints"]) == (2, 6, 2)


def test_min_visibility_two_leaves_hidden_joints_out() -> None:
    accumulator = _accumulator(min_visibility=2)
    accumulator.add("a", *_frame([0, 90, 90, 0], [2, 1, 1, 2]), BOX)
    metrics = accumulator.metrics()
    assert metrics["PCK@0.2"] == 100 and metrics["joints"] == 2
    assert np.isnan(metrics["PCK@0.2-wrist"])
    assert metrics["PCK@0.2_groups"] == 100


def test_frames_without_length_are_excluded_and_said() -> None:
    accumulator = _accumulator()
    accumulator.add("a", *_frame([0, 0, 0, 0], [2, 2, 2, 2]), np.zeros((1, 4)))
    accumulator.add("a", *_frame([50, 50, 50, 50], [2, 2, 2, 2]), BOX)
    metrics = accumulator.metrics()
    assert metrics["PCK@0.2"] == 0 and metrics["joints"] == 4
    assert (metrics["frames"], metrics["excluded_frames"]) == (2, 1)


def test_a_frame_without_a_person_is_missed_not_left_out() -> None:
    accumulator = _accumulator()
    predictions, truth = _frame([1, 1, 1, 1], [2, 2, 2, 2])
    accumulator.add("a", predictions, truth, BOX)
    accumulator.add("a", np.full_like(predictions, np.nan), truth, BOX)
    metrics = accumulator.metrics()
    assert metrics["PCK@0.2"] == 50 and metrics["missed_frames"] == 1
    assert metrics["mean_error_px"] == 1  # of the joints that were predicted


def test_pixels_averages_pairs_and_uses_stored_pixels() -> None:
    accumulator = _accumulator("pixels")
    for distances, visibility in (([12, 12.5, 6, 0], [2, 2, 2, 0]), ([0, 0, 5, 0], [0, 0, 2, 0])):
        accumulator.add("a", *_frame(distances, visibility), np.zeros((1, 4)))
    metrics = accumulator.metrics()
    assert metrics["PCK@12px"] == 75 and metrics["PCK@6px"] == 50
    # Left 0 of 1, right 2 of 2: the pair's mean is 50, its counts would give 66.7.
    assert metrics["PCK@12px-wrist"] == 50
    assert metrics["excluded_frames"] == 0


def test_swapped_sides_score_low() -> None:
    truth = np.array([[[50, 5, 2], [10, 40, 2], [90, 40, 2], [50, 10, 2]]], np.float32)
    accumulator = _accumulator()
    accumulator.add("a", truth[:, [0, 2, 1, 3]], truth, BOX)
    metrics = accumulator.metrics()
    assert metrics["PCK@0.2-wrist"] == 0 and metrics["PCK@0.2"] == 50


def test_nothing_labelled_is_nan() -> None:
    accumulator = _accumulator()
    accumulator.add("a", *_frame([0, 0, 0, 0], [0, 0, 0, 0]), BOX)
    metrics = accumulator.metrics()
    for key in ("PCK@0.2", "PCK@0.2_groups", "PCK@0.2_low", "AUC", "mean_error_px", "PCK@0.1"):
        assert np.isnan(metrics[key]), key
    assert np.isnan(_accumulator().metrics()["PCK@0.2"])


def _random(seed: int, frames: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    truth = generator.uniform(0, 100, (frames, 4, 3)).astype(np.float32)
    truth[..., 2] = generator.integers(0, 3, (frames, 4))
    predictions = truth + generator.normal(0, 12, truth.shape).astype(np.float32)
    return predictions, truth, np.repeat(BOX, frames, axis=0)


def test_ranks_and_order_do_not_change_the_result() -> None:
    videos = {f"v{seed}": _random(seed, 5 + seed) for seed in range(6)}
    one = _accumulator()
    for video, arrays in videos.items():
        one.add(video, *arrays)
    ranks = [_accumulator(), _accumulator()]
    for position, video in enumerate(reversed(videos)):
        for row in range(len(videos[video][0])):  # one frame at a time, a video on both ranks
            arrays = [array[row : row + 1] for array in videos[video]]
            ranks[(position + row) % 2].add(video, *arrays)
    merged = _accumulator()
    for rank in ranks:
        merged.merge(pickle.loads(pickle.dumps(rank)))
    assert merged.metrics() == one.metrics()
    assert 0 < one.metrics()["PCK@0.2"] < 100
    assert one.metrics()["PCK@0.2_low"] < one.metrics()["PCK@0.2"] < one.metrics()["PCK@0.2_high"]


def test_shots_of_one_source_video_are_drawn_together() -> None:
    apart, together = _accumulator(), _accumulator()
    for number in range(12):
        # Every third video is wrong in all joints, the others are right.
        frame = _frame([0 if number % 3 else 50] * 4, [2] * 4)
        apart.add(f"v{number}", *frame, BOX)
        together.add(f"v{number}", *frame, BOX, source_video=f"source {number % 2}")
    # Two sources with four right videos of six each: any draw gives the same.
    assert together.interval() == pytest.approx((200 / 3, 200 / 3))
    low, high = apart.interval()
    assert low < 50 and high > 80
    metrics = together.metrics()
    assert metrics["PCK@0.2-neck_low"] == pytest.approx(200 / 3)
    assert apart.metrics()["PCK@0.2-neck_low"] == pytest.approx(low)
    merged = _accumulator()
    merged.merge(together)
    assert merged.interval() == together.interval()


def test_inputs_are_not_changed() -> None:
    arrays = _random(0, 3)
    copies = [array.copy() for array in arrays]
    _accumulator().add("a", *arrays)
    for array, copy in zip(arrays, copies):
        np.testing.assert_array_equal(array, copy)


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="protocol"):
        _accumulator("torso")
    with pytest.raises(KeyError, match="group 'knee' names joints .*left_knee.* that are not in"):
        PCKAccumulator("bbox", NAMES, {"knee": ["head", "left_knee"]})
    with pytest.raises(KeyError, match=r"joints \['tail'\] are to be scored, but are not in"):
        _accumulator(scored=["head", "tail"])
    for shapes in (((1, 3, 3), (1, 4, 3)), ((2, 4, 3), (1, 4, 3)), ((1, 4, 3), (1, 4, 2))):
        message = (
            f"video 'a': predictions {shapes[0]} and ground truth {shapes[1]} must be (N, 4, ...) "
            f"for joints {NAMES}"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            _accumulator().add("a", np.zeros(shapes[0]), np.zeros(shapes[1]), BOX)
    message = (
        f"cannot add counts of ('pixels', {NAMES}, {NAMES}, 1, None) to counts of "
        f"('bbox', {NAMES}, {NAMES}, 1, None)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        _accumulator().merge(_accumulator("pixels"))


def test_frames_of_all_kinds_are_counted_also_over_ranks() -> None:
    """Excluded frames are neither missed nor are their joints uncounted; one joint that was found
    is no missed frame; joints that are not scored are not uncounted."""
    ranks = []
    for _ in range(2):
        accumulator = _accumulator(scored=["left_wrist", "neck"])
        nothing = np.full((1, 4, 3), np.nan)
        predictions, truth = _frame([0, 0, 0, 99], [0, 0, 2, 2])
        accumulator.add("a", nothing, truth, np.zeros((1, 4)))
        accumulator.add("a", predictions, truth, BOX, source_video="film")
        accumulator.add("b", nothing, truth, BOX)
        nothing[0, 0] = 1
        accumulator.add("b", nothing, truth, BOX)
        ranks.append(accumulator)
    ranks[0].merge(ranks[1])
    counts = {"frames": 8, "joints": 6, "excluded_frames": 2, "missed_frames": 2,
              "uncounted_joints": 6}  # fmt: skip
    metrics = ranks[0].metrics()
    assert {name: metrics[name] for name in counts} == counts
    assert ranks[0].sources == {"a": "film", "b": "b"}
    # The neck alone has a truth; left out are the head, a joint that is not scored between.
    assert [key for key in metrics if key.startswith("PCK@0.2-")] == [
        "PCK@0.2-wrist", "PCK@0.2-neck", "PCK@0.2-left_wrist", "PCK@0.2-left_wrist_low",
        "PCK@0.2-left_wrist_high", "PCK@0.2-neck_low", "PCK@0.2-neck_high",
    ]  # fmt: skip
    assert metrics["PCK@0.2-neck"] == metrics["PCK@0.2"] == 0 and metrics["mean_error_px"] == 99
    assert metrics["median_error_px"] == 99 and metrics["AUC"] == 0


def test_the_draws_of_an_interval_have_a_seed() -> None:
    accumulator = _accumulator()
    for number in range(12):
        accumulator.add(f"v{number}", *_frame([number * 3, 0, 0, 50], [2, 2, 2, 2]), BOX)
    assert accumulator.interval() == accumulator.interval(0)
    assert len({accumulator.interval(seed) for seed in range(20)}) > 1


def test_a_group_with_the_name_of_one_of_its_joints() -> None:
    accumulator = PCKAccumulator("bbox", NAMES, {"head": ["head", "neck"]})
    accumulator.add("a", *_frame([0, 0, 0, 50], [2, 2, 2, 2]), BOX)
    metrics = accumulator.metrics()
    assert metrics["PCK@0.2-head"] == 50 and metrics["PCK@0.2-head_joint"] == 100
