"""Videos whose pixels hold the number of their frame, and small models with random weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from video_pose.inference.trackers import Tracker, build_tracker

SIZE = (64, 128)  # height, width
BITS = 8


def number_picture(number: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """The number in black and white columns, lowest bit on the left; the top quarter is white."""
    bits = np.array([(number >> bit) & 1 for bit in range(BITS)], np.uint8)
    row = np.repeat(bits * 255, size[1] // BITS)
    picture = np.repeat(np.tile(row, (size[0], 1))[:, :, None], 3, axis=2)
    picture[: size[0] // 4] = 255
    return picture


def read_number(image: np.ndarray) -> int:
    """The inverse, for an upright picture."""
    height, width = image.shape[:2]
    step = width // BITS
    assert image[: height // 8].mean() > 200, "the picture is not upright"
    low = image[height // 2 :]
    return sum(int(low[:, b * step : (b + 1) * step].mean() > 127) << b for b in range(BITS))


def write_numbers(
    path: Path,
    count: int = 30,
    *,
    codec: str = "libx264",
    b_frames: int = 2,
    stamps: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
) -> str:
    """A video at 25 frames per second; frame i is stamped ``stamps[i]`` / 100 s."""
    stamps = stamps or [4 * i for i in range(count)]
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = SIZE[1], SIZE[0]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.codec_context.gop_size = 12
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.time_base = Fraction(1, 100)
        for i in range(count):
            frame = av.VideoFrame.from_ndarray(number_picture(i), format="rgb24")
            frame.pts, frame.time_base = stamps[i], Fraction(1, 100)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return str(path)


@pytest.fixture
def numbers_video(tmp_path: Path) -> Callable[..., str]:
    def write(name: str = "numbers.mp4", count: int = 30, **arguments: object) -> str:
        return write_numbers(tmp_path / name, count, **arguments)  # type: ignore[arg-type]

    return write


@pytest.fixture(params=["iou", "bytetrack", "botsort"])
def tracker(request: pytest.FixtureRequest) -> Tracker:
    if request.param != "iou":
        pytest.importorskip("trackers")
    return build_tracker(request.param, min_score=0.5, max_missed_seconds=0.4)
