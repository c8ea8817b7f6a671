"""What is kept of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gle.carry import Carry
from gle.costs import Cost
from gle.network import LayerState, Network
from gle.plasticity import LEARNABLE
from gle.showing import shown


class Record:
    """What to keep of a run: names of LayerState fields ("u", "v", "r", "e", "sent"), of parameters ("W", "b",
    "tau_m", "tau_r") or "loss" (the cost of the output, per sample), of which layers ℓ (0: the first hidden one;
    negative: from the top; None: all) after every n-th step. A run without a Record takes no notice of it. The loss of
    a sample that has no teacher (any more) is NaN.

    `record[name]` holds, per layer ℓ, a tensor with one entry per recorded step in front; `record["loss"]` one
    tensor; `record.steps` the numbers of the recorded steps.
    """

    FIELDS = (*LayerState._fields, *LEARNABLE, "loss")

    def __init__(self, *what: str, layers: int | Sequence[int] | None = None, every: int = 1):
        unknown = [w for w in what if w not in self.FIELDS]
        if unknown or not what:
            raise ValueError(f"a Record takes some of {', '.join(self.FIELDS)}; got {what}")
        if not isinstance(every, (int, np.integer)) or every < 1:
            raise ValueError(f"every must be a number of steps, at least 1, got {every}")
        self.what, self.layers, self.every = what, (layers,) if isinstance(layers, int) else layers, every
        self.steps: list[int] = []  # recorded so far
        self._kept: dict[tuple[str, int | None], list[Tensor]] = {}

    def __repr__(self) -> str:
        return shown(self, "what", "layers", "every") + f" of {len(self.steps)} steps"

    def check(self, net: Network, step: int) -> None:
        """Raises ValueError for layers that the network does not have, and where later steps than `step` were recorded:
        of another run."""
        if self.steps and self.steps[-1] > step:
            raise ValueError(
                f"this Record holds step {self.steps[-1]} of another run, this one is at {step}: make another"
            )
        for l in self.layers or ():
            if not -net.depth <= l < net.depth:
                raise ValueError(f"there is no layer {l} to record: the network has {net.depth}")

    def take(self, net: Network, step: int, carry: Carry, target: Tensor | None, cost: Cost) -> None:
        """Copies what was asked for."""
        self.steps.append(step)
        places = list(net.places())
        every = range(len(places))
        chosen = every if self.layers is None else sorted({every[l] for l in self.layers})
        for what in self.what:
            if what == "loss":
                assert target is not None
                self._keep(what, None, cost.value(carry.state[-1].r[-1], target))
                continue
            source = carry.state if what in LayerState._fields else carry.theta
            for l in chosen:
                i, d = places[l]
                value = getattr(source[i], what)
                if value is not None:
                    self._keep(what, l, value[d])

    def _keep(self, what: str, layer: int | None, value: Tensor) -> None:
        self._kept.setdefault((what, layer), []).append(value.detach().clone())

    def __getitem__(self, what: str) -> Any:
        if what not in self.what or not self.steps:
            raise KeyError(
                f"{what} was not recorded: this Record keeps {', '.join(self.what)}, of {len(self.steps)} steps"
            )
        if what == "loss":
            return torch.stack(self._kept[what, None])
        return {l: torch.stack(v) for (w, l), v in self._kept.items() if w == what}
