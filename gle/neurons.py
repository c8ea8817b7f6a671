"""Rate functions φ, and how an error comes back through them.

    r, kept = φ.rate(voltages)                  voltages D⁺_τr{u}: [..., compartments · n] → [..., n]
    e_inst = φ.pull(kept, r, received)          −∂E/∂voltages from what r received, Wᵀ e of those who saw it

The simplest are the pointwise, monotone ones, an `Activation`: with φ′ written as a function of the rate, not of the
voltage, the error neuron that multiplies its input by φ′ (Eq. 17) needs nothing but the rate of its partner, and the
state needs no extra field. All others keep what they need from the voltages (LayerState.kept). A neuron may have
several compartments, each with a membrane, a bias and an error neuron of its own; their voltages stand one after the
other, [compartment, neuron]. A pull-back is local where it needs nothing of other neurons, pooled where it needs sums
over the population (never weights).

A new activation is one entry of `ACTIVATIONS`, any other rate function one class and one entry of `RATE_FUNCTIONS`; or
an object given to a layer. Each is compared with its derivative before its first use.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from gle.given import whole
from gle.seeding import generator
from gle.showing import shown


class RateFunction(Hashable, Protocol):
    @property
    def name(self) -> str: ...

    @property
    def compartments(self) -> tuple[str, ...]:
        """Their names; the first one is where projections end that name none."""

    @property
    def pooled(self) -> bool:
        """Whether the way back needs sums over the population."""

    def rate(self, voltage: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """r, and what `pull` needs besides it: tensors [..., batch, any number]."""

    def pull(self, kept: tuple[Tensor, ...], r: Tensor, received: Tensor) -> Tensor:
        """The errors by compartment, [..., compartments · n]."""

    # Of several compartments, the same with one tensor for each, `rate_of(*voltages)` and `pull_to(kept, r, received)`:
    # for neurons without a membrane, whose currents need not be laid side by side.


class Activation(NamedTuple):
    """A pointwise φ which never falls."""

    name: str
    phi: Callable[[Tensor], Tensor]
    slope: Callable[[Tensor], Tensor]  # φ′ as a function of r = φ(u)

    @property
    def compartments(self) -> tuple[str, ...]:
        return ("soma",)

    @property
    def pooled(self) -> bool:
        return False

    def rate(self, voltage: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.phi(voltage), ()

    def pull(self, kept: tuple[Tensor, ...], r: Tensor, received: Tensor) -> Tensor:
        """φ′ ∘ received (Eq. 17)."""
        return self.slope(r) * received

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


class _Parted:
    """What is common to rate functions beyond the pointwise, monotone ones."""

    name: str
    compartments: tuple[str, ...] = ("soma",)
    pooled = False

    def rate(self, voltage: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        raise NotImplementedError

    def pull(self, kept: tuple[Tensor, ...], r: Tensor, received: Tensor) -> Tensor:
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """What it was made with."""
        return dict(vars(self))

    def __repr__(self) -> str:
        return shown(self, *self.options())

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), *sorted(vars(self).items())))


class Swish(_Parted):
    """r = u σ(u) (Ramachandran et al. 2017), also called SiLU: it falls below u ≈ −1.28. Keeps u."""

    name = "swish"

    def rate(self, voltage: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return F.silu(voltage), (voltage,)

    def pull(self, kept: tuple[Tensor, ...], r: Tensor, received: Tensor) -> Tensor:
        return through_swish(received, kept[0])


def through_swish(received: Tensor, u: Tensor) -> Tensor:
    """received · φ′(u), φ′ = σ(u) (1 + u (1 − σ(u))); in one pass over memory, where nobody differentiates it."""
    if not torch.is_grad_enabled():
        try:
            return torch.ops.aten.silu_backward(received, u)
        except NotImplementedError:  # in forward mode
            pass
    s = torch.sigmoid(u)
    return received * (s * (1 + u * (1 - s)))


class Gated(_Parted):
    """r = up · swish(gate), of neurons with two compartments (Shazeer 2020). Keeps up, gate and swish(gate)."""

    name = "gated"
    compartments = ("up", "gate")

    def rate(self, voltage: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.rate_of(*voltage.chunk(2, -1))

    def rate_of(self, up: Tensor, gate: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        a = F.silu(gate)
        return up * a, (up, gate, a)

    def pull(self, kept: tuple[Tensor, ...], r: Tensor, received: Tensor) -> Tensor:
        return torch.cat(self.pull_to(kept, r, received), -1)

    def pull_to(self, kept: tuple[Tensor, ...], r: Tensor, received: Tensor) -> tuple[Tensor, ...]:
        up, gate, a = kept
        return a * received, through_swish(up * received, gate)


class _Pooled(_Parted):
    """Over all neurons of the population, or over each of `groups` equal parts that follow each other (positions, each
    with its features).

    Raises ValueError for less than one group, and, in use, where they do not divide the neurons.
    """

    pooled = True

    def __init__(self, groups: int = 1):
        self.groups = whole("groups", groups)

    def apart(self, x: Tensor) -> Tensor:
        """[..., groups · n] → [..., groups, n]."""
        if x.shape[-1] % self.groups:
            raise ValueError(f"{self.groups} groups do not divide {x.shape[-1]} neurons: change either")
        return x.unflatten(-1, (self.groups, -1))


class RMSNorm(_Pooled):
    """r = u/s with s² = mean(u²) + ε (Zhang & Sennrich 2019).

    Its Jacobian, (1 − r rᵀ/n)/s, is symmetric: the error's way back needs two pooled numbers, s and mean(r · received),
    and no weights. Keeps 1/s. eps: ε.
    """

    name = "rms_norm"

    def __init__(self, groups: int = 1, eps: float = 1e-5):
        super().__init__(groups)
        if not float(eps) > 0:
            raise ValueError(f"eps must be positive, got {eps}: at rest, where u = 0, r would be 0/0")
        self.eps = float(eps)

    def rate(self, voltage: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        u = self.apart(voltage)
        inverse = torch.rsqrt(u.square().mean(-1, keepdim=True) + self.eps)
        return (u * inverse).flatten(-2), (inverse.squeeze(-1),)

    def pull(self, kept: tuple[Tensor, ...], r: Tensor, received: Tensor) -> Tensor:
        y, g = self.apart(r), self.apart(received)
        return ((g - y * (y * g).mean(-1, keepdim=True)) * kept[0].unsqueeze(-1)).flatten(-2)


class Softmax(_Pooled):
    """r = softmax(u); the way back, r ∘ (received − Σ r received), needs one pooled number."""

    name = "softmax"

    def rate(self, voltage: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return torch.softmax(self.apart(voltage), -1).flatten(-2), ()

    def pull(self, kept: tuple[Tensor, ...], r: Tensor, received: Tensor) -> Tensor:
        p, g = self.apart(r), self.apart(received)
        return (p * (g - (p * g).sum(-1, keepdim=True))).flatten(-2)


class Spike(_Parted):
    """r = 1 where the voltage exceeds one, else 0; an error comes back through the surrogate slope of SuperSpike,
    1/(1 + sharpness |u − 1|)² (Zenke & Ganguli 2018). Keeps it."""

    name = "spike"

    def __init__(self, sharpness: float = 10.0):
        if not sharpness > 0:
            raise ValueError(f"sharpness must be positive, got {sharpness}")
        self.sharpness = float(sharpness)

    def rate(self, voltage: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        above = voltage - 1
        wide = 1 + self.sharpness * above.abs()
        soft, slope = above / wide, wide.pow(-2)  # autograd sees the slope of soft, which is the surrogate
        return (above > 0).to(voltage.dtype) + (soft - soft.detach()), (slope.detach(),)

    def pull(self, kept: tuple[Tensor, ...], r: Tensor, received: Tensor) -> Tensor:
        return kept[0] * received


RATE_FUNCTIONS: dict[str, type[_Parted]] = {kind.name: kind for kind in (Swish, Gated, RMSNorm, Softmax, Spike)}


def rate_function(phi: str | RateFunction) -> RateFunction:
    """The rate function called `phi`, with its defaults, or itself. Raises ValueError for an unknown one, and for one
    that is not what errors take it for (see `check` and `check_pull`)."""
    if isinstance(phi, str) and phi in RATE_FUNCTIONS:
        return RATE_FUNCTIONS[phi]()
    if isinstance(phi, (str, Activation)):
        return activation(phi)
    if isinstance(phi, type) or not all(hasattr(phi, part) for part in ("name", "compartments", "rate", "pull")):
        raise ValueError(
            "phi must be the name of an activation, an Activation(name, phi, slope), or another rate function like "
            f"gle.neurons.RMSNorm(); got {phi!r}"
        )
    try:
        check_pull(phi)
    except TypeError:  # what cannot be hashed is looked at each time
        check_pull.__wrapped__(phi)
    return phi


def activation(phi: str | Activation) -> Activation:
    """The activation called `phi`, or itself. Raises ValueError as `rate_function` does."""
    if isinstance(phi, str):
        if phi not in ACTIVATIONS:
            known = (*ACTIVATIONS, *RATE_FUNCTIONS)
            raise ValueError(f"unknown activation {phi!r}; choose one of {', '.join(known)}")
        phi = ACTIVATIONS[phi]
    if not isinstance(phi, Activation):
        raise ValueError(f"phi must be the name of an activation, or an Activation(name, phi, slope), got {phi!r}")
    check(phi)
    return phi


@functools.cache
def check_pull(phi: RateFunction) -> None:
    """Compares the pull-back with autograd's, at random voltages, in float64.

    Raises ValueError where they differ.
    """
    g = generator(0, "rate function")
    n = 6 * getattr(phi, "groups", 1)
    u = 2 * torch.randn(4, n * len(phi.compartments), generator=g, dtype=torch.float64)
    received = torch.randn(4, n, generator=g, dtype=torch.float64)
    with torch.inference_mode(False), torch.enable_grad():
        u.requires_grad_()
        r, kept = phi.rate(u)
        if not isinstance(kept, tuple) or not all(isinstance(k, Tensor) for k in kept):
            raise ValueError(f"rate function {phi.name!r}: what it keeps must be a tuple of tensors, got {type(kept)}")
        if r.shape != received.shape:
            raise ValueError(
                f"rate function {phi.name!r}: voltages {list(u.shape)} of {len(phi.compartments)} compartments become "
                f"rates {list(r.shape)}, expected {list(received.shape)}"
            )
        found = phi.pull(tuple(k.detach() for k in kept), r.detach(), received)
        if found.shape != u.shape:
            raise ValueError(f"rate function {phi.name!r}: errors {list(found.shape)} for voltages {list(u.shape)}")
        (expected,) = torch.autograd.grad(r, u, received)
    off = (found - expected).abs()
    if not bool((off <= 1e-9 + 1e-9 * expected.abs()).all()):
        raise ValueError(
            f"rate function {phi.name!r}: the error comes back as {found.flatten()[off.argmax()].item():.4g}, where "
            f"autograd finds {expected.flatten()[off.argmax()].item():.4g}: correct `pull`"
        )


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
