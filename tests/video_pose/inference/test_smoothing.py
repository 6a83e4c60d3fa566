from __future__ import annotations

import gc
import math
import weakref
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from video_pose.inference import smoothing
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


@pytest.mark.filterwarnings("error")
def test_absent_joints_pass_and_restart() -> None:
    given = frames([0, 80, 80], [0, 0.1, 0.2])
    given[0].keypoints[0, 0, 2] = 0
    assert smoothed(OneEuroSmoother(), given) == pytest.approx([0, 80, 80])


def test_inputs_and_scores_stay() -> None:
    given = frames([0, 10], [0, 0.1])
    out = list(OneEuroSmoother()(given))
    assert given[1].keypoints[0, 0, 0] == 10
    assert (out[1].keypoints[..., 2] == 1).all() and out[1].keypoints[0, 0, 0] < 10


@pytest.mark.filterwarnings("error")  # of a division by 0, say
def test_a_time_that_stands_still_is_no_division_by_zero() -> None:
    assert np.isfinite(smoothed(OneEuroSmoother(), frames([0, 10, 20], [0, 0, 0]))).all()


def test_settings_out_of_range() -> None:
    with pytest.raises(ValueError) as error:
        OneEuroSmoother(min_cutoff=0, beta=2, max_gap=3)
    assert str(error.value) == (
        "One-Euro: min_cutoff 0 and speed_cutoff 1.0 must be more than 0, beta 2 and max_gap 3 at "
        "least 0"
    )


@pytest.mark.filterwarnings("error")
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
    for wrong in (0.0, -0.01) if "cutoff" in name else (-0.01,):
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


def posed(poses: Sequence[np.ndarray], times: Sequence[float]) -> list[PoseFrame]:
    """As `frames`, with a pose (K, 3) of one's own for each."""
    return [
        replace(frame, keypoints=pose[None].astype(np.float32))
        for frame, pose in zip(frames([0.0] * len(times), times), poses, strict=True)
    ]


@pytest.mark.parametrize(
    ("width", "height", "size"), [(50, 20, 50), (20, 50, 50), (0.5, 0.25, 1), (0, 0, 1)]
)
def test_a_size_is_the_larger_side_and_a_pixel_at_least(
    width: float, height: float, size: float
) -> None:
    """A step of (3, 4) px in .1 s: 50 px a second, whichever way it goes."""
    first = np.array([[0, 0, 1], [width, height, 1.0]])
    given = posed([first, first + [3, 4, 0]], [0, 0.1])
    smoother = OneEuroSmoother(min_cutoff=2.0, beta=3.0, speed_cutoff=1.0)
    cutoff = 2.0 + 3.0 * gain(1.0, 0.1) * 50 / size
    expected = first[:, :2] + gain(cutoff, 0.1) * np.array([3, 4])
    np.testing.assert_allclose(list(smoother(given))[1].keypoints[0, :, :2], expected, rtol=1e-4)


def test_a_speed_waits_for_a_joint_that_is_away_and_ends_with_a_gap() -> None:
    """10 px in .1 s at 100 px of size; away, then again .2 s after it was seen, or .3 s, which is
    too long: what was known of its motion is forgotten."""
    away = [frames([0, 10, 10, 20], [0, 0.1, 0.2, last]) for last in (0.3, 0.4)]
    for given in away:
        given[2].keypoints[0, 0, 2] = 0
    options = {"min_cutoff": 2.0, "beta": 3.0, "max_gap": 0.25}
    kept, lost = (smoothed(OneEuroSmoother(**options), given) for given in away)
    speed = gain(1.0, 0.1) * 1.0
    second = gain(2.0 + 3.0 * speed, 0.1) * 10
    speed += gain(1.0, 0.2) * (10 / 0.2 / 100 - speed)
    fourth = second + gain(2.0 + 3.0 * speed, 0.2) * (20 - second)
    assert kept == pytest.approx([0, second, 10, fourth], abs=1e-4)
    assert lost == pytest.approx([0, second, 10, 20], abs=1e-4)
    again = frames([0, 10, None, 20, 20], [0, 0.1, 0.3, 0.5, 0.6])
    assert smoothed(OneEuroSmoother(**options), again)[2:] == pytest.approx([20, 20])
    moving = frames([0, 10, None, 20, 30], [0, 0.1, 0.3, 0.5, 0.6])
    last = 20 + gain(2.0 + 3.0 * gain(1.0, 0.1), 0.1) * 10
    assert smoothed(OneEuroSmoother(**options), moving)[2:] == pytest.approx([20, last], abs=1e-4)


def test_an_unsure_joint_is_smoothed_as_well() -> None:
    half, sure = (smoothed(OneEuroSmoother(), frames([0, 9], [0, 0.1], score=s)) for s in (0.1, 1))
    assert half == sure and 0 < half[1] < 9


@pytest.mark.parametrize("axis", [0, 1])
def test_a_joint_without_a_place_has_no_part_in_the_size(axis: int) -> None:
    """With a score, and one of its numbers missing; nor has a joint of score 0."""
    first = np.array([[0, 0, 1], [50, 0, 1], [400, 300, 1.0]])
    expected = list(OneEuroSmoother()(posed([first[:2], first[:2] + [3, 4, 0]], [0, 0.1])))[1]
    strange = first + [3, 4, 0]
    strange[2, axis] = np.nan
    unseen = first + [3, 4, 0]
    unseen[2, 2] = 0
    for second in (strange, unseen):
        found = list(OneEuroSmoother()(posed([first, second], [0, 0.1])))[1].keypoints[0]
        np.testing.assert_allclose(found[:2], expected.keypoints[0], rtol=1e-6)
        np.testing.assert_array_equal(found[2], second[2])


def test_a_time_that_runs_back_begins_anew() -> None:
    assert smoothed(OneEuroSmoother(), frames([0, 10, 50], [0, 0.1, 0.05]))[2] == 50


def test_people_without_joints_pass() -> None:
    """As a detector of boxes gives them."""
    given = posed([np.zeros((0, 3))] * 2, [0, 0.1])
    assert [frame.keypoints.shape for frame in OneEuroSmoother()(given)] == [(1, 0, 3)] * 2


def test_who_left_long_ago_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A camera sees thousands of people in a day. Who may come back is kept, up to the gap."""
    made: list[weakref.ref] = []
    real = smoothing._PoseFilter

    def make(joints: int) -> smoothing._PoseFilter:
        found = real(joints)
        made.append(weakref.ref(found))
        return found

    monkeypatch.setattr(smoothing, "_PoseFilter", make)
    stream = OneEuroSmoother(max_gap=0.25)(frames([5, None, None], [0, 0.25, 0.26]))
    alive = []
    for _ in stream:
        gc.collect()
        alive.append(sum(one() is not None for one in made))
    assert alive == [1, 1, 0]
