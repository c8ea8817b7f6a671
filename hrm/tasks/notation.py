"""How people write the puzzles of a task, in numbers or in characters, and what they want to know of an answer.

    sudoku   digits, 0 for a blank               "53..7....6..195…", or rows on lines, with or without bars
    maze     1 … 5 as `hrm.tasks.maze` has them  "#S.#…", rows on lines: wall, free, start, goal; o marks the path
    grid     any other task                      its symbols

All that is needed for it are a few plain values, which a file of weights holds; the task's own puzzles are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from hrm.tasks import maze, sudoku
from hrm.tasks.task import Task


@dataclass(frozen=True)
class Notation:
    """Grids [height, width] of symbols 0 … vocabulary − 1, written one character each, or as the number symbol − zero.

    Args:
        name: of the task.
        symbols: characters of symbol 0, 1, …
        zero: symbol of the number 0.
        puzzles: number of puzzle identities.
    """

    name: str
    height: int
    width: int
    vocabulary: int
    symbols: str
    zero: int
    puzzles: int

    aliases: ClassVar[Mapping[str, str]] = {}  # characters that are read as others
    ornaments: ClassVar[str] = ""  # characters that are not read

    def __post_init__(self) -> None:
        if self.kind != "grid" and self.vocabulary > len(self.symbols):
            raise ValueError(f"{self.vocabulary} symbols of {self.name}, but {len(self.symbols)} characters")

    @property
    def kind(self) -> str:
        return next(name for name, known in NOTATIONS.items() if known is type(self))

    @property
    def length(self) -> int:
        return self.height * self.width

    @property
    def given(self) -> range:
        """Symbols that a puzzle may hold."""
        return range(self.vocabulary)

    @property
    def legend(self) -> str:
        """What a cell may be, for errors."""
        written = f", or {self.symbols[: self.vocabulary]!r}" if self.vocabulary <= len(self.symbols) else ""
        return f"numbers {-self.zero} … {self.vocabulary - 1 - self.zero}{written}"

    # -- reading ---------------------------------------------------------------------------------------------------

    def read(self, puzzle: Any) -> np.ndarray:
        """Symbols [cells] of a puzzle: an array or lists of numbers, [height, width] or all in a row; or text, with the
        rows on lines or all in a row, or as a list of lines or of characters.

        Raises ValueError for other sizes and symbols, and where the puzzle contradicts itself.
        """
        if not isinstance(puzzle, str):
            try:
                array = np.asarray(puzzle)
            except ValueError:
                raise self._size("has rows of different lengths") from None
            if array.dtype.kind == "U":  # a list of lines, or lists of characters
                puzzle = "\n".join("".join(map(str, row)) for row in puzzle)
        x = self._from_text(puzzle) if isinstance(puzzle, str) else self._from_numbers(array)
        self.check(x)
        return x

    def _from_text(self, text: str) -> np.ndarray:
        text = text.strip("\r\n").translate(dict.fromkeys(map(ord, self.ornaments)))
        rows = [row for row in text.splitlines() if row or not self.ornaments]
        if len(rows) == self.length:  # a list of characters
            rows = ["".join(rows)]
        if len(rows) == 1 and len(rows[0]) == self.length:
            rows = [rows[0][i : i + self.width] for i in range(0, self.length, self.width)]
        known = {character: symbol for symbol, character in enumerate(self.symbols) if symbol in self.given}
        for r, row in enumerate(rows):
            for c, character in enumerate(row):
                if self.aliases.get(character, character) not in known:
                    raise self._symbol(character, r, c)
        if len(rows) != self.height:
            raise self._size(f"has {len(rows)} rows" if len(rows) > 1 else f"has {len(text)} cells")
        for r, row in enumerate(rows):
            if len(row) != self.width:
                raise self._size(f"has {len(row)} cells in row {r + 1}")
        return np.array([known[self.aliases.get(character, character)] for character in "".join(rows)])

    def _from_numbers(self, array: np.ndarray) -> np.ndarray:
        if array.shape not in ((self.height, self.width), (self.length,)):
            raise self._size(f"has the shape {' × '.join(map(str, array.shape))}" if array.ndim else "is no grid")
        numbers = array.reshape(self.height, self.width)
        for r, c in np.argwhere(~np.isin(numbers, [symbol - self.zero for symbol in self.given])):
            raise self._symbol(numbers[r, c], r, c)
        return numbers.astype(np.int64).reshape(-1) + self.zero

    def _size(self, found: str) -> ValueError:
        return ValueError(f"the puzzle {found}, but {self.name} has {self.height} rows of {self.width} cells")

    def _symbol(self, found: object, row: int, column: int) -> ValueError:
        shown = repr(found) if isinstance(found, str) else found
        return ValueError(f"the puzzle has {shown} in row {row + 1}, column {column + 1}; write {self.legend}")

    # -- what is particular to a task ------------------------------------------------------------------------------

    def check(self, x: np.ndarray) -> None:
        """Raises ValueError where a puzzle [cells] contradicts itself."""

    def judge(self, x: np.ndarray, answer: np.ndarray) -> dict[str, bool]:
        """What is right about an answer [cells] to a puzzle [cells]."""
        return {}

    # -- writing ---------------------------------------------------------------------------------------------------

    def numbers(self, symbols: np.ndarray) -> np.ndarray:
        """[…, cells] of symbols → […, height, width] of numbers."""
        numbers = np.maximum(symbols.astype(np.int64) - self.zero, 0)
        return numbers.reshape(*symbols.shape[:-1], self.height, self.width)

    def write(self, grid: np.ndarray, marked: np.ndarray | None = None) -> str:
        """A grid [height, width] of numbers as lines of characters (of numbers where the task has more symbols than
        characters); the cells `marked` [height, width] in a terminal's bold."""
        characters = list(self.symbols)
        if self.vocabulary > len(characters):
            characters = [f"{n - self.zero:{len(str(self.vocabulary)) + 1}d}" for n in range(self.vocabulary)]
        cells = [[characters[n + self.zero] for n in row] for row in grid]
        if marked is not None:
            for r, c in np.argwhere(marked):
                cells[r][c] = f"\033[1m{cells[r][c]}\033[0m"
        return "\n".join(self.lines(cells))

    def lines(self, cells: list[list[str]]) -> list[str]:
        return ["".join(row) for row in cells]


