"""What the fast form of a model computes otherwise than the modules it was made of."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from video_pose.modeling.fast_path import describe
from video_pose.modeling.large_conv import LargeConv2d
from video_pose.modeling.packed_conv import PackedConv2d

# Modules that `fast_path.describe` counts, and places of folded norms.
_TOLD = (nn.Identity, LargeConv2d, PackedConv2d)


def describe_fast(plain: nn.Module, forms: Sequence[nn.Module]) -> list[str]:
    """One line for each distinct model of ``forms`` that is not ``plain`` itself; it has run.

    It names precision, layout and what was chosen for every large convolution (see
    `fast_path.describe`), how many norms were folded, and the other modules of a new class.
    """
    distinct = {id(form): form for form in forms if form is not plain}
    return [_describe(plain, form) for form in distinct.values()]


def _describe(plain: nn.Module, fast: nn.Module) -> str:
    before = {name: type(module) for name, module in plain.named_modules()}
    norms = f"{_count_norms(plain) - _count_norms(fast)} norms folded"
    return "fast form: " + "; ".join([*describe(fast), norms, *_replaced(before, fast)])


def _replaced(before: dict[str, type], fast: nn.Module) -> list[str]:
    """ "name: class" of the modules of other classes; not of what lies within those."""
    found: list[str] = []
    inside: list[str] = []
    for name, module in fast.named_modules():
        same = before.get(name) is type(module)
        if same or isinstance(module, _TOLD) or name.startswith(tuple(inside)):
            continue
        inside.append(f"{name}.")
        found.append(f"{name}: {type(module).__name__}")
    return found


def _count_norms(model: nn.Module) -> int:
    return sum("Norm" in type(module).__name__ for module in model.modules())
