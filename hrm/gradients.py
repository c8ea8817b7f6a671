"""How a segment's gradient is found, as strategies with one face:

    carry, report = strategy(model, carry, x̃)        x̃ [batch, length, d], or of each step, [steps, batch, length, d]

The forward values are the same under every strategy: N · T steps (`HRM.step`), from a carry without history. What
differs is what `backward` then does from the new carry on.

Near a fixed point z* = G(z*, θ) of the step map G (one update of L, then one of H; the last step of a segment), Eq. 1
gives the exact gradient

    ∂z*/∂θ = (I − J)⁻¹ ∂G/∂θ,    J = ∂G/∂z at z*

and backward needs w = (I − Jᵀ)⁻¹ v for the gradient v that arrives at z*. The one-step gradient takes w = v (Eq. 2);
`neumann` takes k terms of the series, `damped` k terms of the series of (1 − λ) I + λ J ("phantom gradient", Geng et
al. 2021), `implicit` solves for w. A new strategy is one class and one line in `STRATEGIES`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

from hrm.layers import widest
from hrm.model import HRM, Carry, detach


@dataclass
class Report:
    """What a strategy tells of itself: known once `backward` has run."""

    residual: float = math.nan  # ‖v − (I − Jᵀ) w‖ / ‖v‖ of the linear system, where there is one: the worst row's
    products: int = 0  # with Jᵀ


class Strategy(Protocol):
    """A segment, and how gradients come back through it."""

    def __call__(self, model: HRM, carry: Carry, x: Tensor) -> tuple[Carry, Report]:
        """The carry after the segment, x: embedded input; backward through it gives the gradient."""
        ...


def run(model: HRM, carry: Carry, x: Tensor, first: int, last: int) -> Carry:
    """Steps first, …, last − 1 of a segment."""
    for i in range(first, last):
        carry = model.step(carry, of_step(x, i), model.is_due(i))
    return carry


def of_step(x: Tensor, i: int) -> Tensor:
    """x̃ in step i of a segment."""
    return x[i] if x.ndim == 4 else x


class LastSteps:
    """Backpropagation through the last k steps of the segment; with k = 1 the one-step gradient of Fig. 4, whose memory
    does not grow with N · T. None: all of them (BPTT through the segment)."""

    def __init__(self, k: int | None = 1):
        if k is not None and k < 1:
            raise ValueError(f"k must be at least 1 step, got {k}")
        self.k = k

    def kept(self, model: HRM) -> int:
        steps = model.config.steps
        return steps if self.k is None else min(self.k, steps)

    def __call__(self, model: HRM, carry: Carry, x: Tensor) -> tuple[Carry, Report]:
        steps = model.config.steps
        first = steps - self.kept(model)
        with torch.no_grad():
            carry = run(model, carry, x, 0, first)
        return run(model, detach(carry), x, first, steps), Report()


class LastCycle(LastSteps):
    """Backpropagation through the last recursion: the L-cycle and the H-update behind it."""

    def __init__(self) -> None:
        super().__init__(None)

    def kept(self, model: HRM) -> int:
        return model.config.L_cycles


Products = Callable[[list[Tensor]], list[Tensor]]  # v ↦ Jᵀ v
Solver = Callable[[Products, list[Tensor]], tuple[list[Tensor], Report]]


class FixedPoint:
    """The last step with a graph, and w in place of the gradient v that arrives behind it."""

    def __init__(self, solve: Solver):
        self.solve = solve

    def __call__(self, model: HRM, carry: Carry, x: Tensor) -> tuple[Carry, Report]:
        steps = model.config.steps
        with torch.no_grad():
            carry = run(model, carry, x, 0, steps - 1)
        report = Report()
        new = run(model, detach(carry), x, steps - 1, steps)
        if not torch.is_grad_enabled():
            return new, report
        products = step_products(model, carry, of_step(x, steps - 1).detach())
        leaves, spec = tree_flatten(new)
        leaves = list(_Replace.apply(self.solve, products, report, *leaves))
        return tree_unflatten(leaves, spec), report


def step_products(model: HRM, carry: Carry, x: Tensor) -> Products:
    """v ↦ Jᵀ v of the step map at a carry, over the leaves of the carry; whatever mode the caller is in."""
    with torch.inference_mode(False), torch.enable_grad():  # in inference mode autograd follows nothing
        given, spec = tree_flatten(detach(carry))
        *leaves, x = (t.clone() if t.is_inference() else t for t in (*given, x))
        leaves = [leaf.requires_grad_() for leaf in leaves]
        out, _ = tree_flatten(model.step(tree_unflatten(leaves, spec), x, True))

    def products(v: list[Tensor]) -> list[Tensor]:
        with torch.inference_mode(False):
            back = torch.autograd.grad(out, leaves, v, retain_graph=True, allow_unused=True)
        return [torch.zeros_like(t) if b is None else b for t, b in zip(leaves, back, strict=True)]

    return products


class _Replace(torch.autograd.Function):
    """The identity, which backward puts w for v."""

    @staticmethod
    def forward(ctx: Any, solve: Solver, products: Products, report: Report, *leaves: Tensor) -> tuple[Tensor, ...]:
        ctx.solve, ctx.products, ctx.report = solve, products, report
        ctx.set_materialize_grads(True)
        return tuple(t.view_as(t) for t in leaves)

    @staticmethod
    def backward(ctx: Any, *v: Tensor) -> tuple[Tensor | None, ...]:
        w, report = ctx.solve(ctx.products, list(v))
        ctx.report.residual, ctx.report.products = report.residual, report.products
        return None, None, None, *w


def norm(v: list[Tensor]) -> float:
    return math.sqrt(sum(float(widest(t).square().sum()) for t in v))


def residual(products: Products, v: list[Tensor], w: list[Tensor]) -> float:
    """‖v − (I − Jᵀ) w‖ / ‖v‖ of the worst row of the batch."""
    left = to_rows([a - b + c for a, b, c in zip(v, w, products(w), strict=True)]).norm(dim=1)
    size = to_rows(v).norm(dim=1)
    return (left / size.clamp(min=torch.finfo(size.dtype).tiny)).max().item()


class Neumann(FixedPoint):
    """w = Σ_{j<k} (Jᵀ)ʲ v, times λ and with (1 − λ) I + λ J in place of J where damped (0 < λ ≤ 1)."""

    def __init__(self, k: int = 4, damping: float = 1.0):
        if k < 1:
            raise ValueError(f"k must be at least 1 term, got {k}")
        if not 0 < damping <= 1:
            raise ValueError(f"damping must lie in (0, 1], got {damping}")
        self.k, self.damping = k, damping
        super().__init__(self._series)

    def _series(self, products: Products, v: list[Tensor]) -> tuple[list[Tensor], Report]:
        term = [self.damping * t for t in v]
        w = term
        for _ in range(self.k - 1):
            back = products(term)
            term = [(1 - self.damping) * t + self.damping * b for t, b in zip(term, back, strict=True)]
            w = [a + b for a, b in zip(w, term, strict=True)]
        return w, Report(residual(products, v, w), self.k)


class Implicit(FixedPoint):
    """w = (I − Jᵀ)⁻¹ v (Eq. 1) by GMRES, without ever forming J.

    Rows of a batch do not see each other, so that each has a system of its own: all are solved side by side, each in a
    Krylov space of its own, which takes far fewer products than one space for all.

    tolerance: of the residual of each row. products: at most so many with Jᵀ, which is also the number of vectors that
    are held. The report tells how far it came.
    """

    def __init__(self, tolerance: float = 1e-6, products: int = 200):
        if not tolerance > 0 or products < 1:
            raise ValueError(f"tolerance and products must be positive, got {tolerance} and {products}")
        self.tolerance, self.products = tolerance, products
        super().__init__(self._gmres)

    def _gmres(self, products: Products, v: list[Tensor]) -> tuple[list[Tensor], Report]:
        b = to_rows(v)
        rows, n = b.shape
        if not bool(b.isfinite().all()):
            return v, Report()  # nothing to be solved: the loss is not finite, either
        most = min(self.products, n)
        size = b.norm(dim=1)
        tiny = torch.finfo(b.dtype).tiny
        basis = b.new_zeros(most + 1, rows, n)
        basis[0] = b / size.clamp(min=tiny)[:, None]
        H = b.new_zeros(rows, most + 1, most)  # Hessenberg: (I − Jᵀ) basis[:k] = basis[:k + 1] H
        y = b.new_zeros(rows, 0)
        for k in range(1, most + 1):
            w = basis[k - 1] - to_rows(products(from_rows(basis[k - 1], v)))
            for _ in range(2):  # once more, as rounding leaves a part along the basis
                along = torch.einsum("kbn,bn->bk", basis[:k], w)
                w = w - torch.einsum("kbn,bk->bn", basis[:k], along)
                H[:, :k, k - 1] += along
            left = w.norm(dim=1)
            H[:, k, k - 1] = left
            basis[k] = w / left.clamp(min=tiny)[:, None]
            if k % 10 and k < most and left.min() > self.tolerance:
                continue
            if not bool(H.isfinite().all()):
                return v, Report()
            start = b.new_zeros(rows, k + 1, 1)
            start[:, 0, 0] = size
            y = torch.linalg.pinv(H[:, : k + 1, :k]) @ start
            missed = (start - H[:, : k + 1, :k] @ y).norm(dim=(1, 2))
            y = y[..., 0]
            if bool((missed <= self.tolerance * size).all()):
                break
        found = from_rows(torch.einsum("kbn,bk->bn", basis[: y.shape[1]], y), v)
        return found, Report(residual(products, v, found), y.shape[1])


def to_rows(v: list[Tensor]) -> Tensor:
    """The leaves of a carry, or of what belongs to one, as [batch, n]."""
    return torch.cat([widest(t.detach()).flatten(1) for t in v], 1)


def from_rows(rows: Tensor, like: list[Tensor]) -> list[Tensor]:
    parts = rows.split([t[0].numel() for t in like], 1)
    return [p.reshape(t.shape).to(t) for p, t in zip(parts, like, strict=True)]


def spectral_radius(model: HRM, carry: Carry, x: Tensor, tolerance: float = 1e-3) -> float:
    """Largest modulus of an eigenvalue of J of the step map at a carry, by Arnoldi's method (on Jᵀ: the same)."""
    from scipy.sparse.linalg import LinearOperator, eigs

    products = step_products(model, carry, x.detach())
    like, _ = tree_flatten(carry)
    rows, n = len(like[0]), sum(t.numel() for t in like)

    def matvec(w: np.ndarray) -> np.ndarray:
        back = products(from_rows(torch.from_numpy(w).reshape(rows, -1), like))
        return to_rows(back).cpu().double().numpy().ravel()

    operator = LinearOperator((n, n), matvec=matvec, dtype=np.float64)
    start = np.random.default_rng(0).standard_normal(n)
    (value,) = eigs(operator, k=1, which="LM", return_eigenvectors=False, tol=tolerance, v0=start)
    return float(abs(value))


STRATEGIES: dict[str, Callable[..., Strategy]] = {
    "one_step": lambda: LastSteps(1),
    "last": LastSteps,
    "last_cycle": LastCycle,
    "bptt": lambda: LastSteps(None),
    "neumann": Neumann,
    "damped": lambda k=4, damping=0.5: Neumann(k, damping),
    "implicit": lambda: Implicit(),
}


def strategy(name: str) -> Strategy:
    """A strategy by name, with its argument k behind a space where it takes one: "one_step", "last 3", "neumann 8".

    Raises ValueError for unknown names and arguments.
    """
    kind, *arguments = name.split() or [""]
    if kind not in STRATEGIES:
        raise ValueError(f"unknown gradient {name!r}; choose one of {', '.join(STRATEGIES)}, or local")
    if not all(a.isdecimal() for a in arguments):
        raise ValueError(f"{kind} takes whole numbers, got {' '.join(arguments)!r}")
    try:
        return STRATEGIES[kind](*map(int, arguments))
    except TypeError:
        raise ValueError(f"{kind} takes no such arguments: {' '.join(arguments)!r}") from None
