"""GLE, BPTT and the one-step gradient on the same reasoning: the same network, first weights, puzzles and optimiser, at
equal numbers of updates, of forward passes and of CPU seconds.

    python -m bench.compare                          4 × 4 Sudoku
    python -m bench.compare --task 6x6 --cpu 2       or maze: of 10 × 10
    python -m bench.compare --task stream            4 × 4 whose clues come one after the other, and are gone

A row is a way of getting gradients, or a control that could explain the same. Each model learns for as many CPU minutes
as `cpu` says and is looked at on the way: how many validation puzzles it answers, and how its gradient compares with
backpropagation through the segment with a loss at every update of H. What local learning costs in memory and time over
the length of a segment is measured beside it. A stream takes sixteen steps, in as many segments as that makes.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from bench.kit import memory
from bench.kit.benchmark import Benchmark, main
from bench.kit.figures import band, plt
from bench.kit.folder import Run
from bench.kit.options import DeviceOptions
from bench.kit.tables import Table, mean_std
from bench.puzzles.trained import puzzles
from gle.analysis import alignment
from hrm import act
from hrm.act import Halting, Shown
from hrm.credit import Local
from hrm.gradients import run as run_steps
from hrm.gradients import spectral_radius
from hrm.layers import Linear
from hrm.losses import LOSSES, losses
from hrm.model import HRM, Carry, Config
from hrm.tasks.arriving import Arriving
from hrm.tasks.task import Task
from hrm.train import Trainer, Training


class Row(NamedTuple):
    """config, training: what differs from the defaults. segments: of an answer, and most of a puzzle that is no
    stream."""

    what: str
    config: Mapping[str, Any]
    training: Mapping[str, Any]
    segments: int = 8


NEURONS = {"H_cycles": 2, "L_cycles": 1, "tau_H": 2.0}
SEGMENT = {"H_cycles": 2, "L_cycles": 2}
ONCE = {"gradient": "one_step"}
ROWS: dict[str, Row] = {
    "gle": Row("local errors, an update at every step; z_H leaks", NEURONS, {}),
    "gle, ε = 1": Row("errors that come back go round, held to the size of the fresh ones", NEURONS, {"epsilon": 1.0}),
    "gle, inner dynamics": Row("half of the neurons that mix are slow", {**NEURONS, "inner_tau": 2.0}, {}),
    "gle, prospective": Row("the same, with prospective error neurons of those",
                            {**NEURONS, "inner_tau": 2.0, "inner_errors": "prospective"}, {}),
    "gle, no leak": Row("z_H does not leak", {**NEURONS, "tau_H": 1.0}, {}),
    "gle, slow": Row("z_L leaks, too, and both more slowly", {**NEURONS, "tau_L": 2.0, "tau_H": 4.0}, {}),
    "gle, slow, ε = 1": Row("the same with errors that relax as slowly, and go round",
                            {**NEURONS, "tau_L": 2.0, "tau_H": 4.0, "errors": "relaxing"}, {"epsilon": 1.0}),
    "gle, summed": Row("one update a segment, for the sum", NEURONS, {"plasticity": "segment"}),
    "kolen_pollack": Row("feedback weights of its own, which take the weights' steps",
                         {**NEURONS, "feedback": "kolen_pollack"}, {}),
    "one-step": Row("the one-step gradient of a segment of 2 × 2", SEGMENT, ONCE),
    "one-step, N·T = 1": Row("the same, with an update at every step", {"H_cycles": 1, "L_cycles": 1}, ONCE),
    "one-step, twin of gle": Row("the same by autograd in the steps of gle: leak, depth of an answer, updates",
                                 {"H_cycles": 1, "L_cycles": 1, "tau_H": 2.0}, ONCE, 16),
    "last 2": Row("backpropagation through the last two steps", SEGMENT, {"gradient": "last 2"}),
    "bptt": Row("backpropagation through the segment", SEGMENT, {"gradient": "bptt"}),
    "bptt, long": Row("the same through sixteen steps, which are the whole answer",
                      {"H_cycles": 16, "L_cycles": 1}, {"gradient": "bptt"}, 1),
    "implicit": Row("the exact gradient of the fixed point (Eq. 1)", SEGMENT, {"gradient": "implicit"}),
    "frozen": Row("control: L and H keep their first weights", NEURONS, {"control": "frozen"}),
    "shuffled": Row("control: L and H get the errors of another puzzle", NEURONS, {"control": "shuffled"}),
    "own head": Row("control: z_L is taught by a head of its own, not by H", NEURONS, {"control": "own head"}),
    "cut": Row("control: no error from H to L", NEURONS, {"control": "cut"}),
    "fixed_random": Row("control: feedback alignment", {**NEURONS, "feedback": "fixed_random"}, {}),
}  # fmt: skip
STREAM = 16  # steps of one: eight for eight clues, and as many to think
AT = {"cpu": "CPU seconds", "updates": "updates", "passes": "forward passes"}


@dataclass
class Compare(DeviceOptions):
    """What is compared.

    Args:
        task: Sudoku of 4 × 4 (8 blanks) or 6 × 6 (18 blanks), open mazes of 10 × 10, or stream: 4 × 4 of which two
            clues are there for two steps, then the next two, then none.
        rows: which of them.
        seeds: models of each row.
        cpu: CPU minutes for which each of them learns.
        steps: segments for which each of them learns in place of that; 0: as many as fit.
        looks: at each model, on the way.
        batch: slots.
        d: width.
        layers: blocks of each module.
        lr: learning rate, constant after warm-up.
        puzzles: numbers of training, validation and test puzzles.
        probes: puzzles whose gradients are compared.
        at_end: whether a stream's answer is asked for when the last clues have come; else all the time.
        settled: segments after which a probe has settled, and steps of the segment that is then compared.
        lengths: N · T of the segments whose memory and time is measured.
    """

    task: Literal["4x4", "6x6", "maze", "stream"] = "4x4"
    rows: list[str] = field(default_factory=lambda: list(ROWS))
    seeds: int = 3
    cpu: float = 1.0
    steps: int = 0
    looks: int = 8
    batch: int = 128
    d: int = 32
    layers: int = 2
    lr: float = 1e-3
    puzzles: tuple[int, int, int] = (4000, 500, 1000)
    probes: int = 16
    at_end: bool = False
    settled: tuple[int, int] = (8, 16)
    lengths: list[int] = field(default_factory=lambda: [4, 8, 16, 32, 64])
    threads: int = 1


def task_of(o: Compare) -> Task:
    settings: dict[str, Any] = {
        "4x4": {"size": 4, "blanks": 8, "augmentation": "digits"},
        "6x6": {"size": 6, "blanks": 18, "augmentation": "all"},
        "maze": {"size": 10, "kind": "open", "least": 10},
        "stream": {"size": 4, "blanks": 8, "augmentation": "digits", "hints": 0.0},
    }[o.task]
    found = puzzles("maze" if o.task == "maze" else "sudoku")
    task = found.task(found.Options(puzzles=o.puzzles, **settings))
    return Arriving(task, at_end=o.at_end) if o.task == "stream" else task


def segments_of(task: Task, name: str) -> int:
    """Of an answer."""
    row = ROWS[name]
    return max(1, STREAM // (row.config["H_cycles"] * row.config["L_cycles"])) if task.bit_by_bit else row.segments


def trainer_of(o: Compare, task: Task, name: str, seed: int) -> Trainer:
    """A row's model, with the same first weights in all rows, and its trainer."""
    row = ROWS[name]
    config = Config(
        vocabulary=task.vocabulary, length=task.length, columns=task.width, d=o.d, heads=4, H_layers=o.layers,
        L_layers=o.layers, multiple=32, mixer="conv" if o.task == "maze" else "mlp", modules="gle",
        **{"positions": "learned" if o.task in ("4x4", "stream") else "rope", **row.config},
    )  # fmt: skip
    # the Q-head reads the first cell, which under convolutions knows little of the far ones; no stream can end early
    halting = Halting(segments_of(task, name), q_continue=False, learned=o.task in ("4x4", "6x6"))
    decay = 0.1 if o.task == "maze" else 1.0
    settings = {
        "gradient": "local",
        "final": 1.0,
        "weight_decay": decay,
        "average": 0.98,
        "warmup": 100,
        **row.training,
    }
    training = Training(batch=o.batch, steps=10**9, lr=o.lr, halting=halting, **settings)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HRM(config).to(o.device)
        if training.control == "own head":
            model.own_head = Linear(config.d, config.vocabulary).to(o.device)
    return Trainer(model, task, training, seed)


