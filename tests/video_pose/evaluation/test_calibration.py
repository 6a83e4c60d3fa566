"""Calibration: shares by hand, never falling, kept in a file."""

from __future__ import annotations

import json
import re
from dataclasses import FrozenInstanceError
from pathlib import Path

import numpy as np
import pytest

from video_pose.evaluation.calibration import (
    Calibration,
    Reliability,
    fit_calibration,
    reliability,
)


def _stored(scores: np.ndarray, right: np.ndarray) -> dict[str, np.ndarray]:
    """Joints (M, K) in boxes of 100 px, 5 or 50 px off."""
    truth = np.zeros((*scores.shape, 3), np.float32)
    truth[..., 2] = 2
    predictions = truth.copy()
    predictions[..., 0] = np.where(right, 5, 50)
    predictions[..., 2] = scores
    return {
        "predictions": predictions, "ground_truth": truth,
        "boxes": np.tile(np.array([0, 0, 100, 80], np.float32), (len(scores), 1)),
        "joint_names": np.array([f"joint {k}" for k in range(scores.shape[1])]),
    }  # fmt: skip


def test_reliability_by_hand() -> None:
    # Ten joints of .2, two of them right; ten of .9, eight right: gaps 0 and .1.
    scores = np.repeat([0.2, 0.9], 10)[:, None]
    right = np.array([True] * 2 + [False] * 8 + [True] * 8 + [False] * 2)[:, None]
    found = reliability(scores, _stored(scores, right), 1, bins=2)
    assert found.mean_score == pytest.approx([0.2, 0.9])
    assert found.share_right == pytest.approx([0.2, 0.8])
    assert found.error == pytest.approx(0.05) and found.joints == 20
    scores[:10] = np.nan  # no prediction, no score: they take no part
    assert reliability(scores, _stored(scores, right), 1, bins=2).joints == 10
    scores[:] = np.nan
    nothing = reliability(scores, _stored(scores, right), 1, bins=2)
    assert (nothing.mean_score, nothing.share_right, nothing.joints) == ([], [], 0)
    assert np.isnan(nothing.error)


def test_bins_of_other_sizes_and_scores_that_are_no_shares() -> None:
    # -1 and .2 in one bin, 3 in the other: 0 and .2 for one right of two, 1 for a wrong one.
    scores = np.array([[3.0], [-1.0], [0.2]])
    stored = _stored(scores, np.array([[False], [True], [False]]))
    found = reliability(scores, stored, 1, bins=2)
    assert found.mean_score == pytest.approx([0.1, 1.0]) and found.share_right == [0.5, 0.0]
    assert found.error == pytest.approx((2 * 0.4 + 1 * 1) / 3) and found.joints == 3
    # More bins than joints: a joint a bin, and no empty ones.
    each = reliability(scores, stored, 1)
    assert each.mean_score == pytest.approx([0, 0.2, 1]) and each.share_right == [1, 0, 0]
    assert each.error == pytest.approx((1 + 0.2 + 1) / 3)


def test_a_curve_makes_overconfident_scores_honest() -> None:
    """Joints of height s are right with probability s squared; the second kind always half."""
    random = np.random.default_rng(0)
    scores = random.uniform(0, 1, (4000, 2))
    right = random.uniform(size=(4000, 2)) < np.stack([scores[:, 0] ** 2, 0.5 * np.ones(4000)], 1)
    stored = _stored(scores, right)
    calibration = fit_calibration(stored, 1, "made up")
    names = ["joint 0", "joint 1"]
    values = calibration.apply(np.array([[0.3, 0.3], [0.8, 0.9]]), names)
    np.testing.assert_allclose(values, [[0.09, 0.5], [0.64, 0.5]], atol=0.06)
    rising = calibration.apply(np.linspace(0, 1, 50)[:, None].repeat(2, 1), names)
    assert (np.diff(rising, axis=0) >= 0).all() and (rising >= 0).all() and (rising <= 1).all()
    # On other joints of the same kind.
    scores = random.uniform(0, 1, (4000, 2))
    right = random.uniform(size=(4000, 2)) < np.stack([scores[:, 0] ** 2, 0.5 * np.ones(4000)], 1)
    other = _stored(scores, right)
    raw = reliability(scores, other, 1).error
    own = reliability(calibration.apply(scores, names), other, 1).error
    assert raw > 0.1 and own < 0.03
    # Joints of unknown names take the curve of all.
    assert 0.2 < calibration.apply(np.array([[0.5]]), ["tail"])[0, 0] < 0.5
    assert np.isnan(calibration.apply(np.array([[np.nan, 0.5]]), names)[0, 0])


