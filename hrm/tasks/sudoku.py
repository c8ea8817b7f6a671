"""Sudoku of 4 × 4, 6 × 6 and 9 × 9: a solver that counts its guesses, generators of puzzles with one solution, the
symmetries, and splits that share no puzzle under them.

Grids are arrays [cells] of digits, 0 for a blank. A board of n × n has boxes of `BOXES[n]` (height, width).
"""

from __future__ import annotations

import codecs
import csv
import functools
import itertools
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import permutations, product
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hrm.tasks.task import Grids, Task, drawn_rows

BOXES = {4: (2, 2), 6: (2, 3), 9: (3, 3)}


@functools.cache
def units(n: int) -> tuple[tuple[int, ...], ...]:
    """Cells of each row, column and box."""
    h, w = boxes(n)
    rows = [tuple(r * n + c for c in range(n)) for r in range(n)]
    columns = [tuple(r * n + c for r in range(n)) for c in range(n)]
    corners = [(r, c) for r in range(0, n, h) for c in range(0, n, w)]
    blocks = [tuple((r + i) * n + c + j for i in range(h) for j in range(w)) for r, c in corners]
    return (*rows, *columns, *blocks)


@functools.cache
def peers(n: int) -> tuple[tuple[int, ...], ...]:
    """For each cell the others in its row, column and box."""
    return tuple(
        tuple(sorted({p for unit in units(n) if cell in unit for p in unit} - {cell})) for cell in range(n * n)
    )


FEWEST_CLUES = {4: 4, 6: 8, 9: 17}  # that any puzzle with one solution has


def boxes(n: int) -> tuple[int, int]:
    if n not in BOXES:
        raise ValueError(f"there is no sudoku of {n} × {n}; choose one of {', '.join(map(str, BOXES))}")
    return BOXES[n]


# -- solver ------------------------------------------------------------------------------------------------------------


class Contradiction(Exception):
    pass


class Solution(NamedTuple):
    grid: np.ndarray
    guesses: int  # digits tried before it was found


def _assign(candidates: list[int], cell: int, bit: int, n: int) -> None:
    """Fixes a cell, and all that follows by naked singles. candidates: one bit per digit and cell."""
    stack = [(cell, bit)]
    while stack:
        cell, bit = stack.pop()
        if not candidates[cell] & bit:
            raise Contradiction
        candidates[cell] = bit
        for peer in peers(n)[cell]:
            before = candidates[peer]
            if before & bit:
                left = before & ~bit
                if not left:
                    raise Contradiction
                candidates[peer] = left
                if not left & (left - 1):
                    stack.append((peer, left))


def _propagate(candidates: list[int], n: int) -> None:
    """Naked and hidden singles, until nothing changes."""
    changed = True
    while changed:
        changed = False
        for unit in units(n):
            once = twice = 0
            for cell in unit:
                twice |= once & candidates[cell]
                once |= candidates[cell]
            if once != (1 << n) - 1:
                raise Contradiction
            hidden = once & ~twice
            for cell in unit:
                bit = candidates[cell] & hidden
                if bit & (bit - 1):
                    raise Contradiction
                if bit and candidates[cell] != bit:
                    _assign(candidates, cell, bit, n)
                    changed = True
                    break


def _start(grid: np.ndarray, n: int) -> list[int]:
    candidates = [(1 << n) - 1] * (n * n)
    for cell, digit in enumerate(grid.tolist()):
        if digit:
            _assign(candidates, cell, 1 << (digit - 1), n)
    return candidates


