"""Plots as PNG files of a few kB: a repository keeps every version of them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

# Fewer let two lines of a plot take one colour.
COLOURS = 128


def load_pyplot() -> Any:
    """``matplotlib.pyplot`` for files alone; loaded when it is needed, for it takes its time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def save_plot(figure: Any, path: Path) -> None:
    """Write a matplotlib figure with a palette of `COLOURS`, and close it."""
    buffer = io.BytesIO()
    figure.tight_layout()
    figure.savefig(buffer, format="png")
    load_pyplot().close(figure)
    buffer.seek(0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(buffer) as image:
        image.convert("RGB").quantize(COLOURS).save(path, optimize=True)
