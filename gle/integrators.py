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
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from gle.costs import Cost
from gle.network import Layer, LayerState, Local, Network, State, Theta, Thetas
from gle.operators import euler_fraction, exponential_fraction, low_pass, prospective, rate_of_change
from gle.showing import shown

Fields = TypeVar("Fields", bound=tuple)


class Dynamics(NamedTuple):
    """What the equations of motion need besides parameters. beta, gamma: numbers, or one value per ensemble member."""

    dt: float
    beta: float | Tensor  # nudging strength β (Eq. 3)
    gamma: float | Tensor  # somato-dendritic coupling γ (Algorithm 1)
    cost: Cost


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
        self, net: Network, theta: Thetas, state: State, xs: tuple[Tensor, ...], targets: tuple, dynamics: Dynamics
    ) -> tuple[State, tuple[Local, ...]]:
        """The state after dt, and what the synapses saw meanwhile. xs, targets: one for each node; a target may be
        None, for no teacher."""


def per_member(value: float | Tensor, like: Tensor, trailing: int = 2) -> float | Tensor:
    """A number as it is; a tensor over the ensemble axes with `trailing` further axes appended."""
    if isinstance(value, Tensor) and value.ndim:
        return value.to(like)[(...,) + (None,) * trailing]
    return value


def nudge(net: Network, r_top: Tensor, target: Tensor | None, dynamics: Dynamics) -> Tensor:
    """−β ∂C/∂r at the output (Eq. 18); zero without a target, and where it is NaN: there is no teacher."""
    if target is None:
        return torch.zeros_like(r_top)
    behind = r_top.ndim - len(net.ensemble)  # [batch, n], and an axis of steps in front of them in a scan
    error = torch.where(torch.isnan(target), 0.0, dynamics.cost.error(r_top, target))
    return per_member(dynamics.beta, r_top, behind) * error


def per_neuron(tau: Tensor) -> Tensor:
    return tau.unsqueeze(-2)  # [..., n] → [..., rows, n]


def rate(layer: Layer, p: Theta, u: Tensor, current: Tensor) -> Tensor:
    """r = φ(D⁺_τr{u}) with τm u̇ = I − u (Eqs. 6, 43)."""
    return layer.phi.phi(prospective(u, current, per_neuron(p.tau_m), per_neuron(p.tau_r)))


def error(layer: Layer, p: Theta, v: Tensor, e_inst: Tensor) -> Tensor:
    """e = D⁺_τm{v} with τr v̇ = e_inst − v (Eqs. 7, 45): the same with the time constants exchanged; e_inst itself where
    the layer's error neurons are instantaneous."""
    if layer.errors == "instantaneous":
        return e_inst
    return prospective(v, e_inst, per_neuron(p.tau_r), per_neuron(p.tau_m))


def cascade(
    net: Network, theta: Thetas, state: State, x: Tensor, target: Tensor | None, dynamics: Dynamics
) -> tuple[list[Tensor], list[Local]]:
    """Rates and local quantities of all layers at one instant, given u and v: rates bottom-up, then errors top-down.

    With γ ≠ 0 the two are circular (e changes u̇, u̇ changes r, r changes e): the soma then sees `state.e`, the error of
    the previous evaluation, which lowers the order of every integrator to one in γ.
    """
    currents: list[list[Tensor]] = [[] for _ in net.layers]
    rates: list[list[Tensor]] = [[] for _ in net.layers]
    below = x
    for i, d in net.places():
        p, s, layer = select(theta[i], d), select(state[i], d), net.layers[i]
        current = layer.synapse.current(p.W, p.b, below) + per_member(dynamics.gamma, below) * s.e
        below = rate(layer, p, s.u, current)
        currents[i].append(current)
        rates[i].append(below)

    inst: list[list[Tensor]] = [[] for _ in net.layers]
    errors: list[list[Tensor]] = [[] for _ in net.layers]
    above = nudge(net, below, target, dynamics)
    for i, d in reversed(list(net.places())):
        p, layer = select(theta[i], d), net.layers[i]
        e_inst = layer.phi.slope(rates[i][d]) * above
        e = error(layer, p, state[i].v[d], e_inst)
        if (i, d) != (0, 0):
            above = layer.synapse.backproject(p.W, p.B, e)
        inst[i].insert(0, e_inst)
        errors[i].insert(0, e)
    stacked = [[torch.stack(layer) for layer in field] for field in (rates, currents, inst, errors)]
    pre = net.presynaptic(x, stacked[0])
    u = [s.u for s in state]
    return stacked[0], [Local(*fields) for fields in zip(pre, stacked[1], u, stacked[2], stacked[3], strict=True)]


