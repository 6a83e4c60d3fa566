"""The training loop on synthetic clips: resuming, averaging, precision, faults; and the optimizers:
learning rates and decays of every kind of parameter.
"""

from __future__ import annotations

import copy
import itertools
import json
import logging
import os
import signal
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import HookBase
from detectron2.modeling import build_model
from torch import Tensor, nn

from video_pose.engine import trainer as trainer_module
from video_pose.engine.defaults import get_pose_cfg
from video_pose.engine.trainer import PoseTrainer, build_optimizer, on_device, parameter_groups

pytestmark = pytest.mark.usefixtures("datasets")
NO_TEST = ["DATASETS.TEST", ()]


class Recorder(PoseTrainer):
    """Keeps the losses of every step."""

    def __init__(self, cfg) -> None:
        super().__init__(cfg)
        self.losses: dict[int, float] = {}

    def _log(self, losses: dict[str, Tensor]) -> None:
        self.losses[self.iter] = sum(losses.values()).item()
        super()._log(losses)


class SignalAt(HookBase):
    """An interrupt while step ``iteration`` is under way."""

    def __init__(self, iteration: int, number: int = signal.SIGINT) -> None:
        self.iteration, self.number = iteration, number

    def before_step(self) -> None:
        if self.trainer.iter == self.iteration:
            os.kill(os.getpid(), self.number)


def start(cfg, resume: bool = False) -> Recorder:
    torch.manual_seed(0)  # initial weights
    trainer = Recorder(cfg)
    trainer.resume_or_load(resume)
    return trainer


def weights(trainer: PoseTrainer) -> dict[str, Tensor]:
    state = dict(trainer.model.state_dict())
    if trainer.average is not None:
        state |= {f"average {key}": value for key, value in trainer.average.average.items()}
    return {key: value.clone() for key, value in state.items()}


def assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """To the bit."""
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert torch.equal(second[key], value), key


