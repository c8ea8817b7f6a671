"""What an accelerator is good for, in nine minutes at most.

    python -m bench.device --device cuda

The tests that take a device; the time of a training step, of one network and of many (`bench.speed` times more); an
epoch of the MNIST-1D protocol with ten seeds; and the published Hierarchical Reasoning Model on 9 × 9 Sudoku, with the
memory of one-step gradients beside that of backpropagation through the segment. Each part is kept as soon as it is
done.
"""

from __future__ import annotations

import dataclasses
import itertools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch

from bench.data import mnist1d as data_set
from bench.kit.benchmark import Benchmark, main
from bench.kit.figures import plt
from bench.kit.folder import Run
from bench.kit.memory import peak_bytes
from bench.kit.options import DeviceOptions
from bench.kit.tables import Table
from bench.learning import options as learning
from bench.learning import timing
from bench.learning.trainers import Online
from bench.models.populations import Model
from bench.puzzles.published import reasoner
from gle.compiling import compiled
from hrm.model import Config
from hrm.tasks import sudoku

TESTS = Path(__file__).parents[1] / "tests"


@dataclass
class Device(DeviceOptions):
    """What to measure.

    Args:
        tests: seconds that the tests may take; 0 leaves them out, as an installed package does.
        timing: seconds after which no further step is timed.
        sizes: of the networks whose step is timed.
        ensembles: numbers of seeds of those.
        every: steps between updates.
        turns: timed turns of each row.
        steps: of a turn.
        block: steps per compiled call.
        epoch: seconds after which the epoch ends early.
        seeds: of the epoch.
        samples: of the data set.
        reasoning: seconds of training.
        d: width of the reasoning model; 512 is the published one.
        layers: blocks of each of its modules; 4 as published.
        batch: its puzzles; 768 as published.
        compile: whether to compile epoch and reasoning.
    """

    tests: float = 120.0
    timing: float = 150.0
    sizes: list[str] = field(default_factory=lambda: list(timing.DIGITS))
    ensembles: list[int] = field(default_factory=lambda: [1, 64])
    every: list[int] = field(default_factory=lambda: [1, 12])
    turns: int = 3
    steps: int = 360
    block: int = 12
    epoch: float = 120.0
    seeds: int = 10
    samples: int = 5000
    reasoning: float = 110.0
    d: int = 512
    layers: int = 4
    batch: int = 768
    compile: bool = True


def check(o: Device) -> None:
    """Raises ValueError with the value and what it must be."""
    for name in ("turns", "steps", "block", "seeds", "batch", "d", "layers"):
        if getattr(o, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(o, name)}")
    for name in ("tests", "timing", "epoch", "reasoning"):
        if getattr(o, name) < 0:
            raise ValueError(f"{name} must be ≥ 0 seconds, got {getattr(o, name):g}")
    if unknown := [s for s in o.sizes if s not in timing.SIZES]:
        raise ValueError(f"unknown size {unknown[0]!r}; choose some of {', '.join(timing.SIZES)}")
    if o.d % 8:
        raise ValueError(f"d must be a multiple of the 8 heads, got {o.d}")
    data_set.check(o.samples)


def tiny(o: Device) -> Device:
    return dataclasses.replace(
        o, tests=0.0, timing=20.0, sizes=["15k"], ensembles=[1, 2], every=[1], turns=1, steps=12, epoch=0.1, seeds=2,
        samples=500, reasoning=0.1, d=16, layers=1, batch=8, compile=False,
    )  # fmt: skip


def tests(o: Device) -> dict[str, Any]:
    """Of the checkout, on the device, in a process of their own."""
    if not o.tests or not TESTS.is_dir():
        return {"summary": "left out"}
    command = [sys.executable, "-m", "pytest", "-q", "-m", "device", "--device", o.device, "-p", "no:cacheprovider"]
    try:
        ended = subprocess.run(
            [*command, str(TESTS)], cwd=TESTS.parent, capture_output=True, text=True, timeout=o.tests
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"summary": f"not done after {o.tests:g} s"}
    lines = (ended.stdout + ended.stderr).strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    return {"summary": lines[-1] if lines else f"ended with {ended.returncode}", "failed": failed}


def step_times(o: Device, run: Run) -> list[dict[str, Any]]:
    """Rows of `bench.speed`, until the time is over."""
    how = timing.Timing(o.device, o.turns, o.steps, o.block)
    rows: list[dict[str, Any]] = []
    began = time.perf_counter()
    cases = itertools.product(o.sizes, o.ensembles, ["eager", *["compiled"] * o.compile], o.every)
    for size, seeds, mode, every in cases:
        if time.perf_counter() - began < o.timing:
            measure = torch.no_grad()(partial(timing.training_row, size, seeds, every, mode, 1, how))
            rows.append(run.part(f"step {size} {seeds} {every} {mode}", measure))
    return rows


