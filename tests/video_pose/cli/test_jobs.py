"""What is opened, and which files each source gives."""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
import pytest

from video_pose.cli.jobs import is_file_output, list_inputs
from video_pose.cli.predict import add_arguments


@pytest.mark.parametrize(
    "name",
    ["drawn.mkv", "drawn.MOV", "photo.jpeg", "p.webp", "t.csv", "t.parquet", "t.json", "t.h5"],
)
def test_a_file_of_another_kind_is_no_folder(tmp_path: Path, name: str) -> None:
    output = str(tmp_path / name)
    with pytest.raises(ValueError) as error:
        is_file_output(output)
    assert str(error.value) == (
        f"--output {output}: a file is a video (.mp4) or the picture of a photo (.jpg, .png); "
        "tables go to a folder, by --format"
    )
    (tmp_path / name).mkdir()  # who has one of that name means it
    assert is_file_output(output) is False
    assert is_file_output(str(tmp_path / "cam.1")) is False
    assert is_file_output(str(tmp_path / "drawn.MP4")) is True


def test_pictures_that_seem_to_be_photos_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    names = [str(tmp_path / name) for name in ("anna.png", "ben.png")]
    for name in names:
        cv2.imwrite(name, np.zeros((8, 8, 3), np.uint8))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert len(list_inputs(parser.parse_args([*names, "--photos"]))) == 2
    assert caplog.text == ""
    assert len(list_inputs(parser.parse_args(names))) == 1
    (line,) = caplog.messages
    assert line.startswith("images: its 2 pictures are read as one sequence")
    assert line.endswith("with --photos each is looked at by itself")
