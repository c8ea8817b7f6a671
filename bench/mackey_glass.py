"""Chaotic time series (§2.8.1, §5.6.8, Fig. 10): GLE networks learn online to predict the Mackey-Glass series, then run
free on their own output for ten Lyapunov times.

    python -m bench.mackey_glass                                            a few sequences
    python -m bench.mackey_glass --config configs/mackey_glass/paper.yaml   thirty networks on thirty sequences

Each network sees the first half of its own sequence once an epoch, with the value `horizon` time units ahead, or its
change until then, as target, and updates its weights at each step. Then the weights rest, and the network's inputs are
its own predictions: nothing of the second half enters but to compare with. All networks run as one ensemble.

Beside them stand forecasters of the field, under NeuroBench's protocol (`bench/models/forecasters.py`), on
the same series.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Optional

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

import gle
from bench.data import chaos
from bench.data.chaos import LYAPUNOV_TIME
from bench.kit.benchmark import Benchmark, Curve, Score, main
from bench.kit.figures import band, plt
from bench.kit.folder import Run
from bench.kit.tables import Table, mean_std
from bench.learning.forecast import LAGS, Forecaster, Forecasting, integrator, learned_points, network
from bench.models import harness
from bench.models.forecasters import FORECASTERS, LEAST_PAST
from gle.costs import MeanSquaredError
from gle.dynamics import Dynamics
from gle.integrators import Integrator

# Published sMAPE in %: §2.8.1, over 30 sequences. The script behind the LSTM's figure evaluated on training data, as
# was found later; it is quoted as published.
PUBLISHED = {"GLE": 14.25, "GLE, best epoch": 9.25, "ESN": 14.79, "LSTM": 13.37}
VALID = 0.4  # error, in standard deviations of what is to be predicted, up to which a prediction counts as valid


log = logging.getLogger(__name__)


@dataclass
class Forecast(Forecasting):
    """Which series, for how long, and beside what.

    Args:
        networks: sequences, and networks, each with a seed of its own.
        free: Lyapunov times after the learned ones that are predicted.
        evaluate: epochs between two free runs; there is one after the last epoch in any case.
        early: epoch whose free run is kept to be drawn beside that of the last one.
        held_out: use the held-out series, to choose settings on.
        file: NeuroBench's published series (.npy, 75 points per Lyapunov time), in place of one generated here; dt,
            horizon and delay become the nearest that suit its points.
        baselines: names of forecasters to compare with; by default all but the LSTM, which takes most of a short run.
        scaling: numbers of networks whose time per step is compared.
        integrators: whether to compare integrators over dts.
        dts: steps at which they are compared, each a divisor of the first, the smallest last.
        neurobench: whether to ask the NeuroBench harness about the first network, while it reads one Lyapunov time (an
            optional extra).
    """

    networks: int = 3
    free: float = 10.0
    evaluate: int = 30
    early: int = 40
    held_out: bool = False
    file: Optional[Path] = None
    baselines: list[str] = field(default_factory=lambda: [n for n in FORECASTERS if n != "LSTM"])
    scaling: list[int] = field(default_factory=list)
    integrators: bool = True
    dts: list[float] = field(default_factory=lambda: [0.8, 0.4, 0.2, 0.1, 0.05])
    neurobench: bool = False
    threads: int = 0


# -- data --------------------------------------------------------------------------------------------------------------


def history(o: Forecast) -> float:
    return chaos.HELD_OUT_HISTORY if o.held_out else chaos.HISTORY


def fine_series(o: Forecast) -> chaos.Series:
    """The series at steps of dt: generated so, or the published one, held between its points."""
    if o.file is not None:
        return chaos.hold(chaos.published(o.file), o.dt)
    return chaos.mackey_glass(fine_points(o), lyapunov_times(o), history=history(o))


def fine_points(o: Forecast) -> int:
    """Steps of a Lyapunov time. Raises ValueError unless dt divides it."""
    points = LYAPUNOV_TIME / o.dt
    if abs(points - round(points)) > 1e-6 * points:
        raise ValueError(f"dt must divide the Lyapunov time of {LYAPUNOV_TIME:g}, got {o.dt:g}")
    return round(points)


def settled(o: Forecast) -> Forecast:
    """With a series from a file: dt becomes the nearest divisor of the file's own, horizon and delay the nearest
    multiples of that."""
    if o.file is None:
        return o
    own = chaos.published(o.file).dt
    dt = own / max(1, round(own / o.dt))
    horizon, delay = (max(1, round(value / dt)) * dt for value in (o.horizon, o.delay))
    log.info("steps of the file's series: dt = %g, horizon = %g, delay = %g", dt, horizon, delay)
    return dataclasses.replace(o, file=o.file.resolve(), dt=dt, horizon=horizon, delay=delay)


def lyapunov_times(o: Forecast) -> float:
    """Length of the series that the sequences need; 50 as published, where that is enough."""
    return max(50.0, 0.5 * (o.networks - 1) + o.learned + o.free + 1)


def coarse_series(o: Forecast) -> chaos.Series:
    """NeuroBench's 75 points per Lyapunov time, for the forecasters."""
    if o.file is not None:
        return chaos.published(o.file)
    return chaos.mackey_glass(chaos.COARSE, lyapunov_times(o), history=history(o))


