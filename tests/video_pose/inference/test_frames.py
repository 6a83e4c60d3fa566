"""What a user sees of a frame's result, and what Detectron2 takes of it."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
import torch

from video_pose.inference.frames import Frame, PoseFrame, is_timed, mean_rate

POSES = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
BOXES = np.array([[0, 1, 2, 3], [4, 5, 8, 9]], np.float32)


def found(people: int) -> PoseFrame:
    """On a picture 5 px high and 7 wide."""
    return PoseFrame(
        4, 1.23456, np.zeros((5, 7, 3), np.uint8), "walk", ("a", "b"), POSES[:people],
        BOXES[:people], np.array([0.5, 0.25], np.float32)[:people], np.array([9, 2])[:people],
    )  # fmt: skip


@pytest.mark.parametrize(("people", "who"), [(0, "nobody"), (1, "9"), (2, "9, 2")])
def test_a_frame_in_a_line(people: int, who: str) -> None:
    frame = found(people)
    assert repr(frame) == f"PoseFrame('walk', index=4, time=1.235, 7x5, people: {who})"
    assert len(frame) == people


@pytest.mark.parametrize("people", [0, 2])
def test_instances_of_a_frame(people: int) -> None:
    instances = found(people).instances()
    assert instances.image_size == (5, 7) and len(instances) == people
    assert instances.pred_keypoints.tolist() == POSES[:people].tolist()
    assert instances.pred_boxes.tensor.tolist() == BOXES[:people].tolist()
    assert instances.scores.tolist() == [0.5, 0.25][:people]
    assert instances.pred_classes.tolist() == [0] * people
    assert instances.pred_classes.dtype == torch.int64
    assert instances.track_ids.tolist() == [9, 2][:people]


def test_what_nobody_asked_for_is_absent_and_results_stay_as_they_are() -> None:
    frame = found(1)
    extras = (frame.heatmaps, frame.map_to_image, frame.masks, frame.peaks, frame.probabilities)
    assert extras == (None,) * 5 and frame.starts_shot is False
    for value in (frame, Frame(0, 0.0, frame.image)):
        with pytest.raises(FrozenInstanceError):
            value.index = 3  # type: ignore[misc]


def test_a_frame_is_tracked_where_everybody_is() -> None:
    assert [replace(found(2), untracked=frozenset(n)).is_tracked for n in ((), (3,), (3, 2))] == [
        True, True, False,
    ]  # fmt: skip


def test_a_time_of_0_is_one() -> None:
    times = (0.0, -1.5, np.nan, np.inf)
    known = [is_timed(replace(found(1), time=time)) for time in times]
    assert known == [True, True, False, False]


@pytest.mark.parametrize(
    ("frames", "rate"),
    [
        ([], None),
        ([(3, 1.0)], None),
        ([(0, np.nan), (1, np.nan)], None),
        ([(0, 2.0), (5, 2.0)], None),
        ([(0, 2.0), (5, 1.0)], None),
        ([(2, 1.0), (3, 1.5), (6, 1.5)], 8),
        ([(6, 1.5), (9, np.nan), (2, 1.0)], 8),
        ([(0, 0.0), (3, 0.1001)], 29.97003),
    ],
)
def test_the_mean_rate(frames: list[tuple[int, float]], rate: float | None) -> None:
    """By the frames that have a time."""
    assert mean_rate([replace(found(0), index=i, time=t) for i, t in frames]) == rate
