"""The running average of weights, by hand; when a run is saved, and what interrupts it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from detectron2.utils import comm
from torch import nn

from video_pose.engine import hooks
from video_pose.engine.hooks import ModelEMA, ResumableCheckpoints
from video_pose.engine.launch import HANGUP, INTERRUPTS, REQUEST


class Scalar(nn.Module):
    """A weight, a running statistic and a counter."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value]))
        self.register_buffer("mean", torch.tensor([value]))
        self.register_buffer("count", torch.tensor(0))

    def set(self, value: float, count: int) -> None:
        with torch.no_grad():
            self.weight.fill_(value)
            self.mean.fill_(value)
            self.count.fill_(count)


def test_update_by_hand() -> None:
    model = Scalar(0.0)
    average = ModelEMA(model, decay=0.25)
    model.set(11.0, 3)
    average.update()  # min(.25, 2 / 11) = 2/11 of the old 0, 9/11 of 11
    assert average.average["weight"].item() == pytest.approx(9.0)
    assert average.average["mean"].item() == pytest.approx(9.0)
    assert average.average["count"].item() == 3  # counters are copied
    model.set(1.0, 4)
    average.update()  # 3 / 12 = .25, from now on the decay itself
    assert average.average["weight"].item() == pytest.approx(0.25 * 9 + 0.75 * 1)
    average.update()
    assert average.average["weight"].item() == pytest.approx(0.25 * 3 + 0.75 * 1)


def test_the_average_follows_closely_at_first() -> None:
    """After n updates of constant weights the share of the initial ones is the product of the
    decays 2/11, 3/12, 4/13 and so on, until they come to the decay that was asked for."""
    model = Scalar(1.0)
    average = ModelEMA(model, decay=0.5)
    model.set(0.0, 1)
    left = 1.0
    for decay in (2 / 11, 3 / 12, 4 / 13, 5 / 14, 6 / 15, 7 / 16, 8 / 17, 9 / 18, 0.5, 0.5):
        average.update()
        left *= decay
        assert average.average["weight"].item() == pytest.approx(left, rel=1e-5)
    assert average.updates == 10


def test_a_model_without_counters_is_averaged_too() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    average = ModelEMA(model, decay=0.25)
    nn.init.constant_(model.weight, 11.0)
    average.update()
    assert average.average["weight"].item() == pytest.approx(9.0)


def test_the_model_has_averaged_weights_within_the_block_only() -> None:
    model = Scalar(0.0)
    average = ModelEMA(model, decay=0.9)
    model.set(11.0, 3)
    average.update()
    with average.applied():
        assert model.weight.item() == model.mean.item() == pytest.approx(9.0)
        model.set(-1.0, 9)  # whatever happens inside is undone, and the average is not touched
    assert model.weight.item() == 11.0 and model.count.item() == 3
    assert average.average["weight"].item() == pytest.approx(9.0)
    with pytest.raises(RuntimeError), average.applied():
        raise RuntimeError
    assert model.weight.item() == 11.0


def test_state_goes_round() -> None:
    model = Scalar(0.0)
    average = ModelEMA(model, decay=0.9)
    model.set(11.0, 3)
    average.update()
    other = ModelEMA(Scalar(5.0), decay=0.9)
    state = average.state_dict()
    assert state == {"updates": 1, "average": average.average}
    other.load_state_dict(state)
    assert other.updates == 1 and other.average["weight"].item() == pytest.approx(9.0)
    other.reset()
    assert other.updates == 0 and other.average["weight"].item() == 5.0
    assert average.average["weight"].item() == pytest.approx(9.0), "it is another's"


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1])
def test_decay_out_of_range(decay: float) -> None:
    with pytest.raises(ValueError, match=f"EMA_DECAY {decay}"):
        ModelEMA(Scalar(0.0), decay)


@pytest.fixture(autouse=True)
def hangup_is_not_ignored() -> Iterator[None]:
    """Also where the tests run under nohup."""
    before = signal.signal(HANGUP, signal.SIG_DFL)
    yield
    signal.signal(HANGUP, before)


