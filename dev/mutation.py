#!/usr/bin/env python3
"""Change one operator, constant or condition at a time, and see whether the tests notice.

    python dev/mutation.py --mutants 100      # a sample; what was tried is not tried again
    python dev/mutation.py --show             # the changes that no test noticed
    python dev/mutation.py --lines            # first, for a large sample: which test runs a line

cosmic-ray (``pip install cosmic-ray coverage``) makes the changes, in a copy of the tracked files.
Each is run against the tests that execute its line, where those were recorded (minutes), else
against the test files that import the module, its own first. Annotations, which nobody evaluates,
are left alone. Everything is kept in ``--folder``, so that a run that was ended goes on.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import difflib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGES = ("modeling", "evaluation", "data", "inference", "engine")
# A mutant's tests: at most so many, and so many seconds of a quiet machine. Both only lower the
# score.
MOST_TESTS, MOST_SECONDS, MOST_FILES = 80, 60.0, 4
# Seconds of the processor that a mutant may take: an endless loop counts as noticed; and seconds of
# the clock, after which it counts as not tried.
MOST_WORK, MOST_WAIT = 400, 3600


def sources(tree: Path, packages: Sequence[str]) -> list[Path]:
    """Files to change, relative to ``tree``."""
    base = tree / "projects" / "video_pose"
    found = [path for name in packages for path in (base / name).rglob("*.py")]
    return sorted(path.relative_to(tree) for path in found)


def copy_tree(folder: Path) -> Path:
    """The tracked files, as they are here, in ``folder``/tree; made once."""
    tree = folder / "tree"
    if not tree.exists():
        tree.mkdir(parents=True)
        names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
        pack = ["tar", "-C", str(ROOT), "--null", "-T", "-", "-cf", "-"]
        archive = subprocess.run(pack, input=names.stdout, capture_output=True, check=True)
        subprocess.run(["tar", "-C", str(tree), "-xf", "-"], input=archive.stdout, check=True)
    return tree


# ---- which test executes which line


class _Contexts:
    """A plugin of pytest that tells coverage which test runs, and notes how long it takes."""

    def __init__(self, coverage: Any) -> None:
        self.coverage = coverage
        self.seconds: Counter[str] = Counter()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration


def record_lines(tree: Path, folder: Path, tests: Sequence[str]) -> None:
    """Run each of the ``tests`` folders or files once, and keep what it executes."""
    for name in tests:
        data = folder / f"lines.{name.replace('/', '.')}.json"
        if data.exists():
            continue
        if not (pid := os.fork()):
            with contextlib.suppress(BaseException):
                _record(tree, data, name)
            os._exit(0)
        os.waitpid(pid, 0)
        if data.exists():
            print(f"{name}: recorded", flush=True)
        else:
            print(f"{name}: failed", file=sys.stderr)


def _record(tree: Path, data: Path, name: str) -> None:
    import coverage
    import pytest

    os.chdir(tree)
    cover = coverage.Coverage(data_file=None, source=[str(tree / "projects")], config_file=False)
    contexts = _Contexts(cover)
    cover.start()
    pytest.main(["-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib", name,
                 "-m", "not slow"], plugins=[contexts])  # fmt: skip
    cover.stop()
    lines: dict[str, dict[int, list[str]]] = {}
    found = cover.get_data()
    for file in found.measured_files():
        relative = os.path.relpath(file, tree)
        lines[relative] = found.contexts_by_lineno(file)
    content = {"seconds": contexts.seconds, "lines": lines}
    data.write_text(json.dumps(content), encoding="utf-8")


class Lines:
    """The tests that execute a line."""

    def __init__(self, folder: Path, tree: Path) -> None:
        self.tree = tree
        self.seconds: dict[str, float] = {}
        self.tests: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.of_file: dict[str, Counter[str]] = defaultdict(Counter)
        for path in folder.glob("lines.*.json"):
            content = json.loads(path.read_text(encoding="utf-8"))
            self.seconds |= content["seconds"]
            for file, lines in content["lines"].items():
                for line, names in lines.items():
                    known = [name for name in names if name]
                    self.tests[file, int(line)] |= set(known)
                    self.of_file[file].update(known)

    def choose(self, file: str, lines: range) -> list[str]:
        """Tests to run for a change within these lines. What runs on import has none of its own:
        then those that execute most of the file."""
        number = self.of_file[file]
        if not number:
            return importing(self.tree, file)
        own = set().union(*(self.tests[file, line] for line in lines))
        ordered = sorted(own or number, key=lambda name: (-number[name], name))
        chosen: list[str] = []
        spent = 0.0
        for name in ordered[: 4 * MOST_TESTS]:
            if spent + self.seconds.get(name, 1) <= MOST_SECONDS and len(chosen) < MOST_TESTS:
                chosen.append(name)
                spent += self.seconds.get(name, 1)
        return chosen or ordered[:1]


def importing(tree: Path, file: str) -> list[str]:
    """Test files that import a module, the one of its name first."""
    module = ".".join(Path(file).with_suffix("").parts[1:]).removesuffix(".__init__")
    found = []
    for path in tree.glob("tests/**/test_*.py"):
        number = path.read_text(encoding="utf-8").count(module)
        own = path.stem == f"test_{module.split('.')[-1]}"
        if number or own:
            found.append((not own, -number, str(path.relative_to(tree))))
    if not found:  # part of a package that is tested as a whole
        folder = tree / "tests" / Path(file).relative_to("projects").parent
        found = [(True, 0, str(path.relative_to(tree))) for path in folder.glob("test_*.py")]
    return [name for *_, name in sorted(found)[:MOST_FILES]]


# ---- changes


def mutants(tree: Path, packages: Sequence[str]) -> list[dict[str, Any]]:
    """All changes that cosmic-ray knows, but those of annotations and of text."""
    from cosmic_ray.commands.init import _all_work_items

    out = []
    for file in sources(tree, packages):
        left_alone = list(_annotations(ast.parse((tree / file).read_text(encoding="utf-8"))))
        for item in _all_work_items([tree / file], {}):
            (one,) = item.mutations
            if not any(start <= one.start_pos <= end for start, end in left_alone):
                out.append({
                    "file": str(file), "operator": one.operator_name,
                    "occurrence": one.occurrence, "lines": [one.start_pos[0], one.end_pos[0]],
                })  # fmt: skip
    return out


def known_mutants(tree: Path, folder: Path, packages: Sequence[str]) -> list[dict[str, Any]]:
    """As `mutants`; kept in ``folder``, since to find them takes a minute or more."""
    kept = folder / f"mutants.{'.'.join(packages)}.json"
    if not kept.exists():
        kept.write_text(json.dumps(mutants(tree, packages)), encoding="utf-8")
    found: list[dict[str, Any]] = json.loads(kept.read_text(encoding="utf-8"))
    return found


def _annotations(tree: ast.AST) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations begin and end."""
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            found = getattr(node, name, None)
            if isinstance(found, ast.expr):
                end = (found.end_lineno or 0, found.end_col_offset or 0)
                yield (found.lineno, found.col_offset), end


