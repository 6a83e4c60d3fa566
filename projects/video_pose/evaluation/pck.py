"""Percentage of correct keypoints, without Detectron2: pure functions, and counts that add up.

Shape letters: N frames, K joints, M thresholds, V videos. Keypoints are (x, y, v) or (x, y, score)
and boxes (x1, y1, x2, y2), both in continuous pixels of the original image; a box's sides are
differences of pixel indices, without + 1. Source: docs/PROTOCOLS.md, section "Metrics".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from video_pose.evaluation.bootstrap import share_interval
from video_pose.plugins import PCK_PROTOCOLS

# Cells of the histogram behind the AUC: the area is off by at most half a cell, 0.05 points.
AUC_BINS = 1000

_SHOULDERS = ("left_shoulder", "right_shoulder")
_HIPS = ("left_hip", "right_hip")


# Own reference lengths of a protocol: (keypoints (N, K, 3), boxes (N, 4)) -> (N,) px, NaN: none.
Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Protocol:
    """What makes a joint a hit. A plugin adds its own: ``PCK_PROTOCOLS.add(name)(Protocol(...))``.

    Attributes:
        name: how the protocol is asked for.
        thresholds: largest distances of a hit, the first is the protocol's own and ends the AUC.
        unit: "" for multiples of the reference length, "px" for pixels.
        reference: the reference length, in words.
        joints: names of the joints that the reference length is measured between: from the middle
            of the first half of them to that of the second.
        measure: the reference length, where it is none between joints.
        head: the reference length is the dataset's head segment.
        head_sizes: the reference length comes with the dataset's tracks, as ``head_sizes`` (N,).
        without: joints that this protocol never counts.
        pairs_averaged: a group's value is the mean of its joints' values, not of its counts.
        label: what the literature calls the figure.
    """

    name: str
    thresholds: tuple[float, ...]
    unit: str
    reference: str
    joints: tuple[str, ...] = ()
    measure: Measure | None = None
    head: bool = False
    head_sizes: bool = False
    without: tuple[str, ...] = ()
    pairs_averaged: bool = False
    label: str = "PCK"

    def __post_init__(self) -> None:
        given = (bool(self.joints), self.measure is not None, self.head, self.head_sizes)
        if sum(given) != 1 or len(self.joints) % 2 or not self.thresholds:
            raise ValueError(
                f"PCK protocol {self.name!r}: give thresholds, and one of joints (an even number), "
                f"measure, head and head_sizes; got thresholds {self.thresholds}, joints "
                f"{self.joints}, measure {self.measure}, head {self.head}, head_sizes "
                f"{self.head_sizes}"
            )

    def metric(self, threshold: float | None = None) -> str:
        """The metric's name at a threshold (the first by default): "PCK@0.2", "PCK@12px"."""
        value = self.thresholds[0] if threshold is None else threshold
        return f"PCK@{value:g}{self.unit}"

    def title(self, threshold: float | None = None) -> str:
        """The metric's name as tables print it: "tPCK@0.2" where the literature has a name."""
        return self.metric(threshold).replace("PCK", self.label, 1)


def box_sides(boxes: np.ndarray) -> np.ndarray:
    """Longer sides (N,) px of boxes (N, 4); NaN for one without an area, an annotation error."""
    sides = np.asarray(boxes, np.float64)[:, 2:] - np.asarray(boxes, np.float64)[:, :2]
    return np.where((sides > 0).all(axis=1), sides.max(axis=1), np.nan)


