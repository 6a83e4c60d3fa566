"""What poses say about people: each rule with a scene that fails without it."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from video_pose.data.cropping import is_valid_box
from video_pose.inference import detected_people
from video_pose.inference.detected_people import (
    DetectedPeople,
    moved_box,
    pairwise_oks,
    pose_boxes,
    pose_scores,
)
from video_pose.inference.frames import Frame
from video_pose.inference.settings import PredictorSettings
from video_pose.inference.trackers import IoUTracker, Tracker, build_tracker

GOLDEN = Path(__file__).parent / "golden"
IMAGE = np.zeros((200, 400, 3), np.uint8)
SIGMAS = np.full(6, 0.1)
# Six joints in a box, as shares of its sides.
SHAPE = np.array([[0.5, 0], [0, 0.3], [1, 0.3], [0.5, 0.5], [0.2, 1], [0.8, 1]])


def box(x: float, y: float = 100.0, width: float = 40.0, height: float = 80.0) -> np.ndarray:
    return np.array([x - width / 2, y - height / 2, x + width / 2, y + height / 2])


def pose(corners: np.ndarray, score: float = 0.9) -> np.ndarray:
    """(6, 3): a body that fills the box."""
    xy = corners[:2] + SHAPE * (corners[2:] - corners[:2])
    return np.concatenate([xy, np.full((6, 1), score)], axis=1)


class World:
    """What a detector and a pose model tell, frame by frame, and who is shown."""

    def __init__(self, tracker: Callable[..., Tracker] = IoUTracker, **options: object) -> None:
        self.boxes: list[np.ndarray] = []
        self.score = 0.9  # of all boxes
        self.index = -1
        self.calls = 0
        made = tracker(min_score=0.2, max_missed_seconds=1.0)
        given = {"sigmas": SIGMAS, "person_threshold": 0.3, "box_smoothing": 0.0, **options}
        self.people = DetectedPeople(self._detect, made, **given)  # type: ignore[arg-type]

    def _detect(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.calls += 1
        return np.array(self.boxes).reshape(-1, 4), np.full(len(self.boxes), self.score)

    def frame(self, boxes: list[np.ndarray], poses: list[np.ndarray]) -> list[int]:
        """Numbers, -1 of the hidden; ``poses`` in the order in which people are looked for."""
        self.boxes, self.index = boxes, self.index + 1
        found = self.people.propose(Frame(self.index, self.index / 25, IMAGE))
        self.looked_at = [person.box for person in found]
        assert len(found) == len(poses), (len(found), len(poses))
        if not found:
            return []
        return self.people.update(found, np.stack(poses).astype(np.float32)).numbers.tolist()


@pytest.mark.parametrize("name", ["iou", "ocsort"])
def test_nobody_of_the_first_frame_is_missing(name: str) -> None:
    """The package's trackers number people at the second sight."""
    if name != "iou":
        pytest.importorskip("trackers")
    world = World(partial(build_tracker, name))
    assert world.frame([box(50), box(200)], [pose(box(50)), pose(box(200))]) == [0, 1]


@pytest.mark.parametrize(("score", "shown"), [(0.39, []), (0.4, [0])])
def test_a_detection_begins_a_person_from_four_tenths_on(score: float, shown: list[int]) -> None:
    begins = PredictorSettings().begins(0.2)
    world = World(lambda **options: IoUTracker(**{**options, "min_score": begins}))
    world.score = score
    assert world.frame([box(50)], [pose(box(50))] * len(shown)) == shown


def test_two_boxes_on_one_person_are_one_person() -> None:
    """The whole body and its upper half are no duplicates by overlap (.5), but of one pose."""
    world = World()
    whole, half = box(50), np.array([30, 60, 70, 100.0])
    first = pose(whole)
    second = first.copy()
    second[4:, 2] = 0.1  # the legs are not in the half box
    assert world.frame([whole, half], [first, second]) == [0, -1]
    # Who was known first stays, though the other's pose is the better one now.
    first[:, 2] = 0.7
    assert world.frame([whole], [first]) == [0]


def test_who_is_known_keeps_a_pose_before_whoever_is_new() -> None:
    """However far it moved, and however sure the newcomer's is."""
    world = World()
    assert world.frame([box(50)], [pose(box(50))]) == [0]
    moved, half = box(58), np.array([38, 60, 78, 100.0])
    assert world.frame([moved, half], [pose(moved, 0.6), pose(moved, 1.0)]) == [0, -1]


def test_two_people_side_by_side_both_stay() -> None:
    world = World()
    assert world.frame([box(50), box(75)], [pose(box(50)), pose(box(75))]) == [0, 1]


def test_a_poor_skeleton_inside_a_persons_box_is_nobody() -> None:
    """A face taken for a body, an upper body of .65 in a whole one of .9; a child in front of its
    mother, with a good pose, is somebody."""
    mother, inner = box(100, width=80, height=160), box(100, width=30, height=60)
    assert World().frame([mother, inner], [pose(mother), pose(inner, 0.65)]) == [0, -1]
    assert World().frame([mother, inner], [pose(mother), pose(inner, 0.4)]) == [0, -1]
    assert World().frame([mother, inner], [pose(mother), pose(inner, 0.8)]) == [0, 1]


def test_an_arm_needs_a_better_pose_than_its_owner() -> None:
    """A box of 1/9 of the other's area, which is less than 1/8, with a pose of .85; one of 9/64
    is not measured so, and somebody far behind, with the better pose, is shown."""
    owner = box(100, width=72, height=144)
    arm, child = box(100, width=24, height=48), box(100, width=27, height=54)
    assert World().frame([owner, arm], [pose(owner), pose(arm, 0.85)]) == [0, -1]
    assert World().frame([owner, child], [pose(owner), pose(child, 0.85)]) == [0, 1]
    assert World().frame([owner, arm], [pose(owner, 0.8), pose(arm, 0.85)]) == [0, 1]


def test_a_thing_without_a_pose_is_never_shown_and_soon_not_looked_at() -> None:
    """.3 s = 8 frames of trial, then 1 s = 25 frames without, and so on."""
    world = World()
    shown, looked = [], []
    for _ in range(60):
        world.boxes, world.index = [box(50)], world.index + 1
        found = world.people.propose(Frame(world.index, world.index / 25, IMAGE))
        looked.append(len(found))
        if found:
            poses = np.stack([pose(box(50), 0.1)]).astype(np.float32)
            shown += world.people.update(found, poses).numbers.tolist()
    assert set(shown) == {-1}
    assert looked == [1] * 9 + [0] * 24 + [1] * 9 + [0] * 18


