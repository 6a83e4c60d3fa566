"""Training UniPose and UniPose-LSTM: gradients, frozen encoders, a loss that falls."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from detectron2.modeling import build_model
from torch import nn

FORM = "MODEL.UNIPOSE.LSTM.FORM"
MODELS = {
    "image": ("UniPose", []),
    "paper": ("UniPoseLSTM", [FORM, "paper"]),
    "released": ("UniPoseLSTM", [FORM, "released"]),
}


def batch(clips: int, frames: int, *, visibility: float = 2.0) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(0)
    out = []
    for _ in range(clips):
        keypoints = torch.rand((1, 15, 3), generator=generator) * 48 + 8
        keypoints = keypoints.repeat(frames, 1, 1)
        keypoints[..., 2] = visibility
        shape = (frames, 3, 64, 64)
        out.append(
            {
                "image": torch.randint(256, shape, generator=generator, dtype=torch.uint8),
                "center": torch.full((frames, 2), 32.0),
                "crop_to_image": torch.eye(3)[:2].expand(frames, 2, 3),
                "keypoints": keypoints,
                "is_padding": torch.zeros(frames, dtype=torch.bool),
                "height": 64,
                "width": 64,
            }
        )
    return out


def without_gradient(model: nn.Module) -> list[str]:
    return [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize(("clips", "frames"), [(2, 1), (1, 2), (2, 3)])
def test_every_parameter_gets_a_gradient(tiny_cfg, kind: str, clips: int, frames: int) -> None:
    architecture, options = MODELS[kind]
    model = build_model(tiny_cfg(architecture, *options)).train()
    sum(model(batch(clips, frames)).values()).backward()
    assert without_gradient(model) == []


@pytest.mark.parametrize("kind", MODELS)
def test_a_single_frame_trains_without_norm_of_the_pooled_features(tiny_cfg, kind: str) -> None:
    architecture, options = MODELS[kind]
    cfg = tiny_cfg(architecture, *options, "MODEL.UNIPOSE.WASP.POOL_NORM", False)
    model = build_model(cfg).train()
    sum(model(batch(1, 1)).values()).backward()
    assert without_gradient(model) == []


def test_padding_at_the_end_of_every_clip_leaves_all_gradients(tiny_cfg) -> None:
    model = build_model(tiny_cfg("UniPoseLSTM", FORM, "released")).train()
    clips = batch(2, 3)
    for clip in clips:
        clip["is_padding"][1:] = True
    sum(model(clips).values()).backward()
    assert without_gradient(model) == []


@pytest.mark.parametrize("kind", MODELS)
def test_nothing_labelled_is_zero_with_gradients(tiny_cfg, kind: str) -> None:
    architecture, options = MODELS[kind]
    model = build_model(tiny_cfg(architecture, *options)).train()
    loss = sum(model(batch(2, 2, visibility=0.0)).values())
    loss.backward()
    assert loss.item() == 0
    assert without_gradient(model) == []
    assert all(p.grad.abs().max() == 0 for p in model.parameters())


@pytest.mark.parametrize("kind", MODELS)
def test_the_loss_falls_on_one_batch(tiny_cfg, kind: str) -> None:
    architecture, options = MODELS[kind]
    torch.manual_seed(0)
    model = build_model(tiny_cfg(architecture, *options)).train()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    clips, losses = batch(2, 2), []
    for _ in range(30):
        loss = sum(model(clips).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.75 * losses[0] and losses[-1] < losses[-10]


def test_a_loss_on_the_decoders_maps_has_its_own_name_and_weight(tiny_cfg) -> None:
    key = "MODEL.UNIPOSE.LSTM.DECODER_LOSS_WEIGHT"
    losses = {}
    for weight in (0.0, 1.0, 2.5):
        torch.manual_seed(0)
        model = build_model(tiny_cfg("UniPoseLSTM", key, weight)).train()
        losses[weight] = {name: loss.item() for name, loss in model(batch(2, 2)).items()}
    assert list(losses[0.0]) == ["loss_heatmap"]
    assert losses[1.0]["loss_heatmap"] == pytest.approx(losses[0.0]["loss_heatmap"])
    assert losses[2.5]["loss_decoder"] == pytest.approx(2.5 * losses[1.0]["loss_decoder"])


@pytest.mark.parametrize("form", ["paper", "released"])
def test_a_frozen_encoder_keeps_weights_and_statistics(tiny_cfg, form: str) -> None:
    model = build_model(tiny_cfg("UniPoseLSTM", FORM, form, "MODEL.POSE.ENCODER", "freeze")).train()
    parts = dict(zip(("backbone", "wasp", "decoder"), model.encoder_modules(), strict=True))
    assert model.training and not any(m.training for part in parts.values() for m in part.modules())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    trainable = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trainable, lr=0.1)
    for _ in range(2):
        optimizer.zero_grad()
        sum(model(batch(2, 2)).values()).backward()
        optimizer.step()
    changed = [k for k, value in model.state_dict().items() if not torch.equal(value, before[k])]
    assert changed and not any(key.startswith(tuple(parts)) for key in changed)
    assert without_gradient(model) == []


def test_frozen_maps_are_those_of_inference(tiny_cfg) -> None:
    """Dropout and running statistics of a frozen encoder are off, also in training."""
    options = ["MODEL.POSE.ENCODER", "freeze", "MODEL.UNIPOSE.WASP.DROPOUT", 0.5]
    model = build_model(tiny_cfg("UniPoseLSTM", *options))
    clip = batch(1, 2)[0]
    inputs = clip["image"][None], clip["center"][None]
    trained = model.train().scan(*inputs).heatmaps
    tested = model.eval().scan(*inputs).heatmaps
    torch.testing.assert_close(trained, tested)


def test_bfloat16_autocast_gives_float32_losses_and_finite_gradients(tiny_cfg) -> None:
    for kind in MODELS:
        architecture, options = MODELS[kind]
        torch.manual_seed(0)
        model = build_model(tiny_cfg(architecture, *options)).train()
        exact = sum(model(batch(2, 2)).values()).item()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = sum(model(batch(2, 2)).values())
        loss.backward()
        assert loss.dtype == torch.float32 and loss.item() == pytest.approx(exact, rel=0.02)
        assert all(torch.isfinite(p.grad).all() for p in model.parameters())
