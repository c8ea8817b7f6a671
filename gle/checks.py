"""What a simulation makes sure of: time constants that its step resolves, finite numbers, and a network that nobody has
changed behind it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gle.carry import Carry
from gle.plasticity import Plasticity
from gle.state import Thetas
from gle.wiring import TIME_CONSTANTS, Wiring


class Taken(NamedTuple):
    """What a simulation took from its network when it was made, and would go on with if the network changed."""

    dtype: torch.dtype
    device: torch.device
    learned: list[tuple[str, ...]]  # by part
    parameters: list[tuple[Tensor, int]]  # themselves, and which version of their values


def taken(net: Wiring, plasticity: Plasticity | None) -> Taken:
    kinds = () if plasticity is None else plasticity.learn
    own = [t for p in net.theta() for t in p if t is not None]
    versions = [-1 if t.is_inference() else t._version for t in own]  # PyTorch counts none in inference mode
    learned = [part.learned(kinds) for part in net.parts]
    return Taken(net.dtype, net.device, learned, list(zip(own, versions, strict=True)))


def check_time_constants(net: Wiring, dt: float, theta: Thetas | None = None) -> None:
    """Raises ValueError for a τ below dt, of the network or of `theta`, naming layer and value."""
    theta = net.theta() if theta is None else theta
    for i, part in enumerate(net.neurons):
        least = float(part.errors.constants(theta[i]).tau_r.min())
        if least < dt * (1 - max(1e-6, torch.finfo(theta[i].tau_r.dtype).eps)) and least < float(theta[i].tau_r.min()):
            raise ValueError(
                f"error neurons of {net.place_name(i, 0)} have a time constant of {least:g}, below dt = {dt:g}, which "
                "no integrator resolves: raise it to at least dt, or lower dt"
            )
    for i, d in net.places():
        for name in TIME_CONSTANTS:
            tau = getattr(theta[i], name)[d]
            least = float(tau.min())
            if least < dt * (1 - max(1e-6, torch.finfo(tau.dtype).eps)):
                raise ValueError(
                    f"{name} = {least:g} in {net.place_name(i, d)} is below dt = {dt:g}, which no integrator resolves: "
                    f"raise it to at least dt (a neuron with tau_r = dt is a plain leaky integrator), or lower dt"
                )


def check_finite(net: Wiring, carry: Carry, dt: float, step: int) -> None:
    """Raises FloatingPointError for NaN or infinite states, naming the first layer and its largest dt/τ."""
    for i, part in enumerate(net.parts):
        neurons = i < len(net.neurons)
        for d in range(part.depth):
            p = carry.theta[i]
            here = (carry.state[i]._asdict() if neurons and carry.state else {}) | p._asdict()
            for name, value in here.items():
                own = value if isinstance(value, tuple) else (value,)
                if carry.state and not all(t is None or torch.isfinite(t[d]).all() for t in own):
                    ratios = (f"dt/{k} ≤ {dt / float(getattr(p, k)[d].min()):.3g}" for k in TIME_CONSTANTS if neurons)
                    where = net.place_name(i, d) if neurons else net.part_name(i)
                    raise FloatingPointError(
                        f"{name} of {where} is not finite at or before step {step}"
                        f"{' (' + ', '.join(ratios) + ')' if neurons else ''}: "
                        "lower dt or the learning rate, or raise the time constants"
                    )
