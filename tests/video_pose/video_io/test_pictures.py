"""Pictures as people bring them: modes, pages, orientation, pixel aspect and size."""

from __future__ import annotations

import base64
import logging
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from video_pose.data.frame_reader import FrameReader
from video_pose.inference import inputs
from video_pose.inference.sources import open_source
from video_pose.video_io import pictures
from video_pose.video_io.pictures import (
    count_pages,
    from_pillow,
    picture_size,
    read_pages,
    read_picture,
)

LEVELS = np.arange(8)  # of grey, from black to white


def _ramp(top: float, dtype: type, low: float = 0.0) -> np.ndarray:
    """Eight columns of two pixels, from ``low`` to ``top``."""
    row = np.repeat(LEVELS / 7 * (top - low) + low, 2)
    return np.tile(row, (4, 1)).astype(dtype)


def _grey(image: np.ndarray) -> list[int]:
    assert image.dtype == np.uint8 and image.shape[2] == 3
    assert (image == image[..., :1]).all()
    return image[0, ::2, 0].tolist()


EVEN = [round(255 * i / 7) for i in range(8)]


# ------------------------------------------------------------------ modes


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("a.png", _ramp(65535, np.uint16)),
        ("a.tif", _ramp(65535, np.uint16)),
        ("b.tif", _ramp(65535, np.int32)),  # 32 bits, of which 16 are used
        ("c.tif", _ramp(255, np.int32)),
        ("d.tif", _ramp(1, np.float32)),
        ("e.tif", _ramp(255, np.float32)),
        ("f.tif", _ramp(65535, np.float32)),
        ("g.tif", _ramp(3.5e6, np.float32)),  # beyond all ranges: the data's own
        ("h.tif", _ramp(40, np.float32, low=-20)),  # degrees of a thermal camera
    ],
)
def test_wide_grey_is_scaled_alike_everywhere(
    tmp_path: Path, name: str, values: np.ndarray
) -> None:
    path = str(tmp_path / name)
    Image.fromarray(values).save(path)
    assert _grey(read_picture(path)) == pytest.approx(EVEN, abs=1)
    (shown,) = [frame.image for frame in open_source(path)]
    track = {"video_id": "v", "file_names": [path], "height": 4, "width": 16}
    (trained,) = FrameReader(0, "RGB").read(track, [0])
    assert _grey(shown) == _grey(trained) == _grey(from_pillow(Image.open(path)))


def test_twelve_bits_in_sixteen_keep_their_scale(tmp_path: Path) -> None:
    """The range is the mode's, so that a video's pictures do not flicker with their content."""
    Image.fromarray(_ramp(4095, np.uint16)).save(tmp_path / "a.png")
    assert _grey(read_picture(str(tmp_path / "a.png")))[-1] == 16


def _tiff(bits: int, photometric: int, data: bytes) -> bytes:
    """Grey, 8 x 8 px, in one strip."""
    tags = [(256, 3, 8), (257, 3, 8), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 3, 8), (279, 4, len(data))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(data))
    return head + data + struct.pack("<H", len(tags)) + entries + bytes(4)


@pytest.mark.parametrize(
    ("bits", "photometric", "data", "expected"),
    [
        (8, 0, b"\x1e" * 64, 225),
        (16, 0, struct.pack("<H", 257 * 30) * 64, 225),
        (16, 1, struct.pack("<H", 257 * 30) * 64, 30),
        (32, 0, struct.pack("<I", 257 * 30) * 64, None),  # Pillow knows no such files
        (12, 1, b"\x33\x33\x33" * 32, 51),
    ],
)
def test_what_a_tiff_says_of_its_grey(
    tmp_path: Path, bits: int, photometric: int, data: bytes, expected: int | None
) -> None:
    """Photometric 0: zero is white. 12 bits: 4095 is white; 0x333 = 819 is a fifth of it."""
    path = tmp_path / "grey.tif"
    path.write_bytes(_tiff(bits, photometric, data))
    if expected is None:
        with pytest.raises(ValueError, match="grey.tif"):
            read_picture(str(path))
    else:
        assert (read_picture(str(path)) == expected).all()


