"""Rows of recurrent states: appended, selected, replaced."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

from video_pose.modeling.rows import append_rows, replace_rows, select_rows


class TwoTensors(NamedTuple):
    maps: torch.Tensor
    fresh: torch.Tensor


def rows(*values: float) -> TwoTensors:
    column = torch.tensor(values, dtype=torch.float32)
    return TwoTensors(
        column.view(-1, 1, 1, 1).expand(-1, 2, 3, 3).clone(), column.view(-1, 1, 1, 1)
    )


def values(state: TwoTensors) -> list[float]:
    assert isinstance(state, TwoTensors)
    assert (state.maps == state.fresh).all(), "both tensors moved alike"
    return state.fresh.flatten().tolist()


def test_append_keeps_the_order() -> None:
    assert values(append_rows([rows(1, 2), rows(3), rows(4, 5)])) == [1, 2, 3, 4, 5]


def test_select_takes_rows_in_the_given_order() -> None:
    assert values(select_rows(rows(1, 2, 3, 4), [3, 0])) == [4, 1]
    assert values(select_rows(rows(1, 2, 3), torch.tensor([2]))) == [3]
    assert values(select_rows(rows(1, 2), [])) == []


def test_select_inverts_append() -> None:
    both = append_rows([rows(1, 2), rows(7)])
    assert values(select_rows(both, [0, 1])) == [1, 2] and values(select_rows(both, [2])) == [7]


def test_select_copies() -> None:
    state = rows(1, 2)
    select_rows(state, [0]).maps.fill_(9)
    assert values(state) == [1, 2]


def test_replace_takes_the_marked_rows_of_the_other() -> None:
    old, new = rows(1, 2, 3), rows(7, 8, 9)
    old.maps.requires_grad_()
    new.maps.requires_grad_()
    mixed = replace_rows(old, torch.tensor([False, True, False]), new)
    assert values(mixed) == [1, 8, 3]
    mixed.maps.sum().backward()
    assert old.maps.grad[:, 0, 0, 0].tolist() == [1, 0, 1]
    assert new.maps.grad[:, 0, 0, 0].tolist() == [0, 1, 0]


def test_nothing_to_append() -> None:
    with pytest.raises(ValueError, match="no states"):
        append_rows([])
