"""Gain and phase of the neurons, measured (Figs. 3, 11 and 12).

python -m bench.frequency_response          tables, figures and result.json in a run folder; --help for all options

Neurons of the toolkit are simulated and fed with one sine per frequency, and with a chirp. I⁻ and D⁺ are a
representation neuron and an error neuron with the smallest possible τr = dt. What cannot be had in real time, I⁺, D⁻
and the adjoint λ, is measured by running the neuron over the signal backwards.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

import gle
from bench.kit.benchmark import Benchmark, main
from bench.kit.figures import plt
from bench.kit.folder import Run
from bench.kit.options import Options
from bench.kit.tables import Table
from gle import operators
from gle.adaptation import Adaptive, IAdaptation, UAdaptation, simulate
from gle.analysis import spectra
from gle.analysis.spectra import Signal, System, both_responses, reversed_in_time, sine_response, times
from gle.analysis.state_space import discretise, transfer
from gle.integrators import integrator

log = logging.getLogger(__name__)

REPORTED = 10  # ωτm up to which deviations from continuous time are reported
FRACTIONS = {"euler": operators.euler_fraction, "exponential": operators.exponential_fraction}


@dataclass
class FrequencyResponse(Options):
    """What to measure. Times are in units of your choice; frequencies in radians per that unit.

    Args:
        tau_m: membrane time constant, also that of the single operators.
        tau_r: prospective time constant of the combined operators.
        dt: step.
        scheme: of the neurons in Figs. 3, 11 and 12.
        omega: slowest and fastest frequency, times tau_m.
        points: number of frequencies between them.
        ratios: smallest and largest tau_r/tau_m of Fig. 11; may be negative.
        ratio_points: number of ratios between them.
        tau_w: time constant of the adaptive neurons.
        dts: steps to compare.
        integrators: to compare.
        settle: longest time constants that are left out at the beginning; transients have fallen to e⁻ˢᵉᵗᵗˡᵉ then.
    """

    tau_m: float = 1.0
    tau_r: float = 0.1
    dt: float = 0.02
    scheme: Literal["euler", "exponential"] = "euler"
    omega: tuple[float, float] = (0.01, 100.0)
    points: int = 25
    ratios: tuple[float, float] = (-1.0, 2.0)
    ratio_points: int = 24
    tau_w: float = 0.9
    dts: list[float] = field(default_factory=lambda: [0.1, 0.05, 0.02, 0.01])
    integrators: list[str] = field(default_factory=lambda: ["euler", "exponential", "rk4"])
    settle: float = 30.0


def tiny(o: FrequencyResponse) -> FrequencyResponse:
    return dataclasses.replace(
        o,
        dt=max(o.dt, o.tau_r / 2),
        omega=(1.0, 10.0),
        points=min(o.points, 5),
        ratio_points=min(o.ratio_points, 3),
        dts=o.dts[:1],
        integrators=o.integrators[:2],
        settle=min(o.settle, 18.0),
    )


def check(o: FrequencyResponse) -> None:
    """Complains before any work is done: ValueError with the value and the fix."""
    for name in ("points", "ratio_points"):
        if getattr(o, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(o, name)}")
    for name in ("tau_m", "tau_r", "tau_w", "settle"):
        if not getattr(o, name) > 0:
            raise ValueError(f"{name} must be positive, got {getattr(o, name):g}")
    for name in ("dts", "integrators"):
        if not getattr(o, name):
            raise ValueError(f"{name} is empty: give at least one")
    for name in o.integrators:
        integrator(name)
    for dt in (o.dt, *o.dts):
        spectra.check_frequencies(np.array(compared(o)), dt)
        if min(o.tau_m, o.tau_r) < dt * (1 - 1e-6):
            raise ValueError(
                f"dt = {dt:g} is above the time constant {min(o.tau_m, o.tau_r):g}, which no integrator resolves: "
                "lower dt, or raise tau_m and tau_r to at least dt"
            )
    spectra.check_frequencies(np.array(o.omega) / o.tau_m, o.dt)
    if o.omega[0] > o.omega[1]:
        raise ValueError(f"omega must be the slowest, then the fastest frequency; got {o.omega}")
    if close := [r for r in ratios(o) if abs(r) * o.tau_m < o.dt]:
        raise ValueError(
            f"tau_r = {close[0] * o.tau_m:g}, a ratio of {close[0]:g}, is smaller than dt = {o.dt:g}, which no "
            "integrator resolves: lower dt, or choose another number of ratio_points"
        )


def ratios(o: FrequencyResponse) -> np.ndarray:
    return np.linspace(*o.ratios, o.ratio_points)


def compared(o: FrequencyResponse) -> np.ndarray:
    """The frequencies at which steps and integrators are compared: two decades around 1/τm."""
    return np.geomspace(0.1, 10, min(13, o.points)) / o.tau_m


# -- systems -----------------------------------------------------------------------------------------------------------


def neurons(tau_m: float, tau_r: float | Sequence[float], weight: float) -> gle.Network:
    """Single linear neurons without bias, in float64, one for each τr; silent with weight 0."""
    tau = torch.tensor(tau_r, dtype=torch.float64).reshape(-1, 1)
    layer = gle.Layer(1, 1, tau_m=tau_m, tau_r=tau, phi="linear", bias=False, ensemble=(len(tau),), dtype=torch.float64)
    network = gle.Network([layer])
    with torch.no_grad():
        layer.W.fill_(weight)
    return network


def representation(tau_m: float, tau_r: float | Sequence[float], dt: float, scheme: str) -> System:
    """Rates of these neurons for a signal at their input: D⁺_τr I⁻_τm."""
    return spectra.rates(neurons(tau_m, tau_r, 1.0), dt=dt, integrator=scheme)


def error(tau_m: float, tau_r: float | Sequence[float], dt: float, scheme: str) -> System:
    """Errors of silent neurons for a signal as their target: D⁺_τm I⁻_τr."""
    return spectra.errors(neurons(tau_m, tau_r, 0.0), dt=dt, integrator=scheme)


def lookback(tau: float, dt: float) -> System:
    """D⁻ as in Algorithm 2: a backward difference."""

    def system(signal: Signal, steps: int) -> Tensor:
        t = times(steps, dt)
        x = signal(t)
        return x - tau * (x - signal(t - dt)) / dt

    return system


def published_adjoint(tau_m: float, tau_r: float, dt: float) -> System:
    """λ as in Algorithm 2, from the end to the beginning: λ(t − dt) = exp(−dt/τm) λ(t) + dt/τm D⁻(t)."""

    def system(signal: Signal, steps: int) -> Tensor:
        a = operators.exponential_fraction(dt, torch.tensor(tau_m, dtype=torch.float64))
        d = lookback(tau_r, dt)(signal, steps).flip(0) * (dt / tau_m / a)
        return operators.scan_low_pass(torch.zeros_like(d[0]), d, a, 0)[0].flip(0)

    return system


class Negative(NamedTuple):
    """The neurons for any sign of τr, from the operators alone; τr: [n]."""

    tau_m: float
    tau_r: Tensor
    dt: float
    scheme: str

    def _start(self, signal: Signal, steps: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        x = signal(times(steps, self.dt)).unsqueeze(-1).expand(-1, -1, len(self.tau_r)).contiguous()
        tau_m = torch.full_like(self.tau_r, self.tau_m)
        return x, torch.zeros_like(x[0]), tau_m, FRACTIONS[self.scheme](self.dt, tau_m)

    def representation(self, signal: Signal, steps: int) -> Tensor:
        x, rest, tau_m, a = self._start(signal, steps)
        u, _ = operators.scan_low_pass(rest, x, a, 0)
        return operators.prospective(u, x, tau_m, self.tau_r)

    def error(self, signal: Signal, steps: int) -> Tensor:
        """For τr < 0, where I⁻ would explode: v + b (x − v) with b < 0, solved for the v before, is a stable filter
        that runs from the future to the past, like I⁺."""
        x, rest, tau_m, a = self._start(signal, steps)
        b = a * tau_m / self.tau_r
        later, first = operators.scan_low_pass(rest, x.flip(0), -b / (1 - b), 0)
        v = torch.cat([later[1:], first.unsqueeze(0)]).flip(0)
        return operators.prospective(v, x, self.tau_r, tau_m)


# -- theory ------------------------------------------------------------------------------------------------------------


def simulated_response(omega, tau_m: float, tau_r: float, dt: float, scheme: str) -> np.ndarray:
    """Closed form of a simulated representation neuron; that of its error neuron is the inverse."""
    return operators.discrete_neuron_response(omega, tau_m, tau_r, dt, exponential=scheme == "exponential")


class Case(NamedTuple):
    """A system, its closed form in the simulation's discrete time, and in continuous time."""

    name: str
    system: System
    discrete: np.ndarray
    continuous: np.ndarray


