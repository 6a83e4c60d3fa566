"""The running average of weights, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from video_pose.engine.hooks import ModelEMA


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
    other.load_state_dict(average.state_dict())
    assert other.updates == 1 and other.average["weight"].item() == pytest.approx(9.0)
    other.reset()
    assert other.updates == 0 and other.average["weight"].item() == 5.0


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1])
def test_decay_out_of_range(decay: float) -> None:
    with pytest.raises(ValueError, match=f"EMA_DECAY {decay}"):
        ModelEMA(Scalar(0.0), decay)
