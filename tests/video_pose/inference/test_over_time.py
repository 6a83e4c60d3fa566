"""Poses that wait for later frames: tracks joined, gaps filled, by a lag or offline."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from video_pose.engine.defaults import get_pose_cfg
from video_pose.evaluation.calibration import Calibration
from video_pose.inference import PredictorSettings, VideoPosePredictor, over_time
from video_pose.inference.frames import Frame, PoseFrame
from video_pose.inference.over_time import correct_video, late, offline, require_twice
from video_pose.inference.predictor import calibration_beside
from video_pose.inference.sources import ArraySource
from video_pose.modeling.sequences import OverTime

ROOT = Path(__file__).parents[3]
GOLDEN = Path(__file__).parent / "golden"
JOINTS = ("left_shoulder", "right_shoulder", "left_hip", "right_hip", "left_knee", "right_knee")
POSE = np.array([[20, 0, 1], [0, 0, 1], [20, 50, 1], [0, 50, 1], [20, 100, 1], [0, 100, 1.0]])


def frame_of(index: int, people: dict[int, float], starts_shot: bool = False) -> PoseFrame:
    """People by number, standing at x; a frame lasts .1 s."""
    poses = [POSE + [x, 0, 0] for x in people.values()]
    keypoints = np.array(poses, np.float32).reshape(-1, len(JOINTS), 3)
    boxes = np.array([[x, 0, x + 20, 100] for x in people.values()], np.float32).reshape(-1, 4)
    return PoseFrame(
        index, index / 10, np.full((4, 4, 3), index, np.uint8), "v", JOINTS, keypoints, boxes,
        np.full(len(people), 0.9, np.float32), np.array(list(people), np.int64),
        starts_shot=starts_shot,
    )  # fmt: skip


def walk(numbers: list[int | None]) -> list[PoseFrame]:
    """One person who walks 5 px a frame under these numbers; None: not found."""
    return [frame_of(i, {} if n is None else {n: 5.0 * i}) for i, n in enumerate(numbers)]


def ids(frames: list[PoseFrame]) -> list[list[int]]:
    return [frame.track_ids.tolist() for frame in frames]


def test_a_person_who_comes_back_is_the_same_and_the_gap_is_filled() -> None:
    frames = walk([3] * 6 + [None] * 4 + [8] * 6)
    found = correct_video(frames, OverTime(), max_gap=0.5)
    assert ids(found) == [[3]] * 16
    middle = found[7]
    assert middle.keypoints[0, 0, :2] == pytest.approx([20 + 35, 0], abs=3)
    assert middle.keypoints[0, :, 2] == pytest.approx(0.5), "half of the score beside the gap"
    assert middle.boxes[0] == pytest.approx([35, 0, 55, 100], abs=3)
    assert middle.image[0, 0, 0] == 7


def test_a_longer_gap_stays_and_its_ends_are_still_one_person() -> None:
    found = correct_video(walk([3] * 6 + [None] * 4 + [8] * 6), OverTime(), max_gap=0.3)
    assert ids(found) == [[3]] * 6 + [[]] * 4 + [[3]] * 6


def test_gaps_without_a_limit_are_filled_and_joined() -> None:
    """Nobody gets less than with a limit that the video does not reach."""
    frames = walk([3] * 6 + [None] * 4 + [8] * 6)
    endless = float("inf")
    found = correct_video(frames, OverTime(), max_gap=endless, join_gap=endless)
    limited = correct_video(frames, OverTime(), max_gap=9.0, join_gap=9.0)
    assert ids(found) == [[3]] * 16
    for one, other in zip(found, limited, strict=True):
        np.testing.assert_array_equal(one.keypoints, other.keypoints)


@pytest.mark.parametrize("gaps", [(-1.0, 1.0), (1.0, -1.0), (float("nan"), 1.0), (1, float("nan"))])
def test_gaps_that_are_no_length_are_refused(gaps: tuple[float, float]) -> None:
    message = f"max_gap {gaps[0]} and join_gap {gaps[1]}: expected 0 or more"
    with pytest.raises(ValueError, match=message):
        correct_video(walk([3]), OverTime(), max_gap=gaps[0], join_gap=gaps[1])


@pytest.mark.parametrize("join_gap", [0.2, 2.0])
def test_who_is_somewhere_else_or_too_late_is_somebody_new(join_gap: float) -> None:
    frames = walk([3] * 6 + [None] * 4) + [frame_of(10 + i, {8: 400.0}) for i in range(4)]
    assert ids(correct_video(frames, OverTime(), join_gap=join_gap))[-1] == [8]
    near = walk([3] * 6 + [None] * 4 + [8] * 6)
    assert ids(correct_video(near, OverTime(), join_gap=join_gap))[-1] == [8 if join_gap < 1 else 3]


def test_two_people_at_once_are_never_one() -> None:
    frames = [frame_of(i, {1: 0.0, 2: 3.0}) for i in range(6)]
    assert ids(correct_video(frames, OverTime())) == [[1, 2]] * 6


def test_nothing_crosses_a_cut() -> None:
    frames = [replace(f, starts_shot=f.index == 6) for f in walk([3] * 6 + [8] * 6)]
    found = correct_video(frames, OverTime())
    assert ids(found) == [[3]] * 6 + [[8]] * 6
    # The first shot's last frame knows nothing of the second: it stays behind its own end.
    assert found[5].keypoints[0, 0, 0] < 20 + 25


def test_a_jump_of_one_frame_is_smoothed_away() -> None:
    frames = [frame_of(i, {1: 0.0}) for i in range(11)]
    frames[5].keypoints[0, 0] = [80, 0, 0.1]
    found = correct_video(frames, OverTime())
    assert found[5].keypoints[0, 0, 0] == pytest.approx(20, abs=1.5)


@pytest.mark.parametrize("lag", [0, 2, 30])
def test_a_lag_keeps_all_frames_in_order(lag: int) -> None:
    frames = walk([1] * 8)
    found = list(late(frames, OverTime(lag)))
    assert [frame.index for frame in found] == list(range(8))
    assert ids(found) == [[1]] * 8


def test_frames_come_as_late_as_the_lag_says() -> None:
    taken: list[int] = []

    def source():  # type: ignore[no-untyped-def]
        for frame in walk([1] * 8):
            taken.append(frame.index)
            yield frame

    first = next(late(source(), OverTime(3)))
    assert first.index == 0 and taken == [0, 1, 2, 3]


def test_a_lag_does_as_evaluation_does() -> None:
    rng = np.random.default_rng(0)
    frames = walk([1] * 12)
    for frame in frames:
        frame.keypoints[..., :2] += rng.normal(0, 3, frame.keypoints[..., :2].shape)
    peaks = np.stack([frame.keypoints[0] for frame in frames])[:, :, None]
    expected = OverTime(2)(peaks, JOINTS)
    found = np.stack([frame.keypoints[0] for frame in late(frames, OverTime(2))])
    assert found == pytest.approx(expected, abs=1e-4)
    # Beside somebody else, in another order on every other frame, nothing changes.
    beside = [frame_of(i, {9: 300.0, 1: 0.0} if i % 2 else {1: 0.0, 9: 300.0}) for i in range(12)]
    for frame, alone in zip(beside, frames, strict=True):
        frame.keypoints[frame.track_ids == 1] = alone.keypoints
    found = np.stack([f.keypoints[f.track_ids == 1][0] for f in late(beside, OverTime(2))])
    assert found == pytest.approx(expected, abs=1e-4)


def test_empty_joints_and_scores_that_a_file_lacks_stay_so() -> None:
    frames = walk([1] * 6)
    for frame in frames:
        frame.keypoints[0, :, 2] = np.nan
        frame.keypoints[0, 3] = np.nan
    found = correct_video(frames, OverTime())
    assert all(np.isnan(frame.keypoints[0, :, 2]).all() for frame in found)
    assert all(np.isnan(frame.keypoints[0, 3]).all() for frame in found)
    assert np.isfinite(found[2].keypoints[0, 0, :2]).all()


def test_pictures_come_from_the_second_reading() -> None:
    frames = walk([1] * 5)
    again = [Frame(f.index, f.time, f.image + 100) for f in frames]
    found = list(offline(frames, OverTime(), again))
    assert [frame.image[0, 0, 0] for frame in found] == [100, 101, 102, 103, 104]


def test_a_source_that_ends_earlier_the_second_time() -> None:
    frames = walk([1] * 5)
    again = [Frame(f.index, f.time, f.image) for f in frames[:3]]
    text = ("v: where frame 3 was, the second reading found %s: a source that reads otherwise each "
            "time cannot be taken offline")  # fmt: skip
    for rest, became in (([], "nothing"), ([Frame(4, 0.4, frames[4].image)], "frame 4")):
        with pytest.raises(ValueError) as error:
            list(offline(frames, OverTime(), again + rest))
        assert str(error.value) == text % became


def test_sources_that_can_be_read_once() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    for source in (ArraySource([picture]), [Frame(0, 0.0, picture)]):
        require_twice(source)
    with pytest.raises(ValueError) as error:
        require_twice(ArraySource(iter([picture])))
    assert str(error.value) == (
        "arrays can be read once alone, and offline poses need a second reading for the pictures: "
        "record it first, or give a lag"
    )


@pytest.mark.parametrize(("settings", "expected"), [({}, 0.2), ({"lag": 2}, 0.7)])
def test_a_calibrated_model_tells_probabilities(
    tmp_path: Path, settings: dict[str, int], expected: float
) -> None:
    """By the file beside the weights; corrected poses have curves of their own."""
    weights = tmp_path / "model.safetensors"
    flat, late = ((0.0, 1.0), (0.2, 0.2)), ((0.0, 1.0), (0.7, 0.7))
    Calibration({"": flat}, "made up", {"": late}).write(tmp_path / "calibration.json")
    cfg = get_pose_cfg()
    cfg.merge_from_file(str(ROOT / "configs/quickstart/unipose_lstm_R18_synthetic_jhmdb.yaml"))
    cfg.MODEL.WEIGHTS = str(weights)
    chosen = PredictorSettings(**settings)
    calibration = calibration_beside(cfg, chosen)
    rule = OverTime(chosen.lag) if chosen.waits else None
    predictor = VideoPosePredictor(
        lambda frames, name: iter(walk([1] * 4)), JOINTS, calibration=calibration,
        over_time=rule, settings=chosen,
    )  # fmt: skip
    assert predictor.calibrated
    found = list(predictor([np.zeros((4, 4, 3), np.uint8)] * 4))
    assert all(frame.probabilities == pytest.approx(expected) for frame in found)
    (tmp_path / "calibration.json").unlink()
    assert calibration_beside(cfg, chosen) is None


def _made_up() -> list[PoseFrame]:
    """Four numbers, two of which are one person; frames without somebody, joints that are not
    there, a box and scores that nobody told, a cut, and frames that last unlike."""
    rng = np.random.default_rng(8)
    frames = []
    for i in range(40):
        here = {1: 4.0 * i, 2 if i < 14 else 5: 200 - 3.0 * i, 7: 90.0 + i % 3}
        if 14 <= i < 18:
            del here[5]
        if i in (6, 7, 25, 26, 27, 28, 29):
            del here[1]
        if 22 < i < 30:
            del here[7]
        frame = frame_of(i, here, starts_shot=i == 31)
        poses = frame.keypoints + rng.normal(0, 1.5, frame.keypoints.shape).astype(np.float32)
        poses[..., 2] = rng.uniform(0.1, 0.99, poses.shape[:2])
        poses[rng.uniform(size=poses.shape[:2]) < 0.05] = np.nan
        poses[rng.uniform(size=poses.shape[:2]) < 0.05, 2] = 0
        scores = np.where(rng.uniform(size=len(here)) < 0.1, np.nan, frame.scores)
        boxes = frame.boxes.copy()
        boxes[:, 2] += i
        if i % 9 == 4:
            boxes[0] = np.nan
        frames.append(replace(
            frame, keypoints=poses, scores=scores.astype(np.float32), boxes=boxes,
            time=frame.time + 0.01 * (i % 2),
        ))  # fmt: skip
    return frames


@pytest.mark.parametrize("name", ["offline", "repaired", "late", "late_repaired", "strict"])
def test_a_made_up_video_to_the_letter(name: str) -> None:
    """Where a change is wanted, VIDEO_POSE_GOLDEN=1 writes it anew, which is to be read."""
    lag = 2 if name.startswith("late") else None
    rule = OverTime(lag, repair_sides="repaired" in name)
    gaps = {"max_gap": 0.15, "join_gap": 0.2} if name == "strict" else {}
    given = _made_up()
    found = correct_video(given, rule, **gaps) if lag is None else list(late(given, rule))
    lines = []
    for frame in found:
        people = [
            f"{number} {np.round(pose, 1).tolist()} {np.round(box, 1).tolist()} {score:.2f}"
            for number, pose, box, score in zip(
                frame.track_ids.tolist(), frame.keypoints, frame.boxes, frame.scores
            )
        ]
        lines.append(f"{frame.index} {frame.time:.2f} {frame.starts_shot} {'; '.join(people)}")
    text = "\n".join(lines) + "\n"
    golden = GOLDEN / f"over_time_{name}.txt"
    if os.environ.get("VIDEO_POSE_GOLDEN"):
        golden.write_text(text)
    assert text == golden.read_text()


class Scripted:
    """A rule that notes the x of its first joint in every window, and moves all by 1000 px."""

    def __init__(self, lag: int) -> None:
        self.lag = lag
        self.windows: list[list[float]] = []

    def whole(self, peaks: np.ndarray, joint_names: object) -> np.ndarray:
        self.windows.append(np.nan_to_num(peaks[:, 0, 0, 0], nan=-1).tolist())
        return peaks[:, :, 0] + [1000, 0, 0]


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_what_a_pose_is_corrected_by(monkeypatch: pytest.MonkeyPatch, lag: int) -> None:
    """Three frames before its own and ``lag`` after it, of its shot: frames 0 to 7, and 8 and 9.
    On frame 2 the person is missing; pictures, numbers and times stay, other outputs go."""
    monkeypatch.setattr(over_time, "CONTEXT", 3)
    frames = walk([5, 5, None, *[5] * 7])
    frames = [replace(f, starts_shot=f.index in (0, 8)) for f in frames]
    given = [replace(f, peaks=f.keypoints[:, :, None] + [1, 0, 0]) for f in frames]
    rule = Scripted(lag)
    found = list(late(given, rule))  # type: ignore[arg-type]
    xs = [-1.0 if i == 2 else 21 + 5.0 * i for i in range(10)]
    shots = [(max(0, i - 3), min(8, i + lag + 1)) for i in (0, 1, 3, 4, 5, 6, 7)]
    shots += [(8, min(10, 9 + lag)), (8, 10)]
    assert rule.windows == [xs[first:end] for first, end in shots]
    for frame, before in zip(found, frames, strict=True):
        expected = before.keypoints + np.float32([1001, 0, 0])
        np.testing.assert_array_equal(frame.keypoints, expected)
        assert frame.peaks is None and frame.image is before.image
        assert (frame.index, frame.starts_shot) == (before.index, before.starts_shot)


def test_a_long_stream_keeps_few_poses_and_fewer_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Poses of the three frames before, of its own and of two that wait; pictures of the two."""
    monkeypatch.setattr(over_time, "CONTEXT", 3)
    poses: list[weakref.ref] = []
    pictures: list[weakref.ref] = []

    def source() -> Iterator[PoseFrame]:
        for i in range(12):
            frame = frame_of(i, {1: 0.0})
            poses.append(weakref.ref(frame.keypoints))
            pictures.append(weakref.ref(frame.image))
            yield frame

    stream = late(source(), Scripted(2))  # type: ignore[arg-type]
    for _ in range(9):
        next(stream)
    alive = [[n for n, one in enumerate(kept) if one() is not None] for kept in (poses, pictures)]
    assert alive == [[5, 6, 7, 8, 9, 10], [8, 9, 10]]


