"""Which format a device computes in."""

from __future__ import annotations

import pytest
import torch

from video_pose.modeling.precision import check_precision, inference_autocast, training_dtype

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def test_training_formats() -> None:
    assert training_dtype("auto", CUDA) == torch.float16
    assert training_dtype("bfloat16", CUDA) == training_dtype("bfloat16", CPU) == torch.bfloat16
    with pytest.raises(ValueError, match="float16 needs a GPU"):
        training_dtype("float16", CPU)
    with pytest.raises(ValueError, match="'fp8'.*auto, bfloat16, float16"):
        training_dtype("fp8", CPU)


@pytest.mark.parametrize("native", [True, False])
def test_auto_takes_what_the_cpu_has_instructions_for(monkeypatch, native: bool) -> None:
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: {"avx512_bf16": native}, raising=False
    )
    assert training_dtype("auto", CPU) == (torch.bfloat16 if native else None)
    with inference_autocast("auto", CPU):
        assert torch.is_autocast_enabled("cpu") == native
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert product.dtype == (torch.bfloat16 if native else torch.float32)


def test_named_inference_formats() -> None:
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        with inference_autocast(check_precision(name), CPU):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
    with pytest.raises(ValueError, match="'half'.*float32.*bfloat16.*float16.*auto"):
        check_precision("half")
