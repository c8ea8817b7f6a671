"""The forward pass of a stretch, kept whole: what rules need that look back on it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gle import plasticity as pl
from gle.integrators import Euler
from gle.network import Network
from gle.rules.base import Problem, steps
from gle.scan import STEPS, can_scan, forward, restack, state_after
from gle.state import Local, State, Thetas, select


class Passed(NamedTuple):
    """One layer ℓ over the stretch; tensors [T, *ensemble, batch, n]."""

    pre: Tensor
    current: Tensor
    u: Tensor  # before each step
    r: Tensor  # the rate that each step computed
    seen: Tensor  # the rate that the neighbours see during it


def trajectory(
    problem: Problem, theta: Thetas, state: State, xs: Tensor, targets: Tensor
) -> tuple[list[Passed], State]:
    """All layers ℓ, and the state after the stretch. Where `gle.scan` can take the steps at once, v and e of the state
    stay as they were: errors are what these rules put in their place."""
    net, integrator, dynamics, _ = problem
    assert isinstance(net, Network)  # as `chain` makes sure of
    if can_scan(net, integrator, dynamics.gamma):
        assert isinstance(integrator, Euler)
        passes = forward(net, integrator, theta, state, xs[:, 0].movedim(0, STEPS), dynamics.dt)
        by_time = [[x.movedim(STEPS, 0) for x in (f.pre, f.current, f.u, f.rates, f.seen)] for f in passes]
        return [Passed(*fields) for fields in by_time], state_after(net, state, passes)
    kept = []
    for step in steps(problem, theta, state, xs, targets):
        kept.append((step.local, [s.r for s in step.state], step.rates))
        state = step.state
    layers = [
        Passed(
            pre=torch.stack([local[i].pre[d] for local, _, _ in kept]),
            current=torch.stack([local[i].current[d] for local, _, _ in kept]),
            u=torch.stack([local[i].u[d] for local, _, _ in kept]),
            r=torch.stack([r[i][d] for _, r, _ in kept]),
            seen=torch.stack([rates[i][d] for _, _, rates in kept]),
        )
        for i, d in net.places()
    ]
    return layers, state


def gradients(
    problem: Problem, theta: Thetas, passed: list[Passed], inst: list[Tensor], errors: list[Tensor]
) -> Thetas:
    """Eqs. 21–24 summed over the stretch, for any errors: e_inst and e of each layer ℓ, [T, *ensemble, batch, n]."""

    def rows(x: Tensor) -> Tensor:  # [T, *ensemble, batch, n] → [*ensemble, T · batch, n]
        return x.movedim(0, -3).flatten(-3, -2)

    net = problem.net
    assert isinstance(net, Network)
    layers = []
    for (i, d), p, e_inst, e in zip(net.places(), passed, inst, errors, strict=True):
        local = Local(*map(rows, (p.pre, p.current, p.u, e_inst, e)))
        layers.append(pl.layer_gradients(net.layers[i], select(theta[i], d), local, problem.learn, p.u.shape[-2]))
    return restack(net, layers)