def test_which_joints_of_a_file_count() -> None:
    """One without a score is sure, one of score 0 was not found; where a place is missing nothing
    is known. Peaks that were kept go before."""
    nan = np.nan
    told = [[1, 2, 0.5], [1, 2, nan], [1, 2, 0], [1, 2, -1], [nan, 2, 0.5], [1, nan, 0]]
    frame = frame_of(0, {3: 0.0})
    frame.keypoints[0] = told
    expected = [told[0], [1, 2, 1], [nan] * 3, [nan] * 3, told[4], told[5]]
    np.testing.assert_array_equal(over_time._peaks_of(frame)[0, :, 0], np.float32(expected))
    np.testing.assert_array_equal(frame.keypoints[0], np.float32(told))
    peaks = np.zeros((1, 6, 3, 3), np.float32)
    assert over_time._peaks_of(replace(frame, peaks=peaks)) is peaks
    assert over_time._peaks_of(frame_of(0, {})).shape == (0, 6, 1, 3)


def test_scores_of_corrected_joints() -> None:
    """As corrected; without a score where there was none; as before where nothing was found."""
    nan = np.nan
    found = np.array([[5, 6, 0.9], [5, 6, 0.9], [nan, 6, 0.9], [5, nan, 0.9], [5, 6, 0.9]])
    before = np.array([[1, 2, 0.3], [1, 2, nan], [1, 2, 0.4], [nan, 2, nan], [nan, nan, 0.2]])
    expected = [[5, 6, 0.9], [5, 6, nan], [1, 2, 0.4], [nan, 2, nan], [5, 6, 0.9]]
    np.testing.assert_array_equal(over_time._with_scores(found, before), expected)


