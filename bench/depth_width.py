"""What a network that solves Sudoku needs: depth or width (after Fig. 2 of the HRM paper, without the HRM itself).

    python -m bench.depth_width

A base network of few blocks learns 6 × 6 Sudoku in one pass, without segments or halting. Beside it are networks that
are made larger in three ways: *deeper*, with more blocks; *wider*, with as many parameters as the deeper ones in as few
blocks as the base has; and *recurrent*, which pass the base's own blocks until they have passed as many as the deeper
ones have, with no more parameters than the base; they get the puzzle anew in each round, the others once. All learn
alike, by backpropagation through all that they pass.
"""

from __future__ import annotations

import dataclasses
import logging
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch

from bench.kit.benchmark import Benchmark, main
from bench.kit.figures import plt
from bench.kit.folder import Run
from bench.kit.options import DeviceOptions
from bench.kit.tables import Table, mean_std
from bench.puzzles import controls, trained
from bench.puzzles.reasoning import configured
from hrm.controls import ABSENT, narrowed, recurrent, width_for
from hrm.model import HRM, Config
from hrm.tasks.task import Task
from hrm.train import Trainer, Training, evaluate

log = logging.getLogger(__name__)


@dataclass
class Options(DeviceOptions):
    """What is made deeper and wider, and how it learns.

    Args:
        seeds: of the weights and of the puzzles' order.
        depths: blocks that are passed, the base's first; each a multiple of it.
        blanks: of each puzzle.
        puzzles: numbers of training, validation and test puzzles.
        model: the base's width and what its blocks are made of; numbers of blocks and cycles do not matter.
        training: how all learn; its gradient must be bptt.
        evaluate: steps between two looks at the validation puzzles, at most half of the training's.
        compile: whether to compile the pass.
    """

    seeds: int = 3
    depths: list[int] = field(default_factory=lambda: [2, 4, 8])
    blanks: int = 18
    puzzles: tuple[int, int, int] = (4000, 500, 1000)
    model: Config = field(default_factory=lambda: Config(d=32, heads=4, multiple=8, mixer="mlp", positions="rope"))
    training: Training = field(
        default_factory=lambda: Training(steps=2000, lr=1e-3, weight_decay=1.0, average=0.98, gradient="bptt")
    )
    evaluate: int = 500
    compile: bool = True
    threads: int = 0


class Network(NamedTuple):
    """How it came from the base, its blocks, their width, and how often they are passed."""

    way: str
    layers: int
    d: int
    rounds: int


BASE, WAYS = "base", ("wider", "deeper", "recurrent")


def check(o: Options) -> None:
    """Raises ValueError with the value and what it must be."""
    for name in ("seeds", "evaluate"):
        if getattr(o, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(o, name)}")
    if not o.depths or o.depths[0] < 1:
        raise ValueError(f"depths must be numbers of at least 1, got {o.depths}")
    base = o.depths[0]
    for less, more in zip(o.depths, o.depths[1:], strict=False):
        if more <= less or more % base:
            raise ValueError(f"depths must rise, each a multiple of the first, got {more} after {less}, of {base}")
    if o.training.gradient != "bptt":
        raise ValueError(f"training.gradient must be bptt, which goes through all rounds, got {o.training.gradient!r}")
    if 2 * o.evaluate > o.training.steps:
        raise ValueError(f"evaluate must be at most half of training.steps = {o.training.steps}, got {o.evaluate}")
    for name in ABSENT:
        value, only = getattr(o.model, name), getattr(Config, name)
        if value != only:
            raise ValueError(f"model.{name} must be {only!r}, as these networks know no other, got {value!r}")
    if o.model.mixer == "units":
        raise ValueError("model.mixer = 'units' is not for these networks: choose attention, mlp or conv")
    with torch.device("meta"):
        HRM(o.model)  # complains of sizes and mixers, before puzzles are made
    sudoku = trained.puzzles("sudoku")
    sudoku.check(learner(o))
    task = sudoku.task(learner(o))
    networks(o, configured(o.model, task))


def tiny(o: Options) -> Options:
    """Of a smoke run."""
    training = dataclasses.replace(o.training, steps=2, batch=4)
    model = dataclasses.replace(o.model, d=16)
    return dataclasses.replace(
        o, seeds=1, depths=[1, 2], puzzles=(20, 5, 5), training=training, model=model, evaluate=1, compile=False
    )


def learner(o: Options) -> Any:
    """Options of bench.sudoku, whose puzzles these are."""
    return trained.puzzles("sudoku").Options(
        size=6, blanks=o.blanks, puzzles=o.puzzles, augmentation="all", model=o.model, training=o.training, runs=o.runs
    )


