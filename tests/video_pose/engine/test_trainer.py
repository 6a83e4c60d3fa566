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
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
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
    # The figures of the final weights come last, beside those of the evaluation after two steps.
    key = "keypoints_pck_bbox/mean_error_px"
    scored = [(row["iteration"], row[key]) for row in rows if key in row]
    assert [iteration for iteration, _ in scored] == [1, 4]
    assert scored[-1][1] == results["keypoints_pck_bbox"]["mean_error_px"]
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


@pytest.mark.parametrize("fast", [True, False])
@pytest.mark.parametrize("mode", ["causal", "offline"])
def test_a_training_goes_on_after_its_evaluations(tiny_cfg, fast: bool, mode: str) -> None:
    """Whatever computes the evaluation: a copy, the model itself, or a backend of it."""
    options = ["TEST.EVAL_PERIOD", 1, "TEST.FAST", fast, "TEST.OVER_TIME.MODE", mode]
    trainer = start(tiny_cfg("UniPoseLSTM", *options, "SOLVER.MAX_ITER", 3))
    assert trainer.train() and sorted(trainer.losses) == [0, 1, 2]
    assert trainer.model.training and trainer.model.decoder.dropout1.training


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


def test_a_frozen_or_shared_weight_does_not_keep_its_bias_from_training() -> None:
    model = Net()
    model.head.weight.requires_grad_(False)
    model.tied = nn.Conv2d(3, 1, 1)
    model.tied.weight = model.header.weight
    found = rates(model, parameter_groups(config(), model))
    assert {"head.bias", "header.weight", "tied.bias"} <= set(found)
    assert not {"head.weight", "tied.weight"} & set(found)


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


class Line(nn.Module):
    """Two losses, (w - 1)^2 and b^2 of a weight and a bias; keeps what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(1, 1)
        self.register_buffer("calls", torch.zeros(1))
        self.given: list[Any] = []
        for parameter in self.parameters():
            nn.init.constant_(parameter, 3.0)

    def forward(self, batch: list[dict]) -> dict[str, Tensor]:
        self.given.append((batch, torch.is_autocast_enabled("cpu")))
        weight, bias = self.layer.weight, self.layer.bias
        return {"loss_w": ((weight - 1) ** 2).sum(), "loss_b": (bias**2).sum()}


class Counted:
    """A view whose batches are numbers, from a run's first step on."""

    def __init__(self) -> None:
        self.prepared, self.loaders = [], []

    def prepare(self, model: nn.Module) -> None:
        self.prepared.append(model)

    def build_train_loader(self, cfg: Any, start_iter: int) -> Any:
        self.loaders.append((cfg.SEED, start_iter))
        return ([{"n": n, "x": torch.tensor(n)}] for n in itertools.count(start_iter))


@pytest.fixture
def line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """line(KEY, value, ...): a trainer of `Line` by plain SGD, and its view."""
    view = Counted()
    monkeypatch.setattr(trainer_module, "build_model", lambda cfg: Line())
    monkeypatch.setattr(trainer_module, "view_of", lambda cfg: view)

    def make(*options: Any) -> Any:
        cfg = get_pose_cfg()
        cfg.merge_from_list([
            "MODEL.DEVICE", "cpu", "OUTPUT_DIR", str(tmp_path), "SEED", 7, "DATASETS.TEST", (),
            "SOLVER.OPTIMIZER", "SGD", "SOLVER.MOMENTUM", 0.0, "SOLVER.WEIGHT_DECAY", 0.0,
            "SOLVER.BASE_LR", 0.25, "SOLVER.WARMUP_ITERS", 0, "SOLVER.STEPS", (),
            "SOLVER.MAX_ITER", 2, "SOLVER.CLIP_GLOBAL_NORM", 0.0, *options,
        ])  # fmt: skip
        trainer = PoseTrainer(cfg)
        trainer.view = view
        return trainer

    return make


