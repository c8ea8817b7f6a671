"""What every network is to those who run it: parts that hold parameters, and one evaluation of them all.

    outputs, local = net.evaluate(theta, state, x, target, dynamics, propagation)

`Network` is a chain of layers, `Graph` any wiring. Both hold no state. Their parameters are a tuple with one `Theta`
for each of the parts, their state a tuple with one `LayerState` for each of the parts that are neurons; these come
first among the parts.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from gle.dynamics import Dynamics
from gle.seeding import generator
from gle.state import Local, State, Theta, Thetas

TIME_CONSTANTS = ("tau_m", "tau_r")
Key = int | str  # of a layer ℓ, or of a part of a graph
Seeds = int | Sequence[int] | Tensor | np.ndarray


class Output(NamedTuple):
    """What one part's neurons give in an evaluation; see `LayerState`."""

    r: Tensor
    sent: Any
    kept: tuple


class Part(nn.Module):
    """Holds parameters: W, b, tau_m, tau_r, B, each [depth, *ensemble, …], or None where it has none."""

    W: nn.Parameter | None
    b: nn.Parameter | None
    tau_m: nn.Parameter | None
    tau_r: nn.Parameter | None
    B: Tensor | None
    synapse: Any  # of W; None without
    plastic: bool
    depth: int
    ensemble: tuple[int, ...]

    def learned(self, kinds: Sequence[str]) -> tuple[str, ...]:
        """Which of these kinds of parameters learn here: of a plastic part, those that it has, W and b where they
        require a gradient. Time constants, which PyTorch is told not to follow, learn wherever they are named."""
        if not self.plastic:
            return ()
        own = ((kind, getattr(self, kind)) for kind in kinds)
        return tuple(k for k, p in own if p is not None and (k in TIME_CONSTANTS or p.requires_grad))

    def moved(self, kinds: Sequence[str]) -> tuple[str, ...]:
        """The same, and B where the feedback learns: as W does, or from noise where B is named, too."""
        named, kinds = kinds, self.learned(kinds)
        follows = None if self.synapse is None or self.B is None or not self.plastic else self.synapse.feedback.follows
        return (*kinds, "B") if (follows == "W" and "W" in kinds) or (follows == "noise" and "B" in named) else kinds

    def theta(self) -> Theta:
        """The part's parameters themselves (no copies)."""
        return Theta(self.W, self.b, self.tau_m, self.tau_r, self.B)

    def initial_bound(self) -> float:
        """Weights and biases start uniform between ± this."""
        raise NotImplementedError


def time_constant(name: str, value: Any, shape: tuple[int, ...], where: dict[str, Any]) -> nn.Parameter:
    """A number, or anything that broadcasts to `shape`, which ends with the neurons. Raises ValueError for values that
    are not positive and finite, and for other shapes."""
    tau = torch.as_tensor(value, **where)
    bad = tau[~((tau > 0) & tau.isfinite())]
    if bad.numel():
        what = "finite" if bad[0] > 0 else "positive"
        raise ValueError(f"{name} must be {what}, got {bad[0].item():g}")
    try:
        tau = tau.expand(*shape).clone()
    except RuntimeError:
        raise ValueError(
            f"{name} of shape {tuple(tau.shape)} does not fit {shape[-1]} neurons: give a number or {shape[-1]} values"
        ) from None
    return nn.Parameter(tau, requires_grad=False)


