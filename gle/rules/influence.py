"""The step as a function of parameters and state alone, whose derivatives forward-mode rules carry along."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from gle.dynamics import is_zero
from gle.network import Network
from gle.neurons import Activation
from gle.rules.base import Problem, replaced
from gle.state import State, Thetas, changed

Pieces = tuple[Tensor, ...]  # the parts of the state that the outputs depend on


class Forward:
    """With γ = 0 these are u and r of each `Layer`: errors then have no influence on the outputs. With γ ≠ 0 they are
    the whole state."""

    def __init__(self, problem: Problem, theta: Thetas, where: Sequence[tuple[int, str]]):
        self.problem, self.theta, self.where = problem, theta, where
        self.fields = ("u", "r") if is_zero(problem.dynamics.gamma) else ("u", "v", "r", "e", "sent")
        self.values = tuple(getattr(theta[i], kind) for i, kind in where)
        if len(self.fields) > 2 and not isinstance(problem.net, Network):
            raise ValueError("with γ ≠ 0 the state of a Graph is more than this rule carries along: use γ = 0, or BPTT")
        if len(self.fields) > 2 and any(not isinstance(part.phi, Activation) for part in problem.net.neurons):
            raise ValueError("with γ ≠ 0 this rule takes pointwise, monotone rate functions: use γ = 0, or BPTT")
        self.top, self.n = problem.net.top, len(problem.net.neurons)
        self.delayed = problem.integrator.propagation == "delayed"

    def pieces(self, state: State) -> Pieces:
        return tuple(getattr(s, f) for s in state for f in self.fields)

    def output(self, pieces: Pieces) -> Tensor:
        """r_L, or its derivative, among the pieces: [..., *ensemble, batch, n_out] without the axis of depth."""
        r = pieces[len(self.fields) * self.top + self.fields.index("r")]
        return r.select(r.ndim - 3 - len(self.problem.net.ensemble), -1)

    def step(self, x: Tensor, target: Tensor) -> Callable[[Pieces, Pieces], Pieces]:
        """(values, pieces) → pieces after a step; x, target: [nodes, *ensemble, batch, features]."""

        def advance(values: Pieces, pieces: Pieces) -> Pieces:
            n = len(self.fields)
            given = [dict(zip(self.fields, pieces[n * i : n * i + n], strict=True)) for i in range(self.n)]
            absent = self.problem.net.initial_state(pieces[0].shape[-2])
            start = tuple(changed(s, **g) for s, g in zip(absent, given, strict=True))
            free = n == 2
            nudged = (None,) * len(x) if free else target.unbind(0)
            net, integrator, dynamics, _ = self.problem
            new, _ = integrator.step(
                net, replaced(self.theta, self.where, values), start, x.unbind(0), nudged, dynamics
            )
            return self.pieces(new)

        return advance
