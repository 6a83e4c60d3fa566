"""The network against its own equations, its size, and training."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from fvcore.nn import FlopCountAnalysis
from torch import nn

from lstm_pose_machines import LSTMPoseMachine
from lstm_pose_machines.import_weights import RELEASE_JOINTS
from video_pose.engine.trainer import parameter_groups

PAPER = [
    "MODEL.POSE.JOINTS", list(RELEASE_JOINTS), "INPUT.CROP_SIZE", (368, 368),
    "MODEL.LSTM_PM.STEM.CHANNELS", [128, 128, 128], "MODEL.LSTM_PM.STEM.KERNEL", 9,
    "MODEL.LSTM_PM.STEM.FEATURE_CHANNELS", 32, "MODEL.LSTM_PM.INITIAL.CHANNELS", 512,
    "MODEL.LSTM_PM.INITIAL.KERNEL", 9, "MODEL.LSTM_PM.LSTM.HIDDEN_CHANNELS", 48,
    "MODEL.LSTM_PM.HEAD.CHANNELS", 128, "MODEL.LSTM_PM.HEAD.KERNEL", 11,
    "MODEL.LSTM_PM.INIT_STD", 0.01,
]  # fmt: skip


def conv(x, module):
    return F.conv2d(x, module.weight, module.bias, padding=module.weight.shape[-1] // 2)


def test_the_papers_size(build):
    model = build(*PAPER)
    # ConvNet1 4,386,095 + ConvNet2 2,788,128 + LSTM 8 (9 x 48 x 48 + 48) + 4 x 48 = 166,464
    # + ConvNet3 4,727,183
    assert sum(p.numel() for p in model.parameters()) == 12_067_870
    for parameter in model.convnet1.conv2.weight, model.cell.h["o"].weight, model.head[0].weight:
        assert float(parameter.detach().std()) == pytest.approx(0.01, rel=0.02)
        assert abs(float(parameter.detach().mean())) < 2e-4
    for gate, value in {"g": 0.0, "f": 1.0, "i": 1.4, "o": 0.2}.items():
        assert torch.equal(model.cell.gate_bias[gate].detach(), torch.full((48,), value))


def test_convolution_biases_start_at_zero(small_cfg):
    small_cfg.MODEL.LSTM_PM.INIT_STD = 0.01
    model = LSTMPoseMachine(small_cfg)
    assert all(not m.bias.any() for m in model.modules() if isinstance(m, nn.Conv2d))


class First(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, images, center):
        features = self.model.encode(images)
        return self.model.advance(features, center, self.model.begin(images, features))[0]


class Later(First):
    def forward(self, images, center, *state):
        features = self.model.encode(images)
        return self.model.advance(features, center, self.model.LAST(*state))[0]


@torch.no_grad()
def test_the_papers_cost(build):
    model = build(*PAPER).eval()
    images, center = torch.zeros((1, 3, 368, 368)), torch.zeros((1, 1, 46, 46))
    features = model.encode(images)
    _, state = model.advance(features, center, model.begin(images, features))
    model.LAST = type(state)
    later = FlopCountAnalysis(Later(model), (images, center, *state)).total()
    first = FlopCountAnalysis(First(model), (images, center)).total()
    assert round(later / 1e9, 1) == 70.9
    # A fresh row runs the forget gate and the h-convolutions, too, which C = h = 0 silences, so
    # that rows of different age share a batch; the protocol's figure is without them.
    silenced = (1 + 4) * 9 * 48 * 48 * 46 * 46
    assert round((first - silenced) / 1e9, 1) == 134.7
    assert first / 1e9 == pytest.approx(134.916, abs=1e-3)


@torch.no_grad()
def test_first_frame_has_no_forget_gate_and_no_hidden_convolutions(build):
    model = build().eval()
    images, center = torch.randn((2, 3, 64, 64)), torch.rand((2, 1, 8, 8))
    features = model.encode(images)
    state = model.begin(images, features)
    maps, after = model.advance(features, center, state)
    x = torch.cat([features, model.convnet1(images), center], 1)

    def gate(name):
        return conv(x, model.cell.x[name]) + model.cell.gate_bias[name][:, None, None]

    cell = torch.sigmoid(gate("i")) * torch.tanh(gate("g"))
    hidden = torch.sigmoid(gate("o")) * torch.tanh(cell)
    torch.testing.assert_close(after.cell, cell, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(after.hidden, hidden, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(maps, model.head(hidden), atol=1e-5, rtol=1e-5)
    assert not after.fresh.any() and torch.equal(after.heatmaps, maps)


@torch.no_grad()
def test_rows_of_different_age_share_a_batch(build):
    model = build().eval()
    images, center = torch.randn((3, 3, 64, 64)), torch.rand((1, 1, 8, 8))
    features = model.encode(images)
    old = model.begin(images[:1], features[:1])
    for _ in range(2):
        _, old = model.advance(features[:1], center, old)
    new = model.begin(images[1:2], features[1:2])
    apart = [model.advance(features[2:], center, state)[0] for state in (old, new)]
    both = type(old)(*(torch.cat(pair) for pair in zip(old, new, strict=True)))
    together, _ = model.advance(features[2:].repeat(2, 1, 1, 1), center.repeat(2, 1, 1, 1), both)
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-5, rtol=1e-5)
    # A silenced bias matters: without the mask the new row would see the h-convolutions' biases.
    _, unmasked = model.advance(features[2:], center, new._replace(fresh=new.fresh * 0))
    _, masked = model.advance(features[2:], center, new)
    assert not torch.allclose(unmasked.hidden, masked.hidden, atol=1e-3)


@pytest.mark.parametrize("size", [128, 256, 368])
def test_maps_and_center_map_share_a_grid(build, make_clip, size):
    model = build("INPUT.CROP_SIZE", (size, size)).eval()
    clip = make_clip(1, size=size)
    with torch.no_grad():
        maps = model.scan(clip["image"][None], clip["center"][None]).heatmaps
    assert maps.shape == (1, 1, 4, size // 8, size // 8)


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("INPUT.CROP_SIZE", (372, 372), "POOL_CEIL True"),  # 372 -> 186 -> 93 -> 46, centre map 47
        ("MODEL.POSE.CENTER_MAP.POOL_CEIL", False, "POOL_CEIL True"),
        ("MODEL.POSE.HEATMAP.STRIDE", 4, "HEATMAP.STRIDE is 4.* give 8"),
        ("MODEL.LSTM_PM.STEM.KERNEL", 4, "must be odd"),
        ("MODEL.LSTM_PM.STAGES_PER_FRAME", 0, "STAGES_PER_FRAME"),
        ("MODEL.LSTM_PM.LSTM.GATE_BIAS", [0.0, 1.0], "one per"),
    ],
)
def test_what_cannot_fit_is_refused_when_built(build, option, value, message):
    with pytest.raises(ValueError, match=message):
        build(option, value)


def test_losses_of_a_clip(build, make_clip):
    model = build().train()
    torch.manual_seed(1)
    batch = [make_clip(3, seed=s) for s in (0, 1)]
    batch[1]["is_padding"][2] = True
    batch[0]["keypoints"][0, 1] = 0  # not labelled: its map carries no loss
    model.convnet1.dropout5.p = model.convnet1.dropout6.p = 0.0
    losses = model(batch)
    assert set(losses) == {"loss_heatmap", "loss_initial"}
    with torch.no_grad():
        maps = model.scan(
            torch.stack([c["image"] for c in batch]), torch.stack([c["center"] for c in batch])
        )
    target = [model.codec.encode(c["keypoints"], (8, 8))[0] for c in batch]
    total, initial = 0.0, 0.0
    for b in (0, 1):
        for t in range(3):
            for c in range(4):
                if (b, t) == (1, 2) or (b, t, c) == (0, 0, 1):
                    continue
                total += float(((maps.heatmaps[b, t, c] - target[b][t, c]) ** 2).sum())
                if t == 0:
                    error = maps.extra["initial"][0][b, 0, c] - target[b][0, c]
                    initial += float((error**2).sum())
    # 1 / (2 B) with B = 2
    assert float(losses["loss_heatmap"].detach()) == pytest.approx(total / 4, rel=1e-4)
    assert float(losses["loss_initial"].detach()) == pytest.approx(initial / 4, rel=1e-4)


def test_joints_outside_the_image_draw_nothing_where_so_configured(build, make_clip):
    model = build("MODEL.POSE.HEATMAP.DRAW_OUTSIDE", False).train()
    clip = make_clip(1)
    clip["keypoints"][0, 0, :2] = torch.tensor([-2.0, 30.0])
    target, weight = model._targets([clip], (64, 64), (8, 8))
    assert not target[0, 0, 0].any() and target[0, 0, 1].any()
    assert weight[0, 0].tolist() == [1.0] * 4  # the empty map is trained


@pytest.mark.parametrize(("frames", "stages"), [(1, 1), (4, 1), (1, 5)])
def test_every_parameter_gets_a_gradient(build, make_clip, frames, stages):
    model = build("MODEL.LSTM_PM.STAGES_PER_FRAME", stages).train()
    sum(model([make_clip(frames, seed=s) for s in (0, 1)]).values()).backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []
    if frames > 1 or stages > 1:
        dead = [name for name, p in model.named_parameters() if not p.grad.any()]
        assert dead == []


def test_loss_falls_on_one_batch(build, make_clip):
    model = build().train()
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    batch = [make_clip(2, seed=s) for s in (0, 1)]
    values = []
    for _ in range(30):
        loss = sum(model(batch).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(float(loss.detach()))
    assert values[-1] < 0.5 * values[0]


def test_dropout_only_after_the_two_hidden_convolutions_of_convnet1(build):
    model = build()
    dropouts = [name for name, m in model.named_modules() if isinstance(m, nn.Dropout)]
    assert dropouts == ["convnet1.dropout5", "convnet1.dropout6"]
    names = [name for name, _ in model.convnet1.named_children()]
    assert names[names.index("conv5") :] == [
        "conv5", "relu5", "dropout5", "conv6", "relu6", "dropout6", "conv7",
    ]  # fmt: skip


def test_learning_rates_of_the_recipe(build, small_cfg):
    model = build("MODEL.LSTM_PM.CONVNET1_LR_FACTOR", 5.0)
    small_cfg.merge_from_list([
        "SOLVER.BASE_LR", 1.0, "SOLVER.WEIGHT_DECAY", 0.5,
        "SOLVER.BIAS_LR_MULTIPLIER", 2.0, "SOLVER.BIAS_DECAY", 0.0,
    ])  # fmt: skip
    found = {}
    names = {id(p): name for name, p in model.named_parameters()}
    for group in parameter_groups(small_cfg, model):
        for parameter in group["params"]:
            found[names[id(parameter)]] = (group["lr"], group["weight_decay"])
    assert found["convnet1.conv1.weight"] == (5.0, 0.5)
    assert found["convnet1.conv7.bias"] == (10.0, 0.0)
    assert found["convnet2.conv1.weight"] == (1.0, 0.5)
    assert found["cell.x.g.bias"] == (2.0, 0.0)
    assert found["cell.gate_bias.i"] == (1.0, 0.0)  # Caffe's Scale layer: rate x1, no decay
    assert len(found) == len(names)
