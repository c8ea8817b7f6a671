"""A run: one row of a table trained from its beginning or from a checkpoint, its result, and learning curves."""

from __future__ import annotations

import dataclasses
import logging
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from bench.data.series import Form, Labelled
from bench.kit.benchmark import Curve, Score
from bench.kit.divided import Divide, part
from bench.kit.figures import band, plt
from bench.kit.folder import Run
from bench.kit.tables import Table, mean_std
from bench.learning.options import Learning, stages, used_seeds
from bench.learning.readouts import READOUTS
from bench.learning.schedule import Schedule
from bench.learning.trainers import Baseline, Build, Offline, Online, Trainer, build_network
from bench.models.populations import ONLINE

log = logging.getLogger(__name__)


def trainer_of(
    o: Learning,
    form: Form,
    stage: int = 0,
    start: Trainer | None = None,
    build: Build = build_network,
    baseline: Baseline | None = None,
) -> Trainer:
    """Of a stage. start: that of the stage before. baseline: makes that network for a seed."""
    if o.model.kind not in ONLINE:
        return Offline(o, baseline)
    assert start is None or isinstance(start, Online)
    return Online(o, stages(o)[stage], form, start, build)


def learn(
    o: Learning,
    data: Labelled,
    run: Run,
    build: Build = build_network,
    baseline: Baseline | None = None,
    then: Callable[[Trainer, list[str]], dict[str, Any]] | None = None,
) -> dict[str, Any]:
    """Trains the network that `build` (or `baseline`) makes, stage after stage, with a checkpoint after each epoch.
    then: what else the result shall have, from the trained networks and the readout of each."""
    saved = run.restore()
    n, began, epoch = (saved["stage"], saved["began"], saved["epoch"]) if saved else (0, 0, 0)
    trainings = stages(o)
    last = len(trainings) - 1
    trainer, schedule = trainer_of(o, data.form, n, None, build, baseline), Schedule(trainings[n], o.seeds)
    if saved:
        trainer.load_state_dict(saved["trainer"])
        schedule.load_state_dict(saved["schedule"])
    epochs = sum(t.epochs for t in trainings)
    bar = tqdm(total=epochs, initial=epoch, desc=o.name, unit="epoch", disable=not sys.stderr.isatty())
    with bar:
        while True:
            if n == last and schedule.finished:
                log.info("%s: all rates are below %g after %d epochs", o.name, schedule.training.stop_rate, epoch)
                break
            if epoch - began >= trainings[n].epochs:
                if n == last:
                    break
                n, began = n + 1, epoch
                trainer, schedule = trainer_of(o, data.form, n, trainer, build), Schedule(trainings[n], o.seeds)
            start = time.perf_counter()
            trainer.epoch(data.train, schedule.during(epoch - began))
            score = trainer.evaluate(data.validation)
            run.log(
                {
                    "epoch": epoch + 1,
                    "lr": schedule.rates((epoch - began) / trainings[n].epochs),
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
                    o.name, epoch, epochs, statistics.mean(score["accuracy"]), run.rows[-1]["seconds"],
                )  # fmt: skip
    chosen, compared = readouts(o, trainer, data)
    test = trainer.evaluate(data.test, chosen)
    return {
        "name": o.name,
        "parameters": trainer.parameters,
        "online": trainer.online,
        "epochs": len(run.rows),
        "seeds": used_seeds(o),
        "readout": chosen,
        "validation": [max(each) if o.readout == "best" else each[0] for each in zip(*compared.values(), strict=True)],
        "validation by readout": compared,
        "test": test["accuracy"],
        "confusion": test["confusion"],
        "curve": [row["accuracy"] for row in run.rows],
        "seconds": sum(row["seconds"] for row in run.rows),
        **(then(trainer, chosen) if then else {}),
    }


def readouts(o: Learning, trainer: Trainer, data: Labelled) -> tuple[list[str], dict[str, list[float]]]:
    """That of each seed's network, and the validation accuracy by readout, of those that came into question."""
    several = isinstance(trainer, Online)  # outputs over time
    named = ["sum"] if not several else list(READOUTS) if o.readout == "best" else [o.readout]
    compared = {name: trainer.evaluate(data.validation, [name])["accuracy"] for name in named}
    best = [max(compared, key=lambda name: compared[name][i]) for i in range(o.seeds)]
    return best, compared


# -- seeds divided among processes -------------------------------------------------------------------------------------


def share(o: Learning, worker: int, workers: int) -> Learning:
    seeds = used_seeds(o)
    own = part(seeds, worker, workers)
    return dataclasses.replace(o, seeds=len(own), seed_list=own)


def merged(shares: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One result from those of the workers. A share that the plateau schedule ended early keeps its last accuracy: its
    weights no longer move."""
    epochs = max(r["epochs"] for r in shares)
    curves = [r["curve"] + [r["curve"][-1]] * (epochs - r["epochs"]) for r in shares]
    joined = {key: [v for r in shares for v in r[key]] for key in BY_SEED if key in shares[0]}
    by_readout = [r.get("validation by readout", {}) for r in shares]
    return {
        **{key: v for key, v in shares[0].items() if key not in ("validation by readout", *BY_SEED)},
        "validation by readout": {name: [v for each in by_readout for v in each[name]] for name in by_readout[0]},
        **joined,
        "epochs": epochs,
        "curve": [[a for share in rows for a in share] for rows in zip(*curves, strict=True)],
        "seconds": max(r["seconds"] for r in shares),
    }


BY_SEED = ("seeds", "readout", "validation", "test", "second test", "confusion")  # one value of each, in a result

DIVIDE: Divide[Any] = Divide(share, merged)
SCORE = Score(
    "validation accuracy / %",
    of=lambda result: result["validation"],
    curve=lambda result: Curve("epoch", list(range(1, len(result["curve"]) + 1)), result["curve"]),
)


# -- table and figure --------------------------------------------------------------------------------------------------


Published = Mapping[str, tuple[float, float]]  # row of the paper → mean and std, in %


def base(name: str) -> str:
    """The row of the paper that a configuration is compared with."""
    return name.removesuffix("_tuned")


def ordered(results: Sequence[Mapping[str, Any]], published: Published) -> list[Mapping[str, Any]]:
    """In the order of the paper's table."""
    order = {name: i for i, name in enumerate(published)}
    return sorted(results, key=lambda r: (order.get(base(r["name"]), len(order)), r["name"]))


def table(results: Sequence[Mapping[str, Any]], published: Published) -> Table:
    """In the layout of the paper's."""
    rows: list[tuple[str, ...]] = [
        ("model", "parameters", "online", "epochs", "seeds", "validation %", "test %", "published %")
    ]
    for r in ordered(results, published):
        quoted = published.get(base(r["name"]))
        rows.append(
            (
                r["name"],
                str(r["parameters"]),
                "yes" if r["online"] else "no",
                str(r["epochs"]),
                str(len(r["seeds"])),
                mean_std(r["validation"]),
                mean_std(r["test"]),
                "{:.1f} ± {:.1f}".format(*quoted) if quoted else "–",
            )
        )
    return Table(rows)


def learning_curves(results: Sequence[Mapping[str, Any]], published: Published, title: str) -> plt.Figure:
    """Validation accuracy over epochs, mean ± standard deviation over seeds; each curve is named at its end, with the
    published final accuracy (Fig. 8d, f)."""
    figure, axes = plt.subplots(figsize=(6.4, 4.2))
    results = ordered(results, published)
    longest = max(len(r["curve"]) for r in results)
    colours = {name: f"C{i}" for i, name in enumerate(dict.fromkeys(base(r["name"]) for r in results))}
    ends = [float(np.mean(r["curve"][-1])) for r in results]
    for r, end, place in zip(results, ends, spread(ends, 4.0), strict=True):
        colour, last = colours[base(r["name"])], len(r["curve"])
        tuned = r["name"] != base(r["name"])
        style = {"linewidth": 1.6 if r["online"] else 0.9, "linestyle": "--" if tuned else "-"}
        band(axes, range(1, last + 1), r["curve"], color=colour, **style)
        axes.plot([last], [end], ".", color=colour)
        axes.plot([last, longest, longest * 1.04], [end, end, place], color=colour, linewidth=0.5, alpha=0.4)
        quoted = "" if tuned or r["name"] not in published else " (published {:.1f})".format(*published[r["name"]])
        axes.text(longest * 1.05, place, f"{r['name']}  {end:.1f} %{quoted}", color=colour, fontsize=7, va="center")
    axes.set(xlabel="epoch", ylabel="validation accuracy / %", ylim=(0, 102), xlim=(0, longest * 1.05))
    axes.set_title(f"{title} (bold: online; dashed: tuned)")
    axes.grid(alpha=0.3)
    return figure


def spread(values: Sequence[float], least: float, top: float = 101.0) -> list[float]:
    """The values, moved apart to be at least `least` from one another, as labels must be, and below `top`."""
    order = np.argsort(values)[::-1]
    places, limit = np.array(values, dtype=float), top
    for i in order:
        places[i] = min(places[i], limit)
        limit = places[i] - least
    return places.tolist()
