"""``--memory``: the peak of a seven-scale test over videos of different lengths.

Penn Action has the long videos (663 frames). JHMDB's files hold the masks of a whole clip in one
array, which its loader reads at once: 75 KB a frame of 320x240, in clips of 40 frames at most.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from detectron2.data import MetadataCatalog
from tabulate import tabulate

from benchmarking.inputs import read_config
from benchmarking.job import Job
from benchmarking.worker import run_job
from video_pose.data.synthetic.dataset import SyntheticOptions, make_dataset

# Kinds of datasets that exist as synthetic ones: their format and folder.
_FORMATS = {
    "jhmdb": ("jhmdb", "jhmdb"),
    "penn_action": ("penn_action", "Penn_Action"),
    "bbc_pose": ("bbc_pose", "bbc_pose"),
}


@dataclass(frozen=True)
class LongVideo:
    """What a test over one video of ``frames`` took; MB of its process."""

    frames: int
    built_mb: float
    peak_mb: float
    seconds: float
    gpu_peak_mb: float | None


def dataset_kind(config_file: str, options: Sequence[str]) -> str:
    """The kind of the config's test dataset.

    Raises:
        ValueError: there is no synthetic dataset of that kind.
    """
    names = read_config(config_file, options).DATASETS.TEST
    kind = MetadataCatalog.get(names[0]).get("dataset_kind") if names else None
    if kind not in _FORMATS:
        raise ValueError(
            f"{config_file}: DATASETS.TEST {names} is of kind {kind!r}; videos of any length can "
            f"be made of {sorted(_FORMATS)}"
        )
    return kind


def measure_length(
    job: Job, kind: str, frames: int, size: tuple[int, int], root: Path
) -> LongVideo:
    """Make one test video (and a training one) of ``frames`` frames under ``root``, and test it.

    Raises:
        JobError: the test failed.
    """
    form, folder = _FORMATS[kind]
    # The training video only serves the mean-pose baseline; it has the test video's length.
    options = SyntheticOptions(form, 1, 1, frames=(frames, frames), size=size, seed=job.seed)
    (root / "synthetic").mkdir(parents=True, exist_ok=True)
    make_dataset(root / "synthetic" / folder, options, workers=1)
    values = {**vars(job), "datasets": str(root), "dataset_name": f"synthetic_{kind}_test"}
    values |= {"rows": [f"{frames} frames"], "clip_length": frames}
    measured = run_job(Job(**values))
    seconds = measured.timings[0].seconds[0]
    return LongVideo(frames, measured.rest_mb, measured.peak_mb, seconds, measured.gpu_peak_mb)


def format_lengths(videos: Sequence[LongVideo]) -> str:
    """A table, and how much the peak grows by the frame."""
    rows = [[v.frames, f"{v.built_mb:.1f}", f"{v.peak_mb:.1f}", f"{v.seconds:.1f}"] for v in videos]
    headers = ["frames", "MB with the model built", "peak MB", "seconds"]
    table = tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)
    ordered = sorted(videos, key=lambda video: video.frames)
    if len(ordered) < 2 or ordered[0].frames == ordered[-1].frames:
        return table
    growth = ordered[-1].peak_mb - ordered[0].peak_mb
    each = growth * 2**10 / (ordered[-1].frames - ordered[0].frames)
    return (
        f"{table}\n\nFrom {ordered[0].frames} to {ordered[-1].frames} frames the peak grows by "
        f"{growth:.1f} MB: {each:.2f} KB a frame."
    )
