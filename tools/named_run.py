"""Runs as the tools take them: ``NAME=OUTPUT_DIR``, or the folder alone."""

from __future__ import annotations

from pathlib import Path


def split_run(text: str) -> tuple[str, Path]:
    """Name and folder of ``NAME=OUTPUT_DIR``; without a name, the last part of the folder."""
    name, separator, folder = text.partition("=")
    path = Path(folder if separator else text)
    return (name if separator else path.name), path
