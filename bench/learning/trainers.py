"""Who learns labelled series: a GLE network online, or a baseline by backprop through whole series."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import gle
from bench.data.series import Form, Split, in_steps
from bench.learning.options import DTYPES, Learning, Training, stages, used_seeds
from bench.learning.readouts import READOUTS
from bench.learning.schedule import Rates
from bench.learning.streams import Streams, drawn_variants, sample_order
from bench.models import baselines, populations
from gle import rules
from gle.errors import ErrorNeuron
from gle.integrators import Euler, Integrator, integrator
from gle.seeding import generator

Score = dict[str, Any]  # of each seed: accuracy (%), loss, and how often which class was taken for which [true, said]
Baseline = Callable[[int], nn.Module]  # from a seed
Build = Callable[[Learning, Training, Form], gle.Network | gle.Graph]  # one ensemble member per seed


def scored(says: Tensor, y: Tensor, classes: int, loss: list[float]) -> Score:
    """says: the class that each seed's network names for each sample, [seeds, samples]."""
    y = y.to(says.device)
    confusion = [torch.bincount(y * classes + s, minlength=classes**2).reshape(classes, -1).tolist() for s in says]
    accuracy = (100 * (says == y).double().mean(-1)).tolist()
    return Score(accuracy=accuracy, loss=loss, confusion=confusion)


class Trainer(Protocol):
    """parameters: of one network. online: whether it learns while the series stream past."""

    parameters: int
    online: bool

    def epoch(self, split: Split, rates: Rates) -> None:
        """Learns from each sample once, at the learning rates of that moment."""

    def evaluate(self, split: Split, readouts: Sequence[str] = ("sum",)) -> Score:
        """Accuracy and loss on the split; nothing is learned. readouts: how outputs over time name a class, one for all
        seeds or one each; of no meaning where there is a single output."""

    def state_dict(self) -> dict[str, Any]:
        """All that an exact continuation needs."""

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Goes on from there."""


def build_network(o: Learning, training: Training, form: Form) -> gle.Network | gle.Graph:
    """The GLE network of the options, one ensemble member per seed."""
    where = {"dtype": DTYPES[o.dtype], "device": o.device}
    errors = credit(o, training).errors
    return populations.network(o.model, form.features, form.classes, used_seeds(o), o.dt, errors, **where)


class Credit(NamedTuple):
    """How errors and presynaptic rates become gradients: errors of the hidden layers, traces, and their share."""

    errors: str | ErrorNeuron
    traces: Any
    share: float


def credit(o: Learning, training: Training) -> Credit:
    """That of one stage. Where the steps of all stages differ in nothing but GLE's or instantaneous errors, and
    eligibility traces or none, they differ in numbers alone, and one compiled step serves them all."""
    each = stages(o)
    errors, traces = {t.errors for t in each}, [t.traces or None for t in each]
    chain = o.model.kind == "gle" and o.model.lateral is None and all(t.rule == "gle" for t in each)
    alike = len({(t.every, t.weight_decay, t.centred, t.propagation) for t in each}) == 1
    if not (len(each) > 1 and chain and alike and all(t in (None, "own") for t in traces)):
        return Credit(training.errors, training.traces or None, 1.0)
    own = training.traces == "own"
    return Credit(
        gle.errors.Blended(training.errors == "prospective") if len(errors) > 1 else training.errors,
        "own" if "own" in traces else None,
        float(own) if "own" in traces else 1.0,
    )


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
        rule = rules.BPTT() if t.rule == "bptt" else None
        self.online = rule is None
        how = credit(o, t)
        plasticity = gle.Plasticity(
            gle.Adam(weight_decay=t.weight_decay),
            lr=t.lr,
            every=t.every if rule is None else form.steps,
            traces=how.traces,
            share=how.share,
            centred=t.centred,
        )
        self.simulation: gle.Simulation[Any] = gle.Simulation(
            self.network,
            dt=o.dt,
            integrator=scheme(o, training),
            cost="cross_entropy",
            plasticity=plasticity,
            rule=rule,
            compile=o.compile and rule is None,
            block=o.block,
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
            self.learn(split, index)

    def learn(self, split: Split, index: Tensor) -> None:
        """From samples index [members, batch], one of each stream."""
        x, y, w = self.streams.turn(split, index)
        self.simulation.run(x, y, weights=w)

    def batches(self, split: Split) -> tuple[Tensor, ...]:
        """Of the next epoch: indices [members, batch]; the last one may be incomplete. Of a sample in several variants
        one is drawn."""
        order = torch.stack([sample_order(split.y, self.training.balanced, g) for g in self.order])
        order = order + torch.stack([drawn_variants(split, g) for g in self.order])
        return order.split(self.training.batch, dim=1)

    def evaluate(self, split: Split, readouts: Sequence[str] = ("sum",)) -> Score:
        """Streams the samples past the frozen network. The loss, which serves the schedule alone, is the cost that the
        network learns by, averaged over time."""
        readouts = list(readouts) * (len(self.order) if len(readouts) == 1 else 1)
        loss = torch.zeros(len(self.order), device=self.network.device)
        says = []
        for index, outputs, w in self.outputs(split):
            y = split.y[index].to(outputs.device)
            target = F.one_hot(y, self.form.classes).to(outputs).expand_as(outputs)
            loss = loss + self.simulation.dynamics.cost.value(outputs, w * target).mean(0).sum(-1)
            named = {r: READOUTS[r](outputs, w).argmax(-1) for r in set(readouts)}
            says.append(torch.stack([named[r][i] for i, r in enumerate(readouts)]))
        return scored(torch.cat(says, -1), split.y, self.form.classes, (loss / len(split.y)).tolist())

    def outputs(self, split: Split) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Of the frozen network that samples stream past: their indices [batch], the outputs
        [T, members, batch, classes], and how much each instant counts [T, 1, batch, 1]."""
        batch = min(self.training.batch, len(split.y))
        state = None
        for index in torch.arange(len(split.y)).split(batch):
            if state is not None and len(index) < batch:
                state = None
            x = in_steps(split.x[index], self.form.steps).transpose(0, 1)
            outputs, state = self.simulation.predict(x, state=state)
            w = outputs.new_ones(1, 1, 1, 1)
            if split.w is not None:
                w = in_steps(split.w[index].unsqueeze(-1), self.form.steps).transpose(0, 1).unsqueeze(1).to(outputs)
            yield index, outputs, w

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