# -- measures ----------------------------------------------------------------------------------------------------------


def smape(predicted: Tensor, true: Tensor) -> Tensor:
    """200 · mean(|p − y| / (|p| + |y|)), in %: [..., points] → [...]."""
    return 200 * ((predicted - true).abs() / (predicted.abs() + true.abs())).mean(-1)


def valid_time(predicted: Tensor, true: Tensor, dt: float) -> Tensor:
    """Lyapunov times until the error first exceeds `VALID` standard deviations: [..., points] → [...]."""
    off = ~((predicted - true).abs() <= VALID * true.std(-1, keepdim=True))  # NaN is off, too
    first = torch.where(off.any(-1), off.to(torch.int8).argmax(-1), off.shape[-1])
    return first * dt / LYAPUNOV_TIME


# -- networks ----------------------------------------------------------------------------------------------------------


def train(o: Forecast, run: Run) -> dict[str, Any]:
    """Trains all networks, from the start or from a checkpoint; free runs on the way and at the end."""
    series = fine_series(o)
    sequences = chaos.sequences(series, o.networks, length=o.learned + o.free)
    f = Forecaster(o, sequences)
    true = sequences[:, f.half :]
    saved = run.restore()
    done, curve, early = 0, [], None
    thin = max(1, round(1.0 / o.dt))  # of the curves that are kept for the figure: one point per time unit
    if saved and saved["series"] != series.source:
        raise ValueError(
            f"the run was begun on another series ({saved['series']}) than is here now ({series.source}): start it anew"
        )
    if saved:
        f.sim.load_state_dict(saved["simulation"])
        done, curve, early = saved["epoch"], saved["curve"], saved["early"]
    predicted = f.free_run(true.shape[1]) if done == o.epochs else None
    bar = tqdm(range(done, o.epochs), initial=done, total=o.epochs, unit="epoch", disable=not sys.stderr.isatty())
    for epoch in bar:
        began = time.perf_counter()
        f.epoch(epoch)
        seconds = time.perf_counter() - began
        if (epoch + 1) % o.evaluate == 0 or epoch + 1 in (o.early, o.epochs):
            predicted = f.free_run(true.shape[1])
            if epoch + 1 == o.early:
                early = drawn(predicted, thin)
            errors = smape(predicted, true).tolist()
            curve.append({"epoch": epoch + 1, "smape": errors, "seconds": seconds})
            if bar.disable:
                log.info("epoch %d/%d: sMAPE %.2f %%", epoch + 1, o.epochs, statistics.mean(errors))
        if bar.disable:
            log.info("epoch %d/%d, %.1f s", epoch + 1, o.epochs, seconds)
        run.log({"epoch": epoch + 1, "seconds": seconds})
        state = {"simulation": f.sim.state_dict(), "series": series.source}
        run.checkpoint({**state, "epoch": epoch + 1, "curve": curve, "early": early})
    assert predicted is not None
    error = (predicted - true).abs() / true.std(1, keepdim=True)
    return {
        "series": series.source,
        "parameters": f.net.n_parameters(),
        "curve": curve,
        "valid_time": valid_time(predicted, true, o.dt).tolist(),
        "seconds": [row["seconds"] for row in run.rows],
        "true": drawn(true, thin),
        "predicted": drawn(predicted, thin),
        "early": early,  # None where there was no such epoch
        # geometric mean over networks
        "error": error.clamp(min=1e-12).log().mean(0).exp()[::thin].tolist(),
        "thin": thin * o.dt,
        "neurobench": in_harness(f) if o.neurobench else {},
    }


