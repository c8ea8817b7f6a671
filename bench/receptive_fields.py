"""Temporal receptive fields of neurons in deep networks (§2.7, Fig. 7).

python -m bench.receptive_fields             tables, figures and result.json in a run folder; --help for all options

Two networks of linear or tanh neurons with diverse time constants: chains, of which every neuron listens to one neuron
below, and a dense network with one input or several (spatiotemporal receptive fields). Their kernels are measured with
short pulses and with white noise, and the centres of their windows compared with Σ (τm − τr).
"""

from __future__ import annotations

import dataclasses
import math
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
from bench.kit.options import Options
from bench.kit.tables import Table
from gle.analysis.receptive_fields import centre, impulse_response, low_frequency_delay, reverse_correlation
from gle.seeding import generator

GROUPS = 10  # parts of the noise, whose kernels tell the error of a centre
SHOWN = 6  # neurons of the dense networks in figures and result files
DRAWN = 10.0  # time units of a kernel there


@dataclass
class ReceptiveFields(Options):
    """What to measure. Times are in units of your choice.

    Args:
        taus: [tau_m, tau_r] of each chain, and of as many neurons in every layer of the dense networks.
        layers: length of the chains and depth of the dense networks.
        copies: neurons of each kind in a layer of the dense networks.
        features: inputs of the dense network that has several.
        phi: activations.
        gain: factor on the initial weights of the dense networks (1: uniform in ± 1/√fan-in).
        dt: step.
        window: length of the kernels in time.
        steps: of white noise, besides the first window.
        batch: samples of it side by side.
        noise: its standard deviation.
        seed: of weights and noise.
    """

    taus: list[tuple[float, float]] = field(
        default_factory=lambda: [(0.4, 0.1), (0.8, 0.2), (1.6, 0.2), (1.6, 0.8), (1.0, 1.0), (0.8, 1.2)]
    )
    layers: int = 4
    copies: int = 2
    features: int = 8
    phi: list[str] = field(default_factory=lambda: ["linear", "tanh"])
    gain: float = 1.7
    dt: float = 0.1
    window: float = 30.0
    steps: int = 10000
    batch: int = 100
    noise: float = 0.5
    seed: int = 0


def tiny(o: ReceptiveFields) -> ReceptiveFields:
    return dataclasses.replace(
        o, taus=o.taus[:2], layers=min(o.layers, 2), features=min(o.features, 2), window=min(o.window, 12.0),
        steps=min(o.steps, 300), batch=min(o.batch, 20),
    )  # fmt: skip


def lags_of(o: ReceptiveFields) -> int:
    return round(o.window / o.dt)


def check(o: ReceptiveFields) -> None:
    """Complains before any work is done: ValueError with the value and the fix."""
    if not (o.dt > 0 and math.isfinite(o.dt)):
        raise ValueError(f"dt must be a positive number, got {o.dt}")
    for name in ("layers", "copies", "features", "steps"):
        if getattr(o, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(o, name)}")
    if not o.taus or not o.phi:
        raise ValueError("taus and phi must not be empty")
    if o.batch < GROUPS:
        raise ValueError(f"batch must be at least {GROUPS}, got {o.batch}")
    if not o.noise > 0:
        raise ValueError(f"noise must be positive, got {o.noise:g}")
    if lags_of(o) < 2:
        raise ValueError(f"a window of {o.window:g} is shorter than two steps of {o.dt:g}: raise it, or lower dt")
    for phi in o.phi:
        gle.Simulation(chains(o, phi), dt=o.dt)


# -- networks ----------------------------------------------------------------------------------------------------------


def _network(o: ReceptiveFields, n_in: int, copies: int, phi: str) -> gle.Network:
    tau = torch.tensor(o.taus, dtype=torch.float64).repeat_interleave(copies, 0)
    common: dict[str, Any] = {
        "tau_m": tau[:, 0], "tau_r": tau[:, 1], "phi": phi, "bias": False, "dtype": torch.float64
    }  # fmt: skip
    n = len(tau)
    upper = [gle.Layer(n, n, depth=o.layers - 1, **common)] if o.layers > 1 else []
    return gle.Network([gle.Layer(n_in, n, **common), *upper], o.seed)


@torch.no_grad()
def chains(o: ReceptiveFields, phi: str) -> gle.Network:
    """One chain for each pair of time constants; all of them get the same input."""
    network = _network(o, 1, 1, phi)
    for layer in network.layers:
        layer.W.copy_(torch.eye(layer.n_out, layer.n_in) if layer.n_in == layer.n_out > 1 else torch.ones(1))
    return network


