"""Learning rates and decays of every kind of parameter, and the optimizers' names."""

from __future__ import annotations

import copy

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

from video_pose.engine.defaults import get_pose_cfg
from video_pose.engine.trainer import build_optimizer, parameter_groups


class Net(nn.Module):
    """One of each kind: convolution, norm, a gate's bias that is no ``bias``, encoder and rest."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2))
        self.head = nn.Conv2d(2, 3, 1)
        self.header = nn.Conv2d(3, 1, 1)
        self.gate = nn.Parameter(torch.zeros(3))

    def encoder_modules(self) -> list[nn.Module]:
        return [self.encoder]

    def lr_factors(self) -> dict[str, float]:
        return {"head.": 5.0, "encoder.0.": 3.0}


def config(**solver):
    cfg = get_pose_cfg()
    cfg.SOLVER.BASE_LR, cfg.SOLVER.WEIGHT_DECAY, cfg.SOLVER.WEIGHT_DECAY_NORM = 1.0, 0.5, 0.25
    for key, value in solver.items():
        cfg.SOLVER[key] = value
    return cfg


def rates(model: nn.Module, groups: list[dict]) -> dict[str, tuple[float, float]]:
    """name -> (learning rate, decay)."""
    names = {id(p): name for name, p in model.named_parameters()}
    found = [(names[id(p)], (g["lr"], g["weight_decay"])) for g in groups for p in g["params"]]
    assert len(found) == len(dict(found)), "a parameter is in two groups"
    return dict(found)


def test_factors_by_hand() -> None:
    cfg = config(BIAS_LR_MULTIPLIER=2.0, BIAS_DECAY=0.0)
    cfg.MODEL.POSE.ENCODER_LR_FACTOR = 0.1
    model = Net()
    assert rates(model, parameter_groups(cfg, model)) == {
        "encoder.0.weight": (pytest.approx(0.1 * 3), 0.5),
        "encoder.0.bias": (pytest.approx(2 * 0.1 * 3), 0.0),
        "encoder.1.weight": (pytest.approx(0.1), 0.25),
        "encoder.1.bias": (pytest.approx(0.1), 0.25),  # a norm's bias counts as a norm's
        "head.weight": (5.0, 0.5),
        "head.bias": (10.0, 0.0),
        "header.weight": (1.0, 0.5),  # "head." is no prefix of it
        "header.bias": (2.0, 0.0),
        "gate": (1.0, 0.0),  # no convolution's bias: rate x1, but no decay
    }


def test_defaults_change_nothing() -> None:
    model = Net()
    found = rates(model, parameter_groups(config(), model))
    assert found["gate"] == found["header.bias"] == found["header.weight"] == (1.0, 0.5)
    assert found["encoder.0.weight"] == (3.0, 0.5)


def test_frozen_parameters_are_left_out_and_shared_ones_appear_once() -> None:
    model = Net()
    model.encoder.requires_grad_(False)
    model.again = model.header
    found = rates(model, parameter_groups(config(), model))
    assert sorted(found) == ["gate", "head.bias", "head.weight", "header.bias", "header.weight"]


def test_equal_settings_share_a_group() -> None:
    model = nn.Sequential(*(nn.Conv2d(1, 1, 1) for _ in range(20)))
    assert len(parameter_groups(config(), model)) == 1


@pytest.mark.parametrize(
    ("name", "kind"),
    [("SGD", torch.optim.SGD), ("adam", torch.optim.Adam), ("ADAMW", torch.optim.AdamW)],
)
def test_kinds(name: str, kind: type) -> None:
    cfg = config(OPTIMIZER=name, ADAM_BETAS=(0.8, 0.95), MOMENTUM=0.7)
    optimizer = build_optimizer(cfg, Net())
    assert type(optimizer) is kind
    if name == "SGD":
        assert optimizer.param_groups[0]["momentum"] == 0.7
    else:
        assert optimizer.param_groups[0]["betas"] == (0.8, 0.95)


@pytest.mark.parametrize("name", ["SGD", "ADAMW"])
def test_a_checkpoint_of_an_unfused_optimizer_continues_fused(name: str) -> None:
    kinds = {"SGD": torch.optim.SGD, "ADAMW": torch.optim.AdamW}
    cfg = config(OPTIMIZER=name, BASE_LR=0.1)
    old, new = nn.Linear(3, 2), nn.Linear(3, 2)
    new.load_state_dict(old.state_dict())
    options = {"momentum": cfg.SOLVER.MOMENTUM} if name == "SGD" else {}
    plain = kinds[name](parameter_groups(cfg, old), fused=False, foreach=False, **options)
    fused = build_optimizer(cfg, new)
    gradients = torch.randn(4, 8, generator=torch.Generator().manual_seed(0))
    for step, gradient in enumerate(gradients):
        if step == 2:
            new.load_state_dict(old.state_dict())
            fused.load_state_dict(copy.deepcopy(plain.state_dict()))
        for model, optimizer in ((old, plain), (new, fused)):
            model.weight.grad, model.bias.grad = gradient[:6].view(2, 3), gradient[6:]
            if model is old or step >= 2:
                optimizer.step()
    assert all(group["fused"] is True for group in fused.param_groups)
    torch.testing.assert_close(new.weight, old.weight)
    torch.testing.assert_close(new.bias, old.bias)


def test_unknown_name_and_nothing_to_train() -> None:
    with pytest.raises(ValueError, match="'LION'.*SGD.*ADAM.*ADAMW"):
        build_optimizer(config(OPTIMIZER="LION"), Net())
    with pytest.raises(ValueError, match="no parameter"):
        build_optimizer(config(), Net().requires_grad_(False))


def test_encoder_and_recurrent_part_of_unipose_lstm(tiny_cfg) -> None:
    cfg = tiny_cfg("UniPoseLSTM", "MODEL.POSE.ENCODER_LR_FACTOR", 0.5, "SOLVER.BASE_LR", 1.0)
    model = build_model(cfg)
    found = rates(model, parameter_groups(cfg, model))
    assert set(found) == {name for name, _ in model.named_parameters()}
    for name, (rate, _) in found.items():
        recurrent = name.startswith(("cell.", "head."))
        assert rate == (1.0 if recurrent else 0.5), name


def test_the_state_of_other_parameters_is_refused() -> None:
    """PyTorch takes it, and its fused step then writes past the end of a tensor."""
    model = Net()
    optimizer = build_optimizer(config(OPTIMIZER="ADAM"), model)
    model.header(model.head(model.encoder(torch.ones(1, 1, 4, 4)))).sum().backward()
    optimizer.step()
    state = copy.deepcopy(optimizer.state_dict())
    number = min(state["state"])  # the first parameter that took part in the step
    for key in ("exp_avg", "exp_avg_sq"):
        state["state"][number][key] = torch.zeros(1, 1)
    message = rf"exp_avg of parameter {number} has the shape \(1, 1\), the par"
    with pytest.raises(ValueError, match=message):
        build_optimizer(config(OPTIMIZER="ADAM"), Net()).load_state_dict(state)
    fewer = copy.deepcopy(optimizer.state_dict())
    fewer["param_groups"][0]["params"].pop()
    with pytest.raises(ValueError, match="optimizer's state is of . parameters in groups of"):
        build_optimizer(config(OPTIMIZER="ADAM"), Net()).load_state_dict(fewer)
    with pytest.raises(ValueError, match="OPTIMIZER ADAM, and is resumed with ADAMW"):
        build_optimizer(config(OPTIMIZER="ADAMW"), Net()).load_state_dict(optimizer.state_dict())
    for damaged in ({}, {"state": {}, "param_groups": [1]}):
        with pytest.raises(ValueError, match="param_groups"):
            build_optimizer(config(OPTIMIZER="ADAM"), Net()).load_state_dict(damaged)
