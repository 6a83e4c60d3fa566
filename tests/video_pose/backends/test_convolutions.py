"""Which large convolutions take the frequency form, and that a network with them is the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode

from video_pose.backends import convolutions, pose
from video_pose.backends.convolutions import large_convolutions, replace_large
from video_pose.modeling.backend import PoseBackend, TorchBackend
from video_pose.modeling.frequency_conv import FrequencyConv2d

CROP = (64, 64)
OPTIONS = (
    "INPUT.CROP_SIZE", CROP, "MODEL.LSTM_PM.STEM.CHANNELS", [32, 32, 32],
    "MODEL.LSTM_PM.STEM.KERNEL", 9, "MODEL.LSTM_PM.INITIAL.KERNEL", 3,
    "MODEL.LSTM_PM.HEAD.KERNEL", 3, "TEST.PRECISION", "float32",
)  # fmt: skip
STEMS = {f"convnet{net}.conv{i}" for net in (1, 2) for i in (2, 3)}
MakeCfg = Callable[..., CfgNode]
MakeBackend = Callable[[CfgNode], TorchBackend]


@pytest.fixture
def reference(pose_cfg: MakeCfg, build_backend: MakeBackend) -> TorchBackend:
    return build_backend(pose_cfg("lstm_pm", *OPTIONS))


def say(monkeypatch: pytest.MonkeyPatch, direct: float, frequency: float) -> list[object]:
    asked: list[object] = []

    def times(conv: torch.nn.Conv2d, shape: tuple[int, ...], precision: str) -> tuple[float, float]:
        asked.append((shape, precision))
        return direct, frequency

    monkeypatch.setattr(convolutions, "_time_both", times)
    return asked


@pytest.mark.parametrize(
    ("frequency", "expected"), [(0.5, STEMS), (0.95, set()), (2.0, set())],
    ids=["faster", "too little", "slower"],
)  # fmt: skip
def test_what_is_replaced(
    reference: TorchBackend,
    monkeypatch: pytest.MonkeyPatch,
    frequency: float,
    expected: set[str],
) -> None:
    """Those of 9 cells and 32 channels; the first one has 3. Each shape is timed once."""
    model = reference.model
    assert set(large_convolutions(model)) == STEMS
    asked = say(monkeypatch, 1.0, frequency)
    assert set(replace_large(model, crop_size=CROP, precision="bfloat16")) == expected
    assert asked == [((1, 32, 32, 32), "bfloat16"), ((1, 32, 16, 16), "bfloat16")]
    changed = {n for n, module in model.named_modules() if isinstance(module, FrequencyConv2d)}
    assert changed == expected


def test_a_small_share_is_not_worth_it(
    reference: TorchBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With large convolutions for a part of the work, no time of theirs gives 1.3 of the whole."""
    monkeypatch.setattr(convolutions, "WORTH", 50.0)
    asked = say(monkeypatch, 1.0, 0.0)
    assert replace_large(reference.model, crop_size=CROP, precision="float32") == []
    assert asked == []


@torch.no_grad()
def test_a_network_with_them_is_the_same(
    pose_cfg: MakeCfg,
    reference: TorchBackend,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """By OpenVINO; frames together give what single ones do, bit by bit."""
    pytest.importorskip("openvino")
    monkeypatch.setenv("VIDEO_POSE_CACHE", str(tmp_path))
    direct, frequency = convolutions._time_both(
        reference.model.convnet2.conv3,
        (1, 32, 16, 16),
        "float32",  # type: ignore[arg-type]
    )
    assert direct > 0 and frequency > 0
    say(monkeypatch, 1.0, 0.5)
    cfg = pose_cfg("lstm_pm", *OPTIONS)
    backend = pose.build_backend(cfg, reference.model, "openvino")
    assert set(large_convolutions(reference.model)) == STEMS, "the user's model has changed"
    images = torch.randint(256, (3, 3, *CROP), dtype=torch.uint8)
    maps, plain = maps_of(backend, images), maps_of(reference, images)
    assert float(plain.std()) > 1e-3
    torch.testing.assert_close(maps, plain, atol=1e-3, rtol=0)
    _, together = backend.encode(images)
    alone = torch.cat([backend.encode(image[None])[1] for image in images])
    assert torch.equal(together, alone)
    (folder,) = tmp_path.iterdir()
    half = pose_cfg("lstm_pm", *OPTIONS[:-1], "bfloat16")
    pose.build_backend(half, reference.model, "openvino")
    assert len(list(tmp_path.iterdir())) == 2, "each precision has graphs of its own"


def maps_of(backend: PoseBackend, images: torch.Tensor) -> torch.Tensor:
    prepared, features = backend.encode(images)
    middle = torch.tensor([[32.0, 32.0]]).expand(len(images), 2)
    center = backend.center_map(middle, CROP, training=False)
    return backend.advance(features, center, backend.begin(prepared, features))[0]