def test_boxes_between_known_ones() -> None:
    """On straight lines, of all four sides; before the first and after the last they stand."""
    nan = np.nan
    boxes = np.array([[nan] * 4, [0, 10, 20, 30], [1, nan, 2, 3], [nan] * 4, [3, 40, 80, 0],
                      [9, 9, 9, nan]])  # fmt: skip
    first, last = [0, 10, 20, 30], [3, 40, 80, 0]
    expected = [first, first, [1, 20, 40, 20], [2, 30, 60, 10], last, last]
    np.testing.assert_allclose(over_time._filled_boxes(boxes), expected)
    unknown = np.full((2, 4), nan)
    assert over_time._filled_boxes(unknown) is unknown


def path_of(number: int, first: int, xs: list[float]) -> over_time._Path:
    """Somebody at these places from frame ``first`` on."""
    poses = np.array([POSE + [x, 0, 0] for x in xs], np.float32)
    boxes = np.array([[x, 0, x + 20, 100] for x in xs], np.float32)
    return over_time._Path(
        number, first, poses[:, :, None], poses, boxes, np.full(len(xs), 0.5, np.float32)
    )


def test_paths_of_a_shot_by_their_first_frames() -> None:
    """Number 9 on frames 0 and 2, 4 on frames 1 and 2, 7 on frame 2 alone."""
    shot = [frame_of(5, {9: 0.0}), frame_of(6, {4: 50.0}), frame_of(7, {7: 90.0, 4: 60.0, 9: 2.0})]
    paths = over_time._paths(shot)
    assert [(path.number, path.first, path.end) for path in paths] == [
        (9, 0, 3), (4, 1, 3), (7, 2, 3),
    ]  # fmt: skip
    nan = np.nan
    for path, xs in zip(paths, ([0, nan, 2], [50, 60], [90]), strict=True):
        expected = np.array([POSE + ([x, 0, 0] if x == x else nan) for x in xs], np.float32)
        np.testing.assert_array_equal(path.poses, expected)
        np.testing.assert_array_equal(path.peaks, expected[:, :, None])
        boxes = [[x, 0 if x == x else nan, x + 20, 100 if x == x else nan] for x in xs]
        np.testing.assert_array_equal(path.boxes, np.float32(boxes))
        scores = np.float32([0.9 if x == x else nan for x in xs])
        np.testing.assert_array_equal(path.scores, scores)
    # Of two rows under one number, as a stranger's file may have them, the first counts.
    double = frame_of(0, {9: 5.0, 8: 70.0})
    double.track_ids[:] = 9
    (path,) = over_time._paths([double])
    assert path.poses[0, 0, 0] == 25
    assert over_time._path_of([double], 9)[0, 0, 0, 0] == 25


