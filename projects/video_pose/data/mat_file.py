"""Read MATLAB files, v5 and v7.3 (HDF5), into plain Python values.

Numbers become arrays in MATLAB's axis order, character arrays ``str``, structs ``dict``, struct
arrays ``list[dict]`` and cells ``list`` (column order). Both formats give the same values.
"""

from __future__ import annotations

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
        _check_elements(Path(path).read_bytes())
        content = loadmat(path)
        return {k: _from_v5(v) for k, v in content.items() if not k.startswith("__")}
    # scipy and h5py raise many unrelated types (zlib.error, OSError, TypeError) on damaged files.
    except Exception as error:
        raise ValueError(f"{path} cannot be read as a MATLAB file (v5 or v7.3): {error}") from error


# Types of a version 5 file's elements, by MATLAB's "MAT-File Format".
_ELEMENT_TYPES = {1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 14, 15, 16, 17, 18}
_MATRIX, _COMPRESSED = 14, 15
# The class of matrices that begin otherwise.
_OPAQUE = 17


def _check_elements(data: bytes) -> None:
    """Walk a version 5 file's elements. SciPy's reader trusts their types, and a damaged one ends
    the whole process.

    Raises:
        ValueError: an element is of no type, or longer than what holds it. zlib.error.
    """
    if len(data) < 128 or data[126:128] not in (b"IM", b"MI") or data[:4] == b"\0\0\0\0":
        return  # of an older version, or none: SciPy says so
    order = "<" if data[126:128] == b"IM" else ">"
    _walk(memoryview(data)[128:], order, depth=0)


def _walk(data: memoryview, order: str, depth: int, is_matrix: bool = False) -> None:
    """The elements of a file, or the parts of a matrix: its flags, its size, its name, its data."""
    if depth > 50:
        raise ValueError("its elements are nested too deeply")
    place, number, opaque = 0, 0, False
    while place + 8 <= len(data):
        kind, size = struct.unpack_from(f"{order}II", data, place)
        start, end = place + 8, place + 8 + size
        padding = -size % 8
        if kind >> 16:  # a small element holds its data beside its type
            kind, size = kind & 0xFFFF, kind >> 16
            start, end, padding = place + 4, place + 4 + size, 0
            place, last = place + 8, place + 8
        else:
            place = last = end
        if kind not in _ELEMENT_TYPES or end > len(data) or (last - start) < size:
            raise ValueError(f"an element of type {kind} and {size} bytes is damaged")
        if is_matrix and number == 0:
            opaque = size == 8 and struct.unpack_from(f"{order}I", data, start)[0] & 0xFF == _OPAQUE
        if is_matrix and number == 1 and not opaque and (size < 8 or size % 4 or size > 128):
            raise ValueError(f"a matrix has {size} bytes for its size")
        number += 1
        if kind == _COMPRESSED:
            _walk(memoryview(zlib.decompress(data[start:end])), order, depth + 1)
            padding = 0
        elif kind == _MATRIX:
            _walk(data[start:end], order, depth + 1, is_matrix=True)
        place += padding


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
    if node.dtype == h5py.ref_dtype:
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


def _struct_from_hdf5(group: Any, file: Any) -> dict[str, Any] | list[dict[str, Any]]:
    """A struct array is a group whose fields are all references without a class of their own."""
    import h5py

    fields = dict(group.items())
    is_array = bool(fields) and all(
        isinstance(f, h5py.Dataset) and f.dtype == h5py.ref_dtype and "MATLAB_class" not in f.attrs
        for f in fields.values()
    )
    values = {name: _from_hdf5(field, file) for name, field in fields.items()}
    if not is_array:
        return values
    names = list(values)
    structs = [dict(zip(names, row, strict=True)) for row in zip(*values.values(), strict=True)]
    return structs[0] if len(structs) == 1 else structs
