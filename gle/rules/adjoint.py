"""The adjoint method (§11, Algorithm 2): errors λ integrated backwards in time along a stored trajectory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gle.integrators import Euler
from gle.operators import exponential_fraction, scan_low_pass
from gle.rules.base import Credit, Problem, chain, cost_of, nudges
from gle.rules.trajectory import gradients, trajectory
from gle.state import State, Thetas, select


class Adjoint:
    """λ_ℓ = I⁺_τm D⁻_τr {s_ℓ} with s_ℓ = φ′ ∘ W_{ℓ+1}ᵀ λ_{ℓ+1}, at the top φ′ ∘ the target error (Eqs. 69, 76), and
    λ = (τr/τm) s at the end of the stretch (Eq. 64).

    With Algorithm 2's discretisation, on the trajectory of any integrator,

        λ(t − dt) = e^(−dt/τm) λ(t) + (dt/τm) D⁻(t),    D⁻(t) = (1 − τr/dt) s(t) + (τr/dt) s(t − dt)

    it converges to the exact gradient at first order in dt. matched=True is the exact adjoint of the simulated network
    in its place: with a the fraction by which the integrator moves u,

        λ(t − dt) = (1 − a) λ(t) + a s(t) + (τr/τm) (s(t − dt) − s(t))

    and s from where the integrator's propagation has it. It holds for Euler (all parameters) and the exponential scheme
    (all but τm, whose gradient is of first order), without autograd and with one matrix product per layer. γ is taken
    as zero. Memory O(N T).

    Raises ValueError for matched=True with another integrator, and with delayed propagation for a single step, whose
    cost is that of the step before.
    """

    online = False
    memories: tuple[type, ...] = ()

    def __init__(self, matched: bool = False):
        self.matched = matched
        self.exact_for = "Euler, and all but τm of Exponential; γ = 0" if matched else "dt → 0, γ = 0"

    @torch.no_grad()
    def __call__(
        self, problem: Problem, theta: Thetas, state: State, xs: Tensor, targets: Tensor, memory: Any = None
    ) -> Credit:
        net = chain(problem, self)
        _, integrator, dynamics, _ = problem
        if self.matched and not isinstance(integrator, Euler):
            raise ValueError(f"the matched adjoint knows Euler and Exponential, not {type(integrator).__name__}")
        if self.matched and integrator.propagation == "delayed" and len(xs) == 1:
            raise ValueError(
                "a single step has no gradient with delayed propagation: its cost is that of the step before"
            )
        passed, state = trajectory(problem, theta, state, xs, targets)
        outputs = passed[-1].seen
        delayed = self.matched and integrator.propagation == "delayed"
        above = nudges(problem, outputs, targets)
        inst: list[Tensor] = []
        lambdas: list[Tensor] = []
        for (i, d), p in reversed(list(zip(net.places(), passed, strict=True))):
            q, layer = select(theta[i], d), net.layers[i]
            tau_m, tau_r = q.tau_m.unsqueeze(-2), q.tau_r.unsqueeze(-2)
            if delayed:  # the layer above, or the cost, sees this rate one step later
                above = torch.cat([above[1:], torch.zeros_like(above[:1])])
            s = layer.phi.pull((), p.r if delayed else p.seen, above)
            if self.matched:
                assert isinstance(integrator, Euler)
                a = gain = integrator.fraction(dynamics.dt, tau_m)
            else:
                a, gain = exponential_fraction(dynamics.dt, tau_m), dynamics.dt / tau_m
            inst.insert(0, s)
            lambdas.insert(0, backwards(s, a, gain, tau_r / tau_m))
            above = layer.synapse.backproject(q.W, q.W, lambdas[0])  # W itself, whatever the feedback pathway
        grads = gradients(problem, theta, passed, inst, lambdas)
        return Credit(grads, tuple(lambdas), outputs, cost_of(problem, outputs, targets), state)


def backwards(s: Tensor, a: Tensor, gain: Tensor, alpha: Tensor) -> Tensor:
    """λ over the stretch from s [T, …]: λ(t − dt) = (1 − a) λ(t) + gain · D⁻(t), from λ(T) = α s(T), α = τr/τm.

    gain · D⁻(t) = gain · s(t) + α (s(t − dt) − s(t)), since gain · τr/dt = α where gain = dt/τm.
    """
    flipped = s.flip(0)
    start = alpha * flipped[0]
    if len(s) == 1:
        return start.unsqueeze(0)
    driven = gain * flipped[:-1] + alpha * (flipped[1:] - flipped[:-1])
    before, last = scan_low_pass(start, driven / a, a, 0)
    return torch.cat([before, last.unsqueeze(0)]).flip(0)