def test_a_speed_is_the_middle_of_the_joints_steps() -> None:
    """A joint that is missing on a frame takes no step; nothing known is no motion."""
    poses = np.stack([POSE, POSE + [4, 2, 0], POSE + [4, 8, 0]])
    poses[1, :5] = np.nan
    assert over_time._speed(poses).tolist() == [2, 4]  # of one joint: (4, 2) and (0, 6)
    poses[1, 5, 1] = np.nan
    assert over_time._speed(poses).tolist() == over_time._speed(poses[:1]).tolist() == [0, 0]


SIGMAS = np.full(len(JOINTS), 0.1)


def test_how_well_a_path_goes_on_by_hand() -> None:
    """Four frames are missing: five steps. Told from the last four steps of the one before, or of
    the first four of the one after, whichever fits better."""
    walker, standing = [0.0, 5, 10, 15, 20], [0.0] * 5
    for before, after in (
        (walker, [45.0, 50, 55]),
        (walker, [45.0] * 3),
        (standing, [25.0, 30, 35, 40, 45]),
        ([-100.0, 0, 0, 2, 6, 12], [27.0] * 3),  # steps 0, 2, 4 and 6: 3 px a frame
        ([12.0] * 3, [27.0, 33, 37, 39, 39, 139]),  # and the same from behind
    ):
        one, other = path_of(1, 3, before), path_of(2, 7 + len(before), after)
        assert over_time._fit(one, other, SIGMAS) == pytest.approx(1)
    # By 10 px of 20 they overlap by a third; the size squared is 20 x 100, 2 sigma is .2.
    other = path_of(2, 9, [10.0])
    expected = (np.exp(-(10**2) / (2 * 2000 * 0.04)) + 1 / 3) / 2
    assert over_time._fit(path_of(1, 0, standing), other, SIGMAS) == pytest.approx(expected)
    # A joint that one of them lacks says nothing.
    for place in (0, 1):
        pair = path_of(1, 3, walker), path_of(2, 12, [45.0, 50])
        pair[place].poses[-1 if place == 0 else 0, 2] = np.nan
        assert over_time._fit(*pair, SIGMAS) == pytest.approx(1)


