"""Teacher and student (§2.5, §2.6, §5.6.3, §5.6.4): Figs. 5, 14 and 15 (`chain`), and Fig. 6 (`small`).

    python -m bench.teacher_student chain     GLE, instantaneous BP and BPTT on a chain of two neurons
    python -m bench.teacher_student small     GLE and the adjoint method on a network of five

Settings are those of the paper's methods and of the published runs; where those leave something open, the option's
description says what was chosen.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Optional

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

import gle
from bench.figures import plt, save
from bench.study import Options, Study, main, plain
from bench.tables import layout
from gle import rules
from gle.integrators import Euler
from gle.seeding import generator

# -- the chain (Fig. 5) ------------------------------------------------------------------------------------------------


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
CHAIN_TAU_R = 0.1


def chain_network(w: Tensor, tau_m: Tensor) -> gle.Network:
    """1 → 1 → 1, softplus, without biases. w, tau_m: [2, *ensemble]."""
    common: dict[str, Any] = {"phi": "softplus", "bias": False, "dtype": torch.float64, "depth": 2}
    tau = tau_m.unsqueeze(-1)
    net = gle.Network([gle.Layer(1, 1, tau_m=tau, tau_r=CHAIN_TAU_R, ensemble=tuple(w.shape[1:]), **common)])
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


def chain_student(o: Chain) -> gle.Network:
    w, tau_m = (
        torch.stack([torch.rand(2, generator=generator(s, purpose), dtype=torch.float64) for s in range(o.seeds)], 1)
        for purpose in ("weights", "tau_m")
    )
    return chain_network(w, tau_m.clamp(min=10 * o.dt))


def chain_targets(o: Chain, x: Tensor) -> Tensor:
    """The teacher's output over one period once its transient has died, as a student's output is compared with it: the
    rate of the step before."""
    teacher = gle.Simulation(chain_network(*(torch.tensor(v) for v in TEACHER.values())), dt=o.dt)
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


def chain_rule(row: str, o: Chain) -> tuple[rules.Rule, int]:
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


def chain_row(row: str, o: Chain) -> dict[str, Any]:
    """Trains the students of one row; their parameters and losses on the way."""
    rule, stretch = chain_rule(row, o)
    own = isinstance(rule, rules.GLE)  # the simulation's own plasticity
    x, net = square_wave(o), chain_student(o)
    y = chain_targets(o, x)
    rate = o.lr * stretch
    sim = gle.Simulation(
        net,
        dt=o.dt,
        integrator=Noisy(o.noise, generator(0, "noise")) if o.noise else "euler",
        beta=o.beta if stretch == 1 else 1.0,
        gamma=o.gamma if own else 0.0,
        plasticity=gle.Plasticity(
            gle.Adam(betas=(0.9, o.beta2)), lr=0.0, learn=("W", "tau_m"), tau_bounds=(10 * o.dt, math.inf)
        ),
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
        if own:
            sim.run(x, y)
        else:
            rules.learn(rule, sim, x, y, stretch=stretch)
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


def chain(o: Chain) -> dict[str, Any]:
    if o.smoke:
        o = dataclasses.replace(o, seeds=2, duration=8.0, warm_up=4.0, batch=4, rows=o.rows[:3], dt=0.02)
    if o.dt <= 0 or abs(PERIOD / o.dt - round(PERIOD / o.dt)) > 1e-6:
        raise ValueError(f"dt must divide the input's period of {PERIOD:g} time units, got {o.dt:g}")
    if o.dt > CHAIN_TAU_R:
        raise ValueError(f"dt = {o.dt:g} is above tau_r = {CHAIN_TAU_R:g} of the chain: lower it")
    gle.Adam(betas=(0.9, o.beta2))  # complains of a bad one before any work is done
    if o.halving is not None and not o.halving > 0:
        raise ValueError(f"halving must be a positive number of time units, got {o.halving:g}")
    if o.duration < PERIOD:
        raise ValueError(f"duration must be at least one period of {PERIOD:g} time units, got {o.duration:g}")
    for row in o.rows:
        chain_rule(row, o)
    study = Study("teacher_student", o)
    result = study.finish(
        {
            "name": "chain" + "_noise" * bool(o.noise) + "_annealed" * bool(o.halving),
            "options": plain(o),
            "teacher": TEACHER,
            "rows": [study.part(row.replace(" ", "_"), partial(chain_row, row, o)) for row in o.rows],
        }
    )
    draw_chain(result, study.path / "chain.png")
    print(layout(chain_table(result)))
    print(f"results: {study.path}")
    return result


def chain_table(result: dict[str, Any]) -> list[tuple[str, ...]]:
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
    return rows


def draw_chain(result: Mapping[str, Any], path: Path) -> None:
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
    save(figure, path)


# -- the small network (Fig. 6) ----------------------------------------------------------------------------------------


@dataclass
class Small(Options):
    """Two hidden layers of an instantaneous and a retrospective neuron; only the bottom weights learn (Fig. 6).

    Args:
        seeds: students; their bottom weights uniform in ± 1.
        warm_up: time units without learning.
        duration: time units in all.
        during: time of the second spectrum, while learning is under way.
        window: time units of a spectrum, with weights held.
        dt: step.
        lr_gle: learning rate of GLE, per time unit (plain gradient descent).
        lr_am: learning rate of the adjoint method, per time unit.
        stretch: time units between updates of the adjoint method.
        gamma: somato-dendritic coupling of GLE.
        propagation: of signals between layers, delayed (as published) or instant.
    """

    seeds: int = 5
    warm_up: float = 80.0
    duration: float = 8000.0
    during: float = 150.0
    window: float = 80.0
    dt: float = 0.01
    lr_gle: float = 2e-2
    lr_am: float = 7e-2
    stretch: float = 3.0
    gamma: float = 1e-3
    propagation: Literal["delayed", "instant"] = "delayed"


FREQUENCIES = (0.49, 1.07, 1.98)  # ω of the input's sines
NEURONS = ("instantaneous", "retrospective")
POINTS = 500  # of the learning curves
THIN = 10  # steps between two points of the signals that are kept for the figure


def small_network(bottom: Tensor) -> gle.Network:
    """1 → 2 → 2 → 1 with the teacher's upper weights, fixed. bottom: [*ensemble, 2, 1]."""
    ensemble = tuple(bottom.shape[:-2])
    common: dict[str, Any] = {"bias": False, "dtype": torch.float64, "ensemble": ensemble}
    hidden: dict[str, Any] = {"tau_m": 1.0, "tau_r": [1.0, 0.1], "phi": "tanh", **common}
    net = gle.Network(
        [
            gle.Layer(1, 2, **hidden),
            gle.Layer(2, 2, plastic=False, **hidden),
            gle.Layer(2, 1, plastic=False, tau_m=1.0, tau_r=1.0, phi="linear", **common),
        ]
    )
    with torch.no_grad():
        net.layers[0].W.copy_(bottom)
        net.layers[1].W.copy_(torch.diag(torch.tensor([0.5, 1.0])))
        net.layers[2].W.copy_(torch.tensor([[0.5, 1.0]]))
    return net


