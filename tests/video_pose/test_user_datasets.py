"""The file in which users register their own datasets."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = "import video_pose; import detectron2.data as d; print('mine' in d.DatasetCatalog.list())"


def run(path: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "VIDEO_POSE_DATASETS": path},
        capture_output=True,
        text=True,
    )


def test_the_users_file_registers(tmp_path: Path) -> None:
    file = tmp_path / "my_datasets.py"
    file.write_text(
        "from detectron2.data import DatasetCatalog\nDatasetCatalog.register('mine', list)\n"
    )
    assert run(str(file)).stdout.strip() == "True"
    assert run("").stdout.strip() == "False"


def test_a_missing_file_is_named() -> None:
    done = run("/nowhere/my_datasets.py")
    assert done.returncode != 0
    assert "VIDEO_POSE_DATASETS names '/nowhere/my_datasets.py'" in done.stderr
