"""Shortest paths through mazes by a Hierarchical Reasoning Model, tested on mazes that are no training maze under any
symmetry of the square.

    python -m bench.maze                        10 × 10, with open walls
    python -m bench.maze --kind carved          one path each
    python -m bench.maze --folder mazes --puzzles [900,100,1000]        mazes of one's own, or the published 30 × 30

A folder has the layout of the published data sets: train/ and test/, each with all__inputs.npy and all__labels.npy,
integers [mazes, cells] of square mazes or [mazes, height, width]; 1 is a wall, 2 free, 3 the start, 4 the goal, and 5,
in the labels, the path. What is not such a maze with a shortest path marked is refused, by file and row.

Difficulty is the number of moves on a shortest path. Both measures are reported: *exact*, the one path that is stored,
and *optimal*, any shortest path. Of several shortest paths the stored one is the first in an order of the four moves
from the start on, of generated mazes up, left, right, down; of a folder's the order that gives all its training
answers (of the published mazes down, left, right, up), in which augmented mazes are then solved anew. Where no order
does, the stored path is turned along with its maze.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from bench.kit.benchmark import main
from bench.puzzles import reasoning
from bench.puzzles.reasoning import Reasoning
from hrm.act import Halting
from hrm.model import HRM, Config
from hrm.tasks import maze
from hrm.train import Training


@dataclass
class Maze(Reasoning):
    """Mazes, and what learns to find their shortest paths.

    Args:
        size: cells of an edge.
        kind: open or carved.
        walls: probability of a wall, of open mazes.
        least: moves that the shortest path has at least.
        puzzles: numbers of training, validation and test mazes.
        augmentation: whether training mazes are turned, reflected and reversed anew each time.
        data_seed: of the mazes; of a folder's, which rows they are.
        folder: of mazes of one's own, train/ and test/ with all__inputs.npy and all__labels.npy (1 wall, 2 free, 3
            start, 4 goal, 5 path), in place of generated ones; size, kind, walls and least then do not matter.
            Validation mazes are drawn from train.
        curriculum: [edge, steps] of smaller mazes that are learned first, one after the other: of the same kind; or of
            a folder, windows of its training mazes, with ends of their own.
    """

    size: int = 10
    kind: str = "open"
    walls: float = 0.3
    least: int = 6
    puzzles: tuple[int, int, int] = (5000, 500, 1000)
    augmentation: bool = True
    data_seed: int = 0
    folder: Optional[Path] = None
    curriculum: list[tuple[int, int]] = field(default_factory=list)
    model: Config = field(
        default_factory=lambda: Config(d=64, H_layers=2, L_layers=2, expansion=2, multiple=32, mixer="conv")
    )
    # all segments always: the Q-head reads the first cell, which under convolutions knows little of the far ones
    training: Training = field(
        default_factory=lambda: Training(
            steps=4000, batch=32, average=0.98, halting=Halting(halt_max_steps=8, learned=False)
        )
    )


def task(o: Maze) -> maze.Maze:
    """The mazes: generated once, then read from the cache; or those of the folder."""
    if o.folder is not None:
        shape, splits = maze.load_folder(o.folder, o.puzzles, o.data_seed, reasoning.progress)
        train = splits[0]
        moves = maze.preference(*(grids.reshape(-1, *shape) for grids in (train.x, train.y)))
        return maze.Maze(shape, "stored", *splits, o.augmentation, moves)
    settings = {
        "size": o.size, "kind": o.kind, "walls": o.walls, "least": o.least, "sizes": o.puzzles, "seed": o.data_seed,
    }  # fmt: skip
    train, validation, test = reasoning.splits("maze", settings, maze.generate)
    return maze.Maze(o.size, o.kind, train, validation, test, o.augmentation)


def larger(o: Maze, model: HRM, factor: int, number: int) -> tuple[maze.Maze, HRM]:
    """Mazes with longer edges than the model has seen, and the model for them: convolutions fit grids of any size."""
    size = factor * model.config.columns
    train, validation, test = maze.generate(size, o.kind, (1, 1, number), o.data_seed, o.least, o.walls)
    other = maze.Maze(size, o.kind, train, validation, test)
    return other, reasoning.resized(model, other)


def smaller(o: Maze, task: maze.Maze) -> list[tuple[maze.Maze, int]]:
    """The stages of the curriculum, with four times as many training mazes as the task has."""
    stages, numbers = [], (4 * o.puzzles[0], o.puzzles[1], 1)
    for size, steps in o.curriculum:
        if o.folder is None:
            splits = maze.generate(size, o.kind, numbers, o.data_seed, min(o.least, size), o.walls)
        else:
            splits = maze.windows(task, size, numbers, o.data_seed)
        train, validation, test = splits
        of = maze.Maze(size, task.name.split()[0], train, validation, test, o.augmentation, task.moves)
        stages.append((of, steps))
    return stages


def check(o: Maze) -> None:
    if min(o.puzzles) < 1:
        raise ValueError(f"puzzles must be three numbers of at least 1, got {o.puzzles}")
    if not 0 <= o.least < o.size**2:
        raise ValueError(f"least must lie in 0 … {o.size**2 - 1} moves, got {o.least}")
    if o.data_seed < 0:
        raise ValueError(f"data_seed must be ≥ 0, got {o.data_seed}")
    for size, steps in o.curriculum:
        if size < 3 or steps < 1:
            raise ValueError(f"curriculum holds [edge, steps], at least [3, 1] each, got {[size, steps]}")
        if o.model.mixer != "conv":
            raise ValueError(f"curriculum is for convolutions, which fit mazes of any size, not for {o.model.mixer}")
    if not 0 <= o.walls < 1:
        raise ValueError(f"walls is a probability below 1, got {o.walls:g}")


def tiny(o: Maze) -> Maze:
    """Of a smoke run."""
    stages = [(4, 2) for _ in o.curriculum]
    return reasoning.small(o, puzzles=(40, 20, 20), size=6, least=3, curriculum=stages)


LARGER = (2, 3)  # edges, relative to those learned


def beyond(o: Maze, task: maze.Maze, model: HRM, number: int) -> Iterator[reasoning.Beyond]:
    if model.config.mixer == "conv":
        for factor in LARGER:
            other, grown = larger(o, model, factor, number)
            moves = f"{other.test.difficulty.mean():.0f} moves on average"
            yield f"larger: {other.width} × {other.height}, {moves}", other, grown, other.test


benchmark = reasoning.puzzles(
    name="maze",
    summary="shortest paths through mazes by a Hierarchical Reasoning Model",
    Options=Maze,
    kind=maze.Maze,
    task=task,
    check=check,
    tiny=tiny,
    beyond=beyond,
    before=smaller,
)

if __name__ == "__main__":
    main(benchmark)
