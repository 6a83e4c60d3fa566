"""Poses that wait for later frames: tracks joined, gaps filled, by a lag or offline."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from video_pose.engine.defaults import get_pose_cfg
from video_pose.evaluation.calibration import Calibration
from video_pose.inference import PredictorSettings, VideoPosePredictor
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
    with pytest.raises(ValueError, match="frame 3 was, the second reading found nothing"):
        list(offline(frames, OverTime(), again))


def test_sources_that_can_be_read_once() -> None:
    picture = np.zeros((4, 4, 3), np.uint8)
    require_twice(ArraySource([picture]))
    with pytest.raises(ValueError, match="arrays can be read once alone"):
        require_twice(ArraySource(iter([picture])))


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
