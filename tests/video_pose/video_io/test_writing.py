from __future__ import annotations

import errno
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from video_pose.inference.video_source import VideoSource
from video_pose.video_io.pictures import read_picture
from video_pose.video_io.writing import PictureWriter, VideoWriter, check_writable


def grey(value: int, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


def test_times_and_pictures_come_back(tmp_path: Path) -> None:
    path = str(tmp_path / "out.mp4")
    times = [1.0, 1.04, 1.5, 1.52, 3.0]
    with VideoWriter(path, 25) as writer:
        for i, time in enumerate(times):
            writer.write(grey(40 * i), time)
    frames = list(VideoSource(path))
    # The written video begins at 0.
    assert [frame.time for frame in frames] == pytest.approx([t - 1 for t in times], abs=1e-4)
    assert [round(frame.image.mean() / 40) for frame in frames] == [0, 1, 2, 3, 4]
    assert writer.codec in ("libx264", "libopenh264", "mpeg4")


def test_mpeg4_where_there_is_no_h264(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("av.codecs_available", {"mpeg4"})
    path = str(tmp_path / "out.mp4")
    with VideoWriter(path, 30) as writer:
        for i in range(6):
            writer.write(grey(40 * i), i / 30)
    monkeypatch.undo()
    assert writer.codec == "mpeg4"
    frames = list(VideoSource(path))
    assert [round(frame.image.mean() / 40) for frame in frames] == list(range(6))
    assert [frame.time for frame in frames] == pytest.approx([i / 30 for i in range(6)], abs=1e-3)


def test_odd_sizes_and_a_size_that_changes(tmp_path: Path) -> None:
    path = str(tmp_path / "out.mp4")
    with VideoWriter(path, 25) as writer:
        writer.write(grey(200, (33, 51)), 0)
        writer.write(grey(200, (33, 102)), 0.04)
    first, second = (frame.image for frame in VideoSource(path))
    assert first.shape == (34, 52, 3)
    assert abs(int(first[-1, -1, 0]) - 200) < 6
    # 33 x 102 becomes 16 x 51 or so: bright in the middle, margins above and below.
    assert second[17, 26, 0] > 190 and second[1, 26, 0] < 80 and second[32, 26, 0] < 80


def test_a_time_that_stands_still_moves_on(tmp_path: Path) -> None:
    path = str(tmp_path / "out.mp4")
    with VideoWriter(path, 25) as writer:
        for _ in range(3):
            writer.write(grey(9), 0.0)
    assert len(list(VideoSource(path))) == 3


def test_an_unfinished_file_plays_up_to_the_last_second(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "out.mp4", 25)
    for i in range(100):
        writer.write(grey(i), i / 25)
    copy = tmp_path / "killed.mp4"
    copy.write_bytes((tmp_path / "out.mp4").read_bytes())
    writer.close()
    assert len(list(VideoSource(str(copy)))) >= 75
    assert len(list(VideoSource(str(tmp_path / "out.mp4")))) == 100


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot write .*nowhere"):
        VideoWriter(tmp_path / "nowhere" / "out.mp4", 25)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="cannot write to .*file"):
        check_writable(tmp_path / "file" / "sub")
    with VideoWriter(tmp_path / "none.mp4", 25):
        pass
    assert not (tmp_path / "none.mp4").exists()


def _with_sound(path: Path, codec: str, seconds: float = 2.0) -> str:
    """Grey pictures, and a tone of 440 Hz that begins after one second."""
    rate = 44100
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=25)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream(codec, rate=rate)
        audio.layout = "stereo"
        resampler = av.AudioResampler(audio.format.name, "stereo", rate)
        for start in range(0, int(seconds * rate), 1024):
            at = (np.arange(1024) + start) / rate
            tone = (np.sin(2 * np.pi * 440 * at) * 9000 * (at >= 1)).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(np.repeat(tone, 2)[None], "s16", "stereo")
            frame.sample_rate, frame.pts, frame.time_base = rate, start, Fraction(1, rate)
            for part in resampler.resample(frame):
                container.mux(audio.encode(part))
        for i in range(int(seconds * 25)):
            picture = av.VideoFrame.from_ndarray(grey(i % 200), format="bgr24")
            container.mux(video.encode(picture))
        container.mux(video.encode())
        container.mux(audio.encode())
    return str(path)


