"""Errors that go round in a recurrent layer: where they settle, and where their gradient is the exact one.

    python -m bench.recurrent

A layer of tanh neurons is joined to itself and sees sines of ω; its output is to be sines of the same frequency. GLE's
error neurons send the error back into the loop that it came from, forwards in time, where the exact gradient goes
backwards. For input that stands still both end in the same fixed point, (I − Jᵀ)⁻¹ v; how much of that is left for
faster input, and for weights of a larger spectral radius, is what the map shows, for three kinds of error neurons, and
for errors that are cut at the loop (ε = 0), which is the cheapest rule that could do as well.

Prospective error neurons amplify what comes round by up to g = τm/τr. How large the loop's eigenvalue λ may be before
their errors grow without end is measured and set beside its closed form.
"""

from __future__ import annotations

import dataclasses
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

import gle
from bench.kit.benchmark import Benchmark, main
from bench.kit.figures import plt
from bench.kit.folder import Run
from bench.kit.options import DeviceOptions
from bench.kit.tables import Table, mean_std
from gle import rules
from gle.analysis import alignment
from gle.integrators import Euler
from gle.seeding import generator


@dataclass
class Recurrent(DeviceOptions):
    """What to compare, and on which networks.

    Args:
        radii: spectral radii of the recurrent weights.
        omega_tau: frequencies ωτm of inputs and targets; τm is one.
        ratio: τm/τr in the map.
        ratios: τm/τr at which the largest stable loop gain is measured.
        dt: step in the map.
        width: neurons of the recurrent layer.
        batch: samples; phases of inputs and targets are random.
        seeds: networks per point.
        duration: of the stretch, in time units, and of the warm-up before it.
        points: loop gains on either side of zero, between 0.9 and 1.1 of the closed form.
        steps: that a loop gain is watched for.
    """

    radii: list[float] = field(default_factory=lambda: [0.1, 0.3, 0.5, 0.7, 0.9])
    omega_tau: list[float] = field(default_factory=lambda: [0.03, 0.1, 0.3, 1.0, 3.0])
    ratio: float = 2.0
    ratios: list[float] = field(default_factory=lambda: [1.5, 2.0, 3.0, 5.0, 10.0, 20.0])
    dt: float = 0.1
    width: int = 8
    batch: int = 4
    seeds: int = 5
    duration: float = 100.0
    points: int = 41
    steps: int = 800


INPUTS, OUTPUTS = 2, 2
ROWS: dict[str, dict[str, Any]] = {  # error neurons, and the factor ε of what comes round
    "prospective": {"errors": "prospective", "epsilon": 1.0},
    "instantaneous": {"errors": "instantaneous", "epsilon": 1.0},
    "relaxing": {"errors": "relaxing", "epsilon": 1.0},
    "cut": {"errors": "instantaneous", "epsilon": 0.0},
}
GROWN = 1e4  # times the exact gradient: errors that had only begun to grow when the stretch ended
LOOP = "rec → rec (delayed)"


def network(radius: float, row: str, seed: int, o: Recurrent) -> gle.Graph:
    """2 → width (tanh, joined to itself) → 2; members [ω], with the same weights at every ω."""
    how = ROWS[row]
    taus = {"tau_m": 1.0, "tau_r": 1 / o.ratio, "errors": how["errors"]}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "errors of population")  # they are what is measured here
        net = gle.Graph(
            INPUTS,
            {
                "rec": gle.Population(o.width, bias=False, **taus),
                "out": gle.Population(OUTPUTS, phi="linear", bias=False, tau_m=1.0, tau_r=1.0),
            },
            [
                gle.Projection("input", "rec"),
                gle.Projection("rec", "rec", delay=1, epsilon=how["epsilon"]),
                gle.Projection("rec", "out"),
            ],
            ensemble=len(o.omega_tau), dtype=torch.float64, device=o.device, seed=[seed] * len(o.omega_tau),
        )  # fmt: skip
    with torch.no_grad():
        for name in ("input → rec", "rec → out"):
            net[name].W.mul_(math.sqrt(3))  # variance 1/fan-in
        W = net[LOOP].W
        W.mul_(radius / torch.linalg.eigvals(W).abs().amax(-1)[..., None, None])
    return net


