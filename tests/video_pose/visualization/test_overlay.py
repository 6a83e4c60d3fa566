"""People drawn on frames, and the live window."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from video_pose.inference.frames import PoseFrame
from video_pose.visualization import overlay
from video_pose.visualization.overlay import LEAST_PEAK, LEAST_SCORE, LiveWindow, draw_people

GREY = 60
GREEN, RED = (0, 255, 0), (0, 0, 255)
BLUE_TAG, ORANGE_TAG = (255, 200, 80), (80, 200, 255)  # colours (b, g, r) of persons 0 and 1


def people(
    size: tuple[int, int], boxes: list[list[float]], scores: tuple[float, float]
) -> PoseFrame:
    """Persons 0, 1, ... with two joints each, at a quarter and three quarters of their box."""
    array = np.array(boxes, np.float32).reshape(-1, 4)
    low, high = array[:, :2], array[:, 2:]
    joints = [low * (1 - f) + high * f for f in (0.25, 0.75)]
    keypoints = np.stack(
        [np.concatenate([xy, np.full((len(array), 1), s)], 1) for xy, s in zip(joints, scores)], 1
    )
    return PoseFrame(
        index=0, time=0.0, image=np.full((*size, 3), GREY, np.uint8), video="v",
        joint_names=("a", "b"), keypoints=keypoints.astype(np.float32), boxes=array,
        scores=np.ones(len(array), np.float32), track_ids=np.arange(len(array)),
    )  # fmt: skip


def amount(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((np.abs(picture.astype(int) - color).max(axis=2) < 12).sum())


@pytest.mark.parametrize(("size", "factor"), [((120, 160), 3), ((480, 640), 1), ((2160, 3840), 1)])
def test_joints_show_their_confidence_at_any_size(size: tuple[int, int], factor: int) -> None:
    """Filled green at 1; below .3 a ring, hollow in the middle. Marks grow with the picture."""
    height, width = size
    box = [0.2 * width, 0.2 * height, 0.8 * width, 0.8 * height]
    frame = people(size, [box], (1.0, 0.1))
    drawn = draw_people(frame, [])
    assert drawn.shape == (height * factor, width * factor, 3)
    x, y = (frame.keypoints[0, :, :2] * factor).astype(int).T
    assert drawn[y[0], x[0]].tolist() == list(GREEN)
    assert drawn[y[1], x[1]].tolist() == [GREY] * 3
    unit = max(drawn.shape) / 480
    # A disc of radius 4.5 units, and a ring of that radius, 1.5 units wide, in whole px.
    assert amount(drawn, GREEN) == pytest.approx(np.pi * (4.5 * unit) ** 2, rel=0.3)
    ring = amount(drawn[:, drawn.shape[1] // 2 :], (0, 51, 255))
    assert ring == pytest.approx(2 * np.pi * 4.5 * unit * round(1.5 * unit), rel=0.5)


def test_numbers_make_room_for_each_other() -> None:
    """Two people in one box: each tag is as large as if it were alone."""
    box = [100.0, 200, 300, 400]
    alone = amount(draw_people(people((480, 640), [box], (0.0, 0.0)), []), BLUE_TAG)
    both = draw_people(people((480, 640), [box, box], (0.0, 0.0)), [])
    # Of person 0, the box's outline lies under that of person 1.
    outline = 4 * 200
    assert amount(both[:200], BLUE_TAG) > 0.7 * (alone - outline)
    assert amount(both[:200], ORANGE_TAG) > 0.7 * (alone - outline)
    assert draw_people(people((480, 640), [[600.0, 0, 640, 50]] * 3, (0.0, 0.0)), []) is not None


def test_masks_have_tint_and_outline() -> None:
    frame = people((480, 640), [[100.0, 100, 300, 300]], (0.0, 0.0))
    mask = np.zeros((1, 480, 640), bool)
    mask[0, 350:450, 350:450] = True
    drawn = draw_people(replace(frame, masks=mask), [])
    # .45 of (255, 200, 80) and .55 of the grey 60: (147.75, 123, 69).
    assert np.abs(drawn[400, 400].astype(int) - (147, 123, 69)).max() <= 1
    assert np.abs(drawn[350, 400].astype(int) - BLUE_TAG).max() < 12
    assert drawn[320, 400].tolist() == [GREY] * 3
    assert np.array_equal(
        draw_people(replace(frame, masks=mask), [], masks=False), draw_people(frame, [])
    )


def test_heatmaps_are_red_where_joints_are_likely() -> None:
    """A map of 4 x 4 cells of 40 px, whose cell (2, 1) is hot: its centre is at (100, 60) px."""
    frame = people((480, 640), [[300.0, 300, 400, 400]], (0.0, 0.0))
    maps = np.zeros((1, 2, 4, 4), np.float32)
    maps[0, 1, 1, 2] = 1.0
    matrix = np.array([[[40.0, 0, 20], [0, 40, 20]]], np.float32)
    hot = replace(frame, heatmaps=maps, map_to_image=matrix)
    drawn = draw_people(hot, [], heatmaps=True)
    # .6 of red (0, 0, 255) and .4 of the grey: (24, 24, 177).
    assert np.abs(drawn[60, 100].astype(int) - (24, 24, 177)).max() <= 4
    assert drawn[60, 160].tolist() == [GREY] * 3
    assert np.array_equal(draw_people(hot, []), draw_people(frame, []))


def test_the_frame_itself_stays_as_it_is() -> None:
    frame = people((480, 640), [[100.0, 100, 300, 300], [np.nan] * 4], (1.0, 1.0))
    drawn = draw_people(frame, [(0, 1, RED)])
    assert (frame.image == GREY).all() and not (drawn == GREY).all()


@pytest.mark.parametrize("corner", [(4, 4), (150, 4)])
def test_a_number_stays_off_a_face_at_the_upper_corner(corner: tuple[int, int]) -> None:
    """In a close crop there is no room above the box: the tag goes to a corner without a face."""
    x, y = corner
    frame = people((480, 480), [[0.0, 0, 480, 480]], (1.0, 1.0))
    face = np.array([[x + 4, y + 4, 1.0], [x + 12, y + 8, 1.0]], np.float32)
    drawn = draw_people(replace(frame, keypoints=face[None]), [])
    tag = np.argwhere(np.abs(drawn[4:-4, 4:-4].astype(int) - BLUE_TAG).max(axis=2) < 12) + 4
    assert len(tag) > 50
    distance = np.abs(tag[:, None, ::-1] - face[None, :, :2]).max(axis=2).min()
    assert distance > 12


def test_marks_of_small_people_are_smaller() -> None:
    """A person of a tenth of the picture: discs of .4 of the radius, .16 of the area."""
    near = draw_people(people((480, 480), [[0.0, 0, 400, 400]], (1.0, 1.0)), [])
    far = draw_people(people((480, 480), [[0.0, 0, 48, 48]], (1.0, 1.0)), [])
    assert 0.08 < amount(far, GREEN) / amount(near, GREEN) < 0.4


def test_joints_that_are_not_there_are_not_drawn() -> None:
    """A joint just above the least score has a ring, one just below it none, nor a line."""
    line = [(0, 1, (255, 0, 0))]
    box = [100.0, 100, 400, 400]
    seen, unseen = (
        draw_people(people((480, 640), [box], (1.0, LEAST_SCORE + change)), line)
        for change in (0.01, -0.01)
    )
    second = (slice(310, 340), slice(310, 340))  # about (325, 325)
    assert (seen[second] != GREY).any() and (unseen[second] == GREY).all()
    between = (slice(240, 260), slice(240, 260))
    assert (seen[between] != GREY).any() and (unseen[between] == GREY).all()
    stricter = people((480, 640), [box], (1.0, LEAST_SCORE + 0.01))
    assert (draw_people(stricter, line, least_score=LEAST_PEAK)[second] == GREY).all()


def test_without_a_display_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(overlay.sys, "platform", "linux")
    with pytest.raises(ValueError, match="^--show needs a display: neither DISPLAY nor"):
        LiveWindow("video")


def test_a_display_that_is_not_there_does_not_end_the_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Qt aborts on it: only the trial may die."""
    monkeypatch.setattr(overlay.sys, "platform", "linux")
    monkeypatch.setenv("DISPLAY", ":987")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(ValueError, match="needs a display: .*(cannot be opened|headless)"):
        LiveWindow("video")


def test_frames_are_shown_until_the_user_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    keys, shown = [-1, ord("q"), -1], []
    monkeypatch.setattr(overlay, "_why_no_window", lambda: "")
    for name in ("namedWindow", "resizeWindow", "destroyWindow"):
        monkeypatch.setattr(cv2, name, lambda *args: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, image: shown.append((title, image.shape)))
    monkeypatch.setattr(cv2, "waitKey", lambda delay: keys.pop(0))
    visible = [1.0, 0.0]
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *args: visible.pop(0))
    with LiveWindow("walk") as live:
        image = np.zeros((4, 6, 3), np.uint8)
        assert live.show(image) is True
        assert live.show(image) is False  # q
        assert live.show(image) is False  # closed
    assert shown[0] == ("walk", (4, 6, 3))