SMALL_TEACHER = torch.tensor([[-0.5], [1.0]], dtype=torch.float64)


def small_signals(o: Small, steps: int) -> tuple[Tensor, Tensor]:
    """Input and the teacher's output, [T, 1, 1], as a student's output is compared with it."""
    t = torch.arange(steps, dtype=torch.float64) * o.dt
    x = torch.stack([torch.sin(w * t) for w in FREQUENCIES]).sum(0).reshape(-1, 1, 1)
    y, _ = gle.Simulation(small_network(SMALL_TEACHER), dt=o.dt, integrator=Euler(o.propagation)).predict(x)
    if o.propagation == "delayed":
        y = torch.cat([torch.zeros_like(y[:1]), y[:-1]])
    return x, y


def small_row(rule: rules.Rule, o: Small) -> dict[str, Any]:
    """Trains the students with one rule; bottom weights and loss on the way, and spectra before and during learning."""
    own = isinstance(rule, rules.GLE)  # the simulation's own plasticity
    spectrum = Spectrum(round(o.window / o.dt), round(15 / o.dt), o)
    steps = round(o.duration / o.dt)
    x, y = small_signals(o, steps + spectrum.steps)
    bottom = torch.stack([2 * torch.rand(2, 1, generator=generator(s, "weights")) - 1 for s in range(o.seeds)])
    sim = gle.Simulation(
        small_network(bottom.double()),
        dt=o.dt,
        integrator=Euler(o.propagation),
        gamma=o.gamma if own else 0.0,
        plasticity=gle.Plasticity("sgd", lr=0.0, learn=("W",)),
        compile=own and not o.smoke,
    )
    n, stretch = round(o.warm_up / o.dt), round(o.stretch / o.dt)
    sim.run(x[:n], y[:n])
    spectra = {"before": spectrum(sim, x[n:], y[n:])}
    sim.set_lr((o.lr_gle if own else o.lr_am) * o.dt)
    time, weights, loss = [], [], []
    updates = (steps - n) // stretch
    for update in range(updates):
        if n * o.dt >= o.during and "during" not in spectra:
            spectra["during"] = spectrum(sim, x[n:], y[n:])
        here = slice(n, n + stretch)
        if update % math.ceil(updates / POINTS) == 0 or update == updates - 1:
            time.append(n * o.dt)
            weights.append(sim.carry.theta[0].W[0, :, :, 0].tolist())
            outputs, _ = sim.predict(x[here], state=sim.carry.state)
            at = n + (o.propagation == "delayed")  # where the target of the output at step n stands
            loss.append(sim.dynamics.cost.value(outputs, y[at : at + stretch].unsqueeze(1)).mean((0, -1)).tolist())
        if own:
            sim.run(x[here], y[here])
        else:
            rules.learn(rule, sim, x[here], y[here], stretch=stretch)
        n += stretch
    return {"time": time, "weights": weights, "loss": loss, "spectra": spectra}


