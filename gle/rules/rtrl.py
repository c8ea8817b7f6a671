"""Real-time recurrent learning (Williams & Zipser 1989): the exact gradient forward in time."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import jvp, vmap

from gle.rules.base import Credit, Problem, cost_of, derives, grads_like, handed_on, learned, nudges, steps
from gle.rules.influence import Forward, Pieces
from gle.state import State, Thetas

CHUNK = 128  # parameters whose influence advances at once


class Influence(NamedTuple):
    """∂state/∂θ."""

    batch: int
    where: list[tuple[int, str]]
    pieces: Pieces  # [parameter, *piece] of each piece of the state


class RTRL:
    """Carries the influence ∂state/∂θ of every parameter from step to step: ∂s(t+dt)/∂θ = F_s ∂s(t)/∂θ + F_θ.

    Exact for the simulated network, whatever the integrator and γ, while its parameters rest. Memory O(N³) (N neurons,
    N² parameters, per sample), time O(N⁴) a step: for small networks.
    """

    exact_for = "everything"
    online = True
    memories: tuple[type, ...] = (Influence,)

    @derives
    def __call__(
        self, problem: Problem, theta: Thetas, state: State, xs: Tensor, targets: Tensor, memory: Any = None
    ) -> Credit:
        where = learned(problem)
        forward = Forward(problem, theta, where)
        members = problem.net.ensemble
        sizes = [v.numel() // math.prod(members) for v in forward.values]
        starts = [sum(sizes[:n]) for n in range(len(sizes))]
        index = torch.arange(sum(sizes), device=problem.net.device)

        def direction(k: Tensor) -> Pieces:
            """The unit vector of parameter k, in the shapes of the values; the same for every ensemble member."""
            parts = []
            for v, size, start in zip(forward.values, sizes, starts, strict=True):
                unit = (index[:size] + start == k).to(v.dtype)
                depth, rest = v.shape[0], v.shape[1 + len(members) :]
                parts.append(unit.reshape(depth, *(1,) * len(members), *rest).expand(v.shape))
            return tuple(parts)

        if memory is None:
            nothing = tuple(p.new_zeros(len(index), *p.shape) for p in forward.pieces(state))
            memory = Influence(xs.shape[-2], where, nothing)
        influence: Pieces = handed_on(memory, Influence, xs.shape[-2], where).pieces
        grad = torch.zeros(len(index), *members, dtype=problem.net.dtype, device=problem.net.device)
        outputs = []
        for t, taken in enumerate(steps(problem, theta, state, xs, targets)):
            advance = forward.step(xs[t], targets[t])
            pieces = forward.pieces(state)

            def tangent(k: Tensor, J: Pieces, advance: Any = advance, pieces: Pieces = pieces) -> Pieces:
                return jvp(advance, (forward.values, pieces), (direction(k), J))[1]

            before = influence
            influence = vmap(tangent, chunk_size=CHUNK)(index, influence)
            seen = forward.output(before if forward.delayed else influence)  # [P, *ensemble, batch, n_out]
            nudge = nudges(problem, taken.seen.unsqueeze(0), targets[t].unsqueeze(0))
            grad -= (seen * nudge).sum((-1, -2)) / xs.shape[-2]
            outputs.append(taken.seen)
            state = taken.state

        values = []
        for v, part in zip(forward.values, grad.split(sizes), strict=True):
            depth, rest = v.shape[0], v.shape[1 + len(members) :]
            shaped = part.reshape(depth, *rest, *members)
            values.append(shaped.permute(0, *range(1 + len(rest), shaped.ndim), *range(1, 1 + len(rest))).contiguous())
        stacked = torch.stack(outputs)
        cost, memory = cost_of(problem, stacked, targets), Influence(xs.shape[-2], where, influence)
        return Credit(grads_like(theta, where, values), None, stacked, cost, state, memory)
