"""Exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class WeightAverage:
    """The average of all floating tensors of a model's state, updated once per step.

    Early on the decay is (1 + n) / (10 + n) after n updates where that is smaller, so that the
    initial values do not linger.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"SOLVER.EMA_DECAY {decay} must lie between 0 and 1")
        self.model = model
        self.decay = decay
        self.updates = 0
        self.average = {key: value.detach().clone() for key, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the model's present weights."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        state = self.model.state_dict()
        floating = [key for key, value in state.items() if value.is_floating_point()]
        counters = [key for key, value in state.items() if not value.is_floating_point()]
        # One launch for all tensors on a GPU; a CPU goes through them one by one.
        torch._foreach_lerp_(
            [self.average[key] for key in floating], [state[key] for key in floating], 1 - decay
        )
        if counters:  # frozen norms have none
            torch._foreach_copy_(
                [self.average[key] for key in counters], [state[key] for key in counters]
            )

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model has the averaged weights."""
        kept = {key: value.detach().clone() for key, value in self.model.state_dict().items()}
        self.model.load_state_dict(self.average)
        try:
            yield
        finally:
            self.model.load_state_dict(kept)

    def state_dict(self) -> dict[str, int | dict[str, Tensor]]:
        return {"updates": self.updates, "average": self.average}

    def load_state_dict(self, state: dict) -> None:
        self.updates = state["updates"]
        for key, value in state["average"].items():
            self.average[key].copy_(value)

    def reset(self) -> None:
        """Start again from the model's present weights."""
        self.updates = 0
        for key, value in self.model.state_dict().items():
            self.average[key].copy_(value)