def test_steps_by_hand(line, tmp_path: Path) -> None:
    """w goes from 3 to 1 by halves, w - 0.25 * 2 (w - 1); b likewise to 0. What is logged at the
    end is the mean of the steps' losses: 4 and 1, 9 and 2.25."""
    trainer = line()
    trainer.resume_or_load(False)
    assert trainer.train() == {}
    model = trainer.model
    assert model.layer.weight.item() == 1.5 and model.layer.bias.item() == 0.75
    assert [batch[0]["n"] for batch, _ in model.given] == [0, 1]
    assert [autocast for _, autocast in model.given] == [False, False]
    assert trainer.view.loaders == [(7, 0)] and trainer.view.prepared == [model]
    latest = {key: value for key, (value, _) in trainer.storage.latest().items()}
    assert (latest["loss_w"], latest["loss_b"]) == (2.5, 5.625)
    assert latest["total_loss"] == 8.125
    final = torch.load(tmp_path / "model_final.pth")
    assert final["iteration"] == 1 and final["trainer"]["iteration"] == 1
    assert list(final) == ["model", "optimizer", "scheduler", "scaler", "trainer", "iteration"]
    assert final["model"]["layer.weight"].item() == 1.5


def test_a_clipped_step_by_hand(line) -> None:
    """The gradient (4, 6) has the norm 52^0.5; clipped to 1, a quarter of it is gone."""
    trainer = line("SOLVER.MAX_ITER", 1, "SOLVER.CLIP_GLOBAL_NORM", 1.0)
    trainer.train()
    layer = trainer.model.layer
    assert layer.weight.item() == pytest.approx(3 - 0.25 * 4 / 52**0.5, rel=1e-5)
    assert layer.bias.item() == pytest.approx(3 - 0.25 * 6 / 52**0.5, rel=1e-5)


@pytest.mark.parametrize(
    ("steps", "logged"),
    [(1, [(0, 1)]), (3, [(2, 3)]), (4, [(2, 3), (3, 1)]), (7, [(2, 3), (5, 3), (6, 1)])],
)
def test_losses_are_fetched_every_so_many_steps_and_at_the_end(
    line, monkeypatch: pytest.MonkeyPatch, steps: int, logged: list
) -> None:
    """Every three here: the step, and the number of losses in its mean."""
    found: list[tuple] = []
    monkeypatch.setattr(trainer_module, "LOG_PERIOD", 3)
    monkeypatch.setattr(
        trainer_module.SimpleTrainer, "write_metrics",
        lambda means, seconds, step: found.append((means["loss_w"].item(), seconds, step)),
    )  # fmt: skip
    trainer = line("SOLVER.MAX_ITER", steps)
    trainer.train()
    values = [4 * 0.25**n for n in range(steps)]
    assert [step for _, _, step in found] == [step for step, _ in logged]
    for (mean, seconds, step), (_, count) in zip(found, logged, strict=True):
        assert mean == pytest.approx(sum(values[step + 1 - count : step + 1]) / count)
        assert 0 < seconds < 60