@torch.no_grad()
def dense(o: ReceptiveFields, features: int, phi: str) -> gle.Network:
    """All to all, with random weights."""
    network = _network(o, features, o.copies, phi)
    for layer in network.layers:
        layer.W.mul_(o.gain)
    return network


# -- measurements ------------------------------------------------------------------------------------------------------


class Fields:
    """The receptive fields of all layers ℓ of a network; kernels [layers, lags, inputs, neurons]."""

    def __init__(self, network: gle.Network, o: ReceptiveFields):
        self.dt = o.dt
        self.impulse = torch.stack(impulse_response(network, dt=o.dt, lags=lags_of(o)))
        shape = (lags_of(o) - 1 + o.steps, o.batch, network.n_in)
        x = o.noise * torch.randn(shape, generator=generator(o.seed, "noise"), dtype=torch.float64)
        record = gle.Record("r")
        gle.Simulation(network, dt=o.dt).run(x, record=record)
        r = torch.stack(list(record["r"].values()))  # [layers, T, batch, neurons]
        r = r.permute(1, 0, 2, 3)  # the layers in the place of an ensemble
        parts = [
            reverse_correlation(x_part, r_part, lags_of(o))
            for x_part, r_part in zip(x.tensor_split(GROUPS, 1), r.tensor_split(GROUPS, 2), strict=True)
        ]
        self.parts = torch.stack([kernel for kernel, _ in parts]).movedim(3, 1)  # [groups, layers, lags, inputs, n]
        # errors [inputs, layers, n] of the parts, of about equal size
        error = torch.stack([error for _, error in parts]).square().sum(0).sqrt() / GROUPS
        self.noise, self.error = self.parts.mean(0), error.movedim(1, 0)

    def agreement(self) -> dict[str, float]:
        """Noise against pulses, over all neurons: the largest distance of the kernels relative to their norm, the
        cosine between them (1: the same shape), and the deviations in units of the standard error."""
        off, over = self.noise - self.impulse, (1, 2)  # lags and inputs
        norm = self.impulse.square().sum(over).sqrt()
        cosine = (self.noise * self.impulse).sum(over) / norm / self.noise.square().sum(over).sqrt()
        z = off / self.error.unsqueeze(1)
        return {
            "relative": float((off.square().sum(over).sqrt() / norm).max()),
            "cosine": float(cosine.median()),
            "smallest_cosine": float(cosine.min()),
            "rms": float(z.square().mean().sqrt()),
            "largest": float(z.abs().max()),
        }


def chain_centres(fields: Fields, o: ReceptiveFields) -> dict[str, list]:
    """Centres of the windows of all neurons of the chains: by pulses and by noise, with its standard error; each
    [layers, chains]. Noise far behind the window of a chain would outweigh it: only as many lags count as its slowest
    possible kernel takes to fall below 10⁻⁵."""
    impulse, noise, spread = (torch.empty(o.layers, len(o.taus), dtype=torch.float64) for _ in range(3))
    for l in range(o.layers):
        for c, (tau_m, _) in enumerate(o.taus):
            lags = slice(0, math.ceil(((3 * l + 12) * tau_m + l * o.dt) / o.dt))
            impulse[l, c] = centre(fields.impulse[l, lags, 0, c], o.dt)
            noise[l, c] = centre(fields.noise[l, lags, 0, c], o.dt)
            spread[l, c] = centre(fields.parts[:, l, lags, 0, c].T, o.dt).std() / math.sqrt(GROUPS)
    return {"impulse": impulse.tolist(), "noise": noise.tolist(), "noise_error": spread.tolist()}


def digits(x: Tensor) -> list:
    """For a result file: five digits are more than any figure shows."""
    return (
        torch.tensor([float(f"{v:.5g}") for v in x.flatten().tolist()], dtype=torch.float64).reshape(x.shape).tolist()
    )


def measure_chains(phi: str, o: ReceptiveFields) -> dict[str, Any]:
    network, drawn = chains(o, phi), round(DRAWN / o.dt)
    fields = Fields(network, o)
    return {
        "agreement": fields.agreement(),
        "expected": torch.stack(low_frequency_delay(network, o.dt))[:, 0].tolist(),  # [layers, chains]
        **chain_centres(fields, o),
        "kernels": digits(fields.impulse[:, :drawn, 0].movedim(1, -1)),  # [layers, chains, lags]
        "noise_kernels": digits(fields.noise[-1, :drawn, 0].T),  # of the top [chains, lags]
    }


