"""Speeds from ground truth (neighbours of the same track only, in box sides per frame), and the
worst frames."""

from __future__ import annotations

import re
from dataclasses import FrozenInstanceError

import numpy as np
import pytest

from video_pose.evaluation.report import (
    UNDECIDED,
    ReportFacts,
    ScoredJoints,
    Share,
    difference,
    format_motion,
    frame_errors,
    interval_text,
    joint_speeds,
    markdown,
    quartile_numbers,
    require_pair,
    score_joints,
    sections,
    share,
    verdict,
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
    keypoints[1, 0, 2] = -1  # as one without a label
    speeds = joint_speeds(keypoints, _boxes(4), np.arange(4), np.zeros(4))
    # Only the step from frame 2 to 3 is known; it is within two frames of all but frame 0.
    np.testing.assert_allclose(speeds[:, 0], [np.nan, 0.3, 0.3, 0.3])
    # In boxes without a side, and in ones of half a pixel.
    for box, speed in (([9, 9, 9, 9], np.nan), ([9, 9, 5, 4], np.nan), ([0, 0, 0.5, 0.2], 60)):
        speeds = joint_speeds(keypoints, np.tile(box, (4, 1)), np.arange(4), np.zeros(4))
        np.testing.assert_allclose(speeds[1:, 0], [speed] * 3)
    alone = joint_speeds(keypoints[:1], _boxes(1), np.arange(1), np.zeros(1))
    np.testing.assert_equal(alone, [[np.nan]])


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
    stored["ground_truth"][0, 1:, 2] = 0  # one joint is enough
    assert frame_errors(stored, "bbox", 1)[0] == pytest.approx(0.1)
    stored["ground_truth"][0, :, 2] = 0
    assert np.isnan(frame_errors(stored, "bbox", 1)[0])
    # Source x by its second frame, then y; the frame without a prediction cannot be drawn.
    assert worst_frames(errors, stored["source_videos"], 12) == [1, 2]
    assert worst_frames(errors, stored["source_videos"], 1) == [1]
    # Of frames that are equally bad the first one.
    assert worst_frames(np.array([0.0, 0.2, 0.2]), np.array(["x", "x", "x"]), 3) == [1]


def test_joints_under_a_protocol() -> None:
    """Poses 10, 30 and 20 px off in boxes of 100 px, and none; one joint hidden, one not scored."""
    stored = _worst()
    names = list(JHMDB.names)
    stored["ground_truth"][0, 1, 2] = 1
    stored["boxes"][1] = 0
    stored["scored_joints"] = np.array(names[:-1])
    found = score_joints(stored, "bbox", 2)
    assert (found.protocol.name, found.threshold, found.frames_excluded) == ("bbox", 0.2, 1)
    assert (found.joint_names, found.scored) == (names, names[:-1])
    counted = np.ones((4, len(names)), bool)
    counted[:, -1] = counted[1] = counted[0, 1] = False
    hits = counted & np.array([True, False, True, False])[:, None]
    for array, expected in ((found.counted, counted), (found.hits, hits)):
        assert array.dtype == bool and array.tolist() == expected.tolist()
    assert found.visibility[0, :3].tolist() == [2, 1, 2]
    # Each row is another track: no joint has a speed.
    assert np.isnan(found.speeds).all() and found.sources.tolist() == ["x", "x", "y", "z"]
    assert not score_joints(stored, "bbox", 2, threshold=0.05).hits.any()
    assert score_joints(stored, "bbox", 1).counted.sum() == counted.sum() + 1
    stored["head_sizes"] = np.full(4, 40.0)
    skeleton = {**stored, "joint_names": np.array(["pelvis", "thorax", *names[2:]])}
    del skeleton["scored_joints"]
    assert score_joints(skeleton, "mpii_head", 1).scored == names[2:]


def test_tables_are_there_where_there_is_something_to_tell() -> None:
    """By action where there are two, by visibility where both kinds count, by joint always."""
    stored = _worst()
    names = list(JHMDB.names)
    tables = sections(score_joints(stored, "bbox", 1))
    assert list(tables) == ["overall", "joint", "action", "speed"]
    assert tables["overall"]["all"].tolist() == np.ones((4, len(names)), bool).tolist()
    assert list(tables["joint"]) == names
    second = tables["joint"][names[1]]
    assert second[:, 1].all() and second.sum() == 4
    assert list(tables["action"]) == ["", "run"]
    assert tables["action"]["run"].all(axis=1).tolist() == [True, True, False, True]
    assert tables["action"][""].any(axis=1).tolist() == [False, False, True, False]
    assert list(tables["speed"]) == [
        "slowest quarter (to nan)", "second (nan to nan)", "third (nan to nan)",
        "fastest quarter (above nan)",
    ]  # fmt: skip
    stored["actions"][2] = "run"
    stored["scored_joints"] = np.array(["neck"])
    tables = sections(score_joints(stored, "bbox", 1))
    assert list(tables) == ["overall", "joint", "speed"] and list(tables["joint"]) == ["neck"]
    nothing = {
        key: value[:0] if value.ndim and len(value) == 4 else value for key, value in stored.items()
    }
    assert list(sections(score_joints(nothing, "bbox", 1))) == ["overall", "joint", "speed"]


@pytest.mark.parametrize(
    ("visibility", "smallest", "told"), [([2, 1], 1, True), ([2, 1], 2, False), ([2, 2], 1, False),
                                         ([1, 1], 1, False), ([2, 0], 1, False)],
)  # fmt: skip
def test_a_table_by_visibility(visibility: list[int], smallest: int, told: bool) -> None:
    stored = _worst()
    stored["ground_truth"][:, ::2, 2], stored["ground_truth"][:, 1::2, 2] = visibility
    tables = sections(score_joints(stored, "bbox", smallest))
    assert ("visibility" in tables) == told
    if told:
        assert tables["visibility"]["visible"][0].tolist() == [True, False] * 7 + [True]
        assert tables["visibility"]["hidden"][0].tolist() == [False, True] * 7 + [False]


def test_quarters_are_titled_by_their_bounds() -> None:
    """Joints of a track that move by 0 to 4 % of the box a frame: bounds 1, 2 and 3."""
    truth = np.full((2, 5, 3), 2.0)
    truth[1, :, 0] += np.arange(5)
    stored = {
        "predictions": truth, "ground_truth": truth, "boxes": np.tile([0.0, 0, 100, 90], (2, 1)),
        "video_ids": np.full(2, "v"), "track_ids": np.full(2, "0"), "frame_indices": np.arange(2),
        "source_videos": np.full(2, "v"), "actions": np.full(2, ""),
        "joint_names": np.array(list("abcde")),
    }  # fmt: skip
    tables = sections(score_joints(stored, "bbox", 1))
    assert {title: rows.tolist() for title, rows in tables["speed"].items()} == {
        "slowest quarter (to 1)": [[True, True, False, False, False]] * 2,
        "second (1 to 2)": [[False, False, True, False, False]] * 2,
        "third (2 to 3)": [[False, False, False, True, False]] * 2,
        "fastest quarter (above 3)": [[False, False, False, False, True]] * 2,
    }
    apart = {**stored, "track_ids": np.array(["0", "1"])}
    assert np.isnan(score_joints(apart, "bbox", 1).speeds).all()


def test_shares_and_differences_by_hand() -> None:
    """Source x has 14 joints of two frames that count, 7 of them hits, y 15 and z none."""
    stored = _worst()
    count = len(JHMDB.names)
    stored["ground_truth"][3, :, 2] = stored["ground_truth"][:2, 7:, 2] = 0
    one = score_joints(stored, "bbox", 1)
    everything = np.ones((4, count), bool)
    first = everything & (np.arange(count) == 0)
    assert share(one, everything) == Share(100 * 22 / 29, 50.0, 100.0, 29, 2)
    assert share(one, first) == Share(pytest.approx(200 / 3), 50.0, 100.0, 3, 2)
    # At .1 the frame of y is wrong, that of x right.
    two = score_joints(stored, "bbox", 1, threshold=0.1)
    change = difference(one, two, first)
    assert change == Share(pytest.approx(-100 / 3), -100.0, 0.0, 3, 2)
    assert difference(two, one, first).value == pytest.approx(100 / 3)
    nothing = share(one, everything & False)
    assert (nothing.joints, nothing.sources) == (0, 0) and np.isnan(nothing.value)
    assert np.isnan([nothing.low, nothing.high]).all()


@pytest.mark.parametrize(
    ("low", "high", "sources", "told"),
    [
        (0.1, 2, 6, "B better"), (0.1, 2, 7, "B better"), (0.1, 2, 5, UNDECIDED),
        (0, 2, 6, UNDECIDED), (-2, -0.1, 6, "A better"), (-2, -0.1, 7, "A better"),
        (-2, -0.1, 5, UNDECIDED), (-2, 0, 6, UNDECIDED), (-1, 1, 99, UNDECIDED),
        (np.nan, np.nan, 9, UNDECIDED),
    ],
)  # fmt: skip
def test_who_is_better(low: float, high: float, sources: int, told: str) -> None:
    """An interval that holds 0 decides nothing, nor do five clips that agree."""
    assert verdict(Share(1.0, low, high, 100, sources)) == told


def test_figures_over_time_that_could_not_be_counted_are_left_out() -> None:
    values = {
        "swap_rate": 12.345, "swap_pairs": 40.0, "exchange_rate": np.nan, "exchange_steps": 0.0,
        "acceleration_error_px": np.nan, "acceleration_error": np.nan,
        "high_frequency_share": np.nan, "lag_frames": -1.0, "recovery_frames": 2.0,
        "recovery_events": 7.0, "recovery_lost": np.nan, "miss_run_frames": np.nan,
    }  # fmt: skip
    assert format_motion(values).splitlines() == [
        "Over time (docs/PROTOCOLS.md)",
        "",
        "|                          |   value |          unit |",
        "|:-------------------------|--------:|--------------:|",
        "| left and right exchanged |   12.35 | % of 40 pairs |",
        "| lag                      |   -1.00 |        frames |",
        "| right again after hidden |    2.00 |  frames, of 7 |",
    ]


def test_tables_keep_their_digits() -> None:
    lines = markdown([["10", "1.50"], ["b", "-"]], ["", "value"]).splitlines()
    assert lines[1].startswith("|:-") and lines[1].endswith("-:|")
    assert lines[2] == "| 10 |    1.50 |"
    assert interval_text(-1.25, 100.0) == "-1.2 - 100.0" and interval_text(np.nan, 1) == "nan - 1.0"


@pytest.mark.parametrize("kind", [ScoredJoints, Share, ReportFacts])
def test_a_result_that_is_handed_on_stays_as_it_is(kind: type) -> None:
    with pytest.raises(FrozenInstanceError):
        object.__new__(kind).joints = 1


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
        (
            {"dataset_name": np.array("other")},
            "A was scored on 'sub_jhmdb_split1_test', B on 'other': no pair",
        ),
        (
            {"scored_joints": np.array(["neck"])},
            f"the scored_joints differ: A has {list(JHMDB.names)}, B ['neck']",
        ),
        (
            {"joint_names": np.array(["neck"])},
            f"the joint_names differ: A has {list(JHMDB.names)}, B ['neck']",
        ),
        (
            {"video_ids": np.array(["a", "b", "q", "d"])},
            "the frames differ or come in another order: A has 4 rows, 1 that B lacks "
            "([('c', '0', 2)]); B has 4, 1 that A lacks ([('q', '0', 2)])",
        ),
        (
            {"track_ids": np.array(["0", "0", "0", "1"])},
            "the frames differ or come in another order: A has 4 rows, 1 that B lacks "
            "([('d', '0', 3)]); B has 4, 1 that A lacks ([('d', '1', 3)])",
        ),
        (
            {"frame_indices": np.array([1, 0, 2, 3])},
            "the frames differ or come in another order: A has 4 rows, 2 that B lacks "
            "([('a', '0', 0), ('b', '0', 1)]); B has 4, 2 that A lacks "
            "([('a', '0', 1), ('b', '0', 0)])",
        ),
        (
            {key: _worst()[key][:3] for key in ("video_ids", "track_ids", "frame_indices")},
            "the frames differ or come in another order: A has 4 rows, 1 that B lacks "
            "([('d', '0', 3)]); B has 3, 0 that A lacks ([])",
        ),
        (
            {"source_videos": np.array(["x"] * 4)},
            "A and B name other source videos for the same frames: an older file names none. "
            "Evaluate both anew",
        ),
    ],
)
def test_evaluations_of_other_joints_or_frames_are_no_pair(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
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
    other[name][1, 1] += 1
    other[name][2, 2] += 1
    other[name][3, 0] += 1
    message = rf"^{name} differs in 3 frames, first in \('b', '0', 1\)$"
    with pytest.raises(ValueError, match=message):
        require_pair(_worst(), other)
