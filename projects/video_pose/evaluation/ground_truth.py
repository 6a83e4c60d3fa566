"""Ground truth and predictions of a registered video dataset, keyed by (video, track).

Shape letters: N frames of a track, K joints.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

TrackKey = tuple[str, str]  # (video_id, track_id)


@dataclass(frozen=True)
class TrackTruth:
    """One person's labels: ``keypoints`` (N, K, 3), ``boxes`` (N, 4), ``labelled`` (N,) bool.

    ``source_video`` is the video that this one is a shot of (itself where the dataset does not
    tell), ``action`` what it shows ("" where the dataset does not tell).
    """

    keypoints: np.ndarray
    boxes: np.ndarray
    labelled: np.ndarray
    source_video: str
    action: str


def index_tracks(dataset_name: str, tracks: Iterable[dict]) -> dict[TrackKey, TrackTruth]:
    """Ground truth by (video_id, track_id), as copies.

    Raises:
        ValueError: two dicts are the same track of the same video.
    """
    truth: dict[TrackKey, TrackTruth] = {}
    for track in tracks:
        key = str(track["video_id"]), str(track["track_id"])
        if key in truth:
            raise ValueError(f"{dataset_name}: track {key[1]!r} of video {key[0]!r} appears twice")
        truth[key] = TrackTruth(
            np.array(track["keypoints"], np.float32),
            np.array(track["boxes"], np.float32),
            np.array(track["labelled"], bool),
            str(track.get("source_video", track["video_id"])),
            str(track.get("action", "")),
        )
    return truth


@dataclass
class TrackPredictions:
    """What a model said about one track, frame index -> (K, 3); None where it found nobody."""

    frames: dict[int, np.ndarray | None] = field(default_factory=dict)

    def rows(self, joints: int) -> tuple[np.ndarray, np.ndarray]:
        """Frame indices, ascending, int64 (N,), and predictions float32 (N, K, 3), NaN: nobody."""
        order = sorted(self.frames)
        rows = np.full((len(order), joints, 3), np.nan, np.float32)
        for row, frame in enumerate(order):
            if self.frames[frame] is not None:
                rows[row] = self.frames[frame]
        return np.array(order, np.int64), rows


def merge_predictions(
    shares: Iterable[dict[TrackKey, TrackPredictions]],
) -> dict[TrackKey, TrackPredictions]:
    """The predictions of all ranks in one dict.

    Raises:
        ValueError: two ranks predicted the same frame.
    """
    merged: dict[TrackKey, TrackPredictions] = {}
    for share in shares:
        for key, track in share.items():
            mine = merged.setdefault(key, TrackPredictions())
            twice = sorted(mine.frames.keys() & track.frames.keys())
            if twice:
                raise ValueError(
                    f"video {key[0]!r}, track {key[1]!r}: frames {twice[:10]} were predicted by "
                    "two ranks; the test sampler must keep a track on one rank"
                )
            mine.frames.update(track.frames)
    return merged