def test_somebody_known_may_have_a_poor_moment_but_is_given_up_after_long() -> None:
    world = World(max_missed=0.4)
    scores = [0.9] * 3 + [0.1] * 3 + [0.9] * 2 + [0.1] * 12
    numbers = [world.frame([box(50)], [pose(box(50), score)])[0] for score in scores]
    assert numbers == [0] * 3 + [-1] * 3 + [0] * 2 + [-1] * 12
    assert world.people._tracks[0].number == -1  # .4 s = 10 frames without a pose
    assert world.frame([box(50)], []) == []  # and is not looked at for a second


def test_a_newcomers_pose_makes_up_for_what_the_detector_doubts() -> None:
    """.36 + .3 (1 - score): .39 of a detection of .9, .57 of one of .3; .3 once known."""
    sure, unsure = World(), World()
    unsure.score = 0.3
    assert sure.frame([box(50)], [pose(box(50), 0.38)]) == [-1]
    assert sure.frame([box(50)], [pose(box(50), 0.4)]) == [0]
    assert sure.frame([box(50)], [pose(box(50), 0.31)]) == [0]
    assert unsure.frame([box(50)], [pose(box(50), 0.56)]) == [-1]
    assert unsure.frame([box(50)], [pose(box(50), 0.58)]) == [0]
    assert unsure.frame([box(50)], [pose(box(50), 0.31)]) == [0]


def test_a_few_good_joints_are_nobody() -> None:
    """Two knees of somebody who has a skeleton already: a mean of .33 in the better half of six
    joints, of which fewer than a third, two, is sure; two are enough for half a body. Without a
    threshold of poses everything is shown."""
    knees, half = pose(box(50), 0.05), pose(box(50), 0.05)
    knees[0, 2], half[:2, 2] = 0.9, 0.9
    world = World()
    assert pose_scores(knees[None])[0] > 0.3
    assert world.frame([box(50)], [pose(box(50))]) == [0]
    assert world.frame([box(50)], [knees]) == [-1] and world.frame([box(50)], [half]) == [0]
    assert World(person_threshold=0.0).frame([box(50)], [knees]) == [0]


def test_the_surest_detection_of_a_person_counts() -> None:
    world = World()
    assert world.frame([box(50)], [pose(box(50), 0.38)]) == [-1]
    world.score = 0.3
    assert world.frame([box(50)], [pose(box(50), 0.4)]) == [0]


class Strict(IoUTracker):
    """Passes over weak detections, as OC-SORT does."""

    def update(self, boxes: np.ndarray, scores: np.ndarray, time: float) -> np.ndarray:
        numbers = np.full(len(boxes), -1, np.int64)
        sure = np.flatnonzero(scores >= 0.5)
        numbers[sure] = super().update(boxes[sure], scores[sure], time)
        return numbers


def test_a_weak_detection_goes_on_with_somebody_known_whatever_the_tracker() -> None:
    """Seated half hidden, .2 for a second: found where the box is, not where the pose was."""
    world = World(Strict, follow=0.0)
    poses = [pose(box(50)), pose(box(300))]
    assert world.frame([box(50), box(300)], poses) == [0, 1]
    world.score = 0.2
    for i in range(25):
        assert world.frame([box(51 + i), box(299 - i)], poses) == [0, 1]
        np.testing.assert_allclose(world.looked_at, [box(51 + i), box(299 - i)])
    # Nobody begins so, and a weak box elsewhere is not that person.
    world.people.reset()
    assert world.frame([box(200)], []) == []


def test_who_is_missed_by_the_detector_is_followed_by_the_pose() -> None:
    """Missed on three frames while walking at 2 px a frame; nobody is left out, nobody is new."""
    world = World()
    numbers = []
    for i in range(10):
        place = box(50 + 2 * i)
        numbers.append(world.frame([] if 4 <= i <= 6 else [place], [pose(place)]))
    assert numbers == [[0]] * 10


def test_good_poses_carry_a_person_on_without_detections_and_poor_ones_do_not() -> None:
    """Two seconds at 2 px a frame, growing: the box goes along. A poor pose ends it in .2 s."""
    world = World(follow=1.6, bridge=0.2)
    place = box(50)
    assert world.frame([place], [pose(place)]) == [0]
    for i in range(1, 41):
        place = box(50 + 2 * i, width=40 * 1.005**i, height=80 * 1.005**i)
        assert world.frame([], [pose(place)]) == [0]
        assert np.abs(world.looked_at[0] - place).max() < 4
        # The speed is learnt from the poses: the search is not a frame behind them.
        assert i < 10 or abs(world.looked_at[0][[0, 2]].mean() - (50 + 2 * i)) < 0.5
    assert world.frame([], []) == []
    world = World(follow=1.6, bridge=0.2)
    assert world.frame([box(50)], [pose(box(50))]) == [0]
    numbers = [world.frame([], [pose(box(50), 0.1)]) for _ in range(5)]
    assert numbers == [[-1]] * 5 and world.frame([], []) == []


def test_who_is_hidden_does_not_take_over_another_body() -> None:
    """Somebody walks behind another: what is found at the expected place is half the other's body,
    a good pose that does not go on with the last one. Seen again, the number is the same."""
    world = World(box_smoothing=0.05)
    for i in range(8):
        place = box(50 + 8 * i)
        assert world.frame([place], [pose(place)]) == [0]
    for i in range(8, 11):
        lying = box(50 + 8 * i, width=90, height=40)
        assert world.frame([], [pose(lying)]) == [-1]
        np.testing.assert_allclose(world.looked_at[0], box(50 + 8 * i), atol=8)
    assert world.frame([box(138)], [pose(box(138))]) == [0]


def test_a_box_goes_on_as_its_pose_by_hand() -> None:
    """Shifted by 10 and 5 % larger about the joints' mean; a doubtful joint says nothing."""
    old = pose(box(50))
    new = old.copy()
    new[:, :2] = (old[:, :2] - old[:, :2].mean(0)) * 1.05 + old[:, :2].mean(0) + 10
    centre = old[:, :2].mean(0)
    expected = ((box(50).reshape(2, 2) - centre) * 1.05 + centre + 10).ravel()
    np.testing.assert_allclose(moved_box(box(50), old, new), expected)
    strange = old.copy()
    strange[0] = [300, 300, 0.1]
    np.testing.assert_allclose(moved_box(box(50), old, strange), box(50))
    np.testing.assert_allclose(moved_box(box(50), old, new * [1, 1, 0]), box(50))


