"""What is installed, what is missing, and how to get it, in ten lines.

doctor              prints the lines; status 1 where something needed is missing
doctor --install    makes Detectron2 importable where it is not, without a compiler; one that is
                    there is left alone
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from video_pose.cli.main import version

# Module -> the extra that brings it, as in setup.py.
EXTRAS = {
    "nncf": "int8",
    "onnx": "export",
    "onnxruntime": "export",
    "onnxscript": "export",
    "trackers": "track",
    "pyarrow": "parquet",
    "pandas": "parquet",
    "sleap_io": "interchange",
    "pynwb": "interchange",
    "ndx_pose": "interchange",
    "tables": "interchange",
    "ezc3d": "interchange",
    "ray": "ray",
}
ENGINES = ("openvino", "onnxruntime")

# Detectron2 has no release on the package index under its own name. `sal-detectron2` there carries
# the Python files of its main branch of 2024-04-17 (commit a59f0563). Its one wheel is tagged for
# CPython 3.10, brings a compiled `_C` for that alone and a stray top-level `tools` package, and
# asks for numpy < 2 and black, which nothing needs.
SOURCE = "sal-detectron2==0.7.2"
SOURCE_SHA256 = "491af0c7f79bdb2d178e46f6cb16a97c4ac968d45c41ea3f6b6435d59bbee561"
VERSION = "0.6+sal.0.7.2"  # Detectron2's own version, then where the files come from
DOWNLOAD = (
    "download --no-deps --only-binary=:all: --python-version 3.10 --implementation cp"
).split()
OFFICIAL = "git+https://github.com/facebookresearch/detectron2"

METADATA = f"""\
Metadata-Version: 2.1
Name: detectron2
Version: {VERSION}
Summary: Detectron2's Python files (main branch, 2024-04-17) without compiled extensions
Home-page: https://github.com/facebookresearch/detectron2
Author: FAIR
License: Apache-2.0
License-File: LICENSE
Requires-Python: >=3.8
Requires-Dist: Pillow>=7.1
Requires-Dist: cloudpickle
Requires-Dist: fvcore<0.1.6,>=0.1.5
Requires-Dist: hydra-core>=1.1
Requires-Dist: iopath>=0.1.7
Requires-Dist: matplotlib
Requires-Dist: omegaconf<2.4,>=2.1
Requires-Dist: packaging
Requires-Dist: pycocotools>=2.0.2
Requires-Dist: setuptools<81
Requires-Dist: tabulate
Requires-Dist: tensorboard
Requires-Dist: termcolor>=1.1
Requires-Dist: tqdm>4.29.0
Requires-Dist: yacs>=0.1.8
"""
WHEEL = """\
Wheel-Version: 1.0
Generator: install_detectron2
Root-Is-Purelib: true
Tag: py3-none-any
"""

# A folder that is merely called detectron2 (a clone's root) imports as a namespace without a file:
# that counts as none.
PROBE = """
import importlib.util
spec = importlib.util.find_spec("detectron2")
if spec is not None and spec.origin is not None:
    import detectron2
    print(detectron2.__version__, "at", detectron2.__file__)
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--install`` and where to take Detectron2's wheel from."""
    add = parser.add_argument
    add("--install", action="store_true", help="install Detectron2 where it cannot be imported")
    add("--wheel", type=Path, metavar="FILE", help="with --install: the wheel, fetched before")


def run(args: argparse.Namespace) -> int:
    """Returns 0, or 1 where something needed is missing or the installation failed."""
    if args.wheel and not args.install:
        raise ValueError("--wheel has no effect without --install")
    if args.install:
        try:
            print(install_detectron2(args.wheel))
        except (OSError, RuntimeError, ValueError, zipfile.BadZipFile) as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
        return 0
    lines = [_own(), _torch(), _detectron2(), _readers(), *_hardware()]
    lines += [_engines(), _models(), _extras(), _surroundings()]
    print("\n".join(lines))
    return int(any("MISSING" in line for line in lines))


def _has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _release(distribution: str) -> str:
    """`opencv-python` -> its version, or ""."""
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _line(name: str, text: str) -> str:
    return f"{name + ':':<12} {text}"


def _own() -> str:
    place = Path(__file__).resolve().parents[1]
    return _line("video-pose", f"{version()} at {place}, Python {platform.python_version()}")


