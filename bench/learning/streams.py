"""Series one after the other: orders of samples, and the streams that a network sees."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from bench.data.series import Form, Frames, Split, in_steps


def sample_order(y: Tensor, balanced: bool, g: torch.Generator) -> Tensor:
    """Each sample once, in random order; balanced: with the classes evenly spread over it."""
    order = torch.randperm(len(y), generator=g)
    if not balanced:
        return order
    place = torch.empty(len(y))
    for c in range(int(y.max()) + 1):
        members = (y[order] == c).nonzero()[:, 0]
        place[members] = (torch.arange(len(members)) + torch.rand(1, generator=g)) / max(1, len(members))
    return order[place.argsort()]


def drawn_variants(split: Split, g: torch.Generator) -> Tensor:
    """What to add to the indices of samples that come in several variants: one of each is drawn, [samples]."""
    if split.variants == 1:
        return torch.zeros(len(split.y), dtype=torch.long)
    return len(split.y) * torch.randint(split.variants, (len(split.y),), generator=g)


class Streams:
    """`batch` streams in which one sample follows the other, for each member of the ensemble.

    Staggered, stream i begins its samples i/batch of a sample later than stream 0. While the streams take the samples
    in a balanced order, any window in time then holds as many of every class, and the network never sees all targets
    jump at once. fade: steps over which a target passes to the next one.
    """

    def __init__(self, form: Form, members: int, batch: int, staggered: bool = False, fade: float = 0.0):
        self.steps, self.classes, self.fade = form.steps, form.classes, fade
        self.offset = torch.arange(batch) * (form.steps if staggered else 0) // batch
        # the samples of the last two turns [2, members, batch]; −1: none yet
        self.past = torch.full((2, members, batch), -1)

    def turn(self, split: Split, index: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Each stream goes on, and turns to its next sample, index [members, batch]: inputs
        [T, members, batch, features], targets [T, members, batch, classes], and how much each instant counts
        [T, members, batch], where the split says so."""
        since = torch.arange(self.steps)[:, None] - self.offset  # steps since the stream turned [T, batch]
        turned = (since >= 0).unsqueeze(1)
        before, last = self.past
        current = torch.where(turned, index, last)
        since = since.remainder(self.steps).unsqueeze(1).expand(current.shape)

        def along(series: Tensor | Frames) -> Tensor:
            """[samples, frames, features] → [T, members, batch, features]"""
            new, old = (in_steps(series[i], self.steps) for i in (index, last))
            m, b = torch.arange(len(index))[:, None], torch.arange(index.shape[1])
            x = torch.where(turned.unsqueeze(-1), new[m, b, since], old[m, b, since])
            # before its first sample a stream is silent, and its target tells nothing
            return torch.where((current >= 0).unsqueeze(-1), x, 0.0)

        y = self._target(split, current)
        if self.fade:
            z = ((since + 1) / self.fade).clamp(max=1).unsqueeze(-1)
            passed = z**3 * (10 - 15 * z + 6 * z * z)  # smooth up to its second derivative
            y = torch.lerp(self._target(split, torch.where(turned, last, before)), y, passed)
        x, w = along(split.x), None if split.w is None else along(split.w.unsqueeze(-1)).squeeze(-1)
        self.past = torch.stack([last, index])
        return x, y, w

    def _target(self, split: Split, index: Tensor) -> Tensor:
        known = F.one_hot(split.y[index.remainder(len(split.y))], self.classes).to(torch.get_default_dtype())
        return torch.where((index >= 0).unsqueeze(-1), known, 1 / self.classes)
