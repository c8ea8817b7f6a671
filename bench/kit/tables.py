"""Tables: a caption and rows of text, of which the first is the heading."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple


class Table(NamedTuple):
    rows: Sequence[Sequence[str]]
    caption: str = ""

    def text(self) -> str:
        """Aligned columns, for a terminal."""
        return "\n".join(filter(None, [self.caption, layout(self.rows)]))

    def markdown(self) -> str:
        """For a document."""
        return "\n\n".join(filter(None, [self.caption, markdown(self.rows)]))


def layout(rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns; the first row is the heading."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """The same for a README."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def mean_std(values: Sequence[float], digits: int = 1) -> str:
    """Mean over seeds, with the standard deviation of the sample where there is more than one."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{statistics.mean(values):.{digits}f} ± {statistics.stdev(values):.{digits}f}"
