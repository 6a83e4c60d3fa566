"""State dicts in the shapes that releases have, and files that must be refused."""

from __future__ import annotations

import pytest
import torch

from video_pose.weights.reader import read_state_dict

TENSORS = {"conv.weight": torch.arange(6.0).view(2, 3), "conv.bias": torch.tensor([1.0, -1.0])}


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_layouts(tmp_path, nested, prefix):
    content = {prefix + name: value for name, value in TENSORS.items()}
    content = {"epoch": 3, "best": 0.5, "state_dict": content} if nested else content
    torch.save(content, tmp_path / "a.pth")
    read = read_state_dict(tmp_path / "a.pth")
    assert list(read) == ["conv.weight", "conv.bias"]
    assert all(torch.equal(read[name], value) for name, value in TENSORS.items())


class Payload:
    """Unpickling it would run code."""

    ran = False

    def __reduce__(self):
        return (setattr, (Payload, "ran", True))


def test_nothing_in_a_file_is_executed(tmp_path):
    torch.save({"conv.weight": TENSORS["conv.weight"], "x": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(ValueError, match=r"evil\.pth: expected a PyTorch checkpoint"):
        read_state_dict(tmp_path / "evil.pth")
    assert not Payload.ran


def test_a_truncated_file_is_named(tmp_path):
    torch.save(TENSORS, tmp_path / "whole.pth")
    content = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "cut.pth").write_bytes(content[: len(content) // 2])
    with pytest.raises(ValueError, match=r"cut\.pth: expected a PyTorch checkpoint"):
        read_state_dict(tmp_path / "cut.pth")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_foreign_file_is_named(tmp_path, content):
    (tmp_path / "foreign.pth").write_bytes(content)
    with pytest.raises(ValueError, match=r"foreign\.pth: expected a PyTorch checkpoint"):
        read_state_dict(tmp_path / "foreign.pth")


@pytest.mark.parametrize("content", [{"epoch": 3}, [1.0, 2.0]])
def test_a_file_without_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "plain.pth")
    with pytest.raises(ValueError, match=r"plain\.pth: expected a state dict"):
        read_state_dict(tmp_path / "plain.pth")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.pth"):
        read_state_dict(tmp_path / "none.pth")
