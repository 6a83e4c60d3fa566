"""Picture files as arrays: their pages, modes, orientation, pixel aspect and size.

Training, the demo and dataset readers all go through here. Pillow decodes; what it would clip or
drop (16-bit and floating-point modes, further pages, the pixel aspect) is read as
docs/VIDEO_INPUT.md says. Shape letters: H, W a picture's size.
"""

from __future__ import annotations

import contextlib
import logging
import struct
import warnings
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image, ImageOps

from video_pose.video_io.reading import (
    MAX_PIXELS,
    checked_aspect,
    require_regular_file,
    with_square_pixels,
)

logger = logging.getLogger(__name__)

PICTURE_SUFFIXES: tuple[str, ...] = (
    ".apng", ".avif", ".bmp", ".dib", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm",
    ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp",
)  # fmt: skip
HEIF_SUFFIXES = (".heic", ".heif")
try:
    from pi_heif import register_heif_opener
except ImportError:  # not everywhere there is one
    pass
else:
    register_heif_opener()
    PICTURE_SUFFIXES += HEIF_SUFFIXES
# Formats whose further pictures are thumbnails, gain maps or other sizes of the first.
_ONE_PICTURE = frozenset({"HEIF", "MPO", "ICO", "ICNS", "PSD"})
# Formats that a file's first bytes tell for sure.
_TOLD_BY_CONTENT = frozenset({"AVIF", "BMP", "HEIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP"})
_TIFF_SUBFILE_TYPE, _REDUCED = 254, 1  # a page that is a smaller copy of another
_TIFF_BITS, _TIFF_PHOTOMETRIC, _WHITE_IS_ZERO = 258, 262, 0
_ORIENTATION = 0x0112
_EXIF_IFD, _DATE_TIME_ORIGINAL = 0x8769, 0x9003
_AT_MOST_16_BITS = frozenset({"PNG", "PPM"})  # Pillow may give their grey in 32
_WIDE_MODES = ("I", "F")  # grey of 16 or 32 bits, and floating point
_DAMAGE = (
    OSError, ValueError, SyntaxError, EOFError, IndexError, TypeError, KeyError, OverflowError,
    MemoryError, RuntimeError, struct.error,
)  # fmt: skip


class Page(NamedTuple):
    """One picture of a file: uint8 (H, W, 3), and seconds that it is shown; None where not told."""

    image: np.ndarray
    seconds: float | None


def read_picture(
    path: str, image_format: str = "BGR", size: tuple[int, int] | None = None
) -> np.ndarray:
    """The first picture of a file, upright, uint8 (H, W, 3).

    Args:
        image_format: "BGR" or "RGB".
        size: (H, W) that the dataset tells. A file whose pixels are not square is given in its
            stored pixels where those have this size, else with square ones. None: square ones.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or has more than `MAX_PIXELS`.
    """
    with _opened(path) as picture:
        if _page_count(picture) > 1:
            logger.warning("%s holds %d pictures: the first is read", path, _page_count(picture))
        return _to_array(picture, path, image_format, size)


def read_pages(path: str, image_format: str = "BGR") -> Iterator[Page]:
    """All pictures of a file, one by one: frames of an animation, pages of a TIFF.

    Raises:
        FileNotFoundError, ValueError: as `read_picture`.
    """
    with _opened(path) as picture:
        for number in range(_page_count(picture)):
            if number:
                picture.seek(number)
                _check_pixels(picture, path)
            if _is_reduced(picture):
                continue
            image = _to_array(picture, path, image_format, None)
            milliseconds = picture.info.get("duration")
            yield Page(image, milliseconds / 1000 if milliseconds else None)


def count_pages(path: str) -> int:
    """How many pictures `read_pages` gives, smaller copies of a TIFF's page included.

    Raises:
        FileNotFoundError, ValueError: as `read_picture`.
    """
    with _opened(path) as picture:
        return _page_count(picture)


def holds_picture(path: str) -> bool:
    """Whether a file is a picture by its content, whatever its name ends in."""
    try:
        with _opened(path) as picture:
            return picture.format in _TOLD_BY_CONTENT
    except (ValueError, FileNotFoundError):
        return False


def taken_at(path: str) -> float | None:
    """When a camera took a picture, in seconds of its clock; None where the file does not tell, or
    cannot be read."""
    try:
        with _opened(path) as picture:
            text = str(picture.getexif().get_ifd(_EXIF_IFD).get(_DATE_TIME_ORIGINAL, ""))
            moment = datetime.strptime(text.strip("\0 "), "%Y:%m:%d %H:%M:%S")
    except (ValueError, FileNotFoundError):
        return None
    return moment.replace(tzinfo=UTC).timestamp()


def is_plain(path: str) -> bool:
    """Whether any reader gives the same picture, but for its turn: one page of 8 bits, with square
    pixels. True also for a file that cannot be read: the reader tells.
    """
    try:
        with _opened(path) as picture:
            wide = picture.mode.startswith(_WIDE_MODES)
            return not wide and _page_count(picture) == 1 and _pixel_aspect(picture) == 1.0
    except (ValueError, FileNotFoundError):
        return True


