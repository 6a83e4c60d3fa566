from __future__ import annotations

import numpy as np
import pytest

from video_pose.data.clips import Chunk, cut_run, sample_clip, warmup_runs, whole_run


def _starts(draws: int = 200, **kwargs) -> set[int]:
    rng = np.random.default_rng(0)
    return {int(sample_clip(rng=rng, **kwargs).frames[0]) for _ in range(draws)}


def test_every_start_is_drawn_and_no_other() -> None:
    # 10 frames, 3 of them 2 apart span 5: the last start is 5.
    assert _starts(num_frames=10, length=3, stride=2) == {0, 1, 2, 3, 4, 5}


def test_frames_are_a_stride_apart_without_padding() -> None:
    clip = sample_clip(5, length=3, stride=2, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(clip.frames, [0, 2, 4])
    assert not clip.is_padding.any()


def test_a_short_track_repeats_its_last_frame_as_padding() -> None:
    # Frames 0 and 2 of 3; then 2 again, twice.
    clip = sample_clip(3, length=4, stride=2, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(clip.frames, [0, 2, 2, 2])
    np.testing.assert_array_equal(clip.is_padding, [False, False, True, True])


def test_a_still_is_a_clip() -> None:
    clip = sample_clip(1, length=5, stride=1, rng=np.random.default_rng(0))
    np.testing.assert_array_equal(clip.frames, np.zeros(5))
    np.testing.assert_array_equal(clip.is_padding, [False, True, True, True, True])


def test_clips_hold_a_labelled_frame() -> None:
    usable = np.zeros(20, dtype=bool)
    usable[[7, 19]] = True
    # Frame 7 is in the clips from 5, 6 and 7; frame 19 in the last one only.
    assert _starts(num_frames=20, length=3, stride=1, usable=usable) == {5, 6, 7, 17}


def test_strided_clips_hold_the_labelled_frame_itself() -> None:
    usable = np.zeros(9, dtype=bool)
    usable[4] = True
    # 3 frames, 2 apart, last start 4: only even starts step on frame 4.
    assert _starts(num_frames=9, length=3, stride=2, usable=usable) == {0, 2, 4}


def test_no_labelled_frame_is_an_error() -> None:
    with pytest.raises(ValueError, match="none of 4 frames"):
        sample_clip(4, 2, 1, np.random.default_rng(0), np.zeros(4, dtype=bool))
    with pytest.raises(ValueError, match="stride 0"):
        sample_clip(4, 2, 0, np.random.default_rng(0))


def test_chunks_cover_a_run_in_order() -> None:
    chunks = cut_run((3, 8), 2)
    assert chunks == [Chunk(3, 5, 3, 8), Chunk(5, 7, 3, 8), Chunk(7, 8, 3, 8)]
    assert [c.is_first for c in chunks] == [True, False, False]
    assert [c.is_last for c in chunks] == [False, False, True]
    late = cut_run((int("3000"), int("3005")), 2)
    assert [(c.is_first, c.is_last) for c in late] == [(True, False), (False, False), (False, True)]


def test_a_chunk_may_be_the_whole_track() -> None:
    (only,) = cut_run(whole_run(4)[0], 16)
    assert (only.start, only.stop, only.is_first, only.is_last) == (0, 4, True, True)
    assert whole_run(0) == []


def test_warmup_runs_end_at_labelled_frames() -> None:
    labelled = np.zeros(40, dtype=bool)
    labelled[[1, 20, 30, 37]] = True
    # 1 has one frame before it; 20 needs 15 on; 30 needs 25 on; 37 needs 32 on, apart from 30.
    assert warmup_runs(labelled, 5) == [(0, 2), (15, 21), (25, 31), (32, 38)]


def test_overlapping_and_touching_runs_are_one() -> None:
    labelled = np.zeros(40, dtype=bool)
    labelled[[20, 24, 30]] = True
    # 24 - 5 lies in the first run; 30 - 5 = 25 is the frame right after it.
    assert warmup_runs(labelled, 5) == [(15, 31)]


def test_without_warmup_frames_runs_are_the_labelled_frames() -> None:
    labelled = np.array([1, 0, 1, 1, 0], dtype=bool)
    assert warmup_runs(labelled, 0) == [(0, 1), (2, 4)]
    assert warmup_runs(np.zeros(3, dtype=bool), 2) == []


@pytest.mark.parametrize(
    ("frames", "length", "stride"), [(0, 1, 1), (1, 0, 1), (1, 1, 0), (-1, 1, 1)]
)
def test_a_clip_of_nothing_is_refused(frames: int, length: int, stride: int) -> None:
    with pytest.raises(ValueError, match=f"got {frames} frames, length {length}, stride {stride}"):
        sample_clip(frames, length, stride, np.random.default_rng(0))


def test_frames_that_fit_exactly_need_no_padding() -> None:
    for frames, padded in ((7, 0), (6, 1), (5, 1), (4, 2)):
        clip = sample_clip(frames, 4, 2, np.random.default_rng(0))
        assert clip.is_padding.sum() == padded, frames


def test_all_usable_frames_are_drawn_as_without_a_choice() -> None:
    for seed in range(5):
        one = sample_clip(30, 4, 2, np.random.default_rng(seed), np.ones(30, bool))
        two = sample_clip(30, 4, 2, np.random.default_rng(seed))
        np.testing.assert_array_equal(one.frames, two.frames)


def test_runs_and_chunks_of_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="warm-up of -1 frames: expected 0 or more"):
        warmup_runs(np.ones(3, bool), -1)
    with pytest.raises(ValueError, match="chunk length 0: expected 1 or more"):
        cut_run((0, 3), 0)
    assert [(c.start, c.stop) for c in cut_run((0, 3), 1)] == [(0, 1), (1, 2), (2, 3)]
    assert whole_run(1) == [(0, 1)]
