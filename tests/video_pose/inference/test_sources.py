from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from video_pose.inference import sources
from video_pose.inference.sources import ArraySource, CameraSource, ImageSource, open_source
from video_pose.inference.video_source import VideoSource

WriteNumbers = Callable[..., str]
EXPECTED = "expected uint8 (H, W, 3) in the order BGR, or a Pillow image"
PERMUTED = "of a tensor (3, H, W) pass tensor.permute(1, 2, 0).numpy()"


def read_number(image: np.ndarray) -> int:
    """Bits of 8 columns in the lower half; the top quarter of an upright picture is white."""
    height, step = image.shape[0], image.shape[1] // 8
    assert image[: height // 8].mean() > 200, "the picture is not upright"
    low = image[height // 2 :]
    return sum(int(low[:, b * step : (b + 1) * step].mean() > 127) << b for b in range(8))


def numbers_and_times(source: VideoSource) -> tuple[list[int], list[int], list[float]]:
    """(numbers given, numbers in the pixels, times in hundredths of a second)."""
    frames = list(source)
    return (
        [frame.index for frame in frames],
        [read_number(frame.image) for frame in frames],
        [round(frame.time * 100, 3) for frame in frames],
    )


@pytest.mark.parametrize(
    ("name", "codec", "b_frames"),
    [
        ("a.mp4", "libx264", 3),
        ("a.mkv", "libx264", 3),
        ("a.avi", "mpeg4", 0),
        ("b.mp4", "mpeg4", 2),
    ],
)
def test_constant_rate(numbers_video: WriteNumbers, name: str, codec: str, b_frames: int) -> None:
    source = VideoSource(numbers_video(name, codec=codec, b_frames=b_frames))
    if name != "a.avi":
        assert numbers_and_times(source) == (
            list(range(30)), list(range(30)), [4.0 * i for i in range(30)]
        )  # fmt: skip
    else:  # AVI has no timestamps but a rate
        assert numbers_and_times(source)[:2] == (list(range(30)), list(range(30)))
    assert source.problems == []
    assert source.num_frames == 30


def test_variable_rate_keeps_every_time(numbers_video: WriteNumbers) -> None:
    stamps = np.cumsum(np.random.default_rng(0).integers(1, 30, 30)).tolist()
    stamps = [stamp - stamps[0] for stamp in stamps]
    source = VideoSource(numbers_video("variable.mp4", stamps=stamps))
    assert numbers_and_times(source) == (list(range(30)), list(range(30)), stamps)
    assert source.problems == []


@pytest.mark.parametrize(
    ("matrix", "turns"),
    [((0, 1, -1, 0), -1), ((0, -1, 1, 0), 1), ((-1, 0, 0, -1), 2), ((1, 0, 0, 1), 0)],
)
def test_rotation_metadata_turn_the_picture(
    numbers_video: WriteNumbers, matrix: tuple[int, ...], turns: int
) -> None:
    """(a, b, c, d) of the track header: x' = a x + c y, y' = b x + d y, y down. (0, 1, -1, 0) takes
    the right side to the bottom: a quarter turn clockwise, np.rot90 by -1."""
    path = Path(numbers_video())
    plain = [frame.image for frame in VideoSource(str(path))]
    data = path.read_bytes()
    identity = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    a, b, c, d = (value << 16 for value in matrix)
    at = data.index(identity, data.index(b"tkhd"))
    turned = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data[:at] + turned + data[at + 36 :])
    for before, after in zip(plain, VideoSource(str(path)), strict=True):
        np.testing.assert_array_equal(after.image, np.rot90(before, turns))


def test_truncated_video_gives_what_exists_and_says_so(numbers_video: WriteNumbers) -> None:
    path = Path(numbers_video(count=120, options={"movflags": "faststart"}))
    data = path.read_bytes()
    media = data.index(b"mdat")
    path.write_bytes(data[: media + (len(data) - media) // 2])
    source = VideoSource(str(path))
    given, seen, _ = numbers_and_times(source)
    assert 0 < len(given) < 120
    assert given == seen == sorted(given)
    assert len(source.problems) == 1
    assert re.search(rf"truncated, {len(given)} of 120 frames", source.problems[0])


@pytest.mark.parametrize("name", ["short.mkv", "short.avi"])
def test_truncated_files_without_a_count_are_noticed(
    numbers_video: WriteNumbers, name: str
) -> None:
    """The index of such a file has only what is there; its sizes tell."""
    codec = "libx264" if name.endswith("mkv") else "mjpeg"
    path = Path(numbers_video(name, codec=codec, b_frames=0))
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes()[: whole * 2 // 3])
    source = VideoSource(str(path))
    count = len(list(source))
    assert 0 < count < 30
    assert len(source.problems) == 1
    expected = f"truncated, {whole - whole * 2 // 3} bytes are missing at its end; {count} frames"
    assert expected in source.problems[0]


def test_a_damaged_frame_does_not_shift_the_later_ones(numbers_video: WriteNumbers) -> None:
    """Wiping a packet of a stream of key frames loses that frame; the others keep their numbers."""
    path = Path(numbers_video("keys.mp4", codec="mjpeg", b_frames=0))
    with av.open(str(path)) as container:
        packets = [p for p in container.demux(video=0) if p.size]
        at, size = packets[7].pos, packets[7].size
    data = bytearray(path.read_bytes())
    data[at : at + size] = bytes(size)
    path.write_bytes(data)
    source = VideoSource(str(path))
    given, seen, _ = numbers_and_times(source)
    assert given == seen == [i for i in range(30) if i != 7]
    assert "29 of 30" in source.problems[0]


def test_unreadable_files_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nothing.mp4"):
        open_source(str(tmp_path / "nothing.mp4"))
    (tmp_path / "empty.mp4").touch()
    with pytest.raises(ValueError, match="empty.mp4: the file is empty"):
        open_source(str(tmp_path / "empty.mp4"))
    (tmp_path / "text.mp4").write_text("no video" * 100)
    with pytest.raises(ValueError, match="cannot read video .*text.mp4"):
        open_source(str(tmp_path / "text.mp4"))
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(ValueError, match="holds no video stream"):
        open_source(str(tmp_path / "sound.wav"))


def test_an_absent_camera_is_a_clear_error(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="camera 77 cannot be opened"):
        open_source("camera:77")
    assert capfd.readouterr().err == ""


def test_images_in_natural_order_with_odd_ones_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for i in (10, 2, 1):
        cv2.imwrite(str(tmp_path / f"frame{i}.png"), np.full((8, 16, 3), i, np.uint8))
    cv2.imwrite(str(tmp_path / "frame11.png"), np.full((4, 16, 3), 11, np.uint8))
    (tmp_path / "frame3.png").write_bytes(b"broken")
    (tmp_path / "notes.txt").touch()
    for spec in (str(tmp_path), str(tmp_path / "frame*.png")):
        source = open_source(spec, fps=10)
        frames = list(source)
        assert [frame.image[0, 0, 0] for frame in frames] == [1, 2, 10, 11]
        # frame3.png keeps its place: a gap in numbers and times.
        assert [frame.index for frame in frames] == [0, 1, 3, 4]
        assert [frame.time for frame in frames] == pytest.approx([0, 0.1, 0.3, 0.4])
        assert "frame3.png: cannot be read" in source.problems[0]
        assert len(source.problems) == 1
        # The notice reaches the log whatever handlers other code has set up.
        assert [record.getMessage() for record in caplog.records] == [
            f"{tmp_path / 'frame11.png'}: 16 x 4 px (width x height), the first image is 16 x 8; "
            "its poses are in its own pixels. With --photos pictures are no sequence"
        ]
        caplog.clear()
    with pytest.raises(FileNotFoundError, match="no image matches"):
        open_source(str(tmp_path / "*.jpg"))
    (tmp_path / "bare").mkdir()
    with pytest.raises(ValueError, match=r"no image in bare \(of .*\.png, .*\.webp.*\)"):
        open_source(str(tmp_path / "bare"))


def test_pictures_in_memory() -> None:
    """A list, one array, and views in the other channel order."""
    pictures = np.arange(2 * 4 * 6 * 3, dtype=np.uint8).reshape(2, 4, 6, 3)
    for spec in (pictures, list(pictures), tuple(picture for picture in pictures)):
        frames = list(open_source(spec, fps=5))
        assert [(frame.index, frame.time) for frame in frames] == [(0, 0.0), (1, 0.2)]
        np.testing.assert_array_equal([frame.image for frame in frames], pictures)
    (turned,) = open_source([pictures[0][:, :, ::-1]])
    assert turned.image.flags.c_contiguous and turned.image[0, 0].tolist() == [2, 1, 0]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (np.zeros((0, 4, 6, 3), np.uint8), "no image"),
        (
            [np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8)],
            r"picture 1 is uint8 \(4, 6\)",
        ),
        ([np.zeros((4, 6, 3))], "picture 0 is float64"),
        (
            [np.zeros((4, 6, 3), np.uint8), "a.png"],
            "a list of pictures holds files and arrays: expected one kind",
        ),
        (np.zeros((4, 6), np.uint8), r"^picture 0 is uint8 \(4, 6\): "),
        (np.zeros((4, 6, 1), np.uint8), r"^picture 0 is uint8 \(4, 6, 1\): "),
        (np.zeros((2, 2, 4, 6, 3), np.uint8), r"^picture 0 is uint8 \(2, 4, 6, 3\): "),
        (np.zeros((0, 6, 3), np.uint8), r"^picture 0 is uint8 \(0, 6, 3\): "),  # a crop of nothing
        (Image.new("RGB", (0, 6)), r"^picture 0 is Image \(0, 6\)"),
    ],
)
def test_arrays_that_are_no_pictures(spec: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        open_source(spec)


def test_paths_serve_as_names(tmp_path: Path, numbers_video: WriteNumbers) -> None:
    assert open_source(Path(numbers_video())).num_frames == 30
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    assert open_source([tmp_path / "a.png"]).num_frames == 1


def test_pictures_that_come_one_by_one() -> None:
    """As an SDK of a camera gives them: none is taken before it is asked for, but the first."""
    made = []

    def camera() -> Iterator[np.ndarray]:
        for value in range(4):
            made.append(value)
            yield np.full((4, 6, 3), value, np.uint8)

    source = open_source(camera(), fps=10)
    assert made == [0] and source.num_frames is None
    frames = iter(source)
    assert next(frames).image[0, 0, 0] == 0 and made == [0]
    assert [(frame.index, frame.time) for frame in frames] == [(1, 0.1), (2, 0.2), (3, 0.3)]
    with pytest.raises(ValueError, match="serves once"):
        next(iter(source))


def test_pictures_of_other_libraries() -> None:
    red = Image.new("RGB", (6, 4), (255, 0, 0))
    for spec in (red, [red], iter([red]), np.asarray(red)[:, :, ::-1]):
        (frame,) = open_source(spec)
        assert frame.image.shape == (4, 6, 3) and frame.image[0, 0].tolist() == [0, 0, 255]
    (grey,) = open_source(Image.fromarray(np.full((4, 6), 65535, np.uint16)))
    assert grey.image[0, 0].tolist() == [255, 255, 255]


def test_paths_that_come_one_by_one(tmp_path: Path) -> None:
    for name in "ab":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((8, 8, 3), np.uint8))
    assert len(list(open_source(tmp_path.glob("*.png")))) == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            torch.zeros(3, 4, 6, dtype=torch.uint8),
            f"a source is a tensor, torch.uint8 (3, 4, 6): {EXPECTED}; {PERMUTED}",
        ),
        (
            [torch.zeros(3, 4, 6)],
            f"picture 0 is a tensor, torch.float32 (3, 4, 6): {EXPECTED}; {PERMUTED}",
        ),
        (
            torch.nn.Parameter(torch.zeros(3, 4, 6)),
            f"a source is a tensor, torch.float32 (3, 4, 6): {EXPECTED}; {PERMUTED}",
        ),
        (iter([np.zeros((4, 6), np.uint8)]), f"picture 0 is uint8 (4, 6): {EXPECTED}"),
        (np.zeros((4, 6, 4), np.uint8), f"picture 0 is uint8 (4, 6, 4): {EXPECTED}"),
        (np.zeros((4, 6, 3)), f"picture 0 is float64 (4, 6, 3): {EXPECTED}"),
        (iter([]), "a list of pictures is empty"),
        (2.5, f"a source is float: {EXPECTED}"),
        (True, "True is no source"),
    ],
)
def test_what_is_no_source_is_refused_at_the_call(spec: object, message: str) -> None:
    with pytest.raises(ValueError) as error:
        open_source(spec)  # type: ignore[arg-type]
    assert str(error.value) == message