def test_one_skeleton_over_two_people_is_nobody() -> None:
    """One above the other, each with a better pose than the skeleton in the box over both. A
    mother whose pose is the best of the three stays, and so does she with one child."""
    upper, lower = box(50, 40, height=60), box(50, 120, height=60)
    both = np.array([28, 8, 72, 152.0])
    scene = [upper, lower, both]
    assert World().frame(scene, [pose(upper), pose(lower), pose(both, 0.7)]) == [0, 1, -1]
    assert World().frame(scene, [pose(upper), pose(lower), pose(both, 0.95)]) == [0, 1, 2]
    assert World().frame([upper, both], [pose(upper), pose(both, 0.7)]) == [0, 1]


def test_a_pose_that_continues_a_lost_persons_is_that_person() -> None:
    """After a gap the detector gives only a quarter: by boxes (overlap .19) it is another."""
    world = World(bridge=0.0)
    place = box(50)
    for _ in range(3):
        assert world.frame([place], [pose(place)]) == [0]
    for _ in range(4):
        assert world.frame([], []) == []
    upper = np.array([30, 60, 50, 90.0])
    assert world.frame([upper], [pose(place)]) == [0]
    far = World(bridge=0.0)
    far.frame([place], [pose(place)])
    far.frame([], [])
    assert far.frame([box(120)], [pose(box(120))]) == [1]


def test_poses_put_right_what_boxes_confused() -> None:
    """Two people stand close, one large and one small. The tracker gives each the other's box; by
    their poses the numbers stay, and the memory moves along."""
    world = World()
    large, small = box(100, width=60, height=160), box(130, width=40, height=80)
    for _ in range(2):
        assert world.frame([large, small], [pose(large), pose(small)]) == [0, 1]

    class Confused(IoUTracker):
        def update(self, boxes: np.ndarray, scores: np.ndarray, time: float) -> np.ndarray:
            return super().update(boxes, scores, time)[::-1]

    world.people._tracker.__class__ = Confused
    world.boxes, world.index = [large, small], 2
    found = world.people.propose(Frame(2, 2 / 25, IMAGE))
    assert [person.track_id for person in found] == [0, 1]
    np.testing.assert_allclose(found[0].box, small)
    verdict = world.people.update(found, np.stack([pose(small), pose(large)]).astype(np.float32))
    assert verdict.track_ids.tolist() == [1, 0] and verdict.numbers.tolist() == [1, 0]


def test_a_standing_persons_box_trembles_less_and_a_fast_ones_follows() -> None:
    """Detected with an error of +-4 px; then a leap by half the width."""
    random = np.random.default_rng(0)
    seen = {0.0: [], 0.15: []}
    for smoothing, places in seen.items():
        world = World(box_smoothing=smoothing)
        random = np.random.default_rng(0)
        for _ in range(60):
            place = box(100) + random.uniform(-4, 4, 4)
            world.frame([place], [pose(box(100))])
            places.append(world.looked_at[0])
        world.frame([box(120)], [pose(box(120))])
    second = {k: np.abs(np.diff(np.array(v), n=2, axis=0)).mean() for k, v in seen.items()}
    assert second[0.15] < 0.4 * second[0.0]
    assert abs(world.looked_at[0][[0, 2]].mean() - 120) < 8


def test_no_more_people_than_asked_for_and_the_known_ones_first() -> None:
    world = World(max_people=1)
    assert world.frame([box(50)], [pose(box(50))]) == [0]
    assert world.frame([box(200), box(50)], [pose(box(50))]) == [0]


def test_similarity_by_hand() -> None:
    """Boxes of 40 x 80, size^2 3200, 2 sigma .2: a shift of d px gives exp(-d^2 / (2 3200 .04))."""
    a, b = pose(box(50))[None], pose(box(60))[None]
    expected = np.exp(-100 / (2 * 3200 * 0.04))
    np.testing.assert_allclose(pairwise_oks(a, b, SIGMAS), [[expected]])
    b[0, 2:, 2] = 0.1  # two sure joints are too few
    assert pairwise_oks(a, b, SIGMAS)[0, 0] == 0


@pytest.mark.parametrize(("width", "height", "size"), [(0, 0, 1), (1, 0.5, 1), (1.5, 1, 1.5)])
def test_a_pose_of_no_extent_counts_as_one_pixel(width: float, height: float, size: float) -> None:
    """Else it were like nothing, not even itself."""
    a = pose(np.array([0, 0, width, height], float))[None]
    b = a + np.array([0.25, 0, 0])
    np.testing.assert_allclose(
        pairwise_oks(a, b, SIGMAS), [[np.exp(-(0.25**2) / (2 * size * 0.04))]]
    )
    assert pairwise_oks(a, a, SIGMAS)[0, 0] == 1


def test_a_poses_score_is_that_of_its_better_half() -> None:
    """Legs outside the picture do not count against a person."""
    half = pose(box(50))
    half[:, 2] = [0.9, 0.8, 0.7, 0.1, 0.0, 0.0]
    assert pose_scores(half[None])[0] == pytest.approx(0.8)
    assert pose_scores(np.zeros((2, 0, 3))).tolist() == [1, 1]
    np.testing.assert_allclose(pose_boxes(half[None])[0], [30, 60, 70, 84])
    assert is_valid_box(pose_boxes(half[None])).all() and detected_people.SURE_JOINT == 0.2


