"""Scores that mean something: how likely it is that a joint lies within .1 of the box.

A model's raw score is the height of its peak, which orders joints and says no share. A calibration
maps it, joint by joint, to the share of joints of that height that were right on clips which the
model was not trained on: isotonic (never falling), by pool-adjacent-violators. It is stored beside
the model as ``calibration.json``; the raw heights stay what the model gives.

Shape letters: M rows of a predictions file, K joints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import numpy as np
from scipy.optimize import isotonic_regression

from video_pose.data.json_fields import Field, load_json
from video_pose.evaluation.pck import (
    box_sides,
    counted_joints,
    pixel_distances,
    scored_columns,
)
from video_pose.files import write_json

FILE = "calibration.json"
# A joint is right within this share of the longer side of its box.
RIGHT = 0.1
BINS = 15
# With fewer joints of a kind, all kinds together tell more.
MIN_JOINTS = 200
# Knots of a stored curve; between them it is a straight line.
KNOTS = 33
# Weight of the shrinkage: a share of 1 among few joints is not certain.
PRIOR = 2.0


# Joint name -> (scores, shares).
Curves: TypeAlias = Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]]


@dataclass(frozen=True)
class Calibration:
    """Curves from raw score to probability.

    Attributes:
        curves: joint name -> (scores, probabilities), both rising; "" for joints of other names.
        source: what it was fitted on, in words.
        late: curves for poses that later frames have corrected, whose scores mean something else;
            empty where there are none.
    """

    curves: Curves
    source: str
    late: Curves = field(default_factory=dict)

    def of_late_poses(self) -> Calibration | None:
        """The curves of corrected poses as a calibration of their own; None without any."""
        return Calibration(self.late, self.source) if self.late else None

    def apply(self, scores: np.ndarray, joint_names: Sequence[str]) -> np.ndarray:
        """Probabilities (..., K) in [0, 1] of raw scores (..., K); NaN stays NaN."""
        scores = np.asarray(scores, np.float64)
        out = np.full(scores.shape, np.nan)
        for k, name in enumerate(joint_names):
            xs, ys = self.curves.get(name, self.curves[""])
            out[..., k] = np.interp(scores[..., k], xs, ys)
        return np.where(np.isfinite(scores), out, np.nan)

    def write(self, path: Path) -> None:
        """Write JSON; an existing file is replaced at once."""
        content = {
            "right_within": RIGHT,
            "source": self.source,
            "curves": _written(self.curves),
            "late": _written(self.late),
        }
        write_json(path, content, indent=1)

    @classmethod
    def read(cls, path: Path) -> Calibration:
        """Raises FileNotFoundError, or ValueError for a file that is no calibration."""
        try:
            content = load_json(str(path))
            curves = _read_curves(content.need("curves"))
            late, source = content.get("late"), content.get("source")
            corrected = _read_curves(late) if late is not None and late.content() else {}
        except ValueError as error:
            raise ValueError(f"{path} is no calibration: {error}") from error
        return cls(curves, "" if source is None else str(source.value), corrected)


def _written(curves: Curves) -> dict[str, dict[str, tuple[float, ...]]]:
    return {name: {"scores": xs, "shares": ys} for name, (xs, ys) in curves.items()}


def _read_curves(content: Field) -> Curves:
    curves = {}
    for name in content.content():
        curve = content.need(name)
        scores, shares = curve.need("scores").numbers(), curve.need("shares").numbers()
        is_curve = len(scores) == len(shares) > 0 and bool((np.diff(scores) >= 0).all())
        # Of NaN both are false.
        if not is_curve or not bool(((shares >= 0) & (shares <= 1)).all()):
            raise curve.error("scores that rise, and as many shares of 0 to 1")
        curves[name] = (tuple(scores.tolist()), tuple(shares.tolist()))
    if "" not in curves:
        raise ValueError(f'{content.place}: a curve is missing, that of the name ""')
    return curves


@dataclass(frozen=True)
class Reliability:
    """A diagram's points, for bins of equal numbers of joints, and the expected calibration error.

    ``error`` is the mean over joints of the gap between the bin's mean score and its share of right
    joints (scores cut to [0, 1]).
    """

    mean_score: list[float]
    share_right: list[float]
    error: float
    joints: int


def right_joints(
    stored: Mapping[str, np.ndarray], min_visibility: int
) -> tuple[np.ndarray, np.ndarray]:
    """Which joints lie within `RIGHT` of the box, and which are scored: bool (M, K) each."""
    sides = box_sides(stored["boxes"])
    names = [str(name) for name in stored["joint_names"]]
    counted = counted_joints(stored["ground_truth"], sides, min_visibility)
    counted &= scored_columns(names, stored.get("scored_joints", stored["joint_names"]).tolist())
    distances = pixel_distances(stored["predictions"], stored["ground_truth"])
    with np.errstate(invalid="ignore"):
        return distances <= RIGHT * sides[:, None], counted


def fit_calibration(
    stored: Mapping[str, np.ndarray], min_visibility: int, source: str
) -> Calibration:
    """Curves of each joint that is scored at least `MIN_JOINTS` times, and of all together.

    Args:
        stored: a predictions file of clips that the model was not trained on.
        source: what they are, in words.

    Raises:
        ValueError: fewer than `MIN_JOINTS` joints have a score.
    """
    right, counted = right_joints(stored, min_visibility)
    scores = stored["predictions"][..., 2].astype(np.float64)
    counted = counted & np.isfinite(scores)
    if counted.sum() < MIN_JOINTS:
        raise ValueError(
            f"{int(counted.sum())} scored joints with a prediction are too few to calibrate on "
            f"(at least {MIN_JOINTS})"
        )
    curves = {"": _curve(scores[counted], right[counted])}
    for k, name in enumerate(stored["joint_names"].tolist()):
        chosen = counted[:, k]
        if chosen.sum() >= MIN_JOINTS:
            curves[name] = _curve(scores[chosen, k], right[chosen, k])
    return Calibration(curves, source)


def _curve(scores: np.ndarray, right: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    order = np.argsort(scores, kind="stable")
    scores, values = scores[order], right[order].astype(np.float64)
    # Groups of equal numbers: their mean, drawn a little to the overall share, is what is fitted.
    groups = np.array_split(np.arange(len(scores)), min(KNOTS, len(scores) // 20))
    overall = values.mean()
    xs = np.array([scores[g].mean() for g in groups])
    sizes = np.array([len(g) for g in groups], np.float64)
    means = np.array([(values[g].sum() + PRIOR * overall) / (len(g) + PRIOR) for g in groups])
    ys = isotonic_regression(means, weights=sizes).x
    xs, first = np.unique(xs, return_index=True)
    return tuple(np.round(xs, 6).tolist()), tuple(np.round(ys[first], 6).tolist())


def reliability(
    scores: np.ndarray, stored: Mapping[str, np.ndarray], min_visibility: int, bins: int = BINS
) -> Reliability:
    """How often joints of each level of ``scores`` (M, K) are right."""
    right, counted = right_joints(stored, min_visibility)
    known = counted & np.isfinite(scores)
    values, hits = np.clip(scores[known], 0, 1), right[known]
    if not len(values):
        return Reliability([], [], float("nan"), 0)
    order = np.argsort(values, kind="stable")
    groups = [g for g in np.array_split(order, bins) if len(g)]
    means = [float(values[g].mean()) for g in groups]
    shares = [float(hits[g].mean()) for g in groups]
    gaps = [len(g) * abs(m - s) for g, m, s in zip(groups, means, shares)]
    return Reliability(means, shares, sum(gaps) / len(values), len(values))
