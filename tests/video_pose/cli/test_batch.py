"""Many videos: every row once, whatever is killed; a bad video stops nothing."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

from video_pose.cli import batch
from video_pose.cli.jobs import Job
from video_pose.cli.main import main
from video_pose.engine.checkpointer import PoseCheckpointer
from video_pose.files import replacing_file
from video_pose.inference.inputs import Input
from video_pose.inference.predictor import load_cfg
from video_pose.video_io.writing import VideoWriter

ROOT = Path(__file__).parents[3]
CONFIG = str(ROOT / "configs/quickstart/unipose_lstm_R18_synthetic_jhmdb.yaml")
CHOICES = ["--config-file", CONFIG, "--region", "frame", "--format", "csv"]
FRAMES = 4


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """Six short videos, one of them no video at all, and two of one name."""
    folder = tmp_path / "videos"
    (folder / "more").mkdir(parents=True)
    for name in ("a", "b", "c", "d", "more/a"):
        with VideoWriter(folder / f"{name}.mp4", 10) as writer:
            for i in range(FRAMES):
                writer.write(np.full((32, 48, 3), 40 * i, np.uint8), i / 10)
    (folder / "bad.mp4").write_bytes(b"this is no video")
    return folder


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Does the jobs in this process; the names of the videos that were done."""
    done: list[str] = []

    def run(args, jobs):
        predictor = batch.build_predictor(args)
        for job in jobs:
            done.append(job.item.name)
            yield batch.do_job(args, predictor, job)

    monkeypatch.setattr(batch, "run_on_processes", run)
    return done


def records(folder: Path) -> dict[str, dict]:
    lines = [line for path in sorted(folder.glob("manifest*.jsonl"))
             for line in path.read_text().splitlines()]  # fmt: skip
    return {record["name"]: record for record in map(json.loads, lines)}


