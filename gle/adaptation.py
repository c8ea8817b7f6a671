"""Prospectivity through adaptation (§5.4): leaky integrators from which a slower variable w is subtracted.

    τm u̇ = −u + I − w    (R = 1)
    τw ẇ = −w + γ u      u-adaptation (Eq. 33): w follows the membrane potential
    τw ẇ = −w + γ I      I-adaptation (Eq. 38): w follows the input

What is subtracted lags behind, so what remains runs ahead: at low frequencies u is prospective where γ is large enough
(`first_order_phase`). ω is in radians per time unit, the time unit that of the τ.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from gle.analysis import state_space
from gle.analysis.state_space import StateSpace
from gle.operators import Values, prospective_response


@dataclass(frozen=True)
class Adaptive(ABC):
    """What both neurons share. Raises ValueError for time constants that are not positive."""

    tau_m: float
    tau_w: float
    gamma: float

    def __post_init__(self) -> None:
        for name in ("tau_m", "tau_w"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name):g}")

    def _state_space(self, from_u: float, from_I: float) -> StateSpace:
        """States (u, w), input I, output u; w is driven by from_u · u + from_I · I."""
        matrices = (
            [[-1 / self.tau_m, -1 / self.tau_m], [from_u / self.tau_w, -1 / self.tau_w]],
            [[1 / self.tau_m], [from_I / self.tau_w]],
            [[1.0, 0.0]],
            [[0.0]],
        )
        return StateSpace(*(torch.tensor(m, dtype=torch.float64) for m in matrices))

    @property
    @abstractmethod
    def state_space(self) -> StateSpace: ...

    @abstractmethod
    def response(self, omega: Values) -> Values: ...

    @abstractmethod
    def first_order_phase(self, omega: Values) -> Values: ...


class UAdaptation(Adaptive):
    """Voltage-dependent adaptive current (§5.4.1), prospective for γ > τm/τw."""

    @property
    def state_space(self) -> StateSpace:
        return self._state_space(self.gamma, 0.0)

    def response(self, omega: Values) -> Values:
        """u(ω)/I(ω), Eq. 35."""
        d_m, d_w = prospective_response(omega, self.tau_m), prospective_response(omega, self.tau_w)
        return d_w / (d_w * d_m + self.gamma)

    def first_order_phase(self, omega: Values) -> Values:
        """Phase of the expansion to first order in ωτ, Eqs. 36 and 37."""
        return np.arctan(omega * (self.gamma * self.tau_w - self.tau_m) / (1 + self.gamma))


class IAdaptation(Adaptive):
    """Input-dependent adaptive current (§5.4.2), prospective for τm/(τm + τw) < γ < 1."""

    @property
    def state_space(self) -> StateSpace:
        return self._state_space(0.0, self.gamma)

    def response(self, omega: Values) -> Values:
        """u(ω)/I(ω), below Eq. 38."""
        d_m, d_w = prospective_response(omega, self.tau_m), prospective_response(omega, self.tau_w)
        return (d_w - self.gamma) / (d_w * d_m)

    def first_order_phase(self, omega: Values) -> Values:
        """Phase of the expansion to first order in ωτ, Eq. 39; for γ < 1."""
        rest = 1 - self.gamma
        return np.arctan(omega * (self.gamma * self.tau_w - rest * self.tau_m) / rest)


def simulate(neuron: Adaptive, current: Tensor, dt: float, scheme: str = "euler") -> Tensor:
    """u before each step [T, …] from rest, for an input current [T, …]; in float64.

    scheme: "euler", or "exponential", which is exact for a current held over each step. Raises ValueError for dt ≤ 0,
    unknown schemes, and a dt at which the scheme is unstable.
    """
    step = state_space.discretise(neuron.state_space, dt, scheme)
    growth = torch.linalg.eigvals(step.A).abs().max().item()
    if growth > 1:
        raise ValueError(f"dt = {dt:g} makes {scheme} steps grow by a factor {growth:.3g} each: lower dt")
    return state_space.run(step, current.double().unsqueeze(-1))[0].squeeze(-1)
