"""Read MATLAB files, v5 and v7.3 (HDF5), into plain Python values.

Numbers become arrays in MATLAB's axis order, character arrays ``str``, structs ``dict``, struct
arrays ``list[dict]`` and cells ``list`` (column order). Both formats give the same values.
"""

from __future__ import annotations

import io
import math
import os
import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def load_mat(path: str) -> dict[str, Any]:
    """Read every variable of a .mat file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no MATLAB file or is damaged.
    """
    # Imported on use: both cost import time, and many users have files of one format only.
    import h5py
    from scipy.io import loadmat

    if not os.path.isfile(path):
        raise FileNotFoundError(f"MATLAB file {path} does not exist.")
    try:
        if h5py.is_hdf5(path):
            with h5py.File(path, "r") as file:
                # "#refs#" and "#subsystem#" are MATLAB's stores for what references point to.
                return {k: _from_hdf5(v, file) for k, v in file.items() if not k.startswith("#")}
        content = loadmat(io.BytesIO(_checked_v5(Path(path).read_bytes())))
        return {k: _from_v5(v) for k, v in content.items() if not k.startswith("__")}
    # scipy and h5py raise many unrelated types (zlib.error, OSError, TypeError) on damaged files.
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} cannot be read as a MATLAB file (v5 or v7.3): {reason}"
        ) from error


# Types of MATLAB's "MAT-File Format", version 5: of numbers, with their bytes, and of others.
_NUMBERS = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8}
_TEXTS = (16, 17, 18)
_SMALL_INTEGERS, _INT32, _UINT32, _MATRIX, _COMPRESSED = (1, 2), 5, 6, 14, 15
# Classes of matrices. What is above them are numbers.
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE = 1, 2, 3, 4, 5
_FUNCTION, _OPAQUE = 16, 17
_COMPLEX = 1 << 11
# A file's content may be so large when it is inflated: annotations of people are megabytes.
_MOST_BYTES = 1 << 30
_DEEPEST = 50
_MOST_SPACES = 1 << 16


def _checked_v5(data: bytes) -> bytes:
    """A version 5 file with its compressed elements inflated. SciPy's reader trusts types, sizes
    and counts, and a wrong one ends the whole process.

    Raises:
        ValueError: an element is of a wrong type, or has more or less than it says. zlib.error.
    """
    from scipy.io.matlab import matfile_version

    if matfile_version(io.BytesIO(data))[0] != 1:
        return data  # of an older version, or none: SciPy says so
    order = "<" if data[126:128] == b"IM" else ">"
    out, left, place = [data[:128]], _MOST_BYTES, 128
    while place < len(data):
        kind, size = struct.unpack(f"{order}II", data[place : place + 8].ljust(8, b"\0"))
        element = data[place : place + 8 + size]
        if len(element) < 8 + size:
            raise ValueError(f"an element of {size} bytes ends too early")
        place += 8 + size
        if kind == _COMPRESSED:
            element = _inflated(element[8:], left)
        left -= len(element)
        _Elements(memoryview(element), order).matrix(0)
        out.append(element)
    return b"".join(out)


def _inflated(data: bytes, most: int) -> bytes:
    inflater = zlib.decompressobj()
    out = inflater.decompress(data, max(1, most))
    if not inflater.eof:
        raise ValueError(f"it ends too early, or has more than {_MOST_BYTES >> 20} MB inflated")
    return out


