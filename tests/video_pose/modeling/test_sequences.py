"""Poses over time: sides put back, gaps filled, whom a refiner trusts. Small numbers, by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from video_pose.modeling import sequences as module
from video_pose.modeling.sequences import (
    CONTEXT,
    OverTime,
    SequenceRefiner,
    _filled,
    as_sequences,
    body_sizes,
    exchange_sides,
    exchanged,
    fill_gaps,
    local_line,
    refine,
    repair_sides,
    smooth,
)

JOINTS = ("left_hip", "right_hip", "left_knee", "right_knee")


def standing(frames: int = 20) -> np.ndarray:
    """Peaks (T, 4, 1, 3) of hips at y 0 and knees at y 100, 20 px apart, moving by 1 px a frame."""
    pose = np.array([[40.0, 0, 1], [20, 0, 1], [40, 100, 1], [20, 100, 1]])
    peaks = np.tile(pose, (frames, 1, 1))
    peaks[..., 0] += np.arange(frames)[:, None]
    return peaks[:, :, None]


def test_exchanged_sides_are_found_and_put_back() -> None:
    """Knees change places on frames 5 to 7; hips stay."""
    peaks = standing()
    peaks[5:8, [2, 3]] = peaks[5:8, [3, 2]]
    which = exchange_sides(peaks[:, :, 0, :2], 120.0, [(0, 1), (2, 3)])
    assert not which[:, 0].any()
    assert np.flatnonzero(which[:, 1]).tolist() == [5, 6, 7]
    assert np.array_equal(exchanged(peaks, which, [(0, 1), (2, 3)]), standing())


def sides(found: str, gap: float) -> np.ndarray:
    """Two joints that stand still, ``gap`` px apart: which side the first is found on, a frame."""
    left = np.array([[0.0, 0], [gap, 0]])
    return np.stack([left if side == "." else left[::-1] for side in found])


@pytest.mark.parametrize(
    ("found", "gap", "expected"),
    [
        # Of a box of 100 px two joints step gap / 100 each; against the model's word: 0.1 a frame.
        (".x.", 2, "..."),  # there and back: 4 * 0.02 < 0.1
        (".x.", 3, ".x."),  # 4 * 0.03 > 0.1
        ("x..", 4, "..."),  # one step: 2 * 0.04 < 0.1
        ("x..", 6, "x.."),
        ("..x", 4, "..."),
        ("..x", 6, "..x"),
        # A joint's step costs 0.3 at most: two steps 1.2, less than 13 frames, more than 11.
        ("." * 20 + "x" * 11 + "." * 20, 50, "." * 20 + "x" * 11 + "." * 20),
        ("." * 20 + "x" * 13 + "." * 20, 50, "." * 53),
        ("." * 20 + "x" * 13 + "." * 20, 5000, "." * 53),
        ("xxxxx.", 50, ".....x"),  # all but one on the wrong side: the model is believed
        ("x", 50, "."),
        ("", 50, ""),
    ],
)
def test_when_sides_are_exchanged(found: str, gap: float, expected: str) -> None:
    points = sides(found, gap) if found else np.zeros((0, 2, 2))
    which = exchange_sides(points, 100.0, [(0, 1)])
    assert which.dtype == bool and which.shape == (len(found), 1)
    assert "".join("x" if one else "." for one in which[:, 0]) == expected


def test_each_pair_is_judged_by_its_own_columns() -> None:
    """Columns 1 and 3 change places on the second frame; 0 and 2 do not, and 4 has no side."""
    points = np.zeros((3, 5, 2))
    points[:, 1:3, 0], points[:, 3, 0], points[1, 1, 0], points[1, 3, 0] = 20, 60, 60, 20
    which = exchange_sides(points, 100.0, [(0, 2), (1, 3)])
    assert which.tolist() == [[False, False], [False, True], [False, False]]
    before = points.copy()
    repaired = exchanged(points, which, [(0, 2), (1, 3)])
    assert repaired[:, :, 0].tolist() == [[0, 20, 20, 60, 0]] * 3
    assert np.array_equal(points, before), "what was given stays"


def test_what_the_model_says_for_long_is_believed() -> None:
    """After frame 5 the sides stay changed: 15 frames against its word cost more than one jump."""
    peaks = standing()
    peaks[5:, [2, 3]] = peaks[5:, [3, 2]]
    assert not exchange_sides(peaks[:, :, 0, :2], 120.0, [(2, 3)])[5:].any()


def test_joints_that_are_missing_cost_nothing() -> None:
    """Nor do the sides change places where now the one is missing, now the other, and both are
    near: seen from the side, knees are 5 % of the box apart."""
    peaks = standing()
    peaks[4:9, 2] = np.nan
    assert not exchange_sides(peaks[:, :, 0, :2], 120.0, [(2, 3)]).any()
    points = np.zeros((12, 2, 2))
    points[:, 1, 0] = 6
    points[4, 1] = points[5, 0] = points[6, 1] = np.nan
    assert not exchange_sides(points, 120.0, [(0, 1)]).any()


def test_the_mean_has_no_shift_in_time_and_leaves_out_what_weighs_nothing() -> None:
    ramp = torch.arange(9.0).view(1, 9, 1, 1)
    weights = torch.ones(1, 9, 1)
    assert smooth(ramp, weights, 1.0)[0, 4, 0, 0].item() == pytest.approx(4.0)
    wrong = ramp.clone()
    wrong[0, 4] = 1000.0
    weights[0, 4] = 0.0
    assert smooth(wrong, weights, 1.0)[0, 4, 0, 0].item() == pytest.approx(4.0)


def test_a_line_goes_on_where_one_side_is_missing() -> None:
    """At the end of a ramp a mean lags behind; the line lies nearer to the truth of 20."""
    ramp = torch.arange(21.0).view(1, 21, 1, 1).repeat(1, 1, 1, 2)
    weights = torch.ones(1, 21, 1)
    mean = smooth(ramp, weights, 2.0)[0, 20, 0, 0].item()
    line = local_line(ramp, weights, 2.0)[0, 20, 0].tolist()
    assert mean < 18.8
    assert line == pytest.approx([20.0, 20.0], abs=0.3)
    assert local_line(ramp, weights, 2.0)[0, 10, 0, 0].item() == pytest.approx(10.0, abs=1e-4)


def made_up(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Values (2, 12, 3, size) and weights (2, 12, 3), some of them 0."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn((2, 12, 3, size), generator=generator, dtype=torch.float64)
    weights = torch.rand((2, 12, 3), generator=generator, dtype=torch.float64)
    weights[1, 3:7, 2] = 0
    return values, weights


def neighbours(t: int, sigma: float, frames: int = 12) -> list[tuple[int, int, float]]:
    """Frame, offset and Gaussian weight of what lies within 3 sigma, rounded."""
    radius = int(np.floor(3 * sigma + 0.5))
    near = range(max(0, t - radius), min(frames, t + radius + 1))
    return [(i, i - t, float(np.exp(-((i - t) ** 2) / (2 * sigma**2)))) for i in near]


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.5])
def test_a_mean_is_the_sum_over_the_neighbours(sigma: float) -> None:
    values, weights = made_up(4)
    found = smooth(values, weights, sigma)
    for b, t, j in np.ndindex(2, 12, 3):
        near = [(i, bell * weights[b, i, j]) for i, _, bell in neighbours(t, sigma)]
        expected = sum(w * values[b, i, j] for i, w in near) / sum(w for _, w in near)
        torch.testing.assert_close(found[b, t, j], expected, rtol=1e-6, atol=1e-6)
    assert smooth(values, 0 * weights, sigma).abs().max() == 0, "nothing is near"


@pytest.mark.parametrize("sigma", [0.5, 1.0, 2.5])
def test_a_line_is_the_fit_to_the_neighbours(sigma: float) -> None:
    """Least squares with one more equation, slope 0, that weighs a tenth of the variance of all:
    the normal equations, solved for the value at the frame itself."""
    values, weights = made_up(2)
    found = local_line(values, weights, sigma)
    for b, t, j in np.ndindex(2, 12, 3):
        near = [(o, bell * float(weights[b, i, j]), values[b, i, j].numpy())
                for i, o, bell in neighbours(t, sigma)]  # fmt: skip
        s0, s1, s2 = (sum(w * o**power for o, w, _ in near) for power in (0, 1, 2))
        left = np.array([[s0, s1], [s1, s2 + 0.1 * sigma**2 * s0]])
        right = np.array([sum(w * o**power * v for o, w, v in near) for power in (0, 1)])
        expected = np.linalg.solve(left, right)[0]
        np.testing.assert_allclose(found[b, t, j].numpy(), expected, rtol=1e-6, atol=1e-6)
    assert torch.isfinite(local_line(values, 0 * weights, sigma)).all(), "nothing is near"


def test_gaps_of_at_most_so_many_frames_are_filled() -> None:
    poses = standing(8)[:, :, 0].copy()
    poses[2:4] = np.nan
    poses[5:8] = np.nan
    poses[1, 0, 2], poses[4, 0, 2] = 0.6, 0.8
    poses[4, 3] = np.nan  # the second joint of a pair is unknown after the gap
    filled = fill_gaps(poses, 2)
    # From x = 41 at frame 1 to 44 at frame 4.
    assert filled[2:4, 0] == pytest.approx(np.array([[42.0, 0.0, 0.3], [43.0, 0.0, 0.3]]))
    assert np.isnan(filled[2:4, 3]).all()
    assert np.isnan(filled[5:]).all(), "nothing comes after"
    assert np.isnan(fill_gaps(poses, 1)[2:4]).all()


def test_body_sizes_are_medians_over_frames() -> None:
    poses = torch.from_numpy(standing(3)[:, :, 0]).float()[None]
    poses[0, 1, 3, 1] = 900.0
    assert body_sizes(poses, torch.ones(1, 3)).tolist() == pytest.approx([1.2 * 100])
    assert body_sizes(poses, torch.zeros(1, 3)).tolist() == [1.0]


def test_a_body_is_as_long_as_its_longer_side_and_a_pixel_at_least() -> None:
    """Wide, high, and very small; of the wide one a frame does not count."""
    poses = torch.zeros(4, 2, 2, 3)
    poses[0, 0, 1, 0], poses[0, 0, 1, 1], poses[0, 1, 1, 0] = 30.0, 20.0, 500.0
    poses[1, :, 1, 0], poses[1, :, 1, 1] = 20.0, 40.0
    poses[2, :, 1, 0], poses[3, :, 1, 1] = 0.9, 0.8
    mask = torch.tensor([[1.0, 0], [1, 1], [1, 1], [1, 1]])
    assert body_sizes(poses, mask).tolist() == pytest.approx([36.0, 48.0, 1.08, 1.0])


def test_an_untrained_refiner_leaves_a_steady_movement_alone() -> None:
    peaks = standing()
    refined = refine(SequenceRefiner(), peaks, JOINTS)
    assert refined[3:-3, :, :2] == pytest.approx(peaks[3:-3, :, 0, :2], abs=0.5)
    assert refined[..., 2] == pytest.approx(1.0, abs=1e-3)


def test_frames_and_joints_that_were_not_found_stay_empty() -> None:
    peaks = standing()
    peaks[7] = np.nan
    peaks[:, 3] = np.nan
    peaks[2, 0] = np.nan  # known before and after: it is told by them
    for refiner in (None, SequenceRefiner()):
        poses = refine(refiner, peaks, JOINTS)
        assert np.isnan(poses[7]).all() and np.isnan(poses[:, 3]).all()
        assert poses[2, 0, 0] == pytest.approx(42.0, abs=0.7)
        assert np.isfinite(np.delete(poses, 7, axis=0)[:, :3]).all()


def test_what_is_not_there_stands_where_the_nearest_frames_have_it() -> None:
    """Two joints of four frames with two peaks each; the third one is never there."""
    peaks = np.zeros((4, 2, 2, 3))
    peaks[:, :, 0] = [7.0, 9.0, 0.8]
    peaks[:, :, 1] = [1.0, 2.0, 0.4]
    peaks[0, 0, 0, :2], peaks[3, 0, 0, :2] = [10, 20], [40, 80]
    peaks[1:3, 0] = np.nan  # between (10, 20) and (40, 80)
    peaks[0, 1, 1, 2] = 0.0  # no second peak
    peaks[2, 1, 0, 1] = np.nan  # half a place is none
    full, there = _filled(peaks)
    assert there.tolist() == [[True, True], [False, True], [False, False], [True, True]]
    assert full.shape == (4, 2, 3, 3)
    assert full[:, 0, 0].tolist() == [[10, 20, 0.8], [20, 40, 0], [30, 60, 0], [40, 80, 0.8]]
    assert full[1, 0, 1:].tolist() == [[20, 40, 0]] * 2
    assert full[0, 0, 1:].tolist() == [[1, 2, 0.4], [10, 20, 0]]
    assert full[0, 1].tolist() == [[7, 9, 0.8], [7, 9, 0], [7, 9, 0]]
    assert full[2, 1, 0, :2].tolist() == [7, 9]
    # Of more than three peaks the first ones count; a joint that is never found stands at 0.
    many = np.arange(24.0).reshape(1, 2, 4, 3) + 1
    many[0, 1] = np.nan
    full, there = _filled(many)
    assert there.tolist() == [[True, False]]
    assert np.array_equal(full[0, 0], many[0, 0, :3]) and not full[0, 1].any()


def test_a_smoothed_path_is_in_pixels_and_weighs_by_scores() -> None:
    """Sigma 1: the frame itself counts 1, the next ones e^-0.5; scores 1 and 0.5, squared."""
    peaks = np.zeros((2, 1, 1, 3))
    peaks[:, 0, 0] = [[100, 50, 1.0], [200, 70, 0.5]]
    other = 0.25 * np.exp(-0.5)
    expected = np.array([100 + 200 * other, 50 + 70 * other, 1 + 0.5 * other]) / (1 + other)
    poses = refine(None, peaks, ("nose",))
    assert poses.dtype == np.float32 and poses.shape == (2, 1, 3)
    assert poses[0, 0] == pytest.approx(expected, rel=1e-5)
    # One of score 0 still says where it is, with the weight of a hundredth.
    peaks[1, 0, 0, 2] = 0.0
    other = 0.01**2 * np.exp(-0.5)
    assert refine(None, peaks, ("nose",))[0, 0, 0] == pytest.approx(
        (100 + 200 * other) / (1 + other), rel=1e-6
    )


def test_the_refiner_turns_and_mirrors_with_the_picture() -> None:
    torch.manual_seed(0)
    refiner = random_refiner()
    generator = np.random.default_rng(0)
    peaks = np.repeat(standing(), 3, axis=2) + generator.normal(0, 5, (20, 4, 3, 3))
    peaks[..., 2] = generator.uniform(0.1, 1, (20, 4, 3))
    plain = refine(refiner, peaks, JOINTS)
    mirrored = peaks[:, [1, 0, 3, 2]].copy()
    mirrored[..., 0] = 300 - mirrored[..., 0]
    other = refine(refiner, mirrored, JOINTS)[:, [1, 0, 3, 2]]
    other[..., 0] = 300 - other[..., 0]
    assert other == pytest.approx(plain, abs=1e-2)
    assert np.abs(plain - refine(None, peaks, JOINTS)).max() > 1, "it does something"


def random_refiner() -> SequenceRefiner:
    refiner = SequenceRefiner(width=8)
    for parameter in refiner.parameters():
        torch.nn.init.normal_(parameter, 0, 0.3)
    return refiner.eval()


def test_a_frame_depends_on_its_context_and_its_lag_alone() -> None:
    torch.manual_seed(1)
    refiner = random_refiner()
    peaks = standing(2 * CONTEXT)
    changed = peaks.copy()
    # Scores beyond the lag and places beyond the context; extents stay.
    changed[60:, :, :, 2] = 0.3
    late = OverTime(3, refiner)
    a, b = late(peaks, JOINTS), late(changed, JOINTS)
    assert np.array_equal(a[:57], b[:57])
    assert not np.array_equal(a[57:], b[57:])
    assert np.array_equal(OverTime(None, refiner)(peaks, JOINTS), refine(refiner, peaks, JOINTS))


@pytest.mark.parametrize("lag", [0, 1, 2])
def test_the_frames_that_a_delayed_pose_is_made_of(
    monkeypatch: pytest.MonkeyPatch, lag: int
) -> None:
    """With a context of three frames: t - 3 to t + lag, and the frame's own place among them."""

    def whole(self: OverTime, seen: np.ndarray, joint_names: object) -> np.ndarray:
        assert joint_names is JOINTS
        frames = seen[:, 0, 0, 0]
        return np.stack([[[frames[0], frames[-1], own]] * 4 for own in frames])

    monkeypatch.setattr(module, "CONTEXT", 3)
    monkeypatch.setattr(OverTime, "whole", whole)
    peaks = np.zeros((6, 4, 2, 3)) + np.arange(6.0)[:, None, None, None]
    found = OverTime(lag)(peaks, JOINTS)
    assert found.dtype == np.float32 and found.shape == (6, 4, 3)
    expected = [[max(0, t - 3), min(5, t + lag), t] for t in range(6)]
    assert found[:, 0].tolist() == found[:, 3].tolist() == expected


