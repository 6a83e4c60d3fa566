"""Files written byte by byte, whole and cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from video_pose.inference.container_size import missing_bytes

# Boxes of 16, 8 and 24 bytes, the last with a size of 8 bytes: 48 bytes.
BOXES = (
    b"\0\0\0\x10ftypisom\0\0\0\0" + b"\0\0\0\x08free"
    + b"\0\0\0\x01mdat" + (24).to_bytes(8, "big") + bytes(8)
)  # fmt: skip
# Two RIFF chunks of 8 + 12 and 8 + 4 bytes: 32 bytes.
RIFF = b"RIFF\x0c\0\0\0AVI " + bytes(8) + b"RIFF\x04\0\0\0AVIX"
# An EBML header of 4 + 1 + 2 bytes, a segment of 4 + 2 + 10 bytes: 23 bytes. 0x82 is the size 2 in
# one byte, 0x400a is 10 in two.
EBML = b"\x1a\x45\xdf\xa3\x82ab\x18\x53\x80\x67\x40\x0a" + bytes(10)


@pytest.mark.parametrize(("whole", "size"), [(BOXES, 48), (RIFF, 32), (EBML, 23)])
def test_what_is_cut_off_is_missing(tmp_path: Path, whole: bytes, size: int) -> None:
    assert len(whole) == size
    path = tmp_path / "file"
    for cut in (0, 1, 3):
        path.write_bytes(whole[: size - cut])
        assert missing_bytes(str(path)) == cut
    path.write_bytes(whole + b"anything that follows")
    assert missing_bytes(str(path)) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"", b"RIFF", b"no container at all",
        b"RIFF\0\0\0\0AVI never closed",
        # A segment of unknown size, as of a live stream; a box up to the end of the file.
        EBML[:11] + b"\x01" + b"\xff" * 7, BOXES[:16] + b"\0\0\0\0mdat",
    ],
)  # fmt: skip
def test_nothing_is_known(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file"
    path.write_bytes(data)
    assert missing_bytes(str(path)) == 0
