"""`video-pose predict` from arguments to files: what is written, replaced, refused and said."""

from __future__ import annotations

import csv
import os
import shutil
import struct
import zlib
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch

from video_pose import inference
from video_pose.cli import predict
from video_pose.cli.main import main
from video_pose.inference import PredictorSettings
from video_pose.inference.inputs import find_inputs
from video_pose.video_io.writing import VideoWriter
from video_pose.visualization import overlay

ROOT = Path(__file__).parents[3]
CONFIG = str(ROOT / "configs/quickstart/unipose_lstm_R18_synthetic_jhmdb.yaml")
FRAMES = 8


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def clips(tmp_path: Path) -> Path:
    """A folder of two short videos."""
    folder = tmp_path / "clips"
    folder.mkdir()
    for name in ("a", "b"):
        with VideoWriter(folder / f"{name}.mp4", 10) as writer:
            for i in range(FRAMES):
                writer.write(np.full((64, 96, 3), 20 * i, np.uint8), i / 10)
    return folder


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """run("clips", "--output", ...) -> status, output, errors; one person in the whole frame."""

    def call(*arguments: object) -> tuple[int, str, str]:
        choices = ["--config-file", CONFIG, "--region", "frame"]
        status = main(["predict", *map(str, arguments), *choices])
        out, err = capfd.readouterr()
        return status, out, err

    return call


