"""The benchmark: its arithmetic by hand, its processes on tiny models; no figure is asserted."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import torch
from torch import nn

ROOT = Path(__file__).parents[2]
if str(ROOT / "tools") not in sys.path:
    sys.path.insert(0, str(ROOT / "tools"))

from benchmarking import loading, memory_mode, plan, report, timing, training  # noqa: E402
from benchmarking.flops import clip_flops, count_flops  # noqa: E402
from benchmarking.inputs import random_clip, single_frames  # noqa: E402
from benchmarking.job import Job, Measured, Timing  # noqa: E402
from benchmarking.worker import JobError, run_job  # noqa: E402

LSTM_PM = str(ROOT / "configs/LSTM-Pose-Machines/lstm_pm_small_synthetic_jhmdb.yaml")
UNIPOSE = str(ROOT / "configs/quickstart/unipose_lstm_R18_synthetic_jhmdb.yaml")
SMALL = ["MODEL.DEVICE", "cpu", "INPUT.CROP_SIZE", "(64, 64)"]
QUICK = Job("", [], LSTM_PM, SMALL, clip_length=2, train_clips=1, seconds=0.0, rounds=1)


@pytest.fixture
def tool(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("tools/benchmark.py")


def answer(row: str, seconds: list[float], flops: int = 0, peak: float = 0.0) -> Measured:
    peaks = {"float32": [peak / 2, peak]} if peak else {}
    return Measured([Timing(row, "float32", 5, flops, seconds)], peaks, 100.0, 130.0)


def test_variants_run_in_turn_after_an_unmeasured_pass() -> None:
    order: list[str] = []
    times = iter(range(100))

    def variant(name: str) -> Callable[[], float]:
        return lambda: (order.append(name), float(next(times)))[1]

    found = timing.alternate({"a": variant("a"), "b": variant("b")}, seconds=0.0, rounds=3)
    assert "".join(order) == "ab" + "ab" + "ba" + "ab"
    assert found == {"a": [2.0, 5.0, 6.0], "b": [3.0, 4.0, 7.0]}
    with pytest.raises(ValueError, match="0 rounds"):
        timing.alternate({}, 0.0, 0)


def test_figures_of_a_row() -> None:
    # Passes of 5 frames in 1, 2 and 10 s: 400 ms and 2.5 frames/s in the median; the 95th
    # percentile lies 0.9 of the way from 2 to 10 s: 9.2 s, 1840 ms a frame. 30 GFLOP a pass are 6 a
    # frame, 15 a second; the peak is the fastest yardstick of the whole run, 60.
    answers = [answer("inference/m/float32/frames", [2.0, 1.0, 10.0], 30 * 10**9, peak=40e9)]
    answers.append(answer("inference/m/float32/clips", [1.0], 30 * 10**9, peak=60e9))
    lines, peaks = report.lines_of(answers)
    report.add_times(lines)
    report.add_memory(lines, {lines[0].row: answers[0]})
    first, second = lines
    assert peaks == {"float32": 60e9}
    assert (first.ms_median, first.frames_per_second, first.passes) == (400.0, 2.5, 3)
    assert first.ms_p95 == pytest.approx(1840.0)
    assert (first.gflop_per_frame, first.gflops, first.share) == (6.0, 15.0, 0.25)
    assert (first.peak_mb, first.above_mb, second.peak_mb) == (130.0, 30.0, None)
    assert (first.times, second.times) == (1.0, 2.0)
    table = report.format_table(lines).splitlines()
    cells = [cell.strip() for cell in table[2].split("|")]
    assert cells[2:] == [
        "400",
        "1840",
        "2.50",
        "6.00",
        "15.0",
        "25 %",
        "1.00",
        "130",
        "30.0",
        "",
        "",
        "",
    ]


def test_stages_are_compared_with_the_same_stage() -> None:
    names = (
        "float32/frames/encode",
        "float32/frames/maps",
        "bfloat16/clips/encode",
        "video/clips/crop",
    )
    answers = [answer(f"stages/m/{name}", [s]) for name, s in zip(names, (4.0, 1.0, 2.0, 3.0))]
    lines, _ = report.lines_of(answers)
    report.add_times(lines)
    assert [line.times for line in lines] == [1.0, 1.0, 2.0, 1.0]


def test_a_failed_process_is_said_and_the_others_go_on(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(job: Job) -> Measured:
        if "bad" in job.rows[0]:
            raise JobError("exit status 1: out of memory")
        return answer(job.rows[0], [1.0])

    monkeypatch.setattr(tool, "run_job", run)
    jobs = [replace(QUICK, rows=[f"training/{name}/float32"]) for name in ("bad", "good")]
    lines, _, _ = tool.run_jobs(jobs, [], [])
    assert [(line.row, line.error[:4]) for line in lines] == [
        ("training/good/float32", ""),
        ("training/bad/float32", "exit"),
    ]
    assert "failed" in report.format_table(lines)


def test_rows_are_chosen_by_patterns_that_may_stop_early() -> None:
    formats = {"inference": ["float32", "bfloat16"], "training": ["bfloat16"]}
    rows = plan.all_rows({"R18": "a", "R50": "b"}, formats, ["frames", "clips"], ["mine"])
    # Plain and two ways in two precisions: timed, in stages (and two of videos), streamed.
    assert len(rows) == 2 * (5 + 7 + 5 + 1) + 9
    assert {row.split("/")[2] for row in rows if row.endswith("plain")} == {"float32"}
    usual = plan.default_rows(rows, "R50")
    assert sorted(set(rows) - set(usual)) == sorted(
        row for row in rows if row.startswith(("stream/R18", "training/R18"))
    )
    assert plan.choose_rows(rows, ["loader/avi", "inference/*50/bfloat16"]) == [
        "inference/R50/bfloat16/frames", "inference/R50/bfloat16/clips",
        "loader/avi/decode", "loader/avi/0-workers", "loader/avi/1-workers",
    ]  # fmt: skip
    with pytest.raises(ValueError, match=r"(?s)--rows 'speed' names no row.*loader/png/decode"):
        plan.choose_rows(rows, ["load*", "speed"])


def test_rows_of_a_model_share_a_process_and_memory_has_its_own(tmp_path: Path) -> None:
    rows = ["inference/m/float32/frames", "inference/m/float32/clips", "stages/m/video/clips"]
    subject = plan.Subject({"m": LSTM_PM}, UNIPOSE, QUICK, tmp_path)
    loaders = ["loader/png/decode", "loader/mine/decode"]
    jobs = plan.plan_jobs([*rows, *loaders], subject)
    assert [job.rows for job in jobs] == [rows[:2], rows[2:], loaders[:1], loaders[1:]]
    assert [job.config_file for job in jobs] == [LSTM_PM, LSTM_PM, UNIPOSE, UNIPOSE]
    assert [Path(job.datasets).name for job in jobs] == ["", "avi", "png", ""]
    assert [job.dataset_name for job in jobs[2:]] == ["synthetic_jhmdb_train", "mine"]
    memory = plan.memory_jobs(jobs)
    assert [job.rows for job in memory] == [[rows[0]], [rows[1]]]
    assert all(job.lean for job in memory)


def test_auto_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "resolve_precision", lambda n, *_: "bfloat16" if n == "auto" else n)
    formats = plan.resolve_precisions(["float32", "bfloat16", "auto"], LSTM_PM, SMALL)
    assert formats == {kind: ["float32", "bfloat16"] for kind in ("inference", "training")}
    with pytest.raises(ValueError, match="int8"):
        plan.resolve_precisions(["int8"], LSTM_PM, SMALL)


class StubState(NamedTuple):
    maps: torch.Tensor


class Stub(nn.Module):
    """Convolutions 3 -> 4 (encode), 4 -> 1 (begin), and 4 -> 2 (advance), all 3x3."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (
            nn.Conv2d(i, o, 3, padding=1) for i, o in ((3, 4), (4, 1), (4, 2))
        )

    def center_map(self, centers: torch.Tensor, size: object, training: bool) -> torch.Tensor:
        return centers.new_zeros((len(centers), 1, 8, 8))

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return self.a(images)

    def begin(self, images: torch.Tensor, features: torch.Tensor) -> StubState:
        return StubState(self.b(features))

    def advance(self, features: torch.Tensor, center_map: torch.Tensor, state: tuple) -> tuple:
        return self.c(features) + state[0], state


