"""Hooks of a training: checkpoints that a run resumes from, and the average of its weights."""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import Tensor, nn

from video_pose.engine.launch import HANGUP, INTERRUPTS, REQUEST

logger = logging.getLogger(__name__)

# Seconds within which a further signal belongs to the interrupt that is being taken.
SAME_INTERRUPT = 1.0


class ResumableCheckpoints(HookBase):
    """Saves ``model_<iteration>`` every ``period`` iterations, ``model_resume`` every ``seconds``,
    ``model_final`` at the end, and ``model_resume`` when the run is interrupted.

    An interrupt (Ctrl-C, SIGTERM, SIGHUP, SIGUSR1) is taken at the end of the step under way, so
    that what is saved is the state between two steps; then ``KeyboardInterrupt`` is raised. A
    second one, more than a second later, acts at once, but for SIGUSR1, which only asks.
    """

    def __init__(self, checkpointer: Any, *, period: int, seconds: float) -> None:
        self._checkpointer = checkpointer
        self._period = period
        self._seconds = seconds
        self._previous: dict[int, Any] = {}
        self._stopping = False  # also where another hook's error comes before this one's turn

    def before_train(self) -> None:
        self._last = self._since = time.monotonic()
        self._interrupted = self._stopping = False
        self._process = os.getpid()
        for number in INTERRUPTS:
            if number == HANGUP and signal.getsignal(number) == signal.SIG_IGN:
                continue  # of a program that nohup started
            try:
                self._previous[number] = signal.signal(number, self._handle)
            except ValueError:  # not in the main thread: leave signals to whoever runs it
                return

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        self._stopping = self._any_rank_interrupted(is_last=done >= self.trainer.max_iter)
        if done >= self.trainer.max_iter:
            return
        if self._stopping:
            self._save("model_resume")
            logger.info("Interrupted after %d iterations; --resume continues from here", done)
            comm.synchronize()  # the first process that ends may take the others with it
            raise KeyboardInterrupt
        if self._period > 0 and done % self._period == 0:
            self._save(f"model_{self.trainer.iter:07d}")
        elif self._seconds > 0 and time.monotonic() - self._last > self._seconds:
            self._save("model_resume")

    def after_train(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
        # after_train also runs after an error; only a complete run has a final model.
        if self.trainer.iter >= self.trainer.max_iter:
            self.trainer.save_final(self._checkpointer)
            if self._stopping:
                logger.info("Interrupted when training was over; --eval-only evaluates the model")
                comm.synchronize()
                raise KeyboardInterrupt

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a loader's worker, which stops when its parent does
            return
        if self._interrupted:
            # A service manager's signal reaches a process twice: by itself, and handed on.
            if number != REQUEST and time.monotonic() - self._since > SAME_INTERRUPT:
                raise KeyboardInterrupt
            return
        self._interrupted, self._since = True, time.monotonic()
        # Past the logger, which the signal may have found at work.
        if comm.is_main_process():
            os.write(2, b"Interrupt: finishing this step and saving (once more to stop at once)\n")

    def _any_rank_interrupted(self, is_last: bool) -> bool:
        if comm.get_world_size() == 1:
            return self._interrupted
        if self.trainer.iter % 10 and not is_last:  # ranks agree every ten steps, not at every one
            return False
        return any(comm.all_gather(self._interrupted))

    def _save(self, name: str) -> None:
        self.trainer.check_pending_losses()  # rather no checkpoint than one of nan
        self._last = time.monotonic()
        self._checkpointer.save(name, iteration=self.trainer.iter)


class ModelEMA:
    """Exponential moving average of all floating tensors of a model's state, updated every step.

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
        """Raises ValueError for the average of another model."""
        stored = state.get("average")
        if not isinstance(stored, dict) or {k: v.shape for k, v in stored.items()} != {
            k: v.shape for k, v in self.average.items()
        }:
            raise ValueError("the average of the weights is that of another model")
        self.updates = int(state["updates"])
        for key, value in stored.items():
            self.average[key].copy_(value)

    def reset(self) -> None:
        """Start again from the model's present weights."""
        self.updates = 0
        for key, value in self.model.state_dict().items():
            self.average[key].copy_(value)


class UpdateEMA(HookBase):
    """Updates the trainer's `ModelEMA` after every step."""

    def __init__(self, average: ModelEMA) -> None:
        self._average = average

    def after_step(self) -> None:
        self._average.update()
