"""`--resume`: runs that were cut off, by an error or by SIGKILL, and what they lead to."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from detectron2.config import CfgNode

from video_pose.cli import batch, predict
from video_pose.cli.jobs import Job
from video_pose.cli.main import main
from video_pose.data.synthetic.scene import render_scene
from video_pose.engine.checkpointer import PoseCheckpointer
from video_pose.inference.inputs import Owners
from video_pose.modeling.backend import TorchBackend
from video_pose.video_io.writing import VideoWriter

ROOT = Path(__file__).parents[3]
CONFIG = str(ROOT / "configs/quickstart/unipose_lstm_R18_synthetic_jhmdb.yaml")
FRAMES = 12
Run = Callable[..., tuple[int, str, str]]


def write_clip(path: Path, frames: int, seed: int = 5) -> Path:
    scene = render_scene(seed, people=1, frames=frames, size=(96, 72), occluders="none")
    with VideoWriter(path, 25) as writer:
        for i, picture in enumerate(scene.frames):
            writer.write(picture, i / 25)
    return path


@pytest.fixture
def weights(
    pose_cfg: Callable[..., CfgNode],
    build_backend: Callable[[CfgNode], TorchBackend],
    tmp_path: Path,
) -> Path:
    """Of a small model; without a file each process would have its own."""
    model = build_backend(pose_cfg()).model
    PoseCheckpointer(model, str(tmp_path)).save("weights")
    return tmp_path / "weights.pth"


def choices(weights: Path) -> list[str]:
    return ["--config-file", CONFIG, "--region", "pose", "--smooth", "--backend", "torch",
            "--format", "csv", "parquet", "jsonl", "trc",
            "--opts", "MODEL.WEIGHTS", str(weights)]  # fmt: skip


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], weights: Path) -> Run:
    """run(video, "--output", ...) -> status, output, errors; a checkpoint every 2 frames."""

    def call(*arguments: object) -> tuple[int, str, str]:
        every = ["--checkpoint-every", "2f"]
        status = main(["predict", *map(str, arguments), *every, *choices(weights)])
        out, err = capfd.readouterr()
        return status, out, err

    return call


def files_of(folder: Path) -> dict[str, bytes]:
    """Tables by name, and the overlay's decoded pictures."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix == ".mp4":
            with av.open(str(path)) as container:
                pictures = [f.to_ndarray(format="bgr24").tobytes() for f in container.decode()]
            found[path.name] = b"".join(pictures)
        elif path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


class Cut(BaseException):
    """As a kill, within the process."""


def cut_after(monkeypatch: pytest.MonkeyPatch, frames: int, end: type[BaseException] = Cut) -> None:
    """The overlay's picture of frame ``frames`` is the end."""
    draw, drawn = predict.draw, []

    def drawing(*arguments: Any) -> Any:
        drawn.append(1)
        if len(drawn) > frames:
            raise end
        return draw(*arguments)

    monkeypatch.setattr(predict, "draw", drawing)


def test_who_ends_a_run_is_told_how_it_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, out = write_clip(tmp_path / "a.mp4", FRAMES), tmp_path / "out"
    with monkeypatch.context() as patch:
        cut_after(patch, 5, KeyboardInterrupt)
        status, printed, err = run(clip, "--output", out)
    assert status == 130 and err.endswith("interrupted\n")
    told = "; results of a are not whole: the same command with --resume goes on\n"
    assert printed.endswith(told) and (out / "a.resume").exists()
    assert run(clip, "--output", out, "--resume")[0] == 0


