"""Mazes: a start S, a goal G, and a shortest path between them to be marked.

Two generators: *open* mazes, in which each cell is a wall with some probability, so that there may be many shortest
paths, and *carved* ones, trees of corridors with one path; and a reader of folders of stored mazes, which checks them.
Difficulty is the number of moves on a shortest path.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from hrm.tasks.task import Grids, Task, drawn_rows, turned, turned_back, without_overlap

# symbols, as published; 0 is left free
WALL, FREE, START, GOAL, PATH = 1, 2, 3, 4, 5
Moves = tuple[tuple[int, int], ...]
MOVES: Moves = ((-1, 0), (0, -1), (0, 1), (1, 0))  # in this order of preference, where several are as short
FAR = -1  # distance of a cell that cannot be reached


def distances(maze: np.ndarray, to: tuple[int, int]) -> np.ndarray:
    """Number of moves from each cell [height, width] to one of them, breadth first; FAR for walls and beyond."""
    width = maze.shape[1] + 2  # within a border of walls no cell has to ask where the maze ends
    free = (np.pad(maze, 1, constant_values=WALL) != WALL).ravel().tolist()
    steps = [dr * width + dc for dr, dc in MOVES]
    front = [(to[0] + 1) * width + to[1] + 1]
    out = [FAR] * len(free)
    out[front[0]] = moves = 0
    while front:
        moves += 1
        following = []
        for cell in front:
            for step in steps:
                at = cell + step
                if free[at] and out[at] == FAR:
                    out[at] = moves
                    following.append(at)
        front = following
    return np.array(out).reshape(-1, width)[1:-1, 1:-1]


def ends(maze: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where start and goal are. Raises ValueError unless there is one of each."""
    places = [np.argwhere(maze == symbol) for symbol in (START, GOAL)]
    if any(len(p) != 1 for p in places):
        raise ValueError(f"a maze has one start and one goal, this one {len(places[0])} and {len(places[1])}")
    (a,), (b,) = (p.tolist() for p in places)
    return (a[0], a[1]), (b[0], b[1])


def solve(maze: np.ndarray, moves: Moves = MOVES) -> tuple[np.ndarray, int]:
    """The maze [height, width] with a shortest path marked, the first in the order of `moves` from the start on, and
    its number of moves. Raises ValueError where goal and start are not connected."""
    start, goal = ends(maze)
    distance = distances(maze, goal)
    length = int(distance[start])
    if length == FAR:
        raise ValueError("the goal cannot be reached from the start")
    out, at = maze.copy(), start
    for left in range(length - 1, 0, -1):
        near = ((at[0] + dr, at[1] + dc) for dr, dc in moves)
        at = next(p for p in near if 0 <= p[0] < maze.shape[0] and 0 <= p[1] < maze.shape[1] and distance[p] == left)
        out[at] = PATH
    return out, length


def preference(mazes: np.ndarray, answers: np.ndarray) -> Moves | None:
    """The order of moves by which `solve` finds the answer of each maze, both [n, height, width]; None if there is
    none. Of several it is the first, counted from `MOVES`."""
    for moves in itertools.permutations(MOVES):
        if all(np.array_equal(solve(maze, moves)[0], answer) for maze, answer in zip(mazes, answers, strict=True)):
            return moves
    return None


def path_length(maze: np.ndarray, answer: np.ndarray) -> float:
    """Number of moves of the path that the answer marks in the maze; ∞ where it marks none that leads from the start to
    the goal without a cell to spare, or changes the maze."""
    marked = answer == PATH
    if not np.array_equal(np.where(marked, FREE, answer), maze):
        return math.inf
    start, goal = ends(maze)
    corridor = np.where(marked | (maze == START) | (maze == GOAL), FREE, WALL)
    moves = int(distances(corridor, goal)[start])
    return moves if moves == marked.sum() + 1 else math.inf


def is_shortest(maze: np.ndarray, answer: np.ndarray) -> bool:
    """Whether the answer is the maze with one shortest path marked, whichever."""
    length = path_length(maze, answer)
    if length == math.inf:
        return False
    start, goal = ends(maze)
    return bool(length == distances(maze, goal)[start])


# -- generators --------------------------------------------------------------------------------------------------------


