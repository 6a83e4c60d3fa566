"""Recurrent states kept between the chunks of a track."""

from __future__ import annotations

from typing import Any


class TrackStates:
    """The state, the position and the next frame of every track that is under way."""

    def __init__(self) -> None:
        self._tracks: dict[tuple[str, str], tuple[int, int, Any]] = {}

    def clear(self) -> None:
        """Forget all tracks."""
        self._tracks.clear()

    def __len__(self) -> int:
        return len(self._tracks)

    def resume(self, clip: dict[str, Any]) -> tuple[int, Any]:
        """Frames already run and the state for a chunk; (0, None) for a track's first chunk.

        Args:
            clip: a mapper's dict: video_id, track_id, is_first, frame_indices.

        Raises:
            ValueError: the chunk does not follow the last one of its track.
        """
        if clip["is_first"]:
            return 0, None
        key, start = _key(clip), int(clip["frame_indices"][0])
        expected, position, state = self._tracks.get(key, (None, 0, None))
        if expected != start:
            came = "no chunk before it" if expected is None else f"frame {expected} expected next"
            raise ValueError(
                f"video {key[0]!r} track {key[1]!r}: chunk starts at frame {start}, {came}; "
                "the chunks of a track must come in order, without a gap"
            )
        return position, state

    def store(self, clip: dict[str, Any], position: int, state: Any) -> None:
        """Keep ``state`` after a chunk that ends ``position`` frames into its track, or drop it."""
        if clip["is_last"]:
            self._tracks.pop(_key(clip), None)
        else:
            following = int(clip["frame_indices"][-1]) + 1
            self._tracks[_key(clip)] = (following, position, state)


def _key(clip: dict[str, Any]) -> tuple[str, str]:
    return clip["video_id"], clip["track_id"]