class Saves:
    """A trainer and its checkpointer: names and iterations of what was saved."""

    def __init__(self, period: int = 0, seconds: float = 0.0, max_iter: int = 10) -> None:
        self.saved: list[tuple[str, int]] = []
        self.final = self.checked = 0
        self.iter, self.max_iter = 0, max_iter
        self.hook = ResumableCheckpoints(self, period=period, seconds=seconds)
        self.hook.trainer = self

    def save(self, name: str, iteration: int) -> None:
        self.saved.append((name, iteration))

    def save_final(self, checkpointer: object) -> None:
        assert checkpointer is self
        self.final += 1

    def check_pending_losses(self) -> None:
        self.checked += 1

    def run(self, interrupt_at: int = -1) -> Saves:
        self.hook.before_train()
        try:
            for step in range(self.max_iter):
                self.iter = step
                if self.iter == interrupt_at:
                    signal.raise_signal(signal.SIGTERM)
                self.hook.after_step()
            self.iter += 1
        finally:
            self.hook.after_train()
        return self


@pytest.mark.parametrize(
    ("period", "names"),
    [
        (0, []),
        (4, [("model_0000003", 3), ("model_0000007", 7)]),
        (5, [("model_0000004", 4)]),  # the tenth is the final one
        (1, [(f"model_{i:07d}", i) for i in range(9)]),
        (20, []),
    ],
)
def test_checkpoints_of_a_period(period: int, names: list) -> None:
    done = Saves(period).run()
    assert done.saved == names and done.final == 1 and done.checked == len(names)


def test_checkpoints_by_the_clock(monkeypatch) -> None:
    """A step a second, a save when more than 3 s have gone; a period's save starts the clock."""
    clock = iter(range(1000))
    monkeypatch.setattr(hooks, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    assert Saves(seconds=2.5, max_iter=9).run().saved == [("model_resume", 2), ("model_resume", 5)]
    assert Saves(seconds=0.0).run().saved == []
    assert Saves(4, seconds=1e9).run().saved == [("model_0000003", 3), ("model_0000007", 7)]


def test_an_interrupt_saves_and_ends() -> None:
    before = signal.getsignal(signal.SIGTERM)
    run = Saves(period=4)
    with pytest.raises(KeyboardInterrupt):
        run.run(interrupt_at=5)
    assert run.saved == [("model_0000003", 3), ("model_resume", 5)] and run.final == 0
    assert signal.getsignal(signal.SIGTERM) is before
    last = Saves()
    with pytest.raises(KeyboardInterrupt):  # when all is done, there is nothing to go on with
        last.run(interrupt_at=9)
    assert last.saved == [] and last.final == 1


@pytest.mark.parametrize(
    ("number", "after", "stops"),
    [
        (signal.SIGINT, 0.5, False),
        (signal.SIGINT, 1.0, False),
        (signal.SIGINT, 1.5, True),
        (signal.SIGTERM, 1.5, True),
        (REQUEST, 1.5, False),
    ],
)
def test_a_second_interrupt_ends_at_once(monkeypatch, number, after: float, stops: bool) -> None:
    """Within a second it is the same one; a request never ends at once."""
    now = [100.0]
    monkeypatch.setattr(hooks, "time", SimpleNamespace(monotonic=lambda: now[0]))
    run = Saves()
    run.hook.before_train()
    try:
        run.hook._handle(signal.SIGTERM, None)
        now[0] += after
        if stops:
            with pytest.raises(KeyboardInterrupt):
                run.hook._handle(number, None)
        else:
            run.hook._handle(number, None)
    finally:
        run.hook.after_train()


@pytest.mark.parametrize("other", [-1, 1])
def test_a_loaders_worker_and_a_program_of_nohup_are_left_alone(monkeypatch, other: int) -> None:
    before = signal.signal(HANGUP, signal.SIG_IGN)
    try:
        run = Saves()
        run.hook.before_train()
        assert signal.getsignal(HANGUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == run.hook._handle
        monkeypatch.setattr(run.hook, "_process", os.getpid() + other)
        run.hook._handle(signal.SIGTERM, None)
        assert not run.hook._interrupted
        run.hook.after_train()
    finally:
        signal.signal(HANGUP, before)


def test_another_hooks_error_before_training_is_the_one_that_shows() -> None:
    """Detectron2 calls ``after_train`` of all hooks then; a complete run resumed has its model."""
    run = Saves(max_iter=3)
    run.iter = 3
    run.hook.after_train()
    assert run.final == 1 and not run.saved


def test_ranks_agree_every_ten_steps_and_at_the_last(monkeypatch) -> None:
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "all_gather", lambda value: [value, True])
    run = Saves(max_iter=25)
    asked = []
    run.hook.before_train()
    for run.iter in range(25):
        asked.append(run.hook._any_rank_interrupted(is_last=run.iter == 24))
    run.hook.after_train()
    assert [i for i, value in enumerate(asked) if value] == [0, 10, 20, 24]


def test_an_interrupt_of_another_rank_ends_all(monkeypatch, caplog) -> None:
    """One that came since the tenth step is noticed at the twentieth, or at the last."""
    waited: list[bool] = []
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "synchronize", lambda: waited.append(True))
    for steps, saved, final, said in (
        (25, [("model_resume", 20)], 0, "after 21 iterations; --resume continues from here"),
        (15, [], 1, "when training was over; --eval-only evaluates the model"),
    ):
        run = Saves(max_iter=steps)
        monkeypatch.setattr(comm, "all_gather", lambda value, run=run: [value, run.iter > 10])
        caplog.clear()
        with caplog.at_level("INFO", "video_pose.engine.hooks"), pytest.raises(KeyboardInterrupt):
            run.run()
        assert run.saved == saved and run.final == final and run.iter == min(steps, 20)
        assert [record.getMessage() for record in caplog.records] == [f"Interrupted {said}"]
    assert waited == [True, True]


