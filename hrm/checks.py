"""What is compared before anything is done: a model with its task and grids, what was saved with what takes it.

All raise ValueError, in one line that names the value and the fix.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from hrm.model import HRM
from hrm.tasks.task import Grids


class Sizes(Protocol):
    """Of the grids of a task."""

    @property
    def name(self) -> str:
        """As files of weights name it."""
        ...

    @property
    def vocabulary(self) -> int:
        """Number of symbols."""
        ...

    @property
    def puzzles(self) -> int:
        """Number of identities; 0: none."""
        ...

    @property
    def length(self) -> int:
        """Cells of a grid."""
        ...

    @property
    def width(self) -> int:
        """Cells of a row."""
        ...


@torch.no_grad()
def fits(model: HRM, task: Sizes | None = None, grids: Grids | None = None) -> None:
    """Whether the model is one for such a task, and can take these grids.

    Of modules of one's own no more is compared than the carries that they begin with.
    """
    c = model.config
    if task is not None:
        for what in ("vocabulary", "puzzles"):
            own, needed = getattr(c, what), getattr(task, what)
            if own != needed:
                raise ValueError(
                    f"the model has {what} = {own}, but {task.name} has {needed}: set {what} = {needed} in its Config"
                )
        _check_length(model, task.length, task.name)
        for module in model.modules():
            columns = getattr(module, "columns", None)  # of a convolution, or of a module that holds some
            if columns is not None and columns != task.width:
                raise ValueError(
                    f"the model's convolutions see rows of {columns} cells, but {task.name} has rows of "
                    f"{task.width}: set columns = {task.width} in its Config"
                )
    if grids is not None and len(grids):
        _check_length(model, grids.x.shape[1], "a grid")
        if grids.x.min() < 0 or grids.x.max() >= c.vocabulary:
            row, cell = np.argwhere((grids.x < 0) | (grids.x >= c.vocabulary))[0]
            raise ValueError(
                f"row {row} has symbol {grids.x[row, cell]} in cell {cell}, but the model's are 0 … {c.vocabulary - 1}"
            )
        wrong = (grids.puzzle < 0) | (grids.puzzle >= max(c.puzzles, 1))
        if wrong.any():
            row = int(np.argmax(wrong))
            raise ValueError(
                f"row {row} is of puzzle {grids.puzzle[row]}, but the model has puzzles = {c.puzzles}: set as many as "
                "there are in its Config"
            )


def _check_length(model: HRM, needed: int, name: str) -> None:
    c, carry = model.config, model.initial(1)
    front = bool(c.puzzles)  # the puzzle's own position
    expected = needed * c.digits + front
    lengths = [z.shape[1] for z in (model.L.read(carry.L), model.H.read(carry.H)) if z.ndim == 3]
    if c.positions != "rope":
        lengths.append(model.position_embedding.num_embeddings)
    for own in lengths:
        if own not in (1, expected):  # one position is all of them, broadcast
            raise ValueError(
                f"the model has {(own - front) // c.digits} positions, but {name} has {needed} cells: "
                f"set length = {needed} in its Config"
            )


def check_names(saved: object, expected: Iterable[Any], what: str) -> None:
    """Whether saved is a dict with exactly these names."""
    if not isinstance(saved, Mapping):
        raise ValueError(f"{what}: a {type(saved).__name__}, not a dict")
    names = dict.fromkeys(expected)
    missing, unknown = [n for n in names if n not in saved], [n for n in saved if n not in names]
    for found, verb in ((missing, "no"), (unknown, "unknown")):
        if found:
            raise ValueError(f"{what}: {verb} {', '.join(map(str, found[:3]))}{', …' if len(found) > 3 else ''}")


def same_tensors(own: Mapping[str, Any], saved: Any, what: str) -> None:
    """Whether saved has the names, shapes and kinds of numbers of own."""
    check_names(saved, own, what)
    for name, t in own.items():
        found = saved[name]
        if not isinstance(t, Tensor):
            continue
        if not isinstance(found, Tensor):
            raise ValueError(f"{what}: {name} is a {type(found).__name__}, not a tensor")
        if found.shape != t.shape or found.dtype != t.dtype:
            now, then = (f"{list(x.shape)} of {str(x.dtype).removeprefix('torch.')}" for x in (t, found))
            raise ValueError(f"{what}: {name} is {then}, not {now}")


T = TypeVar("T")


def from_plain(kind: type[T], values: Any, what: str) -> T:
    """A dataclass of plain values, from a dict of them."""
    types = {f.name: str(f.type) for f in fields(kind)}  # type: ignore[arg-type]
    check_names(values, types, what)
    for name, value in values.items():
        if type(value).__name__ not in {types[name], "int" if types[name] == "float" else ""}:
            raise ValueError(f"{what}: {name} = {value!r} is no {types[name]}")
    return kind(**values)
