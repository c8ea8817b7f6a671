"""Integrators of the neuron dynamics (Eqs. 6, 7; Algorithm 1), behind one contract.

    state, local = integrator.step(network, theta, state, x, nudge, dynamics)

x and nudge are what the step sees at its nodes t + c·dt: a tuple with one tensor per entry of `nodes`. Each integrator
declares its `order` of convergence for smooth signals and γ = 0, and its `propagation`: whether a layer sees its
neighbours' output of the previous step ("delayed": the published scheme, all layers at once) or of the same instant
("instant": the continuous-time network).

A new integrator is one class and one line in `INTEGRATORS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

from gle.dynamics import Dynamics, per_neuron
from gle.errors import ErrorNeuron
from gle.operators import euler_fraction, exponential_fraction, low_pass, rate_of_change
from gle.showing import shown
from gle.state import LayerState, Local, State, Theta, Thetas
from gle.wiring import Output, Wiring


class Integrator(Protocol):
    @property
    def order(self) -> int:
        """Of convergence, for smooth signals and γ = 0."""

    @property
    def propagation(self) -> str:
        """ "delayed" or "instant"."""

    @property
    def nodes(self) -> tuple[float, ...]:
        """Where in a step, in units of dt, it looks at input and target."""

    def step(
        self, net: Wiring, theta: Thetas, state: State, xs: tuple[Tensor, ...], targets: tuple, dynamics: Dynamics
    ) -> tuple[State, tuple[Local, ...]]:
        """The state after dt, and what the synapses saw meanwhile. xs, targets: one for each node; a target may be
        None, for no teacher."""


class Euler:
    """Forward Euler, order 1 (§5.6.1). "delayed" is the published scheme: every right-hand side uses the neighbours'
    output of the previous step, and the soma the new error of its own layer.

    With one fraction a = dt/τm for both filters, u moves by a (I − u) and v by a (e − v), which is dt/τr (e_inst − v).
    The error filter is then the exact discrete inverse of the forward filter.
    """

    order = 1
    nodes = (0.0,)

    def __init__(self, propagation: str = "delayed", fraction: Callable[[float, Tensor], Tensor] = euler_fraction):
        if propagation not in ("delayed", "instant"):
            raise ValueError(f"unknown propagation {propagation!r}; choose delayed or instant")
        self.propagation = propagation
        self.fraction = fraction

    def error_fraction(self, dt: float, errors: ErrorNeuron, p: Theta) -> Tensor:
        """The fraction of its distance to e_inst that v covers in a step: τm/τr of the one by which u moves towards the
        current, which for forward Euler is dt/τr; of error neurons that invert no filter that of their own τr."""
        own = errors.constants(p)
        if own is p and errors.inverse:
            return per_neuron(self.fraction(dt, p.tau_m) * p.tau_m / p.tau_r)
        return per_neuron(self.fraction(dt, own.tau_r))

    def advance(self, part: Any, p: Theta, local: Local, v: Tensor, out: Output, dynamics: Dynamics) -> LayerState:
        """The state after the step (Eqs. 48, 49)."""
        dt, noise = dynamics.dt, dynamics.noise
        a = per_neuron(self.fraction(dt, p.tau_m))
        if part.errors.exact and (noise is None or noise.error is None):  # noise on e is behind the filter
            v = low_pass(v, local.e, a)
        else:
            v = low_pass(v, local.e_inst, self.error_fraction(dt, part.errors, p))
        return LayerState(low_pass(local.u, local.current, a), v, out.r, local.e, out.sent, out.kept)

    def __repr__(self) -> str:
        return shown(self, "propagation")

    def step(
        self, net: Wiring, theta: Thetas, state: State, xs: tuple[Tensor, ...], targets: tuple, dynamics: Dynamics
    ) -> tuple[State, tuple[Local, ...]]:
        outputs, locals_ = net.evaluate(theta, state, xs[0], targets[0], dynamics, self.propagation)
        new = (
            self.advance(part, p, local, s.v, out, dynamics)
            # theta and locals of parts without a state of their own stand behind these
            for part, p, local, s, out in zip(net.neurons, theta, locals_, state, outputs, strict=False)
        )
        return tuple(new), tuple(locals_)


class Exponential(Euler):
    """The matched exponential scheme: each neuron is exact for input held over the step, and the error filter remains
    the exact inverse of the forward filter. Order 1 for smooth signals, because the input is held."""

    def __init__(self, propagation: str = "delayed"):
        super().__init__(propagation, exponential_fraction)


class RK4:
    """Classical Runge-Kutta, order 4, with instant propagation; needs its input at t, t + dt/2 and t + dt.

    Plasticity sees the first of the four evaluations, the one at t.
    """

    order = 4
    propagation = "instant"
    nodes = (0.0, 0.5, 1.0)

    def __repr__(self) -> str:
        return shown(self)

    def step(
        self, net: Wiring, theta: Thetas, state: State, xs: tuple[Tensor, ...], targets: tuple, dynamics: Dynamics
    ) -> tuple[State, tuple[Local, ...]]:
        dt = dynamics.dt
        nodes, weights = (0, 1, 1, 2), (1 / 6, 1 / 3, 1 / 3, 1 / 6)
        k: list[list[tuple[Tensor, Tensor]]] = []
        stage = state
        at_t: tuple[list[Output], list[Local]] | None = None
        error_constants = [part.errors.constants(p) for part, p in zip(net.neurons, theta, strict=False)]
        for i, node in enumerate(nodes):
            outputs, local = net.evaluate(theta, stage, xs[node], targets[node], dynamics, "instant")
            at_t = at_t or (outputs, local)
            k.append(
                [
                    (
                        rate_of_change(s.u, l.current, per_neuron(p.tau_m)),
                        rate_of_change(s.v, l.e_inst, per_neuron(q.tau_r)),
                    )
                    for l, s, p, q in zip(local, stage, theta, error_constants, strict=False)
                ]
            )
            if i < 3:
                h = dt if i == 2 else dt / 2
                stage = tuple(
                    LayerState(s.u + h * du, s.v + h * dv, out.r, l.e, s.sent, out.kept)
                    for s, (du, dv), out, l in zip(state, k[-1], outputs, local, strict=False)
                )
        assert at_t is not None
        outputs, local = at_t
        new = []
        for j, s in enumerate(state):
            du, dv = (sum(w * ki[j][c] for w, ki in zip(weights, k, strict=True)) for c in (0, 1))
            out = outputs[j]
            new.append(LayerState(s.u + dt * du, s.v + dt * dv, out.r, local[j].e, s.sent, out.kept))
        return tuple(new), tuple(local)


INTEGRATORS: dict[str, type[Euler] | type[RK4]] = {"euler": Euler, "exponential": Exponential, "rk4": RK4}


def integrator(name: str) -> Integrator:
    """The integrator called `name`. Raises ValueError for an unknown one."""
    if name not in INTEGRATORS:
        raise ValueError(f"unknown integrator {name!r}; choose one of {', '.join(INTEGRATORS)}")
    return INTEGRATORS[name]()
