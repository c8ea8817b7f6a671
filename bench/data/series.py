"""Labelled series: what there is to learn. Batch first; a trainer puts time first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


class Frames:
    """Series that stay on disk, in one or several variants: of sample i there is one in each array
    [samples, frames, features]. Indexed as a tensor of [variants · samples, frames, features] would be, by variant and
    then sample; what it gives is float32.

    lags: frames, by each of which a further copy of the features lies behind, as channels of their own; zero before the
    sample began.
    """

    def __init__(self, arrays: Sequence[np.ndarray], lags: Sequence[int] = ()):
        self.arrays, self.lags = list(arrays), tuple(lags)
        samples, frames, features = arrays[0].shape
        self.shape = (len(arrays) * samples, frames, features * (1 + len(lags)))

    def __getitem__(self, index: Tensor) -> Tensor:
        each = index.flatten().remainder(self.shape[0]).tolist()
        n = len(self.arrays[0])
        found = torch.from_numpy(np.stack([self.arrays[i // n][i % n] for i in each])).float()
        return delayed(found, self.lags).reshape(*index.shape, *self.shape[1:])


def delayed(x: Tensor, lags: Sequence[int]) -> Tensor:
    """Beside each of the frames [..., frames, features] those `lags` before it, as further features; zero before the
    first one."""
    return torch.cat([x, *(F.pad(x, (0, 0, lag, 0))[..., : x.shape[-2], :] for lag in lags)], -1)


class Split(NamedTuple):
    """x: [samples, frames, features], or several variants of the samples, one after the other. y: class of each sample,
    [samples], int64. w: how much each frame counts, shaped as x without features; None: all the same."""

    x: Tensor | Frames
    y: Tensor
    w: Tensor | None = None

    @property
    def variants(self) -> int:
        return self.x.shape[0] // len(self.y)


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
    """train: learned from. validation: watched meanwhile. test: used once, at the end. steps: that a network takes in a
    sample, a multiple of its frames; by default one a frame."""

    train: Split
    validation: Split
    test: Split
    classes: int
    steps: int | None = None

    @property
    def form(self) -> Form:
        frames, features = self.train.x.shape[1:]
        return Form(self.steps or frames, features, self.classes)


def in_steps(x: Tensor, steps: int) -> Tensor:
    """Frames [..., frames, features] → [..., steps, features]: on the straight line from each frame to the next; the
    last one is held. Raises ValueError unless the steps are a multiple of the frames."""
    frames = x.shape[-2]
    k, rest = divmod(steps, frames)
    if rest or k < 1:
        raise ValueError(f"{steps} steps are no multiple of {frames} frames")
    if k == 1:
        return x
    behind = torch.cat([x[..., 1:, :], x[..., -1:, :]], -2)
    part = (torch.arange(k, dtype=x.dtype, device=x.device) / k)[:, None]
    return torch.lerp(x.unsqueeze(-2), behind.unsqueeze(-2), part).flatten(-3, -2)
