"""Write a whole synthetic dataset, on several processes, and only once."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
from tqdm import tqdm

from video_pose.data.synthetic.plan import MANIFEST, inspect_folder, write_manifest
from video_pose.data.synthetic.writers import (
    finish_bbc,
    finish_coco,
    finish_penn,
    write_bbc_video,
    write_coco_video,
    write_jhmdb_clip,
    write_jhmdb_splits,
    write_penn_video,
)

from .plan import VideoPlan, plan_videos
from .scene import OCCLUDERS


@dataclass(frozen=True)
class SyntheticOptions:
    """What fixes every byte of a dataset.

    ``format`` is a key of ``FORMATS``; ``videos`` and ``test_videos`` are counts; ``frames`` the
    shortest and longest video; ``size`` (W, H) px; ``occluders`` of ``scene.OCCLUDERS``;
    ``frames_as`` "png" or "avi" (JHMDB); ``people`` in a video (more than 1: coco_video).
    """

    format: str
    videos: int
    test_videos: int
    frames: tuple[int, int] = (16, 32)
    size: tuple[int, int] = (320, 240)
    seed: int = 0
    occluders: str = "light"
    frames_as: str = "png"
    people: int = 1

    def check(self) -> None:
        """Raise ValueError for values that make no dataset."""
        if self.format not in FORMATS:
            raise ValueError(f"format={self.format!r} is not one of {sorted(FORMATS)}")
        if self.frames_as not in ("png", "avi") or (
            self.frames_as == "avi" and self.format != "jhmdb"
        ):
            raise ValueError(f"frames_as={self.frames_as!r}: 'png', or 'avi' with format 'jhmdb'")
        if self.people < 1 or (self.people > 1 and self.format != "coco_video"):
            raise ValueError(f"people={self.people}: 1, or more with format 'coco_video'")
        if self.occluders not in OCCLUDERS:
            raise ValueError(f"occluders={self.occluders!r} is not one of {list(OCCLUDERS)}")
        if self.videos < 1 or self.test_videos < 0:
            raise ValueError(
                f"videos={self.videos} (1 or more), test_videos={self.test_videos} (0 or more)"
            )
        if not 2 <= self.frames[0] <= self.frames[1]:
            raise ValueError(f"frames={self.frames}: expected 2 <= shortest <= longest")
        if min(self.size) < 64 or any(side % 2 for side in self.size):
            raise ValueError(f"size={self.size}: both sides must be even and at least 64 px")


@dataclass(frozen=True)
class _Format:
    """One call per video, in any process, then one with all their results."""

    write_video: Callable[..., Any]
    finish: Callable[[Path, list[Any]], None]
    entries: tuple[str, ...]


FORMATS: dict[str, _Format] = {
    "jhmdb": _Format(
        write_jhmdb_clip,
        write_jhmdb_splits,
        (
            "Rename_Images",
            "ReCompress_Videos",
            "joint_positions",
            "puppet_mask",
            "splits",
            "sub_splits",
        ),
    ),
    "penn_action": _Format(write_penn_video, finish_penn, ("frames", "labels")),
    "coco_video": _Format(write_coco_video, finish_coco, ("videos", "annotations")),
    "bbc_pose": _Format(write_bbc_video, finish_bbc, ("bbcpose.mat",)),
}


def make_dataset(
    root: Path, options: SyntheticOptions, *, force: bool = False, workers: int = 2
) -> bool:
    """Write the dataset into ``root`` unless it is there already.

    Returns:
        True if it was written, False if an earlier run with the same options had finished.

    Raises:
        ValueError: for impossible options.
        FileExistsError: if ``root`` holds something else; ``force`` replaces another synthetic
            dataset, but never a folder without a manifest.
    """
    options.check()
    state = inspect_folder(root, asdict(options))
    if state == "complete" and not force:
        return False
    if state == "other" and not force:
        raise FileExistsError(
            f"{root} holds a synthetic dataset with other arguments (see {MANIFEST} there); "
            "--force replaces it"
        )
    root.mkdir(parents=True, exist_ok=True)
    _clear(root)
    write_manifest(root, asdict(options), complete=False)
    FORMATS[options.format].finish(root, _write_videos(root, options, workers))
    write_manifest(root, asdict(options), complete=True)
    return True


def _plan(options: SyntheticOptions) -> list[VideoPlan]:
    parts = {"train": options.videos, "test": options.test_videos}
    if options.format == "bbc_pose":
        parts = {**parts, "val": (options.test_videos + 1) // 2}
    return plan_videos(
        parts,
        frames=options.frames,
        size=options.size,
        seed=options.seed,
        occluders=options.occluders,
    )


def _write_videos(root: Path, options: SyntheticOptions, workers: int) -> list[Any]:
    """Results of all videos, in the order of the plan."""
    plans = _plan(options)
    write = FORMATS[options.format].write_video
    if options.format == "jhmdb":
        write = partial(write, frames_as=options.frames_as)
    if options.format == "coco_video":
        write = partial(write, people=options.people)
    results: list[Any] = [None] * len(plans)
    with tqdm(total=len(plans), desc=f"synthetic {options.format}", unit="video") as bar:
        if workers <= 1:
            for plan in plans:
                results[plan.index] = write(root, plan)
                bar.update()
            return results
        with ProcessPoolExecutor(workers, _context(), initializer=_start_worker) as pool:
            jobs = {pool.submit(write, root, plan): plan.index for plan in plans}
            for job in as_completed(jobs):
                results[jobs[job]] = job.result()
                bar.update()
    return results


def _context() -> multiprocessing.context.BaseContext:
    """Forks of a clean server that has imported the project once: forking this process, which may
    have started OpenCV's or torch's threads, could hang."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _start_worker() -> None:
    cv2.setNumThreads(1)


def _clear(root: Path) -> None:
    """Remove what an earlier run wrote: the formats' own entries, nothing else."""
    known = {entry for form in FORMATS.values() for entry in form.entries}
    for path in root.iterdir():
        if path.is_dir() and (path.name in known or path.name.isdigit()):
            shutil.rmtree(path)
        elif path.name in known:
            path.unlink()
