"""How fast the Hierarchical Reasoning Model learns and answers.

    python -m bench.hrm_speed
    python -m bench.hrm_speed --run runs/sudoku/<folder>        answers by a model of one's own

A training step, from symbols to new weights and halting as published, beside one that goes as the published code is
reported to (`bench.puzzles.published`), and beside the matrix products and the attention that neither can avoid; all
three in turns, so that a busy machine disturbs them alike. Slots hold the puzzles that they began with: drawing others
is no part of it. Then what it saves to let puzzles rest that have settled, and what that costs in accuracy, with the
model of a run, or one that learns 4 × 4 Sudoku first.
"""

from __future__ import annotations

import dataclasses
import itertools
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F

from bench.kit.benchmark import Benchmark, main
from bench.kit.figures import plt
from bench.kit.folder import Run
from bench.kit.memory import peak_bytes
from bench.kit.tables import Table
from bench.learning.timing import seconds
from bench.puzzles import trained
from bench.puzzles.published import LR, WEIGHT_DECAY, Published, reasoner
from bench.puzzles.trained import Subject, Trained
from gle.compiling import compiled
from hrm.act import Halting
from hrm.model import HRM, Config
from hrm.tasks.sudoku import Sudoku, to_symbols
from hrm.tasks.task import Grids
from hrm.train import evaluate


class Size(NamedTuple):
    """A model for 9 × 9 Sudoku, and how many puzzles it learns at once here."""

    config: Config
    batch: int


SIZES = {
    "published": Size(Config(), 8),
    "laptop": Size(Config(d=128, heads=4, H_layers=2, L_layers=2, multiple=64), 64),
}
MODES = ("eager", "compiled")


@dataclass
class Options(Trained):
    """What to time, beside the model that answers.

    Args:
        sizes: published (d = 512, four blocks a module), laptop (d = 128, two).
        batch: puzzles in a step; 0: a number for each size.
        layers: blocks of a module; 0: those of each size.
        modes: eager, compiled.
        turns: timed turns of each row.
        repeat: steps in a turn.
        settled: residuals at which a puzzle rests, each compared with none at all; empty: nothing is answered.
        segments: most of them, for an answer; 0: twice as many as in training.
    """

    sizes: list[str] = field(default_factory=lambda: list(SIZES))
    batch: int = 0
    layers: int = 0
    modes: list[str] = field(default_factory=lambda: list(MODES))
    turns: int = 5
    repeat: int = 1
    settled: list[float] = field(default_factory=lambda: [1e-3, 3e-3, 1e-2, 3e-2])
    segments: int = 0
    threads: int = 1


def check(o: Options) -> None:
    """Raises ValueError with the value and what it must be."""
    for name, known in (("sizes", SIZES), ("modes", MODES)):
        if unknown := [v for v in getattr(o, name) if v not in known]:
            raise ValueError(f"{name} must be some of {', '.join(known)}, got {unknown[0]!r}")
        if not getattr(o, name):
            raise ValueError(f"{name} is empty: give at least one")
    for name, least in (("turns", 1), ("repeat", 1), ("batch", 0), ("layers", 0), ("segments", 0)):
        if getattr(o, name) < least:
            raise ValueError(f"{name} must be at least {least}, got {getattr(o, name)}")
    if wrong := [s for s in o.settled if not s > 0]:
        raise ValueError(f"settled must be residuals > 0, got {wrong[0]:g}")
    for name in ("sizes", "modes", "settled"):
        if twice := [v for v in getattr(o, name) if getattr(o, name).count(v) > 1]:
            raise ValueError(f"{name} names {twice[0]} twice")
    if o.settled:
        trained.check(o)
    elif o.run is not None:
        raise ValueError("the model of a run answers puzzles, and settled is empty: give residuals, or leave out --run")


def tiny(o: Options) -> Options:
    return dataclasses.replace(o, sizes=["laptop"], batch=2, layers=1, modes=["eager"], turns=1, settled=[0.01])


# -- a training step ---------------------------------------------------------------------------------------------------


