"""What a task is: grids of symbols in, grids of symbols out, in three splits.

    class Copy(Task):
        def __init__(self):
            super().__init__("copy", height=3, width=3, vocabulary=4)
            x = np.random.default_rng(0).integers(1, 4, (300, 9))
            self.train, self.validation, self.test = (Grids(x[i::3], x[i::3]) for i in range(3))

A task of one's own needs no more. It may besides change its training puzzles at random (`augment`), show them bit by
bit (`shown`), know what is wrong with an answer (`faults`), be answered in several images of a puzzle (`views`, `view`,
`back`), know further measures than exactness (`scores`), and how its symbols look (`symbols`).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

log = logging.getLogger(__name__)

IGNORE = -100  # label of cells that count for nothing


def whole(values: np.ndarray, name: str) -> np.ndarray:
    """Symbols as whole numbers, which they may be as floats, too. Raises ValueError, naming the place, for others."""
    values = np.asarray(values)
    if values.dtype.kind in "iub":
        return values
    if values.dtype.kind != "f":
        raise ValueError(f"{name} must be of whole numbers, got {values.dtype}")
    broken = ~(np.isfinite(values) & (values == np.round(values)))
    if broken.any():
        place = tuple(np.argwhere(broken)[0].tolist())
        at = f"row {place[0]}" + (f", cell {place[1]}" if len(place) > 1 else "")
        raise ValueError(f"{name} must be of whole numbers, got {values[place]:g} in {at}")
    return values.astype(np.int64)


@dataclass
class Grids:
    """Puzzles and answers, row by row: x, y [n, height · width] of symbols; difficulty [n]; puzzle [n], identities.

    Raises ValueError for other shapes, and for symbols that are no whole numbers.
    """

    x: np.ndarray
    y: np.ndarray
    difficulty: np.ndarray = field(default_factory=lambda: np.zeros(0))
    puzzle: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        self.x, self.y, self.puzzle = (whole(getattr(self, name), name) for name in ("x", "y", "puzzle"))
        n = len(self.x)
        if self.x.shape != self.y.shape or self.x.ndim != 2:
            raise ValueError(f"x and y must both be [puzzles, cells], got {self.x.shape} and {self.y.shape}")
        if not len(self.difficulty):
            self.difficulty = np.zeros(n)
        if not len(self.puzzle):
            self.puzzle = np.zeros(n, dtype=np.int64)
        for name in ("difficulty", "puzzle"):
            if len(getattr(self, name)) != n:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries for {n} puzzles")

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Any) -> Grids:
        return Grids(self.x[rows], self.y[rows], self.difficulty[rows], self.puzzle[rows])


def joined(parts: Sequence[Grids]) -> Grids:
    """All rows, one part after another."""
    return Grids(*(np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Grids)))


def turned(grid: np.ndarray, which: int) -> np.ndarray:
    """One of the eight symmetries of the square, on a grid [height, width]: quarter turns, from 4 on after a
    transposition."""
    return np.rot90(grid.T if which >= 4 else grid, which % 4)


def turned_back(grid: np.ndarray, which: int) -> np.ndarray:
    """The inverse of `turned`."""
    back = np.rot90(grid, -which % 4)
    return back.T if which >= 4 else back


def drawn_rows(rows: int, sizes: Sequence[int], seed: int, source: str) -> list[np.ndarray]:
    """Rows of a file for splits of the given sizes, at random. Raises ValueError, naming the source, for too few."""
    if rows < sum(sizes):
        raise ValueError(
            f"{source} holds {rows} puzzles, fewer than the {' + '.join(map(str, sizes))} asked for: lower puzzles"
        )
    order = np.random.default_rng([seed, rows]).permutation(rows)
    return np.split(order, np.cumsum(sizes))[: len(sizes)]


def without_overlap(
    splits: Sequence[Grids], marks: Callable[[np.ndarray], Sequence[Hashable]]
) -> tuple[Grids, Grids, Grids]:
    """Training, validation and test puzzles less the training puzzles that are test puzzles, and the validation puzzles
    that are either, under the symmetries of which `marks` of puzzles x [n, cells] are the same.

    Raises ValueError where nothing is left.
    """
    train, validation, test = splits
    learned, validated, tested = (list(marks(split.x)) for split in splits)
    kept_of = []
    for name, split, own, others in (
        ("training", train, learned, set(tested)),
        ("validation", validation, validated, {*learned, *tested}),
    ):
        kept = np.array([mark not in others for mark in own], dtype=bool)
        if not kept.all():
            where = "the test" if name == "training" else "training or the test"
            log.info("%d of %d %s puzzles are also in %s, and left out", (~kept).sum(), len(kept), name, where)
        if not kept.any():
            raise ValueError(f"each {name} puzzle is, turned or renamed, in another split, too: nothing is left")
        kept_of.append(split[kept])
    return kept_of[0], kept_of[1], test


class Task:
    """Three splits of grids. Symbols are 0 … vocabulary − 1.

    check() raises ValueError, naming split and row, for empty splits, wrong sizes and symbols out of range.
    """

    symbols: ClassVar[str] = "0123456789abcdefghijklmnopqrstuvwxyz"  # how they look, one character each
    measure: ClassVar[str] = "exact"  # the one of `scores` that weights are chosen by
    blank: ClassVar[int] = 1  # symbol of a cell that a puzzle leaves open
    kind: ClassVar[str] = "grid"  # how people write it, and what is right: see `hrm.tasks.notation`
    zero: ClassVar[int] = 0  # symbol of the number 0, where people write numbers
    sets: Mapping[str, int] = {}  # parts of the test split with results of their own, one after another: how many rows
    views = 1  # images of a puzzle under symmetries, itself the first, in which it may be answered: see `view`
    puzzles = 0  # number of puzzle identities; 0: the model need not know which puzzle it has before it
    train: Grids
    validation: Grids
    test: Grids

    def __init__(self, name: str, height: int, width: int, vocabulary: int):
        self.name, self.height, self.width, self.vocabulary = name, height, width, vocabulary

    @property
    def length(self) -> int:
        return self.height * self.width

    @property
    def bit_by_bit(self) -> bool:
        """Whether what is there of a puzzle, or asked, differs from step to step."""
        return type(self).shown is not Task.shown

    def augment(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """A training puzzle [cells] and its answer, changed at random in a way that keeps it a puzzle of its kind."""
        return x, y

    def draw(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
        """A row of the training split as it is learned once: puzzle, answer, and which identity it then has."""
        return *self.augment(self.train.x[row], self.train.y[row], rng), int(self.train.puzzle[row])

    def shown(self, x: Tensor, y: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
        """Of puzzles and answers [n, length], what is there and asked in the puzzle's step [n], counted from 0; cells
        that are not asked have the label IGNORE."""
        return x, y

    def scores(self, grids: Grids, answers: np.ndarray) -> dict[str, np.ndarray]:
        """Measures of answers [n, cells], each bool [n]; "exact" is always among them."""
        asked = grids.y != IGNORE
        return {"exact": ((answers == grids.y) | ~asked).all(1)}

    def view(self, x: np.ndarray, which: int) -> np.ndarray:
        """Puzzles [n, cells] as they are seen in one of the `views`."""
        return x

    def back(self, answers: np.ndarray, which: int) -> np.ndarray:
        """The inverse of `view`, of answers [n, cells]."""
        return answers

    def faults(self, x: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """What may be said against answers to puzzles, both [n, cells], by who does not know the right ones: the less
        the better, [n]. It decides among the answers of several segments, restarts
        and views."""
        return np.zeros(len(x))

    def show(self, grid: np.ndarray) -> list[str]:
        """A grid as lines of characters."""
        cells = grid.reshape(self.height, self.width)
        return ["".join(self.symbols[s] if s >= 0 else "?" for s in row) for row in cells]

    def check(self) -> None:
        for split in ("train", "validation", "test"):
            self.check_grids(split, getattr(self, split))

    def check_grids(self, split: str, grids: Grids) -> None:
        if not len(grids):
            raise ValueError(f"{self.name}: the {split} split is empty")
        if grids.x.shape[1] != self.length:
            raise ValueError(f"{self.name}: {split} has {grids.x.shape[1]} cells a grid, expected {self.length}")
        for name in ("x", "y"):
            values = whole(getattr(grids, name), f"{self.name}: {split} {name}")
            inside = (values >= 0) & (values < self.vocabulary) | (values == IGNORE) & (name == "y")
            if not inside.all():
                row, cell = np.argwhere(~inside)[0]
                raise ValueError(
                    f"{self.name}: {split} row {row} has {name} = {values[row, cell]} in cell {cell}, "
                    f"symbols are 0 … {self.vocabulary - 1}"
                )
