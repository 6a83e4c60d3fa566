"""Fixtures for tests of several packages."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence

import numpy as np
import pytest

Layers = Sequence[tuple[str, Sequence[np.ndarray]]]


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited field of protobuf's wire format."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def blob_bytes(array: np.ndarray, old_shape: bool, packed: bool) -> bytes:
    values = array.astype("<f4")
    if packed:
        data = field(5, values.tobytes())
    else:
        data = b"".join(varint(5 << 3 | 5) + struct.pack("<f", v) for v in values.ravel())
    if old_shape:  # num, channels, height, width as varints of fields 1 to 4, right-aligned
        dims = (1,) * (4 - array.ndim) + array.shape
        return b"".join(varint(n << 3) + varint(d) for n, d in enumerate(dims, start=1)) + data
    return field(7, field(1, b"".join(varint(d) for d in array.shape))) + data


@pytest.fixture
def caffe_bytes() -> Callable[..., bytes]:
    """Writes a NetParameter byte by byte, with fields that a reader of weights must skip."""

    def write(
        layers: Layers, *, v1: bool = False, old_shape: bool = False, packed: bool = True
    ) -> bytes:
        out = field(1, b"a net") + field(3, b"data")
        for name, arrays in layers:
            blobs = [blob_bytes(np.asarray(a), old_shape, packed) for a in arrays]
            if v1:  # bottom 2, name 4, type 5 (an enum), blobs 6
                body = field(2, b"data") + field(4, name.encode()) + varint(5 << 3) + varint(4)
                out += field(2, body + b"".join(field(6, b) for b in blobs))
            else:  # name 1, type 2, bottom 3, blobs 7
                body = field(1, name.encode()) + field(2, b"Convolution") + field(3, b"data")
                out += field(100, body + b"".join(field(7, b) for b in blobs))
        return out

    return write