def cases(o: FrequencyResponse, omega: np.ndarray) -> list[Case]:
    """The operators, alone and combined (Fig. 3)."""
    m, r, dt, scheme = o.tau_m, o.tau_r, o.dt, o.scheme
    z = np.exp(1j * omega * dt)
    alone, both = simulated_response(omega, m, dt, dt, scheme), simulated_response(omega, m, r, dt, scheme)
    retrospective, ahead = operators.retrospective_response(omega, m), operators.prospective_response(omega, m)
    adjoint = operators.adjoint_response(omega, m, r)
    past, future = representation(m, dt, dt, scheme), error(m, dt, dt, scheme)
    rate = representation(m, r, dt, scheme)

    def difference(tau: float) -> np.ndarray:
        return 1 - tau * (1 - 1 / z) / dt

    return [
        Case("I⁻", past, alone, retrospective),
        Case("D⁺", future, 1 / alone, ahead),
        Case("I⁺", reversed_in_time(past, dt), alone.conj(), retrospective.conj()),
        Case("D⁻", reversed_in_time(future, dt), 1 / alone.conj(), ahead.conj()),
        Case("D⁻, Algorithm 2", lookback(m, dt), difference(m), ahead.conj()),
        Case("r", rate, both, operators.neuron_response(omega, m, r)),
        Case("e", error(m, r, dt, scheme), 1 / both, operators.error_response(omega, m, r)),
        Case("λ", reversed_in_time(rate, dt), both.conj(), adjoint),
        Case(
            "λ, Algorithm 2",
            published_adjoint(m, r, dt),
            dt / m * difference(r) / (1 / z - np.exp(-dt / m)),
            adjoint,
        ),
    ]


