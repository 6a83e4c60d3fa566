#!/usr/bin/env python3
"""Change one operator, constant or condition at a time, and see whether the tests notice.

    python dev/mutation.py --lines            # once: which test executes which line
    python dev/mutation.py --mutants 100      # a sample; what was tried is not tried again
    python dev/mutation.py --show             # the changes that no test noticed

cosmic-ray (``pip install cosmic-ray coverage``) makes the changes, in a copy of the tracked files.
Each is run against the tests that execute its statement; for one that runs on import (a constant, a
default), those that execute a use of the name that it binds, and for a default those that hold it
to a list. Without ``--lines`` it is run against
the test files that import the module, its own first. A change counts as noticed where a test fails
with it and passes without it. Annotations, which nobody evaluates, are left alone, as are changes
that are no Python. Everything is kept in ``--folder``, so that a run that was ended goes on.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import contextlib
import difflib
import functools
import importlib
import itertools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
PACKAGES = ("modeling", "evaluation", "data", "inference", "engine")
# A mutant's tests: at most so many, and so many seconds as they were recorded; or so many files.
# All three only lower the score.
MOST_TESTS, MOST_SECONDS, MOST_FILES = 400, 75.0, 4
# Of a test file so many tests come first, then as many of the next one.
AT_ONCE = 6
# Seconds of a test that comes after all quicker ones: else a few use up what a mutant may take.
SLOW = 1.0
# Seconds of the processor that a test may take, beside four times what it took when recorded: an
# endless loop counts as noticed; and seconds of the clock, after which a mutant is not tried.
MOST_WORK, MOST_WAIT = 30, 3600
# Holds the defaults of all public functions to a list, and executes none of them.
DEFAULTS = "tests/test_defaults.py"


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
        self.failed: set[str] = set()

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.coverage.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: Any) -> None:
        self.seconds[report.nodeid] += report.duration
        if report.failed:
            self.failed.add(report.nodeid)


def record_lines(tree: Path, folder: Path, tests: Sequence[str]) -> None:
    """Run each of the ``tests`` folders or files once, and keep what it executes."""
    for name in tests:
        data = folder / f"lines.{name.replace('/', '.')}.json"
        if data.exists():
            continue
        if not (pid := os.fork()):
            _usual_signals()
            with contextlib.suppress(BaseException):
                _record(tree, data, name)
            os._exit(0)
        os.waitpid(pid, 0)
        if data.exists():
            print(f"{name}: recorded", flush=True)
        else:
            print(f"{name}: failed", file=sys.stderr)


def _usual_signals() -> None:
    """As in any other process: tests send some to themselves."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


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
    content = {"seconds": contexts.seconds, "failed": sorted(contexts.failed), "lines": lines}
    data.write_text(json.dumps(content), encoding="utf-8")


