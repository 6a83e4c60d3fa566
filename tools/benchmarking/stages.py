"""Rows ``stages/MODEL/PRECISION/WAY/STAGE``: where the time of a frame goes.

Stages of the model: encode, begin (a row's first frame), advance, maps (decoding them and the way
back to the image), rest (normalising, centre maps, packing). In the place of a precision, "video"
is what comes before: decoding an AVI's frames, and cropping them, as the test loader does.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from benchmarking.crops import build_uncached_mapper, crop_runner
from benchmarking.flops import count_flops
from benchmarking.inference import CLIPS, build_forms, clip_runner
from benchmarking.inputs import build_seeded, random_clip, read_config
from benchmarking.job import Job, Measured, Timing, measure
from benchmarking.timing import Pass, timed
from video_pose.modeling import video_pose_net

VIDEO = "video"
_MODEL_STAGES = ("encode", "begin", "advance", "maps", "rest")
_VIDEO_STAGES = ("decode", "crop")


class Stopwatch:
    """Adds up the seconds that functions take."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.spent: defaultdict[str, float] = defaultdict(float)

    def watched(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, its time added to ``stage``."""

        def run(*args: Any, **kwargs: Any) -> Any:
            out: list[Any] = []
            work = timed(lambda: out.append(function(*args, **kwargs)), self._device)
            self.spent[stage] += work()
            return out[0]

        return run

    def watch(self, model: nn.Module) -> None:
        """Watch a model's stages; for a process that does nothing else."""
        for stage in ("encode", "begin", "advance"):
            setattr(model, stage, self.watched(stage, getattr(model, stage)))


def measure_rows(job: Job) -> Measured:
    """Time the stages of one model in several precisions and ways against each other."""
    cfg = read_config(job.config_file, job.options)
    model = build_seeded(cfg, job.seed)
    device = torch.device(cfg.MODEL.DEVICE)
    parts = count_flops(model, tuple(cfg.INPUT.CROP_SIZE))
    watch = Stopwatch(device)
    forms = build_forms(cfg, model, [row for row in job.rows if row.split("/")[2] != VIDEO])
    for form in {id(form): form for form in forms.values()}.values():
        watch.watch(form)
    video_pose_net.decode_rows = watch.watched("maps", video_pose_net.decode_rows)
    clip = random_clip(cfg, job.clip_length, job.seed)
    found: dict[str, list[dict[str, float]]] = {row: [] for row in job.rows}
    passes, precisions = {}, {}
    for row in job.rows:
        _, _, precision, way = row.split("/")
        if precision == VIDEO:
            mapper = build_uncached_mapper(cfg)
            mapper.reader.read = watch.watched("decode", mapper.reader.read)  # type: ignore
            chunks = 1 if way == CLIPS else job.clip_length
            work = crop_runner(mapper, job.dataset_name, job.clip_length, chunks)
        else:
            work = clip_runner(forms[row], way, clip)
        rest = "crop" if precision == VIDEO else "rest"
        passes[row] = _stage_pass(timed(work, device), watch, found[row], rest)
        precisions[row] = "" if precision == VIDEO else precision
    frames, flops = dict.fromkeys(passes, job.clip_length), dict.fromkeys(passes, 0)
    measured = measure(job, passes, device, precisions=precisions, frames=frames, flops=flops)
    timings = [
        part for timing in measured.timings for part in _split(timing, found[timing.row], parts)
    ]
    return replace(measured, timings=timings)


def _stage_pass(whole: Pass, watch: Stopwatch, found: list[dict[str, float]], rest: str) -> Pass:
    def run() -> float:
        watch.spent.clear()
        seconds = whole()
        spent = dict(watch.spent)
        found.append({**spent, rest: seconds - sum(spent.values())})
        return seconds

    return run


def _split(timing: Timing, found: list[dict[str, float]], parts: dict[str, int]) -> list[Timing]:
    """A timing of the whole as one of each stage."""
    found = found[-len(timing.seconds) :]  # without the unmeasured pass
    times = {"begin": 1, "encode": timing.frames, "advance": timing.frames}
    return [
        Timing(
            f"{timing.row}/{stage}",
            timing.precision,
            timing.frames,
            parts.get(stage, 0) * times.get(stage, 0),
            [one.get(stage, 0.0) for one in found],
        )
        for stage in (_MODEL_STAGES if timing.precision else _VIDEO_STAGES)
    ]
