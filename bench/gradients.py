"""How good is the gradient of a segment? Every strategy of `hrm.gradients` against backpropagation through the whole
segment and against the exact gradient of the fixed point (Eq. 1), on an untrained, a half-trained and a trained model.

    python -m bench.gradients                               trains a model on 4 × 4 Sudoku first
    python -m bench.gradients --run runs/sudoku/<folder>    with the weights of that run

Per group of parameters: cosine, ratio of norms and agreement of signs, over N · T, with the residual of the forward
pass, that of the linear system, and the spectral radius of the step map beside them. Then time and peak memory.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from bench.kit import memory
from bench.kit.benchmark import Benchmark, main
from bench.kit.figures import plt
from bench.kit.folder import Run
from bench.kit.tables import Table
from bench.puzzles import trained
from bench.puzzles.trained import Subject, Trained
from gle.analysis import alignment
from hrm.gradients import Report, norm, spectral_radius, strategy
from hrm.gradients import run as run_steps
from hrm.losses import LOSSES, losses
from hrm.model import HRM, Carry, detach
from hrm.tasks.task import Task

CHECKPOINTS = ("init", "half", "last")
REFERENCES = ("bptt", "implicit")


@dataclass
class Gradients(Trained):
    """What is compared.

    Args:
        cycles: [H_cycles, L_cycles] of the segments.
        strategies: to compare with BPTT and with the implicit gradient.
        segment: the segment of a puzzle whose gradient is taken: 1 is the first.
        puzzles: validation puzzles in the batch.
        products: with Jᵀ that the implicit gradient takes at most.
        costs: [H_cycles, L_cycles] of the segments whose time and memory is measured.
        batch: puzzles in those.
    """

    cycles: list[tuple[int, int]] = field(default_factory=lambda: [(1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 8)])
    strategies: list[str] = field(
        default_factory=lambda: ["one_step", "last 2", "last_cycle", "neumann 4", "neumann 16", "damped 8"]
    )
    segment: int = 1
    puzzles: int = 8
    products: int = 600
    costs: list[tuple[int, int]] = field(default_factory=lambda: [(2, 2), (2, 4), (4, 4), (4, 8), (8, 8)])
    batch: int = 128


def with_cycles(model: HRM, cycles: tuple[int, int]) -> HRM:
    """The same model with other numbers of cycles."""
    model.config = dataclasses.replace(model.config, H_cycles=cycles[0], L_cycles=cycles[1])
    return model


# -- gradients ---------------------------------------------------------------------------------------------------------

# of parameters that lie before the end of the segment; a shared network is L alone
GROUPS = {"embedding": "embedding.", "L": "L.", "H": "H."}


def gradient(model: HRM, name: str, carry: Carry, x: Tensor, y: Tensor, products: int = 200):
    """Of the answer's loss, {group: vector}, and what the strategy reports. The heads' own gradient is the same under
    all strategies, and left out."""
    found = strategy(name)
    if name == "implicit":
        found = type(found)(products=products)  # type: ignore[call-arg]
    model.zero_grad()
    new, report = found(model, carry, model.embed(x))
    losses(model.read_out(new), y, LOSSES["softmax"], None, 0.0).total.backward()
    parts = {
        group: [p.grad.flatten() for n, p in model.named_parameters() if n.startswith(prefix) and p.grad is not None]
        for group, prefix in GROUPS.items()
    }
    return {group: torch.cat(part) for group, part in parts.items() if part}, report


def compared(model: HRM, task: Task, o: Gradients, cycles: tuple[int, int]) -> dict[str, Any]:
    """All strategies against both references, in float64."""
    model = with_cycles(model, cycles)
    rows = task.validation[: o.puzzles]
    x, y = (torch.from_numpy(a.astype(np.int64)).to(o.device) for a in (rows.x, rows.y))
    embedded = model.embed(x).detach()
    carry = model.initial(len(x))
    with torch.no_grad():
        for _ in range(o.segment - 1):
            carry = run_steps(model, carry, embedded, 0, model.config.steps)
        # of the forward pass: how far the last step still moved the carry
        before = run_steps(model, carry, embedded, 0, model.config.steps - 1)
        after = model.step(before, embedded, True)
        moved = norm([a - b for a, b in zip(tree_leaves(after), tree_leaves(before), strict=True)])
    found = {n: gradient(model, n, carry, x, y, o.products) for n in dict.fromkeys([*REFERENCES, *o.strategies])}
    agreement = {
        name: {
            reference: {
                group: {k: v.item() for k, v in alignment.compare(part, found[reference][0][group])._asdict().items()}
                for group, part in parts.items()
            }
            for reference in REFERENCES
        }
        for name, (parts, _) in found.items()
    }

    def told(report: Report) -> float | None:
        return None if math.isnan(report.residual) else report.residual

    return {
        "cycles": list(cycles),
        "steps": model.config.steps,
        "moved": moved / norm(tree_leaves(after)),
        "radius": spectral_radius(model, before, embedded),
        "residual": {name: told(report) for name, (_, report) in found.items()},
        "agreement": agreement,
    }


# -- costs -------------------------------------------------------------------------------------------------------------


def costs(o: Gradients, task: Task, model: HRM) -> list[dict[str, Any]]:
    """Milliseconds (least of three) and peak memory of forward and backward, over N · T."""
    rows = task.train[np.arange(o.batch) % len(task.train)]
    x, y = (torch.from_numpy(a.astype(np.int64)).to(o.device) for a in (rows.x, rows.y))
    out = []
    for name in dict.fromkeys([*o.strategies, "bptt"]):
        for cycles in o.costs:
            with_cycles(model, cycles)
            carry = detach(model.initial(len(x)))
            step = partial(gradient, model, name, carry, x, y)
            steps = cycles[0] * cycles[1]
            out.append({"strategy": name, "cycles": list(cycles), "steps": steps, **memory.costs(step, o.device)})
    return out


# -- the run -----------------------------------------------------------------------------------------------------------


def check(o: Gradients) -> None:
    """Raises ValueError with the value and what it must be."""
    trained.check(o)
    for name in ("segment", "puzzles", "products", "batch"):
        if getattr(o, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(o, name)}")
    for name in o.strategies:
        strategy(name)
    for name in ("cycles", "costs"):
        values = getattr(o, name)
        if not values or any(n < 1 or t < 1 for n, t in values):
            raise ValueError(f"{name} must be pairs of numbers of at least 1, got {values}")


def tiny(o: Gradients) -> Gradients:
    return dataclasses.replace(
        o, cycles=o.cycles[:2], strategies=o.strategies[:4], puzzles=4, costs=[(1, 1), (1, 2)], batch=4, steps=6
    )


def run(o: Gradients, run: Run) -> dict[str, Any]:
    subject = Subject(o, run)

    def at(when: str) -> list[dict[str, Any]]:
        return [compared(subject.model(when).double(), subject.task, o, cycles) for cycles in o.cycles]

    return {
        "task": subject.task.name,
        "checkpoints": {when: run.part(when, partial(at, when)) for when in CHECKPOINTS},
        "costs": run.part("costs", lambda: costs(o, subject.task, subject.model("last"))),
    }


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Cosines in L with both references, BPTT / implicit, at the segment of 2 × 2 (or the first) and the longest one;
    then costs."""
    shown = [r["steps"] for r in result["checkpoints"]["last"]]
    places = sorted({shown.index(4) if 4 in shown else 0, len(shown) - 1})
    out: list[list[tuple[str, ...]]] = [
        [("weights", "N × T", "moved", "radius", "residual of implicit", *(f"{n}" for n in agreement_names(result)))]
    ]
    for when, rows in result["checkpoints"].items():
        for r in (rows[p] for p in places):
            cosines = (
                " / ".join(f"{r['agreement'][n][ref]['L']['cosine']:.2f}" for ref in REFERENCES)
                for n in agreement_names(result)
            )
            n, t = r["cycles"]
            out[0].append(
                (
                    when,
                    f"{n} × {t}",
                    f"{r['moved']:.3f}",
                    f"{r['radius']:.2f}",
                    f"{r['residual']['implicit']:.0e}",
                    *cosines,
                )
            )
    steps = sorted({c["steps"] for c in result["costs"]})
    out.append([("strategy", *(f"MiB, N·T = {s}" for s in steps), *(f"ms, {s}" for s in steps))])
    for name in dict.fromkeys(c["strategy"] for c in result["costs"]):
        rows = {c["steps"]: c for c in result["costs"] if c["strategy"] == name}
        memory = (f"{rows[s]['bytes'] / 2**20:.1f}" for s in steps)
        out[1].append((name, *memory, *(f"{rows[s]['ms']:.0f}" for s in steps)))
    return [Table(rows) for rows in out]


