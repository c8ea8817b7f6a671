"""MNIST-1D (§2.7.1, §2.7.3, Fig. 8d and f, Table 2): GLE networks trained online, and the baselines.

python -m bench.mnist1d                                          all models, a short budget
python -m bench.mnist1d --config configs/mnist1d/gle_15k.yaml    the paper's protocol; --seeds 10 --workers 2 for ten
                                                                 seeds in two processes
python -m bench.mnist1d --resume runs/mnist1d/<folder>           goes on after a kill
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import json
import logging
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional, Protocol

import torch
import yaml
from jsonargparse import ArgumentError, Namespace
from torch import Tensor
from torch.nn import functional as F
from torch.optim.lr_scheduler import ReduceLROnPlateau
from tqdm import tqdm

import gle
from bench import cli, figures
from bench.baselines import BASELINES, LENGTHS, n_parameters, seeded
from bench.datasets import Mnist1d, Split, mnist1d
from bench.files import Run, SaveError, begun, read_json, write_text
from bench.tables import layout, mean_std
from gle.integrators import Euler, Integrator, integrator
from gle.seeding import generator

log = logging.getLogger(__name__)

CLASSES = 10
DURATION = 72.0  # time units of a sample (Table 1)
DTYPES = {"float32": torch.float32, "float64": torch.float64}

# Published results (mean, std, in %): Table 2 and Fig. 8f; parameters as in Table 2
PUBLISHED = {
    "gle_15k": (91.7, 0.8),
    "gle_42k": (93.5, 0.9),
    "lagnet": (90.9, 0.7),
    "mlp": (65.5, 1.0),
    "tcn": (96.7, 0.9),
    "gru": (94.0, 1.1),
}


@dataclass
class Model:
    """What is trained.

    Args:
        kind: a GLE network, LagNet chains below an instantaneous network (§2.7.3), or a baseline of Table 2.
        populations: [neurons, tau_m, tau_r] of each population of a hidden layer.
        hidden_layers: number of hidden layers (of the plastic network, for LagNet).
        output_tau: both time constants of the output neurons, which are instantaneous.
        lags: time constants tau_m of LagNet's chains.
        lag_layers: length of LagNet's chains.
        weight_gain: factor on the initial weights of a GLE network's hidden layers (1: uniform in ± 1/√fan-in).
        bias_gain: the same for their biases.
    """

    kind: Literal["gle", "lagnet", "mlp", "tcn", "gru"] = "gle"
    populations: list[tuple[int, float, float]] = field(
        default_factory=lambda: [(18, 0.6, 0.2), (18, 1.2, 0.2), (17, 1.2, 1.2)]
    )
    hidden_layers: int = 6
    output_tau: float = 1.0
    lags: list[float] = field(default_factory=list)
    lag_layers: int = 4
    weight_gain: float = 1.0
    bias_gain: float = 1.0


@dataclass
class Training:
    """How it is trained.

    Args:
        epochs: passes over the training samples.
        batch: samples streamed side by side.
        lr: learning rate of Adam.
        schedule: "plateau" halves the rate when the validation loss stalls, as published: the cost, averaged over
            series and time; "cosine" lets it fall to lr_end over these epochs; "exponential" likewise, by the same
            factor every epoch.
        factor: what the plateau schedule multiplies the rate with.
        patience: epochs without a better validation loss that it waits.
        lr_end: the last rate of the cosine and exponential schedules.
        stop_rate: the run ends early once the plateau schedule (of its last stage) has brought every seed's rate below
            this, where weights no longer move.
        weight_decay: decoupled decay of Adam (AdamW).
        every: steps between updates.
        balanced: order the samples so that each batch holds as many of every class as the data allow; by default the
            order is random, as published.
        staggered: the streams of a batch begin their samples one after the other, spread evenly over the duration of a
            sample; by default all at once, as published.
        fade: time units over which a stream's target passes from the last sample's class to the new one; 0, as
            published, lets it jump.
        traces: (tau_e, tau_pre) of the filters in the synapses of each layer (see gle.Plasticity); none by default, as
            published.
        centred: time constant of the mean rates from which W sees deviations (see gle.Plasticity); none by default, as
            published.
        errors: of the hidden layers' error neurons (see gle.Layer); prospective is GLE, as published.
        propagation: whether a layer sees its neighbours' output of the previous step ("delayed", as published) or of
            the same instant ("instant"); by default the integrator's own.
    """

    epochs: int = 150
    batch: int = 100
    lr: float = 1e-3
    schedule: Literal["plateau", "cosine", "exponential", "constant"] = "plateau"
    factor: float = 0.5
    patience: int = 2
    lr_end: float = 0.0
    stop_rate: float = 1e-7
    weight_decay: float = 0.0
    every: int = 1
    balanced: bool = False
    staggered: bool = False
    fade: float = 0.0
    traces: Optional[list[tuple[float, float]]] = None
    centred: Optional[float] = None
    errors: Literal["prospective", "instantaneous"] = "prospective"
    propagation: Optional[Literal["delayed", "instant"]] = None


@dataclass
class Config:
    """One row of the table.

    Args:
        name: of the row and of its result files.
        model: what is trained.
        training: how.
        consolidation: how a GLE network goes on after that, with fresh neurons and optimiser; by default not at all.
        seeds: how many of seed_list to train; GLE networks train as one ensemble.
        seed_list: those of the published runs.
        device: cpu, cuda, …
        dtype: float32 or float64.
        integrator: see gle.integrators.
        dt: step; a sample lasts 72 time units.
        compile: whether to compile the step.
        threads: CPU threads; 0 leaves the choice to PyTorch.
        workers: processes among which the seeds are divided, each with its share of the threads. An ensemble of up to
            five seeds on one core keeps its tensors in the cache, and is the fastest.
        samples: size of the data set; 5000 is the published one.
        runs: folder of the run folders.
        smoke: a few seconds with tiny settings.
    """

    name: str = "gle_15k"
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    consolidation: Optional[Training] = None
    seeds: int = 1
    seed_list: list[int] = field(default_factory=lambda: [12, 34, 56, 78, 98, 76, 54, 32, 42, 69])
    device: str = "cpu"
    dtype: Literal["float32", "float64"] = "float32"
    integrator: Literal["euler", "exponential", "rk4"] = "euler"
    dt: float = 0.2
    compile: bool = True
    threads: int = 0
    workers: int = 1
    samples: int = 5000
    runs: Path = Path("runs")
    smoke: bool = False

    @property
    def used_seeds(self) -> list[int]:
        if not 1 <= self.seeds <= len(self.seed_list):
            raise ValueError(
                f"seeds must lie between 1 and {len(self.seed_list)}, the length of seed_list; got {self.seeds}"
            )
        return self.seed_list[: self.seeds]

    @property
    def stages(self) -> list[Config]:
        """One configuration after the other, each with a `training` of its own."""
        then = [] if self.consolidation is None else [self.consolidation]
        return [dataclasses.replace(self, training=t, consolidation=None) for t in (self.training, *then)]


# -- models ------------------------------------------------------------------------------------------------------------


def build_network(config: Config) -> gle.Network:
    """The GLE network of a configuration, one ensemble member per seed."""
    m, seeds = config.model, config.used_seeds
    common: dict[str, Any] = {"ensemble": (len(seeds),), "dtype": DTYPES[config.dtype], "device": config.device}
    n = sum(size for size, _, _ in m.populations)
    tau_m = torch.cat([torch.full((size,), tau) for size, tau, _ in m.populations])
    tau_r = torch.cat([torch.full((size,), tau) for size, _, tau in m.populations])
    hidden: dict[str, Any] = {"tau_m": tau_m, "tau_r": tau_r, "errors": config.training.errors, **common}
    output = gle.Layer(n, CLASSES, tau_m=m.output_tau, tau_r=m.output_tau, phi="linear", **common)
    if m.kind == "gle":  # the first hidden layer has no φ in the published runs
        hiddens = [gle.Layer(1, n, phi="linear", **hidden), *_hidden(n, m.hidden_layers - 1, hidden)]
        network = gle.Network([*hiddens, output], seeds)
        with torch.no_grad():
            for layer in hiddens:
                layer.W.mul_(m.weight_gain)
                layer.theta().b.mul_(m.bias_gain)
        return network

    lags = len(m.lags)
    chain: dict[str, Any] = {"tau_m": m.lags, "tau_r": config.dt, "phi": "linear", "bias": False, "plastic": False}
    chains = [gle.Layer(1, lags, **chain, **common), gle.Layer(lags, lags, depth=m.lag_layers - 1, **chain, **common)]
    top = [gle.Layer(lags, n, **hidden), *_hidden(n, m.hidden_layers - 1, hidden)]
    network = gle.Network([*chains, *top, output], seeds)
    with torch.no_grad():
        chains[0].W.fill_(1.0)
        chains[1].W.copy_(torch.eye(lags).expand_as(chains[1].W))
    return network


def _hidden(n: int, depth: int, hidden: dict[str, Any]) -> list[gle.Layer]:
    return [gle.Layer(n, n, depth=depth, **hidden)] if depth else []


# -- trainers ----------------------------------------------------------------------------------------------------------


Score = dict[str, list[float]]  # accuracy (%) and loss, one value per seed
Rates = Callable[[float], list[float]]  # from the part of the epoch that has passed to the learning rate of each seed


class Trainer(Protocol):
    parameters: int
    online: bool

    def epoch(self, split: Split, rates: Rates) -> None: ...
    def evaluate(self, split: Split) -> Score: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, saved: dict[str, Any]) -> None: ...


def sample_order(y: Tensor, balanced: bool, g: torch.Generator) -> Tensor:
    """Each sample once, in random order; balanced: with the classes evenly spread over it."""
    order = torch.randperm(len(y), generator=g)
    if not balanced:
        return order
    place = torch.empty(len(y))
    for c in range(CLASSES):
        members = (y[order] == c).nonzero()[:, 0]
        place[members] = (torch.arange(len(members)) + torch.rand(1, generator=g)) / max(1, len(members))
    return order[place.argsort()]


class Streams:
    """`batch` streams in which one sample follows the other, for each member of the ensemble.

    Staggered, stream i begins its samples i/batch of a sample later than stream 0. While the streams take the samples
    in a balanced order, any window in time then holds as many of every class, and the network never sees all targets
    jump at once.
    """

    def __init__(self, config: Config):
        t = config.training
        self.steps = round(DURATION / config.dt)
        self.offset = torch.arange(t.batch) * (self.steps if t.staggered else 0) // t.batch
        self.fade = t.fade / config.dt
        # the samples of the last two turns [2, members, batch]; −1: none yet
        self.past = torch.full((2, len(config.used_seeds), t.batch), -1)

    def turn(self, split: Split, index: Tensor) -> tuple[Tensor, Tensor]:
        """Each stream goes on, and turns to its next sample, index [members, batch]: inputs [T, members, batch, 1] and
        targets [T, members, batch, classes]."""
        since = torch.arange(self.steps)[:, None] - self.offset  # steps since the stream turned [T, batch]
        turned = (since >= 0).unsqueeze(1)
        before, last = self.past
        current = torch.where(turned, index, last)
        since = since.remainder(self.steps).unsqueeze(1).expand(current.shape)
        # before its first sample a stream is silent, and its target tells nothing
        x = torch.where(current >= 0, split.x[current, since], 0.0)
        y = self._target(split, current)
        if self.fade:
            z = ((since + 1) / self.fade).clamp(max=1).unsqueeze(-1)
            passed = z**3 * (10 - 15 * z + 6 * z * z)  # smooth up to its second derivative
            y = torch.lerp(self._target(split, torch.where(turned, last, before)), y, passed)
        self.past = torch.stack([last, index])
        return x.unsqueeze(-1), y

    @staticmethod
    def _target(split: Split, index: Tensor) -> Tensor:
        known = F.one_hot(split.y[index], CLASSES).to(split.x.dtype)
        return torch.where((index >= 0).unsqueeze(-1), known, 1 / CLASSES)


def scheme(config: Config) -> Integrator:
    """The integrator of a configuration. Raises ValueError where it cannot propagate as asked."""
    own, wanted = integrator(config.integrator), config.training.propagation
    if wanted is None or wanted == own.propagation:
        return own
    if not isinstance(own, Euler):
        raise ValueError(f"{config.integrator} has {own.propagation} propagation only, not {wanted}")
    return type(own)(wanted)


class OnlineTrainer:
    """A GLE network (or LagNet): every sample streams past once per epoch, the network learning at each step; its
    state goes on from one sample to the next.

    start: a trainer whose weights, streams and order of samples this one goes on with.
    """

    online = True

    def __init__(self, config: Config, start: OnlineTrainer | None = None):
        self.config = config
        self.network = build_network(config)
        if start is not None:
            self.network.load_theta(start.simulation.carry.theta)
        self.parameters = self.network.n_parameters()
        t = config.training
        plasticity = gle.Plasticity(
            gle.Adam(weight_decay=t.weight_decay), lr=t.lr, every=t.every, traces=t.traces or None, centred=t.centred
        )
        self.simulation: gle.Simulation = gle.Simulation(
            self.network,
            dt=config.dt,
            integrator=scheme(config),
            cost="cross_entropy",
            plasticity=plasticity,
            compile=config.compile,
        )
        own = [generator(seed, "data") for seed in config.used_seeds]
        self.order: list[torch.Generator] = own if start is None else start.order
        self.streams = Streams(config)
        if start is not None:
            self.streams.past = start.streams.past

    def epoch(self, split: Split, rates: Rates) -> None:
        batch = self.config.training.batch
        balanced = self.config.training.balanced
        order = torch.stack([sample_order(split.y, balanced, g) for g in self.order])
        batches = order.split(batch, dim=1)
        for i, index in enumerate(batches):
            if index.shape[1] < batch:  # an incomplete batch: the streams of the state are all taken
                continue
            self.simulation.set_lr(rates(i / len(batches)))
            self.simulation.run(*self.streams.turn(split, index))

    def evaluate(self, split: Split) -> Score:
        """Streams the samples past the frozen network. The class comes from the outputs summed over the sample. The
        loss, which serves the schedule alone, is the cost that the network learns by, averaged over time."""
        batch = min(self.config.training.batch, len(split.y))
        state = None
        right = loss = torch.zeros(len(self.order), device=self.network.device)
        for index in torch.arange(len(split.y)).split(batch):
            x = split.x[index].T.unsqueeze(-1)
            if state is not None and len(index) < batch:
                state = None
            outputs, state = self.simulation.predict(x, state=state)
            y, logits = split.y[index].to(outputs.device), outputs.sum(0)  # [batch], [members, batch, classes]
            right = right + (logits.argmax(-1) == y).sum(-1)
            target = F.one_hot(y, CLASSES).to(outputs).expand_as(outputs)
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


class OfflineTrainer:
    """A baseline: backprop through the whole series, one network per seed."""

    online = False

    def __init__(self, config: Config):
        self.config = config
        where: dict[str, Any] = {"device": config.device, "dtype": DTYPES[config.dtype]}
        self.models = [seeded(config.model.kind, seed).to(**where) for seed in config.used_seeds]
        self.where = where
        self.parameters = n_parameters(self.models[0])
        adamw: dict[str, Any] = {"lr": config.training.lr, "weight_decay": config.training.weight_decay}
        self.optimizers = [torch.optim.AdamW(m.parameters(), **adamw) for m in self.models]
        self.order = [generator(seed, "data") for seed in config.used_seeds]

    def epoch(self, split: Split, rates: Rates) -> None:
        for i, (model, optimizer, g) in enumerate(zip(self.models, self.optimizers, self.order, strict=True)):
            order = sample_order(split.y, self.config.training.balanced, g)
            batches = order.split(self.config.training.batch)
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
            rate = t.lr_end + (t.lr - t.lr_end) * 0.5 * (1 + math.cos(math.pi * progress))
            return [rate] * len(self._optimizers)
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


# -- runs --------------------------------------------------------------------------------------------------------------


def parser(**how: Any) -> cli.Parser:
    p = cli.Parser(prog="python -m bench.mnist1d", description=__doc__.splitlines()[0], **how)
    p.add_class_arguments(Config, as_group=False)
    p.add_argument("--config", action="config", help="a file of configs/mnist1d; flags win over it")
    p.add_argument(
        "--resume", type=Optional[Path], default=None, help="a run folder: goes on with its own configuration"
    )
    return p


def to_config(parsed: Namespace) -> Config:
    values = parsed.clone()
    for extra in ("config", "resume"):
        values.pop(extra, None)
    return Config(**parser().instantiate(values).as_dict())


def shortened(config: Config) -> Config:
    """The same in a few seconds."""
    first, *then = (dataclasses.replace(stage.training, epochs=2, batch=10) for stage in config.stages)
    return dataclasses.replace(
        config,
        training=first,
        consolidation=then[0] if then else None,
        samples=30,
        compile=False,
        seeds=min(config.seeds, 2),
    )


def validate(config: Config) -> None:
    """Complains before any work is done: ValueError with the value and the fix."""
    if config.samples % CLASSES or config.samples < 2 * CLASSES:
        raise ValueError(f"samples must be a multiple of {CLASSES}, at least {2 * CLASSES}; got {config.samples}")
    if config.model.hidden_layers < 1:
        raise ValueError(f"hidden_layers must be at least 1, got {config.model.hidden_layers}")
    if config.model.kind == "lagnet" and (config.model.lag_layers < 2 or not config.model.lags):
        raise ValueError("a LagNet needs lags, and lag_layers of at least 2")
    if not 1 <= config.workers <= len(config.used_seeds):
        raise ValueError(f"workers must lie between 1 and the {config.seeds} seeds, got {config.workers}")
    if abs(DURATION / config.dt - round(DURATION / config.dt)) > 1e-6:
        raise ValueError(f"dt must divide the {DURATION:g} time units of a sample, got {config.dt}")
    if config.device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {config.device!r} was asked for, but PyTorch finds no CUDA device: use --device cpu")
    if config.consolidation is not None and config.model.kind in BASELINES:
        raise ValueError(f"consolidation is for GLE networks, not for {config.model.kind}: leave it out")
    if config.consolidation is not None and config.consolidation.batch != config.training.batch:
        raise ValueError(
            f"consolidation has a batch of {config.consolidation.batch}, training one of {config.training.batch}: "
            "the same streams go on, so give both the same"
        )
    for stage in config.stages:
        _validate_training(stage.training, int(config.samples * 0.8))
        build_trainer(stage)


def _validate_training(t: Training, samples: int) -> None:
    if not 1 <= t.batch <= samples:
        raise ValueError(f"batch must lie between 1 and the {samples} training samples, got {t.batch}")
    for name, value in (("epochs", t.epochs), ("every", t.every)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if t.lr <= 0 or t.lr_end < 0 or (t.schedule == "exponential" and t.lr_end == 0):
        raise ValueError(f"rates must be positive, got lr={t.lr:g} and lr_end={t.lr_end:g}")
    if t.schedule == "plateau" and t.lr <= t.stop_rate:
        raise ValueError(f"lr={t.lr:g} is not above stop_rate={t.stop_rate:g}, at which training ends: raise it")
    if not 0 <= t.fade <= DURATION:
        raise ValueError(f"fade must lie between 0 and the {DURATION:g} time units of a sample, got {t.fade:g}")
    if not 0 < t.factor < 1:
        raise ValueError(f"factor must lie between 0 and 1, got {t.factor}")


def build_trainer(config: Config) -> Trainer:
    return OfflineTrainer(config) if config.model.kind in BASELINES else OnlineTrainer(config)


def train(config: Config, run: Run, data: Mnist1d, saved: dict[str, Any] | None = None) -> dict[str, Any]:
    """Trains one row of the table from the start or from a checkpoint, and returns its result."""
    stages = config.stages
    n, began, epoch = (saved["stage"], saved["began"], saved["epoch"]) if saved else (0, 0, 0)
    last = len(stages) - 1
    trainer, schedule = build_trainer(stages[n]), Schedule(stages[n].training, config.seeds)
    if saved:
        trainer.load_state_dict(saved["trainer"])
        schedule.load_state_dict(saved["schedule"])
    epochs = sum(stage.training.epochs for stage in stages)
    bar = tqdm(total=epochs, initial=epoch, desc=config.name, unit="epoch", disable=not sys.stderr.isatty())
    with bar:
        while True:
            if n == last and schedule.finished:
                log.info("%s: all rates are below %g after %d epochs", config.name, schedule.training.stop_rate, epoch)
                break
            if epoch - began >= stages[n].training.epochs:
                if n == last:
                    break
                n, began = n + 1, epoch
                assert isinstance(trainer, OnlineTrainer)
                trainer, schedule = OnlineTrainer(stages[n], trainer), Schedule(stages[n].training, config.seeds)
            start = time.perf_counter()
            trainer.epoch(data.train, schedule.during(epoch - began))
            score = trainer.evaluate(data.validation)
            run.log(
                {
                    "epoch": epoch + 1,
                    "lr": schedule.rates((epoch - began) / stages[n].training.epochs),
                    "accuracy": score["accuracy"],
                    "loss": score["loss"],
                    "seconds": time.perf_counter() - start,
                }
            )
            epoch += 1
            schedule.after_epoch(score["loss"])
            place = {"epoch": epoch, "stage": n, "began": began}
            run.checkpoint({**place, "trainer": trainer.state_dict(), "schedule": schedule.state_dict()})
            bar.set_postfix_str(f"validation {statistics.mean(score['accuracy']):.1f} %")
            bar.update()
            if bar.disable:
                log.info(
                    "%s: epoch %d/%d, validation %.1f %%, %.1f s",
                    config.name, epoch, epochs, statistics.mean(score["accuracy"]), run.rows[-1]["seconds"],
                )  # fmt: skip
    test = trainer.evaluate(data.test)
    result = {
        "name": config.name,
        "parameters": trainer.parameters,
        "online": trainer.online,
        "epochs": len(run.rows),
        "seeds": config.used_seeds,
        "validation": run.rows[-1]["accuracy"],
        "test": test["accuracy"],
        "curve": [row["accuracy"] for row in run.rows],
        "seconds": sum(row["seconds"] for row in run.rows),
        "config": plain(config),
        "environment": run.environment(),
    }
    run.finish(result)
    return result


def run_one(config: Config, resume: Path | None = None) -> tuple[Path, dict[str, Any]]:
    """Trains one configuration in a run folder of its own, or goes on in an old one."""
    config = shortened(config) if config.smoke else config
    validate(config)
    if config.workers > 1:
        return run_divided(config, resume)
    if config.threads:
        torch.set_num_threads(config.threads)
    torch.set_flush_denormal(True)  # vanishing weights and moments would otherwise cost a hundred times their share
    data = mnist1d(LENGTHS.get(config.model.kind, round(DURATION / config.dt)), config.samples)
    if resume is None:
        resolved = yaml.safe_dump(plain(dataclasses.replace(config, smoke=False)), sort_keys=False)
        run = Run.create(config.runs, "mnist1d", resolved, torch.device(config.device))
        saved = None
    else:
        run = Run.reopen(resume)
        saved = run.restore()
    log.info("%s: results go to %s", config.name, run.path)
    try:
        result = train(config, run, data, saved)
    except (KeyboardInterrupt, SaveError) as stop:
        cli.stopped(stop, cli.go_on("mnist1d", run.path))
    figures.learning_curves([result], PUBLISHED, run.path / "learning_curve.png")
    return run.path, result


def run_divided(config: Config, resume: Path | None) -> tuple[Path, dict[str, Any]]:
    """The same with the seeds divided among processes, each with a run folder of its own in `workers/`."""
    resolved = yaml.safe_dump(plain(dataclasses.replace(config, smoke=False)), sort_keys=False)
    run = Run.reopen(resume) if resume else Run.create(config.runs, "mnist1d", resolved, torch.device(config.device))
    log.info("%s: results go to %s", config.name, run.path)
    threads = max(1, (config.threads or torch.get_num_threads()) // config.workers)
    seeds = config.used_seeds
    processes = []
    for w in range(config.workers):
        share = seeds[w * len(seeds) // config.workers : (w + 1) * len(seeds) // config.workers]
        folder = run.path / "workers" / str(w)
        begun = sorted(folder.rglob("config.yaml"))
        if begun:
            arguments = ["--resume", str(begun[0].parent)]
        else:
            own = dataclasses.replace(
                config, seeds=len(share), seed_list=share, workers=1, threads=threads, runs=folder, smoke=False
            )
            write_text(folder / "share.yaml", yaml.safe_dump(plain(own), sort_keys=False))
            arguments = ["--config", str(folder / "share.yaml")]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", "bench.mnist1d", *arguments]
        processes.append(subprocess.Popen(command, env=environment, preexec_fn=_die_with_parent))
    try:
        codes = [p.wait() for p in processes]
    except KeyboardInterrupt:
        for p in processes:
            p.send_signal(signal.SIGINT)
        codes = [p.wait() for p in processes]
    if any(codes):
        print(f"stopped; {cli.go_on('mnist1d', run.path)}", file=sys.stderr)
        raise SystemExit(max(codes, key=abs))
    shares = [
        read_json(next((run.path / "workers" / str(w)).rglob("result.json")), "delete it, then --resume")
        for w in range(config.workers)
    ]
    result = merged(shares, config)
    run.finish(result)
    figures.learning_curves([result], PUBLISHED, run.path / "learning_curve.png")
    return run.path, result


def _die_with_parent() -> None:
    """On Linux: a worker whose parent is killed must not go on writing where a resumed run will write."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def merged(shares: Sequence[dict[str, Any]], config: Config) -> dict[str, Any]:
    """One result from those of the workers. A share that the plateau schedule ended early keeps its last accuracy: its
    weights no longer move."""
    epochs = max(r["epochs"] for r in shares)
    curves = [r["curve"] + [r["curve"][-1]] * (epochs - r["epochs"]) for r in shares]
    joined = {key: [v for r in shares for v in r[key]] for key in ("seeds", "validation", "test")}
    return (
        shares[0]
        | joined
        | {
            "epochs": epochs,
            "curve": [[a for share in rows for a in share] for rows in zip(*curves, strict=True)],
            "seconds": max(r["seconds"] for r in shares),
            "config": plain(config),
        }
    )


