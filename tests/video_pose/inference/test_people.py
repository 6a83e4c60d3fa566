"""Cuts and the policies of person regions, on boxes with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from video_pose.data.synthetic.scene import render_scene
from video_pose.inference.detected_people import DetectedPeople
from video_pose.inference.frames import Frame
from video_pose.inference.people import FollowedPerson, GivenBoxes, Person, pose_extent
from video_pose.inference.streaming import CutDetector, _union
from video_pose.inference.trackers import IoUTracker, Tracker, pairwise_iou

IMAGE = np.zeros((100, 200, 3), np.uint8)


def frame(index: int) -> Frame:
    return Frame(index, index / 25, IMAGE)


def box(x: float, y: float = 50.0, width: float = 20.0, height: float = 40.0) -> list[float]:
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


class Detector:
    """Gives the boxes of a timetable and counts its calls."""

    def __init__(self, table: dict[int, list[list[float]]], score: float = 0.9) -> None:
        self.table, self.calls = table, 0
        self.index, self.score = 0, score

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.calls += 1
        boxes = np.array(self.table.get(self.index, [])).reshape(-1, 4)
        return boxes, np.full(len(boxes), self.score)


def run(people: DetectedPeople, detector: Detector, index: int, score: float = 0.9) -> list:
    """One frame: find, then observe a pose that fills the box exactly."""
    detector.index = index
    found = people.propose(frame(index))
    corners = [[[*p.box[:2], score], [*p.box[2:], score]] for p in found]
    people.update(found, np.array(corners, np.float32).reshape(len(found), 2, 3))
    return found


def detected(detector: Detector, **options: float) -> DetectedPeople:
    tracker = IoUTracker(min_score=0.5, max_missed_seconds=0.2)
    options = {"box_smoothing": 0, "bridge": 0, **options}
    return DetectedPeople(detector, tracker, max_missed=0.2, **options)  # type: ignore[arg-type]


def test_a_detector_every_third_frame_and_poses_in_between() -> None:
    detector = Detector({i: [box(50 + i)] for i in range(9)})
    people = detected(detector, every=3, margin=1.5)
    found = [run(people, detector, i) for i in range(6)]
    assert detector.calls == 2
    assert [len(p) for p in found] == [1] * 6
    np.testing.assert_allclose(found[0][0].box, box(50))
    # The pose filled the box: its extent times 1.5, then again.
    np.testing.assert_allclose(found[1][0].box, box(50, width=30, height=60), rtol=1e-5)
    np.testing.assert_allclose(found[3][0].box, box(53))
    # What a per-clip region shows stays the track's first box.
    np.testing.assert_allclose(found[5][0].shot_box, box(50))


def test_a_poor_pose_hides_the_person_until_the_next_detection() -> None:
    detector = Detector({0: [box(50)], 3: [box(50)]})
    people = detected(detector, every=3)
    assert len(run(people, detector, 0, score=0.01)) == 1
    assert [len(run(people, detector, i)) for i in (1, 2, 3, 4)] == [0, 0, 1, 1]


def test_memory_is_kept_for_the_given_time_only() -> None:
    """max_missed .2 s = 5 frames: away on frames 2-4 the same, on 6-19 another."""
    detector = Detector({0: [box(50)], 1: [box(50)], 5: [box(50)], 20: [box(50)]})
    people = detected(detector)
    numbers = {i: [p.track_id for p in run(people, detector, i)] for i in range(5)}
    assert numbers == {0: [0], 1: [0], 2: [], 3: [], 4: []}
    assert people.tracked() == {0}
    assert [p.track_id for p in run(people, detector, 5)] == [0]
    for i in range(6, 20):
        assert run(people, detector, i) == []
    assert people.tracked() == set()
    assert [p.track_id for p in run(people, detector, 20)] == [1]


def test_unconfirmed_detections_call_the_detector_again() -> None:
    """A tracker that confirms on the second sight must not wait for n frames."""

    class Hesitant(IoUTracker):
        def update(self, boxes: np.ndarray, scores: np.ndarray, time: float) -> np.ndarray:
            ids = super().update(boxes, scores, time)
            return np.full_like(ids, -1) if time == 0 else ids

    detector = Detector({i: [box(50)] for i in range(9)})
    people = DetectedPeople(detector, Hesitant(), every=4)
    assert [len(run(people, detector, i)) for i in range(5)] == [0, 1, 1, 1, 1]
    assert detector.calls == 2


def test_weak_detections_do_not_call_the_detector_again() -> None:
    detector = Detector({i: [box(50)] for i in range(9)}, score=0.3)
    people = detected(detector, every=4, sure_score=0.5)
    assert [len(run(people, detector, i)) for i in range(5)] == [0] * 5
    assert detector.calls == 2


def test_boxes_without_area_are_no_people() -> None:
    detector = Detector({0: [[5, 5, 5, 9], [np.nan, 0, 4, 4], box(50)]})
    assert len(run(detected(detector), detector, 0)) == 1


def test_a_followed_person_starts_anew_after_a_poor_pose() -> None:
    people = FollowedPerson([10, 10, 60, 90], margin=1.0, min_score=0.5)
    pose = np.array([[[20, 20, 0.9], [40, 80, 0.9]]], np.float32)
    np.testing.assert_array_equal(people.propose(frame(0))[0].box, [10, 10, 60, 90])
    people.update(people.propose(frame(0)), pose)
    np.testing.assert_array_equal(people.propose(frame(1))[0].box, [20, 20, 40, 80])
    np.testing.assert_array_equal(people.propose(frame(1))[0].shot_box, [10, 10, 60, 90])
    pose[..., 2] = 0.1
    people.update(people.propose(frame(1)), pose)
    np.testing.assert_array_equal(people.propose(frame(2))[0].box, [10, 10, 60, 90])


def test_given_boxes() -> None:
    whole = GivenBoxes().propose(frame(3))[0]
    np.testing.assert_array_equal(whole.box, [0, 0, 200, 100])
    rows = GivenBoxes(np.array([[0, 0, 0, 0], [1, 2, 3, 4], [2, 2, 9, 9]]))
    np.testing.assert_array_equal(rows.propose(frame(0))[0].box, [1, 2, 3, 4])
    np.testing.assert_array_equal(rows.propose(frame(2))[0].shot_box, [1, 2, 9, 9])
    with pytest.raises(ValueError, match="frame 3 has no box: 3 were given"):
        rows.propose(frame(3))
    with pytest.raises(ValueError, match=r"no box has an area: \[5.0, 5.0, 5.0, 9.0\]"):
        GivenBoxes([5, 5, 5, 9])
    with pytest.raises(ValueError, match=r"\(4,\) or \(N, 4\)"):
        GivenBoxes([1, 2, 3])


def test_extent_of_a_pose() -> None:
    pose = np.array([[10, 20, 1.0], [30, 60, 0.5]], np.float32)
    np.testing.assert_allclose(pose_extent(pose, 2.0, 0.5), [0, 0, 40, 80])
    assert pose_extent(pose, 2.0, 0.8) is None
    assert pose_extent(pose[:1], 2.0, 0.1) is None
    assert pose_extent(pose[:0], 2.0, 0.1) is None


def test_joints_that_were_not_found_do_not_steer_the_region() -> None:
    """Joints from (10, 20) to (30, 60), others far below with a score of less than .05."""
    pose = np.array([[10, 20, 0.9], [30, 60, 0.05], [500, 900, 0.049], [-90, 0, 0]], np.float32)
    assert pose_extent(pose, 1.0, 0.2).tolist() == [10, 20, 30, 60]
    # The mean is that of all four.
    assert pose_extent(pose, 1.0, 0.25) is None
    # A model whose scores are low everywhere is followed by all that it has.
    pose[:, 2] = 0.04
    assert pose_extent(pose, 1.0, 0.03).tolist() == [-90, 0, 500, 900]
    pose[0, 2] = 0.9
    assert pose_extent(pose, 1.0, 0.1).tolist() == [-90, 0, 500, 900]


def test_a_region_is_in_the_picture_but_for_its_margin() -> None:
    """A picture of 100 x 200 px (height x width), and a pose that lies beyond all its edges."""
    pose = np.array([[-50, -30, 0.9], [300, 140, 0.9]], np.float32)
    assert pose_extent(pose, 1.2, 0.1, (100, 200)).tolist() == pytest.approx([-20, -10, 220, 110])
    pose[0, :2] = 150, 60
    assert pose_extent(pose, 1.0, 0.1, (100, 200)).tolist() == [150, 60, 200, 100]
    pose[0, :2] = 210, 60  # nothing of it is in the picture
    assert pose_extent(pose, 1.2, 0.1, (100, 200)) is None


def test_a_still_close_up_is_not_left() -> None:
    """The legs are guessed at the lower edge of each crop, with scores that count: the region ends
    at the picture's edge plus its margin, for one person and between detections."""

    def guess(box: np.ndarray) -> np.ndarray:
        x0, y0, x1, y1 = box
        return np.array([[60, 20, 0.9], [140, 70, 0.9], [x0, y1, 0.1], [x1, y1 + 20, 0.1]])

    followed = FollowedPerson()
    detector = Detector({0: [[50, 10, 150, 100]]})
    several = detected(detector, every=50)
    for people in (followed, several):
        for i in range(20):
            (person,) = people.propose(frame(i))
            assert person.box[3] <= 100 + 0.1 * 100 and person.box[2] <= 200 + 0.1 * 200
            people.update([person], guess(person.box)[None].astype(np.float32))


