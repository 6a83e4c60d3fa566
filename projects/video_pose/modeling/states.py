"""Recurrent states: operations on their rows, the states of tracks between chunks, and states that
follow the region.

A state is a NamedTuple of tensors whose dimension 0 is the row. A row is one person, or one person
at one test scale or flip. People who appear or vanish are rows that are appended or dropped;
nothing else about a state depends on who shares the batch.

A state lies in the cells of the region that it was computed on. Regions follow boxes, and boxes
move: without a correction, a joint's memory stays behind by as much as the box has moved. As
RoIAlign samples features at exact positions, so are maps of a state sampled here when they go from
one region to the next: bilinearly, at the positions that the new cells' centres have in the old
grid. Cells that the old region did not show hold what an empty state holds.

Shape letters: R rows, C channels, h, w cells. A "move" (2, 3) takes (x, y), indices of a new cell,
to indices of the old grid: old = move @ (x, y, 1). Cell i is centred on index i.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from video_pose.data.records import ClipRecord
from video_pose.heatmap_codec import HeatmapCodec

State = TypeVar("State", bound=tuple)


def select_rows(state: State, rows: Tensor | Sequence[int]) -> State:
    """The given rows of a state, in the given order."""
    return type(state)(*(tensor.index_select(0, _index(rows, tensor)) for tensor in state))


def append_rows(states: Sequence[State]) -> State:
    """One state that holds the rows of all ``states``, in order."""
    if not states:
        raise ValueError("no states to append")
    return type(states[0])(*(torch.cat(tensors, 0) for tensors in zip(*states, strict=True)))


def put_rows(state: State, rows: Sequence[int], values: State) -> State:
    """A copy of ``state`` with the rows of ``values`` in the given places."""
    return type(state)(
        *(
            old.index_copy(0, _index(rows, old), new.to(old.dtype))
            for old, new in zip(state, values, strict=True)
        )
    )


def _index(rows: Tensor | Sequence[int], of: Tensor) -> Tensor:
    return torch.as_tensor(rows, device=of.device, dtype=torch.long)


class TrackStates:
    """The state, the position and the next frame of every track that is under way."""

    def __init__(self) -> None:
        self._tracks: dict[tuple[str, str], tuple[int, int, Any]] = {}

    def clear(self) -> None:
        """Forget all tracks."""
        self._tracks.clear()

    def __len__(self) -> int:
        return len(self._tracks)

    def resume(self, clip: ClipRecord) -> tuple[int, Any]:
        """Frames already run and the state for a chunk; (0, None) for a track's first chunk.

        Args:
            clip: a mapper's dict: video_id, track_id, is_first, frame_indices.

        Raises:
            ValueError: the chunk does not follow the last one of its track.
        """
        if clip["is_first"]:
            return 0, None
        key, start = _key(clip), int(clip["frame_indices"][0])
        known = self._tracks.get(key)
        if known is None or known[0] != start:
            came = "no chunk before it" if known is None else f"frame {known[0]} expected next"
            raise ValueError(
                f"video {key[0]!r} track {key[1]!r}: chunk starts at frame {start}, {came}; "
                "the chunks of a track must come in order, without a gap"
            )
        return known[1:]

    def store(self, clip: ClipRecord, position: int, state: Any) -> None:
        """Keep ``state`` after a chunk that ends ``position`` frames into its track, or drop it."""
        if clip["is_last"]:
            self._tracks.pop(_key(clip), None)
        else:
            following = int(clip["frame_indices"][-1]) + 1
            self._tracks[_key(clip)] = (following, position, state)


def _key(clip: ClipRecord) -> tuple[str, str]:
    return clip["video_id"], clip["track_id"]


def crop_moves(old_to_image: Tensor, new_to_image: Tensor, stride: float, offset: float) -> Tensor:
    """Moves between the heatmap grids of two crops of one person.

    Args:
        old_to_image, new_to_image: (R, 2, 3), continuous crop px to image px, invertible.
        stride: crop px per cell. offset: 0-based discrete crop pixel at the centre of cell 0.

    Returns:
        (R, 2, 3).
    """
    cells = old_to_image.new_tensor([[stride, 0.0, offset + 0.5], [0.0, stride, offset + 0.5]])
    cells = _square(cells[None])
    old, new = _square(old_to_image) @ cells, _square(new_to_image) @ cells
    # In double precision: crops' maps to the image differ in the last digits of float32 alone.
    return torch.linalg.solve(old.double(), new.double())[:, :2].to(old_to_image.dtype)


def codec_moves(old_to_image: Tensor, new_to_image: Tensor, codec: HeatmapCodec) -> Tensor:
    """`crop_moves` of the maps that ``codec`` reads."""
    return crop_moves(old_to_image, new_to_image, codec.stride, codec.decode_offset)


def box_moves(old_boxes: Tensor, new_boxes: Tensor, side: int) -> Tensor:
    """Moves between the grids of RoIAlign, ``side`` x ``side`` cells over each box.

    Args:
        old_boxes, new_boxes: (R, 4) XYXY, of an extent above 0.

    Returns:
        (R, 2, 3).
    """
    old_size = old_boxes[:, 2:] - old_boxes[:, :2]
    new_size = new_boxes[:, 2:] - new_boxes[:, :2]
    scale = new_size / old_size
    # The centre of cell i lies at low + (i + .5) size / side.
    shift = (new_boxes[:, :2] - old_boxes[:, :2]) / old_size * side + 0.5 * scale - 0.5
    return torch.cat([torch.diag_embed(scale), shift[..., None]], dim=-1)


def move_maps(maps: Tensor, moves: Tensor, empty: Tensor | float = 0.0) -> Tensor:
    """Maps (R, C, h, w) of the old grids, sampled on the new ones.

    Args:
        moves: (R, 2, 3).
        empty: what a map holds where the old grid ends: a number, or one per channel (C,).

    Returns:
        (R, C, h, w) of the type of ``maps``. An identity gives the maps' own values.
    """
    height, width = maps.shape[2:]
    moves = moves.to(device=maps.device, dtype=torch.float32)
    x = torch.arange(width, device=maps.device, dtype=torch.float32)
    y = torch.arange(height, device=maps.device, dtype=torch.float32)
    # (R, h, w, 2): rows of the linear part applied along each axis, then the shift.
    grid = (
        x[None, None, :, None] * moves[:, None, None, :, 0]
        + y[None, :, None, None] * moves[:, None, None, :, 1]
        + moves[:, None, None, :, 2]
    )
    size = grid.new_tensor([width, height])
    grid = (2 * grid + 1) / size - 1
    fill = torch.as_tensor(empty, device=maps.device, dtype=torch.float32)
    fill = fill.view(1, -1, 1, 1)
    moved = F.grid_sample(
        maps.float() - fill, grid, mode="bilinear", padding_mode="zeros", align_corners=False
    )
    return (moved + fill).to(maps.dtype)


def move_state(
    state: State, moves: Tensor, empty: Mapping[str, Tensor | float] | None = None
) -> State:
    """A state's maps, brought from the old grids to the new ones.

    Args:
        state: a NamedTuple of tensors (R, C, h, w); one of a single cell (R, 1, 1, 1) says
            something of the row, and stays. moves: (R, 2, 3).
        empty: by field, what an empty state holds, as `move_maps` takes it; absent: 0.

    Returns:
        ``state`` itself where nothing has moved.
    """
    # A graph cannot branch on values.
    if not torch.compiler.is_compiling() and is_still(moves):
        return state
    empty = empty or {}
    moved = {
        name: maps if maps.shape[2:] == (1, 1) else move_maps(maps, moves, empty.get(name, 0.0))
        for name, maps in state._asdict().items()  # type: ignore[attr-defined]
    }
    return type(state)(**moved)


def align_state(
    state: State, old_to_image: Tensor, new_to_image: Tensor, codec: HeatmapCodec
) -> State:
    """The state of a heatmap model's rows whose crops changed, in the new crops' cells.

    Args:
        state: see `move_heatmap_state`. old_to_image, new_to_image: (R, 2, 3), crop px to image px.
        codec: of the maps' grid.
    """
    return move_heatmap_state(state, codec_moves(old_to_image, new_to_image, codec), codec)


def move_heatmap_state(state: State, moves: Tensor, codec: HeatmapCodec) -> State:
    """`move_state` of a heatmap model: a field called ``heatmaps`` is filled with 1 in the
    background's channel."""
    maps = getattr(state, "heatmaps", None)
    empty = {} if maps is None else {"heatmaps": codec.empty_maps(maps.shape[1])}
    return move_state(state, moves, empty)


def still_moves(rows: int) -> Tensor:
    """(R, 2, 3) identities."""
    return torch.eye(2, 3).repeat(rows, 1, 1)


def is_still(moves: Tensor, tolerance: float = 1e-4) -> bool:
    """Whether every move is the identity, to a fraction of a cell: then nothing need be sampled."""
    identity = torch.eye(2, 3, device=moves.device, dtype=moves.dtype)
    return bool(((moves - identity).abs() <= tolerance).all())


def _square(matrix: Tensor) -> Tensor:
    """(R, 2, 3) -> (R, 3, 3)."""
    last = matrix.new_tensor([0.0, 0.0, 1.0]).expand(matrix.shape[0], 1, 3)
    return torch.cat([matrix, last], dim=1)
