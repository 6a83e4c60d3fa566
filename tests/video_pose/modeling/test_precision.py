"""Which format a device computes in."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from video_pose.modeling import precision
from video_pose.modeling.precision import (
    check_precision,
    inference_autocast,
    inference_dtype,
    training_dtype,
)

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_training_formats() -> None:
    assert training_dtype("auto", CUDA) == torch.float16
    assert training_dtype("bfloat16", CUDA) == training_dtype("bfloat16", CPU) == torch.bfloat16
    assert training_dtype("float16", CUDA) == torch.float16
    message = "SOLVER.AMP.PRECISION float16 needs a GPU; a CPU trains in bfloat16"
    with pytest.raises(ValueError, match=f"^{message}$"):
        training_dtype("float16", CPU)
    message = "SOLVER.AMP.PRECISION 'fp8': choose from auto, bfloat16, float16"
    for device in (CPU, CUDA):
        with pytest.raises(ValueError, match=f"^{message}$"):
            training_dtype("fp8", device)


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Makes the CPU one with these instructions and seconds a convolution."""

    def make(instructions: set[str], float32: float = 1.0, bfloat16: float = 1.0) -> None:
        capabilities = dict.fromkeys(instructions, True)
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
        seconds = {torch.float32: float32, torch.bfloat16: bfloat16}
        monkeypatch.setattr(precision, "_time_convolution", seconds.__getitem__)
        precision.bfloat16_is_faster.cache_clear()

    yield make
    precision.bfloat16_is_faster.cache_clear()


@pytest.mark.parametrize(
    ("instructions", "float32", "bfloat16", "expected"),
    [
        (set(), 9.0, 1.0, None),
        ({"avx512_bf16"}, 1.3, 1.0, torch.bfloat16),
        ({"bf16"}, 1.3, 1.0, torch.bfloat16),  # as ARM calls it
        ({"avx512_bf16"}, 1.1, 1.0, None),  # an emulation, or not worth its rounding
        ({"avx512_bf16"}, 1.2, 1.0, None),
        ({"avx2"}, 9.0, 1.0, None),
        ({"amx_bf16"}, 1.0, 9.0, torch.bfloat16),
        ({"avx512_bf16", "amx_bf16"}, 1.0, 9.0, torch.bfloat16),  # matrix units: nothing is timed
    ],
)
def test_auto_takes_bfloat16_where_it_is_faster(
    cpu: Callable[..., None],
    instructions: set[str],
    float32: float,
    bfloat16: float,
    expected: torch.dtype | None,
) -> None:
    cpu(instructions, float32, bfloat16)
    assert inference_dtype("auto", CPU) == expected
    with inference_autocast("auto", CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (expected or torch.float32)


def test_a_convolution_is_timed_once_in_a_process(
    cpu: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    cpu({"avx512_bf16"})
    asked: list[torch.dtype] = []
    monkeypatch.setattr(precision, "_time_convolution", lambda dtype: asked.append(dtype) or 1.0)
    for _ in range(3):
        assert inference_dtype("auto", CPU) is None
    assert asked == [torch.float32, torch.bfloat16]
    assert inference_dtype("auto", CUDA) == torch.float16 and len(asked) == 2


@pytest.mark.parametrize("instructions", [False, True])
@pytest.mark.parametrize("units", [False, True])
def test_an_older_pytorch_is_asked_as_well(
    monkeypatch: pytest.MonkeyPatch, instructions: bool, units: bool
) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    for name, value in (("_is_avx512_bf16", instructions), ("_is_amx_tile", units)):
        monkeypatch.setattr(
            torch.cpu, f"{name}_supported", lambda value=value: value, raising=False
        )
    assert precision.has_bfloat16() is instructions and precision.has_matrix_units() is units


def test_training_asks_for_instructions_alone(cpu: Callable[..., None]) -> None:
    """A resumed run must not change its format because a machine was busy."""
    cpu({"avx512_bf16"}, 1.0, 9.0)
    assert training_dtype("auto", CPU) == torch.bfloat16
    cpu(set())
    assert training_dtype("auto", CPU) is None


def test_a_convolution_is_timed() -> None:
    threads = torch.get_num_threads()
    assert 0 < precision._time_convolution(torch.float32, repetitions=1) < 1
    assert torch.get_num_threads() == threads


def test_the_shortest_of_some_convolutions_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one thread, 3x3, 64 channels; the first one, which prepares, is left out."""
    seconds = iter([0.0, 1.0, 10, 13, 20, 22, 30, 35])
    monkeypatch.setattr(precision.time, "thread_time", lambda: next(seconds))
    shapes, threads = [], []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)

    def convolve(maps: torch.Tensor, weight: torch.Tensor, padding: int) -> None:
        shapes.append((maps.shape[:2], weight.shape, maps.dtype, weight.dtype, padding))
        assert maps.is_contiguous(memory_format=torch.channels_last)

    monkeypatch.setattr(precision.F, "conv2d", convolve)
    assert precision._time_convolution(torch.bfloat16, repetitions=3) == 2
    assert set(shapes) == {((1, 64), (64, 64, 3, 3), torch.bfloat16, torch.bfloat16, 1)}
    assert len(shapes) == 4 and threads == [1, torch.get_num_threads()]


def test_named_inference_formats() -> None:
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with inference_autocast(check_precision(name), CPU):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    assert inference_dtype("float16", CPU) == inference_dtype("float16", CUDA) == torch.float16
    assert inference_dtype("float32", CUDA) is None and check_precision("auto") == "auto"
    message = r"precision 'half': choose from \('float32', 'bfloat16', 'float16', 'auto'\)"
    with pytest.raises(ValueError, match=f"^{message}$"):
        check_precision("half")