def test_operations_are_two_a_multiply_add() -> None:
    parts = count_flops(Stub(), (8, 8))
    # 64 cells x 9 taps x in x out channels x 2.
    assert parts == {"encode": 13824, "begin": 4608, "advance": 9216}
    assert clip_flops(parts, 5) == 4608 + 5 * (13824 + 9216)


def test_clips_are_drawn_by_the_seed_and_cut_into_frames(tiny_cfg: Callable) -> None:
    cfg = tiny_cfg("UniPoseLSTM")
    clip, same, other = (random_clip(cfg, 3, seed) for seed in (1, 1, 2))
    assert torch.equal(clip["image"], same["image"])
    assert not torch.equal(clip["image"], other["image"])
    chunks = single_frames(clip)
    assert torch.equal(torch.cat([chunk["image"] for chunk in chunks]), clip["image"])
    assert [int(chunk["frame_indices"]) for chunk in chunks] == [0, 1, 2]
    assert [(chunk["is_first"], chunk["is_last"]) for chunk in chunks] == [
        (True, False),
        (False, False),
        (False, True),
    ]


def test_training_steps_and_loaders(datasets: Path) -> None:
    rows = ["training/m/float32", "training/m/bfloat16"]
    measured = training.measure_rows(replace(QUICK, rows=rows))
    assert [(t.row, t.frames, len(t.seconds)) for t in measured.timings] == [
        (r, 2, 1) for r in rows
    ]
    assert set(measured.peak_flops) == {"float32", "bfloat16"}
    # More than twice the forward pass: gradients of weights and of features.
    assert measured.timings[0].flops == measured.timings[1].flops > 0
    frozen = replace(QUICK, rows=rows[:1], options=[*SMALL, "MODEL.POSE.ENCODER", "freeze"])
    assert training.measure_rows(frozen).timings[0].flops == measured.timings[0].flops
    rows = ["loader/png/decode", "loader/png/0-workers"]
    job = replace(QUICK, rows=rows, dataset_name="synthetic_jhmdb_train")
    measured = loading.measure_rows(job)
    # Batches of 8 clips of 2 frames.
    assert [(t.row, t.frames) for t in measured.timings] == [(row, 16) for row in rows]


