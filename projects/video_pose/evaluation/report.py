"""Tables of PCK: an evaluation for people, and a predictions file by joint, action, speed and
visibility, alone or paired with a second one.

Shape letters: M rows (labelled frames of tracks), K joints, V source videos.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from video_pose.evaluation.bootstrap import difference_interval, share_interval
from video_pose.evaluation.pck import (
    MEAN_GROUPS,
    PCKAccumulator,
    Protocol,
    counted_joints,
    get_protocol,
    normalised_distances,
    pixel_distances,
    reference_lengths,
    scored_columns,
)

# With fewer, even if all of them agree, chance alone would bring that about in one of twenty
# comparisons: 2 * .5 ** 5 = .0625.
MIN_SOURCES = 6
UNDECIDED = "too few clips to tell"


@dataclass(frozen=True)
class ScoredJoints:
    """Each joint of each frame under one protocol.

    Attributes:
        protocol: the rule of a hit. threshold: of it.
        joint_names: K names. scored: those that count.
        hits: bool (M, K), False where not counted.
        counted: bool (M, K).
        visibility: (M, K), v of the ground truth.
        speeds: (M, K), see `joint_speeds`.
        sources: str (M,), clusters of the intervals.
        actions: str (M,).
        frames_excluded: frames without a reference length.
    """

    protocol: Protocol
    threshold: float
    joint_names: list[str]
    scored: list[str]
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
    rule = get_protocol(protocol)
    value = rule.thresholds[0] if threshold is None else threshold
    names = [str(name) for name in stored["joint_names"]]
    truth, boxes = stored["ground_truth"], stored["boxes"]
    lengths = reference_lengths(rule, truth, boxes, names, head_segment, stored.get("head_sizes"))
    scored = [str(name) for name in stored.get("scored_joints", names)]
    scored = [name for name in scored if name not in rule.without]
    counted = counted_joints(truth, lengths, min_visibility) & scored_columns(names, scored)
    distances = pixel_distances(stored["predictions"], truth)
    with np.errstate(invalid="ignore"):
        hits = normalised_distances(distances, lengths) <= value
    tracks = np.array([f"{v}\0{t}" for v, t in zip(stored["video_ids"], stored["track_ids"])])
    return ScoredJoints(
        rule,
        value,
        names,
        scored,
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
        name: np.broadcast_to(columns == k, shape)
        for k, name in enumerate(scored.joint_names)
        if name in scored.scored
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


def frame_errors(
    stored: Mapping[str, np.ndarray],
    protocol: str,
    min_visibility: int,
    head_segment: tuple[str, str] | None = None,
) -> np.ndarray:
    """Mean distance of each frame's counted joints in reference lengths, (M,).

    Args: as `score_joints`.

    A frame without a prediction is infinitely far off; NaN where nothing counts.
    """
    names = [str(name) for name in stored["joint_names"]]
    truth = stored["ground_truth"]
    lengths = reference_lengths(
        get_protocol(protocol),
        truth,
        stored["boxes"],
        names,
        head_segment,
        stored.get("head_sizes"),
    )
    counted = counted_joints(truth, lengths, min_visibility)
    counted &= scored_columns(names, stored.get("scored_joints", names))
    normalised = normalised_distances(pixel_distances(stored["predictions"], truth), lengths)
    sums = np.where(counted, normalised, 0).sum(axis=1)
    with np.errstate(invalid="ignore"):  # 0 / 0 where nothing counts
        return sums / counted.sum(axis=1)


def worst_frames(errors: np.ndarray, sources: np.ndarray, count: int) -> list[int]:
    """Rows of the worst frame of each source video, the worst first, at most ``count``.

    One a source: the neighbours of a bad frame are bad in the same way. Frames without a prediction
    or without a counted joint cannot be drawn and are left out.

    Args:
        errors: (M,) of `frame_errors`.
        sources: (M,).
    """
    worst: dict[str, int] = {}
    for row in np.flatnonzero(np.isfinite(errors)):
        known = worst.get(sources[row])
        if known is None or errors[row] > errors[known]:
            worst[sources[row]] = int(row)
    return sorted(worst.values(), key=lambda row: -errors[row])[:count]


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
    low, high = share_interval(hits, counted, seed)
    return Share(_percent(hits, counted), float(low), float(high), *_sizes(counted))


def difference(a: ScoredJoints, b: ScoredJoints, rows: np.ndarray, seed: int = 0) -> Share:
    """B's PCK minus A's in points, over the same joints; both scored alike (`require_pair`)."""
    counted = source_counts(a, a.counted & rows)
    hits_a, hits_b = (source_counts(a, scored.hits & rows) for scored in (a, b))
    low, high = difference_interval(hits_a, hits_b, counted, seed)
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
    for kind in ("joint_names", "scored_joints"):
        joints = [stored.get(kind, stored["joint_names"]).tolist() for stored in (a, b)]
        if joints[0] != joints[1]:
            raise ValueError(f"the {kind} differ: A has {joints[0]}, B {joints[1]}")
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
    for name, axes in (("ground_truth", (1, 2)), ("boxes", 1)):
        same = np.isclose(a[name], b[name], equal_nan=True).all(axis=axes)
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


def joint_speeds(
    keypoints: np.ndarray, boxes: np.ndarray, frame_indices: np.ndarray, tracks: np.ndarray
) -> np.ndarray:
    """Speed of every joint in the image, in longer box sides per frame.

    The mean of the labelled joint's displacements between neighbouring frames, from two frames
    before to two frames after (as far as the track has them), over the longer side of the frame's
    own box. One displacement alone would not do: annotators move a puppet every few frames, so that
    on JHMDB 42 % of the joints have not moved since the frame before, and 13 % in four steps. The
    camera's movement is part of the speed, as it is of what a model sees.

    Args:
        keypoints: ground truth (M, K, 3), the frames of a track in a row and ascending.
        boxes: ground truth (M, 4), XYXY.
        frame_indices: (M,).
        tracks: (M,), anything that differs between tracks.

    Returns:
        float64 (M, K); NaN where no such displacement is known, or the box has no side.
    """
    points = np.where(keypoints[..., 2:] > 0, keypoints[..., :2].astype(np.float64), np.nan)
    follows = (tracks[1:] == tracks[:-1]) & (frame_indices[1:] == frame_indices[:-1] + 1)
    steps = np.sqrt(((points[1:] - points[:-1]) ** 2).sum(axis=-1))
    steps = np.where(follows[:, None], steps, np.nan)
    total = np.zeros(points.shape[:2])
    count = np.zeros(points.shape[:2])
    # Steps (t-1, t) and (t, t+1), then their neighbours, which count only beyond a step of the
    # same track.
    beyond = (
        np.where(follows[1:, None], steps[:-1], np.nan),
        np.where(follows[:-1, None], steps[1:], np.nan),
    )
    for first, values in ((1, steps), (0, steps), (2, beyond[0]), (0, beyond[1])):
        known = np.isfinite(values)
        total[first : first + len(values)] += np.where(known, values, 0)
        count[first : first + len(values)] += known
    sides = (boxes[:, 2:].astype(np.float64) - boxes[:, :2]).max(axis=1)
    scale = np.where(sides > 0, sides, np.nan)[:, None]
    with np.errstate(invalid="ignore"):  # 0 / 0 without a displacement
        return total / count / scale


def quartile_numbers(speeds: np.ndarray, counted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The quarter of a dataset's joints that each belongs to.

    Args:
        speeds: (M, K) of `joint_speeds`.
        counted: bool (M, K), joints that are scored.

    Returns:
        int (M, K), 0 for the slowest to 3 for the fastest quarter and -1 for joints that are not
        scored or have no speed, and the three bounds between quarters (all NaN without a joint). A
        speed equal to a bound belongs to the slower side.
    """
    usable = counted & np.isfinite(speeds)
    if not usable.any():
        return np.full(speeds.shape, -1), np.full(3, np.nan)
    bounds = np.quantile(speeds[usable], [0.25, 0.5, 0.75])
    return np.where(usable, np.searchsorted(bounds, speeds, side="left"), -1), bounds


