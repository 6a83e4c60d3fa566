"""A part of the training clips held back for choosing hyper-parameters, by whole source video.

Shots of one source video are near-duplicates: they all stay on one side. Which side depends on the
names alone, so that every machine divides the same clips in the same way.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Sequence

HOLDOUT_SHARE = 0.2


def holdout_sources(clips: Sequence[tuple[str, str]], share: float = HOLDOUT_SHARE) -> set[str]:
    """The source videos to hold back, stratified by action.

    A source that shows several actions belongs to the one with most of its clips (on a tie, the
    first by name). The sources of each action are taken in the order of a hash of their names, each
    where it brings the action's held-back clips closer to ``share`` of its clips; an action with a
    single source keeps it.

    Args:
        clips: (action, source video) of every clip, in any order.
        share: of each action's clips, above 0 and at most 0.5.

    Raises:
        ValueError: ``share`` is outside its range.
    """
    if not 0 < share <= 0.5:
        raise ValueError(f"the share held back must be above 0 and at most 0.5, got {share}")
    actions: dict[str, Counter[str]] = defaultdict(Counter)
    for action, source in clips:
        actions[source][action] += 1
    by_action: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for source, counts in actions.items():
        main = min(counts, key=lambda action: (-counts[action], action))
        by_action[main].append((source, counts.total()))
    held: set[str] = set()
    for members in by_action.values():
        wanted = share * sum(count for _, count in members)
        taken = 0
        for source, count in sorted(members, key=lambda member: _digest(member[0])):
            if abs(taken + count - wanted) < abs(taken - wanted):
                held.add(source)
                taken += count
    return held


def _digest(source: str) -> str:
    # Not hash(): that differs from one process to the next.
    return hashlib.sha256(source.encode()).hexdigest()