def test_one_line_says_that_a_run_will_end(monkeypatch, capfd: pytest.CaptureFixture) -> None:
    """On the terminal, past the log, of the first process alone."""
    for is_first in (True, False):
        monkeypatch.setattr(comm, "is_main_process", lambda is_first=is_first: is_first)
        run = Saves()
        run.hook.before_train()
        for _ in range(2):  # as a service manager's arrives twice
            run.hook._handle(signal.SIGTERM, None)
        run.hook.after_train()
        line = "Interrupt: finishing this step and saving (once more to stop at once)\n"
        assert capfd.readouterr().err == (line if is_first else "")


@pytest.mark.parametrize(
    ("number", "ignored", "taken"),
    [
        (HANGUP, False, True),
        (HANGUP, True, False),  # nohup's
        (signal.SIGTERM, True, True),
        (REQUEST, False, True),
    ],
)
def test_which_signals_a_run_takes(number: int, ignored: bool, taken: bool) -> None:
    own = signal.SIG_IGN if ignored else signal.SIG_DFL
    before = signal.signal(number, own)
    run = Saves()
    try:
        run.hook.before_train()
        assert (signal.getsignal(number) == run.hook._handle) is taken
        others = [signal.getsignal(other) for other in INTERRUPTS if other != number]
        assert others == [run.hook._handle] * 3
        run.hook.after_train()
        assert signal.getsignal(number) == own
    finally:
        signal.signal(number, before)


def test_a_run_that_an_error_ends_has_no_final_model() -> None:
    run = Saves(max_iter=10)
    run.hook.before_train()
    run.iter = 9  # the last step, which was not finished
    run.hook.after_train()
    assert run.final == 0


def test_a_second_training_of_a_run_begins_without_an_interrupt(monkeypatch) -> None:
    run = Saves(max_iter=3)
    with pytest.raises(KeyboardInterrupt):
        run.run(interrupt_at=2)
    assert run.run().final == 2
    assert run.saved == []


def test_a_save_by_the_clock_waits_until_more_than_its_seconds_have_gone(monkeypatch) -> None:
    """The clock stands at 0, 3 and 3.5 s; every three seconds."""
    times = iter([0.0, 3.0, 3.5, 3.5])
    monkeypatch.setattr(hooks, "time", SimpleNamespace(monotonic=lambda: next(times)))
    assert Saves(seconds=3.0, max_iter=3).run().saved == [("model_resume", 1)]


def test_an_average_of_another_model_is_refused() -> None:
    average = ModelEMA(Scalar(0.0), 0.5)
    for state in ({"average": {"weight": torch.zeros(1)}}, {"average": 3}, {}):
        with pytest.raises(ValueError, match="the average of the weights is that of another model"):
            average.load_state_dict({"updates": 1, **state})
    assert average.updates == 0


def test_a_run_in_a_thread_leaves_signals_to_the_program() -> None:
    before = signal.getsignal(signal.SIGTERM)
    found: list[Saves] = []
    thread = threading.Thread(target=lambda: found.append(Saves(period=4).run()))
    thread.start()
    thread.join()
    assert found[0].final == 1 and len(found[0].saved) == 2
    assert signal.getsignal(signal.SIGTERM) is before
