"""How labelled series are learned: the options that every benchmark of them has."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Literal, Optional, TypeVar

import torch

from bench.data.series import Form
from bench.kit.options import DeviceOptions
from bench.models.populations import ONLINE, Model

DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass
class Training:
    """How a network is trained.

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
        rule: gle, or bptt: exact gradients, by autograd through the steps of each sample, with one update after it.
        every: steps between updates.
        balanced: order the samples so that each batch holds as many of every class as the data allow; by default the
            order is random, as published.
        staggered: the streams of a batch begin their samples one after the other, spread evenly over the duration of a
            sample; by default all at once, as published.
        fade: time units over which a stream's target passes from the last sample's class to the new one; 0, as
            published, lets it jump.
        traces: (tau_e, tau_pre) of the filters in the synapses of each layer, or own: eligibility traces (see
            gle.Plasticity); none by default, as published.
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
    rule: Literal["gle", "bptt"] = "gle"
    every: int = 1
    balanced: bool = False
    staggered: bool = False
    fade: float = 0.0
    traces: list[tuple[float, float]] | Literal["own"] | None = None
    centred: Optional[float] = None
    errors: Literal["prospective", "instantaneous"] = "prospective"
    propagation: Optional[Literal["delayed", "instant"]] = None


@dataclass
class Learning(DeviceOptions):
    """One row of a table.

    Args:
        name: of the row and of its result files.
        model: what is trained.
        training: how.
        consolidation: how a GLE network goes on after that, with fresh neurons and optimiser; by default not at all.
        seeds: how many of seed_list to train; GLE networks train as one ensemble.
        seed_list: those of the published runs.
        dtype: float32 or float64.
        integrator: see gle.integrators.
        dt: step, in time units.
        compile: whether to compile the step.
        block: steps that are compiled as one: more of them take longer to compile.
        readout: how a GLE network's outputs over time name a class: by their sum, their mean probability, the class
            that most steps name, or the last output; best: for each seed whichever of these is best on the validation
            samples at the end.
        workers: processes among which the seeds are divided, each with its share of the threads. An ensemble of up to
            five seeds on one core keeps its tensors in the cache, and is the fastest.
    """

    name: str = "gle_15k"
    model: Model = field(default_factory=Model)
    training: Training = field(default_factory=Training)
    consolidation: Optional[Training] = None
    seeds: int = 1
    seed_list: list[int] = field(default_factory=lambda: [12, 34, 56, 78, 98, 76, 54, 32, 42, 69])
    dtype: Literal["float32", "float64"] = "float32"
    integrator: Literal["euler", "exponential", "rk4"] = "euler"
    dt: float = 0.2
    compile: bool = True
    block: int = 4
    threads: int = 0
    workers: int = 1
    readout: Literal["sum", "mean", "vote", "last", "best"] = "sum"


L = TypeVar("L", bound=Learning)


def used_seeds(o: Learning) -> list[int]:
    """Raises ValueError where there are not so many."""
    if not 1 <= o.seeds <= len(o.seed_list):
        raise ValueError(f"seeds must lie between 1 and {len(o.seed_list)}, the length of seed_list; got {o.seeds}")
    return o.seed_list[: o.seeds]


def stages(o: Learning) -> list[Training]:
    return [o.training] if o.consolidation is None else [o.training, o.consolidation]


def check(o: Learning, form: Form, samples: int) -> None:
    """Complains before any work is done: ValueError with the value and the fix. samples: for training."""
    if o.model.hidden_layers < 1:
        raise ValueError(f"hidden_layers must be at least 1, got {o.model.hidden_layers}")
    if o.model.kind == "lagnet" and (o.model.lag_layers < 2 or not o.model.lags):
        raise ValueError("a LagNet needs lags, and lag_layers of at least 2")
    if not 1 <= o.workers <= len(used_seeds(o)):
        raise ValueError(f"workers must lie between 1 and the {o.seeds} seeds, got {o.workers}")
    if o.consolidation is not None and o.model.kind not in ONLINE:
        raise ValueError(f"consolidation is for GLE networks, not for {o.model.kind}: leave it out")
    if o.consolidation is not None and o.consolidation.batch != o.training.batch:
        raise ValueError(
            f"consolidation has a batch of {o.consolidation.batch}, training one of {o.training.batch}: "
            "the same streams go on, so give both the same"
        )
    if o.block < 1:
        raise ValueError(f"block must be at least 1, got {o.block}")
    for training in stages(o):
        check_training(training, samples, form.steps * o.dt)


def check_training(t: Training, samples: int, duration: float) -> None:
    if not 1 <= t.batch <= samples:
        raise ValueError(f"batch must lie between 1 and the {samples} training samples, got {t.batch}")
    for name, value in (("epochs", t.epochs), ("every", t.every)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if t.lr <= 0 or t.lr_end < 0 or (t.schedule == "exponential" and t.lr_end == 0):
        raise ValueError(f"rates must be positive, got lr={t.lr:g} and lr_end={t.lr_end:g}")
    if t.schedule == "plateau" and t.lr <= t.stop_rate:
        raise ValueError(f"lr={t.lr:g} is not above stop_rate={t.stop_rate:g}, at which training ends: raise it")
    if not 0 <= t.fade <= duration:
        raise ValueError(f"fade must lie between 0 and the {duration:g} time units of a sample, got {t.fade:g}")
    if t.rule == "bptt" and (t.traces or t.centred is not None or t.every != 1):
        raise ValueError(
            "rule = bptt updates once a sample, by its gradients alone: leave out traces, centred and every"
        )
    if not 0 < t.factor < 1:
        raise ValueError(f"factor must lie between 0 and 1, got {t.factor}")


def tiny(o: L) -> L:
    """Of a smoke run."""
    first, *then = (dataclasses.replace(t, epochs=2, batch=10) for t in stages(o))
    seeds = min(o.seeds, 2)
    return dataclasses.replace(o, training=first, consolidation=then[0] if then else None, compile=False, seeds=seeds)