def agreement_names(result: Mapping[str, Any]) -> Iterable[str]:
    """The strategies, and the implicit gradient, whose agreement with BPTT is of interest, too."""
    return [*result["options"]["strategies"], "implicit"]


def draw(result: Mapping[str, Any]) -> plt.Figure:
    """Cosine with both references over N · T, for each checkpoint and group."""
    figure, axes = plt.subplots(
        2, len(CHECKPOINTS), figsize=(11, 6), sharex=True, sharey=True, layout="constrained", squeeze=False
    )
    for column, (when, rows) in enumerate(result["checkpoints"].items()):
        steps = [r["steps"] for r in rows]
        radius = ", ".join(f"{r['radius']:.1f}" for r in rows)
        for row, reference in enumerate(REFERENCES):
            ax = axes[row, column]
            for i, name in enumerate(agreement_names(result)):
                for group, style in (("L", "-"), ("H", ":")):
                    if group not in rows[0]["agreement"][name][reference]:
                        continue
                    cosines = [r["agreement"][name][reference][group]["cosine"] for r in rows]
                    ax.plot(steps, cosines, f"C{i}.{style}", label=f"{name}, {group}")
            ax.axhline(0, color="0.7", linewidth=0.8)
            ax.set_xscale("log", base=2)
            ax.set(title=f"{when}: with {reference}" + (f"\nspectral radius {radius}" if row == 0 else ""))
            ax.title.set_fontsize(9)
    for ax in axes[:, 0]:
        ax.set(ylabel="cosine", ylim=(-1.05, 1.05))
    for ax in axes[-1]:
        ax.set(xlabel="N · T")
    axes[0, -1].legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def draw_costs(result: Mapping[str, Any]) -> plt.Figure:
    """Peak memory and time over N · T."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for i, name in enumerate(dict.fromkeys(c["strategy"] for c in result["costs"])):
        rows = [c for c in result["costs"] if c["strategy"] == name]
        steps = [c["steps"] for c in rows]
        axes[0].plot(steps, [c["bytes"] / 2**20 for c in rows], f"C{i}.-", label=name)
        axes[1].plot(steps, [c["ms"] for c in rows], f"C{i}.-")
    axes[0].set(xlabel="N · T", ylabel="peak memory / MiB", ylim=(0, None))
    axes[1].set(xlabel="N · T", ylabel="forward and backward / ms", ylim=(0, None))
    axes[0].legend(fontsize=7)
    return figure


benchmark = Benchmark(
    name="gradients",
    summary="every gradient of a segment against BPTT and the implicit gradient; time and memory",
    Options=Gradients,
    check=check,
    tiny=tiny,
    run=run,
    tables=tables,
    draw=lambda result: {"gradients.png": draw(result), "costs.png": draw_costs(result)},
)

if __name__ == "__main__":
    main(benchmark)