@pytest.mark.parametrize(
    ("missing", "gap", "joined"), [(3, 0.3, True), (4, 0.3, False), (0, 0.0, True), (1, 0.0, False)]
)
def test_a_gap_that_is_just_short_enough(missing: int, gap: float, joined: bool) -> None:
    """Three frames of .1 s are .3 s, whatever the computer makes of it; for joining as for filling.
    Where times stand nothing is short."""
    first, second = path_of(1, 0, [0.0] * 3), path_of(2, 3 + missing, [0.0] * 3)
    found = over_time.join_paths([first, second], JOINTS, 0.1, gap)
    assert [path.number for path in found] == ([1] if joined else [1, 2])
    frames = walk([1] * 3 + [None] * missing + [1] * 3)
    filled = joined or not missing
    assert ids(correct_video(frames, OverTime(), max_gap=gap))[3:-3] == [[1] * filled] * missing
    still = over_time.join_paths([first, second], JOINTS, 0.0, gap)
    assert len(still) == (1 if missing == 0 else 2)
    stand = [replace(frame, time=0.5) for frame in frames]
    assert ids(correct_video(stand, OverTime(), max_gap=9))[3:-3] == [[]] * missing


def test_what_is_joined_and_what_it_is_then() -> None:
    """The best fit first; who comes back is under the first number, with nothing in between."""
    ann, bob = path_of(4, 0, [0.0, 0]), path_of(7, 1, [100.0, 100])
    near, exact, later = path_of(1, 4, [3.0]), path_of(2, 4, [0.0]), path_of(3, 5, [100.0])
    found = over_time.join_paths([ann, bob, near, exact, later], JOINTS, 0.1, 1.0)
    assert [(path.number, path.first, path.end) for path in found] == [
        (4, 0, 5), (7, 1, 6), (1, 4, 5),
    ]  # fmt: skip
    nan = np.nan
    np.testing.assert_array_equal(found[0].boxes[:, 0], [0, 0, nan, nan, 0])
    np.testing.assert_array_equal(found[0].scores, np.float32([0.5, 0.5, nan, nan, 0.5]))
    np.testing.assert_array_equal(found[0].poses[:, 0, 0], [20, 20, nan, nan, 20])
    np.testing.assert_array_equal(found[0].peaks[:, 0, 0, 0], [20, 20, nan, nan, 20])
    # Thrice the same person; at once with another's end is no gap, one frame earlier is two people.
    thrice = [path_of(n, first, [0.0] * 2) for n, first in ((5, 0), (6, 2), (8, 4))]
    (whole,) = over_time.join_paths(thrice, JOINTS, 0.1, 0.0)
    assert (whole.number, whole.first, whole.end) == (5, 0, 6)
    double = [path_of(1, 0, [0.0] * 3), path_of(2, 2, [0.0] * 3)]
    assert len(over_time.join_paths(double, JOINTS, 0.1, 1.0)) == 2
    assert over_time.join_paths([], JOINTS, 0.1, 1.0) == []