RUNS = {
    "dropout": ["MODEL.UNIPOSE.WASP.DROPOUT", 0.5, "MODEL.UNIPOSE.DECODER.DROPOUT", [0.5, 0.1]],
    "bfloat16, averaged": ["SOLVER.AMP.ENABLED", True, "SOLVER.EMA_DECAY", 0.5],
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("run", RUNS)
def test_an_interrupted_run_continues_as_if_nothing_had_happened(
    tiny_cfg, tmp_path: Path, run: str, number: int
) -> None:
    options = [*NO_TEST, "SOLVER.MAX_ITER", 5, "SOLVER.STEPS", (2, 4), *RUNS[run]]
    whole = start(tiny_cfg("UniPoseLSTM", *options, "OUTPUT_DIR", str(tmp_path / "whole")))
    whole.train()
    cfg = tiny_cfg("UniPoseLSTM", *options, "OUTPUT_DIR", str(tmp_path / "cut"))
    before = signal.getsignal(number)
    cut = start(cfg)
    cut.register_hooks([SignalAt(1, number)])
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    assert signal.getsignal(number) is before
    assert sorted(cut.losses) == [0, 1]  # the step under way was finished
    assert (tmp_path / "cut" / "last_checkpoint").read_text() == "model_resume.pth"
    assert not (tmp_path / "cut" / "model_final.pth").exists()
    resumed = start(cfg, resume=True)
    resumed.train()
    assert sorted(resumed.losses) == [2, 3, 4]
    assert (cut.losses | resumed.losses) == whole.losses
    assert_same(weights(whole), weights(resumed))


@pytest.mark.parametrize("trained", ["head", "memory", "all"])
def test_an_interrupted_training_of_a_recurrent_detector_continues(
    tiny_rcnn_cfg, tmp_path: Path, trained: str
) -> None:
    """Proposals, sampled regions and jittered boxes are drawn at random: all of them as before."""
    options = [*NO_TEST, "SOLVER.MAX_ITER", 3, "MODEL.RECURRENT_KEYPOINT.TRAIN", trained]
    whole = start(tiny_rcnn_cfg(*options, "OUTPUT_DIR", str(tmp_path / "whole")))
    whole.train()
    cfg = tiny_rcnn_cfg(*options, "OUTPUT_DIR", str(tmp_path / "cut"))
    cut = start(cfg)
    cut.register_hooks([SignalAt(0)])
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    resumed = start(cfg, resume=True)
    resumed.train()
    assert sorted(resumed.losses) == [1, 2]
    assert (cut.losses | resumed.losses) == whole.losses
    assert len(set(whole.losses.values())) == 3, "nothing is learned"
    assert_same(weights(whole), weights(resumed))


def test_a_run_without_a_seed_keeps_the_one_that_it_drew(tiny_cfg, tmp_path: Path) -> None:
    options = [*NO_TEST, "SEED", -1, "SOLVER.CHECKPOINT_PERIOD", 2]
    whole = start(tiny_cfg("UniPoseLSTM", *options, "OUTPUT_DIR", str(tmp_path)))
    whole.train()
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    resumed = start(tiny_cfg("UniPoseLSTM", *options, "OUTPUT_DIR", str(tmp_path)), resume=True)
    resumed.train()
    assert resumed.seed == whole.seed and sorted(resumed.losses) == [2, 3]
    assert_same(weights(whole), weights(resumed))


def test_a_step_of_broken_weights_is_never_saved_and_a_resumed_run_recovers(
    tiny_cfg, tmp_path: Path, caplog
) -> None:
    """The loss of a step is finite, its gradient is not: the weights of the next step are NaN."""
    options = [*NO_TEST, "SOLVER.CHECKPOINT_PERIOD", 2, "OUTPUT_DIR", str(tmp_path)]
    cfg = tiny_cfg("UniPose", *options, "SOLVER.MAX_ITER", 6)
    trainer = start(cfg)
    weight = trainer.model.decoder.predict.bias
    weight.register_hook(lambda g: g * float("nan") if trainer.iter == 3 else g)
    with pytest.raises(FloatingPointError, match=r"model_0000003\.pth is not written: .*predict"):
        trainer.train()
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"
    assert not (tmp_path / "model_0000003.pth").exists()
    # One that an earlier version wrote from such a state, and named as the last.
    state = torch.load(tmp_path / "model_0000001.pth", weights_only=True)
    state["model"]["decoder.predict.bias"][0] = float("nan")
    torch.save(state, tmp_path / "model_0000003.pth")
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    resumed = start(cfg, resume=True)
    assert resumed.start_iter == 2
    assert "model_0000003.pth: 1 of" in caplog.text
    assert "Going back to" in caplog.text and "model_0000001.pth" in caplog.text
    resumed.train()
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_what_has_changed_is_said_and_another_optimizer_is_refused(
    tiny_cfg, tmp_path: Path, caplog
) -> None:
    options = [*NO_TEST, "SOLVER.MAX_ITER", 1]
    start(tiny_cfg("UniPose", *options)).train()
    changed = ["SOLVER.BASE_LR", 0.5, "SOLVER.MAX_ITER", 2, "SOLVER.EMA_DECAY", 0.5]
    resumed = start(tiny_cfg("UniPose", *NO_TEST, *changed), resume=True)
    assert resumed.optimizer.param_groups[0]["lr"] < 0.01
    assert "SOLVER.BASE_LR 0.5, was 0.001 (no effect: the checkpoint's counts)" in caplog.text
    assert "SOLVER.MAX_ITER 2, was 1 (takes effect)" in caplog.text
    assert "CLIP.LENGTH" not in caplog.text
    with pytest.raises(ValueError, match="OPTIMIZER ADAM, and is resumed with SGD"):
        start(tiny_cfg("UniPose", *options, "SOLVER.OPTIMIZER", "SGD"), resume=True)


def test_another_number_of_processes_is_refused_by_name(tiny_cfg, monkeypatch) -> None:
    start(tiny_cfg("UniPose", *NO_TEST, "SOLVER.MAX_ITER", 1)).train()
    trainer = PoseTrainer(tiny_cfg("UniPose", *NO_TEST))
    state = trainer.state_dict() | {"processes": 4}
    with pytest.raises(ValueError, match="by 4 processes and is resumed by 1.*OTHER_PROCESSES"):
        trainer.load_state_dict(state)
    allowed = PoseTrainer(tiny_cfg("UniPose", *NO_TEST, "SOLVER.RESUME_OTHER_PROCESSES", True))
    allowed.load_state_dict(state)


def test_a_finished_run_goes_on_from_its_trained_weights(tiny_cfg, tmp_path: Path) -> None:
    """`model_final` holds averaged weights, but training continues from those it had."""
    options = [*NO_TEST, "SOLVER.EMA_DECAY", 0.5]
    whole = start(tiny_cfg("UniPoseLSTM", *options, "OUTPUT_DIR", str(tmp_path / "whole")))
    whole.train()
    options += ["OUTPUT_DIR", str(tmp_path / "parts")]
    first = start(tiny_cfg("UniPoseLSTM", *options, "SOLVER.MAX_ITER", 2))
    first.train()
    final = torch.load(tmp_path / "parts" / "model_final.pth", weights_only=False)
    assert_same(final["model"], first.average.average)
    second = start(tiny_cfg("UniPoseLSTM", *options, "SOLVER.MAX_ITER", 4), resume=True)
    assert second.start_iter == 2
    second.train()
    assert (first.losses | second.losses) == whole.losses
    assert_same(weights(whole), weights(second))


def test_a_new_run_keeps_the_checkpoints_of_the_one_before(tiny_cfg, tmp_path: Path) -> None:
    """Also where it starts from them, and where nothing of it is saved before it ends."""
    output = tmp_path / "output"
    options = [*NO_TEST, "SOLVER.MAX_ITER", 2, "SOLVER.CHECKPOINT_PERIOD", 1]
    first = start(tiny_cfg("UniPose", *options))
    first.train()
    kept = {path.name: path.read_bytes() for path in output.glob("*.pth")}
    assert sorted(kept) == ["model_0000000.pth", "model_final.pth"]
    second = start(tiny_cfg("UniPose", *options, "MODEL.WEIGHTS", str(output / "model_final.pth")))
    assert_same(weights(first), weights(second))
    assert list(output.glob("*.pth")) == [] and not (output / "last_checkpoint").exists()
    moved = {path.name: path.read_bytes() for path in (output / "earlier-1").glob("*.pth")}
    assert moved == kept
    assert (output / "earlier-1" / "last_checkpoint").read_text() == "model_final.pth"
    second.train()
    start(tiny_cfg("UniPose", *options))
    assert (output / "earlier-2" / "model_final.pth").exists()
    start(tiny_cfg("UniPose", *options))
    assert not (output / "earlier-3").exists()


def test_resume_with_nothing_to_resume_starts_anew(tiny_cfg) -> None:
    trainer = start(tiny_cfg("UniPose", *NO_TEST), resume=True)
    assert trainer.start_iter == 0


def test_averaging_may_begin_in_a_resumed_run(tiny_cfg) -> None:
    start(tiny_cfg("UniPose", *NO_TEST, "SOLVER.MAX_ITER", 1)).train()
    cfg = tiny_cfg("UniPose", *NO_TEST, "SOLVER.EMA_DECAY", 0.5)
    torch.manual_seed(7)
    trainer = PoseTrainer(cfg)
    trainer.resume_or_load(True)
    assert_same(dict(trainer.model.state_dict()), trainer.average.average)


def test_what_a_run_leaves_behind(tiny_cfg, tmp_path: Path) -> None:
    options = ["SOLVER.CHECKPOINT_PERIOD", 2, "TEST.EVAL_PERIOD", 2, "SOLVER.EMA_DECAY", 0.5]
    trainer = start(tiny_cfg("UniPoseLSTM", *options))
    begin = time.perf_counter()
    results = trainer.train()
    spent = time.perf_counter() - begin
    output = tmp_path / "output"
    assert {"metrics.json", "model_0000001.pth", "model_final.pth"} <= set(os.listdir(output))
    assert any(name.startswith("events.out.tfevents") for name in os.listdir(output))
    rows = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    merged: dict[str, Any] = {}
    for row in rows:
        merged |= row
    assert merged["total_loss"] == pytest.approx(sum(trainer.losses.values()) / 4, rel=1e-4)
    assert 0 < merged["data_time"] < spent
    assert 0 <= merged["keypoints_pck_bbox/PCK@0.2"] <= 100
    assert 0 <= results["keypoints_pck_bbox"]["PCK@0.2"] <= 100
    folder = output / "inference" / "synthetic_jhmdb_test"
    assert (folder / "predictions.npz").is_file() and (folder / "pck.txt").is_file()
    # The figures are the final file's: averaged weights, as another process would load them.
    final = PoseTrainer(tiny_cfg("UniPoseLSTM", "MODEL.WEIGHTS", str(output / "model_final.pth")))
    final.resume_or_load(False)
    # As text: a figure that nothing was measured for is NaN, which equals nothing.
    assert json.dumps(final.test()) == json.dumps(results)
    assert trainer.model.training


def test_time_decides_about_resumable_checkpoints(tiny_cfg, tmp_path: Path, monkeypatch) -> None:
    clock = itertools.count(step=20)
    monkeypatch.setattr("video_pose.engine.hooks.time", Namespace(monotonic=lambda: next(clock)))
    start(tiny_cfg("UniPose", *NO_TEST, "SOLVER.CHECKPOINT_SECONDS", 10)).train()
    state = torch.load(tmp_path / "output" / "model_resume.pth", weights_only=False)
    assert state["iteration"] == 2  # the last one that is not the end
    assert (tmp_path / "output" / "last_checkpoint").read_text() == "model_final.pth"


def test_several_test_datasets_have_a_result_each(tiny_cfg) -> None:
    names = ("synthetic_jhmdb_test", "synthetic_jhmdb_train")
    results = start(tiny_cfg("UniPose", "DATASETS.TEST", names)).test()
    assert tuple(results) == names
    assert results[names[0]]["keypoints_pck_bbox"]["frames"] > 0


def test_clipping_is_by_the_global_norm(tiny_cfg) -> None:
    limit = 1e-3
    options = ["SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", 1.0, "SOLVER.WEIGHT_DECAY", 0.0]
    options += ["SOLVER.MOMENTUM", 0.0, "SOLVER.CLIP_GLOBAL_NORM", limit, "SOLVER.MAX_ITER", 1]
    trainer = start(tiny_cfg("UniPose", *NO_TEST, *options))
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    moved = [(p - before[name]).flatten() for name, p in trainer.model.named_parameters()]
    assert torch.cat(moved).norm().item() == pytest.approx(limit, rel=0.01)
    assert sum(m.norm().item() > 0 for m in moved) > 50


def test_a_loss_that_is_not_finite_stops_the_run_and_is_never_saved(tiny_cfg, tmp_path) -> None:
    trainer = start(tiny_cfg("UniPose", *NO_TEST, "SOLVER.CHECKPOINT_PERIOD", 1))
    trainer.model.decoder.predict.bias.data.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="nan"):
        trainer.train()
    assert [name for name in os.listdir(tmp_path / "output") if name.endswith(".pth")] == []
    quiet = start(tiny_cfg("UniPose", *NO_TEST))
    quiet.model.decoder.predict.bias.data.fill_(float("inf"))
    with pytest.raises(FloatingPointError):
        quiet.train()  # without checkpoints it is noticed when losses are logged
    assert not (tmp_path / "output" / "model_final.pth").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["SOLVER.AMP.ENABLED", True, "SOLVER.AMP.PRECISION", "fp8"], "AMP.PRECISION is 'fp8'"),
        (["SOLVER.OPTIMIZER", "LION"], "OPTIMIZER is 'LION'"),
        (["MODEL.POSE.ENCODER", "freeze"], "no parameter of the model is trainable"),
    ],
)
def test_wrong_keys_are_named_before_data_is_read(tiny_cfg, options, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PoseTrainer(tiny_cfg("UniPose", *options))


def test_a_batch_that_ranks_cannot_share_is_refused(tiny_cfg) -> None:
    trainer = start(tiny_cfg("UniPose", *NO_TEST, "SOLVER.IMS_PER_BATCH", 0))
    with pytest.raises(ValueError, match="IMS_PER_BATCH is 0"):
        trainer.train()


def test_a_batch_moves_to_the_device_and_the_loaders_stays() -> None:
    batch = [{"image": torch.zeros(2, 3), "video_id": "v", "height": 4}]
    moved = on_device(batch, torch.device("meta"))
    assert moved[0]["image"].device.type == "meta"
    assert (moved[0]["video_id"], moved[0]["height"]) == ("v", 4)
    assert batch[0]["image"].device.type == "cpu"


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


@pytest.mark.parametrize("kind", ["SGD", "ADAM", "ADAMW"])
@pytest.mark.parametrize("other", ["SGD", "ADAM", "ADAMW"])
def test_the_state_of_another_kind_of_optimizer_is_refused(kind: str, other: str) -> None:
    state = build_optimizer(config(OPTIMIZER=kind), Net()).state_dict()
    optimizer = build_optimizer(config(OPTIMIZER=other), Net())
    if kind == other:
        optimizer.load_state_dict(state)
        return
    with pytest.raises(ValueError, match=rf"OPTIMIZER {kind}, and is resumed with {other}: keep"):
        optimizer.load_state_dict(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state["param_groups"][0].update(lr="x"), "lr is 'x'"),
        (lambda state: state["param_groups"][1].update(lr=True), "lr is True"),
        (lambda state: state["param_groups"][0].update(eps={}), "eps is {}"),
        (lambda state: state["param_groups"][0].update(amsgrad="no"), "amsgrad is 'no'"),
        (lambda state: state["param_groups"][0].update(betas=(0.9, "x")), r"betas is \(0.9, 'x'"),
        (lambda state: state["param_groups"][0].update(betas=0.9), "betas is 0.9"),
        (lambda state: state["param_groups"][0].update(lr=torch.ones(2)), "lr is tensor"),
        (lambda state: state["param_groups"][0].pop("params"), "param_groups are damaged"),
        (lambda state: state.pop("state"), "no param_groups, or no state"),
        (lambda state: state.update(param_groups={}), "no param_groups, or no state"),
        (lambda state: state["param_groups"][0].update(lr=float("nan")), "lr is nan"),
        (lambda state: state["param_groups"][0].update(betas=(0.9,)), r"betas is \(0.9,\)"),
        (lambda state: state["state"].update({0: 3}), "no dict"),
    ],
)
def test_settings_of_other_types_are_refused(change: Any, message: str) -> None:
    """They had ended the run within a step, or turned every weight into NaN."""
    state = copy.deepcopy(build_optimizer(config(OPTIMIZER="ADAM"), Net()).state_dict())
    build_optimizer(config(OPTIMIZER="ADAM"), Net()).load_state_dict(copy.deepcopy(state))
    change(state)
    with pytest.raises(ValueError, match=message):
        build_optimizer(config(OPTIMIZER="ADAM"), Net()).load_state_dict(state)


