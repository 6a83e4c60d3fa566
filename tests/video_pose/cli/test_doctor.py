"""The installer without network: hash check, repacking, what it keeps, what its errors say."""

from __future__ import annotations

import ast
import base64
import hashlib
import importlib.metadata
import importlib.util
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from video_pose.cli import doctor
from video_pose.cli.main import main


@pytest.fixture
def installer() -> ModuleType:
    return doctor


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A wheel with the flaws of the real one: a compiled module, stray tools, false needs."""
    path = tmp_path / "sal_detectron2-0.7.2-cp310-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("detectron2/__init__.py", '__version__ = "0.7.2"\n')
        archive.writestr("detectron2/_C.cpython-310-x86_64-linux-gnu.so", b"\x7fELF")
        archive.writestr("detectron2/_Custom.py", "kept = True\n")
        archive.writestr("detectron2/model_zoo/configs/Base.yaml", "VERSION: 2\n")
        archive.writestr("detectron2_extra/__init__.py", "")
        archive.writestr("tools/__init__.py", "")
        archive.writestr("sal_detectron2-0.7.2.dist-info/LICENSE", "Apache License\n")
        archive.writestr("sal_detectron2-0.7.2.dist-info/METADATA", "Requires-Dist: numpy<2\n")
        archive.writestr("sal_detectron2-0.7.2.dist-info/RECORD", "")
    return path


def put_detectron2(folder: Path, body: str) -> None:
    (folder / "detectron2").mkdir()
    (folder / "detectron2" / "__init__.py").write_text(body)


def test_hash_that_matches_passes(installer: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    # The first example of FIPS 180-2.
    installer.check_sha256(path, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")


def test_hash_that_differs_names_both_values(installer: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"")
    # SHA-256 of nothing begins with e3b0c442.
    with pytest.raises(ValueError, match=r"(?s)expected 0123.*got +e3b0c442"):
        installer.check_sha256(path, "0123")


def test_repacked_wheel_holds_the_package_and_nothing_else(
    installer: ModuleType, source: Path, tmp_path: Path
) -> None:
    wheel = installer.repack(source, tmp_path)
    info = f"detectron2-{installer.VERSION}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        assert sorted(archive.namelist()) == sorted(
            [
                "detectron2/__init__.py",
                "detectron2/_Custom.py",
                "detectron2/model_zoo/configs/Base.yaml",
                f"{info}/LICENSE",
                f"{info}/METADATA",
                f"{info}/RECORD",
                f"{info}/WHEEL",
            ]
        )
        assert archive.read(f"{info}/LICENSE") == b"Apache License\n"
        assert b"py3-none-any" in archive.read(f"{info}/WHEEL")


def test_record_lists_every_file_with_its_digest(
    installer: ModuleType, source: Path, tmp_path: Path
) -> None:
    wheel = installer.repack(source, tmp_path)
    info = f"detectron2-{installer.VERSION}.dist-info"
    with zipfile.ZipFile(wheel) as archive:
        rows = [line.split(",") for line in archive.read(f"{info}/RECORD").decode().splitlines()]
        assert {row[0] for row in rows} == set(archive.namelist())
        for name, digest, size in rows:
            if name.endswith("/RECORD"):
                assert (digest, size) == ("", "")
                continue
            content = archive.read(name)
            encoded = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode()
            assert digest == "sha256=" + encoded.rstrip("=")
            assert int(size) == len(content)


def test_repacking_twice_gives_the_same_bytes(
    installer: ModuleType, source: Path, tmp_path: Path
) -> None:
    first = installer.repack(source, tmp_path).read_bytes()
    assert installer.repack(source, tmp_path).read_bytes() == first


def test_repacking_another_wheel_says_what_was_expected(
    installer: ModuleType, tmp_path: Path
) -> None:
    path = tmp_path / "other.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("other/__init__.py", "")
    with pytest.raises(ValueError, match=r"other\.whl: expected detectron2/__init__\.py"):
        installer.repack(path, tmp_path)


def test_pip_and_metadata_know_the_installed_package(
    installer: ModuleType, source: Path, tmp_path: Path
) -> None:
    wheel = installer.repack(source, tmp_path)
    target = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--target", str(target), str(wheel)], check=True)
    (distribution,) = importlib.metadata.distributions(name="detectron2", path=[str(target)])
    assert distribution.version == "0.6+sal.0.7.2"
    assert distribution.requires is not None
    assert "setuptools<81" in distribution.requires
    needed = {need.split("<")[0].split(">")[0] for need in distribution.requires}
    assert not needed & {"numpy", "black", "torch", "sal-detectron2"}
    assert not (target / "tools").exists()


def test_an_importable_detectron2_is_kept(
    installer: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put_detectron2(tmp_path, '__version__ = "9.9"\n')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(installer, "download", lambda folder: pytest.fail("downloaded"))
    monkeypatch.setattr(installer, "install", lambda wheel: pytest.fail("installed"))
    assert main(["doctor", "--install"]) == 0
    assert f"9.9 at {tmp_path / 'detectron2' / '__init__.py'} is kept" in capsys.readouterr().out


def test_a_broken_detectron2_is_named_and_not_replaced(
    installer: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    put_detectron2(tmp_path, "import a_module_that_is_missing\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(installer, "download", lambda folder: pytest.fail("downloaded"))
    assert main(["doctor", "--install"]) == 1
    assert "No module named 'a_module_that_is_missing'" in capsys.readouterr().err


def test_a_folder_of_that_name_is_no_detectron2(
    installer: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "detectron2").mkdir()  # no __init__.py: Python imports it as an empty namespace
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    # -S hides site-packages, where the real one may be.
    probe = subprocess.run(
        [sys.executable, "-S", "-c", installer.PROBE], capture_output=True, text=True, cwd=tmp_path
    )
    assert (probe.returncode, probe.stdout) == (0, "")


def test_a_wheel_of_another_hash_is_not_installed(
    installer: ModuleType,
    source: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(installer, "find_detectron2", lambda: None)
    monkeypatch.setattr(installer, "install", lambda wheel: pytest.fail("installed"))
    assert main(["doctor", "--install", "--wheel", str(source)]) == 1
    error = capsys.readouterr().err
    assert installer.SOURCE_SHA256 in error and str(source) in error


def test_without_network_the_way_round_it_is_told(
    installer: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(installer, "find_detectron2", lambda: None)
    monkeypatch.setattr(installer, "DOWNLOAD", [*installer.DOWNLOAD, "--no-index"])
    monkeypatch.setenv("PIP_FIND_LINKS", "")
    assert main(["doctor", "--install"]) == 1
    error = capsys.readouterr().err
    assert "sal-detectron2==0.7.2" in error and "--wheel FILE" in error


def test_the_extras_are_those_of_the_package(installer: ModuleType) -> None:
    """Each need of setup.py's extras, by its module, under one of the extras that bring it."""
    tree = ast.parse((Path(__file__).parents[3] / "setup.py").read_text(encoding="utf-8"))
    found: dict[str, set[str]] = {}
    for node in tree.body:
        name = node.targets[0].id if isinstance(node, ast.Assign) else ""  # type: ignore[attr-defined]
        if name in ("EXPORT", "INT8", "INTERCHANGE", "PARQUET", "RAY", "TRACK"):
            for need in ast.literal_eval(node.value):  # type: ignore[attr-defined]
                module = re.split(r"[\[<>=;]", need)[0].replace("-", "_")
                found.setdefault(module, set()).add(name.lower())
    assert set(installer.EXTRAS) == set(found)
    for module, extra in installer.EXTRAS.items():
        assert extra in found[module], module
