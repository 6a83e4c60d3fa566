"""What a video file says of its frames: their order, their times, how to turn and widen them.

Training (`data.frame_reader`), the demo (`inference.video_source`) and dataset readers all go
through here, so that a frame has one number, one size and one orientation wherever it is read.
docs/VIDEO_INPUT.md has the rules for users. Whether a file was cut off follows from the sizes that
its container writes down: it keeps the header of the whole one, and its last element reaches beyond
its end.

Shape letters: N frames, H W a frame's size.
"""

from __future__ import annotations

import logging
import os
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import av
import cv2
import numpy as np
from av.format import Flags
from av.sidedata.sidedata import Type as SideDataType

logger = logging.getLogger(__name__)


def _unnamed(cls: type[SideDataType], value: object) -> SideDataType | None:
    """A member for a number that has none; None, which is an error, for what is no number."""
    if not isinstance(value, int):
        return None
    member = object.__new__(cls)
    member._name_, member._value_ = f"UNNAMED_{value}", value
    return member


# PyAV refuses all data beside a frame, its turn among them, where one kind is newer than its names
# (EXIF, for instance).
SideDataType._missing_ = classmethod(_unnamed)

# A frame may have as many pixels; 8K video has 33 million.
MAX_PIXELS = 120_000_000
PIXEL_FORMATS = {"BGR": "bgr24", "RGB": "rgb24"}
# A display matrix may be off a quarter turn by this share of its entries: about one degree.
_TURN_TOLERANCE = 0.0175
# A pixel aspect beyond this is a mistake of the file, and one this near to 1 is no difference.
_ASPECT_LIMIT, _ASPECT_TOLERANCE = 4.0, 0.01
# FFmpeg's AV_DISPOSITION_: a stream that players take first, and streams that are no video.
_DEFAULT, _ATTACHED_PICTURE, _TIMED_THUMBNAILS, _STILL_IMAGE = 0x1, 0x400, 0x800, 0x100000
# FFmpeg's AVCOL_TRC_ of high dynamic range.
_HDR = {16: "PQ", 18: "HLG"}
# Demuxers of streams that stand in a file without a container: nothing in them has a time.
_RAW_DEMUXERS = frozenset(
    "h264 hevc vvc evc m4v mpegvideo h261 h263 vc1 cavsvideo avs2 avs3 dirac mjpeg obu".split()
)

# Clocks of transport and program streams, 33 bits at 90 kHz, come round after so long. FFmpeg takes
# one that begins anew for that, and puts what follows so far ahead.
_CLOCK_SECONDS = 2**33 / 90_000

Container: TypeAlias = Any  # av.container.InputContainer
Stream: TypeAlias = Any  # av.VideoStream

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
# Boxes that stand at the top of a file; what follows another word is no box.
_BOXES = b"ftyp styp moov moof mdat mfra free skip wide sidx ssix uuid meta pdin emsg prft udta"
_TYPES = frozenset(_BOXES.split())


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
        restarts: how often the clock begins anew, as where files were joined byte by byte; then
            times do not tell the order of frames, and ``stamps`` is None.
        step: median time from packet to packet, in the stream's time base; None where not known.
    """

    stamps: np.ndarray | None
    keys: list[tuple[int, int]]
    decode_stamps: list[int | None] = []
    packets: int = 0
    end: int | None = None
    broken: str = ""
    restarts: int = 0
    step: float | None = None

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
    is_file = not is_address(path)
    if is_file:
        require_regular_file(path, "video")
    try:
        container = av.open(local_path(path), options=options or {}, timeout=timeout)
    except (av.error.FFmpegError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        lacking = missing_bytes(path) if is_file else 0
        cut = f" (truncated: {lacking} bytes are missing)" if lacking else ""
        raise ValueError(f"cannot read video {path}: {reason}{cut}") from error
    if not container.streams.video:
        container.close()
        raise ValueError(f"cannot read video {path}: it holds no video stream")
    return container


def is_address(path: str) -> bool:
    """Whether it is a URL, and no file."""
    return "://" in path


def local_path(path: str) -> str:
    """``path`` as FFmpeg is to be told it, which takes what stands before a colon for a protocol:
    of a file named by its time, 12:30:11.mp4, for instance."""
    if is_address(path) or os.path.isabs(path) or ":" not in path:
        return path
    return os.path.join(os.curdir, path)


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
    if say and all(int(s.disposition) & (_ATTACHED_PICTURE | _TIMED_THUMBNAILS) for s in streams):
        logger.warning("%s holds no video but a cover picture, which is read", container.name)
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


def say_ignored(path: str, frame: av.VideoFrame) -> None:
    """A line in the log for each thing that a video's first frame says and that is not applied."""
    if orientation_of(frame) is None:
        logger.warning(
            "%s is to be turned by %d degrees: no quarter turn, it is not applied",
            path, -frame.rotation,
        )  # fmt: skip
    if frame.interlaced_frame:
        logger.warning(
            "%s is interlaced: both fields of a frame are read as one picture, so that what moves "
            "has combed edges (ffmpeg -vf bwdif takes them apart)", path,
        )  # fmt: skip
    hdr = _HDR.get(int(frame.color_trc))
    if hdr is not None:
        logger.warning(
            "%s is HDR (%s): its brightness is read as that of other videos, so that pictures are "
            "pale or dark", path, hdr,
        )  # fmt: skip


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
    steps = np.diff([dts for _, dts, *_ in packets if dts is not None])
    step = float(np.median(steps[steps > 0])) if (steps > 0).any() else None
    restarts = 0
    if container.format.flags & Flags.ts_discont.value:
        restarts = sum(is_restart(float(ticks * stream.time_base)) for ticks in steps.tolist())
    stamps = [pts for pts, *_ in packets if pts is not None]
    if restarts or not packets or len(set(stamps)) != len(packets):
        return VideoIndex(None, [], [], len(packets), None, broken, restarts, step)
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
        0,
        step,
    )


