"""A benchmark of some sixty lines: how often is the larger of two noisy numbers picked? All that a new one needs."""

from dataclasses import dataclass, replace

import torch

from bench.kit.benchmark import Benchmark, Curve, Score, main
from bench.kit.figures import band, plt
from bench.kit.options import Options
from bench.kit.tables import Table, mean_std


@dataclass
class Picks(Options):
    """What to pick from.

    Args:
        noise: standard deviations.
        seeds: repetitions of each.
        trials: of each repetition.
    """

    noise: tuple[float, ...] = (0.1, 1.0, 10.0)
    seeds: int = 3
    trials: int = 1000


def check(o):
    if o.trials < 1:
        raise ValueError(f"trials must be at least 1, got {o.trials}")


def right(noise, o):
    g = torch.Generator().manual_seed(0)
    return [100 * (1 + noise * torch.randn(o.trials, generator=g) > 0).double().mean().item() for _ in range(o.seeds)]


def run(o, run):
    return {"right": [run.part(f"noise {n:g}", lambda n=n: right(n, o)) for n in o.noise]}


def table(result):
    rows = zip(result["options"]["noise"], result["right"])
    return Table([("noise", "right %"), *((f"{n:g}", mean_std(values)) for n, values in rows)])


def draw(result):
    figure, axes = plt.subplots()
    band(axes, result["options"]["noise"], result["right"])
    axes.set(xlabel="noise", ylabel="right / %", xscale="log")
    return figure


benchmark = Benchmark(
    name="toy",
    summary="which of two noisy numbers is larger",
    Options=Picks,
    check=check,
    tiny=lambda o: replace(o, trials=10),
    run=run,
    tables=lambda result: [table(result)],
    draw=lambda result: {"toy.png": draw(result)},
    score=Score(
        "right / %",
        of=lambda result: [sum(seed) / len(seed) for seed in zip(*result["right"])],
        curve=lambda result: Curve("noise", result["options"]["noise"], result["right"]),
    ),
)

if __name__ == "__main__":
    main(benchmark)
