"""Every rule of credit assignment on the same task: what it learns, how it is aligned, and what it costs.

    python -m bench.credit

Training: MNIST-1D with a small GLE network, the same updates for all; each rule's gradient along its own way is
compared with the exact one. Costs: time and peak memory of a step as the network (N neurons in a layer) and the stretch
(T steps) grow.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import gle
from bench.data import mnist1d as data_set
from bench.data.series import Split
from bench.kit.benchmark import Benchmark, main
from bench.kit.figures import plt
from bench.kit.folder import Run
from bench.kit.memory import peak_bytes
from bench.kit.options import DeviceOptions
from bench.kit.tables import Table, mean_std
from bench.learning import options as learning
from bench.learning.schedule import Schedule
from bench.learning.trainers import Online
from bench.models.populations import Model
from gle import rules
from gle.analysis import alignment


@dataclass
class Credit(DeviceOptions):
    """What to train and to measure.

    Args:
        rows: rules to train; bptt is the matched adjoint over each stretch, which gives the same gradient.
        epochs: passes over the training samples, short of the paper's 150.
        seeds: networks per learning rate, all trained as one ensemble.
        hidden_layers: number of hidden layers.
        population: neurons in each of the three populations of a hidden layer.
        stretch: steps between updates, the same for all rules; bptt looks back no further.
        lrs: rates of Adam to try, each falling to zero along a cosine; the best, by validation accuracy, counts.
        lrs_online: the same for updates at each step.
        batch: samples streamed side by side.
        samples: size of the data set.
        probes: samples on which alignment is measured, after each epoch.
        sizes: N of the cost measurement, neurons in each of two hidden layers.
        lengths: T of the cost measurement.
        repeats: of each timing, of which the median counts.
    """

    rows: list[str] = field(
        default_factory=lambda: ["gle", "gle 1", "bptt", "instantaneous", "rflo", "rflo transposed"]
    )
    epochs: int = 6
    seeds: int = 3
    hidden_layers: int = 3
    population: int = 10
    stretch: int = 120
    lrs: list[float] = field(default_factory=lambda: [3e-3, 1e-2, 3e-2])
    lrs_online: list[float] = field(default_factory=lambda: [1e-4, 3e-4, 1e-3])
    batch: int = 100
    samples: int = 5000
    probes: int = 20
    sizes: list[int] = field(default_factory=lambda: [4, 8, 16, 32, 64, 128])
    lengths: list[int] = field(default_factory=lambda: [8, 32, 128, 512])
    repeats: int = 3


RULES: dict[str, Callable[[], rules.Rule]] = {
    "gle": rules.GLE,
    "bptt": partial(rules.Adjoint, matched=True),
    "instantaneous": rules.Instantaneous,
    "rflo": rules.RFLO,
    "rflo transposed": partial(rules.RFLO, "transpose"),
    "uoro": rules.UORO,
}

# -- training ----------------------------------------------------------------------------------------------------------


def configuration(o: Credit, rates: int) -> learning.Learning:
    """The task as `bench.learning` knows it. Targets that all jump at once would favour nobody who learns online: the
    streams are out of step, balanced, and their targets fade over."""
    model = Model(
        hidden_layers=o.hidden_layers,
        populations=[(o.population, 0.6, 0.2), (o.population, 1.2, 0.2), (o.population, 1.2, 1.2)],
    )
    training = learning.Training(
        epochs=o.epochs, batch=o.batch, lr=1.0, schedule="cosine", balanced=True, staggered=True, fade=8.0
    )
    # the same seeds for each rate
    seeds = [s for _ in range(rates) for s in learning.Learning().seed_list[: o.seeds]]
    return learning.Learning(
        name="credit", model=model, training=training, seeds=len(seeds), seed_list=seeds, compile=False, device=o.device
    )


def train(row: str, o: Credit) -> dict[str, Any]:
    """Accuracy and alignment after each epoch, at the best of the rates. A row named "<rule> 1" updates at every step,
    as online learning is meant."""
    name, stretch = (row[:-2], 1) if row.endswith(" 1") else (row, o.stretch)
    rule, lrs = RULES[name](), o.lrs_online if stretch == 1 else o.lrs
    config = configuration(o, len(lrs))
    data = data_set.load(data_set.form(config.dt).steps, o.samples)
    trainer = Online(config, config.training, data.form)
    sim, streams = trainer.simulation, trainer.streams
    schedule = Schedule(config.training, config.seeds)
    per_member = [lr for lr in lrs for _ in range(o.seeds)]

    def members(values: Any) -> list[Any]:
        """[…, members] → [rate][…][seed]"""
        return np.moveaxis(np.reshape(values, (*np.shape(values)[:-1], len(lrs), o.seeds)), -2, 0).tolist()

    accuracy = [trainer.evaluate(data.validation)["accuracy"]]
    aligned = [alignments(rule, sim, data.validation, o)]
    seconds, steps, memory = 0.0, 0, None
    for epoch in range(o.epochs):
        batches = [b for b in trainer.batches(data.train) if b.shape[1] == o.batch]
        began = time.perf_counter()
        for i, index in enumerate(batches):
            fallen = schedule.during(epoch)(i / len(batches))
            sim.set_lr([lr * f for lr, f in zip(per_member, fallen, strict=True)])
            x, y, _ = streams.turn(data.train, index)
            steps += len(x)
            if name == "gle" and stretch == 1:
                sim.run(x, y)
            else:
                for given in rules.learning(rule, sim, x, y, stretch=stretch, memory=memory):
                    memory = given.memory
        seconds += time.perf_counter() - began
        accuracy.append(trainer.evaluate(data.validation)["accuracy"])
        aligned.append(alignments(rule, sim, data.validation, o))
    by_rate = members(accuracy)
    best = int(np.argmax([np.mean(a[-1]) for a in by_rate]))
    return {
        "row": row,
        "stretch": stretch,
        "parameters": trainer.parameters,
        "lr": lrs[best],
        "final": {f"{lr:g}": a[-1] for lr, a in zip(lrs, by_rate, strict=True)},
        "accuracy": by_rate[best],
        "test": members(trainer.evaluate(data.test)["accuracy"])[best],
        "alignment": members(aligned)[best],
        "ms": 1e3 * seconds / steps,
    }


def alignments(rule: rules.Rule, sim: gle.Simulation, split: Split, o: Credit) -> list[list[float]]:
    """Cosine of the rule's gradient of each layer's weights with the exact one, over some whole samples: [layer][seed].
    The network is frozen and starts from rest, as a sample alone."""
    frozen = gle.Simulation(sim.network, dt=sim.dynamics.dt, cost=sim.dynamics.cost)
    frozen.carry = frozen.carry._replace(theta=sim.carry.theta)
    x = split.x[torch.arange(o.probes)].transpose(0, 1)
    y = torch.nn.functional.one_hot(split.y[: o.probes], data_set.CLASSES).to(x).expand(len(x), -1, -1)
    y = y.unsqueeze(1).expand(-1, *sim.network.ensemble, -1, -1)
    got, exact = (rules.assign(r, frozen, x, y, learn=("W",)).grads for r in (rule, rules.Adjoint(matched=True)))
    return [a.cosine.tolist() for a in alignment.gradients(sim.network, got, exact).values()]


# -- costs -------------------------------------------------------------------------------------------------------------

COSTS: dict[str, tuple[Callable[[], rules.Rule], bool]] = {  # the rule, and whether its stretch is a single step
    "gle": (rules.GLE, True),
    "instantaneous": (rules.Instantaneous, True),
    "rflo": (rules.RFLO, True),
    "uoro": (rules.UORO, True),
    "rtrl": (rules.RTRL, True),
    "bptt": (rules.BPTT, False),
    "adjoint": (partial(rules.Adjoint, matched=True), False),
}
LARGEST = {"rtrl": 64}  # N beyond which a rule is not measured
LONGEST = {"rtrl": 128}  # T likewise
PROFILED = 16  # steps of an online rule whose peak is measured: each is a stretch of its own


def cost(name: str, n: int, length: int, o: Credit) -> dict[str, float]:
    """Of training over `length` steps with one sample: milliseconds a step; peak bytes, without parameters and inputs,
    but with their gradients; and the bytes that the rule carries from step to step, or keeps of the stretch."""
    make, online = COSTS[name]
    common: dict[str, Any] = {"tau_r": 0.2, "device": o.device}
    net = gle.Network(
        [
            gle.Layer(2, n, tau_m=1.0, **common),
            gle.Layer(n, n, tau_m=1.0, **common),
            gle.Layer(n, 2, tau_m=1.0, phi="linear", **common),
        ]
    )
    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(length, 1, 2, generator=g).to(o.device) for _ in range(2))
    sim = gle.Simulation(net, dt=0.1, plasticity=gle.Plasticity("sgd", lr=1e-6))

    def run(x: Tensor, y: Tensor) -> rules.Credit:
        return rules.learn(make(), sim, x, y, stretch=1 if online else len(x))

    run(x, y)
    times = []
    for _ in range(o.repeats):
        began = time.perf_counter()
        run(x, y)
        times.append(time.perf_counter() - began)
    profiled = PROFILED if online else length
    peak = peak_bytes(lambda: run(x[:profiled], y[:profiled]), o.device)
    if online:
        carried = size(run(x[:profiled], y[:profiled]).memory) + (2 * n + 2) * 2 * x.element_size() * (
            name == "gle"
        )  # v and e
    else:  # what it keeps of the stretch: all that grows with it
        carried = peak - peak_bytes(lambda: run(x[:2], y[:2]), o.device)
    return {"ms": 1e3 * float(np.median(times)) / length, "bytes": peak, "carried": carried}


def size(item: Any) -> int:
    """Bytes of all tensors in nested tuples and lists, each counted once."""
    found: dict[int, int] = {}

    def look(part: Any) -> None:
        if isinstance(part, Tensor):
            found[part.data_ptr()] = part.numel() * part.element_size()
        elif isinstance(part, (tuple, list)):
            for p in part:
                look(p)

    look(item)
    return sum(found.values())


def growth(o: Credit) -> dict[str, Any]:
    """Costs over N at the second length, and over T at the middle size."""
    n, length = o.sizes[len(o.sizes) // 2], o.lengths[min(1, len(o.lengths) - 1)]
    found: dict[str, Any] = {"N": {}, "T": {}, "n": n, "length": length}
    for name in COSTS:
        sizes = [s for s in o.sizes if s <= LARGEST.get(name, s)]
        found["N"][name] = {"at": sizes, "cost": [cost(name, s, length, o) for s in sizes]}
        lengths = [t for t in o.lengths if t <= LONGEST.get(name, t)]
        found["T"][name] = {"at": lengths, "cost": [cost(name, n, t, o) for t in lengths]}
    return found


def exponent(found: dict[str, Any], what: str) -> str:
    """Slope of log(cost) over log(size or length) between the two largest, where the leading order shows most."""
    if len(found["at"]) < 2 or min(c[what] for c in found["cost"][-2:]) <= 0:
        return "–"
    before, last = (c[what] for c in found["cost"][-2:])
    return f"{np.log(last / before) / np.log(found['at'][-1] / found['at'][-2]):.2f}"


# -- the study ---------------------------------------------------------------------------------------------------------


def check(o: Credit) -> None:
    """Complains before any work is done: ValueError with the value and the fix."""
    for row in o.rows:
        if row.removesuffix(" 1") not in RULES:
            raise ValueError(f"unknown row {row!r}: choose of {', '.join(RULES)}, with ' 1' for an update at each step")
    config = configuration(o, 1)
    steps = data_set.form(config.dt).steps
    if not 1 <= o.stretch <= steps:
        raise ValueError(f"stretch = {o.stretch} must lie between 1 and the {steps} steps of a sample")
    for name in ("rows", "lrs", "lrs_online", "sizes", "lengths"):
        if not getattr(o, name):
            raise ValueError(f"{name} is empty: give at least one")
    if min(*o.sizes, *o.lengths, o.repeats, o.probes, o.epochs) < 1:
        raise ValueError("sizes, lengths, repeats, probes and epochs must be at least 1")
    if o.probes > o.samples // 5:
        raise ValueError(f"probes = {o.probes} are more than the {o.samples // 5} validation samples")
    if bad := [lr for lr in (*o.lrs, *o.lrs_online) if not lr > 0]:
        raise ValueError(f"learning rates must be positive, got {bad[0]:g}")
    data_set.check(o.samples)
    learning.check(config, data_set.form(config.dt), int(o.samples * 0.8))
    Online(config, config.training, data_set.form(config.dt))


def tiny(o: Credit) -> Credit:
    return dataclasses.replace(
        o, rows=o.rows[:3], epochs=1, seeds=2, hidden_layers=2, population=2, batch=10, samples=20, probes=2,
        sizes=[2, 4], lengths=[2, 4], repeats=1, stretch=90,
    )  # fmt: skip


def run(o: Credit, run: Run) -> dict[str, Any]:
    return {
        "training": [run.part(f"train {row}", partial(train, row, o)) for row in o.rows],
        "growth": run.part("growth", partial(growth, o)),
    }


def training_table(result: Mapping[str, Any]) -> Table:
    """After the last epoch, mean ± standard deviation over seeds; cosines from the bottom layer to the output."""
    heading = (
        "rule",
        "steps per update",
        "rate",
        "validation %",
        "test %",
        "ms a step",
        "cosines before",
        "cosines after",
    )
    rows: list[tuple[str, ...]] = [heading]
    for r in result["training"]:
        before, after = (" ".join(f"{np.mean(c):.2f}" for c in r["alignment"][epoch]) for epoch in (0, -1))
        scores = (mean_std(r["accuracy"][-1]), mean_std(r["test"]))
        rows.append((r["row"], str(r["stretch"]), f"{r['lr']:g}", *scores, f"{r['ms']:.2f}", before, after))
    return Table(rows, f"MNIST-1D, {result['options']['epochs']} epochs")


def costs_table(result: Mapping[str, Any]) -> Table:
    """Exponents of growth, and what a step costs at the largest N."""
    growth = result["growth"]
    over_n, over_t = f"N (T = {growth['length']})", f"T (N = {growth['n']})"
    heading = ("rule", f"carried ~ {over_n}", f"~ {over_t}", f"time a step ~ {over_n}", f"~ {over_t}")
    rows: list[tuple[str, ...]] = [(*heading, "largest N", "carried KiB", "peak KiB", "ms a step")]
    for name, by_n in growth["N"].items():
        found = (exponent(f, what) for what in ("carried", "ms") for f in (by_n, growth["T"][name]))
        last = by_n["cost"][-1]
        memory = (f"{last[what] / 1024:.1f}" for what in ("carried", "bytes"))
        rows.append((name, *found, str(by_n["at"][-1]), *memory, f"{last['ms']:.2f}"))
    return Table(rows, "Costs: exponents of growth with N and T, of a step with a batch of 1")


def draw(result: Mapping[str, Any]) -> plt.Figure:
    """Accuracy and alignment over epochs; memory and time over N and T."""
    figure, axes = plt.subplots(2, 3, figsize=(13, 7), layout="constrained")
    for i, r in enumerate(result["training"]):
        accuracy = np.array(r["accuracy"])  # [epochs, seeds]
        aligned = np.array(r["alignment"]).mean(-1)  # [epochs, layers]
        epochs = np.arange(len(accuracy))
        spread = accuracy.std(1, ddof=1) if accuracy.shape[1] > 1 else None
        axes[0, 0].errorbar(epochs, accuracy.mean(1), spread, color=f"C{i}", label=r["row"], capsize=2)
        axes[0, 1].plot(epochs, aligned[:, 0], color=f"C{i}")
        axes[0, 2].plot(epochs, aligned.mean(1), color=f"C{i}")
    axes[0, 0].set(xlabel="epoch", ylabel="validation accuracy / %")
    axes[0, 0].legend(fontsize=7)
    for ax, which in ((axes[0, 1], "bottom layer"), (axes[0, 2], "mean over layers")):
        ax.set(xlabel="epoch", ylabel="cosine with the exact gradient", title=which, ylim=(-1.05, 1.05))
    panels = (("N", "carried", axes[1, 0]), ("T", "carried", axes[1, 1]), ("N", "ms", axes[1, 2]))
    for over, what, ax in panels:
        for i, (name, found) in enumerate(result["growth"][over].items()):
            ax.loglog(found["at"], [c[what] for c in found["cost"]], "o-", color=f"C{i}", label=name)
        ax.set(xlabel=over, ylabel="carried or kept / bytes" if what == "carried" else "ms a step")
    axes[1, 0].legend(fontsize=7)
    return figure


benchmark = Benchmark(
    name="credit",
    summary="every rule on one task: accuracy, alignment, time and memory, and how those grow",
    Options=Credit,
    check=check,
    tiny=tiny,
    run=run,
    tables=lambda result: [training_table(result), costs_table(result)],
    draw=lambda result: {"credit.png": draw(result)},
)

if __name__ == "__main__":
    main(benchmark)
