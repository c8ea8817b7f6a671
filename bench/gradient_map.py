"""Where GLE's gradient can be trusted: its cosine with the exact one, over time scales, depth and discretisation.

    python -m bench.gradient_map

Random tanh networks see sines of ω = 1 and are to produce sines of the same frequency; parameters are frozen. Once
transients have died, every rule assigns credit over the same stretch, and its gradient of all hidden weights, and of
the bottom ones alone, is compared with the exact gradient of the same simulated network. Networks that differ in time
constants and seeds run as one ensemble.

A single frequency flatters a rule whose gain depends on frequency alone: the whole map is drawn a second time for sums
of several tones around ω = 1.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping
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
from bench.kit.tables import Table
from gle import rules
from gle.analysis import alignment
from gle.integrators import Euler, Exponential, Integrator
from gle.seeding import generator


@dataclass
class Map(DeviceOptions):
    """What to compare, and on which networks.

    Args:
        omega_tau: values of ωτm, at ratio; τm is the same in all hidden neurons.
        ratios: values of τm/τr, at ωτm = 1.
        ratio: τm/τr where it is not varied.
        tones: frequencies ω of the second map, each with its own random phase.
        depths: numbers of hidden layers.
        gammas: somato-dendritic couplings γ, at depth.
        betas: nudging strengths β, for each γ; without coupling they leave the direction alone.
        dts: steps, at depth.
        dt: step where it is not varied.
        depth: where it is not varied.
        width: neurons of a hidden layer.
        batch: samples; phases of inputs and targets are random.
        seeds: networks per point.
        duration: of the stretch, in time units, and of the warm-up before it.
    """

    omega_tau: list[float] = field(default_factory=lambda: [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0])
    ratios: list[float] = field(default_factory=lambda: [1.0, 1.5, 2.0, 3.0, 5.0, 10.0])
    ratio: float = 5.0
    tones: list[float] = field(default_factory=lambda: [0.3, 0.6, 1.0, 1.7, 3.0])
    depths: list[int] = field(default_factory=lambda: [1, 2, 3, 4, 5, 6])
    gammas: list[float] = field(default_factory=lambda: [0.0, 0.01, 0.1, 0.3, 1.0])
    betas: list[float] = field(default_factory=lambda: [0.1, 1.0])
    dts: list[float] = field(default_factory=lambda: [0.02, 0.05, 0.1, 0.2])
    dt: float = 0.02
    depth: int = 4
    width: int = 8
    batch: int = 4
    seeds: int = 5
    duration: float = 60.0


INPUTS, OUTPUTS = 2, 2
SCHEMES: dict[str, Callable[[], Integrator]] = {
    "euler delayed": Euler,
    "euler instant": partial(Euler, "instant"),
    "exponential delayed": Exponential,
    "exponential instant": partial(Exponential, "instant"),
    "rk4": gle.integrators.RK4,
}
RULES: dict[str, Callable[[], rules.Rule]] = {
    "gle": rules.GLE,
    "instantaneous": rules.Instantaneous,
    "rflo": rules.RFLO,
    "rflo, transposed": partial(rules.RFLO, "transpose"),
}


def network(depth: int, tau_m: Tensor, tau_r: Tensor, o: Map) -> gle.Network:
    """2 → width × depth (tanh) → 2, without biases. tau_m, tau_r: one value per point; members [points, seeds]."""
    ensemble = (len(tau_m), o.seeds)
    tau: dict[str, Any] = {"tau_m": tau_m.reshape(-1, 1, 1), "tau_r": tau_r.reshape(-1, 1, 1)}
    common: dict[str, Any] = {"ensemble": ensemble, "bias": False, "dtype": torch.float64, "device": o.device}
    layers = [gle.Layer(INPUTS, o.width, **tau, **common)]
    if depth > 1:
        layers.append(gle.Layer(o.width, o.width, depth=depth - 1, **tau, **common))
    layers.append(gle.Layer(o.width, OUTPUTS, tau_m=1.0, tau_r=1.0, phi="linear", plastic=False, **common))
    net = gle.Network(layers, [*range(o.seeds)] * len(tau_m))  # the same weights at every point
    with torch.no_grad():
        for layer in layers:
            layer.W.mul_(math.sqrt(3))  # variance 1/fan-in, so that signals reach the top
    return net


def waves(features: int, purpose: str, tones: list[float], o: Map) -> Callable[[float], Tensor]:
    """Sums of sines with random phases and variance ½, [seeds, batch, features], as a function of time."""
    omega = torch.tensor(tones, dtype=torch.float64, device=o.device)
    phases = [
        torch.rand(o.batch, features, len(tones), generator=generator(s, purpose), dtype=torch.float64)
        for s in range(o.seeds)
    ]
    phase = 2 * math.pi * torch.stack(phases).to(o.device)
    return lambda t: torch.sin(omega * t + phase).sum(-1) / math.sqrt(len(tones))


def agreement(
    net: gle.Network,
    integrator: Integrator,
    dt: float,
    o: Map,
    chosen: Mapping[str, Callable[[], rules.Rule]],
    tones: list[float] | None = None,
    **coupling: Any,
) -> dict[str, Any]:
    """For each rule the cosine with the exact gradient, of all hidden weights and of the bottom ones, and their ratio
    of norms: [point][seed]. coupling: β and γ of GLE's network; the exact gradient is that of the free one."""
    steps, points = round(o.duration / dt), net.ensemble[0]
    x, y = (waves(n, purpose, tones or [1.0], o) for n, purpose in ((INPUTS, "inputs"), (OUTPUTS, "targets")))

    def settled(**options: Any) -> gle.Simulation:
        sim = gle.Simulation(net, dt=dt, integrator=integrator, **options)
        sim.run(spread(x, points), spread(y, points), steps=steps)
        return sim

    def credit(rule: rules.Rule, sim: gle.Simulation) -> gle.network.Thetas:
        return rules.assign(rule, sim, spread(x, points), spread(y, points), steps=steps, learn=("W",)).grads

    free = settled()
    matched = isinstance(integrator, Euler)
    exact = credit(rules.Adjoint(matched=True) if matched else rules.BPTT(), free)
    coupled = settled(**coupling) if coupling else free
    found = {}
    for name, rule in chosen.items():
        grads = credit(rule(), coupled)
        whole, bottom = alignment.whole(net, grads, exact), alignment.gradients(net, grads, exact)[0, "W"]
        found[name] = {
            "all": whole.cosine.tolist(),
            "bottom": bottom.cosine.tolist(),
            "norm": whole.norm_ratio.tolist(),
            "bottom norm": bottom.norm_ratio.tolist(),
        }
    return found


