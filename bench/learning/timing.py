"""What a training step costs, beside the matrix products that it cannot avoid.

A step is the forward pass, errors, plasticity and Adam of the published networks with their batches. The floor is
timed in the same run, in turns with the step: the products of the forward pass, of the errors sent back and of the
weight gradients, batched over equal layers or one by one, whichever is faster. Ratios are medians over the turns, so
that a busy machine disturbs both alike.
"""

from __future__ import annotations

import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

import gle
from bench.data.mnist1d import CLASSES
from bench.data.series import Form
from bench.learning.options import Learning
from bench.learning.trainers import build_network
from bench.models.populations import Model


class Size(NamedTuple):
    """A published network, and what streams past it."""

    model: Model
    form: Form
    batch: int = 100
    dt: float = 0.2


FORM = Form(360, 1, CLASSES)  # of MNIST-1D, at dt = 0.2
SIZES = {
    "15k": Size(Model(), FORM),
    "42k": Size(Model(populations=[(30, 0.6, 0.2), (30, 1.2, 0.2), (30, 1.2, 1.2)]), FORM),
    "speech": Size(
        Model(
            populations=[(150, 2.4, 2.4), *((150, tau, 0.1) for tau in (0.6, 1.2, 1.8, 2.4))],
            hidden_layers=3,
            output_tau=2.4,
        ),
        Form(820, 32, 12),
        batch=256,
        dt=0.05,
    ),
}
DIGITS = ["15k", "42k"]  # sizes of MNIST-1D's


class Timing(NamedTuple):
    """device. turns: timed turns of each row. steps: of a turn; 360 are one sample. block: steps per compiled call."""

    device: str = "cpu"
    turns: int = 7
    steps: int = 360
    block: int = 4


def simulation(size: str, seeds: int, every: int, compiled: bool, device: str, block: int) -> gle.Simulation:
    given = SIZES[size]
    config = Learning(model=given.model, seeds=seeds, seed_list=list(range(seeds)), dt=given.dt, device=device)
    network = build_network(config, config.training, given.form)
    plasticity = gle.Plasticity("adam", lr=1e-3, every=every)
    return gle.Simulation(
        network, dt=config.dt, cost="cross_entropy", plasticity=plasticity, compile=compiled, block=block
    )


def stream(size: str, seeds: int, steps: int, device: str) -> tuple[Tensor, Tensor]:
    _, form, batch, _ = SIZES[size]
    g = torch.Generator().manual_seed(0)
    x = torch.randn(steps, seeds, batch, form.features, generator=g)
    y = torch.nn.functional.one_hot(torch.randint(form.classes, (seeds, batch), generator=g), form.classes).float()
    return x.to(device), y.to(device).expand(steps, *y.shape)


def products(network: gle.Network, steps: int, batch: int, training: bool = True) -> list[Callable[[], Any]]:
    """The bare products of `steps` steps with frozen weights, in two arrangements: batched over equal layers, and
    one by one."""
    g = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g).to(network.device)

    operands = []
    for i, layer in enumerate(network.layers):
        lead = (layer.depth, *network.ensemble)
        rows = steps * batch
        pre, e = rand(*lead, rows, layer.n_in), rand(*lead, rows, layer.n_out)
        operands.append((i, pre, e, layer.W.detach()))

    def batched() -> None:
        for i, pre, e, W in operands:
            torch.matmul(pre, W.mT)
            if training:
                torch.matmul(e.mT, pre)
                if i or len(W) > 1:  # nobody listens below the first layer
                    torch.matmul(e, W)

    singles = [
        (i + d, pre[d].flatten(0, -3), e[d].flatten(0, -3), W[d].flatten(0, -3))
        for i, pre, e, W in operands
        for d in range(len(W))
    ]
    singles = [(l, p[m], e[m], W[m]) for l, p, e, W in singles for m in range(len(p))]

    def one_by_one() -> None:
        for l, pre, e, W in singles:
            torch.mm(pre, W.mT)
            if training:
                torch.mm(e.mT, pre)
                if l:
                    torch.mm(e, W)

    return [batched, one_by_one]


def seconds(f: Callable[[], Any], device: str, repeat: int = 1) -> float:
    began = time.perf_counter()
    for _ in range(repeat):
        f()
    if device.startswith("cuda"):
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / repeat


