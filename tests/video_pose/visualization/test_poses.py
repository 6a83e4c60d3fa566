"""Pictures of poses: things are drawn in place, inputs stay as they are, videos read back."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from video_pose import visualization as vis
from video_pose.video_io import writing

LINE = [(0, 1, (255, 0, 0))]  # red, in (r, g, b)


def _grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 90, np.uint8)


def test_connections_by_name() -> None:
    rules = [("a", "b", (1, 2, 3)), ("b", "x", (4, 5, 6)), ("c", "a", (7, 8, 9))]
    assert vis.connection_indices(["c", "b", "a"], rules) == [(2, 1, (1, 2, 3)), (0, 2, (7, 8, 9))]


def test_label_confidence() -> None:
    labels = np.array([[1, 1, 2], [1, 1, 1], [0, 0, 0]], np.int64)
    assert vis.label_confidence(labels)[:, 2].tolist() == [1, 0.25, 0]
    assert labels[:, 2].tolist() == [2, 1, 0]


@pytest.mark.parametrize("size, factor", [((100, 100), 5), ((240, 320), 2), ((720, 1280), 1)])
def test_small_frames_are_enlarged_and_dots_are_in_place(
    size: tuple[int, int], factor: int
) -> None:
    image = _grey(*size)
    keypoints = np.array([[20.5, 30.5, 1.0], [70.5, 60.5, 0.5]])
    drawn = vis.draw_pose(image, keypoints, [])
    assert drawn.shape == (size[0] * factor, size[1] * factor, 3)
    assert vis.display_factor(size) == factor
    assert (image == 90).all()
    for x, y, color in ((20.5, 30.5, (0, 255, 0)), (70.5, 60.5, (0, 255, 255))):
        # Continuous c of the frame is pixel c * factor - .5 of the picture.
        row, column = int(y * factor), int(x * factor)
        assert tuple(drawn[row, column]) == color
    # The dot is centred: as much of it to the left as to the right, above as below.
    green = np.argwhere((drawn == (0, 255, 0)).all(axis=2)).mean(axis=0)
    np.testing.assert_allclose(green, np.array([30.5, 20.5]) * factor - 0.5, atol=0.51)


def test_lines_box_and_low_confidence() -> None:
    sure = np.array([[100, 100, 0.9], [300, 100, 0.9]])
    unsure = np.array([[100, 100, 0.9], [300, 100, 0.1]])

    def red(keypoints: np.ndarray) -> int:
        return int(
            (vis.draw_pose(_grey(480, 480), keypoints, LINE)[:, 200] == (0, 0, 255)).all(-1).sum()
        )

    assert red(sure) > red(unsure) > 0
    hollow = vis.draw_pose(_grey(480, 480), unsure, [])
    assert (hollow[99:101, 299:301] == 90).all()
    boxed = vis.draw_pose(_grey(480, 480), np.zeros((0, 3)), [], box=(10.5, 20.5, 200.5, 300.5))
    assert boxed[20, 100].min() > 230 and boxed[150, 10].min() > 230


def test_absent_joints_and_far_ones() -> None:
    absent = np.array([[50, 50, 0], [np.nan, 50, 1], [60, 60, -0.3]])
    drawn = vis.draw_pose(_grey(480, 480), absent, [(0, 1, (255, 0, 0)), (1, 2, (255, 0, 0))])
    assert (drawn == 90).all()
    vis.draw_pose(_grey(480, 480), np.array([[1e12, -1e12, 1], [5, 5, 1]]), LINE)


def test_titles_leave_the_sizes_alike() -> None:
    short, long = (
        vis.draw_pose(_grey(480, 640), np.zeros((0, 3)), [], title=t) for t in "a gpy".split()
    )
    assert short.shape == long.shape and short.shape[0] > 480
    long = vis.draw_pose(_grey(480, 640), np.zeros((0, 3)), [], title="wide " * 60)
    strip = long[: short.shape[0] - 480]
    assert (strip[:, -4:] == strip[0, 0]).all()  # made smaller, not cut off


def test_contact_sheet() -> None:
    images = [_grey(50, 100), np.full((100, 100, 3), 200, np.uint8), _grey(20, 20)]
    sheet = vis.contact_sheet(images, 2)
    assert sheet.shape == (2 * 106, 2 * 106, 3)  # tiles of 100 with a rim of 3
    assert (sheet[53, 53] == 90).all() and (sheet[53, 106 + 53] == 200).all()
    assert (sheet[5, 53] == 64).all()  # above the flat picture
    assert (sheet[106:, 106:] == 255).all()  # no fourth picture
    assert vis.contact_sheet(images[:1], 5).shape == (56, 106, 3)
    assert vis.contact_sheet([_grey(720, 1280)], 1).shape == (366, 646, 3)
    titled = vis.contact_sheet(images, 3, ["a", "b", "c"])
    assert titled.shape[0] > 106 and titled.shape[1] == 3 * 106
    for wrong in (([], 2, None), (images, 0, None), (images, 2, ["a"])):
        with pytest.raises(ValueError):
            vis.contact_sheet(*wrong)


def _read(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("codecs", [("libx264", "mpeg4"), ("none", "mpeg4")])
def test_video_reads_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codecs: tuple[str, ...]
) -> None:
    monkeypatch.setattr(writing, "_CODECS", codecs)
    values = [20, 90, 160, 230]
    frames = (np.full((61, 83, 3), value, np.uint8) for value in values)
    path = tmp_path / "new" / "a.mp4"
    assert vis.write_video(path, frames, 12.5) in codecs
    read = _read(path)
    assert [frame.shape for frame in read] == [(62, 84, 3)] * 4
    np.testing.assert_allclose([frame.mean() for frame in read], values, atol=6)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 12.5


def test_a_broken_video_leaves_no_file(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with pytest.raises(ValueError, match="frame 1 is"):
        vis.write_video(path, [_grey(64, 64), _grey(32, 64)], 25)
    with pytest.raises(ValueError, match="no frame"):
        vis.write_video(path, [], 25)
    with pytest.raises(ValueError, match="fps"):
        vis.write_video(path, [_grey(64, 64)], 0)
    with pytest.raises(ValueError, match="uint8"):
        vis.write_video(path, [np.zeros((64, 64, 3))], 25)
    assert list(tmp_path.iterdir()) == []


def test_overlay_video_shows_labels_beside_predictions(tmp_path: Path) -> None:
    labels = np.array([[[100, 100, 2]], [[100, 100, 2]]], np.float32)
    predictions = labels + np.array([[[50, 0, -1]]], np.float32)
    path = tmp_path / "a.mp4"
    vis.write_overlay_video(path, [_grey(480, 480)] * 2, labels, predictions, [], 10)
    read = _read(path)
    picture = vis.side_by_side(_grey(480, 480), labels[0], predictions[0], [])
    strip = picture.shape[0] - 480
    assert len(read) == 2 and picture.shape[1] == 2 * 480 + 4
    for x in (100, 484 + 150):
        assert tuple(picture[strip + 99, x]) == (0, 255, 0)
        blue, green, red = read[1][strip + 99, x].astype(int)
        assert green > 150 and red < 100 and blue < 100
