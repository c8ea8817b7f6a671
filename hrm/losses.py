"""Losses of a segment: cross-entropy under softmax or stablemax, and the Q-head's.

stablemax replaces exp by s(x) = x + 1 for x ≥ 0 and 1/(1 − x) below, whose tails are no steeper than a line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from hrm.layers import wide, widest
from hrm.model import Output
from hrm.tasks.task import IGNORE


def stable(x: Tensor) -> Tensor:
    """s(x)."""
    # where() hands both branches' gradients on: keep the other one finite
    return torch.where(x < 0, 1 / (1 - x.clamp(max=0)), x.clamp(min=0) + 1)


def stablemax(logits: Tensor) -> Tensor:
    """log of the stablemax over the last axis, in float64."""
    s = stable(widest(logits))
    return s.log() - s.sum(-1, keepdim=True).log()


def softmax(logits: Tensor) -> Tensor:
    """log of the softmax over the last axis."""
    return wide(logits).log_softmax(-1)


LOSSES: dict[str, Callable[[Tensor], Tensor]] = {"softmax": softmax, "stablemax": stablemax}


class Losses(NamedTuple):
    total: Tensor  # scalar, to be minimised
    tokens: Tensor  # [batch], mean cross-entropy over a row's labelled positions
    correct: Tensor  # [batch] bool, all labelled positions right
    cells: Tensor  # [batch], share of labelled positions that are right


class Marks(NamedTuple):
    """Of a row's positions, [batch, length] bool: where something is asked, and where the answer is right there."""

    asked: Tensor
    right: Tensor

    @property
    def correct(self) -> Tensor:
        """Whether a row is right wherever something is asked, [batch]."""
        return self.right.sum(-1) == self.asked.sum(-1)


def marks(out: Output, labels: Tensor) -> Marks:
    asked = labels != IGNORE
    return Marks(asked, (out.logits.argmax(-1) == labels) & asked)


def losses(
    out: Output,
    labels: Tensor,
    log_probabilities: Callable[[Tensor], Tensor],
    q_continue: Tensor | None,
    q_weight: float,
) -> Losses:
    """Of one segment. labels [batch, length], `IGNORE` where nothing is asked.

    The Q-head's halt value is to tell whether the answer is right, its continue value is to match q_continue [batch],
    a probability (None: there is no such loss). Both are cross-entropies, weighted by q_weight.
    """
    marked = marks(out, labels)
    asked, right = marked
    number = asked.sum(-1).clamp(min=1)
    target = labels.clamp(min=0).unsqueeze(-1)
    each = -log_probabilities(out.logits).gather(-1, target).squeeze(-1)
    tokens = (each * asked).sum(-1) / number
    correct = marked.correct
    q = F.binary_cross_entropy_with_logits(out.q_halt, correct.to(out.q_halt.dtype))
    if q_continue is not None:
        q = q + F.binary_cross_entropy_with_logits(out.q_continue, q_continue)
    return Losses(tokens.mean() + q_weight * q, tokens.detach(), correct, right.sum(-1) / number)
