"""Which videos and pictures a user's arguments name: files, folders, patterns, cameras."""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import logging
import os
import re
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from video_pose.files import cache_folder
from video_pose.video_io.pictures import (
    HEIF_SUFFIXES,
    PICTURE_SUFFIXES,
    count_pages,
    holds_picture,
    taken_at,
)
from video_pose.video_io.reading import is_address

logger = logging.getLogger(__name__)

VIDEO_SUFFIXES = tuple(
    ".3g2 .3gp .264 .265 .asf .avi .dv .f4v .flv .gif .h264 .h265 .hevc .ivf .m2ts .m2v .m4v .mjpeg"
    " .mjpg .mkv .mov .mp4 .mpeg .mpg .mts .mxf .obu .ogv .ts .vob .webm .wmv .y4m".split()
)
# Pictures that other programs read and this one does not (HEIF: without pi-heif).
_UNREAD_SUFFIXES = (
    *HEIF_SUFFIXES,
    *".jxl .exr .hdr .dng .cr2 .cr3 .nef .arw .svg .psd".split(),
)
# What file managers and network drives leave beside a user's files.
_SYSTEM_FILES = frozenset({"thumbs.db", "desktop.ini", "icon\r"})
_SYSTEM_FOLDERS = frozenset({"__macosx", "@eadir", "$recycle.bin", "system volume information"})
_MAX_NAMED = 3
# Seconds between two pictures, beyond which nobody can be followed from one to the next.
_SLOW_SEQUENCE = 2.0
# In the cache folder, of `Owners`.
OWNERS = "results"
_PICTURES = ", pictures "  # in `Input.content`


@dataclass(frozen=True)
class Input:
    """One source to open.

    Attributes:
        spec: for `open_source`. name: of its outputs, without ending; no two inputs share one.
        files: that will be read. place: of a sequence, the absolute path of the folder or pattern
            that named it, whatever of it is left out.
    """

    spec: str | int | list[str]
    name: str
    files: tuple[str, ...] = ()
    place: str = ""

    @property
    def is_photo(self) -> bool:
        """Whether it is one still picture: a file that does not tell of more pages."""
        if len(self.files) != 1 or not is_picture_file(self.files[0]):
            return False
        try:
            return count_pages(self.files[0]) == 1
        except (ValueError, FileNotFoundError):  # who opens it says what is wrong
            return True

    @property
    def is_doubtful(self) -> bool:
        """Whether it is several pictures that are photos rather, by their names, which differ in
        more than a number, or by the times at which a camera took the first and the last."""
        if len(self.files) < 2:
            return False
        stems = [os.path.splitext(os.path.basename(path))[0] for path in self.files]
        # Roboflow ends names with .rf.<hash>.
        if len({re.sub(r"\.rf\.\w+$|\d+", "", stem) for stem in stems}) > 1:
            return True
        begin, end = taken_at(self.files[0]), taken_at(self.files[-1])
        if begin is None or end is None:
            return False
        return abs(end - begin) > _SLOW_SEQUENCE * (len(self.files) - 1)

    @property
    def identity(self) -> str:
        """What it goes by in other runs: its absolute path or its address, of pictures a folder."""
        if isinstance(self.spec, int):
            return f"camera:{self.spec}"
        if self.place:
            return self.place
        if isinstance(self.spec, list):
            return os.path.abspath(os.path.dirname(self.spec[0]))
        return self.spec if _is_stream(self.spec) else os.path.abspath(self.spec)

    @property
    def content(self) -> str:
        """`identity`, which changes with a sequence's pictures as well."""
        if len(self.files) < 2:
            return self.identity
        names = "\0".join(map(os.path.abspath, self.files))
        return f"{self.identity}{_PICTURES}{hashlib.sha1(os.fsencode(names)).hexdigest()[:8]}"


