"""Linear state-space models u̇ = A u + B x, y = C u + D x (Eq. 42), and a layer of a GLE network as one (§5.5).

    system = layer_state_space(network, 0)        # continuous time
    step = discretise(system, dt, "euler")        # u ← A u + B x, with y = C u + D x before the step
    y, u = run(step, x)

The states u are membrane potentials, the observations y = D⁺_τr{u} the outputs before φ.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from gle.network import Network, dense
from gle.state import Thetas


class StateSpace(NamedTuple):
    """Matrices of a model with n states, m inputs and p outputs."""

    A: Tensor  # [n, n]
    B: Tensor  # [n, m]
    C: Tensor  # [p, n]
    D: Tensor  # [p, m]


def layer_state_space(
    network: Network, l: int = 0, member: Sequence[int] = (), theta: Thetas | None = None
) -> StateSpace:
    """Layer l of the network, counted from the input (negative: from the top), in continuous time (Eqs. 40–42):

        A = −diag(1/τm)    B = diag(1/τm) W    C = diag(1 − α)    D = diag(α) W    α = τr/τm

    Inputs are the rates r of the layer below, as its synapses see them. A layer with biases has one more input, which
    is always 1: its weights, the last column of W, are the biases.

    member: index along each ensemble axis. theta: other parameters than the network's own, e.g. `sim.carry.theta`.

    Raises ValueError for a layer or member that the network does not have, and for synapses without a matrix of
    weights.
    """
    dense(network)
    places = list(network.places())
    if not -len(places) <= l < len(places):
        raise ValueError(f"there is no layer {l}: the network has {len(places)}")
    i, d = places[l]
    member, ensemble = tuple(member), network.ensemble
    if len(member) != len(ensemble) or any(not 0 <= k < n for k, n in zip(member, ensemble, strict=True)):
        raise ValueError(f"member {member} does not name one of the ensemble {ensemble}: give an index for each axis")
    p = (network.theta() if theta is None else theta)[i]
    W, tau_m, tau_r = (t[d][member].detach() for t in (p.W, p.tau_m, p.tau_r))
    if p.b is not None:
        W = torch.cat([W, p.b[d][member].detach().unsqueeze(-1)], -1)
    alpha = tau_r / tau_m
    return StateSpace(
        A=torch.diag(-1 / tau_m), B=W / tau_m.unsqueeze(-1), C=torch.diag(1 - alpha), D=W * alpha.unsqueeze(-1)
    )


def discretise(system: StateSpace, dt: float, scheme: str = "euler") -> StateSpace:
    """The model that takes steps of dt: forward Euler, or "exponential", which is exact for input held over the step.

    Raises ValueError for dt ≤ 0 and unknown schemes.
    """
    if not (dt > 0 and math.isfinite(dt)):
        raise ValueError(f"dt must be a positive number, got {dt}")
    A, B, n = system.A, system.B, len(system.A)
    if scheme == "euler":
        return system._replace(A=torch.eye(n).to(A) + dt * A, B=dt * B)
    if scheme == "exponential":
        # a held input is a state that does not move: d/dt (u, x) = [[A, B], [0, 0]] (u, x)
        held = torch.zeros(n + B.shape[1], n + B.shape[1]).to(A)
        held[:n] = torch.cat([A, B], -1)
        after = torch.linalg.matrix_exp(dt * held)
        return system._replace(A=after[:n, :n], B=after[:n, n:])
    raise ValueError(f"unknown scheme {scheme!r}; choose euler or exponential")


def run(step: StateSpace, x: Tensor, u: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Outputs y [T, …, p] of a discretised model for inputs x [T, …, m], and the state u […, n] after the last step.

    y is observed before the step, from the state u and the input x of the same instant; u starts at rest by default.
    """
    if x.shape[-1] != step.B.shape[1]:
        raise ValueError(f"inputs have {x.shape[-1]} features, the model has {step.B.shape[1]}")
    u = x.new_zeros(*x.shape[1:-1], len(step.A)) if u is None else u
    driven = x @ step.B.mT
    states = []
    for drive in driven:
        states.append(u)
        u = u @ step.A.mT + drive
    before = torch.stack(states) if states else x.new_zeros(0, *u.shape)
    return before @ step.C.mT + x @ step.D.mT, u


def transfer(system: StateSpace, s: complex | Sequence[complex] | np.ndarray) -> np.ndarray:
    """Transfer function C (s − A)⁻¹ B + D, [len(s), p, m]. s: iω, or exp(iω dt) for a discretised model."""
    A, B, C, D = (t.detach().cpu().numpy() for t in system)
    s = np.atleast_1d(s)[:, None, None]
    return C @ np.linalg.solve(s * np.eye(len(A)) - A, np.broadcast_to(B + 0j, (len(s), *B.shape))) + D
