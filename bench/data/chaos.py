"""The Mackey-Glass series (Eq. 55): a chaotic delay differential equation, generated with jitcdde and cached.

    ẋ(t) = β x(t − τ) / (1 + x(t − τ)ⁿ) − γ x(t),    β = 0.2, γ = 0.1, n = 10, τ = 17

Two integrations of a chaotic system agree only for some Lyapunov times, whatever their tolerance: a series generated
here is not the one generated elsewhere, and every result says which one it used (`Series.source`). `published` reads
the file that NeuroBench distributes.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from bench.data.cache import cache_dir, cached

BETA, GAMMA, N, TAU = 0.2, 0.1, 10, 17.0
LYAPUNOV_TIME = 197.0  # as NeuroBench and the paper count
HISTORY = 0.7206597  # x(t ≤ 0) of the test series, the constant that NeuroBench starts from
HELD_OUT_HISTORY = 1.1  # … and of a series to choose settings on
FINE, COARSE = 985, 75  # points per Lyapunov time: the paper's dt = 0.2, and NeuroBench's dt = 2.63


class Series(NamedTuple):
    x: Tensor  # [points], float64
    dt: float  # time units between two points
    source: str


def mackey_glass(
    points: int = FINE,
    lyapunov_times: float = 50,
    *,
    history: float = HISTORY,
    transient: float = 1000.0,
    folder: Path | None = None,
) -> Series:
    """The series from a constant history x(t ≤ 0), sampled at `points` per Lyapunov time after `transient` time units.

    Raises ValueError for fewer than one point per Lyapunov time, an empty series, or a history outside (0, 2), where
    the equation need not end on its chaotic attractor.
    """
    if points < 1 or not lyapunov_times > 0:
        raise ValueError(f"points and lyapunov_times must be positive, got {points} and {lyapunov_times:g}")
    if not 0 < history < 2:
        raise ValueError(f"history must lie between 0 and 2, got {history:g}")
    # 985 points make up 197 time units at dt = 0.2, 75 make dt = 2.6267
    dt = LYAPUNOV_TIME / points
    settings = {
        **{"beta": BETA, "gamma": GAMMA, "n": N, "tau": TAU, "history": history, "transient": transient},
        **{"dt": dt, "steps": round(lyapunov_times * points), "tolerance": TOLERANCE},
    }
    x = cached("mackey-glass", settings, _generate, folder or cache_dir())["x"]
    digest = hashlib.sha256(x.tobytes()).hexdigest()[:12]
    return Series(torch.from_numpy(x), dt, f"jitcdde, x(t ≤ 0) = {history:g}, sha256 {digest}")


TOLERANCE = 1e-11  # absolute and relative


def _generate(settings: dict) -> dict[str, np.ndarray]:
    times = settings["transient"] + settings["dt"] * np.arange(settings["steps"])
    return {"x": integrate(times, settings["history"], settings["tolerance"])}


def integrate(times: np.ndarray, history: float, tolerance: float = TOLERANCE) -> np.ndarray:
    """x at ascending times ≥ τ, from a constant history. The equation is compiled where there is a C compiler."""
    from jitcdde import jitcdde, t, y

    delayed = y(0, t - TAU)
    equation = jitcdde([BETA * delayed / (1 + delayed**N) - GAMMA * y(0)], verbose=False)
    equation.constant_past([history])
    equation.set_integration_parameters(rtol=tolerance, atol=tolerance)
    equation.step_on_discontinuities()  # of the derivatives, which the constant history starts; ends at t ≥ τ
    if len(times) and times[0] < equation.t:
        raise ValueError(f"times begin at {times[0]:g}, before {equation.t:g}, where the first delay has passed")
    return np.array([equation.integrate(at)[0] for at in times])


def published(path: Path, points: int = COARSE) -> Series:
    """NeuroBench's published series, an array in a file `.npy`, of which `points` make up a Lyapunov time.

    Raises ValueError where the file does not hold one finite series.
    """
    try:
        x = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError, BadZipFile) as error:
        raise ValueError(f"{path} is not a readable .npy file ({error})") from error
    if not isinstance(x, np.ndarray) or x.squeeze().ndim != 1 or x.dtype.kind not in "fiu":
        raise ValueError(
            f"{path} must hold one series of real numbers, not {getattr(x, 'dtype', type(x).__name__)}"
            f" of shape {getattr(x, 'shape', ())}"
        )
    x = x.squeeze().astype(np.float64)
    check_finite(torch.from_numpy(x), str(path))
    digest = hashlib.sha256(x.tobytes()).hexdigest()[:12]
    return Series(torch.from_numpy(x), LYAPUNOV_TIME / points, f"{path.name}, sha256 {digest}")


def check_finite(x: Tensor, name: str) -> None:
    """Raises ValueError for NaN or infinite values, naming the first."""
    bad = (~torch.isfinite(x)).nonzero()
    if len(bad):
        raise ValueError(f"{name} is not finite at point {int(bad[0, 0])}: clean the series first")


def hold(series: Series, dt: float) -> Series:
    """A coarser series at steps of dt, each value held until the next one is known.

    A straight line between two coarse points would show the network at every step a value that lies in its future: the
    next point. Holding is causal. Raises ValueError unless dt divides the series' own.
    """
    ratio = series.dt / dt
    if round(ratio) < 1 or abs(ratio - round(ratio)) > 1e-6 * ratio:
        raise ValueError(f"dt = {dt:g} must divide the {series.dt:g} time units between two points of the series")
    return Series(series.x.repeat_interleave(round(ratio)), dt, f"{series.source}, held")


def sequences(series: Series, number: int, *, length: float = 20, shift: float = 0.5) -> Tensor:
    """`number` stretches of `length` Lyapunov times, each begun `shift` later than the one before, to the
    nearest point: [number, points].

    Raises ValueError where the series is too short for them.
    """
    per = LYAPUNOV_TIME / series.dt
    points, starts = round(length * per), [round(i * shift * per) for i in range(number)]
    if number < 1 or points < 1:
        raise ValueError(f"at least one sequence of one point is needed, got {number} of {points}")
    if starts[-1] + points > len(series.x):
        raise ValueError(
            f"{number} sequences of {length:g} Lyapunov times, {shift:g} apart, need {starts[-1] + points} points; "
            f"the series has {len(series.x)}"
        )
    check_finite(series.x, "the series")
    return torch.stack([series.x[s : s + points] for s in starts])
