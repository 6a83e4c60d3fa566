"""Videos as people bring them, through the demo's reader and the training's: what a file says is
read, or its ignoring is said. Frames carry their numbers as stripes."""

from __future__ import annotations

import itertools
import logging
import re
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from av.sidedata.sidedata import Type as SideDataType
from PIL import Image

from video_pose.data.frame_reader import FrameReader, VideoFile
from video_pose.inference.video_source import VideoSource
from video_pose.video_io.reading import VideoIndex, choose_stream, probe_video

WriteNumbers = Callable[..., str]
HEIGHT, WIDTH = 64, 128


def read_number(image: np.ndarray) -> int:
    """Bits of 8 columns in the lower half, of an upright picture of any width."""
    step = image.shape[1] / 8
    low = image[image.shape[0] // 2 :].mean(axis=(0, 2))
    return sum(
        int(low[int(b * step) + 1 : int((b + 1) * step) - 1].mean() > 127) << b for b in range(8)
    )


def read_by_both(path: str, size: tuple[int, int] = (HEIGHT, WIDTH)) -> tuple[list, list]:
    """All frames by the demo's reader, without problems, and by the training's, in reverse."""
    source = VideoSource(path)
    shown = [frame.image for frame in source]
    assert source.problems == []
    numbers = np.arange(len(shown))
    track = dict(
        video_id="v", video_file=path, frame_numbers=numbers, height=size[0], width=size[1]
    )
    reader = FrameReader(0, "BGR")
    return shown, [reader.read(track, [i])[0] for i in numbers[::-1]][::-1]


def track_of(path: str, numbers: np.ndarray, size: tuple[int, int]) -> dict[str, Any]:
    return dict(video_id="v", video_file=path, frame_numbers=numbers, height=size[0], width=size[1])


def remux(
    source: str, target: Path, *, delay: Fraction = Fraction(0), without: tuple[int, ...] = ()
) -> str:
    """The packets, but for some, moved in time: earlier than 0 becomes an edit list in an MP4."""
    with av.open(source) as container, av.open(str(target), "w") as output:
        stream = container.streams.video[0]
        copy = output.add_stream_from_template(stream)
        for number, packet in enumerate(container.demux(stream)):
            if packet.size and number not in without:
                packet.pts += int(delay / stream.time_base)
                packet.dts += int(delay / stream.time_base)
                packet.stream = copy
                output.mux(packet)
    return str(target)


# ------------------------------------------------------------------ header over index


@pytest.mark.parametrize("name", ["trimmed.mp4", "trimmed.mov"])
@pytest.mark.parametrize(("b_frames", "cut"), [(0, 5), (2, 7), (3, 13)])
def test_a_trimmed_file_is_whole(
    numbers_video: WriteNumbers, tmp_path: Path, name: str, b_frames: int, cut: int
) -> None:
    """An edit list hides frames before ``cut``, also across a key frame (every 12)."""
    whole = numbers_video("whole.mp4", b_frames=b_frames)
    path = remux(whole, tmp_path / name, delay=-Fraction(4 * cut, 100))
    shown, trained = read_by_both(path)
    expected = list(range(cut, 30))
    assert [read_number(image) for image in shown] == expected
    assert [read_number(image) for image in trained] == expected
    assert probe_video(path) == (30 - cut, (HEIGHT, WIDTH))
    assert VideoSource(path).num_frames == 30 - cut


def test_a_delayed_file_is_whole(numbers_video: WriteNumbers, tmp_path: Path) -> None:
    """An edit list that begins with nothing: the first frame comes after half a second."""
    path = remux(numbers_video("whole.mp4"), tmp_path / "late.mp4", delay=Fraction(1, 2))
    source = VideoSource(path)
    assert [frame.index for frame in source] == list(range(30)) and source.problems == []


def test_a_header_of_a_longer_time_is_no_damage(
    numbers_video: WriteNumbers, caplog: pytest.LogCaptureFixture
) -> None:
    """All data of this Matroska file are there, by the sizes in it; its header promises 9.2 s."""
    path = Path(numbers_video("v.mkv", b_frames=0))
    data = path.read_bytes()
    at = data.index(b"\x44\x89\x88") + 3
    assert struct.unpack(">d", data[at : at + 8])[0] == pytest.approx(1200)
    path.write_bytes(data[:at] + struct.pack(">d", 9200.0) + data[at + 8 :])
    source = VideoSource(str(path))
    assert len(list(source)) == 30 and source.problems == []
    assert "the frames end at 1.20 s of 9.20 s; no data are missing" in caplog.text


def test_a_last_frame_that_stays_is_no_truncation(numbers_video: WriteNumbers) -> None:
    """A still picture of five seconds at the end: the last frame begins long before the end."""
    stamps = [4 * i for i in range(29)] + [640]
    source = VideoSource(numbers_video("still.mp4", stamps=stamps))
    assert len(list(source)) == 30 and source.problems == []


# ------------------------------------------------------------------ turned and mirrored


def set_matrix(path: str, matrix: tuple[int, ...]) -> None:
    """Write (a, b, c, d) of x' = a x + c y, y' = b x + d y into the track's header."""
    data = Path(path).read_bytes()
    identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    a, b, c, d = (value << 16 for value in matrix)
    at = data.index(identity, data.index(b"tkhd"))
    turned = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    Path(path).write_bytes(data[:at] + turned + data[at + len(turned) :])


@pytest.mark.parametrize("first", [0, 13])
@pytest.mark.parametrize(
    "matrix", [(a, 0, 0, d) for a in (1, -1) for d in (1, -1)]
    + [(0, b, c, 0) for b in (1, -1) for c in (1, -1)],
)  # fmt: skip
def test_all_eight_orientations(
    numbers_video: WriteNumbers, matrix: tuple[int, ...], first: int
) -> None:
    """Every pixel goes where the matrix takes it, about the middle of the picture."""
    path = numbers_video("v.mp4", 16)
    plain = [frame.image for frame in VideoSource(path)][first]
    set_matrix(path, matrix)
    a, b, c, d = matrix
    width, height = (WIDTH, HEIGHT) if a else (HEIGHT, WIDTH)
    expected = np.zeros((height, width, 3), np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    centred = np.stack([x - (WIDTH - 1) / 2, y - (HEIGHT - 1) / 2])
    to_x = (a * centred[0] + c * centred[1] + (width - 1) / 2).astype(int)
    to_y = (b * centred[0] + d * centred[1] + (height - 1) / 2).astype(int)
    expected[to_y, to_x] = plain
    shown, trained = read_by_both(path, (height, width))
    np.testing.assert_array_equal(shown[first], expected)
    np.testing.assert_array_equal(trained[first], expected)
    assert probe_video(path)[1] == (height, width)


def test_a_turn_beside_data_that_pyav_has_no_name_for(tmp_path: Path) -> None:
    """A motion JPEG with EXIF, which is such data: red is left, and above when turned."""
    image, exif = Image.new("RGB", (64, 32), (0, 0, 255)), Image.Exif()
    image.paste((255, 0, 0), (0, 0, 32, 32))
    exif[0x112] = 6
    image.save(tmp_path / "turned.jpg", exif=exif)
    path = tmp_path / "camera.mjpeg"
    path.write_bytes(3 * (tmp_path / "turned.jpg").read_bytes())
    first, *rest = VideoSource(str(path), fps=10)
    assert first.image.shape == (64, 32, 3) and len(rest) == 2
    assert first.image[8, 16].argmax() == 2 and first.image[56, 16].argmax() == 0
    assert probe_video(str(path)) == (3, (64, 32))
    assert SideDataType(0) is SideDataType.PANSCAN  # the names that there are stay
    with pytest.raises(ValueError, match="'EXIF' is not a valid Type"):
        SideDataType("EXIF")


def test_a_turn_by_another_angle_is_said(
    numbers_video: WriteNumbers, caplog: pytest.LogCaptureFixture
) -> None:
    path = numbers_video("v.mov", 3)
    set_matrix(path, (1, 0, 0, 1))
    data = bytearray(Path(path).read_bytes())
    at = data.index(struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30))
    data[at : at + 20] = struct.pack(">5i", 46341, 46341, 0, -46341, 46341)
    Path(path).write_bytes(data)
    assert read_number(next(iter(VideoSource(path))).image) == 0
    assert "to be turned by 45 degrees: no quarter turn, it is not applied" in caplog.text


# ------------------------------------------------------------------ pixels that are not square


def write_anamorphic(path: Path, codec: str, aspect: Fraction) -> str:
    """A white square of 32 stored columns and 24 rows in the middle of 64 x 48."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = aspect
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[12:36, 16:48] = 255
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    return str(path)


@pytest.mark.parametrize(
    ("name", "codec", "aspect", "width"),
    [
        ("v.mp4", "libx264", Fraction(4, 3), 85),
        ("v.mkv", "libx264", Fraction(8, 9), 57),
        ("v.avi", "mpeg4", Fraction(2, 1), 128),
    ],
)
def test_people_are_as_wide_as_they_are_seen(
    tmp_path: Path, name: str, codec: str, aspect: Fraction, width: int
) -> None:
    path = write_anamorphic(tmp_path / name, codec, aspect)
    shown, trained = read_by_both(path, (48, width))
    for image in (shown[0], trained[0]):
        assert image.shape == (48, width, 3)
        columns = np.flatnonzero(image[24, :, 0] > 127)
        assert columns[[0, -1]] == pytest.approx([width / 4, width * 3 / 4 - 1], abs=1)
    # Labels that were made in the stored pixels say so by the size of their dataset.
    track = track_of(path, np.array([0]), (48, 64))
    assert FrameReader(0, "BGR").read(track, [0])[0].shape == (48, 64, 3)
    with pytest.raises(ValueError, match="the dataset says 48 x 65"):
        FrameReader(0, "BGR").read({**track, "width": 65}, [0])


def test_a_turned_anamorphic_picture_grows_along_its_own_rows(tmp_path: Path) -> None:
    path = write_anamorphic(tmp_path / "v.mp4", "libx264", Fraction(2, 1))
    set_matrix(path, (0, 1, -1, 0))
    assert next(iter(VideoSource(path))).image.shape == (128, 48, 3)


# ------------------------------------------------------------------ choice of the stream


def fake(index: int, size: tuple[int, int] = (8, 8), disposition: int = 0) -> SimpleNamespace:
    context = SimpleNamespace(width=size[0], height=size[1])
    return SimpleNamespace(index=index, disposition=disposition, codec_context=context, frames=0)


def chosen(streams: list[SimpleNamespace], best: int) -> int:
    listed = SimpleNamespace(video=streams, best=lambda kind: streams[best])
    return choose_stream(SimpleNamespace(streams=listed, name="v"), say=True).index


@pytest.mark.parametrize("picture", [0x400, 0x401, 0x400 | 0x800, 0x800, 0x100000])
def test_pictures_and_thumbnails_are_no_video(picture: int) -> None:
    assert chosen([fake(0, (900, 900), picture), fake(1)], best=0) == 1
    assert chosen([fake(0, (900, 900), picture)], best=0) == 0  # there is nothing else


def test_a_cover_picture_alone_is_said(caplog: pytest.LogCaptureFixture) -> None:
    assert chosen([fake(0, disposition=0x400)], best=0) == 0
    assert caplog.messages == ["v holds no video but a cover picture, which is read"]
    caplog.clear()
    assert chosen([fake(0, disposition=0x400), fake(1)], best=0) == 1
    assert chosen([fake(0, disposition=0x100000)], best=0) == 0 and caplog.text == ""


@pytest.mark.parametrize(
    ("transfer", "options", "line"),
    [
        (16, {}, r"v.mp4 is HDR \(PQ\)"),
        (18, {}, r"v.mp4 is HDR \(HLG\)"),
        (1, {"x264-params": "tff=1"}, "v.mp4 is interlaced"),
        (1, {}, None),
    ],
)
def test_what_is_not_applied_is_said_once(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    transfer: int,
    options: dict[str, str],
    line: str | None,
) -> None:
    """Also where reading begins behind the first frame, and where it is done twice."""
    path = tmp_path / "v.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.color_trc = transfer
        for _ in range(4):
            picture = np.full((48, 64, 3), 99, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    source = VideoSource(str(path))
    assert len(list(source.frames_from(2))) == 2 and len(list(source)) == 4
    assert len(caplog.messages) == (line is not None)
    assert line is None or re.search(line, caplog.text)


def test_the_stream_that_a_player_takes(caplog: pytest.LogCaptureFixture) -> None:
    assert chosen([fake(0), fake(1, disposition=1)], best=0) == 1
    assert chosen([fake(0), fake(1), fake(2)], best=2) == 2
    assert chosen([fake(0, disposition=1), fake(1, disposition=1)], best=1) == 1
    assert "stream 1 (8 x 8, default) is read, ignored: stream 0 (8 x 8)" in caplog.text
    with pytest.raises(ValueError, match="frames of 400 million pixels, the limit is 120"):
        chosen([fake(0, (20000, 20000))], best=0)


@pytest.mark.parametrize("name", ["v.mkv", "v.mov", "v.avi"])
def test_a_thumbnail_before_the_video(tmp_path: Path, name: str) -> None:
    with av.open(str(tmp_path / name), "w") as container:
        small = container.add_stream("mjpeg", rate=1)
        small.width, small.height, small.pix_fmt = 32, 24, "yuvj420p"
        large = container.add_stream("mpeg4", rate=25)
        large.width, large.height, large.pix_fmt = 64, 48, "yuv420p"
        for stream, count in ((small, 1), (large, 10)):
            for _ in range(count):
                picture = np.full((stream.height, stream.width, 3), 99, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
            container.mux(stream.encode())
    shown, trained = read_by_both(str(tmp_path / name), (48, 64))
    assert len(shown) == len(trained) == 10 and shown[0].shape == (48, 64, 3)


# ------------------------------------------------------------------ seeking


def count_decoded(video: VideoFile) -> Callable[[int], int]:
    """How many frames a read decodes."""
    count = [0]
    plain = video._decode

    def counting() -> Any:
        count[0] += 1
        return plain()

    video._decode = counting  # type: ignore[method-assign]

    def read(number: int) -> int:
        count[0] = 0
        video.decode_frame(number)
        return count[0]

    return read


@pytest.mark.parametrize("name", ["v.mp4", "v.mkv", "v.mov", "v.ts", "v.avi", "v.flv"])
def test_a_read_decodes_from_the_key_frame_before_it(
    numbers_video: WriteNumbers, name: str
) -> None:
    """Key frames come every 12 or sooner: n frames after one take n + 1 pictures, no group more."""
    codec, b_frames = ("mpeg4", 0) if name == "v.avi" else ("libx264", 3)
    video = VideoFile(numbers_video(name, 120, codec=codec, b_frames=b_frames))
    keys = [number for number, _ in video.index.keys]
    assert len(keys) >= 10 and max(np.diff(keys)) <= 12
    read = count_decoded(video)
    for number in (110, 14, 62, 25, 119, 3, 49):
        # Frames shown before the key frame, and stored behind it, may come out as well.
        key = max(key for key in keys if key <= number)
        assert read(number) <= number - key + 1 + b_frames, number


def test_thirty_clips_decode_what_they_need(numbers_video: WriteNumbers) -> None:
    """Clips of five frames at random places of an x264 file with B-frames, as training reads."""
    video = VideoFile(numbers_video("v.mp4", 240, b_frames=3))
    read, decoded = count_decoded(video), 0
    for start in np.random.default_rng(0).integers(0, 235, 30).tolist():
        decoded += sum(read(start + i) for i in range(5))
        assert video._next == start + 5
    # From a key frame to the clip's end: 5.5 + 5 pictures on average, and 3 that come along.
    assert decoded <= 30 * (5.5 + 5 + 3)


@pytest.mark.parametrize("codec", ["libx264", "mpeg4", "libx265"])
def test_damage_stays_in_its_group_of_pictures(numbers_video: WriteNumbers, codec: str) -> None:
    """One group (12 to 23) loses its first picture: before and behind it all can be read, in
    training by itself and in order."""

    path = Path(numbers_video("v.mp4", 48, codec=codec, b_frames=0 if codec == "mpeg4" else 2))

    with av.open(str(path)) as container:
        packets = [packet for packet in container.demux(video=0) if packet.size]
        second_key = [packet for packet in packets if packet.is_keyframe][1]
        at, size = second_key.pos, second_key.size
    data = bytearray(path.read_bytes())
    data[at + 4 : at + size] = bytes(size - 4)
    path.write_bytes(data)
    # The last pictures of x265's first group refer to the next key frame.
    good = [*range(12 if codec != "libx265" else 10), *range(24, 48)]
    for order in (good, good[::-1], np.random.default_rng(1).permutation(good).tolist()):
        video = VideoFile(str(path))
        for number in order:
            video.decode_frame(number)
    for number, number_before in itertools.product((12, 17), (None, 9, 30)):
        video = VideoFile(str(path))
        if number_before is not None:
            video.decode_frame(number_before)
        with pytest.raises(ValueError, match=r"v\.mp4"):
            video.decode_frame(number)


# ------------------------------------------------------------------ bare streams


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [("v.h264", "libx264", 50), ("v.m2v", "mpeg2video", 50), ("v.mjpeg", "mjpeg", None)],
)
def test_the_rate_of_a_bare_stream(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str, codec: str, rate: float | None
) -> None:
    """From the codec where it tells; else 25, and said. ``fps`` goes before both."""
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=50)
        stream.width, stream.height = 64, 48
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for i in range(6):
            picture = np.full((48, 64, 3), 40 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        container.mux(stream.encode())
    source = VideoSource(str(tmp_path / name))
    assert source.fps == (rate or 25)
    assert [frame.time for frame in source] == pytest.approx([i / source.fps for i in range(6)])
    assert ("25 frames a second are assumed" in caplog.text) == (rate is None)
    caplog.clear()
    source = VideoSource(str(tmp_path / name), fps=10)
    assert [frame.time for frame in source] == pytest.approx([i / 10 for i in range(6)])
    assert caplog.text == ""


def test_a_container_keeps_its_own_times(
    numbers_video: WriteNumbers, caplog: pytest.LogCaptureFixture
) -> None:
    source = VideoSource(numbers_video(), fps=5)
    assert [frame.time for frame in source][:3] == pytest.approx([0, 0.04, 0.08])
    assert "has times of its own" in caplog.text
    for wrong in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match="expected a number above 0"):
            VideoSource(numbers_video(), fps=wrong)


# ------------------------------------------------------------------ concealed damage


def test_pictures_after_a_lost_packet_are_counted(
    numbers_video: WriteNumbers, tmp_path: Path
) -> None:
    """A reference picture is missing: until the next key frame the decoder guesses."""
    whole = numbers_video("whole.mp4", 48, b_frames=2)
    with av.open(whole) as container:
        kinds = [(p.is_keyframe, p.size) for p in container.demux(video=0) if p.size]
    lost = next(i for i, (is_key, _) in enumerate(kinds) if is_key and i) + 1
    source = VideoSource(remux(whole, tmp_path / "lost.mkv", without=(lost,)))
    frames = [frame.index for frame in source]
    assert len(frames) == 47
    (problem,) = source.problems
    count = int(problem.split(": ")[1].split()[0])
    assert "may have made them up" in problem and 1 <= count <= 11


def test_a_damaged_transport_stream_says_how_many(
    numbers_video: WriteNumbers, tmp_path: Path
) -> None:
    path = Path(numbers_video("v.ts", 48, b_frames=0))
    data = path.read_bytes()
    assert len(data) % 188 == 0
    at = len(data) // 188 // 2 * 188
    path.write_bytes(data[:at] + data[at + 188 * 3 :])
    source = VideoSource(str(path))
    assert len(list(source)) <= 48
    assert any("made them up" in line or "could be read" in line for line in source.problems)


def test_whole_files_have_no_problems(
    numbers_video: WriteNumbers, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for name in ("v.mp4", "v.mkv", "v.ts"):
            source = VideoSource(numbers_video(name, 40, b_frames=3))
            assert len(list(source)) == 40 and source.problems == []
    assert caplog.text == ""


# ------------------------------------------------------------------ clocks that begin anew


@pytest.mark.parametrize("begins", [100, 9000])
def test_parts_that_were_joined_follow_each_other(
    numbers_video: WriteNumbers, caplog: pytest.LogCaptureFixture, begins: int
) -> None:
    """The second part's times lie between those of the first, or all before them."""
    first = Path(numbers_video("a.ts", 12, b_frames=2, stamps=[begins + 4 * i for i in range(12)]))
    second = Path(numbers_video("b.ts", 12, b_frames=2, stamps=[101 + 4 * i for i in range(12)]))
    first.write_bytes(first.read_bytes() + second.read_bytes())
    source = VideoSource(str(first))
    assert source.fps == pytest.approx(25) and source.restarts == 1
    frames = list(source)
    assert [frame.index for frame in frames] == list(range(24))
    assert [read_number(frame.image) for frame in frames] == 2 * list(range(12))
    assert np.diff([frame.time for frame in frames]) == pytest.approx(0.04)
    assert caplog.text.count("its clock begins anew (1 x)") == 1
    assert probe_video(str(first)) == (24, (HEIGHT, WIDTH))


def test_a_pause_of_the_camera_is_no_new_clock(numbers_video: WriteNumbers) -> None:
    stamps = [100 + 4 * i + 300_000 * (i >= 12) for i in range(24)]
    source = VideoSource(numbers_video("paused.ts", 24, b_frames=2, stamps=stamps))
    assert [frame.index for frame in source] == list(range(24)) and source.restarts == 0
    assert source.num_frames == 24


@pytest.mark.parametrize(
    ("stated", "step", "restarts", "rate"),
    [
        (25.0, Fraction(4, 100), 0, 25.0),
        (90_000.0, Fraction(4, 100), 0, 25.0),  # of the clock
        (12.0, Fraction(4, 100), 0, 12.0),  # the mean of a variable one
        (1.0, Fraction(4, 100), 1, 25.0),
        (90_000.0, None, 0, 25.0),  # of a single frame
        (240.0, None, 0, 240.0),
    ],
)
def test_a_rate_is_that_of_frames(
    stated: float, step: Fraction | None, restarts: int, rate: float
) -> None:
    ticks = None if step is None else float(step * 90_000)
    index = VideoIndex(None, [], [], 2, None, "", restarts, ticks)
    source = SimpleNamespace(_time_base=Fraction(1, 90_000))
    assert VideoSource._likely_rate(source, stated, index) == pytest.approx(rate)  # type: ignore[arg-type]
