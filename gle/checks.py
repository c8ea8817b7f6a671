"""What a simulation makes sure of: time constants that its step resolves, finite numbers, and a network that nobody has
changed behind it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from gle.carry import Carry
from gle.network import TIME_CONSTANTS, Network, Thetas
from gle.plasticity import Plasticity


class Taken(NamedTuple):
    """What a simulation took from its network when it was made, and would go on with if the network changed."""

    dtype: torch.dtype
    device: torch.device
    learned: list[tuple[str, ...]]  # by layer
    parameters: list[tuple[Tensor, int]]  # themselves, and which version of their values


def taken(net: Network, plasticity: Plasticity | None) -> Taken:
    kinds = () if plasticity is None else plasticity.learn
    own = [t for p in net.theta() for t in p if t is not None]
    versions = [-1 if t.is_inference() else t._version for t in own]  # PyTorch counts none in inference mode
    learned = [layer.learned(kinds) for layer in net.layers]
    return Taken(net.dtype, net.device, learned, list(zip(own, versions, strict=True)))


def check_time_constants(net: Network, dt: float, theta: Thetas | None = None) -> None:
    """Raises ValueError for a τ below dt, of the network or of `theta`, naming layer and value."""
    theta = net.theta() if theta is None else theta
    for l, (i, d) in enumerate(net.places()):
        for name in TIME_CONSTANTS:
            tau = getattr(theta[i], name)[d]
            least = float(tau.min())
            if least < dt * (1 - max(1e-6, torch.finfo(tau.dtype).eps)):
                raise ValueError(
                    f"{name} = {least:g} in layer {l} is below dt = {dt:g}, which no integrator resolves: "
                    f"raise it to at least dt (a neuron with tau_r = dt is a plain leaky integrator), or lower dt"
                )


def check_finite(net: Network, carry: Carry, dt: float, step: int) -> None:
    """Raises FloatingPointError for NaN or infinite states, naming the first layer and its largest dt/τ."""
    for l, (i, d) in enumerate(net.places()):
        here = {**carry.state[i]._asdict(), **carry.theta[i]._asdict()} if carry.state else {}
        for name, value in here.items():
            if value is not None and not torch.isfinite(value[d]).all():
                p = carry.theta[i]
                ratios = ", ".join(f"dt/{k} ≤ {dt / float(getattr(p, k)[d].min()):.3g}" for k in TIME_CONSTANTS)
                raise FloatingPointError(
                    f"{name} of layer {l} is not finite at or before step {step} ({ratios}): "
                    "lower dt or the learning rate, or raise the time constants"
                )