def select(item: Fields, d: int) -> Fields:
    """Layer d of a Theta or LayerState, without the depth axis."""
    return type(item)(*(None if t is None else t[d] for t in item))  # type: ignore[arg-type]


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

    def error_fraction(self, dt: float, p: Theta) -> Tensor:
        """The fraction of its distance to e_inst that v covers in a step: τm/τr of the one by which u moves towards the
        current, which for forward Euler is dt/τr."""
        return per_neuron(self.fraction(dt, p.tau_m) * p.tau_m / p.tau_r)

    def _advance(
        self, layer: Layer, p: Theta, local: Local, v: Tensor, r: Tensor, sent: Tensor, dt: float
    ) -> LayerState:
        """The state after the step (Eqs. 48, 49)."""
        a = per_neuron(self.fraction(dt, p.tau_m))
        if layer.errors == "prospective":
            v = low_pass(v, local.e, a)
        else:
            v = low_pass(v, local.e_inst, self.error_fraction(dt, p))
        return LayerState(low_pass(local.u, local.current, a), v, r, local.e, sent)

    def __repr__(self) -> str:
        return shown(self, "propagation")

    def step(
        self, net: Network, theta: Thetas, state: State, xs: tuple[Tensor, ...], targets: tuple, dynamics: Dynamics
    ) -> tuple[State, tuple[Local, ...]]:
        x, target = xs[0], targets[0]
        if self.propagation == "instant":
            outputs, locals_ = cascade(net, theta, state, x, target, dynamics)
            sent = [s.sent for s in state]
        else:
            outputs, locals_ = self._evaluate(net, theta, state, x, target, dynamics)
            sent = [net.sent(i, p, local.e) for i, (p, local) in enumerate(zip(theta, locals_, strict=True))]
        new = (
            self._advance(layer, p, local, s.v, r, back, dynamics.dt)
            for layer, p, local, s, r, back in zip(net.layers, theta, locals_, state, outputs, sent, strict=True)
        )
        return tuple(new), tuple(locals_)

    def _evaluate(
        self, net: Network, theta: Thetas, state: State, x: Tensor, target: Tensor | None, dynamics: Dynamics
    ) -> tuple[list[Tensor], list[Local]]:
        """As `cascade`, but every layer sees what the others sent in the previous step."""
        seen = [s.r for s in state]
        pre = net.presynaptic(x, seen)
        inst = net.instantaneous_errors(seen, [s.sent for s in state], nudge(net, seen[-1][-1], target, dynamics))
        rates, locals_ = [], []
        for layer, p, s, below, e_inst in zip(net.layers, theta, state, pre, inst, strict=True):
            e = error(layer, p, s.v, e_inst)
            current = layer.synapse.current(p.W, p.b, below)
            if not is_zero(dynamics.gamma):
                current = current + per_member(dynamics.gamma, e) * e
            rates.append(rate(layer, p, s.u, current))
            locals_.append(Local(below, current, s.u, e_inst, e))
        return rates, locals_


def is_zero(value: float | Tensor) -> bool:
    return not isinstance(value, Tensor) and value == 0


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
        self, net: Network, theta: Thetas, state: State, xs: tuple[Tensor, ...], targets: tuple, dynamics: Dynamics
    ) -> tuple[State, tuple[Local, ...]]:
        dt = dynamics.dt
        nodes, weights = (0, 1, 1, 2), (1 / 6, 1 / 3, 1 / 3, 1 / 6)
        k: list[list[tuple[Tensor, Tensor]]] = []
        stage = state
        at_t: tuple[list[Tensor], list[Local]] | None = None
        for i, node in enumerate(nodes):
            rates, local = cascade(net, theta, stage, xs[node], targets[node], dynamics)
            at_t = at_t or (rates, local)
            k.append(
                [
                    (
                        rate_of_change(s.u, l.current, per_neuron(p.tau_m)),
                        rate_of_change(s.v, l.e_inst, per_neuron(p.tau_r)),
                    )
                    for l, s, p in zip(local, stage, theta, strict=True)
                ]
            )
            if i < 3:
                h = dt if i == 2 else dt / 2
                stage = tuple(
                    LayerState(s.u + h * du, s.v + h * dv, r, l.e, s.sent)
                    for s, (du, dv), r, l in zip(state, k[-1], rates, local, strict=True)
                )
        assert at_t is not None
        rates, local = at_t
        new = []
        for j, s in enumerate(state):
            du, dv = (sum(w * ki[j][c] for w, ki in zip(weights, k, strict=True)) for c in (0, 1))
            new.append(LayerState(s.u + dt * du, s.v + dt * dv, rates[j], local[j].e, s.sent))
        return tuple(new), tuple(local)


INTEGRATORS: dict[str, type[Euler] | type[RK4]] = {"euler": Euler, "exponential": Exponential, "rk4": RK4}


def integrator(name: str) -> Integrator:
    """The integrator called `name`. Raises ValueError for an unknown one."""
    if name not in INTEGRATORS:
        raise ValueError(f"unknown integrator {name!r}; choose one of {', '.join(INTEGRATORS)}")
    return INTEGRATORS[name]()