def test_few_joints_of_a_kind_take_the_common_curve() -> None:
    scores = np.full((300, 2), 0.5)
    scores[:250, 1] = np.nan
    calibration = fit_calibration(_stored(scores, scores > 0), 1, "made up")
    assert set(calibration.curves) == {"", "joint 0"}
    assert calibration.source == "made up"
    message = "199 scored joints with a prediction are too few to calibrate on (at least 200)"
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        fit_calibration(_stored(scores[:199, :1], scores[:199, :1] > 0), 1, "made up")
    assert set(fit_calibration(_stored(scores[:200, :1], scores[:200, :1] > 0), 1, "").curves) == {
        "", "joint 0"
    }  # fmt: skip


def test_a_curve_by_hand() -> None:
    """200 joints in ten groups of 20, half of all right: two right joints of .5 are added to each
    group's, and groups that fall are joined."""
    scores = np.repeat(np.arange(10) / 10, 20)
    right = np.concatenate([np.arange(20) < r for r in (0, 4, 2, 6, 8, 10, 12, 18, 20, 20)])
    order = np.random.default_rng(0).permutation(200)
    stored = _stored(scores[order, None], right[order, None])
    stored["predictions"][right[order], 0, 0] = 10  # .1 of the longer side is right
    found = fit_calibration(stored, 1, "made up")
    shares = np.array([1, 4, 4, 7, 9, 11, 13, 19, 21, 21]) / 22
    for name in ("", "joint 0"):
        np.testing.assert_allclose(found.curves[name][0], np.arange(10) / 10, atol=2e-6)
        np.testing.assert_allclose(found.curves[name][1], shares, atol=1e-6)
    # Between knots a straight line, beyond them the last share.
    values = found.apply(np.array([[0.05], [-1], [2]]), ["joint 0"])
    np.testing.assert_allclose(values[:, 0], [2.5 / 22, 1 / 22, 21 / 22], atol=1e-5)
    assert all(value == round(value, 6) for curve in found.curves[""] for value in curve)


def test_groups_of_a_curve() -> None:
    """At least 20 joints a group and 33 groups at most, larger ones first and of more weight;
    of scores that are equal, one knot."""
    many = np.arange(700.0)[:, None]
    assert len(fit_calibration(_stored(many, many >= 0), 1, "").curves[""][0]) == 33
    assert len(fit_calibration(_stored(many[:659], many[:659] >= 0), 1, "").curves[""][0]) == 32
    # 201 joints: a group of 21 with 21 right, then one of 20 with none; 21 of 201 are right.
    some = np.arange(201.0)[:, None]
    curve = fit_calibration(_stored(some, some < 21), 1, "").curves[""]
    assert curve[0][:3] == (10, 30.5, 50.5)
    extra = 2 * 21 / 201
    joined = (21 * (21 + extra) / 23 + 180 * extra / 22) / 201
    assert curve[1] == (round(joined, 6),) * 10
    same = np.full((200, 1), 0.5)
    assert fit_calibration(_stored(same, same < 0), 1, "").curves[""] == ((0.5,), (0.0,))


def test_joints_that_do_not_count_take_no_part() -> None:
    scores = np.tile([0.2, 0.9], (200, 1))
    stored = _stored(scores, scores > 0.5)
    stored["scored_joints"] = np.array(["joint 1"])
    assert fit_calibration(stored, 1, "").curves == dict.fromkeys(["", "joint 1"], ((0.9,), (1.0,)))
    assert reliability(scores, stored, 1).joints == 200
    stored["ground_truth"][:50, :, 2] = 1
    assert reliability(scores, stored, 2).joints == 150


