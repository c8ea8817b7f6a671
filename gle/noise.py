"""Noise in the dynamics: on currents, rates or errors, white or with a memory.

    sim = gle.Simulation(net, dt=0.1, noise=gle.Noise("rate", sigma=0.1, tau=2.0))

Every number is drawn from a generator of its own step and member: a run that was interrupted sees the noise that it
would have seen, whatever the length of its blocks, and a member of an ensemble that which it sees alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from gle.given import number, whole
from gle.seeding import generator
from gle.showing import shown
from gle.wiring import Wiring

PLACES = ("current", "rate", "error")


class Disturbance(NamedTuple):
    """What noise adds in one step: for each part that is neurons [depth, *ensemble, batch, n], or None for nothing."""

    current: Any = None  # I, which drives u
    rate: Any = None  # r, as the neighbours and the own error neuron see it
    error: Any = None  # e, as synapses, soma and the layer below see it


class Noise:
    """Gaussian noise of standard deviation sigma, independent between neurons and samples.

    on: "current", "rate" or "error". tau: 0 for white noise, a new number at each step; else an Ornstein-Uhlenbeck
    process with this time constant, whose autocovariance is sigma² exp(−|t|/tau) (it begins in its stationary state).
    seed: of member 0, the others follow. `predict` goes without noise. Pointwise rate functions have φ′ as a function
    of the rate, noise and all: where it carries a rate beyond its range (tanh beyond ± 1), φ′ changes sign.

    Raises ValueError for an unknown place, and for a sigma, tau or seed that is no number, negative or not finite.
    """

    def __init__(self, on: str, sigma: float, tau: float = 0.0, seed: int = 0):
        if on not in PLACES:
            raise ValueError(f"noise is on {', '.join(PLACES[:-1])} or {PLACES[-1]}, not {on!r}")
        self.on, self.sigma, self.tau = on, number("sigma of noise", sigma, 0.0), number("tau of noise", tau, 0.0)
        self.seed = whole("seed of noise", seed, 0)

    def __repr__(self) -> str:
        return shown(self, "on", "sigma", "tau", "seed")

    def draw(self, net: Wiring, batch: int, when: str) -> tuple[Tensor, ...]:
        """Standard normal numbers, for each part that is neurons. when: which of the simulation's noises it is, and of
        which step."""
        members = math.prod(net.ensemble)
        generators = [generator(self.seed + m, f"noise on {self.on}, {when}") for m in range(members)]
        drawn = []
        for part in net.neurons:
            n = part.n_out if self.on == "rate" else part.potentials
            own = [torch.randn(part.depth, batch, n, generator=g, dtype=torch.float64) for g in generators]
            shape = (part.depth, *net.ensemble, batch, n)
            drawn.append(torch.stack(own, 1).reshape(shape).to(device=net.device, dtype=net.dtype))
        return tuple(drawn)

    def initial(self, net: Wiring, batch: int, when: str) -> tuple[Tensor, ...]:
        """What it remembers at the start."""
        if not self.tau:
            return ()
        return tuple(self.sigma * x for x in self.draw(net, batch, when))

    def move(self, memory: tuple[Tensor, ...], drawn: tuple[Tensor, ...], dt: float) -> tuple[Tensor, ...]:
        """The noise of a step: exact for its autocovariance, whatever dt."""
        if not self.tau:
            return tuple(self.sigma * x for x in drawn)
        kept = math.exp(-dt / self.tau)
        fresh = self.sigma * math.sqrt(1 - kept * kept)
        return tuple(kept * old + fresh * x for old, x in zip(memory, drawn, strict=True))


def together(
    noises: tuple[Noise, ...], values: Sequence[tuple[Tensor, ...]], over: Tensor | None = None
) -> Disturbance:
    """Several noises in one step; those on the same place add. over: samples without errors, [*ensemble, batch, 1]."""
    sums: dict[str, tuple[Tensor, ...]] = {}
    for noise, value in zip(noises, values, strict=True):
        before = sums.get(noise.on)
        sums[noise.on] = value if before is None else tuple(a + b for a, b in zip(before, value, strict=True))
    if over is not None and "error" in sums:
        sums["error"] = tuple(x.masked_fill(over, 0.0) for x in sums["error"])
    return Disturbance(**sums)