def _torch() -> str:
    if not (_has("torch") and _has("torchvision")):
        return _line("torch", 'MISSING: pip install "torch>=2.6" torchvision (in one command)')
    try:
        import torchvision  # its operators load only beside the torch that they were built for
    except (ImportError, RuntimeError, OSError) as error:
        return _line("torch", f"MISSING: torch and torchvision do not go together ({error})")
    import torch

    return _line(
        "torch",
        f"{torch.__version__}, torchvision {torchvision.__version__}, "
        f"{torch.get_num_threads()} threads",
    )


def _detectron2() -> str:
    if not _has("detectron2"):
        return _line("detectron2", "MISSING: video-pose doctor --install")
    import detectron2

    compiled = "with" if _has("detectron2._C") else "without"
    return _line("detectron2", f"{detectron2.__version__}, {compiled} compiled operators")


def _readers() -> str:
    names = ("opencv-python", "opencv-python-headless", "opencv-contrib-python")
    built = [f"{name} {_release(name)}" for name in names if _release(name)]
    opencv = built[0] if built else "opencv" if _has("cv2") else ""
    opencv = opencv or "opencv MISSING: pip install opencv-python-headless"
    video = f"av {_release('av')}" if _has("av") else "av MISSING: pip install av"
    return _line("readers", f"{opencv}, {video}")


def _hardware() -> list[str]:
    if not _has("torch"):
        return []
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    device = torch.device("cuda" if gpus else "cpu")
    from video_pose.modeling.precision import inference_dtype

    level = "" if gpus else f" ({torch.backends.cpu.get_cpu_capability()})"
    precision = str(inference_dtype("auto", device) or "float32").removeprefix("torch.")
    return [
        _line("GPU", ", ".join(gpus) or "none: everything runs on the CPU"),
        _line("precision", f"auto is {precision} here{level}"),
    ]


def _engines() -> str:
    found = [f"{name} {_release(name)}" for name in ENGINES if _has(name)]
    return _line("engines", ", ".join(["torch", *found]))


def _models() -> str:
    """The packaged models, by the tables in the package."""
    package = Path(__file__).resolve().parents[1]
    names = {}
    for table in package.glob("*/models.json"):
        names.update(json.loads(table.read_text(encoding="utf-8")))
    kinds = [f"{name} ({kind})" for kind, name in names.items() if name]
    return _line("models", ", ".join(kinds) or "none in the package: name one by --config-file")


def _extras() -> str:
    missing: dict[str, list[str]] = {}
    for module, extra in EXTRAS.items():
        if not _has(module):
            missing.setdefault(extra, []).append(module)
    texts = [f"{', '.join(modules)} (extra {extra})" for extra, modules in missing.items()]
    return _line("optional", "all installed" if not texts else "not installed: " + "; ".join(texts))


def _surroundings() -> str:
    from video_pose.plugins import OLD_VARIABLE, VARIABLE

    root = os.environ.get("DETECTRON2_DATASETS", "datasets")
    state = "" if Path(root).is_dir() else " (no such folder)"
    plugins = os.environ.get(VARIABLE) or os.environ.get(OLD_VARIABLE) or "none"
    return _line("datasets", f"DETECTRON2_DATASETS {root}{state}, {VARIABLE} {plugins}")


def find_detectron2() -> str | None:
    """Import detectron2 in a fresh interpreter, as a user would.

    Returns:
        its version and file, or None where there is none.

    Raises:
        RuntimeError: one is there but fails to import. It may be someone's own build, so it is
            not replaced.
    """
    with tempfile.TemporaryDirectory() as folder:  # `-c` puts the working directory on the path
        probe = subprocess.run(
            [sys.executable, "-c", PROBE], cwd=folder, capture_output=True, text=True
        )
    if probe.returncode != 0:
        raise RuntimeError(
            "detectron2 is installed but cannot be imported; install what it misses, or remove it"
            f" with `{sys.executable} -m pip uninstall detectron2`, and run this again.\n"
            f"{probe.stderr.strip()}"
        )
    lines = probe.stdout.strip().splitlines()
    return lines[-1] if lines else None