# -- learning ----------------------------------------------------------------------------------------------------------


def learned(o: Compare, task: Task, name: str, seed: int) -> dict[str, Any]:
    """One model's way: what it has cost and what it can, look by look; and its test, with the last weights."""
    trainer = trainer_of(o, task, name, seed)
    a_step = trainer.model.config.steps
    online = trainer.o.gradient == "local" and trainer.o.plasticity == "step"
    clock = time.process_time if o.device == "cpu" else time.perf_counter  # the former does not see other devices
    spent, curve = 0.0, [looked_at(o, task, trainer, {"cpu": 0.0, "updates": 0, "passes": 0})]
    for look in range(1, o.looks + 1):
        while trainer.steps < o.steps * look / o.looks if o.steps else spent < 60 * o.cpu * look / o.looks:
            began = clock()
            trainer.step()
            spent += clock() - began
        updates = trainer.steps * (a_step if online else 1)
        curve.append(looked_at(o, task, trainer, {"cpu": spent, "updates": updates, "passes": trainer.steps * a_step}))
    return {
        "curve": curve,
        "test": float(trainer.evaluate(task.test)["curve"][task.measure][-1]),
        "radius": radius(o, task, trainer),
    }


def looked_at(o: Compare, task: Task, trainer: Trainer, cost: dict[str, Any]) -> dict[str, Any]:
    exact = float(trainer.evaluate(task.validation)["curve"][task.measure][-1])
    own, (segments, steps) = trainer.model.config.steps, o.settled
    whole = trainer.o.halting.halt_max_steps if task.bit_by_bit else 1  # what is in a stream's answer is its way there
    first = compared(o, task, trainer, 1, own, whole)
    return {**cost, "exact": exact, "first": first, "settled": compared(o, task, trainer, segments, steps)}


