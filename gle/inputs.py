"""What a network is fed with: tensors, functions of time, or a stream, cut into blocks of steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from gle.costs import Cost
from gle.series import are_labels, one_hot, time_first
from gle.wiring import Wiring

Values = Tensor | np.ndarray | float | Sequence  # of one step, [*ensemble, batch, features], or of one of its nodes
Signal = Tensor | np.ndarray | Callable[[float], Values]
Stream = Iterable[Values | tuple[Values, Values | None]]


class Inputs:
    """How inputs and targets of a network are read. nodes: where in a step, in units of dt, the integrator looks."""

    def __init__(self, network: Wiring, nodes: tuple[float, ...], dt: float):
        self.network, self.nodes, self.dt = network, nodes, dt

    def blocks(
        self,
        inputs: Any,
        targets: Any,
        steps: int | None,
        length: Callable[[int | None], int],
        began: int,
        over: Tensor | None = None,
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        """Cuts any kind of input into [steps, nodes, *ensemble, batch, features]. length: steps of the next block, from
        how many are left (None: nobody knows). began: the number of the first step, for functions of time. over: true
        after a sample's end, [T, batch]."""
        if steps is not None and (not isinstance(steps, (int, np.integer)) or steps < 0):
            raise ValueError(f"steps must be a whole number, at least 0, got {steps}")
        nodes, dt = self.nodes, self.dt
        if isinstance(inputs, (Tensor, np.ndarray)):
            xs, ts = self.whole(inputs, targets, over)
            total = len(xs) if steps is None else min(steps, len(xs))
            t = 0
            while t < total:
                n = length(total - t)
                yield xs[t : t + n], None if ts is None else ts[t : t + n]
                t += n
            return

        if callable(inputs):
            if steps is None:
                raise ValueError("inputs given as a function of time need a number of steps")
            if targets is not None and not callable(targets):
                raise ValueError("inputs given as a function of time need targets given as one")

            def sampled() -> Iterator[tuple[Tensor, Tensor | None]]:
                for t in range(began, began + steps):
                    at = [(t + c) * dt for c in nodes]
                    target = None if targets is None else torch.stack([_tensor(targets(a)) for a in at])
                    yield torch.stack([_tensor(inputs(a)) for a in at]), target

            source = sampled()
        else:
            if targets is not None:
                raise ValueError("an iterable yields (x, target) itself; give no targets beside it")

            def pulled() -> Iterator[tuple[Tensor, Tensor | None]]:
                for item in inputs:
                    x, target = item if isinstance(item, (tuple, list)) else (item, None)
                    x, target = _tensor(x), None if target is None else _tensor(target)
                    held = None if target is None else target.expand(len(nodes), *target.shape)
                    yield x.expand(len(nodes), *x.shape), held

            source = pulled()
        yield from self._batched(source, steps, length)

    def whole(self, inputs: Any, targets: Any, over: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Tensors [T, …] → [T, nodes, *ensemble, batch, features], without copies: without an axis of nodes held over
        each step, without ensemble axes the same for every member. Where samples are `over`, inputs are zero and
        targets NaN, whatever they were."""
        xs = self._at_nodes(torch.as_tensor(inputs), "inputs", over)
        if targets is None:
            return xs, None
        if callable(targets):
            raise ValueError("inputs given as a tensor need targets given as a tensor, or labels")
        targets = _values(targets)
        if are_labels(targets):
            if targets.ndim == 2 and over is not None and targets.shape == over.shape:
                targets = targets.masked_fill(over.to(targets.device), 0)
            targets = one_hot(targets, len(xs), xs.shape[-2], self.network.n_out)
        if targets.ndim <= 2:
            raise ValueError(
                f"targets have shape {tuple(targets.shape)}: labels are whole numbers (these are {targets.dtype}), "
                "other targets [T, batch, features]"
            )
        if len(targets) != len(xs):
            raise ValueError(f"inputs have {len(xs)} steps, targets {len(targets)}")
        return xs, self._at_nodes(targets, "targets", over)

    def _at_nodes(self, x: Tensor, name: str, over: Tensor | None = None) -> Tensor:
        """With an axis of nodes: as given, or the same value at every node of the step."""
        net, nodes = self.network, len(self.nodes)
        if x.ndim < 4 + len(net.ensemble):
            return _held(self.placed(x, name, over=over), nodes)
        if x.shape[1] != nodes:
            raise ValueError(
                f"{name} have shape {tuple(x.shape)}: {x.shape[1]} values a step, where the integrator looks at {nodes}"
            )
        return self.placed(x, name, 1, over=over)

    def _batched(
        self, source: Iterable, steps: int | None, length: Callable[[int | None], int]
    ) -> Iterator[tuple[Tensor, Tensor | None]]:
        taken = 0
        source = iter(source)
        while steps is None or taken < steps:
            n = length(None if steps is None else steps - taken)
            items = []
            for _ in range(n):
                item = next(source, None)
                if item is None:
                    break
                items.append(item)
            if not items and not taken:
                raise ValueError("the stream gives no step: it is empty, or an iterator that was used up before")
            if not items:
                return
            # a stream that ends inside a block, or a teacher that comes or goes: step by step
            uniform = len({(x.shape, None if t is None else t.shape) for x, t in items}) == 1
            for part in [items] if len(items) == n and uniform else [[item] for item in items]:
                xs = self.placed(torch.stack([x for x, _ in part]), "inputs", 1, taken)
                has_target = part[0][1] is not None
                ts = self.placed(torch.stack([t for _, t in part]), "targets", 1, taken) if has_target else None
                yield xs, ts
                taken += len(part)

    def placed(self, x: Tensor, name: str, nodes: int = 0, first: int = 0, over: Tensor | None = None) -> Tensor:
        """On the network's device and dtype, with ensemble axes. nodes: 1 if the axis of nodes is there already. first:
        the number of the first step, for messages. over: where inputs become zero and targets NaN, [T, batch]."""
        net = self.network
        lead, members = 1 + nodes, len(net.ensemble)
        shape = ("T", *map(str, net.ensemble), "batch", "features")
        if not (x.ndim == lead + 2 or (x.ndim == lead + 2 + members and tuple(x.shape[lead:-2]) == net.ensemble)):
            got = tuple(x.shape[:1]) + tuple(x.shape[lead:])
            also = f" or [{', '.join(shape)}]" if members else ""
            raise ValueError(f"{name} have shape {got}, expected [T, batch, features]{also}")
        if x.shape[-2] == 0:
            raise ValueError(f"{name} have an empty batch")
        features = net.n_in if name == "inputs" else net.n_out
        if x.shape[-1] != features:
            raise ValueError(f"{name} have {x.shape[-1]} features, the network has {features}")
        x = x.to(device=net.device, dtype=net.dtype)
        if over is not None:
            own = over.reshape(len(over), *(1,) * (x.ndim - 3), over.shape[1], 1).to(x.device)
            x = x.masked_fill(own, 0.0)
        if not torch.isfinite(x).all():
            step = first + int((~torch.isfinite(x)).nonzero()[0, 0])
            raise ValueError(f"{name} are not finite at step {step}: clean NaN and infinities from the data first")
        if over is not None and name == "targets":
            x = torch.where(own, torch.nan, x)
        if x.ndim == lead + 2 and members:
            x = x[(slice(None),) * lead + (None,) * members].expand(*x.shape[:lead], *net.ensemble, *x.shape[lead:])
        return x

    def weighted(
        self, inputs: Any, targets: Any, weights: Any, cost: Cost, batch_first: bool, over: Tensor | None
    ) -> Tensor:
        """Targets [T, *ensemble, batch, features] that count as much as the weights say; where samples are `over`,
        neither is read.

        Raises ValueError for a cost whose targets cannot say so, for anything but tensors, and for weights of another
        shape, negative or not finite."""
        if not getattr(cost, "weighs", False):
            raise ValueError(f"weights are for costs whose targets carry them, as cross_entropy; this one is {cost!r}")
        if callable(targets) or targets is None or not isinstance(inputs, (Tensor, np.ndarray)):
            raise ValueError("weights are for inputs and targets given as tensors")
        values, w = _values(targets), torch.as_tensor(weights)
        w = w.movedim(-1, 0) if batch_first else w
        if w.is_complex() or inputs.ndim < 3:
            raise ValueError("weights are real numbers, for inputs [T, batch, features]")
        steps, batch = len(inputs), inputs.shape[-2]
        if w.shape not in ((steps, batch), (steps, *self.network.ensemble, batch)):
            raise ValueError(f"weights have shape {tuple(w.shape)}, expected [{steps}, {batch}], one at each instant")
        if over is not None:
            own = over.to(w.device)
            w = w.masked_fill(own.reshape(steps, *(1,) * (w.ndim - 2), batch), 0)
            if are_labels(values) and values.ndim == 2:
                values = values.masked_fill(own.to(values.device), 0)
        if not bool(((w >= 0) & w.isfinite()).all()):
            raise ValueError(f"weights must be ≥ 0 and finite, got {w[~((w >= 0) & w.isfinite())][0]:g}")
        if are_labels(values):
            values = one_hot(values, steps, batch, self.network.n_out)
        if values.shape[:1] != (steps,) or values.ndim not in (3, 3 + len(self.network.ensemble)):
            raise ValueError(f"with weights, targets must be labels or [T, batch, features], got {tuple(values.shape)}")
        missing = max(values.ndim, w.ndim + 1)
        v, w = (
            t if t.ndim == missing else t[(slice(None), *(None,) * (missing - t.ndim))]
            for t in (values, w.unsqueeze(-1))
        )
        return v * w.to(v.device)

    def targets_first(self, targets: Any) -> Any:
        """Batch-first targets or labels with time in front; anything but values as it is."""
        if targets is None or callable(targets):
            return targets
        targets = _values(targets)
        if targets.ndim == 2 and are_labels(targets):
            return targets.T
        return targets if targets.ndim < 2 else time_first(targets, "targets")


def _values(given: Any) -> Tensor:
    return given if isinstance(given, Tensor) else torch.as_tensor(np.asarray(given))  # which keeps a float's digits


def _tensor(value: Values) -> Tensor:
    """What a user's function gives; a plain number is a batch of one with one feature."""
    x = _values(value)
    return x if x.ndim else x.reshape(1, 1)


def _held(x: Tensor, nodes: int) -> Tensor:
    """[T, …] → [T, nodes, …]: the same value at every node of the step."""
    return x.unsqueeze(1).expand(x.shape[0], nodes, *x.shape[1:])
