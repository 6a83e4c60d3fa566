#!/usr/bin/env python3
"""Count what a reader has to walk: files, lines, the way of a clip, files with one importer.

    python dev/count_files.py [--list]

The way of a clip is every file of projects/ that is executed, beyond being imported, while a clip
of a dataset on disk becomes a PCK figure: from `train_net.py` through loader, mapper, model and
evaluator of a UniPose-LSTM. It is found statically, as the files that `train_net.py` and the model
package import, directly or through others, without the parts that such a run does not enter
(OFF_THE_WAY).
"""

from __future__ import annotations

import argparse
import ast
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECTS = ROOT / "projects"
FOLDERS = ("projects", "tools", "demo", "tests", "dev")
# Parts and files that a UniPose-LSTM on JHMDB does not enter, though they are imported: other
# programs, datasets and figures, the frames view and its detectors, foreign weights, poses that
# wait for later frames.
OFF_THE_WAY = (
    "lstm_pose_machines",
    "unipose_lstm.import_weights",
    "video_pose.backends",
    "video_pose.cli.",
    "video_pose.data.datasets.bbc_pose",
    "video_pose.data.datasets.coco",
    "video_pose.data.datasets.penn_action",
    "video_pose.data.datasets.photos",
    "video_pose.data.json_fields",
    "video_pose.data.frame_clips",
    "video_pose.data.frames",
    "video_pose.data.mosaic",
    "video_pose.data.synthetic",
    "video_pose.evaluation.coco",
    "video_pose.evaluation.motion",
    "video_pose.evaluation.people",
    "video_pose.inference",
    "video_pose.modeling.rcnn_parts",
    "video_pose.modeling.recurrent_keypoint_rcnn",
    "video_pose.modeling.sequences",
    "video_pose.moved",
    "video_pose.packaged",
    "video_pose.report",
    "video_pose.visualization",
    "video_pose.weights.conversion",
)
ON_THE_WAY = ("video_pose.cli.train",)


def module_of(path: Path) -> str:
    """`projects/video_pose/data/clips.py` -> `video_pose.data.clips`."""
    names = path.relative_to(PROJECTS).with_suffix("").parts
    return ".".join(names[:-1] if names[-1] == "__init__" else names)


def imports_of(path: Path, modules: dict[str, Path]) -> set[str]:
    """Modules of `modules` that a file imports, also inside functions."""
    own = module_of(path).split(".") if PROJECTS in path.parents else []
    package = own if path.name == "__init__.py" else own[:-1]
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*start, *([node.module] if node.module else [])])
            found |= {source} | {f"{source}.{alias.name}" for alias in node.names}
    return {name for name in found if name in modules}


def reached(start: set[str], graph: dict[str, set[str]]) -> set[str]:
    """Everything that `start` imports, itself included, without what is off the way."""
    seen: set[str] = set()
    waiting = list(start)
    while waiting:
        name = waiting.pop()
        if name in seen or (name.startswith(OFF_THE_WAY) and name not in ON_THE_WAY):
            continue
        seen.add(name)
        waiting.extend(graph[name])
    return seen


def lines_of(path: Path) -> int:
    """Lines of a text file."""
    return len(path.read_text(encoding="utf-8").splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the files of the clip's way")
    args = parser.parse_args()
    for folder in FOLDERS:
        files = sorted((ROOT / folder).rglob("*.py"))
        if files:
            print(f"{folder:9} {len(files):4} files {sum(map(lines_of, files)):7,} lines")
    modules = {module_of(path): path for path in PROJECTS.rglob("*.py")}
    graph = {name: imports_of(path, modules) for name, path in modules.items()}
    way = reached(imports_of(ROOT / "train_net.py", modules) | {"unipose_lstm"}, graph)
    # An empty __init__.py holds nothing to read.
    way = {name for name in way if lines_of(modules[name]) > 3}
    print(f"a clip's way from train_net.py to PCK: {len(way)} files")
    importers = defaultdict(set)
    for name, targets in graph.items():
        for target in targets:
            importers[target].add(name)
    single = sorted(name for name, found in importers.items() if len(found) == 1)
    print(f"imported by one file alone: {len(single)}")
    documents = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    print("kB:", ", ".join(f"{path.name} {path.stat().st_size / 1000:.1f}" for path in documents))
    if args.list:
        print("\n".join(sorted(way)), "\n\nimported once:\n", "\n ".join(single))


if __name__ == "__main__":
    main()