def test_a_wrong_picture_in_a_stream_is_named_with_its_number() -> None:
    pictures = iter([np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6, 3), np.float32)])
    frames = iter(open_source(pictures))
    next(frames)
    with pytest.raises(ValueError, match="picture 1 is float32"):
        next(frames)


def test_a_folder_with_one_video_is_that_video(numbers_video: WriteNumbers, tmp_path: Path) -> None:
    numbers_video()
    assert open_source(str(tmp_path)).num_frames == 30
    assert open_source(str(tmp_path / "*.mp4")).num_frames == 30
    numbers_video("second.mp4")
    with pytest.raises(ValueError) as error:
        open_source(str(tmp_path))
    assert str(error.value) == (
        f"{tmp_path} holds 0 images and 2 videos: open one of them at a time (see find_inputs)"
    )
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.zeros((8, 8, 3), np.uint8))
    (tmp_path / "second.mp4").unlink()
    with pytest.raises(ValueError, match="holds 2 images and 1 videos: open one of them"):
        open_source(str(tmp_path))


@pytest.mark.parametrize("rate", [0, -1, float("inf"), float("nan")])
def test_a_rate_that_is_none_is_refused(tmp_path: Path, rate: float) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    for spec in (str(tmp_path), [np.zeros((4, 6, 3), np.uint8)]):
        with pytest.raises(ValueError, match=f"fps is {rate}: expected a number above 0"):
            open_source(spec, fps=rate)
    assert open_source(str(tmp_path)).fps == 25 and open_source(str(tmp_path), fps=0.5).fps == 0.5


