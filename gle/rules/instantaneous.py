"""Spatial backprop at every instant (§2.5): errors in sync with the output's, without temporal operators."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gle.rules.base import Credit, Problem, chain, cost_of, nudges
from gle.rules.trajectory import gradients, trajectory
from gle.state import State, Thetas, select


class Instantaneous:
    """e_ℓ = φ′ ∘ W_{ℓ+1}ᵀ e_{ℓ+1}, all at once, as in Latent Equilibrium. Needs no memory; blind to the time constants
    of the neurons in between."""

    exact_for = "τm = τr with instant propagation, γ = 0, transposed feedback; the settled cost, step by step"
    online = True
    memories: tuple[type, ...] = ()

    @torch.no_grad()
    def __call__(
        self, problem: Problem, theta: Thetas, state: State, xs: Tensor, targets: Tensor, memory: Any = None
    ) -> Credit:
        net = chain(problem, self)
        passed, state = trajectory(problem, theta, state, xs, targets)
        outputs = passed[-1].seen
        above = nudges(problem, outputs, targets)
        errors: list[Tensor] = []
        for (i, d), p in reversed(list(zip(net.places(), passed, strict=True))):
            errors.insert(0, net.layers[i].phi.pull((), p.seen, above))
            q = select(theta[i], d)
            above = net.layers[i].synapse.backproject(q.W, q.B, errors[0])
        grads = gradients(problem, theta, passed, errors, errors)
        return Credit(grads, tuple(errors), outputs, cost_of(problem, outputs, targets), state)
