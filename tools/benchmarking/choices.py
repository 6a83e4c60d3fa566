"""What the fast form of a model computes otherwise than the modules it was made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from torch import nn


def describe_fast(plain: nn.Module, forms: Sequence[nn.Module]) -> list[str]:
    """One line for each distinct model of ``forms`` that is not ``plain`` itself.

    It names layout and precision, how many norms were folded, and every module that is new or of
    another class, those of one kind together.
    """
    distinct = {id(form): form for form in forms if form is not plain}
    return [_describe(plain, form) for form in distinct.values()]


def _describe(plain: nn.Module, fast: nn.Module) -> str:
    before = {name: type(module) for name, module in plain.named_modules()}
    parts = [str(fast.layout).removeprefix("torch."), f"encoder batches of {fast.encode_batch}"]
    parts.append(f"{_count_norms(plain) - _count_norms(fast)} norms folded")
    parts += [
        f"{', '.join(names)}: {what}" if len(names) <= 3 else f"{len(names)} modules: {what}"
        for what, names in _replaced(before, fast).items()
    ]
    return f"fast form in {fast.precision}: {'; '.join(parts)}"


def _replaced(before: dict[str, type], fast: nn.Module) -> dict[str, list[str]]:
    """Description -> names of the modules of other classes; not what lies within those."""
    found: dict[str, list[str]] = {}
    inside: list[str] = []
    for name, module in fast.named_modules():
        kind = before.get(name)
        if (
            kind is type(module)
            or isinstance(module, nn.Identity)
            or name.startswith(tuple(inside))
        ):
            continue
        inside.append(f"{name}.")
        told = module.extra_repr()
        what = type(module).__name__ + (f"({told})" if told else "")
        found.setdefault(what, []).append(name)
    return found


def _count_norms(model: nn.Module) -> int:
    counts = Counter(type(module).__name__ for module in model.modules())
    return sum(count for name, count in counts.items() if "Norm" in name)
