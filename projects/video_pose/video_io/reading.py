"""What a video file says of its frames: their order, their times, how to turn and widen them.

Training (`data.video_file`), the demo (`inference.video_source`) and dataset readers all go through
here, so that a frame has one number, one size and one orientation wherever it is read.
docs/VIDEO_INPUT.md has the rules for users.

Shape letters: N frames, H W a frame's size.
"""

from __future__ import annotations

import logging
import os
from typing import Any, NamedTuple, TypeAlias

import av
import cv2
import numpy as np
from av.sidedata.sidedata import Type as SideDataType

from video_pose.video_io.container_size import missing_bytes

logger = logging.getLogger(__name__)

# A frame may have as many pixels; 8K video has 33 million.
MAX_PIXELS = 120_000_000
PIXEL_FORMATS = {"BGR": "bgr24", "RGB": "rgb24"}
# A display matrix may be off a quarter turn by this share of its entries: about one degree.
_TURN_TOLERANCE = 0.0175
# A pixel aspect beyond this is a mistake of the file, and one this near to 1 is no difference.
_ASPECT_LIMIT, _ASPECT_TOLERANCE = 4.0, 0.01
# FFmpeg's AV_DISPOSITION_: a stream that players take first, and streams that are no video.
_DEFAULT, _ATTACHED_PICTURE, _TIMED_THUMBNAILS, _STILL_IMAGE = 0x1, 0x400, 0x800, 0x100000
# Demuxers of streams that stand in a file without a container: nothing in them has a time.
_RAW_DEMUXERS = frozenset(
    "h264 hevc vvc evc m4v mpegvideo h261 h263 vc1 cavsvideo avs2 avs3 dirac mjpeg obu".split()
)

Container: TypeAlias = Any  # av.container.InputContainer
Stream: TypeAlias = Any  # av.VideoStream


class VideoIndex(NamedTuple):
    """What a file's packets tell about its frames; some bytes a frame, so that it can be kept.

    Attributes:
        stamps: int64 (N,), the presentation timestamp of every frame, ascending; None where a
            packet has none, or two have the same.
        keys: (number of the frame, its timestamp) of every key frame, ascending.
        decode_stamps: decoding timestamp of each of ``keys``, where it has one.
        packets: number of packets that are shown. ``end``: where the last of them ends, in the
            stream's time base; None where packets have no times.
        broken: why the packets could not be read to the end of the file; "" where they could.
    """

    stamps: np.ndarray | None
    keys: list[tuple[int, int]]
    decode_stamps: list[int | None] = []
    packets: int = 0
    end: int | None = None
    broken: str = ""

    def number(self, stamp: int | None) -> int | None:
        """The frame of this timestamp; None where there is none."""
        if self.stamps is None or stamp is None:
            return None
        at = int(self.stamps.searchsorted(stamp))
        return at if at < len(self.stamps) and self.stamps[at] == stamp else None


class Orientation(NamedTuple):
    """How a stored picture is brought upright: first transposed, then mirrored along x and y."""

    transpose: bool = False
    flip_x: bool = False
    flip_y: bool = False

    def apply(self, image: np.ndarray) -> np.ndarray:
        """``image``, (H, W, C), as it is to be seen; contiguous."""
        if self.transpose:
            image = image.transpose(1, 0, 2)
        if self.flip_x:
            image = image[:, ::-1]
        if self.flip_y:
            image = image[::-1]
        return np.ascontiguousarray(image)


def open_video(
    path: str, *, options: dict[str, str] | None = None, timeout: float | None = None
) -> Container:
    """An open container that has a video stream.

    Args:
        path: a file, or a URL that FFmpeg knows.
        options: of FFmpeg's demuxer. timeout: seconds that opening, or one read, may take.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no regular file, is empty, is no video, or holds no video stream.
    """
    is_file = "://" not in path
    if is_file:
        require_regular_file(path, "video")
    try:
        container = av.open(path, options=options or {}, timeout=timeout)
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        lacking = missing_bytes(path) if is_file else 0
        cut = f" (truncated: {lacking} bytes are missing)" if lacking else ""
        raise ValueError(f"cannot read video {path}: {reason}{cut}") from error
    if not container.streams.video:
        container.close()
        raise ValueError(f"cannot read video {path}: it holds no video stream")
    return container


def require_regular_file(path: str, kind: str) -> None:
    """Raise unless ``path`` is a file with content.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: it is something else (a pipe, socket or device would block), or empty.
    """
    if not os.path.exists(path):
        raise FileNotFoundError(f"{kind} file not found: {path}")
    if not os.path.isfile(path):
        raise ValueError(f"cannot read {kind} {path}: it is no regular file")
    if os.path.getsize(path) == 0:
        raise ValueError(f"cannot read {kind} {path}: the file is empty")


def choose_stream(container: Container, say: bool = False) -> Stream:
    """The stream that a player shows; where there was a choice, ``say`` puts a line in the log.

    Cover pictures, thumbnails, still images and streams of one frame are no video. Of several
    others the one that is marked as default is taken, else the one that FFmpeg counts as best.

    Raises:
        ValueError: the frames are larger than `MAX_PIXELS`, or of no known codec.
    """
    streams = list(container.streams.video)
    pictures = _ATTACHED_PICTURE | _TIMED_THUMBNAILS | _STILL_IMAGE
    moving = [s for s in streams if not int(s.disposition) & pictures] or streams
    moving = [s for s in moving if s.frames != 1] or moving
    marked = [s for s in moving if int(s.disposition) & _DEFAULT]
    best = container.streams.best("video")
    candidates = marked or moving
    chosen = best if best in candidates else max(candidates, key=_area)
    if say and len(moving) > 1:
        others = ", ".join(_describe(s) for s in moving if s.index != chosen.index)
        logger.warning(
            "%s holds %d video streams: %s is read, ignored: %s",
            container.name, len(moving), _describe(chosen), others,
        )  # fmt: skip
    if chosen.codec_context is None:
        raise ValueError(f"cannot read video {container.name}: its codec is not known")
    if _area(chosen) > MAX_PIXELS:
        raise ValueError(
            f"cannot read video {container.name}: frames of {_area(chosen) / 1e6:.0f} million "
            f"pixels, the limit is {MAX_PIXELS / 1e6:.0f} million"
        )
    return chosen