class Spectrum:
    """Bottom errors of GLE and adjoint variables λ of the same frozen students, relative to the output's error."""

    def __init__(self, window: int, margin: int, o: Small):
        self.window, self.margin, self.o = window, margin, o
        self.steps = window + 2 * margin  # the transients of e are at the beginning, those of λ at the end

    def __call__(self, sim: gle.Simulation, x: Tensor, y: Tensor) -> dict[str, Any]:
        """Phase shift and amplitude at the input's frequencies, [neuron][frequency][seed], and both signals of the
        first student."""
        found: dict[str, Any] = {}
        for name, rule, gamma in (("e", rules.GLE(), self.o.gamma), ("lambda", rules.Adjoint(), 0.0)):
            frozen = gle.Simulation(sim.network, dt=self.o.dt, integrator=sim.integrator, gamma=gamma)
            frozen.carry = frozen.carry._replace(theta=sim.carry.theta, state=sim.carry.state)
            credit = rules.assign(rule, frozen, x[: self.steps], y[: self.steps])
            assert credit.errors is not None
            shown = slice(self.margin, self.margin + self.window)
            bottom, top = (credit.errors[l][shown, :, 0] for l in (0, -1))  # [T, seeds, neurons]
            ratio = self.components(bottom) / self.components(top)  # [frequencies, seeds, neurons]
            found[name] = {
                "phase": ratio.angle().permute(2, 0, 1).tolist(),
                "amplitude": self.components(bottom).abs().permute(2, 0, 1).tolist(),
                "signal": bottom[::THIN, 0].T.tolist(),
                "output": credit.outputs[shown, 0, 0, 0][::THIN].tolist(),
            }
        return {**found, "target": y[shown, 0, 0][::THIN].tolist(), "input": x[shown, 0, 0][::THIN].tolist()}

    def components(self, signal: Tensor) -> Tensor:
        """Complex amplitudes at the input's frequencies, under a Hann window: [T, …] → [frequencies, …]."""
        t = torch.arange(len(signal), dtype=torch.float64) * self.o.dt
        hann = torch.hann_window(len(signal), dtype=torch.float64)
        waves = torch.stack([torch.exp(-1j * w * t) for w in FREQUENCIES]) * hann * (2 / hann.sum())
        return torch.tensordot(waves, signal.to(waves.dtype), 1)


def small(o: Small) -> dict[str, Any]:
    if o.smoke:
        o = dataclasses.replace(o, seeds=2, warm_up=5.0, duration=30.0, during=12.0, window=10.0)
    if not 0 < o.dt <= 0.1:
        raise ValueError(f"dt must be positive and not above tau_r = 0.1 of the retrospective neurons, got {o.dt:g}")
    learning = o.duration - o.warm_up
    if not o.dt <= o.stretch <= learning:
        raise ValueError(
            f"stretch = {o.stretch:g} must lie between dt = {o.dt:g} and the {learning:g} time units of learning"
        )
    if not o.warm_up <= o.during < o.duration - o.stretch:
        raise ValueError(f"during = {o.during:g} must lie within the time of learning, {o.warm_up:g} to {o.duration:g}")
    study = Study("teacher_student", o)
    result = study.finish(
        {
            "name": "small",
            "options": plain(o),
            "teacher": SMALL_TEACHER[:, 0].tolist(),
            "frequencies": FREQUENCIES,
            "rules": {
                "gle": study.part("gle", partial(small_row, rules.GLE(), o)),
                "adjoint": study.part("adjoint", partial(small_row, rules.Adjoint(), o)),
            },
        }
    )
    draw_small(result, study.path / "small.png")
    for rows in small_tables(result):
        print(layout(rows), "\n")
    print(f"results: {study.path}")
    return result


