"""Files written byte by byte, whole and cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from video_pose.video_io.reading import missing_bytes

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


@pytest.mark.parametrize("size", [2**63 - 17, 2**63 - 16, 2**64 - 1])
def test_a_box_may_be_larger_than_any_file(tmp_path: Path, size: int) -> None:
    """Seeking to its end is not possible; the file has 16 + 16 bytes."""
    path = tmp_path / "file"
    path.write_bytes(BOXES[:16] + b"\0\0\0\x01mdat" + size.to_bytes(8, "big"))
    assert missing_bytes(str(path)) == 16 + size - 32


def test_a_matroska_header_beyond_the_end_tells_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(EBML[:4] + b"\x01" + b"\xff" * 6 + b"\xfe" + bytes(20))
    assert missing_bytes(str(path)) == 0