def products(c: Config, batch: int, device: str) -> Callable[[], None]:
    """The matrix products and the attention of one step, with the look ahead: modules in a segment without a gradient,
    the last of each with one, and a second segment."""
    rows, inner = batch * c.length, HRM(c).L.blocks[0].mlp.down.in_features
    dtype = torch.float32 if device == "cpu" else torch.bfloat16

    def rand(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device=device, dtype=dtype)

    shapes = [(c.d, 3 * c.d), (c.d, c.d), (c.d, 2 * inner), (inner, c.d)]
    linear = [(rand(rows, a), rand(rows, b), rand(b, a)) for a, b in shapes]
    qkv = rand(3, batch, c.heads, c.length, c.d // c.heads)

    def block(back: bool) -> None:
        for x, e, W in linear:
            torch.mm(x, W.T)
            if back:
                torch.mm(e, W)
                torch.mm(e.T, x)
        with torch.enable_grad():
            q, k, v = (t.requires_grad_(back) for t in qkv.unbind(0))
            y = F.scaled_dot_product_attention(q, k, v)
            if back:
                torch.autograd.grad(y, (q, k, v), y.detach())

    taught = c.H_layers + c.L_layers
    others = 2 * (c.H_cycles * c.H_layers + c.steps * c.L_layers) - taught

    def all_of_them() -> None:
        for _ in range(others):
            block(False)
        for _ in range(taught):
            block(True)

    return torch.no_grad()(all_of_them)


def puzzles(number: int) -> Grids:
    """Any that have the shape of Sudokus: a solved grid, of whose cells 30 are blank."""
    rng, (r, c) = np.random.default_rng(0), np.divmod(np.arange(81), 9)
    solved = np.tile((3 * r + r // 3 + c) % 9 + 1, (number, 1))
    blank = rng.permuted(np.tile(np.arange(81) < 30, (number, 1)), axis=1)
    return Grids(to_symbols(np.where(blank, 0, solved)), to_symbols(solved))


def row(o: Options, size: str, mode: str) -> dict[str, Any]:
    """Medians over the turns: milliseconds of either step, and ratios within a turn."""
    config, own = SIZES[size]
    batch = o.batch or own
    if o.layers:
        config = dataclasses.replace(config, H_layers=o.layers, L_layers=o.layers)
    torch._dynamo.reset()
    grids = puzzles(batch)
    x, y = (torch.from_numpy(g).long().to(o.device) for g in (grids.x, grids.y))
    task = Sudoku(9, grids, grids, grids, "none")
    fast = compiled if mode == "compiled" else None
    trainer = reasoner(config, task, batch, o.device, compile=fast)
    with torch.device(o.device):
        torch.manual_seed(0)
        published = Published(HRM(config), batch, Halting(), LR, WEIGHT_DECAY, o.device != "cpu", fast)
    steps = {
        "ours": trainer.step,
        "published": lambda: published.step(x, y),
        "products": products(config, batch, o.device),
    }
    for step in 2 * list(steps.values()):  # what was compiled for slots that wait is compiled again for others
        seconds(step, o.device)
    turns = [{name: seconds(step, o.device, o.repeat) for name, step in steps.items()} for _ in range(o.turns)]
    ms = {name: 1e3 * statistics.median(t[name] for t in turns) for name in steps}
    return {
        "size": size,
        "mode": mode,
        "batch": batch,
        "parameters": trainer.model.n_parameters(),
        "ms": ms,
        "times": statistics.median(t["published"] / t["ours"] for t in turns),
        "share": {n: statistics.median(t["products"] / t[n] for t in turns) for n in ("ours", "published")},
        "segments per second": 1e3 * batch / ms["ours"],
        "bytes": {n: peak_bytes(steps[n], o.device) for n in ("ours", "published")},
    }


# -- answers -----------------------------------------------------------------------------------------------------------


def answers(o: Options, run: Run) -> dict[str, Any]:
    """Accuracy, segments used and seconds of an evaluation, for each residual at which a puzzle rests; 0: none does."""
    subject = Subject(o, run)
    task, training = subject.task, subject.options.training
    model, thresholds = subject.model("last"), [0.0, *o.settled]
    most = o.segments or 2 * training.halting.halt_max_steps

    def answered(settled: float) -> dict[str, Any]:
        return evaluate(model, task, task.test, training.halting, most, bf16=training.bf16, settled=settled)

    found = [answered(settled) for settled in thresholds]
    turns = [{s: seconds(partial(answered, s), o.device, o.repeat) for s in thresholds} for _ in range(o.turns)]
    return {
        "task": task.name,
        "puzzles": len(task.test),
        "rows": [
            {
                "settled": s,
                "accuracy": 100 * of["curve"][task.measure][-1],
                "segments": of["used"],
                "seconds": statistics.median(t[s] for t in turns),
                "times": statistics.median(t[0.0] / t[s] for t in turns),
            }
            for s, of in zip(thresholds, found, strict=True)
        ],
    }


# -- the run -----------------------------------------------------------------------------------------------------------


def run(o: Options, run: Run) -> dict[str, Any]:
    torch.set_flush_denormal(True)
    each = itertools.product(o.sizes, o.modes)
    rows = [run.part(f"step {size} {mode}", partial(row, o, size, mode)) for size, mode in each]
    return {"steps": rows, "answers": run.part("answers", partial(answers, o, run)) if o.settled else None}


def tables(result: Mapping[str, Any]) -> list[Table]:
    steps = [("size", "parameters", "mode", "batch", "ms", "as published, ms", "times", "products, % of ours",
              "of published", "segments a second", "MiB", "as published, MiB")]  # fmt: skip
    for r in result["steps"]:
        ms, share = r["ms"], r["share"]
        steps.append((
            r["size"], str(r["parameters"]), r["mode"], str(r["batch"]), f"{ms['ours']:.0f}", f"{ms['published']:.0f}",
            f"{r['times']:.2f}", f"{100 * share['ours']:.0f}", f"{100 * share['published']:.0f}",
            f"{r['segments per second']:.0f}", *(f"{r['bytes'][n] / 2**20:.0f}" for n in ("ours", "published")),
        ))  # fmt: skip
    out = [Table(steps, "A training step, halting as published")]
    if found := result["answers"]:
        rows = [("rests below", "right %", "segments", "seconds", "times")]
        for r in found["rows"]:
            took = f"{r['seconds']:.2f}", f"{r['times']:.2f}"
            rows.append((f"{r['settled']:g}", f"{r['accuracy']:.1f}", f"{r['segments']:.1f}", *took))
        out.append(Table(rows, f"Answers to {found['puzzles']} puzzles, {found['task']}"))
    return out


def draw(result: Mapping[str, Any]) -> plt.Figure:
    """Time of a step; accuracy over the time of an evaluation."""
    found, rows = result["answers"], result["steps"]
    figure, axes = plt.subplots(1, 2 if found else 1, figsize=(9 if found else 5, 3.2), squeeze=False)
    left, names = axes[0, 0], [f"{r['size']}, {r['mode']}" for r in rows]
    for i, (who, label) in enumerate((("published", "as published"), ("ours", "ours"), ("products", "products alone"))):
        places = [n + 0.27 * (i - 1) for n in range(len(rows))]
        left.barh(places, [r["ms"][who] for r in rows], height=0.25, color=("0.7", "C0", "C1")[i], label=label)
    left.set_yticks(range(len(rows)), names)
    left.set(xlabel="ms a step", title="Training")
    left.invert_yaxis()
    left.legend()
    if found:
        right = axes[0, 1]
        right.plot([r["seconds"] for r in found["rows"]], [r["accuracy"] for r in found["rows"]], "o-")
        for r in found["rows"]:
            right.annotate(f" {r['settled']:g}", (r["seconds"], r["accuracy"]), fontsize=7)
        right.set(xlabel="s for all puzzles", ylabel="right / %", title="Puzzles rest below a residual of …")
    figure.tight_layout()
    return figure


benchmark = Benchmark(
    name="hrm_speed",
    summary="how fast the reasoning model learns, beside a step as published, and answers",
    Options=Options,
    check=check,
    tiny=tiny,
    run=run,
    tables=tables,
    draw=lambda result: {"hrm_speed.png": draw(result)},
)

if __name__ == "__main__":
    main(benchmark)