def open_walls(size: int, rng: np.random.Generator, walls: float = 0.3) -> np.ndarray:
    """Each cell a wall with probability `walls`, [size, size]."""
    return np.where(rng.random((size, size)) < walls, WALL, FREE)


def carved(size: int, rng: np.random.Generator, walls: float = 0.0) -> np.ndarray:
    """A random spanning tree of the rooms in every second row and column, by a depth-first walk, [size, size]. walls is
    not used."""
    maze = np.full((size, size), WALL)
    rooms = range(0, size, 2)
    at = (int(rng.choice(rooms)), int(rng.choice(rooms)))
    maze[at] = FREE
    walk = [at]
    while walk:
        r, c = walk[-1]
        near = [
            (dr, dc)
            for dr, dc in MOVES
            if r + 2 * dr in rooms and c + 2 * dc in rooms and maze[r + 2 * dr, c + 2 * dc] == WALL
        ]
        if not near:
            walk.pop()
            continue
        dr, dc = near[rng.integers(len(near))]
        maze[r + dr, c + dc] = maze[r + 2 * dr, c + 2 * dc] = FREE
        walk.append((r + 2 * dr, c + 2 * dc))
    return maze


GENERATORS: dict[str, Callable[[int, np.random.Generator, float], np.ndarray]] = {"open": open_walls, "carved": carved}


def with_ends(maze: np.ndarray, least: int, rng: np.random.Generator) -> np.ndarray | None:
    """Start and goal in two free cells at least `least` moves apart; None where the goal drawn has no such cell."""
    free = np.argwhere(maze == FREE)
    if len(free) < 2:
        return None
    goal = tuple(free[rng.integers(len(free))].tolist())
    starts = np.argwhere(distances(maze, goal) >= max(least, 1))
    if not len(starts):
        return None
    out = maze.copy()
    out[goal] = GOAL
    out[tuple(starts[rng.integers(len(starts))])] = START
    return out


def reversed_ends(maze: np.ndarray) -> np.ndarray:
    """Start and goal exchanged."""
    return np.where(maze == START, GOAL, np.where(maze == GOAL, START, maze))


