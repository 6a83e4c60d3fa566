"""Trackers on boxes with known answers: the built-in one, and the package's where installed."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from video_pose.inference.settings import PredictorSettings
from video_pose.inference.trackers import (
    IoUTracker,
    LibraryTracker,
    Tracker,
    build_tracker,
    pairwise_iou,
)
from video_pose.plugins import TRACKERS


def box(x: float, y: float = 50.0, width: float = 20.0, height: float = 40.0) -> list[float]:
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def test_overlap_by_hand() -> None:
    """Squares of side 2, one shifted by (1, 1): 1 shared of 4 + 4 - 1 = 7."""
    a = np.array([[0, 0, 2, 2], [5, 5, 5, 5], [2, 2, 0, 0]], np.float64)
    b = np.array([[1, 1, 3, 3], [0, 0, 2, 2], [0, 0, 4, 3], [3, 1, 1, 3]], np.float64)
    np.testing.assert_allclose(
        pairwise_iou(a, b), [[1 / 7, 1, 1 / 3, 0], [0, 0, 0, 0], [0, 0, 0, 0]], atol=1e-12
    )
    assert pairwise_iou(np.zeros((0, 4)), b).shape == (0, 4)
    np.testing.assert_allclose(pairwise_iou(a[:1] / 10, b / 10), [[1 / 7, 1, 1 / 3, 0]])


def test_numbers_are_kept_through_a_crossing(tracker: Tracker) -> None:
    """Two people walk through each other at 5 px a frame; for three frames one hides the other."""
    seen: list[set[tuple[int, int]]] = []
    for i in range(30):
        right, left = 30 + 5 * i, 175 - 5 * i
        boxes = [box(right), box(left)] if i % 2 else [box(left), box(right)]
        who = [0, 1] if i % 2 else [1, 0]
        if 13 <= i <= 15:  # the one who walks to the left is hidden
            place = who.index(1)
            del boxes[place], who[place]
        ids = tracker.update(np.array(boxes), np.full(len(boxes), 0.9), i / 25)
        if i > 1:
            seen.append({(person, int(number)) for person, number in zip(who, ids)})
    pairs = set().union(*seen)
    assert len(pairs) == 2 and {number for _, number in pairs} != {-1}
    assert len({number for _, number in pairs}) == 2


def test_a_lost_person_is_found_again_within_the_time(tracker: Tracker) -> None:
    """Standing still; away for 0.32 s is the same person, for 0.8 s another."""
    times = [0, 0.04, 0.08, 0.4, 0.44, 1.24, 1.28]
    ids = []
    for time in times:
        ids.append(tracker.update(np.array([box(50)]), np.array([0.9]), time)[0])
        if time in (0.08, 0.44):  # nobody for a while
            for gap in (0.1, 0.2, 0.3) if time == 0.08 else (0.6, 0.8, 1.0, 1.2):
                assert len(tracker.update(np.zeros((0, 4)), np.zeros(0), gap)) == 0
    assert ids[1] == ids[2] == ids[3] == ids[4] >= 0
    assert ids[6] >= 0 and ids[6] != ids[4]


def test_numbers_are_not_used_again_after_a_cut(tracker: Tracker) -> None:
    first = [tracker.update(np.array([box(50)]), np.array([0.9]), t / 25)[0] for t in range(3)]
    tracker.reset()
    second = [tracker.update(np.array([box(50)]), np.array([0.9]), t / 25)[0] for t in range(3, 6)]
    assert set(first) & set(second) - {-1} == set()


def test_weak_detections_begin_no_track(tracker: Tracker) -> None:
    for i in range(4):
        assert tracker.update(np.array([box(50)]), np.array([0.3]), i / 25).tolist() == [-1]


def test_weak_detections_continue_a_track(tracker: Tracker) -> None:
    """Somebody half hidden: weak on frames 4 to 9. A weak double of frame 12 is nobody."""
    ids = []
    for i in range(14):
        score = 0.2 if 4 <= i <= 9 else 0.9
        boxes = [box(50 + i), *([box(51 + i)] if i == 12 else [])]
        scores = [score, *([0.2] if i == 12 else [])]
        ids.append(tracker.update(np.array(boxes), np.array(scores), i / 25).tolist())
    assert {number for frame_ids in ids[2:] for number in frame_ids[:1]} == {ids[2][0]}
    assert ids[2][0] >= 0 and ids[12][1] == -1


def test_a_strong_detection_comes_before_a_weak_double() -> None:
    """The weak box overlaps the track wholly; the strong one, by 15 / 25, has it all the same."""
    tracker = IoUTracker(min_score=0.5)
    assert tracker.update(np.array([box(50)]), np.array([0.9]), 0).tolist() == [0]
    boxes = np.array([box(50), box(55)])
    assert tracker.update(boxes, np.array([0.2, 0.9]), 0.04).tolist() == [-1, 0]


def test_an_unknown_tracker_and_an_absent_package(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match="'deepsort'.*iou.*bytetrack"):
        build_tracker("deepsort", min_score=0.5, max_missed_seconds=1)
    with pytest.raises(ValueError, match="'deepsort'.*iou.*bytetrack"):
        PredictorSettings(tracker="deepsort")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError) as error:
        build_tracker("bytetrack", min_score=0.5, max_missed_seconds=1)
    assert str(error.value) == (
        "tracker 'bytetrack' needs the package trackers: pip install trackers, or choose the "
        "built-in tracker 'iou'"
    )
    assert caplog.text == ""
    chosen = build_tracker("AUTO".lower(), min_score=0.4, max_missed_seconds=3)
    assert isinstance(chosen, IoUTracker)
    assert (chosen.min_score, chosen.max_missed_seconds) == (0.4, 3)
    assert caplog.messages == [
        "the package trackers is not installed: the built-in tracker 'iou' gives people their "
        "numbers (pip install trackers)"
    ]


def test_the_default_is_the_packages_where_it_is_installed() -> None:
    pytest.importorskip("trackers")
    chosen = build_tracker(PredictorSettings().tracker, min_score=0.5, max_missed_seconds=1)
    assert isinstance(chosen, LibraryTracker)
    assert type(chosen._tracker).__name__ == "OCSORTTracker"


def test_a_plugins_tracker_is_chosen_by_name() -> None:
    class Nobody:
        def __init__(self, *, min_score: float, max_missed_seconds: float) -> None:
            self.min_score = min_score

    TRACKERS.add("nobody")(Nobody)
    try:
        settings = PredictorSettings(tracker="nobody", min_score=0.7)
        chosen = build_tracker(settings.tracker, min_score=0.7, max_missed_seconds=1)
        assert isinstance(chosen, Nobody) and chosen.min_score == 0.7
    finally:
        TRACKERS.remove("nobody")


@pytest.mark.parametrize("name", ["iou", "bytetrack", "ocsort", "botsort", "cbiou"])
def test_a_sure_detection_has_its_number_at_once_and_keeps_it(name: str) -> None:
    """The package's trackers confirm at the second sight: nobody may be missing on the first."""
    if name != "iou":
        pytest.importorskip("trackers")
    tracker = build_tracker(name, min_score=0.5, max_missed_seconds=0.4)
    ids = [
        tracker.update(np.array([box(50 + i), box(150 - i)]), np.array([0.9, 0.8]), i / 25).tolist()
        for i in range(5)
    ]
    assert sorted(ids[0]) == [0, 1] and ids == [ids[0]] * 5


