"""The page about the people of one video: when each is there, how sure, how they move.

Shape letters: N frames of a person, K joints.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

from video_pose.evaluation.motion import exchange_rate, high_frequency_share, jitter
from video_pose.evaluation.people import extents
from video_pose.evaluation.score import Poses
from video_pose.report.page import COLOURS, write_page
from video_pose.skeleton import find_mirror_pairs

# Columns of the strip of joint scores: more would be narrower than a pixel.
STRIP_COLUMNS = 200
# A video of at most this size is put into the page itself.
EMBEDDED_BYTES = 8_000_000


@dataclass(frozen=True)
class Person:
    """One track: frames (N,) ascending, keypoints (N, K, 3) and the person's scores (N,)."""

    number: int
    frames: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray

    def spans(self) -> list[tuple[int, int]]:
        """(first, last) of the runs of frames in which the person is there."""
        breaks = np.flatnonzero(np.diff(self.frames) > 1) + 1
        parts = np.split(self.frames, breaks)
        return [(int(part[0]), int(part[-1])) for part in parts]


def write_video_report(
    output: Path,
    frames: Iterable[Poses],
    title: str,
    *,
    fps: float,
    overlay: Path | None = None,
    tables: Sequence[Path] = (),
    cuts: Sequence[int] = (),
    notes: Mapping[str, str] | None = None,
    command: str = "",
) -> None:
    """Write the page.

    Args:
        output: the HTML file.
        frames: the predictions, those of one video.
        fps: frames a second, for times and speeds.
        overlay: a video or picture to show; a small one is put into the page, another one is
            linked to.
        tables: files to link to.
        cuts: frames at which a new shot begins.
        notes: what else is to be said, by title: the mode, the filter, the model.
        command: how it was made.

    Raises:
        ValueError: frames of several videos or skeletons, none at all, or no frames a second.
    """
    if not fps > 0:
        raise ValueError(f"fps {fps}: must be above 0")
    names, people, numbers = collect(frames)
    last = max(numbers)
    write_page(
        output,
        "video.html",
        page_data(names, people, fps),
        title=title,
        count=len(numbers),
        duration=(last - min(numbers) + 1) / fps,
        fps=fps,
        overlay=_overlay_source(overlay, output),
        is_photo=overlay is not None and overlay.suffix.lower() in _PHOTO_KINDS,
        people=[_row(person, names, fps) for person in people],
        timeline=timeline(people, min(numbers), last, cuts),
        has_joints=bool(names),
        strips=[(p.number, score_strip(p, names)) for p in people] if names else [],
        tables=[(path.name, _relative(path, output)) for path in tables],
        notes=dict(notes or {}),
        command=command,
    )


def collect(frames: Iterable[Poses]) -> tuple[list[str], list[Person], list[int]]:
    """Joint names, people by track number, and the numbers of all frames.

    Raises:
        ValueError: as `write_video_report`.
    """
    names: list[str] | None = None
    videos: set[str] = set()
    numbers: list[int] = []
    rows: dict[int, list[tuple[int, np.ndarray, float]]] = {}
    for frame in frames:
        videos.add(frame.video)
        names = list(frame.joint_names) if names is None else names
        if list(frame.joint_names) != names or len(videos) > 1:
            raise ValueError(
                f"a report is of one video and one skeleton: got the videos {sorted(videos)} and "
                f"the joints {names} and {list(frame.joint_names)}"
            )
        numbers.append(int(frame.index))
        for track, pose, score in zip(frame.track_ids, frame.keypoints, frame.scores):
            rows.setdefault(int(track), []).append((int(frame.index), pose, float(score)))
    if names is None:
        raise ValueError("no frame to report on")
    people = []
    for number, found in sorted(rows.items()):
        found.sort(key=lambda row: row[0])
        keypoints = np.stack([pose for _, pose, _ in found]).astype(np.float64)
        scores = np.array([score for _, _, score in found])
        people.append(Person(number, np.array([f for f, _, _ in found]), keypoints, scores))
    return names, people, numbers


def _runs(person: Person) -> list[slice]:
    breaks = (np.flatnonzero(np.diff(person.frames) > 1) + 1).tolist()
    edges = [0, *breaks, len(person.frames)]
    return [slice(a, b) for a, b in zip(edges, edges[1:])]


def _row(person: Person, names: Sequence[str], fps: float) -> dict[str, Any]:
    """One line of the table of people."""
    spans, points = _runs(person), person.keypoints[..., :2]
    if not names:  # a model of boxes or masks: what joints tell is not known
        boxes = np.full((len(points), 4), np.nan)
    else:
        boxes = extents(person.keypoints)
    sides = np.maximum((boxes[:, 2:] - boxes[:, :2]).max(axis=1), 1)
    none = np.full(points.shape, np.nan)
    pairs = [(names.index(a), names.index(b)) for a, b in find_mirror_pairs(names)]
    return {
        "number": person.number,
        "first": float(person.frames[0] / fps),
        "last": float(person.frames[-1] / fps),
        "frames": len(person.frames),
        "gaps": len(person.spans()) - 1,
        "score": float(np.mean(person.scores)),
        "height": float(np.median(boxes[:, 3] - boxes[:, 1])),
        "acceleration": jitter(points, none, sides, spans)["acceleration_px"],
        "shaking": high_frequency_share(points, spans)["high_frequency_share"],
        "exchanges": exchange_rate(points, sides, spans, pairs)["exchange_rate"],
    }


