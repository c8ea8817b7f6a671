"""Error neurons: what they make of the error that arrives at them, e_inst.

Each has the potential v with τr v̇ = e_inst − v. The kinds differ in what they send, and in whose time constants they
have: by default those of the representation neuron that they belong to. A new kind is one class with these methods and
one line in `ERRORS`.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from gle.given import positive
from gle.operators import prospective
from gle.showing import shown
from gle.state import Theta, changed


class ErrorNeuron(Protocol):
    @property
    def exact(self) -> bool:
        """Whether e is D⁺_τm{v} with the time constants of the representation neuron: the exact inverse (Eq. 7)."""

    @property
    def inverse(self) -> bool:
        """Whether v moves, with the neuron's own time constants, as the inverse of its filter wants it; else as the
        scheme moves any filter of e_inst."""

    def constants(self, p: Theta) -> Theta:
        """p with the time constants that the error neurons have, [..., n]; p itself where they are the neuron's."""

    def error(self, p: Theta, v: Tensor, e_inst: Tensor) -> Tensor:
        """e, from v before the step. p: time constants as `constants` gives them, [..., 1, n]."""


def constant(name: str, value: Any) -> float | Tensor | None:
    """A number, or a tensor with one value per potential. Raises ValueError for time constants that are neither, or not
    positive."""
    if value is None:
        return None
    try:
        tau = value if isinstance(value, Tensor) else torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        tau = torch.tensor(math.nan)
    if tau.ndim > 1 or not bool((tau > 0).all() and tau.isfinite().all()):
        raise ValueError(
            f"{name} of error neurons must be positive and finite, a number or one per potential, got {value!r}"
        )
    return tau if tau.ndim else float(tau)


def like(tau: Tensor, own: float | Tensor | None) -> Tensor:
    """The error neurons' own constant in the neurons' place; theirs, where there is none."""
    if own is None:
        return tau
    return own.to(tau).expand_as(tau) if isinstance(own, Tensor) else torch.full_like(tau, own)


def share_of(name: str, value: Any) -> Tensor:
    """A number in [0, 1] as a tensor, which a compiled step takes anew each time. Raises ValueError for others."""
    try:
        share = float(value)
    except (TypeError, ValueError):
        share = math.nan
    if not 0 <= share <= 1:
        raise ValueError(f"the share of {name} must be a number in [0, 1], got {value!r}")
    return torch.tensor(share, dtype=torch.float64)


class _Kind:
    """What is common to the kinds here."""

    exact = False
    inverse = True

    def options(self) -> dict[str, Any]:
        """What it was made with."""
        return dict(vars(self))

    def __repr__(self) -> str:
        return shown(self, *self.options())


class Prospective(_Kind):
    """e = D⁺_τm{v} (Eqs. 7, 45), which undoes the filter of the representation neuron.

    tau_m, tau_r: of the error neurons, where they are mismatched: a number, or one per potential. limit: the largest
    gain κ: their gain at high frequency, τm/τr, is kept below it by a slower v, τr ≥ τm/κ.

    Raises ValueError for time constants and limits that are not positive.
    """

    def __init__(
        self, tau_m: float | Tensor | None = None, tau_r: float | Tensor | None = None, limit: float = math.inf
    ):
        self.tau_m, self.tau_r = constant("tau_m", tau_m), constant("tau_r", tau_r)
        self.limit = positive("the limit of the gain", limit, finite=False)

    @property
    def exact(self) -> bool:  # type: ignore[override]
        return not self.options()

    def options(self) -> dict[str, Any]:
        limit = {} if self.limit == math.inf else {"limit": self.limit}
        return {k: tau for k in ("tau_m", "tau_r") if (tau := getattr(self, k)) is not None} | limit

    def constants(self, p: Theta) -> Theta:
        if self.exact:
            return p
        tau_m, tau_r = like(p.tau_m, self.tau_m), like(p.tau_r, self.tau_r)
        return changed(p, tau_m=tau_m, tau_r=torch.maximum(tau_r, tau_m / self.limit))

    def error(self, p: Theta, v: Tensor, e_inst: Tensor) -> Tensor:
        return prospective(v, e_inst, p.tau_r, p.tau_m)


