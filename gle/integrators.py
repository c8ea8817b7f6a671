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
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from gle.costs import Cost
from gle.network import LayerState, Local, Network, State, Theta, Thetas
from gle.operators import euler_fraction, exponential_fraction, low_pass, prospective, scan_low_pass


class Dynamics(NamedTuple):
    """What the equations of motion need besides parameters. beta, gamma: numbers, or one value per ensemble member."""

    dt: float
    beta: float | Tensor  # nudging strength β (Eq. 3)
    gamma: float | Tensor  # somato-dendritic coupling γ (Algorithm 1)
    cost: Cost


class Integrator(Protocol):
    order: int
    propagation: str
    nodes: tuple[float, ...]

    def step(
        self, net: Network, theta: Thetas, state: State, xs: tuple[Tensor, ...], targets: tuple, dynamics: Dynamics
    ) -> tuple[State, tuple[Local, ...]]: ...


def per_member(value: float | Tensor, like: Tensor, trailing: int = 2) -> float | Tensor:
    """A number as it is; a tensor over the ensemble axes with `trailing` further axes appended."""
    if isinstance(value, Tensor) and value.ndim:
        return value.to(like)[(...,) + (None,) * trailing]
    return value


def nudge(net: Network, r_top: Tensor, target: Tensor | None, dynamics: Dynamics) -> Tensor:
    """−β ∂C/∂r at the output (Eq. 18); zero without a target."""
    if target is None:
        return torch.zeros_like(r_top)
    return per_member(dynamics.beta, r_top) * dynamics.cost.error(r_top, target)


def _neuron(tau: Tensor) -> Tensor:
    return tau.unsqueeze(-2)  # [..., n] → [..., rows, n]


def error_neuron(p: Theta, v: Tensor, inst: Tensor) -> Tensor:
    """e = D⁺_τm{v} with v̇ = (e_inst − v)/τr (Eq. 7)."""
    return prospective(v, (inst - v) / _neuron(p.tau_r), _neuron(p.tau_m))


def membrane_derivative(p: Theta, u: Tensor, current: Tensor) -> Tensor:
    """u̇ = (I − u)/τm (Eq. 6)."""
    return (current - u) / _neuron(p.tau_m)


class Cascade(NamedTuple):
    """All layers at one instant; each a list over `Layer`s."""

    rates: list[Tensor]
    errors: list[Tensor]
    local: list[Local]


def cascade(
    net: Network, theta: Thetas, state: State, x: Tensor, target: Tensor | None, dynamics: Dynamics
) -> Cascade:
    """The network at one instant, given u and v: rates bottom-up, then errors top-down.

    With γ ≠ 0 the two are circular (e changes u̇, u̇ changes r, r changes e): the soma then sees `state.e`, the error of
    the previous evaluation, which lowers the order of every integrator to one in γ.
    """
    u_dots: list[list[Tensor]] = [[] for _ in net.layers]
    rates: list[list[Tensor]] = [[] for _ in net.layers]
    below = x
    for i, d in net.places():
        p, s, layer = select(theta[i], d), select(state[i], d), net.layers[i]
        current = layer.synapse.current(p.W, p.b, below) + per_member(dynamics.gamma, below) * s.e
        u_dot = membrane_derivative(p, s.u, current)
        below = layer.phi.phi(prospective(s.u, u_dot, _neuron(p.tau_r)))
        u_dots[i].append(u_dot)
        rates[i].append(below)
    stacked = [torch.stack(r) for r in rates]

    inst: list[list[Tensor]] = [[] for _ in net.layers]
    errors: list[list[Tensor]] = [[] for _ in net.layers]
    above = nudge(net, below, target, dynamics)
    for i, d in reversed(list(net.places())):
        p, layer = select(theta[i], d), net.layers[i]
        e_inst = layer.phi.slope(rates[i][d]) * above
        e = error_neuron(p, state[i].v[d], e_inst)
        if (i, d) != (0, 0):
            above = layer.synapse.backproject(p.W, p.B, e)
        inst[i].insert(0, e_inst)
        errors[i].insert(0, e)
    pre = net.presynaptic(x, stacked)
    es = [torch.stack(e) for e in errors]
    local = [
        Local(pre[i], es[i], torch.stack(inst[i]), torch.stack(u_dots[i])) for i in range(len(net.layers))
    ]
    return Cascade(stacked, es, local)


def select(item, d: int):
    """Layer d of a Theta or LayerState, without the depth axis."""
    return type(item)(*(None if t is None else t[d] for t in item))


