"""ARC by a Hierarchical Reasoning Model, from local folders of the public task files.

    python -m bench.arc --training_folder ARC-AGI/data/training --evaluation_folder ARC-AGI/data/evaluation
    python -m bench.arc --config configs/arc/laptop.yaml --training_folder …     small grids, a small model

A folder, with its subfolders, holds a file for each task, or the competitions' combined files: of these,
training_folder takes arc-agi_training_challenges.json and evaluation_folder arc-agi_evaluation_challenges.json, each
with its solutions; the file itself may be given, too (--evaluation_folder …/arc-agi_test_challenges.json).

The model learns the demonstrations of all tasks, each under its augmentations, and is asked the test inputs of the
evaluation tasks. *exact* is the share of single answers that are right; *two tries* that of test inputs for which one
of the two answers that most augmentations agree on is right, as the benchmark counts. What it tried is in the run
folder, in the format of the competitions: submissions/<seed>-<best or last>.json; where no solution is known there is
nothing to count, and it is all there is.

With the defaults (1000 augmentations of each task) the tasks take little memory, but each of a million identities has
an embedding: 2 GB in float32 for the public sets, as much again in each of a seed's five files.
"""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np

from bench.kit.benchmark import main
from bench.kit.folder import write_text
from bench.puzzles import reasoning
from bench.puzzles.pages import page
from bench.puzzles.reasoning import Reasoning
from hrm.act import Halting
from hrm.model import HRM
from hrm.tasks import arc
from hrm.train import Training, answers

log = logging.getLogger(__name__)


@dataclass
class Arc(Reasoning):
    """Tasks, and what learns to solve them. Sizes and rates are the published ones.

    Args:
        training_folder: of training tasks (*.json), or a combined file of them.
        evaluation_folder: of evaluation tasks, likewise.
        canvas: cells of an edge; tasks with larger grids are left out.
        augmentations: of each task; 1000 as published.
        held_out: training tasks whose test pairs are for validation.
        data_seed: of the augmentations.
    """

    training_folder: Optional[Path] = None
    evaluation_folder: Optional[Path] = None
    canvas: int = 30
    augmentations: int = 1000
    held_out: int = 20
    data_seed: int = 0
    training: Training = field(
        default_factory=lambda: Training(
            batch=768, steps=200_000, lr=1e-4, warmup=2000, final=1.0, loss="stablemax", halting=Halting()
        )
    )
    evaluate: int = 2000
    seeds: int = 1


def task(o: Arc, training: Path, evaluation: Path) -> arc.Arc:
    made = arc.Arc(
        arc.load_folder(training, "training"), arc.load_folder(evaluation, "evaluation"),
        o.canvas, o.augmentations, o.held_out, o.data_seed,
    )  # fmt: skip
    if made.left_out:
        log.info("%d tasks are larger than the canvas of %d × %d, and left out", len(made.left_out), o.canvas, o.canvas)
    if made.leaks:
        log.info("%d training pairs are test pairs of other tasks, turned or recoloured, and left out", made.leaks)
    if made.bare:
        log.info("%d tasks have no demonstration left: %s", len(made.bare), ", ".join(made.bare))
    if unknown := len(made.inputs["asked"]) - len(made.inputs["test"]):
        log.info("the outputs of %d test inputs are not known: they are answered, and not counted", unknown)
    return made


def votes(o: Arc, made: arc.Arc, model: HRM, file: Path) -> dict[str, Any]:
    """Shares of test inputs solved by the first try, and by one of two; what was tried goes to the file."""
    halting = o.training.halting
    how = halting if halting.at_evaluation else None
    # of the last segment alone
    symbols, confidence = np.empty((len(made.asked), made.length), dtype=np.uint8), np.empty(len(made.asked))
    done = 0
    for part, found in answers(model, made.asked, halting.halt_max_steps, how, bf16=o.training.bf16):
        rows = slice(done, done := done + len(part))
        symbols[rows], confidence[rows] = found.symbols[-1], found.q_halt[-1]
    tried = made.vote("asked", symbols, confidence)
    write_text(file, json.dumps(made.submission(tried)))
    solved = {
        "1 try": made.solved("asked", {key: grids[:1] for key, grids in tried.items()}),
        "2 tries": made.solved("asked", tried),
    }
    shares = {name: float(np.mean(list(right.values()))) for name, right in solved.items() if right}
    return {"votes": shares, "inputs": len(made.inputs["test"]), "answers": told(made, tried)}


def told(made: arc.Arc, tried: dict[tuple[str, int], list[np.ndarray]]) -> dict[str, Any]:
    """What was shown, asked and tried, of each test input: a grid is a list of rows of digits."""

    def rows(grid: np.ndarray | None) -> list[str] | None:
        return None if grid is None else ["".join(map(str, row)) for row in grid.tolist()]

    asked = [
        {
            "task": name,
            "pair": i,
            "input": rows(made.questions[name, i]),
            "tries": [rows(grid) for grid in grids],
            "solution": rows(made.solutions["asked"].get((name, i))),
        }
        for (name, i), grids in tried.items()
    ]
    shown = {n: [[rows(p.input), rows(p.output)] for p in made.demonstrations[n]] for n, _ in tried}
    return {"asked": asked, "demonstrations": shown}


def report(result: Mapping[str, Any]) -> dict[str, str]:
    """A page of the first seed's answers, by its last weights, task by task."""
    found = result["seeds"][0]["test"]["last"]
    if "answers" not in found:
        return {}
    return {"tasks.html": page("tasks.html", "ARC, task by task", found["answers"])}


def toy(folder: Path, tasks: int, seed: int) -> Path:
    """Small tasks in the format of ARC: a grid is turned, or its colours change."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    for number in range(tasks):
        rule = arc.changes(2, rng)[1]
        pairs = []
        for _ in range(4):
            cells = rng.integers(0, 4, rng.integers(1, 4, 2)).astype(np.int8)
            pairs.append({"input": cells.tolist(), "output": rule(cells).tolist()})
        content = json.dumps({"train": pairs[:3], "test": pairs[3:]})
        (folder / f"toy{seed}-{number}.json").write_text(content)
    return folder


def tasks(o: Arc) -> arc.Arc:
    """The tasks of the folders; toys for a smoke run without."""
    if o.smoke and o.training_folder is None:
        with tempfile.TemporaryDirectory() as scratch:
            folders = [toy(Path(scratch) / name, 4, seed) for seed, name in enumerate(("training", "evaluation"))]
            return task(o, *folders)
    for name in ("training_folder", "evaluation_folder"):
        folder = getattr(o, name)
        if folder is None or not folder.exists():
            raise ValueError(f"{name} must be a folder of ARC tasks (*.json), got {folder}")
    assert o.training_folder is not None
    assert o.evaluation_folder is not None
    return task(o, o.training_folder, o.evaluation_folder)


def check(o: Arc) -> None:
    if o.data_seed < 0:
        raise ValueError(f"data_seed must be ≥ 0, got {o.data_seed}")


def tiny(o: Arc) -> Arc:
    """Of a smoke run."""
    return reasoning.small(o, canvas=5, augmentations=3, held_out=1)


benchmark = reasoning.puzzles(
    name="arc",
    summary="ARC by a Hierarchical Reasoning Model, from local folders of the public task files",
    Options=Arc,
    kind=arc.Arc,
    task=tasks,
    check=check,
    tiny=tiny,
    judge=lambda o, made: partial(votes, o, made),
    pages=report,
)

if __name__ == "__main__":
    main(benchmark)