@pytest.mark.filterwarnings("error")
def test_a_file_without_scores_is_filled_without_them() -> None:
    frames = [replace(f, scores=f.scores * np.nan) for f in walk([3] * 3 + [None] + [3] * 3)]
    for frame in frames:
        frame.keypoints[..., 2] = np.nan
    found = correct_video(frames, OverTime())
    assert ids(found) == [[3]] * 7 and all(np.isnan(frame.scores).all() for frame in found)


def test_people_of_a_frame_are_in_the_order_of_their_numbers() -> None:
    """Whoever came first; somebody filled in has half of a score. Other outputs go."""
    frames = [frame_of(0, {9: 0.0}), frame_of(1, {9: 0.0, 2: 200.0}), frame_of(2, {2: 200.0}),
              frame_of(3, {2: 200.0, 9: 0.0})]  # fmt: skip
    given = [
        replace(f, heatmaps=np.zeros(1), map_to_image=np.zeros(1), masks=np.zeros(1), peaks=None)
        for f in frames
    ]
    found = correct_video(given, OverTime(), max_gap=0.1)
    assert ids(found) == [[9], [2, 9], [2, 9], [2, 9]]
    assert found[2].scores.tolist() == pytest.approx([0.9, 0.5], abs=0.01)
    assert found[2].boxes.tolist() == [[200, 0, 220, 100], [0, 0, 20, 100]]
    for frame in found:
        assert frame.heatmaps is frame.map_to_image is frame.masks is frame.peaks is None
        assert frame.keypoints.shape == (len(frame), 6, 3)
        kinds = (frame.keypoints.dtype, frame.boxes.dtype, frame.scores.dtype)
        assert kinds == (np.float32,) * 3 and frame.track_ids.dtype == np.int64
    assert correct_video([], OverTime()) == []
    assert ids(correct_video(frames[:1], OverTime())) == [[9]]
    nobody = correct_video([frame_of(0, {})], OverTime())[0]
    assert nobody.keypoints.shape == (0, 6, 3) and nobody.boxes.shape == (0, 4)


