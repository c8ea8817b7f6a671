"""A trained Hierarchical Reasoning Model to look at: that of a run folder, or one that is trained first."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from bench import registry
from bench.kit.benchmark import begin, complete, prepared
from bench.kit.folder import Run
from bench.kit.options import DeviceOptions, saved
from bench.puzzles import reasoning
from bench.puzzles.reasoning import Puzzles, Reasoning
from hrm import weights
from hrm.model import HRM
from hrm.tasks.task import Task

OF_RUNS = ("sudoku", "maze")  # benchmarks whose runs can be looked at


@dataclass
class Trained(DeviceOptions):
    """Which model.

    Args:
        run: folder of a run of bench.sudoku or bench.maze whose weights are looked at; without, a model learns 4 × 4
            Sudoku first.
        seed: of the run's models.
        steps: of that training.
        splits: numbers of its training, validation and test puzzles.
    """

    run: Optional[Path] = None
    seed: int = 0
    steps: int = 1250
    splits: tuple[int, int, int] = (4000, 1000, 1000)
    threads: int = 0


def check(o: Trained) -> None:
    """Raises ValueError with the value and what it must be."""
    if o.steps < 1:
        raise ValueError(f"steps must be at least 1, got {o.steps}")
    if o.run is None and o.seed:
        raise ValueError(f"seed = {o.seed} is of a run's models: give --run, or seed 0 for the model trained here")
    if o.run is None:
        sudoku = puzzles("sudoku")
        sudoku.check(prepared(sudoku, learner(o, o.runs)))
    else:
        options(o.run)
        path = reasoning.weights_file(o.run, o.seed, "last")
        if not path.exists():
            raise ValueError(f"there is no {path}: the run has no seed {o.seed}, or is not finished")
        for each in sorted(path.parent.glob(f"{o.seed}-*.pt")):
            weights.load(each)  # complains of files of another version before there is a run folder


def puzzles(name: str) -> Puzzles[Any]:
    found = registry.benchmark(name)
    assert isinstance(found, Puzzles)
    return found


def options(folder: Path) -> tuple[Puzzles[Any], Reasoning]:
    """Benchmark and options of a finished run, as it used them. Raises ValueError for any other folder."""
    try:
        result = json.loads((folder / "result.json").read_text("utf-8"))
        name = result.get("benchmark", result.get("name"))
        if name not in OF_RUNS:
            raise ValueError(name)
    except (OSError, ValueError, AttributeError) as error:
        raise ValueError(f"{folder} is no finished run of bench.{' or bench.'.join(OF_RUNS)}: {error!r}") from error
    found = puzzles(name)
    return found, prepared(found, saved(found.Options, folder))


def learner(o: Trained, runs: Path) -> Reasoning:
    """What is trained where no run is given."""
    own = puzzles("sudoku").Options(
        seeds=1, puzzles=o.splits, runs=runs, device=o.device, smoke=o.smoke, threads=o.threads
    )
    return dataclasses.replace(own, training=dataclasses.replace(own.training, steps=o.steps))


def folder_of(o: Trained, run: Run) -> Path:
    """The run folder: the one asked for, or one inside the study's own, trained now as far as it is not yet."""
    if o.run is not None:
        return o.run
    begun = next(iter(sorted((run.path / "sudoku").glob("*/config.yaml"))), None)
    if begun is None or not (begun.parent / "result.json").exists():
        own = learner(o, run.path)
        if begun is not None:
            own = dataclasses.replace(own, resume=begun.parent)
        sudoku = puzzles("sudoku")
        complete(sudoku, *begin(sudoku, own))
    (config,) = (run.path / "sudoku").glob("*/config.yaml")
    return config.parent


class Subject:
    """The models of a run folder, and their task."""

    def __init__(self, o: Trained, run: Run):
        self.folder, self.o = folder_of(o, run), o
        self.benchmark, self.options = options(self.folder)
        self.task: Task = self.benchmark.task(self.options)

    def model(self, when: str) -> HRM:
        """when: init, half, best or last."""
        return reasoning.load(reasoning.weights_file(self.folder, self.o.seed, when), self.task, self.o.device)
