"""Inference with the common base: whole tracks, chunks and single frames of a toy network."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from video_pose.modeling.backend import TorchBackend, run_chunk
from video_pose.modeling.states import append_rows, select_rows
from video_pose.modeling.video_pose_net import VideoPoseNet

SIDE, CELLS = 64, 8


def chunks(video: dict[str, Any], length: int, *, start: int = 0) -> list[dict[str, Any]]:
    """A track cut into test chunks; ``start`` is the index of its first frame."""
    total = len(video["image"])
    parts = []
    for at in range(0, total, length):
        stop = min(at + length, total)
        part = {k: video[k][at:stop] for k in ("image", "center", "crop_to_image")}
        indices = torch.arange(at, stop) + start
        part |= {"frame_indices": indices, "is_first": at == 0, "is_last": stop == total}
        parts.append(part | {"video_id": "v", "track_id": "0", "height": 100, "width": 120})
    return parts


def heatmaps(net: VideoPoseNet, parts: list[dict[str, Any]]) -> Tensor:
    """(T, C, h, w) of a track's chunks, through the code that `forward` uses."""
    with torch.no_grad():
        maps = [
            run_chunk(TorchBackend(net), net._states, p, p["image"][None], p["center"][None])[0]
            for p in parts
        ]
    return torch.cat(maps)


def by_hand(net: VideoPoseNet, video: dict[str, Any], reset_every: int = 0) -> Tensor:
    """The toy's recurrence, frame by frame, without the base class."""
    images = (video["image"].float() - net.pixel_mean) / net.pixel_std
    with torch.no_grad():
        features = net.encoder(F.avg_pool2d(images, 8))
        centers = net.center_map(video["center"], (SIDE, SIDE), training=False)
        out = []
        for t in range(len(images)):
            fresh = t == 0 or (reset_every and t % reset_every == 0)
            last = torch.ones_like(features[0]) if fresh else out[-1]
            out.append(0.5 * last + net.gain * features[t] + centers[t])
    return torch.stack(out)


@pytest.mark.parametrize("length", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("reset_every", [0, 1, 3])
def test_chunks_of_any_length_give_the_whole_tracks_maps(
    length: int, reset_every: int, toy_net, clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("video_pose.modeling.backend.IMAGES_AT_ONCE", 2)
    net = toy_net(reset_every=reset_every).eval()
    video = clip(7)
    maps = heatmaps(net, chunks(video, length, start=5))
    torch.testing.assert_close(maps, by_hand(net, video, reset_every), atol=1e-4, rtol=0)
    assert max(net.encoded) <= 2 and sum(net.encoded) == 7
    assert len(net._states) == 0


def test_tracks_in_turn_do_not_disturb_each_other(toy_net, clip) -> None:
    net = toy_net().eval()
    videos = [clip(4, seed=s) for s in (1, 2)]
    first, second = (chunks(video, 2) for video in videos)
    for part in second:
        part["track_id"] = "1"
    maps = [heatmaps(net, [part]) for pair in zip(first, second, strict=True) for part in pair]
    torch.testing.assert_close(torch.cat(maps[0::2]), by_hand(net, videos[0]))
    torch.testing.assert_close(torch.cat(maps[1::2]), by_hand(net, videos[1]))


def test_frame_by_frame_with_rows_of_different_age(toy_net, clip) -> None:
    """Two people in one batch; the second appears at frame 2, the first leaves after frame 3."""
    net = toy_net().eval()
    people = [clip(4, seed=1), clip(3, seed=2)]
    with torch.no_grad():
        features = [net.encode(net.normalize(p["image"])) for p in people]
        centers = [net.center_map(p["center"], (SIDE, SIDE), training=False) for p in people]
        images = [net.normalize(p["image"]) for p in people]
        state = net.begin(images[0][:1], features[0][:1])
        got: list[list[Tensor]] = [[], []]
        for frame in range(5):
            present = [(p, frame - start) for p, start, stop in ((0, 0, 4), (1, 2, 5))
                       if start <= frame < stop]  # fmt: skip
            if frame == 2:
                state = append_rows([state, net.begin(images[1][:1], features[1][:1])])
                assert state.fresh.flatten().tolist() == [0, 1]
            if frame == 4:
                state = select_rows(state, [1])
            maps, state = net.advance(
                torch.stack([features[p][t] for p, t in present]),
                torch.stack([centers[p][t] for p, t in present]),
                state,
            )
            for row, (p, _) in enumerate(present):
                got[p].append(maps[row])
    for p in (0, 1):
        torch.testing.assert_close(torch.stack(got[p]), by_hand(net, people[p]))


def test_a_gap_or_a_lost_beginning_is_refused(toy_net, clip) -> None:
    net = toy_net().eval()
    first, second, third = chunks(clip(6), 2)
    net([first])
    with pytest.raises(ValueError, match="frame 4, frame 2 expected"):
        net([third])
    with pytest.raises(ValueError, match="no chunk before it"):
        toy_net().eval()([second])
    # Going to training and back forgets the tracks: weights have changed since.
    net.train()
    net.eval()
    with pytest.raises(ValueError, match="no chunk before it"):
        net([second])


def test_poses_of_chunks_are_in_image_pixels(toy_net, clip) -> None:
    net = toy_net().eval()
    parts = chunks(clip(3), 2)
    outputs = [output["instances"] for part in parts for output in net([part])]
    assert [len(instances) for instances in outputs] == [2, 1]
    cells = by_hand(net, clip(3))[:, 1:].flatten(2).argmax(-1)
    expected = torch.stack([cells % CELLS * 8 + 4.0 + 10, cells // CELLS * 8 + 4.0 + 5], -1)
    found = torch.stack([frame.pred_keypoints[0, :, :2] for part in outputs for frame in part])
    torch.testing.assert_close(found, expected)
    assert outputs[0][0].image_size == (100, 120)


def test_several_rows_of_a_chunk_are_merged(toy_net, clip) -> None:
    """A mirrored second row: its state is its own, and both rows' maps count."""
    net = toy_net().eval()
    video = clip(2)
    mirror = torch.tensor([[-1.0, 0, SIDE + 10], [0, 1, 5]]).expand(2, 2, 3)
    part = chunks(video, 2)[0] | {
        "image": torch.stack([video["image"], video["image"].flip(-1)]),
        "center": torch.stack([video["center"], video["center"]]),
        "crop_to_image": torch.stack([video["crop_to_image"], mirror]),
        "flipped": torch.tensor([False, True]),
    }
    with torch.no_grad():
        maps = run_chunk(TorchBackend(net), net._states, part, part["image"], part["center"])
    assert maps.shape == (2, 2, 4, CELLS, CELLS)
    straight = by_hand(net, video)
    turned = by_hand(net, video | {"image": video["image"].flip(-1)})
    torch.testing.assert_close(maps, torch.stack([straight, turned]))
    (output,) = net([part])
    assert len(output["instances"]) == 2
    assert output["instances"][0].pred_keypoints.shape == (1, 3, 3)


def test_precision_of_inference(toy_net, clip) -> None:
    video = clip(3)
    exact = heatmaps(toy_net().eval(), chunks(video, 2))
    rough = heatmaps(toy_net(precision="bfloat16").eval(), chunks(video, 2))
    assert rough.dtype == torch.float32
    assert 0 < (rough - exact).abs().max() < 0.1
    assert (heatmaps(toy_net(precision="auto").eval(), chunks(video, 2)) - exact).abs().max() < 0.1
    with pytest.raises(ValueError, match="'int8'.*float32.*bfloat16.*float16.*auto"):
        toy_net(precision="int8")
