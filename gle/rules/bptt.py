"""Backpropagation through time: autograd through the simulated steps, over the whole stretch or truncated."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gle.dynamics import is_zero
from gle.rules.base import Credit, Problem, cost_of, derives, grads_like, learned, replaced, steps
from gle.state import State, Thetas, mapped


class BPTT:
    """window: steps that a gradient looks back; stride: steps between backward passes, each of which takes in the cost
    since the last one. By default the whole stretch at once, otherwise stride = window. The window never reaches back
    beyond the start of the stretch. With delayed propagation the cost of a window's first step is that of the step
    before, and layer ℓ of L is out of reach of the costs of its first L − ℓ steps.

    Exact for the simulated network, whatever the integrator, when it is not truncated. Its graph takes memory
    O(N · window). With γ ≠ 0 the gradient is that of the nudged network and runs through its error neurons, too. Errors
    are returned for delayed propagation alone (`Adjoint(matched=True)` has them for instant propagation, too).

    Raises ValueError for stride > window, a window longer than the stretch, and one of a single step with delayed
    propagation.
    """

    exact_for = "everything, with the whole stretch as window"
    online = False
    memories: tuple[type, ...] = ()

    def __init__(self, window: int | None = None, stride: int | None = None):
        if any(n is not None and (not isinstance(n, int) or n < 1) for n in (window, stride)):
            raise ValueError(f"window and stride must be whole numbers of steps, at least 1, got {window} and {stride}")
        if window is not None and stride is not None and stride > window:
            raise ValueError(f"stride = {stride} is longer than window = {window}: some costs would be left out")
        self.window, self.stride = window, stride

    @derives
    def __call__(
        self, problem: Problem, theta: Thetas, state: State, xs: Tensor, targets: Tensor, memory: Any = None
    ) -> Credit:
        total = len(xs)
        window = self.window or self.stride or total
        if window > total:
            raise ValueError(f"window = {window} is longer than the {total} steps of the stretch: shorten it")
        if window == 1 and problem.integrator.propagation == "delayed":
            raise ValueError("a window of 1 step has no gradient with delayed propagation: use at least 2")
        stride = self.stride or window
        where = learned(problem)
        values = [getattr(theta[i], kind).detach().requires_grad_() for i, kind in where]
        # all W are followed, so that every current has a place in the graph
        every_W = [(i, "W") for i, p in enumerate(theta) if p.W is not None and (i, "W") not in where]
        own = replaced(theta, every_W, [theta[i].W.detach().requires_grad_() for i, _ in every_W])
        own = replaced(own, where, values)

        starts = {0: state}  # states that a later window starts from
        wanted = {max(0, end - window) for end in self._ends(total, stride)}
        outputs: list[Tensor] = []
        grads: list[Tensor] = [torch.zeros_like(v) for v in values]
        has_errors = problem.integrator.propagation == "delayed"
        lambdas = [torch.zeros(total, *s.u.shape, dtype=s.u.dtype, device=s.u.device) for s in state]
        for end in self._ends(total, stride):
            done = len(outputs)
            begin = max(0, end - window)
            with torch.enable_grad():
                seen, currents = [], []
                attached = not is_zero(problem.dynamics.gamma)
                for t, step in enumerate(
                    steps(problem, own, starts[begin], xs[begin:end], targets[begin:end], attached), start=begin
                ):
                    seen.append(step.seen)
                    currents.append([l.current for l in step.local[: len(state)]])
                    if t + 1 in wanted and t >= done:
                        starts[t + 1] = mapped(torch.detach, step.state)
                    state = step.state
                fresh = torch.stack(seen[done - begin :])
                cost = cost_of(problem, fresh, targets[done:end])
                flat = [c for cs in currents for c in cs] if has_errors else []
                if not all(c.requires_grad for c in flat):  # what comes from the input through no weights
                    flat, has_errors = [], False
                got = (
                    torch.autograd.grad(
                        cost.sum() / xs.shape[-2], [*values, *flat], allow_unused=True, materialize_grads=True
                    )
                    if cost.requires_grad
                    else [torch.zeros_like(v) for v in (*values, *flat)]
                )
            outputs.extend(fresh.detach())
            grads = [a + b for a, b in zip(grads, got, strict=False)]
            for n, g in enumerate(got[len(values) :]):
                t, i = begin + n // len(lambdas), n % len(lambdas)
                lambdas[i][t] -= g * xs.shape[-2]
        stacked = torch.stack(outputs)
        errors = tuple(lambdas[i][:, d] for i, d in problem.net.places()) if has_errors else None
        state = mapped(torch.detach, state)
        return Credit(grads_like(theta, where, grads), errors, stacked, cost_of(problem, stacked, targets), state)

    @staticmethod
    def _ends(total: int, stride: int) -> list[int]:
        return [min(end, total) for end in range(stride, total + stride, stride)]