def test_stages_add_up_to_the_pass(dataset_root: Path) -> None:
    rows = ["stages/m/video/frames", "stages/m/float32/plain", "stages/m/float32/clips"]
    job = replace(QUICK, function="stages", rows=rows, datasets=str(dataset_root), rounds=2)
    measured = run_job(replace(job, dataset_name="synthetic_jhmdb_test"))
    stages = {t.row.split("/", 3)[-1]: t for t in measured.timings}
    parts = ("encode", "begin", "advance", "maps", "rest")
    names = [
        "frames/decode",
        "frames/crop",
        *(f"{w}/{s}" for w in ("plain", "clips") for s in parts),
    ]
    assert list(stages) == names
    assert all(len(t.seconds) == 2 and min(t.seconds) > 0 for t in stages.values())
    # ConvNet1 runs once a clip of two frames; nothing is counted where nothing is convolved.
    assert stages["clips/encode"].flops > 0 and stages["clips/begin"].flops > 0
    assert stages["clips/maps"].flops == 0


def test_table_and_json_from_the_command_line(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--config-file", LSTM_PM, "--rows", "inference/*/float32/clips", "--seconds", "0"]
    options = ["--rounds", "2", "--clip-length", "2", "--out", str(tmp_path), "--opts", *SMALL]
    assert tool.main([*arguments, *options]) == 0
    table = capsys.readouterr().out
    assert (tmp_path / "benchmark.md").read_text() == table
    content = json.loads((tmp_path / "benchmark.json").read_text())
    (row,) = content["rows"]
    assert row["row"] == "inference/lstm_pm_small_synthetic_jhmdb/float32/clips"
    assert row["passes"] == 2 and row["peak_mb"] > row["above_mb"] > 0
    assert row["share"] == pytest.approx(1e9 * row["gflops"] / content["peak_flops"]["float32"])
    assert content["machine"]["threads"] == torch.get_num_threads()


def test_growth_is_that_of_the_longest_over_the_shortest() -> None:
    videos = [
        memory_mode.LongVideo(n, 80.0, peak, 1.0, None) for n, peak in ((600, 105), (100, 100))
    ]
    # 5 MB over 500 frames: 5 x 1024 / 500 KB.
    assert memory_mode.format_lengths(videos).endswith("grows by 5.0 MB: 10.24 KB a frame.")
    assert "grows" not in memory_mode.format_lengths(videos[:1])


def test_a_long_video_runs_through_the_whole_test(tmp_path: Path) -> None:
    kind = memory_mode.dataset_kind(LSTM_PM, SMALL)
    assert kind == "jhmdb"
    job = replace(QUICK, function="long video", options=[*SMALL, "TEST.CHUNK_LENGTH", "2"])
    video = memory_mode.measure_length(job, kind, 3, (64, 64), tmp_path)
    assert video.frames == 3 and video.peak_mb > video.built_mb > 0


def test_errors_of_use_are_one_line(tool: ModuleType, tmp_path: Path) -> None:
    for arguments, words in (
        (["--config-file", "nowhere.yaml"], "config not found: nowhere.yaml"),
        (["--config-file", LSTM_PM, LSTM_PM], "two configs are named"),
        (["--precisions", "float8"], "float8"),
        (["--rows", "speed"], "names no row"),
        (["--memory", "--opts", "DATASETS.TEST", "('lspet_train',)"], "of kind 'lspet'"),
    ):
        with pytest.raises(SystemExit, match="^benchmark: ") as stopped:
            tool.main([*arguments, "--out", str(tmp_path)])
        assert words in str(stopped.value)
