"""Training with the common base: losses of a toy network, worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from torch import Tensor

from video_pose.modeling.video_pose_net import VideoPoseNet

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


def test_what_a_model_is_unless_it_is_told() -> None:
    """As README and configurations have it; colours are no part of a checkpoint."""
    codec: Any = SimpleNamespace(channel_labels=list)
    net = VideoPoseNet(
        joint_names=["head", "right_hand", "left_hand"], flip_map=[("left_hand", "right_hand")],
        codec=codec, center_map=codec, pixel_mean=[1.0, 2.0, 3.0], pixel_std=[4.0, 5.0, 6.0],
    )  # fmt: skip
    assert (net.loss_reduction, net.loss_weight, net.draw_outside) == ("mean", 1.0, True)
    assert (net.freeze_encoder, net.reset_every, net.align_state) == (False, 0, False)
    assert net.precision == net.precision_name == "float32"
    assert net.flip_channels == [0, 2, 1] and net.has_memory
    assert net.pixel_mean.shape == net.pixel_std.shape == (1, 3, 1, 1)
    assert net.state_dict() == {} and net.channel_labels(["head"]) == {}
    assert net.extra_maps(torch.zeros(1), None) == {}
    for name, count in (("encoder_modules", 0), ("encode", 1), ("begin", 2), ("advance", 3)):
        with pytest.raises(NotImplementedError):
            getattr(net, name)(*[net.pixel_mean] * count)


def test_precisions_have_their_own_names(toy_net) -> None:
    assert toy_net(precision="bfloat16").precision_name == "bfloat16"
    assert toy_net(precision="bfloat16").autocast().fast_dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "changed"),
    [
        ([], {}),
        (["MODEL.POSE.ENCODER", "freeze"], {"freeze_encoder": True}),
        (["MODEL.POSE.FLIP_MAP", []], {"flip_map": [("left_wrist", "right_wrist")]}),
        (
            ["MODEL.POSE.LOSS.REDUCTION", "sum", "MODEL.POSE.LOSS.WEIGHT", 2.0],
            {"loss_reduction": "sum", "loss_weight": 2.0},
        ),
        (["MODEL.POSE.HEATMAP.DRAW_OUTSIDE", False], {"draw_outside": False}),
        (["TEST.RESET_EVERY", 5], {"reset_every": 5}),
        (["TEST.PRECISION", "auto"], {"precision": "auto"}),
        (["MODEL.POSE.ALIGN_STATE", True], {"align_state": True}),
    ],
)
def test_what_all_models_take_from_a_configuration(
    pose_cfg: Callable[..., CfgNode], options: list[Any], changed: dict[str, Any]
) -> None:
    cfg = pose_cfg()
    cfg.MODEL.POSE.JOINTS = ["neck", "right_wrist", "left_wrist"]
    cfg.MODEL.POSE.FLIP_MAP = [["right_wrist", "left_wrist"]]
    cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD = [1.0, 2.0, 3.0], [4.0, 5.0, 6.0]
    cfg.MODEL.POSE.LOSS.REDUCTION, cfg.MODEL.POSE.LOSS.WEIGHT = "mean", 1.5
    cfg.merge_from_list(options)
    found = VideoPoseNet.base_config(cfg)
    assert found.pop("codec").stride == cfg.MODEL.POSE.HEATMAP.STRIDE
    assert found.pop("center_map").sigma == cfg.MODEL.POSE.CENTER_MAP.SIGMA
    assert found == {
        "joint_names": ["neck", "right_wrist", "left_wrist"],
        "flip_map": [("right_wrist", "left_wrist")],
        "pixel_mean": [1.0, 2.0, 3.0],
        "pixel_std": [4.0, 5.0, 6.0],
        "loss_reduction": "mean",
        "loss_weight": 1.5,
        "draw_outside": True,
        "freeze_encoder": False,
        "reset_every": 0,
        "align_state": False,
        "precision": "float32",
        **changed,
    }
    cfg.MODEL.POSE.ENCODER = "fix"
    with pytest.raises(ValueError, match="^MODEL.POSE.ENCODER 'fix': choose from 'train', "):
        VideoPoseNet.base_config(cfg)


@pytest.mark.parametrize(
    ("iteration", "logged"), [(0, True), (1, False), (19, False), (20, True), (21, False)]
)
def test_the_error_of_the_last_frames_is_logged_every_twenty_steps(
    toy_net, iteration: int, logged: bool
) -> None:
    """Peaks at cell (1, 2), px (20, 12), of every joint; of two clips three joints are known,
    0, 5 and 13 px away: 6 px in the mean. The first frame, and what is unknown, do not count."""
    net = toy_net()
    maps = torch.zeros(2, 2, 4, CELLS, CELLS)
    maps[:, 1, 1:, 1, 2] = 1.0
    joints = torch.tensor([[20.0, 12, 2], [23, 16, 1], [500, 500, 0]])
    batch = [
        {"keypoints": torch.stack([joints * 0 + 2, joints])},
        {"keypoints": torch.stack([joints * 0 + 2, joints.flip(0)])},
    ]
    batch[1]["keypoints"][1] = torch.tensor([[25.0, 24, 2], [1, 1, 0], [1, 1, 0]])
    with EventStorage(iteration) as storage:
        net._log_error(maps, batch)
    found = {name: value for name, (value, _) in storage.latest().items()}
    assert found == ({"pose/train_error_px": pytest.approx(6.0)} if logged else {})
    with EventStorage(iteration) as storage:  # the loss of such a step ends the run
        net._log_error(maps * float("nan"), batch)
        for clip_of_none in batch:
            clip_of_none["keypoints"][..., 2] = 0.0
        net._log_error(maps, batch)
    assert storage.latest() == {}


def test_a_step_of_training_logs_where_there_is_a_log(toy_net, clip) -> None:
    net = toy_net().train()
    net([clip(2)])
    with EventStorage() as storage:
        net([clip(2)])
    assert list(storage.latest()) == ["pose/train_error_px"]


@pytest.mark.parametrize("freeze", [False, True])
@pytest.mark.parametrize("wanted", [False, True])
def test_gradients_of_a_scan(toy_net, clip, freeze: bool, wanted: bool) -> None:
    """None where nobody wants them, and none through a frozen encoder, whatever lies before it."""
    net = toy_net(freeze_encoder=freeze).train()
    net.encoder.requires_grad_(True)
    video = clip(2)
    with torch.set_grad_enabled(wanted):
        maps = net.scan(video["image"][None], video["center"][None]).heatmaps
    assert maps.requires_grad is wanted
    if wanted:
        maps.sum().backward()
        assert (net.encoder[0].weight.grad is None) is freeze and net.gain.grad is not None


def test_losses_of_several_clips_and_maps_of_a_part_of_the_frames(toy_net, clip) -> None:
    """Two maps of the first two of three frames, of which one is padding."""

    class WithMore(toy_net):
        def extra_maps(self, features: Tensor, first_state: Any) -> dict:
            maps = features[:, :2] * 0
            return {"one": (maps + 1, 0.5), "half": (maps + 0.5, 2.0)}

    net = WithMore(loss_weight=3.0).train()
    batch = [clip(3, seed=1), clip(3, seed=2)]
    batch[1]["is_padding"][1] = True
    losses = net(batch)
    assert list(losses) == ["loss_heatmap", "loss_one", "loss_half"]
    for name, value, factor in (("one", 1.0, 0.5), ("half", 0.5, 2.0)):
        total = torch.zeros(())
        for number, item in enumerate(batch):
            target, _ = net.codec.encode(item["keypoints"][: 2 - number], (CELLS, CELLS))
            total += ((value - target) ** 2).sum()
        expected = 3.0 * factor * total / (2 * 4 * CELLS * CELLS)
        torch.testing.assert_close(losses[f"loss_{name}"].detach(), expected)
