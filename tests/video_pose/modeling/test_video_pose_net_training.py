"""Training with the common base: losses of a toy network, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

SIDE, CELLS = 64, 8


def test_pictures_are_normalised_per_channel(toy_net) -> None:
    image = torch.tensor([150, 250, 200], dtype=torch.uint8).view(1, 3, 1, 1)
    assert toy_net().normalize(image).flatten().tolist() == [1.0, 2.0, 1.0]


def test_loss_by_hand(toy_net, clip) -> None:
    net = toy_net(loss_weight=3.0).train()
    batch = [clip(2, seed=1), clip(2, seed=2)]
    # A padding frame, an unlabelled joint and a frame without labels: none of them counts.
    batch[0]["is_padding"][1] = True
    batch[1]["keypoints"][0, 1, 2] = 0
    batch[1]["keypoints"][1, :, 2] = 0
    losses = net(batch)
    net.encoder.train()
    images = torch.cat([(c["image"].float() - net.pixel_mean) / net.pixel_std for c in batch])
    features = net.encoder(F.avg_pool2d(images, 8)).view(2, 2, 4, CELLS, CELLS)
    total = 0.0
    for b, c in enumerate(batch):
        centers = net.center_map(c["center"], (SIDE, SIDE), training=True)
        target, _ = net.codec.encode(c["keypoints"], (CELLS, CELLS))
        maps = 0.5 + features[b, 0] + centers[0]
        counted = [0, 1, 2, 3] if b == 0 else [0, 1, 3]
        total = total + ((maps - target[0])[counted] ** 2).sum()
    expected = 3.0 * total / (2 * 4 * CELLS * CELLS)
    assert list(losses) == ["loss_heatmap"]
    torch.testing.assert_close(losses["loss_heatmap"], expected)


def test_extra_maps_are_trained_on_the_first_frames(toy_net, clip) -> None:
    class WithInitial(toy_net):
        def extra_maps(self, features: Tensor, first_state: Any) -> dict:
            return {"initial": (features[:, :1] * 0 + first_state.maps[:, None], 0.5)}

    net = WithInitial().train()
    batch = [clip(3, seed=1)]
    losses = net(batch)
    target, _ = net.codec.encode(batch[0]["keypoints"][:1], (CELLS, CELLS))
    assert sorted(losses) == ["loss_heatmap", "loss_initial"]
    expected = 0.5 * ((1 - target) ** 2).mean()
    assert losses["loss_initial"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_nothing_labelled_is_zero_and_every_parameter_gets_a_gradient(toy_net, clip) -> None:
    net = toy_net().train()
    loss = net([clip(3, labels=0.0), clip(3, seed=1, labels=0.0)])["loss_heatmap"]
    loss.backward()
    assert loss.item() == 0
    assert all(p.grad is not None and p.grad.abs().max() == 0 for p in net.parameters())


def test_joints_outside_may_lose_their_target(toy_net, clip) -> None:
    video = clip(1)
    # In turn: inside; outside the crop; inside the crop but at image x = -2 (crop x + 10 - 15).
    video["keypoints"][0] = torch.tensor([[30.0, 30, 2], [30, -3, 2], [3, 30, 2]])
    video["crop_to_image"] = torch.tensor([[1.0, 0, -5], [0, 1, 5]])[None]
    drawn, weights = toy_net()._targets([video], (SIDE, SIDE), (CELLS, CELLS))
    assert (drawn[0, 0, 1:].flatten(1).amax(1) > 0.5).all()
    empty, same = toy_net(draw_outside=False)._targets([video], (SIDE, SIDE), (CELLS, CELLS))
    assert empty[0, 0, 1:].flatten(1).amax(1)[1:].tolist() == [0, 0]
    torch.testing.assert_close(empty[0, 0, 1], drawn[0, 0, 1])
    # An empty map is a target, too, and the background stands where the joints were.
    assert weights.tolist() == same.tolist() == [[[1.0] * 4]]
    assert empty[0, 0, 0].sum() > drawn[0, 0, 0].sum()


def test_the_lower_right_edges_are_outside(toy_net, clip) -> None:
    video = clip(1)
    video["keypoints"][0] = torch.tensor([[63.9, 63.9, 2], [64.0, 30, 2], [30, 64.0, 2]])
    video["crop_to_image"] = torch.tensor([[1.0, 0, 0], [0, 1, 0]])[None]
    maps, _ = toy_net(draw_outside=False)._targets([video], (SIDE, SIDE), (CELLS, CELLS))
    assert (maps[0, 0, 1:].flatten(1).amax(1) > 0).tolist() == [True, False, False]


def test_a_rotated_crop_tells_what_is_outside_the_image(toy_net, clip) -> None:
    """A quarter turn: image (x, y) = (60 - crop y, 55 + crop x). In turn (30, 85), inside;
    (-2, 105), outside; (40, 113), inside. Turned the other way, the last two change places."""
    video = clip(1)
    video["width"] = video["height"] = 200
    video["keypoints"][0] = torch.tensor([[30.0, 30, 2], [50, 62, 2], [58, 20, 2]])
    video["crop_to_image"] = torch.tensor([[0.0, -1, 60], [1, 0, 55]])[None]
    maps, _ = toy_net(draw_outside=False)._targets([video], (SIDE, SIDE), (CELLS, CELLS))
    assert (maps[0, 0, 1:].flatten(1).amax(1) > 0).tolist() == [True, False, True]


def test_a_frozen_encoder_stays_as_it_is(toy_net, clip) -> None:
    net = toy_net(freeze_encoder=True).train()
    assert net.training and not net.encoder.training
    before = {key: value.clone() for key, value in net.encoder.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        net([clip(3), clip(3, seed=1)])["loss_heatmap"].backward()
        optimizer.step()
    assert all(torch.equal(value, before[key]) for key, value in net.encoder.state_dict().items())
    assert all(p.grad is None for p in net.encoder.parameters())
    assert net.gain.item() != 1.0


def test_a_model_without_joints_is_refused(toy_net) -> None:
    with pytest.raises(ValueError, match=r"MODEL\.POSE\.JOINTS is empty"):
        toy_net(joint_names=[])
