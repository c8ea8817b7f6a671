"""The Hierarchical Reasoning Model. `hrm.load(file).solve(puzzle)` answers a puzzle with trained weights.

    model = hrm.HRM(hrm.Config(...))
    trainer = hrm.Trainer(model, task, hrm.Training(steps=1000))

PyTorch is imported when the first of these names is used.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hrm import export
    from hrm.act import Halting
    from hrm.model import HRM, Config
    from hrm.tasks.task import Grids, Task
    from hrm.train import Trainer, Training, evaluate
    from hrm.weights import Answer, Reasoner, save

_HOMES = {
    "Answer": "hrm.weights",
    "Config": "hrm.model",
    "Grids": "hrm.tasks.task",
    "HRM": "hrm.model",
    "Halting": "hrm.act",
    "Reasoner": "hrm.weights",
    "Task": "hrm.tasks.task",
    "Trainer": "hrm.train",
    "Training": "hrm.train",
    "evaluate": "hrm.train",
    "save": "hrm.weights",
}

__all__ = [
    "HRM",
    "Answer",
    "Config",
    "Grids",
    "Halting",
    "Reasoner",
    "Task",
    "Trainer",
    "Training",
    "evaluate",
    "export",
    "load",
    "save",
]


def load(path: Path | str, device: str = "cpu") -> Reasoner:
    """A trained model from its file of weights. Raises ValueError, naming the file, where it is damaged or of another
    version."""
    from hrm import weights

    return weights.load(path, device)


def __getattr__(name: str) -> Any:
    if name == "export":
        return importlib.import_module("hrm.export")
    if name not in _HOMES:
        raise AttributeError(f"module 'hrm' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
