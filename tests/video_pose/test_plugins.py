"""Registries, and the files in which users add to them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from video_pose.plugins import Registry

PROGRAM = "import video_pose; import detectron2.data as d; print('mine' in d.DatasetCatalog.list())"
REGISTER = "from detectron2.data import DatasetCatalog\nDatasetCatalog.register('mine', list)\n"


def run(paths: str, name: str = "VIDEO_POSE_PLUGINS") -> subprocess.CompletedProcess[str]:
    others = {k: v for k, v in os.environ.items() if not k.startswith("VIDEO_POSE_")}
    return subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**others, name: paths},
        capture_output=True,
        text=True,
    )


def test_the_users_files_register_also_under_the_old_name(tmp_path: Path) -> None:
    file, empty = tmp_path / "my_datasets.py", tmp_path / "empty.py"
    file.write_text(REGISTER)
    empty.write_text("")
    assert run(f"{empty}{os.pathsep}{file}").stdout.strip() == "True"
    assert run(str(file), "VIDEO_POSE_DATASETS").stdout.strip() == "True"
    assert run("").stdout.strip() == "False"


def test_a_missing_file_is_named() -> None:
    done = run("/nowhere/my_datasets.py")
    assert done.returncode != 0
    assert "VIDEO_POSE_PLUGINS names '/nowhere/my_datasets.py'" in done.stderr


def test_a_registry_answers_with_what_there_is() -> None:
    registry: Registry[type] = Registry("TEST.KIND")
    assert registry.add("whole")(int) is int
    registry.add("real")(float)
    assert registry.get("real") is float and registry.names() == ["whole", "real"]
    with pytest.raises(ValueError, match=r"TEST\.KIND 'reel': choose from \['whole', 'real'\]"):
        registry.check("reel")
    with pytest.raises(ValueError, match="'real' is registered already"):
        registry.add("real")(str)
    registry.add("real", replace=True)(str)
    assert registry.get("real") is str
    registry.remove("real")
    assert "real" not in registry and list(registry) == ["whole"]