_VISIBILITY = {1: "annotated joints (v >= 1)", 2: "visible joints (v = 2)"}


@dataclass(frozen=True)
class ReportFacts:
    """What the counts do not know.

    Attributes:
        dataset_name: the evaluated dataset.
        baseline_source: dataset that the mean pose was taken from.
        min_visibility: smallest v that counts.
    """

    dataset_name: str
    baseline_source: str
    min_visibility: int


def format_report(
    facts: ReportFacts,
    accumulators: Mapping[str, PCKAccumulator],
    metrics: Sequence[Mapping[str, float]],
    baselines: Sequence[Mapping[str, float]],
) -> str:
    """Text of the whole report.

    Args:
        facts: names for the sentences.
        accumulators: protocol name -> counts, in the order of ``metrics`` and ``baselines``.
        metrics: the model's ``PCKAccumulator.metrics``, one per protocol.
        baselines: the mean pose's.
    """
    parts = []
    for accumulator, values, baseline in zip(accumulators.values(), metrics, baselines):
        parts += [
            protocol_sentence(facts, accumulator, values),
            _groups(accumulator, values, baseline),
        ]
    parts += ["Joints, in percent", _joints(list(accumulators.values()), metrics, baselines)]
    parts.append(
        f"mean pose: the median pose of {facts.baseline_source}, placed in each ground-truth box. "
        "A result close to it shows that boxes are known, not poses.\n"
        "95 %: bootstrap over whole source videos. groups: mean of the groups "
        f"{', '.join(MEAN_GROUPS)} (those that the dataset has). AUC: area from 0 to the first "
        "threshold. Errors in px of the original image, over counted joints that were predicted."
    )
    return "\n\n".join(parts)