def at(o: Compare, task: Task, model: HRM, segments: int, number: int = 1) -> tuple[Carry, list[Shown]]:
    """Probes: their carry before a segment, counted from 1, and what they are shown in so many from there on."""
    rows = task.validation[: o.probes]
    x, y = (torch.from_numpy(a.astype(np.int64)).to(o.device) for a in (rows.x, rows.y))
    steps, first = model.config.steps, torch.zeros(len(x), dtype=torch.long, device=x.device)
    each = [act.shown_in(task, x, y, first + i, steps) for i in range(segments - 1 + number)]
    with torch.no_grad():
        carry = model.initial(len(x))
        for shown in each[: segments - 1]:
            carry = run_steps(model, carry, model.embed(shown.x), 0, steps)
    return carry, each[segments - 1 :]


def compared(o: Compare, task: Task, trainer: Trainer, segments: int, steps: int, number: int = 1) -> dict[str, Any]:
    """The row's gradient of a segment of so many steps, summed over `number` of them, beside backpropagation through
    all of their steps with a loss at every update of H, by module; weights stand still. It is of the row's own steps:
    of one alone the one-step gradient is all."""
    model = trainer.model
    config = model.config
    model.config = dataclasses.replace(config, H_cycles=steps // config.L_cycles)
    try:
        carry, each = at(o, task, model, segments, number)
        found, expected = row_gradient(trainer, carry, each), bptt_gradient(trainer, carry, each)
    finally:
        model.config = config

    def of(module: str) -> dict[str, Any]:
        norm = {"norm": expected[module].norm()}
        if not found[module].any():  # of a control whose module gets no errors
            return {"cosine": 0.0, "norm_ratio": 0.0, **norm}
        return {**alignment.compare(found[module], expected[module])._asdict(), **norm}

    return {module: of(module) for module in ("L", "H")}


def by_module(model: HRM) -> dict[str, Tensor]:
    def flat(prefix: str) -> Tensor:
        named = ((n, p) for n, p in model.named_parameters() if n.startswith(prefix) and p.requires_grad)
        return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten().double() for _, p in named])

    return {"L": flat("L."), "H": flat("H.")}


