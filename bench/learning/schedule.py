"""The learning rate over a run."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from bench.learning.options import Training

Rates = Callable[[float], list[float]]  # from the part of the epoch that has passed to the learning rate of each seed


def cosine(progress: float, first: float, last: float = 0.0) -> float:
    """From the first rate to the last one along half a period. progress: 0 to 1."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * progress))


class Schedule:
    """The learning rate of every seed."""

    def __init__(self, training: Training, seeds: int):
        self.training = training
        # one scheduler per seed, each around a stand-in optimiser that only carries the rate
        self._optimizers = [torch.optim.SGD([torch.zeros(1)], lr=training.lr) for _ in range(seeds)]
        self._plateau = [
            ReduceLROnPlateau(o, factor=training.factor, patience=training.patience) for o in self._optimizers
        ]

    def rates(self, progress: float) -> list[float]:
        """progress: the part of the run that has passed, 0 to 1."""
        t = self.training
        if t.schedule == "cosine":
            return [cosine(progress, t.lr, t.lr_end)] * len(self._optimizers)
        if t.schedule == "exponential":
            return [t.lr * (t.lr_end / t.lr) ** progress] * len(self._optimizers)
        return [o.param_groups[0]["lr"] for o in self._optimizers]

    def during(self, epoch: int) -> Rates:
        """The rates as a function of the part of this epoch that has passed."""
        return lambda part: self.rates((epoch + part) / self.training.epochs)

    def after_epoch(self, losses: list[float]) -> None:
        if self.training.schedule == "plateau":
            for plateau, loss in zip(self._plateau, losses, strict=True):
                plateau.step(loss)

    @property
    def finished(self) -> bool:
        return self.training.schedule == "plateau" and max(self.rates(0)) < self.training.stop_rate

    def state_dict(self) -> list[dict[str, Any]]:
        return [
            {"plateau": p.state_dict(), "lr": o.param_groups[0]["lr"]}
            for p, o in zip(self._plateau, self._optimizers, strict=True)
        ]

    def load_state_dict(self, saved: list[dict[str, Any]]) -> None:
        for p, o, state in zip(self._plateau, self._optimizers, saved, strict=True):
            p.load_state_dict(state["plateau"])
            o.param_groups[0]["lr"] = state["lr"]
