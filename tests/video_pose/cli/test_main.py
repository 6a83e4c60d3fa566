"""The command itself: help at once, one line for an error, nothing heavy before it is needed."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from video_pose.cli import predict
from video_pose.cli.main import VERBS, Verb, main
from video_pose.files import replacing_file

ROOT = Path(__file__).parents[3]
# Any of these takes seconds to import.
HEAVY = ("torch", "detectron2", "cv2", "numpy", "av")


def run_python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "projects"), **environment}
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=variables
    )


@pytest.mark.parametrize("arguments", [["--help"], *([verb, "--help"] for verb in VERBS)])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['video-pose', *{arguments!r}]\n"
        "from video_pose.cli.main import main\n"
        "status = main()\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], status)"
    )
    result = run_python(code)
    assert result.stdout.splitlines()[-1] == "[] 0", result.stderr
    assert "usage: video-pose" in result.stdout and result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "status", "line"),
    [
        (["a.mp4", "b/c.mp4"], 1, "error: no such file, folder or pattern: a.mp4, b/c.mp4"),
        (["0"], 1, "error: no such file, folder or pattern: 0 (a camera is --webcam 0)"),
        ([], 1, "error: no input: name videos, pictures, folders or patterns, or use --webcam"),
        (["--output", "o", "-a.mp4"], 2, "-a.mp4 (-a.mp4 is a file: write ./-a.mp4)"),
        (["-b.mp4"], 2, "unrecognized arguments: -b.mp4"),
    ],
)
def test_a_mistyped_name_is_said_before_anything_heavy_is_imported(
    tmp_path: Path, arguments: list[str], status: int, line: str
) -> None:
    (tmp_path / "-a.mp4").touch()
    code = (
        f"import os, sys; os.chdir({str(tmp_path)!r}); sys.argv = ['video-pose']\n"
        "from video_pose.cli.main import main\n"
        f"status = main(['predict', *{arguments!r}])\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], status)"
    )
    result = run_python(code)
    assert result.stdout.splitlines()[-1] == f"[] {status}"
    assert result.stderr.splitlines()[-1].endswith(line)


@pytest.mark.parametrize("name", ["here.mp4", "*.mp4", "rtsp://h/v", "camera:0", "."])
def test_what_may_be_there_is_left_to_the_reader(tmp_path: Path, monkeypatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here.mp4").touch()
    parser = argparse.ArgumentParser()
    predict.add_arguments(parser)
    predict.check(parser.parse_args([name]))
    predict.check(parser.parse_args(["absent.mp4", name]))  # one that fails stops no other
    predict.check(parser.parse_args(["absent.mp4", "--resume"]))  # it may have been done before


def test_importing_the_package_registers_the_datasets() -> None:
    """But for commands, which register once their arguments are read."""
    code = (
        "import video_pose\n"
        "from detectron2.data import DatasetCatalog\n"
        "print('sub_jhmdb_split1_test' in DatasetCatalog.list())"
    )
    assert run_python(code).stdout == "True\n"
    assert run_python(f"REGISTERS_ITSELF = True\n{code}").stdout == "False\n"


def test_without_detectron2_one_line_says_how_to_get_it(tmp_path: Path) -> None:
    code = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: (\n"
        "    None if name.startswith('detectron2') else find(name, *rest)\n"
        ")\n"
        "sys.argv = ['video-pose', *sys.argv[1:]]\n"
        "from video_pose.cli.main import main\n"
        "print([main([verb, *rest]) for verb, *rest in (\n"
        "    ['predict', '--input', '.'], ['train'], ['evaluate'], ['datasets'], ['doctor'],\n"
        ")])"
    )
    result = run_python(code)
    assert result.stdout.splitlines()[-1] == "[1, 1, 1, 1, 1]"
    errors = result.stderr.splitlines()
    assert len(errors) == 4 and all("video-pose doctor --install" in line for line in errors)
    assert "detectron2:  MISSING: video-pose doctor --install" in result.stdout


def test_doctor_prints_ten_lines(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    names = [line.split(":")[0] for line in out.splitlines()]
    assert names[:4] == ["video-pose", "torch", "detectron2", "readers"] and len(names) == 10


def test_what_is_no_verb_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predcit"]) == 2
    assert "no verb 'predcit': choose from predict, train" in capsys.readouterr().err


def test_datasets_are_listed_by_pattern(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["datasets", "sub_jhmdb_split1_t*"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["sub_jhmdb_split1_test", "15", "joints", "video_pose"] in lines and len(lines) == 4
    assert main(["datasets", "nothing*"]) == 1
    assert "no registered dataset matches 'nothing*'" in capsys.readouterr().err


def test_a_config_of_the_package_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from video_pose.engine.defaults import find_config

    monkeypatch.chdir(tmp_path)
    name = "UniPose-LSTM/unipose_R101_penn_action.yaml"
    assert find_config(name) == find_config(f"configs/{name}")
    assert Path(find_config(name)).is_file()
    assert find_config("COCO-Keypoints/keypoint_rcnn_R_50_FPN_3x.yaml").endswith(".yaml")
    with pytest.raises(FileNotFoundError, match="config not found: UniPose-LSTM/none.yaml"):
        find_config("UniPose-LSTM/none.yaml")


@pytest.fixture
def verb(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable], None]:
    """verb(run): makes ``run`` the verb "test"."""

    def make(run: Callable) -> None:
        module = ModuleType("verb_of_a_test")
        module.add_arguments = lambda parser: None  # type: ignore[attr-defined]
        module.run = run  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(VERBS, "test", Verb(module.__name__, "", (), False))

    return make


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_is_one_line_and_takes_away_what_is_half_written(
    verb, tmp_path: Path, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    """A service manager sends the signal twice: the second must not stop the clearing up."""
    path = tmp_path / "poses.csv"
    path.write_text("old")
    before = signal.signal(number, signal.SIG_DFL)  # nohup has SIGHUP ignored

    def run(args) -> int:
        with replacing_file(path) as file:
            file.write(b"half")
            try:
                os.kill(os.getpid(), number)
                time.sleep(5)
            finally:
                os.kill(os.getpid(), number)
        return 0

    verb(run)
    try:
        assert main(["test"]) == 130
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert capsys.readouterr() == ("", "interrupted\n")
    assert os.listdir(tmp_path) == ["poses.csv"] and path.read_text() == "old"


def test_an_interrupt_that_a_library_hides_is_one(verb, capsys) -> None:
    """An import that is interrupted says that a module is broken."""

    def run(args) -> int:
        try:
            signal.raise_signal(signal.SIGTERM)
        except KeyboardInterrupt:
            raise ImportError("numpy is damaged: install it again") from None
        return 0

    verb(run)
    assert main(["test"]) == 130
    assert capsys.readouterr().err == "interrupted\n"
    seen: list[int] = []
    verb(lambda args: signal.raise_signal(signal.SIGTERM) or 0)
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append(1))
    try:
        assert main(["test"]) == 0 and seen == [1]  # the caller's own handler stays
    finally:
        signal.signal(signal.SIGTERM, before)


PRINTS = """
import sys, types
from video_pose.cli.main import VERBS, Verb, main
module = types.ModuleType("verb_of_a_test")
module.add_arguments = lambda parser: None
def run(args):
    for _ in range({lines}):
        print("a line")
    print("it went on to the end", file=sys.stderr)
    return 0
