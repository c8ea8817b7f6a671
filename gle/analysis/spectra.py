"""Complex gain of a simulated system, measured.

    system = rates(network, dt=0.02)                       # or errors(network, …), or any function of a signal
    gain = sine_response(system, omega, dt, settle=40)     # one sine per frequency, all at once
    omega, gain = chirp_response(system, omega, dt, settle=40)   # a single sweep through all of them

A system maps a signal, a function of time, to its responses at the steps. Both measurements are exact, down to
rounding, for a linear system whose transients have died after the time `settle`; they can be compared with the
transfer functions in `operators`. ω is in radians per time unit; |gain| is the gain and the angle of gain is
the phase shift, positive for an advance.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from gle.integrators import Integrator
from gle.integrators import integrator as integrator_called
from gle.network import Network
from gle.recording import Record
from gle.simulate import Simulation

Signal = Callable[[Tensor], Tensor]  # times [T] → values [T, n]: n signals side by side
Frequencies = float | Sequence[float] | np.ndarray
System = Callable[[Signal, int], Tensor]  # a signal and a number of steps → responses [steps, n, …]


# -- systems -----------------------------------------------------------------------------------------------------------


def rates(network: Network, *, dt: float, integrator: str | Integrator = "euler", layer: int = -1) -> System:
    """From the network's input (every feature gets the signal) to the rates r of a layer, [steps, n, *ensemble,
    neurons]; without a target. Raises what `Simulation` raises."""
    return _driven(network, "r", dt, integrator, layer)


def errors(network: Network, *, dt: float, integrator: str | Integrator = "euler", layer: int = 0) -> System:
    """From the output's target (every output gets the signal) to the errors e of a layer, with input 0. In a network
    that is silent then, the error at the output is the signal itself. Raises what `Simulation` raises."""
    return _driven(network, "e", dt, integrator, layer)


def _driven(network: Network, what: str, dt: float, integrator: str | Integrator, layer: int) -> System:
    nodes = (integrator_called(integrator) if isinstance(integrator, str) else integrator).nodes

    def system(signal: Signal, steps: int) -> Tensor:
        def repeated(t: Tensor, features: int) -> Tensor:
            return signal(t).unsqueeze(-1).expand(-1, -1, features)

        def inputs(t: Tensor) -> Tensor:
            x = repeated(t, network.n_in)
            return x if what == "r" else torch.zeros_like(x)

        def targets(t: Tensor) -> Tensor:
            return repeated(t, network.n_out)

        sim = Simulation(network, dt=dt, integrator=integrator)
        record = Record(what, layers=[layer])
        if len(nodes) == 1:
            t = times(steps, dt)
            sim.run(inputs(t), targets(t) if what == "e" else None, record=record)
        else:  # wants the signal between the steps, too

            def at(f: Signal) -> Callable[[float], Tensor]:
                return lambda t: f(torch.tensor([t], dtype=torch.float64))[0]

            sim.run(at(inputs), at(targets) if what == "e" else None, steps=steps, record=record)
        (y,) = record[what].values()
        return y.movedim(-2, 1)

    return system


def reversed_in_time(system: System, dt: float) -> System:
    """The system run backwards: past and future exchanged, the gain conjugated. Of a neuron, its adjoint (Eq. 10)."""

    def backwards(signal: Signal, steps: int) -> Tensor:
        end = (steps - 1) * dt
        return system(lambda t: signal(end - t), steps).flip(0)

    return backwards


def times(steps: int, dt: float) -> Tensor:
    """t = 0, dt, … [steps]."""
    return dt * torch.arange(steps, dtype=torch.float64)


# -- measurements ------------------------------------------------------------------------------------------------------


def sine_response(system: System, omega: Frequencies, dt: float, settle: float) -> np.ndarray:
    """Complex gain at the frequencies omega [n], from one sine each: [n, …], trailing axes as the system's.

    A sine, a cosine and a constant are fitted to each response by least squares, over one period of the slowest
    frequency. settle: time left out at both ends (transients of systems that run backwards are at the end).

    Raises ValueError for dt ≤ 0 and frequencies that are not positive or not below Nyquist's, π/dt.
    """
    omega = check_frequencies(omega, dt)
    settled, steps = _settled(omega, dt, settle)
    y = _numpy(system(_sines(omega), steps)[settled])
    return _fitted(y, omega, _numpy(times(steps, dt)[settled]))


def chirp_response(system: System, omega: Frequencies, dt: float, settle: float) -> tuple[np.ndarray, np.ndarray]:
    """Complex gain at the harmonics nearest to omega (see `harmonics`), from a single broadband signal: these
    frequencies, and the gain [n, …] there.

    The signal is a chirp from the slowest frequency to beyond the fastest, repeated periodically: the spectrum of the
    response over one period is then the gain times that of the signal, without leakage. settle: as in `sine_response`,
    which says what is raised.
    """
    omega = harmonics(omega, dt)
    settled, steps = _settled(omega, dt, settle)
    chirp = _chirp(omega, dt)
    y, x = _numpy(system(chirp, steps)[settled, 0]), _numpy(chirp(times(steps, dt)[settled])[:, 0])
    return omega, _divided(y, x, omega, dt)


def both_responses(
    system: System, omega: Frequencies, dt: float, settle: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The harmonics nearest to omega, and the gains there by `sine_response` and by `chirp_response`, from one
    simulation."""
    omega = harmonics(omega, dt)
    settled, steps = _settled(omega, dt, settle)
    sines, chirp = _sines(omega), _chirp(omega, dt)
    y = _numpy(system(lambda t: torch.cat([sines(t), chirp(t)], 1), steps)[settled])
    t = times(steps, dt)[settled]
    return omega, _fitted(y[:, :-1], omega, _numpy(t)), _divided(y[:, -1], _numpy(chirp(t)[:, 0]), omega, dt)


