"""Labels beside predictions, and frames as a video file that ordinary players open.

Shape letters: N frames, K joints. Images are uint8 BGR (H, W, 3).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from video_pose.visualization.pictures import check_image
from video_pose.visualization.poses import Connection, draw_pose, label_confidence

# The first that this PyAV has.
_VIDEO_CODECS = ("libx264", "mpeg4")


def side_by_side(
    image_bgr: np.ndarray,
    ground_truth: np.ndarray,
    prediction: np.ndarray,
    connections: Sequence[Connection],
    box: Sequence[float] | None = None,
    titles: tuple[str, str] = ("ground truth", "prediction"),
) -> np.ndarray:
    """One frame twice: with its labels (K, 3; v as stored) and with a prediction (K, 3; score)."""
    left = draw_pose(image_bgr, label_confidence(ground_truth), connections, box, titles[0])
    right = draw_pose(image_bgr, prediction, connections, box, titles[1])
    gap = np.full((left.shape[0], 4, 3), 255, np.uint8)
    return np.hstack([left, gap, right])


def write_video(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> str:
    """Write uint8 BGR frames of one size as H.264, or as MPEG-4 where PyAV has no H.264 encoder.

    An odd side is widened by one repeated pixel, as the chroma format needs even ones.

    Args:
        path: file to write (.mp4); directories are made. It appears only when it is complete.
        frames: (H, W, 3) each; read one at a time.
        fps: frames per second, > 0.

    Returns:
        The name of the encoder.

    Raises:
        ValueError: no frame, frames of different sizes, or ``fps`` not positive.
    """
    path = Path(path)
    if fps <= 0:
        raise ValueError(f"{path}: fps must be positive, got {fps}")
    codec = next(name for name in _VIDEO_CODECS if name in av.codecs_available)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".partial-{path.name}")
    try:
        with av.open(str(partial), "w") as container:
            _encode(container, codec, frames, fps, path)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return codec


def write_overlay_video(
    path: str | Path,
    frames: Iterable[np.ndarray],
    ground_truth: np.ndarray,
    predictions: np.ndarray,
    connections: Sequence[Connection],
    fps: float,
    boxes: np.ndarray | None = None,
) -> str:
    """Write labels and predictions side by side, frame by frame; see `write_video`.

    Args:
        path: file to write.
        frames: N images.
        ground_truth: (N, K, 3), v as stored.
        predictions: (N, K, 3), score in [0, 1].
        connections: see `connection_indices`.
        fps: frames per second.
        boxes: (N, 4).
    """
    pictures = (
        side_by_side(
            frame,
            ground_truth[index],
            predictions[index],
            connections,
            None if boxes is None else boxes[index],
            (f"ground truth {index}", f"prediction {index}"),
        )
        for index, frame in enumerate(frames)
    )
    return write_video(path, pictures, fps)


def _encode(
    container: av.container.OutputContainer,
    codec: str,
    frames: Iterable[np.ndarray],
    fps: float,
    path: Path,
) -> None:
    stream, first = None, None
    for number, frame in enumerate(frames):
        check_image(frame)
        if stream is None:
            first = frame.shape
            stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
            stream.height, stream.width = (side + side % 2 for side in first[:2])
            stream.pix_fmt = "yuv420p"
            if codec == "mpeg4":
                stream.bit_rate = 4_000_000
        if frame.shape != first:
            raise ValueError(f"{path}: frame {number} is {frame.shape}, the first was {first}")
        odd = (first[0] % 2, first[1] % 2)
        even = np.pad(frame, ((0, odd[0]), (0, odd[1]), (0, 0)), mode="edge")
        container.mux(stream.encode(av.VideoFrame.from_ndarray(even, format="bgr24")))
    if stream is None:
        raise ValueError(f"{path}: no frame to write")
    container.mux(stream.encode())