def in_turns(
    step: Callable[[], Any],
    floors: list[Callable[[], Any]],
    floor_steps: int,
    o: Timing,
    ready: Callable[[], Any] = lambda: None,
) -> tuple[float, float, float]:
    """Milliseconds a step, of the floor, and the median of their ratios over turns. ready: called when compilation and
    caches are warm."""
    repeat = max(1, o.steps // floor_steps // 2)
    for f in (step, *floors):
        f()
    ready()
    steps, floor, ratio = [], [], []
    for _ in range(o.turns):
        a = min(seconds(f, o.device, repeat) for f in floors) / floor_steps
        s = seconds(step, o.device) / o.steps
        b = min(seconds(f, o.device, repeat) for f in floors) / floor_steps
        steps.append(s)
        floor.append((a + b) / 2)
        ratio.append(s / floor[-1])
    return 1e3 * statistics.median(steps), 1e3 * statistics.median(floor), statistics.median(ratio)


def training_row(
    size: str,
    seeds: int,
    every: int,
    mode: str,
    threads: int,
    o: Timing,
    ready: Callable[[], Any] = lambda: None,
) -> dict[str, Any]:
    torch.set_num_threads(threads)
    torch._dynamo.reset()
    sim = simulation(size, seeds, every, mode == "compiled", o.device, o.block)
    x, y = stream(size, seeds, o.steps, o.device)
    ms, floor, ratio = in_turns(lambda: sim.run(x, y), products(sim.network, every, SIZES[size].batch), every, o, ready)
    row = {"row": "train", "size": size, "seeds": seeds, "every": every, "mode": mode, "threads": threads}
    return row | {"ms": ms, "floor_ms": floor, "ratio": ratio, "per_seed_ms": ms / seeds}


def divided_row(size: str, seeds: int, mode: str, workers: int, o: Timing) -> dict[str, Any]:
    """An ensemble divided among processes of one thread each, as by `bench.mnist1d --workers`, all at work at once."""
    context = multiprocessing.get_context("spawn")
    together = context.Barrier(workers, timeout=600)  # s, so that a worker that fails stops the others
    shares = [seeds * (w + 1) // workers - seeds * w // workers for w in range(workers)]
    with ProcessPoolExecutor(workers, context, _share_begins, (together,)) as pool:
        rows = list(pool.map(partial(_share, size=size, mode=mode, o=o), shares))
    per_seed = 1 / sum(share / r["ms"] for share, r in zip(shares, rows, strict=True))
    floor = 1 / sum(share / r["floor_ms"] for share, r in zip(shares, rows, strict=True))
    row = {"row": "train, divided", "size": size, "seeds": seeds, "every": 1, "mode": mode, "threads": workers}
    ratio = statistics.mean(r["ratio"] for r in rows)
    return row | {"ms": per_seed * seeds, "floor_ms": floor * seeds, "ratio": ratio, "per_seed_ms": per_seed}


_together: Any = None  # in a worker: where it waits for the others


def _share_begins(together: Any) -> None:
    global _together
    _together = together
    torch.set_flush_denormal(True)


def _share(seeds: int, size: str, mode: str, o: Timing) -> dict[str, Any]:
    with torch.no_grad():
        return training_row(size, seeds, 1, mode, 1, o, _together.wait)


def evaluation_row(size: str, threads: int, o: Timing) -> dict[str, Any]:
    """1000 samples past the frozen network; milliseconds for all of them."""
    torch.set_num_threads(threads)
    sim = simulation(size, 1, 1, False, o.device, o.block)
    x = torch.randn(o.steps, 1000, SIZES[size].form.features).to(o.device)
    chunk = 40  # steps of one product, as many rows as `predict` takes at once
    floors = products(sim.network, chunk, 100, training=False)
    ms, floor, ratio = in_turns(lambda: sim.predict(x), floors, chunk, o)
    row = {"row": "evaluate 1000", "size": size, "seeds": 1, "every": 0, "mode": "eager", "threads": threads}
    # `in_turns` counts a step of `predict` as one; the floor is for a batch of 100
    return row | {
        "ms": ms * o.steps,
        "floor_ms": floor * 10 * o.steps,
        "ratio": ratio / 10,
        "per_seed_ms": ms * o.steps,
    }
