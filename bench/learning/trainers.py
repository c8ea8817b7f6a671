"""Who learns labelled series: a GLE network online, or a baseline by backprop through whole series."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gle
from bench.data.series import Form, Split
from bench.learning.options import DTYPES, Learning, Training, used_seeds
from bench.learning.readouts import READOUTS
from bench.learning.schedule import Rates
from bench.learning.streams import Streams, sample_order
from bench.models import baselines, populations
from gle.integrators import Euler, Integrator, integrator
from gle.seeding import generator

Score = dict[str, list[float]]  # accuracy (%) and loss, one value per seed
Build = Callable[[Learning, Training, Form], gle.Network]  # one ensemble member per seed


class Trainer(Protocol):
    """parameters: of one network. online: whether it learns while the series stream past."""

    parameters: int
    online: bool

    def epoch(self, split: Split, rates: Rates) -> None:
        """Learns from each sample once, at the learning rates of that moment."""

    def evaluate(self, split: Split) -> Score:
        """Accuracy and loss on the split; nothing is learned."""

    def state_dict(self) -> dict[str, Any]:
        """All that an exact continuation needs."""

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Goes on from there."""


def build_network(o: Learning, training: Training, form: Form) -> gle.Network:
    """The GLE network of the options, one ensemble member per seed."""
    where = {"dtype": DTYPES[o.dtype], "device": o.device}
    return populations.network(o.model, form.features, form.classes, used_seeds(o), o.dt, training.errors, **where)


def scheme(o: Learning, training: Training) -> Integrator:
    """The integrator of the options. Raises ValueError where it cannot propagate as asked."""
    own, wanted = integrator(o.integrator), training.propagation
    if wanted is None or wanted == own.propagation:
        return own
    if not isinstance(own, Euler):
        raise ValueError(f"{o.integrator} has {own.propagation} propagation only, not {wanted}")
    return type(own)(wanted)


class Online:
    """A GLE network (or LagNet): every sample streams past once per epoch, the network learning at each step; its
    state goes on from one sample to the next.

    start: a trainer whose weights, streams and order of samples this one goes on with. build: makes the network.
    """

    online = True

    def __init__(
        self,
        o: Learning,
        training: Training,
        form: Form,
        start: Online | None = None,
        build: Build = build_network,
    ):
        self.form, self.training = form, training
        self.network = build(o, training, form)
        if start is not None:
            self.network.load_theta(start.simulation.carry.theta)
        self.parameters = self.network.n_parameters()
        t, seeds = training, used_seeds(o)
        plasticity = gle.Plasticity(
            gle.Adam(weight_decay=t.weight_decay), lr=t.lr, every=t.every, traces=t.traces or None, centred=t.centred
        )
        self.simulation: gle.Simulation = gle.Simulation(
            self.network,
            dt=o.dt,
            integrator=scheme(o, training),
            cost="cross_entropy",
            plasticity=plasticity,
            compile=o.compile,
        )
        own = [generator(seed, "data") for seed in seeds]
        self.order: list[torch.Generator] = own if start is None else start.order
        self.streams = Streams(form, len(seeds), t.batch, t.staggered, t.fade / o.dt)
        if start is not None:
            self.streams.past = start.streams.past

    def epoch(self, split: Split, rates: Rates) -> None:
        batches = self.batches(split)
        for i, index in enumerate(batches):
            if index.shape[1] < self.training.batch:  # an incomplete batch: the streams of the state are all taken
                continue
            self.simulation.set_lr(rates(i / len(batches)))
            self.simulation.run(*self.streams.turn(split, index))

    def batches(self, split: Split) -> tuple[Tensor, ...]:
        """Of the next epoch: indices [members, batch]; the last one may be incomplete."""
        order = torch.stack([sample_order(split.y, self.training.balanced, g) for g in self.order])
        return order.split(self.training.batch, dim=1)

    def evaluate(self, split: Split, readout: str = "sum") -> Score:
        """Streams the samples past the frozen network. readout: how its outputs name a class. The loss, which serves
        the schedule alone, is the cost that the network learns by, averaged over time."""
        batch = min(self.training.batch, len(split.y))
        state = None
        right = loss = torch.zeros(len(self.order), device=self.network.device)
        for index in torch.arange(len(split.y)).split(batch):
            x = split.x[index].transpose(0, 1)
            if state is not None and len(index) < batch:
                state = None
            outputs, state = self.simulation.predict(x, state=state)
            y, says = (
                split.y[index].to(outputs.device),
                READOUTS[readout](outputs),
            )  # [batch], [members, batch, classes]
            right = right + (says.argmax(-1) == y).sum(-1)
            target = F.one_hot(y, self.form.classes).to(outputs).expand_as(outputs)
            loss = loss + self.simulation.dynamics.cost.value(outputs, target).mean(0).sum(-1)
        n = len(split.y)
        return Score(accuracy=(100 * right / n).tolist(), loss=(loss / n).tolist())

    def state_dict(self) -> dict[str, Any]:
        return {
            "simulation": self.simulation.state_dict(),
            "order": [g.get_state() for g in self.order],
            "streams": self.streams.past,
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        self.simulation.load_state_dict(saved["simulation"])
        self.streams.past = saved["streams"]
        for g, state in zip(self.order, saved["order"], strict=True):
            g.set_state(state)


class Offline:
    """A baseline: backprop through the whole series, one network per seed. build: makes it, from a seed."""

    online = False

    def __init__(self, o: Learning, build: Callable[[int], nn.Module] | None = None):
        self.training = o.training
        seeds = used_seeds(o)
        self.where: dict[str, Any] = {"device": o.device, "dtype": DTYPES[o.dtype]}
        make = build or (lambda seed: baselines.seeded(o.model.kind, seed))
        self.models = [make(seed).to(**self.where) for seed in seeds]
        self.parameters = baselines.n_parameters(self.models[0])
        adamw: dict[str, Any] = {"lr": o.training.lr, "weight_decay": o.training.weight_decay}
        self.optimizers = [torch.optim.AdamW(m.parameters(), **adamw) for m in self.models]
        self.order = [generator(seed, "data") for seed in seeds]

    def epoch(self, split: Split, rates: Rates) -> None:
        for i, (model, optimizer, g) in enumerate(zip(self.models, self.optimizers, self.order, strict=True)):
            order = sample_order(split.y, self.training.balanced, g)
            batches = order.split(self.training.batch)
            for j, index in enumerate(batches):
                optimizer.param_groups[0]["lr"] = rates(j / len(batches))[i]
                optimizer.zero_grad()
                loss = F.cross_entropy(model(split.x[index].to(**self.where)), split.y[index].to(self.where["device"]))
                loss.backward()
                optimizer.step()

    @torch.no_grad()
    def evaluate(self, split: Split) -> Score:
        score = Score(accuracy=[], loss=[])
        x, y = split.x.to(**self.where), split.y.to(self.where["device"])
        for model in self.models:
            outputs = model(x)
            score["accuracy"].append(100 * (outputs.argmax(-1) == y).double().mean().item())
            score["loss"].append(F.cross_entropy(outputs, y).item())
        return score

    def state_dict(self) -> dict[str, Any]:
        return {
            "models": [m.state_dict() for m in self.models],
            "optimizers": [o.state_dict() for o in self.optimizers],
            "order": [g.get_state() for g in self.order],
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        for part in ("models", "optimizers"):
            for own, state in zip(getattr(self, part), saved[part], strict=True):
                own.load_state_dict(state)
        for g, state in zip(self.order, saved["order"], strict=True):
            g.set_state(state)
