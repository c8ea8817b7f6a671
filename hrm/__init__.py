"""The Hierarchical Reasoning Model. `hrm.load(file).solve(puzzle)` answers a puzzle with trained weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hrm.weights import Reasoner


def load(path: Path | str, device: str = "cpu") -> Reasoner:
    """A trained model from its file of weights. Raises ValueError, naming the file, where it is damaged or of another
    version."""
    from hrm import weights  # PyTorch is imported when it is used

    return weights.load(path, device)
