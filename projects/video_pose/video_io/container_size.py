"""How long a video file says that it is, by the sizes that its container writes down.

A file that was cut off keeps the header of the whole one: its last element reaches beyond its end.
"""

from __future__ import annotations

import os
from typing import BinaryIO

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
# Boxes that stand at the top of a file; what follows another word is no box.
_BOXES = b"ftyp styp moov moof mdat mfra free skip wide sidx ssix uuid meta pdin emsg prft udta"
_TYPES = frozenset(_BOXES.split())


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
