"""Layers and networks: the ladder of representation and error neurons (Fig. 4).

A `Layer` holds the parameters of one layer, or of `depth` equal layers in series. That depth is the first axis of
every tensor of the layer, and equal layers then share one batched product: in the delayed scheme all layers
of a step are independent of each other. Behind it come the ensemble axes, which number the members of an ensemble:

    W [depth, *ensemble, out, in]    b, tau_m, tau_r [depth, *ensemble, out]    u, v, r, e [depth, *ensemble, batch,
    out]

`Network` wires layers together. It holds no state: states and parameters are passed to its functions as tuples with
one entry per `Layer`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from gle.neurons import Activation, activation
from gle.seeding import generator
from gle.showing import spread
from gle.synapses import Synapse
from gle.synapses import synapse as synapse_called


class Theta(NamedTuple):
    """Parameters of a layer (Postulate 4), or their gradients: descent goes along −gradient.

    None stands for what is absent: among gradients anything that does not learn, among parameters b and B alone.
    """

    W: Any = None
    b: Any = None
    tau_m: Any = None
    tau_r: Any = None
    B: Any = None  # feedback weights, where the feedback pathway has its own


class LayerState(NamedTuple):
    """What a layer carries from step to step. Each [depth, *ensemble, batch, n_out], `sent` [depth, *ensemble, batch,
    n_in]."""

    u: Tensor  # membrane potential of the representation neurons
    v: Tensor  # membrane potential of the error neurons
    r: Tensor  # their outputs: rate r = φ(D⁺_τr{u}) …
    e: Tensor  # … and error e = D⁺_τm{v}
    # the current Wᵀ e that e sends down. With delayed propagation it arrives a step later, when W has changed already:
    # what arrives must not hold the change that e itself made. Zeros where nobody receives it: below the first layer,
    # and with instant propagation, where it arrives within the step
    sent: Tensor


class Local(NamedTuple):
    """What is present at a layer's synapses and neurons during a step: all that plasticity may use (Eqs. 21–24)."""

    pre: Tensor  # r of the layer below, as the synapses see it
    current: Tensor  # W r + b (+ γ e), which drives u
    u: Tensor  # before the step
    e_inst: Tensor  # φ′ ∘ Wᵀ e of the layer above, which drives v
    e: Tensor


State = tuple[LayerState, ...]
Thetas = tuple[Theta, ...]
Seeds = int | Sequence[int] | Tensor | np.ndarray
N = TypeVar("N", bound=tuple)


def changed(item: N, **fields: Any) -> N:
    """A NamedTuple with some fields exchanged. In compiled code in place of `_replace`, which the compiler of PyTorch
    2.11 turns into an empty tuple, without a word."""
    return type(item)(**{**item._asdict(), **fields})  # type: ignore[attr-defined]


TIME_CONSTANTS = ("tau_m", "tau_r")
ERRORS = ("prospective", "instantaneous")


def _positive(name: str, tau: Tensor) -> None:
    bad = tau[~((tau > 0) & tau.isfinite())]
    if bad.numel():
        what = "finite" if bad[0] > 0 else "positive"
        raise ValueError(f"{name} must be {what}, got {bad[0].item():g}")