class Wiring(nn.Module):
    """What `Network` and `Graph` have in common."""

    @property
    def ensemble(self) -> tuple[int, ...]:
        raise NotImplementedError

    @property
    def n_in(self) -> int:
        raise NotImplementedError

    @property
    def n_out(self) -> int:
        raise NotImplementedError

    @property
    def top(self) -> int:
        """Where the output's neurons stand among the parts."""
        raise NotImplementedError

    @property
    def dtype(self) -> torch.dtype:
        return self.neurons[0].tau_m.dtype

    @property
    def device(self) -> torch.device:
        return self.neurons[0].tau_m.device

    @property
    def parts(self) -> Sequence[Part]:
        """All that hold parameters, neurons first."""
        raise NotImplementedError

    @property
    def neurons(self) -> Sequence[Any]:
        """The parts that have a state."""
        raise NotImplementedError

    def part_name(self, i: int) -> str:
        raise NotImplementedError

    @property
    def described(self) -> list[str]:
        """What a saved state's tensors belong to, where their shapes do not say it."""
        return []

    def place_name(self, i: int, d: int) -> str:
        """Of the neurons at index d of a part's depth, in messages."""
        raise NotImplementedError

    def check_integrator(self, nodes: tuple[float, ...]) -> None:
        """Raises ValueError where an integrator that looks at these instants of a step cannot run it."""

    def initial_state(self, batch: int) -> State:
        """At rest: u = v = e = 0, nothing sent, and r = φ(0)."""
        raise NotImplementedError

    def evaluate(
        self, theta: Thetas, state: State, x: Tensor, target: Tensor | None, dynamics: Dynamics, propagation: str
    ) -> tuple[list[Output], list[Local]]:
        """Rates, errors and what they are made of, at one instant, given u and v. x: [*ensemble, batch, n_in].

        "instant": rates upwards, then errors downwards. With γ ≠ 0 the two are circular (e changes u̇, u̇ changes r, r
        changes e): the soma then sees `state.e`, the error of the previous evaluation, which lowers the order of every
        integrator to one in γ. "delayed": all see what the others sent in the step before, and the soma the new error
        of its own neuron.
        """
        raise NotImplementedError

    @property
    def depth(self) -> int:
        """Number of layers ℓ = 0 … depth − 1, those in series counted one by one; of a graph, of its populations."""
        return sum(part.depth for part in self.neurons)

    def places(self) -> Iterator[tuple[int, int]]:
        """(index of the part, index within its depth) of each layer ℓ, from the input up."""
        for i, part in enumerate(self.neurons):
            for d in range(part.depth):
                yield i, d

    def keyed(self, what: str) -> dict[Key, tuple[int, int]]:
        """Where each layer ℓ has its `what`, a field of its state or a kind of parameter; of a graph by the names of
        populations or projections."""
        return dict(enumerate(self.places()))

    @property
    def has(self) -> str:
        """What there is, in messages."""
        return f"the network has {self.depth}"

    def output(self, state: State) -> Tensor:
        """r of the output, [*ensemble, batch, n_out]."""
        return state[self.top].r[-1]

    def n_parameters(self) -> int:
        """Weights and biases of one ensemble member that learn."""
        members = math.prod(self.ensemble)
        return sum(getattr(part, k).numel() for part in self.parts for k in part.learned(("W", "b"))) // members

    # -- parameters ------------------------------------------------------------------------------------------------

    def drawn(self) -> Sequence[Part]:
        """The parts in the order in which their weights and biases are drawn."""
        return self.parts

    @torch.no_grad()
    def initialize(self, seed: Seeds) -> None:
        """Draws weights and biases (Table 1: uniform in ± 1/√fan-in) and fixed feedback weights.

        seed: one per ensemble member, in the order of the flattened ensemble axes; a single one s means
        s, s + 1, … Member i is then exactly the network that its seed gives alone. Raises ValueError for another number
        of seeds, and for seeds that are no whole numbers.
        """
        members = math.prod(self.ensemble)
        given = np.asarray(seed.tolist() if isinstance(seed, Tensor) else seed, dtype=object)
        try:
            seeds = [operator.index(s) for s in given.flat]
        except TypeError:
            raise ValueError(f"seeds must be whole numbers, got {seed}") from None
        if given.ndim == 0:
            seeds = [seeds[0] + i for i in range(members)]
        if len(seeds) != members:
            raise ValueError(f"{len(seeds)} seeds for an ensemble of {members}: give one per member")
        for name, fields in (("weights", ("W", "b")), ("feedback", ("B",))):
            for member, s in enumerate(seeds):
                g = generator(s, name)
                for part in self.drawn():
                    for field in fields:
                        tensor = getattr(part, field)
                        if tensor is None:
                            continue
                        bound = part.initial_bound()
                        flat = tensor.view(part.depth, members, *tensor.shape[1 + len(self.ensemble) :])
                        draw = torch.rand(flat[:, member].shape, generator=g, dtype=torch.float64)
                        flat[:, member] = ((2 * draw - 1) * bound).to(tensor)

    def theta(self) -> Thetas:
        """The parameters as the tuple that the pure functions take (no copies)."""
        return tuple(part.theta() for part in self.parts)

    @torch.no_grad()
    def load_theta(self, theta: Thetas) -> None:
        """Copies parameters into the modules. Raises ValueError, before it copies any, for other shapes."""
        if len(theta) != len(self.parts):
            raise ValueError(f"parameters of {len(theta)} layers do not fit a network of {len(self.parts)}")
        for i, (own, new) in enumerate(zip(self.theta(), theta, strict=True)):
            here, there = ([None if t is None else tuple(t.shape) for t in p[:-1]] for p in (own, new))
            if here != there:  # but for B: a feedback pathway keeps its own
                raise ValueError(
                    f"parameters (W, b, tau_m, tau_r) of shapes {there} do not fit {self.part_name(i)} with {here}"
                )
        for own, new in zip(self.theta(), theta, strict=True):
            for p, q in zip(own, new, strict=True):
                if p is not None and q is not None and p is not q:
                    with torch.inference_mode(p.is_inference()), torch.no_grad():  # those change in no other mode
                        p.copy_(q)

    def assign_grads(self, grads: Thetas) -> None:
        """Puts gradients into `.grad`, for any optimiser of torch.optim."""
        for own, grad in zip(self.theta(), grads, strict=True):
            for p, g in zip(own, grad, strict=True):
                if p is not None and g is not None:
                    p.grad = g.to(p)