def test_the_size_by_which_sides_are_judged_is_of_joints_that_were_found() -> None:
    """Knees that change places for a frame, 3 px apart: four steps of 3 / 40 box are more than the
    exchange costs, of 3 / 400 less. Only the second frame has all joints, 36 px high; a joint
    that is missing, as if at 0, would make the others 400 px high."""
    peaks = standing(3)
    peaks[..., 0] = np.array([20.0, 20, 3, 0])[None, :, None]
    peaks[..., 1] = np.array([300.0, 330, 336, 336])[None, :, None]
    peaks[1, [2, 3]] = peaks[1, [3, 2]]
    peaks[[0, 2], 0] = np.nan
    repaired = repair_sides(peaks, JOINTS)
    assert repaired[:, 2, 0, 0].tolist() == [3, 3, 3] and repaired[:, 3, 0, 0].tolist() == [0, 0, 0]
    assert np.array_equal(repaired[:, :2], peaks[:, :2], equal_nan=True)


def test_of_somebody_whose_joints_are_all_found_none_is_left_out() -> None:
    peaks = np.nan_to_num(noisy(), nan=33.0)
    peaks[..., 2] = peaks[..., 2].clip(0.1)  # a peak of score 0 is moved to the first one
    refiner = fixed_refiner()
    values = torch.from_numpy(peaks).float()[None]
    sequences, size = as_sequences(values, torch.ones(1, len(peaks)), JOINTS)
    with torch.no_grad():
        expected = refiner(sequences)[0]
    expected[..., :2] *= size.squeeze()
    assert np.array_equal(refine(refiner, peaks, JOINTS), expected.numpy())