class Layer(nn.Module):
    """`depth` equal layers of `n_out` neurons in series, each with its afferent synapses.

    tau_m, tau_r: a number, or one value per neuron (anything that broadcasts to [depth, *ensemble, n_out]), in the time
    unit of dt. phi: a name from `neurons.ACTIVATIONS`, or an `Activation`. plastic: False freezes the layer;
    `requires_grad_(False)` freezes W and b, both or the one that it is called on (see `learned`). ensemble: the
    ensemble axes in front. errors: "prospective" error neurons undo the filter of their representation neuron (Eq. 7);
    "instantaneous" ones leave time alone, e = e_inst, as backprop at every instant does (§2.5), and what they leave out
    can be left to the synapses (`Plasticity.traces`). Weights and biases start uniform in ± 1/√fan-in (see
    `Network.initialize`).

    Raises ValueError for sizes below one, depth > 1 with n_in ≠ n_out, unknown names, and time constants that are not
    positive or have the wrong shape.
    """

    W: nn.Parameter
    tau_m: nn.Parameter
    tau_r: nn.Parameter

    def __init__(
        self,
        n_in: int,
        n_out: int,
        *,
        tau_m: float | Sequence[float] | Tensor,
        tau_r: float | Sequence[float] | Tensor,
        phi: str | Activation = "tanh",
        depth: int = 1,
        bias: bool = True,
        plastic: bool = True,
        errors: str = "prospective",
        synapse: str | Synapse = "linear",
        ensemble: int | tuple[int, ...] = (),
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ):
        super().__init__()
        ensemble = (ensemble,) if isinstance(ensemble, int) else tuple(ensemble)
        if min(n_in, n_out, depth, *ensemble, 1) < 1:
            raise ValueError(f"sizes must be at least 1, got n_in={n_in}, n_out={n_out}, depth={depth}, {ensemble=}")
        if depth > 1 and n_in != n_out:
            raise ValueError(f"{depth} layers in series need n_in = n_out, got {n_in} and {n_out}")
        if errors not in ERRORS:
            raise ValueError(f"unknown errors {errors!r}; choose {' or '.join(ERRORS)}")
        self.errors = errors
        self.n_in, self.n_out, self.depth, self.ensemble, self.plastic = n_in, n_out, depth, ensemble, plastic
        self.phi = activation(phi)
        self.synapse = synapse_called(synapse)

        axes = (depth, *self.ensemble)
        shape_W, shape_b = self.synapse.shapes(n_in, n_out)
        self.W = nn.Parameter(torch.zeros(*axes, *shape_W, dtype=dtype, device=device))
        self.b = nn.Parameter(torch.zeros(*axes, *shape_b, dtype=dtype, device=device)) if bias else None
        for name, value in (("tau_m", tau_m), ("tau_r", tau_r)):
            tau = torch.as_tensor(value, dtype=dtype, device=device)
            _positive(name, tau)
            try:
                tau = tau.expand(*axes, n_out).clone()
            except RuntimeError:
                raise ValueError(
                    f"{name} of shape {tuple(tau.shape)} does not fit {n_out} neurons: give a number or {n_out} values"
                ) from None
            setattr(self, name, nn.Parameter(tau, requires_grad=False))
        B = self.synapse.feedback.allocate(self.W.detach())
        self.register_buffer("B", B)

    def learned(self, kinds: Sequence[str]) -> tuple[str, ...]:
        """Which of these kinds of parameters learn here: of a plastic layer, those that it has, W and b where they
        require a gradient. Time constants, which PyTorch is told not to follow, learn wherever they are named."""
        if not self.plastic:
            return ()
        own = ((kind, getattr(self, kind)) for kind in kinds)
        return tuple(k for k, p in own if p is not None and (k in TIME_CONSTANTS or p.requires_grad))

    def theta(self) -> Theta:
        """The layer's parameters themselves (no copies)."""
        return Theta(self.W, self.b, self.tau_m, self.tau_r, self.B)

    def extra_repr(self) -> str:
        parts = [f"{self.n_in} → {self.n_out}", f"tau_m={spread(self.tau_m)}", f"tau_r={spread(self.tau_r)}"]
        parts += [f"phi={self.phi.name}", f"errors={self.errors}"]
        parts += [f"depth={self.depth}"] if self.depth > 1 else []
        parts += [f"ensemble={self.ensemble}"] if self.ensemble else []
        parts += [] if self.plastic else ["plastic=False"]
        return ", ".join(parts)