class Owners:
    """Which input the results of a folder are of, as far as it is known: by a file in the cache
    folder, so that the folder holds what was asked for and nothing else.

    Attributes:
        inputs: name of results, in lower case -> `Input.content`, where some of them are there
            still. files: absolute paths of the results.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        """Read the file, if there is one; a line that a kill has torn is passed over."""
        self._folder = Path(folder)
        place = hashlib.sha1(os.fsencode(os.path.realpath(folder))).hexdigest()
        self._path = cache_folder() / OWNERS / f"{place}.jsonl"
        self.inputs: dict[str, str] = {}
        self.files: set[str] = set()
        try:
            text = self._path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return
        for line in text.splitlines():
            try:
                record = json.loads(line)
                files = [str(file) for file in record["files"]]
                if any((self._folder / file).exists() for file in files):
                    self._take(str(record["name"]), str(record["input"]), files)
            except (ValueError, KeyError, TypeError):
                continue

    def _take(self, name: str, content: str, files: Iterable[str]) -> None:
        self.inputs[name.lower()] = content
        self.files |= {os.path.abspath(self._folder / file) for file in files}

    def add(self, item: Input, name: str, files: Iterable[str]) -> None:
        """Write down that the results ``name``, files of these names, are of this input; a warning
        says where that cannot be kept."""
        names = list(files)
        if self.inputs.get(name.lower()) == item.content and all(
            os.path.abspath(self._folder / name) in self.files for name in names
        ):
            return
        record = {"name": name, "input": item.content, "files": names}
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with open(self._path, "ab") as file:
                # The line before may be torn; an empty one does no harm.
                file.write(f"\n{json.dumps(record)}\n".encode())
        except OSError as error:
            logger.warning(
                "%s: cannot keep which input results are of (%s): --resume will go by names",
                self._path, error.strerror or error,
            )  # fmt: skip
        self._take(name, item.content, names)


def is_other(owner: str | None, item: Input) -> bool:
    """Whether results of ``owner``, an `Input.content`, are another input's: one that is there
    still, or an address. What is gone may have been moved."""
    if owner is None or owner == item.content:
        return False
    place = owner.partition(_PICTURES)[0]
    return _is_stream(place) or glob.has_magic(place) or os.path.exists(place)


def is_picture(path: str) -> bool:
    """Whether a file's ending is that of a picture."""
    return path.lower().endswith(PICTURE_SUFFIXES)


def is_picture_file(path: str) -> bool:
    """Whether a file that is named is a picture: by its ending; where that is of no kind that is
    known, or missing, by its content."""
    if is_picture(path) or is_video(path) or is_unread_picture(path):
        return is_picture(path)
    return os.path.isfile(path) and holds_picture(path)


def is_unread_picture(path: str) -> bool:
    """Whether a file's ending is that of a picture of a kind that is not read here."""
    return path.lower().endswith(_UNREAD_SUFFIXES) and not is_picture(path)


def how_to_read(path: str) -> str:
    """What makes a picture of a kind that is not read into one that is."""
    if path.lower().endswith(HEIF_SUFFIXES):
        return "HEIF needs the package pi-heif (pip install pi-heif)"
    return "convert it to PNG or JPEG"


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
        if is_picture(path) or is_video(path):
            (files if _is_regular(path) else special).append(path)
        elif is_unread_picture(path):
            unread.append(path)
    _say_skipped(special, "no regular file")
    _say_skipped(unread, "of a kind that is not read")
    return natural_order(files)


def _matches(pattern: str) -> Iterator[str]:
    """``**`` as a part of its own stands for any number of folders; within a part it is ``*``."""
    parts = [p if p == "**" else re.sub(r"\*+", "*", p) for p in Path(pattern).parts]
    if "**" not in parts:
        yield from glob.glob(pattern)
        return
    fixed = _fixed_part(pattern)
    for path in Path(fixed).glob(os.path.relpath(os.path.join(*parts), fixed or ".")):
        inner = path.relative_to(fixed).parts
        if not any(is_hidden(part) for part in inner):
            yield os.path.join(fixed, *inner)


def _fixed_part(pattern: str) -> str:
    """The folder that a pattern begins in; "" is the working folder."""
    parts = itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts)
    return os.path.join("", *parts)


def _is_regular(path: str) -> bool:
    try:
        return stat.S_ISREG(os.stat(path).st_mode)
    except OSError:  # a link to nothing, or to itself
        return False


def _say_skipped(paths: Sequence[str], why: str) -> None:
    if paths:
        more = f" and {len(paths) - _MAX_NAMED} more" if len(paths) > _MAX_NAMED else ""
        logger.warning("skipped, %s: %s%s", why, ", ".join(sorted(paths)[:_MAX_NAMED]), more)


