"""Activation functions φ and their derivatives.

φ′ is written as a function of the rate r = φ(u), not of the voltage: the error neuron that multiplies its input by φ′
(Eq. 17) then needs nothing but the rate of its partner, and the state needs no extra field. A new activation is one
entry of `ACTIVATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Activation(NamedTuple):
    name: str
    phi: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]  # φ′ as a function of r = φ(u)

    def __reduce__(self):
        return activation, (self.name,)  # pickled by name, which any function may stand behind


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


def activation(name: str) -> Activation:
    """The activation called `name`. Raises ValueError for an unknown one."""
    if name not in ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]