class Lines:
    """The tests that execute a line, but those that fail anyway."""

    def __init__(self, folder: Path, tree: Path) -> None:
        self.tree = tree
        self.seconds: dict[str, float] = {}
        self.tests: dict[tuple[str, int], set[str]] = defaultdict(set)
        self.of_file: dict[str, Counter[str]] = defaultdict(Counter)
        self.failed: set[str] = set()
        for path in folder.glob("lines.*.json"):
            content = json.loads(path.read_text(encoding="utf-8"))
            self.seconds |= content["seconds"]
            self.failed |= set(content["failed"])
            for file, lines in content["lines"].items():
                for line, names in lines.items():
                    known = {name for name in names if name} - self.failed
                    self.tests[file, int(line)] |= known
                    self.of_file[file].update(known)

    def choose(self, file: str, line: int) -> list[str]:
        """Tests to run for a change of this line: quick ones, then slow ones; of each some of each
        test file in turn, that of the module's name first, then those that execute most of it."""
        number = self.of_file[file]
        if not number:
            return importing(self.tree, file)
        places = executing(self.tree, file, line)
        found = set().union(*(self.tests[place] for place in places)) or set(number)
        found |= self.tests[file, line]  # of what runs on import: tests that import it first
        if is_default(self.tree, file, line):
            found |= {n for n in self.seconds if n.startswith(DEFAULTS)} - self.failed
        # Tests of the module that execute nothing of it here do so in another process.
        own = f"test_{Path(file).stem}.py"
        found |= {n for n in self.seconds if f"/{own}::" in n and n not in number} - self.failed
        files: dict[str, list[str]] = defaultdict(list)
        for name in sorted(
            found, key=lambda name: (-number[name], self.seconds.get(name, 1), name)
        ):
            files[name.partition("::")[0]].append(name)
        first = (own, Path(DEFAULTS).name)
        order = sorted(
            files, key=lambda path: (Path(path).name not in first, -number[files[path][0]])
        )
        turns = [
            (self.seconds.get(name, 1) > SLOW, turn // AT_ONCE, place, name)
            for place, path in enumerate(order)
            for turn, name in enumerate(files[path])
        ]
        chosen: list[str] = []
        spent = 0.0
        for *_, name in sorted(turns, key=lambda one: one[:3]):
            if spent + self.seconds.get(name, 1) <= MOST_SECONDS and len(chosen) < MOST_TESTS:
                chosen.append(name)
                spent += self.seconds.get(name, 1)
        return chosen or [turns[0][-1]]


def executing(tree: Path, file: str, line: int) -> set[tuple[str, int]]:
    """Lines that are executed where this one has an effect: those of its statement in a function;
    for a default those of the function; for what else runs on import the uses, in all files, of the
    names that it binds."""
    node, in_function = _statement_at(tree / file, line)
    if node is None:
        return set()
    first, last = _head(node)
    if in_function:
        return {(file, number) for number in range(first, last + 1)}
    if isinstance(node, ast.FunctionDef):
        return {(file, number) for number in range(last + 1, (node.end_lineno or last) + 1)}
    stores = [one for one in ast.walk(node) if isinstance(one, ast.Name)]
    names = {one.id for one in stores if isinstance(one.ctx, ast.Store)}
    return {
        (str(path.relative_to(tree)), number)
        for path in (tree / "projects").rglob("*.py")
        for name, number in _uses(path)
        if name in names
    }


def is_default(tree: Path, file: str, line: int) -> bool:
    """Whether a line is part of a function's head, as its defaults are, or a record's field."""
    node, in_function = _statement_at(tree / file, line)
    return isinstance(node, ast.FunctionDef) or (
        isinstance(node, ast.AnnAssign) and not in_function
    )


def _statement_at(path: Path, line: int) -> tuple[ast.AST | None, bool]:
    """The innermost statement whose head has a line, and whether it is part of a function."""
    for node, in_function in _statements(_parsed(path)):
        first, last = _head(node)
        if first <= line <= last:
            return node, in_function
    return None, False


def _head(node: Any) -> tuple[int, int]:
    """First and last line of a statement, but not of the block that it may have."""
    first = min([node.lineno, *(one.lineno for one in getattr(node, "decorator_list", ()))])
    block = getattr(node, "body", None)
    if not block:
        cases = getattr(node, "cases", None)
        return first, cases[0].pattern.lineno - 1 if cases else node.end_lineno
    decorators = getattr(block[0], "decorator_list", ())
    return first, max(node.lineno, min(one.lineno for one in (block[0], *decorators)) - 1)


@functools.cache
def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def _uses(path: Path) -> list[tuple[str, int]]:
    """Names that a file reads, also as attributes, and the lines."""
    return [
        (node.id if isinstance(node, ast.Name) else node.attr, node.lineno)
        for node in ast.walk(_parsed(path))
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Load)
    ]


