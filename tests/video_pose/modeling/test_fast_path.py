"""The copy that is evaluated: equal to the model, apart from it, and never stale."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from video_pose.modeling.backend import ClipInference, TorchBackend, even_parts
from video_pose.modeling.fast_path import Compiled, fast_path
from video_pose.modeling.video_pose_net import VideoPoseNet

Clip = Callable[..., dict[str, Any]]


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


def test_a_trained_on_model_is_folded_anew(toy_net: type[VideoPoseNet], clip: Clip) -> None:
    """A step of training changes weights and running statistics; the next copy has both."""
    model, item = toy_net(), chunk(clip)
    old = poses(fast_path(model), item)
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    sum(model([clip(3)]).values()).backward()
    optimizer.step()
    new = poses(fast_path(model), item)
    assert model.training
    torch.testing.assert_close(new, poses(model.eval(), item), atol=1e-4, rtol=0)
    assert float((new - old).abs().max()) > 1e-2


def test_the_precision_is_the_copys(toy_net: type[VideoPoseNet]) -> None:
    model = toy_net()
    fast = fast_path(model, precision="bfloat16")
    assert fast.precision == "bfloat16" and model.precision == "float32"
    assert not any(isinstance(module, nn.BatchNorm2d) for module in fast.modules())
    assert fast_path(toy_net(precision="bfloat16")).precision == "bfloat16"
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    assert fast.layout == torch.channels_last
    assert not any(isinstance(getattr(fast, name), Compiled) for name in ("encode", "advance"))


def test_weights_lie_as_channels_last(toy_net: type[VideoPoseNet]) -> None:
    model = toy_net()
    model.encoder[0] = nn.Conv2d(3, 4, 3, padding=1)
    weight = fast_path(model).encoder[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    assert model.encoder[0].weight.is_contiguous()


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
    assert caplog.messages[how == "graphs" :] == [
        "TEST.COMPILE: encode runs uncompiled: no compiler"
    ]
    assert isinstance(fast.advance, Compiled) and not fast.advance.graphs


def test_graphs_need_a_gpu(toy_net: type[VideoPoseNet], monkeypatch, caplog) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, mode: function)
    fast_path(toy_net(), compile="kernels")
    assert caplog.messages == []
    fast_path(toy_net(), compile="graphs")
    assert caplog.messages == ["TEST.COMPILE: no CUDA graphs on a CPU, kernels alone are compiled"]


def test_a_compiler_that_gives_no_reason(monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    """Its error's kind is told, and where the function has no name, that it is one."""

    def fail(*args: Any) -> None:
        raise NotImplementedError("\n")

    monkeypatch.setattr(torch, "compile", lambda function, mode: fail)
    compiled = Compiled(partial(max, 3), graphs=False)
    assert compiled(4) == 4 and compiled(2) == 3
    assert caplog.messages == ["TEST.COMPILE: function runs uncompiled: NotImplementedError"]


def test_a_compiler_that_works_is_used(
    toy_net: type[VideoPoseNet], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, mode: lambda *args: function(*args) + 1)
    images = torch.rand(2, 3, 64, 64)
    plain = fast_path(toy_net()).encode(images)
    found = fast_path(toy_net(), compile="kernels").encode(images)
    torch.testing.assert_close(found, plain + 1, atol=1e-5, rtol=1e-5)


def test_unknown_names(toy_net: type[VideoPoseNet]) -> None:
    message = r"TEST.COMPILE 'fast': choose from \('off', 'kernels', 'graphs'\)"
    with pytest.raises(ValueError, match=f"^{message}$"):
        fast_path(toy_net(), compile="fast")
    with pytest.raises(ValueError, match="precision 'int8'"):
        fast_path(toy_net(), precision="int8")


class Pair(NamedTuple):
    maps: torch.Tensor
    cell: torch.Tensor


def test_what_a_graph_gives_is_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call would write over it: tensors, tuples and states, in each other."""
    kept = torch.zeros(2)
    modes, steps = [], []

    def compile_(function: Any, mode: Any) -> Any:
        modes.append(mode)
        return function

    monkeypatch.setattr(torch, "compile", compile_)
    monkeypatch.setattr(
        torch.compiler, "cudagraph_mark_step_begin", lambda: steps.append(1), raising=False
    )
    graphs = Compiled(lambda: (kept, Pair(kept, kept), [kept]), graphs=True)
    one, state, several = graphs()
    kept.fill_(1)
    assert isinstance(state, Pair) and isinstance(several, list)
    assert [t.tolist() for t in (one, *state, *several)] == [[0, 0]] * 4
    assert modes == ["reduce-overhead"] and steps == [1]
    plain = Compiled(lambda: kept, graphs=False)
    assert plain() is kept and modes[1] is None and steps == [1]


def test_too_little_memory_says_nothing_of_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise torch.OutOfMemoryError("no memory")

    monkeypatch.setattr(torch, "compile", lambda function, mode: function)
    compiled = Compiled(fail, graphs=False)
    for _ in range(2):
        with pytest.raises(torch.OutOfMemoryError):
            compiled()
    assert compiled._compiled is not None


def test_what_computes_a_pose_is_said(toy_net: type[VideoPoseNet]) -> None:
    assert TorchBackend(toy_net()).describe() == "PyTorch on cpu, float32"
    assert TorchBackend(toy_net(precision="bfloat16")).describe() == "PyTorch on cpu, bfloat16"


def test_tested_poses_carry_no_gradients(toy_net: type[VideoPoseNet], clip: Clip) -> None:
    """Else a long video's memory would grow."""
    backend = TorchBackend(toy_net())
    for tested in (ClipInference(backend), backend.model):
        found = tested([chunk(clip)])[0]["instances"]
        assert not any(person.pred_keypoints.requires_grad for person in found)
    assert ClipInference(backend).device == backend.device


@pytest.mark.parametrize(
    ("count", "sizes"), [(0, [0]), (1, [1]), (8, [8]), (9, [5, 4]), (17, [6, 6, 5])]
)
def test_images_are_encoded_in_even_parts(count: int, sizes: list[int]) -> None:
    assert [len(part) for part in even_parts(torch.zeros(count, 1))] == sizes
