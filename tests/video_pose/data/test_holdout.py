"""Training clips divided by source video: nothing on both sides, nothing lost, always the same."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from video_pose.data.datasets.holdout import holdout_sources
from video_pose.data.datasets.jhmdb import select_clips, source_video


def _clips(action: str, **counts: int) -> list[tuple[str, str]]:
    return [(action, source) for source, count in counts.items() for _ in range(count)]


def test_whole_sources_by_the_order_of_their_hashes() -> None:
    # sha256: "b" 3e23.., "c" 2e7d.., "a" ca97.., "d" 18ac..: taken in the order d, c, b, a.
    clips = _clips("run", a=3, b=2, c=4, d=1)
    # 20 % of 10 are 2. d: 1 is closer than 0. c: 5 is further than 1. b: 3 is as far as 1, so not
    # closer. a: 4 is further.
    assert holdout_sources(clips) == {"d"}
    # 40 % are 4. d: 1. c: 5 is closer than 1. b, a: further.
    assert holdout_sources(clips[::-1], 0.4) == {"c", "d"}


def test_each_action_gives_its_share_and_keeps_its_only_source() -> None:
    clips = _clips("run", a=1, b=1, c=1, d=1, e=1) + _clips("walk", f=7)
    held = holdout_sources(clips)
    # e: 3f79.., so d is still the first of five.
    assert held == {"d"}


def test_a_source_of_several_actions_counts_where_most_of_its_clips_are() -> None:
    # d has 1 clip of run and 4 of walk, so that walk has 5 + 5 + 2 and wants 2.4 of them. d and e
    # bring 5, which is further away than 0 is; g brings 2. Run is left with its only source.
    clips = _clips("run", a=1, d=1) + _clips("walk", d=4, e=5, g=2)
    assert holdout_sources(clips) == {"g"}


def test_impossible_share() -> None:
    with pytest.raises(ValueError, match="0.6"):
        holdout_sources(_clips("run", a=1), 0.6)


@pytest.mark.parametrize(
    ("action", "clip", "expected"),
    [
        ("catch", "Ball_(2)!_catch_u_cm_np1_fr_goo_0", "Ball_(2)!"),
        # The last mention counts: a title may name the action as well.
        ("push", "Box_push_it_push_f_cm_np1_ba_bad_2", "Box_push_it"),
        ("shoot_ball", "Playing_shoot_ball_f_nm_np1_ba_med_6", "Playing"),
        ("run", "a", "a"),
    ],
)
def test_source_video(action: str, clip: str, expected: str) -> None:
    assert source_video(action, clip) == expected


def _require_division(folder: str, split: int) -> tuple[int, int]:
    """(held back, all) clips, after checking that nothing is on both sides and nothing is lost."""
    train, fit, holdout = (select_clips(folder, split, s) for s in ("train", "fit", "holdout"))
    assert sorted(fit + holdout) == sorted(train)
    sources = [{source_video(*clip) for clip in part} for part in (fit, holdout)]
    assert not sources[0] & sources[1]
    return len(holdout), len(train)


def test_parts_of_a_split(tmp_path: Path) -> None:
    for action in ("run", "swing_baseball"):
        names = [f"{s}_{action}_f_cm_np1_ba_med_{i}" for s in "abcde" for i in range(2)]
        lines = [f"{name}.avi 1\n" for name in names] + [f"x_{action}_f_cm_np1_ba_med_0.avi 2\n"]
        (tmp_path / f"{action}_test_split2.txt").write_text("".join(lines))
    assert _require_division(str(tmp_path), 2) == (4, 20)


def test_parts_of_the_real_training_clips() -> None:
    folder = os.path.join(os.environ.get("DETECTRON2_DATASETS", ""), "jhmdb", "sub_splits")
    if not os.path.isdir(folder):
        pytest.skip("no jhmdb/sub_splits under DETECTRON2_DATASETS")
    held, clips = _require_division(folder, 1)
    assert 0.15 < held / clips < 0.25
    actions = {action for action, _ in select_clips(folder, 1, "holdout")}
    assert len(actions) >= 10