class Network(nn.Module):
    """Layers in a chain, from the input up.

    ensemble axes, dtype and device must agree between layers, and each layer must fit the one below; ValueError
    otherwise.
    """

    layers: Sequence[Layer]

    def __init__(self, layers: Sequence[Layer], seed: Seeds = 0):
        super().__init__()
        if not layers:
            raise ValueError("a network needs at least one layer")
        if len({id(layer) for layer in layers}) < len(layers):
            raise ValueError("a layer appears twice: make one Layer for each, or one with depth > 1")
        for i, (below, above) in enumerate(pairwise(layers), start=1):
            if below.n_out != above.n_in:
                raise ValueError(f"layer {i} takes {above.n_in} inputs, but the layer below has {below.n_out} neurons")
            if below.ensemble != above.ensemble:
                raise ValueError(f"layer {i} has ensemble axes {above.ensemble}, the layer below {below.ensemble}")
            if below.W.dtype != above.W.dtype or below.W.device != above.W.device:
                raise ValueError(f"layer {i} differs in dtype or device from the layer below")
        self.layers = nn.ModuleList(layers)  # type: ignore[assignment]
        self.initialize(seed)

    @property
    def ensemble(self) -> tuple[int, ...]:
        return self.layers[0].ensemble

    @property
    def n_in(self) -> int:
        return self.layers[0].n_in

    @property
    def n_out(self) -> int:
        return self.layers[-1].n_out

    @property
    def dtype(self) -> torch.dtype:
        return self.layers[0].W.dtype

    @property
    def device(self) -> torch.device:
        return self.layers[0].W.device

    @property
    def depth(self) -> int:
        """Number of layers ℓ = 0 … depth − 1, those in series counted one by one."""
        return sum(layer.depth for layer in self.layers)

    def places(self) -> Iterator[tuple[int, int]]:
        """(index of the `Layer`, index within its depth) of each layer ℓ, from the input up."""
        for i, layer in enumerate(self.layers):
            for d in range(layer.depth):
                yield i, d

    def n_parameters(self) -> int:
        """Weights and biases of one ensemble member that learn."""
        members = math.prod(self.ensemble)
        return sum(getattr(layer, k).numel() for layer in self.layers for k in layer.learned(("W", "b"))) // members

    # -- parameters ------------------------------------------------------------------------------------------------

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
                for layer in self.layers:
                    bound = layer.synapse.initial_bound(layer.n_in)
                    for field in fields:
                        tensor = getattr(layer, field)
                        if tensor is None:
                            continue
                        flat = tensor.view(layer.depth, members, *tensor.shape[1 + len(self.ensemble) :])
                        draw = torch.rand(flat[:, member].shape, generator=g, dtype=torch.float64)
                        flat[:, member] = ((2 * draw - 1) * bound).to(tensor)

    def theta(self) -> Thetas:
        """The parameters as the tuple that the pure functions take (no copies)."""
        return tuple(layer.theta() for layer in self.layers)

    @torch.no_grad()
    def load_theta(self, theta: Thetas) -> None:
        """Copies parameters into the modules. Raises ValueError, before it copies any, for other shapes."""
        if len(theta) != len(self.layers):
            raise ValueError(f"parameters of {len(theta)} layers do not fit a network of {len(self.layers)}")
        for i, (own, new) in enumerate(zip(self.theta(), theta, strict=True)):
            here, there = ([None if t is None else tuple(t.shape) for t in p[:-1]] for p in (own, new))
            if here != there:  # but for B: a feedback pathway keeps its own
                raise ValueError(f"parameters (W, b, tau_m, tau_r) of shapes {there} do not fit layers.{i} with {here}")
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

    # -- state -----------------------------------------------------------------------------------------------------

    def initial_state(self, batch: int) -> State:
        """At rest: u = v = e = 0, nothing sent, and r = φ(0)."""
        states = []
        for layer in self.layers:
            zero = layer.W.new_zeros(layer.depth, *self.ensemble, batch, layer.n_out)
            # clones: a step compiled for arguments that are one tensor would be compiled again for four
            sent = layer.W.new_zeros(layer.depth, *self.ensemble, batch, layer.n_in)
            states.append(LayerState(*(t.clone() for t in (zero, zero, layer.phi.phi(zero), zero, sent))))
        return tuple(states)

    # -- wiring: one evaluation of the ladder -------------------------------------------------------------------

    def presynaptic(self, x: Tensor, rates: Sequence[Tensor]) -> list[Tensor]:
        """For each layer the rates r_{ℓ−1} that its synapses see; x: [*ensemble, batch, in]."""
        below = x.unsqueeze(0)
        pre = []
        for r in rates:
            pre.append(torch.cat([below, r[:-1]]) if len(r) > 1 else below)
            below = r[-1:]
        return pre

    def instantaneous_errors(self, rates: Sequence[Tensor], sent: Sequence[Tensor], nudge: Tensor) -> list[Tensor]:
        """e_inst of each layer (Eqs. 17, 18): φ′ ∘ the Wᵀ e that the layer above sent, at the top φ′ ∘ nudge
        (−β ∂C/∂r)."""
        above = nudge.unsqueeze(0)
        inst = []
        for layer, r, s in zip(reversed(self.layers), reversed(rates), reversed(sent), strict=True):
            received = torch.cat([s[1:], above]) if layer.depth > 1 else above
            inst.append(layer.phi.slope(r) * received)
            above = s[:1]
        return inst[::-1]

    def sent(self, i: int, p: Theta, e: Tensor) -> Tensor:
        """Wᵀ e, what `Layer` i sends down (Eq. 17); zeros where nobody listens, below the first layer."""
        layer = self.layers[i]
        if i == 0 and layer.depth == 1:
            return e.new_zeros(*e.shape[:-1], layer.n_in)
        return layer.synapse.backproject(p.W, p.B, e)
