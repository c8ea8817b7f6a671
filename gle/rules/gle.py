"""GLE itself (Eqs. 7, 17, 21–24): the local, causal errors of the simulated error neurons."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gle import plasticity as pl
from gle.rules.base import Credit, Problem, added, cost_of, steps
from gle.state import State, Thetas


class GLE:
    """Exact where errors need no time to be right: instantaneous neurons (τm = τr) with instant propagation, γ = 0 and
    transposed feedback; and once input and target stand still, where a step's gradient is that of the settled cost.
    Elsewhere its errors have the phase of the exact ones and the reciprocal gain (Eqs. 30, 32), unless a layer's error
    neurons are instantaneous. What it carries from step to step is v and e, O(N)."""

    exact_for = "τm = τr with instant propagation, γ = 0, transposed feedback; the settled cost, step by step"
    online = True
    memories: tuple[type, ...] = ()
    own = True  # a simulation's own: what its plasticity does, with traces and centring as its memory

    @torch.no_grad()
    def __call__(
        self, problem: Problem, theta: Thetas, state: State, xs: Tensor, targets: Tensor, memory: Any = None
    ) -> Credit:
        net, batch = problem.net, xs.shape[-2]
        grads: Thetas | None = None
        outputs, errors = [], []
        for step in steps(problem, theta, state, xs, targets):
            here = pl.gradients(net, theta, step.local, problem.learn, batch)
            grads = here if grads is None else added(grads, here)
            outputs.append(step.seen)
            errors.append([l.e for l in step.local[: len(net.neurons)]])
            state = step.state
        assert grads is not None
        stacked = torch.stack(outputs)
        by_layer = tuple(torch.stack([e[i][d] for e in errors]) for i, d in net.places())
        return Credit(grads, by_layer, stacked, cost_of(problem, stacked, targets), state)