def sample(found: list[dict[str, Any]], number: int, seed: int) -> list[dict[str, Any]]:
    """A line at most once, so that a line with many operators counts as much as another."""
    rng = random.Random(seed)
    places: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for one in found:
        places[one["file"], one["lines"][0]].append(one)
    chosen = rng.sample(sorted(places), min(number, len(places)))
    return [rng.choice(places[place]) for place in chosen]


def try_one(tree: Path, mutant: dict[str, Any], lines: Lines) -> dict[str, Any]:
    """Make a change, run its tests, take it back."""
    from cosmic_ray.mutating import MutationVisitor
    from cosmic_ray.plugins import get_operator

    path = tree / mutant["file"]
    before = path.read_text(encoding="utf-8")
    after = MutationVisitor.mutate_code(
        before, get_operator(mutant["operator"])(), mutant["occurrence"]
    )
    change = [
        line
        for line in difflib.unified_diff(before.split("\n"), after.split("\n"), n=0, lineterm="")
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    first, last = mutant["lines"]
    tests = lines.choose(mutant["file"], range(first, last + 1))
    start = time.monotonic()
    try:
        path.write_text(after, encoding="utf-8")
        answer = run_tests(tree, tests) if tests else "no test"
    finally:
        path.write_text(before, encoding="utf-8")
    seconds = round(time.monotonic() - start, 1)
    return {**mutant, "answer": answer, "tests": len(tests), "seconds": seconds, "change": change}


def run_tests(tree: Path, tests: Sequence[str]) -> str:
    """In a fork, which has imported what costs time: "noticed" or "alive"."""
    if not (pid := os.fork()):
        os.setsid()
        status = 3
        with contextlib.suppress(BaseException):
            import pytest

            resource.setrlimit(resource.RLIMIT_CPU, (MOST_WORK, MOST_WORK))
            os.chdir(tree)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            sys.dont_write_bytecode = True
            status = pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-o",
                                  "addopts=--import-mode=importlib", *tests])  # fmt: skip
        os._exit(int(status))
    end = time.monotonic() + MOST_WAIT
    done = 0
    try:
        while time.monotonic() < end:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                return "alive" if os.waitstatus_to_exitcode(status) == 0 else "noticed"
            time.sleep(0.05)
        return "not tried"
    finally:
        if not done:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def preload(tree: Path) -> None:
    """Import what tests need and no change touches."""
    sys.path.insert(0, str(tree / "projects"))
    os.environ["PYTHONPATH"] = str(tree / "projects")
    sys.dont_write_bytecode = True
    import av  # noqa: F401
    import cv2
    import detectron2.config
    import pytest  # noqa: F401
    import scipy.io  # noqa: F401
    import torch
    import torchvision  # noqa: F401

    assert detectron2.config
    torch.set_num_threads(1)
    cv2.setNumThreads(1)  # its threads do not survive a fork