def test_places_that_are_nothing_to_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for spec, kind, words in (
        ("pipe", ValueError, "it is neither a regular file nor a folder"),
        ("absent.mp4", FileNotFoundError, "no such file, folder or pattern"),
        ("*.mkv", FileNotFoundError, "no image matches .*, nor a video"),
        (".", ValueError, "no image in "),
    ):
        with pytest.raises(kind, match=words):
            open_source(str(tmp_path / spec))
    with pytest.raises(ValueError, match="no image in an empty list"):
        open_source([])


def test_pictures_of_a_pattern_and_of_a_folder_have_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "walk"
    folder.mkdir()
    for name in "ab":
        cv2.imwrite(str(folder / f"{name}.png"), np.zeros((8, 8, 3), np.uint8))
    assert [open_source(str(folder / spec)).name for spec in ("*.png", ".", "a.png")] == [
        "walk", "walk", "a.png",
    ]  # fmt: skip
    assert open_source([str(folder / "a.png")] * 2).name == "images"
    assert open_source(str(folder / "a*.png")).name == "walk"
    (tmp_path / "run").mkdir()
    cv2.imwrite(str(tmp_path / "run" / "c.png"), np.zeros((8, 8, 3), np.uint8))
    assert open_source(str(tmp_path / "*" / "*.png")).name == "run"  # of the first


