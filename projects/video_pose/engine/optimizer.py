"""Optimizers with learning-rate factors by part of the model and by kind of parameter."""

from __future__ import annotations

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import reduce_param_groups
from torch import nn

OPTIMIZERS = ("SGD", "ADAM", "ADAMW")
_NORMS = (
    nn.modules.batchnorm._BatchNorm,
    nn.GroupNorm,
    nn.LayerNorm,
    nn.modules.instancenorm._InstanceNorm,
)


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