def test_dark_frames_of_a_sequence_stay_dark(tmp_path: Path) -> None:
    """A PGM of 16 bits (big-endian, Netpbm) whose values are all below 256."""
    for top in (200, 65535):
        head = b"P5 16 4 65535\n"
        (tmp_path / "a.pgm").write_bytes(head + _ramp(top, np.uint16).astype(">u2").tobytes())
        assert _grey(read_picture(str(tmp_path / "a.pgm")))[-1] == round(top / 257)


def test_values_that_are_no_number_are_black(tmp_path: Path) -> None:
    values = _ramp(1, np.float32)
    values[:, :2], values[:, -2:] = np.nan, np.inf
    Image.fromarray(values).save(tmp_path / "a.tif")
    grey = _grey(read_picture(str(tmp_path / "a.tif")))
    assert grey[0] == 0 and grey[-1] == 255 and grey[1] < grey[2]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_other_modes_are_as_pillow_converts_them(tmp_path: Path, mode: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (4, 16, 3), dtype=np.uint8)
    picture = Image.fromarray(colours).convert(mode)
    path = str(tmp_path / ("a.jpg" if mode in ("CMYK", "YCbCr") else "a.png"))
    picture.save(path)
    expected = np.asarray(Image.open(path).convert("RGB"))
    np.testing.assert_array_equal(read_picture(path, "RGB"), expected)
    np.testing.assert_array_equal(read_picture(path, "BGR"), expected[:, :, ::-1])


# ------------------------------------------------------------------ pages


def _pages(count: int) -> list[Image.Image]:
    return [Image.new("RGB", (16, 8), (30 * i + 10, 0, 0)) for i in range(count)]


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.tiff", "a.avif"])
def test_every_picture_of_a_file_is_a_frame(tmp_path: Path, name: str) -> None:
    if name.endswith("avif") and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = str(tmp_path / name)
    first, *others = _pages(5)
    more = {} if ".tif" in name else {"duration": 200}
    if name == "a.webp":
        more["lossless"] = True
    first.save(path, save_all=True, append_images=others, **more)
    assert count_pages(path) == 5
    reds = [page.image[0, 0, 2] for page in read_pages(path)]
    assert np.array(reds) == pytest.approx([10, 40, 70, 100, 130], abs=3)
    source = open_source(path)
    frames = list(source)
    step = 0.04 if ".tif" in name else 0.2
    assert [frame.index for frame in frames] == list(range(5)) and source.num_frames == 5
    assert [frame.time for frame in frames] == pytest.approx([i * step for i in range(5)])
    # A rate that is given goes before the file's own times.
    assert [f.time for f in open_source(path, fps=2)] == pytest.approx([0, 0.5, 1, 1.5, 2])


def test_training_says_that_it_reads_the_first_page(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, *others = _pages(3)
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    assert read_picture(str(tmp_path / "a.tif"))[0, 0].tolist() == [0, 0, 10]
    assert "a.tif holds 3 pictures: the first is read" in caplog.text


def test_small_copies_and_previews_are_no_pages(tmp_path: Path) -> None:
    large, small = Image.new("RGB", (16, 8)), Image.new("RGB", (4, 2))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    large.save(tmp_path / "a.tif", save_all=True, append_images=[small])
    assert [page.image.shape for page in read_pages(str(tmp_path / "a.tif"))] == [(8, 16, 3)]
    large.save(tmp_path / "a.jpg", format="MPO", save_all=True, append_images=[small])
    assert [page.image.shape for page in read_pages(str(tmp_path / "a.jpg"))] == [(8, 16, 3)]


def test_pages_keep_their_place_in_a_sequence(tmp_path: Path) -> None:
    first, *others = _pages(3)
    first.save(tmp_path / "a1.tif", save_all=True, append_images=others)
    _pages(1)[0].save(tmp_path / "a2.png")
    frames = list(open_source(str(tmp_path), fps=10))
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.2, 0.3])


