"""Import paths of earlier versions still lead to their names."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from video_pose.moved import MOVED


@pytest.mark.parametrize("old", sorted(MOVED))
def test_every_home_exists(old: str) -> None:
    for home in MOVED[old]:
        importlib.import_module(home)
    parent, _, leaf = old.rpartition(".")
    folder = Path(importlib.import_module(parent).__file__ or "").parent
    assert not (folder / f"{leaf}.py").exists(), "a module that is there needs no other path"


def test_an_old_path_gives_the_names_of_the_new_one() -> None:
    sys.modules.pop("video_pose.data.regions", None)
    with pytest.warns(DeprecationWarning, match="regions is now video_pose.data.cropping"):
        from video_pose.data.regions import fill_boxes
    from video_pose.data.cropping import fill_boxes as new

    assert fill_boxes is new


def test_a_name_that_is_gone_says_where_it_was_looked_for() -> None:
    with pytest.warns(DeprecationWarning):
        sys.modules.pop("video_pose.modeling.rows", None)
        old = importlib.import_module("video_pose.modeling.rows")
    with pytest.raises(AttributeError, match="is now video_pose.modeling.states, which has no 'x'"):
        _ = old.x