def spread(f: Callable[[float], Tensor], points: int) -> Callable[[float], Tensor]:
    """The same signal for every point."""
    return lambda t: f(t).expand(points, *f(t).shape)


def over_depth(depth: int, tones: list[float], o: Map) -> dict[str, Any]:
    """Both maps at one depth: ωτm at the fixed ratio, then the ratios at ωτm = 1."""
    tau_m = torch.tensor([*o.omega_tau, *[1.0] * len(o.ratios)], dtype=torch.float64)
    ratio = torch.tensor([*[o.ratio] * len(o.omega_tau), *o.ratios], dtype=torch.float64)
    return agreement(network(depth, tau_m, tau_m / ratio, o), Euler(), o.dt, o, RULES, tones)


def over_coupling(o: Map) -> dict[str, Any]:
    pairs = torch.tensor([*itertools.product(o.gammas, o.betas)], dtype=torch.float64)
    tau_m = torch.ones(len(pairs), dtype=torch.float64)
    gamma, beta = (pairs[:, i : i + 1].expand(-1, o.seeds) for i in (0, 1))
    only = {"gle": rules.GLE}
    return agreement(network(o.depth, tau_m, tau_m / o.ratio, o), Euler(), o.dt, o, only, gamma=gamma, beta=beta)


def over_step(scheme: str, dt: float, o: Map) -> dict[str, Any]:
    one = torch.ones(1, dtype=torch.float64)
    chosen = {name: RULES[name] for name in ("gle", "instantaneous")}
    return agreement(network(o.depth, one, one / o.ratio, o), SCHEMES[scheme](), dt, o, chosen)