def drawn(x: Tensor, thin: int) -> list[list[float]]:
    """What of a curve is kept for the figure: every thin-th point, to five digits. [networks, points]."""
    return x[:, ::thin].mul(1e5).round().div(1e5).tolist()


def in_harness(f: Forecaster) -> dict[str, dict[str, float]]:
    """What NeuroBench says of the first network, and what we count."""
    net, x = f.sim.network, f.x[-round(LYAPUNOV_TIME / f.o.dt) :, 0, 0].transpose(0, 1)  # of each stretch
    return {"harness": harness.measured(net, f.o.dt, x, (0,)), "own": harness.counted(net, f.o.dt, x, (0,))}


def baseline(name: str, o: Forecast) -> dict[str, Any]:
    """A forecaster on the coarse series, one seed per sequence."""
    series = coarse_series(o)
    learned = round(o.learned * LYAPUNOV_TIME / series.dt)
    errors, valid = [], []
    for seed, sequence in enumerate(chaos.sequences(series, o.networks, length=o.learned + o.free)):
        past, true = sequence[:learned], sequence[learned:]
        predicted = torch.from_numpy(on_one_thread(FORECASTERS[name](seed), past.numpy(), len(true)))
        errors.append(smape(predicted, true).item())
        valid.append(valid_time(predicted, true, series.dt).item())
    return {"series": series.source, "smape": errors, "valid_time": valid}


def on_one_thread(forecaster: Any, past: np.ndarray, steps: int) -> np.ndarray:
    """Small products, one after the other: further threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return forecaster(past, steps)
    finally:
        torch.set_num_threads(threads)


# -- how time grows with the number of networks ------------------------------------------------------------------------


def scaling(o: Forecast) -> list[dict[str, float]]:
    """Milliseconds of a learning step for several numbers of networks; the least of five turns."""
    rows = []
    for members in o.scaling:
        torch._dynamo.reset()  # which otherwise gives up compiling after some shapes
        f = Forecaster(o, chaos.sequences(fine_series(o), 1, length=o.learned).expand(members, -1))
        x, y = f.x[:200], f.y[:200]
        f.sim.run(x, y)  # compiles
        turns = []
        for _ in range(5):
            began = time.perf_counter()
            f.sim.run(x, y)
            turns.append((time.perf_counter() - began) / len(x) * 1e3)
        rows.append({"networks": members, "ms": min(turns), "threads": torch.get_num_threads()})
    return rows


# -- integrators -------------------------------------------------------------------------------------------------------

LARGEST = 10.0  # step that is tried
SCHEMES = ("euler", "exponential", "rk4")


def accuracy(o: Forecast) -> list[dict[str, Any]]:
    """Largest difference of an untrained network's output, in float64, to RK4's at a quarter of the smallest step, on
    the series as a smooth function of time; relative to the output's standard deviation."""
    from scipy.interpolate import CubicSpline

    fine = chaos.mackey_glass(history=history(o))
    spline = CubicSpline(np.arange(len(fine.x)) * fine.dt, (fine.x - fine.x.mean()) / fine.x.std())
    net = network(dataclasses.replace(o, device="cpu"), 1).double()
    duration, begin = o.dts[0] * max(1, round(16.0 / o.dts[0])), 3 * o.delay

    def inputs(t: float) -> Tensor:
        lagged = [float(spline(begin + t - i * o.delay)) for i in range(LAGS)]
        return torch.tensor(lagged, dtype=torch.float64).reshape(1, LAGS)

    def outputs(scheme: str, dt: float) -> Tensor:
        """r at multiples of the coarsest step."""
        sim = gle.Simulation(net, dt=dt, integrator=integrator(scheme))
        # a rate that a step returns is that of its beginning: one more, to see the last
        record = gle.Record("r", layers=[-1], every=1)
        sim.run(inputs, steps=round(duration / dt) + 1, record=record)
        (r,) = record["r"].values()
        return r.flatten()[:: round(o.dts[0] / dt)]

    exact = outputs("rk4", o.dts[-1] / 4)

    def off(scheme: str, dt: float) -> float:
        return ((outputs(scheme, dt) - exact).abs().max() / exact.std()).item()

    return [{"integrator": s, "dt": o.dts, "error": [off(s, dt) for dt in o.dts]} for s in SCHEMES]


