"""Hierarchical Reasoning Models that learn a task of grids: what `bench.sudoku`, `bench.maze` and `bench.arc` share.

A run trains one model per seed. Every `evaluate` steps it answers the validation puzzles, and keeps a checkpoint; the
weights that did best there are the "best" ones, those at the end the "last" ones. The test puzzles are answered once,
at the end, by both. All weights lie in the run folder: weights/<seed>-<init, half, best or last>.pt.

    torchrun --nproc_per_node 2 -m bench.sudoku …           divides the batch among processes, and devices
    python -m bench.sudoku --solve <puzzle> --weights <file>    answers a puzzle of one's own, and shows the steps
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import logging
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Optional, TypeVar

import numpy as np
import torch
from tqdm import tqdm

from bench.data.cache import cache_dir, cached
from bench.kit.benchmark import Benchmark, Curve, Score
from bench.kit.divided import Divide, part
from bench.kit.figures import band, plt
from bench.kit.folder import Run, write_atomically
from bench.kit.options import OF_CALL, DeviceOptions, O
from bench.kit.processes import is_first
from bench.kit.tables import Table, mean_std
from gle.compiling import compiled
from hrm import weights
from hrm.checks import fits
from hrm.model import HRM, Config
from hrm.tasks.task import Grids, Task
from hrm.train import BY_FAULTS, WAYS, Trainer, Training, check_evaluation, evaluate, world

log = logging.getLogger(__name__)


@dataclass
class Reasoning(DeviceOptions):
    """What learns, and for how long.

    Args:
        seeds: models, each with weights, order of puzzles and augmentation of its own.
        first_seed: of them, which are counted on from here.
        workers: processes among which the seeds are divided, each with its share of the threads.
        model: sizes and cycles; vocabulary, length, columns and puzzles are the task's.
        training: how it learns.
        evaluate: steps between two looks at the validation puzzles, and between two checkpoints.
        segments: most segments while the test puzzles are answered; 0: twice as many as in training.
        settled: a test puzzle whose z a segment moves by less than this, relative to its size, keeps its answer and
            costs nothing from then on; 0: all run to the end.
        restarts: random z0 from which each test puzzle is answered; taken is the answer whose z still moves least,
            without by_faults. The results have a single carry, a vote and a verifier beside it. Needs model.z0 =
            random.
        by_faults: whether of a test puzzle's answers in all segments so far, restarts and views the one with fewest
            faults is taken, whatever its z does: of paths through a maze the shortest, of Sudokus the one that breaks
            fewest rules. The results have the latest beside it. Not for ARC, which has no rules.
        views: images under symmetries in which each test maze is answered, itself the first: up to eight of square
            ones, four of others. More than one need by_faults.
        compile: whether to compile the segment.
        tensorboard: whether to write the rows of metrics.jsonl for TensorBoard, too (an optional extra).
        solve: a puzzle of one's own, or a text file with one, to be answered by `weights`; nothing is trained then, and
            segments = 0 means as many as in training.
        weights: a trained model: weights/<seed>-best.pt of a run folder.
    """

    seeds: int = 3
    first_seed: int = 0
    workers: int = 1
    model: Config = field(default_factory=Config)
    training: Training = field(default_factory=Training)
    evaluate: int = 250
    segments: int = 0
    settled: float = 0.0
    restarts: int = 1
    by_faults: bool = False
    views: int = 1
    compile: bool = True
    tensorboard: bool = False
    threads: int = 0
    solve: str = field(default="", metadata=OF_CALL)
    weights: Optional[Path] = field(default=None, metadata=OF_CALL)


R = TypeVar("R", bound=Reasoning)


def check_options(o: Reasoning) -> None:
    """Raises ValueError with the value and what it must be."""
    for name in ("seeds", "evaluate"):
        if getattr(o, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(o, name)}")
    for name in ("segments", "first_seed"):
        if getattr(o, name) < 0:
            raise ValueError(f"{name} must be ≥ 0, got {getattr(o, name)}")
    if not 1 <= o.workers <= o.seeds:
        raise ValueError(f"workers must lie between 1 and the {o.seeds} seeds, got {o.workers}")
    if o.workers > 1 and world() > 1:
        raise ValueError("torchrun divides the batch, workers the seeds: leave out one of both")
    o.training.check()
    check_evaluation(o.model.z0, o.settled, o.restarts, o.by_faults, o.views)
    if o.tensorboard and importlib.util.find_spec("tensorboard") is None:
        raise ValueError('tensorboard is not installed: pip install "gle-toolkit[tensorboard]"')


# -- puzzles -----------------------------------------------------------------------------------------------------------


def progress(puzzles: Iterable[Any]) -> Iterable[Any]:
    """The puzzles, with a bar on a terminal that shows how many have been taken."""
    quiet = not (is_first() and sys.stderr.isatty())
    return tqdm(puzzles, unit="puzzle", desc="looking at puzzles", leave=False, disable=quiet)


def splits(name: str, settings: dict[str, Any], generate: Callable[..., list[Grids]]) -> list[Grids]:
    """What `generate` makes from the settings: done once, then read from the cache."""
    parts = ("x", "y", "difficulty")

    def arrays(settings: dict[str, Any]) -> dict[str, np.ndarray]:
        log.info("%s: making the puzzles, once (hard ones of 9 × 9 take minutes)", name)
        return {f"{part}{i}": getattr(grids, part) for i, grids in enumerate(generate(**settings)) for part in parts}

    kept = cached(name, settings, arrays, cache_dir())
    return [Grids(*(kept[f"{part}{i}"] for part in parts)) for i in range(3)]


# -- models ------------------------------------------------------------------------------------------------------------


def configured(model: Config, task: Task) -> Config:
    """With the sizes that are the task's."""
    return dataclasses.replace(
        model, vocabulary=task.vocabulary, length=task.length, columns=task.width, puzzles=task.puzzles
    )