def tiny(o: Map) -> Map:
    return dataclasses.replace(
        o, omega_tau=[1.0], ratios=[1.0, 5.0], depths=[1, 2], gammas=[0.0, 1.0], betas=[1.0], dts=[0.1], dt=0.1,
        depth=2, width=3, batch=2, seeds=2, duration=5.0,
    )  # fmt: skip


def run(o: Map, run: Run) -> dict[str, Any]:
    return {
        "maps": {
            name: {str(d): run.part(f"{name} {d}", partial(over_depth, d, tones, o)) for d in o.depths}
            for name, tones in (("one tone", [1.0]), ("several tones", o.tones))
        },
        "coupling": run.part("coupling", partial(over_coupling, o)),
        "step": {
            scheme: {str(dt): run.part(f"{scheme} {dt}", partial(over_step, scheme, dt, o)) for dt in o.dts}
            for scheme in SCHEMES
        },
    }


def check(o: Map) -> None:
    """Complains before any work is done: ValueError with the value and the fix."""
    for name in ("omega_tau", "ratios", "depths", "gammas", "betas", "dts", "tones"):
        if not getattr(o, name):
            raise ValueError(f"{name} is empty: give at least one value")
    for name, values in (("dt", [o.dt, *o.dts]), ("omega_tau", o.omega_tau), ("betas", o.betas), ("tones", o.tones)):
        if bad := [v for v in values if not v > 0]:
            raise ValueError(f"{name} must be positive, got {bad[0]:g}")
    if bad := [r for r in (o.ratio, *o.ratios) if not r >= 1]:
        raise ValueError(f"ratios are τm/τr ≥ 1 (a retrospective neuron), got {bad[0]:g}")
    if min(*o.depths, o.depth, o.width, o.batch, o.seeds) < 1:
        raise ValueError("depths, width, batch and seeds must be at least 1")
    shortest = min(*[w / o.ratio for w in o.omega_tau], *[1 / r for r in o.ratios])
    if shortest < o.dt * (1 - 1e-9):
        raise ValueError(f"the shortest tau_r, {shortest:g}, is below dt = {o.dt:g}: lower dt or the ratios")
    if 1 / o.ratio < max(o.dts) * (1 - 1e-9):
        raise ValueError(f"tau_r = 1/ratio = {1 / o.ratio:g} is below the largest of dts, {max(o.dts):g}")
    for omega, dt in ((1.0, max(o.dts)), (max(o.tones), o.dt)):
        if omega * dt >= math.pi:
            raise ValueError(
                f"ω = {omega:g} is not below Nyquist's frequency, π/dt = {math.pi / dt:.3g}: lower dt or ω"
            )
    if o.duration < 2 * max(o.dts):
        raise ValueError(f"duration = {o.duration:g} holds no two steps of {max(o.dts):g}")


def tables(result: Mapping[str, Any]) -> list[Table]:
    """Cosines, mean over seeds: of all hidden weights / of the bottom ones."""
    o, made = result["options"], []

    def cell(found: dict[str, Any], point: int) -> str:
        return " / ".join(f"{np.mean(found[what][point]):+.2f}" for what in ("all", "bottom"))

    n = len(o["omega_tau"])
    varied = (("ωτm", o["omega_tau"], 0), ("τm/τr", o["ratios"], n))
    for name, (title, values, first), rule in itertools.product(result["maps"], varied, RULES):
        rows = [("hidden layers", *(f"{title} = {v:g}" for v in values))]
        for depth, found in result["maps"][name].items():
            rows.append((depth, *(cell(found[rule], first + i) for i in range(len(values)))))
        made.append(
            Table(
                rows, f"{name}, {rule}, over {title}: cosine with the exact gradient, all hidden weights / bottom ones"
            )
        )
    rows = [("γ", *(f"β = {b:g}" for b in o["betas"]))]
    for i, g in enumerate(o["gammas"]):
        cells = (cell(result["coupling"]["gle"], i * len(o["betas"]) + j) for j in range(len(o["betas"])))
        rows.append((f"{g:g}", *cells))
    made.append(Table(rows, f"gle, {o['depth']} hidden layers: over the coupling γ and β"))
    for rule in ("gle", "instantaneous"):
        rows = [("scheme", *(f"dt = {d:g}" for d in o["dts"]))]
        for scheme, by_dt in result["step"].items():
            rows.append((scheme, *(cell(by_dt[str(d)][rule], 0) for d in o["dts"])))
        made.append(Table(rows, f"{rule}, {o['depth']} hidden layers: over dt and integrator"))
    return made


