"""GLE networks that learn series online, to predict them, and then run free on their own output."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

import gle
from bench.data.chaos import LYAPUNOV_TIME
from bench.kit.options import DeviceOptions
from bench.learning.schedule import cosine
from bench.models.populations import taus
from gle.compiling import compiled
from gle.integrators import RK4, Euler, Exponential, Integrator
from gle.seeding import generator
from gle.state import mapped

LAGS = 4  # input neurons, each `delay` behind the one before


@dataclass
class Forecasting(DeviceOptions):
    """What learns, and how.

    The defaults of integrator, horizon, target, populations, input_gain, stretches, noise and lr were chosen on
    sequences of a series from another history than the test series; but for the integrator, the paper does not publish
    them.

    Args:
        epochs: passes over the first half of a sequence.
        lr: of Adam, falling to zero along a cosine.
        horizon: time units that the target lies ahead: the meaning of "x(t + 1)".
        target: the value at the horizon, or its change from x(t) on, in units of the changes' standard deviation.
        delay: time units between the inputs x(t), x(t − delay), … of the four input neurons.
        populations: [neurons, tau_m, tau_r] of each population of the first hidden layer.
        upper_populations: the same of the hidden layers above it.
        hidden_layers: number of hidden layers.
        input_gain: factor on the initial weights from the inputs (1: uniform in ± 1/√fan-in).
        dt: step, in time units.
        integrator: rk4 is the published one; euler and exponential with instant propagation, as rk4 has it.
        stretches: the learned half is cut into so many, which a network sees side by side, as a batch: each step
            updates the weights once, by the mean of their gradients; 1 shows it in one piece.
        noise: standard deviation of white noise on the inputs while learning, in units of the series' own: it teaches
            to come back to the attractor, which a free run leaves by its errors.
        learned: Lyapunov times of a sequence that are learned.
        compile: whether to compile the steps.
    """

    epochs: int = 150
    lr: float = 3e-3
    horizon: float = 2.0
    target: Literal["value", "change"] = "change"
    delay: float = 6.0
    populations: list[tuple[int, float, float]] = field(
        default_factory=lambda: [(24, 1.0, 1.0), (23, 2.0, 1.0), (23, 4.0, 1.0), (23, 8.0, 1.0)]
    )
    upper_populations: list[tuple[int, float, float]] = field(default_factory=lambda: [(93, 1.0, 1.0)])
    hidden_layers: int = 2
    input_gain: float = 2.0
    dt: float = 0.2
    integrator: Literal["exponential", "euler", "rk4"] = "exponential"
    stretches: int = 20
    noise: float = 0.003
    learned: float = 10.0
    compile: bool = True


def steps_of(name: str, value: float, dt: float) -> int:
    """A duration in steps. Raises ValueError unless it is a positive multiple of dt."""
    steps = value / dt
    if not math.isfinite(steps) or round(steps) < 1 or abs(steps - round(steps)) > 1e-6 * steps:
        raise ValueError(f"{name} = {value:g} must be a positive multiple of dt = {dt:g}")
    return round(steps)


def integrator(name: str) -> Integrator:
    schemes: dict[str, Integrator] = {"rk4": RK4(), "euler": Euler("instant"), "exponential": Exponential("instant")}
    return schemes[name]


def network(o: Forecasting, members: int) -> gle.Network:
    common: dict[str, Any] = {"ensemble": (members,), "device": o.device}
    layers, n = [], LAGS
    for populations in [o.populations, *[o.upper_populations] * (o.hidden_layers - 1)]:
        size = sum(neurons for neurons, *_ in populations)
        layers.append(gle.Layer(n, size, **taus(populations), **common))
        n = size
    output = gle.Layer(n, 1, tau_m=1.0, tau_r=1.0, phi="linear", **common)
    net = gle.Network([*layers, output], list(range(members)))
    with torch.no_grad():
        net.layers[0].W.mul_(o.input_gain)
    return net


def learned_points(o: Forecasting) -> int:
    """Of the first half. Raises ValueError where delays and horizon leave nothing of it to learn."""
    points = round(o.learned * LYAPUNOV_TIME / o.dt)
    horizon = steps_of("horizon", o.horizon, o.dt)
    if horizon <= ahead(o):
        raise ValueError(
            f"horizon = {o.horizon:g} must be above {ahead(o)} dt with {o.integrator}: a step sees its input up to its "
            "end, which must be predicted before"
        )
    taken = (LAGS - 1) * steps_of("delay", o.delay, o.dt) + horizon + 1 + ahead(o)
    if points - taken < o.stretches:
        raise ValueError(
            f"the sequence is too short: {o.learned:g} Lyapunov times are {points} points, of which delays and horizon "
            f"take {taken}: too few for {o.stretches} stretches; raise learned"
        )
    return points


def ahead(o: Forecasting) -> int:
    """Points behind a step's first that the integrator sees: none, or the two that `at_nodes` looks at."""
    return 2 if len(integrator(o.integrator).nodes) > 1 else 0


def at_nodes(x: Tensor, t: int, steps: int, nodes: Sequence[float]) -> Tensor:
    """x at times t + c, …, t + steps − 1 + c for all nodes c: [members, points] → [steps, nodes, members].

    Between two points runs the cubic through them and their neighbours, whose error of order 4 is that of RK4. What
    it looks at must be known where the step is taken: see `ahead`.
    """
    out = []
    for c in nodes:
        value = x[:, t : t + steps]
        if c:
            points = (-1, 0, 1, 2)
            weights = [math.prod((c - j) / (i - j) for j in points if j != i) for i in points]
            beside = torch.stack([x[:, t + i : t + i + steps] for i in points], -1)
            value = beside @ x.new_tensor(weights)
        out.append(value.T)
    return torch.stack(out, 1)