def build(o: Reasoning, task: Task, seed: int) -> HRM:
    """An untrained model for the task, on the device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HRM(configured(o.model, task)).to(o.device)


def weights_file(folder: Path, seed: int, when: str) -> Path:
    """when: init, half, best or last."""
    return folder / "weights" / f"{seed}-{when}.pt"


def keep(o: Reasoning, model: HRM, path: Path, task: Task) -> None:
    if not is_first():
        return
    training = o.training
    write_atomically(path, lambda f: weights.save(f, model, task, training.halting, training.bf16))


def load(path: Path, task: Task, device: str = "cpu") -> HRM:
    """A model from its weights. Raises ValueError, naming the file, where it is damaged or belongs to another task."""
    found = weights.load(path, device)
    if found.notation.name != task.name:
        raise ValueError(f"{path} was trained on {found.notation.name}, not on {task.name}")
    try:
        fits(found.model, task)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return found.model


# -- training ----------------------------------------------------------------------------------------------------------


def to_tensorboard(folder: Path, row: Mapping[str, Any]) -> None:
    """A row of metrics.jsonl, as scalars."""
    from torch.utils.tensorboard import SummaryWriter

    scalars = {k: v for k, v in row.items() if k not in ("seed", "stage", "step", "validation")}
    scalars |= {f"validation_{k}": v for k, v in row["validation"].items()}
    with SummaryWriter(str(folder / "tensorboard" / f"seed{row['seed']}")) as writer:
        for name, value in scalars.items():
            writer.add_scalar(name, value, row["step"])


Judge = Callable[[HRM, Path], dict[str, Any]]


def same(a: HRM, b: HRM) -> bool:
    """Whether two models have the same weights."""
    others = b.state_dict()
    return all(torch.equal(t, others[name]) for name, t in a.state_dict().items())


def resized(model: HRM, task: Task) -> HRM:
    """The same weights for grids of the task's size, where they fit."""
    with torch.random.fork_rng(devices=[]):
        other = HRM(dataclasses.replace(model.config, length=task.length, columns=task.width))
    # neurons' time constants are those of the grid's own cells, as many as it has
    own = {name: t for name, t in model.state_dict().items() if not name.endswith((".tau_m", ".tau_r"))}
    other.load_state_dict(other.state_dict() | own)
    return other.to(model.output_head.weight.device)