def plain(config: Config) -> dict[str, Any]:
    """The configuration as YAML and JSON know it: no tuples, no paths."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def load_results(folder: Path) -> list[dict[str, Any]]:
    """The result files of a folder, in the order of the paper's table."""
    order = list(PUBLISHED)
    results = [read_json(f, "put it back as it was") for f in sorted(folder.glob("*.json"))]
    return sorted(
        results, key=lambda r: (order.index(base(r["name"])) if base(r["name"]) in order else len(order), r["name"])
    )


def base(name: str) -> str:
    """The row of the paper that a configuration is compared with."""
    return name.removesuffix("_tuned")


def table(results: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """The final table, in the layout of Table 2."""
    rows: list[tuple[str, ...]] = [
        ("model", "parameters", "online", "epochs", "seeds", "validation %", "test %", "published %")
    ]
    for r in results:
        published = PUBLISHED.get(base(r["name"]))
        rows.append(
            (
                r["name"],
                str(r["parameters"]),
                "yes" if r["online"] else "no",
                str(r["epochs"]),
                str(len(r["seeds"])),
                mean_std(r["validation"]),
                mean_std(r["test"]),
                "{:.1f} ± {:.1f}".format(*published) if published else "–",
            )
        )
    return rows


# The run without arguments: which configurations, and how much shorter
CONFIGS = Path(__file__).parent.parent / "configs" / "mnist1d"
SHORT: dict[str, list[str]] = {
    "mlp": ["--training.epochs=20"],
    "tcn": ["--training.epochs=20"],
    "gru": ["--training.epochs=20"],
    "gle_15k_tuned": ["--training.epochs=8", "--consolidation.epochs=4"],
}


def run_all(arguments: list[str]) -> None:
    """All models of Fig. 8d on a short budget, with one table and one figure."""
    configs = [
        parse(["--config", str(CONFIGS / f"{name}.yaml"), *changes, *arguments]) for name, changes in SHORT.items()
    ]
    for config in configs:
        validate(shortened(config) if config.smoke else config)
    results = [run_one(config)[1] for config in configs]
    path = configs[0].runs / "mnist1d" / "learning_curves.png"
    figures.learning_curves(results, PUBLISHED, path)
    print(layout(table(results)))
    print(f"Short budget: the published figures are for 150 epochs. Learning curves: {path}")


def parse(arguments: list[str]) -> Config:
    return to_config(parser().parse_args(arguments))


def main(argv: list[str] | None = None) -> None:
    with cli.command():
        dispatch(sys.argv[1:] if argv is None else argv)


def saved_config(folder: Path) -> Config:
    """The configuration of a run folder. Raises ValueError where that is none, is damaged, or has another configuration
    than it began with."""

    def read(values: dict[str, Any]) -> Config:
        try:
            return to_config(parser(exit_on_error=False).parse_object(values))
        except ArgumentError as error:
            raise ValueError(f"{folder / 'config.yaml'} holds what is no option here: {error}") from error

    return begun(folder, read, plain)


def dispatch(arguments: list[str]) -> None:
    parsed = parser().parse_args(arguments)
    if parsed.resume:
        cli.check_resume(arguments)
        path, result = run_one(saved_config(parsed.resume), parsed.resume)
    elif parsed.config:
        path, result = run_one(to_config(parsed))
    else:
        return run_all(arguments)
    print(layout(table([result])))
    print(f"results: {path}")


if __name__ == "__main__":
    main()