def test_the_time_for_data_is_that_of_the_last_batch(line, monkeypatch) -> None:
    clock = iter([10.0, 10.5, 20.0, 23.0])
    monkeypatch.setattr(trainer_module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(trainer_module.hooks, "IterationTimer", HookBase)
    trainer = line()
    trainer.before_step = trainer.after_step = lambda: None  # hooks look at the clock, too
    trainer.iter, trainer._batches = 0, iter([[{}], [{}]])
    trainer._pending = []
    trainer.run_step()
    assert trainer._data_seconds == 0.5


@pytest.mark.parametrize(
    ("enabled", "precision", "dtype", "scales"),
    [(False, "bfloat16", None, False), (True, "bfloat16", torch.bfloat16, False)],
)
def test_the_precision_of_a_step(line, enabled, precision, dtype, scales) -> None:
    trainer = line("SOLVER.AMP.ENABLED", enabled, "SOLVER.AMP.PRECISION", precision)
    assert trainer.dtype is dtype and trainer.scaler.is_enabled() is scales
    trainer.train()
    assert trainer.model.given[0][1] is enabled


def test_mixed_precision_that_a_cpu_lacks_is_said(line, monkeypatch, caplog) -> None:
    for has, enabled, said in ((False, True, True), (True, True, False), (False, False, False)):
        caplog.clear()
        monkeypatch.setattr("video_pose.modeling.precision.has_bfloat16", lambda has=has: has)
        trainer = line("SOLVER.AMP.ENABLED", enabled)
        assert ("SOLVER.AMP.ENABLED is ignored: this CPU has no" in caplog.text) is said
        assert (trainer.dtype is torch.bfloat16) is (has and enabled)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
def test_losses_are_scaled_where_small_gradients_would_be_lost(line, monkeypatch, dtype) -> None:
    """float16 alone has too few exponents."""
    made: list[tuple] = []
    monkeypatch.setattr(trainer_module, "training_dtype", lambda precision, device: dtype)

    class Scaler(torch.amp.GradScaler):
        def __init__(self, *args: Any, **keys: Any) -> None:
            made.append((args, keys))
            super().__init__("cpu", enabled=False)

    monkeypatch.setattr(trainer_module.torch.amp, "GradScaler", Scaler)
    line("SOLVER.AMP.ENABLED", dtype is not None)
    assert made == [(("cuda",), {"enabled": dtype == torch.float16})]


def test_all_processes_resume_from_one_checkpoint(line, monkeypatch, tmp_path: Path) -> None:
    """Where one alone has a folder with a run, it would wait for the others for ever."""
    line().train()
    trainer = line("SOLVER.MAX_ITER", 3)
    for others, listed in ((["", ""], "none, none"), (["model_1.pth"], "model_1.pth")):
        monkeypatch.setattr(
            trainer_module.comm, "all_gather", lambda own, rest=others: [own, *rest]
        )
        message = (
            f"^OUTPUT_DIR {tmp_path} must be one folder that all processes see: their last "
            f"checkpoints are model_final.pth, {listed}$"
        )
        with pytest.raises(ValueError, match=message):
            trainer.resume_or_load()
        assert trainer.start_iter == 0
    monkeypatch.setattr(trainer_module.comm, "all_gather", lambda own: [own] * 3)
    trainer.resume_or_load()
    assert trainer.start_iter == 2


@pytest.mark.parametrize("scaled_before", [True, False])
@pytest.mark.parametrize("scales", [True, False])
def test_loss_scaling_may_begin_and_end_in_a_resumed_run(
    line, monkeypatch, caplog, scaled_before: bool, scales: bool
) -> None:
    kind = torch.amp.GradScaler

    def of(scales: bool, *options: Any) -> PoseTrainer:
        scaler = kind("cpu", enabled=scales, init_scale=8.0 if scales else 1.0)
        monkeypatch.setattr(trainer_module.torch.amp, "GradScaler", lambda *args, **keys: scaler)
        return line(*options)

    first = of(scaled_before)
    first.train()
    first.scaler.update(4.0)  # of no effect where it is off
    first.checkpointer.save("model_resume", iteration=1)
    second = of(scales, "SOLVER.MAX_ITER", 4)
    with caplog.at_level(logging.INFO):
        second.resume_or_load()
    begins = scales and not scaled_before
    assert ("was trained without loss scaling" in caplog.text) is begins
    assert second.start_iter == 2
    assert second.scaler.get_scale() == (1 if not scales else 8 if begins else 4)
    second.train()


@pytest.mark.parametrize("is_main", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.5])
def test_what_is_done_about_a_step(line, monkeypatch, is_main: bool, decay: float) -> None:
    """The average goes before whatever saves or scores it; the first process alone writes logs."""
    monkeypatch.setattr(trainer_module.comm, "is_main_process", lambda: is_main)
    keys = ["SOLVER.EMA_DECAY", decay, "TEST.EVAL_PERIOD", 5, "SOLVER.CHECKPOINT_PERIOD", 3]
    trainer = line(*keys, "SOLVER.CHECKPOINT_SECONDS", 9)
    names = [type(hook).__name__ for hook in trainer._hooks]
    assert names == [
        "IterationTimer", "LRScheduler", *["UpdateEMA"] * (decay > 0), "ResumableCheckpoints",
        "EvalHook", *["PeriodicWriter"] * is_main,
    ]  # fmt: skip
    hooks = dict(zip(names, trainer._hooks, strict=True))
    saves, scores = hooks["ResumableCheckpoints"], hooks["EvalHook"]
    assert (saves._period, saves._seconds) == (3, 9)
    assert (scores._period, scores._eval_after_train) == (5, False)
    assert not is_main or hooks["PeriodicWriter"]._period == 20
    assert (trainer.average is None) is (decay == 0)
    assert ("average" in trainer.checkpointer.checkpointables) is (decay > 0)


@pytest.mark.parametrize("seed", [-1, 0, 5])
def test_one_seed_for_all_processes(line, monkeypatch, seed: int) -> None:
    monkeypatch.setattr(trainer_module.comm, "shared_random_seed", lambda: 99)
    trainer = line("SEED", seed)
    assert trainer.seed == (99 if seed < 0 else seed)
    trainer.train()
    assert trainer.view.loaders == [(trainer.seed, 0)] and trainer.cfg.SEED == seed