# ------------------------------------------------------------------ orientation


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_all_eight_orientations(tmp_path: Path, orientation: int, name: str) -> None:
    """EXIF 2.32, 4.6.4: where the stored picture's first row and first column are to be seen. The
    stored one is dark, its first row white, and its first column grey."""
    stored = np.zeros((32, 48, 3), np.uint8)
    stored[:, :8] = 128
    stored[:8] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = str(tmp_path / name)
    Image.fromarray(stored).save(path, exif=exif, **({"quality": 95} if name != "a.tif" else {}))
    row, column = {
        1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
        5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
    }[orientation]  # fmt: skip
    turned = orientation >= 5
    size = (48, 32) if turned else (32, 48)
    assert picture_size(path) == size
    track = {"video_id": "v", "file_names": [path], "height": size[0], "width": size[1]}
    for image in (read_picture(path), FrameReader(0, "BGR").read(track, [0])[0]):
        assert image.shape[:2] == size
        sides = {
            "top": image[:4, 12:-12], "bottom": image[-4:, 12:-12],
            "left": image[12:-12, :4], "right": image[12:-12, -4:],
        }  # fmt: skip
        means = {side: float(pixels.mean()) for side, pixels in sides.items()}
        assert means.pop(row) > 240 and 110 < means.pop(column) < 146
        assert all(mean < 20 for mean in means.values())


# ------------------------------------------------------------------ pixels that are not square


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif"])
@pytest.mark.parametrize(("dpi", "width"), [((72, 144), 96), ((144, 72), 24), ((72, 72), 48)])
def test_pixels_are_square_as_seen(
    tmp_path: Path, name: str, dpi: tuple[int, int], width: int, caplog: pytest.LogCaptureFixture
) -> None:
    """72 dots an inch across and 144 down: a pixel is twice as wide as it is high."""
    path = str(tmp_path / name)
    Image.new("RGB", (48, 32)).save(path, dpi=dpi)
    assert next(iter(open_source(path))).image.shape == (32, width, 3)
    assert ("pixels are not square" in caplog.text) == (width != 48)
    for told in (48, width):  # labels in stored pixels, and in those seen
        track = {"video_id": "v", "file_names": [path], "height": 32, "width": told}
        assert FrameReader(0, "BGR").read(track, [0])[0].shape == (32, told, 3)


def test_an_aspect_beyond_belief_is_left_alone(tmp_path: Path) -> None:
    for dpi in ((1, 300), (300, 1)):
        Image.new("RGB", (48, 32)).save(tmp_path / "a.png", dpi=dpi)
        assert read_picture(str(tmp_path / "a.png")).shape == (32, 48, 3)


# ------------------------------------------------------------------ size, damage, other things


def _png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b""))


@pytest.mark.parametrize("size", [(12_000, 10_001), (18_000, 10_000), (40_000, 40_000)])
def test_a_huge_picture_is_skipped_with_a_line(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", (16, 8)).save(tmp_path / "a1.png")
    (tmp_path / "a2.png").write_bytes(_png_header(*size))
    Image.new("RGB", (16, 8)).save(tmp_path / "a3.png")
    source = open_source(str(tmp_path))
    assert [frame.index for frame in source] == [0, 2]
    (problem,) = source.problems
    assert "a2.png" in problem and "the limit of 120 million" in problem


def test_a_picture_just_below_the_limit_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where Pillow itself would warn of a bomb."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    monkeypatch.setattr(pictures, "MAX_PIXELS", 150)
    Image.new("RGB", (15, 10)).save(tmp_path / "a.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("warnings.showwarning", lambda *args: pytest.fail("a warning"))
        assert read_picture(str(tmp_path / "a.png")).shape == (10, 15, 3)


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.tif", "a.webp", "a.bmp"])
@pytest.mark.parametrize("kept", [0.0, 0.1, 0.5, 0.9])
def test_damaged_pictures_are_one_error_with_the_file(
    tmp_path: Path, name: str, kept: float
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    path = tmp_path / name
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * kept)])
    with pytest.raises(ValueError, match=name):
        read_picture(str(path))
    with pytest.raises(FileNotFoundError, match="gone.png"):
        read_picture(str(tmp_path / "gone.png"))
    with pytest.raises(ValueError, match="no regular file"):
        read_picture(str(tmp_path))