def test_cuts_between_scenes_and_none_within() -> None:
    cuts = CutDetector()
    scenes = [render_scene(seed, frames=12, size=(160, 120)).frames for seed in (1, 2, 3)]
    flags = [cuts(image) for frames in scenes for image in frames]
    assert [i for i, flag in enumerate(flags) if flag] == [12, 24]
    assert cuts(scenes[2][-1][:60]), "another size is another shot"
    cuts.reset()
    assert not cuts(scenes[0][0])


def test_a_change_of_light_is_no_cut() -> None:
    cuts = CutDetector()
    image = render_scene(4, frames=1, size=(160, 120)).frames[0].astype(np.float64)
    steps = [np.clip(image * gain, 0, 255).astype(np.uint8) for gain in (1, 1.1, 1.2, 1.1)]
    assert not any([cuts(step) for step in steps])


@pytest.mark.parametrize("threshold", [0.0, 1.5])
def test_thresholds_out_of_range(threshold: float) -> None:
    with pytest.raises(ValueError, match="cut threshold"):
        CutDetector(threshold)


@pytest.mark.parametrize("seed", [0, 1, 3])
def test_crossing_people_of_a_scene_keep_their_numbers(tracker: Tracker, seed: int) -> None:
    """Three rendered people cross; a detector that misses who is hidden (overlap above .6)."""
    frames = 40
    scene = render_scene((seed, 1), people=3, frames=frames, size=(320, 240), occluders="none")
    table: dict[int, list[list[float]]] = {}
    for n in range(frames):
        kept: list[np.ndarray] = []
        for person in scene.people:
            box_n = person.boxes[n][None]
            if box_n[0, 2] > box_n[0, 0] and all(pairwise_iou(box_n, k)[0, 0] < 0.6 for k in kept):
                kept.append(box_n)
        table[n] = [k[0].tolist() for k in kept]
    detector = Detector(table)
    people = DetectedPeople(detector, tracker, max_missed=0.4, box_smoothing=0, bridge=0)
    numbers: dict[int, set[int]] = {0: set(), 1: set(), 2: set()}
    for n in range(frames):
        for found in run(people, detector, n):
            who = [p for p in range(3) if np.allclose(scene.people[p].boxes[n], found.box)]
            assert len(who) == 1
            numbers[who[0]].add(found.track_id)
    assert all(len(own) == 1 for own in numbers.values()), numbers
    assert len(set.union(*numbers.values())) == 3


