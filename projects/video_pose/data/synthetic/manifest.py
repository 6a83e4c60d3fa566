"""The manifest of a synthetic dataset: tells whether a folder holds what was asked for, in full."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

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
