"""Write frames as a video file that ordinary players open. Images are uint8 BGR (H, W, 3)."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

# The first that this PyAV has.
_VIDEO_CODECS = ("libx264", "mpeg4")


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


def check_image(image: np.ndarray) -> None:
    """Raise ValueError unless the image is uint8 (H, W, 3)."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(f"images are uint8 (H, W, 3), got {image.dtype} {image.shape}")