Stage = tuple[Task, int]  # of a curriculum: puzzles, and steps on them


def train(
    o: Reasoning, task: Task, before: Sequence[Stage], run: Run, judge: Judge | None, seed: int
) -> dict[str, Any]:
    """One model, from its beginning or from a checkpoint. before: what it learns first, at a rate that does not
    fall."""
    model = build(o, task, seed)
    stages = [(of, dataclasses.replace(o.training, steps=steps, final=1.0)) for of, steps in before]
    stages.append((task, o.training))
    place: dict[str, Any] = {"seed": seed, "stage": 0, "best": -1.0, "curves": [[] for _ in stages]}
    saved = run.restore()
    if saved and saved["seed"] == seed:
        place |= {k: saved[k] for k in place}
    else:
        saved = None
        keep(o, model, weights_file(run.path, seed, "init"), task)
    for number, (of, training) in enumerate(stages):
        if number < place["stage"]:
            continue
        own = resized(model, of) if before else model
        trainer = Trainer(own, of, training, seed, compiled if o.compile else None)
        if saved and number == saved["stage"]:
            trainer.load_state_dict(saved["trainer"])
        place["stage"] = number
        learn(o, trainer, run, place, number == len(before))
        model = trainer.evaluated
    keep(o, model, weights_file(run.path, seed, "last"), task)
    test: dict[str, Any] = {}
    if not is_first():  # the first process answers alone
        return test
    answered: dict[str, Any] = {}
    for when in ("last", "best"):
        found = load(weights_file(run.path, seed, when), task, o.device)
        file = run.path / "submissions" / f"{seed}-{when}.json"
        if when == "last" or not same(found, model):  # the last weights are often the best ones
            answered = answer(o, task, found)
        test[when] = answered | (judge(found, file) if judge else {})
    *first, curve = place["curves"]
    result = {"seed": seed, "parameters": model.n_parameters(), "curve": curve, "test": test}
    learned = [{"task": of.name, "curve": rows} for (of, _), rows in zip(before, first, strict=True)]
    return result | ({"before": learned} if learned else {})


def learn(o: Reasoning, trainer: Trainer, run: Run, place: dict[str, Any], last: bool) -> None:
    """One stage, from where the trainer stands. place: seed, number of the stage, the best accuracy so far and the
    curves of all stages; it is kept up to date, and with each checkpoint. last: whether its weights are those that are
    answered with."""
    task, seed, curve = trainer.task, place["seed"], place["curves"][place["stage"]]
    total, quiet = trainer.o.steps, not (is_first() and sys.stderr.isatty())
    label = f"seed {seed}" if last else f"seed {seed}, {task.name}"
    bar = tqdm(initial=trainer.steps, total=total, unit="step", disable=quiet, desc=label)
    seconds = max((rows[-1]["seconds"] for rows in place["curves"] if rows), default=0.0)
    while trainer.steps < total:
        began = time.perf_counter()
        rows: list[dict[str, float]] = []
        while not rows or (trainer.steps % o.evaluate and trainer.steps < total):
            rows.append(trainer.step())
            bar.update()
        seconds += time.perf_counter() - began
        curves = trainer.evaluate(task.validation)["curve"]
        means = {k: statistics.mean(r[k] for r in rows) for k in ("loss", "cells", "exact", "segments", "lr")}
        validation = {k: v[-1] for k, v in curves.items()}
        here = {"seed": seed, "stage": place["stage"], "step": trainer.steps, "seconds": seconds}
        curve.append({**here, **means, "validation": validation})
        if last and validation[task.measure] > place["best"]:
            place["best"] = validation[task.measure]
            keep(o, trainer.evaluated, weights_file(run.path, seed, "best"), task)
        if last and abs(trainer.steps - total / 2) <= o.evaluate / 2:
            keep(o, trainer.evaluated, weights_file(run.path, seed, "half"), task)
        run.log(curve[-1])
        if o.tensorboard and is_first():
            to_tensorboard(run.path, curve[-1])
        run.checkpoint({**place, "trainer": trainer.state_dict()})
        if quiet and is_first():
            log.info(
                "%s, step %d/%d: loss %.3f, validation %.1f %% %s, %.0f s",
                label, trainer.steps, total, means["loss"], 100 * validation[task.measure], task.measure, seconds,
            )  # fmt: skip
    bar.close()