def _area(stream: Stream) -> int:
    context = stream.codec_context
    return 0 if context is None else context.width * context.height


def _describe(stream: Stream) -> str:
    context = stream.codec_context
    size = "of an unknown codec" if context is None else f"{context.width} x {context.height}"
    default = ", default" if int(stream.disposition) & _DEFAULT else ""
    return f"stream {stream.index} ({size}{default})"


def read_index(container: Container, stream: Stream) -> VideoIndex:
    """Index a file by its packets, without decoding; the container is then at its end.

    Packets that an edit list discards are decoded, but never shown: they have no number.
    """
    packets, broken = [], ""
    try:
        # A packet holds its frame's data: of each only its times are kept.
        for p in container.demux(stream):
            if p.size and not p.is_discard:
                packets.append((p.pts, p.dts, p.duration, p.is_keyframe))
    except av.error.FFmpegError as error:
        broken = str(error.strerror)  # what comes before the damage is still there
    stamps = [pts for pts, *_ in packets if pts is not None]
    if not packets or len(set(stamps)) != len(packets):
        return VideoIndex(None, [], [], len(packets), None, broken)
    ranks = np.array(sorted(stamps), np.int64)
    keys = sorted(
        (int(ranks.searchsorted(pts)), pts, dts) for pts, dts, _, is_key in packets if is_key
    )
    return VideoIndex(
        ranks,
        [(number, pts) for number, pts, _ in keys],
        [dts for *_, dts in keys],
        len(packets),
        max(pts + (duration or 0) for pts, _, duration, _ in packets),
        broken,
    )


def expected_frames(container: Container, stream: Stream) -> int:
    """How many frames the container's own index promises; 0 where it has none.

    MP4 and MOV list every sample. Those that an edit list hides do not count, and the header's
    number of samples, which counts them, is not asked.
    """
    if "mp4" not in container.format.name:
        return 0
    # A sample without data stands for a frame that was left out.
    return sum(1 for entry in stream.index_entries if entry.size and not entry.is_discard)


def is_raw(container: Container) -> bool:
    """Whether the file is a bare stream, whose frames have no times."""
    return container.format.name in _RAW_DEMUXERS


def orientation_of(frame: av.VideoFrame) -> Orientation | None:
    """How the frame's display matrix turns and mirrors it; None for a turn by another angle.

    The matrix (ISO/IEC 14496-12, 8.3.2) maps x' = a x + c y, y' = b x + d y, with y downwards.
    """
    data = frame.side_data.get(SideDataType.DISPLAYMATRIX)
    if data is None:
        return Orientation()
    a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].astype(np.float64)
    straight, crossed = min(abs(a), abs(d)), min(abs(b), abs(c))
    if max(abs(b), abs(c)) <= _TURN_TOLERANCE * straight:
        return Orientation(False, a < 0, d < 0)
    if max(abs(a), abs(d)) <= _TURN_TOLERANCE * crossed:
        return Orientation(True, c < 0, b < 0)
    return None


def pixel_aspect(stream: Stream) -> float:
    """Width of a stored pixel by its height, by the container, else the codec; 1 if not told."""
    ratio = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    return checked_aspect(float(ratio) if ratio else 1.0)


def checked_aspect(aspect: float) -> float:
    """``aspect``, or 1 where it is no noticeable difference, or beyond belief."""
    if not 1 / _ASPECT_LIMIT <= aspect <= _ASPECT_LIMIT or abs(aspect - 1) < _ASPECT_TOLERANCE:
        return 1.0
    return aspect


def to_array(frame: av.VideoFrame, image_format: str = "BGR", aspect: float = 1.0) -> np.ndarray:
    """The frame upright: uint8 (H, W, 3) in the order of ``image_format``.

    Args:
        aspect: of the stored pixels, to get square ones; 1 gives the stored pixels.
    """
    image = frame.to_ndarray(format=PIXEL_FORMATS[image_format], threads=1)
    return (orientation_of(frame) or Orientation()).apply(with_square_pixels(image, aspect))


def with_square_pixels(image: np.ndarray, aspect: float) -> np.ndarray:
    """``image``, uint8 (H, W, 3) as stored, widened by ``aspect``; its height is kept."""
    if aspect == 1.0:
        return image
    size = (max(1, round(image.shape[1] * aspect)), image.shape[0])
    method = cv2.INTER_LINEAR if aspect > 1 else cv2.INTER_AREA
    return cv2.resize(image, size, interpolation=method)


def probe_video(path: str) -> tuple[int, tuple[int, int]]:
    """Frame count and (height, width) of the upright frames in stored pixels.

    Packets are counted, as headers claim other numbers, and the first frame is decoded.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read.
    """
    with open_video(path) as container:
        index = read_index(container, choose_stream(container, say=True))
    try:
        with open_video(path) as container:
            frame = next(container.decode(choose_stream(container)))
            turned = (orientation_of(frame) or Orientation()).transpose
            size = (frame.width, frame.height) if turned else (frame.height, frame.width)
    except (av.error.FFmpegError, StopIteration) as error:
        raise ValueError(f"cannot read video {path}: no frame can be decoded") from error
    return index.packets, size