def test_damaged_pictures_keep_their_number_and_time(tmp_path: Path) -> None:
    """The second of three cannot be read; the last has another size, which is said."""
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((8, 10, 3), np.uint8))
    (tmp_path / "2.png").write_bytes(b"nothing")
    cv2.imwrite(str(tmp_path / "3.png"), np.zeros((6, 10, 3), np.uint8))
    source = open_source(str(tmp_path), fps=4)
    assert [(f.index, f.time, f.image.shape) for f in source] == [
        (0, 0.0, (8, 10, 3)), (2, 0.5, (6, 10, 3)),
    ]  # fmt: skip
    (problem,) = source.problems
    assert problem.startswith(f"{tmp_path}/2.png: cannot be read (") and source.num_frames == 3
    assert len(list(source)) == 2 and len(source.problems) == 1  # not twice


def test_pages_have_times_of_their_own_unless_a_rate_is_given(tmp_path: Path) -> None:
    pages = [Image.new("RGB", (8, 8), (i * 40, 0, 0)) for i in range(3)]
    path = tmp_path / "a.webp"
    pages[0].save(path, save_all=True, append_images=pages[1:], duration=[100, 300, 50])
    assert [frame.time for frame in open_source(str(path))] == pytest.approx([0, 0.1, 0.4])
    assert [frame.time for frame in open_source(str(path), fps=2)] == [0, 0.5, 1]
    assert open_source(str(path)).num_frames == 3


