"""Pictures, drawn from result files; nothing here trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from bench.files import write_atomically


def save(figure: plt.Figure, path: Path) -> None:
    write_atomically(path, lambda f: figure.savefig(f, format="png", dpi=150, bbox_inches="tight"))
    plt.close(figure)


def learning_curves(
    results: Sequence[Mapping[str, Any]], published: Mapping[str, tuple[float, float]], path: Path
) -> None:
    """Validation accuracy over epochs, mean ± standard deviation over seeds, with the published final accuracies as
    marks at the right edge (Fig. 8d, f)."""
    figure, axes = plt.subplots(figsize=(5, 3.4))
    last = max(len(r["curve"]) for r in results)
    for i, r in enumerate(results):
        curve = np.array(r["curve"])  # [epochs, seeds]
        epochs = np.arange(1, len(curve) + 1)
        mean, std = curve.mean(1), curve.std(1, ddof=1) if curve.shape[1] > 1 else np.zeros(len(curve))
        color = f"C{i}"
        axes.plot(epochs, mean, color=color, label=f"{r['name']} ({r['parameters']:,} parameters)".replace(",", " "))
        axes.fill_between(epochs, mean - std, mean + std, color=color, alpha=0.2, linewidth=0)
        if r["name"] in published:  # one mark for each published row, in the colour of its own protocol
            value, spread = published[r["name"]]
            axes.errorbar([last * (1.03 + 0.02 * i)], [value], [spread], color=color, fmt="D", markersize=3, capsize=2)
    axes.set(xlabel="epoch", ylabel="validation accuracy / %", ylim=(0, 100), xlim=(0, last * 1.16))
    axes.set_title("MNIST-1D (diamonds: published)", fontsize=9)
    axes.legend(fontsize=7, loc="lower right")
    axes.grid(alpha=0.3)
    save(figure, path)
