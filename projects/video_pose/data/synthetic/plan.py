"""Which videos a synthetic dataset holds, and whether a folder holds all of them."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from video_pose.data.synthetic.body import FAMILIES


@dataclass(frozen=True)
class VideoPlan:
    """One video: its place ``index`` (from 0; training videos first), part, action and length N."""

    index: int
    part: str
    action: str
    frames: int
    size: tuple[int, int]
    occluders: str
    seed: tuple[int, ...]

    @property
    def is_test(self) -> bool:
        return self.part == "test"

    def scene_arguments(self) -> dict[str, Any]:
        """Arguments that every format hands to ``render_scene``."""
        return {
            "frames": self.frames,
            "size": self.size,
            "action": self.action,
            "occluders": self.occluders,
        }


def plan_videos(
    parts: dict[str, int],
    *,
    frames: tuple[int, int],
    size: tuple[int, int],
    seed: int,
    occluders: str,
) -> list[VideoPlan]:
    """Plan the videos of every part: actions in turn, so that each part has as many kinds as it
    can.

    Args:
        parts: "train", "val", "test" -> number of videos.
        frames: shortest and longest video.
        size: (W, H), px.
        seed: of the dataset; a video's own seed is (seed, index).
        occluders: as in ``render_scene``.
    """
    rng = np.random.default_rng((seed, 0xDA7A))
    names = list(FAMILIES)
    plans: list[VideoPlan] = []
    for part, count in parts.items():
        start = int(rng.integers(len(names)))
        for i in range(count):
            length = int(rng.integers(frames[0], frames[1] + 1))
            action, index = names[(start + i) % len(names)], len(plans)
            plans.append(VideoPlan(index, part, action, length, size, occluders, (seed, index)))
    return plans


# The manifest of a synthetic dataset: tells whether a folder holds what was asked for, in full.


MANIFEST = "synthetic.json"
# Raise it when the same arguments come to mean different bytes.
VERSION = 3


def inspect_folder(root: Path, arguments: dict[str, Any]) -> str:
    """What ``root`` holds: "nothing", "part", all of it ("complete"), or an "other" dataset.

    Raises:
        FileExistsError: if the folder is not empty and has no manifest.
    """
    if not root.exists() or not any(root.iterdir()):
        return "nothing"
    path = root / MANIFEST
    if not path.is_file():
        raise FileExistsError(
            f"{root} is not empty and has no {MANIFEST}: it is left alone, name another folder"
        )
    manifest = json.loads(path.read_text())
    if manifest.get("arguments") != json.loads(json.dumps(arguments)):
        return "other"
    # An older version of the same dataset is written anew, like one that was interrupted.
    if manifest.get("hash") != _hash(arguments) or not manifest.get("complete"):
        return "part"
    return "complete" if _inventory(root) == manifest.get("inventory") else "part"


def write_manifest(root: Path, arguments: dict[str, Any], *, complete: bool) -> None:
    """Write the manifest; ``complete`` also counts the files, once all of them are there."""
    manifest: dict[str, Any] = {"version": VERSION, "arguments": arguments}
    manifest.update(hash=_hash(arguments), complete=complete)
    if complete:
        manifest["inventory"] = _inventory(root)
    (root / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")


def _hash(arguments: dict[str, Any]) -> str:
    text = json.dumps([VERSION, arguments], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _inventory(root: Path) -> dict[str, int]:
    """Number and bytes of the files, which tell whether something was removed or cut short."""
    files = [p for p in root.rglob("*") if p.is_file() and p.name != MANIFEST]
    return {"files": len(files), "bytes": sum(p.stat().st_size for p in files)}
