"""Calibration: shares by hand, never falling, kept in a file."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from video_pose.evaluation.calibration import Calibration, fit_calibration, reliability


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
    with pytest.raises(ValueError, match="20 scored joints .* too few"):
        fit_calibration(_stored(scores[:20, :1], scores[:20, :1] > 0), 1, "made up")


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
    with pytest.raises(ValueError, match="a curve is missing"):
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
    ],
)
def test_a_curve_that_is_none_is_named(tmp_path: Path, curve: dict) -> None:
    """Text is no number, and between scores that fall nothing can be read."""
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps({"curves": {"": curve}}))
    with pytest.raises(ValueError, match=r"calibration.json is no calibration: .*curves\."):
        Calibration.read(path)


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
