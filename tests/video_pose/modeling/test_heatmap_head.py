"""The convolutions after the LSTM: sizes, order and what the last ReLU does."""

from __future__ import annotations

import pytest
import torch

from video_pose.modeling.heatmap_head import HeatmapHead


def test_papers_sizes() -> None:
    head = HeatmapHead(48, 15)
    shapes = [tuple(conv.weight.shape) for conv in head.convolutions()]
    assert shapes == [
        (128, 48, 11, 11),
        (128, 128, 11, 11),
        (128, 128, 11, 11),
        (128, 128, 1, 1),
        (15, 128, 1, 1),
    ]
    assert head(torch.zeros(2, 48, 12, 14)).shape == (2, 15, 12, 14)


def test_the_field_of_view_is_that_of_the_large_convolutions() -> None:
    # Two 5x5 convolutions see 4 cells to each side, the 1x1 ones no further.
    head = HeatmapHead(1, 1, channels=4, kernel_size=5, num_large=2)
    for conv in head.convolutions():
        conv.weight.data.fill_(1.0)
    image = torch.zeros(1, 1, 21, 21)
    image[0, 0, 10, 10] = 1
    rows, columns = (head(image) - head(torch.zeros_like(image)))[0, 0].nonzero().unbind(1)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (6, 14, 6, 14)


def test_the_last_relu_is_optional() -> None:
    x = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    linear = HeatmapHead(3, 5, channels=8, kernel_size=3)
    rectified = HeatmapHead(3, 5, channels=8, kernel_size=3, final_relu=True)
    rectified.load_state_dict(linear.state_dict())  # the same layers under the same names
    assert linear(x).min() < 0
    torch.testing.assert_close(rectified(x), linear(x).clamp(min=0))


def test_initial_maps_are_near_zero() -> None:
    torch.manual_seed(0)
    head = HeatmapHead(16, 14, channels=32, kernel_size=5)
    assert head(torch.rand(2, 16, 10, 10)).abs().max() < 0.5


@pytest.mark.parametrize("wrong", [{"kernel_size": 4}, {"num_large": 0}])
def test_wrong_sizes_are_refused(wrong: dict) -> None:
    key, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{key} {value}"):
        HeatmapHead(3, 5, **wrong)
