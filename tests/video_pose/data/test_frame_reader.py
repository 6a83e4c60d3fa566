from __future__ import annotations

import multiprocessing
import os
import pickle
import shutil
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from video_pose.data import frame_reader
from video_pose.data.frame_reader import FrameReader, VideoFile
from video_pose.video_io.reading import VideoIndex

FRAMES = 40
SIZE = (64, 128)  # height, width
BITS = 8


def _number_picture(number: int) -> np.ndarray:
    """The frame's number in black and white stripes, which survive lossy coding."""
    bits = [(number >> bit) & 1 for bit in range(BITS)]
    row = np.repeat(np.array(bits, np.uint8) * 255, SIZE[1] // BITS)
    return np.repeat(np.tile(row, (SIZE[0], 1))[:, :, None], 3, axis=2)


def _read_number(image: np.ndarray) -> int:
    step = SIZE[1] // BITS
    return sum(int(image[:, b * step : (b + 1) * step].mean() > 127) << b for b in range(BITS))


def _write_video(
    path: str,
    codec: str,
    b_frames: int,
    stamps: list[int] | None = None,
    aspect: Fraction = Fraction(1),
) -> str:
    """A video with a key frame every 12 frames; frame i is stamped ``stamps[i]`` (default i)."""
    with av.open(path, "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = SIZE[1], SIZE[0], "yuv420p"
        stream.codec_context.gop_size = 12
        if aspect != 1:
            stream.codec_context.sample_aspect_ratio = aspect
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.time_base = Fraction(1, 25)
        for i in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(_number_picture(i), format="rgb24")
            frame.pts = i if stamps is None else stamps[i]
            frame.time_base = Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(
    scope="module", params=["h264.mp4", "h264.mkv", "mpeg4.avi", "mpeg4_b.mp4", "variable.mp4"]
)
def video(request, tmp_path_factory) -> str:
    path = str(tmp_path_factory.mktemp("video") / request.param)
    if request.param == "variable.mp4":
        # Uneven steps: a time is no frame number.
        steps = np.random.default_rng(0).integers(1, 9, FRAMES)
        return _write_video(path, "libx264", 2, np.cumsum(steps).tolist())
    codec = "libx264" if request.param.startswith("h264") else "mpeg4"
    return _write_video(path, codec, 0 if request.param == "mpeg4.avi" else 2)


def _track(path: str, numbers: np.ndarray | None = None) -> dict:
    numbers = np.arange(FRAMES) if numbers is None else numbers
    return {
        "video_id": "v",
        "video_file": path,
        "frame_numbers": numbers,
        "height": SIZE[0],
        "width": SIZE[1],
    }


def _numbers(reader: FrameReader, track: dict, indices: list[int]) -> list[int]:
    return [_read_number(image) for image in reader.read(track, indices)]


def test_what_a_decoder_calls_corrupt_is_damage_from_the_key_frame_on(video: str) -> None:
    """Frames shown before it may lack their references, and are passed over."""
    for after, is_lost in ((-1, False), (0, True), (1, True)):
        reader = VideoFile(video)
        key = reader.index.keys[-1][0]
        shown = iter(range(key - 2, key + 3))

        def decode(shown=shown, corrupt: int = key + after) -> tuple[int, SimpleNamespace]:
            number = next(shown)
            return number, SimpleNamespace(number=number, is_corrupt=number == corrupt)

        reader._decode = decode
        if is_lost:
            with pytest.raises(ValueError, match=rf"frame {key + after} of .* missing or damaged"):
                reader.decode_frame(key + 2)
        else:
            assert reader.decode_frame(key + 2).number == key + 2
        reader.close()


def test_every_frame_in_order_and_by_itself(video: str) -> None:
    reader = FrameReader(0, "RGB")
    assert _numbers(reader, _track(video), list(range(FRAMES))) == list(range(FRAMES))
    for index in np.random.default_rng(1).permutation(FRAMES).tolist():
        assert _numbers(reader, _track(video), [index]) == [index]


def test_indices_come_back_in_the_order_asked_with_repeats(video: str) -> None:
    reader = FrameReader(10**7, "BGR")
    assert _numbers(reader, _track(video), [30, 2, 2, 17]) == [30, 2, 2, 17]


def test_frame_numbers_select_from_the_video(video: str) -> None:
    track = _track(video, np.array([5, 9, 31]))
    assert _numbers(FrameReader(0, "BGR"), track, [2, 0, 1]) == [31, 5, 9]


def test_reading_on_decodes_each_frame_once(video: str, monkeypatch) -> None:
    decoded = []
    plain = VideoFile._decode

    def counting(self: VideoFile) -> tuple:
        decoded.append(1)
        return plain(self)

    monkeypatch.setattr(VideoFile, "_decode", counting)
    reader = FrameReader(0, "BGR")
    for start in range(0, FRAMES, 4):
        reader.read(_track(video), list(range(start, start + 4)))
    assert len(decoded) == FRAMES
    # A jump back starts at a key frame (every 12), not at the beginning: at most a group and the
    # B-frames around it.
    decoded.clear()
    reader.read(_track(video), [FRAMES - 3])
    assert len(decoded) <= 15


def test_a_reopened_video_is_not_indexed_again(tmp_path, monkeypatch) -> None:
    path = _write_video(str(tmp_path / "0.avi"), "mpeg4", 0)
    paths = [path, *(str(shutil.copy(path, tmp_path / f"{i}.avi")) for i in range(1, 6))]
    indexed = []
    plain = VideoFile._read_index

    def counting(self: VideoFile) -> tuple:
        indexed.append(self.path)
        return plain(self)

    monkeypatch.setattr(VideoFile, "_read_index", counting)
    reader = FrameReader(0, "BGR")
    for number in (20, 7, 31):  # more videos than stay open
        assert [_numbers(reader, _track(path), [number]) for path in paths] == [[number]] * 6
    assert indexed == paths


def test_cached_frames_are_not_decoded_again_and_bytes_are_limited(video: str) -> None:
    frame_bytes = SIZE[0] * SIZE[1] * 3
    reader = FrameReader(3 * frame_bytes, "BGR")
    first = reader.read(_track(video), [0, 1, 2])
    again = reader.read(_track(video), [0, 2])
    assert again[0] is first[0] and again[1] is first[2]
    reader.read(_track(video), [10])  # drops 1, the one unused for longest
    assert reader.read(_track(video), [0])[0] is first[0]
    assert reader._used_bytes == 3 * frame_bytes
    assert reader.read(_track(video), [1])[0] is not first[1]
    with pytest.raises(ValueError, match="read-only"):
        first[0][0, 0] = 1


def test_no_frame_beyond_the_end(video: str) -> None:
    reader = FrameReader(0, "BGR")
    with pytest.raises(ValueError, match=rf"no frame {FRAMES}"):
        reader.read(_track(video, np.array([0, FRAMES])), [1])
    with pytest.raises(ValueError, match="'v' has 40 frames, no index 40"):
        reader.read(_track(video), [FRAMES])
    with pytest.raises(ValueError, match="no index -1"):
        reader.read(_track(video), [-1])
    assert _numbers(reader, _track(video), [FRAMES - 1]) == [FRAMES - 1]


def test_length(video: str) -> None:
    assert len(VideoFile(video)) == FRAMES


def test_pickles_without_its_open_files(video: str) -> None:
    reader = FrameReader(10**6, "BGR")
    reader.read(_track(video), [3])
    copy = pickle.loads(pickle.dumps(reader))
    assert _numbers(copy, _track(video), [4, 3]) == [4, 3]


def _read_in_child(reader: FrameReader, track: dict, queue) -> None:
    queue.put(_numbers(reader, track, [20, 5, 39]))


def test_a_forked_child_does_not_move_the_parents_file(tmp_path) -> None:
    video = _write_video(str(tmp_path / "v.mp4"), "libx264", 2)
    reader = FrameReader(0, "BGR")
    assert _numbers(reader, _track(video), [1]) == [1]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_read_in_child, args=(reader, _track(video), queue))
    child.start()
    assert queue.get(timeout=30) == [20, 5, 39]
    child.join()
    assert _numbers(reader, _track(video), list(range(2, 9))) == list(range(2, 9))


def test_a_video_without_timestamps_is_counted_by_decoding(tmp_path) -> None:
    # A bare H.264 stream has no container and no times.
    path = str(tmp_path / "bare.h264")
    _write_video(path, "libx264", 2)
    reader = FrameReader(0, "BGR")
    assert _numbers(reader, _track(path), [13, 7, 30, 31]) == [13, 7, 30, 31]
    assert len(VideoFile(path)) == FRAMES
    message = f"cannot decode frame 40 of {path}: the data end before it"
    with pytest.raises(ValueError, match=f"^{message}$"):
        reader.read(_track(path, np.array([FRAMES])), [0])
    assert _numbers(reader, _track(path), [39, 0]) == [39, 0]


def test_missing_and_broken_videos_are_named(tmp_path) -> None:
    path = str(tmp_path / "none.avi")
    with pytest.raises(FileNotFoundError, match="none.avi"):
        FrameReader(0, "BGR").read(_track(path), [0])
    (tmp_path / "none.avi").write_bytes(b"no video at all")
    with pytest.raises(ValueError, match="none.avi"):
        FrameReader(0, "BGR").read(_track(path), [0])


def test_a_cut_off_video_fails_on_the_lost_frames_only(tmp_path) -> None:
    path = _write_video(str(tmp_path / "v.avi"), "mpeg4", 0)
    os.truncate(path, os.path.getsize(path) * 4 // 5)
    kept = len(VideoFile(path))
    assert 2 < kept < FRAMES
    reader = FrameReader(0, "BGR")
    assert _numbers(reader, _track(path), list(range(kept - 1))) == list(range(kept - 1))
    for lost in (kept, FRAMES - 1):
        with pytest.raises(ValueError, match=r"v\.avi"):
            reader.read(_track(path), [lost])


def test_another_size_than_the_dataset_says_is_an_error(video: str) -> None:
    track = {**_track(video), "height": 65}
    with pytest.raises(ValueError, match="frame 3 of .* is 64 x 128 .* says 65 x 128"):
        FrameReader(0, "BGR").read(track, [3])


def test_a_turned_video_is_shown_upright(tmp_path) -> None:
    path = _write_video(str(tmp_path / "v.mp4"), "libx264", 0)
    # The track header's matrix, 16.16 fixed point: the identity becomes a clockwise quarter turn.
    one, zero, minus, last = b"\0\1\0\0", b"\0" * 4, b"\xff\xff\0\0", b"\x40\0\0\0"
    identity = one + zero * 3 + one + zero * 3 + last
    turn = zero + one + zero + minus + zero * 4 + last
    content = open(path, "rb").read()
    at = content.index(b"tkhd") + content[content.index(b"tkhd") :].index(identity)
    with open(path, "wb") as file:
        file.write(content[:at] + turn + content[at + len(turn) :])
    track = {**_track(path), "height": SIZE[1], "width": SIZE[0]}
    (image,) = FrameReader(0, "RGB").read(track, [13])
    # Turned clockwise, the left of the stored picture is at the top.
    assert _read_number(np.rot90(image, 1)) == 13


def _image_track(names: list[str]) -> dict:
    return {"video_id": "v", "file_names": names, "height": 4, "width": 6}


def test_image_channels_come_in_the_asked_order(tmp_path) -> None:
    path = str(tmp_path / "a.png")
    Image.fromarray(np.full((4, 6, 3), (10, 20, 30), np.uint8)).save(path)
    (bgr,) = FrameReader(0, "BGR").read(_image_track([path]), [0])
    (rgb,) = FrameReader(0, "RGB").read(_image_track([path]), [0])
    assert bgr[0, 0].tolist() == [30, 20, 10] and rgb[0, 0].tolist() == [10, 20, 30]
    with pytest.raises(ValueError, match="'L'"):
        FrameReader(0, "L")


def test_exif_orientation_is_applied(tmp_path) -> None:
    # Stored 6 high and 4 wide, to be shown turned: 4 high and 6 wide.
    stored = np.zeros((6, 4, 3), np.uint8)
    stored[0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise by 90 degrees
    path = str(tmp_path / "a.png")
    Image.fromarray(stored).save(path, exif=exif)
    (image,) = FrameReader(0, "RGB").read(_image_track([path]), [0])
    assert image.shape == (4, 6, 3)
    assert (image[:, -1] == 255).all() and (image[:, :-1] == 0).all()


def test_grey_and_transparent_images_have_three_channels(tmp_path) -> None:
    path = str(tmp_path / "a.png")
    for mode in ("L", "RGBA", "P"):
        Image.new(mode, (6, 4)).save(path)
        assert FrameReader(0, "BGR").read(_image_track([path]), [0])[0].shape == (4, 6, 3)


def test_missing_and_broken_images_are_named_with_their_number(tmp_path) -> None:
    good, bad = str(tmp_path / "good.png"), str(tmp_path / "bad.png")
    noise = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(noise).save(good)
    with open(bad, "wb") as file:
        file.write(open(good, "rb").read()[:60])
    track = _image_track([good, bad, str(tmp_path / "gone.png")])
    with pytest.raises(ValueError, match="frame 1 cannot be read: .*bad.png"):
        FrameReader(0, "BGR").read(track, [0, 1])
    with pytest.raises(FileNotFoundError, match="frame 2 is missing: .*gone.png"):
        FrameReader(0, "BGR").read(track, [2])


def test_a_file_that_cannot_be_indexed_is_closed(tmp_path, monkeypatch) -> None:
    path = _write_video(str(tmp_path / "v.avi"), "mpeg4", 0)
    opened = []

    def failing(self: VideoFile) -> None:
        opened.append(self._container)
        raise IndexError("no stream")

    monkeypatch.setattr(VideoFile, "_read_index", failing)
    with pytest.raises(IndexError, match="no stream"):
        VideoFile(path)
    with pytest.raises(AssertionError, match="not open"):
        next(opened[0].demux())


def test_four_videos_stay_open_and_the_one_used_longest_ago_is_closed(
    tmp_path, monkeypatch
) -> None:
    path = _write_video(str(tmp_path / "0.avi"), "mpeg4", 0)
    paths = [path, *(shutil.copy(path, tmp_path / f"{i}.avi") for i in range(1, 5))]
    opened: list[str] = []

    class Counted(VideoFile):
        def __init__(self, path: str, index: VideoIndex | None = None) -> None:
            opened.append(Path(path).stem)
            super().__init__(path, index)

    monkeypatch.setattr(frame_reader, "VideoFile", Counted)
    reader = FrameReader(0, "BGR")
    for number, total in ((0, 1), (1, 2), (2, 3), (3, 4), (0, 4), (4, 5), (0, 5), (3, 5), (1, 6)):
        assert _numbers(reader, _track(paths[number]), [7]) == [7]
        assert len(opened) == total
    assert opened == ["0", "1", "2", "3", "4", "1"]


def test_a_file_is_opened_again_only_to_begin_anew(tmp_path, monkeypatch) -> None:
    path = _write_video(str(tmp_path / "v.mp4"), "mpeg4", 2)
    opened, sought = [], []
    plain_open, plain_seek = VideoFile._open, VideoFile._seek_to_key
    monkeypatch.setattr(
        VideoFile, "_open", lambda self, say=False: (opened.append(say), plain_open(self, say))
    )
    monkeypatch.setattr(
        VideoFile, "_seek_to_key", lambda self, at: (sought.append(at), plain_seek(self, at))[1]
    )
    video = VideoFile(path)
    assert opened == [True, False], "once to index it, once to read it"
    assert video._stream.codec_context.thread_count == 1, "the loader's workers use the cores"
    assert len(video) == FRAMES and len(opened) == 2
    for wanted in (0, 1, 5, *range(11, 15), 23, 24, 26):
        assert _read_number(frame_reader.to_array(video.decode_frame(wanted), "RGB")) == wanted
    # Keys are 0, 12, 24 and 36: what lies between is gone through, a key is come to or sought.
    assert sought == [0] and opened == [True, False]
    video.decode_frame(37)
    video.decode_frame(25)
    assert sought == [0, 3, 2] and len(opened) == 2
    video.decode_frame(5)
    assert sought == [0, 3, 2, 0] and opened == [True, False, False]
    video.close()
    again = VideoFile(path, video.index)
    assert opened[3:] == [False] and _read_number(again.decode_frame(30).to_ndarray(format="rgb24"))
    again.close()


def test_where_no_seek_leads_to_a_key_frame_that_before_it_is_taken(video, monkeypatch) -> None:
    asked = []
    plain = VideoFile._packets_from_key

    def failing(self: VideoFile, at: int) -> Any:
        asked.append(at)
        return plain(self, at) if at == good else None

    monkeypatch.setattr(VideoFile, "_packets_from_key", failing)
    for back in range(5):
        reader = VideoFile(video)
        last = len(reader.index.keys) - 1
        good = last - back
        assert _read_number(frame_reader.to_array(reader.decode_frame(38), "RGB")) == 38
        assert asked == list(range(last, max(good, 1) - 1, -1)), (
            "the first is the start of the file"
        )
        asked.clear()
        reader.close()


class _Container:
    """Packets (pts, dts) behind the places that a seek may go to; None: the seek fails."""

    def __init__(self, places: dict[int, list[tuple[int, int | None]] | None]) -> None:
        self.places, self.sought, self.taken = places, [], 0

    def seek(self, target: int, *, stream: str, backward: bool) -> None:
        assert stream == "stream" and backward
        self.sought.append(target)
        if self.places[target] is None:
            raise av.error.PermissionError(1, "no")

    def demux(self, stream: str) -> Any:
        for pts, dts in self.places[self.sought[-1]]:
            self.taken += 1
            yield SimpleNamespace(pts=pts, dts=dts)


GOOD, LATE = [(9, 7), (12, 10), (11, 11), (14, 13)], [(14, 13), (12, 10), (16, 15)]


@pytest.mark.parametrize(
    ("places", "decode_stamp", "sought", "packets"),
    [
        ({12: GOOD}, 10, [12], GOOD[1:]),
        ({12: GOOD[1:]}, 10, [12], GOOD[1:]),
        ({12: LATE, 10: GOOD}, 10, [12, 10], GOOD[1:]),
        ({12: None, 10: GOOD}, 10, [12, 10], GOOD[1:]),
        ({12: [(9, None), *GOOD], 10: GOOD}, 10, [12, 10], GOOD[1:]),
        ({12: [], 10: GOOD}, 10, [12, 10], GOOD[1:]),
        ({12: LATE, 10: LATE}, 10, [12, 10], None),
        ({12: None, 10: None}, 10, [12, 10], None),
        ({12: GOOD[1:]}, None, [12], GOOD[1:]),
        ({12: GOOD}, None, [12, 12], None),
        ({12: GOOD}, 15, [12], GOOD[1:]),
    ],
)
def test_packets_begin_at_their_key_frame(
    places: dict, decode_stamp: int | None, sought: list[int], packets: list | None
) -> None:
    """The key frame is shown at 12. Where the seek to 12 leads beyond it, that to the time at which
    it is decoded does not, and is made at once the next time."""
    reader = VideoFile.__new__(VideoFile)
    reader.index = VideoIndex(None, [(0, 0), (5, 12)], [0, decode_stamp])
    reader._container, reader._stream = _Container(places), "stream"
    reader._seek_by_decode_stamp = False
    found = reader._packets_from_key(1)
    assert reader._container.sought == sought
    assert (None if found is None else [(p.pts, p.dts) for p in found]) == packets
    assert reader._seek_by_decode_stamp is (sought != [12])
    if sought != [12]:
        reader._packets_from_key(1)
        assert reader._container.sought == [*sought, min(12, decode_stamp or 12)]


def test_packets_beyond_the_key_frame_are_not_read() -> None:
    reader = VideoFile.__new__(VideoFile)
    reader.index = VideoIndex(None, [(0, 0), (5, 12)], [0, 10])
    reader._container, reader._stream = _Container({12: LATE, 10: LATE}), "stream"
    reader._seek_by_decode_stamp = False
    assert reader._packets_from_key(1) is None
    assert reader._container.taken == 2, "one after each seek"


def test_frames_that_come_late_after_damage_are_waited_for(video: str) -> None:
    """A decoder that met damage puts out 8 before 6, which it has; 7 it does not have."""
    for wanted, found in ((6, True), (7, False)):
        reader = VideoFile(video)
        shown = iter([5, 8, 6, 9])

        def decode(reader=reader, shown=shown) -> tuple[int, SimpleNamespace]:
            reader._damage_ahead, reader._fed = True, {6}
            number = next(shown)
            return number, SimpleNamespace(number=number, is_corrupt=False)

        reader._decode = decode
        if found:
            assert reader.decode_frame(wanted).number == 6
            assert reader._frames is None, "what follows is sought anew"
        else:
            with pytest.raises(ValueError, match=rf"^frame 7 of {video} is missing or damaged$"):
                reader.decode_frame(wanted)
        reader.close()


def test_a_damaged_frame_before_the_wanted_one_is_damage_whatever_comes_later(tmp_path) -> None:
    path = _write_video(str(tmp_path / "v.avi"), "mpeg4", 0)
    reader = VideoFile(path)

    def decode() -> tuple[int, SimpleNamespace]:
        reader._damage_ahead, reader._fed = True, {6}
        return 5, SimpleNamespace(number=5, is_corrupt=True)

    reader._decode = decode
    with pytest.raises(ValueError, match=f"^frame 5 of {path} is missing or damaged$"):
        reader.decode_frame(6)
    reader.close()


def test_what_cannot_be_counted_is_named(tmp_path, monkeypatch) -> None:
    path = _write_video(str(tmp_path / "bare.h264"), "libx264", 2)
    reader = VideoFile(path)
    reader.close()

    def fail(stream: Any) -> Any:
        raise av.error.InvalidDataError(1, "bad data")

    monkeypatch.setattr(VideoFile, "_restart", lambda self: None)
    reader._container = SimpleNamespace(decode=fail)
    with pytest.raises(ValueError, match=f"^cannot count the frames of {path}: .*bad data"):
        len(reader)


def test_a_file_whose_stream_is_refused_is_closed(tmp_path, monkeypatch) -> None:
    path = _write_video(str(tmp_path / "v.avi"), "mpeg4", 0)
    opened = []

    def refuse(container: Any, say: bool) -> Any:
        opened.append(container)
        raise ValueError("too large")

    monkeypatch.setattr(frame_reader, "choose_stream", refuse)
    with pytest.raises(ValueError, match="too large"):
        VideoFile(path)
    with pytest.raises(AssertionError, match="not open"):
        next(opened[0].demux())


def test_pictures_are_kept_as_frames_of_videos_are(tmp_path) -> None:
    paths = [str(tmp_path / f"{i}.png") for i in range(2)]
    for value, path in enumerate(paths):
        Image.fromarray(np.full((4, 6, 3), value, np.uint8)).save(path)
    reader = FrameReader(4 * 6 * 3, "BGR")
    (first,) = reader.read(_image_track(paths), [0])
    assert reader.read(_image_track([paths[0]]), [0])[0] is first
    (second,) = reader.read(_image_track(paths), [1])
    assert second.max() == 1 and reader.read(_image_track(paths), [1])[0] is second
    assert reader.read(_image_track(paths), [0])[0] is not first, "there is place for one"
    none = FrameReader(4 * 6 * 3 - 1, "BGR")
    assert none.read(_image_track(paths), [0])[0] is not none.read(_image_track(paths), [0])[0]


@pytest.mark.parametrize("step", [-1, 1])
def test_another_process_begins_with_nothing_open(tmp_path, monkeypatch, step: int) -> None:
    path = _write_video(str(tmp_path / "v.avi"), "mpeg4", 0)
    reader = FrameReader(10**7, "BGR")
    (image,) = reader.read(_track(path), [3])
    videos, other = reader._videos, os.getpid() + step
    monkeypatch.setattr(frame_reader, "_FROM_PARENT", [])
    monkeypatch.setattr(frame_reader.os, "getpid", lambda: other)
    (again,) = reader.read(_track(path), [3])
    assert again is not image and (again == image).all()
    assert frame_reader._FROM_PARENT == [videos] and reader._videos is not videos
    assert _read_number(videos[path].decode_frame(4).to_ndarray(format="bgr24")) == 4, "still open"
    assert reader.read(_track(path), [3])[0] is again and len(frame_reader._FROM_PARENT) == 1


@pytest.mark.parametrize(("aspect", "width"), [(Fraction(2), 256), (Fraction(1, 2), 64)])
def test_pixels_that_are_not_square_are_shown_as_the_dataset_has_them(
    tmp_path, aspect: Fraction, width: int
) -> None:
    path = _write_video(str(tmp_path / "v.mp4"), "libx264", 0, aspect=aspect)
    reader = FrameReader(0, "BGR")
    assert _numbers(reader, _track(path), [3]) == [3]
    (image,) = reader.read({**_track(path), "width": width}, [5])
    assert image.shape == (64, width, 3)
    step = width // BITS
    means = image[..., 0].mean(axis=0).reshape(BITS, step).mean(axis=1)
    assert (means > 127).tolist() == [True, False, True, *[False] * 5]
    with pytest.raises(ValueError, match=f"is 64 x {width} .height x width., .* says 64 x 99"):
        reader.read({**_track(path), "width": 99}, [5])


class _Packet:
    """Of one frame; ``out``: the numbers of the frames that the decoder puts out with it, None
    where it meets damage."""

    def __init__(self, pts: int | None, out: list[int] | None) -> None:
        self.pts, self.out = pts, out

    def decode(self) -> list[SimpleNamespace]:
        if self.out is None:
            raise av.error.InvalidDataError(1, "damage")
        return [SimpleNamespace(pts=number) for number in self.out]


@pytest.mark.parametrize(
    ("packets", "shown", "ends"),
    [
        ([(0, []), (1, [0]), (2, [1]), (3, [2])], [0, 1, 2], "whole"),
        # Damage behind the wanted frame's packet, while that frame is on its way.
        ([(0, []), (1, [0]), (2, [1]), (3, None), (4, [2])], [0, 1, 2], "ahead"),
        ([(0, []), (2, [0]), (None, None), (1, [1, 2])], [0, 1, 2], "ahead"),
        # In the wanted frame's own packet, before it, and when the frame is out.
        ([(0, []), (1, [0]), (2, None), (3, [1])], [0], "raises"),
        ([(0, []), (1, None), (2, [0]), (3, [1, 2])], [], "raises"),
        ([(0, [0]), (1, [1]), (2, [2]), (3, None)], [0, 1, 2], "raises"),
    ],
)
def test_damage_behind_a_frame_is_not_its_damage(
    packets: list, shown: list[int], ends: str
) -> None:
    """Frame 2 is wanted."""
    reader = VideoFile.__new__(VideoFile)
    reader.index = VideoIndex(np.arange(9), [(0, 0)], [0])
    reader._wanted, reader._damage_ahead = 2, False
    found = []
    try:
        for frame in reader._decode_packets(iter(_Packet(*packet) for packet in packets)):
            found.append(frame.pts)
    except av.error.InvalidDataError:
        assert ends == "raises"
    else:
        assert reader._damage_ahead is (ends == "ahead") and ends != "raises"
    assert found == shown


def test_frames_that_a_video_does_not_have(tmp_path) -> None:
    path = _write_video(str(tmp_path / "v.avi"), "mpeg4", 0)
    reader = VideoFile(path)
    for wanted in (-1, FRAMES, FRAMES + 1):
        with pytest.raises(ValueError) as error:
            reader.decode_frame(wanted)
        assert str(error.value) == f"{path} has no frame {wanted} (frames: 40)"
    reader.index = reader.index._replace(stamps=reader.index.stamps + 1)
    with pytest.raises(ValueError, match=f"^{path}: no packet has the timestamp 0 of a frame$"):
        reader.decode_frame(0)
    reader.close()
