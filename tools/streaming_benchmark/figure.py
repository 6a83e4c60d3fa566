"""A measured figure and what it must reach."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tabulate import tabulate


@dataclass(frozen=True)
class Figure:
    """One row of the table.

    Attributes:
        name, unit: of the figure. value: None where it could not be measured; ``note`` says why.
        limit: the largest value that is good enough, None for figures that are only told.
        details: what it was computed from, for the JSON file.
    """

    name: str
    value: float | None
    unit: str
    limit: float | None = None
    note: str = ""
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def reached(self) -> bool | None:
        """Whether the limit is kept; None without a limit or without a value."""
        if self.limit is None or self.value is None:
            return None
        return self.value <= self.limit


def format_figures(figures: Sequence[Figure]) -> str:
    """A Markdown table."""
    rows = []
    for figure in figures:
        verdict = {True: "reached", False: "MISSED", None: ""}[figure.reached]
        if figure.value is None:
            verdict = "not measured"
        rows.append(
            [
                figure.name,
                "" if figure.value is None else f"{figure.value:.3g} {figure.unit}".strip(),
                "" if figure.limit is None else f"<= {figure.limit:g} {figure.unit}".strip(),
                verdict,
                figure.note,
            ]
        )
    headers = ["figure", "measured", "must be", "", "how"]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)