def find_inputs(
    specs: Sequence[str | int],
    photos: bool = False,
    outputs: Sequence[str] = (),
    made: Collection[str] = (),
    taken: Mapping[str, str] | None = None,
) -> list[Input]:
    """What to open, one by one.

    Args:
        specs: files, URLs, folders and glob patterns, and cameras' numbers. Every video is a source
            of its own. The pictures of a folder or pattern are one sequence, and so are several
            picture files if there is nothing else.
        photos: every picture is a source of its own as well.
        outputs: folders of results. Where a folder or pattern reaches into one from above, what
            lies there is left out, with a line.
        made: absolute paths of results, which folders and patterns leave out as well.
        taken: names that belong to inputs: in lower case -> `Input.content`.

    Raises:
        FileNotFoundError: a folder or pattern holds neither videos nor pictures. A file that is
            missing is an input all the same, which fails when it is opened.
    """
    several = len(specs) > 1 and not photos
    if several and all(
        isinstance(spec, str) and not glob.has_magic(spec) and is_picture_file(spec)
        for spec in specs
    ):
        files = [str(spec) for spec in specs]
        return list(_with_own_names([Input(files, "images", tuple(files))], taken or {}))
    found: list[Input] = []
    for spec in specs:
        found += _expand(spec, photos, outputs, made)
    return list(_with_own_names(found, taken or {}))


def _is_stream(spec: str) -> bool:
    """Whether it is a camera or a URL, and no place in the file system."""
    return re.fullmatch(r"camera:\d+", spec) is not None or is_address(spec)


def _expand(
    spec: str | int, photos: bool, outputs: Sequence[str], made: Collection[str]
) -> list[Input]:
    if isinstance(spec, int):
        return [Input(spec, f"camera{spec}")]
    if _is_stream(spec):
        return [Input(spec, spec.replace("camera:", "camera"))]
    if os.path.isfile(spec) or not (os.path.isdir(spec) or glob.has_magic(spec)):
        return [Input(spec, spec, (spec,))]
    everything = find_files(spec)
    own = _results(spec, everything, outputs, made)
    files = [path for path in everything if path not in own]
    _say_skipped(sorted(own), "results in the output folder")
    if photos and files:
        return [Input(path, path, (path,)) for path in files]
    pictures = [path for path in files if is_picture(path)]
    inputs = [Input(path, path, (path,)) for path in files if is_video(path)]
    if pictures:
        folder = spec if os.path.isdir(spec) else os.path.dirname(os.path.abspath(pictures[0]))
        name = os.path.normpath(folder) + os.sep
        # Who opens ``spec`` finds all of its files.
        is_all = not inputs and not own
        opened = spec if is_all else pictures
        inputs.insert(0, Input(opened, name, tuple(pictures), os.path.abspath(spec)))
    if not inputs:
        raise FileNotFoundError(f"no video and no image in {spec}")
    if pictures and len(inputs) > 1:
        logger.warning(
            "%s: its %d images are one sequence, its %d videos one source each",
            spec, len(pictures), len(inputs) - 1,
        )  # fmt: skip
    return inputs


def _results(
    spec: str, paths: Iterable[str], outputs: Sequence[str], made: Collection[str]
) -> set[str]:
    """Those of ``paths``, found by ``spec``, that are results and no inputs.

    A folder of results that was named itself, or that holds the whole of ``spec``, is meant.
    """
    base = os.path.realpath(spec if os.path.isdir(spec) else _fixed_part(spec))
    folders = {os.path.realpath(folder) for folder in outputs}
    below = [folder for folder in folders if folder != base and _is_within(folder, base)]
    return {
        path
        for path in paths
        if os.path.abspath(path) in made
        or any(_is_within(os.path.realpath(os.path.dirname(path)), folder) for folder in below)
    }


def _is_within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(os.path.join(folder, ""))


def _with_own_names(inputs: Iterable[Input], taken: Mapping[str, str]) -> Iterator[Input]:
    """The inputs, named by their files or folders, a number added where names are the same, or
    ``taken`` by another input."""
    used: set[str] = set()
    for item in inputs:
        is_folder = item.name.endswith(os.sep)
        base = os.path.basename(os.path.normpath(item.name))
        base = (base if is_folder else os.path.splitext(base)[0]) or "video"
        name, number = base, 2
        # File systems may not tell cases apart.
        while name.lower() in used or is_other(taken.get(name.lower()), item):
            name, number = f"{base}_{number}", number + 1
        used.add(name.lower())
        if name != base and is_other(taken.get(base.lower()), item):
            logger.warning(
                "%s: results called %s are of %s; these are called %s",
                item.identity, base, taken[base.lower()], name,
            )  # fmt: skip
        yield replace(item, name=name)


def natural_order(paths: Sequence[str]) -> list[str]:
    """Sorted so that numbers count as numbers: frame2 before frame10."""

    def key(path: str) -> list[int | str]:
        parts = re.split(r"(\d+)", path)
        return [int(part) if part.isdecimal() else part for part in parts]  # text first, in turn

    return sorted(paths, key=key)