class SudokuNotation(Notation):
    aliases: ClassVar = {"0": "."}
    ornaments: ClassVar = " \t|+-─│┼"

    def __post_init__(self) -> None:
        super().__post_init__()
        sudoku.boxes(self.height)
        if (self.width, self.vocabulary) != (self.height, self.height + 2):
            raise ValueError(f"no sudoku has {self.height} × {self.width} cells of {self.vocabulary} symbols")

    @property
    def given(self) -> range:
        return range(sudoku.BLANK, self.vocabulary)

    @property
    def legend(self) -> str:
        return f"digits 1 … {self.height}, and 0 or . for a blank"

    def check(self, x: np.ndarray) -> None:
        n = self.height
        kinds = [f"{kind} {i + 1}" for kind in ("row", "column", "box") for i in range(n)]
        for name, unit in zip(kinds, sudoku.units(n), strict=True):
            digits = x[list(unit)] - sudoku.BLANK
            for digit in range(1, n + 1):
                if (number := (digits == digit).sum()) > 1:
                    raise ValueError(f"the puzzle contradicts itself: {digit} stands {number} times in {name}")

    def judge(self, x: np.ndarray, answer: np.ndarray) -> dict[str, bool]:
        digits = range(sudoku.BLANK + 1, self.vocabulary)
        valid = all(sorted(answer[list(unit)]) == list(digits) for unit in sudoku.units(self.height))
        return {"valid": valid, "keeps the givens": bool((answer == x)[x != sudoku.BLANK].all())}

    def lines(self, cells: list[list[str]]) -> list[str]:
        h, w = sudoku.boxes(self.height)
        out = []
        for r, row in enumerate(cells):
            if r and r % h == 0:
                out.append("-+-".join(["-" * (2 * w - 1)] * (self.width // w)))
            out.append(" | ".join(" ".join(row[c : c + w]) for c in range(0, self.width, w)))
        return out


class MazeNotation(Notation):
    aliases: ClassVar = {".": " "}

    @property
    def given(self) -> range:
        return range(maze.WALL, maze.PATH)

    @property
    def legend(self) -> str:
        return "# or 1 for a wall, a dot, a blank or 2 for a free cell, S or 3 for the start, G or 4 for the goal"

    def check(self, x: np.ndarray) -> None:
        maze.solve(x.reshape(self.height, self.width))

    def judge(self, x: np.ndarray, answer: np.ndarray) -> dict[str, bool]:
        grid, found = (a.reshape(self.height, self.width) for a in (x, answer))
        start, goal = maze.ends(grid)
        way = np.where((found == maze.PATH) & (grid != maze.WALL), maze.FREE, maze.WALL)
        way[start] = way[goal] = maze.FREE
        return {
            "keeps the maze": bool(np.array_equal(np.where(found == maze.PATH, maze.FREE, found), grid)),
            "the path leads to the goal": bool(maze.distances(way, goal)[start] != maze.FAR),
            "a shortest one": maze.is_shortest(grid, found),
        }

    def lines(self, cells: list[list[str]]) -> list[str]:
        return ["".join(row).replace(" ", ".") for row in cells]  # blanks at the end of a line get lost


NOTATIONS: dict[str, type[Notation]] = {"grid": Notation, "sudoku": SudokuNotation, "maze": MazeNotation}


def of(task: Task) -> Notation:
    """Of a task."""
    height, width, vocabulary, puzzles = (int(n) for n in (task.height, task.width, task.vocabulary, task.puzzles))
    return NOTATIONS[task.kind](task.name, height, width, vocabulary, task.symbols, task.zero, puzzles)
