"""One self-contained page: templates filled with jinja2, small charts as inline SVG.

A page carries its data as JSON and its script and style in itself; it loads nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from video_pose.files import without_nan, write_text

# Colours that people with colour-blindness tell apart, on white and in print.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")


def write_page(path: Path, template: str, data: dict[str, Any], **context: Any) -> None:
    """Fill a template of this package and write it; an existing file is replaced at once.

    Args:
        data: what the page's script reads; NaN becomes null.
        context: what the template reads.
    """
    environment = Environment(
        loader=PackageLoader("video_pose.report"), autoescape=True, undefined=StrictUndefined
    )
    environment.globals.update(interval_bar=interval_bar, figure=figure)
    text = environment.get_template(template).render(data=embedded(data), **context)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, text)


def embedded(data: Any) -> Markup:
    """JSON that may stand in a script element."""
    text = json.dumps(without_nan(data, digits=4), separators=(",", ":"), allow_nan=False)
    # What could end the element, or begin a comment in it.
    for mark in "<>&":
        text = text.replace(mark, f"\\u{ord(mark):04x}")
    return Markup(text)


def figure(value: float | None, digits: int = 1) -> str:
    """A number for people; a dash where nothing was counted."""
    return "–" if value is None or math.isnan(value) else f"{value:.{digits}f}"


def interval_bar(value: float, low: float, high: float, colour: str = COLOURS[0]) -> Markup:
    """A bar from 0 to 100 with its interval as a whisker."""
    if math.isnan(value):
        return Markup("")
    parts = [f'<rect x="0" y="3" width="{value:.1f}" height="8" fill="{colour}" opacity=".55"/>']
    if not (math.isnan(low) or math.isnan(high)):
        parts.append(
            f'<path d="M{low:.1f} 7H{high:.1f}M{low:.1f} 3v8M{high:.1f} 3v8" stroke="#222"/>'
        )
    return Markup(
        '<svg class="bar" viewBox="0 0 100 14" preserveAspectRatio="none" role="img" '
        f'aria-label="{value:.1f} percent">{"".join(parts)}</svg>'
    )


def polyline(
    lines: Sequence[tuple[str, Sequence[float], Sequence[float]]],
    x_title: str,
    y_title: str,
    size: tuple[int, int] = (420, 220),
) -> Markup:
    """A chart of lines (name, xs, ys) with two axes; NaN parts a line."""
    points = [(x, y) for _, xs, ys in lines for x, y in zip(xs, ys) if math.isfinite(y)]
    if not points:
        return Markup("<p>nothing to draw</p>")
    (left, right), (low, high) = (_span([p[axis] for p in points]) for axis in (0, 1))
    width, height = size
    plot = (46, 10, width - 56, height - 50)
    parts = [_axes(plot, (left, right), (low, high), x_title, y_title)]
    for number, (name, xs, ys) in enumerate(lines):
        colour, pieces, pen = COLOURS[number % len(COLOURS)], [], "M"
        for x, y in zip(xs, ys):
            if not math.isfinite(y):
                pen = "M"
                continue
            px = plot[0] + (x - left) / (right - left) * plot[2]
            py = plot[1] + (high - y) / (high - low) * plot[3]
            pieces.append(f"{pen}{px:.1f} {py:.1f}")
            pen = "L"
        parts.append(
            f'<path d="{"".join(pieces)}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(
            f'<text x="{plot[0] + 8}" y="{plot[1] + 14 + 14 * number}" style="fill:{colour}">'
            f"{Markup.escape(name)}</text>"
        )
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{Markup.escape(y_title)} over {Markup.escape(x_title)}">'
        f"{''.join(parts)}</svg>"
    )


def _span(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def _axes(
    plot: tuple[int, int, int, int],
    xs: tuple[float, float],
    ys: tuple[float, float],
    x_title: str,
    y_title: str,
) -> str:
    x0, y0, w, h = plot
    parts = [f'<path d="M{x0} {y0}v{h}h{w}" fill="none" stroke="#999"/>']
    for i in range(5):
        x, y = x0 + w * i / 4, y0 + h - h * i / 4
        xv, yv = xs[0] + (xs[1] - xs[0]) * i / 4, ys[0] + (ys[1] - ys[0]) * i / 4
        parts.append(f'<text x="{x:.0f}" y="{y0 + h + 16}" text-anchor="middle">{xv:.3g}</text>')
        parts.append(f'<text x="{x0 - 5}" y="{y + 4:.0f}" text-anchor="end">{yv:.3g}</text>')
        parts.append(f'<path d="M{x0} {y:.0f}h{w}" stroke="#eee"/>')
    middle = x0 + w / 2
    parts.append(
        f'<text x="{middle:.0f}" y="{y0 + h + 34}" text-anchor="middle">'
        f"{Markup.escape(x_title)} ({Markup.escape(y_title)})</text>"
    )
    return "".join(parts)
