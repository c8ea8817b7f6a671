"""How fast a training step is, beside the matrix products that it cannot avoid (`bench.learning.timing`).

python -m bench.speed             the whole table
python -m bench.speed --quick true   one size, a few rows
"""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from bench.kit.benchmark import Benchmark, main
from bench.kit.figures import plt
from bench.kit.folder import Run
from bench.kit.options import DeviceOptions
from bench.kit.tables import Table
from bench.learning.timing import DIGITS, SIZES, Timing, divided_row, evaluation_row, training_row


@dataclass
class Options(DeviceOptions):
    """What to time.

    Args:
        sizes: of the networks: 15k and 42k for MNIST-1D, speech for speech commands, with their batches.
        every: steps between updates.
        ensembles: numbers of seeds for the ensemble rows.
        cores: numbers of CPU threads, one after the other; empty: 1 and all.
        modes: eager, compiled.
        turns: timed turns of each row.
        steps: of a turn; 360 are one sample.
        block: steps per compiled call.
        quick: only the 15k network, eager, one thread.
    """

    sizes: list[str] = field(default_factory=lambda: list(DIGITS))
    every: list[int] = field(default_factory=lambda: [1, 12])
    ensembles: list[int] = field(default_factory=lambda: [1, 4, 10])
    cores: list[int] = field(default_factory=list)
    modes: list[str] = field(default_factory=lambda: ["eager", "compiled"])
    turns: int = 7
    steps: int = 360
    block: int = 4
    quick: bool = False


def table(result: Mapping[str, Any]) -> Table:
    rows = result["rows"]
    one = next(
        (r for r in rows if r["row"] == "train" and r["seeds"] == r["threads"] == 1 and r["mode"] == "compiled"), None
    )
    cells = [("", "net", "seeds", "every", "mode", "threads", "ms", "floor ms", "ratio", "throughput")]
    for r in rows:
        gain = ""
        if one and r["row"].startswith("train") and r["every"] == 1 and r["size"] == one["size"]:
            gain = f"{one['ms'] / r['per_seed_ms']:.2f} ×"
        numbers = (f"{r['ms']:.3f}", f"{r['floor_ms']:.3f}", f"{r['ratio']:.2f}")
        cells.append(
            (r["row"], r["size"], str(r["seeds"]), str(r["every"] or "–"), r["mode"], str(r["threads"]), *numbers, gain)
        )
    return Table(cells)


def draw(result: Mapping[str, Any]) -> plt.Figure:
    """Time of each row beside the products that it cannot avoid."""
    rows = result["rows"]
    names = [
        " ".join(filter(None, [r["row"], r["size"], r["mode"], f"every {r['every']}" if r["every"] > 1 else "",
                               f"{r['seeds']} seeds" if r["seeds"] > 1 else "",
                               f"{r['threads']} threads" if r["threads"] > 1 else ""]))
        for r in rows
    ]  # fmt: skip
    figure, axes = plt.subplots(figsize=(7, 1 + 0.25 * len(rows)))
    places = range(len(rows))
    axes.barh(places, [r["ms"] for r in rows], color="C0", label="a step")
    axes.barh(places, [r["floor_ms"] for r in rows], color="C1", height=0.4, label="its matrix products alone")
    for place, r in zip(places, rows, strict=True):
        axes.text(r["ms"] * 1.05, place, f"{r['ratio']:.2f} ×", fontsize=7, va="center")
    axes.set_yticks(places, names)
    axes.set(xlabel="ms", xscale="log")
    axes.invert_yaxis()
    axes.legend()
    return figure


def check(o: Options) -> None:
    """Raises ValueError with the value and what it must be."""
    for name, known in (("sizes", SIZES), ("modes", ("eager", "compiled"))):
        if unknown := [v for v in getattr(o, name) if v not in known]:
            raise ValueError(f"{name} must be some of {', '.join(known)}, got {unknown[0]!r}")
        if not getattr(o, name):
            raise ValueError(f"{name} is empty: give at least one")
    if min(o.turns, o.steps, o.block, *o.every, *o.ensembles, *o.cores) < 1:
        raise ValueError("turns, steps, block, every, ensembles and cores must be at least 1")


def settled(o: Options) -> Options:
    if not o.quick:
        return o
    return dataclasses.replace(
        o, sizes=o.sizes[:1], modes=["eager"], cores=[1], ensembles=[1, 2], turns=min(o.turns, 2)
    )


def tiny(o: Options) -> Options:
    return dataclasses.replace(o, quick=True, steps=12, turns=1)


def run(o: Options, run: Run) -> dict[str, Any]:
    torch.set_flush_denormal(True)
    rows, how = [], Timing(o.device, o.turns, o.steps, o.block)

    @torch.no_grad()
    def add(measure: Callable[..., dict[str, Any]], *what: Any) -> None:
        before = torch.get_num_threads()
        name = "-".join(map(str, (measure.__name__.removesuffix("_row"), *what)))
        rows.append(run.part(name, partial(measure, *what, how)))
        torch.set_num_threads(before)

    cores = o.cores or sorted({1, os.cpu_count() or 1})
    for n, size, every, mode in itertools.product(cores, o.sizes, o.every, o.modes):
        add(training_row, size, 1, every, mode, n)
    for n, seeds in itertools.product(cores, o.ensembles):
        if seeds > 1:
            add(training_row, o.sizes[0], seeds, 1, o.modes[-1], n)
            if n > 1 and o.device == "cpu":
                add(divided_row, o.sizes[0], seeds, o.modes[-1], min(n, seeds))
    for n, size in itertools.product(cores, o.sizes):
        add(evaluation_row, size, n)
    return {"rows": rows}


benchmark = Benchmark(
    name="speed",
    summary="how fast a training step is, beside the matrix products that it cannot avoid",
    Options=Options,
    check=check,
    settled=settled,
    tiny=tiny,
    run=run,
    tables=lambda result: [table(result)],
    draw=lambda result: {"speed.png": draw(result)},
)

if __name__ == "__main__":
    main(benchmark)