def report(results: list[dict[str, Any]], show: bool) -> None:
    """The table, and with ``show`` what lives."""
    columns = ("noticed", "alive", "no test")
    print(f"| package | changes | {' | '.join(columns)} |")
    print("|---|---|---|---|---|")
    groups: dict[str, Counter[str]] = defaultdict(Counter)
    for one in results:
        groups[Path(one["file"]).parts[2]][one["answer"]] += 1
        groups["all"][one["answer"]] += 1
    for name in sorted(groups, key=lambda name: (name == "all", name)):
        counts = groups[name]
        cells = [sum(counts.values()), *(counts[column] for column in columns)]
        print(f"| {name} | {' | '.join(map(str, cells))} |")
    for one in results if show else []:
        if one["answer"] != "noticed":
            print(f"\n{one['file']}:{one['lines'][0]} {one['answer']} ({one['tests']} tests)")
            print("\n".join(one["change"]))


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=Path("/tmp/video-pose-mutants"))
    parser.add_argument("--lines", nargs="*", metavar="TESTS", help="record these tests (all)")
    parser.add_argument("--mutants", type=int, default=0)
    parser.add_argument("--packages", nargs="+", default=list(PACKAGES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGINT):  # a change is taken back first
        signal.signal(number, lambda *_: sys.exit(130))
    args.folder.mkdir(parents=True, exist_ok=True)
    tree = copy_tree(args.folder)
    preload(tree)
    if args.lines is not None:
        folders = [*tree.glob("tests/video_pose/*"), *tree.glob("tests/*")]
        chosen = [
            path for path in sorted(folders) if path.name not in ("conftest.py", "video_pose")
        ]
        every = [str(path.relative_to(tree)) for path in chosen if not path.name.startswith("_")]
        record_lines(tree, args.folder, args.lines or every)
    log = args.folder / f"answers.{args.seed}.jsonl"
    results = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    tried = {(one["file"], one["operator"], one["occurrence"]) for one in results}
    lines = Lines(args.folder, tree)
    wanted = []
    if args.mutants:
        wanted = sample(known_mutants(tree, args.folder, args.packages), args.mutants, args.seed)
    for one in wanted:
        if (one["file"], one["operator"], one["occurrence"]) in tried:
            continue
        result = try_one(tree, one, lines)
        if result["answer"] == "not tried":
            continue
        results.append(result)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(results[-1]) + "\n")
    report(results, args.show)
    return 0


if __name__ == "__main__":
    sys.exit(main())