def waves(features: int, purpose: str, seed: int, o: Recurrent) -> Any:
    """Sines with random phases, [ω, batch, features], as a function of time."""
    draw = torch.rand(o.batch, features, generator=generator(seed, purpose), dtype=torch.float64)
    phase = 2 * math.pi * draw.to(o.device)
    omega = torch.tensor(o.omega_tau, dtype=torch.float64, device=o.device)[:, None, None]
    return lambda t: torch.sin(omega * t + phase)


def alone(row: str, radius: float, seed: int, o: Recurrent) -> dict[str, list[float]] | None:
    """Of one network, over ω: the cosine of GLE's gradient with BPTT's, of the loop's weights and of all, and the ratio
    of their norms; None where the errors grow without end."""
    net = network(radius, row, seed, o)
    x, y = waves(INPUTS, "inputs", seed, o), waves(OUTPUTS, "targets", seed, o)
    sim = gle.Simulation(net, dt=o.dt, integrator=Euler("instant"))
    steps = round(o.duration / o.dt)
    try:
        sim.run(x, y, steps=steps)
        found = rules.assign(rules.GLE(), sim, x, y, steps=steps, learn=("W",)).grads
    except FloatingPointError:
        return None
    exact = rules.assign(rules.BPTT(), sim, x, y, steps=steps, learn=("W",)).grads
    largest = max(p.W.abs().max() for p in found if p.W is not None)
    if not largest < GROWN * max(p.W.abs().max() for p in exact if p.W is not None):
        return None
    loop = list(net.keyed("W")).index(LOOP) + len(net.names)
    whole, own = alignment.whole(net, found, exact), alignment.gradients(net, found, exact)[loop, "W"]
    return {"loop": own.cosine.tolist(), "norm": own.norm_ratio.tolist(), "all": whole.cosine.tolist()}


def agreement(row: str, radius: float, o: Recurrent) -> dict[str, Any]:
    """The same of those networks whose errors settle, [ω][network], and how many others there are."""
    each = [alone(row, radius, seed, o) for seed in range(o.seeds)]
    settled = [found for found in each if found is not None]
    by_omega = {
        name: [list(v) for v in zip(*(f[name] for f in settled), strict=True)] for name in ("loop", "norm", "all")
    }
    return {"diverged": len(each) - len(settled), **by_omega}


def edges(ratio: float, dt: float) -> tuple[float, float]:
    """The eigenvalues λ between which prospective errors settle, for forward Euler with delayed propagation.

    With g = τm/τr and a = dt/τr: e = v + g (i − v) and i(t) = λ e(t − dt), while v moves by a (i − v); so that the
    advance z of a step has z² − (1 − a + λ g) z + λ (g − a) = 0. Both roots lie within the unit circle where
    |λ| (g − a) < 1, λ < 1 and −λ (2 g − a) < 2 − a.
    """
    a = dt * ratio  # τm is one
    return max(-(2 - a) / (2 * ratio - a), -1 / (ratio - a)), min(1.0, 1 / (ratio - a))