def solutions(grid: np.ndarray, order: np.random.Generator | None = None) -> Iterator[Solution]:
    """All solutions of a puzzle [cells], by the stated solver: naked and hidden singles as far as they go, then a guess
    in the cell with the fewest candidates (the first such), digits in ascending order, or in a random one."""
    n = round(len(grid) ** 0.5)
    guesses = 0

    def search(candidates: list[int]) -> Iterator[list[int]]:
        nonlocal guesses
        try:
            _propagate(candidates, n)
        except Contradiction:
            return
        open_cells = [cell for cell, c in enumerate(candidates) if c & (c - 1)]
        if not open_cells:
            yield candidates
            return
        cell = min(open_cells, key=lambda cell: candidates[cell].bit_count())
        bits = [1 << d for d in range(n) if candidates[cell] >> d & 1]
        if order is not None:
            order.shuffle(bits)
        for bit in bits:
            guesses += 1
            tried = candidates.copy()
            try:
                _assign(tried, cell, bit, n)
            except Contradiction:
                continue
            yield from search(tried)

    try:
        candidates = _start(grid, n)
    except Contradiction:
        return
    for found in search(candidates):
        yield Solution(np.array([c.bit_length() for c in found], dtype=np.int8), guesses)


def solve(grid: np.ndarray) -> Solution:
    """The one solution, with the guesses it took. Raises ValueError for a puzzle with none or several."""
    found = solutions(grid)
    first = next(found, None)
    if first is None:
        raise ValueError("the puzzle has no solution")
    if next(found, None) is not None:
        raise ValueError("the puzzle has several solutions")
    return first


def is_unique(grid: np.ndarray) -> bool:
    found = solutions(grid)
    return next(found, None) is not None and next(found, None) is None


# -- generators --------------------------------------------------------------------------------------------------------


def full_grid(n: int, rng: np.random.Generator) -> np.ndarray:
    """A random solved grid: the first box shuffled, the rest searched in random order. Not exactly
    uniform over all grids; `shuffled` makes it uniform within each class."""
    boxes(n)
    grid = np.zeros(n * n, dtype=np.int8)
    grid[list(units(n)[2 * n])] = rng.permutation(n) + 1
    return shuffled(next(solutions(grid, rng)).grid, rng)


def puzzle(solution: np.ndarray, blanks: int | None, rng: np.random.Generator) -> np.ndarray | None:
    """Blanks a solved grid cell by cell in random order while one solution remains, up to `blanks` (None: as many as
    possible); None where this order cannot reach that many."""
    grid = solution.copy()
    for cell in rng.permutation(len(grid)):
        if blanks is not None and (grid == 0).sum() >= blanks:
            break
        kept, grid[cell] = grid[cell], 0
        if not is_unique(grid):
            grid[cell] = kept
    return grid if blanks is None or (grid == 0).sum() == blanks else None


def climb(grid: np.ndarray, rng: np.random.Generator, steps: int = 30, exchange: int = 3) -> np.ndarray:
    """Climbs to a harder puzzle with the same solution: gives `exchange` clues back, blanks anew as far as possible,
    and keeps the puzzle where it takes no fewer guesses."""
    solution, guesses = solve(grid)
    for _ in range(steps):
        easier = grid.copy()
        back = rng.permutation(np.flatnonzero(grid == 0))[:exchange]
        easier[back] = solution[back]
        for cell in rng.permutation(np.flatnonzero(easier)):
            kept, easier[cell] = easier[cell], 0
            if not is_unique(easier):
                easier[cell] = kept
        found = solve(easier).guesses
        if found >= guesses:
            grid, guesses = easier, found
    return grid


# -- symmetries --------------------------------------------------------------------------------------------------------


class Symmetry(NamedTuple):
    """cells[i]: where cell i of the new grid comes from; digits[d]: what digit d becomes (digits[0] = 0)."""

    cells: np.ndarray
    digits: np.ndarray

    def __call__(self, grid: np.ndarray) -> np.ndarray:
        return self.digits[grid[..., self.cells]].astype(grid.dtype)


