"""A frozen network's answers: from rest or from any state, many steps at once where that is possible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from gle.integrators import Euler
from gle.network import Network
from gle.scan import STEPS, can_scan, forward, state_after
from gle.series import Lengths, after, lengths_of, time_first
from gle.state import State, Thetas, mapped

if TYPE_CHECKING:
    from gle.simulate import Simulation

PREDICT_ROWS = 1 << 12  # steps · batch of one product: as large as keeps its results in the cache


def predicted(
    sim: Simulation,
    inputs: Tensor | np.ndarray,
    theta: Thetas | None,
    state: State | None,
    lengths: Lengths | None,
    mask: Tensor | np.ndarray | None,
    batch_first: bool,
) -> tuple[Tensor, State]:
    """What `Simulation.predict` returns."""
    sim.check(learns=False, own=theta is None)
    theta = sim.carry.theta if theta is None else theta
    given = torch.as_tensor(inputs)
    given = time_first(given, "inputs") if batch_first else given
    ends = lengths_of(lengths, mask, len(given), given.shape[-2], batch_first) if given.ndim > 2 else None
    over = None if ends is None else after(ends, len(given))
    xs = sim.inputs.placed(given, "inputs", over=over)
    batch = xs.shape[-2]
    state = sim.network.initial_state(batch) if state is None else state
    for name, own in (("theta", theta[0].tau_m), ("state", state[0].u)):
        if (own.dtype, own.device) != (xs.dtype, xs.device):
            raise ValueError(
                f"{name} is {own.dtype} on {own.device}, the network {xs.dtype} on {xs.device}: convert it"
            )
    if state[0].u.shape[-2] != batch:
        raise ValueError(f"inputs have a batch of {batch}, the state one of {state[0].u.shape[-2]}")
    still = sim.network.initial_state(batch)
    state = tuple(z._replace(u=s.u, r=s.r, kept=s.kept) for s, z in zip(state, still, strict=True))
    outputs: list[Tensor] = []
    if ends is None:
        state = _some(sim, xs, theta, state, outputs)
    else:  # from one end to the next: what is over keeps its state
        began, ends = 0, ends.to(xs.device)
        for end in ends.unique().tolist():
            new_state = _some(sim, xs[began:end], theta, state, outputs)
            done = (ends <= began).unsqueeze(-1)  # [batch, 1]
            state = mapped(lambda old, new, done=done: torch.where(done, old, new), state, new_state)
            began = end
    nothing = xs.new_zeros(0, *xs.shape[1:-1], sim.network.n_out)
    r = torch.cat(outputs) if outputs else nothing
    if over is not None:
        r = torch.cat([r, r.new_zeros(len(xs) - len(r), *r.shape[1:])])
        r = r.masked_fill(over.to(r.device).reshape(len(r), *(1,) * (r.ndim - 3), batch, 1), 0.0)
    return r.movedim(0, -2) if batch_first else r, state


def _some(sim: Simulation, xs: Tensor, theta: Thetas, state: State, outputs: list[Tensor]) -> State:
    """The state after xs [T, *ensemble, batch, features]; what the network says meanwhile goes to the outputs."""
    swept = can_scan(sim.network, sim.integrator)  # without errors there is nothing that γ could couple
    length = max(1, PREDICT_ROWS // xs.shape[-2]) if swept else 1
    for part in xs.split(length) if len(xs) else ():
        if swept:
            assert isinstance(sim.integrator, Euler)
            assert isinstance(sim.network, Network)
            passes = forward(sim.network, sim.integrator, theta, state, part.movedim(0, STEPS), sim.dynamics.dt)
            r = passes[-1].rates.movedim(STEPS, 0)
            state = state_after(sim.network, state, passes)
        else:
            n = len(sim.integrator.nodes)
            state, _ = sim.integrator.step(sim.network, theta, state, (part[0],) * n, (None,) * n, sim.dynamics)
            r = sim.network.output(state).unsqueeze(0)
        outputs.append(r)
    return state
