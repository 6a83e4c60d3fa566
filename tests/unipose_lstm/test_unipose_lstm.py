"""UniPose-LSTM: both forms against their equations, and the same numbers however a track is cut."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from detectron2.modeling import build_model
from torch import Tensor

from unipose_lstm.unipose_lstm import UniPoseLSTM, UniPoseLSTMState
from video_pose.modeling.backend import TorchBackend, run_chunk
from video_pose.modeling.states import append_rows, select_rows

SIDE = 64
FORMS = {
    "image": ("UniPose", []),
    "paper": ("UniPoseLSTM", ["MODEL.UNIPOSE.LSTM.FORM", "paper"]),
    "residual": ("UniPoseLSTM", ["MODEL.UNIPOSE.LSTM.RESIDUAL", True]),
    "released": ("UniPoseLSTM", ["MODEL.UNIPOSE.LSTM.FORM", "released"]),
}


def build(tiny_cfg, form: str, *options: Any):
    """A model whose outputs are of order 1, its running statistics not the initial ones."""
    architecture, keys = FORMS[form]
    torch.manual_seed(0)
    model = build_model(tiny_cfg(architecture, *keys, *options))
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.startswith(("cell", "first_cell", "head", "decoder.predict")):
                fan_in = max(parameter[0].numel(), 1)
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(noise * (fan_in**-0.5 if parameter.dim() > 1 else 0.3))
    return model.eval()


def video(frames: int, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = (frames, 3, SIDE, SIDE)
    return {
        "image": torch.randint(256, shape, generator=generator, dtype=torch.uint8),
        "center": torch.rand((frames, 2), generator=generator) * SIDE,
        "crop_to_image": torch.eye(3)[:2].expand(frames, 2, 3),
    }


def chunks(clip: dict[str, Tensor], length: int) -> list[dict[str, Any]]:
    total = len(clip["image"])
    return [
        {key: value[at : at + length] for key, value in clip.items()}
        | {
            "frame_indices": torch.arange(at, min(at + length, total)),
            "is_first": at == 0,
            "is_last": at + length >= total,
            "video_id": "v", "track_id": "0", "height": SIDE, "width": SIDE,
        }
        for at in range(0, total, length)
    ]  # fmt: skip


@torch.no_grad()
def run_chunks(model, clip: dict[str, Tensor], length: int) -> Tensor:
    """(T, C, h, w), by the code that `forward` runs."""
    parts = chunks(clip, length)
    backend = TorchBackend(model)
    return torch.cat(
        [
            run_chunk(backend, model._states, p, p["image"][None], p["center"][None])[0]
            for p in parts
        ]
    )


@torch.no_grad()
def offline(model, clip: dict[str, Tensor]) -> Tensor:
    """(T, C, h, w) of the whole track in one scan, as in training."""
    return model.scan(clip["image"][None], clip["center"][None]).heatmaps[0]


@torch.no_grad()
def inputs(model, clip: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Normalised images, decoder maps and centre maps of a clip."""
    images = model.normalize(clip["image"])
    centers = model.center_map(clip["center"], (SIDE, SIDE), training=False)
    return images, model.encode(images), centers


@pytest.mark.parametrize("form", FORMS)
def test_whole_chunked_and_frame_by_frame_agree(tiny_cfg, form: str) -> None:
    model = build(tiny_cfg, form)
    clip = video(7)
    whole = offline(model, clip)
    assert whole.std() > 0.01  # maps worth comparing
    for length in (1, 2, 3, 7, 16):
        torch.testing.assert_close(run_chunks(model, clip, length), whole, atol=1e-4, rtol=0)
    images, features, centers = inputs(model, clip)
    with torch.no_grad():
        state = model.begin(images[:1], features[:1])
        for t in range(7):
            # One frame through the encoder at a time: nothing may depend on its batch.
            alone = model.encode(images[t : t + 1])
            maps, state = model.advance(alone, centers[t : t + 1], state)
            torch.testing.assert_close(maps[0], whole[t], atol=1e-4, rtol=0)


@pytest.mark.parametrize("form", FORMS)
def test_rows_of_different_age_share_a_batch(tiny_cfg, form: str) -> None:
    """Person 1 appears at frame 2 and stays; person 0 leaves after frame 3."""
    model = build(tiny_cfg, form)
    people = [video(4, seed=1), video(4, seed=2)]
    whole = [offline(model, clip) for clip in people]
    (images, features, centers) = zip(*(inputs(model, clip) for clip in people), strict=True)
    with torch.no_grad():
        state = model.begin(images[0][:1], features[0][:1])
        for frame in range(6):
            if frame == 2:
                state = append_rows([state, model.begin(images[1][:1], features[1][:1])])
            if frame == 4:
                state = select_rows(state, [1])
            present = [(0, frame)] * (frame < 4) + [(1, frame - 2)] * (frame >= 2)
            maps, state = model.advance(
                torch.stack([features[p][t] for p, t in present]),
                torch.stack([centers[p][t] for p, t in present]),
                state,
            )
            for row, (p, t) in zip(maps, present, strict=True):
                torch.testing.assert_close(row, whole[p][t], atol=1e-4, rtol=0)


def test_memory_matters(tiny_cfg) -> None:
    """The second frame's maps depend on the first frame, and with RESET_EVERY 1 they do not."""
    for form in ("paper", "residual", "released"):
        model = build(tiny_cfg, form)
        clip, other = video(2), video(2, seed=5)
        other = {key: torch.cat([other[key][:1], clip[key][1:]]) for key in clip}
        assert (run_chunks(model, clip, 2)[1] - run_chunks(model, other, 2)[1]).abs().max() > 1e-3
        model.reset_every = 1
        torch.testing.assert_close(run_chunks(model, clip, 2)[1], run_chunks(model, other, 2)[1])


