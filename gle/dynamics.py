"""The equations of motion of a representation neuron and its error neuron (Eqs. 6, 7), and what nudges the output."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gle.costs import Cost
from gle.neurons import RateFunction
from gle.operators import prospective
from gle.state import Theta


class Dynamics(NamedTuple):
    """What the equations of motion need besides parameters. beta, gamma: numbers, or one value per ensemble member."""

    dt: float
    beta: float | Tensor  # nudging strength β (Eq. 3)
    gamma: float | Tensor  # somato-dendritic coupling γ (Algorithm 1)
    cost: Cost
    noise: Any = None  # of this step: a `gle.noise.Disturbance`


def per_member(value: float | Tensor, like: Tensor, trailing: int = 2) -> float | Tensor:
    """A number as it is; a tensor over the ensemble axes with `trailing` further axes appended."""
    if isinstance(value, Tensor) and value.ndim:
        return value.to(like)[(...,) + (None,) * trailing]
    return value


def per_neuron(tau: Tensor) -> Tensor:
    return tau.unsqueeze(-2)  # [..., n] → [..., rows, n]


def is_zero(value: float | Tensor) -> bool:
    return not isinstance(value, Tensor) and value == 0


def disturbed(value: Tensor, dynamics: Dynamics, what: str, i: int, d: int | None = None) -> Tensor:
    """The current, rate or error of part i, or of its layer d, with this step's noise."""
    noise = None if dynamics.noise is None else getattr(dynamics.noise, what)
    if noise is None:
        return value
    return value + (noise[i] if d is None else noise[i][d])


def rate(phi: RateFunction, p: Theta, u: Tensor, current: Tensor) -> tuple[Tensor, tuple]:
    """r = φ(D⁺_τr{u}) with τm u̇ = I − u (Eqs. 6, 43), and what the error's way back through φ keeps of it. Without time
    constants (None) u is I, as where both are one."""
    if p.tau_m is None:
        return phi.rate(current)
    return phi.rate(prospective(u, current, per_neuron(p.tau_m), per_neuron(p.tau_r)))


def nudge(r_top: Tensor, target: Tensor | None, dynamics: Dynamics, ensemble: tuple[int, ...]) -> Tensor:
    """−β ∂C/∂r at the output (Eq. 18); zero without a target, and where it is NaN: there is no teacher."""
    if target is None:
        return torch.zeros_like(r_top)
    behind = r_top.ndim - len(ensemble)  # [batch, n], and an axis of steps in front of them in a scan
    error = torch.where(torch.isnan(target), 0.0, dynamics.cost.error(r_top, target))
    return per_member(dynamics.beta, r_top, behind) * error