def test_a_number_that_waits_is_not_given_to_a_small_box_inside() -> None:
    """A new small box (overlap .02) in the corner of a person whom the package has not numbered:
    it gets a number of its own, and the person, seen weakly, none that is another's."""
    pytest.importorskip("trackers")
    tracker = build_tracker("ocsort", min_score=0.3, max_missed_seconds=1.0)
    whole, corner = np.array([32.0, 6, 305, 394]), np.array([265.0, 220, 296, 262])
    first = tracker.update(whole[None], np.array([0.36]), 0.0).tolist()
    second = tracker.update(np.stack([corner, whole]), np.array([0.31, 0.2]), 0.125).tolist()
    assert first == [0] and second[0] > 0 and second[1] != second[0]


def test_two_frames_of_one_time_leave_the_velocity() -> None:
    """A box that is 2 px further on at the same time would otherwise count as 1,000 px/s."""
    tracker = IoUTracker(min_score=0.5, max_missed_seconds=1.0)
    first = tracker.update(np.array([box(50)]), np.array([0.9]), 0.0)
    tracker.update(np.array([box(52)]), np.array([0.9]), 0.0)
    found = tracker.update(np.array([box(53)]), np.array([0.9]), 0.04)
    assert found.tolist() == first.tolist()


def test_weaker_detections_begin_people_where_poses_judge_them() -> None:
    settings = PredictorSettings()
    assert (settings.begins(0.2), settings.begins(0.0)) == (0.4, 0.5)
    assert PredictorSettings(min_score=0.7).begins(0.2) == 0.7
    assert settings.max_people == 0  # everybody
    with pytest.raises(ValueError, match="min_score 1.5: expected 0 to 1"):
        PredictorSettings(min_score=1.5)


