"""ARC: tasks of a few demonstration pairs each, from folders of the public JSON files, augmented, and answered by vote.

Every task, under every augmentation (eight symmetries of the square, permutations of the colours but black), has an
identity of its own, whose embedding the model learns from the demonstrations. A test input is answered under all of
them; the answers are turned back, and the two that most agree on are the two tries.

A grid lies in the upper left of a canvas, with a frame of END to its right and below it; training shifts it about.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hrm.tasks.task import IGNORE, Grids, Task, turned

PAD, END, BLACK = 0, 1, 2  # symbols; colour c is c + BLACK
COLOURS = 10
LARGEST = 30  # cells of an edge


class Pair(NamedTuple):
    input: np.ndarray  # [height, width] of colours 0 … 9
    output: np.ndarray


class Puzzle(NamedTuple):
    """A task of ARC."""

    name: str
    train: list[Pair]  # demonstrations
    test: list[Pair]


# -- files -------------------------------------------------------------------------------------------------------------


def load_folder(folder: Path) -> list[Puzzle]:
    """All tasks *.json of a folder, by name. Raises ValueError, naming the file and the place, for an empty folder,
    malformed JSON, missing parts, and grids that are no rectangle of 1 … 30 cells an edge in colours 0 … 9."""
    files = sorted(folder.glob("*.json"))
    if not files:
        raise ValueError(f"{folder} holds no ARC tasks (*.json)")
    return [load(file) for file in files]


def load(file: Path) -> Puzzle:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not a readable JSON file: {error}") from error
    parts = []
    for part in ("train", "test"):
        pairs = content.get(part) if isinstance(content, dict) else None
        if not isinstance(pairs, list) or not pairs:
            raise ValueError(f"{file}: {part} must be a list of pairs")
        found = []
        for i, pair in enumerate(pairs):
            if not isinstance(pair, dict) or not {"input", "output"} <= pair.keys():
                raise ValueError(f"{file}: {part} pair {i} must have an input and an output")
            found.append(Pair(*(grid(pair[side], f"{file}: {side} of {part} pair {i}") for side in Pair._fields)))
        parts.append(found)
    return Puzzle(file.stem, *parts)


def grid(rows: object, where: str) -> np.ndarray:
    """A grid of colours. Raises ValueError, beginning with `where`, for anything else."""
    if not isinstance(rows, list) or not rows or not all(isinstance(r, list) and r for r in rows):
        raise ValueError(f"{where} must be a list of rows")
    if len({len(r) for r in rows}) > 1:
        raise ValueError(f"{where} has rows of different lengths: {sorted({len(r) for r in rows})}")
    for r, row in enumerate(rows):
        for c, value in enumerate(row):
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < COLOURS:
                raise ValueError(f"{where} has {value!r} in row {r}, column {c}; colours are 0 … {COLOURS - 1}")
    out = np.array(rows, dtype=np.int8)
    if max(out.shape) > LARGEST:
        raise ValueError(f"{where} has {out.shape[0]} × {out.shape[1]} cells; {LARGEST} × {LARGEST} are the most")
    return out


# -- augmentation ------------------------------------------------------------------------------------------------------


class Change(NamedTuple):
    """An augmentation: colours[c] is what colour c becomes; then one of the symmetries of the square."""

    colours: tuple[int, ...] = tuple(range(COLOURS))
    turn: int = 0  # as `turned` has it

    def __call__(self, grid: np.ndarray) -> np.ndarray:
        return turned(np.array(self.colours, dtype=grid.dtype)[grid], self.turn)

    def of(self, pair: Pair) -> Pair:
        return Pair(self(pair.input), self(pair.output))

    def back(self, grid: np.ndarray) -> np.ndarray:
        """The grid that was changed into this one."""
        out = np.rot90(grid, -(self.turn % 4))
        return np.argsort(self.colours).astype(grid.dtype)[out.T if self.turn >= 4 else out]


def changes(number: int, rng: np.random.Generator) -> list[Change]:
    """So many different ones, the first of which changes nothing; black stays black."""
    out = [Change()]
    while len(out) < number:
        colours = (0, *(int(c) for c in rng.permutation(COLOURS - 1) + 1))
        if (drawn := Change(colours, int(rng.integers(8)))) not in out:
            out.append(drawn)
    return out


def canonical(pair: Pair) -> bytes:
    """The same for all pairs that an augmentation maps on each other: colours in the order of their appearance, the
    least of eight images."""

    def renamed(turn: int) -> bytes:
        sides = [Change(turn=turn)(side) for side in pair]
        names = {0: 0}
        for colour in np.concatenate([s.ravel() for s in sides]).tolist():
            names.setdefault(colour, len(names))
        return b"|".join(bytes([*s.shape, *(names[c] for c in s.ravel().tolist())]) for s in sides)

    return min(renamed(turn) for turn in range(8))


# -- canvas ------------------------------------------------------------------------------------------------------------


def to_canvas(grid: np.ndarray, size: int, row: int = 0, column: int = 0) -> np.ndarray:
    """A grid at a place on the canvas [size · size], with END behind its last row and column where there is room."""
    out = np.full((size, size), PAD, dtype=np.int8)
    h, w = grid.shape
    out[row : row + h + 1, column : column + w + 1] = END
    out[row : row + h, column : column + w] = grid + BLACK
    return out.reshape(-1)


def from_canvas(canvas: np.ndarray, size: int) -> np.ndarray:
    """The rectangle of colours in the upper left, as far as the first row and column go; empty where there is none."""
    cells = canvas.reshape(size, size) - BLACK
    colour = cells >= 0
    h = int(np.argmin([*colour[:, 0], False]))
    w = int(np.argmin([*colour[0], False]))
    return np.maximum(cells[:h, :w], 0).astype(np.int8)


# -- the task ----------------------------------------------------------------------------------------------------------


class Question(NamedTuple):
    """Where a row of a split comes from: a test input of a task, under one augmentation."""

    puzzle: str
    pair: int  # of its test pairs
    change: Change


class Arc(Task):
    """Learns from the demonstrations of all tasks and the test pairs of the training tasks but the last `held_out`, by
    name, whose test pairs are for validation; answers the test pairs of the evaluation tasks.

    size: of the canvas; tasks with larger grids are left out (`left_out`: their names). augmentations: of each task.
    No training pair is a test pair under any augmentation: those that are, are left out (`leaks`: how many).

    Raises ValueError where nothing is left.
    """

    symbols = " ·0123456789"
    blank = PAD

    def __init__(
        self, training: Sequence[Puzzle], evaluation: Sequence[Puzzle], size: int = LARGEST, augmentations: int = 8,
        held_out: int = 20, seed: int = 0,
    ):  # fmt: skip
        if not 1 <= size <= LARGEST:
            raise ValueError(f"the canvas has 1 … {LARGEST} cells an edge, got {size}")
        if augmentations < 1:
            raise ValueError(f"augmentations must be at least 1 (none but the task itself), got {augmentations}")
        super().__init__("arc", size, size, BLACK + COLOURS)

        def fits(p: Puzzle) -> bool:
            return all(max(side.shape) <= size for pair in (*p.train, *p.test) for side in pair)

        self.left_out = [p.name for p in (*training, *evaluation) if not fits(p)]
        training, evaluation = [p for p in training if fits(p)], [p for p in evaluation if fits(p)]
        if len(training) <= held_out or not evaluation or held_out < 1:
            raise ValueError(
                f"{len(training)} training tasks, of which {held_out} are held out for validation, and "
                f"{len(evaluation)} evaluation tasks fit a canvas of {size} × {size}: too few"
            )
        kept, held = training[: len(training) - held_out], training[len(training) - held_out :]
        asked = {canonical(pair) for p in (*held, *evaluation) for pair in p.test}
        rng = np.random.default_rng([seed, 0xA2C])
        self.leaks = self.puzzles = 0
        rows: dict[str, list[tuple[Pair, int, Question]]] = {"train": [], "validation": [], "test": []}
        roles = [*(("train", p) for p in kept), *(("validation", p) for p in held), *(("test", p) for p in evaluation)]
        for split, p in roles:
            known = [*p.train, *(p.test if split == "train" else [])]
            learned = [pair for pair in known if canonical(pair) not in asked]
            self.leaks += len(known) - len(learned)
            for change in changes(augmentations, rng):
                for pair in learned:
                    rows["train"].append((change.of(pair), self.puzzles, Question(p.name, -1, change)))
                for i, pair in enumerate(p.test if split != "train" else []):
                    question = Question(p.name, i, change)
                    rows[split].append((change.of(pair), self.puzzles, question))
                self.puzzles += 1
        self.train, self.validation, self.test = (self._grids(rows[s]) for s in ("train", "validation", "test"))
        self.questions = {split: [q for _, _, q in found] for split, found in rows.items()}
        self.solutions = {
            split: {(p.name, i): pair.output for p in puzzles for i, pair in enumerate(p.test)}
            for split, puzzles in (("validation", held), ("test", evaluation))
        }

    def _grids(self, rows: list[tuple[Pair, int, Question]]) -> Grids:
        x = np.stack([to_canvas(pair.input, self.height) for pair, _, _ in rows])
        y = np.stack([to_canvas(pair.output, self.height) for pair, _, _ in rows]).astype(np.int16)
        y[y == PAD] = IGNORE
        cells = np.array([pair.output.size for pair, _, _ in rows], dtype=float)
        return Grids(x, y, cells, np.array([identity for _, identity, _ in rows]))

    def augment(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Input and output shifted alike, as far as both stay on the canvas."""
        sides = [from_canvas(x, self.height), from_canvas(np.where(y == IGNORE, PAD, y), self.height)]
        row, column = (int(rng.integers(self.height - max(s.shape[i] for s in sides) + 1)) for i in range(2))
        moved = [to_canvas(s, self.height, row, column) for s in sides]
        return moved[0], np.where(moved[1] == PAD, IGNORE, moved[1])

    def vote(
        self, split: str, answers: np.ndarray, confidence: np.ndarray, tries: int = 2
    ) -> dict[tuple[str, int], list[np.ndarray]]:
        """The `tries` answers to each test input that most augmentations agree on, ties broken by the mean confidence:
        answers [rows of the split, cells], confidence [rows] → {(task, test pair): answers}."""
        votes: dict[tuple[str, int], Counter] = defaultdict(Counter)
        sure: dict[tuple[tuple[str, int], bytes], list[float]] = defaultdict(list)
        grids: dict[bytes, np.ndarray] = {}
        for question, canvas, c in zip(self.questions[split], answers, confidence, strict=True):
            answer = question.change.back(from_canvas(canvas, self.height))
            key, mark = (question.puzzle, question.pair), bytes(answer.shape) + answer.tobytes()
            grids[mark] = answer
            votes[key][mark] += 1
            sure[key, mark].append(float(c))
        return {
            key: [grids[mark] for mark in sorted(found, key=lambda m: (-found[m], -np.mean(sure[key, m]), m))[:tries]]
            for key, found in votes.items()
        }

    def solved(self, split: str, tried: dict[tuple[str, int], list[np.ndarray]]) -> dict[tuple[str, int], bool]:
        """Whether one of the tries is the solution, for each test input of the split."""
        solutions = self.solutions[split]
        return {key: any(np.array_equal(t, solutions[key]) for t in grids) for key, grids in tried.items()}