class Euler:
    """Forward Euler, order 1 (§5.6.1). "delayed" is the published scheme: every right-hand side uses the neighbours'
    output of the previous step, and the soma the new error of its own layer.

    With one fraction a = dt/τm for both filters, u moves by a (I − u) and v by a (e − v) [= dt/τr (e_inst − v)]: the error
    filter is then the exact discrete inverse of the forward filter.
    """

    order = 1
    nodes = (0.0,)

    def __init__(self, propagation: str = "delayed", fraction: Callable[[float, Tensor], Tensor] = euler_fraction):
        if propagation not in ("delayed", "instant"):
            raise ValueError(f"unknown propagation {propagation!r}; choose delayed or instant")
        self.propagation = propagation
        self.fraction = fraction

    def _advance(self, p: Theta, s: LayerState, u_dot: Tensor, e: Tensor, dt: float) -> tuple[Tensor, Tensor]:
        """u and v after the step (Eqs. 48, 49)."""
        a = _neuron(self.fraction(dt, p.tau_m))
        u = low_pass(s.u, s.u + _neuron(p.tau_m) * u_dot, a)
        return u, low_pass(s.v, e, a)

    def step(self, net, theta, state, xs, targets, dynamics):
        x, target = xs[0], targets[0]
        if self.propagation == "instant":
            now = cascade(net, theta, state, x, target, dynamics)
            new = []
            for p, s, r, e, local in zip(theta, state, now.rates, now.errors, now.local, strict=True):
                u, v = self._advance(p, s, local.u_dot, e, dynamics.dt)
                new.append(LayerState(u, v, r, e))
            return tuple(new), tuple(now.local)

        rates, errors = [s.r for s in state], [s.e for s in state]
        pre = net.presynaptic(x, rates)
        inst = net.instantaneous_errors(theta, rates, errors, nudge(net, rates[-1][-1], target, dynamics))
        new, locals_ = [], []
        for layer, p, s, below, e_inst in zip(net.layers, theta, state, pre, inst, strict=True):
            e = error_neuron(p, s.v, e_inst)
            current = layer.synapse.current(p.W, p.b, below)
            if not _is_zero(dynamics.gamma):
                current = current + per_member(dynamics.gamma, e) * e
            u_dot = membrane_derivative(p, s.u, current)
            r = layer.phi.phi(prospective(s.u, u_dot, _neuron(p.tau_r)))  # the old u
            u, v = self._advance(p, s, u_dot, e, dynamics.dt)
            new.append(LayerState(u, v, r, e))
            locals_.append(Local(below, e, e_inst, u_dot))
        return tuple(new), tuple(locals_)


def _is_zero(value: float | Tensor) -> bool:
    return not isinstance(value, Tensor) and value == 0


class Exponential(Euler):
    """The matched exponential scheme: each neuron is exact for input held over the step, and the error filter remains the
    exact inverse of the forward filter. Order 1 for smooth signals, because the input is held."""

    def __init__(self, propagation: str = "delayed"):
        super().__init__(propagation, exponential_fraction)


class RK4:
    """Classical Runge-Kutta, order 4, with instant propagation; needs its input at t, t + dt/2 and t + dt.

    Plasticity sees the first of the four evaluations, the one at t.
    """

    order = 4
    propagation = "instant"
    nodes = (0.0, 0.5, 1.0)

    def step(self, net, theta, state, xs, targets, dynamics):
        dt = dynamics.dt
        nodes, weights = (0, 1, 1, 2), (1 / 6, 1 / 3, 1 / 3, 1 / 6)
        k: list[list[tuple[Tensor, Tensor]]] = []
        stage, first = state, None
        for i, node in enumerate(nodes):
            now = cascade(net, theta, stage, xs[node], targets[node], dynamics)
            first = first or now
            k.append(
                [
                    (l.u_dot, (l.e_inst - s.v) / _neuron(p.tau_r))
                    for l, s, p in zip(now.local, stage, theta, strict=True)
                ]
            )
            if i < 3:
                h = dt if i == 2 else dt / 2
                stage = tuple(
                    LayerState(s.u + h * du, s.v + h * dv, r, e)
                    for s, (du, dv), r, e in zip(state, k[-1], now.rates, now.errors, strict=True)
                )
        new = []
        for j, s in enumerate(state):
            du = sum(w * ki[j][0] for w, ki in zip(weights, k, strict=True))
            dv = sum(w * ki[j][1] for w, ki in zip(weights, k, strict=True))
            new.append(LayerState(s.u + dt * du, s.v + dt * dv, first.rates[j], first.errors[j]))
        return tuple(new), tuple(first.local)


INTEGRATORS: dict[str, Callable[..., Integrator]] = {"euler": Euler, "exponential": Exponential, "rk4": RK4}


def integrator(name: str) -> Integrator:
    """The integrator called `name`. Raises ValueError for an unknown one."""
    if name not in INTEGRATORS:
        raise ValueError(f"unknown integrator {name!r}; choose one of {', '.join(INTEGRATORS)}")
    return INTEGRATORS[name]()
