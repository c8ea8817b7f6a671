"""Many steps at once, for frozen parameters.

With γ = 0 the forward pass does not see the errors. While the parameters rest, a layer's currents over many steps are
therefore one matrix product over all of them, followed by a first-order filter; so are its errors, from the top down.
The result is that of `Euler.step` (or `Exponential.step`), repeated; only the order of the sums differs.

Inside, steps stand before the batch, [*ensemble, steps, batch, features], so that both merge into the rows of one
product.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gle.dynamics import Dynamics, is_zero, nudge, per_neuron, rate
from gle.integrators import Euler, Integrator
from gle.network import Network, error
from gle.neurons import Activation
from gle.operators import scan_low_pass
from gle.state import LayerState, Local, State, Theta, Thetas, changed, select
from gle.wiring import Wiring

STEPS = -3  # the axis of steps


def can_scan(net: Wiring, integrator: Integrator, gamma: float | Tensor = 0.0) -> bool:
    """Whether this module gives what the integrator's own steps give: for Euler's step, inherited or not, at γ = 0, and
    a chain of layers whose rate functions are pointwise."""
    euler = isinstance(integrator, Euler) and type(integrator).step is Euler.step and is_zero(gamma)
    return euler and isinstance(net, Network) and all(isinstance(layer.phi, Activation) for layer in net.layers)


class Forward(NamedTuple):
    """The forward pass of one layer ℓ over the steps; tensors [*ensemble, steps, batch, n]."""

    pre: Tensor
    current: Tensor
    u: Tensor  # before each step
    rates: Tensor  # at the end of each step
    seen: Tensor  # as the neighbours and the own error neuron see them during the step
    u_end: Tensor  # after the last step


class _End(NamedTuple):
    """Where the forward pass leaves a layer."""

    u: Tensor
    r: Tensor


def _rows(x: Tensor) -> Tensor:
    """[..., steps, batch, n] → [..., steps · batch, n]."""
    return x.flatten(STEPS, -2)


def _delay(first: Tensor, x: Tensor) -> Tensor:
    """x one step later, starting with the previous output `first`."""
    delayed = torch.empty_like(x)
    delayed.select(STEPS, 0).copy_(first)
    delayed.narrow(STEPS, 1, x.shape[STEPS] - 1).copy_(x.narrow(STEPS, 0, x.shape[STEPS] - 1))
    return delayed


def forward(net: Network, integrator: Euler, theta: Thetas, state: State, xs: Tensor, dt: float) -> list[Forward]:
    """Rates bottom-up. xs: [*ensemble, steps, batch, in]."""
    passes = []
    below = xs
    for i, d in net.places():
        layer, p, s = net.layers[i], select(theta[i], d), select(state[i], d)
        current = layer.synapse.current(p.W, p.b, _rows(below)).unflatten(-2, below.shape[STEPS:-1])
        u, u_end = scan_low_pass(s.u, current, per_neuron(integrator.fraction(dt, p.tau_m)), STEPS)
        r, _ = rate(layer.phi, _over_steps(p), u, current)
        seen = _delay(s.r, r) if integrator.propagation == "delayed" else r
        passes.append(Forward(below, current, u, r, seen, u_end))
        below = seen
    return passes


def state_after(net: Network, state: State, passes: list[Forward]) -> State:
    """`state` with u and r as the forward pass leaves them; v and e as they were."""
    ends = restack(net, [_End(f.u_end, f.rates.select(STEPS, -1)) for f in passes])
    return tuple(changed(s, **end._asdict()) for s, end in zip(state, ends, strict=True))


def _over_steps(p: Theta) -> Theta:
    """Time constants with one more axis in front of the batch, for the steps."""
    return changed(p, tau_m=p.tau_m.unsqueeze(-2), tau_r=p.tau_r.unsqueeze(-2))


def scan(
    net: Network,
    integrator: Euler,
    theta: Thetas,
    state: State,
    xs: Tensor,
    targets: Tensor | None,
    dynamics: Dynamics,
) -> tuple[State, list[Local]]:
    """What `integrator.step` gives after `steps` steps; xs, targets: [steps, *ensemble, batch, features].

    The `Local` of each layer ℓ, here without an axis of depth, holds the steps as further rows: summing over rows
    then sums over samples and steps.
    """
    dt = dynamics.dt
    passes = forward(net, integrator, theta, state, xs.movedim(0, STEPS), dt)
    target = None if targets is None else targets.movedim(0, STEPS)
    above = nudge(passes[-1].seen, target, dynamics, net.ensemble)

    states: list[LayerState] = []
    locals_: list[Local] = []
    for place, ((i, d), fwd) in reversed(list(enumerate(zip(net.places(), passes, strict=True)))):
        p, s, layer = select(theta[i], d), select(state[i], d), net.layers[i]
        e_inst = layer.phi.pull((), fwd.seen, above)
        v, v_end = scan_low_pass(s.v, e_inst, integrator.error_fraction(dt, layer.errors, p), STEPS)
        e = error(layer, _over_steps(p), v, e_inst)
        sent_end = s.sent
        if place:
            above = layer.synapse.backproject(p.W, p.B, _rows(e)).unflatten(-2, e.shape[STEPS:-1])
            if integrator.propagation == "delayed":
                sent_end = above.select(STEPS, -1).clone()
                above = _delay(s.sent, above)
        # e of the last step anew: as a view of e, its strides would have the next block compiled anew
        e_end = error(layer, p, v.select(STEPS, -1), e_inst.select(STEPS, -1))
        states.append(LayerState(fwd.u_end, v_end, fwd.rates.select(STEPS, -1), e_end, sent_end))
        locals_.append(Local(*map(_rows, (fwd.pre, fwd.current, fwd.u, e_inst, e))))
    return restack(net, states[::-1]), locals_[::-1]


def restack(net: Network, items: list) -> tuple:
    """One entry per layer ℓ → one per `Layer`, its layers stacked along a new first axis."""
    out, start = [], 0
    for layer in net.layers:
        group = items[start : start + layer.depth]
        fields = (torch.stack(f) if isinstance(f[0], Tensor) else f[0] for f in zip(*group, strict=True))
        out.append(type(group[0])(*fields))
        start += layer.depth
    return tuple(out)
