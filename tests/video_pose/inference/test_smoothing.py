from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from video_pose.inference.frames import PoseFrame
from video_pose.inference.smoothing import OneEuroSmoother


def frames(
    xs: Sequence[float | None],
    times: Sequence[float],
    *,
    cuts: Sequence[int] = (),
    score: float = 1.0,
) -> list[PoseFrame]:
    """Track 3 with joints at (x, 0) and (x, 100): a size of 100 px; None: nobody there."""
    out = []
    for i, (x, time) in enumerate(zip(xs, times, strict=True)):
        people = [] if x is None else [[(x, 0.0, score), (x, 100.0, 1.0)]]
        count = len(people)
        out.append(
            PoseFrame(
                index=i, time=time, image=np.zeros((1, 1, 3), np.uint8), video="v",
                joint_names=("a", "b"),
                keypoints=np.array(people, np.float32).reshape(count, 2, 3),
                boxes=np.zeros((count, 4), np.float32), scores=np.ones(count, np.float32),
                track_ids=np.full(count, 3), starts_shot=i == 0 or i in cuts,
            )
        )  # fmt: skip
    return out


def smoothed(smoother: OneEuroSmoother, given: list[PoseFrame]) -> list[float]:
    return [float(f.keypoints[0, 0, 0]) for f in smoother(given) if len(f)]


def gain(cutoff: float, step: float) -> float:
    return 2 * math.pi * cutoff * step / (2 * math.pi * cutoff * step + 1)


def test_two_steps_by_hand() -> None:
    """From 0 to 10 px in .1 s, size 100: raw speed 1 size/s; its filter from 0 at 1 Hz; then 10
    again after .2 s, raw speed 0."""
    smoother = OneEuroSmoother(min_cutoff=2.0, beta=3.0, speed_cutoff=1.0, max_gap=1.0)
    found = smoothed(smoother, frames([0, 10, 10], [0, 0.1, 0.3]))
    speed = gain(1.0, 0.1) * 1.0
    first = gain(2.0 + 3.0 * speed, 0.1) * 10
    speed -= gain(1.0, 0.2) * speed
    second = first + gain(2.0 + 3.0 * speed, 0.2) * (10 - first)
    assert found == pytest.approx([0, first, second], abs=1e-4)


def test_noise_shrinks_and_motion_is_followed() -> None:
    random = np.random.default_rng(0)
    times = np.arange(200) / 25
    noisy = 50 + random.normal(0, 1, 200)
    still = smoothed(OneEuroSmoother(), frames(noisy.tolist(), times.tolist()))
    assert np.std(still[25:]) < 0.7 * np.std(noisy[25:])
    moving = smoothed(OneEuroSmoother(), frames((200 * times).tolist(), times.tolist()))
    # At 2 sizes a second the lag stays below a frame and a half (12 px).
    assert np.abs(np.array(moving[25:]) - 200 * times[25:]).max() < 12


def test_real_time_steps_count() -> None:
    """The same places twice as fast are smoothed more: the filter knows seconds, not frames."""
    options = {"min_cutoff": 1.0, "beta": 0.0}
    slow = smoothed(OneEuroSmoother(**options), frames([0, 10], [0, 0.2]))
    fast = smoothed(OneEuroSmoother(**options), frames([0, 10], [0, 0.1]))
    assert slow[1] == pytest.approx(10 * gain(1, 0.2)) and fast[1] == pytest.approx(
        10 * gain(1, 0.1)
    )


def test_a_gap_and_a_cut_begin_anew() -> None:
    smoother = OneEuroSmoother(max_gap=0.15)
    short = smoothed(smoother, frames([0, None, 80], [0, 0.05, 0.1]))
    assert short[1] < 80
    long = smoothed(smoother, frames([0, None, None, 80], [0, 0.1, 0.2, 0.3]))
    assert long == [0, 80]
    cut = smoothed(smoother, frames([0, 80, 90], [0, 0.04, 0.08], cuts=[1]))
    assert cut[1] == 80 and cut[2] < 90


def test_absent_joints_pass_and_restart() -> None:
    given = frames([0, 80, 80], [0, 0.1, 0.2])
    given[0].keypoints[0, 0, 2] = 0
    assert smoothed(OneEuroSmoother(), given) == pytest.approx([0, 80, 80])


def test_inputs_and_scores_stay() -> None:
    given = frames([0, 10], [0, 0.1])
    out = list(OneEuroSmoother()(given))
    assert given[1].keypoints[0, 0, 0] == 10
    assert (out[1].keypoints[..., 2] == 1).all() and out[1].keypoints[0, 0, 0] < 10


def test_a_time_that_stands_still_is_no_division_by_zero() -> None:
    assert np.isfinite(smoothed(OneEuroSmoother(), frames([0, 10, 20], [0, 0, 0]))).all()


def test_settings_out_of_range() -> None:
    with pytest.raises(ValueError, match="min_cutoff 0"):
        OneEuroSmoother(min_cutoff=0)
