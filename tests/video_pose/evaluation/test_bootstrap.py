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
    hits = np.arange(10) ** 2  # bounds that other draws would move
    more = share_interval(np.append(hits, [0]), np.append(COUNTED, [0]))
    assert more == share_interval(hits, COUNTED)


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


def test_the_level_is_the_share_of_the_draws_inside() -> None:
    # The quartiles of a binomial(10, .5) are 4 and 6; one draw has no width. Counts of one joint a
    # cluster are clusters like any others.
    assert share_interval(HITS, COUNTED, level=0.5) == (40.0, 60.0)
    assert share_interval(HITS // 100, COUNTED // 100) == (20.0, 80.0)
    low, high = share_interval(HITS, COUNTED, samples=1)
    assert low == high and low % 10 == 0


def test_two_clusters_are_the_fewest() -> None:
    # Right in the one, wrong in the other: each is drawn twice in a quarter of the draws.
    assert share_interval(HITS[4:6], COUNTED[4:6]) == (0.0, 100.0)
    # Further axes: shape (V, 2, 2). Draws that miss both clusters of a joint do not count.
    hits, counted = (np.zeros((10, 2, 2)) for _ in range(2))
    counted[:2, 0, 0] = counted[:, 0, 1] = counted[:1, 1, 0] = 1
    hits[0, 0, 0] = 1
    hits[:, 0, 1] = HITS / 100
    low, high = share_interval(hits, counted)
    np.testing.assert_equal(low, [[0, 20], [np.nan, np.nan]])
    np.testing.assert_equal(high, [[100, 80], [np.nan, np.nan]])
