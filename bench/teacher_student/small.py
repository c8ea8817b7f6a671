"""GLE and the adjoint method on a network of five neurons (§2.6, §5.6.4, Fig. 6).

    python -m bench.teacher_student small

Settings are those of the paper's methods and of the published runs; where those leave something open, the option's
description says what was chosen.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
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


def network(bottom: Tensor) -> gle.Network:
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


TEACHER = torch.tensor([[-0.5], [1.0]], dtype=torch.float64)


def signals(o: Small, steps: int) -> tuple[Tensor, Tensor]:
    """Input and the teacher's output, [T, 1, 1], as a student's output is compared with it."""
    t = torch.arange(steps, dtype=torch.float64) * o.dt
    x = torch.stack([torch.sin(w * t) for w in FREQUENCIES]).sum(0).reshape(-1, 1, 1)
    y, _ = gle.Simulation(network(TEACHER), dt=o.dt, integrator=Euler(o.propagation)).predict(x)
    if o.propagation == "delayed":
        y = torch.cat([torch.zeros_like(y[:1]), y[:-1]])
    return x, y


def train(name: str, o: Small) -> dict[str, Any]:
    """Trains students with GLE or the adjoint; bottom weights and loss on the way, spectra before and at some time."""
    spectrum = Spectrum(round(o.window / o.dt), round(15 / o.dt), o)
    own = name == "gle"
    steps, n, stretch = (round(t / o.dt) for t in (o.duration, o.warm_up, o.stretch))
    x, y = signals(o, steps + spectrum.steps)
    bottom = torch.stack([2 * torch.rand(2, 1, generator=generator(s, "weights")) - 1 for s in range(o.seeds)])
    net = network(bottom.double())
    scheme: dict[str, Any] = {"dt": o.dt, "integrator": Euler(o.propagation), "gamma": o.gamma if own else 0.0}
    warm = gle.Simulation(net, **scheme)
    warm.run(x[:n], y[:n])
    spectra = {"before": spectrum(warm, x[n:], y[n:])}
    lr, every, rule = (o.lr_gle, 1, None) if own else (o.lr_am, stretch, rules.Adjoint())
    plasticity = gle.Plasticity("sgd", lr=lr * o.dt, learn=("W",), every=every)
    sim = gle.Simulation(net, **scheme, plasticity=plasticity, rule=rule, compile=own and not o.smoke)
    sim.carry = sim.carry._replace(state=warm.carry.state)
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
        sim.run(x[here], y[here])
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


def tiny(o: Small) -> Small:
    return dataclasses.replace(o, seeds=2, warm_up=5.0, duration=30.0, during=12.0, window=10.0)


def check(o: Small) -> None:
    """Raises ValueError with the value and what it must be."""
    if not 0 < o.dt <= 0.1:
        raise ValueError(f"dt must be positive and not above tau_r = 0.1 of the retrospective neurons, got {o.dt:g}")
    learning = o.duration - o.warm_up
    if not o.dt <= o.stretch <= learning:
        raise ValueError(
            f"stretch = {o.stretch:g} must lie between dt = {o.dt:g} and the {learning:g} time units of learning"
        )
    if not o.warm_up <= o.during < o.duration - o.stretch:
        raise ValueError(f"during = {o.during:g} must lie within the time of learning, {o.warm_up:g} to {o.duration:g}")


def run(o: Small, run: Run) -> dict[str, Any]:
    return {
        "teacher": TEACHER[:, 0].tolist(),
        "frequencies": FREQUENCIES,
        "rules": {name: run.part(name, partial(train, name, o)) for name in ("gle", "adjoint")},
    }


def tables(result: Mapping[str, Any]) -> list[Table]:
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
    return [Table(ends), Table(phases)]


def draw(result: Mapping[str, Any]) -> plt.Figure:
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
    return figure


benchmark = Benchmark(
    name="teacher_student small",
    summary="errors e against adjoint variables λ in a small network (Fig. 6)",
    Options=Small,
    check=check,
    tiny=tiny,
    run=run,
    tables=tables,
    draw=lambda result: {"small.png": draw(result)},
    score=Score(
        "log₁₀ of the loss of GLE",
        of=lambda result: np.log10(result["rules"]["gle"]["loss"][-1]).tolist(),
        larger=False,
        curve=lambda result: Curve(
            "time", result["rules"]["gle"]["time"], np.log10(result["rules"]["gle"]["loss"]).tolist()
        ),
    ),
)
