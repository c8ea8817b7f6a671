"""Costs C of the output rates, and the errors −∂C/∂r that nudge the output layer (Eqs. 18, 51–54)."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from gle.showing import shown


class Cost(Protocol):
    def value(self, r: Tensor, target: Tensor) -> Tensor:
        """C of each sample: [..., features] → [...]."""

    def error(self, r: Tensor, target: Tensor) -> Tensor:
        """−∂C/∂r, shaped as r."""


class MeanSquaredError:
    """C = ½ Σ (r_trg − r)² (Eq. 51)."""

    def __repr__(self) -> str:
        return shown(self)

    def value(self, r: Tensor, target: Tensor) -> Tensor:
        return 0.5 * (target - r).square().sum(-1)

    def error(self, r: Tensor, target: Tensor) -> Tensor:
        return target - r


class CrossEntropy:
    """C = −Σ r_trg log softmax(r) (Eqs. 53, 54): the softmax belongs to the cost, the output neurons are linear.
    A target that sums to w counts w times."""

    weighs = True  # see `Simulation.run(weights=…)`

    def __repr__(self) -> str:
        return shown(self)

    def value(self, r: Tensor, target: Tensor) -> Tensor:
        return -(target * torch.log_softmax(r, -1)).sum(-1)

    def error(self, r: Tensor, target: Tensor) -> Tensor:
        return target - target.sum(-1, keepdim=True) * torch.softmax(r, -1)


COSTS: dict[str, type[Cost]] = {"mse": MeanSquaredError, "cross_entropy": CrossEntropy}


def cost(name: str) -> Cost:
    """The cost called `name`. Raises ValueError for an unknown one."""
    if name not in COSTS:
        raise ValueError(f"unknown cost {name!r}; choose one of {', '.join(COSTS)}")
    return COSTS[name]()
