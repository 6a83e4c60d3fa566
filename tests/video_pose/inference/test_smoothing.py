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


def test_a_jumping_path_to_a_hundredth() -> None:
    """Steps of unlike length, a fast stretch, a gap that is bridged, and one that is not."""
    times = [0, 0.04, 0.08, 0.12, 0.2, 0.24, 0.44, 0.48, 0.98, 1.02, 1.06]
    xs = [0, 3, 2, 9, 30, 62, 64, 65, 20, 24, 21]
    expected = [0, 1.037, 1.335, 4.71, 23.778, 52.239, 62.662, 64.014, 20, 21.467, 21.336]
    assert smoothed(OneEuroSmoother(), frames(xs, times)) == pytest.approx(expected, abs=0.005)


@pytest.mark.parametrize("name", ["min_cutoff", "speed_cutoff", "beta", "max_gap"])
def test_what_a_smoother_takes(name: str) -> None:
    least = 0.01 if "cutoff" in name else 0.0
    OneEuroSmoother(**{name: least})
    wrong = 0.0 if "cutoff" in name else -0.01
    with pytest.raises(ValueError, match=f"{name} {wrong}"):
        OneEuroSmoother(**{name: wrong})


def test_a_gap_of_the_longest_length_is_bridged() -> None:
    bridged = smoothed(OneEuroSmoother(max_gap=0.25), frames([0, None, 80], [0, 0.125, 0.25]))
    assert bridged[1] < 80


def test_joints_have_paths_of_their_own() -> None:
    """The second joint is away on the second frame: its path goes on from the first."""
    given = frames([0, 10, 20], [0, 0.04, 0.08])
    given[1].keypoints[0, 1] = np.nan
    out = [frame.keypoints[0] for frame in OneEuroSmoother()(given)]
    assert 0 < out[1][0, 0] < 10 and np.isnan(out[1][1]).all()
    assert 0 < out[2][1, 0] < 20 and out[2][1, 1] == pytest.approx(100)
