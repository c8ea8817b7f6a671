"""What is kept of a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gle.carry import Carry
from gle.costs import Cost
from gle.graph import Graph
from gle.plasticity import LEARNABLE
from gle.showing import shown
from gle.state import LayerState
from gle.wiring import Key, Wiring


class Record:
    """What to keep of a run: names of LayerState fields ("u", "v", "r", "e", "sent"), of parameters ("W", "b",
    "tau_m", "tau_r") or "loss" (the cost of the output, per sample), of which layers ℓ (0: the first hidden one;
    negative: from the top; None: all; of a graph the names of populations, and of projections for W) after every n-th
    step. A run without a Record takes no notice of it. The loss of a sample that has no teacher (any more) is NaN.

    `record[name]` holds, per layer ℓ, a tensor with one entry per recorded step in front; `record["loss"]` one
    tensor; `record.steps` the numbers of the recorded steps.
    """

    FIELDS = ("u", "v", "r", "e", "sent", *LEARNABLE, "loss")

    def __init__(self, *what: str, layers: Key | Sequence[Key] | None = None, every: int = 1):
        unknown = [w for w in what if w not in self.FIELDS]
        if unknown or not what:
            raise ValueError(f"a Record takes some of {', '.join(self.FIELDS)}; got {what}")
        if not isinstance(every, (int, np.integer)) or every < 1:
            raise ValueError(f"every must be a number of steps, at least 1, got {every}")
        self.what, self.layers, self.every = what, (layers,) if isinstance(layers, (int, str)) else layers, every
        self.steps: list[int] = []  # recorded so far
        self._kept: dict[tuple[str, Key | None], list[Tensor]] = {}

    def __repr__(self) -> str:
        return shown(self, "what", "layers", "every") + f" of {len(self.steps)} steps"

    def check(self, net: Wiring, step: int) -> None:
        """Raises ValueError for layers that the network does not have, and where later steps than `step` were recorded:
        of another run."""
        if self.steps and self.steps[-1] > step:
            raise ValueError(
                f"this Record holds step {self.steps[-1]} of another run, this one is at {step}: make another"
            )
        if "sent" in self.what and isinstance(net, Graph):
            raise ValueError("what a graph's populations send down goes by projections and is not recorded: record e")
        for l in self.layers or ():
            found = [net.keyed(what) for what in self.what if what != "loss"] or [net.keyed("r")]
            if not any(l in keys or (isinstance(l, int) and 0 in keys and -len(keys) <= l < 0) for keys in found):
                what = ", ".join(self.what)
                raise ValueError(f"there is no layer {l} to record {what} of: {net.has}")

    def take(self, net: Wiring, step: int, carry: Carry, target: Tensor | None, cost: Cost) -> None:
        """Copies what was asked for."""
        self.steps.append(step)
        for what in self.what:
            if what == "loss":
                assert target is not None
                self._keep(what, None, cost.value(net.output(carry.state), target))
                continue
            source = carry.state if what in LayerState._fields else carry.theta
            places = net.keyed(what)
            every = list(places)
            named = every if self.layers is None else [every[l] if isinstance(l, int) else l for l in self.layers]
            for key in (k for k in every if k in named):
                i, d = places[key]
                value = getattr(source[i], what)
                if value is not None:
                    self._keep(what, key, value[d])

    def _keep(self, what: str, layer: Key | None, value: Tensor) -> None:
        self._kept.setdefault((what, layer), []).append(value.detach().clone())

    def __getitem__(self, what: str) -> Any:
        if what not in self.what or not self.steps:
            raise KeyError(
                f"{what} was not recorded: this Record keeps {', '.join(self.what)}, of {len(self.steps)} steps"
            )
        if what == "loss":
            return torch.stack(self._kept[what, None])
        return {l: torch.stack(v) for (w, l), v in self._kept.items() if w == what}
