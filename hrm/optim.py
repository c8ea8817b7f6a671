"""Optimisers and schedules as the HRM was trained with: AdamATan2 with decoupled decay, sign-SGD for the embeddings of
the puzzles at hand, warm-up, averaged weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class AdamATan2(torch.optim.Optimizer):
    """Adam with atan2(m̂, √v̂) in place of m̂ / (√v̂ + ε) (Everett et al. 2024): no ε, and updates that do not change when
    the loss is scaled. Decay is decoupled: p ← p (1 − lr · weight_decay), then p ← p − lr · atan2(m̂, √v̂).

    Raises ValueError for a negative rate or decay, and betas outside [0, 1).
    """

    def __init__(
        self,
        params: Iterable,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.95),
        weight_decay: float = 0.0,
    ):
        if not lr >= 0 or not weight_decay >= 0:
            raise ValueError(f"lr and weight_decay must be ≥ 0, got {lr} and {weight_decay}")
        if not all(0 <= b < 1 for b in betas):
            raise ValueError(f"betas must lie in [0, 1), got {betas}")
        super().__init__(params, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            (beta1, beta2), lr = group["betas"], group["lr"]
            params = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            for p in params:
                if not self.state[p]:
                    self.state[p] = {"step": torch.zeros(()), "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
            states = [self.state[p] for p in params]
            grads, m, v = [p.grad for p in params], [s["m"] for s in states], [s["v"] for s in states]
            for s in states:
                s["step"] += 1
            torch._foreach_lerp_(m, grads, 1 - beta1)
            torch._foreach_mul_(v, beta2)
            torch._foreach_addcmul_(v, grads, grads, 1 - beta2)
            if group["weight_decay"]:
                torch._foreach_mul_(params, 1 - lr * group["weight_decay"])
            for p, mi, vi, s in zip(params, m, v, states, strict=True):
                t = s["step"].item()
                scale = math.sqrt(1 - beta2**t) / (1 - beta1**t)  # atan2 sees the ratio alone
                p.sub_(torch.atan2(mi * scale, vi.sqrt()), alpha=lr)
        return loss


@torch.no_grad()
def sign_sgd(table: Tensor, rows: Tensor, grads: Tensor, lr: float, weight_decay: float) -> None:
    """Sign-SGD with decoupled decay on those rows of a table [n, d] that are used, the others left alone:
    w ← w (1 − lr · weight_decay) − lr · sign(Σ g). rows [k]: which; grads [k, d]: what arrived at each, summed where a
    row is used more than once. It remembers nothing: a puzzle that comes by once in thousands of steps has no moments
    worth keeping, and its size of gradient means little."""
    used, place = rows.unique(return_inverse=True)
    uses = (place == torch.arange(len(used), device=place.device)[:, None]).to(grads)
    total = uses @ grads  # unlike adding at an index, in the same order on each device and each time
    table[used] = table[used] * (1 - lr * weight_decay) - lr * total.sign()


OPTIMIZERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "adam_atan2": AdamATan2,
    "adamw": lambda params, lr, betas, weight_decay: torch.optim.AdamW(
        params, lr=lr, betas=betas, weight_decay=weight_decay
    ),
}


def learning_rate(step: float, *, lr: float, warmup: int, steps: int, final: float) -> float:
    """Learning rate of step 0, 1, …, or between: a line over `warmup` steps, then half a cosine from lr to final · lr
    at `steps`; final = 1 keeps it constant, as published."""
    if step < warmup:
        return lr * (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return lr * (final + (1 - final) * 0.5 * (1 + math.cos(math.pi * progress)))


class Average:
    """Weights averaged along the way: w̄ ← decay · w̄ + (1 − decay) · w after each update.

    shared: parameters that are not averaged, of which there is no copy: `model` has them, too.
    """

    def __init__(self, model: nn.Module, decay: float, shared: Collection[Tensor] = ()):
        if not 0 < decay < 1:
            raise ValueError(f"the decay of averaged weights must lie in (0, 1), got {decay:g}")
        self.decay = decay
        self.model = copy.deepcopy(model, {id(p): p for p in shared})
        self.shared = {id(p) for p in shared}
        for p in self._averaged(self.model):
            p.requires_grad_(False)

    def _averaged(self, model: nn.Module) -> list[Tensor]:
        return [p for p in model.parameters() if id(p) not in self.shared]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        torch._foreach_lerp_(self._averaged(self.model), self._averaged(model), 1 - self.decay)