def stability(o: Forecast) -> list[dict[str, Any]]:
    """The largest step, in units of τm, at which a neuron approaches its constant input, by bisection.

    `gle.Simulation` refuses steps above τ, where no scheme is accurate; here the integrators themselves are asked.
    """
    rows = []
    for scheme in SCHEMES:
        step = integrator(scheme)
        net = gle.Network([gle.Layer(1, 1, tau_m=1.0, tau_r=1.0, phi="linear", dtype=torch.float64)], 0)
        one = torch.ones(1, 1, dtype=torch.float64)

        def approaches(dt: float, step: Integrator = step, net: gle.Network = net, one: Tensor = one) -> bool:
            dynamics = Dynamics(dt, 1.0, 0.0, MeanSquaredError())
            state = net.initial_state(1)
            n = len(step.nodes)
            for _ in range(20):
                state, _ = step.step(net, net.theta(), state, (one,) * n, (None,) * n, dynamics)
            return bool((state[0].u - one).abs() <= 1)  # u begins at 0, one away from where it belongs

        low, high = 0.1, LARGEST
        if approaches(high):
            low = high
        while high - low > 1e-3:
            middle = (low + high) / 2
            low, high = (middle, high) if approaches(middle) else (low, middle)
        rows.append({"integrator": scheme, "limit": low})
    return rows


# -- the run -----------------------------------------------------------------------------------------------------------


def tiny(o: Forecast) -> Forecast:
    return dataclasses.replace(
        o, networks=2, epochs=2, evaluate=1, early=1, learned=0.75, free=0.5, stretches=3, compile=False,
        baselines=o.baselines[:3], populations=[(4, 1.0, 1.0), (3, 4.0, 1.0)], upper_populations=[(7, 1.0, 1.0)],
        scaling=o.scaling[:1], integrators=False,
    )  # fmt: skip


def run(o: Forecast, run: Run) -> dict[str, Any]:
    return {
        "published": PUBLISHED,
        "gle": run.part("gle", partial(train, o, run)),
        "baselines": {n: run.part(n, partial(baseline, n, o)) for n in o.baselines},
        "scaling": run.part("scaling", partial(scaling, o)) if o.scaling else [],
        "accuracy": run.part("accuracy", torch.no_grad()(partial(accuracy, o))) if o.integrators else [],
        "stability": run.part("stability", torch.no_grad()(partial(stability, o))) if o.integrators else [],
    }


