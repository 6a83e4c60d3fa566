"""What poses say about people: each rule with a scene that fails without it."""

from __future__ import annotations

import os
import threading
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
from video_pose.inference.trackers import IoUTracker

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

    def __init__(self, tracker: type[IoUTracker] = IoUTracker, **options: object) -> None:
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


def test_nobody_of_the_first_frame_is_missing() -> None:
    world = World()
    assert world.frame([box(50), box(200)], [pose(box(50)), pose(box(200))]) == [0, 1]


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
    """.3 s = 8 frames of trial, then 1 s without."""
    world = World()
    shown, looked = [], []
    for _ in range(30):
        world.boxes, world.index = [box(50)], world.index + 1
        found = world.people.propose(Frame(world.index, world.index / 25, IMAGE))
        looked.append(len(found))
        if found:
            poses = np.stack([pose(box(50), 0.1)]).astype(np.float32)
            shown += world.people.update(found, poses).numbers.tolist()
    assert set(shown) == {-1}
    assert looked == [1] * 9 + [0] * 21


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