class Forecaster:
    """Networks, one per sequence, that learn the first half and then run free.

    sequences: [members, points]. A step at time t sees x(t), x(t − delay), …, and answers with x(t + horizon), in units
    of the standard deviation of the learned half, or with the change until then, in units of the changes' own.
    """

    def __init__(self, o: Forecasting, sequences: Tensor):
        self.o = o
        self.h, self.delay = steps_of("horizon", o.horizon, o.dt), steps_of("delay", o.delay, o.dt)
        self.first = (LAGS - 1) * self.delay + 1  # the first step whose inputs are all known
        self.half = learned_points(o)
        past = sequences[:, : self.half]  # all that the networks may know
        self.mean, self.std = past.mean(1, keepdim=True), past.std(1, keepdim=True)
        if not bool((self.std > 0).all()):
            raise ValueError("the series is constant over the learned half of a sequence: there is nothing to predict")
        self.net = network(o, len(sequences))
        self.past = self._scaled(past)
        self.nodes = integrator(o.integrator).nodes
        self.ahead = ahead(o)
        steps = self.half - self.h - self.ahead - self.first
        self.x = self.inputs(self.past, self.first, steps)
        y = at_nodes(self.past, self.first + self.h, steps, self.nodes)
        if o.target == "change":
            change = y - self.x[..., 0, 0]  # [steps, nodes, members]
            self.unit = change[:, 0].std(0)
            y = change / self.unit
        # an axis of stretches; a remainder at the beginning is left out
        self.x, self.y = (self._cut(z) for z in (self.x[..., 0, :], y.unsqueeze(-1)))
        self.sim = gle.Simulation(
            self.net,
            dt=o.dt,
            integrator=integrator(o.integrator),
            plasticity=gle.Plasticity("adam", lr=o.lr),
            compile=o.compile,
            block=2,
        )
        self.block = min(self.h - self.ahead, 5)  # while running free the inputs of so many steps are known at once
        self._free = compiled(self._steps, self.net.device) if o.compile else self._steps

    def _cut(self, z: Tensor) -> Tensor:
        """[steps, nodes, members, features] → [steps of a stretch, nodes, members, stretches, features]."""
        k = self.o.stretches
        steps = len(z) // k
        return z[len(z) - k * steps :].unflatten(0, (k, steps)).movedim(0, -2).contiguous()

    def _scaled(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.std).to(self.net.dtype).to(self.net.device)

    def inputs(self, x: Tensor, t: int, steps: int) -> Tensor:
        """What the networks see at steps t, t + 1, …: [members, points] → [steps, nodes, members, batch, LAGS]."""
        lagged = [at_nodes(x, t - i * self.delay, steps, self.nodes) for i in range(LAGS)]
        return torch.stack(lagged, -1).unsqueeze(-2)

    def epoch(self, epoch: int) -> None:
        """The first half once. A stream goes on with the stretch after the one that it saw in the last epoch: only the
        first is seen from rest."""
        if epoch == 0:
            self.sim.reset(self.o.stretches)
        else:
            self._move_on()
        x = self.x + self._noise(epoch) if self.o.noise else self.x
        parts = 20
        for i, (xs, ys) in enumerate(zip(x.tensor_split(parts), self.y.tensor_split(parts), strict=True)):
            progress = (epoch + i / parts) / self.o.epochs
            self.sim.set_lr(cosine(progress, self.o.lr))
            self.sim.run(xs, ys)

    def _move_on(self) -> None:
        """The state after each stretch becomes the one before the next; the first begins at rest."""
        rest = self.net.initial_state(1)
        state = mapped(lambda first, z: torch.cat([first, z[..., :-1, :]], -2), rest, self.sim.carry.state)
        self.sim.carry = self.sim.carry._replace(state=state)

    def _noise(self, epoch: int) -> Tensor:
        """One value for each step, member, stretch and input neuron, the same at all nodes of the step; an epoch's
        noise depends on nothing before it."""
        steps, _, members, *rest = self.x.shape
        draws = [torch.randn(steps, 1, *rest, generator=generator(m, f"noise {epoch}")) for m in range(members)]
        return self.o.noise * torch.stack(draws, 2).to(self.x)

    def _steps(self, theta, state, xs: Tensor):
        """Some steps of the frozen network: the state after them, and the outputs [members, steps]."""
        outputs = []
        for x in xs.unbind(0):
            state, _ = self.sim.integrator.step(
                self.net, theta, state, x.unbind(0), (None,) * len(x), self.sim.dynamics
            )
            outputs.append(state[-1].r[0, :, -1, 0])
        return state, torch.stack(outputs, 1)

    @torch.no_grad()
    def free_run(self, steps: int) -> Tensor:
        """The `steps` points after the learned half, predicted from the past alone, [members, steps]. The simulation is
        left as it is; it has just seen the last stretch, whose end the free run continues."""
        known = torch.cat([self.past, self.past.new_zeros(len(self.past), steps + self.block)], 1)
        theta = self.sim.carry.theta
        state = mapped(lambda t: t[..., -1:, :], self.sim.carry.state)
        for n in range(self.half, self.half + steps, self.block):  # so much is known
            t = n - self.h  # the step whose prediction is the next point
            state, out = self._free(theta, state, self.inputs(known, t, self.block))
            if self.o.target == "change":
                out = known[:, t : t + self.block] + self.unit[:, None] * out
            known[:, n : n + self.block] = out
        return known[:, self.half : self.half + steps].cpu().double() * self.std + self.mean
