"""Rows of states, states of tracks between chunks, and states that follow their region."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from detectron2.config import CfgNode

from video_pose.heatmap_codec import HeatmapCodec
from video_pose.modeling.backend import TorchBackend, run_chunk
from video_pose.modeling.states import (
    TrackStates,
    align_state,
    append_rows,
    box_moves,
    crop_moves,
    is_still,
    move_heatmap_state,
    move_maps,
    move_state,
    put_rows,
    select_rows,
    still_moves,
)
from video_pose.modeling.video_pose_net import VideoPoseNet


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


def test_rows_are_put_in_their_places() -> None:
    """In a copy, of the state's type."""
    state, new = rows(1, 2, 3), rows(7, 8)
    assert values(put_rows(state, [2, 0], new)) == [8, 2, 7] and values(state) == [1, 2, 3]
    assert values(put_rows(state, [], rows())) == [1, 2, 3]
    half = TwoTensors(*(tensor.bfloat16() for tensor in state))
    assert put_rows(half, [1], rows(5)).maps.dtype == torch.bfloat16


def test_nothing_to_append() -> None:
    with pytest.raises(ValueError, match="^no states to append$"):
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
    message = (
        f"video 'v' track '0': chunk starts at frame {start}, frame 4 expected next; the chunks of "
        "a track must come in order, without a gap"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
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


IDENTITY = torch.eye(2, 3)[None]


def test_a_crop_moved_by_two_cells_moves_the_maps_by_two_cells() -> None:
    """Stride 8, image scale 1: the new crop begins 16 px right of and 8 px below the old one."""
    old, new = IDENTITY.clone(), IDENTITY.clone()
    new[0, :, 2] = torch.tensor([16.0, 8.0])
    moves = crop_moves(old, new, stride=8, offset=3.5)
    torch.testing.assert_close(moves, torch.tensor([[[1.0, 0.0, 2.0], [0.0, 1.0, 1.0]]]))
    maps = torch.arange(20.0).view(1, 1, 4, 5)
    moved = move_maps(maps, moves, empty=-1.0)
    # The new cell (row 0, column 0) is the old (1, 2); two columns and a row are new to the crop.
    expected = torch.full((4, 5), -1.0)
    expected[:3, :3] = maps[0, 0, 1:, 2:]
    torch.testing.assert_close(moved[0, 0], expected)


def test_a_crop_of_twice_the_extent_halves_the_distances() -> None:
    """Crop px are 2 image px in the new crop: its cell i is centred on (8 i + 4) 2 image px,
    which is the old cell 2 i + .5."""
    new = IDENTITY * torch.tensor([2.0, 2.0, 1.0])
    moves = crop_moves(IDENTITY, new, stride=8, offset=3.5)
    torch.testing.assert_close(moves, torch.tensor([[[2.0, 0.0, 0.5], [0.0, 2.0, 0.5]]]))
    maps = torch.tensor([[0.0, 4.0, 8.0, 12.0]]).repeat(4, 1)[None, None]
    # Between old columns 0 and 1: 2; between 2 and 3: 10; beyond: empty.
    moved = move_maps(maps, moves, empty=0.0)
    torch.testing.assert_close(moved[0, 0, 0], torch.tensor([2.0, 10.0, 0.0, 0.0]))


def test_a_turned_crop_turns_the_maps() -> None:
    """The new crop's x runs along the image's y: a quarter turn about the centre of a 4x4 grid."""
    moves = torch.tensor([[[0.0, 1.0, 0.0], [-1.0, 0.0, 3.0]]])
    maps = torch.arange(16.0).view(1, 1, 4, 4)
    torch.testing.assert_close(move_maps(maps, moves)[0, 0], torch.rot90(maps[0, 0], -1))


def test_a_box_moved_by_a_cell() -> None:
    """A box of 28 px on a grid of 14: 2 px a cell; the new box begins 2 px right, 4 px above."""
    old = torch.tensor([[10.0, 10.0, 38.0, 38.0]])
    new = old + torch.tensor([[2.0, -4.0, 2.0, -4.0]])
    expected = torch.tensor([[[1.0, 0.0, 1.0], [0.0, 1.0, -2.0]]])
    torch.testing.assert_close(box_moves(old, new, 14), expected)


def test_a_grown_box() -> None:
    """From 10 px to 20 px about one corner, on two cells: centres 5 and 15 px against 2.5 and 7.5,
    the old indices .5 and 2.5."""
    moves = box_moves(
        torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor([[0.0, 0.0, 20.0, 20.0]]), 2
    )
    cells = moves[0, 0, 0] * torch.tensor([0.0, 1.0]) + moves[0, 0, 2]
    torch.testing.assert_close(cells, torch.tensor([0.5, 2.5]))


def _cells_in_image(matrix: torch.Tensor, stride: float, first: float) -> torch.Tensor:
    """Image positions (R, 2, 2) of the cells (3, 1) and (0, 5)."""
    cells = torch.tensor([[3.0, 0.0], [1.0, 5.0], [1.0, 1.0]], dtype=torch.float64)
    cells[:2] = cells[:2] * stride + first
    return matrix.double() @ cells


def test_a_move_leads_to_the_same_place_in_the_image() -> None:
    """Of crops that are turned, stretched and shifted at once, two rows; cells of any offset."""
    old = torch.tensor([[[1.5, 0.4, 10], [-0.3, 0.8, 4]], [[0.5, 0, 1], [0, 2, 2]]])
    new = torch.tensor([[[0.7, -0.2, 12], [0.1, 1.1, 1]], [[0.5, 0.1, 3], [0, 1, -2]]])
    moves = crop_moves(old, new, stride=4.0, offset=0.5).double()
    assert moves.shape == (2, 2, 3)
    cells = torch.tensor([[3.0, 0.0], [1.0, 5.0], [1.0, 1.0]], dtype=torch.float64)
    ones = torch.ones(2, 1, 2, dtype=torch.float64)
    inside = torch.cat([(moves @ cells) * 4.0 + 1.0, ones], dim=1)
    torch.testing.assert_close(old.double() @ inside, _cells_in_image(new, 4.0, 1.0))


def test_a_move_of_boxes_leads_to_the_same_place_in_the_image() -> None:
    """Boxes of other sizes in both directions, on three cells a side."""
    old = torch.tensor([[10.0, 20, 40, 50], [0, 0, 6, 12]])
    new = torch.tensor([[16.0, 14, 28, 74], [-3, 3, 9, 6]])
    moves = box_moves(old, new, 3)
    assert moves[:, 0, 1].eq(0).all() and moves[:, 1, 0].eq(0).all()
    for cell in (torch.tensor([0.0, 0.0]), torch.tensor([2.0, 1.0])):
        places = new[:, :2] + (cell + 0.5) * (new[:, 2:] - new[:, :2]) / 3
        there = moves @ torch.cat([cell, torch.ones(1)])
        found = old[:, :2] + (there + 0.5) * (old[:, 2:] - old[:, :2]) / 3
        torch.testing.assert_close(found, places)


def test_rows_move_apart_and_channels_are_filled_apart() -> None:
    maps = torch.ones(2, 2, 3, 3)
    moves = IDENTITY.repeat(2, 1, 1)
    moves[1, 0, 2] = 1.0
    moved = move_maps(maps, moves, empty=torch.tensor([0.0, 1.0]))
    torch.testing.assert_close(moved[0], maps[0])
    assert moved[1, 0, :, 2].eq(0).all() and moved[1, 0, :, :2].eq(1).all()
    assert moved[1, 1].eq(1).all()


def test_identity_gives_the_same_values_and_gradients_flow() -> None:
    maps = torch.rand(2, 3, 5, 4, requires_grad=True)
    moved = move_maps(maps, IDENTITY.repeat(2, 1, 1))
    torch.testing.assert_close(moved, maps)
    moved.sum().backward()
    torch.testing.assert_close(maps.grad, torch.ones_like(maps))


def test_half_precision_is_kept() -> None:
    assert move_maps(torch.rand(1, 1, 3, 3).bfloat16(), IDENTITY).dtype == torch.bfloat16


@pytest.mark.parametrize(("shift", "still"), [(0.0, True), (0.5, False)])
def test_stillness(shift: float, still: bool) -> None:
    moves = IDENTITY.clone()
    moves[0, 1, 2] = shift
    assert is_still(moves) is still
    assert is_still(torch.cat([IDENTITY, moves])) is still
    assert is_still(moves, tolerance=0.5) and is_still(-moves, tolerance=0.5) is False
    assert is_still(still_moves(3)) and still_moves(3).tolist() == IDENTITY.tolist() * 3


def test_a_state_that_is_not_moved_is_handed_back() -> None:
    """A hundredth of a cell is a move; a ten-thousandth is none."""
    state = rows(1, 2)
    moves = still_moves(2)
    moves[1, 0, 2] = 5e-5
    assert move_state(state, moves) is state
    moves[1, 0, 2] = 0.01
    moved = move_state(state, moves)
    assert moved.fresh is state.fresh
    torch.testing.assert_close(moved.maps[0], state.maps[0])
    torch.testing.assert_close(moved.maps[1, :, :, 2], torch.full((2, 3), 2 * 0.99))
    filled = move_state(state, moves, {"maps": 2.0})
    torch.testing.assert_close(filled.maps[1], state.maps[1])
    # A map of one row or one column is a map.
    strip = TwoTensors(torch.ones(2, 1, 1, 4), state.fresh)
    assert move_state(strip, moves).maps[1, 0, 0, 3] == pytest.approx(0.99)
    strip = TwoTensors(torch.ones(2, 1, 4, 1), state.fresh)
    assert move_state(strip, moves).maps[1, 0, 3, 0] == pytest.approx(0.99)


class Memory(NamedTuple):
    heatmaps: torch.Tensor
    cell: torch.Tensor
    fresh: torch.Tensor


def test_a_state_is_filled_with_what_an_empty_one_holds() -> None:
    """A crop a cell further right: the new column is background, and no cell's memory."""
    codec = HeatmapCodec(stride=8, background="last")
    old, new = IDENTITY.clone(), IDENTITY.clone()
    new[0, 0, 2] = 8.0
    state = Memory(torch.full((1, 3, 2, 2), 0.5), torch.ones(1, 4, 2, 2), torch.ones(1, 1, 1, 1))
    moved = align_state(state, old, new, codec)
    assert moved.heatmaps[0, :, :, 1].tolist() == [[0, 0], [0, 0], [1, 1]]
    assert moved.heatmaps[0, :, :, 0].eq(0.5).all()
    assert moved.cell[0, :, :, 1].eq(0).all() and moved.cell[0, :, :, 0].eq(1).all()
    assert moved.fresh is state.fresh
    assert align_state(state, old, old, codec) is state


def test_a_scanned_clip_moves_its_state_with_its_crops(
    toy_net: type[VideoPoseNet], clip: Callable[..., dict[str, Any]]
) -> None:
    """The toy's maps are half the last ones plus what the frame gives: with the second crop two
    cells further down, half the moved ones, filled with 0: its state has no ``heatmaps``."""
    item = clip(2)
    images, centers = item["image"][None], item["center"][None]
    crops = item["crop_to_image"].clone()[None]
    crops[0, 1, 1, 2] += 16.0
    still, moving = toy_net(), toy_net(align_state=True)
    with torch.no_grad():
        before = still.eval().scan(images, centers, crops).heatmaps
        after = moving.eval().scan(images, centers, crops).heatmaps
    torch.testing.assert_close(after[:, 0], before[:, 0])
    first = before[0, 0]
    expected = torch.zeros_like(first)
    expected[:, :6] = first[:, 2:]
    torch.testing.assert_close(after[0, 1] - before[0, 1], 0.5 * (expected - first))


@pytest.mark.parametrize("length", [1, 2, 5])
def test_chunks_move_their_state_as_a_whole_clip_does(
    toy_net: type[VideoPoseNet], clip: Callable[..., dict[str, Any]], length: int
) -> None:
    item = clip(5) | {"video_id": "v", "track_id": "0", "frame_indices": torch.arange(5)}
    crops = item["crop_to_image"].clone()
    crops[:, :, 2] += torch.tensor([[0.0, 0], [8, 0], [3, -5], [3, -5], [-20, 9]])
    net = toy_net(align_state=True).eval()
    with torch.no_grad():
        whole = net.scan(item["image"][None], item["center"][None], crops[None]).heatmaps
        still = net.scan(item["image"][None], item["center"][None], crops[:1].repeat(5, 1, 1)[None])
        found = []
        for start in range(0, 5, length):
            part = slice(start, start + length)
            chunk = item | {
                "frame_indices": item["frame_indices"][part],
                "is_first": start == 0,
                "is_last": start + length >= 5,
            }
            images, centers = item["image"][None, part], item["center"][None, part]
            found.append(
                run_chunk(TorchBackend(net), net._states, chunk, images, centers, crops[None, part])
            )
    torch.testing.assert_close(torch.cat(found, 1), whole)
    assert (still.heatmaps - whole).abs().max() > 0.1


MODELS = ("unipose_lstm", "lstm_pm")


@pytest.mark.parametrize("model", MODELS)
@torch.no_grad()
def test_a_models_state_moved_by_two_cells_is_that_of_the_moved_picture(
    pose_cfg: Callable[..., CfgNode], build_backend: Callable[..., TorchBackend], model: str
) -> None:
    """Features and centre map two cells further left: away from the edges, which convolutions see,
    the state of the moved picture is the moved state of the picture."""
    cfg = pose_cfg(model, "INPUT.CROP_SIZE", (64, 64))
    net = build_backend(cfg).model
    torch.manual_seed(1)
    channels = net.encode(net.normalize(torch.zeros(1, 3, 64, 64))).shape[1]
    features, center = torch.rand(1, channels, 48, 48), torch.rand(1, 1, 48, 48)
    images = torch.rand(1, 3, 384, 384)
    states = []
    for shift in (0, -2):
        seen = features.roll(shift, -1), center.roll(shift, -1)
        state = net.begin(images.roll(8 * shift, -1), seen[0])
        states.append(net.advance(*seen, state)[1])
    moves = IDENTITY.clone()
    moves[0, 0, 2] = 2.0
    moved = move_heatmap_state(states[0], moves, net.codec)
    compared = 0
    for name, maps in states[1]._asdict().items():
        if maps.shape[-2:] == (48, 48):
            inside = (..., slice(16, 32), slice(16, 30))
            torch.testing.assert_close(
                getattr(moved, name)[inside], maps[inside], atol=1e-5, rtol=0
            )
            assert (getattr(states[0], name)[inside] - maps[inside]).abs().max() > 1e-3, name
            compared += 1
    assert compared >= 2, "hidden and cell at least"


@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("model", MODELS)
@torch.no_grad()
def test_models_scan_moving_crops_in_chunks_as_in_training(
    pose_cfg: Callable[..., CfgNode],
    build_backend: Callable[..., TorchBackend],
    model: str,
    length: int,
) -> None:
    cfg = pose_cfg(model, "INPUT.CROP_SIZE", (64, 64), "MODEL.POSE.ALIGN_STATE", True)
    backend = build_backend(cfg)
    generator = torch.Generator().manual_seed(2)
    images = torch.randint(256, (1, 4, 3, 64, 64), generator=generator, dtype=torch.uint8)
    centers = torch.full((1, 4, 2), 32.0)
    crops = IDENTITY.repeat(4, 1, 1)
    crops[:, :, 2] = torch.tensor([[0.0, 0], [9, -3], [12, 10], [-7, 4]])
    whole = backend.model.scan(images, centers, crops[None]).heatmaps
    still = backend.model.scan(images, centers, crops[:1].repeat(4, 1, 1)[None]).heatmaps
    states, found = TrackStates(), []
    for start in range(0, 4, length):
        part = slice(start, start + length)
        chunk = {
            "video_id": "v", "track_id": "0", "frame_indices": torch.arange(4)[part],
            "is_first": start == 0, "is_last": start + length >= 4,
        }  # fmt: skip
        found.append(
            run_chunk(backend, states, chunk, images[:, part], centers[:, part], crops[None, part])
        )
    torch.testing.assert_close(torch.cat(found, 1), whole, atol=1e-4, rtol=1e-4)
    assert (still - whole).abs().max() > 1e-3


def test_an_engine_is_given_no_moves_unless_states_move(
    toy_net: type[VideoPoseNet], clip: Callable[..., dict[str, Any]]
) -> None:
    """Graphs of released weights do not take any; a track's first frame has none."""
    seen: list[int] = []

    class Counting(TorchBackend):
        def advance(self, *arguments: Any) -> Any:
            seen.append(sum(argument is not None for argument in arguments))
            return super().advance(*arguments)

    item = clip(2) | {"video_id": "v", "track_id": "0", "frame_indices": torch.arange(2)}
    item |= {"is_first": True, "is_last": True}
    for align in (False, True):
        net = toy_net(align_state=align).eval()
        with torch.no_grad():
            images, centers = item["image"][None], item["center"][None]
            crops = item["crop_to_image"][None]
            run_chunk(Counting(net), net._states, item, images, centers, crops)
    assert seen == [3, 3, 3, 4]
