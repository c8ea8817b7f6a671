"""Sudoku of 4 × 4, 6 × 6 or 9 × 9 by a Hierarchical Reasoning Model, tested on puzzles that no symmetry maps on a
training puzzle.

    python -m bench.sudoku                                          4 × 4, 8 blanks
    python -m bench.sudoku --config configs/sudoku/6x6.yaml         6 × 6, 18 blanks
    python -m bench.sudoku --size 9 --train_csv train.csv --test_csv test.csv --puzzles [1000,500,1000]     files
    python -m bench.sudoku --config configs/sudoku/9x9_lists.yaml --train_csv [a.txt,b.txt] --test_csv [a.txt,c.txt]

The files are CSVs as sudoku-extreme has them, with columns question, answer and perhaps rating; or lists without
answers, one puzzle of 81 digits a line, with a dot or 0 for a blank and comments after #, which are solved first. Rows
are drawn at random from the whole file, of several files equally many; each test file then has results of its own. All
puzzles drawn are looked at before training: their answers must solve them,
and (but for `--verify false`) no other solution may; what was solved once is remembered.

Difficulty is the number of guesses of the stated solver (`hrm.tasks.sudoku.solutions`), or the rating in the file. Two
measures are reported: *exact*, the stored answer, and *valid*, any that keeps the clues and obeys the rules, which is
the same where a puzzle has one solution.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from bench.data.cache import cache_dir, cached
from bench.kit.benchmark import main
from bench.puzzles import reasoning
from bench.puzzles.reasoning import Reasoning
from hrm.act import Halting
from hrm.model import HRM, Config
from hrm.tasks import sudoku
from hrm.tasks.task import Grids, joined, without_overlap
from hrm.train import Training


@dataclass
class Sudoku(Reasoning):
    """Puzzles, and what learns to solve them.

    Args:
        size: 4, 6 or 9.
        blanks: of each puzzle; 0: as many as leave one solution.
        climbs: steps that climb to harder puzzles, after blanks = 0.
        puzzles: numbers of training, validation and test puzzles.
        augmentation: symmetries that change the training puzzles anew each time; splits differ under them, too.
        hints: probability that some of a training puzzle's blanks are filled.
        data_seed: of the puzzles; of a file's, which rows they are.
        train_csv: training and validation puzzles, a CSV in the format of sudoku-extreme (columns question, answer,
            perhaps rating) or a list of puzzles, one a line, which are solved first; or several files.
        test_csv: test puzzles, likewise; a file that is in both is divided among all three.
        verify: solve the puzzles of a CSV, too, to see that they have one solution: some milliseconds each, once.
    """

    size: int = 4
    blanks: int = 8
    climbs: int = 0
    puzzles: tuple[int, int, int] = (4000, 1000, 1000)
    augmentation: Literal["all", "digits", "none"] = "digits"
    hints: float = 0.5
    data_seed: int = 0
    train_csv: list[Path] | Path | None = None
    test_csv: list[Path] | Path | None = None
    verify: bool = True
    model: Config = field(
        default_factory=lambda: Config(d=64, heads=4, H_layers=2, L_layers=2, multiple=64, positions="learned")
    )
    training: Training = field(
        default_factory=lambda: Training(
            steps=1250, weight_decay=1.0, average=0.98, halting=Halting(halt_max_steps=8, q_continue=False)
        )
    )


def task(o: Sudoku) -> sudoku.Sudoku:
    """The puzzles: generated once, then read from the cache; or those of the files."""
    if o.train_csv is not None and o.test_csv is not None:
        return from_files(o, files(o.train_csv), files(o.test_csv))
    settings = {
        "n": o.size, "blanks": o.blanks or None, "sizes": o.puzzles, "seed": o.data_seed,
        "augmentation": o.augmentation, "climbs": o.climbs,
    }  # fmt: skip
    train, validation, test = reasoning.splits("sudoku", settings, sudoku.generate)
    return sudoku.Sudoku(o.size, train, validation, test, o.augmentation, o.hints)


def harder(task: sudoku.Sudoku, number: int) -> Grids:
    """Puzzles with the solutions of `number` test puzzles and as many blanks as leave one solution; difficulty:
    blanks."""
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(task.test))[:number]
    y = task.test.y[rows]
    dug = (sudoku.puzzle(answer, None, rng) for answer in y - sudoku.BLANK)
    x = np.stack([grid for grid in dug if grid is not None])  # None: for a fixed number of blanks alone
    return Grids(sudoku.to_symbols(x), y, (x == 0).sum(1).astype(float))


def from_files(o: Sudoku, train: list[Path], test: list[Path]) -> sudoku.Sudoku:
    """Rows drawn at random, equally many of each file; one that is for training and for the test is divided. Training
    puzzles that are test puzzles under a symmetry are left out; so are validation puzzles that are either."""
    of = [[path.resolve() for path in paths] for paths in (train, train, test)]  # each split
    numbers = [dict(zip(paths, evenly(n, len(paths)), strict=True)) for n, paths in zip(o.puzzles, of, strict=True)]
    drawn: dict[Path, list[Grids]] = {}
    for path in dict.fromkeys(itertools.chain(*of)):
        sizes = [number.get(path, 0) for number in numbers]
        rows = sudoku.load_csv(path, sum(sizes), o.verify, o.data_seed, solved)
        drawn[path] = [rows[end - size : end] for end, size in zip(np.cumsum(sizes), sizes, strict=True)]
    parts = [[drawn[path][i] for path in paths] for i, paths in enumerate(of)]
    kept = without_overlap([joined(p) for p in parts], lambda x: sudoku.fingerprints(x - sudoku.BLANK).tolist())
    sets = {path.name: len(part) for path, part in zip(test, parts[2], strict=True)} if len(test) > 1 else {}
    return sudoku.Sudoku(9, *kept, o.augmentation, o.hints, sets)


def evenly(number: int, parts: int) -> list[int]:
    """A number in so many parts."""
    ends = number * np.arange(parts + 1) // parts
    return np.diff(ends).tolist()


def files(given: list[Path] | Path | None) -> list[Path]:
    return given if isinstance(given, list) else [given] if given else []


def solved(grids: np.ndarray, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """As `sudoku.solve_each`: done once for the same puzzles, then read from the cache."""

    def solve(_: dict) -> dict[str, np.ndarray]:
        answers, guesses = sudoku.solve_each(grids, names, reasoning.progress)
        return {"answers": answers, "guesses": guesses}

    kept = cached("sudoku-solved", {"grids": hashlib.sha256(grids.tobytes()).hexdigest()}, solve, cache_dir())
    return kept["answers"], kept["guesses"]


def check(o: Sudoku) -> None:
    sudoku.boxes(o.size)
    most = o.size**2 - sudoku.FEWEST_CLUES[o.size]
    if not 0 <= o.blanks <= most:
        raise ValueError(f"blanks must lie in 0 … {most}, as fewer clues leave several solutions, got {o.blanks}")
    for name in ("climbs", "data_seed"):
        if getattr(o, name) < 0:
            raise ValueError(f"{name} must be ≥ 0, got {getattr(o, name)}")
    if min(o.puzzles) < 1:
        raise ValueError(f"puzzles must be three numbers of at least 1, got {o.puzzles}")
    if (o.train_csv is None) != (o.test_csv is None):
        raise ValueError("give both of train_csv and test_csv, or none")
    for name, least in (("train_csv", min(o.puzzles[:2])), ("test_csv", o.puzzles[2])):
        names = [path.name for path in files(getattr(o, name))]
        if twice := [file for file in names if names.count(file) > 1]:
            raise ValueError(f"{name} names two files {twice[0]}, which results could not tell apart: rename one")
        if len(names) > least:
            raise ValueError(f"{name} names {len(names)} files for {least} puzzles: raise puzzles")
    if o.train_csv is not None and o.size != 9:
        raise ValueError(f"the files hold puzzles of 9 × 9: use --size 9 with them, not {o.size}")


def tiny(o: Sudoku) -> Sudoku:
    """Of a smoke run."""
    return reasoning.small(o, puzzles=(40, 20, 20))


def beyond(o: Sudoku, task: sudoku.Sudoku, model: HRM, number: int) -> Iterator[reasoning.Beyond]:
    yield "harder: {} blanks", task, model, harder(task, len(task.test))


benchmark = reasoning.puzzles(
    name="sudoku",
    summary="Sudoku by a Hierarchical Reasoning Model",
    Options=Sudoku,
    kind=sudoku.Sudoku,
    task=task,
    check=check,
    tiny=tiny,
    beyond=beyond,
)

if __name__ == "__main__":
    main(benchmark)