def test_settings_of_the_same_kind_are_taken() -> None:
    """Those of an older PyTorch, which lack some or have more, and a rate that is a tensor."""
    optimizer = build_optimizer(config(OPTIMIZER="ADAM"), Net())
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0].update(lr=torch.tensor(0.25), betas=[0.5, 0.75], of_another=1)
    state["param_groups"][1].update(lr=1)
    del state["param_groups"][1]["amsgrad"]
    optimizer.load_state_dict(state)
    first, second = optimizer.param_groups[:2]
    assert (float(first["lr"]), second["lr"], list(first["betas"])) == (0.25, 1, [0.5, 0.75])


def test_a_users_error_in_training_is_logged_without_a_traceback(caplog: Any) -> None:
    log = logging.getLogger("detectron2.engine.train_loop")
    for error, shown in ((FloatingPointError("loss is nan"), False), (TypeError("a defect"), True)):
        caplog.clear()
        try:
            raise error
        except type(error):
            log.exception("Exception during training:")
        assert ("Traceback" in caplog.text) is shown and str(error) in caplog.text


def test_a_run_of_no_step_is_refused() -> None:
    cfg = get_cfg()
    cfg.SOLVER.MAX_ITER = 0
    with pytest.raises(ValueError, match="SOLVER.MAX_ITER is 0: must be 1 or more"):
        PoseTrainer(cfg)


