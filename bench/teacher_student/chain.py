"""GLE, instantaneous BP and BPTT on a chain of two neurons (§2.5, §5.6.3, Figs. 5, 14 and 15).

    python -m bench.teacher_student chain

Settings are those of the paper's methods and of the published runs; where those leave something open, the option's
description says what was chosen.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Optional

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

import gle
from bench.kit.benchmark import Benchmark, Curve, Score
from bench.kit.figures import plt
from bench.kit.folder import Run
from bench.kit.options import Options
from bench.kit.tables import Table
from gle import rules
from gle.integrators import Euler
from gle.seeding import generator


@dataclass
class Chain(Options):
    """Two neurons in series learn a teacher's weights and membrane time constants (Figs. 5, 14; 15 with noise).

    Args:
        seeds: students, trained side by side; weights and τm of each from U(0, 1), τm not below 10 dt.
        rows: what to train: gle, instantaneous, or bptt with its window in time units.
        duration: of learning, in time units.
        warm_up: time units before it.
        noise: standard deviation of the noise on all rates, relative to the amplitude of the input (Fig. 15: 0.1);
            white, drawn anew at each step.
        dt: step.
        batch: shifted copies of the input.
        lr: of Adam for the online rules; BPTT uses lr times the steps of its window.
        beta2: of Adam, how long it remembers the size of past gradients; 0.999 as published.
        halving: time units in which the learning rate halves; none, as published, leaves it constant.
        beta: nudging strength of the online rules.
        gamma: somato-dendritic coupling of GLE; the others have none.
    """

    seeds: int = 5
    rows: list[str] = field(default_factory=lambda: ["gle", "instantaneous", "bptt 4", "bptt 2", "bptt 1"])
    duration: float = 4000.0
    warm_up: float = 50.0
    noise: float = 0.0
    dt: float = 0.01
    batch: int = 100
    lr: float = 1e-4
    beta2: float = 0.999
    halving: Optional[float] = None
    beta: float = 0.01
    gamma: float = 1.0


PERIOD = 4.0  # time units of the square wave
SETTLE = 16  # periods after which transients are gone: exp(−64/τ) of them is left
TEACHER = {"w": (1.0, 2.0), "tau_m": (1.0, 2.0)}
TAU_R = 0.1


def network(w: Tensor, tau_m: Tensor) -> gle.Network:
    """1 → 1 → 1, softplus, without biases. w, tau_m: [2, *ensemble]."""
    common: dict[str, Any] = {"phi": "softplus", "bias": False, "dtype": torch.float64, "depth": 2}
    tau = tau_m.unsqueeze(-1)
    net = gle.Network([gle.Layer(1, 1, tau_m=tau, tau_r=TAU_R, ensemble=tuple(w.shape[1:]), **common)])
    with torch.no_grad():
        net.layers[0].W.copy_(w[..., None, None])
    return net


def square_wave(o: Chain) -> Tensor:
    """One period of the input, smoothed and shifted: [steps, batch, 1]."""
    steps = round(PERIOD / o.dt)
    wave = np.where(np.arange(steps) < steps // 2, 1.0, -1.0)
    wave = gaussian_filter1d(wave, sigma=5, mode="wrap")
    shifts = torch.rand(o.batch, generator=generator(0, "shifts")) * (steps // 2)
    shifted = np.stack([np.roll(wave, int(s)) for s in shifts], 1)
    return torch.as_tensor(shifted).unsqueeze(-1)


def student(o: Chain) -> gle.Network:
    w, tau_m = (
        torch.stack([torch.rand(2, generator=generator(s, purpose), dtype=torch.float64) for s in range(o.seeds)], 1)
        for purpose in ("weights", "tau_m")
    )
    return network(w, tau_m.clamp(min=10 * o.dt))


def targets(o: Chain, x: Tensor) -> Tensor:
    """The teacher's output over one period once its transient has died, as a student's output is compared with it: the
    rate of the step before."""
    teacher = gle.Simulation(network(*(torch.tensor(v) for v in TEACHER.values())), dt=o.dt)
    state = None
    for _ in range(SETTLE):
        y, state = teacher.predict(x, state=state)
    return y.roll(1, 0)


class Noisy(Euler):
    """Euler's step with white noise on every rate, as the neighbours see it in the next step."""

    def __init__(self, sigma: float, noise: torch.Generator):
        super().__init__()
        self.sigma, self.noise = sigma, noise

    def step(self, net, theta, state, xs, targets, dynamics):
        new, local = super().step(net, theta, state, xs, targets, dynamics)
        noise = (torch.randn(s.r.shape, generator=self.noise, dtype=s.r.dtype) for s in new)
        return tuple(s._replace(r=s.r + self.sigma * n) for s, n in zip(new, noise, strict=True)), local