# Title, unit and key of every figure of `motion_metrics` that is shown, and of what it counts.
MOTION_ROWS = (
    ("left and right exchanged", "% of {swap_pairs:.0f} pairs", "swap_rate"),
    ("sudden exchanges", "% of {exchange_steps:.0f} steps", "exchange_rate"),
    ("acceleration error", "px / frame^2", "acceleration_error_px"),
    ("acceleration error", "% of the box / frame^2", "acceleration_error"),
    ("movement above a quarter of the frame rate", "%", "high_frequency_share"),
    ("lag", "frames", "lag_frames"),
    ("right again after hidden", "frames, of {recovery_events:.0f}", "recovery_frames"),
    ("not found again", "% of {recovery_events:.0f}", "recovery_lost"),
    ("misses in a row", "frames", "miss_run_frames"),
)


def format_motion(values: Mapping[str, float]) -> str:
    """The figures of `motion_metrics` as a table; those that could not be counted are left out."""
    rows = [
        [title, f"{values[key]:.2f}", unit.format(**values)]
        for title, unit, key in MOTION_ROWS
        if not math.isnan(values[key])
    ]
    return "Over time (docs/PROTOCOLS.md)\n\n" + markdown(rows, ["", "value", "unit"])


def protocol_sentence(
    facts: ReportFacts, accumulator: PCKAccumulator, values: Mapping[str, float]
) -> str:
    """What the figures mean: threshold, reference length, joints, visibility, frames, space."""
    protocol = accumulator.protocol
    absent = [name for name in accumulator.joint_names if name not in accumulator.scored]
    unit = " px" if protocol.unit == "px" else " of the reference length"
    thresholds = ", ".join(f"{t:g}" for t in protocol.thresholds)
    exclusions = [
        f"{values['excluded_frames']:.0f} frames excluded (reference length zero or unannotated)",
        f"{values['uncounted_joints']:.0f} joints not counted (visibility)",
        f"{values['missed_frames']:.0f} frames without a prediction, counted as missed",
    ]
    if values.get("never_predicted_frames"):
        exclusions.append(f"{values['never_predicted_frames']:.0f} frames never given to the model")
    return (
        f"[{protocol.name}] {facts.dataset_name}: a joint is a hit at a distance of at most "
        f"{thresholds}{unit}; reference length: {protocol.reference}; "
        f"{_VISIBILITY.get(facts.min_visibility, facts.min_visibility)} of "
        f"{len(accumulator.scored)} joints{_not_scored(absent)}; "
        f"{values['frames']:.0f} labelled frames of {len(accumulator.videos)} videos "
        f"({len(set(accumulator.sources.values()))} source videos), "
        f"{values['joints']:.0f} joints counted; pixels of the original image.\n"
        + "; ".join(exclusions)
        + "."
    )


def _not_scored(absent: Sequence[str]) -> str:
    return f" (not scored: {', '.join(absent)})" if absent else ""


def _groups(
    accumulator: PCKAccumulator, values: Mapping[str, float], baseline: Mapping[str, float]
) -> str:
    groups = list(accumulator.groups)
    headers = ["", "overall", "95 %", "groups", *groups, "AUC", "mean px", "median px"]
    rows = []
    for index, threshold in enumerate(accumulator.protocol.thresholds):
        name, title = (
            f(threshold) for f in (accumulator.protocol.metric, accumulator.protocol.title)
        )
        for label, source in ((title, values), (f"{title} mean pose", baseline)):
            interval, tail = "", ["", "", ""]
            if index == 0:
                interval = interval_text(source[f"{name}_low"], source[f"{name}_high"])
                keys = ("AUC", "mean_error_px", "median_error_px")
                tail = [number(source[key]) for key in keys]
            cells = [number(source[f"{name}-{group}"]) for group in groups]
            mean = number(source[f"{name}_groups"])
            rows.append([label, number(source[name]), interval, mean, *cells, *tail])
    return markdown(rows, headers)


def _joints(
    accumulators: Sequence[PCKAccumulator],
    metrics: Sequence[Mapping[str, float]],
    baselines: Sequence[Mapping[str, float]],
) -> str:
    headers, columns = ["joint"], []
    names = list(dict.fromkeys(name for a in accumulators for name in a.scored))
    for accumulator, values, baseline in zip(accumulators, metrics, baselines):
        main, title = accumulator.protocol.metric(), accumulator.protocol.title()
        headers += [f"{accumulator.protocol.name} {title}", "95 %", "mean pose"]
        keys = [f"{main}-{accumulator.joint_label(name)}" for name in names]
        # A protocol may leave a joint out that another one counts.
        none = float("nan")
        columns.append([number(values.get(key, none)) for key in keys])
        columns.append(
            [
                interval_text(values.get(f"{k}_low", none), values.get(f"{k}_high", none))
                for k in keys
            ]
        )
        columns.append([number(baseline.get(key, none)) for key in keys])
    return markdown([list(row) for row in zip(names, *columns)], headers)


def number(value: float) -> str:
    """One decimal; "nan" where nothing was counted."""
    return "nan" if math.isnan(value) else f"{value:.1f}"


def interval_text(low: float, high: float) -> str:
    """Both bounds with one decimal."""
    return f"{number(low)} - {number(high)}"


def markdown(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> str:
    """A Markdown table, all columns but the first aligned to the right."""
    # Numbers are text already: tabulate would drop trailing zeros of its own.
    align = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(rows, headers, tablefmt="pipe", colalign=align, disable_numparse=True)