def networks(o: Options, config: Config) -> list[Network]:
    base, *others = o.depths
    rows = [Network(BASE, base, config.d, 1)]
    for depth in others:
        size = recurrent(config, depth, 1).n_parameters()
        sizes = ((base, width_for(size, base, config), 1), (depth, config.d, 1), (base, config.d, depth // base))
        rows += [Network(way, *each) for way, each in zip(WAYS, sizes, strict=True)]
    return rows


def learn(o: Options, task: Task, config: Config, network: Network, seed: int) -> dict[str, Any]:
    """Accuracy on the test puzzles, and on the validation puzzles along the way."""
    curve: list[tuple[int, float]] = []

    def share(model: HRM, of: Any) -> float:
        return evaluate(model, task, of, o.training.halting, 1)["curve"][task.measure][-1]

    def look(trainer: Trainer, row: dict[str, float]) -> None:
        if trainer.steps % o.evaluate == 0 or trainer.steps == o.training.steps:
            curve.append((trainer.steps, share(trainer.evaluated, task.validation)))

    config = config if network.d == config.d else narrowed(config, network.d)
    model = controls.learned(
        config, network.layers, network.rounds, 1, task, o.training, seed, o.device, o.compile, look
    )
    test = share(model, task.test)
    log.info(
        "%s, %d blocks of width %d, %d × passed, seed %d: %.1f %% %s",
        network.way, network.layers, network.d, network.rounds, seed, 100 * test, task.measure,
    )  # fmt: skip
    return {"parameters": model.n_parameters(), "curve": curve, "test": test}


def run(o: Options, run: Run) -> dict[str, Any]:
    task = trained.puzzles("sudoku").task(learner(o))
    config = configured(o.model, task)
    rows = []
    for network in networks(o, config):
        name = f"{network.way}-{network.layers}-{network.d}-{network.rounds}"
        found = [
            run.part(f"{name}-seed{seed}", partial(learn, o, task, config, network, seed)) for seed in range(o.seeds)
        ]
        rows.append(
            {
                **network._asdict(),
                "parameters": found[0]["parameters"],
                "seeds": [{key: each[key] for key in ("curve", "test")} for each in found],
            }
        )
    return {"task": task.name, "measure": task.measure, "networks": rows}


def passed(network: Mapping[str, Any]) -> int:
    """Blocks that a puzzle passes."""
    return int(network["layers"] * network["rounds"])


def tables(result: Mapping[str, Any]) -> list[Table]:
    """The networks: sizes, accuracy at the end, and where it stood at the look nearest to half-way, which tells whether
    it still rose."""
    measure, steps = result["measure"], result["options"]["training"]["steps"]
    head = ("network", "blocks", "width", "passed", "parameters", f"validation {measure} %, half-way", "at the end",
            f"test {measure} %")  # fmt: skip
    rows = [head]
    for n in result["networks"]:
        curves = [each["curve"] for each in n["seeds"]]
        middle = min(range(len(curves[0])), key=lambda i: abs(curves[0][i][0] - steps / 2))
        half, end = (mean_std([100 * curve[place][1] for curve in curves]) for place in (middle, -1))
        test = mean_std([100 * each["test"] for each in n["seeds"]])
        sizes = (str(n["layers"]), str(n["d"]), str(passed(n)), str(n["parameters"]))
        rows.append((n["way"], *sizes, half, end, test))
    return [Table(rows)]


def draw(result: Mapping[str, Any]) -> plt.Figure:
    """Accuracy over parameters, of wider and deeper networks; over blocks that are passed, of deeper and
    recurrent ones."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained", sharey=True)
    base = result["networks"][0]
    for i, way in enumerate(WAYS):
        of = [base, *(n for n in result["networks"] if n["way"] == way)]
        shares = [[100 * each["test"] for each in n["seeds"]] for n in of]
        mean = [statistics.mean(s) for s in shares]
        spread = [np.std(s, ddof=1) if len(s) > 1 else 0.0 for s in shares]
        style = {"fmt": "o-", "color": f"C{i}", "capsize": 3, "label": way}
        if way != "recurrent":
            left.errorbar([n["parameters"] for n in of], mean, spread, **style)
        if way != "wider":
            right.errorbar([passed(n) for n in of], mean, spread, **style)
    left.set(xlabel="parameters", ylabel=f"test {result['measure']} / %", xscale="log", ylim=(0, 100))
    right.set(xlabel="blocks that are passed")
    right.set_xscale("log", base=2)
    for ax in (left, right):
        ax.legend(fontsize=8)
    return figure


benchmark = Benchmark(
    name="depth_width",
    summary="whether networks that solve Sudoku need depth or width",
    Options=Options,
    check=check,
    tiny=tiny,
    run=run,
    tables=tables,
    draw=lambda result: {"depth_width.png": draw(result)},
)

if __name__ == "__main__":
    main(benchmark)