def from_pillow(picture: Image.Image) -> np.ndarray:
    """A picture of Pillow as uint8 (H, W, 3) BGR, by the rules for files."""
    return _to_array(picture, "a picture", "BGR", None)


def picture_size(path: str) -> tuple[int, int]:
    """(H, W) of the upright first picture in stored pixels, from the file's header.

    Raises:
        FileNotFoundError, ValueError: as `read_picture`.
    """
    with _opened(path) as picture:
        # Pillow gives the size of a TIFF upright, others' as stored.
        turned = _is_turned(picture) and picture.format != "TIFF"
        return (picture.width, picture.height) if turned else (picture.height, picture.width)


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Image.Image]:
    """The file by Pillow; whatever its content makes Pillow raise becomes one error."""
    try:
        with warnings.catch_warnings():
            # `MAX_PIXELS` is the limit here.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            local = PathManager.get_local_path(path) if "://" in path else path
            require_regular_file(local, "picture")
            with Image.open(local) as picture:
                _check_pixels(picture, path)
                yield picture
    except FileNotFoundError:
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"cannot read picture {path}: more pixels than the limit of {MAX_PIXELS / 1e6:.0f} "
            "million"
        ) from error
    except _DAMAGE as error:
        text = str(error)
        if path not in text:
            text = f"cannot read picture {path}: {text or type(error).__name__}"
        raise ValueError(text) from error


def _check_pixels(picture: Image.Image, path: str) -> None:
    pixels = picture.width * picture.height
    if pixels > MAX_PIXELS:
        raise ValueError(
            f"cannot read picture {path}: {pixels / 1e6:.0f} million pixels, more than the limit "
            f"of {MAX_PIXELS / 1e6:.0f} million"
        )


def _is_turned(picture: Image.Image) -> bool:
    """Whether rows become columns. Asked before the pixels are loaded: a TIFF's turn by that."""
    return picture.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)


def _page_count(picture: Image.Image) -> int:
    return 1 if picture.format in _ONE_PICTURE else int(getattr(picture, "n_frames", 1))


def _is_reduced(picture: Image.Image) -> bool:
    tags = getattr(picture, "tag_v2", None)
    return tags is not None and bool(int(tags.get(_TIFF_SUBFILE_TYPE, 0)) & _REDUCED)


def _to_array(
    picture: Image.Image, path: str, image_format: str, size: tuple[int, int] | None
) -> np.ndarray:
    """The current page: scaled to 8 bits, with square pixels where asked for, upright."""
    aspect = _pixel_aspect(picture)
    if _is_turned(picture):
        aspect = 1 / aspect
    upright = ImageOps.exif_transpose(picture)
    grey = _wide_grey(upright, picture.format or "", getattr(picture, "tag_v2", {}))
    rgb = np.asarray(upright.convert("RGB")) if grey is None else np.stack([grey] * 3, axis=2)
    image = np.ascontiguousarray(rgb if image_format == "RGB" else rgb[:, :, ::-1])
    if aspect != 1.0 and image.shape[:2] != size:
        height, width = image.shape[:2]
        image = with_square_pixels(image, aspect)
        logger.warning(
            "%s: its pixels are not square; %d x %d px are shown and reported as %d x %d",
            path, width, height, *image.shape[1::-1],
        )  # fmt: skip
    return image


def _pixel_aspect(picture: Image.Image) -> float:
    """Width of a pixel by its height: the number of pixels per length down, by that across."""
    info = picture.info
    density = info.get("jfif_density") or info.get("aspect") or info.get("dpi")
    try:
        across, down = (float(value) for value in density or (1, 1))
        return checked_aspect(down / across)
    except (TypeError, ValueError, ZeroDivisionError):
        return 1.0


def _wide_grey(
    picture: Image.Image, file_format: str, tags: Mapping[int, Any]
) -> np.ndarray | None:
    """A grey picture of more than 8 bits as uint8 (H, W); None for other modes.

    Black and white are 0 and 65535 for 16-bit modes, and for formats that have none of 32 bits.
    Modes of 32 bits have no range of their own: it is 0 to 1, 255 or 65535, the smallest that holds
    the data, else the data's own.

    Args:
        tags: of a TIFF, which may have 12 bits, and may count from white; Pillow heeds the latter
            up to 8 bits.
    """
    if not picture.mode.startswith(_WIDE_MODES):
        return None
    values = np.nan_to_num(np.asarray(picture).astype(np.float64), posinf=np.inf, neginf=-np.inf)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    is_16_bits = picture.mode.startswith("I;16") or file_format in _AT_MOST_16_BITS
    tops = [65535.0] if is_16_bits else [255.0, 65535.0]
    if tuple(tags.get(_TIFF_BITS, ())) == (12,):
        tops = [4095.0]
    if picture.mode == "F":
        tops = [1.0, *tops]
    top = next((top for top in tops if high <= top), None)
    if low < 0 or top is None:
        scale, start = 255 / max(high - low, 1e-300), low
    else:
        scale, start = 255 / top, 0.0
    grey = np.rint(((values - start) * scale).clip(0, 255)).astype(np.uint8)
    return 255 - grey if tags.get(_TIFF_PHOTOMETRIC) == _WHITE_IS_ZERO else grey