def _statements(node: ast.AST, in_function: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    """All statements, innermost first, and whether they are part of a function."""
    inside = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    for child in ast.iter_child_nodes(node):
        yield from _statements(child, inside)
        if isinstance(child, ast.stmt | ast.ExceptHandler):
            yield child, inside


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
        left_alone = list(_left_alone(ast.parse((tree / file).read_text(encoding="utf-8"))))
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


def _left_alone(tree: ast.AST) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Where annotations begin and end, and the gaps in which a bare ``*`` of parameters stands."""
    for node in ast.walk(tree):
        for name in ("annotation", "returns"):
            found = getattr(node, name, None)
            if isinstance(found, ast.expr):
                yield (found.lineno, found.col_offset), _end(found)
        if isinstance(node, ast.arguments) and node.kwonlyargs:
            before: list[ast.expr | ast.arg] = [*node.posonlyargs, *node.args, *node.defaults]
            first = node.kwonlyargs[0]
            if before and not node.vararg:
                yield max(map(_end, before)), (first.lineno, first.col_offset)


def _end(node: Any) -> tuple[int, int]:
    return node.end_lineno or 0, node.end_col_offset or 0


def sample(tree: Path, found: list[dict[str, Any]], number: int, seed: int) -> list[dict[str, Any]]:
    """A line at most once, so that a line with many operators counts as much as another; changes
    that are no Python, which no test need notice, are passed over."""
    rng = random.Random(seed)
    places: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    for one in found:
        places[one["file"], one["lines"][0]].append(one)
    order = sorted(places)
    rng.shuffle(order)
    chosen: list[dict[str, Any]] = []
    for place in order:
        options = places[place]
        rng.shuffle(options)
        legal = (one for one in options if _is_legal(tree, one))
        chosen += itertools.islice(legal, 1)
        if len(chosen) >= number:
            break
    return chosen[:number]


def changed(tree: Path, mutant: dict[str, Any]) -> str:
    """The text of its file with a change."""
    from cosmic_ray.mutating import MutationVisitor
    from cosmic_ray.plugins import get_operator

    before = (tree / mutant["file"]).read_text(encoding="utf-8")
    operator = get_operator(mutant["operator"])()
    return str(MutationVisitor.mutate_code(before, operator, mutant["occurrence"]))


def _is_legal(tree: Path, mutant: dict[str, Any]) -> bool:
    try:
        compile(changed(tree, mutant), "", "exec")
    # cosmic-ray cannot change an exception that is named with its module in a tuple of several.
    except (SyntaxError, AttributeError):
        return False
    return True


def try_one(tree: Path, mutant: dict[str, Any], lines: Lines) -> dict[str, Any]:
    """Make a change, run its tests, take it back."""
    path = tree / mutant["file"]
    before, after = path.read_text(encoding="utf-8"), changed(tree, mutant)
    change = [
        line
        for line in difflib.unified_diff(before.split("\n"), after.split("\n"), n=0, lineterm="")
        if line[:1] in "+-" and line[:3] not in ("+++", "---")
    ]
    tests = lines.choose(mutant["file"], mutant["lines"][0])
    start = time.monotonic()
    try:
        path.write_text(after, encoding="utf-8")
        answer, last = run_tests(tree, tests, lines.seconds) if tests else ("no test", "")
    finally:
        path.write_text(before, encoding="utf-8")
    if (
        answer == "noticed"
        and run_tests(tree, [last] if last else tests, lines.seconds)[0] != "alive"
    ):
        answer = "not tried"  # it fails without the change, too
    seconds = round(time.monotonic() - start, 1)
    return {
        **mutant,
        "answer": answer,
        "by": last,
        "tests": len(tests),
        "seconds": seconds,
        "change": change,
    }


class _Limits:
    """A plugin of pytest that ends the process where a test takes too long, and notes the test."""

    def __init__(self, seconds: Mapping[str, float], note: int) -> None:
        self.seconds, self.note = seconds, note

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        os.pwrite(self.note, nodeid.encode().ljust(1000), 0)
        signal.setitimer(signal.ITIMER_PROF, MOST_WORK + 4 * self.seconds.get(nodeid, MOST_WORK))


def run_tests(tree: Path, tests: Sequence[str], seconds: Mapping[str, float]) -> tuple[str, str]:
    """In a fork, which has imported what costs time: "noticed" or "alive", and the last test."""
    with tempfile.TemporaryFile() as note:
        if not (pid := os.fork()):
            os.setsid()
            status = 3
            with contextlib.suppress(BaseException):
                status = _run(tree, tests, _Limits(seconds, note.fileno()))
            os._exit(status)
        answer = _wait(pid)
        return answer, note.read().decode().strip()


def _run(tree: Path, tests: Sequence[str], limits: _Limits) -> int:
    import pytest

    _usual_signals()
    most = 10 * MOST_WORK  # also of each process that a test starts
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))
    os.chdir(tree)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    options = ["-x", "-q", "-p", "no:cacheprovider", "-o", "addopts=--import-mode=importlib"]
    return int(pytest.main([*options, *tests], plugins=[limits]))


def _wait(pid: int) -> str:
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
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)  # with what it started
        if not done:
            os.waitpid(pid, 0)


# What tests import and no change touches; a package that is not there is passed over.
PRELOADED = (
    "av", "cv2", "h5py", "pytest", "scipy.io", "scipy.optimize", "torch", "torchvision", "trackers",
    "pycocotools.cocoeval", "pandas", "tqdm", "safetensors.torch", "PIL.Image", "tabulate",
    "detectron2.config", "detectron2.data", "detectron2.engine", "detectron2.evaluation",
    "detectron2.model_zoo", "detectron2.modeling", "detectron2.utils.visualizer",
)  # fmt: skip


def preload(tree: Path) -> None:
    """Once for all changes: what is imported, and what is compiled. A file that was changed has
    another time from then on, so that its compiled form does not count."""
    sys.path.insert(0, str(tree / "projects"))
    os.environ["PYTHONPATH"] = str(tree / "projects")
    compileall.compile_dir(tree / "projects", quiet=2)
    sys.dont_write_bytecode = True
    for name in PRELOADED:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    import cv2
    import torch

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
        found = known_mutants(tree, args.folder, args.packages)
        wanted = sample(tree, found, args.mutants, args.seed)
    for one in wanted:
        if (one["file"], one["operator"], one["occurrence"]) in tried:
            continue
        result = try_one(tree, one, lines)
        if result["answer"] == "not tried":
            print(f"{one['file']}:{one['lines'][0]}: not tried, {result['by']}", file=sys.stderr)
            continue
        results.append(result)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(results[-1]) + "\n")
    report(results, args.show)
    return 0


if __name__ == "__main__":
    sys.exit(main())