def epoch(o: Device) -> dict[str, Any]:
    """Of the published protocol, all seeds as one ensemble, or as much of it as the time allows."""
    training = learning.Training()
    own = learning.Learning(
        model=Model(), training=training, seeds=o.seeds, seed_list=list(range(o.seeds)), device=o.device,
        compile=o.compile,
    )  # fmt: skip
    data = data_set.load(data_set.form(own.dt).steps, o.samples)
    trainer = Online(own, training, data.form)
    batches = [b for b in trainer.batches(data.train) if b.shape[1] == training.batch]
    trainer.learn(data.train, batches[0])  # compiles
    seconds, steps, began = 0.0, 0, time.perf_counter()
    for index in batches[1:]:
        if seconds > o.epoch:
            break
        trainer.learn(data.train, index)
        synchronize(o.device)
        seconds, steps = time.perf_counter() - began, steps + data.form.steps
    score = trainer.evaluate(data.validation)
    whole = len(batches) * data.form.steps
    return {
        "seeds": o.seeds,
        "steps": steps,
        "of": whole,
        "ms": 1e3 * seconds / max(1, steps),
        "whole epoch (s)": seconds / max(1, steps) * whole,
        "validation": score["accuracy"],
    }


def synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def reasoning(o: Device) -> dict[str, Any]:
    """Samples (a puzzle in one segment) per second, and peak memory of a step with either gradient."""
    memory = {}
    train, validation, test = sudoku.generate(9, 30, (max(8, o.batch // 16), 4, 4), 0, "none")  # of 30 blanks
    task = sudoku.Sudoku(9, train, validation, test)
    config = Config(d=o.d, H_layers=o.layers, L_layers=o.layers, multiple=min(256, o.d))
    for gradient in ("one_step", "bptt"):
        trainer = reasoner(config, task, o.batch, o.device, gradient)
        trainer.step()
        memory[gradient] = peak_bytes(trainer.step, o.device)
        del trainer
    trainer = reasoner(config, task, o.batch, o.device, compile=compiled if o.compile else None)
    first = [trainer.step()["loss"] for _ in range(2)]  # compiles
    seconds, steps, began = 0.0, 0, time.perf_counter()
    while seconds < o.reasoning or not steps:
        row = trainer.step()
        synchronize(o.device)
        seconds, steps = time.perf_counter() - began, steps + 1
    return {
        "parameters": trainer.model.n_parameters(),
        "batch": o.batch,
        "steps": steps,
        "samples per second": steps * o.batch / seconds,
        "loss": [first[0], row["loss"]],
        "memory": memory,
    }


def run(o: Device, run: Run) -> dict[str, Any]:
    torch.set_flush_denormal(True)
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))  # of the tests' process
    parts: dict[str, Callable[[Device], dict[str, Any]]] = {"tests": tests, "epoch": epoch, "reasoning": reasoning}
    found = {name: run.part(name, partial(compute, o)) for name, compute in parts.items()}
    return {**found, "steps": step_times(o, run)}


def tables(result: Mapping[str, Any]) -> list[Table]:
    e, r = result["epoch"], result["reasoning"]
    memory = {name: f"{n / 2**20:.0f} MiB" for name, n in r["memory"].items()}
    model = f"HRM of {r['parameters']:,} parameters".replace(",", " ")
    facts = [
        ("of", "measured"),
        ("tests", result["tests"]["summary"]),
        (f"MNIST-1D, {e['seeds']} seeds: ms a step ({e['steps']} of {e['of']} steps)", f"{e['ms']:.3f}"),
        ("whole epoch (s)", f"{e['whole epoch (s)']:.0f}"),
        (f"{model}: samples a second", f"{r['samples per second']:.0f}"),
        (f"memory of a step, one-step gradient, batch of {r['batch']}", memory["one_step"]),
        ("BPTT", memory["bptt"]),
    ]
    rows = [("net", "seeds", "every", "mode", "ms", "per seed", "floor ms", "ratio")]
    for s in result["steps"]:
        numbers = (f"{s['ms']:.3f}", f"{s['per_seed_ms']:.4f}", f"{s['floor_ms']:.3f}", f"{s['ratio']:.2f}")
        rows.append((s["size"], str(s["seeds"]), str(s["every"]), s["mode"], *numbers))
    return [Table(facts, f"on {result['environment']['device']}"), Table(rows, "A training step")]


def draw(result: Mapping[str, Any]) -> plt.Figure:
    """Time of a step per seed."""
    rows = result["steps"]
    figure, axes = plt.subplots(figsize=(6, 1 + 0.25 * len(rows)))
    names = [f"{s['size']}, {s['seeds']} seeds, {s['mode']}, every {s['every']}" for s in rows]
    axes.barh(names, [s["per_seed_ms"] for s in rows])
    axes.set(xlabel="ms a step and seed", xscale="log", title=result["environment"]["device"])
    axes.invert_yaxis()
    return figure


benchmark = Benchmark(
    name="device",
    summary="what an accelerator is good for: tests, steps, an epoch, reasoning, in nine minutes",
    Options=Device,
    check=check,
    tiny=tiny,
    run=run,
    tables=tables,
    draw=lambda result: {"device.png": draw(result)},
)

if __name__ == "__main__":
    main(benchmark)