EVALUATED = 1000  # samples at once


class Offline:
    """A baseline: backprop through the whole series, one network per seed. build: makes it, from a seed."""

    online = False

    def __init__(self, o: Learning, build: Baseline | None = None):
        self.training = o.training
        seeds = used_seeds(o)
        self.where: dict[str, Any] = {"device": o.device, "dtype": DTYPES[o.dtype]}
        make = build or (lambda seed: baselines.seeded(o.model.kind, seed))
        self.models = [make(seed).to(**self.where) for seed in seeds]
        self.parameters = baselines.n_parameters(self.models[0])
        adamw: dict[str, Any] = {"lr": o.training.lr, "weight_decay": o.training.weight_decay}
        self.optimizers = [torch.optim.AdamW(m.parameters(), **adamw) for m in self.models]
        self.order = [generator(seed, "data") for seed in seeds]
        self.dropout = [generator(seed, "dropout") for seed in seeds]

    def epoch(self, split: Split, rates: Rates) -> None:
        for i, dropout in enumerate(self.dropout):  # which PyTorch draws from its global generator alone
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(int(torch.randint(2**62, (), generator=dropout)))
                self._epoch(i, split, rates)

    def _epoch(self, i: int, split: Split, rates: Rates) -> None:
        model, optimizer, g = self.models[i], self.optimizers[i], self.order[i]
        order = sample_order(split.y, self.training.balanced, g) + drawn_variants(split, g)
        batches = order.split(self.training.batch)
        for j, index in enumerate(batches):
            if j and len(index) == 1:  # batch normalisation has no variance of one
                continue
            optimizer.param_groups[0]["lr"] = rates(j / len(batches))[i]
            optimizer.zero_grad()
            y = split.y[index.remainder(len(split.y))].to(self.where["device"])
            loss = F.cross_entropy(model(split.x[index].to(**self.where)), y)
            loss.backward()
            optimizer.step()

    @torch.no_grad()
    def evaluate(self, split: Split, readouts: Sequence[str] = ("sum",)) -> Score:
        says, loss = [], []
        y = split.y.to(self.where["device"])
        for model in self.models:
            model.eval()
            parts = torch.arange(len(y)).split(EVALUATED)
            outputs = torch.cat([model(split.x[index].to(**self.where)) for index in parts])
            model.train()
            says.append(outputs.argmax(-1))
            loss.append(F.cross_entropy(outputs, y).item())
        return scored(torch.stack(says), y, outputs.shape[-1], loss)

    def state_dict(self) -> dict[str, Any]:
        return {
            "models": [m.state_dict() for m in self.models],
            "optimizers": [o.state_dict() for o in self.optimizers],
            "order": [g.get_state() for g in self.order],
            "dropout": [g.get_state() for g in self.dropout],
        }

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        for part in ("models", "optimizers"):
            for own, state in zip(getattr(self, part), saved[part], strict=True):
                own.load_state_dict(state)
        for name in ("order", "dropout"):
            if name in saved:  # no dropout in checkpoints older than it
                for g, state in zip(getattr(self, name), saved[name], strict=True):
                    g.set_state(state)