def test_plain_pictures_are_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    Image.new("RGB", (16, 8)).save(tmp_path / "a.jpg", dpi=(72, 72))
    with caplog.at_level(logging.INFO):
        read_picture(str(tmp_path / "a.jpg"))
    assert caplog.text == ""


# 64 x 48: green above, red and blue below; to be turned by a quarter, as phones write it.
_HEIC = (
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAbRtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAA"
    "AAAAAAAAAAAAADRpbG9jAAAAAERAAAIAAQAAAAAB2AABAAAAAAAAAKUAAgAAAAACfQABAAAAAAAAACQAAAA4aWlu"
    "ZgAAAAAAAgAAABVpbmZlAgAAAAABAABodmMxAAAAABVpbmZlAgAAAQACAABFeGlmAAAAAA5waXRtAAAAAAABAAAA"
    "82lwcnAAAADTaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkA"
    "AAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFwAAAAQAAAAAEAAAAwAAAAAQAAAAAAAAAC////8AAAAAIAAAAQcGl4"
    "aQAAAAADCAgIAAAACWlyb3QDAAAAGGlwbWEAAAAAAAAAAQABBYECBIOFAAAAGmlyZWYAAAAAAAAADmNkc2MAAgAB"
    "AAEAAADRbWRhdAAAAKEoAa8J4GlA7slq9L//xmP/2VglKomZ/2m1j0BxwP2b3DuS/qIc39LOm7uz77THd5AYqfUi"
    "vTG0+S+eAlFAGnIlw2w4IV3lvtt7cTTHSri/jFSWF8JshT6l8ZcBxRwkCF9bO2rqzrpy4kTk4TSF78M+LW7Vaqzu"
    "tjrjG5Izv8UVWFUbqUvgYytiJ3Vg+Jp7vxEd5mEHpAa/q0JxqumapsUcRQAAAAZFeGlmAABNTQAqAAAACAABARIA"
    "AwAAAAEABgAAAAAAAA=="
)


def test_photos_of_phones_are_read_upright(tmp_path: Path) -> None:
    pytest.importorskip("pi_heif")
    path = tmp_path / "IMG_0001.HEIC"
    path.write_bytes(base64.b64decode(_HEIC))
    assert picture_size(str(path)) == (64, 48) and count_pages(str(path)) == 1
    picture = read_picture(str(path), "RGB")
    assert picture.shape == (64, 48, 3)
    for row, column, color in ((2, 2, "red"), (-3, 2, "blue"), (2, -3, "green")):
        main = ("red", "green", "blue")[int(picture[row, column].argmax())]
        assert main == color
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(ValueError, match=r"IMG_0001\.HEIC"):
        read_picture(str(path))


@pytest.mark.parametrize(
    ("name", "hint"), [("a.HEIC", "needs the package pi-heif"), ("b.jxl", "convert it to PNG")]
)
def test_a_picture_of_a_kind_that_is_not_read_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, hint: str
) -> None:
    known = tuple(end for end in inputs.PICTURE_SUFFIXES if end not in (".heic", ".heif"))
    monkeypatch.setattr(inputs, "PICTURE_SUFFIXES", known)
    (tmp_path / name).write_bytes(b"picture")
    with pytest.raises(ValueError, match=f"cannot read picture .*{name}: .*{hint}"):
        open_source(str(tmp_path / name))