def test_a_detector_that_works_ahead_finds_the_same() -> None:
    """In a thread of its own; frames that are passed over take their detections with them."""
    pictures = [np.full((200, 400, 3), number, np.uint8) for number in range(6)]
    frames = [Frame(i, i / 25, picture) for i, picture in enumerate(pictures)]
    threads: set[int] = set()

    def detect(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        threads.add(threading.get_ident())
        return box(50.0 + 3 * image[0, 0, 0])[None], np.array([0.9])

    def look(detector_threads: int, kept: list[int]) -> list[np.ndarray]:
        people = DetectedPeople(
            detect, IoUTracker(min_score=0.5, max_missed_seconds=1.0), box_smoothing=0.0,
            detector_threads=detector_threads,
        )  # fmt: skip
        ahead = [frame for frame in people.ahead(frames) if frame.index in kept]
        return [people.propose(frame)[0].box for frame in ahead]

    for kept in ([*range(6)], [0, 2, 3, 5]):
        found, expected = look(1, kept), look(0, kept)
        np.testing.assert_array_equal(found, expected)
    assert len(threads) > 1 and threading.get_ident() in threads


def test_what_goes_wrong_ahead_is_raised() -> None:
    def detect(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise ValueError("no such picture")

    tracker = IoUTracker(min_score=0.5, max_missed_seconds=1.0)
    people = DetectedPeople(detect, tracker, detector_threads=1)
    with pytest.raises(ValueError, match="no such picture"):
        next(people.ahead([Frame(0, 0.0, IMAGE)]))
    # Not every frame has a detection: nothing is known beforehand.
    followed = DetectedPeople(detect, tracker, every=2, detector_threads=1)
    assert [frame.index for frame in followed.ahead([Frame(0, 0.0, IMAGE)])] == [0]


CROWDS: dict[str, dict[str, object]] = {
    "each frame": {"box_smoothing": 0.15},
    "each third frame": {"every": 3},
    "two at most": {"max_people": 2, "bridge": 0.1, "follow": 0.3, "person_threshold": 0.5},
    "boxes alone": {"sigmas": (), "person_threshold": 0.0},
}


def _scene(rng: np.random.Generator, n: int) -> tuple[list[np.ndarray], list[float], np.ndarray]:
    """Boxes, their scores and bodies of frame ``n``: five who walk, two of them across the others;
    some are missed, seen twice, by half, or two as one; chairs are taken for people."""
    speeds, starts = np.array([3, -4, 1, 0, 2.0]), np.array([20, 380, 150, 210, 60.0])
    bodies = np.stack(
        [box(x, 90 + 8 * i, 36 + 4 * i, 90) for i, x in enumerate(starts + speeds * n)]
    )
    seen = [i for i in range(5) if rng.uniform() < 0.8]
    boxes = [bodies[i] + rng.uniform(-3, 3, 4) for i in seen]
    boxes += [bodies[i] * [1, 1, 1, 0.75] for i in seen if rng.uniform() < 0.1]
    if n % 7 == 3:
        boxes.append(np.concatenate([bodies[2:4, :2].min(0), bodies[2:4, 2:].max(0)]))
    if n % 5 > 1:
        boxes.append(box(300, 170, 30, 40))
    return boxes, rng.uniform(0.15, 0.95, len(boxes)).tolist(), bodies


def _walk(options: dict[str, object], frames: int = 70) -> str:
    """A line a frame: numbers, and where people were looked for. Around 45 the picture stands."""
    rng = np.random.default_rng(3)
    lines = []
    now: tuple[list[np.ndarray], list[float], np.ndarray]

    def detect(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.array(now[0]).reshape(-1, 4), np.array(now[1])

    given = {"sigmas": SIGMAS, "person_threshold": 0.3, "sure_score": 0.4, **options}
    tracker = IoUTracker(min_score=0.4, max_missed_seconds=0.5)
    people = DetectedPeople(detect, tracker, max_missed=0.5, **given)  # type: ignore[arg-type]
    for n in range(frames):
        now = _scene(rng, n)
        time = min(n, 45) / 25 if n < 47 else n / 25
        if n == 60:
            people.reset()
        found = people.propose(Frame(n, time, IMAGE))
        poses = []
        for person in found:
            overlap = detected_people.pairwise_iou(person.box[None], now[2])[0]
            sure = 0.2 + 0.8 * overlap.max() if rng.uniform() < 0.9 else 0.1
            body = pose(now[2][overlap.argmax()] + rng.normal(0, 1, 4), sure)
            body[rng.integers(6), 2] = 0.1
            poses.append(body)
        verdict = people.update(found, np.array(poses, np.float32).reshape(-1, 6, 3))
        places = [f"{p.track_id}:{p.box.round(1).tolist()}" for p in found]
        lines.append(f"{verdict.numbers.tolist()} {verdict.track_ids.tolist()} {' '.join(places)}")
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("name", CROWDS)
def test_a_crowd_to_the_letter(name: str) -> None:
    """Who is who on every frame of a made-up street: no rule may change in silence. Where a change
    is wanted, VIDEO_POSE_GOLDEN=1 writes it anew; the difference is to be read."""
    golden = GOLDEN / f"crowd_{name.replace(' ', '_')}.txt"
    text = _walk(CROWDS[name])
    if os.environ.get("VIDEO_POSE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


def test_what_a_policy_refuses_and_takes() -> None:
    tracker = IoUTracker()
    with pytest.raises(ValueError, match="a detection every 0 frames: expected 1 or more"):
        DetectedPeople(lambda image: (np.zeros((0, 4)), np.zeros(0)), tracker, every=0)
    people = DetectedPeople(lambda image: (np.zeros((0, 4)), np.zeros(0)), tracker)
    assert people.propose(Frame(0, 0.0, IMAGE)) == [] and people.tracked() == set()
    assert people.independent is False and people.found is not None


def test_boxes_within_boxes_by_hand() -> None:
    """A quarter of the first is in the second; all of the second in neither; the empty nowhere."""
    boxes = np.array([[0, 0, 4, 4], [2, 2, 6, 10], [1, 1, 1, 5.0]])
    np.testing.assert_allclose(
        detected_people.shares_inside(boxes), [[1, 0.25, 0], [0.125, 1, 0], [0, 0, 0]]
    )
    np.testing.assert_allclose(detected_people.box_areas(boxes), [16, 32, 0])
    small = np.array([[0, 0, 0.5, 0.5], [0, 0, 0.5, 0.25]])
    np.testing.assert_allclose(detected_people.shares_inside(small), [[1, 0.5], [1, 1]])


def track(**given: object) -> detected_people._Track:
    """Somebody in a box of 40 x 80 px, last seen at 0 s, who walks 20 px/s to the right and 10
    down."""
    place = box(50)
    values = {"box": place, "shot_box": place, "born": 0.0, "time": 0.0, "detected": 0.0,
              "score": 0.5, "good": 0.0, "tracker_number": 0, "speed": np.array([20.0, 10]),
              "look": place, "proposed": False}  # fmt: skip
    return detected_people._Track(**(values | given))  # type: ignore[arg-type]


def test_a_smoothed_box_and_its_speed_by_hand() -> None:
    """Expected 2 px to the right and 1 down after .1 s; found 4, 2 and wider by 6. With a time
    constant of .2 s, 1 - exp(-.5) of the difference is believed."""
    seen = track()
    seen.see(box(50) + [4, 2, 10, 2], 0.4, 0.1, 0.2)
    gain = 1 - np.exp(-0.5)
    expected = box(50) + [2, 1, 2, 1] + gain * np.array([2, 1, 8, 1])
    np.testing.assert_allclose(seen.box, expected)
    steps = np.array([2 + gain * 5, 1 + gain * 1])  # of the centre, in .1 s
    np.testing.assert_allclose(seen.speed, [20, 10] + gain * (steps / 0.1 - [20, 10]))
    assert (seen.time, seen.detected, seen.score) == (0.1, 0.1, 0.5)
    assert seen.look is seen.box and seen.proposed
    seen.see(box(60), 0.7, 0.2, 0.2)
    assert seen.score == 0.7


def test_a_box_that_is_far_from_expected_is_news() -> None:
    """What does not overlap is believed wholly, half of the union by half at least."""
    seen = track()
    seen.see(box(150, 120), 0.5, 0.1, 0.2)
    np.testing.assert_allclose(seen.box, box(150, 120))
    np.testing.assert_allclose(seen.speed, [1000, 200])
    half = track(speed=np.zeros(2))
    half.see(box(50, 120, 40, 40), 0.5, 0.01, 9.0)  # the lower half
    np.testing.assert_allclose(half.box, box(50) + [0, 20, 0, 0])
    np.testing.assert_allclose(half.speed, [0, 500])  # half of what the centre's 10 px say


@pytest.mark.parametrize(("time", "smoothing"), [(0.0, 0.2), (-0.1, 0.2), (0.1, 0.0)])
def test_a_box_is_taken_as_it_is_where_nothing_can_be_smoothed(
    time: float, smoothing: float
) -> None:
    seen, place = track(), box(60)
    seen.see(place, 0.5, time, smoothing)
    assert seen.box is seen.look is place and seen.time == seen.detected == time
    assert seen.speed.tolist() == [20, 10]


def test_a_box_that_follows_a_pose_by_hand() -> None:
    """12 px to the right and 4 down in .2 s are 60 and 20 px/s, half of which is believed."""
    followed = track(pose=pose(box(50)))
    followed.follow(pose(box(62, 104)), 0.2)
    np.testing.assert_allclose(followed.box, box(62, 104))
    np.testing.assert_allclose(followed.speed, [40, 15])
    assert followed.look is followed.box and (followed.time, followed.detected) == (0.2, 0.0)
    for time in (0.2, 0.1):
        followed.follow(pose(box(90)), time)
        np.testing.assert_allclose(followed.box, box(62, 104))
    np.testing.assert_allclose(followed.expected(0.4), box(62, 104) + [8, 3, 8, 3])
    moved = followed.moved_pose(0.1)
    assert moved is not None and followed.pose is not None
    np.testing.assert_allclose(moved, followed.pose + [4, 1.5, 0])
    assert track().moved_pose(0.1) is None


class Told:
    """A tracker that gives the numbers that it was told."""

    def __init__(self) -> None:
        self.numbers: list[int] = []

    def update(self, boxes: np.ndarray, scores: np.ndarray, time: float) -> np.ndarray:
        self.given = boxes.tolist(), scores.tolist(), time
        return np.array(self.numbers, np.int64)

    def reset(self) -> None:
        self.numbers = []


def told(**options: object) -> DetectedPeople:
    given = {"sigmas": SIGMAS, "person_threshold": 0.25, "box_smoothing": 0.0, **options}
    return DetectedPeople(lambda image: (np.zeros((0, 4)), np.zeros(0)), Told(), **given)  # type: ignore[arg-type]


def see(
    people: DetectedPeople, time: float, found: dict[int, np.ndarray], *scores: float
) -> list[int]:
    """Boxes by the tracker's numbers, all of a score of .9 where none are told: whom to look at."""
    people._tracker.numbers = list(found)  # type: ignore[attr-defined]
    boxes = np.array(list(found.values())).reshape(-1, 4)
    detections = boxes, np.array(scores or [0.9] * len(found))
    return [one.track_id for one in people.recall(Frame(0, time, IMAGE), detections)]


def judge(people: DetectedPeople, *poses: np.ndarray) -> list[int]:
    """Of tracks 0, 1, ...: the numbers under which they are shown."""
    return people.judge(range(len(poses)), np.stack(poses).astype(np.float32)).numbers.tolist()


def test_what_detections_become() -> None:
    """Boxes without an area go to no tracker; who has no number yet is nobody; numbers stay."""
    people = told()
    boxes = np.array([box(50), [5, 5, 5, 9], box(150), box(250), [np.nan, 0, 4, 4]])
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    tracker = people._tracker
    tracker.numbers = [7, -1, 0]  # type: ignore[attr-defined]
    assert people.assign(boxes, scores, 0.5).tolist() == [0, -1, -1, 1, -1]
    valid = [boxes[i].tolist() for i in (0, 2, 3)]
    assert tracker.given == (valid, [0.9, 0.7, 0.6], 0.5)  # type: ignore[attr-defined]
    tracker.numbers = [0, 3, 7]  # type: ignore[attr-defined]
    assert people.assign(boxes, scores, 0.6).tolist() == [1, -1, 2, 0, -1]
    first = people._tracks[0]
    assert first.box.tolist() == box(250).tolist() and (first.born, first.detected) == (0.5, 0.6)
    assert first.shot_box.tolist() == box(50).tolist() and first.score == 0.9
    assert first.good == -np.inf and first.speed.tolist() == [0, 0]
    assert people._tracks[2].score == 0.7 and people.tracked() == {0, 1, 2}


@pytest.mark.parametrize(("after", "kept"), [(0.5, True), (0.501, False)])
def test_who_is_not_seen_for_just_so_long_is_kept(after: float, kept: bool) -> None:
    people = told(max_missed=0.5)
    see(people, 0.25, {3: box(50)})
    assert see(people, 0.25 + after, {}) == [] and people.tracked() == ({0} if kept else set())
    assert see(people, 0.25 + after, {3: box(50)}) == [0 if kept else 1]


@pytest.mark.parametrize(("score", "due"), [(0.5, 1), (0.49, 4)])
def test_when_the_detector_runs_again(score: float, due: int) -> None:
    """On the next frame where a sure box is nobody's yet, else after as many as were asked for."""
    people = told(every=4, sure_score=0.5)
    people._tracker.numbers = [-1, 5]  # type: ignore[attr-defined]
    boxes = np.stack([box(50), box(150)])
    people.recall(Frame(6, 0.0, IMAGE), (boxes, np.array([score, 0.9])))
    called: list[int] = []
    people._detector = lambda image: called.append(1) or (np.zeros((0, 4)), np.zeros(0))
    people._tracker.numbers = []  # type: ignore[attr-defined]
    for index in range(7, 12):
        people.propose(Frame(index, 0.0, IMAGE))
        if called:
            break
    assert index == 6 + due
    people.reset()
    called.clear()
    people.propose(Frame(index + 1, 0.0, IMAGE))
    assert called == [1]


def test_of_many_those_known_first_and_for_longest_are_looked_at() -> None:
    """Track 1 is shown since the first frame, 0 never was, 2 and 3 are newer."""
    people = told(max_people=2)
    see(people, 0.0, {1: box(50), 2: box(150)})
    assert judge(people, pose(box(50), 0.1), pose(box(150))) == [-1, 0]
    every = {1: box(50), 2: box(150), 3: box(250), 4: box(350)}
    assert see(people, 0.1, every) == [0, 1]
    people.judge([3], np.float32([pose(box(350))]))
    assert see(people, 0.2, every) == [1, 3]
    people._max_people = 3
    assert see(people, 0.2, every) == [0, 1, 3]
    people._max_people = 0
    assert see(people, 0.2, every) == [0, 1, 2, 3]


@pytest.mark.parametrize(("wide", "number", "expected"), [(3, 0, 0), (2.9, 0, -1), (3, -1, -1)])
def test_a_weak_box_of_just_enough_overlap_is_somebody_known(
    wide: float, number: int, expected: int
) -> None:
    """Of 10 x 10 px a strip of 3 is .3. Of nobody known it is nothing."""
    people = told()
    see(people, 0.0, {5: np.array([0.0, 0, 10, 10])})
    people._tracks[0].number = number
    strip = np.array([[0.0, 0, wide, 10]])
    people._tracker.numbers = [-1]  # type: ignore[attr-defined]
    assert people.assign(strip, np.array([0.1]), 0.1).tolist() == [expected]
    assert people._tracks[0].detected == (0.1 if expected == 0 else 0.0)


def test_weak_boxes_go_to_those_whom_no_other_box_shows() -> None:
    """Two of three are missed; each has the box that lies where they would be by now."""
    people = told()
    see(people, 0.0, {5: box(50), 6: box(150), 7: box(250)})
    judge(people, *(pose(box(x)) for x in (50, 150, 250)))
    people._tracks[1].speed = np.array([100.0, 0])
    people._tracker.numbers = [-1, 6 - 1, -1, -1]  # type: ignore[attr-defined]
    boxes = np.stack([box(252), box(52), box(160), box(54)])
    assert people.assign(boxes, np.full(4, 0.3), 0.1).tolist() == [2, 0, 1, -1]
    assert [people._tracks[key].box.tolist() for key in (0, 1, 2)] == boxes[[1, 2, 0]].tolist()


@pytest.mark.parametrize(
    ("detected", "good", "looked"),
    [(1.5, 2.75, [0]), (1.49, 2.75, []), (1.5, 2.74, []), (3.0, 3.0, [0])],
)
def test_for_how_long_somebody_missed_is_looked_for(
    detected: float, good: float, looked: list[int]
) -> None:
    """1.5 s after the last detection, .25 s after the last good pose: where they would be by now,
    not those of whom there was no pose."""
    people = told(follow=1.5, bridge=0.25, max_missed=9.0)
    see(people, 0.0, {5: box(50), 6: box(150)})
    known = people._tracks[0]
    known.pose, known.detected, known.good = pose(box(50)), detected, good
    known.speed = np.array([4.0, 2.0])
    people._tracks[1].detected, people._tracks[1].good = detected, good
    assert see(people, 3.0, {}) == looked
    if looked:
        np.testing.assert_allclose(known.look, box(50) + [12, 6, 12, 6])


@pytest.mark.parametrize(
    ("known", "score", "shown"), [(True, 0.25, True), (True, 0.24, False), (False, 0.46, True),
                                  (False, 0.44, False)],
)  # fmt: skip
def test_a_score_that_is_just_enough(known: bool, score: float, shown: bool) -> None:
    """A known person needs the threshold, .25; of a newcomer detected with .5 it is 1.2 x .25 +
    .3 x .5 = .45."""
    people = told()
    see(people, 0.0, {5: box(50)}, 0.5)
    assert people._needed(people._tracks[0]) == pytest.approx(0.45)
    if known:
        one = people._tracks[0]
        one.number, one.pose, one.good = 3, pose(box(50)), 0.0
    assert judge(people, pose(box(50), score)) == [(3 if known else 0) if shown else -1]


def test_joints_that_are_just_sure_count() -> None:
    """Two of six joints, of just the score that is sure."""
    for second, shown in ((0.2, 0), (0.19, -1)):
        people = told(person_threshold=1e-6)
        see(people, 0.0, {5: box(50)}, 1.0)
        body = pose(box(50), 0.0)
        body[0, 2], body[1, 2] = 0.9, second
        assert people.judge([0], body[None]).numbers.tolist() == [shown]


def test_a_trial_and_its_end() -> None:
    """.3 s of poor poses of somebody new; of somebody known as long as a lost one is remembered.
    A good pose begins the time anew; then nobody is looked at for 1 s."""
    for number, patience in ((-1, 0.3), (4, 0.5)):
        people = told(max_missed=0.5)
        see(people, 0.0, {5: box(50)})
        one = people._tracks[0]
        one.number, one.pose = number, pose(box(50))
        for time in (0.0, patience - 0.01):
            people._time = time
            people._doubt(one)
            assert (one.number, one.poor_since, one.refused_until) == (number, 0, -np.inf)
        people._time = patience
        people._doubt(one)
        assert (one.number, one.pose, one.poor_since) == (-1, None, np.inf)
        assert one.refused_until == patience + 1
        people._time = 0.0
        people._confirm(one, pose(box(50)))
        assert (one.number, one.good, one.poor_since) == (0, 0.0, np.inf)
    short = told(max_missed=0.1)
    see(short, 0.0, {5: box(50)})
    known = short._tracks[0]
    known.number, known.poor_since, short._time = 4, 0.0, 0.29
    short._doubt(known)
    assert known.number == 4  # no shorter than a newcomer's


@pytest.mark.parametrize(
    ("number", "other", "own", "expected"),
    [
        (0, 0.9, 1.0, "swap"), (0, 1.0, 1.0, ""), (0, 0.9, 0.9, ""), (-1, 0.9, 1.0, "join"),
        (-1, 1.0, 1.0, "trial"), (-1, 0.9, 0.9, "trial"), (0, None, 1.0, ""),
        (-1, None, 1.0, "refused"), (2, None, 1.0, ""),
    ],
)  # fmt: skip
def test_what_becomes_of_a_duplicate(
    number: int, other: float | None, own: float, expected: str
) -> None:
    """The person last detected at ``other`` s, now being 1 s, and a duplicate: known or new, last
    detected at ``own`` s; None: a skeleton over two others."""
    people = told()
    people._time = 1.0
    one = track(detected=other or 0.0, number=1, tracker_number=7, score=0.6)
    twin = track(detected=own, number=number, tracker_number=8, box=box(90), look=box(91),
                 speed=np.array([1.0, 2]), time=1.0, score=0.4, refused_until=5.0)  # fmt: skip
    people._tracks = {3: one, 4: twin}
    people._drop_twin(4, None if other is None else 3)
    boxes = [box(50), box(90)] if expected not in ("swap", "join") else [box(90), box(50)]
    assert one.box.tolist() == boxes[0].tolist()
    if expected == "join":
        assert people.tracked() == {3} and one.proposed and one.refused_until == -np.inf
        assert (one.time, one.detected, one.tracker_number, one.score) == (1.0, own, 8, 0.6)
        assert one.look.tolist() == box(91).tolist() and one.speed.tolist() == [1, 2]
        return
    assert twin.box.tolist() == boxes[1].tolist() and people.tracked() == {3, 4}
    assert twin.refused_until == {"trial": 1.3, "refused": 2.0}.get(expected, 5.0)
    if expected == "swap":
        assert (one.detected, one.tracker_number, one.time, one.number) == (own, 8, 1.0, 1)
        assert (twin.detected, twin.tracker_number, twin.time, twin.number) == (other, 7, 0.0, 0)
        assert twin.speed.tolist() == [20, 10] and twin.look.tolist() == box(50).tolist()


BIG = np.array([0.0, 0, 100, 100])


@pytest.mark.parametrize(
    ("inner", "scores", "twin"),
    [
        ([60, 0, 110, 50], (0.5, 0.374), True),  # .8 of it inside, poorer than .75 x .5
        ([60, 0, 110, 50], (0.5, 0.376), False),
        ([60.5, 0, 110.5, 50], (0.5, 0.3), False),
        ([0, 0, 12.5, 100], (0.5, 0.4), False),  # just an eighth
        ([0, 0, 12.4, 100], (0.5, 0.4), True),  # less: an arm
        ([0, 0, 12.4, 100], (0.5, 0.5), False),
    ],
)
def test_whose_pose_is_poor_inside_anothers_box(
    inner: list[float], scores: tuple[float, float], twin: bool
) -> None:
    """The poses are far from one another."""
    people = told()
    see(people, 0.0, {1: BIG, 2: np.array(inner, float)})
    poses = np.stack([pose(box(50), scores[0]), pose(box(350), scores[1])])
    assert people._twins([0, 1], poses) == ({1: 0} if twin else {})


@pytest.mark.parametrize(("shift", "same"), [(15.2, True), (15.4, False)])
def test_two_poses_of_four_tenths_are_one(shift: float, same: bool) -> None:
    """exp(-d^2 / 256) is .4 at 15.3 px; the boxes are apart. Whoever is known, has the better pose
    or was there before stays."""
    people = told()
    see(people, 0.0, {1: box(50), 2: box(150)})
    a, b = pose(box(50), 0.8), pose(box(50 + shift), 0.9)
    assert people._twins([0, 1], np.stack([a, b])) == ({0: 1} if same else {})
    b[:, 2] = 0.84  # scores to a tenth are alike: the one that was there before
    people._tracks[1].born = -1.0
    assert people._twins([0, 1], np.stack([a, b])) == ({0: 1} if same else {})
    people._tracks[1].born = 1.0
    assert people._twins([0, 1], np.stack([a, b])) == ({1: 0} if same else {})
    people._tracks[0].good = people._tracks[1].good = 0.0
    people._tracks[1].pose = b  # known, and it continues
    assert people._twins([0, 1], np.stack([a, b])) == ({0: 1} if same else {})
    people._tracks[0].pose = a  # both continue themselves
    assert people._twins([0, 1], np.stack([a, b])) == ({1: 0} if same else {})
    people._tracks[0].pose = b  # the second's pose is more like its own last one
    assert people._twins([0, 1], np.stack([a, b])) == ({0: 1} if same else {})


def test_a_duplicate_of_two_is_that_of_the_one_who_was_there_first() -> None:
    """A body between two others, by 12 px from each."""
    people = told()
    see(people, 0.0, {1: box(50), 2: box(150), 3: box(250)})
    people._tracks[2].born = -1.0
    poses = np.stack([pose(box(62), 0.6), pose(box(50), 0.8), pose(box(74), 0.8)])
    assert people._twins([0, 1, 2], poses) == {0: 2}
    people._tracks[1].born = -2.0
    assert people._twins([0, 1, 2], poses) == {0: 1}
    assert people._twins([], poses[:0]) == {}


@pytest.mark.parametrize(
    ("upper", "lower", "scores", "found"),
    [
        ([0, 0, 10, 10], [0, 10, 10, 20], (0.8, 0.8, 0.7), [2]),
        ([0, 0, 10, 10], [0, 10, 10, 20], (0.8, 0.7, 0.7), []),
        ([-3, 0, 7, 10], [0, 10, 10, 20], (0.8, 0.8, 0.7), [2]),  # .7 of it
        ([-3.1, 0, 6.9, 10], [0, 10, 10, 20], (0.8, 0.8, 0.7), []),
        ([0, 0, 10, 12], [0, 8, 10, 20], (0.8, 0.8, 0.7), []),  # they overlap by .2
        ([0, 0, 10, 12], [0, 8.1, 10, 20], (0.8, 0.8, 0.7), [2]),
    ],
)
def test_a_box_over_two_others(
    upper: list[float], lower: list[float], scores: tuple[float, ...], found: list[int]
) -> None:
    boxes = np.array([upper, lower, [0, 0, 10, 20]], float)
    assert detected_people.spanning(boxes, np.array(scores), [0, 1, 2]) == found
    assert detected_people.spanning(boxes, np.array(scores), [2, 0]) == []


@pytest.mark.parametrize(
    ("fits", "expected"),
    [
        ([0.35, 0.2], 0), ([0.349, 0.2], None), ([0.4, 0.5], 1), ([0.5, 0.4], 0), ([0.4, 0.4], 1),
        ([0.0, 0.0], None),
    ],
)  # fmt: skip
def test_whom_a_newcomers_pose_continues(fits: list[float], expected: int | None) -> None:
    """Of two whom no box shows now, the better by .35 at least; track 2 is new, as is its box."""
    people = told()
    see(people, 0.0, {5: box(50), 6: box(150)})
    see(people, 1.0, {7: box(250)})
    assert people.tracked() == {0, 1, 2}
    keys = [2]
    people._recognize(keys, 0, [0, 1], np.array([fits]))
    assert keys == ([2] if expected is None else [expected])
    assert people.tracked() == ({0, 1, 2} if expected is None else {0, 1})
    if expected is not None:
        assert people._tracks[expected].box.tolist() == box(250).tolist()
    # Whom a box shows is not taken for somebody else.
    people._tracks[0].detected = 1.0
    keys = [2]
    if expected is None:
        people._recognize(keys, 0, [0, 1], np.array([[0.9, 0.5]]))
        assert keys == [1] and people.tracked() == {0, 1}
    people._tracks[1].detected = 1.0
    keys = [2]
    people._recognize(keys, 0, [0, 1], np.array([[0.9, 0.9]]))
    assert keys == [2]


@pytest.mark.parametrize(("own", "taken"), [(0.6, True), (0.61, False)])
def test_who_is_followed_elsewhere_gives_way_to_a_better_place(own: float, taken: bool) -> None:
    """Track 0 is looked for where its pose fits by ``own``, and fits the newcomer's by .6."""
    people = told()
    see(people, 0.0, {5: box(50)})
    see(people, 1.0, {7: box(250)})
    keys = [0, 1]
    people._recognize(keys, 1, [0], np.array([[own], [0.6]]))
    assert keys == ([1, 0] if taken else [0, 1]) and people.tracked() == {0, 1}
    places = [people._tracks[key].box.tolist() for key in (0, 1)]
    expected = [box(250), box(50)] if taken else [box(50), box(250)]
    assert places == [one.tolist() for one in expected]


@pytest.mark.parametrize(("gain", "changed"), [(0.25, True), (0.24, False)])
def test_two_people_change_places_by_a_quarter(
    monkeypatch: pytest.MonkeyPatch, gain: float, changed: bool
) -> None:
    """Better than their own by so much in sum; whoever is new between them stays."""
    people = told()
    see(people, 0.0, {5: box(50), 6: box(150), 7: box(250)})
    assert judge(people, pose(box(50)), pose(box(150), 0.1), pose(box(250))) == [0, -1, 1]
    fit = np.array([[0.5, 0.5 + gain], [0.0, 0.0], [0.5, 0.5]])
    monkeypatch.setattr(people, "_fit", lambda *args: fit)
    keys = people._identify([0, 1, 2], np.zeros((3, 6, 3)))
    assert keys == ([2, 1, 0] if changed else [0, 1, 2])
    xs = [float(people._tracks[key].box[0]) + 20 for key in (0, 1, 2)]
    assert xs == ([250, 150, 50] if changed else [50, 150, 250])


def test_similarity_of_joints_that_both_show() -> None:
    """Three of six, of just the score that counts; the first is 10 px off. The others are wild."""
    a, b = pose(box(50)), pose(box(50))
    b[0, 0] += 10
    a[3:5, 2], b[5, 2] = 0.1, 0.19
    a[3:5, :2], b[5, :2] = 900, -900
    a[:3, 2] = 0.2
    # Extents of sure joints: a's 40 x 80, its last joint being sure; b's 40 x 80.
    expected = (np.exp(-100 / (2 * 3200 * 0.04)) + 2) / 3
    np.testing.assert_allclose(pairwise_oks(a[None], b[None], SIGMAS), [[expected]])
    wide = b.copy()
    wide[4] = [130, 140, 0.9]  # 100 x 80 px: the mean size of both is that of 40 x 80 x sqrt(2.5)
    expected = (np.exp(-100 / (2 * 3200 * 2.5**0.5 * 0.04)) + 2) / 3
    np.testing.assert_allclose(pairwise_oks(a[None], wide[None], SIGMAS), [[expected]])
    a[2, 2] = 0.19
    assert pairwise_oks(a[None], b[None], SIGMAS).tolist() == [[0]]


def test_extents_of_sure_joints() -> None:
    """Of two, the second just sure; of all six where one alone is."""
    body = pose(box(50), 0.1)
    body[0, 2], body[4, 2] = 0.9, 0.2
    np.testing.assert_allclose(pose_boxes(body[None]), [[38, 60, 50, 140]])
    body[4, 2] = 0.19
    np.testing.assert_allclose(pose_boxes(body[None]), [box(50)])


@pytest.mark.parametrize(
    ("old", "new", "scale"),
    [(10, 20, 1.1), (20, 10, 1 / 1.1), (10, 10.5, 1.05), (0.25, 1.05 / 2**0.5, 1.05), (0, 0, 1)],
)
def test_how_much_a_followed_box_grows(old: float, new: float, scale: float) -> None:
    """Joints at -d, 0 and d px: their spread is d times the root of 2, 1 px at least; a tenth a
    frame at most. Two sure joints are too few."""
    a, b = (np.array([[-d, 7, 0.2], [0, 7, 0.9], [d, 7, 0.9]]) for d in (old, new))
    place = np.array([-10.0, 0, 20, 17])
    expected = (place - [0, 7, 0, 7]) * scale + [0, 7, 0, 7]
    np.testing.assert_allclose(moved_box(place, a, b), expected)
    np.testing.assert_allclose(moved_box(place, a, b + [3, 4, 0]), expected + [3, 4, 3, 4])
    for first, second in ((a, b * [1, 1, 0.2]), (a * [1, 1, 0.9], b)):
        assert moved_box(place, first, second + [3, 4, 0]) is place


def test_people_of_boxes_alone() -> None:
    """Detections without joints: whoever the tracker knows is shown, and the threshold's half of
    the rules is about poses."""
    people = told(sigmas=(), person_threshold=0.0)
    see(people, 0.0, {5: box(50), 6: box(52)})
    assert judge(people, np.zeros((0, 3)), np.zeros((0, 3))) == [0, 1]
    # Other joints than there are widths for leave it to the boxes as well.
    for widths in (5, 7):
        people = told(sigmas=np.full(widths, 0.1))
        see(people, 0.0, {5: box(50), 6: box(52)})
        assert judge(people, pose(box(50)), pose(box(50))) == [0, 1]


def test_a_hidden_persons_pose_goes_on_from_the_last_one() -> None:
    """Seen now, or without a last pose, any pose will do; else it is like the last by half: of a
    shift of d px that is exp(-d^2 / 256), .5 at 13.3 px."""
    people = told()
    known = track(pose=pose(box(50)), speed=np.zeros(2), number=0)
    people._time = 1.0
    assert people._goes_on(known, pose(box(50 + 13.2)))
    assert not people._goes_on(known, pose(box(50 + 13.4)))
    known.detected = 1.0
    assert people._goes_on(known, pose(box(300)))
    known.detected = 0.99
    assert not people._goes_on(known, pose(box(300)))
    assert people._goes_on(known, pose(box(300))[:5])
    known.pose = None
    assert people._goes_on(known, pose(box(300)))