def test_ranks_score_the_statistics_of_the_first(tiny_cfg, monkeypatch) -> None:
    trainer = PoseTrainer(tiny_cfg("UniPose"))
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(trainer_module.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(
        trainer_module, "evaluate", lambda cfg, model, changes: {"changes": changes}
    )
    monkeypatch.setattr(
        torch.distributed, "broadcast", lambda buffer, rank: sent.append((id(buffer), rank))
    )
    assert trainer.test() == {"changes": True}
    assert sent == [(id(buffer), 0) for buffer in trainer.model.buffers()]
    sent.clear()
    monkeypatch.setattr(trainer_module.comm, "get_world_size", lambda: 1)
    trainer.test()
    assert sent == []


def test_ranks_keep_statistics_of_their_own(tiny_cfg, monkeypatch) -> None:
    import inspect

    made: list[dict] = []
    model = nn.Linear(1, 1)
    monkeypatch.setattr(trainer_module.comm, "get_world_size", lambda: 2)

    def recent(model, device_ids, forward_sync_buffers=True) -> str:
        made.append({"ids": device_ids, "sync": forward_sync_buffers})
        return "wrapped"

    def older(model, device_ids, broadcast_buffers=True) -> str:
        return recent(model, device_ids, broadcast_buffers)

    for kind in (recent, older):
        assert "device_ids" in inspect.signature(kind).parameters
        monkeypatch.setattr(trainer_module, "DistributedDataParallel", kind)
        assert PoseTrainer._distribute(model) == "wrapped"
    assert made == [{"ids": None, "sync": False}] * 2
