"""The copy that is evaluated: equal to the model, apart from it, and never stale."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode, get_cfg
from torch import nn

from video_pose.config import add_video_pose_config
from video_pose.modeling import fast_path as fast_path_module
from video_pose.modeling.encode_batch import frames_that_fit
from video_pose.modeling.fast_path import build_fast_path, describe, fast_path
from video_pose.modeling.video_pose_net import VideoPoseNet

Clip = Callable[..., dict[str, Any]]


@pytest.fixture
def cfg() -> CfgNode:
    cfg = get_cfg()
    add_video_pose_config(cfg)
    return cfg


def chunk(clip: Clip, frames: int = 3) -> dict[str, Any]:
    track = {"video_id": "v", "track_id": "0", "is_first": True, "is_last": False}
    return clip(frames) | track | {"frame_indices": torch.arange(frames)}


def poses(model: VideoPoseNet, item: dict[str, Any]) -> torch.Tensor:
    return torch.cat([found.pred_keypoints for found in model([item])[0]["instances"]])


def test_the_model_stays_as_it_was(toy_net: type[VideoPoseNet], clip: Clip) -> None:
    model = toy_net().eval()
    model([chunk(clip)])  # leaves a state between chunks
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fast = fast_path(model)
    fast([chunk(clip)])
    assert len(model._states) == 1 and not fast.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not {p.data_ptr() for p in fast.parameters()} & {
        p.data_ptr() for p in model.parameters()
    }
    model.train()
    fast = fast_path(model)
    assert model.training and all(module.training for module in model.modules())
    sum(model([clip(3)]).values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_states_of_tracks_under_way_are_not_copied(toy_net: type[VideoPoseNet], clip: Clip) -> None:
    model = toy_net().eval()
    model([chunk(clip)])
    following = chunk(clip) | {"is_first": False, "frame_indices": torch.arange(3, 6)}
    with pytest.raises(ValueError, match="no chunk before it"):
        fast_path(model)([following])


def test_a_trained_on_model_is_folded_anew(
    toy_net: type[VideoPoseNet], clip: Clip, cfg: CfgNode
) -> None:
    """A step of training changes weights and running statistics; the next copy has both."""
    model, item = toy_net(), chunk(clip)
    old = build_fast_path(cfg, model)._run_chunk(item, item["image"][None], item["center"][None])
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    sum(model([clip(3)]).values()).backward()
    optimizer.step()
    new = build_fast_path(cfg, model)._run_chunk(item, item["image"][None], item["center"][None])
    assert model.training
    plain = model.eval()._run_chunk(item, item["image"][None], item["center"][None])
    torch.testing.assert_close(new, plain, atol=1e-4, rtol=0)
    assert float((new - old).abs().max()) > 1e-2


def test_the_configuration_switches_it(toy_net: type[VideoPoseNet], cfg: CfgNode) -> None:
    model = toy_net()
    cfg.TEST.PRECISION = "bfloat16"
    fast = build_fast_path(cfg, model)
    assert fast is not model and fast.precision == "bfloat16" and model.precision == "float32"
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    cfg.TEST.FAST = False
    assert build_fast_path(cfg, model) is model
    other = nn.Conv2d(1, 1, 1)  # a model of another kind
    cfg.TEST.FAST = True
    assert build_fast_path(cfg, other) is other


def test_frames_at_once_follow_from_the_largest_map(
    toy_net: type[VideoPoseNet], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The largest map, 4 x 8 x 8 of float32, takes 1024 bytes."""
    images = torch.rand(7, 3, 64, 64)
    expected = fast_path(toy_net()).encode_all(images)
    assert frames_that_fit(toy_net().eval(), (64, 64), 3 * 1024) == 3
    assert frames_that_fit(toy_net().eval(), (128, 64), 3 * 1024) == 1
    for budget, frames in ((3 * 1024, 3), (10**6, 5), (1, 1)):
        limited = partial(frames_that_fit, cache_bytes=budget)
        monkeypatch.setattr(fast_path_module, "frames_that_fit", limited)
        fast = fast_path(toy_net(encode_batch=5), crop_size=(64, 64))
        torch.testing.assert_close(fast.encode_all(images), expected, atol=1e-6, rtol=0)
        assert fast.encode_batch == frames
        assert f"at most {frames} frames encoded at once" in describe(fast)
    assert fast_path(toy_net(encode_batch=5)).encode_batch == 5


def test_frames_are_encoded_in_even_parts(toy_net: type[VideoPoseNet]) -> None:
    model, sizes = toy_net(encode_batch=5).eval(), []
    encode = model.encode
    model.encode = lambda images: (sizes.append(len(images)), encode(images))[1]
    for count in (16, 5, 6, 1, 0):
        assert len(model.encode_all(torch.rand(count, 3, 64, 64))) == count
    assert sizes == [4, 4, 4, 4, 5, 3, 3, 1, 0]


def test_description(toy_net: type[VideoPoseNet]) -> None:
    model = toy_net()
    assert describe(model) == []
    assert describe(fast_path(model))[0].startswith("float32, channels last")
    assert describe(fast_path(model, precision="bfloat16"))[0].startswith("bfloat16, channels last")


@pytest.mark.parametrize("how", ["kernels", "graphs"])
def test_a_compiler_that_fails_is_said_once(
    toy_net: type[VideoPoseNet], how: str, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    calls = []

    def compile_(function: Any, mode: Any) -> Any:
        def fail(*args: Any) -> Any:
            calls.append(mode)
            raise RuntimeError("no compiler\nand a long story")

        return fail

    monkeypatch.setattr(torch, "compile", compile_)
    images = torch.rand(2, 3, 64, 64)
    fast = fast_path(toy_net(), compile=how)
    expected = fast_path(toy_net()).encode(images)
    with caplog.at_level("WARNING", "video_pose.modeling.fast_path"):
        for _ in range(2):
            torch.testing.assert_close(fast.encode(images), expected, atol=1e-5, rtol=1e-5)
    assert calls == [None]  # on this CPU without graphs, and not tried again
    assert [r.message for r in caplog.records if "uncompiled" in r.message] == [
        "TEST.COMPILE: encode runs uncompiled: no compiler"
    ]


def test_a_compiler_that_works_is_used(
    toy_net: type[VideoPoseNet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, mode: lambda *args: function(*args) + 1)
    images = torch.rand(2, 3, 64, 64)
    plain = fast_path(toy_net()).encode(images)
    found = fast_path(toy_net(), compile="kernels").encode(images)
    torch.testing.assert_close(found, plain + 1, atol=1e-5, rtol=1e-5)


def test_unknown_names(toy_net: type[VideoPoseNet]) -> None:
    with pytest.raises(ValueError, match="TEST.COMPILE 'fast': choose from"):
        fast_path(toy_net(), compile="fast")
    with pytest.raises(ValueError, match="precision 'int8'"):
        fast_path(toy_net(), precision="int8")