def test_a_run_that_was_cut_off_goes_on(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_clip(tmp_path / "a.mp4", FRAMES)
    assert run(clip, "--output", tmp_path / "whole")[0] == 0
    expected = files_of(tmp_path / "whole")
    out = tmp_path / "out"
    for frames in (5, 9):  # the second from the checkpoint behind frame 6 on
        with monkeypatch.context() as patch:
            cut_after(patch, frames)
            with pytest.raises(Cut):
                run(clip, "--output", out, *(["--resume"] if frames > 5 else []))
    saved = json.loads((out / "a.resume" / "checkpoint.json").read_text())
    assert saved["frames"] == 10
    status, _, err = run(clip, "--output", out)
    assert status == 1 and "or --overwrite; --resume goes on where a run was cut off" in err
    status, printed, _ = run(clip, "--output", out, "--resume")
    assert status == 0 and f"{FRAMES} frames (10 done before)" in printed
    assert files_of(out) == expected
    before = {path: path.stat().st_mtime_ns for path in out.iterdir()}
    status, printed, _ = run(clip, "--output", out, "--resume")
    assert status == 0 and printed == "1 source done before\n"
    assert {path: path.stat().st_mtime_ns for path in out.iterdir()} == before


def test_results_of_another_video_of_the_same_name_are_its_own(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of two cameras the second is done, when the first one's video of that name comes."""
    for name in ("cam1", "cam2", "cam3"):
        (tmp_path / "rs" / name).mkdir(parents=True)
    out = tmp_path / "rs" / "out"
    command = (f"{tmp_path}/rs/*/a.mp4", "--output", out, "--end", "4f")
    write_clip(tmp_path / "rs" / "cam2" / "a.mp4", 4)
    assert run(*command, "--resume")[0] == 0
    second = (out / "a.csv").read_bytes()
    write_clip(tmp_path / "rs" / "cam1" / "a.mp4", 4, seed=6)
    with monkeypatch.context() as patch:
        cut_after(patch, 3)
        with pytest.raises(Cut):
            run(*command, "--resume")
    write_clip(tmp_path / "rs" / "cam3" / "a.mp4", 4, seed=7)
    status, printed, _ = run(*command, "--resume")
    assert status == 0 and "1 source done before" in printed
    assert "2 sources, 8 frames (" in printed and " done before)" in printed
    assert (out / "a.csv").read_bytes() == second != (out / "a_2.csv").read_bytes()
    tables = {path.name for path in out.glob("*.csv")}
    assert tables == {"a.csv", "a_2.csv", "a_3.csv"}
    assert run(*command, "--resume")[1] == "3 sources done before\n"
    # Alone, too, a video is known by its place and not by its name.
    third = tmp_path / "rs" / "cam3" / "a.mp4"
    assert run(third, "--output", out, "--end", "4f", "--resume")[1] == "1 source done before\n"
    # Results that are gone have no name.
    for path in out.glob("a_3*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert Owners(out).inputs.keys() == {"a", "a_2"}
    # A file that was moved keeps its results: where it was is nothing any more.
    moved = tmp_path / "a.mp4"
    (tmp_path / "rs" / "cam2" / "a.mp4").rename(moved)
    kept = files_of(out)
    assert run(moved, "--output", out, "--end", "4f", "--resume")[1] == "1 source done before\n"
    assert "is taken for done, by its name: " in caplog.text and "is gone" in caplog.text
    # So does one drawn video, which another input may not have.
    drawn = tmp_path / "drawn.mp4"
    assert run(moved, "--output", drawn, "--end", "4f")[0] == 0
    assert run(moved, "--output", drawn, "--resume")[1] == "1 source done before\n"
    status, _, err = run(third, "--output", drawn, "--resume")
    assert status == 1 and f"{drawn} is of {moved}, and not of {third}: choose" in err
    # Where the cache folder is gone, the name alone can tell.
    monkeypatch.setenv("VIDEO_POSE_CACHE", str(tmp_path / "cache"))
    status, printed, _ = run(third, "--output", out, "--end", "4f", "--resume")
    assert status == 0 and printed == "1 source done before\n"
    assert "is taken for done, by its name: which input it is of is not kept" in caplog.text
    assert files_of(out) == kept
    (tmp_path / "cache").write_text("a file")
    status, _, _ = run(third, "--output", tmp_path / "other", "--end", "4f", "--resume")
    assert status == 0 and "cannot keep which input results are of" in caplog.text


def test_what_cannot_be_gone_on_with_is_one_line(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip, out = write_clip(tmp_path / "a.mp4", FRAMES), tmp_path / "out"
    with monkeypatch.context() as patch:
        cut_after(patch, 5)
        with pytest.raises(Cut):
            run(clip, "--output", out)
    kept = files_of(out)
    for arguments, other in (
        (["--cut-threshold", ".5"], "choice of people"),
        (["--start", "2f"], "part of it"),
        (["--precision", "bfloat16"], "model"),
    ):
        status, _, err = run(clip, "--output", out, "--resume", *arguments)
        assert status == 1
        assert f"a.resume was begun with another {other}: delete it to begin anew" in err
        assert len([line for line in err.splitlines() if "error" in line]) == 1
    write_clip(clip, FRAMES, seed=6)
    status, _, err = run(clip, "--output", out, "--resume")
    assert status == 1 and "was begun with another input" in err and files_of(out) == kept
    assert run(clip, "--output", out, "--overwrite")[0] == 0  # which begins anew
    assert not (out / "a.resume").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--resume", "--overwrite", "--output", "o"], "--resume does not go with --overwrite"),
        (["--resume", "--heatmaps", "--output", "o"], "--resume does not go with --heatmaps"),
        (["--resume"], "--resume needs --output"),
        (["--checkpoint-every", "soon", "--output", "o"], "'soon': expected frames (250f)"),
        (["--checkpoint-every", "0f", "--output", "o"], "0f: expected 1f or more"),
    ],
)
def test_what_contradicts_itself_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.mp4").touch()
    assert main(["predict", "a.mp4", *arguments]) == 1
    err = capfd.readouterr().err
    assert message in err and err.count("error") == 1


def test_a_batch_goes_on_inside_a_video_by_itself(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = write_clip(tmp_path / "a.mp4", FRAMES)

    def here(args: Namespace, jobs: list[Job]) -> Iterator[dict[str, Any]]:
        predictor = batch.build_predictor(args)
        for job in jobs:
            yield batch.do_job(args, predictor, job)

    monkeypatch.setattr(batch, "run_on_processes", here)
    command = ["batch", str(clip), "--video", "--checkpoint-every", "2f", "--output"]
    assert main([*command, str(tmp_path / "whole"), *choices(weights)]) == 0
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        cut_after(patch, 7)
        with pytest.raises(Cut):
            main([*command, str(out), *choices(weights)])
    assert not list((out / "csv").iterdir()) and (out / "resume" / "a").is_dir()
    assert main([*command, str(out), *choices(weights)]) == 0
    record = json.loads((out / "manifest.jsonl").read_text())
    assert (record["frames"], record["resumed"]) == (FRAMES, 8)
    found, expected = files_of(out), files_of(tmp_path / "whole")
    assert not (out / "resume").exists()
    for files in (found, expected):
        del files["manifest.jsonl"]
    assert found == expected


LONG, KILLS = 150, (15, 40, 60, 90, 110)  # the last at 73 %


@pytest.mark.slow
def test_killed_five_times_a_video_is_as_if_never(weights: Path, tmp_path: Path) -> None:
    """Processes of their own, ended by SIGKILL once a checkpoint holds so many frames."""
    clip = write_clip(tmp_path / "a.mp4", LONG)
    command = [sys.executable, "-m", "video_pose", "predict", str(clip), "--checkpoint-every", "5f"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}

    def start(folder: str) -> subprocess.Popen:
        arguments = [*command, "--output", str(tmp_path / folder), *choices(weights)]
        if (tmp_path / folder).exists():
            arguments.insert(arguments.index("--output"), "--resume")
        return subprocess.Popen(arguments, stderr=subprocess.PIPE, env=environment)

    assert start("whole").wait() == 0
    mark = tmp_path / "out" / "a.resume" / "checkpoint.json"
    for frames in KILLS:
        process = start("out")
        deadline = time.monotonic() + 600
        while not mark.exists() or json.loads(mark.read_text())["frames"] < frames:
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.005)
        process.kill()
        process.wait()
    last = start("out")
    _, err = last.communicate()
    assert last.returncode == 0, err.decode()
    found, expected = files_of(tmp_path / "out"), files_of(tmp_path / "whole")
    assert found.keys() == expected.keys() and not mark.exists()
    for name, content in expected.items():
        assert found[name] == content, name
    assert len(found["a.mp4"]) > 0 and len(found["a.mp4"]) % LONG == 0
