"""What is installed, what is missing, and how to get it, in ten lines.

doctor              prints the lines; status 1 where something needed is missing
doctor --install    first makes Detectron2 importable, where it is not, without a compiler
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
import zipfile
from pathlib import Path

from video_pose.cli.main import version

# Module -> the extra that brings it, as in setup.py.
EXTRAS = {
    "onnxruntime": "export",
    "onnxscript": "export",
    "trackers": "track",
    "pyarrow": "parquet",
    "pandas": "parquet",
    "sleap_io": "interchange",
    "pynwb": "interchange",
    "tables": "interchange",
    "ezc3d": "interchange",
    "ray": "ray",
}
ENGINES = ("openvino", "onnxruntime")


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
        from video_pose.cli.install_detectron2 import install_detectron2

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