def test_a_first_reading_keeps_no_pictures() -> None:
    """Of a long video they would not fit."""
    kept: list[weakref.ref] = []

    def results() -> Iterator[PoseFrame]:
        for i in range(5):
            frame = replace(frame_of(i, {1: 0.0}), index=1000 + i)
            assert sum(one() is not None for one in kept) <= 1  # the one before
            kept.append(weakref.ref(frame.image))
            empty = over_time._without_picture(frame).image
            assert (empty.shape, empty.dtype) == ((0, 0, 3), np.uint8)
            yield frame

    again = (Frame(1000 + i, i / 10, np.full((4, 4, 3), 7, np.uint8)) for i in range(5))
    found = list(offline(results(), OverTime(), again, max_gap=0.0, join_gap=0.0))
    assert [frame.image.max() for frame in found] == [7] * 5


@pytest.mark.parametrize("axis", [0, 1])
def test_somebody_without_a_single_place_is_not_there(axis: int) -> None:
    """Of a file that tells one number of each joint; one whole joint is enough."""
    frames = [frame_of(0, {3: 0.0}), frame_of(1, {4: 300.0}, starts_shot=True)]
    for frame in frames:
        frame.keypoints[:, :, axis] = np.nan
    frames[1].keypoints[0, 2] = [320, 50, 1]
    assert ids(correct_video(frames, OverTime())) == [[], [4]]


@pytest.mark.parametrize("name", ["keypoints", "boxes", "scores", "track_ids"])
def test_a_frame_that_lacks_something_of_somebody_is_refused(name: str) -> None:
    """Else a number would go to the wrong person."""
    frame = frame_of(0, {3: 0.0, 4: 50.0})
    wrong = replace(frame, **{name: getattr(frame, name)[:1]})
    with pytest.raises(ValueError, match="zip"):
        correct_video([wrong], OverTime())
