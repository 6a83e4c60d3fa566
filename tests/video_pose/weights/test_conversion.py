"""The book-keeping of an import, on a model of two tensors."""

from __future__ import annotations

import json

import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from safetensors import safe_open
from torch import nn

from video_pose.weights.conversion import Conversion


class TwoTensors(nn.Module):
    """For these tests: a convolution of MODEL.POSE.JOINTS' length."""

    def __init__(self, cfg):
        super().__init__()
        self.conv = nn.Conv2d(3, len(cfg.MODEL.POSE.JOINTS), 1)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setitem(META_ARCH_REGISTRY._obj_map, "TwoTensors", TwoTensors)


@pytest.fixture
def conversion(tmp_path, registered):
    made = Conversion(tmp_path / "source.pth")
    made.config = {
        "MODEL.META_ARCHITECTURE": "TwoTensors",
        "MODEL.POSE.JOINTS": ["a", "b"],
        "MODEL.POSE.HEATMAP.BACKGROUND": "last",
        "MODEL.POSE.HEATMAP.ENCODE_OFFSET": 2.5,
        "MODEL.POSE.HEATMAP.DECODE_OFFSET": 3.5,
        "INPUT.CROP_SIZE": (64, 64),
    }
    return made


WEIGHT, BIAS = torch.arange(6.0).view(2, 3, 1, 1), torch.tensor([1.0, -1.0])


def no_keys(cfg):
    pass


def test_everything_matched(tmp_path, conversion):
    conversion.put("w", "conv.weight", WEIGHT.half())
    conversion.put("b", "conv.bias", BIAS)
    conversion.put("b again", "conv.bias", BIAS.clone())
    conversion.leave("fc", torch.zeros(5), "unused")
    conversion.complete(no_keys)
    assert conversion.report().splitlines() == [
        "matched    w -> conv.weight (2, 3, 1, 1)",
        "matched    b -> conv.bias (2,)",
        "matched    b again -> conv.bias (2,)",
        "left over  fc (5,): unused",
        "3 matched, 1 left over, 0 wrong, 0 missing",
    ]
    conversion.write(tmp_path / "out.safetensors")
    with safe_open(tmp_path / "out.safetensors", framework="pt") as file:
        assert torch.equal(file.get_tensor("conv.weight"), WEIGHT)
        assert torch.equal(file.get_tensor("conv.bias"), BIAS)
        metadata = file.metadata()
    assert metadata["joints"] == "a,b" and metadata["decode_offset"] == "3.5"
    assert json.loads(metadata["config"])["INPUT.CROP_SIZE"] == [64, 64]
    assert [p.name for p in tmp_path.iterdir()] == ["out.safetensors"]


def test_the_configuration_is_printed_as_nested_keys(conversion):
    assert conversion.config_yaml() == (
        "MODEL:\n"
        "  META_ARCHITECTURE: TwoTensors\n"
        "  POSE:\n"
        "    JOINTS: [a, b]\n"
        "    HEATMAP: {BACKGROUND: last, ENCODE_OFFSET: 2.5, DECODE_OFFSET: 3.5}\n"
        "INPUT:\n"
        "  CROP_SIZE: [64, 64]\n"
    )


def test_copies_must_agree(conversion):
    conversion.put("b1", "conv.bias", BIAS)
    with pytest.raises(ValueError, match=r"source\.pth: b1 and b2 .* differ by up to 0\.25"):
        conversion.put("b2", "conv.bias", BIAS + torch.tensor([0.0, 0.25]))
    with pytest.raises(ValueError, match=r"b1 and b3 .* shapes \(2,\) and \(1,\)"):
        conversion.put("b3", "conv.bias", BIAS[:1])


@pytest.mark.parametrize(
    ("tensors", "line"),
    [
        ({"conv.weight": WEIGHT}, "missing    conv.bias (2,)"),
        (
            {"conv.weight": WEIGHT[:, :2], "conv.bias": BIAS},
            "wrong      conv.weight: expected (2, 3, 1, 1), found (2, 2, 1, 1)",
        ),
        (
            {"conv.weight": WEIGHT, "conv.bias": BIAS, "extra": BIAS},
            "wrong      extra: the model has no such tensor",
        ),
    ],
)
def test_what_does_not_fit_is_not_written(tmp_path, conversion, tensors, line):
    for name, value in tensors.items():
        conversion.put(name, name, value)
    conversion.complete(no_keys)
    assert line in conversion.report().splitlines()
    with pytest.raises(ValueError, match="nothing is written"):
        conversion.write(tmp_path / "out.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_the_output_is_named_safetensors(tmp_path, conversion):
    with pytest.raises(ValueError, match=r"out\.pth: the output must be named \*\.safetensors"):
        conversion.write(tmp_path / "out.pth")


def test_nothing_stays_behind_when_writing_fails(tmp_path, conversion, monkeypatch):
    conversion.put("w", "conv.weight", WEIGHT)
    conversion.put("b", "conv.bias", BIAS)
    conversion.complete(no_keys)

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("video_pose.files.os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        conversion.write(tmp_path / "out.safetensors")
    assert list(tmp_path.iterdir()) == []
