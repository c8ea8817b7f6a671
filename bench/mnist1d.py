"""MNIST-1D (§2.7.1, §2.7.3, Fig. 8d and f, Table 2): GLE networks trained online, and the baselines.

python -m bench.mnist1d                                          all models, a short budget
python -m bench.mnist1d --config configs/mnist1d/gle_15k.yaml    the paper's protocol; --seeds 10 --workers 2 for ten
                                                                 seeds in two processes
python -m bench.mnist1d --resume runs/mnist1d/<folder>           goes on after a kill
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch

from bench.data import mnist1d as data
from bench.data.series import Form
from bench.kit.benchmark import Benchmark, Rows, main
from bench.kit.folder import Run
from bench.learning import options as learning
from bench.learning.run import DIVIDE, SCORE, learn, learning_curves, table, trainer_of
from bench.models.baselines import LENGTHS
from bench.models.populations import ONLINE

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
class Options(learning.Learning):
    """One row of the table.

    Args:
        samples: size of the data set; 5000 is the published one.
    """

    samples: int = 5000


def form(o: Options) -> Form:
    if o.model.kind in LENGTHS:
        return Form(LENGTHS[o.model.kind], 1, data.CLASSES)
    return data.form(o.dt)


def check(o: Options) -> None:
    """Complains before any work is done: ValueError with the value and the fix."""
    data.check(o.samples)
    if o.model.kind not in (*ONLINE, *LENGTHS):
        raise ValueError(
            f"{o.model.kind} is no model of this benchmark: choose one of {', '.join((*ONLINE, *LENGTHS))}"
        )
    learning.check(o, form(o), int(o.samples * 0.8))
    for stage in range(len(learning.stages(o))):
        trainer_of(o, form(o), stage)


def tiny(o: Options) -> Options:
    return dataclasses.replace(learning.tiny(o), samples=30)


def run(o: Options, run: Run) -> dict[str, Any]:
    torch.set_flush_denormal(True)  # vanishing weights and moments would otherwise cost a hundred times their share
    return learn(o, data.load(form(o).steps, o.samples), run)


benchmark = Benchmark(
    name="mnist1d",
    summary="MNIST-1D: GLE networks trained online, and the baselines of Table 2",
    Options=Options,
    check=check,
    tiny=tiny,
    run=run,
    tables=lambda result: [table([result], PUBLISHED)],
    draw=lambda result: {"learning_curve.png": learning_curves([result], PUBLISHED, "MNIST-1D")},
    score=SCORE,
    published=PUBLISHED,
    divide=DIVIDE,
    rows=Rows(
        configs={
            "mlp": ["--training.epochs=20"],
            "tcn": ["--training.epochs=20"],
            "gru": ["--training.epochs=20"],
            "gle_15k_tuned": ["--training.epochs=8", "--consolidation.epochs=4"],
        },
        own=("--name", "--model", "--consolidation"),
        note="Short budget: the published figures are for 150 epochs.",
        table=lambda results: table(results, PUBLISHED),
        draw=lambda results: {"learning_curves.png": learning_curves(results, PUBLISHED, "MNIST-1D")},
    ),
)

if __name__ == "__main__":
    main(benchmark)
