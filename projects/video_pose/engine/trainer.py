"""The training loop: Detectron2's hooks around a step that autocasts on CPU and GPU, and optimizers
with learning-rate factors by part of the model and by kind of parameter.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import math
import os
import random
import time
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import yaml
from detectron2.config import CfgNode
from detectron2.engine import TrainerBase, hooks
from detectron2.engine.defaults import default_writers
from detectron2.engine.train_loop import SimpleTrainer
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler
from detectron2.solver.build import reduce_param_groups
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from video_pose.config import OPTIMIZERS
from video_pose.engine.checkpointer import PoseCheckpointer, keypoint_joints
from video_pose.engine.evaluation import evaluate, require_test_data
from video_pose.engine.hooks import ModelEMA, ResumableCheckpoints, UpdateEMA
from video_pose.engine.launch import errors_of_workers, signals_held
from video_pose.engine.views import view_of
from video_pose.modeling.layers import join_frozen_norms
from video_pose.modeling.precision import training_dtype

logger = logging.getLogger(__name__)
# Losses are fetched from the device and logged once in so many steps.
LOG_PERIOD = 20

_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.modules.instancenorm._InstanceNorm,
)


def on_device(batch: list[dict[str, Any]], device: torch.device) -> list[dict[str, Any]]:
    """A loader's batch with its tensors on ``device``, without waiting for the copies.

    The loader pins what goes to a GPU; a copy from other memory, or one that the model asks for
    itself, would hold up the step.
    """
    return [
        {
            key: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for key, value in item.items()
        }
        for item in batch
    ]


# Keys whose values are part of what a checkpoint restores: another value has no effect.
_RESTORED = (
    *("SOLVER.BASE_LR", "SOLVER.WEIGHT_DECAY", "SOLVER.WEIGHT_DECAY_NORM", "SOLVER.MOMENTUM"),
    *("SOLVER.NESTEROV", "SOLVER.ADAM_BETAS", "SOLVER.BIAS_LR_MULTIPLIER", "SOLVER.BIAS_DECAY"),
    *("MODEL.POSE.ENCODER_LR_FACTOR", "MODEL.LSTM_PM.CONVNET1_LR_FACTOR"),
    *("MODEL.WEIGHTS", "SEED"),
)


def seed_step(seed: int, iteration: int, rank: int) -> None:
    """Let all random numbers of a step (dropout, the regions that an R-CNN samples) follow from the
    run's seed, the iteration and the process: a resumed run draws what it would have drawn."""
    sequence = np.random.SeedSequence([seed, iteration, rank])
    first, second = (int(number) for number in sequence.generate_state(2))
    torch.manual_seed(first)
    np.random.seed(second)
    random.seed(second)


def report_changes(stored: str, cfg: CfgNode) -> None:
    """Say which keys a resumed run has other values of than its checkpoint's run.

    Args:
        stored: the earlier run's configuration as YAML; "" where the checkpoint has none.
    """
    before = _flat(yaml.safe_load(stored) or {})
    now = _flat(yaml.safe_load(cfg.dump()))
    for key in sorted(before.keys() & now.keys()):
        if before[key] != now[key]:
            effect = "no effect: the checkpoint's counts" if key in _RESTORED else "takes effect"
            logger.warning("Resumed with %s %s, was %s (%s)", key, now[key], before[key], effect)


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        out |= _flat(value, f"{name}.") if isinstance(value, dict) else {name: value}
    return out