FEET = (*JOINTS, "left_ankle", "right_ankle")


def test_a_joint_that_is_never_found_changes_nothing_of_the_others() -> None:
    """Neither their sides nor their places, far from the picture's corner."""
    peaks = noisy()
    peaks[..., :2] += [1500.0, 800.0]
    never = np.full((len(peaks), 2, 3, 3), np.nan)
    for rule in (
        OverTime(), OverTime(refiner=fixed_refiner()),
        OverTime(2, fixed_refiner(), repair_sides=True),
    ):  # fmt: skip
        expected = rule(peaks, JOINTS)
        found = rule(np.concatenate([peaks, never], axis=1), FEET)
        assert np.array_equal(found[:, :4], expected, equal_nan=True)
        assert np.isnan(found[:, 4:]).all()
    nobody = np.full((3, 4, 1, 3), np.nan)
    for refiner in (None, fixed_refiner()):
        assert np.isnan(OverTime(None, refiner, True)(nobody, JOINTS)).all()


def test_sides_are_repaired_of_somebody_without_ankles() -> None:
    peaks = standing()
    peaks[5:8, [2, 3]] = peaks[5:8, [3, 2]]
    never = np.full((len(peaks), 2, 1, 3), np.nan)
    repaired = repair_sides(np.concatenate([peaks, never], axis=1), FEET)
    assert np.array_equal(repaired[:, :4], standing())
    # A foot that moves fast does not go to the side whose ankle nobody ever found.
    never[:, 0] = [0.0, 180.0, 1.0]
    never[:, 0, 0, 0] = 20.0 * np.arange(len(peaks))
    both = np.concatenate([peaks, never], axis=1)
    assert np.array_equal(repair_sides(both, FEET)[:, 4:], never, equal_nan=True)