def check(o: Forecast) -> None:
    """Complains before any work is done: ValueError with the value and what it must be."""
    for name in ("networks", "epochs", "evaluate", "early", "hidden_layers", "stretches"):
        if getattr(o, name) < 1:
            raise ValueError(f"{name} must be at least 1, got {getattr(o, name)}")
    for name in ("dt", "lr", "learned", "free", "input_gain"):
        if not 0 < getattr(o, name) < math.inf:
            raise ValueError(f"{name} must be positive, got {getattr(o, name):g}")
    if not 0 <= o.noise < math.inf:
        raise ValueError(f"noise must not be negative, got {o.noise:g}")
    for name in ("populations", "upper_populations"):
        if not getattr(o, name) or any(n < 1 for n, _, _ in getattr(o, name)):
            raise ValueError(f"{name} must hold at least one neuron each, got {getattr(o, name)}")
    least = min(min(tau) for _, *tau in [*o.populations, *o.upper_populations])
    if not o.dts or not all(0 < dt < math.inf for dt in o.dts) or sorted(o.dts, reverse=True) != o.dts:
        raise ValueError(f"dts must be steps > 0, the largest first; got {o.dts}")
    if uneven := [dt for dt in o.dts if min(o.dts[0] % dt, -o.dts[0] % dt) > 1e-6 * dt]:
        raise ValueError(f"dts must divide the first of them, {o.dts[0]:g}, got {uneven[0]:g}")
    largest = max([o.dt, *(o.dts if o.integrators else ())])
    if least < largest:
        raise ValueError(
            f"populations hold a time constant of {least:g}, below "
            + (f"dt = {o.dt:g}" if least < o.dt else f"the step of {largest:g} that is tried: use --integrators false")
        )
    if unknown := [b for b in o.baselines if b not in FORECASTERS]:
        raise ValueError(f"unknown baseline {unknown[0]!r}; choose some of {', '.join(FORECASTERS)}")
    if any(n < 1 for n in o.scaling):
        raise ValueError(f"scaling must hold numbers of networks, got {o.scaling}")
    if o.file is not None and o.held_out:
        raise ValueError("a series from a file has no held-out part: give file or held_out")
    if o.neurobench:
        harness.check_installed()
    if o.file is None:
        fine_points(o)
    learned_points(o)
    coarse = LYAPUNOV_TIME / chaos.COARSE
    for name, needed in (("learned", LEAST_PAST if o.baselines else 1), ("free", 2)):
        if (points := round(getattr(o, name) * LYAPUNOV_TIME / coarse)) < needed:
            raise ValueError(
                f"{name} = {getattr(o, name):g} makes {points} coarse points: raise it, {needed} are needed"
            )
    if o.file is not None:
        chaos.sequences(fine_series(o), o.networks, length=o.learned + o.free)


def tables(result: Mapping[str, Any]) -> list[Table]:
    """sMAPE and valid prediction time; then time over networks, and the integrators, where those were asked for."""
    g, quoted = result["gle"], result["published"]
    best = np.min([row["smape"] for row in g["curve"]], axis=0).tolist()
    rows: list[tuple[str, ...]] = [
        ("forecaster", "sequences", "sMAPE %", "valid for (Lyapunov times)", "published sMAPE %")
    ]
    found: dict[str, tuple[Sequence[float], Sequence[float] | None]] = {
        "GLE": (g["curve"][-1]["smape"], g["valid_time"]),
        "GLE, best epoch (chosen on the test half)": (best, None),
        **{name: (b["smape"], b["valid_time"]) for name, b in result["baselines"].items()},
    }
    for name, (errors, valid) in found.items():
        published = quoted.get(name.partition(" (")[0])
        quote = f"{published:.2f}" if published else "–"
        rows.append((name, str(len(errors)), mean_std(errors, 2), mean_std(valid, 2) if valid else "–", quote))
    out = [rows]
    if result["scaling"]:
        out.append([("networks", "ms a step", "per network, relative to the first row")])
        first = result["scaling"][0]["ms"] / result["scaling"][0]["networks"]
        for r in result["scaling"]:
            out[-1].append((str(r["networks"]), f"{r['ms']:.2f}", f"{r['ms'] / r['networks'] / first:.2f}"))
    if asked := g["neurobench"]:
        out.append([("of the first network", "NeuroBench", "our count")])
        out[-1] += [(label, f"{asked['harness'][k]:.6g}", f"{asked['own'][k]:.6g}") for k, label in harness.ROWS]
    if result["accuracy"]:
        steps = (f"dt = {dt:g}" for dt in result["accuracy"][0]["dt"])
        out.append([("integrator", *steps, "stable up to dt / τ")])
        for r, s in zip(result["accuracy"], result["stability"], strict=True):
            limit = f"{s['limit']:.2f}" if s["limit"] < LARGEST else f"≥ {LARGEST:g}"
            out[-1].append((r["integrator"], *(f"{e:.1e}" for e in r["error"]), limit))
    return [Table(r) for r in out]