def row_gradient(trainer: Trainer, carry: Carry, each: Sequence[Shown]) -> dict[str, Tensor]:
    model, credit = trainer.model, trainer.credit
    if isinstance(credit, Local):
        credit = dataclasses.replace(credit, plasticity="segment")
    x, y, _ = each[0].step(0)
    puzzle = torch.zeros(len(x), dtype=torch.long, device=x.device)
    slots = act.begun(model, credit.at_rest(model, len(x)), x, y, puzzle)._replace(carry=carry)
    total: dict[str, Tensor] = {}
    for shown in each:
        model.zero_grad()
        learned = credit(model, slots, shown, puzzle, lambda share: None)
        slots = slots._replace(carry=learned.carry, errors=learned.errors)
        total = {module: g + total.get(module, 0) for module, g in by_module(model).items()}
    return total


def bptt_gradient(trainer: Trainer, carry: Carry, each: Sequence[Shown]) -> dict[str, Tensor]:
    model, o = trainer.model, trainer.o
    model.zero_grad()
    total = torch.zeros((), device=each[0].x.device)
    for shown in each:
        for i in range(model.config.steps):
            x, y, _ = shown.step(i)
            carry = model.step(carry, model.embed(x), model.is_due(i))
            if model.is_due(i):
                out = model.read_out(carry)
                total = total + losses(out, y, LOSSES[o.loss], None, trainer.credit.q_weight).total
    total.backward()
    return by_module(model)


def radius(o: Compare, task: Task, trainer: Trainer) -> float:
    """Spectral radius of the step map after as many of the row's own segments as a probe has to settle."""
    model = trainer.model
    carry, (shown,) = at(dataclasses.replace(o, probes=min(o.probes, 4)), task, model, o.settled[0] + 1)
    return spectral_radius(model, carry, model.embed(shown.step(0).x), 1e-2)


# -- costs -------------------------------------------------------------------------------------------------------------

COSTLY = ("gle", "gle, ε = 1", "one-step", "bptt")


