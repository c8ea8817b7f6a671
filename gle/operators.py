"""The temporal operators of GLE, on sampled signals and as transfer functions.

I⁻ (Eq. 1) integrates the past: a leaky integrator with time constant τ.
D⁺ (Eq. 2) looks ahead: a signal plus τ times its rate of change.
A neuron applies D⁺_τr I⁻_τm to its input; its error neuron applies D⁺_τm I⁻_τr (Eqs. 6 and 7).

Both are straight-line mixtures of a state u and its input x, and so is their composition: with u̇ = (x − u)/τ,

    one step of I⁻_τ            u + a (x − u)          a = dt/τ, or 1 − exp(−dt/τ)
    D⁺_τ′ of that integrator    u + (τ′/τ) (x − u)

Every filter of the toolkit, forward or backward, is built from these two.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

Values = Any  # a number or an array, real or complex


def low_pass(u: Tensor, x: Tensor, a: Tensor) -> Tensor:
    """One step of I⁻ (Eqs. 1, 48): u moves towards x by the fraction a (see `euler_fraction`)."""
    return torch.lerp(u, x, a)


def rate_of_change(u: Tensor, x: Tensor, tau: Tensor) -> Tensor:
    """u̇ = (x − u)/τ of a leaky integrator (Eq. 6)."""
    return (x - u) / tau


def prospective(u: Tensor, x: Tensor, tau: Tensor, tau_ahead: Tensor) -> Tensor:
    """D⁺_τ′{u} = u + τ′ u̇ (Eq. 2) of a leaky integrator with time constant τ and input x; τ′ is `tau_ahead`."""
    return torch.lerp(u, x, tau_ahead / tau)


def euler_fraction(dt: float, tau: Tensor) -> Tensor:
    """The fraction of its distance that a leaky integrator covers in one forward-Euler step: dt/τ (Eq. 48)."""
    return dt / tau


def exponential_fraction(dt: float, tau: Tensor) -> Tensor:
    """The same for input held constant over the step, without discretisation error: 1 − exp(−dt/τ)."""
    return -torch.expm1(-dt / tau)


def scan_low_pass(u: Tensor, x: Tensor, a: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """I⁻ over many steps: u *before* each step, stacked along `dim`, and u after the last one.

    u: the state before the first step, shaped as x without `dim`; x: the filter's input. Not differentiable where it
    runs eagerly: each step is written in place, where the result is wanted.
    """
    steps = x.unbind(dim)
    if torch.compiler.is_compiling():  # a compiler places the steps itself, and cannot follow writes into views
        states = list(itertools.accumulate(steps, lambda here, x_t: low_pass(here, x_t, a), initial=u))
        return torch.stack(states[:-1], dim), states[-1]
    before = torch.empty_like(x)
    here, *rest = before.unbind(dim)
    here.copy_(u)
    for x_t, there in zip(steps[:-1], rest, strict=True):
        torch.lerp(here, x_t, a, out=there)
        here = there
    return before, low_pass(here, steps[-1], a)


# Transfer functions (Eqs. 28–32): ω in radians per time unit.


def retrospective_response(omega: Values, tau: Values) -> Values:
    """Fourier transform of I⁻_τ: 1 / (1 + iωτ) (Eq. 28)."""
    return 1 / (1 + 1j * omega * tau)


def prospective_response(omega: Values, tau: Values) -> Values:
    """Fourier transform of D⁺_τ: 1 + iωτ (Eq. 28)."""
    return 1 + 1j * omega * tau


def neuron_response(omega: Values, tau_m: float, tau_r: float) -> Values:
    """A linear representation neuron, D⁺_τr I⁻_τm: (1 + iωτr) / (1 + iωτm)."""
    return prospective_response(omega, tau_r) * retrospective_response(omega, tau_m)


def error_response(omega: Values, tau_m: float, tau_r: float) -> Values:
    """Its error neuron, D⁺_τm I⁻_τr: the same with the time constants exchanged."""
    return neuron_response(omega, tau_r, tau_m)


def adjoint_response(omega: Values, tau_m: float, tau_r: float) -> Values:
    """The exact adjoint I⁺_τm D⁻_τr (Eqs. 10, 28): the phase of `error_response`, the reciprocal gain."""
    return (1 - 1j * omega * tau_r) / (1 - 1j * omega * tau_m)


def discrete_neuron_response(
    omega: Values, tau_m: float, tau_r: float, dt: float, *, exponential: bool = False
) -> Values:
    """The simulated linear neuron: r(z)/x(z) = τr/τm + (1 − τr/τm)·a/(z − 1 + a), z = exp(iω dt).

    a is dt/τm for forward Euler and 1 − exp(−dt/τm) for the exponential scheme. r is taken at the
    instant of its evaluation; delayed propagation adds a factor 1/z.
    """
    a = -math.expm1(-dt / tau_m) if exponential else dt / tau_m
    z = np.exp(1j * np.asarray(omega) * dt)
    ratio = tau_r / tau_m
    return ratio + (1 - ratio) * a / (z - 1 + a)