def test_how_sure_a_model_is_does_not_say_on_which_side_a_joint_is() -> None:
    """Knees of scores 1 and 0 change places for a frame, by 2 % of the box: too little to count."""
    peaks = standing(3)
    peaks[..., 0] = np.array([1.0, 0, 0.02, 0])[None, :, None]
    peaks[..., 1] = 0.0
    peaks[:, 3, :, 2] = 0.0
    peaks[1, [2, 3]] = peaks[1, [3, 2]]
    assert np.array_equal(repair_sides(peaks, JOINTS), peaks)


def test_sides_are_repaired_before_all_else() -> None:
    peaks = standing()
    peaks[5:8, [2, 3]] = peaks[5:8, [3, 2]]
    plain, repaired = OverTime()(peaks, JOINTS), OverTime(repair_sides=True)(peaks, JOINTS)
    assert abs(plain[6, 2, 0] - 46) > 15
    assert repaired[6, 2, 0] == pytest.approx(46, abs=0.1)


def test_a_refiner_is_written_and_read(tmp_path: Path) -> None:
    refiner = random_refiner()
    refiner.save(tmp_path / "refiner.safetensors", "a test")
    again = SequenceRefiner.load(tmp_path / "refiner.safetensors")
    peaks = standing()
    assert np.array_equal(refine(refiner, peaks, JOINTS), refine(again, peaks, JOINTS))
    assert again.width == 8 and not again.training
    with safe_open(tmp_path / "refiner.safetensors", framework="pt") as file:
        facts = json.loads(file.metadata()["refiner"])
        names = set(file.keys())
    assert facts == {"version": 1, "width": 8, "source": "a test"}
    # What is the same in every refiner is not part of the file.
    assert names == {name for name, _ in refiner.named_parameters()}