class _Elements:
    """Walks along elements, and holds each against what must be there."""

    def __init__(self, data: memoryview, order: str) -> None:
        self.data, self.order, self.place = data, order, 0

    def take(self) -> tuple[int, memoryview]:
        """(type, content) of the next element."""
        if self.place + 8 > len(self.data):
            raise ValueError("an element is missing")
        kind, size = struct.unpack_from(f"{self.order}II", self.data, self.place)
        start = self.place + 8
        if kind >> 16:  # a small element holds its data beside its type
            kind, size, start = kind & 0xFFFF, kind >> 16, self.place + 4
            after = self.place + 8
        else:
            # What is padded is the place of the next one, which none need be at the end.
            after = start + size + (0 if kind == _MATRIX else -size % 8)
        if start + size > min(after, len(self.data)):
            raise ValueError(f"an element of type {kind} and {size} bytes ends too early")
        self.place = after
        return kind, self.data[start : start + size]

    def integers(self) -> tuple[int, ...]:
        """An element of whole numbers of 32 bits."""
        kind, content = self.take()
        if kind not in (_INT32, _UINT32) or len(content) % 4:
            raise ValueError(f"an element of type {kind} and {len(content)} bytes is no integers")
        return struct.unpack(f"{self.order}{len(content) // 4}i", content)

    def bytes(self) -> int:
        """The length of an element of bytes, as names are."""
        kind, content = self.take()
        if kind not in (*_SMALL_INTEGERS, 16):
            raise ValueError(f"an element of type {kind} is no name")
        return len(content)

    def numbers(self, count: int, as_bytes: bool = False) -> None:
        """An element of so many numbers; of sparse truth values a byte each, whatever its type."""
        kind, content = self.take()
        fits = kind in _NUMBERS and len(content) == count * _NUMBERS[kind]
        if not fits and not (as_bytes and kind in _NUMBERS and len(content) == count):
            raise ValueError(f"{len(content)} bytes of type {kind} are not {count} numbers")

    def matrix(self, depth: int) -> None:
        """A matrix with all that is in it."""
        kind, content = self.take()
        if kind != _MATRIX or depth > _DEEPEST:
            raise ValueError(f"an element of type {kind} at depth {depth} where a matrix was due")
        if not content:  # MATLAB's way to write an empty one
            return
        inside = _Elements(content, self.order)
        flags = inside.integers()
        if len(flags) != 2:
            raise ValueError(f"a matrix has {len(flags)} flags")
        inside._parts(flags[0] & 0xFF, bool(flags[0] & _COMPLEX), depth)
        if depth and inside.place < len(content):
            raise ValueError(f"a matrix of {inside.place} bytes has {len(content)}")

    def _parts(self, kind: int, is_complex: bool, depth: int) -> None:
        """What follows a matrix's flags."""
        if kind == _OPAQUE:
            for _ in range(3):
                self.bytes()
            return self.matrix(depth + 1)
        sides = self.integers()
        if not 2 <= len(sides) <= 32 or min(sides) < 0:
            raise ValueError(f"a matrix has the size {sides}")
        count = math.prod(sides)
        self.bytes()  # its name
        if kind == _FUNCTION:
            return self.matrix(depth + 1)
        if kind == _CELL:
            return self._matrices(count, depth)
        if kind in (_STRUCT, _OBJECT):
            return self._struct(kind, count, depth)
        if kind == _SPARSE:
            return self._sparse(sides, is_complex)
        if kind == _CHAR:
            return self._letters(count)
        if not 6 <= kind <= 15:
            raise ValueError(f"a matrix is of class {kind}")
        for _ in range(1 + is_complex):
            self.numbers(count)

    def _letters(self, count: int) -> None:
        """SciPy holds their number against the size, but for a text without any."""
        kind, content = self.take()
        known = kind in _TEXTS or kind in (*_SMALL_INTEGERS, 4)
        if not known or (not content and count > _MOST_SPACES):
            raise ValueError(f"{len(content)} bytes of type {kind} are not {count} letters")

    def _matrices(self, count: int, depth: int) -> None:
        if 8 * count > len(self.data):
            raise ValueError(f"a matrix of {count} parts has {len(self.data)} bytes")
        for _ in range(count):
            self.matrix(depth + 1)

    def _struct(self, kind: int, count: int, depth: int) -> None:
        if kind == _OBJECT:
            self.bytes()  # its class's name
        length = self.integers()
        names = self.bytes()
        if len(length) != 1 or length[0] < 1 or names % length[0]:
            raise ValueError(f"a struct has {names} bytes for names of {length}")
        self._matrices(count * (names // length[0]), depth)

    def _sparse(self, sides: tuple[int, ...], is_complex: bool) -> None:
        """Compressed columns: rows of its values, and where each column begins among them."""
        rows, columns = self.integers(), self.integers()
        fits = len(sides) == 2 and len(columns) == sides[1] + 1 and columns[0] == 0
        fits = fits and all(a <= b for a, b in zip(columns, columns[1:]))
        if not fits or columns[-1] > len(rows) or not all(0 <= row < sides[0] for row in rows):
            raise ValueError("a sparse matrix's rows and columns do not fit")
        for _ in range(1 + is_complex):
            self.numbers(columns[-1], as_bytes=True)


def require_array(
    content: dict[str, Any],
    field: str,
    shape: Sequence[int | None],
    path: str,
) -> np.ndarray:
    """A numeric field as float64, so that uint8 counters and coordinates cannot overflow.

    A missing last axis of length 1 is put back, since MATLAB drops it on saving: (2, 15) is
    accepted for (2, 15, None).

    Args:
        content: a file's variables or one struct of it.
        field: the variable's name.
        shape: expected lengths, None for any.
        path: named in errors (with the struct's position, where there is one).

    Raises:
        ValueError: the field is missing, not numeric or of another shape.
    """
    value = require_field(content, field, path)
    wanted = "(" + ", ".join("any" if n is None else str(n) for n in shape) + ")"
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "buif":
        raise ValueError(
            f"{path}: field {field!r}: expected numbers of shape {wanted}, got {_describe(value)}."
        )
    array = value
    if array.ndim == len(shape) - 1:
        array = array[..., None]
    fits = array.ndim == len(shape) and all(
        n is None or n == m for n, m in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise ValueError(
            f"{path}: field {field!r}: expected shape {wanted}, got {_describe(value)}."
        )
    return array.astype(np.float64)


def require_text(content: dict[str, Any], field: str, path: str) -> str:
    """A character field.

    Raises:
        ValueError: the field is missing or no text.
    """
    value = require_field(content, field, path)
    if not isinstance(value, str):
        raise ValueError(f"{path}: field {field!r}: expected text, got {_describe(value)}.")
    return value


def require_structs(content: dict[str, Any], field: str, path: str) -> list[dict[str, Any]]:
    """A struct array of any size, 1x1 included, as a list.

    Raises:
        ValueError: the field is missing or no struct array.
    """
    value = require_field(content, field, path)
    structs = [value] if isinstance(value, dict) else value
    if not isinstance(structs, list) or not all(isinstance(s, dict) for s in structs):
        raise ValueError(
            f"{path}: field {field!r}: expected a struct array, got {_describe(value)}."
        )
    return structs


def require_field(content: dict[str, Any], field: str, path: str) -> Any:
    """A field of any type.

    Raises:
        ValueError: the field is missing; those that exist are listed.
    """
    if field not in content:
        raise ValueError(
            f"{path}: expected field {field!r}, got only the fields {sorted(content)}."
        )
    return content[field]


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {value.shape}"
    if isinstance(value, list):
        return f"a list of {len(value)} ({type(value[0]).__name__ if value else 'empty'})"
    return f"{type(value).__name__} {value!r}" if isinstance(value, str) else type(value).__name__


def _from_v5(value: Any) -> Any:
    """scipy's nested arrays -> plain values."""
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.names:
        structs = [
            {name: _from_v5(item[name]) for name in value.dtype.names}
            for item in value.ravel(order="F")
        ]
        return structs[0] if len(structs) == 1 else structs
    if value.dtype.kind == "O":
        return [_from_v5(item) for item in value.ravel(order="F")]
    if value.dtype.kind in "US":
        rows = [str(row) for row in value.ravel()]
        return rows if len(rows) > 1 else "".join(rows)
    return value


def _from_hdf5(node: Any, file: Any) -> Any:
    """A v7.3 dataset or group -> plain values."""
    import h5py

    kind = node.attrs.get("MATLAB_class", b"")
    kind = kind.decode() if isinstance(kind, bytes) else str(kind)
    if isinstance(node, h5py.Group):
        return _struct_from_hdf5(node, file)
    if "MATLAB_empty" in node.attrs:
        # An empty array is stored as its shape.
        shape = tuple(int(n) for n in np.ravel(node[()]))
        return {"char": "", "cell": [], "struct": []}.get(kind, np.zeros(shape))
    if _has_references(node):
        # HDF5 axes are MATLAB's reversed: C order here is column order there.
        return [_from_hdf5(file[ref], file) for ref in node[()].ravel()]
    value = np.asarray(node[()])
    if kind == "char":
        rows = ["".join(chr(code) for code in row) for row in np.atleast_2d(value.T)]
        return rows if len(rows) > 1 else "".join(rows)
    if value.dtype.kind in "OS":
        # Not MATLAB's own: a string as h5py writes it.
        return node.asstr()[()] if value.ndim == 0 else [str(s) for s in node.asstr()[()].ravel()]
    return value.T


def _has_references(node: Any) -> bool:
    """Texts have the same type of NumPy's, `object`: h5py tells them apart."""
    import h5py

    return h5py.check_ref_dtype(node.dtype) is not None


def _struct_from_hdf5(group: Any, file: Any) -> dict[str, Any] | list[dict[str, Any]]:
    """A struct array is a group whose fields are all references without a class of their own."""
    import h5py

    fields = dict(group.items())
    is_array = bool(fields) and all(
        isinstance(f, h5py.Dataset) and _has_references(f) and "MATLAB_class" not in f.attrs
        for f in fields.values()
    )
    values = {name: _from_hdf5(field, file) for name, field in fields.items()}
    if not is_array:
        return values
    names = list(values)
    structs = [dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return structs[0] if len(structs) == 1 else structs