@pytest.mark.parametrize("maximum", [2, 3, 5])
def test_a_run_that_is_over_goes_on_where_there_is_more_to_do(line, maximum: int) -> None:
    first = line("SOLVER.MAX_ITER", 3)
    first.train()
    again = line("SOLVER.MAX_ITER", maximum)
    again.resume_or_load(True)
    assert again.start_iter == 3 and again.checkpointer.strict
    again.train()
    assert [batch[0]["n"] for batch, _ in again.model.given] == list(range(3, maximum))
    weight = 1 + 2 * 0.5 ** max(3, maximum)
    assert again.model.layer.weight.item() == weight
    fresh = line()
    fresh.resume_or_load(False)
    assert fresh.start_iter == 0 and not fresh.checkpointer.strict


def own_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Those of the trainer itself: what others log depends on who has set up their loggers."""
    return [r.getMessage() for r in caplog.records if r.name == trainer_module.__name__]


def test_nothing_to_resume_is_said(line, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", trainer_module.__name__):
        line().resume_or_load(False)
        assert own_messages(caplog) == []
        line().resume_or_load(True)
    assert own_messages(caplog) == [f"Nothing to resume in {tmp_path}: starting anew"]


def test_weights_of_another_run_begin_an_average_of_their_own(line, tmp_path: Path) -> None:
    """And not its optimizer; an average that was loaded goes on."""
    other = line("SOLVER.EMA_DECAY", 0.5, "SOLVER.MAX_ITER", 1)
    other.train()
    # 2/11 of 3, 9/11 of 2: the average; the trained weight is 2.
    average = other.average.average["layer.weight"].item()
    assert average == pytest.approx(24 / 11)
    state = torch.load(tmp_path / "model_final.pth")
    assert state["model"]["layer.weight"].item() == pytest.approx(average)
    assert state["trained_model"]["layer.weight"].item() == 2.0
    weights = tmp_path / "weights.pth"
    os.rename(tmp_path / "model_final.pth", weights)
    (tmp_path / "last_checkpoint").unlink()
    started = line("SOLVER.EMA_DECAY", 0.5, "MODEL.WEIGHTS", str(weights))
    started.resume_or_load(True)
    assert started.start_iter == 0 and started.average.updates == 0
    assert started.average.average["layer.weight"].item() == pytest.approx(average)
    os.rename(weights, tmp_path / "model_final.pth")
    (tmp_path / "last_checkpoint").write_text("model_final.pth")
    resumed = line("SOLVER.EMA_DECAY", 0.5, "SOLVER.MAX_ITER", 4)
    resumed.resume_or_load(True)
    assert resumed.start_iter == 1 and resumed.average.updates == 1
    assert resumed.model.layer.weight.item() == 2.0
    assert resumed.average.average["layer.weight"].item() == pytest.approx(average)


def test_a_run_is_scored_where_there_is_something_to_score(line, monkeypatch) -> None:
    """With the averaged weights, which are gone again afterwards."""
    seen: list[tuple] = []

    def evaluate(cfg: Any, model: Any, changes: bool) -> dict:
        seen.append((model.layer.weight.item(), changes))
        return {"pck": 1}

    monkeypatch.setattr(trainer_module, "evaluate", evaluate)
    read: list[tuple] = []
    monkeypatch.setattr(trainer_module, "require_test_data", lambda cfg: read.append(seen[:]))
    trainer = line("DATASETS.TEST", ("x",), "SOLVER.EMA_DECAY", 0.5, "SOLVER.MAX_ITER", 1)
    assert trainer.train() == {"pck": 1} and trainer.model.layer.weight.item() == 2.0
    assert seen == [(pytest.approx(24 / 11), True)]
    plain = line("DATASETS.TEST", ("x",), "SOLVER.MAX_ITER", 1)
    plain.train()
    assert seen[1:] == [(2.0, True)]
    assert line().train() == {} and len(seen) == 2
    assert read[0] == [] and len(read) == 3  # the test data, before the training


def test_what_a_run_says_of_itself_to_its_checkpoint(line, monkeypatch) -> None:
    trainer = line("SOLVER.MAX_ITER", 5)
    for step, kept in ((0, 0), (3, 3), (4, 4), (5, 4)):  # after the last one the loop stands at 5
        trainer.iter = step
        state = trainer.state_dict()
        assert state.pop("config") == trainer.cfg.dump()
        assert state == {"iteration": kept, "seed": 7, "processes": 1}
    monkeypatch.setattr(trainer_module.comm, "get_world_size", lambda: 3)
    assert trainer.state_dict()["processes"] == 3


@pytest.mark.parametrize("is_main", [True, False])
def test_what_a_run_takes_from_its_checkpoint(line, monkeypatch, caplog, is_main: bool) -> None:
    monkeypatch.setattr(trainer_module.comm, "is_main_process", lambda: is_main)
    trainer = line()
    trainer.load_state_dict({"iteration": 0})
    assert (trainer.iter, trainer.seed) == (0, 7)
    trainer.load_state_dict({"iteration": 4, "seed": 11, "processes": 1, "config": "SEED: 3"})
    assert (trainer.iter, trainer.seed) == (4, 11)
    said = "Resumed with SEED 7, was 3 (no effect: the checkpoint's counts)"
    assert own_messages(caplog) == [said] * is_main
    for iteration in (-1, None, 1.0, "1"):
        with pytest.raises(ValueError) as error:
            trainer.load_state_dict({"iteration": iteration})
        assert str(error.value) == f"the run's iteration is {iteration!r}"
    with pytest.raises(ValueError) as error:
        trainer.load_state_dict({"iteration": 4, "processes": 2})
    assert str(error.value) == (
        "the run was trained by 2 processes and is resumed by 1, which gives other weights: start "
        "as many, or allow it by SOLVER.RESUME_OTHER_PROCESSES True"
    )


def test_losses_that_wait_for_their_log_are_looked_at_before_a_save(line) -> None:
    trainer = line()
    trainer.iter = 4
    trainer.check_pending_losses()
    fine, none, endless = torch.tensor(1.0), torch.tensor(float("nan")), torch.tensor(float("inf"))
    trainer._pending = [{"a": fine, "b": fine}] * 2
    trainer.check_pending_losses()
    for bad, name in ((none, "nan"), (endless, "inf")):
        trainer._pending = [{"a": fine, "b": fine}, {"a": fine, "b": bad}]
        with pytest.raises(FloatingPointError) as error:
            trainer.check_pending_losses()
        assert str(error.value) == (
            f"loss at iteration 4 or shortly before: {{'a': 1.0, 'b': {name}}}; the training has "
            "diverged: lower SOLVER.BASE_LR, or set SOLVER.CLIP_GLOBAL_NORM"
        )


def test_random_numbers_follow_from_seed_step_and_process() -> None:
    import random

    import numpy as np

    def draw(*numbers: int) -> tuple[float, float, float]:
        trainer_module.seed_step(*numbers)
        return torch.rand(1).item(), float(np.random.rand()), random.random()

    first, second = (int(n) for n in np.random.SeedSequence([1, 2, 3]).generate_state(2))
    generator = torch.Generator().manual_seed(first)
    expected = (
        torch.rand(1, generator=generator).item(),
        float(np.random.RandomState(second).rand()),
        random.Random(second).random(),
    )
    assert draw(1, 2, 3) == draw(1, 2, 3) == expected
    for other in ((0, 2, 3), (1, 3, 3), (1, 2, 0), (2, 1, 3), (1, 3, 2)):
        assert not set(draw(*other)) & set(expected)


def test_keys_that_changed_are_said_each_with_its_effect(caplog) -> None:
    """Those that both configurations have, in their order."""
    solver = {"MAX_ITER": 30, "MOMENTUM": 0.5, "NEW": 1}
    cfg = CfgNode({"CUDNN_BENCHMARK": False, "SEED": 2, "SOLVER": solver})
    stored = "SOLVER:\n  MAX_ITER: 20\n  MOMENTUM: 0.9\n  OLD: 1\nSEED: 2\nCUDNN_BENCHMARK: true\n"
    trainer_module.report_changes(stored, cfg)
    assert caplog.messages == [
        "Resumed with CUDNN_BENCHMARK False, was True (takes effect)",
        "Resumed with SOLVER.MAX_ITER 30, was 20 (takes effect)",
        "Resumed with SOLVER.MOMENTUM 0.5, was 0.9 (no effect: the checkpoint's counts)",
    ]
    caplog.clear()
    for nothing in ("", cfg.dump()):
        trainer_module.report_changes(nothing, cfg)
    assert caplog.messages == []


def test_keys_whose_values_the_checkpoint_restores_are_keys(tiny_cfg) -> None:
    """Also those of the rates of parts, which the optimizer's groups hold."""
    for model, key in (("UniPoseLSTM", "POSE.ENCODER"), ("LSTMPoseMachine", "LSTM_PM.CONVNET1")):
        assert f"MODEL.{key}_LR_FACTOR" in trainer_module._RESTORED
        cfg = tiny_cfg(model, "SOLVER.BASE_LR", 1.0, f"MODEL.{key}_LR_FACTOR", 0.25)
        net = build_model(cfg)
        assert {group["lr"] for group in build_optimizer(cfg, net).param_groups} == {0.25, 1.0}
        for restored in trainer_module._RESTORED:
            node = cfg
            for part in restored.split("."):
                node = node[part]


