"""What surrounds a pose network: parts of a batch, peaks in the picture, chunks that cannot be."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from video_pose.heatmap_codec import HeatmapCodec
from video_pose.modeling.backend import (
    ClipInference,
    TorchBackend,
    even_parts,
    image_peaks,
    infer_chunk,
    run_chunk,
)
from video_pose.modeling.sequences import OverTime
from video_pose.modeling.states import TrackStates

SIDE, CELLS = 64, 8


def chunk(video: dict[str, Any], **facts: Any) -> dict[str, Any]:
    """A whole track as one test chunk."""
    part = {k: video[k] for k in ("image", "center", "crop_to_image", "height", "width")}
    indices = torch.arange(len(video["image"]))
    return {
        **part, "video_id": "v", "track_id": "7", "frame_indices": indices,
        "is_first": True, "is_last": True, **facts,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("count", "most", "sizes"),
    [
        (0, 8, [0]),
        (1, 8, [1]),
        (8, 8, [8]),
        (9, 8, [5, 4]),
        (16, 8, [8, 8]),
        (17, 8, [6, 6, 5]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_parts_of_nearly_one_size(count: int, most: int, sizes: list[int]) -> None:
    images = torch.arange(float(count))
    parts = even_parts(images, most)
    assert [len(part) for part in parts] == sizes and torch.equal(torch.cat(parts), images)


@pytest.mark.parametrize(
    ("device", "count", "sizes"),
    [
        ("cpu", 3, [1, 1, 1]),  # the same numbers however a track is cut
        ("cpu", 1, [1]),
        ("cpu", 0, [0]),
        ("meta", 9, [5, 4]),
        ("meta", 2, [2]),
    ],
)
def test_how_many_images_are_encoded_at_once(device: str, count: int, sizes: list[int]) -> None:
    seen: list[Tensor] = []

    def encode(images: Tensor) -> Tensor:
        seen.append(images + 1)
        return seen[-1]

    model = SimpleNamespace(
        training=False, joint_names=[], codec=None, center_map=None, flip_channels=[],
        reset_every=0, align_state=False,
        normalize=lambda images: images.to(device).float(), encode=encode,
    )  # fmt: skip
    images = torch.arange(count)[:, None]
    normalized, features = TorchBackend(model).encode(images)
    assert [len(part) for part in seen] == sizes
    assert normalized.shape == features.shape == (count, 1)
    assert len(sizes) > 1 or features is seen[0], "nothing is copied"
    if device == "cpu":
        assert features[:, 0].tolist() == [n + 1 for n in range(count)]


def test_a_backend_has_what_its_model_has(toy_net) -> None:
    net = toy_net(reset_every=3, align_state=True).train()
    backend = TorchBackend(net)
    assert not net.training and backend.model is net
    assert backend.describe() == "PyTorch on cpu, float32"
    assert TorchBackend(toy_net(precision="bfloat16")).describe() == "PyTorch on cpu, bfloat16"
    assert (backend.reset_every, backend.align_state) == (3, True)
    assert backend.device == ClipInference(backend).device == torch.device("cpu")
    assert backend.joint_names is net.joint_names and backend.codec is net.codec
    assert backend.center_map is net.center_map and backend.flip_channels is net.flip_channels


def test_a_second_backend_of_a_model_leaves_its_tracks_alone(toy_net, clip) -> None:
    """Every call of a model in evaluation makes one: chunks of a track follow one another."""
    net = toy_net().eval()
    video = clip(2)
    half = {k: video[k][:1] for k in ("image", "center", "crop_to_image")}
    net([chunk(video | half, is_last=False)])
    TorchBackend(net)
    assert len(net._states) == 1


@pytest.mark.parametrize(
    ("is_first", "is_last", "whole"),
    [(True, True, True), (True, False, False), (False, True, False)],
)
def test_poses_are_corrected_over_whole_tracks_alone(
    toy_net, clip, is_first: bool, is_last: bool, whole: bool
) -> None:
    backend = TorchBackend(toy_net().eval())
    part = chunk(clip(4), is_first=is_first, is_last=is_last)
    if not whole:
        message = "^v, track 7: poses are corrected over whole tracks, and this is a part of one$"
        with pytest.raises(ValueError, match=message):
            infer_chunk(backend, TrackStates(), part, OverTime())
        return
    (plain,), (smoothed,) = (
        [result["instances"] for result in ClipInference(backend, rule)([part])]
        for rule in (None, OverTime())
    )
    poses = torch.cat([one.pred_keypoints for one in plain]).numpy()
    expected = OverTime()(poses[:, :, None], backend.joint_names)
    found = torch.cat([one.pred_keypoints for one in smoothed]).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-3)
    assert np.abs(found - poses).max() > 1, "nothing was smoothed"
    assert smoothed[0].image_size == (100, 120)


def test_batches_of_clips_have_a_result_each(toy_net, clip) -> None:
    backend = TorchBackend(toy_net().eval())
    tracks = [chunk(clip(3, seed=1)), chunk(clip(2, seed=2), track_id="8")]
    results = ClipInference(backend)(tracks)
    assert [len(result["instances"]) for result in results] == [3, 2]
    for track, result in zip(tracks, results, strict=True):
        (alone,) = ClipInference(backend)([track])
        for one, other in zip(result["instances"], alone["instances"], strict=True):
            assert torch.equal(one.pred_keypoints, other.pred_keypoints)


CODEC = HeatmapCodec(stride=8, sigma=8.0, background="none", decode="argmax")


def maps_of(*cells: tuple[int, int, float]) -> Tensor:
    """(1, 2, 8, 8): the first joint's map has these (row, column, height), the second's none."""
    maps = torch.zeros(1, 2, CELLS, CELLS)
    for row, column, height in cells:
        maps[0, 0, row, column] = height
    return maps


def peaks_of(maps: Tensor, flipped: list[bool], codec: HeatmapCodec = CODEC) -> Tensor:
    """Of one frame whose crop lies at (10, 5) of the picture and is twice as wide as it was."""
    matrices = torch.tensor([[2.0, 0, 10], [0, 1, 5]]).repeat(len(maps), 1, 1, 1)
    matrices[1:] += 100  # the other rows' crops lie elsewhere
    backend: Any = SimpleNamespace(codec=codec, flip_channels=[1, 0])
    poses = torch.full((1, 2, 3), 9.0)
    return image_peaks(backend, maps, matrices, torch.tensor(flipped), poses)


def test_peaks_of_one_row_are_all_there_in_the_picture() -> None:
    """Cells of 8 px about their centres: column 3 is at x = 28, in the picture 2 * 28 + 10."""
    found = peaks_of(maps_of((1, 3, 0.9), (6, 5, 0.5), (4, 0, 0.2), (7, 7, 0.1))[None], [False])
    assert found.shape == (1, 2, 3, 3)
    expected = [[66.0, 17, 0.9], [98, 57, 0.5], [18, 41, 0.2]]
    torch.testing.assert_close(found[0, 0], torch.tensor(expected))


@pytest.mark.parametrize(
    ("flipped", "codec", "merged"),
    [
        ([False, True], CODEC, True),
        ([True, False], CODEC, False),  # the first row is the picture itself
        ([False, False], CODEC, False),  # another scale
        ([True, True], CODEC, False),
        (
            [False, True],
            HeatmapCodec(stride=8, sigma=8.0, background="none", decode_offset=0.0),
            False,
        ),  # whose mirror image lies elsewhere
    ],
)
def test_a_mirrored_row_is_averaged_in_and_scales_are_not(
    flipped: list[bool], codec: HeatmapCodec, merged: bool
) -> None:
    """The mirrored map of the other side has its peak at column 4, which is column 3 here."""
    mirror = maps_of((1, 4, 0.5)).flip(1)
    found = peaks_of(torch.stack([maps_of((1, 3, 0.9)), mirror]), flipped, codec)
    if merged:
        assert found.shape == (1, 2, 3, 3)
        torch.testing.assert_close(found[0, 0, 0], torch.tensor([66.0, 17, 0.7]))
    else:
        assert found.tolist() == [[[[9.0] * 3]] * 2], "the merged poses alone"


def test_three_rows_have_the_merged_poses_alone() -> None:
    maps = torch.stack([maps_of((1, 3, 0.9))] * 3)
    assert peaks_of(maps, [False, True, False]).shape == (1, 2, 1, 3)


@pytest.mark.parametrize("reset_every", [0, 3])
def test_states_move_with_crops_from_frame_to_frame(toy_net, clip, reset_every: int) -> None:
    """What `advance` is told: nothing on a row's first frame, then the way from the last crop."""
    told: list[Any] = []

    class Listening(TorchBackend):
        def advance(self, features: Any, center_map: Any, state: Any, moves: Any = None) -> Any:
            told.append(None if moves is None else moves[0, :, 2].tolist())
            return super().advance(features, center_map, state)

    video = clip(5)
    crops = torch.eye(3)[:2].repeat(5, 1, 1)
    crops[:, 0, 2] = torch.tensor([0.0, 8, 24, 24, 56])  # 1, 2, 0 and 4 cells to the right
    expected: list[Any] = [None, [1.0, 0], [2.0, 0], [0.0, 0], [4.0, 0]]
    if reset_every:
        expected[3] = None
    backend = Listening(toy_net(align_state=True, reset_every=reset_every).eval())
    states = TrackStates()
    for start, stop in (
        (0, 2),
        (2, 3),
        (3, 5),
    ):  # the place of the last crop goes on to the next chunk
        cut = slice(start, stop)
        part = chunk(video, frame_indices=torch.arange(start, stop), is_first=start == 0,
                     is_last=stop == 5)  # fmt: skip
        images, centers = video["image"][None, cut], video["center"][None, cut]
        with torch.no_grad():
            maps = run_chunk(backend, states, part, images, centers, crops[None, cut])
        assert maps.shape == (1, stop - start, 4, CELLS, CELLS) and maps.dtype == torch.float32
    assert told == expected
    told.clear()
    with torch.no_grad():  # crops that nobody tells do not move
        run_chunk(backend, TrackStates(), chunk(video), video["image"][None], video["center"][None])
    assert told == [None] * 5


def test_crops_need_not_be_square(toy_net, clip) -> None:
    """Height before width: the centre map of a crop of 32 x 64 px has 4 x 8 cells; it is that of a
    test, which may leave small values in."""
    backend, asked = TorchBackend(toy_net().eval()), []
    make = backend.center_map
    backend.center_map = lambda centers, size, training: (
        asked.append((centers.shape, size, training)) or make(centers, size, training=training)
    )
    video = clip(1)
    image = video["image"][:, :, :32]
    with torch.no_grad():
        maps = run_chunk(backend, TrackStates(), chunk(video), image[None], video["center"][None])
    assert maps.shape == (1, 1, 4, 4, 8) and asked == [((1, 2), (32, 64), False)]
