"""Which videos and pictures a user's arguments name: files, folders, patterns, cameras."""

from __future__ import annotations

import glob
import itertools
import logging
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from video_pose.video_io.pictures import PICTURE_SUFFIXES, count_pages

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = tuple(
    ".3g2 .3gp .264 .265 .asf .avi .dv .f4v .flv .gif .h264 .h265 .hevc .ivf .m2ts .m2v .m4v .mjpeg"
    " .mjpg .mkv .mov .mp4 .mpeg .mpg .mts .mxf .obu .ogv .ts .vob .webm .wmv .y4m".split()
)
# Pictures that other programs read and Pillow does not.
_UNREAD_SUFFIXES = tuple(".heic .heif .jxl .exr .hdr .dng .cr2 .cr3 .nef .arw .svg .psd".split())
# What file managers and network drives leave beside a user's files.
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "icon\r"})
_SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information"})
_MAX_NAMED = 3


@dataclass(frozen=True)
class Input:
    """One source to open.

    Attributes:
        spec: for `open_source`. name: of its outputs, without ending; no two inputs share one.
        files: that will be read.
    """

    spec: str | int | list[str]
    name: str
    files: tuple[str, ...] = ()

    @property
    def is_photo(self) -> bool:
        """Whether it is one still picture: a file that does not tell of more pages."""
        if len(self.files) != 1 or not is_picture(self.files[0]):
            return False
        try:
            return count_pages(self.files[0]) == 1
        except (ValueError, FileNotFoundError):  # who opens it says what is wrong
            return True


def is_picture(path: str) -> bool:
    """Whether a file's ending is that of a picture."""
    return path.lower().endswith(PICTURE_SUFFIXES)


def is_video(path: str) -> bool:
    """Whether a file's ending is that of a video."""
    return path.lower().endswith(VIDEO_SUFFIXES)


def is_hidden(path: str) -> bool:
    """Whether a name is hidden, or one of an operating system's own."""
    name = os.path.basename(path).lower()
    return name.startswith((".", "~$")) or name in _SYSTEM_FILES or name in _SYSTEM_FOLDERS


def find_files(spec: str) -> list[str]:
    """Videos and pictures of a folder, or that match a glob pattern, in natural order.

    Hidden and system files are passed over. One line in the log names what is no regular file
    (pipes, sockets, devices) and files of kinds that are not read. ``**`` follows no links to
    folders, which may lead in a circle.
    """
    if os.path.isdir(spec):
        paths: Iterable[str] = (entry.path for entry in os.scandir(spec))
    else:
        paths = _matches(spec)
    files: list[str] = []
    special: list[str] = []
    unread: list[str] = []
    for path in paths:
        if is_hidden(path) or os.path.isdir(path):
            continue
        if path.lower().endswith(_UNREAD_SUFFIXES):
            unread.append(path)
        elif is_picture(path) or is_video(path):
            (files if _is_regular(path) else special).append(path)
    _say_skipped(special, "no regular file")
    _say_skipped(unread, "of a kind that is not read")
    return natural_order(files)


def _matches(pattern: str) -> Iterator[str]:
    """``**`` as a part of its own stands for any number of folders; within a part it is ``*``."""
    parts = [p if p == "**" else re.sub(r"\*+", "*", p) for p in Path(pattern).parts]
    if "**" not in parts:
        yield from glob.glob(pattern)
        return
    fixed = os.path.join("", *itertools.takewhile(lambda part: not glob.has_magic(part), parts))
    for path in Path(fixed).glob(os.path.relpath(os.path.join(*parts), fixed or ".")):
        inner = path.relative_to(fixed).parts
        if not any(is_hidden(part) for part in inner):
            yield os.path.join(fixed, *inner)


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:  # a link to nothing, or to itself
        return False


def _say_skipped(paths: Sequence[str], why: str) -> None:
    if paths:
        more = f" and {len(paths) - _MAX_NAMED} more" if len(paths) > _MAX_NAMED else ""
        logger.warning("skipped, %s: %s%s", why, ", ".join(sorted(paths)[:_MAX_NAMED]), more)


def find_inputs(specs: Sequence[str | int], photos: bool = False) -> list[Input]:
    """What to open, one by one.

    Args:
        specs: files, URLs, folders and glob patterns, and cameras' numbers. Every video is a source
            of its own. The pictures of a folder or pattern are one sequence, and so are several
            picture files if there is nothing else.
        photos: every picture is a source of its own as well.

    Raises:
        FileNotFoundError: a folder or pattern holds neither videos nor pictures. A file that is
            missing is an input all the same, which fails when it is opened.
    """
    several = len(specs) > 1 and not photos
    if several and all(
        isinstance(spec, str) and is_picture(spec) and not glob.has_magic(spec) for spec in specs
    ):
        files = [str(spec) for spec in specs]
        return [Input(files, "images", tuple(files))]
    found: list[Input] = []
    for spec in specs:
        found += _expand(spec, photos)
    return list(_with_own_names(found))


def _expand(spec: str | int, photos: bool) -> list[Input]:
    if isinstance(spec, int):
        return [Input(spec, f"camera{spec}")]
    if re.fullmatch(r"camera:\d+", spec) or "://" in spec:
        return [Input(spec, spec.replace("camera:", "camera"))]
    if os.path.isfile(spec) or not (os.path.isdir(spec) or glob.has_magic(spec)):
        return [Input(spec, spec, (spec,))]
    files = find_files(spec)
    if photos and files:
        return [Input(path, path, (path,)) for path in files]
    pictures = [path for path in files if is_picture(path)]
    inputs = [Input(path, path, (path,)) for path in files if is_video(path)]
    if pictures:
        folder = spec if os.path.isdir(spec) else os.path.dirname(os.path.abspath(pictures[0]))
        name = os.path.normpath(folder) + os.sep
        inputs.insert(0, Input(pictures if inputs else spec, name, tuple(pictures)))
    if not inputs:
        raise FileNotFoundError(f"no video and no image in {spec}")
    if pictures and len(inputs) > 1:
        logger.warning(
            "%s: its %d images are one sequence, its %d videos one source each",
            spec, len(pictures), len(inputs) - 1,
        )  # fmt: skip
    return inputs


def _with_own_names(inputs: Iterable[Input]) -> Iterator[Input]:
    """The inputs, named by their files or folders, a number added where names are the same."""
    used: set[str] = set()
    for item in inputs:
        is_folder = item.name.endswith(os.sep)
        base = os.path.basename(os.path.normpath(item.name))
        base = (base if is_folder else os.path.splitext(base)[0]) or "video"
        name, number = base, 2
        while name.lower() in used:  # file systems may not tell cases apart
            name, number = f"{base}_{number}", number + 1
        used.add(name.lower())
        yield Input(item.spec, name, item.files)


def natural_order(paths: Sequence[str]) -> list[str]:
    """Sorted so that numbers count as numbers: frame2 before frame10."""

    def key(path: str) -> list[int | str]:
        parts = re.split(r"(\d+)", path)
        return [int(part) if part.isdecimal() else part for part in parts]  # text first, in turn

    return sorted(paths, key=key)
