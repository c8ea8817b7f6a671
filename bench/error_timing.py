"""When is what an error sends down computed? MNIST-1D (§2.7.1) with both readings of the delayed scheme.

python -m bench.error_timing                  what a weight's own update adds to the errors below it, layer by layer
python -m bench.error_timing --trained 10     and the published protocol with either reading, ten seeds

With delayed propagation a layer's error e(t) reaches the layer below one step later, and meanwhile its weights have
learned. *Sent* (the toolkit's, and the published one): what arrives is the current W(t)ᵀ e(t), formed beside the
error. *Late*: it is W(t + dt)ᵀ e(t), which holds the update ΔW that this very error has just made. For gradient
descent, ΔWᵀ e = η |e|² r: a push along the presynaptic rate r, whatever the task.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from bench.data import mnist1d as data_set
from bench.data.series import Split
from bench.kit.benchmark import Benchmark, configs, main
from bench.kit.figures import plt
from bench.kit.folder import Run
from bench.kit.options import DeviceOptions, read
from bench.kit.tables import Table, mean_std
from bench.learning import options as learning
from bench.learning.schedule import Schedule
from bench.learning.trainers import Online
from gle.integrators import Euler
from gle.state import select

READINGS = ("sent", "late")
PUBLISHED = (91.7, 0.8)  # validation accuracy of the 15k network, mean and std in %: Table 2


class Late(Euler):
    """Euler's step in which errors come down through the weights of the step that receives them."""

    def step(self, net, theta, state, xs, targets, dynamics):
        late = tuple(s._replace(sent=net.sent(i, p, s.e)) for i, (p, s) in enumerate(zip(theta, state, strict=True)))
        return super().step(net, theta, late, xs, targets, dynamics)


@dataclass
class ErrorTiming(DeviceOptions):
    """What to measure.

    Args:
        seeds: networks that are looked at, of the published list.
        epochs: of the published training after which one batch of series is looked at, while it is learned from.
        trained: seeds that learn by the whole published protocol with either reading; 0 leaves that out (an hour on two
            cores for ten).
        most: epochs of that at most.
        samples: size of the data set; 5000 is the published one.
        hidden_layers: of the network; 6 is the published one.
        compile: whether to compile the step of training.
    """

    seeds: int = 3
    epochs: list[int] = field(default_factory=lambda: [0, 1, 5])
    trained: int = 0
    most: int = 150
    samples: int = 5000
    hidden_layers: int = 6
    compile: bool = True


def tiny(o: ErrorTiming) -> ErrorTiming:
    return dataclasses.replace(
        o, seeds=min(o.seeds, 2), epochs=[1], samples=20, most=min(o.most, 2), hidden_layers=2, compile=False
    )


def config_of(o: ErrorTiming, seeds: int) -> learning.Learning:
    """The published protocol of the 15k network."""
    published = read(learning.Learning, ["--config", str(configs() / "mnist1d" / "gle_15k.yaml")])
    batch = min(published.training.batch, int(o.samples * 0.8))
    training = dataclasses.replace(published.training, epochs=o.most, batch=batch)
    model = dataclasses.replace(published.model, hidden_layers=o.hidden_layers)
    return dataclasses.replace(
        published, model=model, training=training, seeds=seeds, device=o.device, compile=o.compile
    )


def check(o: ErrorTiming) -> None:
    """Raises ValueError with the value and what it must be."""
    if not o.epochs or min(o.epochs) < 0 or sorted(set(o.epochs)) != o.epochs:
        raise ValueError(f"epochs must be ascending numbers, got {o.epochs}")
    if o.trained < 0:
        raise ValueError(f"trained must be ≥ 0, got {o.trained}")
    data_set.check(o.samples)
    for seeds in {o.seeds, o.trained or 1}:
        config = config_of(o, seeds)
        learning.check(config, data_set.form(config.dt), int(o.samples * 0.8))


# -- what the update adds to the errors ------------------------------------------------------------------------------