def test_library_trackers_follow_from_the_first_sight_on() -> None:
    """Missed for a frame and weakly seen on the next: ByteTrack follows who was seen once, OC-SORT
    who was seen twice; trackers that confirm later would begin somebody new."""
    pytest.importorskip("trackers")
    for name, scores, expected in (
        ("bytetrack", (0.9, None, 0.2, 0.9), [0, None, 1, 1]),
        ("ocsort", (0.9, 0.9, None, 0.2, 0.9), [0, 0, None, -1, 0]),
    ):
        tracker = build_tracker(name, min_score=0.5, max_missed_seconds=0.4)
        ids: list[int | None] = []
        for i, score in enumerate(scores):
            boxes = np.zeros((0, 4)) if score is None else np.array([box(50)])
            given = np.array([] if score is None else [score])
            ids += tracker.update(boxes, given, i / 25).tolist() or [None]
        assert ids == expected, name


def see(tracker: Tracker, boxes: list[list[float]], time: float, *scores: float) -> list[int]:
    """Numbers; all boxes are sure where no scores are told."""
    given = np.array(scores or [0.9] * len(boxes))
    return tracker.update(np.array(boxes).reshape(-1, 4), given, time).tolist()


def test_where_a_box_is_expected_by_hand() -> None:
    """10 px to the right and 4 down in .1 s, half of which is believed: 50 and 20 px a second. .2 s
    later the box is looked for 10 and 4 px further on; its growth says nothing."""
    tracker = IoUTracker(min_iou=0.99)
    tracker.min_iou = 0.1
    assert see(tracker, [box(50)], 0) == [0]
    assert see(tracker, [box(60, 54, 24, 44)], 0.1) == [0]
    np.testing.assert_allclose(tracker._velocity, [[50, 20, 50, 20]])
    tracker.min_iou = 0.999
    assert see(tracker, [box(70, 58, 24, 44)], 0.3) == [0]
    np.testing.assert_allclose(tracker._velocity, [[50, 20, 50, 20]])
    # Times that stand or run back tell no velocity; the box and its time are those of the last.
    for time, x in ((0.3, 70.01), (0.2, 65)):
        assert see(tracker, [box(x, 58 - 2 * (time < 0.3), 24, 44)], time) == [0]
        np.testing.assert_allclose(tracker._velocity, [[50, 20, 50, 20]])
    assert see(tracker, [box(70, 58, 24, 44)], 0.3) == [0]


def test_an_overlap_a_score_and_an_absence_that_are_just_enough() -> None:
    """Shifted by 5 of 20 px, two boxes share 15 of 25: an overlap of .6."""
    for least, expected in ((0.6, [0]), (0.601, [1])):
        tracker = IoUTracker(min_iou=least)
        see(tracker, [box(50)], 0)
        assert see(tracker, [box(55)], 0.1) == expected
    tracker = IoUTracker(min_score=0.5)
    assert see(tracker, [box(50), box(150), box(250)], 0, 0.5, 0.49, 0.6) == [0, -1, 1]
    for away, expected in ((0.5, [0]), (0.501, [1])):
        tracker = IoUTracker(max_missed_seconds=0.5)
        see(tracker, [box(50)], 0)
        assert see(tracker, [box(50)], away) == expected


def test_people_of_one_frame_are_numbered_in_order_and_none_is_given_twice() -> None:
    tracker = IoUTracker(min_score=0.5, max_missed_seconds=0.1)
    assert see(tracker, [], 0) == []
    assert see(tracker, [box(50)], 0.04) == [0]
    assert see(tracker, [box(150), box(50), box(250), box(350)], 0.06) == [1, 0, 2, 3]
    # A weak box continues whom no strong one does, and of two weak ones the better; not both.
    weak = [box(52), box(51), box(150), box(151)]
    assert see(tracker, weak, 0.12, 0.3, 0.3, 0.3, 0.9) == [-1, 0, -1, 1]
    assert see(tracker, [box(250), box(450)], 0.19) == [4, 5]  # 2 was last seen .13 s ago
    tracker.reset()
    assert see(tracker, [box(450)], 0.2) == [6]