module.run = run
sys.modules["verb_of_a_test"] = module
VERBS["test"] = Verb("verb_of_a_test", "", (), False)
sys.exit(main(["test"]))
"""


@pytest.mark.parametrize("lines", [1, 5_000])
@pytest.mark.parametrize(
    ("kind", "status", "said"),
    [
        ("full", 1, ["error: cannot write standard output: No space left on device"]),
        ("unread", 141, []),
        ("closed", 0, []),
    ],
)
def test_output_that_nobody_takes(kind: str, status: int, said: list[str], lines: int) -> None:
    """The command goes on: what it writes to files counts."""
    code = PRINTS.format(lines=lines)
    command = [sys.executable, "-c", code]
    variables = {**os.environ, "PYTHONPATH": str(ROOT / "projects")}
    if kind == "full":
        out = os.open("/dev/full", os.O_WRONLY)
    else:
        read, out = os.pipe()
        os.close(read)
    if kind == "closed":
        command = ["/bin/sh", "-c", 'exec "$0" "$@" >&-', *command]
    try:
        result = subprocess.run(
            command, stdout=out, stderr=subprocess.PIPE, text=True, env=variables
        )
    finally:
        os.close(out)
    assert result.stderr.splitlines() == ["it went on to the end", *said]
    assert result.returncode == status
