"""PCK of a predictions file by joint, action, speed and visibility, and of two files paired.

Shape letters: M rows (labelled frames of tracks), K joints, V source videos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from video_pose.evaluation import bootstrap, pck
from video_pose.evaluation.speed import joint_speeds, quartile_numbers

# With fewer, even if all of them agree, chance alone would bring that about in one of twenty
# comparisons: 2 * .5 ** 5 = .0625.
MIN_SOURCES = 6
UNDECIDED = "too few clips to tell"


@dataclass(frozen=True)
class ScoredJoints:
    """Each joint of each frame under one protocol.

    Attributes:
        protocol: the rule of a hit. threshold: of it.
        joint_names: K names.
        hits: bool (M, K), False where not counted.
        counted: bool (M, K).
        visibility: (M, K), v of the ground truth.
        speeds: (M, K), see `joint_speeds`.
        sources: str (M,), clusters of the intervals.
        actions: str (M,).
        frames_excluded: frames without a reference length.
    """

    protocol: pck.Protocol
    threshold: float
    joint_names: list[str]
    hits: np.ndarray
    counted: np.ndarray
    visibility: np.ndarray
    speeds: np.ndarray
    sources: np.ndarray
    actions: np.ndarray
    frames_excluded: int


@dataclass(frozen=True)
class Share:
    """A percentage with its interval; ``joints`` and ``sources`` it was counted on."""

    value: float
    low: float
    high: float
    joints: int
    sources: int


def score_joints(
    stored: Mapping[str, np.ndarray],
    protocol: str,
    min_visibility: int,
    head_segment: tuple[str, str] | None = None,
    threshold: float | None = None,
) -> ScoredJoints:
    """Score the arrays of a predictions file.

    Args:
        stored: of `read_predictions`.
        protocol: name.
        min_visibility: smallest v that counts.
        head_segment: for protocol "head".
        threshold: None takes the protocol's own.

    Raises:
        KeyError: unknown protocol.
        ValueError: the skeleton lacks a joint that the protocol needs.
    """
    rule = pck.get_protocol(protocol)
    value = rule.thresholds[0] if threshold is None else threshold
    names = [str(name) for name in stored["joint_names"]]
    truth, boxes = stored["ground_truth"], stored["boxes"]
    lengths = pck.reference_lengths(rule, truth, boxes, names, head_segment)
    counted = pck.counted_joints(truth, lengths, min_visibility)
    distances = pck.pixel_distances(stored["predictions"], truth)
    with np.errstate(invalid="ignore"):
        hits = pck.normalised_distances(distances, lengths) <= value
    tracks = np.array([f"{v}\0{t}" for v, t in zip(stored["video_ids"], stored["track_ids"])])
    return ScoredJoints(
        rule,
        value,
        names,
        hits & counted,
        counted,
        truth[..., 2],
        joint_speeds(truth, boxes, stored["frame_indices"], tracks),
        stored["source_videos"],
        stored["actions"],
        int((~np.isfinite(lengths)).sum()),
    )


def sections(scored: ScoredJoints) -> dict[str, dict[str, np.ndarray]]:
    """Which joints of which frames belong to each row of each table: bool (M, K), by title.

    "overall"; "joint"; "action", where the dataset names more than one; "speed", the quarters of
    the counted joints by ground-truth speed; "visibility", where both visible (v = 2) and hidden
    joints (v = 1: labelled, but covered or outside the image) count.
    """
    shape = scored.counted.shape
    tables = {"overall": {"all": np.ones(shape, bool)}}
    columns = np.arange(shape[1])
    tables["joint"] = {
        name: np.broadcast_to(columns == k, shape) for k, name in enumerate(scored.joint_names)
    }
    actions = sorted(set(scored.actions.tolist()))
    if len(actions) > 1:
        tables["action"] = {
            action: np.broadcast_to((scored.actions == action)[:, None], shape)
            for action in actions
        }
    tables["speed"] = _speed_rows(scored)
    seen = scored.visibility >= 2
    if (scored.counted & seen).any() and (scored.counted & ~seen).any():
        tables["visibility"] = {"visible": seen, "hidden": ~seen}
    return tables


def _speed_rows(scored: ScoredJoints) -> dict[str, np.ndarray]:
    quarters, bounds = quartile_numbers(scored.speeds, scored.counted)
    low, middle, high = (f"{100 * bound:.2g}" for bound in bounds)
    titles = (
        f"slowest quarter (to {low})",
        f"second ({low} to {middle})",
        f"third ({middle} to {high})",
        f"fastest quarter (above {high})",
    )
    return {title: quarters == number for number, title in enumerate(titles)}


def share(scored: ScoredJoints, rows: np.ndarray, seed: int = 0) -> Share:
    """PCK in percent over the joints ``rows`` (M, K)."""
    counted = source_counts(scored, scored.counted & rows)
    hits = source_counts(scored, scored.hits & rows)
    low, high = bootstrap.share_interval(hits, counted, seed)
    return Share(_percent(hits, counted), float(low), float(high), *_sizes(counted))


def difference(a: ScoredJoints, b: ScoredJoints, rows: np.ndarray, seed: int = 0) -> Share:
    """B's PCK minus A's in points, over the same joints; both scored alike (`require_pair`)."""
    counted = source_counts(a, a.counted & rows)
    hits_a, hits_b = (source_counts(a, scored.hits & rows) for scored in (a, b))
    low, high = bootstrap.difference_interval(hits_a, hits_b, counted, seed)
    return Share(_percent(hits_b - hits_a, counted), float(low), float(high), *_sizes(counted))


def verdict(change: Share) -> str:
    """Which of the two is better where the interval does not hold 0, else `UNDECIDED`."""
    if change.sources >= MIN_SOURCES and change.low > 0:
        return "B better"
    if change.sources >= MIN_SOURCES and change.high < 0:
        return "A better"
    return UNDECIDED


def source_counts(scored: ScoredJoints, chosen: np.ndarray) -> np.ndarray:
    """Number of chosen joints (M, K) of each source video, (V,), the videos sorted by name."""
    _, numbers = np.unique(scored.sources, return_inverse=True)
    return np.bincount(numbers, weights=chosen.sum(axis=1)).astype(np.int64)


def require_pair(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> None:
    """Raise ValueError unless two predictions files are of the same joints of the same frames."""
    names = [str(stored["dataset_name"]) for stored in (a, b)]
    if names[0] != names[1]:
        raise ValueError(f"A was scored on {names[0]!r}, B on {names[1]!r}: no pair")
    joints = [stored["joint_names"].tolist() for stored in (a, b)]
    if joints[0] != joints[1]:
        raise ValueError(f"the joints differ: A has {joints[0]}, B {joints[1]}")
    keys = [_frame_keys(stored) for stored in (a, b)]
    if keys[0] != keys[1]:
        only = [sorted(set(mine) - set(other)) for mine, other in (keys, keys[::-1])]
        raise ValueError(
            f"the frames differ or come in another order: A has {len(keys[0])} rows, "
            f"{len(only[0])} that B lacks ({only[0][:3]}); B has {len(keys[1])}, {len(only[1])} "
            f"that A lacks ({only[1][:3]})"
        )
    if not np.array_equal(a["source_videos"], b["source_videos"]):
        raise ValueError(
            "A and B name other source videos for the same frames: an older file names none. "
            "Evaluate both anew"
        )
    for name in ("ground_truth", "boxes"):
        same = np.isclose(a[name], b[name], equal_nan=True).reshape(len(keys[0]), -1).all(axis=1)
        if not same.all():
            first = keys[0][int(np.flatnonzero(~same)[0])]
            raise ValueError(f"{name} differs in {(~same).sum()} frames, first in {first}")


def _frame_keys(stored: Mapping[str, np.ndarray]) -> list[tuple[str, str, int]]:
    columns = (stored[name].tolist() for name in ("video_ids", "track_ids", "frame_indices"))
    return list(zip(*columns))


def _percent(hits: np.ndarray, counted: np.ndarray) -> float:
    return 100.0 * float(hits.sum()) / float(counted.sum()) if counted.sum() else float("nan")


def _sizes(counted: np.ndarray) -> tuple[int, int]:
    return int(counted.sum()), int((counted > 0).sum())