def answer(o: Reasoning, task: Task, model: HRM, grids: Grids | None = None) -> dict[str, Any]:
    """Shares of right answers after each segment, of all, by difficulty, and of each of the test's `sets`. grids:
    default: the test puzzles. Of no puzzles: no shares."""
    sets = task.sets if grids is None else {}
    grids = task.test if grids is None else grids
    if not len(grids):
        return {"curve": {}, "restarts": {}, "faults": {}, "alone": {}, "by_difficulty": [], "sets": {}}
    halting = o.training.halting
    most = o.segments or 2 * halting.halt_max_steps
    found = evaluate(
        model, task, grids, halting, most, bf16=o.training.bf16,
        settled=o.settled, restarts=o.restarts, by_faults=o.by_faults, views=o.views,
    )  # fmt: skip
    right, ends = found["rows"], np.cumsum(list(sets.values()))
    parts = {name: slice(end - sets[name], end) for name, end in zip(sets, ends, strict=True)}
    return {
        "curve": found["curve"],
        "used": found["used"],
        **{name: found.get(name, {}) for name in ("restarts", "faults", "alone")},
        "by_difficulty": by_difficulty(right[task.measure], grids.difficulty),
        "sets": {
            name: {
                "puzzles": sets[name],
                "curve": {measure: rows[:, part].mean(1).tolist() for measure, rows in right.items()},
                "by_difficulty": by_difficulty(right[task.measure][:, part], grids.difficulty[part]),
            }
            for name, part in parts.items()
        },
    }


def by_difficulty(right: np.ndarray, difficulty: np.ndarray) -> list[dict[str, Any]]:
    """Shares of right answers [segments, puzzles] after each segment, for ranges of difficulty [puzzles]."""
    return [
        {"label": label, "puzzles": int(rows.sum()), "curve": right[:, rows].mean(1).tolist()}
        for label, rows in buckets(difficulty)
    ]


def buckets(difficulty: np.ndarray, most: int = 4) -> list[tuple[str, np.ndarray]]:
    """Up to `most` ranges of difficulty, about equally full where ties allow it: [(label, bool [puzzles])]."""
    edges = np.unique(np.quantile(difficulty, np.linspace(0, 1, most + 1), method="higher"))
    if len(edges) < 2:
        return [(f"{edges[0]:g}", np.ones(len(difficulty), dtype=bool))]
    values = np.unique(difficulty)
    out = []
    for low, high in itertools.pairwise(edges):
        last = high == edges[-1]
        rows = (difficulty >= low) & ((difficulty <= high) if last else (difficulty < high))
        top = high if last else values[values < high].max()
        out.append((f"{low:g}" if top == low else f"{low:g} – {top:g}", rows))
    return out


# -- a puzzle of one's own ---------------------------------------------------------------------------------------------


HEEDED = ("--solve", "--weights", "--segments", "--device", "--threads")  # by --solve


