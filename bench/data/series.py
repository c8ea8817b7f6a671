"""Labelled series: what there is to learn. Batch first; a trainer puts time first."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Split(NamedTuple):
    """x: [samples, steps, features]. y: class of each sample, [samples], int64."""

    x: Tensor
    y: Tensor


class Form(NamedTuple):
    """Of the series of a data set: all that a network for them must know."""

    steps: int
    features: int
    classes: int


def steps_of(duration: float, dt: float) -> int:
    """Steps of a sample. Raises ValueError unless dt divides its duration."""
    if not dt > 0 or abs(duration / dt - round(duration / dt)) > 1e-6:
        raise ValueError(f"dt must divide the {duration:g} time units of a sample, got {dt}")
    return round(duration / dt)


class Labelled(NamedTuple):
    """train: learned from. validation: watched meanwhile. test: used once, at the end."""

    train: Split
    validation: Split
    test: Split
    classes: int

    @property
    def form(self) -> Form:
        steps, features = self.train.x.shape[1:]
        return Form(steps, features, self.classes)