def measure_dense(features: int, phi: str, o: ReceptiveFields) -> dict[str, Any]:
    network, drawn = dense(o, features, phi), round(DRAWN / o.dt)
    fields = Fields(network, o)
    expected = torch.stack(low_frequency_delay(network, o.dt))
    off = centre(fields.impulse.movedim(1, 0), o.dt) - expected
    return {
        "features": features,
        "phi": phi,
        "agreement": fields.agreement(),
        "centre_deviation": float((off / expected.abs().clamp(min=1)).abs().max()),
        # of the top layer [neurons, inputs, lags]
        "kernels": digits(fields.impulse[-1, :drawn, :, :: o.copies][..., :SHOWN].permute(2, 1, 0)),
        "noise_kernels": digits(fields.noise[-1, :drawn, :, :: o.copies][..., :SHOWN].permute(2, 1, 0)),
    }


def run(o: ReceptiveFields, run: Run) -> dict[str, Any]:
    return {
        "dt": o.dt,
        "taus": [list(t) for t in o.taus],
        "bound": "√(2 Var r / (N Var x))",
        "chains": {phi: run.part(f"chains_{phi}", partial(measure_chains, phi, o)) for phi in o.phi},
        "dense": [
            run.part(f"dense_{n}_{phi}", partial(measure_dense, n, phi, o))
            for n in sorted({1, o.features})
            for phi in o.phi
        ],
    }


# -- report ------------------------------------------------------------------------------------------------------------


def tables(result: Mapping[str, Any]) -> list[Table]:
    rows = [("chain: τm", "τr", "layers", "Σ(τm − τr) + delay", *(
        f"{phi}: {how}" for phi in result["chains"] for how in ("pulse", "noise")
    ))]  # fmt: skip
    for c, (tau_m, tau_r) in enumerate(result["taus"]):
        cells: list[str] = []
        for row in result["chains"].values():
            cells += [f"{row['impulse'][-1][c]:.3f}", f"{row['noise'][-1][c]:.3f} ± {row['noise_error'][-1][c]:.3f}"]
            depth, expected = len(row["expected"]), row["expected"][-1][c]
        rows.append((f"{tau_m:g}", f"{tau_r:g}", str(depth), f"{expected:.3f}", *cells))
    heading = ("network", "inputs", "phi", "distance", "cosine: median", "smallest",
               "deviation / error: rms", "largest", "centre: pulse − theory")  # fmt: skip
    kinds = [("chains", 1, phi, row["agreement"], max(
        abs(a - b) for x, y in zip(row["impulse"], row["expected"], strict=True) for a, b in zip(x, y, strict=True)
    )) for phi, row in result["chains"].items()]  # fmt: skip
    kinds += [("dense", r["features"], r["phi"], r["agreement"], r["centre_deviation"]) for r in result["dense"]]
    agreement = [
        (
            kind,
            str(n),
            phi,
            f"{a['relative']:.3f}",
            f"{a['cosine']:.4f}",
            f"{a['smallest_cosine']:.4f}",
            *((f"{a['rms']:.2f}", f"{a['largest']:.1f}") if phi == "linear" else ("–", "–")),
            f"{off:.1e}",
        )
        for kind, n, phi, a, off in kinds
    ]
    return [
        Table(
            rows, "Centre of the temporal attention window at the top of each chain, in time units before the present"
        ),
        Table(
            [heading, *agreement],
            "Kernels by white noise against those by short pulses, over all neurons; standard error of linear "
            f"networks: {result['bound']}",
        ),
    ]


def draw_chains(result: Mapping[str, Any]) -> plt.Figure:
    """Kernels along the chains, by pulses (lines) and, at the top, by noise (dots); marks: centres of the windows."""
    row = next(iter(result["chains"].values()))
    kernels = np.array(row["kernels"])  # [layers, chains, lags]
    figure, axes = plt.subplots(
        kernels.shape[1], 1, figsize=(6, 1.3 * kernels.shape[1]), sharex=True, squeeze=False
    )  # fmt: skip
    t = result["dt"] * np.arange(kernels.shape[-1])
    colors = plt.get_cmap("viridis")(np.linspace(0, 0.85, len(kernels)))
    for c, (ax, (tau_m, tau_r)) in enumerate(zip(axes[:, 0], result["taus"], strict=True)):
        for l, color in enumerate(colors):
            kernel = kernels[l, c] / np.abs(kernels[l, c]).max()
            ax.plot(-t, kernel, color=color, lw=1, label=f"layer {l + 1}")
            ax.plot(-row["impulse"][l][c], -0.15, "^", color=color, ms=5, clip_on=False)
        top = np.array(row["noise_kernels"][c])
        ax.plot(-t, top / np.abs(kernels[-1, c]).max(), ".", ms=2, color=colors[-1])
        ax.set_title(f"τm = {tau_m:g}, τr = {tau_r:g}", fontsize=8, loc="left", pad=2)
        ax.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=7)
    axes[-1, 0].set(xlabel="time before the present", xlim=(-t[-1], 2.0))
    figure.tight_layout()
    return figure