def small_tables(result: dict[str, Any]) -> list[list[tuple[str, ...]]]:
    """Weights at the end, and since when they are within 5 % of the teacher's; how far phases of e and λ differ: over
    all students, as the phase of their mean cross-spectrum e λ*, and in single ones."""
    ends: list[tuple[str, ...]] = [("rule", "weight", "teacher", "at the end", "within 5 % from")]
    for name, r in result["rules"].items():
        weights = np.array(r["weights"])  # [time, seed, neuron]
        for k, (neuron, teacher) in enumerate(zip(NEURONS, result["teacher"], strict=True)):
            off = np.abs(weights[:, :, k] / teacher - 1) > 0.05
            # the first moment after which it stays there
            since = [r["time"][int(np.flatnonzero(o).max(initial=-1)) + 1] if not o[-1] else math.inf for o in off.T]
            last = weights[-1, :, k]
            ends.append(
                (name, neuron, f"{teacher:g}", f"{last.mean():.4f} ± {last.std(ddof=1):.4f}", f"{np.mean(since):.0f}")
            )
    phases: list[tuple[str, ...]] = [
        ("GLE, when", "neuron", "ω", "phase of e λ*: all", "median", "largest", "amplitude of e / λ: median")
    ]
    for when, spectrum in result["rules"]["gle"]["spectra"].items():
        for k, neuron in enumerate(NEURONS):
            for j, w in enumerate(FREQUENCIES):
                e, lam = (
                    {what: np.array(spectrum[n][what][k][j]) for what in ("phase", "amplitude")}
                    for n in ("e", "lambda")
                )
                shift = np.exp(1j * (e["phase"] - lam["phase"]))
                all_students = np.angle(np.sum(e["amplitude"] * lam["amplitude"] * shift))
                off = np.abs(np.angle(shift))
                ratio = np.median(e["amplitude"] / lam["amplitude"])
                figures = (all_students, np.median(off), off.max())
                phases.append((when, neuron, f"{w:g}", *(f"{f:.3f}" for f in figures), f"{ratio:.2f}"))
    return [ends, phases]


def draw_small(result: Mapping[str, Any], path: Path) -> None:
    """Signals, phases and amplitudes before and during learning, bottom weights and loss (Fig. 6b–f)."""
    figure, axes = plt.subplots(3, 4, figsize=(13, 8), layout="constrained")
    names, learned = ("instantaneous", "retrospective"), result["rules"]["gle"]
    for row, when in enumerate(("before", "during")):
        s = learned["spectra"][when]
        time = np.arange(len(s["target"])) * THIN * result["options"]["dt"]
        axes[row, 0].plot(time, s["input"], color="0.8", linewidth=0.7)
        axes[row, 0].plot(time, s["e"]["output"], "C3", time, s["target"], "k:", linewidth=0.9)
        axes[row, 0].set(title=f"{when} learning: output, target (…), input", xlabel="time")
        for k in range(2):
            axes[row, 1].plot(time, s["e"]["signal"][k], f"C{k}", linewidth=0.7, label=f"e {names[k]}")
            axes[row, 1].plot(
                time, s["lambda"]["signal"][k], f"C{k}", linestyle="--", linewidth=1, label=f"λ {names[k]}"
            )
            for name, style in (("e", "o"), ("lambda", "x")):
                phase, amplitude = (np.array(s[name][what][k]).mean(1) for what in ("phase", "amplitude"))
                axes[row, 2].plot(result["frequencies"], phase, style, color=f"C{k}")
                axes[row, 3].plot(result["frequencies"], amplitude, style, color=f"C{k}")
        axes[row, 1].set(title="bottom errors e, adjoint λ (--)", xlabel="time")
        axes[row, 1].legend(fontsize=6)
        axes[row, 2].set(title="phase against the output error (e: o, λ: x)", xlabel="ω")
        axes[row, 3].set(title="amplitude (e: o, λ: x)", xlabel="ω", yscale="log")
    for name, style in (("gle", "-"), ("adjoint", "--")):
        r = result["rules"][name]
        weights = np.array(r["weights"])
        for k in range(2):
            axes[2, 0].plot(r["time"], weights[:, :, k], style, color=f"C{k}", linewidth=0.7)
            axes[2, 0].axhline(result["teacher"][k], color="0.3", linestyle=":")
        axes[2, 1].semilogy(r["time"], np.array(r["loss"]).mean(1), style, color="C2", label=name)
    axes[2, 0].set(title="bottom weights (GLE —, adjoint --)", xlabel="time")
    axes[2, 1].set(title="loss, mean over students", xlabel="time")
    axes[2, 1].legend(fontsize=7)
    axes[2, 2].axis("off")
    axes[2, 3].axis("off")
    save(figure, path)


if __name__ == "__main__":
    main({"chain": (Chain, chain), "small": (Small, small)})