@pytest.mark.parametrize("error", [FloatingPointError("x"), OSError("x"), ValueError("x"), None])
def test_a_record_of_a_users_error_holds_the_reason_alone(error: Exception | None) -> None:
    info = (type(error), error, None) if error else None
    record = logging.LogRecord("n", logging.ERROR, "p", 1, "Exception %s", ("a",), info)
    assert trainer_module._without_traceback(record) is True
    assert record.getMessage() == ("Training has ended: x" if error else "Exception a")
    assert record.exc_info is None


def test_batches_do_not_wait_for_their_copies() -> None:
    asked: list[tuple] = []

    class Watched(torch.Tensor):
        def to(self, *args: Any, **keys: Any) -> str:
            asked.append((args, keys))
            return "moved"

    tensor = torch.zeros(1).as_subclass(Watched)
    device = torch.device("cpu")
    assert on_device([{"a": tensor}, {"b": 3}], device) == [{"a": "moved"}, {"b": 3}]
    assert asked == [((device,), {"non_blocking": True})]


def test_each_process_has_its_own_gpu(monkeypatch) -> None:
    monkeypatch.setattr(trainer_module.comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(trainer_module.comm, "get_local_rank", lambda: 1)
    monkeypatch.setattr(
        trainer_module, "DistributedDataParallel", lambda model, device_ids, **keys: device_ids
    )
    for kind, ids in (("cuda", [1]), ("cpu", None), ("mps", None)):
        parameter = Namespace(device=Namespace(type=kind))
        model: Any = Namespace(parameters=lambda parameter=parameter: iter([parameter]))
        assert PoseTrainer._distribute(model) == ids
    monkeypatch.setattr(trainer_module.comm, "get_world_size", lambda: 1)
    assert PoseTrainer._distribute(model) is model


@pytest.mark.parametrize("name", ["SGD", "ADAM", "ADAMW"])
def test_what_an_optimizer_is_made_with(name: str) -> None:
    keys = {"MOMENTUM": 0.7, "NESTEROV": True, "ADAM_BETAS": (0.8, 0.95), "BASE_LR": 0.25}
    optimizer = build_optimizer(config(OPTIMIZER=name, WEIGHT_DECAY=0.125, **keys), Net())
    defaults = optimizer.defaults
    assert (defaults["lr"], defaults["weight_decay"], defaults["fused"]) == (0.25, 0.125, True)
    if name == "SGD":
        assert (defaults["momentum"], defaults["nesterov"]) == (0.7, True)
    else:
        assert defaults["betas"] == (0.8, 0.95)
    assert trainer_module._kind(optimizer.param_groups[0]) == name
    with pytest.raises(ValueError) as error:
        build_optimizer(config(OPTIMIZER="Lion"), Net())
    assert str(error.value) == ("SOLVER.OPTIMIZER 'Lion': choose from ('SGD', 'ADAM', 'ADAMW')")


@pytest.mark.parametrize(
    ("value", "own", "like"),
    [
        (1, 0.5, True), (0.5, 1, True), (torch.tensor(0.5), 0.1, True),
        (torch.tensor([0.5]), 0.1, True), (torch.ones(2), 0.1, False),
        (float("inf"), 0.1, False), (True, 0.1, False), ("1", 0.1, False), (None, 0.1, False),
        ([0.5, 1], (0.9, 0.999), True), ((0.5,), (0.9, 0.999), False),
        ((0.5, "x"), (0.9, 0.999), False), (0.5, (0.9, 0.999), False), ("ab", (0.9, 0.9), False),
        (None, True, True), (1, False, True), ({}, None, False), ("x", False, False),
        ("x", None, False), ({}, True, False), (True, None, True),
    ],
)  # fmt: skip
def test_which_setting_can_take_the_place_of_which(value: Any, own: Any, like: bool) -> None:
    assert trainer_module._is_like(value, own) is like


def test_the_messages_of_an_optimizers_state() -> None:
    """Of two groups, of nine parameters in all; each by its own number, in the group's order."""
    model = Net()
    cfg = config(OPTIMIZER="ADAM")
    optimizer = build_optimizer(cfg, model)
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][-1]["params"].append(9)
    changed = [*sizes[:-1], sizes[-1] + 1]
    with pytest.raises(ValueError) as error:
        optimizer.load_state_dict(state)
    assert str(error.value) == (
        f"the optimizer's state is of 10 parameters in groups of {changed}, the model has 9 in "
        f"groups of {sizes}"
    )
    state = copy.deepcopy(optimizer.state_dict())
    numbers = [n for group in state["param_groups"] for n in group["params"]]
    shapes = [tuple(p.shape) for group in optimizer.param_groups for p in group["params"]]
    for number, shape in zip(numbers, shapes, strict=True):
        entries = {number: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(*shape, 1), "x": 3}}
        with pytest.raises(ValueError) as error:
            optimizer.load_state_dict(state | {"state": entries})
        assert str(error.value) == (
            f"the optimizer's exp_avg of parameter {number} has the shape {(*shape, 1)}, the "
            f"parameter {shape}"
        )
    for damaged, message in (
        ({"param_groups": state["param_groups"]}, "state has no param_groups, or no state"),
        (state | {"param_groups": [{}]}, "param_groups are damaged"),
        (state | {"state": {0: []}}, "state of a parameter is no dict"),
    ):
        with pytest.raises(ValueError) as error:
            optimizer.load_state_dict(damaged)
        assert str(error.value) == f"the optimizer's {message}"
    own = optimizer.param_groups[0]["lr"]
    state["param_groups"][0]["lr"] = None
    with pytest.raises(ValueError) as error:
        optimizer.load_state_dict(state)
    assert str(error.value) == f"the optimizer's lr is None, this run's {own!r}"