def line_order(n: int, size: int, rng: np.random.Generator) -> np.ndarray:
    """A random order of n lines that keeps groups of `size` together: of bands and the rows in them, or of stacks."""
    groups = rng.permutation(n // size)
    return np.concatenate([g * size + rng.permutation(size) for g in groups])


def symmetry(n: int, rng: np.random.Generator, digits_only: bool = False) -> Symmetry:
    """A random one: digits, bands, stacks, rows, columns, and, where boxes are square, transposition."""
    digits = np.concatenate([[0], rng.permutation(n) + 1])
    cells = np.arange(n * n).reshape(n, n)
    if not digits_only:
        h, w = boxes(n)
        cells = cells[line_order(n, h, rng)][:, line_order(n, w, rng)]
        if h == w and rng.random() < 0.5:
            cells = cells.T
    return Symmetry(cells.reshape(-1), digits)


def shuffled(grid: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return symmetry(round(len(grid) ** 0.5), rng)(grid)


def fingerprints(grids: np.ndarray, rounds: int = 8) -> np.ndarray:
    """A number for each puzzle [n, cells], the same for all puzzles that some symmetry maps on each other; [n], uint64.

    Colours of cells, lines, boxes, bands and digits are refined by those of their neighbours, as in the
    Weisfeiler-Leman test. Two puzzles of different classes may share a fingerprint, but hardly ever do: splits that
    share none share no class.
    """
    n = round(grids.shape[1] ** 0.5)
    h, w = boxes(n)
    r, c = np.divmod(np.arange(n * n), n)
    # members of each kind of group; rows and columns in one, as transposition exchanges them
    lines = [np.concatenate([r, n + c]), np.concatenate([np.arange(n * n)] * 2)]
    box = r // h * (n // w) + c // w
    band = np.concatenate([np.arange(n) // h, n // h + np.arange(n) // w])  # of each line
    given = grids > 0
    cell = np.where(given, np.uint64(1), np.uint64(2)).astype(np.uint64)
    line = np.full((len(grids), 2 * n), 3, dtype=np.uint64)

    def gathered(values: np.ndarray, group: np.ndarray, number: int) -> np.ndarray:
        """Sums of mixed colours over the members of each group: blind to their order."""
        out = np.zeros((number, len(values)), dtype=np.uint64)
        np.add.at(out, group, mix(values).T)
        return mix(out.T)

    for _ in range(rounds):
        by_line = gathered(cell[:, lines[1]], lines[0], 2 * n)
        by_band = gathered(line, band, n // h + n // w)[:, band]
        line = mix(line + np.uint64(5) * by_line + np.uint64(7) * by_band)
        by_box = gathered(cell, box, n)[:, box]
        digit = np.zeros((len(grids), n + 1), dtype=np.uint64)
        np.add.at(digit, (np.arange(len(grids))[:, None], grids), mix(cell))
        by_digit = np.where(given, np.take_along_axis(mix(digit), grids.astype(np.int64), 1), np.uint64(0))
        crossing = mix(line[:, r]) + mix(line[:, n + c])
        cell = mix(cell + np.uint64(11) * crossing + np.uint64(13) * by_box + np.uint64(17) * by_digit)
    return mix(mix(cell).sum(1, dtype=np.uint64))


def mix(x: np.ndarray) -> np.ndarray:
    """splitmix64: scatters the bits of 64-bit numbers."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def relabelled(grids: np.ndarray) -> np.ndarray:
    """Digits renamed in the order of their first appearance: the canonical form under digit permutations, for grids
    [n, cells] in which every digit appears."""
    n = int(grids.max())
    first = np.stack([(grids == d).argmax(1) for d in range(1, n + 1)], 1)
    names = np.concatenate([np.zeros((len(grids), 1), dtype=int), first.argsort(1).argsort(1) + 1], 1)
    return np.take_along_axis(names, grids.astype(int), 1).astype(grids.dtype)


@functools.cache
def arrangements(n: int) -> np.ndarray:
    """All symmetries but those of digits, as orders of cells [symmetries, cells]; for boards up to 6 × 6."""

    def orders(size: int) -> list[list[int]]:
        inside = list(permutations(range(size)))
        return [
            [g * size + i for g, order in zip(groups, choice, strict=True) for i in order]
            for groups in permutations(range(n // size))
            for choice in product(inside, repeat=n // size)
        ]

    h, w = boxes(n)
    cells = np.arange(n * n).reshape(n, n)
    out = [cells[rows][:, columns] for rows in orders(h) for columns in orders(w)]
    if h == w:
        out += [c.T for c in out]
    return np.stack([c.reshape(-1) for c in out])


def canonical(grid: np.ndarray) -> np.ndarray:
    """The least of all images of a solved grid [cells] under all symmetries, in the order of a dictionary; up to 6 ×
    6."""
    images = relabelled(grid[arrangements(round(len(grid) ** 0.5))])
    for cell in range(len(grid)):
        images = images[images[:, cell] == images[:, cell].min()]
    return images[0]


# -- the task ----------------------------------------------------------------------------------------------------------

BLANK = 1  # symbol of a blank; 0 is left free, digit d is d + 1: the published vocabulary of 11 for 9 × 9


def to_symbols(grids: np.ndarray) -> np.ndarray:
    return grids + BLANK


class Sudoku(Task):
    """Puzzles with one solution, changed anew each time they are learned. augmentation: "all" symmetries, "digits"
    alone, or "none". hints: probability that some of a training puzzle's blanks are filled. sets: parts of the test
    split, see `Task`."""

    symbols = " .123456789"
    kind = "sudoku"
    blank = zero = BLANK

    def __init__(
        self, n: int, train: Grids, validation: Grids, test: Grids, augmentation: str = "all", hints: float = 0.0,
        sets: Mapping[str, int] | None = None,
    ):  # fmt: skip
        if augmentation not in ("all", "digits", "none"):
            raise ValueError(f"unknown augmentation {augmentation!r}; choose all, digits or none")
        if not 0 <= hints <= 1:
            raise ValueError(f"hints is a probability, got {hints:g}")
        super().__init__(f"sudoku {n}x{n}", n, n, n + 2)
        self.n, self.augmentation, self.hints = n, augmentation, hints
        self.train, self.validation, self.test, self.sets = train, validation, test, sets or {}

    def augment(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if rng.random() < self.hints:
            blanks = rng.permutation(np.flatnonzero(x == BLANK))
            x = x.copy()
            filled = blanks[: rng.integers(len(blanks))]
            x[filled] = y[filled]
        if self.augmentation == "none":
            return x, y
        change = symmetry(self.n, rng, self.augmentation == "digits")
        return to_symbols(change(x - BLANK)), to_symbols(change(y - BLANK))

    def scores(self, grids: Grids, answers: np.ndarray) -> dict[str, np.ndarray]:
        """exact: the stored answer; valid: any that keeps the clues and obeys the rules."""
        return {**super().scores(grids, answers), "valid": is_solution(grids.x - BLANK, answers - BLANK)}

    def faults(self, x: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Clues that are not kept, and rules that are broken."""
        return broken(x - BLANK, answers - BLANK)


def is_solution(grids: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Whether answers [m, cells] keep the clues of the grids, and have each digit once in each row, column and box:
    bool [m]."""
    return broken(grids, answers) == 0


def broken(grids: np.ndarray, answers: np.ndarray) -> np.ndarray:
    """Of answers [m, cells], clues of the grids that they do not keep, and rows, columns and boxes that do not have
    each digit once: numbers [m]."""
    n = round(grids.shape[1] ** 0.5)
    lost = ((grids != 0) & (grids != answers)).sum(1)
    in_units = np.sort(answers[:, np.array(units(n))], axis=-1)  # [m, units, n]
    return lost + (in_units != np.arange(1, n + 1)).any(-1).sum(1)


def classes(solved: np.ndarray, augmentation: str) -> np.ndarray:
    """A number for each solved grid [n, cells], the same for all that the augmentation maps on each other. Of 9 × 9
    under all symmetries each grid counts as its own class: see `generate`."""
    n = round(solved.shape[1] ** 0.5)
    if augmentation == "all" and n < 9:
        solved = np.stack([canonical(grid) for grid in solved])
    elif augmentation == "digits":
        solved = relabelled(solved)
    weights = mix(np.arange(solved.shape[1], dtype=np.uint64))
    return mix(solved.astype(np.uint64) * weights).sum(1, dtype=np.uint64)


def generate(
    n: int, blanks: int | None, sizes: tuple[int, int, int], seed: int, augmentation: str = "all", climbs: int = 0
) -> list[Grids]:
    """Training, validation and test puzzles of the given numbers, with `blanks` blanks (None: as many as one solution
    allows, then `climbs` steps to harder ones); difficulty is the number of guesses.

    No puzzle of one split is one of another under any symmetry. Up to 6 × 6, no solved grid of one split is one of
    another under the symmetries of the augmentation, either. (4 × 4 has two classes of them under all symmetries, so
    that nothing could be split: augment it by digits, which leaves twelve. 9 × 9 has 5 · 10⁹.)

    Raises ValueError where the board has too few classes or puzzles for three such splits.
    """
    rng = np.random.default_rng([seed, n])
    pool = np.stack([full_grid(n, rng) for _ in range(max(sum(sizes), 500))])
    keys = classes(pool, augmentation)
    split = split_by_class(keys, sizes, seed)
    out = []
    for which, size in enumerate(sizes):
        solved = pool[split == which]
        found: list[tuple[np.ndarray, np.ndarray]] = []
        seen: set[bytes] = set()
        if not len(solved):
            raise ValueError(
                f"{n} × {n} has only {len(np.unique(keys))} classes of grids under {augmentation!r}: too few for three "
                "splits; augment by less"
            )
        attempt = 0
        while len(found) < size and attempt < 100 * size:
            tried = []
            # no more than can be needed: fingerprints of many at once are cheap
            for _ in range(min(size - len(found), 100 * size - attempt)):
                solution = solved[attempt % len(solved)]
                attempt += 1
                if (grid := puzzle(solution, blanks, rng)) is not None:
                    tried.append((climb(grid, rng, climbs) if climbs else grid, solution))
            if tried and (augmentation != "all" or n == 9):
                own = splits_of_puzzles(fingerprints(np.stack([grid for grid, _ in tried])), seed) == which
                tried = [pair for pair, mine in zip(tried, own, strict=True) if mine]
            for grid, solution in tried:
                if (key := grid.tobytes()) not in seen:
                    seen.add(key)
                    found.append((grid, solution))
        if len(found) < size:
            raise ValueError(f"found only {len(found)} of {size} puzzles of {n} × {n} with {blanks} blanks")
        x, y = (np.stack(part) for part in zip(*found, strict=True))
        guesses = np.array([solve(grid).guesses for grid in x], dtype=float)
        out.append(Grids(to_symbols(x), to_symbols(y), guesses))
    return out


def split_by_class(keys: np.ndarray, sizes: tuple[int, int, int], seed: int) -> np.ndarray:
    """0, 1, 2 for training, validation, test: whole classes, in an order that the seed shuffles, about in proportion to
    `sizes`, at least one class each where there are three."""
    unique, members, counts = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.argsort(mix(unique + np.uint64(seed)))
    before = np.concatenate([[0], np.cumsum(counts[order])[:-1]]) / len(keys)
    test, validation = (sizes[i] / sum(sizes) for i in (2, 1))
    which = np.where(before < test, 2, np.where(before < test + validation, 1, 0))
    if len(unique) >= 3 and not (which == 1).any():  # one class may overshoot both shares
        which[1] = 1
    of_class = np.empty(len(unique), dtype=int)
    of_class[order] = which
    return of_class[members]


def splits_of_puzzles(marks: np.ndarray, seed: int) -> np.ndarray:
    """A split for each fingerprint, at random: a fifth each for validation and test."""
    u = mix(marks + np.uint64(seed)) / 2.0**64
    return np.where(u < 0.2, 2, np.where(u < 0.4, 1, 0))


# -- files -------------------------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """A puzzle of a file: the line it is in, the grids as 81 digits or dots, and a rating of its difficulty."""

    line: int
    question: str
    answer: str | None
    rating: float | None


GRID = re.compile(r"[0-9.]{81}(?![0-9A-Za-z.])")


def read_rows(path: Path) -> Iterator[Row]:
    """The puzzles of a file, either a CSV with the columns question, answer and perhaps rating, as sudoku-extreme has
    them; or a list without answers, one puzzle a line, in which what follows the puzzle and lines with # are comments.
    A dot or 0 is a blank. Text in UTF-8, UTF-16 with its byte order mark, or latin-1.

    Raises ValueError, naming file and line, for anything else.
    """
    if not path.is_file():
        raise ValueError(f"{path} is no file")
    try:
        with path.open("rb") as raw:
            encoding = "utf-16" if raw.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
        # puzzles are ASCII: bytes of another encoding, in columns beside them or comments, do not matter
        with path.open(encoding=encoding, errors="surrogateescape", newline="") as file:
            said = ((i, line) for i, line in enumerate(file, start=1) if line.strip() and not line.startswith("#"))
            number, first = next(said, (0, ""))
            if not first:
                raise ValueError(f"{path} holds no puzzles")
            if "\0" in first:
                raise ValueError(f"{path} is no text in UTF-8, latin-1, or UTF-16 with its byte order mark")
            read = _listed if GRID.match(first.strip()) else _tabulated
            yield from read(path, number, itertools.chain([first], file))
    except (OSError, UnicodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None


def _listed(path: Path, number: int, lines: Iterable[str]) -> Iterator[Row]:
    """Of a list, whose first line has the number given."""
    for line, text in enumerate(lines, start=number):
        text = text.strip()
        if not text or text.startswith("#"):
            continue
        if not (puzzle := GRID.match(text)):
            raise ValueError(f"{path}, line {line}: a puzzle must be 81 digits or dots, got {_short(text)}")
        if GRID.search(text, puzzle.end()):
            raise ValueError(f"{path}, line {line}: two grids in a line need a header, question,answer")
        yield Row(line, puzzle[0], None, None)


def _tabulated(path: Path, number: int, lines: Iterable[str]) -> Iterator[Row]:
    """Of a CSV, whose header is in the line of the number given."""
    reader = csv.reader(lines, strict=True)
    line = number
    rated: bool | None = None
    try:
        header = [name.strip().lower() for name in next(reader)]
        if not {"question", "answer"} & set(header):
            raise ValueError(
                f"{path}, line {line}: neither a puzzle of 81 digits or dots nor a header that names the columns "
                f"question and answer, got {_short(','.join(header))}"
            )
        for name in ("question", "answer", "rating"):
            if (found := header.count(name)) != 1 and (found or name != "rating"):
                raise ValueError(f"{path} has {'two columns' if found else 'no column'} {name}")
        while True:
            line = number + reader.line_num
            cells = next(reader, None)
            if cells is None:
                break
            row = {name: cell.strip() for name, cell in zip(header, cells, strict=False)}
            if not any(row.values()):
                continue
            for name in ("question", "answer"):
                if not GRID.fullmatch(row.get(name, "")):
                    raise ValueError(
                        f"{path}, line {line}: {name} must be 81 digits or dots, got {_short(row.get(name, ''))}"
                    )
            text = row.get("rating", "")
            try:
                rating = float(text) if text else None
            except ValueError:
                rating = math.nan
            if rating is not None and not math.isfinite(rating):
                raise ValueError(f"{path}, line {line}: rating {text!r} is no number")
            if rated is None:
                rated = rating is not None
            if rated != (rating is not None):
                raise ValueError(
                    f"{path}, line {line}: some puzzles have a rating and some have none: give all or none"
                )
            yield Row(line, row["question"], row["answer"], rating)
    except csv.Error as error:
        raise ValueError(f"{path}, line {line}: {error} (a quote that is not closed?)") from None


def _short(text: str) -> str:
    return repr(text) if len(text) <= 100 else f"{len(text)} characters, {text[:90]!r}…"


def solve_each(
    grids: np.ndarray, names: Sequence[str], progress: Callable[[Sequence[str]], Iterable[str]] = iter
) -> tuple[np.ndarray, np.ndarray]:
    """The solutions [m, cells] of puzzles [m, cells], and the guesses [m] they took. names: of the puzzles. progress:
    wraps the names, to show how far this is. Raises ValueError, with the name, for a puzzle with no or several
    solutions."""
    found = []
    for name, grid in zip(progress(names), grids, strict=True):
        try:
            found.append(solve(grid))
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return np.stack([f.grid for f in found]), np.array([f.guesses for f in found], dtype=float)


def check_answers(grids: np.ndarray, answers: np.ndarray, names: Sequence[str]) -> None:
    """Raises ValueError, with the name, for a puzzle [m, cells] without blanks, and for an answer that is no solution
    of its puzzle."""
    wrong = ~is_solution(grids, answers) | (grids > 0).all(1)
    for row in np.flatnonzero(wrong)[:1]:
        if (answers[row] == 0).any():
            what = "the answer has blanks: are question and answer exchanged?"
        elif (grids[row] > 0).all():
            what = "the question has no blanks"
        elif ((grids[row] > 0) & (grids[row] != answers[row])).any():
            what = "the answer changes a given digit of the question"
        else:
            what = "the answer has a digit twice in a row, column or box"
        raise ValueError(f"{names[row]}: {what}")


def load_csv(
    path: Path,
    rows: int | None = None,
    verify: bool = True,
    seed: int = 0,
    solver: Callable[[np.ndarray, Sequence[str]], tuple[np.ndarray, np.ndarray]] = solve_each,
) -> Grids:
    """Puzzles of a file as `read_rows` takes them, CSV or list: all in their order, or `rows` of them, drawn at random.
    Difficulty is the file's rating, or else the number of guesses.

    Answers must solve their puzzles. verify: see besides that no puzzle has another solution, which takes the solver
    some milliseconds each; without, a puzzle with no rating has difficulty 0. A list is always solved. solver: does as
    `solve_each`.

    Raises ValueError, naming file and line, for all that is not so, and for fewer puzzles than asked for.
    """
    if rows is None:
        taken = list(read_rows(path))
    else:  # twice through the file, so that its size need not fit into memory
        (drawn,) = drawn_rows(sum(1 for _ in read_rows(path)), [rows], seed, str(path))
        wanted = set(drawn.tolist())
        found = {i: row for i, row in enumerate(read_rows(path)) if i in wanted}
        taken = [found[i] for i in drawn.tolist()]
    if not taken:
        raise ValueError(f"{path} holds no puzzles")
    names = [f"{path}, line {row.line}" for row in taken]
    x = _digits(row.question for row in taken)
    guesses = np.zeros(len(x))
    if taken[0].answer is None:
        y, guesses = solver(x, names)
        check_answers(x, y, names)
    else:
        y = _digits(row.answer or "" for row in taken)
        check_answers(x, y, names)  # first: it takes no time
        if verify:
            _, guesses = solver(x, names)
    rated = taken[0].rating is not None
    return Grids(to_symbols(x), to_symbols(y), np.array([row.rating for row in taken]) if rated else guesses)


def _digits(texts: Iterable[str]) -> np.ndarray:
    return np.stack([np.frombuffer(text.replace(".", "0").encode(), dtype=np.int8) - ord("0") for text in texts])