def test_pictures_after_an_odd_one_are_held_against_the_first(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, height in (("1", 8), ("2", 6), ("3", 8), ("4", 6)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((height, 10, 3), np.uint8))
    assert len(list(open_source(str(tmp_path)))) == 4
    said = [Path(record.getMessage().split(": ")[0]).name for record in caplog.records]
    assert said == ["2.png", "4.png"]


def test_a_single_picture_that_cannot_be_read_is_told_by_the_reading(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"nothing")
    for name in ("broken.png", "absent.png"):
        source = open_source([tmp_path / name])
        assert source.num_frames == 1 and list(source) == [] and len(source.problems) == 1
        assert source.problems[0].startswith(f"{tmp_path / name}: cannot be read (")


def test_pages_of_several_files_come_at_one_rate(tmp_path: Path) -> None:
    """Their own times would each begin at 0; a page that tells no time lasts as long as one of the
    rate."""
    pages = [Image.new("RGB", (8, 8), (i * 40, 0, 0)) for i in range(2)]
    for name in ("a.webp", "b.webp"):
        pages[0].save(tmp_path / name, save_all=True, append_images=pages[1:], duration=300)
    both = list(open_source(str(tmp_path)))
    assert [f.time for f in both] == pytest.approx([0, 0.04, 0.08, 0.12])
    assert [f.index for f in both] == [0, 1, 2, 3]
    pages[0].save(tmp_path / "c.tiff", save_all=True, append_images=pages[1:])
    assert [f.time for f in open_source(str(tmp_path / "c.tiff"))] == pytest.approx([0, 0.04])


def test_a_file_that_breaks_off_behind_its_first_page_has_the_place_of_its_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two pages and then damage are two frames; a file without one is a gap of one."""
    pages = {"a": 2, "b": 0, "c": 1}

    def read_pages(path: str) -> Iterator[tuple[np.ndarray, float | None]]:
        for _ in range(pages[path]):
            yield np.zeros((8, 8, 3), np.uint8), None
        if path != "c":
            raise ValueError("torn")

    monkeypatch.setattr(sources, "read_pages", read_pages)
    source = ImageSource(["a", "b", "c"], "x", 2.0)
    assert [(f.index, f.time) for f in source] == [(0, 0.0), (1, 0.5), (3, 1.5)]
    assert source.problems == ["a: cannot be read (torn)", "b: cannot be read (torn)"]


def test_a_list_of_pictures_serves_twice_and_an_iterator_once() -> None:
    """Correction by the whole video reads it twice."""
    pictures = [np.full((4, 6, 3), value, np.uint8) for value in (1, 2)]
    for spec in (pictures, np.stack(pictures), tuple(pictures)):
        source = ArraySource(spec)
        assert source.reads_twice and source.num_frames == 2 and source.name == "arrays"
        assert [len(list(source)) for _ in range(2)] == [2, 2]
    source = ArraySource(iter(pictures))
    assert not source.reads_twice and source.num_frames is None and len(list(source)) == 2
    with pytest.raises(ValueError) as error:
        list(source)
    assert str(error.value) == (
        "an iterator of pictures serves once: pass a list, or a new iterator"
    )
    with pytest.raises(ValueError, match="^picture 1 is uint8"):  # before the first is worked on
        ArraySource([pictures[0], pictures[1][0]])


@pytest.mark.parametrize("spec", ["rtsp://h/a.png", "http://h/v.mp4", "v.mp4", ".", "*.mp4"])
def test_how_long_a_stream_is_waited_for_is_handed_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: str
) -> None:
    """Whatever a video is named by; an address may end as a picture's name does."""
    asked = []

    class Video:
        def __init__(self, *arguments: object) -> None:
            asked.append(arguments)

    monkeypatch.setattr(sources, "VideoSource", Video)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "v.mp4").write_bytes(b"x")
    assert isinstance(open_source(spec, 5.0, 7.0, 2), Video)
    (arguments,) = asked
    assert arguments[1:] == (5.0, 7.0, 2)
    assert Path(arguments[0]).name == ("v.mp4" if "://" not in spec else Path(spec).name)


@pytest.mark.parametrize("spec", [3, "camera:3", "camera:03"])
def test_a_camera_by_its_number(monkeypatch: pytest.MonkeyPatch, spec: int | str) -> None:
    asked = []
    monkeypatch.setattr(sources, "CameraSource", lambda *arguments: asked.append(arguments))
    open_source(spec, None, 7.0, 2)
    assert asked == [(3, 7.0, 2)]
    with pytest.raises(FileNotFoundError, match="no such file, folder or pattern: camera:x"):
        open_source("camera:x")


def test_opencvs_words_come_back_after_a_camera_was_asked_for() -> None:
    log = cv2.utils.logging
    before = log.getLogLevel()
    try:
        log.setLogLevel(log.LOG_LEVEL_WARNING)
        with sources._silent_opencv():
            assert log.getLogLevel() == log.LOG_LEVEL_SILENT
        with pytest.raises(KeyError), sources._silent_opencv():
            raise KeyError
        assert log.getLogLevel() == log.LOG_LEVEL_WARNING
    finally:
        log.setLogLevel(before)


def test_a_capture_that_was_closed_is_refused() -> None:
    with pytest.raises(ValueError) as error:
        CameraSource(cv2.VideoCapture())
    assert str(error.value) == "an open cv2.VideoCapture is expected: this one is closed"


@pytest.mark.parametrize("module", ["ximea.api", "a"])
def test_pictures_of_any_library_that_gives_them_one_by_one(module: str) -> None:
    """But for tensors, nothing is refused by its name."""

    class Camera:
        def __iter__(self) -> Iterator[np.ndarray]:
            return iter([np.zeros((4, 6, 3), np.uint8)] * 2)

    Camera.__module__ = module
    assert len(list(open_source(Camera()))) == 2
