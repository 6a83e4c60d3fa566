"""Percentage of correct keypoints: pure functions on arrays, without Detectron2.

Shape letters: N frames, K joints, M thresholds, V videos. Keypoints are (x, y, v) or (x, y, score)
and boxes (x1, y1, x2, y2), both in continuous pixels of the original image; a box's sides are
differences of pixel indices, without + 1. Source: docs/PROTOCOLS.md, section "Metrics".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# Cells of the histogram behind the AUC: the area is off by at most half a cell, 0.05 points.
AUC_BINS = 1000

_SHOULDERS = ("left_shoulder", "right_shoulder")
_HIPS = ("left_hip", "right_hip")


@dataclass(frozen=True)
class Protocol:
    """What makes a joint a hit.

    Attributes:
        name: how the protocol is asked for.
        thresholds: largest distances of a hit, the first is the protocol's own and ends the AUC.
        unit: "" for multiples of the reference length, "px" for pixels.
        reference: the reference length, in words.
        joints: names of the joints that the reference length needs (the head segment's come from
            the dataset).
        pairs_averaged: a group's value is the mean of its joints' values, not of its counts.
    """

    name: str
    thresholds: tuple[float, ...]
    unit: str
    reference: str
    joints: tuple[str, ...] = ()
    pairs_averaged: bool = False

    def metric(self, threshold: float | None = None) -> str:
        """The metric's name at a threshold (the first by default): "PCK@0.2", "PCK@12px"."""
        value = self.thresholds[0] if threshold is None else threshold
        return f"PCK@{value:g}{self.unit}"


_ALL = (
    Protocol("bbox", (0.2, 0.1, 0.05), "", "the longer side of the frame's ground-truth box"),
    Protocol("torso", (0.2, 0.1, 0.05), "", "mid-shoulders to mid-hips", _SHOULDERS + _HIPS),
    Protocol(
        "torso_diagonal",
        (0.2, 0.1, 0.05),
        "",
        "left shoulder to right hip",
        ("left_shoulder", "right_hip"),
    ),
    Protocol("head", (0.5, 0.1, 0.05), "", "the head segment"),
    # 12 px of a stored frame are the 6 px of the literature, which halves coordinates first.
    Protocol("pixels", (12.0, 6.0), "px", "none (pixels of the stored frame)", (), True),
)
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in _ALL}


def get_protocol(name: str) -> Protocol:
    """The protocol of this name. Raises KeyError with the names that exist."""
    if name not in PROTOCOLS:
        raise KeyError(f"unknown PCK protocol {name!r}; choose from {sorted(PROTOCOLS)}")
    return PROTOCOLS[name]


def required_joints(protocol: Protocol, head_segment: tuple[str, str] | None) -> tuple[str, ...]:
    """Names of the joints that the protocol's reference length is measured between.

    Raises:
        ValueError: protocol "head" on a dataset without a head segment.
    """
    if protocol.name != "head":
        return protocol.joints
    if head_segment is None:
        choice = [name for name in PROTOCOLS if name != "head"]
        raise ValueError(f"protocol 'head' needs a head segment, dataset has None; use {choice}")
    return tuple(head_segment)


def reference_lengths(
    protocol: Protocol,
    keypoints: np.ndarray,
    boxes: np.ndarray,
    joint_names: Sequence[str],
    head_segment: tuple[str, str] | None = None,
) -> np.ndarray:
    """Each frame's reference length.

    Args:
        protocol: one of ``PROTOCOLS``.
        keypoints: ground truth (N, K, 3), v = 0 where a joint is not annotated.
        boxes: ground truth (N, 4), XYXY.
        joint_names: K names.
        head_segment: (top, bottom) names, for protocol "head".

    Returns:
        float64 (N,) pixels (1 for "pixels"); NaN where a length is zero, or where a joint or a box
        that it needs is not annotated: the frame is excluded from this protocol.

    Raises:
        ValueError: the skeleton lacks a joint that the protocol needs.
    """
    count = len(keypoints)
    if protocol.name == "pixels":
        return np.ones(count)
    if protocol.name == "bbox":
        sides = np.asarray(boxes, np.float64)[:, 2:] - np.asarray(boxes, np.float64)[:, :2]
        # A box without an area is an annotation error, also where one side is positive.
        return np.where((sides > 0).all(axis=1), sides.max(axis=1, initial=0), np.nan)
    names = required_joints(protocol, head_segment)
    lacking = [name for name in names if name not in joint_names]
    if lacking:
        raise ValueError(
            f"protocol {protocol.name!r} needs the joints {lacking}, the dataset has "
            f"{list(joint_names)}; protocols without joints: ['bbox', 'pixels']"
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