def rule_of(row: str, o: Chain) -> tuple[rules.Rule, int]:
    """The rule of a row and the steps of its stretch. BPTT is the matched adjoint: the same gradient, faster."""
    name, *window = row.split()
    if name == "gle" and not window:
        return rules.GLE(), 1
    if name == "instantaneous" and not window:
        return rules.Instantaneous(), 1
    if name == "bptt" and len(window) == 1:
        steps = float(window[0]) / o.dt
        if steps < 1 or abs(steps - round(steps)) > 1e-6:
            raise ValueError(f"the window of {row!r} must be a multiple of dt = {o.dt:g}")
        if steps > round(PERIOD / o.dt):
            raise ValueError(f"the window of {row!r} is longer than the input's period of {PERIOD:g} time units")
        return rules.Adjoint(matched=True), round(steps)
    raise ValueError(f"unknown row {row!r}: choose gle, instantaneous, or bptt and its window, e.g. 'bptt 4'")


def train(row: str, o: Chain) -> dict[str, Any]:
    """Trains the students of one row; their parameters and losses on the way."""
    rule, stretch = rule_of(row, o)
    own = row == "gle"
    x, net = square_wave(o), student(o)
    y = targets(o, x)
    rate = o.lr * stretch
    sim = gle.Simulation(
        net,
        dt=o.dt,
        integrator=Noisy(o.noise, generator(0, "noise")) if o.noise else "euler",
        beta=o.beta if stretch == 1 else 1.0,
        gamma=o.gamma if own else 0.0,
        plasticity=gle.Plasticity(
            gle.Adam(betas=(0.9, o.beta2)), 0.0, ("W", "tau_m"), stretch, tau_bounds=(10 * o.dt, math.inf)
        ),
        rule=rule,
        compile=own and not o.noise and not o.smoke,
    )
    for _ in range(round(o.warm_up / PERIOD)):
        sim.run(x, y)
    # Adam's memory of the warm-up would be that of rules that did not run
    assert sim.plasticity is not None
    sim.carry = sim.carry._replace(learning=sim.plasticity.init(net))

    times = [0.0]
    curve = [snapshot(sim, x, y)]
    before = signals(sim, rule, x, y)
    periods = round(o.duration / PERIOD)
    shown = set(np.unique(np.geomspace(1, periods, 200).round().astype(int)))  # the figure's axis is logarithmic
    for n in range(1, periods + 1):
        sim.set_lr(rate * 0.5 ** ((n - 1) * PERIOD / o.halving) if o.halving else rate)
        sim.run(x, y)
        if n in shown:
            times.append(n * PERIOD)
            curve.append(snapshot(sim, x, y))
    kept = {name: [c[name] for c in curve] for name in curve[0]}
    return {"row": row, "time": times, **kept, "before": before, "after": signals(sim, rule, x, y)}


def snapshot(sim: gle.Simulation, x: Tensor, y: Tensor) -> dict[str, Any]:
    """Parameters [layer][seed], and C of each frozen student without noise, averaged over batch and a period once its
    transient has died."""
    (theta,) = sim.carry.theta
    free = gle.Simulation(sim.network, dt=sim.dynamics.dt)
    state = None
    for _ in range(SETTLE):
        outputs, state = free.predict(x, theta=sim.carry.theta, state=state)
    cost = sim.dynamics.cost.value(outputs, y.roll(-1, 0).unsqueeze(1))
    return {
        "w": theta.W[..., 0, 0].tolist(),
        "tau_m": theta.tau_m[..., 0].tolist(),
        "loss": cost.mean((0, -1)).tolist(),
    }


def signals(sim: gle.Simulation, rule: rules.Rule, x: Tensor, y: Tensor) -> dict[str, Any]:
    """Target, output and the rule's errors of the first student and sample over the period after next, frozen, each
    per unit of β."""
    credit = rules.assign(rule, sim, torch.cat([x] * 3), torch.cat([y] * 3))
    shown = slice(len(x), 2 * len(x))
    assert credit.errors is not None
    return {
        "input": x[:, 0, 0].tolist(),
        "target": y[:, 0, 0].tolist(),
        "output": credit.outputs[shown, 0, 0, 0].tolist(),
        "errors": [(e[shown, 0, 0, 0] / sim.dynamics.beta).tolist() for e in credit.errors],
    }


def tiny(o: Chain) -> Chain:
    return dataclasses.replace(o, seeds=2, duration=8.0, warm_up=4.0, batch=4, rows=o.rows[:3], dt=0.02)


def check(o: Chain) -> None:
    """Raises ValueError with the value and what it must be."""
    if o.dt <= 0 or abs(PERIOD / o.dt - round(PERIOD / o.dt)) > 1e-6:
        raise ValueError(f"dt must divide the input's period of {PERIOD:g} time units, got {o.dt:g}")
    if o.dt > TAU_R:
        raise ValueError(f"dt = {o.dt:g} is above tau_r = {TAU_R:g} of the chain: lower it")
    gle.Adam(betas=(0.9, o.beta2))  # complains of a bad one
    if o.halving is not None and not o.halving > 0:
        raise ValueError(f"halving must be a positive number of time units, got {o.halving:g}")
    if o.duration < PERIOD:
        raise ValueError(f"duration must be at least one period of {PERIOD:g} time units, got {o.duration:g}")
    for row in o.rows:
        rule_of(row, o)