def timeline(people: Sequence[Person], first: int, last: int, cuts: Sequence[int]) -> Markup:
    """A row a person: a bar where the person is there, its shade the score; lines at cuts."""
    width, left = 900, 60
    scale = (width - left - 10) / max(last - first + 1, 1)
    height = 22 * len(people) + 24
    parts = []
    for row, person in enumerate(people):
        y = 4 + 22 * row
        parts.append(f'<text x="4" y="{y + 13}">{person.number}</text>')
        for start, end in person.spans():
            inside = (person.frames >= start) & (person.frames <= end)
            shade = 0.25 + 0.75 * min(max(float(person.scores[inside].mean()), 0), 1)
            parts.append(
                f'<rect x="{left + (start - first) * scale:.1f}" y="{y}" height="16" '
                f'width="{max((end - start + 1) * scale, 1):.1f}" opacity="{shade:.2f}" '
                f'fill="{COLOURS[row % len(COLOURS)]}"><title>person {person.number}: frames '
                f"{start} to {end}</title></rect>"
            )
    for cut in cuts:
        x = left + (cut - first) * scale
        parts.append(f'<path class="cut" d="M{x:.1f} 0V{height - 20}" stroke="#d00"/>')
    for place, number in ((left, first), (width - 10, last)):
        anchor = "start" if place == left else "end"
        parts.append(f'<text x="{place}" y="{height - 4}" text-anchor="{anchor}">{number}</text>')
    return Markup(
        f'<svg class="wide" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="when each person is there">{"".join(parts)}</svg>'
    )


def score_strip(person: Person, names: Sequence[str]) -> Markup:
    """Scores of every joint over the person's frames, dark where they are high."""
    first, last = int(person.frames[0]), int(person.frames[-1])
    columns = min(STRIP_COLUMNS, last - first + 1)
    place = ((person.frames - first) * columns // (last - first + 1)).astype(int)
    known = np.nan_to_num(np.clip(person.keypoints[..., 2], 0, 1))
    sums = np.zeros((columns, len(names)))
    np.add.at(sums, place, known)
    counts = np.bincount(place, minlength=columns)
    width, left, row = 900, 130, 12
    step = (width - left) / columns
    parts = []
    for k, name in enumerate(names):
        y = k * row
        parts.append(f'<text x="{left - 6}" y="{y + 10}" text-anchor="end">')
        parts.append(f"{Markup.escape(name)}</text>")
        for c in np.flatnonzero(counts):
            share = sums[c, k] / counts[c]
            parts.append(
                f'<rect x="{left + c * step:.1f}" y="{y}" width="{step + 0.3:.1f}" '
                f'height="{row - 1}" fill="#0072b2" opacity="{0.06 + 0.94 * share:.2f}"/>'
            )
    return Markup(
        f'<svg class="wide" viewBox="0 0 {width} {row * len(names)}" role="img" '
        f'aria-label="joint scores of person {person.number}">{"".join(parts)}</svg>'
    )


def page_data(names: Sequence[str], people: Sequence[Person], fps: float) -> dict[str, Any]:
    """What the page's script draws: positions of every joint of every person."""
    return {
        "fps": fps,
        "joints": list(names),
        "people": [
            {
                "number": person.number,
                "frames": person.frames.tolist(),
                "x": _columns(person.keypoints[..., 0]),
                "y": _columns(person.keypoints[..., 1]),
                "score": _columns(person.keypoints[..., 2], 3),
            }
            for person in people
        ],
    }


def _columns(values: np.ndarray, digits: int = 1) -> list[list[float | None]]:
    """(N, K) -> K lists; None where a joint was not found."""
    return [
        [round(v, digits) if math.isfinite(v) else None for v in column]
        for column in values.T.tolist()
    ]


_PHOTO_KINDS = {".jpg": "jpeg", ".jpeg": "jpeg", ".png": "png"}


def _overlay_source(overlay: Path | None, output: Path) -> str:
    if overlay is None:
        return ""
    if overlay.stat().st_size > EMBEDDED_BYTES:
        return _relative(overlay, output)
    if photo := _PHOTO_KINDS.get(overlay.suffix.lower()):
        kind = f"image/{photo}"
    else:
        kind = "video/webm" if overlay.suffix == ".webm" else "video/mp4"
    return f"data:{kind};base64," + base64.b64encode(overlay.read_bytes()).decode("ascii")


def _relative(path: Path, output: Path) -> str:
    """The address by which the page may link to it; the whole address where it lies elsewhere."""
    folder = output.resolve().parent
    target = path.resolve()
    inside = target.is_relative_to(folder)
    return quote(target.relative_to(folder).as_posix()) if inside else target.as_uri()