def test_a_loaded_optimizer_stays_fused() -> None:
    groups = [{"params": [0], "fused": False, "foreach": True, "lr": 1}, {"params": [1]}]
    state = {"state": {}, "param_groups": groups}
    found = trainer_module._stay_fused(None, state)
    assert found["param_groups"] == [
        {"params": [0], "fused": True, "foreach": None, "lr": 1},
        {"params": [1], "fused": True, "foreach": None},
    ]
    assert found["state"] is state["state"] and groups[0]["fused"] is False


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, nn.InstanceNorm2d, nn.LayerNorm, nn.GroupNorm])
@pytest.mark.parametrize("bias_decay", [-1.0, 0.0, 0.125])
def test_rates_and_decays_of_any_norm(norm: Any, bias_decay: float) -> None:
    """A norm's bias is a norm's; a module of one's own, at the top, counts as well."""
    sizes = {nn.LayerNorm: (3,), nn.GroupNorm: (1, 3), nn.InstanceNorm2d: (3, 1e-5, 0.1, True)}
    layer = norm(*sizes.get(norm, (3,)))
    layer.scale = nn.Parameter(torch.zeros(3, 3))
    cfg = config(BIAS_DECAY=bias_decay, BIAS_LR_MULTIPLIER=2.0)
    assert rates(layer, parameter_groups(cfg, layer)) == {
        "weight": (1.0, 0.25), "bias": (1.0, 0.25), "scale": (1.0, 0.25),
    }  # fmt: skip
    plain = nn.Linear(1, 1)
    plain.scalar = nn.Parameter(torch.tensor(1.0))
    decay = 0.5 if bias_decay < 0 else bias_decay
    assert rates(plain, parameter_groups(cfg, plain)) == {
        "weight": (1.0, 0.5), "bias": (2.0, decay), "scalar": (1.0, decay),
    }  # fmt: skip