def run(o: Chain, run: Run) -> dict[str, Any]:
    return {
        "name": "chain" + "_noise" * bool(o.noise) + "_annealed" * bool(o.halving),
        "teacher": TEACHER,
        "rows": [run.part(row, partial(train, row, o)) for row in o.rows],
    }


def table(result: Mapping[str, Any]) -> Table:
    """After learning: loss (geometric mean and largest over students) and the largest relative distance of weights and
    time constants from the teacher's, of the worst student; how many students are within 1 %."""
    rows: list[tuple[str, ...]] = [("rule", "loss", "worst", "w off by", "τm off by", "students within 1 %")]
    for r in result["rows"]:
        loss = np.array(r["loss"][-1])
        off = {
            k: np.abs(np.array(r[k][-1]) / np.array(result["teacher"][k])[:, None] - 1).max(0) for k in ("w", "tau_m")
        }
        within = int(((off["w"] < 0.01) & (off["tau_m"] < 0.01)).sum())
        rows.append(
            (
                r["row"],
                f"{np.exp(np.log(loss).mean()):.1e}",
                f"{loss.max():.1e}",
                f"{100 * off['w'].max():.3g} %",
                f"{100 * off['tau_m'].max():.3g} %",
                f"{within} of {len(loss)}",
            )
        )
    return Table(rows)


def draw(result: Mapping[str, Any]) -> plt.Figure:
    """Weights, time constants and loss over time, and the errors before and after learning (Figs. 5, 14)."""
    figure = plt.figure(figsize=(10, 6.5), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[3, 2])  # type: ignore[misc]
    axes = left.subplots(3, 2)
    for i, row in enumerate(result["rows"]):
        time = np.array(row["time"])[1:]
        for (name, layer), ax in zip([("w", 0), ("w", 1), ("tau_m", 0), ("tau_m", 1)], axes[:2].flatten(), strict=True):
            ax.plot(time, np.array(row[name])[1:, layer], color=f"C{i}", linewidth=0.8)
            ax.set_title({"w": "w", "tau_m": "τm "}[name] + str(layer), fontsize=9)
        axes[2, 0].plot(time, np.exp(np.log(np.array(row["loss"])[1:]).mean(1)), color=f"C{i}", label=row["row"])
    for (name, layer), ax in zip([("w", 0), ("w", 1), ("tau_m", 0), ("tau_m", 1)], axes[:2].flatten(), strict=True):
        ax.axhline(result["teacher"][name][layer], color="0.3", linestyle=":", linewidth=1)
    for ax in axes.flatten():
        ax.set(xscale="log")
    axes[2, 0].set(yscale="log", xlabel="time", title="loss (geometric mean over students)")
    axes[2, 1].axis("off")
    axes[2, 1].legend(*axes[2, 0].get_legend_handles_labels(), loc="center", fontsize=8)
    shown = [r for r in result["rows"] if r["row"] in ("gle", "instantaneous", "bptt 4")]
    panels = right.subplots(4, 2, sharex=True)
    for column, when in enumerate(("before", "after")):
        signals = result["rows"][0][when]
        time = np.arange(len(signals["target"])) * result["options"]["dt"]
        panels[0, column].plot(time, signals["input"], color="0.6")
        panels[1, column].plot(time, signals["target"], "k:", time, signals["output"], "C3")
        for row in shown:
            color = f"C{result['rows'].index(row)}"
            for layer in (0, 1):
                panels[3 - layer, column].plot(time, row[when]["errors"][layer], color=color, linewidth=0.8)
        panels[0, column].set_title(f"{when} learning", fontsize=9)
        panels[3, column].set_xlabel("time")
    for ax, label in zip(panels[:, 0], ("input", "output, target", "error 2", "error 1"), strict=True):
        ax.set_ylabel(label, fontsize=8)
    return figure


benchmark = Benchmark(
    name="teacher_student chain",
    summary="GLE, instantaneous BP and BPTT learn a chain's weights and time constants (Figs. 5, 14, 15)",
    Options=Chain,
    check=check,
    tiny=tiny,
    run=run,
    tables=lambda result: [table(result)],
    draw=lambda result: {"chain.png": draw(result)},
    score=Score(
        "log₁₀ of the loss of the first rule",
        of=lambda result: np.log10(result["rows"][0]["loss"][-1]).tolist(),
        larger=False,
        curve=lambda result: Curve("time", result["rows"][0]["time"], np.log10(result["rows"][0]["loss"]).tolist()),
    ),
)