def box_lengths(keypoints: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """`box_sides` of each frame."""
    return box_sides(boxes)


def pixel_lengths(keypoints: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """1 px for each frame."""
    return np.ones(len(keypoints))


for _protocol in (
    Protocol(
        "bbox",
        (0.2, 0.1, 0.05),
        "",
        "the longer side of the frame's ground-truth box",
        measure=box_lengths,
    ),
    Protocol(
        "torso",
        (0.2, 0.1, 0.05),
        "",
        "mid-shoulders to mid-hips (the literature's tPCK takes the diagonal: torso_diagonal)",
        _SHOULDERS + _HIPS,
    ),
    Protocol(
        "torso_diagonal",
        (0.2, 0.1, 0.05),
        "",
        "left shoulder to right hip",
        ("left_shoulder", "right_hip"),
        label="tPCK",
    ),
    Protocol("head", (0.5, 0.1, 0.05), "", "the head segment", head=True, label="PCKh"),
    # The official evaluation: pelvis and thorax are annotated and not scored.
    Protocol(
        "mpii_head",
        (0.5, 0.1),
        "",
        "0.6 of the diagonal of MPII's head rectangle",
        head_sizes=True,
        without=("pelvis", "thorax"),
        label="PCKh",
    ),
    # 12 px of a stored frame are the 6 px of the literature, which halves coordinates first.
    Protocol(
        "pixels",
        (12.0, 6.0),
        "px",
        "none (pixels of the stored frame)",
        measure=pixel_lengths,
        pairs_averaged=True,
    ),
):
    PCK_PROTOCOLS.add(_protocol.name)(_protocol)


def get_protocol(name: str) -> Protocol:
    """The protocol of this name. Raises ValueError with the names that exist."""
    return PCK_PROTOCOLS.get(name)


def required_joints(protocol: Protocol, head_segment: tuple[str, str] | None) -> tuple[str, ...]:
    """Names of the joints that the protocol's reference length is measured between.

    Raises:
        ValueError: protocol "head" on a dataset without a head segment.
    """
    if not protocol.head:
        return protocol.joints
    if head_segment is None:
        choice = [name for name in PCK_PROTOCOLS if not PCK_PROTOCOLS.get(name).head]
        raise ValueError(
            f"protocol {protocol.name!r} needs a head segment, dataset has None; use {choice}"
        )
    return tuple(head_segment)


def reference_lengths(
    protocol: Protocol,
    keypoints: np.ndarray,
    boxes: np.ndarray,
    joint_names: Sequence[str],
    head_segment: tuple[str, str] | None = None,
    head_sizes: np.ndarray | None = None,
) -> np.ndarray:
    """Each frame's reference length.

    Args:
        protocol: the rule.
        keypoints: ground truth (N, K, 3), v = 0 where a joint is not annotated.
        boxes: ground truth (N, 4), XYXY.
        joint_names: K names.
        head_segment: (top, bottom) names, for protocol "head".
        head_sizes: (N,) px, for protocol "mpii_head".

    Returns:
        float64 (N,) pixels (1 for "pixels"); NaN where a length is zero, or where a joint or a box
        that it needs is not annotated: the frame is excluded from this protocol.

    Raises:
        ValueError: the skeleton lacks a joint that the protocol needs.
    """
    if protocol.measure is not None:
        return np.asarray(protocol.measure(keypoints, boxes), np.float64)
    if protocol.head_sizes:
        if head_sizes is None:
            raise ValueError(
                f"protocol {protocol.name!r} needs the tracks' head_sizes, and the dataset has none"
            )
        return np.where(head_sizes > 0, head_sizes, np.nan).astype(np.float64)
    names = required_joints(protocol, head_segment)
    lacking = [name for name in names if name not in joint_names]
    if lacking:
        free = [name for name in PCK_PROTOCOLS if PCK_PROTOCOLS.get(name).measure is not None]
        raise ValueError(
            f"protocol {protocol.name!r} needs the joints {lacking}, the dataset has "
            f"{list(joint_names)}; protocols without joints: {free}"
        )
    points = np.asarray(keypoints, np.float64)[:, [list(joint_names).index(n) for n in names]]
    half = len(names) // 2
    ends = points[:, :half, :2].mean(axis=1), points[:, half:, :2].mean(axis=1)
    lengths = np.sqrt(((ends[0] - ends[1]) ** 2).sum(axis=1))
    return np.where((points[..., 2] > 0).all(axis=1) & (lengths > 0), lengths, np.nan)


def pixel_distances(predictions: np.ndarray, keypoints: np.ndarray) -> np.ndarray:
    """Distance of every joint, float64 (N, K) px; infinite where a prediction is not finite.

    Args:
        predictions: (N, K, >= 2), NaN where nothing was predicted.
        keypoints: (N, K, >= 2).
    """
    offset = (
        np.asarray(predictions, np.float64)[..., :2] - np.asarray(keypoints, np.float64)[..., :2]
    )
    distances = np.sqrt((offset**2).sum(axis=-1))
    return np.where(np.isfinite(distances), distances, np.inf)


def normalised_distances(distances: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Distances (N, K) px over reference lengths (N,) px; NaN where the length is.

    Divided, not compared with ``threshold * length``: a quotient of 1/5 rounds to the very float
    that 0.2 is, a product may fall below the distance.
    """
    return distances / lengths[:, None]


def counted_joints(keypoints: np.ndarray, lengths: np.ndarray, min_visibility: int) -> np.ndarray:
    """Which joints count, bool (N, K): v >= ``min_visibility``, in a frame that has a length."""
    return (keypoints[..., 2] >= min_visibility) & np.isfinite(lengths)[:, None]


def count_hits(
    normalised: np.ndarray, counted: np.ndarray, thresholds: Sequence[float]
) -> np.ndarray:
    """Hits per threshold and joint, int64 (M, K); a distance equal to the threshold is a hit."""
    with np.errstate(invalid="ignore"):
        hits = normalised[None] <= np.asarray(thresholds, np.float64)[:, None, None]
    return (hits & counted[None]).sum(axis=1, dtype=np.int64)


def distance_histogram(
    normalised: np.ndarray, counted: np.ndarray, end: float, bins: int = AUC_BINS
) -> np.ndarray:
    """Counts of the counted joints' distances in equal cells of [0, end], int64 (bins,).

    Distances above ``end`` are in no cell.
    """
    return np.histogram(normalised[counted], bins=bins, range=(0.0, end))[0].astype(np.int64)


def auc_from_histogram(histogram: np.ndarray, total: int) -> float:
    """Area under PCK(t) over [0, end], as a share of ``end`` (0 to 1); NaN if ``total`` is 0.

    A joint at distance d adds (end - d) / end; each is taken at the middle of its cell.
    """
    if total == 0:
        return float("nan")
    share = 1.0 - (np.arange(len(histogram)) + 0.5) / len(histogram)
    return float((histogram * share).sum() / total)


# The groups whose mean is printed beside the overall figure (LSTM Pose Machines' table 2). Neck and
# belly have groups of their own and are not in it.
MEAN_GROUPS = ("head", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")


class PCKAccumulator:
    """Hits and counted joints of one protocol on one dataset, kept per video.

    Counts add up over frames, videos and ranks, and are divided once, at the end. Intervals are
    over source videos, of which several videos may be shots.

    Args:
        protocol: name of a protocol (``PCK_PROTOCOLS``).
        joint_names: K names, in the order of all arrays that follow.
        groups: group name -> names of its joints.
        min_visibility: smallest v that counts, 1 (annotated) or 2 (visible).
        head_segment: (top, bottom) joint names for protocol "head".
        scored: names of the joints that count, all by default. The others serve the reference
            length alone: a model that lacks them is scored on what it has.

    Raises:
        KeyError: a group or ``scored`` names an unknown joint.
        ValueError: unknown protocol, or the skeleton lacks a joint that the protocol needs.
    """

    def __init__(
        self,
        protocol: str,
        joint_names: Sequence[str],
        groups: Mapping[str, Sequence[str]],
        min_visibility: int = 1,
        head_segment: tuple[str, str] | None = None,
        scored: Sequence[str] | None = None,
    ) -> None:
        self.protocol = get_protocol(protocol)
        self.joint_names = list(joint_names)
        self.scored = list(joint_names if scored is None else scored)
        self.scored = [name for name in self.scored if name not in self.protocol.without]
        self._is_scored = scored_columns(self.joint_names, self.scored)
        self.groups = _group_indices(self.joint_names, groups, self.scored)
        self.min_visibility = min_visibility
        self.head_segment = head_segment
        joints = len(self.joint_names)
        # Fails here, not after hours of inference, if the skeleton lacks a joint.
        self._lengths(np.zeros((0, joints, 3)), np.zeros((0, 4)), np.zeros(0))
        self.videos: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # hits (M, K), counted (K,)
        self.sources: dict[str, str] = {}  # of the videos
        self.histogram = np.zeros(AUC_BINS, np.int64)
        self.frames = self.excluded_frames = self.missed_frames = 0
        self.uncounted_joints = 0
        # Distances of all counted and predicted joints, float32: 4 MB for 80,000 frames of 13.
        self._errors: list[np.ndarray] = []

    def add(
        self,
        video_id: str,
        predictions: np.ndarray,
        keypoints: np.ndarray,
        boxes: np.ndarray,
        source_video: str | None = None,
        head_sizes: np.ndarray | None = None,
    ) -> None:
        """Score frames of a video; a video may come in several calls, in any order.

        Args:
            video_id: whose counts these are.
            predictions: (N, K, >= 2); NaN where nothing was predicted, which counts as missed.
            keypoints: ground truth (N, K, 3).
            boxes: ground truth (N, 4).
            source_video: that the video is a shot of; None: it stands for itself.
            head_sizes: (N,) px, for protocol "mpii_head".

        Raises:
            ValueError: the shapes disagree, or the protocol needs head sizes.
        """
        predictions, keypoints = np.asarray(predictions), np.asarray(keypoints)
        joints = len(self.joint_names)
        if keypoints.shape[1:] != (joints, 3) or predictions.shape[:2] != keypoints.shape[:2]:
            raise ValueError(
                f"video {video_id!r}: predictions {predictions.shape} and ground truth "
                f"{keypoints.shape} must be (N, {joints}, ...) for joints {self.joint_names}"
            )
        lengths = self._lengths(keypoints, boxes, head_sizes)
        counted = counted_joints(keypoints, lengths, self.min_visibility) & self._is_scored
        distances = pixel_distances(predictions, keypoints)
        normalised = normalised_distances(distances, lengths)
        hits = count_hits(normalised, counted, self.protocol.thresholds)
        self._add_video(video_id, hits, counted.sum(axis=0, dtype=np.int64))
        self.sources[video_id] = video_id if source_video is None else source_video
        self.histogram += distance_histogram(normalised, counted, self.protocol.thresholds[0])
        self.frames += len(keypoints)
        usable = np.isfinite(lengths)
        self.excluded_frames += int((~usable).sum())
        self.missed_frames += int((usable & np.isinf(distances).all(axis=1)).sum())
        self.uncounted_joints += int((usable[:, None] & self._is_scored & ~counted).sum())
        self._errors.append(distances[counted & np.isfinite(distances)].astype(np.float32))

    def merge(self, other: PCKAccumulator) -> None:
        """Add the counts of another rank, which must score the same protocol and joints."""
        mine, theirs = (
            (a.protocol.name, a.joint_names, a.scored, a.min_visibility, a.head_segment)
            for a in (self, other)
        )
        if mine != theirs:
            raise ValueError(f"cannot add counts of {theirs} to counts of {mine}")
        for video_id, (hits, counted) in other.videos.items():
            self._add_video(video_id, hits, counted)
        self.sources.update(other.sources)
        self.histogram += other.histogram
        self.frames += other.frames
        self.excluded_frames += other.excluded_frames
        self.missed_frames += other.missed_frames
        self.uncounted_joints += other.uncounted_joints
        self._errors.extend(other._errors)

    def metrics(self) -> dict[str, float]:
        """All results, PCK and AUC in percent, errors in px; NaN where nothing was counted.

        Keys without a "-" are the main ones (Detectron2's ``print_csv_format`` prints just these):
        "PCK@0.2", its 95 % interval over source videos "PCK@0.2_low" / "_high" and group mean
        "PCK@0.2_groups", the other thresholds, "AUC", errors and counts. "PCK@0.2-wrist" is a
        group, "PCK@0.2-left_wrist" a joint and "PCK@0.2-left_wrist_low" / "_high" its interval
        (joints at the protocol's own threshold only).
        """
        hits, counted = self.totals()
        result: dict[str, float] = {}
        for row, threshold in enumerate(self.protocol.thresholds):
            name = self.protocol.metric(threshold)
            result[name] = _percent(hits[row].sum(), counted.sum())
            if row == 0:
                result[f"{name}_low"], result[f"{name}_high"] = self.interval()
            by_group = {group: self._group(hits[row], counted, group) for group in self.groups}
            result[f"{name}_groups"] = _mean([by_group[g] for g in MEAN_GROUPS if g in by_group])
            result.update({f"{name}-{group}": value for group, value in by_group.items()})
        result.update(self._joint_metrics(hits[0], counted))
        result["AUC"] = 100.0 * auc_from_histogram(self.histogram, int(counted.sum()))
        return {**result, **self._error_metrics(), **self._count_metrics(counted)}

    def joint_label(self, joint: str) -> str:
        """The joint's name in metrics: its own, unless a group of other joints has that name."""
        group = self.groups.get(joint)
        clash = group is not None and group != [self.joint_names.index(joint)]
        return f"{joint}_joint" if clash else joint

    def totals(self) -> tuple[np.ndarray, np.ndarray]:
        """Hits (M, K) and counted joints (K,), over all videos."""
        shape = len(self.protocol.thresholds), len(self.joint_names)
        hits, counted = np.zeros(shape, np.int64), np.zeros(shape[1], np.int64)
        for video_hits, video_counted in self.videos.values():
            hits += video_hits
            counted += video_counted
        return hits, counted

    def interval(self, seed: int = 0) -> tuple[float, float]:
        """Bootstrap interval of the overall PCK at the protocol's own threshold, in percent."""
        hits, counted = self.source_totals()
        low, high = share_interval(hits.sum(axis=1), counted.sum(axis=1), seed)
        return float(low), float(high)

    def source_totals(self) -> tuple[np.ndarray, np.ndarray]:
        """Hits at the protocol's own threshold and counted joints of each source video, (V, K)."""
        # Sorted, so that the draws do not depend on the order of processing.
        rows = {name: row for row, name in enumerate(sorted(set(self.sources.values())))}
        hits = np.zeros((len(rows), len(self.joint_names)), np.int64)
        counted = np.zeros_like(hits)
        for video_id, (video_hits, video_counted) in self.videos.items():
            row = rows[self.sources[video_id]]
            hits[row] += video_hits[0]
            counted[row] += video_counted
        return hits, counted

    def _lengths(
        self, keypoints: np.ndarray, boxes: np.ndarray, head_sizes: np.ndarray | None
    ) -> np.ndarray:
        return reference_lengths(
            self.protocol, keypoints, boxes, self.joint_names, self.head_segment, head_sizes
        )

    def _add_video(self, video_id: str, hits: np.ndarray, counted: np.ndarray) -> None:
        if video_id in self.videos:
            old_hits, old_counted = self.videos[video_id]
            hits, counted = hits + old_hits, counted + old_counted
        self.videos[video_id] = hits, counted

    def _group(self, hits: np.ndarray, counted: np.ndarray, group: str) -> float:
        members = self.groups[group]
        if self.protocol.pairs_averaged:
            return _mean([_percent(hits[i], counted[i]) for i in members])
        return _percent(hits[members].sum(), counted[members].sum())

    def _joint_metrics(self, hits: np.ndarray, counted: np.ndarray) -> dict[str, float]:
        """Each joint's PCK from (K,) counts, and its interval."""
        low, high = share_interval(*self.source_totals())
        result = {}
        for index, joint in enumerate(self.joint_names):
            if not self._is_scored[index]:
                continue
            key = f"{self.protocol.metric()}-{self.joint_label(joint)}"
            result[key] = _percent(hits[index], counted[index])
            result[f"{key}_low"], result[f"{key}_high"] = float(low[index]), float(high[index])
        return result

    def _error_metrics(self) -> dict[str, float]:
        errors = np.concatenate([np.zeros(0, np.float32), *self._errors]).astype(np.float64)
        # Sorted, so that the sum's rounding does not depend on the order of processing.
        errors.sort()
        mean, median = (errors.mean(), np.median(errors)) if len(errors) else (np.nan, np.nan)
        return {"mean_error_px": float(mean), "median_error_px": float(median)}

    def _count_metrics(self, counted: np.ndarray) -> dict[str, float]:
        return {
            "frames": float(self.frames),
            "joints": float(counted.sum()),
            "excluded_frames": float(self.excluded_frames),
            "missed_frames": float(self.missed_frames),
            "uncounted_joints": float(self.uncounted_joints),
        }


def scored_columns(joint_names: Sequence[str], scored: Sequence[str]) -> np.ndarray:
    """Which joints count, bool (K,). Raises KeyError for a name that is none of the joints."""
    unknown = [name for name in scored if name not in joint_names]
    if unknown:
        raise KeyError(f"joints {unknown} are to be scored, but are not in {list(joint_names)}")
    return np.array([name in scored for name in joint_names], bool)


def _group_indices(
    joint_names: list[str], groups: Mapping[str, Sequence[str]], scored: Sequence[str]
) -> dict[str, list[int]]:
    """Columns of the scored joints of each group; a group without any is left out."""
    indices = {}
    for group, members in groups.items():
        unknown = [name for name in members if name not in joint_names]
        if unknown:
            raise KeyError(f"group {group!r} names joints {unknown} that are not in {joint_names}")
        indices[group] = [joint_names.index(name) for name in members if name in scored]
    return {group: columns for group, columns in indices.items() if columns}


def _percent(hits: int | np.integer, counted: int | np.integer) -> float:
    return 100.0 * float(hits) / float(counted) if counted else float("nan")


def _mean(values: list[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")
