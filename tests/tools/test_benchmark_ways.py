"""What the benchmark's ways run, and what they say about accuracy and the fast form."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model

ROOT = Path(__file__).parents[2]
if str(ROOT / "tools") not in sys.path:
    sys.path.insert(0, str(ROOT / "tools"))

from benchmarking import plan, report, streaming  # noqa: E402
from benchmarking.choices import describe_fast  # noqa: E402
from benchmarking.inference import build_forms, clip_runner, ways_on  # noqa: E402
from benchmarking.inputs import random_clip, read_config  # noqa: E402
from benchmarking.job import Job, Measured, Score, Timing  # noqa: E402
from benchmarking.timing import Yardstick, _multiply_as_convolution  # noqa: E402
from benchmarking.worker import run_job  # noqa: E402

from video_pose.engine.checkpointer import PoseCheckpointer  # noqa: E402

CONFIG = str(ROOT / "configs/LSTM-Pose-Machines/lstm_pm_small_synthetic_jhmdb.yaml")
SMALL = ["MODEL.DEVICE", "cpu", "INPUT.CROP_SIZE", "(64, 64)", "DATALOADER.NUM_WORKERS", "0"]
QUICK = Job("", [], CONFIG, SMALL, clip_length=2, train_clips=1, seconds=0.0, rounds=1)


def test_ways_run_the_plain_modules_or_their_fast_form(tiny_cfg: Callable) -> None:
    cfg = tiny_cfg("UniPoseLSTM")
    model = build_model(cfg).eval()
    rows = ["inference/m/float32/plain", "inference/m/float32/frames", "inference/m/float32/clips"]
    rows.append("inference/m/bfloat16/clips8")
    forms = build_forms(cfg, model, rows)
    assert forms[rows[0]] is model and forms[rows[1]] is forms[rows[2]] is not model
    assert [forms[row].precision for row in rows[2:]] == ["float32", "bfloat16"]
    shapes: list[tuple[int, ...]] = []
    for form in {id(form): form for form in forms.values()}.values():
        encode = form.encode_all

        def watched(images: torch.Tensor, encode: Callable = encode) -> torch.Tensor:
            shapes.append(tuple(images.shape[:1]) + (images.is_contiguous(),))
            return encode(images)

        form.encode_all = watched
    clip = random_clip(cfg, 2, 0)
    for row in rows:
        clip_runner(forms[row], row.split("/")[3], clip)()
    # (images of a call, NCHW in memory): frame by frame, frame by frame, a clip, 8 clips of 2.
    assert shapes == [(1, True)] * 2 + [(1, False)] * 2 + [(2, False), (16, False)]


def test_large_batches_are_for_gpus() -> None:
    assert ways_on(torch.device("cpu")) == ["frames", "clips"]
    assert ways_on(torch.device("cuda")) == ["frames", "clips", "clips8", "clips64"]


def test_what_the_fast_form_replaces_is_told(tiny_cfg: Callable) -> None:
    cfg = tiny_cfg("UniPoseLSTM")
    model = build_model(cfg).eval()
    rows = ["inference/m/float32/plain", "inference/m/float32/clips"]
    forms = build_forms(cfg, model, rows)
    clip_runner(forms[rows[1]], "clips", random_clip(cfg, 2, 0))()
    (text,) = describe_fast(model, list(forms.values()))
    norms = sum(isinstance(module, torch.nn.BatchNorm2d) for module in model.modules())
    assert text.startswith("fast form: float32, channels last")
    assert f" {norms} norms folded" in text
    assert "wasp: FoldedWASP" in text and "cell: MergedCell" in text and "wasp.project" not in text


def test_streams_see_moving_frames_without_cuts() -> None:
    frames = streaming.moving_frames(4, 0)
    assert [frame.index for frame in frames] == [0, 1, 2, 3]
    assert not (frames[0].image == frames[1].image).all()
    assert (frames[0].image[:, :-3] == frames[1].image[:, 3:]).all()
    cuts = streaming.CutDetector()
    assert [cuts(frame.image) for frame in frames] == [False] * 4


def test_streaming_rows_count_their_frames() -> None:
    rows = ["stream/m/float32/plain", "stream/m/float32/clips"]
    measured = streaming.measure_rows(replace(QUICK, rows=rows))
    assert [(t.row, t.frames, len(t.seconds)) for t in measured.timings] == [
        (r, 8, 1) for r in rows
    ]


def test_the_yardstick_multiplies_matrices() -> None:
    left, right = torch.randn((2, 6, 6), generator=torch.Generator().manual_seed(0))
    product = _multiply_as_convolution(left, right)[0, :, :, 0].t()
    torch.testing.assert_close(product, left @ right.t())
    stick = Yardstick("float32", torch.device("cpu"))
    assert stick.flops in {2 * side**3 for side in (512, 1024, 2048)} and stick.run() > 0


def test_accuracy_is_scored_in_every_precision(dataset_root: Path, tmp_path: Path) -> None:
    cfg = read_config(CONFIG, SMALL)
    torch.manual_seed(0)
    PoseCheckpointer(build_model(cfg), str(tmp_path)).save("model")
    weights = str(tmp_path / "model.pth")
    (job,) = plan.accuracy_jobs([(CONFIG, weights)], ["float32", "bfloat16"], QUICK)
    name = Path(CONFIG).stem
    rows = [
        f"accuracy/{name}/{way}" for way in ("float32/plain", "float32/clips", "bfloat16/clips")
    ]
    assert job.rows == rows
    measured = run_job(replace(job, datasets=str(dataset_root)))
    assert [score.row for score in measured.scores] == rows
    assert all(0 <= score.value <= 100 for score in measured.scores)
    assert measured.scores[0].metric.startswith("PCK@") and "test" in measured.scores[0].metric
    # Folding changes by rounding alone, which may move a joint of random maps.
    assert measured.scores[1].value == pytest.approx(measured.scores[0].value, abs=5)
    with pytest.raises(FileNotFoundError, match="weights not found: .*none.pth"):
        plan.accuracy_jobs([(CONFIG, str(tmp_path / "none.pth"))], ["float32"], QUICK)
    assert Measured.from_json(json.loads(json.dumps(measured.to_json()))) == measured


def test_scores_stand_beside_the_rows_that_they_belong_to() -> None:
    timed = ["m/float32/plain", "m/float32/frames", "m/bfloat16/clips8", "n/float32/plain"]
    answers = [
        Measured([Timing(f"inference/{row}", "float32", 1, 0, [1.0]) for row in timed], {}, 0, 0)
    ]
    lines, _ = report.lines_of(answers)
    values = {"m/float32/plain": 80.0, "m/float32/clips": 80.5, "m/bfloat16/clips": 79.0}
    scores = [Score(f"accuracy/{row}", "PCK@0.2", value) for row, value in values.items()]
    other = [Score("accuracy/other/float32/plain", "PCK@0.2", 50.0)]
    report.add_scores(lines, [Measured([], {}, 0, 0, scores=s) for s in (scores, other)])
    assert [(line.row.split("/", 1)[1], line.pck, line.pck_change) for line in lines] == [
        ("m/float32/plain", 80.0, 0.0),
        ("m/float32/frames", 80.5, 0.5),
        ("m/bfloat16/clips8", 79.0, -1.0),
        ("n/float32/plain", None, None),
        ("other/float32/plain", 50.0, 0.0),
    ]
    assert "-1.00 |" in report.format_table(lines) and "failed" not in report.format_table(lines)
