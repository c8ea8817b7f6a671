"""Activation functions φ and their derivatives.

φ′ is written as a function of the rate r = φ(u), not of the voltage: the error neuron that multiplies its input by φ′
(Eq. 17) then needs nothing but the rate of its partner, and the state needs no extra field. So φ must be monotone.
A new activation is one entry of `ACTIVATIONS`, or an `Activation` given to a layer; φ′ is compared with φ before its
first use.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Activation(NamedTuple):
    name: str
    phi: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]  # φ′ as a function of r = φ(u)

    def __reduce__(self) -> tuple:
        if ACTIVATIONS.get(self.name) is self:
            return activation, (self.name,)  # pickled by name, which any function may stand behind
        return Activation, tuple(self)


ACTIVATIONS = {
    a.name: a
    for a in (
        Activation("linear", lambda u: u, torch.ones_like),
        Activation("tanh", torch.tanh, lambda r: 1 - r * r),
        Activation("sigmoid", torch.sigmoid, lambda r: r * (1 - r)),
        Activation("softplus", F.softplus, lambda r: -torch.expm1(-r)),
        Activation("relu", torch.relu, lambda r: (r > 0).to(r.dtype)),
        Activation("hard_tanh", F.hardtanh, lambda r: (r.abs() < 1).to(r.dtype)),
        # slope 1/6 between −3 and 3, as torch defines it
        Activation("hard_sigmoid", F.hardsigmoid, lambda r: ((r > 0) & (r < 1)).to(r.dtype) / 6),
    )
}


def activation(phi: str | Activation) -> Activation:
    """The activation called `phi`, or itself. Raises ValueError for an unknown one, and for one that is not what errors
    take it for (see `check`)."""
    if isinstance(phi, str):
        if phi not in ACTIVATIONS:
            raise ValueError(f"unknown activation {phi!r}; choose one of {', '.join(ACTIVATIONS)}")
        phi = ACTIVATIONS[phi]
    if not isinstance(phi, Activation):
        raise ValueError(f"phi must be the name of an activation, or an Activation(name, phi, slope), got {phi!r}")
    check(phi)
    return phi


@functools.cache
def check(a: Activation) -> None:
    """Compares φ′ with finite differences of φ, at voltages from −6 to 6, in float64.

    Raises ValueError where they differ: by a wrong φ′, or by a φ that falls somewhere, so that φ′ is no function of r.
    """
    u, h = torch.arange(-6, 6, 0.02, dtype=torch.float64) + 0.0037, 1e-6  # not at round voltages, where kinks are
    with torch.inference_mode(False), torch.no_grad():
        found, slope = (a.phi(u + h) - a.phi(u - h)) / (2 * h), a.slope(a.phi(u))
    off = ~((found - slope).abs() <= 1e-6 + 1e-6 * found.abs())  # NaN, too
    if not off.any():
        return
    i = int(off.nonzero()[0])
    reason = (
        "φ falls there, so that no function of r can be φ′" if found[i] < 0 else "give φ′ as a function of r = φ(u)"
    )
    raise ValueError(
        f"activation {a.name!r}: slope(r) is {slope[i].item():.4g} at u = {u[i].item():.4g}, where φ rises by "
        f"{found[i].item():.4g}: {reason}"
    )