def table(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def names_in(folder: Path) -> set[str]:
    """What a user sees of a folder."""
    return {path.name for path in folder.iterdir() if path.name[0] != "."}


def test_a_folder_and_a_pattern_of_videos(run: Callable, clips: Path, tmp_path: Path) -> None:
    status, out, _ = run(clips, "--output", tmp_path / "o", "--format", "csv", "--table", "wide")
    assert status == 0
    assert names_in(tmp_path / "o") == {
        "a.csv", "a.mp4", "b.csv", "b.mp4",
    }  # fmt: skip
    assert len(table(tmp_path / "o" / "a.csv")) == FRAMES
    last = out.splitlines()[-1]
    assert last.startswith("2 sources, 16 frames, 2 people, ")
    assert last.endswith(f"4 files in {tmp_path / 'o'}")
    status, out, _ = run(f"{clips}/*.mp4", "--output", tmp_path / "p", "--no-video")
    assert status == 0 and len(names_in(tmp_path / "p")) == 2


def test_a_page_about_a_video(run: Callable, clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    status, _, _ = run(clips / "a.mp4", "--output", out, "--report")
    assert status == 0 and names_in(out) == {"a.html", "a.jsonl", "a.mp4"}
    page = (out / "a.html").read_text()
    assert f"{FRAMES} frames, 0.8 s at 10 frames a second; 1 person." in page
    assert "data:video/mp4;base64," in page and '<a href="a.jsonl">' in page
    assert "mode: causal, in one pass." in page and "video-pose" in page
    status, _, err = run(clips / "a.mp4", "--output", out, "--report")
    assert status == 1 and "exists" in err
    assert run(clips / "a.mp4", "--report")[0] == 1


def test_a_part_of_a_video_to_a_file_of_that_name(
    run: Callable, clips: Path, tmp_path: Path
) -> None:
    path = tmp_path / "drawn.mp4"
    part = ["--start", "2f", "--end", "0.6", "--step", "2f"]
    status, out, _ = run(clips / "a.mp4", "--output", path, "--format", "csv", *part)
    assert status == 0 and out.splitlines()[-1].endswith(f"2 files in {path}")
    assert sorted({row["frame"] for row in table(tmp_path / "drawn.csv")}) == ["2", "4"]
    assert int(cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT)) == 2
    status, _, err = run(clips / "a.mp4", "--output", tmp_path / "e.mp4", "--start", "99")
    assert status == 1 and "a: no frame between --start and --end" in err
    assert not (tmp_path / "e.mp4").exists()
    status, _, err = run(clips, "--output", path)
    assert status == 1 and "is one video: name a folder for 2" in err


def test_a_file_of_joined_parts_is_drawn_in_one_go(
    run: Callable, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The clock of the second part is behind the first one's."""
    joined = tmp_path / "joined.ts"
    for part, begin in (("a.ts", 50.0), ("b.ts", 1.0)):
        with av.open(str(tmp_path / part), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
            for i in range(FRAMES):
                frame = av.VideoFrame.from_ndarray(np.zeros((64, 96, 3), np.uint8), format="rgb24")
                frame.pts, frame.time_base = round(begin * 10) + i, Fraction(1, 10)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        with open(joined, "ab") as file:
            file.write((tmp_path / part).read_bytes())
    run(joined, "--output", tmp_path / "o")
    with av.open(str(tmp_path / "o" / "joined.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([i / 10 for i in range(2 * FRAMES)], abs=1e-3)
    said = "its sound, if any, does not go by the times of its frames: left out"
    assert said in caplog.text
    caplog.clear()
    run(joined, "--output", tmp_path / "t", "--no-video")
    assert "clock begins anew" in caplog.text and said not in caplog.text


def test_results_are_replaced_only_on_request(run: Callable, clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    arguments = [clips / "a.mp4", "--output", out, "--format", "csv"]
    assert run(*arguments)[0] == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    status, _, err = run(*arguments)
    assert status == 1 and err.count("error: ") == 1
    assert "a.mp4 and 1 more exists: choose another --output, or --overwrite" in err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert run(*arguments, "--overwrite", "--end", "3f")[0] == 0
    assert len(table(out / "a.csv")) == 3 * 15 and names_in(out) == {"a.csv", "a.mp4"}


def test_a_failing_run_leaves_the_earlier_result(
    run: Callable, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "o"
    arguments = [clips / "a.mp4", "--output", out, "--format", "csv", "--overwrite"]
    assert run(*arguments)[0] == 0
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def fail(*rest: object) -> None:
        raise ValueError("the disk is full")

    monkeypatch.setattr(predict, "draw", fail)
    status, _, err = run(*arguments)
    assert status == 1 and "error: the disk is full" in err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_a_folder_that_is_removed_meanwhile_is_said(
    run: Callable, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Files that are open would take all rows, and be gone."""
    out = tmp_path / "o"
    draw = predict.draw

    def remove(args, predictor, frame):
        if frame.index == 4:
            shutil.rmtree(out)
        return draw(args, predictor, frame)

    monkeypatch.setattr(predict, "draw", remove)
    status, _, err = run(clips / "a.mp4", "--output", out, "--format", "csv")
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 1 and len(errors) == 1 and f"cannot write {out}/a." in errors[0]
    assert "Traceback" not in err and not out.exists()


def test_a_source_without_a_frame_leaves_nothing(run: Callable, tmp_path: Path) -> None:
    """A picture of more pixels than the limit, alone: its header is read, and no pixel."""
    row = zlib.compress(bytes(20))
    size = struct.pack(">IIBBBBB", 15_000, 12_000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", size), (b"IDAT", row), (b"IEND", b"")]
    (tmp_path / "huge.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in chunks
        )
    )
    out = tmp_path / "o"
    status, _, err = run(tmp_path / "huge.png", "--output", out, "--format", "csv", "parquet")
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert status == 1 and len(errors) == 1 and "more pixels than the limit" in errors[0]
    assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--class", "dog"], "--class dog"),
        (["--detect-every", "2"], "--detect-every 2"),
        (["--max-missed", "3"], "--max-missed 3.0"),
        (["--confidence-threshold", ".7"], "--confidence-threshold 0.7"),
        (["--tracker", "iou"], "--tracker iou"),
    ],
)
def test_what_only_a_detector_goes_by_is_refused_without_one(
    run: Callable, clips: Path, tmp_path: Path, options: list[str], named: str
) -> None:
    status, _, err = run(clips / "a.mp4", "--output", tmp_path / "o", *options)
    assert status == 1 and f"error: {named} (" in err and "no effect with region 'frame'" in err


def test_no_output_is_an_input(run: Callable, clips: Path, tmp_path: Path) -> None:
    """Not the source's own file, and not that of another source either."""
    before = [path.read_bytes() for path in sorted(clips.iterdir())]
    os.link(clips / "b.mp4", tmp_path / "a.mp4")
    for arguments in ([clips, "--output", clips], [clips, "--output", tmp_path]):
        status, _, err = run(*arguments, "--overwrite")
        assert status == 1 and "a.mp4 would overwrite the input" in err
    assert [path.read_bytes() for path in sorted(clips.iterdir())] == before


def test_doubtful_joints_stay_empty(run: Callable, clips: Path, tmp_path: Path) -> None:
    out = tmp_path / "o"
    arguments = [clips / "a.mp4", "--output", out, "--format", "csv", "--no-video"]
    assert run(*arguments, "--joint-threshold", "1")[0] == 0
    rows = table(out / "a.csv")
    assert {row["x"] for row in rows} == {""} and all(row["score"] for row in rows)


def test_results_are_no_inputs(run: Callable, clips: Path, tmp_path: Path, monkeypatch) -> None:
    """The output folder below a pattern, and the one in which the inputs are."""
    out = clips / "more" / "out"
    (clips / "more").mkdir()
    os.rename(clips / "a.mp4", clips / "more" / "a.mp4")
    arguments = [f"{clips}/**/*.mp4", "--output", out, "--end", "1f"]
    for _ in range(2):
        status, printed, err = run(*arguments, "--overwrite")
        assert status == 0 and printed.splitlines()[-1].startswith("2 sources, 2 frames")
    assert names_in(out) == {f"{name}.{kind}" for name in "ab" for kind in ("mp4", "jsonl")}
    os.rename(clips / "b.mp4", clips / "b.m4v")
    monkeypatch.chdir(clips)
    for _ in range(2):
        status, printed, _ = run("*.m*", "--output", ".", "--end", "1f", "--overwrite")
        assert status == 0 and printed.splitlines()[-1].startswith("1 source, 1 frame")
    assert names_in(clips) == {"b.m4v", "b.mp4", "b.jsonl", "more"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--confidence-threshold", "50"], "'50': expected a number from 0 to 1"),
        (["--joint-threshold", "-.1"], "expected a number from 0 to 1"),
        (["--device", "cuda"], "finds no GPU"),
        (["--device", "tpu9"], "--device tpu9: expected cpu, cuda or cuda:N"),
        (["--start", "soon"], "'soon': expected frames (250f), seconds (2.5)"),
        (["--table", "broad", "--output", "o"], "table 'broad': choose from long, wide"),
        (["--angles", "--table", "long"], "--angles are columns of the wide table"),
        (["--angles", "--format", "trc", "--output", "o"], "--angles has no effect with --format"),
        (["--table", "wide", "--output", "o.mp4"], "no effect with a drawn video or picture alone"),
        (["--show"], "--show needs a display: neither DISPLAY nor WAYLAND_DISPLAY is set"),
        (["--webcam"], "--webcam and files: name one of them"),
        (["--format", "csv"], "--format needs --output"),
        (["--max-people", "-2", "--output", "o"], "max_people -2"),
    ],
)
def test_what_cannot_be_is_one_line(
    run: Callable,
    clips: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    status, _, err = run(clips / "a.mp4", *arguments)
    assert status in (1, 2)
    lines = [line for line in err.splitlines() if "error: " in line]
    assert len(lines) == 1 and message in lines[0]
    assert "Traceback" not in err


def test_nothing_named_is_said(run: Callable) -> None:
    status, _, err = run()
    assert status == 1 and "no input: name videos, pictures, folders or patterns" in err


def test_a_window_ends_with_q(
    run: Callable, clips: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The window shows three frames; then the user presses q."""
    shown: list[tuple[int, ...]] = []
    keys = iter([255, 255, ord("q")])
    monkeypatch.setattr(overlay, "_why_no_window", lambda: "")
    for name in ("namedWindow", "destroyWindow", "resizeWindow"):
        monkeypatch.setattr(cv2, name, lambda *rest: None)
    monkeypatch.setattr(cv2, "imshow", lambda title, picture: shown.append(picture.shape))
    monkeypatch.setattr(cv2, "waitKey", lambda delay: next(keys))
    monkeypatch.setattr(cv2, "getWindowProperty", lambda *rest: 1.0)
    status, out, err = run(clips / "a.mp4", "--show")
    assert status == 0 and len(shown) == 3 and out == ""
    assert "1 source, 3 frames" in err


def test_names_of_outputs_are_their_own(clips: Path) -> None:
    names = [item.name for item in find_inputs([str(clips / "a.mp4"), str(clips)])]
    assert len(set(names)) == 3


@pytest.mark.parametrize("mode", [["--offline"], ["--lag", "3"]])
def test_poses_that_wait(run: Callable, clips: Path, tmp_path: Path, mode: list[str]) -> None:
    """Every frame has its row and its picture, and the page says which mode made it."""
    out = tmp_path / "o"
    status, _, err = run(clips / "a.mp4", "--output", out, "--format", "csv", "--report", *mode)
    assert status == 0, err
    rows = table(out / "a.csv")
    assert sorted({int(row["frame"]) for row in rows}) == list(range(FRAMES))
    assert cv2.VideoCapture(str(out / "a.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == FRAMES
    said = "offline, the whole video: smoothed" if mode == ["--offline"] else "3 frames late"
    assert said in (out / "a.html").read_text()
    status, _, err = run(clips / "a.mp4", "--output", tmp_path / "p", "--smooth", *mode)
    assert status == 1 and "a smoothing of their own" in err


def test_photos_alone_are_stills(clips: Path, monkeypatch) -> None:
    """A picture among videos is looked at as they are: one predictor serves all."""
    stills: list[bool] = []
    plan_jobs = predict.plan_jobs

    class Stop(Exception):
        pass

    def from_config(config: str | None, options: list[str], settings: PredictorSettings) -> None:
        stills.append(settings.stills)
        raise Stop

    monkeypatch.setattr(inference.VideoPosePredictor, "from_config", from_config)
    cv2.imwrite(str(clips / "p.png"), np.full((64, 97, 3), 90, np.uint8))
    photo, video = str(clips / "p.png"), str(clips / "a.mp4")
    out = clips / "out"
    for given in ([photo], [photo, video], [video], [photo, "--config-file", CONFIG]):
        with pytest.raises(Stop):
            main(["predict", *given])
    # What is left after a run that was cut off is looked at as what was done.
    monkeypatch.setattr(predict, "plan_jobs", lambda args, items: plan_jobs(args, items)[:1])
    with pytest.raises(Stop):
        main(["predict", photo, video, "--output", str(out)])
    assert stills == [True, False, False, True, False]


def test_a_photo_gives_a_picture_and_an_album_one_each(run, tmp_path: Path) -> None:
    def sides(path: Path) -> Fraction:  # small pictures are drawn larger
        height, width, _ = cv2.imread(str(path)).shape
        return Fraction(height, width)

    album = tmp_path / "album"
    album.mkdir()
    for name, size in (("p.png", (64, 97)), ("q.png", (80, 64))):
        cv2.imwrite(str(album / name), np.full((*size, 3), 90, np.uint8))
    status, _, err = run(album / "p.png", "--output", tmp_path / "one", "--report")
    assert status == 0, err
    assert names_in(tmp_path / "one") == {"p.jpg", "p.jsonl", "p.html"}
    assert sides(tmp_path / "one" / "p.jpg") == Fraction(64, 97)
    page = (tmp_path / "one" / "p.html").read_text(encoding="utf-8")
    assert '<img src="data:image/jpeg;base64,' in page and "<video" not in page

    status, _, err = run(album, "--photos", "--output", tmp_path / "each")
    assert status == 0, err
    names = names_in(tmp_path / "each")
    assert names == {"p.jpg", "p.jsonl", "q.jpg", "q.jsonl"}
    assert sides(tmp_path / "each" / "q.jpg") == Fraction(80, 64)

    status, _, err = run(album / "q.png", "--output", tmp_path / "drawn.png")
    assert status == 0 and sides(tmp_path / "drawn.png") == Fraction(80, 64), err
    for given, message in (
        ([album, "--output", tmp_path / "x.png"], "album is no photo: name a folder"),
        ([album, "--photos", "--output", tmp_path / "x.jpg"], "one picture: name a folder for 2"),
        ([album / "q.png", "--output", album / "q.png"], "would overwrite the input"),
    ):
        status, _, err = run(*given)
        assert status == 1 and message in err and len(err.strip().splitlines()) == 1
    assert not (tmp_path / "x.png").exists() and not (tmp_path / "x.jpg").exists()