def settled(ratio: float, dt: float, gains: Tensor, steps: int, device: str) -> Tensor:
    """Whether the error of a linear neuron, joined to itself by these weights, dies out; its rate is held still."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "errors of population")
        net = gle.Graph(
            1,
            {"one": gle.Population(1, tau_m=1.0, tau_r=1 / ratio, phi="linear", bias=False)},
            [gle.Projection("input", "one"), gle.Projection("one", "one", delay=1)],
            ensemble=len(gains), dtype=torch.float64, device=device,
        )  # fmt: skip
    with torch.no_grad():
        net["input → one"].W.zero_()
        net["one → one (delayed)"].W.copy_(gains.reshape(1, -1, 1, 1))
    sim = gle.Simulation(net, dt=dt)
    sizes = []
    for target in (1.0, 0.0):  # a pulse, which then goes round
        x = torch.zeros(steps // 2 if not target else 4, 1, 1, dtype=torch.float64)
        for part in (x,) if target else x.chunk(2):
            record = gle.Record("e")
            sim.run(part, torch.full_like(part, target), record=record)
            sizes.append(record["e"]["one"][-(len(part) // 2) :].abs().amax(0).flatten())
    return sizes[2] < sizes[1]


def stability(ratio: float, coarse: bool, o: Recurrent) -> dict[str, Any]:
    """Measured and closed edges, with τr = dt (`coarse`), or with dt a twentieth of it."""
    dt = 1 / ratio if coarse else 0.05 / ratio
    closed = edges(ratio, dt)
    scale = torch.linspace(0.9, 1.1, o.points, dtype=torch.float64)
    found = []
    for edge in closed:
        fine = settled(ratio, dt, scale * edge, o.steps if coarse else 4 * o.steps, o.device)
        found.append(float(scale[fine].max() * edge) if fine.any() else 0.0)
    return {"closed": list(closed), "found": found}


def tiny(o: Recurrent) -> Recurrent:
    return dataclasses.replace(
        o, radii=[0.3, 0.9], omega_tau=[0.3, 1.0], ratios=[2.0, 5.0], width=3, batch=2, seeds=2, duration=6.0, points=5,
        steps=100,
    )  # fmt: skip


def run(o: Recurrent, run: Run) -> dict[str, Any]:
    return {
        "map": {
            row: {f"{r:g}": run.part(f"{row} {r:g}", partial(agreement, row, r, o)) for r in o.radii} for row in ROWS
        },
        "stability": {
            name: {f"{g:g}": run.part(f"{name} {g:g}", partial(stability, g, coarse, o)) for g in o.ratios}
            for name, coarse in (("τr = dt", True), ("τr = 20 dt", False))
        },
    }


def check(o: Recurrent) -> None:
    for name in ("radii", "omega_tau", "ratios"):
        if not getattr(o, name):
            raise ValueError(f"{name} is empty: give at least one value")
    for name, values in (("dt", [o.dt]), ("radii", o.radii), ("omega_tau", o.omega_tau), ("duration", [o.duration])):
        if bad := [v for v in values if not v > 0]:
            raise ValueError(f"{name} must be positive, got {bad[0]:g}")
    if bad := [g for g in (o.ratio, *o.ratios) if not g > 1]:
        raise ValueError(f"ratios are τm/τr > 1 (a retrospective neuron), got {bad[0]:g}")
    if min(o.width, o.batch, o.seeds) < 1 or o.points < 2 or o.steps < 20:
        raise ValueError("width, batch and seeds must be at least 1, points 2, steps 20")
    if 1 / o.ratio < o.dt * (1 - 1e-9):
        raise ValueError(f"tau_r = 1/ratio = {1 / o.ratio:g} is below dt = {o.dt:g}: lower dt or the ratio")
    if max(o.omega_tau) * o.dt >= math.pi:
        raise ValueError(f"ω = {max(o.omega_tau):g} is not below Nyquist's frequency, π/dt = {math.pi / o.dt:.3g}")
    if o.duration < 2 * o.dt:
        raise ValueError(f"duration = {o.duration:g} holds no two steps of {o.dt:g}")


def tables(result: Mapping[str, Any]) -> list[Table]:
    o, made = result["options"], []
    for what, title in (
        ("loop", "cosine with BPTT of the loop's weights"),
        ("norm", "their norm over that of BPTT"),
    ):
        rows = [("errors", "radius", "diverge", *(f"ωτm = {w:g}" for w in o["omega_tau"]))]
        for row, by_radius in result["map"].items():
            for radius, found in by_radius.items():
                cells = [mean_std(v, 2) for v in found[what]] or ["–"] * len(o["omega_tau"])
                rows.append((row, radius, f"{found['diverged']} of {o['seeds']}", *cells))
        made.append(Table(rows, f"{title}; τm/τr = {o['ratio']:g}"))
    rows = [("scheme", "τm/τr", "λ from", "closed", "λ to", "closed")]
    for name, by_ratio in result["stability"].items():
        for ratio, found in by_ratio.items():
            (low, high), (low_closed, high_closed) = found["found"], found["closed"]
            rows.append((name, ratio, f"{low:.4f}", f"{low_closed:.4f}", f"{high:.4f}", f"{high_closed:.4f}"))
    return [*made, Table(rows, "loop gains λ between which prospective errors settle")]


def draw(result: Mapping[str, Any]) -> plt.Figure:
    """The map, one panel a row, and the edges of stability beside their closed form."""
    o = result["options"]
    figure, axes = plt.subplots(1, len(ROWS) + 1, figsize=(3.1 * (len(ROWS) + 1), 3.2), layout="constrained")
    for ax, (row, by_radius) in zip(axes, result["map"].items(), strict=False):
        nothing = [[np.nan]] * len(o["omega_tau"])
        cosines = np.array([np.mean(f["loop"] or nothing, 1) for f in by_radius.values()])
        diverged = [f["diverged"] for f in by_radius.values()]
        image = ax.imshow(cosines, vmin=-1, vmax=1, cmap="RdBu", origin="lower", aspect="auto")
        for (i, j), c in np.ndenumerate(cosines):
            color = "white" if abs(c) > 0.7 else "black"
            text = "∞" if np.isnan(c) else f"{c:.2f}" + (f"\n{diverged[i]} of {o['seeds']} ∞" if diverged[i] else "")
            ax.text(j, i, text, ha="center", va="center", fontsize=6 if diverged[i] else 7, color=color)
        ax.set_xticks(range(len(o["omega_tau"])), [f"{v:g}" for v in o["omega_tau"]])
        ax.set_yticks(range(len(by_radius)), list(by_radius))
        ax.set(xlabel="ωτm", title=f"{row} errors" if row != "cut" else "errors cut at the loop (ε = 0)")
    axes[0].set_ylabel("spectral radius")
    figure.colorbar(image, ax=axes[: len(ROWS)], shrink=0.8, label="cosine with BPTT, loop's weights")
    last = axes[-1]
    fine = np.linspace(min(o["ratios"]), max(o["ratios"]), 200)
    for i, (name, by_ratio) in enumerate(result["stability"].items()):
        dts = 1 / fine if name == "τr = dt" else 0.05 / fine
        closed = np.array([edges(g, dt) for g, dt in zip(fine, dts, strict=True)])
        for side in (0, 1):
            last.plot(fine, closed[:, side], color=f"C{i}", lw=1)
            found = [f["found"][side] for f in by_ratio.values()]
            last.plot([float(g) for g in by_ratio], found, "o", color=f"C{i}", ms=4, label=name if side else None)
    last.axhline(0, color="0.7", lw=0.5)
    last.set(xlabel="τm/τr", ylabel="loop gain λ", title="prospective errors settle between", xscale="log")
    last.set_xticks(o["ratios"], [f"{g:g}" for g in o["ratios"]])
    last.set_xticks([], minor=True)
    last.legend(fontsize=7)
    return figure


benchmark = Benchmark(
    name="recurrent",
    summary="errors that go round in a recurrent layer: where they settle, and where their gradient is the exact one",
    Options=Recurrent,
    check=check,
    tiny=tiny,
    run=run,
    tables=tables,
    draw=lambda result: {"recurrent.png": draw(result)},
)

if __name__ == "__main__":
    main(benchmark)