def draw(result: Mapping[str, Any]) -> plt.Figure:
    """Target and prediction of the median network early and at the end, sMAPE over epochs, each network's least as a
    dot, and how errors grow (Fig. 10 b–d)."""
    g, o = result["gle"], result["options"]
    runs = {f"{o['early']} epochs": g["early"], f"{o['epochs']} epochs": g["predicted"]}
    runs = {after: predicted for after, predicted in runs.items() if predicted is not None}
    panels = [*([after, after] for after in runs), ["curve", "growth"]]
    figure, axes = plt.subplot_mosaic(
        panels,  # type: ignore[arg-type]
        figsize=(10, 3 + 2 * len(runs)),
        height_ratios=[*(2 for _ in runs), 3],
        layout="constrained",
    )
    last = g["curve"][-1]["smape"]
    shown = int(np.argsort(last)[len(last) // 2])
    time = np.arange(len(g["true"][shown])) * g["thin"] / LYAPUNOV_TIME
    for after, predicted in runs.items():
        axes[after].plot(time, g["true"][shown], "k:", label="target")
        axes[after].plot(time, predicted[shown], "C3", linewidth=0.9, label=f"running free after {after}")
        axes[after].set(ylabel="x")
        axes[after].legend(fontsize=8, loc="upper right", ncols=2)
    axes[after].set(xlabel="Lyapunov times since the switch")
    figure.suptitle("the network with the median sMAPE at the end", fontsize=10)
    epochs, errors = [r["epoch"] for r in g["curve"]], np.array([r["smape"] for r in g["curve"]])
    band(axes["curve"], epochs, errors, color="C3", marker=".", label="GLE")
    least = errors.argmin(0)
    axes["curve"].plot(
        np.array(epochs)[least], errors.min(0), "o", color="C0", markersize=3, label="least of a network"
    )
    axes["curve"].axhline(result["published"]["GLE"], color="0.3", linestyle=":", label="GLE, published")
    for i, (name, b) in enumerate(result["baselines"].items()):
        axes["curve"].axhline(np.mean(b["smape"]), color=f"C{i + 4}", linewidth=0.8, label=name)
    axes["curve"].set(xlabel="epoch", ylabel="sMAPE / %", ylim=(0, 50))
    axes["curve"].legend(fontsize=7)
    axes["growth"].semilogy(time, g["error"], "C3", label="error of GLE, geometric mean")
    line = g["error"][0] * np.exp(time)
    axes["growth"].semilogy(time[line < 3], line[line < 3], "k:", label="e-fold per Lyapunov time")
    axes["growth"].axhline(VALID, color="0.6", linewidth=0.8, label="limit of validity")
    axes["growth"].set(xlabel="Lyapunov times since the switch", ylabel="error / standard deviation")
    axes["growth"].legend(fontsize=7)
    return figure


benchmark = Benchmark(
    name="mackey_glass",
    summary="chaotic series: GLE networks learn online, then run free for ten Lyapunov times (Fig. 10)",
    Options=Forecast,
    check=check,
    settled=settled,
    tiny=tiny,
    run=run,
    tables=tables,
    draw=lambda result: {"mackey_glass.png": draw(result)},
    score=Score(
        "sMAPE / %",
        of=lambda result: result["gle"]["curve"][-1]["smape"],
        larger=False,
        curve=lambda result: Curve(
            "epoch",
            [row["epoch"] for row in result["gle"]["curve"]],
            [row["smape"] for row in result["gle"]["curve"]],
        ),
    ),
    published=PUBLISHED,
)

if __name__ == "__main__":
    main(benchmark)
