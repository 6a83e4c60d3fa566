"""Poses over time: sides put back, gaps filled, whom a refiner trusts. Small numbers, by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from video_pose.modeling.sequences import (
    CONTEXT,
    OverTime,
    SequenceRefiner,
    as_sequences,
    body_sizes,
    exchange_sides,
    exchanged,
    fill_gaps,
    local_line,
    refine,
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


def test_what_the_model_says_for_long_is_believed() -> None:
    """After frame 5 the sides stay changed: 15 frames against its word cost more than one jump."""
    peaks = standing()
    peaks[5:, [2, 3]] = peaks[5:, [3, 2]]
    assert not exchange_sides(peaks[:, :, 0, :2], 120.0, [(2, 3)])[5:].any()


def test_joints_that_are_missing_cost_nothing() -> None:
    peaks = standing()
    peaks[4:9, 2] = np.nan
    assert not exchange_sides(peaks[:, :, 0, :2], 120.0, [(2, 3)]).any()


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


def test_files_that_are_no_refiner(tmp_path: Path) -> None:
    path = tmp_path / "refiner.safetensors"
    with pytest.raises(FileNotFoundError, match="no such refiner"):
        SequenceRefiner.load(path)
    path.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="is no refiner"):
        SequenceRefiner.load(path)
    broken = random_refiner()
    with torch.no_grad():
        next(broken.parameters())[0] = torch.nan
    broken.save(path, "")
    with pytest.raises(ValueError, match="not finite"):
        SequenceRefiner.load(path)


def test_wrong_values() -> None:
    with pytest.raises(ValueError, match="lag of -1"):
        OverTime(-1)


def test_mirrors_and_lines_go_by_names() -> None:
    sequences, size = as_sequences(torch.rand(1, 5, 4, 3, 3), torch.ones(1, 5), JOINTS)
    assert sequences.mirror == [1, 0, 3, 2]
    # Thighs, and the line from hip to hip.
    assert sequences.near.nonzero().tolist() == [
        [0, 1], [0, 2], [1, 0], [1, 3], [2, 0], [3, 1],
    ]  # fmt: skip
    assert size.shape == (1, 1, 1, 1)


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
    refined = OverTime(0, SequenceRefiner(), True).describe()
    assert refined == "0 frames late: refined over time, sides repaired"


def test_a_refiner_of_another_version_is_refused(tmp_path: Path) -> None:
    import json

    from safetensors.torch import load_file, save_file

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