def pushes(o: ErrorTiming) -> list[dict[str, Any]]:
    """One row per moment: of each hidden layer ℓ and seed, averaged over samples and time."""
    config = config_of(o, o.seeds)
    data = data_set.load(data_set.form(config.dt).steps, o.samples)
    trainer = Online(config, config.training, data.form)
    rows, done = [], 0
    for epoch in o.epochs:
        while done < epoch:
            trainer.epoch(data.train, lambda _: [config.training.lr] * o.seeds)
            done += 1
        rows.append({"epoch": epoch, **compared(trainer, data.train)})
    return rows


@torch.no_grad()
def compared(trainer: Online, split: Split) -> dict[str, list[list[float]]]:
    """One batch of series: the network learns from it as ever; beside it run errors that come down late, through the
    same weights. Of each hidden layer [layers, seeds]: extra: size of ΔWᵀ e beside that of Wᵀ e, which the layer above
    sends; along: cosine of ΔWᵀ e with the rates r; cosine: of the layer's late errors with the sent ones; gradient: of
    the gradients of W that either add up to over the whole series."""
    sim, late_scheme = trainer.simulation, Late()
    net, dynamics = sim.network, sim.dynamics
    index = torch.stack([torch.arange(trainer.training.batch)] * len(trainer.order))
    x, y = (z.to(net.device) for z in trainer.streams.turn(split, index)[:2])
    if not sim.carry.state:
        sim.reset(x.shape[-2])
    late = sim.carry.state
    places = list(net.places())
    sums: dict[tuple[str, int], Tensor] = {}

    def add(name: str, layer: int, value: Tensor) -> None:
        sums[name, layer] = sums.get((name, layer), 0.0) + value

    def total(name: str) -> list[Tensor]:
        return [sums[name, l] for l in range(len(places) - 1)]

    for t in range(len(x)):
        theta, before, *_ = sim.carry
        late, _ = late_scheme.step(net, theta, late, (x[t],), (y[t],), dynamics)
        sim.run(x[t : t + 1], y[t : t + 1])
        theta, after, *_ = sim.carry
        pre = net.presynaptic(x[t], [s.r for s in before])
        through_new = [net.sent(i, p, s.e) for i, (p, s) in enumerate(zip(theta, after, strict=True))]
        for l, ((i, d), (j, c)) in enumerate(pairwise(places)):
            sent, r = after[j].sent[c], before[i].r[d]
            extra = through_new[j][c] - sent
            add("sent²", l, sent.square().sum((-2, -1)))
            add("extra²", l, extra.square().sum((-2, -1)))
            add("along", l, cosine_similarity(extra, r, dim=-1).mean(-1) / len(x))
            e, e_late = select(after[i], d).e, select(late[i], d).e
            add("e²", l, e.square().sum((-2, -1)))
            add("late²", l, e_late.square().sum((-2, -1)))
            add("both", l, (e * e_late).sum((-2, -1)))
            add("grad", l, e.mT @ pre[i][d])
            add("late grad", l, e_late.mT @ pre[i][d])
    size, push = total("sent²"), total("extra²")
    e2, late2, both = total("e²"), total("late²"), total("both")
    summed = [
        cosine_similarity(g.flatten(1), h.flatten(1)) for g, h in zip(total("grad"), total("late grad"), strict=True)
    ]
    return {
        "extra": [(a / b).sqrt().tolist() for a, b in zip(push, size, strict=True)],
        "along": [a.tolist() for a in total("along")],
        "cosine": [(c / (a * b).sqrt()).tolist() for a, b, c in zip(e2, late2, both, strict=True)],
        "gradient": [g.tolist() for g in summed],
    }


# -- what becomes of the network ---------------------------------------------------------------------------------------


def learned(o: ErrorTiming, reading: str) -> dict[str, Any]:
    """The published protocol with one of the readings: validation accuracy of each seed after every epoch."""
    config = config_of(o, o.trained)
    data = data_set.load(data_set.form(config.dt).steps, o.samples)
    trainer, schedule = Online(config, config.training, data.form), Schedule(config.training, o.trained)
    if reading == "late":
        trainer.simulation.integrator = Late()
    curve: list[list[float]] = []
    while len(curve) < config.training.epochs and not schedule.finished:
        trainer.epoch(data.train, schedule.during(len(curve)))
        score = trainer.evaluate(data.validation)
        schedule.after_epoch(score["loss"])
        curve.append(score["accuracy"])
    return {"curve": curve, "test": trainer.evaluate(data.test)["accuracy"]}


