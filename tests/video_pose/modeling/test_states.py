"""Recurrent states: rows appended, selected, replaced; kept per track, gaps refused."""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch

from video_pose.modeling.states import TrackStates, append_rows, replace_rows, select_rows


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


def chunk(start: int, stop: int, *, first=False, last=False, video="v", track="0") -> dict:
    return {
        "video_id": video,
        "track_id": track,
        "is_first": first,
        "is_last": last,
        "frame_indices": torch.arange(start, stop),
    }


def test_a_track_from_first_to_last_chunk() -> None:
    states = TrackStates()
    # A run may begin anywhere in its track (frames before a labelled one): position counts from it.
    assert states.resume(chunk(10, 14, first=True)) == (0, None)
    states.store(chunk(10, 14, first=True), 4, "a")
    assert states.resume(chunk(14, 16)) == (4, "a")
    states.store(chunk(14, 16), 6, "b")
    assert states.resume(chunk(16, 17, last=True)) == (6, "b")
    states.store(chunk(16, 17, last=True), 7, "c")
    assert len(states) == 0


def test_tracks_are_kept_apart() -> None:
    states = TrackStates()
    for video, track in (("v", "0"), ("v", "1"), ("w", "0")):
        states.store(chunk(0, 4, first=True, video=video, track=track), 4, video + track)
    assert len(states) == 3
    assert states.resume(chunk(4, 8, video="w")) == (4, "w0")
    assert states.resume(chunk(4, 8, track="1")) == (4, "v1")


@pytest.mark.parametrize("start", [3, 5, 0])
def test_a_chunk_out_of_order_is_refused(start: int) -> None:
    states = TrackStates()
    states.store(chunk(0, 4, first=True), 4, "a")
    with pytest.raises(ValueError, match=rf"video 'v' track '0'.*frame {start}.*frame 4 expected"):
        states.resume(chunk(start, start + 2))


def test_a_chunk_without_its_beginning_is_refused() -> None:
    with pytest.raises(ValueError, match="frame 4, no chunk before it"):
        TrackStates().resume(chunk(4, 8))
    states = TrackStates()
    states.store(chunk(0, 4, first=True, last=True), 4, "a")  # finished: the next one is too much
    with pytest.raises(ValueError, match="no chunk before it"):
        states.resume(chunk(4, 8))


def test_starting_again_forgets_the_old_run() -> None:
    states = TrackStates()
    states.store(chunk(0, 4, first=True), 4, "a")
    assert states.resume(chunk(0, 4, first=True)) == (0, None)
    states.clear()
    assert len(states) == 0