def test_a_bad_video_is_recorded_and_the_rest_is_done(
    here: list[str], videos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    arguments = ["batch", f"{videos}/**/*.mp4", "--output", str(out), *CHOICES]
    assert main(arguments) == 1
    found = records(out)
    assert len(found) == 6 and len({name for name in found if name.startswith("a-")}) == 2
    assert {name: r["status"] for name, r in found.items() if name[0] != "a"} == {
        "b": "done", "bad": "failed", "c": "done", "d": "done",
    }  # fmt: skip
    assert found["b"]["frames"] == FRAMES and found["b"]["people"] == 1
    assert "bad.mp4" in found["bad"]["reason"] and found["bad"]["files"] == []
    tables = sorted((out / "csv").iterdir())
    assert [path.name for path in tables if path.name[0] != "a"] == ["b.csv", "c.csv", "d.csv"]
    assert all(len(path.read_text().splitlines()) == 1 + FRAMES * 15 for path in tables)
    assert (out / "csv" / "c.csv").read_text().splitlines()[1].startswith("c,0,")
    assert "6 videos: 5 done, 1 failed, 0 passed over; 20 frames" in capfd.readouterr().out


def test_a_second_run_does_what_is_left(here: list[str], videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["batch", str(videos), "--output", str(out), *CHOICES]
    assert main(arguments) == 1
    here.clear()
    assert main(arguments) == 0 and here == []  # also not the failed one
    with VideoWriter(videos / "new.mp4", 10) as writer:
        writer.write(np.zeros((32, 48, 3), np.uint8), 0)
    assert main([*arguments, "--retry-failed"]) == 1 and sorted(here) == ["bad", "new"]
    here.clear()
    manifest = out / "manifest.jsonl"
    # A kill tore the last line, of the new video.
    manifest.write_text(manifest.read_text()[:-40])
    left = out / "csv" / ".partial-77-new.csv"
    left.touch()
    assert main(arguments) == 0 and here == ["new"]
    assert not left.exists() and len(records_of_lines(manifest)) == 8


@pytest.mark.parametrize("output", ["out", "."])
def test_overlays_are_no_videos(videos: Path, monkeypatch: pytest.MonkeyPatch, output: str) -> None:
    monkeypatch.chdir(videos)
    overlays = videos / output / "video"
    overlays.mkdir(parents=True)
    (overlays / "b.mp4").touch()
    given: list[str] = []

    def nothing(args, jobs):
        given.extend(job.item.identity for job in jobs)
        return iter(())

    monkeypatch.setattr(batch, "run_jobs", nothing)
    assert main(["batch", "**/*.mp4", "--video", "--output", output, *CHOICES]) == 0
    names = ("a", "b", "bad", "c", "d", "more/a")
    assert given == [f"{os.getcwd()}/{name}.mp4" for name in names]


def records_of_lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_shards_share_the_work(here: list[str], videos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (videos / "bad.mp4").unlink()
    arguments = ["batch", str(videos), "--output", str(out), *CHOICES]
    for shard in (1, 2, 3):
        assert main([*arguments, "--shard", f"{shard}/3"]) == 0
    assert sorted(here) == ["a", "b", "c", "d"]
    assert len(list(out.glob("manifest-0000?-of-00003.jsonl"))) == 3
    assert main(arguments) == 0 and len(here) == 4  # by one process, with nothing left


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shard", "4/3"], "--shard '4/3': expected I/N"),
        (["--shard", "0/3"], "expected I/N"),
        (["--workers", "0"], "--workers 0: expected 1 or more"),
        (["--engine", "spark"], "--engine 'spark': choose from local, ray"),
        (["--format", "xml"], "format 'xml': choose from"),
        (["--table", "wide"], "this folder was begun with --table 'long', now it is 'wide'"),
    ],
)
def test_arguments_that_cannot_be(
    here: list[str],
    videos: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    start = ["batch", str(videos / "b.mp4"), "--output", str(tmp_path / "out"), *CHOICES]
    assert main(start) == 0
    assert main([*start, *arguments]) == 1
    err = capfd.readouterr().err
    assert message in err and "Traceback" not in err


def test_a_list_in_a_file(here: list[str], videos: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text(f"{videos}/b.mp4\n\n{videos}/d.mp4\n{videos}/b.mp4\n")
    assert main(["batch", f"@{listed}", "--output", str(tmp_path / "o"), *CHOICES]) == 0
    assert here == ["b", "d"]


def test_a_folder_as_it_comes(
    here: list[str], videos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Names with spaces, letters of other scripts and a line break; an empty file; a photo; a
    text; a link to nothing."""
    names = ["with a space", "Übung 体操", "two\nlines"]
    for name in names:
        os.link(videos / "b.mp4", videos / f"{name}.mp4")
    (videos / "empty.mp4").touch()
    (videos / "notes.txt").write_text("no video")
    (videos / "gone.mp4").symlink_to(videos / "nothing.mp4")
    cv2.imwrite(str(videos / "photo.png"), np.zeros((32, 48, 3), np.uint8))
    out = tmp_path / "out"
    assert main(["batch", str(videos), "--output", str(out), *CHOICES]) == 1
    found = records(out)
    failed = {name for name, record in found.items() if record["status"] == "failed"}
    assert failed == {"bad", "empty"}
    assert set(found) - failed == {"a", "b", "c", "d", "photo", *names}
    assert found["photo"]["frames"] == 1 and found["two\nlines"]["frames"] == FRAMES
    assert (out / "csv" / "Übung 体操.csv").read_text().splitlines()[1].startswith("Übung 体操,0,")
    printed, err = capfd.readouterr()
    assert "10 videos: 8 done, 2 failed" in printed and "/10 (0 s left)" in err
    assert all("s left) " in line for line in err.splitlines() if line.startswith("two"))
    assert not (out / "resume").exists()


def test_a_name_that_an_earlier_run_has_given_stays_its_own(
    here: list[str], videos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for clip in ("a.mp4", "more/a.mp4", "a.mp4"):
        assert main(["batch", str(videos / clip), "--output", str(out), *CHOICES]) == 0
    assert len(here) == 2 and here[0] == "a" and here[1].startswith("a-")
    assert {path.stem for path in (out / "csv").iterdir()} == set(here)


def test_lists_may_have_comments_and_files_that_are_missing(
    here: list[str], videos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    listed, out = tmp_path / "list.txt", tmp_path / "o"
    listed.write_text(f"\ufeff# of today\r\n{videos}/b.mp4\r\n\n{videos}/lost.mp4\n")
    assert main(["batch", f"@{listed}", "--output", str(out), *CHOICES]) == 1
    found = records(out)
    assert {name: record["status"] for name, record in found.items()} == {
        "b": "done", "lost": "failed",
    }  # fmt: skip
    assert "lost.mp4" in found["lost"]["reason"]
    capfd.readouterr()
    for spec, message in (
        (f"{videos}/*.webm", "no video and no image in"),
        (f"@{tmp_path}/none.txt", "none.txt"),
    ):
        assert main(["batch", spec, "--output", str(out), *CHOICES]) == 1
        err = capfd.readouterr().err
        assert message in err and err.count("error") == 1 and "Traceback" not in err


def test_a_shard_is_one_processes(videos: Path, tmp_path: Path) -> None:
    manifest = batch.Manifest(tmp_path, 1, 1)
    program = "import sys; from pathlib import Path; from video_pose.cli.batch import Manifest\n"
    program += "try: Manifest(Path(sys.argv[1]), 1, 1)\nexcept ValueError as error: print(error)"
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{manifest.path} is in use by another run: wait for it\n"
    manifest.close()


def test_a_video_that_was_cut_off_is_an_error(
    here: list[str], videos: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What is there of it is done, and it is not tried again."""
    whole = (videos / "b.mp4").read_bytes()
    (videos / "b.mp4").write_bytes(whole[: whole.rindex(b"mfra") - 40])
    arguments = ["batch", str(videos / "[bc].mp4"), "--output", str(tmp_path / "o"), *CHOICES]
    assert main(arguments) == 1
    out, err = capfd.readouterr()
    (problem,) = records(tmp_path / "o")["b"]["problems"]
    assert f"error: {problem}\n" in err and err.count("error: ") == 1
    assert ") b: done, " in err and " 1 person, 1 problem\n" in err
    assert "2 videos: 2 done (1 with problems), 0 failed, 0 passed over" in out
    assert main([*arguments, "--retry-failed"]) == 0 and here == ["b", "c"]


def _fakes(monkeypatch: pytest.MonkeyPatch, act: Callable) -> list:
    """In place of processes, with real pipes: ``act(worker, job)`` when one is given a job."""
    made: list = []

    class Fake(batch._Worker):
        def __init__(self, args: object) -> None:
            self.connection, self.theirs = multiprocessing.Pipe()
            self.process = SimpleNamespace(  # type: ignore[assignment]
                join=lambda seconds: None, terminate=lambda: None, is_alive=lambda: False,
                exitcode=-9,
            )  # fmt: skip
            self.job, self.done = None, 0
            made.append(self)
            self.theirs.send(batch._Message(["WARNING: untrained"]))

        def give(self, job) -> None:
            act(self, job, super().give)

    monkeypatch.setattr(batch, "_Worker", Fake)
    return made


def _jobs(*names: str) -> list:
    return [Job(Input(f"{name}.mp4", name, (f"{name}.mp4",)), None, {}) for name in names]


def _answer(worker, job) -> None:
    assert worker.theirs.recv() == job
    lines = ["WARNING: untrained", f"WARNING: of {job.item.name}"]
    worker.theirs.send(batch._Message(lines, batch.record_of(job, "", 0.1)))


def test_processes_that_die_between_two_videos_cost_none(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The first dies behind its first record, the second behind the last; what they have logged is
    said once."""

    def act(worker, job, give) -> None:
        if worker is made[0] and worker.job is not None:
            worker.theirs.close()
        give(job)
        _answer(worker, job)
        if job.item.name == "c":
            worker.theirs.close()

    made = _fakes(monkeypatch, act)
    found = list(batch.run_on_processes(Namespace(workers=1), _jobs("a", "b", "c")))
    assert [(r["name"], r["status"]) for r in found] == [(name, "done") for name in "abc"]
    assert len(made) == 2
    said = capfd.readouterr().err.splitlines()
    assert said == ["WARNING: untrained", *(f"WARNING: of {name}" for name in "abc")]


def test_a_process_that_dies_with_its_video_unread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its end of the pipe is reset, not just closed."""

    def act(worker, job, give) -> None:
        give(job)
        worker.theirs.close() if job.item.name == "a" else _answer(worker, job)

    made = _fakes(monkeypatch, act)
    found = list(batch.run_on_processes(Namespace(workers=1), _jobs("a", "b")))
    assert [(r["name"], r["reason"]) for r in found] == [
        ("a", "its process ended with signal 9"), ("b", ""),
    ]  # fmt: skip
    assert len(made) == 2


def test_processes_that_die_at_once_are_not_started_for_ever(monkeypatch) -> None:
    def act(worker, job, give) -> None:
        worker.theirs.close()
        give(job)

    made = _fakes(monkeypatch, act)
    with pytest.raises(ValueError, match="a worker ended with status -9 before its first video"):
        list(batch.run_on_processes(Namespace(workers=1), _jobs("a", "b")))
    assert len(made) == 1


def test_warnings_of_a_worker_come_with_its_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's own end, in this process."""
    ours, theirs = multiprocessing.Pipe()
    logger = logging.getLogger("video_pose.x")

    def prepare(args):
        logger.warning("PyTorch in the place of %s", "openvino")

    def do_job(args, predictor, job):
        logger.info("of no interest")
        logger.warning("%s has times of its own", job.item.name)
        return batch.record_of(job, "", 0.1)

    monkeypatch.setattr(batch, "_prepare", prepare)
    monkeypatch.setattr(batch, "do_job", do_job)
    monkeypatch.setattr(batch.signal, "signal", lambda *rest: None)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    (job,) = _jobs("a")
    ours.send(job)
    ours.send(None)
    batch._work(Namespace(), theirs)
    assert ours.recv() == batch._Message(["WARNING: PyTorch in the place of openvino"])
    message = ours.recv()
    assert message.lines == ["WARNING: a has times of its own"] and message.record["name"] == "a"

    def refuse(args):
        raise ValueError("no such model")

    monkeypatch.setattr(batch, "_prepare", refuse)
    batch._work(Namespace(), theirs)
    assert ours.recv() == batch._Message([], error="no such model")
    ours.close()
    monkeypatch.setattr(batch, "_prepare", prepare)
    batch._work(Namespace(), theirs)  # the parent is gone: no error


def _die(args: object, predictor: object, job) -> dict:
    """In place of `do_job`: one video ends its process."""
    if job.item.name == "b":
        os.kill(os.getpid(), signal.SIGKILL)
    return batch.record_of(job, "", 0.1, batch.Summary(frames=1))


def _work_that_dies(args, connection) -> None:
    batch.build_predictor = lambda args: None  # type: ignore[assignment]
    batch.do_job = _die  # type: ignore[assignment]
    batch._work(args, connection)


@pytest.mark.slow
def test_a_process_that_dies_costs_one_video(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real processes, whose second video is their end."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    monkeypatch.setattr(batch, "_work", _spawnable())
    assert main(["batch", str(videos), "--output", str(tmp_path / "o"), "--workers", "2",
                 *CHOICES]) == 1  # fmt: skip
    found = {name: (r["status"], r["reason"]) for name, r in records(tmp_path / "o").items()}
    assert found.pop("b") == ("failed", "its process ended with signal 9")
    assert {status for status, _ in found.values()} == {"done"} and len(found) == 4


def _spawnable() -> Callable:
    """`_work_that_dies` under a name that a new process can import."""
    import importlib

    return importlib.import_module(Path(__file__).stem)._work_that_dies


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Of the small model: without a file each process would have its own."""
    torch.manual_seed(0)
    model = build_model(load_cfg(CONFIG, ["MODEL.DEVICE", "cpu"]))
    PoseCheckpointer(model, str(tmp_path)).save("weights")
    return tmp_path / "weights.pth"


@pytest.mark.slow
def test_killed_twice_two_workers_give_what_one_process_gives(
    here: list[str], videos: Path, weights: Path, tmp_path: Path
) -> None:
    """The command in a process of its own, killed while it works, after 3 and after 8 videos: its
    tables are those of a run of one process, byte by byte."""
    for i in range(12):
        os.link(videos / "c.mp4", videos / f"e{i:02d}.mp4")
    (videos / "bad.mp4").unlink()
    choices = [*CHOICES, "--backend", "torch", "--opts", "MODEL.WEIGHTS", str(weights)]
    assert main(["batch", str(videos), "--output", str(tmp_path / "one"), *choices]) == 0
    out = tmp_path / "out"
    command = [sys.executable, "-m", "video_pose", "batch", str(videos), "--output", str(out)]
    command += ["--workers", "2", *choices]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    manifest = out / "manifest.jsonl"
    for enough in (3, 8):
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=environment)
        deadline = time.monotonic() + 600
        while not (manifest.exists() and len(records_of_lines(manifest)) >= enough):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.kill()
        process.wait()
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    tables = sorted(path.name for path in (tmp_path / "one" / "csv").iterdir())
    assert len(tables) == 16 and sorted(path.name for path in (out / "csv").iterdir()) == tables
    for name in tables:
        found, expected = (folder / "csv" / name for folder in (out, tmp_path / "one"))
        assert found.read_bytes() == expected.read_bytes(), name
    done = [json.loads(line) for line in records_of_lines(manifest) if line.endswith("}")]
    assert sorted(f"{record['name']}.csv" for record in done) == tables


DIE_ONCE = """
import os, pathlib, signal
from video_pose.plugins import WRITERS
from video_pose.inference.writers import Format
from video_pose.inference.writers.tables import CsvWriter

class Dying(CsvWriter):
    def write(self, frame):
        if frame.video == "c" and frame.index == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        super().write(frame)

WRITERS.add("dying")(Format(".dying.csv", Dying))
"""


@pytest.mark.slow
def test_rays_actors_give_what_one_process_gives(
    here: list[str], videos: Path, weights: Path, tmp_path: Path
) -> None:
    """Two actors, one of which dies of video c: that one is recorded, and all others are done."""
    pytest.importorskip("ray")
    plugin = tmp_path / "dying.py"
    plugin.write_text(DIE_ONCE)
    model_choices = ["--config-file", CONFIG, "--region", "frame", "--backend", "torch"]
    command = ["batch", str(videos), *model_choices, "--output"]
    last = ["--opts", "MODEL.WEIGHTS", str(weights)]
    assert main([*command, str(tmp_path / "one"), "--format", "csv", *last]) == 1
    process = subprocess.run(
        [sys.executable, "-m", "video_pose", *command, str(tmp_path / "ray"), "--engine", "ray",
         "--workers", "2", "--format", "csv", "dying", *last],
        env={**os.environ, "OMP_NUM_THREADS": "1", "VIDEO_POSE_PLUGINS": str(plugin)},
        capture_output=True, text=True, timeout=900,
    )  # fmt: skip
    assert process.returncode == 1, process.stderr
    assert "5 videos: 3 done, 2 failed" in process.stdout
    found = records(tmp_path / "ray")
    assert found["c"]["reason"].startswith("its process, an actor of Ray's, ended")
    assert not (tmp_path / "ray" / "resume" / ".begun-c").exists()
    assert {name for name, record in found.items() if record["status"] == "done"} == set("abd")
    for name in "abd":
        table = f"csv/{name}.csv"
        assert (tmp_path / "ray" / table).read_bytes() == (tmp_path / "one" / table).read_bytes()


def test_a_worker_that_is_ended_takes_away_what_is_half_written(tmp_path: Path) -> None:
    """Once: the service manager's signal comes from the parent as well."""
    before = signal.signal(signal.SIGTERM, batch._end)
    try:
        with pytest.raises(SystemExit) as end, replacing_file(tmp_path / "a.csv") as file:
            file.write(b"half")
            try:
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(5)
            finally:
                os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert end.value.code == 130 and os.listdir(tmp_path) == []