@pytest.mark.parametrize(
    ("name", "codec"), [("a.mp4", "aac"), ("a.avi", "pcm_s16le"), ("a.mkv", "flac")]
)
def test_the_sound_goes_along_by_the_times_of_the_frames(
    tmp_path: Path, name: str, codec: str
) -> None:
    """Frames from .6 s on: the tone, which begins at 1 s, is to begin at .4 s."""
    source = _with_sound(tmp_path / name, codec)
    path = str(tmp_path / "out.mp4")
    with VideoWriter(path, 25, audio=source) as writer:
        for i in range(15, 50):
            writer.write(grey(i), i / 25)
    with av.open(path) as container:
        rate = container.streams.audio[0].rate
        planar = av.AudioResampler("fltp", "stereo", rate).resample
        frames = [part for frame in container.decode(audio=0) for part in planar(frame)]
        sound = np.concatenate([frame.to_ndarray()[0] for frame in frames])
    begin = frames[0].time + np.argmax(np.abs(sound) > 0.2 * np.abs(sound).max()) / rate
    assert begin == pytest.approx(0.4, abs=0.04)
    assert len(sound) / rate == pytest.approx(1.4, abs=0.12)
    assert len(list(VideoSource(path))) == 35


def test_a_source_without_sound_gives_none(tmp_path: Path) -> None:
    silent, broken = str(tmp_path / "silent.mp4"), tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    for audio in (None, silent, str(broken), str(tmp_path / "gone.mp4")):
        path = silent if audio is None else str(tmp_path / "out.mp4")
        with VideoWriter(path, 25, audio=audio) as writer:
            writer.write(grey(9), 0)
        with av.open(path) as container:
            assert [stream.type for stream in container.streams] == ["video"]


def _sounds(path: str) -> tuple[int, float]:
    """Pictures of a video, and seconds of its sound; it must be decoded without an error."""
    with av.open(path) as container:
        pictures = sum(1 for _ in container.decode(video=0))
    with av.open(path) as container:
        if not container.streams.audio:
            return pictures, 0.0
        rate = container.streams.audio[0].rate
        return pictures, sum(frame.samples for frame in container.decode(audio=0)) / rate


def _copy(source: str, path: str, count: int = 75) -> None:
    with av.open(source) as container:
        start = container.start_time / av.time_base
    with VideoWriter(path, 25, audio=source) as writer:
        for i in range(count):
            writer.write(grey(i), start + i / 25)


@pytest.mark.parametrize("codec", ["aac", "ac3", "mp2", "libmp3lame"])
@pytest.mark.parametrize("joined", [False, True])
def test_the_sound_of_a_transport_stream_goes_along(
    tmp_path: Path, codec: str, joined: bool
) -> None:
    """AAC has a header in each packet there; of two files in one the times jump back."""
    source = Path(_with_sound(tmp_path / "a.ts", codec))
    source.write_bytes(source.read_bytes() * (2 if joined else 1))
    path = str(tmp_path / "out.mp4")
    _copy(str(source), path)
    pictures, seconds = _sounds(path)
    assert pictures == 75
    assert seconds == pytest.approx(2.0, abs=0.2)


def test_damaged_sound_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = tmp_path / "a.ts"
    data = bytearray(Path(_with_sound(source, "aac", 4.0)).read_bytes())
    # The sync word of every header in the second half.
    place = data.find(b"\xff\xf1", len(data) // 2)
    while place >= 0:
        data[place : place + 2] = b"\0\0"
        place = data.find(b"\xff\xf1", place)
    source.write_bytes(data)
    path = str(tmp_path / "out.mp4")
    _copy(str(source), path)
    assert _sounds(path)[0] == 75
    assert _sounds(path)[1] == pytest.approx(2.25, abs=0.3)
    assert caplog.text.count("a.ts: damaged parts of its sound are left out") == 1


@pytest.mark.parametrize("name", ["aac", "pcm_s16le"])
def test_sound_that_the_file_does_not_take_leaves_the_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog, name: str
) -> None:
    source = _with_sound(tmp_path / ("a.mp4" if name == "aac" else "a.avi"), name)
    given = []

    class Container:
        def __init__(self, inner) -> None:
            self._inner = inner

        def __getattr__(self, attribute: str):
            return getattr(self._inner, attribute)

        def mux(self, packets) -> None:
            if not isinstance(packets, list):  # a packet of sound
                given.append(packets)
                if len(given) == 10:
                    raise trouble
            self._inner.mux(packets)

    trouble: OSError = av.error.ArgumentError(22, "times do not grow")

    path = str(tmp_path / "out.mp4")
    with VideoWriter(path, 25, audio=source) as writer:
        writer._container = Container(writer._container)
        for i in range(50):
            writer.write(grey(i), i / 25)
    pictures, seconds = _sounds(path)
    assert pictures == 50 and 0 < seconds < 1
    assert len(given) == 10
    assert caplog.text.count("the sound breaks off (times do not grow)") == 1
    # A full disk is no fault of the sound.
    given.clear()
    trouble = av.error.OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space left"):
        with VideoWriter(str(tmp_path / "full.mp4"), 25, audio=source) as writer:
            writer._container = Container(writer._container)
            for i in range(50):
                writer.write(grey(i), i / 25)


