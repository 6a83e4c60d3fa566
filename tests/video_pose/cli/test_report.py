"""`video-pose report --poses`: the page of stored poses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from video_pose.cli.main import main
from video_pose.inference.writers import Recording, open_writers
from video_pose.inference.writers.tables import stored_frame


def table(folder: Path, fps: float) -> Path:
    """Five frames of somebody, at a rate, or without times where it is 0."""
    (writer,) = open_writers(["csv"], folder, Recording("v", ("a",)))
    for i in range(5):
        frame = stored_frame(i, 0.0, "v", ("a",), np.full((1, 1, 3), float(i)))
        writer.write(replace(frame, time=3 + i / fps if fps else np.nan))
    writer.close()
    return folder / "v.csv"


@pytest.mark.parametrize(
    ("fps", "arguments", "words"),
    [
        (50, [], "5 frames, 0.1 s at 50 frames a second"),
        (8, [], "5 frames, 0.6 s at 8 frames a second"),
        (8, ["--fps", "10"], "5 frames, 0.5 s at 10 frames a second"),
        (0, [], "5 frames, 0.2 s at 25 frames a second"),
        (0, ["--fps", "5"], "5 frames, 1.0 s at 5 frames a second"),
    ],
)
def test_seconds_go_by_the_times_of_the_file(
    tmp_path: Path, fps: float, arguments: list[str], words: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    page = tmp_path / "page.html"
    path = table(tmp_path, fps)
    assert main(["report", "--poses", str(path), "--output", str(page), *arguments]) == 0
    assert words in page.read_text()
    said = f"{path}: its frames have no times: 25 a second are taken (--fps)\n"
    expected = said if not fps and not arguments else ""
    assert capsys.readouterr().out == f"{expected}report: {page}\n"


def test_a_photo_has_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One frame tells no rate, which no seconds need."""
    (writer,) = open_writers(["csv"], tmp_path, Recording("v", ("a",)))
    writer.write(stored_frame(0, 0.0, "v", ("a",), np.ones((1, 1, 3))))
    writer.close()
    page = tmp_path / "page.html"
    assert main(["report", "--poses", str(tmp_path / "v.csv"), "--output", str(page)]) == 0
    assert capsys.readouterr().out == f"report: {page}\n"


def test_a_rate_of_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["--poses", str(table(tmp_path, 8)), "--output", str(tmp_path / "p.html")]
    assert main(["report", *arguments, "--fps", "0"]) == 1
    assert "fps 0.0: must be above 0" in capfd.readouterr().err
