"""What PCK does not see: sides exchanged, jitter, lag, and how long a joint stays lost.

Pure functions on the arrays of a predictions file. Shape letters: M rows (labelled frames of
tracks, those of a track in a row and ascending), K joints. Coordinates are continuous pixels of the
original image, times are frames. Definitions, units and sources: docs/PROTOCOLS.md, section "Over
time". "Box" is the longer side of the frame's ground-truth box, as in PCK by box.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from video_pose.evaluation.pck import box_sides

# Paired joints whose truths are nearer to each other than this share of the box cannot be told
# apart by where they are.
MIN_SEPARATION = 0.1
# A joint is right again within this share of the box.
RIGHT_AGAIN = 0.1
# Two tracks change places where crossing costs less than this share of staying.
EXCHANGE_COST = 0.5
MAX_LAG = 3
# Distances beyond this share of the box are errors of another kind than lag.
LAG_CLIP = 0.2
# Shorter runs of frames have no spectrum to speak of.
MIN_SPECTRUM = 8


def track_keys(stored: Mapping[str, np.ndarray]) -> np.ndarray:
    """One text (M,) for each row, the same for the rows of one track."""
    return np.array([f"{v}\0{t}" for v, t in zip(stored["video_ids"], stored["track_ids"])])


def runs(tracks: np.ndarray, frame_indices: np.ndarray) -> Iterator[slice]:
    """Rows of consecutive frames of one track, as long as possible."""
    follows = (tracks[1:] == tracks[:-1]) & (frame_indices[1:] == frame_indices[:-1] + 1)
    edges = [0, *(np.flatnonzero(~follows) + 1).tolist(), len(tracks)]
    for start, end in zip(edges, edges[1:]):
        if end > start:
            yield slice(start, end)


def true_spans(mask: np.ndarray) -> list[tuple[int, int]]:
    """(start, end) of the runs of True in (N,), the end excluded."""
    steps = np.diff(np.concatenate([[0], mask.astype(np.int8), [0]]))
    return list(zip(np.flatnonzero(steps > 0).tolist(), np.flatnonzero(steps < 0).tolist()))


def motion_metrics(
    stored: Mapping[str, np.ndarray], pairs: Sequence[tuple[str, str]], min_visibility: int = 1
) -> dict[str, float]:
    """All figures of this module.

    Args:
        stored: arrays of a predictions file.
        pairs: names of (left, right) joints.
        min_visibility: smallest v of a joint that is scored.

    Returns:
        Percent, px, frames and counts by name; NaN where nothing could be counted.
    """
    names = [str(name) for name in stored["joint_names"]]
    columns = [(names.index(a), names.index(b)) for a, b in pairs]
    tracks, frames = track_keys(stored), stored["frame_indices"]
    keypoints = stored["ground_truth"] * [
        [1, 1, name in stored.get("scored_joints", names)] for name in names
    ]
    points = np.where(
        np.isfinite(stored["predictions"][..., :2]), stored["predictions"][..., :2], np.nan
    ).astype(np.float64)
    truth = np.where(keypoints[..., 2:] >= min_visibility, keypoints[..., :2], np.nan).astype(
        np.float64
    )
    sides = box_sides(stored["boxes"])
    spans = list(runs(tracks, frames))
    return {
        **swap_rate(points, truth, sides, columns),
        **exchange_rate(points, sides, spans, columns),
        **jitter(points, truth, sides, spans),
        **high_frequency_share(points, spans),
        **lag(points, truth, sides, spans),
        **recovery(points, keypoints, sides, spans),
    }


def swap_rate(
    points: np.ndarray,
    truth: np.ndarray,
    sides: np.ndarray,
    pairs: Sequence[tuple[int, int]],
) -> dict[str, float]:
    """Share of paired joints that lie each nearer to the other side's truth than to its own.

    Args:
        points: predictions (M, K, 2); NaN where there is none.
        truth: (M, K, 2), NaN where a joint is not scored.
        sides: (M,) px.
        pairs: columns of (left, right).

    Returns:
        ``swap_rate`` percent of ``swap_pairs``: pairs of which both truths and both predictions are
        known, and the truths at least `MIN_SEPARATION` of the box apart.
    """
    swapped = counted = 0
    for a, b in pairs:
        apart = _distance(truth[:, a], truth[:, b]) >= MIN_SEPARATION * sides
        known = apart & np.isfinite(points[:, [a, b]]).all(axis=(1, 2))
        crossed = _distance(points[:, a], truth[:, b]) < _distance(points[:, a], truth[:, a])
        crossed &= _distance(points[:, b], truth[:, a]) < _distance(points[:, b], truth[:, b])
        swapped += int((crossed & known).sum())
        counted += int(known.sum())
    return {"swap_rate": _percent(swapped, counted), "swap_pairs": float(counted)}


def exchange_rate(
    points: np.ndarray,
    sides: np.ndarray,
    spans: Sequence[slice],
    pairs: Sequence[tuple[int, int]],
) -> dict[str, float]:
    """Sudden exchanges of the tracks of paired joints, for which no truth is needed.

    From one frame to the next the two paths cross where going to the other side's place is shorter
    than `EXCHANGE_COST` times staying, and the two were at least `MIN_SEPARATION` of the box apart
    in both frames.

    Returns:
        ``exchange_rate`` percent of ``exchange_steps``, the steps in which the pair was known and
        apart.
    """
    exchanged = counted = 0
    for span in spans:
        for a, b in pairs:
            left, right = points[span, a], points[span, b]
            apart = _distance(left, right) >= MIN_SEPARATION * sides[span]
            known = apart[1:] & apart[:-1]
            stay = _distance(left[1:], left[:-1]) + _distance(right[1:], right[:-1])
            cross = _distance(left[1:], right[:-1]) + _distance(right[1:], left[:-1])
            exchanged += int((known & (cross < EXCHANGE_COST * stay)).sum())
            counted += int(known.sum())
    return {"exchange_rate": _percent(exchanged, counted), "exchange_steps": float(counted)}


def jitter(
    points: np.ndarray, truth: np.ndarray, sides: np.ndarray, spans: Sequence[slice]
) -> dict[str, float]:
    """Mean acceleration error against the truth.

    The acceleration of a joint is its second difference x(t + 1) - 2 x(t) + x(t - 1).

    Returns:
        ``acceleration_error_px`` in px / frame^2, ``acceleration_error`` in percent of the box /
        frame^2, ``acceleration_px`` of the predictions alone, and ``acceleration_joints``, how many
        were compared.
    """
    errors, shares, plain = [], [], []
    for span in spans:
        own = np.diff(points[span], 2, axis=0)
        error = np.linalg.norm(own - np.diff(truth[span], 2, axis=0), axis=-1)
        errors.append(error.ravel())
        shares.append((error / sides[span][1:-1, None]).ravel())
        plain.append(np.linalg.norm(own, axis=-1).ravel())
    return {
        "acceleration_error_px": _mean(errors),
        "acceleration_error": 100 * _mean(shares),
        "acceleration_px": _mean(plain),
        "acceleration_joints": float(sum(np.isfinite(e).sum() for e in errors)),
    }


def high_frequency_share(points: np.ndarray, spans: Sequence[slice]) -> dict[str, float]:
    """Share of a joint's movement that is faster than a quarter of the frame rate.

    The power of the velocity's spectrum above a quarter of the frame rate over all of it, summed
    over joints and runs of at least `MIN_SPECTRUM` frames in which the joint was predicted. A body
    that moves smoothly has next to none; white noise on resting joints has 82 %.

    Returns:
        ``high_frequency_share`` in percent.
    """
    high = total = 0.0
    for span in spans:
        for k in range(points.shape[1]):
            path = points[span, k]
            for start, end in true_spans(np.isfinite(path).all(axis=-1)):
                if end - start < MIN_SPECTRUM:
                    continue
                velocity = np.diff(path[start:end], axis=0)
                power = (np.abs(np.fft.rfft(velocity - velocity.mean(axis=0), axis=0)) ** 2).sum(1)
                frequency = np.fft.rfftfreq(len(velocity))
                # Every frequency but 0 and 1/2 stands for two of the full spectrum.
                weight = np.where((frequency == 0) | (frequency == 0.5), 1.0, 2.0)
                high += float((power * weight)[frequency > 0.25].sum())
                total += float((power * weight).sum())
    return {"high_frequency_share": 100 * high / total if total > 0 else float("nan")}


def lag(
    points: np.ndarray,
    truth: np.ndarray,
    sides: np.ndarray,
    spans: Sequence[slice],
    max_lag: int = MAX_LAG,
) -> dict[str, float]:
    """The shift in time at which the predictions fit the truth best.

    For every whole shift of up to ``max_lag`` frames: the mean squared distance, in boxes and at
    most `LAG_CLIP`, of the prediction at t from the truth at t - shift, over the joints whose truth
    is known at all shifts. The minimum of the parabola through the best shift and its two
    neighbours is the lag.

    Returns:
        ``lag_frames``; above 0 the predictions are late, NaN if nothing could be compared.
    """
    shifts = range(-max_lag, max_lag + 1)
    sums, counts = np.zeros(len(shifts)), 0
    for span in spans:
        inner = slice(span.start + max_lag, span.stop - max_lag)
        if inner.stop <= inner.start:
            continue
        moved = np.stack([truth[inner.start - s : inner.stop - s] for s in shifts])
        distance = np.linalg.norm(points[inner] - moved, axis=-1) / sides[inner][None, :, None]
        known = np.isfinite(distance).all(axis=0)
        sums += (np.minimum(distance, LAG_CLIP) ** 2)[:, known].sum(axis=1)
        counts += int(known.sum())
    if not counts:
        return {"lag_frames": float("nan")}
    best = int(sums.argmin())
    if best in (0, len(shifts) - 1):
        return {"lag_frames": float(shifts[best])}
    # The first of the smallest sums: the one before it is greater, and the parabola has a minimum.
    before, middle, after = sums[best - 1 : best + 2]
    offset = 0.5 * (before - after) / (before - 2 * middle + after)
    return {"lag_frames": float(shifts[best] + offset)}


def recovery(
    points: np.ndarray, keypoints: np.ndarray, sides: np.ndarray, spans: Sequence[slice]
) -> dict[str, float]:
    """Frames until a joint is right again after it was hidden, and how long misses last.

    A joint comes back where v turns from 1 (hidden) to 2 (visible). It is right again within
    `RIGHT_AGAIN` of the box: at once counts 0 frames. A joint that is not right before it is hidden
    or unlabelled again, or the run ends, is lost.

    Args:
        keypoints: ground truth (M, K, 3).

    Returns:
        ``recovery_frames``, the mean over those that were found again, ``recovery_lost`` percent of
        ``recovery_events``, and ``miss_run_frames``, the mean length of the runs of frames in which
        a labelled joint is wrong.
    """
    waits: list[int] = []
    lengths: list[int] = []
    lost = 0
    distance = _distance(points, keypoints[..., :2].astype(np.float64))
    with np.errstate(invalid="ignore"):
        right = distance <= RIGHT_AGAIN * sides[:, None]
    scored = (keypoints[..., 2] > 0) & np.isfinite(sides)[:, None]
    for span in spans:
        for k in range(keypoints.shape[1]):
            v, hit = keypoints[span, k, 2], right[span, k]
            lengths += [end - start for start, end in true_spans(scored[span, k] & ~hit)]
            for start, end in true_spans(v >= 2):
                if start == 0 or v[start - 1] != 1:
                    continue
                found = np.flatnonzero(hit[start:end])
                if len(found):
                    waits.append(int(found[0]))
                else:
                    lost += 1
    events = len(waits) + lost
    return {
        "recovery_frames": float(np.mean(waits)) if waits else float("nan"),
        "recovery_lost": _percent(lost, events),
        "recovery_events": float(events),
        "miss_run_frames": float(np.mean(lengths)) if lengths else float("nan"),
    }


def _distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Of points (..., 2); NaN where one is."""
    return np.sqrt(((a - b) ** 2).sum(axis=-1))


def _percent(part: int, whole: int) -> float:
    return 100.0 * part / whole if whole else float("nan")


def _mean(parts: Sequence[np.ndarray]) -> float:
    values = np.concatenate([np.zeros(0), *parts])
    values = values[np.isfinite(values)]
    return float(values.mean()) if len(values) else float("nan")
