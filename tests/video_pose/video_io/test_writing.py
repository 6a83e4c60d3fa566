from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from video_pose.inference.video_source import VideoSource
from video_pose.video_io.writing import VideoWriter, check_writable


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
