"""The page about one evaluation, or about two of the same frames.

Shape letters: M rows of a predictions file, K joints, A actions.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from markupsafe import Markup

from video_pose.evaluation import report as tables
from video_pose.evaluation.calibration import Calibration, reliability
from video_pose.evaluation.motion import box_sides, motion_metrics, runs, track_keys
from video_pose.evaluation.pck import counted_joints, pixel_distances, scored_columns
from video_pose.evaluation.predictions import find_predictions, read_predictions, scoring_facts
from video_pose.report.page import COLOURS, polyline, write_page
from video_pose.skeleton import connect, find_mirror_pairs

CAUSAL = "causal"
Stored = dict[str, np.ndarray]
# Reads a frame as uint8 BGR: (video, track, frame index) -> (H, W, 3).
ReadFrame = Callable[[str, str, int], np.ndarray]

# Cells of the page's histograms, in longer sides of the box.
EDGES = [round(0.01 * i, 2) for i in range(51)]
THRESHOLD = 0.2
CLIPS = 12
CLIP_FRAMES = 24
PICTURE_SIDE = 240


@dataclass(frozen=True)
class Run:
    """A predictions file, its name on the page, and where it was."""

    name: str
    stored: Stored
    path: Path


def write_evaluation_report(
    output: Path,
    paths: Sequence[Path],
    dataset: str | None = None,
    command: str = "",
    read_frame: ReadFrame | None = None,
    calibration: Calibration | None = None,
) -> None:
    """Write the page.

    Args:
        output: the HTML file.
        paths: one or two runs, as `find_predictions` takes them; two must be of the same frames.
        dataset: where a run was evaluated on several.
        command: how the page was made, for its last section.
        read_frame: pictures for the clips; None draws stick figures alone.
        calibration: of the scores; None shows the raw ones. Of a run whose poses later frames have
            corrected it is that of such poses.

    Raises:
        FileNotFoundError, ValueError: as `find_predictions` and `require_pair`; more than two runs.
    """
    if not 1 <= len(paths) <= 2:
        raise ValueError(f"a report is of one run or of two, got {len(paths)}")
    files = [find_predictions(path, dataset) for path in paths]
    names = [path.stem if path.is_file() else path.name for path in paths]
    if len(set(names)) < len(names):
        names = [f"{name} ({letter})" for name, letter in zip(names, "AB")]
    runs_ = [Run(n, read_predictions(f), f) for n, f in zip(names, files)]
    for run in runs_[1:]:
        tables.require_pair(runs_[0].stored, run.stored)
    facts = scoring_facts(runs_[0].stored)
    scored = {p: [_score(run.stored, p, facts) for run in runs_] for p in facts["pck_protocols"]}
    main = next(iter(scored.values()))
    joint_names = [str(name) for name in runs_[0].stored["joint_names"]]
    modes = [run_mode(file) for file in files]
    if calibration is not None and modes[0] != CAUSAL:
        calibration = calibration.of_late_poses()
    curve, note = _reliability(runs_[0].stored, facts, calibration)
    write_page(
        output,
        "evaluation.html",
        page_data(runs_, facts, read_frame),
        title=f"{' and '.join(names)} on {runs_[0].stored['dataset_name']}",
        dataset=str(runs_[0].stored["dataset_name"]),
        frames=len(main[0].hits),
        sources=len(set(main[0].sources.tolist())),
        modes=[f"{name}: {mode}" for name, mode in zip(names, modes)],
        absent=[name for name in joint_names if name not in main[0].scored],
        runs=names,
        headline=_headline(names, scored),
        differences=_differences(*main) if len(main) == 2 else [],
        sections=_sections(main),
        motion=_motion(runs_, facts),
        reliability=curve,
        reliability_note=note,
        training=_training(files[0]),
        command=command,
        config=_config(files[0]),
    )


def _score(stored: Stored, protocol: str, facts: Mapping[str, Any]) -> tables.ScoredJoints:
    return tables.score_joints(stored, protocol, facts["pck_min_visibility"], facts["head_segment"])


def _headline(
    names: Sequence[str], scored: Mapping[str, Sequence[tables.ScoredJoints]]
) -> list[dict[str, Any]]:
    rows = []
    for protocol, found in scored.items():
        for name, one in zip(names, found):
            share = tables.share(one, np.ones(one.counted.shape, bool))
            metric = one.protocol.title(one.threshold)
            rows.append({"run": name, "protocol": protocol, "metric": metric, **vars(share)})
    return rows


def _differences(a: tables.ScoredJoints, b: tables.ScoredJoints) -> list[dict[str, Any]]:
    rows = []
    for section, members in tables.sections(a).items():
        for member, chosen in members.items():
            change = tables.difference(a, b, chosen)
            rows.append(
                {
                    "section": section, "member": member, **vars(change),
                    "title": section if section == "overall" else f"{section}: {member}",
                    "a": tables.share(a, chosen).value, "b": tables.share(b, chosen).value,
                    "verdict": tables.verdict(change),
                }
            )  # fmt: skip
    return rows


def _sections(scored: Sequence[tables.ScoredJoints]) -> list[dict[str, Any]]:
    parts = []
    for section, members in tables.sections(scored[0]).items():
        rows = []
        for member, chosen in members.items():
            shares = [
                {**vars(tables.share(one, chosen)), "colour": COLOURS[number]}
                for number, one in enumerate(scored)
            ]
            rows.append({"name": member, "joints": shares[0]["joints"], "shares": shares})
        if section != "overall":
            parts.append({"title": section, "rows": rows})
    return parts


def _motion(runs_: Sequence[Run], facts: Mapping[str, Any]) -> list[dict[str, Any]]:
    names = [str(name) for name in runs_[0].stored["joint_names"]]
    pairs = find_mirror_pairs(names)
    found = [motion_metrics(run.stored, pairs, facts["pck_min_visibility"]) for run in runs_]
    return [
        {"title": title, "unit": unit.format(**found[0]), "values": [f[key] for f in found]}
        for title, unit, key in tables.MOTION_ROWS
        if not all(math.isnan(f[key]) for f in found)
    ]


def _reliability(
    stored: Stored, facts: Mapping[str, Any], calibration: Calibration | None
) -> tuple[Markup, str]:
    """The diagram, and what it says."""
    scores = stored["predictions"][..., 2]
    kind = "raw peak heights"
    if calibration is not None:
        names = [str(name) for name in stored["joint_names"]]
        scores, kind = calibration.apply(scores, names), "calibrated scores"
    found = reliability(scores, stored, facts["pck_min_visibility"])
    if not found.joints:
        return Markup(""), "The predictions carry no scores."
    lines = [
        (kind, found.mean_score, found.share_right),
        ("what they should be", [0.0, 1.0], [0.0, 1.0]),
    ]
    return (
        polyline(lines, "score", "share of joints within .1 of the box"),
        f"Expected calibration error of {kind}: {found.error:.3f} ({found.joints} joints).",
    )


def page_data(
    runs_: Sequence[Run], facts: Mapping[str, Any], read_frame: ReadFrame | None = None
) -> dict[str, Any]:
    """What the page's script draws: histograms by action and joint, and the worst clips."""
    stored = runs_[0].stored
    names = [str(name) for name in stored["joint_names"]]
    scored = [name for name in names if name in stored["scored_joints"].tolist()]
    actions = sorted({str(action) for action in stored["actions"]} - {""}) or ["every action"]
    return {
        "edges": EDGES,
        "threshold": THRESHOLD,
        "joints": scored,
        "actions": actions,
        "scoredIndex": [names.index(name) for name in scored],
        "links": [
            [names.index(a), names.index(b), f"#{colour[0]:02x}{colour[1]:02x}{colour[2]:02x}"]
            for a, b, colour in connect(names)
        ],
        "runs": [
            {
                "name": run.name,
                "colour": COLOURS[number],
                "counts": error_counts(run.stored, facts["pck_min_visibility"], actions).tolist(),
            }
            for number, run in enumerate(runs_)
        ],
        "clips": worst_clips(stored, facts, read_frame),
    }