def test_the_file_is_for_reading(tmp_path: Path) -> None:
    """A key a line, each level one space further in."""
    path = tmp_path / "calibration.json"
    Calibration({"": ((0.1, 0.9), (0.2, 0.8))}, "clips").write(path)
    lines = path.read_text().splitlines()
    assert lines[:5] == [
        "{", ' "right_within": 0.1,', ' "source": "clips",', ' "curves": {', '  "": {',
    ]  # fmt: skip
    assert lines[-2:] == [' "late": {}', "}"]


def test_the_file(tmp_path: Path) -> None:
    curve = ((0.1, 0.9), (0.2, 0.8))
    path = tmp_path / "calibration.json"
    Calibration({"": curve, "head": curve}, "clips").write(path)
    again = Calibration.read(path)
    assert again.source == "clips"
    assert again.apply(np.array([0.5]), ["head"]) == pytest.approx(0.5)
    path.write_text('{"curves": {"head": {"scores": [1], "shares": [1]}}}')
    message = f'{path} is no calibration: curves: a curve is missing, that of the name ""'
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Calibration.read(path)
    path.write_text("{")
    with pytest.raises(ValueError, match="is no calibration"):
        Calibration.read(path)


@pytest.mark.parametrize(
    "curve",
    [
        {"scores": ["0.1", "0.9"], "shares": [0, 1]},
        {"scores": "12", "shares": "01"},
        {"scores": [0.9, 0.1], "shares": [0, 1]},
        {"scores": [0.1, float("nan")], "shares": [0, 1]},
        {"scores": [0.1, 0.9], "shares": [0, 1.5]},
        {"scores": [0.1, 0.9], "shares": [0]},
        {"scores": [], "shares": []},
        {"scores": [0.1], "shares": [0, 1]},
        {"scores": [0.1, 0.9], "shares": [-0.1, 1]},
        {"scores": [0.1, 0.9], "shares": [0, float("nan")]},
    ],
)
def test_a_curve_that_is_none_is_named(tmp_path: Path, curve: dict) -> None:
    """Text is no number, and between scores that fall nothing can be read."""
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"curves": {"": curve}}))
    with pytest.raises(ValueError, match=r"calibration.json is no calibration: .*curves\."):
        Calibration.read(path)


@pytest.mark.parametrize(
    ("scores", "shares"), [([0.5], [0.5]), ([0.1, 0.1, 0.2], [0, 1, 1]), ([-3, 4], [1, 0])]
)
def test_a_file_holds_a_curve_and_no_more(tmp_path: Path, scores: list, shares: list) -> None:
    """What was fitted on and curves of corrected poses may be missing."""
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"curves": {"": {"scores": scores, "shares": shares}}}))
    assert Calibration.read(path) == Calibration({"": (tuple(scores), tuple(shares))}, "", {})
    path.write_text(path.read_text()[:-1] + ', "late": {}, "source": "clips"}')
    assert Calibration.read(path) == Calibration({"": (tuple(scores), tuple(shares))}, "clips", {})


def test_corrected_poses_have_curves_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    curve, late = ((0.0, 1.0), (0.0, 1.0)), ((0.0, 1.0), (0.4, 0.6))
    Calibration({"": curve}, "clips", {"": late}).write(path)
    again = Calibration.read(path)
    assert again.apply(np.array([0.0]), ["head"]) == pytest.approx(0.0)
    corrected = again.of_late_poses()
    assert corrected is not None
    assert corrected.apply(np.array([0.0]), ["head"]) == pytest.approx(0.4)
    assert Calibration({"": curve}, "clips").of_late_poses() is None
    path.write_text('{"curves": {"": {"scores": [1], "shares": [1]}}, "late": {"a": 3}}')
    with pytest.raises(ValueError, match="is no calibration"):
        Calibration.read(path)


@pytest.mark.parametrize("kind", [Calibration, Reliability])
def test_a_result_stays_as_it_is(kind: type) -> None:
    with pytest.raises(FrozenInstanceError):
        object.__new__(kind).source = "other"
