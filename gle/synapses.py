"""Synapses: the forward current, the error sent back, and the local gradient.

All three work on the last two axes, rows × features, and broadcast over every axis in front (stacked layers, ensemble
members). Rows are samples, or samples of several time steps. A new kind of synapse is one class with these methods; a
new feedback pathway likewise.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from gle.showing import shown


class Feedback(Protocol):
    """The weights that carry errors down (B in Fig. 4), shaped as W."""

    def allocate(self, W: Tensor) -> Tensor | None:
        """An empty B, or None where the pathway has no weights of its own."""

    def weights(self, W: Tensor, B: Tensor | None) -> Tensor:
        """The matrix whose transpose multiplies the error from above."""


class Transpose:
    """B = Wᵀ exactly: weight transport, as in the published runs (Eq. 17)."""

    def allocate(self, W: Tensor) -> None:
        return None

    def weights(self, W: Tensor, B: Tensor | None) -> Tensor:
        return W


class FixedRandom:
    """B random and fixed: feedback alignment."""

    def allocate(self, W: Tensor) -> Tensor:
        return torch.empty_like(W)

    def weights(self, W: Tensor, B: Tensor | None) -> Tensor:
        assert B is not None
        return B


FEEDBACKS: dict[str, type[Feedback]] = {"transpose": Transpose, "fixed_random": FixedRandom}


class Synapse(Protocol):
    feedback: Feedback

    def shapes(self, n_in: int, n_out: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Shapes of W and b of one layer."""

    def initial_bound(self, n_in: int) -> float:
        """Weights and biases start uniform between ± this."""

    def current(self, W: Tensor, b: Tensor | None, r: Tensor) -> Tensor:
        """W r + b."""

    def backproject(self, W: Tensor, B: Tensor | None, e: Tensor) -> Tensor:
        """Wᵀ e, or B e: the error that the layer below receives."""

    def gradient(self, e: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        """∂E/∂W and ∂E/∂b, summed over rows."""


class Linear:
    """Dense synapses. W: [..., out, in], b: [..., out], rates and errors: [..., rows, features]."""

    def __init__(self, feedback: str = "transpose"):
        if feedback not in FEEDBACKS:
            raise ValueError(f"unknown feedback {feedback!r}; choose one of {', '.join(FEEDBACKS)}")
        self.feedback = FEEDBACKS[feedback]()

    def __repr__(self) -> str:
        return shown(self, feedback=next(name for name, kind in FEEDBACKS.items() if type(self.feedback) is kind))

    def shapes(self, n_in: int, n_out: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        return (n_out, n_in), (n_out,)

    def initial_bound(self, n_in: int) -> float:
        """√k with k = 1/fan-in (Table 1)."""
        return 1 / math.sqrt(n_in)

    def current(self, W: Tensor, b: Tensor | None, r: Tensor) -> Tensor:
        """W r + b (Eq. 6)."""
        current = torch.matmul(r, W.mT)
        return current if b is None else current + b.unsqueeze(-2)

    def backproject(self, W: Tensor, B: Tensor | None, e: Tensor) -> Tensor:
        """Wᵀ e (Eq. 17)."""
        return torch.matmul(e, self.feedback.weights(W, B))

    def gradient(self, e: Tensor, r: Tensor) -> tuple[Tensor, Tensor]:
        """−e rᵀ and −e (Eqs. 21, 22), summed over rows."""
        return -torch.matmul(e.mT, r), -e.sum(-2)


SYNAPSES: dict[str, type[Synapse]] = {"linear": Linear}


def synapse(given: str | Synapse) -> Synapse:
    """The synapses called so, with their defaults, or themselves. Raises ValueError for what is none."""
    if isinstance(given, str) and given in SYNAPSES:
        return SYNAPSES[given]()
    if isinstance(given, (str, type)) or not hasattr(given, "backproject"):
        raise ValueError(f"synapse must be one of {', '.join(SYNAPSES)}, or an object like gle.Linear(); got {given!r}")
    return given