def draw_centres(result: Mapping[str, Any]) -> plt.Figure:
    """Centre of the window against Σ (τm − τr), for all layers of all chains."""
    figure, ax = plt.subplots(figsize=(4.2, 4))
    ends: list[float] = []
    for i, (phi, row) in enumerate(result["chains"].items()):
        expected = np.array(row["expected"])
        own = expected - result["dt"] * np.arange(len(expected))[:, None]
        delay = expected - own
        flat = own.ravel()
        ax.plot(flat, (np.array(row["impulse"]) - delay).ravel(), "o", ms=6, mfc="none", color=f"C{i}",
                label=f"{phi}, pulse")  # fmt: skip
        ax.errorbar(flat, (np.array(row["noise"]) - delay).ravel(), np.array(row["noise_error"]).ravel(), fmt=".", ms=4,
                    capsize=2, lw=1, color=f"C{i}", label=f"{phi}, noise")  # fmt: skip
        ends += [flat.min(), flat.max()]
    line = [min(ends), max(ends)]
    ax.plot(line, line, color="0.6", lw=1, zorder=0)
    ax.set(xlabel="Σ (τm − τr)", ylabel="centre of the window, less one dt per layer")
    ax.grid(alpha=0.3)
    ax.legend(fontsize=7)
    return figure


def draw_dense(result: Mapping[str, Any]) -> plt.Figure:
    """Kernels of neurons at the top of the dense network with one input."""
    rows = [r for r in result["dense"] if r["features"] == 1]
    figure, axes = plt.subplots(2, 3, figsize=(8, 4), sharex=True)
    for n, ax in zip(range(len(rows[0]["kernels"])), axes.flat, strict=False):
        for i, r in enumerate(rows):
            t = -result["dt"] * np.arange(len(r["kernels"][n][0]))
            ax.plot(t, r["kernels"][n][0], color=f"C{i}", lw=1, label=f"{r['phi']}, pulse")
            ax.plot(t, r["noise_kernels"][n][0], ".", color=f"C{i}", ms=2, label=f"{r['phi']}, noise")
        ax.set_xlim(t[-1], 0.3)
        ax.set_title(f"neuron of τm = {result['taus'][n][0]:g}, τr = {result['taus'][n][1]:g}", fontsize=8)
        ax.grid(alpha=0.3)
    axes[0, 0].legend(fontsize=7)
    for ax in axes[-1]:
        ax.set_xlabel("time before the present")
    figure.tight_layout()
    return figure


def draw_spatiotemporal(result: Mapping[str, Any]) -> plt.Figure:
    """Spatiotemporal receptive fields of the dense network with several inputs, by pulses and by noise; each in
    colours of its own range."""
    row = result["dense"][-1]
    shown = len(row["kernels"])
    figure, axes = plt.subplots(2, shown, figsize=(1.6 * shown + 1, 4), sharex=True, sharey=True, squeeze=False)
    for n in range(shown):
        for ax, kernels in zip(axes[:, n], (row["kernels"], row["noise_kernels"]), strict=True):
            kernel = np.array(kernels[n])[:, ::-1]
            largest = np.abs(kernel).max()
            extent = (-result["dt"] * kernel.shape[1], 0.0, 0.5, kernel.shape[0] + 0.5)
            ax.imshow(kernel, aspect="auto", origin="lower", interpolation="nearest", extent=extent, cmap="RdBu_r",
                      vmin=-largest, vmax=largest)  # fmt: skip
        axes[0, n].set_title(f"τm = {result['taus'][n][0]:g}, τr = {result['taus'][n][1]:g}", fontsize=8)
        axes[1, n].set_xlabel("time", fontsize=8)
    axes[0, 0].set_ylabel("pulse\ninput", fontsize=8)
    axes[1, 0].set_ylabel("white noise\ninput", fontsize=8)
    figure.suptitle(f"{row['phi']} network, top layer", fontsize=9)
    figure.tight_layout()
    return figure


benchmark = Benchmark(
    name="receptive_fields",
    summary="the windows in time through which deep neurons see their input (Fig. 7)",
    Options=ReceptiveFields,
    check=check,
    tiny=tiny,
    run=run,
    tables=tables,
    draw=lambda result: {
        "chains.png": draw_chains(result),
        "centres.png": draw_centres(result),
        "dense.png": draw_dense(result),
        "spatiotemporal.png": draw_spatiotemporal(result),
    },
)

if __name__ == "__main__":
    main(benchmark)
