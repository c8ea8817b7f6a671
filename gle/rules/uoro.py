"""Unbiased online recurrent optimisation (Tallec & Ollivier 2017): RTRL with an influence of rank one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from gle.rules.base import Credit, Problem, cost_of, derives, grads_like, handed_on, learned, nudges, steps
from gle.rules.influence import Forward, Pieces
from gle.seeding import generator
from gle.state import State, Thetas


class RankOne(NamedTuple):
    batch: int
    where: list[tuple[int, str]]
    s: Pieces  # s̃, shaped as the state
    theta: Pieces  # θ̃, one per sample: [batch, *value]
    noise: torch.Generator


class UORO:
    """∂state/∂θ ≈ s̃ ⊗ θ̃, with s̃ ← ρ₀ F_s s̃ + ρ₁ ν and θ̃ ← θ̃/ρ₀ + νᵀF_θ/ρ₁ for random signs ν.

    Unbiased at fixed parameters: the mean over the noise is the exact gradient, with a variance that grows with the
    state's size. Memory O(N²) per sample. seed: of the noise.
    """

    exact_for = "the mean over its noise"
    online = True
    memories: tuple[type, ...] = (RankOne,)

    def __init__(self, seed: int = 0):
        self.seed = seed

    @derives
    def __call__(
        self, problem: Problem, theta: Thetas, state: State, xs: Tensor, targets: Tensor, memory: Any = None
    ) -> Credit:
        net, batch = problem.net, xs.shape[-2]
        where = learned(problem)
        forward = Forward(problem, theta, where)
        members = len(net.ensemble)
        if memory is None:
            memory = RankOne(
                batch,
                where,
                tuple(torch.zeros_like(p) for p in forward.pieces(state)),
                tuple(v.new_zeros(batch, *v.shape) for v in forward.values),
                generator(self.seed, "uoro"),
            )
        _, _, s, th, noise = handed_on(memory, RankOne, batch, where)
        noise = noise.clone_state()  # the memory that was handed in stays as it was

        def state_norm(parts: Pieces) -> Tensor:
            """[*ensemble, batch]"""
            return sum((p.square().sum((0, -1)) for p in parts), start=torch.zeros(())).sqrt()

        def theta_norm(parts: Pieces) -> Tensor:
            """[*ensemble, batch]"""
            squares = [p.square().flatten(2 + members).sum(-1).sum(1) for p in parts]
            return sum(squares, start=torch.zeros(())).movedim(0, -1).sqrt()

        def over_theta(rho: Tensor, part: Tensor) -> Tensor:
            """[*ensemble, batch] → broadcastable over a part of θ̃."""
            return rho.movedim(-1, 0).unsqueeze(1)[(...,) + (None,) * (part.ndim - 2 - members)]

        grads = [torch.zeros_like(v) for v in forward.values]
        outputs = []
        for t, taken in enumerate(steps(problem, theta, state, xs, targets)):
            pieces = forward.pieces(state)
            nudge = nudges(problem, taken.seen.unsqueeze(0), targets[t].unsqueeze(0))[0]
            if forward.delayed:
                self._collect(grads, forward.output(s), nudge, th, over_theta)
            advance = forward.step(xs[t], targets[t])
            rest = tuple(torch.zeros_like(v) for v in forward.values)
            Fs = jvp(advance, (forward.values, pieces), (rest, s))[1]
            nu = tuple((torch.randint(0, 2, p.shape, generator=noise) * 2 - 1).to(p) for p in pieces)

            def back(p: Pieces, x: Tensor, y: Tensor, n: Pieces) -> Pieces:
                """νᵀF_θ of one sample, given a batch axis of one again."""
                one = tuple(q.unsqueeze(-2) for q in p)
                step = forward.step(x.unsqueeze(-2), y.unsqueeze(-2))
                pull = vjp(lambda values: step(values, one), forward.values)[1]
                return pull(tuple(q.unsqueeze(-2) for q in n))[0]

            delta = vmap(back, in_dims=(-2, -2, -2, -2))(pieces, xs[t], targets[t], nu)
            tiny = torch.finfo(net.dtype).tiny ** 0.5
            rho0 = ((theta_norm(th) + tiny) / (state_norm(Fs) + tiny)).sqrt()
            rho1 = ((theta_norm(delta) + tiny) / (state_norm(nu) + tiny)).sqrt()
            s = tuple(rho0.unsqueeze(-1) * f + rho1.unsqueeze(-1) * n for f, n in zip(Fs, nu, strict=True))
            th = tuple(a / over_theta(rho0, a) + b / over_theta(rho1, b) for a, b in zip(th, delta, strict=True))
            if not forward.delayed:
                self._collect(grads, forward.output(s), nudge, th, over_theta)
            outputs.append(taken.seen)
            state = taken.state
        stacked = torch.stack(outputs)
        values = [g / batch for g in grads]
        return Credit(
            grads_like(theta, where, values), None, stacked, cost_of(problem, stacked, targets), state,
            RankOne(batch, where, s, th, noise),
        )  # fmt: skip

    @staticmethod
    def _collect(grads: list[Tensor], seen: Tensor, nudge: Tensor, th: Pieces, over_theta: Callable) -> None:
        along = -(seen * nudge).sum(-1)  # ∂cost along s̃, [*ensemble, batch]
        for g, part in zip(grads, th, strict=True):
            g += (over_theta(along, part) * part).sum(0)