def _without_traceback(record: logging.LogRecord) -> bool:
    """Detectron2 logs the traceback of whatever ends a training: of a loss that is not finite, or a
    disk that is full, the reason alone says more."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, FloatingPointError | OSError | ValueError):
        record.msg, record.args, record.exc_info = "Training has ended: %s", (error,), None
    return True


logging.getLogger("detectron2.engine.train_loop").addFilter(_without_traceback)


class PoseTrainer(TrainerBase):
    """Trains the model of a configuration.

    Usage: ``trainer = PoseTrainer(cfg); trainer.resume_or_load(resume); trainer.train()``.

    Raises (from ``run_step``):
        FloatingPointError: a loss is not finite (noticed within ``LOG_PERIOD`` steps).
    """

    def __init__(self, cfg: CfgNode) -> None:
        super().__init__()
        if cfg.SOLVER.MAX_ITER < 1:
            raise ValueError(f"SOLVER.MAX_ITER is {cfg.SOLVER.MAX_ITER}: must be 1 or more")
        self.cfg = cfg
        # Channels-last is the layout that both CPU and GPU convolutions compute fastest in.
        self.model = build_model(cfg).to(memory_format=torch.channels_last)
        join_frozen_norms(self.model)
        view_of(cfg).prepare(self.model)
        self.model.train()
        self.optimizer = build_optimizer(cfg, self.model)
        self.scheduler = build_lr_scheduler(cfg, self.optimizer)
        self.device = torch.device(cfg.MODEL.DEVICE)
        self.dtype = None
        if cfg.SOLVER.AMP.ENABLED:
            self.dtype = training_dtype(cfg.SOLVER.AMP.PRECISION, self.device)
            if self.dtype is None:
                logger.warning(
                    "SOLVER.AMP.ENABLED is ignored: this CPU has no instructions for bfloat16, "
                    "and trains in float32"
                )
        self.scaler = torch.amp.GradScaler("cuda", enabled=self.dtype == torch.float16)
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        # One seed for all processes; a resumed run takes that of its checkpoint.
        self.seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        self._pending: list[dict[str, Tensor]] = []
        self._data_seconds = 0.0
        state = {
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.scaler,
            "trainer": weakref.proxy(self),
        }
        self.average = None
        if cfg.SOLVER.EMA_DECAY > 0:
            self.average = state["average"] = ModelEMA(self.model, cfg.SOLVER.EMA_DECAY)
        joints = keypoint_joints(cfg)
        self.checkpointer = PoseCheckpointer(self.model, cfg.OUTPUT_DIR, joints=joints, **state)
        self.wrapped = self._distribute(self.model)
        self.register_hooks(self._build_hooks())

    @staticmethod
    def _distribute(model: torch.nn.Module) -> torch.nn.Module:
        """Detectron2's ``create_ddp_model`` passes device ids, which a CPU model must not have."""
        if comm.get_world_size() == 1:
            return model
        on_gpu = next(model.parameters()).device.type == "cuda"
        ids = [comm.get_local_rank()] if on_gpu else None
        # Every rank keeps running statistics of its own; recent PyTorch has a new name for that.
        known = inspect.signature(DistributedDataParallel).parameters
        key = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
        return DistributedDataParallel(model, device_ids=ids, **{key: False})

    def _build_hooks(self) -> list[Any]:
        cfg = self.cfg
        items: list[Any] = [hooks.IterationTimer(), hooks.LRScheduler()]
        if self.average is not None:
            items.append(UpdateEMA(self.average))
        items.append(
            ResumableCheckpoints(
                self.checkpointer,
                period=cfg.SOLVER.CHECKPOINT_PERIOD,
                seconds=cfg.SOLVER.CHECKPOINT_SECONDS,
            )
        )
        items.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self.test, eval_after_train=False))
        if comm.is_main_process():
            writers = default_writers(cfg.OUTPUT_DIR, self.max_iter)
            items.append(hooks.PeriodicWriter(writers, period=LOG_PERIOD))
        return items

    def resume_or_load(self, resume: bool = True) -> None:
        """Continue the run in OUTPUT_DIR, or start from MODEL.WEIGHTS; then an earlier run's
        checkpoints are moved to a folder in it.

        Everything that decides the next step is restored: weights, optimizer, schedule, average,
        iteration and the loader's position; random numbers follow from the seed, the position of a
        clip, and the iteration.

        Raises:
            ValueError: the checkpoint is of another model, optimizer or number of processes, or
                not all processes see the same one.
        """
        resuming = resume and self._sees_a_run()
        if resume and not resuming:
            logger.info("Nothing to resume in %s: starting anew", self.cfg.OUTPUT_DIR)
        self.checkpointer.strict = resuming
        if not resuming:
            self.checkpointer.load(self.cfg.MODEL.WEIGHTS, checkpointables=[])
            comm.synchronize()  # all have read the weights, which may be the earlier run's
            self.checkpointer.set_aside()
        else:
            extra = self.checkpointer.resume()
            self.start_iter = self.iter + 1
            if "trained_model" in extra:  # a finished run goes on to a larger MAX_ITER
                self.model.load_state_dict(extra["trained_model"])
        if self.average is not None and self.average.updates == 0:  # none was loaded
            self.average.reset()

    def _sees_a_run(self) -> bool:
        """Whether there is a checkpoint to go on from, in the eyes of all processes.

        Raises:
            ValueError: they see different ones: ranks would wait for each other for ever.
        """
        seen = self.checkpointer.has_checkpoint()
        name = os.path.basename(self.checkpointer.get_checkpoint_file()) if seen else ""
        names = comm.all_gather(name)
        if len(set(names)) > 1:
            listed = ", ".join(name or "none" for name in names)
            raise ValueError(
                f"OUTPUT_DIR {self.cfg.OUTPUT_DIR} must be one folder that all processes see: "
                f"their last checkpoints are {listed}"
            )
        return seen

    def train(self) -> Any:
        """Run to SOLVER.MAX_ITER, then evaluate; returns what ``test`` does, {} without data."""
        if self.start_iter < self.max_iter:
            cfg = self.cfg.clone()
            cfg.defrost()
            cfg.SEED = self.seed
            loader = view_of(cfg).build_train_loader(cfg, self.start_iter)
            require_test_data(cfg)
            with signals_held():
                self._batches: Iterator[Any] = iter(loader)
            super().train(self.start_iter, self.max_iter)
        if not self.cfg.DATASETS.TEST:
            return {}
        results = self.test()
        if comm.is_main_process():
            self._record(results)
        return results

    def _record(self, results: dict[str, Any]) -> None:
        """Write the figures of the trained model to where those within the training are."""
        _, *writers = default_writers(self.cfg.OUTPUT_DIR, self.max_iter)  # the first one prints
        with EventStorage(self.max_iter) as storage:
            storage.put_scalars(**flatten_results_dict(results), smoothing_hint=False)
            for writer in writers:
                writer.write()
                writer.close()

    def run_step(self) -> None:
        """Fetch a batch, compute the losses and step."""
        started = time.perf_counter()
        with errors_of_workers():
            fetched = next(self._batches)
        batch = on_device(fetched, self.device)
        seed_step(self.seed, self.iter, comm.get_rank())
        self._data_seconds = time.perf_counter() - started
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
            losses = self.wrapped(batch)
            total = sum(losses.values())
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()
        if self.cfg.SOLVER.CLIP_GLOBAL_NORM > 0:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(
                self.model.parameters(), self.cfg.SOLVER.CLIP_GLOBAL_NORM
            )
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self._log({key: value.detach() for key, value in losses.items()})

    def _log(self, losses: dict[str, Tensor]) -> None:
        """Collect losses on the device; every LOG_PERIOD steps fetch, check and store means."""
        self._pending.append(losses)
        last = self.iter + 1 >= self.max_iter
        if len(self._pending) < LOG_PERIOD and not last:
            return
        means = {
            key: torch.stack([step[key] for step in self._pending]).mean()
            for key in self._pending[0]
        }
        self._pending.clear()
        SimpleTrainer.write_metrics(means, self._data_seconds, self.iter)

    def check_pending_losses(self) -> None:
        """Raise FloatingPointError if a loss that is not logged yet is not finite."""
        for step in self._pending:
            if not all(bool(torch.isfinite(value)) for value in step.values()):
                values = {key: value.item() for key, value in step.items()}
                raise FloatingPointError(
                    f"loss at iteration {self.iter} or shortly before: {values}; the training has "
                    "diverged: lower SOLVER.BASE_LR, or set SOLVER.CLIP_GLOBAL_NORM"
                )

    def test(self) -> dict[str, Any]:
        """Evaluate on DATASETS.TEST, with the averaged weights where there are any."""
        context = self.average.applied() if self.average is not None else contextlib.nullcontext()
        with context:
            if comm.get_world_size() > 1:
                # Running statistics differ among ranks; what is saved, and so scored, is rank 0's.
                for buffer in self.model.buffers():
                    torch.distributed.broadcast(buffer, 0)
            return evaluate(self.cfg, self.model, changes=True)

    def save_final(self, checkpointer: PoseCheckpointer) -> None:
        """Write ``model_final``. Its weights are the averaged ones where there are any, and those
        that a longer run continues from lie beside them."""
        extra: dict[str, Any] = {}
        if self.average is not None:
            extra = {"model": self.average.average, "trained_model": self.model.state_dict()}
        checkpointer.save("model_final", iteration=self.max_iter - 1, **extra)

    def state_dict(self) -> dict[str, Any]:
        """As Detectron2's, for a checkpoint that a later run continues from."""
        return {
            "iteration": min(self.iter, self.max_iter - 1),
            "seed": self.seed,
            "processes": comm.get_world_size(),
            "config": self.cfg.dump(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises ValueError where the run would go on differently; says what has changed."""
        iteration = state.get("iteration")
        if not isinstance(iteration, int) or iteration < 0:
            raise ValueError(f"the run's iteration is {iteration!r}")
        processes = state.get("processes", comm.get_world_size())
        if processes != comm.get_world_size() and not self.cfg.SOLVER.RESUME_OTHER_PROCESSES:
            raise ValueError(
                f"the run was trained by {processes} processes and is resumed by "
                f"{comm.get_world_size()}, which gives other weights: start as many, or allow it "
                "by SOLVER.RESUME_OTHER_PROCESSES True"
            )
        self.iter, self.seed = iteration, int(state.get("seed", self.seed))
        if comm.is_main_process():
            report_changes(str(state.get("config", "")), self.cfg)


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """SGD, Adam or AdamW over the trainable parameters of ``model``.

    Raises:
        ValueError: unknown SOLVER.OPTIMIZER, or nothing to train.
    """
    name = cfg.SOLVER.OPTIMIZER.upper()
    if name not in OPTIMIZERS:
        raise ValueError(f"SOLVER.OPTIMIZER {cfg.SOLVER.OPTIMIZER!r}: choose from {OPTIMIZERS}")
    groups = parameter_groups(cfg, model)
    if not groups:
        raise ValueError("no parameter of the model is trainable")
    # Fused: one pass over all parameters instead of one operator after another for each.
    common = {"lr": cfg.SOLVER.BASE_LR, "weight_decay": cfg.SOLVER.WEIGHT_DECAY, "fused": True}
    optimizer: torch.optim.Optimizer
    if name == "SGD":
        optimizer = torch.optim.SGD(
            groups, momentum=cfg.SOLVER.MOMENTUM, nesterov=cfg.SOLVER.NESTEROV, **common
        )
    else:
        kind = torch.optim.Adam if name == "ADAM" else torch.optim.AdamW
        optimizer = kind(groups, betas=tuple(cfg.SOLVER.ADAM_BETAS), **common)
    optimizer.register_load_state_dict_pre_hook(_checked)
    return optimizer


def _checked(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's ``state``, held against ``optimizer``: PyTorch takes tensors of other shapes,
    and its fused step then writes past their ends.

    Raises:
        ValueError: it is another kind of optimizer's, or of other parameters.
    """
    own, groups = optimizer.param_groups, state.get("param_groups")
    entries = state.get("state")
    if not isinstance(groups, list) or not isinstance(entries, dict):
        raise ValueError("the optimizer's state has no param_groups, or no state")
    if not all(isinstance(group, dict) and "params" in group for group in groups):
        raise ValueError("the optimizer's param_groups are damaged")
    if groups and _kind(groups[0]) != _kind(own[0]):
        raise ValueError(
            f"the checkpoint was trained with SOLVER.OPTIMIZER {_kind(groups[0])}, and is resumed "
            f"with {_kind(own[0])}: keep the optimizer, or start from its weights without --resume"
        )
    sizes, expected = ([len(group["params"]) for group in part] for part in (groups, own))
    if sizes != expected:
        raise ValueError(
            f"the optimizer's state is of {sum(sizes)} parameters in groups of {sizes}, the model "
            f"has {sum(expected)} in groups of {expected}"
        )
    for group, mine in zip(groups, own):
        for key in set(group) & set(mine) - {"params"}:
            if not _is_like(group[key], mine[key]):
                raise ValueError(
                    f"the optimizer's {key} is {group[key]!r}, this run's {mine[key]!r}"
                )
    if not all(isinstance(entry, dict) for entry in entries.values()):
        raise ValueError("the optimizer's state of a parameter is no dict")
    numbers = [number for group in groups for number in group["params"]]
    parameters = [parameter for group in own for parameter in group["params"]]
    for number, parameter in zip(numbers, parameters):
        for key, value in (entries.get(number) or {}).items():
            is_tensor = isinstance(value, torch.Tensor) and value.dim() > 0
            if is_tensor and value.shape != parameter.shape:
                raise ValueError(
                    f"the optimizer's {key} of parameter {number} has the shape "
                    f"{tuple(value.shape)}, the parameter {tuple(parameter.shape)}"
                )
    return _stay_fused(optimizer, state)


def _is_like(value: Any, own: Any) -> bool:
    """Whether a setting can take the place of ``own``: finite numbers for numbers."""
    if isinstance(own, list | tuple):
        return (
            isinstance(value, list | tuple)
            and len(value) == len(own)
            and all(map(_is_like, value, own))
        )
    if isinstance(own, int | float) and not isinstance(own, bool):
        number = value.item() if isinstance(value, Tensor) and value.numel() == 1 else value
        return type(number) in (int, float) and math.isfinite(number)
    return not isinstance(value, str | dict)


def _kind(group: dict[str, Any]) -> str:
    """Which of OPTIMIZERS a parameter group belongs to, by its settings."""
    if "betas" not in group:
        return "SGD"
    return "ADAMW" if group.get("decoupled_weight_decay") else "ADAM"


def _stay_fused(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> dict[str, Any]:
    """``state`` with this optimizer's implementation: a checkpoint's groups bring their own, which
    is another one where it was written without ``fused``."""
    groups = [{**group, "fused": True, "foreach": None} for group in state["param_groups"]]
    return {**state, "param_groups": groups}


def parameter_groups(cfg: CfgNode, model: nn.Module) -> list[dict[str, Any]]:
    """Groups of equal learning rate and decay.

    The rate of a parameter is BASE_LR times the factors that apply to it: the model's own by prefix
    of the name (``model.lr_factors()``, where it has that method), ENCODER_LR_FACTOR within
    ``model.encoder_modules()``, and BIAS_LR_MULTIPLIER for the biases of convolutions and linear
    layers.
    """
    solver = cfg.SOLVER
    factors = dict(model.lr_factors()) if hasattr(model, "lr_factors") else {}
    encoder = {
        id(parameter)
        for module in (model.encoder_modules() if hasattr(model, "encoder_modules") else ())
        for parameter in module.parameters()
    }
    groups, seen = [], set()
    for module_name, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            full = f"{module_name}.{name}" if module_name else name
            rate, decay = solver.BASE_LR, solver.WEIGHT_DECAY
            if isinstance(module, _NORMS):
                decay = solver.WEIGHT_DECAY_NORM
            elif parameter.dim() <= 1 and solver.BIAS_DECAY >= 0:
                decay = solver.BIAS_DECAY
            if name == "bias" and not isinstance(module, _NORMS):
                rate *= solver.BIAS_LR_MULTIPLIER
            if id(parameter) in encoder:
                rate *= cfg.MODEL.POSE.ENCODER_LR_FACTOR
            for prefix, factor in factors.items():
                if full.startswith(prefix):
                    rate *= factor
            groups.append({"params": [parameter], "lr": rate, "weight_decay": decay})
    return reduce_param_groups(groups)