def test_files_that_are_no_refiner(tmp_path: Path) -> None:
    path = tmp_path / "refiner.safetensors"
    with pytest.raises(FileNotFoundError, match=f"^no such refiner: {path}$"):
        SequenceRefiner.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=f"^{path} is no refiner of sequences: "):
        SequenceRefiner.load(path)
    save_file({"x": torch.zeros(1)}, path)  # of another program
    with pytest.raises(ValueError, match=f"^{path} is no refiner of sequences: 'refiner'$"):
        SequenceRefiner.load(path)
    facts = {"version": 1, "width": 9, "source": ""}
    save_file(random_refiner().state_dict(), path, {"refiner": json.dumps(facts)})
    with pytest.raises(ValueError, match=f"^{path} is no refiner .*size mismatch") as error:
        SequenceRefiner.load(path)
    assert "\n" not in str(error.value)
    for value in (torch.nan, torch.inf):
        broken = random_refiner()
        with torch.no_grad():
            broken.judges[1].end.bias[0] = value
        broken.save(path, "")
        with pytest.raises(ValueError, match=f"^{path}: a value is not finite$"):
            SequenceRefiner.load(path)


def test_wrong_values() -> None:
    with pytest.raises(ValueError, match="^a lag of -1 frames: expected 0 or more$"):
        OverTime(-1)
    assert OverTime(0).lag == 0


