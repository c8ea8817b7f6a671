"""Many steps at once, for frozen parameters.

With γ = 0 the forward pass does not see the errors. While the parameters rest, a layer's currents over many steps are therefore
one matrix product over all of them, followed by a first-order filter; so are its errors, from the top down. The
result is that of `Euler.step` (or `Exponential.step`), repeated; only the order of the sums differs.

Inside, steps stand before the batch, [*ensemble, steps, batch, features], so that both merge into the rows of one product.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gle.integrators import Dynamics, Euler, _neuron, error_neuron, membrane_derivative, nudge, select
from gle.network import LayerState, Local, Network, State, Theta, Thetas
from gle.operators import prospective, scan_low_pass

STEPS = -3  # the axis of steps


class Forward(NamedTuple):
    """The forward pass of every layer ℓ over the steps; tensors [*ensemble, steps, batch, n]."""

    pre: list[Tensor]
    u_dot: list[Tensor]
    rates: list[Tensor]  # at the end of each step
    seen: list[Tensor]  # as the neighbours and the own error neuron see them during the step
    u: list[Tensor]  # after the last step


def _rows(x: Tensor) -> Tensor:
    """[..., steps, batch, n] → [..., steps · batch, n]."""
    return x.flatten(STEPS, -2)


def _delay(first: Tensor, x: Tensor) -> Tensor:
    """x one step later, starting with the previous output `first`."""
    return torch.cat([first.unsqueeze(STEPS), x.narrow(STEPS, 0, x.shape[STEPS] - 1)], STEPS)


def forward_layer(
    net: Network, integrator: Euler, i: int, p: Theta, s: LayerState, below: Tensor, dt: float
) -> tuple[Tensor, Tensor, Tensor]:
    """u̇ and r of one layer over all steps, and u after them; below: what its synapses see."""
    layer = net.layers[i]
    current = layer.synapse.current(p.W, p.b, _rows(below)).unflatten(-2, below.shape[STEPS:-1])
    over_time = Theta(*(None if t is None else t.unsqueeze(-2) for t in p))  # one more axis in front of the batch
    u, u_end = scan_low_pass(s.u, current, _neuron(integrator.fraction(dt, p.tau_m)), STEPS)
    u_dot = membrane_derivative(over_time, u, current)
    return u_dot, layer.phi.phi(prospective(u, u_dot, _neuron(over_time.tau_r))), u_end


def forward(net: Network, integrator: Euler, theta: Thetas, state: State, xs: Tensor, dt: float) -> Forward:
    """Rates bottom-up. xs: [*ensemble, steps, batch, in]."""
    delayed = integrator.propagation == "delayed"
    out = Forward([], [], [], [], [])
    below = xs
    for i, d in net.places():
        s = select(state[i], d)
        u_dot, r, u = forward_layer(net, integrator, i, select(theta[i], d), s, below, dt)
        seen = _delay(s.r, r) if delayed else r
        for field, value in zip(out, (below, u_dot, r, seen, u), strict=True):
            field.append(value)
        below = seen
    return out


def sweep(
    net: Network,
    integrator: Euler,
    theta: Thetas,
    state: State,
    xs: Tensor,
    targets: Tensor | None,
    dynamics: Dynamics,
) -> tuple[State, tuple[Local, ...]]:
    """What `integrator.step` gives after `steps` steps; xs, targets: [steps, *ensemble, batch, features].

    `Local` holds the steps as further rows: summing over rows then sums over samples and steps.
    """
    dt = dynamics.dt
    fwd = forward(net, integrator, theta, state, xs.movedim(0, STEPS), dt)
    target = None if targets is None else targets.movedim(0, STEPS)
    above = nudge(net, fwd.seen[-1], target, dynamics)

    states: list[LayerState] = []
    locals_: list[Local] = []
    places = list(net.places())
    for place in range(len(places) - 1, -1, -1):
        i, d = places[place]
        p, s, layer = select(theta[i], d), select(state[i], d), net.layers[i]
        e_inst = layer.phi.slope(fwd.seen[place]) * above
        # v follows e as u follows the current: the error filter inverts the forward one (see `Euler`)
        ratio = p.tau_m / p.tau_r
        v, v_end = scan_low_pass(s.v, e_inst, _neuron(integrator.fraction(dt, p.tau_m) * ratio), STEPS)
        over_time = Theta(*(None if t is None else t.unsqueeze(-2) for t in p))
        e = error_neuron(over_time, v, e_inst)
        if place:
            seen = _delay(s.e, e) if integrator.propagation == "delayed" else e
            above = layer.synapse.backproject(p.W, p.B, _rows(seen)).unflatten(-2, e.shape[STEPS:-1])
        last = fwd.rates[place].select(STEPS, -1), e.select(STEPS, -1)
        states.append(LayerState(fwd.u[place], v_end, *last))
        locals_.append(Local(*map(_rows, (fwd.pre[place], e, e_inst, fwd.u_dot[place]))))
    return _restack(net, states[::-1]), _restack(net, locals_[::-1])


def _restack(net: Network, items: list) -> tuple:
    """One entry per layer ℓ → one per `Layer`, its layers stacked along a new first axis."""
    out, start = [], 0
    for layer in net.layers:
        group = items[start : start + layer.depth]
        out.append(type(group[0])(*(torch.stack(field) for field in zip(*group, strict=True))))
        start += layer.depth
    return tuple(out)