def draw_gradient_map(result: Mapping[str, Any], tones: str) -> plt.Figure:
    """Heat maps of the cosine with the exact gradient: rules × (ωτm, τm/τr; all hidden weights, bottom weights)."""
    o, by_depth = result["options"], result["maps"][tones]
    depths, names, n = list(by_depth), list(RULES), len(o["omega_tau"])
    figure, axes = plt.subplots(len(names), 4, figsize=(13, 2.6 * len(names)), layout="constrained", squeeze=False)
    for row, name in zip(axes, names, strict=True):
        for column, ((label, values, first), what) in enumerate(
            (m, what) for what in ("all", "bottom") for m in (("ωτm", o["omega_tau"], 0), ("τm/τr", o["ratios"], n))
        ):
            cosines = np.array([np.mean(by_depth[d][name][what], 1)[first : first + len(values)] for d in depths])
            ax = row[column]
            image = ax.imshow(cosines, vmin=-1, vmax=1, cmap="RdBu", origin="lower", aspect="auto")
            for (i, j), c in np.ndenumerate(cosines):
                ax.text(j, i, f"{c:.2f}", ha="center", va="center", fontsize=6)
            ax.set_xticks(range(len(values)), [f"{v:g}" for v in values])
            ax.set_yticks(range(len(depths)), depths)
            ax.set(xlabel=label, title=f"{name}: {'all hidden weights' if what == 'all' else 'bottom weights'}")
            ax.title.set_fontsize(8)
        row[0].set_ylabel("hidden layers")
    figure.colorbar(image, ax=axes, shrink=0.4, label=f"cosine with the exact gradient, {tones}")
    return figure


def draw_gradient_steps(result: Mapping[str, Any]) -> plt.Figure:
    """The cosine over dt for each integrator, and over the coupling."""
    o = result["options"]
    figure, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for ax, rule in zip(axes, ("gle", "instantaneous"), strict=False):
        for i, (scheme, by_dt) in enumerate(result["step"].items()):
            cosines = np.array([by_dt[str(d)][rule]["all"][0] for d in o["dts"]])  # [dt, seeds]
            ax.errorbar(
                o["dts"],
                cosines.mean(1),
                cosines.std(1, ddof=min(1, cosines.shape[-1] - 1)),
                fmt="o-",
                color=f"C{i}",
                label=scheme,
                capsize=2,
            )
        ax.set(xscale="log", xlabel="dt", title=f"{rule}, {o['depth']} hidden layers", ylim=(-1, 1.05))
        ax.set_xticks(o["dts"], [f"{d:g}" for d in o["dts"]])
        ax.set_xticks([], minor=True)
    axes[0].set_ylabel("cosine with the exact gradient")
    axes[0].legend(fontsize=7)
    cosines = np.array(result["coupling"]["gle"]["all"]).reshape(len(o["gammas"]), len(o["betas"]), -1)
    for j, beta in enumerate(o["betas"]):
        mean, std = cosines[:, j].mean(-1), cosines[:, j].std(-1, ddof=min(1, cosines.shape[-1] - 1))
        axes[2].errorbar(range(len(o["gammas"])), mean, std, fmt="o-", label=f"β = {beta:g}", capsize=2)
    axes[2].set_xticks(range(len(o["gammas"])), [f"{g:g}" for g in o["gammas"]])
    axes[2].set(xlabel="γ", title="gle", ylim=(-1, 1.05))
    axes[2].legend(fontsize=7)
    return figure


benchmark = Benchmark(
    name="gradient_map",
    summary="where GLE's gradient can be trusted: over time scales, depth and discretisation",
    Options=Map,
    check=check,
    tiny=tiny,
    run=run,
    tables=tables,
    draw=lambda result: {
        **{f"{name.replace(' ', '_')}.png": draw_gradient_map(result, name) for name in result["maps"]},
        "gradient_steps.png": draw_gradient_steps(result),
    },
)

if __name__ == "__main__":
    main(benchmark)
