"""The shape of the sources: imports run one way (by `ast`), files have a role."""

from __future__ import annotations

import ast
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECTS = ROOT / "projects"

# Part -> parts that it may import. `config` only names keys and imports none of them; `video_pose`
# is the package's own __init__.py, which registers datasets and finds models.
BASE = {
    "video_pose.config",
    "video_pose.files",
    "video_pose.heatmap_codec",
    "video_pose.packaged",
    "video_pose.plugins",
    "video_pose.skeleton",
    "video_pose.video_io",
}
DATA = BASE | {"video_pose.data"}
MODELING = DATA | {"video_pose.modeling"}
BACKENDS = MODELING | {"video_pose.backends"}
MODELS = MODELING | {"video_pose.weights"}
ALLOWED: dict[str, set[str]] = {
    "video_pose": DATA | {"video_pose.moved"},
    "video_pose.config": set(),
    "video_pose.files": set(),
    "video_pose.moved": set(),
    "video_pose.packaged": {"video_pose.files"},
    "video_pose.plugins": set(),
    "video_pose.skeleton": set(),
    "video_pose.heatmap_codec": {"video_pose.config", "video_pose.skeleton"},
    "video_pose.video_io": {"video_pose.files"},
    "video_pose.data": BASE,
    "video_pose.modeling": DATA,
    "video_pose.backends": MODELING,
    "video_pose.evaluation": DATA,
    "video_pose.visualization": DATA,
    "video_pose.report": DATA | {"video_pose.evaluation", "video_pose.visualization"},
    "video_pose.engine": BACKENDS | {"video_pose", "video_pose.evaluation", "video_pose.weights"},
    # On top: a predictor reads configs, checkpoints and calibrations, and draws.
    "video_pose.inference": BACKENDS
    | {
        "video_pose",
        "video_pose.engine",
        "video_pose.evaluation",
        "video_pose.visualization",
        "video_pose.weights",
    },
    # The command: its modules are the programs' entry points.
    "video_pose.cli": BACKENDS
    | {
        "video_pose",
        "video_pose.engine",
        "video_pose.evaluation",
        "video_pose.inference",
        "video_pose.report",
        "video_pose.visualization",
        "video_pose.weights",
    },
    "video_pose.__main__": {"video_pose.cli"},
    "video_pose.weights": BASE,
    "unipose_lstm": MODELS,
    "lstm_pose_machines": MODELS,
}


def part_of(module: str) -> str:
    """`video_pose.data.clips` -> `video_pose.data`; the model packages are one part each."""
    names = module.split(".")
    return ".".join(names[:2]) if names[0] == "video_pose" else names[0]


def module_of(path: Path, root: Path) -> str:
    names = path.relative_to(root).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def imported_modules(path: Path, root: Path) -> Iterator[str]:
    """Absolute dotted names of all that a file imports, also in functions and `TYPE_CHECKING`."""
    own = module_of(path, root).split(".")
    package = own if path.name == "__init__.py" else own[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            # With the name: `from video_pose import data` imports the part video_pose.data.
            yield from (f"{source}.{alias.name}" for alias in node.names)


def violations(root: Path) -> list[str]:
    """Imports under `root` that run against ALLOWED, as `importer -> imported`."""
    found = []
    for path in sorted(root.rglob("*.py")):
        importer = module_of(path, root)
        part = part_of(importer)
        for name in imported_modules(path, root):
            # A name that is no part is one that video_pose/__init__.py defines.
            target = part_of(name) if part_of(name) in ALLOWED else name.split(".")[0]
            if target in ALLOWED and target != part and target not in ALLOWED.get(part, set()):
                found.append(f"{importer} -> {name}")
    return found


def test_imports_run_one_way() -> None:
    assert violations(PROJECTS) == []


def test_every_part_has_a_rule() -> None:
    parts = {part_of(module_of(path, PROJECTS)) for path in PROJECTS.rglob("*.py")}
    assert parts - set(ALLOWED) == set()


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("video_pose/data/clips.py", "from video_pose.modeling import losses"),
        ("video_pose/data/clips.py", "from ..modeling.losses import f"),
        ("video_pose/data/clips.py", "from .. import evaluation"),
        ("video_pose/modeling/__init__.py", "from ..engine import trainer"),
        ("video_pose/heatmap_codec.py", "import video_pose.data.clips"),
        ("video_pose/engine/trainer.py", "def f():\n    import unipose_lstm.config"),
        ("video_pose/__init__.py", "import unipose_lstm"),
        ("video_pose/__init__.py", "from .engine import trainer"),
        ("video_pose/data/clips.py", "from video_pose import load_models"),
        ("unipose_lstm/decoder.py", "from lstm_pose_machines import config"),
        ("unipose_lstm/decoder.py", "from video_pose.inference import reader"),
    ],
)
def test_a_wrong_import_is_seen(tmp_path: Path, path: str, line: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(line)
    assert len(violations(tmp_path)) == 1


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("video_pose/data/clips.py", "from . import transforms\nfrom ..heatmap_codec import C"),
        ("video_pose/__init__.py", "from .data import datasets\nfrom video_pose import config"),
        ("unipose_lstm/decoder.py", "from video_pose.modeling.heatmaps import f\nimport torch"),
        ("video_pose/engine/trainer.py", "from ..evaluation import pck"),
        ("video_pose/engine/trainer.py", "from video_pose import load_models"),
    ],
)
def test_a_right_import_passes(tmp_path: Path, path: str, line: str) -> None:
    file = tmp_path / path
    file.parent.mkdir(parents=True)
    file.write_text(line)
    assert violations(tmp_path) == []


def test_every_model_package_is_announced() -> None:
    """A package beside video_pose needs its line in setup.py, or its models stay unknown."""
    packages = {path.parent.name for path in PROJECTS.glob("*/__init__.py")} - {"video_pose"}
    points = importlib.metadata.entry_points(group="video_pose.models")
    assert {point.value for point in points} == packages


def source_files() -> list[Path]:
    folders = ("projects", "tools", "demo", "tests", "dev")
    return [ROOT / "setup.py", *(path for name in folders for path in (ROOT / name).rglob("*.py"))]


def test_every_folder_with_code_is_a_package() -> None:
    """A wheel leaves out what is none; the editable install would not show it."""
    folders = {path.parent for path in PROJECTS.rglob("*.py")} - {PROJECTS}
    assert [str(path) for path in folders if not (path / "__init__.py").is_file()] == []


def test_train_net_is_wiring_only() -> None:
    path = ROOT / "train_net.py"
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 150


def test_files_are_named_by_their_role() -> None:
    roleless = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert [str(path) for path in source_files() if path.name in roleless] == []