def _picture(shade: int, part: int = 0, colour: int = 0) -> np.ndarray:
    """Grey, with ``part`` columns of 64 in another shade."""
    image = np.full((48, 64, 3), shade, np.uint8)
    image[:, :part] = (200 + colour, 40, 90)
    return image


@pytest.mark.parametrize("part", [8, 16, 24, 32, 48])
def test_how_much_of_a_picture_makes_a_cut(part: int) -> None:
    """Of 64 columns ``part`` change; values between two bins count for both, half and quarters, so
    that a quarter of what a grey picture holds may be found in the other shade's bins as well."""
    first, second = _picture(16), _picture(16, part)
    share = part / 64
    for threshold, cut in ((share - 0.01, True), (share + 0.01, False)):
        detector = CutDetector(threshold)
        assert detector(first) is False
        assert detector(second) is cut and detector(second) is False


def test_another_size_is_a_cut_and_the_first_frame_is_none() -> None:
    detector = CutDetector(1.0)
    assert not detector(_picture(16)) and not detector(_picture(200, 64))
    assert detector(np.zeros((50, 64, 3), np.uint8)) and detector(np.zeros((50, 60, 3), np.uint8))
    detector.reset()
    assert not detector(_picture(16))
    for threshold in (0, -0.1, 1.01):
        with pytest.raises(ValueError, match=f"cut threshold is {threshold}: expected more than 0"):
            CutDetector(threshold)