class Package:
    """A tracker of the package that gives the numbers of a timetable; None: it leaves the box out,
    and gives what it has in the opposite order."""

    def __init__(self) -> None:
        self.numbers: list[int | None] = []
        self.resets = 0

    def reset(self) -> None:
        self.resets += 1

    def update(self, detections, timestamp: float):  # type: ignore[no-untyped-def]
        self.given = detections.confidence.tolist(), timestamp
        kept = [i for i, number in enumerate(self.numbers) if number is not None][::-1]
        found = detections[np.array(kept, int)]
        found.tracker_id = np.array([self.numbers[i] for i in kept], int) if kept else None
        return found


def test_the_packages_numbers_become_our_own() -> None:
    """From 0 on, in the order of the boxes; whoever waits for a number has ours already."""
    pytest.importorskip("supervision")
    package = Package()
    tracker = LibraryTracker(package, min_score=0.5)
    a, b, c = box(50), box(150), box(250)

    def numbers(boxes: list[list[float]], told: list[int | None], *scores: float) -> list[int]:
        package.numbers = told
        return see(tracker, boxes, 0.25, *scores)

    assert numbers([a, b], [-1, -1]) == [0, 1]
    assert package.given == ([0.9, 0.9], 0.25)
    assert numbers([b, c, a], [0, None, 5]) == [1, 2, 0]
    assert numbers([a, c, b], [5, 9, 0], 0.2, 0.2, 0.2) == [0, 2, 1]
    # Nobody waits any more: another number at one of these places is somebody else.
    assert numbers([c], [3]) == [3]
    assert numbers([c, c], [3, 9]) == [3, 2]
    # Just sure enough, and not; what was left out two frames ago waits no more.
    assert numbers([a, b], [None, None], 0.5, 0.49) == [4, -1]
    assert numbers([], []) == []
    assert numbers([a], [6]) == [5]
    tracker.reset()
    assert package.resets == 2 and numbers([a], [5]) == [6]


@pytest.mark.parametrize(("height", "number"), [(2, 0), (1.9, 1)])
def test_a_box_that_waits_is_found_by_a_fifth(height: float, number: int) -> None:
    """Of a box of 10 x 10 a strip of 2 px is a fifth."""
    pytest.importorskip("supervision")
    package = Package()
    tracker = LibraryTracker(package, min_score=0.5)
    for told, shape in ((-1, 10), (4, height)):
        package.numbers = [told]
        found = see(tracker, [[0.0, 0, 10, shape]], 0)
    assert found == [number]


def test_of_two_boxes_that_wait_the_nearer_is_taken_and_the_other_waits_on() -> None:
    pytest.importorskip("supervision")
    package = Package()
    tracker = LibraryTracker(package, min_score=0.5)
    package.numbers = [-1, -1, -1]
    assert see(tracker, [box(50), box(60), box(70)], 0) == [0, 1, 2]
    package.numbers = [6, 7, 8]
    # The package names the last one first, which lies between the first two, nearer to the second.
    assert see(tracker, [box(68), box(52), box(58)], 1, 0.1, 0.1, 0.1) == [2, 0, 1]


def test_what_the_packages_trackers_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory in frames of 1/30 s, one at least; from the first sight on where that can be said."""
    trackers = pytest.importorskip("trackers")
    told: dict[str, dict] = {}

    def recorder(kind: str):  # type: ignore[no-untyped-def]
        def make(**options: object) -> Package:
            told[kind] = options
            return Package()

        return make

    for kind in ("ByteTrackTracker", "OCSORTTracker", "BoTSORTTracker", "CBIoUTracker"):
        monkeypatch.setattr(trackers, kind, recorder(kind))
    for seconds, frames in ((0.0, 1), (0.03, 1), (0.4, 12), (1.0, 30), (0.06, 2)):
        for name in ("bytetrack", "ocsort", "botsort", "cbiou"):
            made = build_tracker(name, min_score=0.3, max_missed_seconds=seconds)
            assert isinstance(made, LibraryTracker) and made._min_score == 0.3
        begins, continues = {"track_activation_threshold": 0.3}, {"high_conf_det_threshold": 0.3}
        memory, at_once = {"lost_track_buffer": frames}, {"minimum_consecutive_frames": 1}
        assert told == {
            "ByteTrackTracker": begins | continues | memory | at_once,
            "OCSORTTracker": continues | memory | at_once,
            "BoTSORTTracker": begins | continues | memory | {"enable_cmc": False},
            "CBIoUTracker": begins | continues | memory,
        }