@pytest.mark.parametrize("codec", ["aac", "ac3"])
@pytest.mark.parametrize("since", [-20.0, 20.0])
def test_a_part_of_a_video_that_is_silent(tmp_path: Path, codec: str, since: float) -> None:
    source = _with_sound(tmp_path / "a.ts", codec)
    path = str(tmp_path / "out.mp4")
    with VideoWriter(path, 25, audio=source) as writer:
        for i in range(10):
            writer.write(grey(i), since + i / 25)
    assert _sounds(path) == (10, 0.0)


def test_sound_of_a_rate_that_aac_does_not_know(tmp_path: Path) -> None:
    source = str(tmp_path / "a.wav")
    with av.open(source, "w") as container:
        stream = container.add_stream("pcm_s16le", rate=192_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 384_000), np.int16), "s16", "stereo")
        frame.sample_rate = 192_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    path = str(tmp_path / "out.mp4")
    with VideoWriter(path, 25, audio=source) as writer:
        for i in range(25):
            writer.write(grey(i), i / 25)
    assert _sounds(path) == (25, pytest.approx(1.0, abs=0.05))


def test_no_second_connection_for_sound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with VideoWriter(tmp_path / "out.mp4", 25, audio="rtsp://camera/1") as writer:
        monkeypatch.setattr("av.open", None)  # it could wait there for ever
        writer.write(grey(9), 0)
    assert "rtsp://camera/1: sound is kept of files alone" in caplog.text


def test_names_that_look_like_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = "2024-05-06T12:30:11.mp4"
    with VideoWriter(name, 25) as writer:
        writer.write(grey(9), 0)
    assert (tmp_path / name).exists()
    with VideoWriter("b:0.mp4", 25, audio=name) as writer:
        writer.write(grey(9), 0)
    assert len(list(VideoSource(name))) == len(list(VideoSource("b:0.mp4"))) == 1


@pytest.mark.parametrize("codecs", [{"libx264"}, {"mpeg4"}])
def test_a_time_lapse_of_a_frame_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codecs: set[str]
) -> None:
    if not codecs & av.codecs_available:
        pytest.skip("this PyAV has no such encoder")
    monkeypatch.setattr("av.codecs_available", codecs)
    path = str(tmp_path / "out.mp4")
    with VideoWriter(path, 1 / 3600) as writer:
        for i in range(3):
            writer.write(grey(40 * i), i * 3600.0)
    monkeypatch.undo()
    assert [frame.time for frame in VideoSource(path)] == pytest.approx([0, 3600, 7200], abs=0.01)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device of Linux")
def test_a_full_disk_is_one_error_with_the_files_name() -> None:
    writer = VideoWriter("/dev/full", 25, name="out/v.mp4")
    noise = np.random.default_rng(0)
    with pytest.raises(OSError, match="^cannot write out/v.mp4: No space left on device$"):
        for i in range(100):
            writer.write(noise.integers(0, 255, (120, 160, 3), dtype=np.uint8), i / 25)
    writer.close()  # says it no second time


@pytest.mark.parametrize("ending", [".jpg", ".png"])
def test_a_picture_is_written_once(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"photo{ending}"
    picture = np.full((30, 41, 3), (20, 90, 200), np.uint8)
    with PictureWriter(path) as writer:
        writer.write(picture, 0.0)
        with pytest.raises(ValueError, match="photo.*a second picture"):
            writer.write(picture, 0.04)
    assert np.abs(read_picture(str(path)).astype(int) - picture).max() <= 2
    assert [item.name for item in tmp_path.iterdir()] == [path.name]


def test_a_picture_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="photo.jpg: cannot be encoded"):
        PictureWriter(tmp_path / "photo.jpg").write(np.zeros((1, 70_000, 3), np.uint8))
    with pytest.raises(OSError, match="mine.jpg"):
        PictureWriter(tmp_path / "gone" / "x.jpg", "mine.jpg").write(grey(1))
    assert list(tmp_path.iterdir()) == []