def symmetries(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Those of `turned` that keep the shape (height, width): all eight of a square, four of another rectangle."""
    return tuple(k for k in range(8) if turned(np.empty(shape), k).shape == shape)


def canonical(maze: np.ndarray) -> bytes:
    """The same for all mazes that the augmentation maps on each other."""
    images = [turned(m, k) for m in (maze, reversed_ends(maze)) for k in symmetries(maze.shape)]
    return min(image.astype(np.int8).tobytes() for image in images)


def generate(
    size: int, kind: str, sizes: tuple[int, int, int], seed: int, least: int = 0, walls: float = 0.3
) -> list[Grids]:
    """Training, validation and test mazes of the given numbers, with at least `least` moves. No maze of one split is a
    maze of another, or its own twin, under turning, reflection and exchange of start and goal.

    Raises ValueError for unknown kinds, and where so many different mazes are not found.
    """
    if kind not in GENERATORS:
        raise ValueError(f"unknown kind of maze {kind!r}; choose one of {', '.join(GENERATORS)}")
    if size < 3:
        raise ValueError(f"a maze has a size of at least 3, got {size}")
    rng = np.random.default_rng([seed, size, *kind.encode()])
    seen: set[bytes] = set()

    def draw() -> np.ndarray | None:
        maze = with_ends(GENERATORS[kind](size, rng, walls), least, rng)
        if maze is None or (mark := canonical(maze)) in seen:
            return None
        seen.add(mark)
        return maze

    return _splits(draw, sizes, MOVES, f"{kind} mazes of {size} × {size} with {least} moves or more")


def windows(task: Maze, size: int, sizes: tuple[int, int, int], seed: int) -> list[Grids]:
    """Training, validation and test mazes of the given numbers: windows of `size` cells' edge in a task's training
    mazes, with ends of their own, at least 2 · size moves apart. The path is the first in the order of the task's
    moves.

    Raises ValueError for windows larger than its mazes, and where so many with such ends are not found.
    """
    if not 3 <= size <= min(task.height, task.width):
        raise ValueError(f"a window has an edge of 3 to {min(task.height, task.width)} cells here, got {size}")
    rng = np.random.default_rng([seed, size])
    mazes = task.train.x.reshape(-1, task.height, task.width)

    def draw() -> np.ndarray | None:
        row, r, c = (int(rng.integers(n)) for n in (len(mazes), task.height - size + 1, task.width - size + 1))
        window = mazes[row, r : r + size, c : c + size]
        return with_ends(np.where(window == WALL, WALL, FREE), 2 * size, rng)

    return _splits(draw, sizes, task.moves or MOVES, f"windows of {size} × {size} with {2 * size} moves or more")


def _splits(draw: Callable[[], np.ndarray | None], sizes: tuple[int, int, int], moves: Moves, what: str) -> list[Grids]:
    """Mazes as they are drawn, solved and divided. Raises ValueError where so many are not found."""
    x: list[np.ndarray] = []
    y: list[np.ndarray] = []
    lengths: list[int] = []
    total = sum(sizes)
    for _ in range(100 * total):
        if len(x) == total:
            break
        if (maze := draw()) is None:
            continue
        answer, length = solve(maze, moves)
        x.append(maze.ravel())
        y.append(answer.ravel())
        lengths.append(length)
    if len(x) < total:
        raise ValueError(f"found only {len(x)} of {total} {what}")
    grids = Grids(np.stack(x).astype(np.int8), np.stack(y).astype(np.int8), np.array(lengths, dtype=float))
    first, second = sizes[0], sizes[0] + sizes[1]
    return [grids[:first], grids[first:second], grids[second:]]


# -- files -------------------------------------------------------------------------------------------------------------


FILES = ("all__inputs.npy", "all__labels.npy")


def load_array(path: Path, symbols: tuple[int, ...]) -> np.ndarray:
    """Grids of a .npy file, [n, cells] of a square or [n, height, width] → [n, height, width], int8.

    Raises ValueError, naming the file, for what is no such array, and the row (from 0) of a symbol that is none of
    those given.
    """
    if not path.is_file():
        raise ValueError(f"there is no {path}: a folder of mazes holds train and test, each with {' and '.join(FILES)}")
    try:
        grids = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, MemoryError) as error:
        raise ValueError(f"{path} is no readable .npy file: {' '.join(str(error).split())}") from None
    if not isinstance(grids, np.ndarray) or grids.dtype.kind not in "iu":
        raise ValueError(f"{path} must hold integers, got {getattr(grids, 'dtype', 'an archive of several arrays')}")
    if grids.ndim == 2 and (edge := round(grids.shape[1] ** 0.5)) ** 2 == grids.shape[1]:
        grids = grids.reshape(-1, edge, edge)
    if grids.ndim != 3 or not grids.size:
        raise ValueError(
            f"{path} must be [mazes, cells] of square mazes or [mazes, height, width], got {list(grids.shape)}"
        )
    if len(wrong := np.argwhere(~np.isin(grids, symbols))):  # before int8 could make a symbol of any number
        row, *cell = wrong[0].tolist()
        raise ValueError(
            f"{path}, row {row}: symbol {grids[row][tuple(cell)]} in cell {cell}, must be one of {symbols}"
        )
    return grids.astype(np.int8)


def load_split(
    folder: Path, progress: Callable[[np.ndarray], Iterable[Any]] = iter
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mazes and answers [n, height, width] and moves [n] of a folder with all__inputs.npy and all__labels.npy.
    progress: wraps the mazes, to show how far the check is.

    Raises ValueError, naming file and row (from 0), unless each maze has one start and one goal, and its answer is the
    maze with a shortest path between them marked.
    """
    inputs, labels = (folder / name for name in FILES)
    x = load_array(inputs, (WALL, FREE, START, GOAL))
    y = load_array(labels, (WALL, FREE, START, GOAL, PATH))
    if x.shape != y.shape:
        raise ValueError(f"{labels} has the shape {list(y.shape)}, but {inputs} {list(x.shape)}")
    wrong = []
    for row, (maze, answer) in enumerate(zip(progress(x), y, strict=True)):
        try:
            ends(maze)
        except ValueError as error:
            raise ValueError(f"{inputs}, row {row}: {error}") from None
        if not is_shortest(maze, answer):
            wrong.append(row)
    if wrong:
        rows = ", ".join(map(str, wrong[:10])) + (", …" if len(wrong) > 10 else "")
        raise ValueError(
            f"{labels}, row {rows}: no shortest path from the start to the goal of the maze in {inputs.name} "
            f"({len(wrong)} of {len(x)} rows)"
        )
    return x, y, (y == PATH).sum((1, 2)) + 1.0


def load_folder(
    folder: Path, sizes: tuple[int, int, int], seed: int, progress: Callable[[np.ndarray], Iterable[Any]] = iter
) -> tuple[tuple[int, int], tuple[Grids, Grids, Grids]]:
    """(height, width), and training, validation and test mazes of the given numbers from the folders train and test,
    drawn at random; those for validation are of train. A training maze that is a test maze turned, reflected or
    reversed is left out, and so is a validation maze that is either.

    Raises ValueError for what `load_split` refuses, for fewer mazes than asked for and for two shapes.
    """
    stored = [load_split(folder / name, progress) for name in ("train", "test")]
    shape, tested = (x.shape[1:] for x, *_ in stored)
    if shape != tested:
        raise ValueError(f"{folder} has mazes of {shape} for training, but of {tested} for the test")
    drawn = []
    for (name, asked), (x, y, moves) in zip((("train", sizes[:2]), ("test", sizes[2:])), stored, strict=True):
        parts = drawn_rows(len(x), asked, seed, str(folder / name))
        drawn += [Grids(x[r].reshape(len(r), -1), y[r].reshape(len(r), -1), moves[r]) for r in parts]
    return shape, without_overlap(drawn, lambda x: [canonical(maze.reshape(shape)) for maze in x])


# -- the task ----------------------------------------------------------------------------------------------------------


class Maze(Task):
    """Mazes of one size: that of an edge, or (height, width). augment: turned, reflected, start and goal exchanged,
    anew for each training maze; the path is then the first in the order of `moves` again, or with None the stored one,
    which is turned along."""

    symbols = "?# SGo"
    kind = "maze"
    measure = "optimal"
    blank = FREE
    views = 8  # of square ones, of others four

    def __init__(
        self, size: int | tuple[int, int], kind: str, train: Grids, validation: Grids, test: Grids,
        augmentation: bool = True, moves: Moves | None = MOVES,
    ):  # fmt: skip
        height, width = (size, size) if isinstance(size, int) else size
        super().__init__(f"{kind} maze {height}x{width}", height, width, len(self.symbols))
        self.augmentation, self.symmetries, self.moves = augmentation, symmetries((height, width)), moves
        self.views = len(self.symmetries)
        self.train, self.validation, self.test = train, validation, test

    def _grids(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(-1, self.height, self.width)

    def view(self, x: np.ndarray, which: int) -> np.ndarray:
        """Turned and reflected."""
        return np.stack([turned(maze, self.symmetries[which]).ravel() for maze in self._grids(x)])

    def back(self, answers: np.ndarray, which: int) -> np.ndarray:
        return np.stack([turned_back(maze, self.symmetries[which]).ravel() for maze in self._grids(answers)])

    def faults(self, x: np.ndarray, answers: np.ndarray) -> np.ndarray:
        """Number of moves; ∞ for what is no path."""
        pairs = zip(self._grids(x), self._grids(answers), strict=True)
        return np.array([path_length(maze, answer) for maze, answer in pairs])

    def augment(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if not self.augmentation:
            return x, y
        change = self.symmetries[rng.integers(len(self.symmetries))]
        maze, answer = (turned(grid.reshape(self.height, self.width), change) for grid in (x, y))
        if rng.random() < 0.5:
            maze, answer = reversed_ends(maze), reversed_ends(answer)
        if self.moves is not None:
            answer = solve(maze, self.moves)[0]
        return maze.reshape(-1), answer.reshape(-1)

    def scores(self, grids: Grids, answers: np.ndarray) -> dict[str, np.ndarray]:
        """exact: the stored path; optimal: any shortest path."""
        scores = super().scores(grids, answers)
        optimal = scores["exact"].copy()
        # only other paths of the right length are worth a search
        for i in np.flatnonzero(~optimal & ((answers == PATH).sum(1) == (grids.y == PATH).sum(1))):
            shape = (self.height, self.width)
            optimal[i] = is_shortest(grids.x[i].reshape(shape), answers[i].reshape(shape))
        return {**scores, "optimal": optimal}