def test_mirrors_and_lines_go_by_names() -> None:
    sequences, size = as_sequences(torch.rand(1, 5, 4, 3, 3), torch.ones(1, 5), JOINTS)
    assert sequences.mirror == [1, 0, 3, 2]
    # Thighs, and the line from hip to hip.
    assert sequences.near.tolist() == [[0, 1, 1, 0], [1, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]
    assert size.shape == (1, 1, 1, 1)
    # A joint of the middle is its own mirror image, and has a line to whatever it hangs on.
    middle, _ = as_sequences(
        torch.rand(1, 2, 3, 3, 3), torch.ones(1, 2), ("nose", "left_eye", "right_eye")
    )
    assert middle.mirror == [0, 2, 1] and middle.near[0].tolist() == [0, 1, 1]


def test_places_are_counted_in_boxes_of_their_own_person() -> None:
    """Two people whose highest peaks are 100 and 50 px apart: boxes of 120 and 60 px."""
    peaks = torch.from_numpy(standing(3)).float()[None].repeat(2, 1, 1, 2, 1)
    peaks[1, ..., :2] /= 2
    peaks[:, :, 0, 1, 0] = 900.0  # a second peak says nothing of the size
    sequences, size = as_sequences(peaks, torch.ones(2, 3), JOINTS)
    assert size.flatten().tolist() == pytest.approx([120.0, 60.0])
    torch.testing.assert_close(sequences.peaks[0, ..., :2], peaks[0, ..., :2] / 120)
    torch.testing.assert_close(sequences.peaks[1, ..., :2], peaks[1, ..., :2] / 60)
    assert torch.equal(sequences.peaks[..., 2], peaks[..., 2])


def fixed_refiner() -> SequenceRefiner:
    """Weights that no generator draws, so that any version of PyTorch has them."""
    refiner = SequenceRefiner(width=6)
    with torch.no_grad():
        for number, parameter in enumerate(refiner.parameters()):
            steps = torch.arange(parameter.numel(), dtype=torch.float32)
            parameter.copy_((0.4 * torch.sin(1.7 * steps + number)).view_as(parameter))
    return refiner.eval()


def noisy(frames: int = 30) -> np.ndarray:
    """Peaks (T, 4, 3, 3) with gaps, second peaks, and sides that are exchanged for a while."""
    t = np.arange(frames)
    peaks = np.repeat(standing(frames), 3, axis=2)
    for k in range(4):
        peaks[:, k, :, 0] += 3 * np.sin(t * 0.9 + k)[:, None] + [0, 9, -14]
        peaks[:, k, :, 1] += 2 * np.cos(t * 0.7 + k)[:, None] + [0, -6, 5]
        peaks[:, k, :, 2] = np.abs(np.sin(t * 0.5 + k))[:, None] * [1, 0.6, 0.3]
    peaks[11:14, [2, 3]] = peaks[11:14, [3, 2]]
    peaks[20] = np.nan
    peaks[24:27, 1] = np.nan
    peaks[5, 0, 0, 2] = 0
    return peaks


def test_people_of_one_batch_do_not_mix() -> None:
    """One is half as big, goes backwards in time, and is there in the first frames alone."""
    refiner = fixed_refiner()
    first = torch.from_numpy(np.nan_to_num(noisy())).float()
    second = first.flip(0) * torch.tensor([0.5, 0.4, 1.0])
    peaks = torch.stack([first, second])
    mask = torch.ones(2, 30)
    mask[0, 20], mask[1, 12:] = 0, 0
    with torch.no_grad():
        both = refiner(as_sequences(peaks, mask, JOINTS)[0])
        for n in range(2):
            alone = refiner(as_sequences(peaks[n : n + 1], mask[n : n + 1], JOINTS)[0])
            torch.testing.assert_close(both[n : n + 1], alone, atol=1e-5, rtol=1e-5)
    assert (both[0] - both[1]).abs().max() > 0.1


REFINED = {
    "smoothed": (55.8002, 62.7628, 57.4299, 69.8674),
    "refined": (55.0732, 62.3776, 57.2759, 69.7647),
    "repaired": (55.1088, 61.7162, 57.2769, 69.7622),
    "late": (55.0901, 62.5150, 57.2450, 69.7093),
}


def _numbers(poses: np.ndarray) -> list[float]:
    """Of each quarter of the frames a mean in which every place has its own weight."""
    values = np.nan_to_num(poses).reshape(len(poses), -1)
    weights = 2 + np.sin(np.arange(values.size)).reshape(values.shape)
    return [float(part.mean()) for part in np.array_split(values * weights, 4)]


@pytest.mark.parametrize("name", REFINED)
def test_a_made_up_path_to_a_thousandth(name: str) -> None:
    rule = {
        "smoothed": OverTime(),
        "refined": OverTime(refiner=fixed_refiner()),
        "repaired": OverTime(refiner=fixed_refiner(), repair_sides=True),
        "late": OverTime(2, fixed_refiner()),
    }[name]
    assert _numbers(rule(noisy(), JOINTS)) == pytest.approx(REFINED[name], abs=2e-3)


def test_how_a_rule_calls_itself() -> None:
    assert OverTime().describe() == "offline, the whole video: smoothed"
    assert OverTime(2).describe() == "2 frames late: smoothed"
    refined = OverTime(0, SequenceRefiner(), True).describe()
    assert refined == "0 frames late: refined over time, sides repaired"


def test_a_refiner_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    SequenceRefiner().save(path, "")
    facts = {"version": 2, "width": 24, "source": ""}
    save_file(load_file(path), path, {"refiner": json.dumps(facts)})
    with pytest.raises(ValueError, match="version 2, expected 1"):
        SequenceRefiner.load(path)


def test_gaps_are_filled_where_both_ends_are_known() -> None:
    """One frame alone, from 40 to 42; and none where the frames follow each other."""
    poses = standing(6)[:, :, 0].copy()
    poses[1] = np.nan
    filled = fill_gaps(poses, 1)
    assert filled[1, 0].tolist() == [41, 0, 0.5] and np.isfinite(filled).all()
    np.testing.assert_array_equal(filled[2:], poses[2:])
    assert np.isnan(fill_gaps(poses, 0)[1]).all()
