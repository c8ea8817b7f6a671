"""How outputs over time name a class. A new readout is one function and one line in `READOUTS`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor
from torch.nn import functional as F


def summed(outputs: Tensor, w: Tensor) -> Tensor:
    """The largest sum over the sample, as published."""
    return (outputs * w).sum(0)


def averaged(outputs: Tensor, w: Tensor) -> Tensor:
    """The largest mean probability: a step counts no more for being loud."""
    return (outputs.softmax(-1) * w).sum(0)


def voted(outputs: Tensor, w: Tensor) -> Tensor:
    """The class that most steps name."""
    return (F.one_hot(outputs.argmax(-1), outputs.shape[-1]) * w).sum(0)


def last(outputs: Tensor, w: Tensor) -> Tensor:
    """What the network says at the end of the sample."""
    return outputs[-1]


# [T, …, classes], and how much each instant counts, [T, …, 1] → [..., classes], of which the largest wins
READOUTS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"sum": summed, "mean": averaged, "vote": voted, "last": last}
