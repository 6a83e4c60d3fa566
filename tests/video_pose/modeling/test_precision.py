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
    with pytest.raises(ValueError, match="float16 needs a GPU"):
        training_dtype("float16", CPU)
    with pytest.raises(ValueError, match="'fp8'.*auto, bfloat16, float16"):
        training_dtype("fp8", CPU)


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
        ({"avx512_bf16"}, 1.1, 1.0, None),  # an emulation, or not worth its rounding
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


def test_named_inference_formats() -> None:
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with inference_autocast(check_precision(name), CPU):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    with pytest.raises(ValueError, match="'half'.*float32.*bfloat16.*float16.*auto"):
        check_precision("half")
