"""Writing files so that a reader sees the old content or the new one, never a part; and where what
can be made again is kept.

A file is written beside its name and moved there when it is whole. Whatever goes wrong, what
existed stays as it was, the half-written one is removed, and the error names the file.
"""

from __future__ import annotations

import contextlib
import errno
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

# Ending of a file that is being written. Its name begins with a dot, since readers of a folder
# (pyarrow's) leave such names out, and holds the process's number.
PARTIAL = ".tmp"
CACHE_VARIABLE = "VIDEO_POSE_CACHE"


def cache_folder() -> Path:
    """$VIDEO_POSE_CACHE, else ``video_pose`` in the user's cache folder; it need not exist, and may
    be removed at any time."""
    if os.environ.get(CACHE_VARIABLE):
        return Path(os.environ[CACHE_VARIABLE])
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "video_pose"


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Within the block, a path beside ``path`` to write to; it takes its place afterwards.

    Raises:
        OSError: it cannot be written (no space, no permission, no such folder); names ``path``.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}{PARTIAL}")
    try:
        with naming(path):
            yield temporary
            _flush_to_disk(temporary)
            os.replace(temporary, path)
    finally:
        # Of a folder that is gone or read-only nothing can be removed either.
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_file(path: str | Path) -> Iterator[BinaryIO]:
    """As `replacing`, with the file opened for writing bytes."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        yield file


def write_text(path: str | Path, text: str) -> None:
    """Replace ``path`` by ``text`` in UTF-8. Raises as `replacing`."""
    with replacing_file(path) as file:
        file.write(text.encode("utf-8"))


def write_json(path: str | Path, content: Any, indent: int | None = None) -> None:
    """Replace ``path`` by ``content`` as JSON. Numbers that JSON has no word for become null.

    Raises as `replacing`.
    """
    write_text(path, json.dumps(without_nan(content), indent=indent, allow_nan=False))


def without_nan(value: Any, digits: int | None = None) -> Any:
    """``value`` with None for every float in it that is not finite.

    Args:
        digits: behind the point, that floats are rounded to; None: all.
    """
    if isinstance(value, dict):
        return {key: without_nan(inner, digits) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(inner, digits) for inner in value]
    if isinstance(value, float):  # np.float64 is one, too
        if not math.isfinite(value):
            return None
        return float(value) if digits is None else round(float(value), digits)
    return value


def with_nan(value: Any) -> Any:
    """The inverse of `without_nan`: a number that JSON has no word for is not a number again."""
    if isinstance(value, dict):
        return {key: with_nan(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [with_nan(inner) for inner in value]
    return math.nan if value is None else value


def read_text(path: str | Path) -> str:
    """The text of a file in UTF-8.

    Raises:
        ValueError: it is not UTF-8; names the file and the byte.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: byte {error.start} is no text in UTF-8: save the file in that encoding"
        ) from error


def lock(file: IO[Any], name: str | Path) -> None:
    """Keep other processes from locking ``file``, which is open for writing, until it is closed or
    this process ends. Systems and disks without locks lock nothing.

    Raises:
        ValueError: another process has locked it; tells that ``name`` is in use.
    """
    try:
        import fcntl
    except ImportError:
        return
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EAGAIN):
            file.close()
            raise ValueError(f"{name} is in use by another run: wait for it") from None


@contextlib.contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Turn an error of the operating system within the block into one that names ``path``."""
    try:
        yield
    except Exception as error:
        cause = _system_error(error)
        if cause is None:
            raise
        reason = os.strerror(cause.errno) if cause.errno else str(cause)
        named = OSError(f"cannot write {path}: {reason}")
        named.errno = cause.errno
        raise named from error


def _system_error(error: BaseException | None) -> OSError | None:
    """The OSError behind ``error``: writers of C++ raise errors of their own on top of it."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _flush_to_disk(path: Path) -> None:
    """Without it, a file moved into place can be empty after a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
