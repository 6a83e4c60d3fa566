"""All figures and tables of a made-up evaluation, to the digit: a score may not change in silence.

``golden/`` holds them. Where a change is wanted, VIDEO_POSE_GOLDEN=1 writes them anew; the
difference is to be read before it is committed, and said in CHANGELOG.md.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from video_pose.evaluation.calibration import fit_calibration, reliability
from video_pose.evaluation.mean_pose import median_pose, place_pose
from video_pose.evaluation.motion import motion_metrics
from video_pose.evaluation.pck import PCKAccumulator
from video_pose.evaluation.people import (
    JointFacts,
    LabelledPeople,
    PredictedPeople,
    format_people,
    score_people,
)
from video_pose.evaluation.predictions import TrackPredictions, index_tracks, prediction_arrays
from video_pose.evaluation.report import (
    ReportFacts,
    difference,
    format_motion,
    format_report,
    frame_errors,
    score_joints,
    sections,
    share,
    verdict,
    worst_frames,
)
from video_pose.skeleton import JHMDB

GOLDEN = Path(__file__).parent / "golden"
NAMES = list(JHMDB.names)
FRAMES, VIDEOS = 14, 16
FACTS = JointFacts(NAMES, np.full(len(NAMES), 0.08), JHMDB.groups)


def _check(name: str, text: str) -> None:
    golden = GOLDEN / name
    if os.environ.get("VIDEO_POSE_GOLDEN"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text()


def _text(values: Mapping[str, float]) -> str:
    return "".join(f"{key} {value:.4f}\n" for key, value in values.items())


def _tracks() -> list[dict]:
    """Clips of eight source videos and three actions: bodies that move and grow, with joints that
    are hidden (v 1) or not annotated (v 0), frames without labels and one without a box."""
    rng = np.random.default_rng(11)
    tracks = []
    for v in range(VIDEOS):
        start, step = rng.uniform(20, 60, (len(NAMES), 2)), rng.uniform(-3, 3, (len(NAMES), 2))
        t = np.arange(FRAMES)[:, None, None]
        points = start + step * t + 4 * np.sin(t / 2 + v) + rng.normal(0, 0.3, (FRAMES, 1, 1))
        visible = rng.choice([0, 1, 2], (FRAMES, len(NAMES)), p=[0.05, 0.25, 0.7])
        visible[4:9, v % len(NAMES)] = 1
        boxes = np.concatenate([points.min(1) - 5, points.max(1) + 5], axis=1)
        labelled = rng.uniform(size=FRAMES) < 0.9
        if v == 3:
            boxes[2] = 0
        tracks.append({
            "video_id": f"v{v}", "track_id": "0", "source_video": f"s{v // 2}",
            "action": ("run", "sit", "jump")[v % 3],
            "keypoints": np.concatenate([points, visible[..., None]], axis=2),
            "boxes": boxes, "labelled": labelled, "head_sizes": rng.uniform(8, 14, FRAMES),
        })  # fmt: skip
    return tracks


def _stored(seed: int, spread: float) -> dict[str, np.ndarray]:
    """Predictions with errors that a joint keeps for a while, exchanged sides, and gaps."""
    rng = np.random.default_rng(seed)
    found = {}
    sides = [(NAMES.index(f"left_{n}"), NAMES.index(f"right_{n}")) for n in ("wrist", "knee")]
    for track in _tracks():
        noise = rng.normal(0, spread, (FRAMES, len(NAMES), 2))
        points = track["keypoints"][..., :2] + noise + np.roll(noise, 1, axis=0)
        for left, right in sides:
            for n in np.flatnonzero(rng.uniform(size=FRAMES) < 0.15):
                points[n, [left, right]] = points[n, [right, left]]
        scores = np.clip(rng.normal(0.9, 0.2, noise.shape[:2]) - np.abs(noise).mean(2) / 9, 0, 1)
        rows = np.concatenate([points, scores[..., None]], axis=2).astype(np.float32)
        kept = rng.uniform(size=FRAMES) < 0.93
        frames = {n: rows[n] for n in np.flatnonzero(kept).tolist()}
        found[track["video_id"], "0"] = TrackPredictions(frames)
    truth = index_tracks("made up", _tracks())
    return prediction_arrays("made up", NAMES, truth, found)


@pytest.fixture(scope="module")
def stored() -> dict[str, np.ndarray]:
    return _stored(1, 3.0)


@pytest.mark.parametrize("min_visibility", [1, 2])
def test_the_report(stored: dict[str, np.ndarray], min_visibility: int) -> None:
    segment = ("head", "neck")
    protocols = ("bbox", "torso", "torso_diagonal", "head", "mpii_head", "pixels")
    mean = place_pose(median_pose(_tracks(), min_visibility), stored["boxes"])
    made: dict[str, list[PCKAccumulator]] = {}
    for protocol in protocols:
        pair = [
            PCKAccumulator(protocol, NAMES, JHMDB.groups, min_visibility, segment) for _ in range(2)
        ]
        for accumulator, poses in zip(pair, (stored["predictions"], mean)):
            for video in dict.fromkeys(stored["video_ids"].tolist()):
                rows = stored["video_ids"] == video
                accumulator.add(
                    video, poses[rows], stored["ground_truth"][rows], stored["boxes"][rows],
                    str(stored["source_videos"][rows][0]), stored["head_sizes"][rows],
                )  # fmt: skip
        made[protocol] = pair
    metrics, baselines = ([pair[i].metrics() for pair in made.values()] for i in range(2))
    facts = ReportFacts("made up", "itself", min_visibility)
    text = format_report(facts, {name: pair[0] for name, pair in made.items()}, metrics, baselines)
    text += "".join(f"\n== {name}\n{_text(values)}" for name, values in zip(made, metrics))
    _check(f"report_{min_visibility}.txt", text)


def test_figures_over_time(stored: dict[str, np.ndarray]) -> None:
    pairs = [(n, n.replace("left", "right")) for n in NAMES if n.startswith("left")]
    values = motion_metrics(stored, pairs)
    hidden = motion_metrics(stored, pairs, min_visibility=2)
    _check("motion.txt", f"{format_motion(values)}\n\n{_text(values)}\n{_text(hidden)}")


def test_one_run_and_two(stored: dict[str, np.ndarray]) -> None:
    other = _stored(2, 2.0)
    lines = []
    for protocol, threshold in (("bbox", None), ("torso", 0.1), ("pixels", None)):
        one, two = (score_joints(s, protocol, 1, threshold=threshold) for s in (stored, other))
        lines.append(f"== {protocol} {one.threshold:g} {one.frames_excluded}")
        for title, rows in sections(one).items():
            for name, chosen in rows.items():
                found, change = share(one, chosen), difference(one, two, chosen)
                numbers = (found.value, found.low, found.high, change.value, change.low)
                cells = " ".join(f"{number:.3f}" for number in (*numbers, change.high))
                lines.append(
                    f"{title} {name}: {cells} {found.joints} {found.sources} {verdict(change)}"
                )
        errors = frame_errors(stored, protocol, 1)
        worst = worst_frames(errors, stored["source_videos"], 5)
        lines += [f"{row} {stored['source_videos'][row]} {errors[row]:.5f}" for row in worst]
    _check("sections.txt", "\n".join(lines) + "\n")


def test_calibration(stored: dict[str, np.ndarray]) -> None:
    found = fit_calibration(stored, 1, "made up")
    lines = [f"{name} {xs} {ys}" for name, (xs, ys) in found.curves.items()]
    scores = stored["predictions"][..., 2]
    for values in (scores, found.apply(scores, NAMES)):
        points = reliability(values, stored, 1)
        pairs = [f"{m:.5f}:{s:.5f}" for m, s in zip(points.mean_score, points.share_right)]
        lines.append(f"{points.error:.6f} {points.joints} {' '.join(pairs)}")
    _check("calibration.txt", "\n".join(lines) + "\n")


@pytest.mark.parametrize("protocol", ["bbox", "head"])
def test_people(protocol: str) -> None:
    """Two or three people a frame: some missed, doubled or invented, numbers that change, a region
    that hides what lies in it."""
    pytest.importorskip("trackers")
    rng = np.random.default_rng(5)
    frames = {}
    for n in range(24):
        ids = np.arange(2 + n % 2)
        base = rng.uniform(0, 40, (len(ids), len(NAMES), 2)) + 90 * ids[:, None, None] + n
        v = rng.choice([0, 1, 2], base.shape[:2], p=[0.1, 0.2, 0.7])
        boxes = np.concatenate([base.min(1), base.max(1)], axis=1)
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
        regions = np.array([[250.0, 0, 400, 200]]) if n % 3 == 0 else np.zeros((0, 4))
        truth = LabelledPeople(
            np.array([f"p{i}" for i in ids]), np.concatenate([base, v[..., None]], axis=2), boxes,
            areas, regions,
        )  # fmt: skip
        noise = rng.normal(0, 2.5, base.shape)
        poses = np.concatenate([base + noise, np.full((*base.shape[:2], 1), 0.7)], axis=2)
        extra = [poses[:1] + [3, 2, 0], poses[-1:] + [120, 9, 0]]
        poses = np.concatenate([poses[n % 5 == 0 :], *extra[: n % 3]])
        poses[rng.uniform(size=poses.shape[:2]) < 0.06] = np.nan
        numbers = np.arange(len(poses)) + (3 if n > 15 else 0)
        found = PredictedPeople(poses, rng.uniform(0.2, 1, len(poses)), numbers)
        frames["clip" if n < 20 else "other", n] = truth, found
    segment = ("head", "neck") if protocol == "head" else None
    facts = JointFacts(NAMES, FACTS.sigmas, JHMDB.groups, protocol, segment)
    results = score_people(frames, facts)
    _check(
        f"people_{protocol}.txt", f"{format_people('made up', results, facts)}\n{_text(results)}"
    )
