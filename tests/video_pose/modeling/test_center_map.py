"""Centre maps: sizes of both poolings and values by explicit loops."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg

from video_pose.config import add_video_pose_config
from video_pose.modeling.center_map import CenterMap

UNIPOSE = {"sigma": 3.0, "threshold": 0.0099, "padding": 1, "ceil": False}
LSTM_PM = {"sigma": 21.0, "threshold": 0.01, "padding": 0, "ceil": True}


def pooled_by_hand(
    peak: tuple[int, int], side: int, sigma: float, threshold: float, padding: int, cells: int
) -> np.ndarray:
    """(cells, cells) for a square crop, one window at a time; ``peak`` is (x, y), discrete px.

    A window that reaches over the padded crop is cut there and divided by what is left of it.
    """
    y, x = np.mgrid[:side, :side]
    full = np.exp(-((x - peak[0]) ** 2 + (y - peak[1]) ** 2) / (2 * sigma**2))
    full[full < threshold] = 0
    full = np.pad(full, padding)
    out = np.zeros((cells, cells))
    for i in range(cells):
        for j in range(cells):
            out[i, j] = full[8 * i : 8 * i + 9, 8 * j : 8 * j + 9].mean()
    return out


@pytest.mark.parametrize("side", [368, 256, 128])
@pytest.mark.parametrize("form", [UNIPOSE, LSTM_PM], ids=["unipose", "lstm_pm"])
def test_values(form: dict, side: int) -> None:
    center = torch.tensor([[side / 2, side / 2]])
    maps = CenterMap(**form)(center, (side, side), training=True)
    cells = side // 8
    assert maps.shape == (1, 1, cells, cells)  # 46, 32, 16
    # The centre of 368 px is the continuous 184, drawn at discrete pixel 183.
    peak = (side // 2 - 1, side // 2 - 1)
    expected = pooled_by_hand(peak, side, form["sigma"], form["threshold"], form["padding"], cells)
    torch.testing.assert_close(maps[0, 0].numpy(), expected.astype(np.float32), atol=1e-6, rtol=0)


def test_peak_of_a_wide_gaussian() -> None:
    # LSTM Pose Machines: the windows of cells 22 and 23 are px 176-184 and 184-192; the peak, 183,
    # lies in the first. The map's maximum is its mean over dx = -7..1 of exp(-dx^2 / 882), squared.
    maps = CenterMap(**LSTM_PM)(torch.tensor([[184.0, 184.0]]), (368, 368), training=True)[0, 0]
    row = sum(np.exp(-(d**2) / 882) for d in range(-7, 2)) / 9
    assert maps.max().item() == pytest.approx(row**2, abs=1e-6)
    assert divmod(maps.argmax().item(), 46) == (22, 22)


def test_centres_of_a_batch_keep_their_order() -> None:
    draw = CenterMap(**LSTM_PM)
    centers = torch.tensor([[100.0, 40.0], [20.0, 90.0], [100.4, 40.4], [60.0, 64.0]])
    maps = draw(centers, (128, 128), training=True)
    assert maps.shape == (4, 1, 16, 16)
    for center, got in zip(centers, maps, strict=True):
        torch.testing.assert_close(got, draw(center[None], (128, 128), training=True)[0])
    # x is the column: (100, 40) lies in cells of column 12, row 4.
    assert divmod(maps[0, 0].argmax().item(), 16) == (4, 12)
    torch.testing.assert_close(maps[0], maps[2])  # the same discrete pixel
    assert (maps[0] - maps[1]).abs().max() > 0.5


def test_oblong_crops() -> None:
    maps = CenterMap(**UNIPOSE)(torch.tensor([[128.0, 64.0]]), (128, 256), training=True)
    assert maps.shape == (1, 1, 16, 32)


def test_the_threshold_may_hold_in_training_only() -> None:
    center = torch.tensor([[64.0, 64.0]])
    draw = CenterMap(sigma=15.0, threshold=0.01, threshold_in_test=False)
    cut, whole = (draw(center, (128, 128), training=t)[0, 0, 0, 0] for t in (True, False))
    assert cut == 0 and whole > 0
    always = CenterMap(sigma=15.0, threshold=0.01)
    assert always(center, (128, 128), training=False)[0, 0, 0, 0] == 0


def test_a_centre_outside_the_crop_is_drawn_as_far_as_it_reaches() -> None:
    maps = CenterMap(**LSTM_PM)(
        torch.tensor([[-10.0, 64.0], [-900.0, 64.0]]), (128, 128), training=True
    )
    assert 0 < maps[0].max() < 1 and maps[0, 0].argmax().item() % 16 == 0
    assert maps[1].max() == 0


def test_from_config() -> None:
    cfg = get_cfg()
    add_video_pose_config(cfg)
    node = cfg.MODEL.POSE.CENTER_MAP
    node.SIGMA, node.THRESHOLD, node.THRESHOLD_IN_TEST = 3.0, 0.0099, False
    node.POOL_KERNEL, node.POOL_PADDING, node.POOL_CEIL = 7, 0, True
    cfg.MODEL.POSE.HEATMAP.STRIDE = 4
    built = CenterMap.from_config(cfg)
    assert (built.sigma, built.threshold, built.threshold_in_test) == (3.0, 0.0099, False)
    assert (built.kernel, built.stride, built.padding, built.ceil) == (7, 4, 0, True)
