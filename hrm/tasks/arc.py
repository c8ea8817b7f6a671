"""ARC: tasks of a few demonstration pairs each, from the public JSON files, augmented, and answered by vote.

Every task, under every augmentation (eight symmetries of the square, permutations of the colours but black), has an
identity of its own, whose embedding the model learns from the demonstrations. A test input is answered under all of
them; the answers are turned back, and the two that most agree on are the two tries. What is held is the pairs and the
augmentations; an augmented grid is made when it is drawn.

A grid lies in the upper left of a canvas, with a frame of END to its right and below it; training shifts it about.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from hrm.tasks.task import IGNORE, Grids, Task, turned

PAD, END, BLACK = 0, 1, 2  # symbols; colour c is c + BLACK
COLOURS = 10
LARGEST = 30  # cells of an edge


class Pair(NamedTuple):
    input: np.ndarray  # [height, width] of colours 0 … 9
    output: np.ndarray | None  # None: not known, of test pairs


class Puzzle(NamedTuple):
    """A task of ARC."""

    name: str
    train: list[Pair]  # demonstrations
    test: list[Pair]


# -- files -------------------------------------------------------------------------------------------------------------


def load_folder(folder: Path, part: str = "") -> list[Puzzle]:
    """All tasks of a folder and its subfolders, by name: a file each (*.json), or the competitions' combined files
    (*_challenges.json, with *_solutions.json beside them where the answers are known). `folder` may also be one such
    file. Hidden files, and sample_submission.json, are passed over. part: where there are several combined files, the
    one with this in its name is read ("training", "evaluation").

    Raises ValueError, naming the file and the place, where there are no tasks or two of one name, for malformed JSON,
    missing parts, and grids that are no rectangle of 1 … 30 cells an edge in colours 0 … 9."""
    found = [folder] if folder.is_file() else sorted(folder.rglob("*.json"))
    files = [f for f in found if not any(name.startswith(".") for name in f.relative_to(folder).parts)]
    combined = [f for f in files if f.name.endswith(CHALLENGES)]
    alone = set(files) - set(combined) - {solutions_of(f) for f in combined}
    if len(combined) > 1:
        chosen = [f for f in combined if part and part in f.name]
        if len(chosen) != 1:
            raise ValueError(
                f"{folder} holds several sets of tasks: give the file of one, of {', '.join(f.name for f in combined)}"
            )
        combined = chosen
    origin: dict[str, Path] = {}
    puzzles = []
    for file in sorted({*combined, *alone}):
        if file.name == "sample_submission.json":
            continue
        if file.name.endswith(SOLUTIONS):
            missing = file.name.removesuffix(SOLUTIONS) + CHALLENGES
            raise ValueError(f"{file} holds solutions only: there is no {missing} beside it")
        for puzzle in load_combined(file) if file in combined else [load(file)]:
            if puzzle.name in origin:
                raise ValueError(f"two tasks have the name {puzzle.name}: in {origin[puzzle.name]} and in {file}")
            origin[puzzle.name] = file
            puzzles.append(puzzle)
    if not puzzles:
        raise ValueError(f"{folder} holds no ARC tasks (*.json)")
    return sorted(puzzles, key=lambda p: p.name)


CHALLENGES, SOLUTIONS = "_challenges.json", "_solutions.json"


def solutions_of(challenges: Path) -> Path:
    return challenges.with_name(challenges.name.removesuffix(CHALLENGES) + SOLUTIONS)


def load(file: Path) -> Puzzle:
    """The task of a file of its own: {"train": [{"input": grid, "output": grid}, …], "test": …}."""
    return puzzle(read(file), file.stem, str(file))


def load_combined(file: Path) -> list[Puzzle]:
    """The tasks of a combined file, {name: task}, with the test outputs of that of the solutions, {name: [grid, …]}."""

    def tasks_of(path: Path) -> dict[str, Any]:
        if not isinstance(content := read(path), dict):
            raise ValueError(f"{path} must hold tasks by name")
        return content

    beside, puzzles = solutions_of(file), []
    solutions = tasks_of(beside) if beside.exists() else None
    for name, content in tasks_of(file).items():
        found = puzzle(content, name, f"{file}: task {name}")
        if solutions is not None:
            outputs, where = solutions.get(name), f"{beside}: task {name}"
            if not isinstance(outputs, list) or len(outputs) != len(found.test):
                raise ValueError(f"{where} must have {len(found.test)} solutions in a list, one for each test input")
            grids = [grid(rows, f"{where}: solution {i}") for i, rows in enumerate(outputs)]
            found = found._replace(test=[Pair(p.input, y) for p, y in zip(found.test, grids, strict=True)])
        puzzles.append(found)
    return puzzles


def read(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())  # bytes: finds out by itself which UTF it is, and skips its mark
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{file} is not a readable JSON file: {error}") from error


def puzzle(content: object, name: str, where: str) -> Puzzle:
    """A task. Raises ValueError, beginning with `where`, for anything else."""
    parts = []
    for part in ("train", "test"):
        pairs = content.get(part) if isinstance(content, dict) else None
        if not isinstance(pairs, list) or not pairs:
            raise ValueError(f"{where}: {part} must be a list of pairs, at least one")
        needed = {"input", "output"} if part == "train" else {"input"}
        found = []
        for i, pair in enumerate(pairs):
            if not isinstance(pair, dict) or not needed <= pair.keys():
                raise ValueError(f"{where}: {part} pair {i} must have an {' and an '.join(sorted(needed))}")
            at = f"{where}: {{}} of {part} pair {i}".format
            known = part == "train" or pair.get("output") is not None
            found.append(Pair(grid(pair["input"], at("input")), grid(pair["output"], at("output")) if known else None))
        parts.append(found)
    return Puzzle(name, *parts)


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
        return Pair(self(pair.input), None if pair.output is None else self(pair.output))

    def back(self, grid: np.ndarray) -> np.ndarray:
        """The grid that was changed into this one."""
        out = np.rot90(grid, -(self.turn % 4))
        return np.argsort(self.colours).astype(grid.dtype)[out.T if self.turn >= 4 else out]


def changes(number: int, rng: np.random.Generator) -> list[Change]:
    """So many different ones, the first of which changes nothing; black stays black. Raises ValueError where there are
    not so many."""
    if number > (most := 8 * math.factorial(COLOURS - 1)):
        raise ValueError(f"there are {most} augmentations, of which {number} cannot be drawn")
    out = {Change(): None}  # in the order of their drawing
    while len(out) < number:
        colours = rng.permuted(np.tile(np.arange(1, COLOURS), (number - len(out), 1)), axis=1)
        turns = rng.integers(8, size=len(colours))
        out |= {Change((0, *c), t): None for c, t in zip(colours.tolist(), turns.tolist(), strict=True)}
    return list(out)


def canonical(pair: Pair) -> bytes:
    """The same for all pairs that an augmentation maps on each other: colours in the order of their appearance, the
    least of eight images."""
    assert pair.output is not None
    both = (pair.input, pair.output)

    def renamed(turn: int) -> bytes:
        sides = [turned(side, turn) for side in both]
        order = dict.fromkeys(np.concatenate([s.ravel() for s in sides]).tolist())  # of appearance
        colours = [c for c in order if c]
        names = np.zeros(COLOURS, dtype=np.int8)
        names[colours] = np.arange(1, len(colours) + 1)
        return b"|".join(bytes(s.shape) + names[s].tobytes() for s in sides)

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
    cells = canvas.reshape(size, size).astype(np.int16) - BLACK  # below zero where there is no colour
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


class Augmented(Grids):
    """Pairs under all n augmentations of their tasks, made when they are taken: row i is pair i // n under augmentation
    i % n. `grids[rows]` makes plain grids; `x` and `y` are all of them at once, which may be large.

    first [pairs]: identity of the pair's task under its first augmentation.
    """

    def __init__(self, task: Arc, pairs: Sequence[Pair], first: Sequence[int]):
        self.task, self.pairs = task, pairs
        self.puzzle = (np.array(first, dtype=np.int64)[:, None] + np.arange(task.augmentations)).ravel()
        self.difficulty = np.repeat([_cells(p) for p in pairs], task.augmentations)

    def __len__(self) -> int:
        return len(self.puzzle)

    def __getitem__(self, rows: Any) -> Grids:
        x = np.empty((len(chosen := np.arange(len(self))[rows]), self.task.length), dtype=np.int8)
        y = np.empty(x.shape, dtype=np.int16)
        for i, row in enumerate(chosen):
            pair = self.pairs[row // self.task.augmentations]
            x[i], y[i] = self.task.canvases(self.task.change(self.puzzle[row]).of(pair))
        return Grids(x, y, self.difficulty[chosen], self.puzzle[chosen])

    @property
    def x(self) -> np.ndarray:  # type: ignore[override]
        return self[:].x

    @property
    def y(self) -> np.ndarray:  # type: ignore[override]
        return self[:].y


def _cells(pair: Pair) -> float:
    return math.nan if pair.output is None else float(pair.output.size)


class Arc(Task):
    """Learns from the demonstrations of all tasks and the test pairs of the training tasks but the last `held_out`, by
    name, whose test pairs are for validation; answers the test pairs of the evaluation tasks.

    Rows of `train` are pairs as they are; `draw` puts a row under one of its task's augmentations. Rows of the other
    splits are test inputs under each: of `validation`; of `test`, whose outputs are known; of `asked`, all of the
    evaluation tasks. Tasks whose outputs are not known are not held out.

    size: of the canvas; tasks with larger grids are left out (`left_out`: their names). augmentations: of each task.
    No training pair is a test pair of another task under any augmentation: those that are, are left out (`leaks`: how
    many; `bare`: names of the tasks that have no demonstration any more).

    Raises ValueError where nothing is left, and for two tasks of one name.
    """

    symbols = " ·0123456789"
    blank = PAD
    demonstrations: dict[str, list[Pair]]  # of the evaluation tasks, as they are

    def __init__(
        self, training: Sequence[Puzzle], evaluation: Sequence[Puzzle], size: int = LARGEST, augmentations: int = 8,
        held_out: int = 20, seed: int = 0,
    ):  # fmt: skip
        if not 1 <= size <= LARGEST:
            raise ValueError(f"the canvas has 1 … {LARGEST} cells an edge, got {size}")
        if augmentations < 1:
            raise ValueError(f"augmentations must be at least 1 (none but the task itself), got {augmentations}")
        super().__init__("arc", size, size, BLACK + COLOURS)
        for puzzles in (training, evaluation):
            name, number = Counter(p.name for p in puzzles).most_common(1)[0] if puzzles else ("", 0)
            if number > 1:
                raise ValueError(f"{number} tasks have the name {name}")

        def fits(p: Puzzle) -> bool:
            sides = (side for pair in (*p.train, *p.test) for side in pair)
            return all(max(side.shape) <= size for side in sides if side is not None)

        self.left_out = [p.name for p in (*training, *evaluation) if not fits(p)]
        self._inputs = {p.name: len(p.test) for p in evaluation}
        self.demonstrations = {p.name: p.train for p in evaluation}
        training, evaluation = [p for p in training if fits(p)], [p for p in evaluation if fits(p)]
        answered = [p.name for p in training if all(pair.output is not None for pair in p.test)]
        if len(answered) <= held_out or not evaluation or held_out < 1:
            raise ValueError(
                f"{len(answered)} training tasks, of which {held_out} are held out for validation, and "
                f"{len(evaluation)} evaluation tasks fit a canvas of {size} × {size}: too few"
            )
        apart = set(answered[len(answered) - held_out :])
        self.augmentations = augmentations
        roles = [
            *(("train", p) for p in training if p.name not in apart),
            *(("validation", p) for p in training if p.name in apart),
            *(("asked", p) for p in evaluation),
        ]
        owners = defaultdict(set)  # of what is asked: tasks, by their place
        for place, (split, p) in enumerate(roles):
            for pair in p.test if split != "train" else []:
                if pair.output is not None:
                    owners[canonical(pair)].add(place)
        rng = np.random.default_rng([seed, 0xA2C])
        drawn = ([(*c.colours, c.turn) for c in changes(augmentations, rng)] for _ in roles)
        self._changes = np.concatenate([np.array(of_task, dtype=np.uint8) for of_task in drawn])  # [identities, 11]
        self.puzzles = len(self._changes)
        self.leaks, self.bare = 0, []
        self._learned: list[tuple[Pair, int]] = []  # with the identity of the task's first augmentation
        asked: dict[str, list[tuple[str, int, Pair, int]]] = {"validation": [], "test": [], "asked": []}
        for place, (split, p) in enumerate(roles):
            first = place * augmentations
            known = [*p.train, *(pair for pair in p.test if split == "train" and pair.output is not None)]
            learned = [pair for pair in known if owners.get(canonical(pair), set()) <= {place}]
            self.leaks += len(known) - len(learned)
            if not learned:
                self.bare.append(p.name)
            self._learned += [(pair, first) for pair in learned]
            for i, pair in enumerate(p.test if split != "train" else []):
                asked[split].append((p.name, i, pair, first))
                if split == "asked" and pair.output is not None:
                    asked["test"].append((p.name, i, pair, first))
        if not self._learned:
            raise ValueError("all training pairs are test pairs of other tasks: nothing is left to learn")
        rows = [(*self.canvases(pair), _cells(pair), first) for pair, first in self._learned]
        self.train = Grids(*(np.stack([row[i] for row in rows]) for i in range(4)))
        self.validation, self.test, self.asked = (
            Augmented(self, [pair for *_, pair, _ in of_split], [first for *_, first in of_split])
            for of_split in asked.values()
        )
        self.questions = {(name, i): pair.input for name, i, pair, _ in asked["asked"]}
        self.inputs = {split: [(name, i) for name, i, _, _ in of_split] for split, of_split in asked.items()}
        self.solutions = {
            split: {(name, i): pair.output for name, i, pair, _ in of_split if pair.output is not None}
            for split, of_split in asked.items()
        }

    def change(self, identity: int) -> Change:
        """The augmentation that an identity stands for, beside its task."""
        *colours, turn = self._changes[identity].tolist()
        return Change(tuple(colours), turn)

    def question(self, split: str, row: int) -> Question:
        grids: Augmented = getattr(self, split)
        return Question(*self.inputs[split][row // self.augmentations], self.change(grids.puzzle[row]))

    def canvases(self, pair: Pair) -> tuple[np.ndarray, np.ndarray]:
        """Input and labels [cells]; nothing counts where the output is not known."""
        x = to_canvas(pair.input, self.height)
        if pair.output is None:
            return x, np.full(len(x), IGNORE, dtype=np.int16)
        y = to_canvas(pair.output, self.height).astype(np.int16)
        y[y == PAD] = IGNORE
        return x, y

    def check(self) -> None:
        """Of the pairs as they are: an augmentation has no other symbols."""
        self.check_grids("train", self.train)
        for split in ("validation", "test"):
            if len(grids := getattr(self, split)):  # no output of the test may be known
                self.check_grids(split, grids[:: self.augmentations])

    def draw(self, row: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, int]:
        pair, first = self._learned[row]
        identity = first + int(rng.integers(self.augmentations))
        return *self.augment(*self.canvases(self.change(identity).of(pair)), rng), identity

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
        n, keys = self.augmentations, self.inputs[split]
        if not len(answers) == len(confidence) == n * len(keys):
            raise ValueError(f"{split} has {n * len(keys)} rows, got {len(answers)} answers, {len(confidence)} votes")
        best = {}
        for k, key in enumerate(keys):
            sure: dict[bytes, list[float]] = defaultdict(list)
            grids: dict[bytes, np.ndarray] = {}
            for row in range(k * n, (k + 1) * n):
                answer = self.question(split, row).change.back(from_canvas(answers[row], self.height))
                mark = bytes(answer.shape) + answer.tobytes()
                grids[mark] = answer
                sure[mark].append(float(confidence[row]))
            order = sorted(grids, key=lambda m: (-len(sure[m]), -np.mean(sure[m]), m))
            best[key] = [grids[mark] for mark in order[:tries]]
        return best

    def solved(self, split: str, tried: dict[tuple[str, int], list[np.ndarray]]) -> dict[tuple[str, int], bool]:
        """Whether one of the tries is the solution, for each test input of the split whose solution is known."""
        solutions = self.solutions[split]
        return {key: any(np.array_equal(t, solutions[key]) for t in tried[key]) for key in solutions}

    def submission(self, tried: dict[tuple[str, int], list[np.ndarray]]) -> dict[str, list[dict[str, list]]]:
        """What the ARC competitions take, {task: [{"attempt_1": grid, "attempt_2": grid}, …]}, of the tries at `asked`:
        all evaluation tasks and test inputs. A single answer is both attempts; where there is none, one black cell."""

        def attempts(grids: list[np.ndarray]) -> dict[str, list]:
            rows = [g.tolist() for g in grids if g.size] or [[[0]]]
            return {"attempt_1": rows[0], "attempt_2": rows[min(1, len(rows) - 1)]}

        return {name: [attempts(tried.get((name, i), [])) for i in range(n)] for name, n in self._inputs.items()}
