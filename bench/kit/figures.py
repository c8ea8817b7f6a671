"""Figures, drawn from results alone, in one style: nothing here trains."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from bench.kit.folder import write_atomically, write_text

plt.rcParams.update(
    {
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 9,
        "axes.labelsize": 9,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "legend.fontsize": 7,
        "legend.frameon": False,
        "figure.dpi": 100,
        "savefig.dpi": 150,
        "savefig.bbox": "tight",
    }
)

Drawn: TypeAlias = Mapping[str, "plt.Figure | str"]  # file name → a figure (.png), or the text of a page (.html)


def save(drawn: Drawn, folder: Path, prefix: str = "") -> None:
    """Writes what was drawn, and closes the figures."""
    for name, picture in drawn.items():
        path = folder / f"{prefix}{name}"
        if isinstance(picture, str):
            write_text(path, picture)
            continue
        try:
            write_atomically(path, lambda f, figure=picture: figure.savefig(f, format="png"))  # type: ignore[misc]
        finally:
            plt.close(picture)


def band(axes: Axes, x: ArrayLike, values: ArrayLike, **line: object) -> None:
    """Mean and standard deviation of values [points, seeds] over x [points]."""
    values = np.asarray(values)
    mean = values.mean(1)
    (drawn,) = axes.plot(x, mean, **line)  # type: ignore[arg-type]
    if values.shape[1] > 1:
        std = values.std(1, ddof=1)
        axes.fill_between(x, mean - std, mean + std, color=drawn.get_color(), alpha=0.2, linewidth=0)  # type: ignore[arg-type]
