"""Files appear whole or not at all, and errors name them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from video_pose.files import (
    read_text,
    replacing,
    replacing_file,
    without_nan,
    write_json,
    write_text,
)


def test_a_file_is_replaced_and_nothing_else_stays(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    write_text(path, "neu: ä")
    assert path.read_bytes() == b"neu: \xc3\xa4" and os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("kind", [KeyboardInterrupt, ValueError])
def test_whatever_goes_wrong_the_old_file_stays(tmp_path: Path, kind: type) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(kind), replacing_file(path) as file:
        file.write(b"half")
        file.flush()
        assert len(os.listdir(tmp_path)) == 2
        raise kind
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.txt"]


class FullDisk:
    """A file on a device without space."""

    def write(self, data: bytes) -> int:
        raise OSError(28, "No space left on device")


@pytest.mark.parametrize("writer", ["plain", "torch"])
def test_a_full_disk_is_named_with_the_file(tmp_path: Path, writer: str) -> None:
    """PyTorch's writer raises an error of its own that says nothing of either."""
    path = tmp_path / "a.pth"
    write_text(path, "old")
    with pytest.raises(OSError, match=r"cannot write .*a\.pth: No space left") as error:
        with replacing(path):
            if writer == "torch":
                torch.save({"x": torch.zeros(9)}, FullDisk())
            FullDisk().write(b"")
    assert error.value.errno == 28
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["a.pth"]


def test_a_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot write .*gone/a\.txt: No such file"):
        write_text(tmp_path / "gone" / "a.txt", "x")


def test_json_has_no_nan(tmp_path: Path) -> None:
    content = {"a": [1, float("nan"), np.float64("inf")], "b": (0.5, {"c": None}), "d": "NaN"}
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == {"a": [1, None, None], "b": [0.5, {"c": None}], "d": "NaN"}


def test_other_encodings_are_named_with_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"ab\xe9\n")
    with pytest.raises(ValueError, match=r"a\.yaml: byte 2 is no text in UTF-8"):
        read_text(path)


def test_rounded_numbers_and_what_is_none() -> None:
    content = {"a": [1.23456, float("nan"), 3], "b": (np.float64(0.00006), "x")}
    assert without_nan(content, digits=4) == {"a": [1.2346, None, 3], "b": [0.0001, "x"]}
    assert without_nan(1.23456) == 1.23456
