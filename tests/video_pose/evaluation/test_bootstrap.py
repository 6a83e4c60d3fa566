"""Intervals over clusters, with the quantiles of known distributions."""

from __future__ import annotations

import numpy as np

from video_pose.evaluation.bootstrap import difference_interval, share_interval

# Ten clusters, five all right and five all wrong: a draw's PCK is 10 times a binomial(10, .5)
# count, whose 2.5 % and 97.5 % quantiles are 2 and 8. Frames would give about 47 - 53.
HITS, COUNTED = np.array([100] * 5 + [0] * 5), np.full(10, 100)


def test_whole_clusters_are_drawn() -> None:
    assert share_interval(HITS, COUNTED) == (20.0, 80.0)
    assert share_interval(HITS, COUNTED, seed=0) == share_interval(HITS, COUNTED, seed=0)


def test_clusters_without_a_counted_joint_change_nothing() -> None:
    more = share_interval(np.append(HITS, [0]), np.append(COUNTED, [0]))
    assert more == share_interval(HITS, COUNTED)


def test_each_column_has_its_own_interval() -> None:
    # All wrong, as above, and counted in one cluster alone.
    hits = np.stack([HITS * 0, HITS, HITS], axis=1)
    counted = np.stack([COUNTED, COUNTED, [100] + [0] * 9], axis=1)
    low, high = share_interval(hits, counted)
    assert low[:2].tolist() == [0, 20] and high[:2].tolist() == [0, 80]
    assert np.isnan([low[2], high[2]]).all()
    assert np.isnan(share_interval(HITS[:1], COUNTED[:1])).all()
    assert np.isnan(share_interval(HITS[:0], COUNTED[:0])).all()


def test_a_paired_difference_is_free_of_what_is_hard_for_both() -> None:
    # B hits 10 of 100 more than A wherever A does: 10 points in each cluster, for sure, while
    # either figure alone may be anything from 20 to 80.
    base = np.array([80] * 5 + [10] * 5)
    assert difference_interval(base, base + 10, COUNTED) == (10.0, 10.0)
    assert difference_interval(base + 10, base, COUNTED) == (-10.0, -10.0)
    # B gains 10 in five clusters and loses 10 in five: -10 + 20 * binomial(10, .5) / 10.
    change = np.array([10] * 5 + [-10] * 5)
    low, high = difference_interval(base, base + change, COUNTED)
    np.testing.assert_allclose([low, high], [-6, 6])