def _settled(omega: np.ndarray, dt: float, settle: float) -> tuple[slice, int]:
    """The steps that are looked at, one period of the slowest frequency; and how many are simulated."""
    skip, period = math.ceil(settle / dt), _period(omega, dt)
    return slice(skip, skip + period), period + 2 * skip


def _sines(omega: np.ndarray) -> Signal:
    frequencies = torch.as_tensor(omega)
    return lambda t: torch.cos(t[:, None] * frequencies)


def _chirp(omega: np.ndarray, dt: float) -> Signal:
    duration = _period(omega, dt) * dt
    slow, fast = 2 * math.pi / duration, min(1.1 * omega[-1], math.pi / dt)

    def chirp(t: Tensor) -> Tensor:
        # a little to the side, so that rounding never decides in which period an instant lies
        s = torch.remainder(t + dt / 4, duration) - dt / 4
        return torch.sin((slow + (fast - slow) * s / (2 * duration)) * s)[:, None]

    return chirp


def _fitted(y: np.ndarray, omega: np.ndarray, t: np.ndarray) -> np.ndarray:
    """Gains [n, …] of the responses y [T, n, …] to the sines, at times t [T]."""
    gain = np.empty(y.shape[1:], complex)
    for i, w in enumerate(omega):
        waves = np.stack([np.cos(w * t), np.sin(w * t), np.ones_like(t)], -1)
        (a, b, _), *_ = np.linalg.lstsq(waves, y[:, i].reshape(len(t), -1), rcond=None)
        gain[i] = (a - 1j * b).reshape(gain.shape[1:])
    return gain


def _divided(y: np.ndarray, x: np.ndarray, omega: np.ndarray, dt: float) -> np.ndarray:
    """Gains [n, …] at harmonics, from a period of a signal x [T] and of the response to it y [T, …]."""
    k = np.rint(omega * _period(omega, dt) * dt / (2 * math.pi)).astype(int)
    response, signal = np.fft.rfft(y, axis=0)[k], np.fft.rfft(x)[k]
    return response / signal.reshape(-1, *[1] * (response.ndim - 1))


def harmonics(omega: Frequencies, dt: float) -> np.ndarray:
    """The frequencies of omega, moved to the nearest multiples of the slowest one, whose period is a whole number of
    steps; sorted, each once. Raises what `sine_response` raises."""
    omega = check_frequencies(omega, dt)
    slow = 2 * np.pi / (_period(omega, dt) * dt)
    k = np.unique(np.rint(omega / slow))
    return k[k * slow * dt < np.pi] * slow


def check_frequencies(omega: Frequencies, dt: float) -> np.ndarray:
    """omega as an array. Raises ValueError for dt ≤ 0, and for frequencies that are not positive or reach π/dt."""
    if not (dt > 0 and math.isfinite(dt)):
        raise ValueError(f"dt must be a positive number, got {dt}")
    omega = np.atleast_1d(np.asarray(omega, dtype=float))
    if bad := [w for w in omega if not w > 0]:
        raise ValueError(f"frequencies must be positive, got {bad[0]:g}")
    if omega.max() * dt >= np.pi:
        raise ValueError(
            f"a frequency of {omega.max():g} is not below Nyquist's, π/dt = {np.pi / dt:g} at dt = {dt:g}: "
            "lower the frequency or dt"
        )
    return omega


def _period(omega: np.ndarray, dt: float) -> int:
    """Steps of one period of the slowest frequency."""
    return round(2 * math.pi / (omega.min() * dt))


def _numpy(x: Tensor) -> np.ndarray:
    return x.to("cpu", torch.float64).numpy()