def error_counts(stored: Stored, min_visibility: int, actions: Sequence[str]) -> np.ndarray:
    """Counted joints by action, joint and distance, int64 (A, S scored joints, 51).

    The cells are those of `EDGES`, a distance equal to an edge in the lower one; the last cell is
    of larger distances and of joints without a prediction.
    """
    names = [str(name) for name in stored["joint_names"]]
    sides = box_sides(stored["boxes"])
    counted = counted_joints(stored["ground_truth"], sides, min_visibility)
    distances = pixel_distances(stored["predictions"], stored["ground_truth"]) / sides[:, None]
    # Rounded, so that a distance of .2 is not above the edge .2.
    cells = np.searchsorted(EDGES[1:], np.round(distances, 9), side="left")
    known = [str(action) for action in stored["actions"]]
    rows = np.array([actions.index(a) if a in actions else 0 for a in known])
    columns = np.flatnonzero(scored_columns(names, stored["scored_joints"].tolist()))
    counts = np.zeros((len(actions), len(columns), len(EDGES)), np.int64)
    for place, column in enumerate(columns):
        chosen = counted[:, column]
        np.add.at(counts, (rows[chosen], place, cells[chosen, column]), 1)
    return counts


def worst_clips(
    stored: Stored, facts: Mapping[str, Any], read_frame: ReadFrame | None
) -> list[dict[str, Any]]:
    """Loops about the worst frame of each of the worst source videos."""
    errors = tables.frame_errors(stored, "bbox", facts["pck_min_visibility"])
    spans = list(runs(track_keys(stored), stored["frame_indices"]))
    clips = []
    for row in tables.worst_frames(errors, stored["source_videos"], CLIPS):
        span = next(s for s in spans if s.start <= row < s.stop)
        start = max(span.start, min(row - CLIP_FRAMES // 2, span.stop - CLIP_FRAMES))
        clip = slice(start, min(start + CLIP_FRAMES, span.stop))
        clips.append(_clip(stored, clip, errors, read_frame))
    return clips


def _clip(
    stored: Stored, rows: slice, errors: np.ndarray, read_frame: ReadFrame | None
) -> dict[str, Any]:
    video, track = str(stored["video_ids"][rows.start]), str(stored["track_ids"][rows.start])
    frames = stored["frame_indices"][rows].tolist()
    images: list[str] = []
    size = [0, 0]
    if read_frame is not None:
        pictures = [read_frame(video, track, frame) for frame in frames]
        size = [pictures[0].shape[1], pictures[0].shape[0]]
        images = [webp(picture) for picture in pictures]
    known = errors[rows][np.isfinite(errors[rows])]
    mean = float(known.mean()) if len(known) else float("nan")
    action = str(stored["actions"][rows.start])
    return {
        "title": f"{action + ': ' if action else ''}{video}, frames {frames[0]} to {frames[-1]}: "
        f"{mean:.2f}",
        "action": action or "every action",
        "view": _view(stored, rows, size),
        "size": size,
        "images": images,
        "truth": [_pose(p, p[:, 2] > 0) for p in stored["ground_truth"][rows]],
        "predicted": [
            _pose(p, np.isfinite(p[:, :2]).all(axis=1)) for p in stored["predictions"][rows]
        ],
    }


def _view(stored: Stored, rows: slice, size: Sequence[int]) -> list[float]:
    """The whole picture where there is one, else what holds boxes and predictions: x, y, w, h."""
    if size[0]:
        return [0.0, 0.0, float(size[0]), float(size[1])]
    boxes = stored["boxes"][rows]
    points = stored["predictions"][rows][..., :2].reshape(-1, 2)
    points = points[np.isfinite(points).all(axis=1)]
    low = np.concatenate([boxes[:, :2], points]).min(axis=0)
    high = np.concatenate([boxes[:, 2:], points]).max(axis=0)
    margin = 0.05 * (high - low).max() + 1
    x, y = low - margin
    return [float(x), float(y), *(float(v) for v in high - low + 2 * margin)]


def _pose(pose: np.ndarray, known: np.ndarray) -> list[list[float] | None]:
    return [
        [round(float(x), 1), round(float(y), 1)] if there else None
        for (x, y), there in zip(pose[:, :2], known)
    ]


def webp(picture: np.ndarray) -> str:
    """A picture (H, W, 3) BGR of at most `PICTURE_SIDE` px as a data URL."""
    factor = min(1.0, PICTURE_SIDE / max(picture.shape[:2]))
    small = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    _, data = cv2.imencode(".webp", small, [cv2.IMWRITE_WEBP_QUALITY, 60])
    return "data:image/webp;base64," + base64.b64encode(data.tobytes()).decode("ascii")


def _training(predictions: Path) -> Markup | None:
    """Loss over iterations of the run that the predictions are of, where its metrics are there."""
    file = predictions.parents[2] / "metrics.json" if len(predictions.parents) > 2 else None
    if file is None or not file.is_file():
        return None
    points = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:  # the last line of a run that was killed
            continue
        if "total_loss" in entry:
            points[int(entry["iteration"])] = float(entry["total_loss"])
    if not points:
        return None
    iterations = sorted(points)
    losses = [math.log10(max(points[i], 1e-12)) for i in iterations]
    return polyline([("loss", iterations, losses)], "iteration", "logarithm of the loss")


def run_mode(predictions: Path) -> str:
    """Which frames a run's poses went by, as its configuration says; causal where it has none."""
    content = yaml.safe_load(_config(predictions) or "{}")
    test = content.get("TEST", {}) if isinstance(content, dict) else {}
    node = test.get("OVER_TIME", {}) if isinstance(test, dict) else {}
    mode = node.get("MODE", CAUSAL)
    late = f"{node.get('LAG')} frames late" if mode == "lag" else f"{mode}, by the whole track"
    return CAUSAL if mode == CAUSAL else late


def _config(predictions: Path) -> str:
    """That of the evaluation, else of the run whose folder it is."""
    folders = [predictions.parent, *predictions.parents[2:3]]
    files = [folder / "config.yaml" for folder in folders]
    return next((file.read_text(encoding="utf-8") for file in files if file.is_file()), "")