def solve(name: str, o: Reasoning, given: Sequence[str]) -> None:
    """Answers one puzzle, and prints what the model thinks after each segment. name: of the benchmark."""
    if idle := [a for a in given if a not in HEEDED]:
        raise ValueError(f"--solve answers with trained weights as they are: drop {', '.join(idle)}")
    if o.weights is None:
        raise ValueError("--solve needs trained weights: give --weights <run folder>/weights/<seed>-best.pt")
    found = weights.load(o.weights, o.device)
    kind = found.notation.kind
    if kind != name and not found.notation.puzzles:
        fitting = "hrm.load" if kind == "grid" else f"bench.{kind}"
        raise ValueError(f"{o.weights} was trained on {found.notation.name}: use {fitting} in place of bench.{name}")
    from_file = os.path.isfile(o.solve)
    try:
        answer = found.solve(Path(o.solve).read_text("utf-8-sig") if from_file else o.solve, o.segments)
    except ValueError as error:
        like_path = "/" in o.solve or Path(o.solve).suffix[1:].isalpha()
        unread = f" (and there is no file {o.solve})" if like_path else ""
        raise ValueError(f"{o.solve}: {error}" if from_file else f"{error}{unread}") from None
    show(answer)


def show(answer: weights.Answer) -> None:
    """Prints puzzle and steps; in a terminal, what changed is bold."""
    before = answer.puzzle
    print("puzzle\n" + answer.notation.write(before))
    for number, grid in enumerate(answer.steps, start=1):
        changed = grid != before
        told = [f"{n} cell{'s' * (n > 1)} changed" if (n := int(changed.sum())) else "nothing changed"]
        if answer.sure is not None:
            told.append(f"{100 * answer.sure[number - 1]:.0f} % sure")
        print(f"\nafter {number} segment{'s' * (number > 1)}: {', '.join(told)}")
        if changed.any():
            print(answer.notation.write(grid, changed if sys.stdout.isatty() else None))
        before = grid
    print(f"\n{answer.summary()}")


def unasked(o: Reasoning, given: Sequence[str]) -> None:
    raise ValueError("--weights is for --solve: give a puzzle, too")


# -- the run -----------------------------------------------------------------------------------------------------------


def small(o: Any, **changes: Any) -> Any:
    """Options of a smoke run."""
    model = dataclasses.replace(o.model, d=16, heads=2, H_layers=1, L_layers=1, multiple=16)
    halting = dataclasses.replace(o.training.halting, halt_max_steps=3)
    training = dataclasses.replace(o.training, batch=8, steps=6, warmup=2, halting=halting)
    return dataclasses.replace(o, seeds=2, evaluate=2, model=model, training=training, compile=False, **changes)


Beyond = tuple[str, Task, HRM, Grids]  # puzzles unlike those that were learned: label, task, model, puzzles


@dataclass(frozen=True, kw_only=True)
class Puzzles(Benchmark[O]):
    """A benchmark of grids that a model of the options learns.

    Args:
        task: the puzzles, from the options.
        beyond: puzzles harder or larger than those that a trained model has learned, from options, task, model and how
            many. Those of the same task are told apart by difficulty, which the label has a {} for.
    """

    task: Callable[[O], Any]
    beyond: Callable[[O, Any, HRM, int], Iterable[Beyond]]


def used_seeds(o: Reasoning) -> range:
    return range(o.first_seed, o.first_seed + o.seeds)


def share(o: R, worker: int, workers: int) -> R:
    """The options of one of several processes, with its part of the seeds."""
    own = part(used_seeds(o), worker, workers)
    return dataclasses.replace(o, first_seed=own.start, seeds=len(own))