# -- tables and figure -------------------------------------------------------------------------------------------------


def push_table(result: Mapping[str, Any]) -> Table:
    rows: list[tuple[str, ...]] = [
        ("after epoch", "layer", "‖ΔWᵀe‖ / ‖Wᵀe‖", "cos(ΔWᵀe, r)", "cos(late, sent e)", "cos(late, sent ΣΔW)")
    ]
    for row in result["pushes"]:
        for l in range(len(row["extra"])):
            cells = (mean_std(row[name][l], 3) for name in ("extra", "along", "cosine", "gradient"))
            rows.append((str(row["epoch"]), str(l + 1), *cells))
    return Table(rows)


def trained_table(result: Mapping[str, Any]) -> Table:
    rows: list[tuple[str, ...]] = [("what comes down", "seeds", "epochs", "validation %", "test %", "published %")]
    published = "{:.1f} ± {:.1f}".format(*PUBLISHED)
    for reading in READINGS:
        r = result["trained"][reading]
        last = r["curve"][-1]
        rows.append((reading, str(len(last)), str(len(r["curve"])), mean_std(last), mean_std(r["test"]), published))
    return Table(rows)


def tables(result: Mapping[str, Any]) -> list[Table]:
    return [push_table(result), *([trained_table(result)] if result["trained"] else [])]


def draw(result: Mapping[str, Any]) -> plt.Figure:
    """The push and what it does to the errors, layer by layer; learning curves where there are some."""
    shown = 3 if result["trained"] else 2
    figure, axes = plt.subplots(1, shown, figsize=(4 * shown, 3.2), layout="constrained")
    for i, row in enumerate(result["pushes"]):
        layers = range(1, len(row["extra"]) + 1)
        for axis, name in zip(axes, ("extra", "gradient"), strict=False):
            values = torch.tensor(row[name])
            axis.plot(layers, values.mean(1), f"C{i}.-", label=f"after epoch {row['epoch']}")
            axis.fill_between(layers, values.amin(1), values.amax(1), color=f"C{i}", alpha=0.2, linewidth=0)
    axes[0].set(xlabel="hidden layer that receives", ylabel="‖ΔWᵀe‖ / ‖Wᵀe‖", yscale="log")
    axes[1].set(xlabel="hidden layer", ylabel="cosine of late and sent gradients", ylim=(-0.2, 1.05))
    axes[0].legend(fontsize=7)
    if result["trained"]:
        for i, reading in enumerate(READINGS):
            curve = torch.tensor(result["trained"][reading]["curve"])
            epochs = range(1, len(curve) + 1)
            mean, std = curve.mean(1), curve.std(1) if curve.shape[1] > 1 else torch.zeros(len(curve))
            axes[2].plot(epochs, mean, f"C{i}", label=f"{reading} ({curve.shape[1]} seeds)")
            axes[2].fill_between(epochs, mean - std, mean + std, color=f"C{i}", alpha=0.2, linewidth=0)
        value, spread = PUBLISHED
        axes[2].axhspan(value - spread, value + spread, color="0.85", label="published, last epoch")
        axes[2].set(xlabel="epoch", ylabel="validation accuracy / %", ylim=(0, 100))
        axes[2].legend(fontsize=7, loc="lower right")
    return figure


def run(o: ErrorTiming, run: Run) -> dict[str, Any]:
    torch.set_flush_denormal(True)
    return {
        "pushes": run.part("pushes", partial(pushes, o)),
        "trained": {r: run.part(r, partial(learned, o, r)) for r in READINGS} if o.trained else {},
    }


benchmark = Benchmark(
    name="error_timing",
    summary="when is what an error sends down computed? Both readings of the delayed scheme",
    Options=ErrorTiming,
    check=check,
    tiny=tiny,
    run=run,
    tables=tables,
    draw=lambda result: {"error_timing.png": draw(result)},
    published={"gle_15k": PUBLISHED},
)

if __name__ == "__main__":
    main(benchmark)