# -- measurements ------------------------------------------------------------------------------------------------------


def phase_deviation(gain: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference of the phases, in radians."""
    return float(np.abs(np.angle(gain / expected)).max())


def gain_deviation(gain: np.ndarray, expected: np.ndarray) -> float:
    """Largest relative difference of the gains."""
    return float(np.abs(np.abs(gain / expected) - 1).max())


def deviation(gain: np.ndarray, expected: np.ndarray) -> dict[str, float]:
    return {"phase": phase_deviation(gain, expected), "gain": gain_deviation(gain, expected)}


def spectrum(gain: np.ndarray) -> dict[str, list[float]]:
    """Phase and gain, for the result file."""
    return {"phase": np.angle(gain).tolist(), "gain": np.abs(gain).tolist()}


def flat(gain: np.ndarray) -> np.ndarray:
    """[n, 1, 1] of a single neuron → [n]."""
    return gain.reshape(len(gain))


def measure_operators(o: FrequencyResponse) -> dict[str, Any]:
    """Fig. 3: the operators alone, and as they appear in the neurons."""
    omega = spectra.harmonics(np.geomspace(*o.omega, o.points) / o.tau_m, o.dt)
    settle, rows = o.settle * max(o.tau_m, o.tau_r), {}
    slow = omega * o.tau_m <= REPORTED * (1 + 1e-9)
    measured = {}
    for case in cases(o, omega):
        log.info("%s at %d frequencies", case.name, len(omega))
        sine, chirp = map(flat, both_responses(case.system, omega, o.dt, settle)[1:])
        measured[case.name] = sine
        rows[case.name] = {
            "sine": spectrum(sine),
            "chirp": spectrum(chirp),
            "discrete": spectrum(case.discrete),
            "continuous": spectrum(case.continuous),
            "sine_deviation": deviation(sine, case.discrete),
            "chirp_deviation": deviation(chirp, case.discrete),
            "continuous_deviation": deviation(sine[slow], case.continuous[slow]) if slow.any() else None,
        }
    e, adjoint = measured["e"], measured["λ"]
    nyquist = simulated_response(np.pi / o.dt, o.tau_m, o.tau_r, o.dt, o.scheme)
    published = {
        "largest phase difference of D⁺ and I⁺": phase_deviation(measured["D⁺"], measured["I⁺"]),
        "largest phase difference of I⁻ and D⁻": phase_deviation(measured["I⁻"], measured["D⁻"]),
        "largest phase difference of e and λ": phase_deviation(e, adjoint),
        "largest phase of e · r": phase_deviation(e * measured["r"], np.ones(len(e))),
        "largest deviation of (gain of e) · (gain of λ) from 1": gain_deviation(e * adjoint, np.ones(len(e))),
        "largest ratio of the gains of e and λ": float(np.abs(e / adjoint).max()),
        "its bound (τm/τr)²": max(o.tau_m / o.tau_r, o.tau_r / o.tau_m) ** 2,
        "its bound for the simulated neurons, met at π/dt": float(np.abs(nyquist) ** -2),
    }
    return {"omega": omega.tolist(), "operators": rows, "published": published}


def measure_ratios(o: FrequencyResponse) -> dict[str, Any]:
    """Fig. 11: the combined operators over τr/τm at ωτm = 1. Neurons of the toolkit where τr > 0, the operators
    where it is not."""
    ratio, omega = ratios(o), np.array([1 / o.tau_m])
    settle = o.settle * max(o.tau_m, *(np.abs(ratio) * o.tau_m))
    gains = {name: np.empty(len(ratio), complex) for name in ("r", "e", "λ")}
    for chosen in (ratio > 0, ratio < 0):
        if not chosen.any():
            continue
        tau_r = ratio[chosen] * o.tau_m
        if tau_r[0] > 0:
            forward = representation(o.tau_m, tau_r.tolist(), o.dt, o.scheme)
            backward = error(o.tau_m, tau_r.tolist(), o.dt, o.scheme)
        else:
            negative = Negative(o.tau_m, torch.as_tensor(tau_r), o.dt, o.scheme)
            forward, backward = negative.representation, negative.error
        systems = {"r": forward, "e": backward, "λ": reversed_in_time(forward, o.dt)}
        for name, system in systems.items():
            gains[name][chosen] = sine_response(system, omega, o.dt, settle).reshape(-1)
    discrete = np.array([simulated_response(omega[0], o.tau_m, x * o.tau_m, o.dt, o.scheme) for x in ratio])
    expected = {"r": discrete, "e": 1 / discrete, "λ": discrete.conj()}
    return {
        "ratio": ratio.tolist(),
        "ratios": {k: spectrum(g) | {"deviation": deviation(g, expected[k])} for k, g in gains.items()},
    }


def adaptive_neurons(o: FrequencyResponse) -> dict[str, Adaptive]:
    """Those of Fig. 12."""
    m, w = o.tau_m, o.tau_w
    return {"u": UAdaptation(m, w, 10 * m / w), "I": IAdaptation(m, w, (m + 0.9 * w) / (m + w))}


def measure_adaptation(o: FrequencyResponse) -> dict[str, Any]:
    """Fig. 12: adaptive neurons, and their phase to first order."""
    omega = spectra.harmonics(np.linspace(0.1, 4, max(2, min(40, 2 * o.points))) / o.tau_m, o.dt)
    settle, rows = o.settle * max(o.tau_m, o.tau_w), {}
    for name, neuron in adaptive_neurons(o).items():

        def system(signal: Signal, steps: int, neuron: Adaptive = neuron) -> Tensor:
            return simulate(neuron, signal(times(steps, o.dt)), o.dt, o.scheme)

        sine, chirp = map(flat, both_responses(system, omega, o.dt, settle)[1:])
        step = discretise(neuron.state_space, o.dt, o.scheme)
        discrete = flat(transfer(step, np.exp(1j * omega * o.dt)))
        error = np.abs(np.angle(sine) - neuron.first_order_phase(omega))
        rows[name] = {
            "parameters": dataclasses.asdict(neuron),
            "sine": spectrum(sine),
            "chirp": spectrum(chirp),
            "sine_deviation": deviation(sine, discrete),
            "chirp_deviation": deviation(chirp, discrete),
            "continuous_deviation": deviation(sine, neuron.response(omega)),
            "first_order_deviation": {"omega": omega[0], "phase": float(error[0])},
            "largest_advance": {"omega": float(omega[np.angle(sine).argmax()]), "phase": float(np.angle(sine).max())},
        }
    return {"adaptation_omega": omega.tolist(), "adaptation": rows}


def measure_steps(o: FrequencyResponse) -> dict[str, Any]:
    """How far the simulated neuron is from continuous time, over dt and integrators."""
    omega, rows = compared(o), []
    settle = o.settle * max(o.tau_m, o.tau_r)
    theory: dict[str, tuple[Callable[..., System], np.ndarray]] = {
        "r": (representation, operators.neuron_response(omega, o.tau_m, o.tau_r)),
        "e": (error, operators.error_response(omega, o.tau_m, o.tau_r)),
    }
    for scheme in o.integrators:
        for dt in o.dts:
            log.info("%s with dt = %g", scheme, dt)
            row: dict[str, Any] = {"integrator": scheme, "dt": dt}
            for name, (system, expected) in theory.items():
                gain = flat(sine_response(system(o.tau_m, o.tau_r, dt, scheme), omega, dt, settle))
                difference = np.abs(gain / expected - 1).tolist()
                row[name] = spectrum(gain) | {"deviation": deviation(gain, expected), "difference": difference}
            rows.append(row)
    return {"compared_omega": omega.tolist(), "steps": rows}


def run(o: FrequencyResponse, run: Run) -> dict[str, Any]:
    return {
        **{name: getattr(o, name) for name in ("tau_m", "tau_r", "dt", "scheme")},
        **run.part("operators", partial(measure_operators, o)),
        **run.part("ratios", partial(measure_ratios, o)),
        **run.part("adaptation", partial(measure_adaptation, o)),
        **run.part("steps", partial(measure_steps, o)),
    }


# -- report ------------------------------------------------------------------------------------------------------------


def tables(result: Mapping[str, Any]) -> list[Table]:
    def cells(d: dict[str, float] | None) -> tuple[str, str]:
        return (f"{d['phase']:.1e}", f"{d['gain']:.1e}") if d else ("–", "–")

    heading = ("operator", "sine: phase", "gain", "chirp: phase", "gain", f"theory ≤ {REPORTED}: phase", "gain")
    rows = [
        (name, *cells(r["sine_deviation"]), *cells(r["chirp_deviation"]), *cells(r["continuous_deviation"]))
        for name, r in result["operators"].items()
    ]
    adaptation = [
        (f"{name}-adaptation", *cells(r["sine_deviation"]), *cells(r["chirp_deviation"]),
         *cells(r["continuous_deviation"]))
        for name, r in result["adaptation"].items()
    ]  # fmt: skip
    over_ratios = [(f"{name} over τr/τm", *cells(r["deviation"]), *["–"] * 4) for name, r in result["ratios"].items()]
    steps = [
        (r["integrator"], f"{r['dt']:g}", *cells(r["r"]["deviation"]), *cells(r["e"]["deviation"]))
        for r in result["steps"]
    ]
    first_order = [
        (f"{name}-adaptation", f"{r['first_order_deviation']['omega']:.2g}",
         f"{r['first_order_deviation']['phase']:.1e}", f"{r['largest_advance']['phase']:.3f}",
         f"{r['largest_advance']['omega']:.2g}")
        for name, r in result["adaptation"].items()
    ]  # fmt: skip
    w = result["omega"]
    return [
        Table(
            [heading, *rows, *over_ratios, *adaptation],
            f"Largest deviation from the closed form of the simulated neuron (dt = {result['dt']:g}, "
            f"{result['scheme']}, ω from {w[0]:.3g} to {w[-1]:.3g}), and from continuous time (ωτm ≤ {REPORTED})",
        ),
        Table([("published statement (Figs. 3 and 11)", "measured"), *(
            (k, f"{v:.6g}" if v > 0.1 else f"{v:.1e}") for k, v in result["published"].items()
        )]),
        Table([("", "ω", "off first order", "largest advance", "at ω"), *first_order]),
        Table(
            [("integrator", "dt", "r: phase", "gain", "e: phase", "gain"), *steps],
            "Largest deviation from continuous time",
        ),
    ]  # fmt: skip


RETROSPECTIVE, PROSPECTIVE = "tab:purple", "tab:orange"
STYLES = {  # colour, line of the theory, marker of the measurement
    "I⁻": (RETROSPECTIVE, "-", "o"), "D⁻": (RETROSPECTIVE, "--", "s"),
    "D⁺": (PROSPECTIVE, "-", "o"), "I⁺": (PROSPECTIVE, "--", "s"),
    "r": ("tab:red", "-", "o"), "e": ("tab:blue", "-", "o"), "λ": ("black", ":", "s"),
}  # fmt: skip
PARTS: dict[str, Callable] = {"phase": np.angle, "gain": np.abs}
PI = ([-np.pi / 2, 0, np.pi / 2], ["−π/2", "0", "π/2"])


def draw_operators(result: Mapping[str, Any]) -> plt.Figure:
    """Fig. 3b–e: theory in continuous time as lines, in discrete time as thin grey lines, measurements as marks."""
    figure, axes = plt.subplots(2, 2, figsize=(8, 5), sharex=True, sharey="row")
    m, r = result["tau_m"], result["tau_r"]
    omega = np.array(result["omega"])
    fine = np.geomspace(omega[0], omega[-1], 300)
    retrospective, ahead = operators.retrospective_response(fine, m), operators.prospective_response(fine, m)
    theory = {
        "I⁻": retrospective, "D⁺": ahead, "I⁺": retrospective.conj(), "D⁻": ahead.conj(),
        "r": operators.neuron_response(fine, m, r), "e": operators.error_response(fine, m, r),
        "λ": operators.adjoint_response(fine, m, r),
    }  # fmt: skip
    for column, names in enumerate((["I⁻", "D⁺", "I⁺", "D⁻"], ["r", "e", "λ"])):
        for row, (what, of) in enumerate(PARTS.items()):
            ax = axes[row, column]
            for name in names:
                color, line, marker = STYLES[name]
                measured = result["operators"][name]
                ax.plot(fine * m, of(theory[name]), line, color=color, lw=1)
                ax.plot(omega * m, measured["discrete"][what], color="0.7", lw=0.6, zorder=0)
                ax.plot(omega * m, measured["sine"][what], marker, ms=4, mfc="none", color=color, label=name)
                ax.plot(omega * m, measured["chirp"][what], ".", ms=2, color=color)
            ax.set_xscale("log")
            ax.grid(alpha=0.3)
    for ax, title in zip(axes[0], ("single operators", f"combined, τm = {m / r:g} τr"), strict=True):
        ax.set_title(title, fontsize=9)
        ax.set_yticks(*PI)
        ax.legend(fontsize=7, ncols=2)
    for ax in axes[1]:
        ax.set(xlabel="ωτm", yscale="log")
    axes[0, 0].set_ylabel("phase / rad")
    axes[1, 0].set_ylabel("gain")
    figure.text(0.5, -0.02, "lines: continuous time; grey: simulated, closed form; circles and squares: "
                "sines; dots: chirp", ha="center", fontsize=7)  # fmt: skip
    return figure


def draw_ratios(result: Mapping[str, Any]) -> plt.Figure:
    """Fig. 11."""
    figure, axes = plt.subplots(2, 1, figsize=(5, 5), sharex=True)
    ratio = np.array(result["ratio"])
    fine = np.linspace(ratio[0], ratio[-1], 301)
    theory = {
        name: np.array([of(1.0, 1.0, x) for x in fine])
        for name, of in (
            ("r", operators.neuron_response), ("e", operators.error_response), ("λ", operators.adjoint_response)
        )
    }  # fmt: skip
    labels = {"r": "feedforward signals r", "e": "feedback errors e", "λ": "adjoint variables λ"}
    for ax, what in zip(axes, ("gain", "phase"), strict=True):
        for name, curve in theory.items():
            color, line, marker = STYLES[name]
            ax.plot(fine, PARTS[what](curve), line, color=color, lw=1)
            ax.plot(ratio, result["ratios"][name][what], marker, ms=4, mfc="none", color=color, label=labels[name])
        for left, right, color in ((ratio[0], 0, "orange"), (0, 1, "blue"), (1, ratio[-1], "red")):
            if left < right:
                ax.axvspan(left, right, color=color, alpha=0.06, lw=0)
        ax.grid(alpha=0.3)
    axes[0].set(yscale="log", ylabel="gain")
    axes[0].legend(fontsize=7, loc="lower left", bbox_to_anchor=(0, 1.1), ncols=3, columnspacing=1)
    axes[0].set_title("ωτm = 1; lines: continuous time, marks: measured", fontsize=9)
    axes[1].set(xlabel="τr / τm", ylabel="phase / rad")
    axes[1].set_yticks(*PI)
    return figure


def draw_adaptation(result: Mapping[str, Any]) -> plt.Figure:
    """Fig. 12."""
    figure, ax = plt.subplots(figsize=(5, 3.4))
    omega = np.array(result["adaptation_omega"])
    fine = np.linspace(0, omega[-1], 200)
    kinds = {"u": UAdaptation, "I": IAdaptation}
    for color, (name, row) in zip(("tab:blue", "tab:red"), result["adaptation"].items(), strict=True):
        neuron = kinds[name](**row["parameters"])
        ax.plot(fine, np.angle(neuron.response(fine)), color=color, lw=1, label=f"{name}-adaptation")
        ax.plot(fine, neuron.first_order_phase(fine), "--", color=color, lw=1, label=f"{name}-adaptation, first order")
        ax.plot(omega, row["sine"]["phase"], "o", ms=4, mfc="none", color=color)
        ax.plot(omega, row["chirp"]["phase"], ".", ms=2, color=color)
    ax.set(xlabel="ω / (rad per time unit)", ylabel="phase / rad")
    ax.set_title("adaptive neurons; circles: sines, dots: chirp", fontsize=9)
    ax.grid(alpha=0.3)
    ax.legend(fontsize=7)
    return figure


def draw_steps(result: Mapping[str, Any]) -> plt.Figure:
    """Where the simulated neuron leaves continuous time."""
    schemes = list(dict.fromkeys(r["integrator"] for r in result["steps"]))
    figure, axes = plt.subplots(1, len(schemes), figsize=(3 * len(schemes), 3), sharex=True, sharey=True, squeeze=False)
    omega = np.array(result["compared_omega"]) * result["tau_m"]
    for ax, scheme in zip(axes[0], schemes, strict=True):
        for i, row in enumerate(r for r in result["steps"] if r["integrator"] == scheme):
            ax.plot(omega, row["r"]["difference"], "o-", ms=3, lw=1, color=f"C{i}", label=f"dt = {row['dt']:g}")
            ax.plot(omega, row["e"]["difference"], "s--", ms=3, lw=1, mfc="none", color=f"C{i}")
        ax.set(xscale="log", yscale="log", xlabel="ωτm")
        ax.set_title(scheme, fontsize=9)
        ax.grid(alpha=0.3)
    axes[0, 0].set_ylabel("|measured / theory − 1|")
    axes[0, 0].legend(fontsize=7, title="circles: r, squares: e", title_fontsize=7)
    return figure


benchmark = Benchmark(
    name="frequency_response",
    summary="gain and phase of the neurons, measured beside theory (Figs. 3, 11, 12)",
    Options=FrequencyResponse,
    check=check,
    tiny=tiny,
    run=run,
    tables=tables,
    draw=lambda result: {
        "operators.png": draw_operators(result),
        "ratios.png": draw_ratios(result),
        "adaptation.png": draw_adaptation(result),
        "steps.png": draw_steps(result),
    },
)

if __name__ == "__main__":
    main(benchmark)