def download(folder: Path) -> Path:
    """Fetch the source wheel with pip, from whichever index pip is set up for.

    Raises:
        RuntimeError: pip failed: no network, or an index without this package.
    """
    command = [sys.executable, "-m", "pip", *DOWNLOAD, "--dest", str(folder), SOURCE]
    print("+", " ".join(command), flush=True)
    if subprocess.run(command).returncode != 0:
        raise RuntimeError(
            f"pip could not download {SOURCE} (its message is above). Without network, fetch it\n"
            f"elsewhere with\n  python -m pip {' '.join(DOWNLOAD)} {SOURCE}\n"
            "and run this again with --wheel FILE. Where there is a compiler, an official build\n"
            "serves as well:\n"
            f"  {sys.executable} -m pip install --no-build-isolation {OFFICIAL}"
        )
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_sha256(path: Path, expected: str) -> None:
    """Raises ValueError, with both values, where the file's SHA-256 is not `expected` (hex)."""
    got = hashlib.sha256(path.read_bytes()).hexdigest()
    if got != expected:
        raise ValueError(
            f"{path} is not the verified file and was not installed.\n"
            f"  sha256 expected {expected}\n  sha256 got      {got}"
        )


def repack(source: Path, folder: Path) -> Path:
    """Write a pure wheel `detectron2` from the `detectron2/` of another wheel.

    Args:
        source: the wheel to take `detectron2/` (less compiled `_C*`) and the licence from.
        folder: where the new wheel goes.

    Returns:
        the path of the new wheel; the same source gives the same bytes.

    Raises:
        ValueError: `source` holds no `detectron2/__init__.py` or no licence.
    """
    with zipfile.ZipFile(source) as archive:
        names = sorted(name for name in archive.namelist() if not name.endswith("/"))
        files = {name: archive.read(name) for name in names if is_wanted(name)}
        licences = [name for name in names if name.endswith(".dist-info/LICENSE")]
        if "detectron2/__init__.py" not in files or not licences:
            raise ValueError(
                f"{source}: expected detectron2/__init__.py and *.dist-info/LICENSE, "
                f"got {len(names)} files: {', '.join(names[:5])} ..."
            )
        licence = archive.read(licences[0])
    info = f"detectron2-{VERSION}.dist-info"
    files[f"{info}/LICENSE"] = licence
    files[f"{info}/METADATA"] = METADATA.encode()
    files[f"{info}/WHEEL"] = WHEEL.encode()
    files[f"{info}/RECORD"] = record_of(files, f"{info}/RECORD").encode()
    wheel = folder / f"detectron2-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            # Dated 1980 by default, so that the same source gives the same bytes.
            entry = zipfile.ZipInfo(name)
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, content)
    return wheel


def is_wanted(name: str) -> bool:
    """Whether a file of the source wheel belongs into the new one."""
    return name.startswith("detectron2/") and not name.startswith("detectron2/_C.")


def record_of(files: dict[str, bytes], record_name: str) -> str:
    """The text of a wheel's RECORD: path, unpadded urlsafe base64 of SHA-256, size in bytes.

    Its own line, the last, carries the path alone.
    """
    lines = []
    for name, content in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{name},sha256={digest},{len(content)}")
    return "\n".join([*lines, f"{record_name},,", ""])


def install(wheel: Path) -> None:
    """Let pip install the wheel alone: its needs are this project's own requirements.

    Raises:
        RuntimeError: pip failed.
    """
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", str(wheel)]
    print("+", " ".join(command), flush=True)
    if subprocess.run(command).returncode != 0:
        raise RuntimeError(f"pip could not install {wheel.name} (its message is above)")


def install_detectron2(wheel: Path | None = None) -> str:
    """Make Detectron2 importable; returns a line that says what was found or done.

    The wheel of `SOURCE` is fetched, its hash checked, its ``detectron2/`` packed anew as a pure
    wheel called ``detectron2`` with its true needs, and that is installed by pip: ``pip list``,
    ``pip check`` and ``pip uninstall detectron2`` know it.

    Without its compiled part three things are missing, and Detectron2 guards each of them: rotated
    boxes, deformable convolution and the fast COCO evaluator (pycocotools' takes its place).

    Args:
        wheel: the file of `SOURCE`, fetched before; None lets pip download it.

    Raises:
        OSError, RuntimeError, ValueError, zipfile.BadZipFile: with what to do instead.
    """
    found = find_detectron2()
    if found is not None:
        return f"detectron2 {found} is kept"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = wheel or download(folder)
        check_sha256(source, SOURCE_SHA256)
        install(repack(source, folder))
    found = find_detectron2()
    if found is None:
        raise RuntimeError("pip installed detectron2, but this interpreter does not find it")
    return f"detectron2 {found} is installed"
