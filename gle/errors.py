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

from gle.operators import prospective
from gle.showing import shown
from gle.state import Theta, changed


class ErrorNeuron(Protocol):
    @property
    def exact(self) -> bool:
        """Whether e is D⁺_τm{v} with the time constants of the representation neuron: the exact inverse (Eq. 7)."""

    def constants(self, p: Theta) -> Theta:
        """p with the time constants that the error neurons have, [..., n]."""

    def error(self, p: Theta, v: Tensor, e_inst: Tensor) -> Tensor:
        """e, from v before the step. p: time constants as `constants` gives them, [..., 1, n]."""


def constant(name: str, value: float | Tensor | None) -> float | Tensor | None:
    """Raises ValueError for time constants that are not positive."""
    if value is not None and not bool(((tau := torch.as_tensor(value)) > 0).all() and tau.isfinite().all()):
        raise ValueError(f"{name} of an error neuron must be positive and finite, got {value}")
    return value


class _Kind:
    """What is common to the kinds here."""

    exact = False

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
        if not limit > 0:
            raise ValueError(f"limit must be a positive gain, got {limit}")
        self.tau_m, self.tau_r, self.limit = constant("tau_m", tau_m), constant("tau_r", tau_r), limit

    @property
    def exact(self) -> bool:  # type: ignore[override]
        return not self.options()

    def options(self) -> dict[str, Any]:
        limit = {} if self.limit == math.inf else {"limit": self.limit}
        return {k: tau for k in ("tau_m", "tau_r") if (tau := getattr(self, k)) is not None} | limit

    def constants(self, p: Theta) -> Theta:
        if self.exact:
            return p
        tau_m = p.tau_m if self.tau_m is None else torch.as_tensor(self.tau_m).to(p.tau_m).expand_as(p.tau_m)
        tau_r = p.tau_r if self.tau_r is None else torch.as_tensor(self.tau_r).to(p.tau_r).expand_as(p.tau_r)
        return changed(p, tau_m=tau_m, tau_r=torch.maximum(tau_r, tau_m / self.limit))

    def error(self, p: Theta, v: Tensor, e_inst: Tensor) -> Tensor:
        return prospective(v, e_inst, p.tau_r, p.tau_m)


class Instantaneous(_Kind):
    """e = e_inst: time is left alone, as backprop at every instant does (§2.5)."""

    def constants(self, p: Theta) -> Theta:
        return p

    def error(self, p: Theta, v: Tensor, e_inst: Tensor) -> Tensor:
        return e_inst


class Relaxing(_Kind):
    """e = v: leaky error neurons, which follow e_inst with their time constant tau (by default τr, one per potential or
    one for all). Stable in every loop in which the rates are."""

    def __init__(self, tau: float | Tensor | None = None):
        self.tau = constant("tau", tau)

    def constants(self, p: Theta) -> Theta:
        return p if self.tau is None else changed(p, tau_r=torch.as_tensor(self.tau).to(p.tau_r).expand_as(p.tau_r))

    def error(self, p: Theta, v: Tensor, e_inst: Tensor) -> Tensor:
        return v


class Saturating(_Kind):
    """Another kind of error neuron whose output is bounded: at · tanh(e/at).

    Raises ValueError for a bound that is not positive.
    """

    def __init__(self, inner: str | ErrorNeuron = "prospective", at: float = 1.0):
        if not at > 0:
            raise ValueError(f"errors saturate at a positive value, got {at}")
        self.inner, self.at = error_neuron(inner), at

    def constants(self, p: Theta) -> Theta:
        return self.inner.constants(p)

    def error(self, p: Theta, v: Tensor, e_inst: Tensor) -> Tensor:
        return self.at * torch.tanh(self.inner.error(p, v, e_inst) / self.at)


ERRORS: dict[str, type[ErrorNeuron]] = {
    "prospective": Prospective,
    "instantaneous": Instantaneous,
    "relaxing": Relaxing,
    "saturating": Saturating,
}


def error_neuron(given: str | ErrorNeuron) -> ErrorNeuron:
    """The error neurons called so, with their defaults, or themselves. Raises ValueError for what is none."""
    if isinstance(given, str) and given in ERRORS:
        return ERRORS[given]()
    if isinstance(given, (str, type)) or not hasattr(given, "constants"):
        raise ValueError(f"unknown errors {given!r}; choose {' or '.join(ERRORS)}, or an object of gle.errors")
    return given