class Instantaneous(_Kind):
    """e = e_inst: time is left alone, as backprop at every instant does (§2.5)."""

    def constants(self, p: Theta) -> Theta:
        return p

    def error(self, p: Theta, v: Tensor, e_inst: Tensor) -> Tensor:
        return e_inst


class Blended(_Kind):
    """e = e_inst + share (D⁺_τm{v} − e_inst): GLE's errors at share = 1, instantaneous ones at 0. The share may be
    anything between, and a compiled step is the same for all of them: stages of learning that differ in it, each with a
    simulation of its own, need no compiling anew.

    Raises ValueError for a share outside [0, 1].
    """

    def __init__(self, share: float = 1.0):
        self.share = share_of("errors", share)

    def options(self) -> dict[str, Any]:
        return {"share": float(self.share)}

    def __repr__(self) -> str:
        return f"Blended(share={self.share:g})"

    def constants(self, p: Theta) -> Theta:
        return p

    def error(self, p: Theta, v: Tensor, e_inst: Tensor) -> Tensor:
        return torch.lerp(e_inst, prospective(v, e_inst, p.tau_r, p.tau_m), self.share.to(e_inst))


class Relaxing(_Kind):
    """e = v: leaky error neurons, which follow e_inst with their time constant tau (by default τr, one per potential or
    one for all). Stable in every loop in which the rates are."""

    inverse = False

    def __init__(self, tau: float | Tensor | None = None):
        self.tau = constant("tau", tau)

    def constants(self, p: Theta) -> Theta:
        return p if self.tau is None else changed(p, tau_r=like(p.tau_r, self.tau))

    def error(self, p: Theta, v: Tensor, e_inst: Tensor) -> Tensor:
        return v


class AllPass(Relaxing):
    """e = 2v − e_inst: late by 2 τ for slow signals, and as large at every frequency; its filter is
    (1 − iωτ)/(1 + iωτ), the first-order one of a conduction delay. tau: as for `Relaxing`. Its gain is one for dt → 0;
    with forward Euler at most (2 + a)/(2 − a), a = dt/τ."""

    def error(self, p: Theta, v: Tensor, e_inst: Tensor) -> Tensor:
        return 2 * v - e_inst


class Saturating(_Kind):
    """Another kind of error neuron whose output is bounded: at · tanh(e/at).

    Raises ValueError for a bound that is not positive.
    """

    def __init__(self, inner: str | ErrorNeuron = "prospective", at: float = 1.0):
        self.inner, self.at = error_neuron(inner), positive("the bound of saturating errors", at)

    @property
    def inverse(self) -> bool:  # type: ignore[override]
        return self.inner.inverse

    def constants(self, p: Theta) -> Theta:
        return self.inner.constants(p)

    def error(self, p: Theta, v: Tensor, e_inst: Tensor) -> Tensor:
        return self.at * torch.tanh(self.inner.error(p, v, e_inst) / self.at)


ERRORS: dict[str, type[ErrorNeuron]] = {
    "prospective": Prospective,
    "instantaneous": Instantaneous,
    "blended": Blended,
    "relaxing": Relaxing,
    "all_pass": AllPass,
    "saturating": Saturating,
}


def error_neuron(given: str | ErrorNeuron) -> ErrorNeuron:
    """The error neurons called so, with their defaults, or themselves. Raises ValueError for what is none."""
    if isinstance(given, str) and given in ERRORS:
        return ERRORS[given]()
    if isinstance(given, (str, type)) or not hasattr(given, "constants"):
        raise ValueError(f"unknown errors {given!r}; choose {' or '.join(ERRORS)}, or an object of gle.errors")
    return given