@pytest.mark.parametrize("length", [1, 2, 5])
def test_reset_every_counts_from_the_tracks_start(tiny_cfg, length: int) -> None:
    model = build(tiny_cfg, "paper", "TEST.RESET_EVERY", 3)
    clip = video(7)
    got = run_chunks(model, clip, length)
    for start in (0, 3, 6):
        part = {key: value[start : start + 3] for key, value in clip.items()}
        torch.testing.assert_close(got[start : start + 3], offline(model, part), atol=1e-4, rtol=0)


def gate(cell, name: str, x: Tensor, hidden: Tensor) -> Tensor:
    return F.conv2d(x, cell.x[name].weight, cell.x[name].bias, padding=1) + F.conv2d(
        hidden, cell.h[name].weight, cell.h[name].bias, padding=1
    )


def head(model, hidden: Tensor, last_relu: bool) -> Tensor:
    *inner, last = model.head.convolutions()
    for conv in inner:
        hidden = F.relu(F.conv2d(hidden, conv.weight, conv.bias, padding=conv.kernel_size[0] // 2))
    maps = F.conv2d(hidden, last.weight, last.bias)
    return F.relu(maps) if last_relu else maps


@pytest.mark.parametrize("residual", [False, True])
def test_paper_form_by_hand(tiny_cfg, residual: bool) -> None:
    model = build(tiny_cfg, "residual" if residual else "paper")
    clip = video(3)
    _, features, centers = inputs(model, clip)
    channels = features.shape[1]
    assert model.cell.hidden_channels == 2 * channels + 1 == 2 * 15 + 3
    got = offline(model, clip)
    previous = features[:1]  # of the first frame: its own decoder maps
    hidden = memory = torch.zeros(1, 2 * channels + 1, 8, 8)
    with torch.no_grad():
        for t in range(3):
            x = torch.cat([features[t : t + 1], previous, centers[t : t + 1]], 1)
            g, f, i, o = (gate(model.cell, name, x, hidden) for name in "gfio")
            memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
            hidden = o.sigmoid() * memory.tanh()
            previous = head(model, hidden, last_relu=False)
            if residual:
                previous = previous + features[t : t + 1]
            torch.testing.assert_close(got[t], previous[0], atol=1e-5, rtol=1e-4)


def test_released_form_by_hand(tiny_cfg) -> None:
    model = build(tiny_cfg, "released")
    clip = video(3)
    _, features, centers = inputs(model, clip)
    assert model.cell.hidden_channels == features.shape[1] + 1
    got = offline(model, clip)
    with torch.no_grad():
        for t in range(3):
            x = torch.cat([features[t : t + 1], centers[t : t + 1]], 1)
            if t == 0:
                own = model.first_cell.x
                g, i, o = (F.conv2d(x, own[k].weight, own[k].bias, padding=1) for k in "gio")
                memory = (g.tanh() * i.sigmoid()).tanh()
                hidden = o.sigmoid() * memory
            else:
                g, f, i, o = (gate(model.cell, name, x, hidden) for name in "gfio")
                memory = f.sigmoid() * memory + i.sigmoid() * g.tanh()
                hidden = o.sigmoid() * memory.tanh()
            torch.testing.assert_close(
                got[t], head(model, hidden, last_relu=True)[0], atol=1e-5, rtol=1e-4
            )
    assert got.min() == 0


def test_the_forget_gates_bias_is_the_paper_forms(tiny_cfg) -> None:
    paper = build_model(tiny_cfg("UniPoseLSTM", "MODEL.UNIPOSE.LSTM.FORGET_BIAS", 1.5))
    released = build_model(tiny_cfg("UniPoseLSTM", "MODEL.UNIPOSE.LSTM.FORM", "released"))
    assert paper.cell.x["f"].bias.unique().tolist() == [1.5]
    assert released.cell.x["f"].bias.unique().tolist() == [0.0]


@pytest.mark.parametrize("form", ["image", "paper", "released"])
def test_bfloat16_inference_is_close(tiny_cfg, form: str) -> None:
    clip = video(4)
    exact = run_chunks(build(tiny_cfg, form), clip, 2)
    rough = run_chunks(build(tiny_cfg, form, "TEST.PRECISION", "bfloat16"), clip, 2)
    assert rough.dtype == torch.float32 and not torch.equal(rough, exact)
    assert (rough - exact).abs().mean() < 0.05 * exact.abs().mean()


def test_a_chunk_out_of_order_is_refused(tiny_cfg) -> None:
    model = build(tiny_cfg, "paper")
    first, _, third = chunks(video(6), 2)
    model([first])
    with pytest.raises(ValueError, match="video 'v'.*frame 4, frame 2 expected"):
        model([third])


def test_state_is_a_named_tuple_of_rows(tiny_cfg) -> None:
    model = build(tiny_cfg, "paper")
    images, features, centers = inputs(model, video(3))
    state = model.begin(images, features)
    assert isinstance(state, UniPoseLSTMState)
    assert {len(tensor) for tensor in state} == {3} and state.fresh.shape == (3, 1, 1, 1)
    assert state.fresh.min() == 1
    with torch.no_grad():
        maps, after = model.advance(features, centers, state)
    assert after.fresh.max() == 0 and after.heatmaps is maps
    assert state.fresh.min() == 1  # the old state is a value, not overwritten


def test_a_first_cell_belongs_to_the_released_form_alone(tiny_cfg) -> None:
    model = build(tiny_cfg, "paper")
    arguments = UniPoseLSTM.from_config(tiny_cfg("UniPoseLSTM"))
    with pytest.raises(ValueError, match="released form, and it alone"):
        UniPoseLSTM(**(arguments | {"form": "released"}))
    assert model.first_cell is None
