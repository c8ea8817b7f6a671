"""Mazes: a start S, a goal G, and a shortest path between them to be marked.

Two generators: *open* mazes, in which each cell is a wall with some probability, so that there may be many shortest
paths, and *carved* ones, trees of corridors with one path. Difficulty is the number of moves on a shortest path.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from hrm.tasks.task import Grids, Task, turned

# symbols, as published; 0 is left free
WALL, FREE, START, GOAL, PATH = 1, 2, 3, 4, 5
MOVES = ((-1, 0), (0, -1), (0, 1), (1, 0))  # in this order of preference, where several are as short
FAR = -1  # distance of a cell that cannot be reached


def distances(maze: np.ndarray, to: tuple[int, int]) -> np.ndarray:
    """Number of moves from each cell [height, width] to one of them, breadth first; FAR for walls and beyond."""
    out = np.full(maze.shape, FAR)
    out[to] = 0
    front = [to]
    while front:
        following = []
        for r, c in front:
            for dr, dc in MOVES:
                at = r + dr, c + dc
                inside = 0 <= at[0] < maze.shape[0] and 0 <= at[1] < maze.shape[1]
                if inside and maze[at] != WALL and out[at] == FAR:
                    out[at] = out[r, c] + 1
                    following.append(at)
        front = following
    return out


def ends(maze: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]]:
    """Where start and goal are. Raises ValueError unless there is one of each."""
    places = [np.argwhere(maze == symbol) for symbol in (START, GOAL)]
    if any(len(p) != 1 for p in places):
        raise ValueError(f"a maze has one start and one goal, this one {len(places[0])} and {len(places[1])}")
    (a,), (b,) = (p.tolist() for p in places)
    return (a[0], a[1]), (b[0], b[1])


def solve(maze: np.ndarray) -> tuple[np.ndarray, int]:
    """The maze [height, width] with a shortest path marked, the first in the order of `MOVES` from the start on, and
    its number of moves. Raises ValueError where goal and start are not connected."""
    start, goal = ends(maze)
    distance = distances(maze, goal)
    moves = int(distance[start])
    if moves == FAR:
        raise ValueError("the goal cannot be reached from the start")
    out, at = maze.copy(), start
    for left in range(moves - 1, 0, -1):
        near = ((at[0] + dr, at[1] + dc) for dr, dc in MOVES)
        at = next(p for p in near if 0 <= p[0] < maze.shape[0] and 0 <= p[1] < maze.shape[1] and distance[p] == left)
        out[at] = PATH
    return out, moves


def is_shortest(maze: np.ndarray, answer: np.ndarray) -> bool:
    """Whether the answer is the maze with one shortest path marked, whichever."""
    marked = answer == PATH
    if not np.array_equal(np.where(marked, FREE, answer), maze):
        return False
    start, goal = ends(maze)
    # through marked cells alone the goal is as near as through all, and no cell is marked besides
    corridor = np.where(marked | (maze == START) | (maze == GOAL), FREE, WALL)
    moves = int(distances(maze, goal)[start])
    return int(distances(corridor, goal)[start]) == moves == marked.sum() + 1


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


def canonical(maze: np.ndarray) -> bytes:
    """The same for all mazes that the augmentation maps on each other."""
    images = [turned(m, k) for m in (maze, reversed_ends(maze)) for k in range(8)]
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
    x: list[np.ndarray] = []
    y: list[np.ndarray] = []
    moves: list[int] = []
    total = sum(sizes)
    for _ in range(100 * total):
        if len(x) == total:
            break
        maze = with_ends(GENERATORS[kind](size, rng, walls), least, rng)
        if maze is None or (mark := canonical(maze)) in seen:
            continue
        seen.add(mark)
        answer, number = solve(maze)
        x.append(maze.ravel())
        y.append(answer.ravel())
        moves.append(number)
    if len(x) < total:
        raise ValueError(f"found only {len(x)} of {total} {kind} mazes of {size} × {size} with {least} moves or more")
    grids = Grids(np.stack(x).astype(np.int8), np.stack(y).astype(np.int8), np.array(moves, dtype=float))
    first, second = sizes[0], sizes[0] + sizes[1]
    return [grids[:first], grids[first:second], grids[second:]]


# -- the task ----------------------------------------------------------------------------------------------------------


class Maze(Task):
    """Square mazes. augment: turned, reflected, start and goal exchanged, anew for each training maze; the path is then
    the first in the order of `MOVES` again."""

    symbols = "?# SGo"
    kind = "maze"
    measure = "optimal"
    blank = FREE

    def __init__(self, size: int, kind: str, train: Grids, validation: Grids, test: Grids, augmentation: bool = True):
        super().__init__(f"{kind} maze {size}x{size}", size, size, len(self.symbols))
        self.augmentation = augmentation
        self.train, self.validation, self.test = train, validation, test

    def augment(self, x: np.ndarray, y: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        if not self.augmentation:
            return x, y
        maze = turned(x.reshape(self.height, self.width), int(rng.integers(8)))
        if rng.random() < 0.5:
            maze = reversed_ends(maze)
        return maze.reshape(-1), solve(maze)[0].reshape(-1)

    def scores(self, grids: Grids, answers: np.ndarray) -> dict[str, np.ndarray]:
        """exact: the stored path; optimal: any shortest path."""
        scores = super().scores(grids, answers)
        optimal = scores["exact"].copy()
        # only other paths of the right length are worth a search
        for i in np.flatnonzero(~optimal & ((answers == PATH).sum(1) == (grids.y == PATH).sum(1))):
            shape = (self.height, self.width)
            optimal[i] = is_shortest(grids.x[i].reshape(shape), answers[i].reshape(shape))
        return {**scores, "optimal": optimal}
