"""Engines: how a simulation gets from block to block.

    sim = gle.Simulation(net, dt=0.1, engine="compiled")      # the same as compile=True

`Simulation.advance` is the maths of a block, a pure function. An engine decides how many steps a block has and by what
they are taken, and says in one line where it cannot take a simulation. It looks at no number while it runs: what is on
a device stays there until someone records it. A new engine is one class and one line in `ENGINES`.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from gle.carry import Carry
from gle.compiling import compiled
from gle.credit import Problem, Rule
from gle.dynamics import Dynamics
from gle.integrators import Integrator
from gle.noise import Noise
from gle.plasticity import Plasticity, TorchOptimizer
from gle.state import mapped
from gle.wiring import Wiring


class Simulated(Protocol):
    """What an engine sees of a simulation."""

    @property
    def network(self) -> Wiring: ...
    @property
    def integrator(self) -> Integrator: ...
    @property
    def dynamics(self) -> Dynamics: ...
    @property
    def plasticity(self) -> Plasticity | None: ...
    @property
    def noises(self) -> tuple[Noise, ...]: ...
    @property
    def rule(self) -> Rule | None: ...
    @property
    def block(self) -> int: ...
    def advance(
        self, carry: Carry, xs: Tensor, targets: Tensor | None, update: bool, ends: bool = False, drawn: Any = ()
    ) -> Carry: ...


class Engine(Protocol):
    """Made for one simulation."""

    def __init__(self, sim: Any): ...

    @staticmethod
    def declines(sim: Any) -> str | None:
        """Why it cannot take this simulation, in one line; None where it can."""

    def length(self, step: int, left: int | None, every: int | None) -> int:
        """Steps of the block that begins after `step` ones. left: how many are to come, None where nobody knows.
        every: steps between two records; None without any. Raises ValueError where no block fits."""

    def advance(
        self, carry: Carry, xs: Tensor, targets: Tensor | None, update: bool, ends: bool = False, drawn: Any = ()
    ) -> Carry:
        """All steps of the block; arguments as of `Simulation.advance`."""


class Eager:
    """Step by step as Python goes, in blocks of `Simulation.block` steps or of those between two updates."""

    def __init__(self, sim: Simulated):
        self.sim = sim

    @staticmethod
    def declines(sim: Simulated) -> str | None:
        return None

    def length(self, step: int, left: int | None, every: int | None) -> int:
        full, plasticity = self.sim.block, self.sim.plasticity
        updates = plasticity.every if plasticity else 0
        if updates > 1:
            full = max(d for d in range(1, min(updates, max(full, 12)) + 1) if updates % d == 0)
        if every is not None:
            full = math.gcd(full, every)
        aligned = step % full == 0 or (updates in (0, 1) and every is None)
        return full if aligned and (left is None or left >= full) else 1

    def advance(
        self, carry: Carry, xs: Tensor, targets: Tensor | None, update: bool, ends: bool = False, drawn: Any = ()
    ) -> Carry:
        return self.sim.advance(carry, xs, targets, update, ends, drawn)


class Compiled(Eager):
    """The same with each block compiled by `compiling.compiled`. Single steps that are left over are not worth it."""

    def __init__(self, sim: Simulated):
        super().__init__(sim)
        self.fast = compiled(sim.advance, sim.network.device)

    @staticmethod
    def declines(sim: Simulated) -> str | None:
        if sim.plasticity is not None and isinstance(sim.plasticity.optimizer, TorchOptimizer):
            return "torch.optim optimisers run eagerly: use compile=False, or an optimiser of gle.plasticity"
        return None

    def advance(
        self, carry: Carry, xs: Tensor, targets: Tensor | None, update: bool, ends: bool = False, drawn: Any = ()
    ) -> Carry:
        advance = self.fast if len(xs) > 1 or self.sim.block == 1 else self.sim.advance
        return advance(carry, xs, targets, update, ends, drawn)


class Assigned:
    """Credit by a rule in place of GLE's own: one call of the rule for each block."""

    def __init__(self, sim: Simulated):
        assert sim.rule is not None
        assert sim.plasticity is not None
        self.rule, self.plasticity = sim.rule, sim.plasticity
        self.problem = Problem(sim.network, sim.integrator, sim.dynamics, self.plasticity.learn)
        self.name = type(sim.rule).__name__

    @staticmethod
    def declines(sim: Simulated) -> str | None:
        rule, name = sim.rule, type(sim.rule).__name__
        if isinstance(rule, type) or not callable(rule) or not hasattr(rule, "online"):
            return f"rule must be one of gle.rules, made, like gle.rules.BPTT(); got {rule!r}"
        if sim.plasticity is None:
            return f"{name} needs a plasticity, whose optimiser applies its gradients"
        if sim.plasticity.filters:
            return f"traces and centred are GLE's own: leave them out for {name}"
        if sim.noises:
            return f"{name} runs the network itself, without noise: leave out one of both"
        return None

    def length(self, step: int, left: int | None, every: int | None) -> int:
        """A stretch between two updates; of a rule that runs forward in time one step where it does not fit."""
        whole = self.plasticity.every
        if self.rule.online:
            full = whole if every is None else math.gcd(whole, every)
            return full if step % full == 0 and (left is None or left >= full) else 1
        if every is not None and every % whole:
            raise ValueError(f"{self.name} looks back over every = {whole} steps: record after a multiple of them")
        if step % whole or (left is not None and left < whole):
            raise ValueError(
                f"{self.name} looks back over stretches of every = {whole} steps, and {left} are left at step {step}: "
                "cut the series to a multiple of it"
            )
        return whole

    def advance(
        self, carry: Carry, xs: Tensor, targets: Tensor | None, update: bool, ends: bool = False, drawn: Any = ()
    ) -> Carry:
        """Raises ValueError where there are no targets."""
        if targets is None:
            raise ValueError(f"{self.name} needs targets: give them, or run without a rule")
        theta, learning, plasticity = carry.theta, carry.learning, self.plasticity
        assert learning is not None
        credit = self.rule(self.problem, mapped(torch.detach, theta), carry.state, xs, targets, carry.memory)
        grads, dt = credit.grads, self.problem.dynamics.dt
        if plasticity.every == 1:
            theta, learning = plasticity.apply(self.problem.net, theta, learning, grads, dt)
        else:
            learning = plasticity.accumulate(learning, grads)
            if update:
                theta, learning = plasticity.settle(self.problem.net, theta, learning, dt)
        return Carry(theta, credit.state, learning, carry.noise, credit.memory)


ENGINES: dict[str, type[Engine]] = {"eager": Eager, "compiled": Compiled}


def engine(given: str | type[Engine], sim: Simulated) -> Engine:
    """The engine called so, or itself, made for a simulation; with a rule of credit `Assigned`. Raises ValueError for
    an unknown one, and where it declines."""
    if isinstance(given, str) and given not in ENGINES:
        raise ValueError(f"unknown engine {given!r}; choose one of {', '.join(ENGINES)}")
    kind = ENGINES[given] if isinstance(given, str) else given
    if not isinstance(kind, type) or not hasattr(kind, "declines"):
        raise ValueError(
            f"engine must be one of {', '.join(ENGINES)}, or a class like gle.engines.Eager; got {given!r}"
        )
    if sim.rule is not None:
        if (reason := Assigned.declines(sim)) is None and kind is not Eager:
            reason = f"{type(sim.rule).__name__} runs eagerly: use compile=False"
        kind = Assigned
    else:
        reason = kind.declines(sim)
    if reason is not None:
        raise ValueError(reason)
    return kind(sim)