def costs(o: Compare, task: Task, name: str) -> list[dict[str, Any]]:
    """Peak memory and milliseconds (least of three) of a segment and its gradients, over N · T."""
    trainer = trainer_of(o, task, name, 0)
    model = trainer.model
    rows = task.train[np.arange(o.batch) % len(task.train)]
    x, y = (torch.from_numpy(a.astype(np.int64)).to(o.device) for a in (rows.x, rows.y))
    found = []
    for length in o.lengths:
        model.config = dataclasses.replace(model.config, H_cycles=length // model.config.L_cycles)
        segment = partial(row_gradient, trainer, model.initial(len(x)), [Shown(x, y)])
        found.append({"steps": length, **memory.costs(segment, o.device)})
    return found


# -- the run -----------------------------------------------------------------------------------------------------------


def check(o: Compare) -> None:
    """Raises ValueError with the value and what it must be."""
    if unknown := [r for r in o.rows if r not in ROWS]:
        raise ValueError(f"unknown row {unknown[0]!r}; choose some of {', '.join(ROWS)}")
    if not o.rows or len(set(o.rows)) < len(o.rows):
        raise ValueError(f"rows must be some of {', '.join(ROWS)}, each once; got {o.rows}")
    for name in ("seeds", "looks", "batch", "layers", "probes"):
        if getattr(o, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(o, name)}")
    if o.d < 8 or o.d % 8:
        raise ValueError(f"d must be a multiple of 8, got {o.d}")
    if o.at_end and o.task != "stream":
        raise ValueError(f"at_end is for task = 'stream', not for {o.task!r}: leave it out")
    if o.steps < 0:
        raise ValueError(f"steps must be ≥ 0, got {o.steps}")
    for name in ("cpu", "lr"):
        if not getattr(o, name) > 0:
            raise ValueError(f"{name} must be positive, got {getattr(o, name):g}")
    if min(o.puzzles) < 1:
        raise ValueError(f"puzzles must be three numbers of at least 1, got {o.puzzles}")
    if min(o.settled) < 1 or o.settled[1] % 2:
        raise ValueError(f"settled must be a number of segments and an even number of steps, got {o.settled}")
    if bad := [n for n in o.lengths if n < 2 or n % 2]:
        raise ValueError(f"lengths must be even numbers of steps, got {bad[0]}")


def tiny(o: Compare) -> Compare:
    return dataclasses.replace(
        o, rows=[r for r in o.rows if r in ("gle", "one-step", "own head")] or o.rows[:1], seeds=2, steps=2, looks=2,
        batch=8, d=8, layers=1, puzzles=(40, 16, 16), probes=2, settled=(2, 2), lengths=o.lengths[:2],
    )  # fmt: skip


def run(o: Compare, run: Run) -> dict[str, Any]:
    task = task_of(o)
    rows = [name for name in o.rows if o.task != "maze" or "inner_tau" not in ROWS[name].config]  # which mlps have

    def numbers(name: str, seed: int) -> dict[str, Any]:
        return tree_map(lambda v: float(v) if isinstance(v, Tensor) else v, learned(o, task, name, seed))

    return {
        "task": task.name,
        "rows": {
            name: [run.part(f"{name} {seed}", partial(numbers, name, seed)) for seed in range(o.seeds)] for name in rows
        },
        "costs": {name: run.part(f"costs {name}", partial(costs, o, task, name)) for name in COSTLY if name in rows},
    }


# -- what it shows -----------------------------------------------------------------------------------------------------


def reached(result: Mapping[str, Any], by: str) -> float:
    """What every model of the first row has reached."""
    return min(seed["curve"][-1][by] for seed in next(iter(result["rows"].values())))


def exact_at(seeds: Sequence[Mapping[str, Any]], by: str, where: float) -> str:
    """Validation accuracy there in per cent, between two looks on a line; a dash where a model did not come so far."""
    curves = [([c[by] for c in s["curve"]], [100 * c["exact"] for c in s["curve"]]) for s in seeds]
    if any(x[-1] < 0.98 * where for x, _ in curves):
        return "–"
    return mean_std([float(np.interp(where, x, y)) for x, y in curves])


def tables(result: Mapping[str, Any]) -> Sequence[Table]:
    """Accuracy at equal costs; then gradients; then what a segment costs."""
    ends = {by: reached(result, by) for by in AT}
    head = ("row", "test %", *(f"validation %, {ends[by]:,.0f} {what}" for by, what in AT.items()), "updates a second")
    rows: list[tuple[str, ...]] = [head]
    for name, seeds in result["rows"].items():
        columns = (exact_at(seeds, by, ends[by]) for by in AT)
        last = [s["curve"][-1] for s in seeds]
        rate = mean_std([c["updates"] / c["cpu"] for c in last])
        rows.append((name, mean_std([100 * s["test"] for s in seeds]), *columns, rate))
    looks = {"untrained": 0, "half": len(next(iter(result["rows"].values()))[0]["curve"]) // 2, "last": -1}
    gradients: list[tuple[str, ...]] = [
        ("row", *(f"cosine L / H, {when}" for when in looks), "norm ratio L / H, last", "norm of BPTT, L / H, last",
         "settled: cosine L / H", "settled: norm ratio L / H", "radius")
    ]  # fmt: skip

    def both(seeds: Sequence[Mapping[str, Any]], look: int, where: str, key: str, form: str) -> str:
        found = (np.mean([s["curve"][look][where][m][key] for s in seeds]) for m in ("L", "H"))
        return " / ".join(format(f, form) for f in found)

    for name, seeds in result["rows"].items():
        gradients.append(
            (name, *(both(seeds, look, "first", "cosine", ".2f") for look in looks.values()),
             both(seeds, -1, "first", "norm_ratio", ".2g"), both(seeds, -1, "first", "norm", ".1e"),
             both(seeds, -1, "settled", "cosine", ".2f"), both(seeds, -1, "settled", "norm_ratio", ".2g"),
             mean_std([s["radius"] for s in seeds], 2))
        )  # fmt: skip
    found = [Table(rows), Table(gradients)]
    if result["costs"]:
        lengths = [c["steps"] for c in next(iter(result["costs"].values()))]
        costs: list[tuple[str, ...]] = [("row", *(f"MiB, N·T = {n}" for n in lengths), *(f"ms, {n}" for n in lengths))]
        for name, each in result["costs"].items():
            costs.append((name, *(f"{c['bytes'] / 2**20:.1f}" for c in each), *(f"{c['ms']:.0f}" for c in each)))
        found.append(Table(costs))
    found.append(Table([("row", "what it is"), *((name, ROWS[name].what) for name in result["rows"] if name in ROWS)]))
    return found


def draw(result: Mapping[str, Any]) -> plt.Figure:
    """Accuracy over CPU time, cosines in L over it, memory over N · T."""
    figure, axes = plt.subplots(1, 3, figsize=(14, 4.4), layout="constrained")
    for i, (name, seeds) in enumerate(result["rows"].items()):
        style = {"color": f"C{i % 10}", "linestyle": "-" if i < 10 else "--", "label": name}
        for ax, of in ((axes[0], lambda c: 100 * c["exact"]), (axes[1], lambda c: c["first"]["L"]["cosine"])):
            looks = zip(*(s["curve"] for s in seeds), strict=True)
            points = [(np.mean([c["cpu"] for c in look]), [of(c) for c in look]) for look in looks]
            x, y = np.array([p for p, _ in points]), np.array([v for _, v in points])
            band(ax, x, y, **style) if ax is axes[0] else ax.plot(x, y.mean(1), linewidth=1, **style)
    for i, (name, each) in enumerate(result["costs"].items()):
        axes[2].plot([c["steps"] for c in each], [c["bytes"] / 2**20 for c in each], f"C{i}.-", label=name)
    axes[0].set(xlabel="CPU seconds of training", ylabel=f"validation, exact %: {result['task']}", ylim=(-2, 102))
    axes[1].set(xlabel="CPU seconds of training", ylabel="cosine with BPTT in L, first segment", ylim=(-1, 1.05))
    axes[2].set(xlabel="N · T", ylabel="peak memory / MiB", xscale="log", yscale="log")
    axes[0].legend(fontsize=6)
    if result["costs"]:
        axes[2].legend(fontsize=7)
    return figure


benchmark = Benchmark(
    name="compare",
    summary="GLE, BPTT and the one-step gradient on the same reasoning, with controls",
    Options=Compare,
    check=check,
    tiny=tiny,
    run=run,
    tables=tables,
    draw=lambda result: {"compare.png": draw(result)},
)

if __name__ == "__main__":
    main(benchmark)