def test_what_moves_within_a_quarter_is_no_cut() -> None:
    """Counts of quarters: from the left half to the right one is as far as another colour."""
    image = np.full((48, 64, 3), 16, np.uint8)
    left, moved, right = image.copy(), image.copy(), image.copy()
    left[:, :8], moved[:, 20:28], right[:, 40:48] = 240, 240, 240
    detector = CutDetector(0.05)
    assert [detector(picture) for picture in (left, moved, right)] == [False, False, True]


def test_given_boxes_by_their_frames() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 0, 0], [20, 5, 40, 30.0]])
    people = GivenBoxes(boxes)
    found = [people.propose(frame(i))[0] for i in range(3)]
    assert [p.box.tolist() for p in found] == [[0, 0, 10, 10], [0, 0, 10, 10], [20, 5, 40, 30]]
    assert {tuple(p.shot_box.tolist()) for p in found} == {(0, 0, 40, 30)}
    with pytest.raises(ValueError, match="frame 3 has no box: 3 were given"):
        people.propose(frame(3))
    (whole,) = GivenBoxes().propose(frame(9))
    assert whole.box.tolist() == whole.shot_box.tolist() == [0, 0, 200, 100]
    (one,) = GivenBoxes([1, 2, 3, 4]).propose(frame(9))
    assert one.box.tolist() == [1, 2, 3, 4] and one.track_id == 0
    for wrong in (np.zeros((2, 2, 4)), np.zeros(3), np.zeros((2, 5))):
        with pytest.raises(ValueError, match=r"boxes must be \(4,\) or \(N, 4\), got"):
            GivenBoxes(wrong)
    for empty in ([5, 5, 5, 9], [[5, 5, 5, 9], [1, 8, 3, 7]]):
        with pytest.raises(ValueError) as error:
            GivenBoxes(np.array(empty))
        assert str(error.value) == "no box has an area: [5.0, 5.0, 5.0, 9.0] (x0 y0 x1 y1)"


def test_what_one_known_person_is_called() -> None:
    """Number 0 on all frames and in all shots; a search that begins anew is in the first region."""
    given, followed = GivenBoxes([1, 2, 30, 40]), FollowedPerson([1, 2, 30, 40], margin=1.0)
    assert given.independent is True and followed.independent is False
    found = np.array([[[5, 6, 0.9], [9, 16, 0.9]]], np.float32)
    for people, second in ((given, [1, 2, 30, 40]), (followed, [5, 6, 9, 16])):
        assert people.found is None and people.tracked() is None
        proposed = people.propose(frame(0))
        verdict = people.update(proposed, found)
        assert verdict.track_ids.tolist() == verdict.numbers.tolist() == [0]
        assert verdict.track_ids.dtype == np.int64
        (again,) = people.recall(frame(1), None)
        assert (again.track_id, again.box.tolist()) == (0, second)
        people.reset()
        assert people.propose(frame(2))[0].box.tolist() == [1, 2, 30, 40]


def test_the_extent_of_a_pose_by_hand() -> None:
    """Joints from (10, 20) to (30, 60): 20 and 40 px times 1.5 about (20, 40)."""
    pose = np.array([[10, 20, 0.2], [30, 60, 0.4]], np.float32)
    assert pose_extent(pose, 1.5, 0.3).tolist() == pytest.approx([5, 10, 35, 70])
    assert pose_extent(pose, 1.5, 0.31) is None and pose_extent(pose[:0], 1.5, 0.0) is None
    assert pose_extent(pose[:1], 1.5, 0.0) is None  # a point has no extent


def test_the_region_of_a_shot_where_a_box_is_none() -> None:
    """The box of this frame has no area: the shot's alone counts, and where neither has, both."""
    empty, real = np.array([9.0, 9, 9, 9]), np.array([20.0, 5, 40, 30])
    for box, shot, expected in (
        (real, empty, real),
        (empty, real, real),
        (empty, empty + 4, [9, 9, 13, 13]),
        (real, real + 10, [20, 5, 50, 40]),
    ):
        np.testing.assert_array_equal(_union(Person(0, box, shot)), expected)