def is_restart(seconds: float) -> bool:
    """Whether a clock that moves so far from one packet to the next in the file begins anew."""
    return seconds < 0 or seconds > _CLOCK_SECONDS / 2


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


def missing_bytes(path: str) -> int:
    """How many bytes of a file are lacking at its end; 0 where nothing is, or nothing is known."""
    return max(0, stated_bytes(path) - os.path.getsize(path))


def stated_bytes(path: str) -> int:
    """How long the file is by the sizes of its parts; 0 where they do not tell.

    Known are MP4 and MOV (ISO/IEC 14496-12, boxes), AVI (RIFF) and Matroska and WebM (RFC 8794).
    """
    length = os.path.getsize(path)
    with open(path, "rb") as file:
        start = file.read(8)
        file.seek(0)
        if start[:4] == b"RIFF":
            return _end_of_riff(file, length)
        if start[:4] == _EBML:
            return _end_of_matroska(file, length)
        if start[4:8] in _TYPES:
            return _end_of_boxes(file, length)
    return 0


def _end_of_boxes(file: BinaryIO, length: int) -> int:
    """Where the last top-level box ends: size (4 bytes; 1: 8 more, 0: up to the end) and type."""
    place = 0
    # A size may be anything up to 2^64 - 1, more than a file can be sought to.
    while place < length:
        file.seek(place)
        head = file.read(16)
        if head[4:8] not in _TYPES:
            return place
        size = int.from_bytes(head[:4], "big")
        if size == 1 and len(head) == 16:
            size = int.from_bytes(head[8:], "big")
        if size < 8:
            return place
        place += size
    return place


def _end_of_riff(file: BinaryIO, length: int) -> int:
    """Where the last RIFF chunk ends; large files have several. A size of 0 was never filled in."""
    place = 0
    while place < length:
        file.seek(place)
        head = file.read(8)
        size = int.from_bytes(head[4:], "little")
        if len(head) < 8 or head[:4] != b"RIFF" or size == 0:
            return place
        place += 8 + size
    return place


def _end_of_matroska(file: BinaryIO, length: int) -> int:
    """Where the segment ends that follows the EBML header; 0 if its size was never filled in."""
    file.read(len(_EBML))
    header = _read_size(file)
    if header is None or file.tell() + header >= length:
        return 0
    file.seek(header, os.SEEK_CUR)
    if file.read(len(_SEGMENT)) != _SEGMENT:
        return 0
    size = _read_size(file)
    return 0 if size is None else file.tell() + size


def _read_size(file: BinaryIO) -> int | None:
    """A size of 1 to 8 bytes, whose number the leading zero bits tell; None if it is unknown."""
    first = file.read(1)
    if not first or first[0] == 0:
        return None
    length = 9 - first[0].bit_length()
    value = int.from_bytes(first + file.read(length - 1), "big") & ((1 << 7 * length) - 1)
    return None if value == (1 << 7 * length) - 1 else value