def merged(shares: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One result from those of the processes."""
    return {**shares[0], "seeds": [seed for each in shares for seed in each["seeds"]]}


def nothing_beyond(o: Any, task: Task, model: HRM, number: int) -> Iterable[Beyond]:
    return ()


SCORE = Score(
    "validation, right / %",
    of=lambda result: [100 * seed["curve"][-1]["validation"][result["measure"]] for seed in result["seeds"]],
    curve=lambda result: Curve(
        "step",
        [row["step"] for row in result["seeds"][0]["curve"]],
        [[100 * row["validation"][result["measure"]] for row in rows] for rows in curves(result)],
    ),
)


def curves(result: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], ...]]:
    """[looks][seeds]"""
    return list(zip(*(seed["curve"] for seed in result["seeds"]), strict=True))


def puzzles(
    *,
    name: str,
    summary: str,
    Options: type[R],
    kind: type[Task],
    task: Callable[[R], Any],
    check: Callable[[R], None],
    tiny: Callable[[R], R],
    judge: Callable[[R, Any], Judge] | None = None,
    beyond: Callable[[R, Any, HRM, int], Iterable[Beyond]] = nothing_beyond,
    before: Callable[[R, Any], Sequence[Stage]] = lambda o, task: (),
    pages: Callable[[Mapping[str, Any]], dict[str, str]] = lambda result: {},
) -> Puzzles[R]:
    """The benchmark of a task. kind: what it is an instance of, which tells of its faults and views. before: what a
    model learns first. judge: adds measures of its own on the test puzzles, "votes" among them: {measure: share}; it
    may write what it answered to a file. pages: of the result, beside the figure."""
    made: dict[str, tuple[Any, Sequence[Stage]]] = {}  # what `check` has read, until it is learned from

    def key(o: R) -> str:
        return repr(dataclasses.replace(o, device="", resume=None, runs=Path()))  # what no puzzle hangs on

    def checked(o: Any) -> None:
        if o.views > kind.views:
            raise ValueError(f"views = {o.views}, but puzzles of {name} have {kind.views}: lower views")
        if o.by_faults and kind.faults is Task.faults:
            raise ValueError(f"by_faults: of answers to puzzles of {name} no faults are known: leave it out")
        check_options(o)
        check(o)
        found = task(o)
        found.check()
        check_evaluation(o.model.z0, o.settled, o.restarts, o.by_faults, o.views, found)
        build(o, found, 0)  # complains of sizes
        first = before(o, found)
        made.clear()
        made[key(o)] = found, first

    def run(o: Any, run: Run) -> dict[str, Any]:
        o.training.check()  # divides the batch among processes
        if key(o) not in made:
            found = task(o)
            made[key(o)] = found, before(o, found)
        of, first = made.pop(key(o))
        judged = judge(o, of) if judge else None
        seeds = [run.part(f"seed{s}", partial(train, o, of, first, run, judged, s)) for s in used_seeds(o)]
        return {
            "task": of.name,
            "measure": of.measure,
            "puzzles": {split: len(getattr(of, split)) for split in ("train", "validation", "test")},
            "seeds": seeds,
        }

    return Puzzles(
        name=name,
        summary=summary,
        Options=Options,
        task=task,
        beyond=beyond,
        check=checked,
        tiny=tiny,
        run=run,
        tables=tables,
        draw=lambda result: {f"{name}.png": draw(result), **pages(result)},
        score=SCORE,
        several_processes=True,
        divide=Divide(share, merged, ("weights", "submissions")),
        instead={"--solve": partial(solve, name), "--weights": unasked},
    )


def percent(shares: Sequence[float]) -> str:
    return mean_std([100 * s for s in shares], 1)


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Shares of right answers by the best and the last weights, after 1, M_max and all segments; then by difficulty."""
    seeds, measure = result["seeds"], result["measure"]
    trained = result["options"]["training"]["halting"]["halt_max_steps"]
    most = len(seeds[0]["test"]["last"]["curve"].get(measure, []))
    shown = sorted({1, min(trained, most), most}) if most else []  # none where no answer of the test is known
    after = [f"{m} segment{'s' if m > 1 else ''}" for m in shown]
    minutes = mean_std([s["curve"][-1]["seconds"] / 60 for s in seeds], 1)
    out: list[list[tuple[str, ...]]] = [
        [("weights", "measure", "validation %", *(f"test %, {a}" for a in after), "training (min)")]
    ]
    for when in ("best", "last"):
        for m in seeds[0]["curve"][-1]["validation"]:
            validation = [
                max((row["validation"] for row in s["curve"]), key=lambda v: v[measure])[m]
                if when == "best"
                else s["curve"][-1]["validation"][m]
                for s in seeds
            ]
            test = [percent([s["test"][when]["curve"][m][n - 1] for s in seeds]) for n in shown]
            out[0].append((when, m, percent(validation), *test, minutes))
    if voted := seeds[0]["test"]["last"].get("votes"):
        out.append([("weights", "test inputs", *(f"{measure}, %" for measure in voted))])
        for when in ("best", "last"):
            shares = (percent([s["test"][when]["votes"][m] for s in seeds]) for m in voted)
            out[-1].append((when, str(seeds[0]["test"][when]["inputs"]), *shares))
    for name, ways in (("restarts", WAYS), ("faults", BY_FAULTS)):
        again = {when: [s["test"][when].get(name, {}) for s in seeds] for when in ("best", "last")}
        if again["last"][0]:
            tries = result["options"]["restarts"] * result["options"].get("views", 1)
            out.append([("weights", "tries" if name == "faults" else name, "measure", *(f"{way}, %" for way in ways))])
            for when, found in again.items():
                for m in found[0]:
                    shares = (percent([r[m][way] for r in found]) for way in ways)
                    out[-1].append((when, str(tries), m, *shares))
    sets = [s["test"]["last"].get("sets", {}) for s in seeds]
    if sets[0]:
        out.append([("test set", "puzzles", "measure", *(f"%, {a}" for a in after))])
        for name, one in sets[0].items():
            for m in one["curve"]:
                shares = (percent([of[name]["curve"][m][n - 1] for of in sets]) for n in shown)
                out[-1].append((name, str(one["puzzles"]), m, *shares))
    by = [s["test"]["last"]["by_difficulty"] for s in seeds]
    if len(by[0]) > 1:
        out.append([("difficulty", "puzzles", *(f"{measure} %, {a}" for a in after))])
        for of_seeds in zip(*by, strict=True):
            shares = (percent([b["curve"][n - 1] for b in of_seeds]) for n in shown)
            out[-1].append((of_seeds[0]["label"], str(of_seeds[0]["puzzles"]), *shares))
    return [Table(rows) for rows in out]


def draw(result: Mapping[str, Any]) -> plt.Figure:
    """Validation over training steps, and test over segments for each range of difficulty; by faults, that of the
    answers as they stand, too."""
    seeds, measure = result["seeds"], result["measure"]
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
    for s in seeds:
        steps = [row["step"] for row in s["curve"]]
        left.plot(steps, [100 * row["validation"][measure] for row in s["curve"]], label=f"seed {s['seed']}")
    left.set(xlabel="training step", ylabel=f"validation, {measure} / %", ylim=(0, 101), title=result["task"])
    left.legend(fontsize=7)
    by = [s["test"]["last"]["by_difficulty"] for s in seeds]
    for i, of_seeds in enumerate(zip(*by, strict=True)):
        shares = 100 * np.array([b["curve"] for b in of_seeds])
        segments = np.arange(1, shares.shape[1] + 1)
        label = f"difficulty {of_seeds[0]['label']} ({of_seeds[0]['puzzles']})"
        band(right, segments, shares.T, color=f"C{i}", marker=".", label=label)
    if alone := [s["test"]["last"].get("alone", {}).get(measure) for s in seeds if s["test"]["last"].get("alone")]:
        segments = np.arange(1, len(alone[0]) + 1)
        band(right, segments, 100 * np.array(alone).T, color="0.4", linestyle="--", label="all, as they stand")
    trained = result["options"]["training"]["halting"]["halt_max_steps"]
    right.axvline(trained, color="0.6", linewidth=0.8, linestyle=":", label="most in training")
    right.set(xlabel="segments at test", ylabel=f"test, {measure} / %", ylim=(0, 101))
    if any(by):
        right.legend(fontsize=7)
    return figure
