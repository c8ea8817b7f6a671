"""Modules of representation and error neurons: L and H as `gle.Graph`s, which learn by local errors.

    populations     in ── mix ── mixed ── mlp ── out ── … ── z
    rates           z ← z + (dt/τ) (blocks(z + injection) − z),  the blocks of `hrm.layers`, population by population
    errors          back through the same projections, by the neurons' own way back through φ (see `gle.neurons`)

A gated unit is a neuron with two compartments, a norm is pooled over the features of a position, synapses between
positions are `Positions`, those over features `Tokens`. Nothing is stored but what is present in a step, and autograd
is not asked. Time is in small steps: dt = 1. How the errors of L and H meet is the business of `hrm.credit`.

This is the only file of the package that imports gle.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import gle
from gle import plasticity
from gle.dynamics import Dynamics, per_neuron
from gle.graph import Up
from gle.integrators import Euler
from gle.neurons import RateFunction, RMSNorm, Softmax
from gle.operators import low_pass
from gle.state import LayerState, State, Thetas, changed
from gle.synapses import Conv2d, Feedback, Identity, Positions, Synapse, Tokens
from gle.wiring import Output
from hrm.credit import Gradient
from hrm.layers import EPS, Attention, Block, Convolution, SwiGLU, TokenMixer, rotate, rotations
from hrm.model import Blocks, Config

IN, Z = "in", "z"


class Received:
    """The nudge of a module's output: what it is handed is the error itself, −∂E/∂z."""

    def value(self, r: Tensor, target: Tensor) -> Tensor:
        return -(r * target).sum(-1)

    def error(self, r: Tensor, target: Tensor) -> Tensor:
        return target


class GraphCarry(NamedTuple):
    z: Tensor  # [batch, length, d]
    u: tuple[Tensor, ...] = ()  # of the populations inside that have a memory, [batch, n]


class Activity(NamedTuple):
    """What is present in a step, and nothing of the steps before it."""

    state: State  # before the step
    up: Up


def _check_graph(net: gle.Graph) -> None:
    """Raises ValueError where a module's step would not be the graph's own."""
    given = [part.given for part in net.projections]
    first = [g for g in given if g.source == "input"]
    if [(g.target, type(part.synapse)) for g, part in zip(given, net.projections, strict=True) if g in first] != [
        (IN, Identity)
    ]:
        raise ValueError(f"the input of a module's graph is joined to {IN!r} by an identity, and to nothing else")
    if slow := [str(g) for g in given if g.delay or g.epsilon != 1 or g.gain_control]:
        raise ValueError(
            f"{slow[0]}: what goes round in a module goes through z; leave out delay, epsilon and gain_control"
        )
    if net.ensemble:
        raise ValueError("a module's graph has no ensemble: make a model for each member")
    for name in (IN, net.names[net.top]):
        if net[name].phi.name != "linear" or net[name].b is not None:
            raise ValueError(f"population {name!r} of a module's graph is linear, without bias")
    top, inlet = net.populations[net.top].theta(), net[IN].theta()
    if not bool((top.tau_r == 1).all()) or not torch.equal(inlet.tau_m, inlet.tau_r):
        raise ValueError(f"tau_r of {net.names[net.top]!r} is one step, and {IN!r} has tau_m = tau_r")


class GraphModule(nn.Module):
    """A `gle.Graph` as L or H (see `hrm.model.Module`): its input is z + injection, flattened, its output z.

    net: its population "in" receives the input, its output has length · d neurons; time constants in small steps.
    z0: where z begins, [d] or [length, d].

    Raises ValueError for a graph without such a population, of other sizes, or with anything else that a module's step
    does not go through: delayed projections, an ensemble, an output that is not linear.
    """

    z0: Tensor

    def __init__(self, net: gle.Graph, length: int, z0: Tensor):
        super().__init__()
        n = length * z0.shape[-1]
        if IN not in net.names or (net.n_in, net.n_out) != (n, n):
            raise ValueError(
                f"a module's graph has a population {IN!r} and {n} inputs and outputs, length · d; this one has "
                f"{', '.join(net.names)}, {net.n_in} inputs and {net.n_out} outputs"
            )
        _check_graph(net)
        self.net, self.shape = net, (length, z0.shape[-1])
        self.columns: int | None = None  # of the grid, where positions have places in it
        self.register_buffer("z0", z0.detach().clone())
        self.scheme, self.dynamics = Euler("instant"), Dynamics(1.0, 1.0, 0.0, Received())
        # Whose state matters: with τm = τr a neuron is its input, and so is its error neuron, unless it is of a kind
        # with a memory of its own.
        kinds = (gle.errors.Prospective, gle.errors.Instantaneous)
        slow = [not torch.equal(part.theta().tau_m, part.theta().tau_r) for part in net.populations]
        self.kept = [i for i, s in enumerate(slow) if s and i != net.top]
        self.recalled = [
            i for i, (part, s) in enumerate(zip(net.populations, slow, strict=True))
            if type(part.errors) not in kinds or (s and not isinstance(part.errors, gle.errors.Instantaneous))
        ]  # fmt: skip

        memory = {net.top, *self.kept, *self.recalled}
        self.still = [i for i in range(len(net.populations)) if i not in memory]

    @property
    def followed(self) -> list[tuple[Tensor, Tensor]]:
        """Weights, and the feedback weights that take their steps."""
        parts = (part for part in self.net.projections if part.synapse.feedback.follows == "W")
        return [(part.W, part.B) for part in parts if part.W is not None and part.B is not None]

    # -- the face of a module --------------------------------------------------------------------------------------

    def initial(self, batch: int) -> GraphCarry:
        sizes = (self.net.populations[i].potentials for i in self.kept)
        return GraphCarry(self.z0.expand(batch, *self.shape), tuple(self.z0.new_zeros(batch, n) for n in sizes))

    def begin(self, z: Tensor) -> GraphCarry:
        return self.initial(len(z))._replace(z=z)

    def forward(self, carry: GraphCarry, injection: Tensor) -> GraphCarry:
        return self.act(carry, injection)[0]

    def read(self, carry: GraphCarry) -> Tensor:
        return carry.z

    # -- and its local errors ----------------------------------------------------------------------------------------

    def act(self, carry: GraphCarry, injection: Tensor) -> tuple[GraphCarry, Activity]:
        """A step, and what is present in it."""
        net, theta = self.net, self._theta()
        state = self._state(carry)
        up = net.rates(theta, state, (carry.z + injection).flatten(1), self.dynamics)
        z = up.outputs[net.top][0][0].unflatten(-1, self.shape)
        u = (self._moved(i, state[i].u, up.currents[i])[0] for i in self.kept)
        return GraphCarry(z, tuple(u)), Activity(state, up)

    def errors_at_rest(self, batch: int) -> tuple[Tensor, ...]:
        """Of the error neurons that have a memory, v [batch, n]."""
        return tuple(self.z0.new_zeros(batch, self.net.populations[i].potentials) for i in self.recalled)

    def respond(
        self, activity: Activity, e: Tensor, v: tuple[Tensor, ...]
    ) -> tuple[Tensor, list[Gradient], tuple[Tensor, ...]]:
        """What the error −∂E/∂z that reaches z in this step, [batch, length, d], becomes at the input, where z and the
        injection are one sum; the gradients of E, averaged over the batch; and the error neurons' v after the step."""
        net, theta, (state, up) = self.net, self._theta(), activity
        before = list(state)
        for i, own in zip(self.recalled, v, strict=True):
            before[i] = changed(state[i], v=own.unsqueeze(0))
        seen = [changed(s, r=r, kept=kept) for s, (r, kept) in zip(before, up.outputs, strict=True)]
        gradients: list[Gradient] = []
        after: dict[int, Tensor] = {}
        back: list[Tensor] = []

        def each(i: int, inst: Any, error: Any) -> None:
            present = net.around(i, tuple(before), up, inst, error, self.dynamics)
            for j, local in present.items():
                part = net.parts[j]
                grad = plasticity.layer_gradients(part, theta[j], local, ("W", "b"), len(e))
                gradients.extend(
                    (p, g) for p, g in ((part.W, grad.W), (part.b, grad.b)) if p is not None and g is not None
                )
            if i in self.recalled:
                out = Output(up.outputs[i][0], (), up.outputs[i][1])
                moved = self.scheme.advance(net.populations[i], theta[i], present[i], before[i].v, out, self.dynamics)
                after[i] = moved.v[0]
            if net.names[i] == IN:
                back.append(error[0].unflatten(-1, self.shape))

        net.errors(theta, tuple(before), seen, e.flatten(1), self.dynamics, each=each)
        return back[0], gradients, tuple(after[i] for i in self.recalled)

    def _theta(self) -> Thetas:
        """The parameters, without the time constants of those that need none."""
        theta = self.net.theta()
        return tuple(changed(p, tau_m=None, tau_r=None) if i in self.still else p for i, p in enumerate(theta))

    def _moved(self, i: int, u: Tensor, current: Tensor) -> Tensor:
        """u of population i after the step."""
        part = self.net.populations[i]
        assert part.tau_m is not None
        return low_pass(u, current, per_neuron(self.scheme.fraction(self.dynamics.dt, part.tau_m)))

    def _state(self, carry: GraphCarry) -> State:
        """Before a step; those without a memory are at rest, one zero for all of them."""
        zero = self.z0.new_zeros(1, 1, 1)
        inner = self.net.sending
        state = [LayerState(zero, zero, zero, zero, (zero,) * len(sends)) for sends in inner]
        for i, u in zip((self.net.top, *self.kept), (carry.z.flatten(1), *carry.u), strict=True):
            state[i] = changed(state[i], u=u.unsqueeze(0))
        return tuple(state)


# -- attention, as neurons whose compartments see each other -----------------------------------------------------------


class Attending:
    """Neurons with three compartments, [positions · heads · size] each: at every position a head compares its query
    with the keys of all others, and takes of their values in proportion.

    Its way back through the softmax, the products and the rotations is written out here. It is pooled over the
    population and not synaptic: the error of a value needs what every position paid to it, that of a query all keys and
    values. What is learned, the weights of queries, keys, values and output, sees error times rate as any weight does.
    """

    name = "attention"
    compartments = ("query", "key", "value")
    pooled = True

    def __init__(self, positions: int, heads: int, rope_theta: float | None):
        self.positions, self.heads, self.rope_theta = positions, heads, rope_theta
        self.groups = positions * heads

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and vars(other) == vars(self)

    def __hash__(self) -> int:
        return hash((type(self), *vars(self).values()))

    def __repr__(self) -> str:
        return f"Attending(positions={self.positions}, heads={self.heads}, rope_theta={self.rope_theta})"

    def _heads(self, x: Tensor) -> Tensor:
        """[..., heads, positions, size]"""
        return x.unflatten(-1, (self.positions, self.heads, -1)).transpose(-2, -3)

    def _flat(self, x: Tensor) -> Tensor:
        return x.transpose(-2, -3).flatten(-3)

    def _turned(self, x: Tensor, back: bool = False) -> Tensor:
        if self.rope_theta is None:
            return x
        cos, sin = (t.to(x) for t in rotations(self.positions, x.shape[-1], self.rope_theta))
        return rotate(x, cos, -sin if back else sin)

    def rate(self, voltage: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        return self.rate_of(*voltage.chunk(3, -1))

    def rate_of(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        q, k, v = self._turned(self._heads(query)), self._turned(self._heads(key)), self._heads(value)
        p = torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), -1)
        return self._flat(p @ v), tuple(t.flatten(-3) for t in (q, k, v, p))

    def pull(self, kept: tuple[Tensor, ...], r: Tensor, received: Tensor) -> Tensor:
        return torch.cat(self.pull_to(kept, r, received), -1)

    def pull_to(self, kept: tuple[Tensor, ...], r: Tensor, received: Tensor) -> tuple[Tensor, ...]:
        q, k, v, p = (t.unflatten(-1, (self.heads, self.positions, -1)) for t in kept)
        g = self._heads(received)
        to_p = g @ v.mT
        to_score = Softmax().pull((), p, to_p) / math.sqrt(q.shape[-1])
        back = self._turned(to_score @ k, True), self._turned(to_score.mT @ q, True), p.mT @ g
        return tuple(self._flat(t) for t in back)


# -- the blocks of hrm.layers, population by population ---------------------------------------------------------------

STILL: dict[str, Any] = {"tau_m": 1.0, "tau_r": 1.0, "errors": "instantaneous", "bias": False}


class _Wired:
    """Populations and projections as they are joined, and the weights that each begins with."""

    def __init__(self, length: int, feedback: str | Feedback, inner: dict[str, Any]):
        self.length, self.feedback, self.inner = length, feedback, inner
        self.populations: dict[str, gle.Population] = {}
        self.projections: list[gle.Projection] = []
        self.weights: dict[str, Tensor] = {}

    def add(self, name: str, size: int, phi: str | RateFunction = "linear", **changes: Any) -> str:
        self.populations[name] = gle.Population(size, phi=phi, **{**STILL, **changes})
        return name

    def join(
        self, source: str, target: str, synapse: Synapse, W: Tensor | None = None, compartment: str | None = None
    ) -> None:
        projection = gle.Projection(source, target, compartment, synapse)
        self.projections.append(projection)
        if W is not None:
            self.weights[str(projection)] = W.detach()

    def gated(self, source: str, name: str, mlp: SwiGLU, positions: bool, d: int) -> tuple[str, Synapse, Tensor]:
        """A SwiGLU over positions or features: its hidden neurons, and what leads on from them."""
        gate, up = mlp.gate_up.weight.chunk(2)
        size = len(up) * (d if positions else self.length)

        def synapse(n: int) -> Synapse:
            return Positions(n, self.feedback) if positions else Tokens(self.length, self.feedback)

        self.add(name, size, "gated", **(self._mixed_speeds(2 * size) if positions else {}))
        self.join(source, name, synapse(self.length), up, "up")
        self.join(source, name, synapse(self.length), gate, "gate")
        return name, synapse(len(up)), mlp.down.weight

    def _mixed_speeds(self, n: int) -> dict[str, Any]:
        """Every other neuron with dynamics of its own."""
        if self.inner["tau"] == 1:
            return {}
        tau_m = torch.ones(n)
        tau_m[::2] = self.inner["tau"]
        own = gle.errors.Relaxing(tau_m) if self.inner["errors"] == "relaxing" else self.inner["errors"]
        return {"tau_m": tau_m, "errors": own}


def graph_of(
    blocks: Blocks, c: Config, tau: float, *, errors: str, inner_tau: float, inner_errors: str,
    feedback: str | Feedback, seed: int,
) -> gle.Graph:  # fmt: skip
    """A stack of blocks as a graph, with their weights. tau: of z; errors: z's error neurons; inner_tau, inner_errors:
    of every other neuron that mixes positions. seed: of feedback weights."""
    n, norm = c.states * c.d, RMSNorm(c.states, eps=EPS)
    wired = _Wired(c.states, feedback, {"tau": inner_tau, "errors": inner_errors})
    below = wired.add(IN, n)
    wired.join("input", IN, Identity())
    for k, block in enumerate(blocks.blocks):
        assert isinstance(block, Block)
        mixed, out = f"mixed{k}", f"out{k}"
        mixer = block.mixer
        synapse: Synapse
        if isinstance(mixer, TokenMixer):
            source, synapse, W = wired.gated(below, f"mix{k}", mixer.mlp, True, c.d)
        elif isinstance(mixer, Convolution):
            size = (c.states // c.columns, c.columns)
            synapse = Conv2d((c.d, c.d), size, 3, padding=1, channels_last=True, feedback=feedback)
            source, W = below, mixer.weight
            # two kinds of synapse between the same populations: the identity takes one in between
            source = wired.add(f"seen{k}", n)
            wired.join(below, source, Identity())
        elif isinstance(mixer, Attention):
            phi = Attending(c.states, mixer.heads, c.rope_theta if mixer.rotary else None)
            source = wired.add(f"mix{k}", n, phi)
            for compartment, W in zip(phi.compartments, mixer.qkv.weight.chunk(3), strict=True):
                wired.join(below, source, Tokens(c.states, feedback), W, compartment)
            synapse, W = Tokens(c.states, feedback), mixer.out.weight
        else:
            raise ValueError(f"there are no neurons for {type(mixer).__name__}")
        wired.add(mixed, n, norm)
        wired.join(source, mixed, synapse, W)
        wired.join(below, mixed, Identity())
        source, synapse, W = wired.gated(mixed, f"mlp{k}", block.mlp, False, c.d)
        wired.add(out, n, norm)
        wired.join(source, out, synapse, W)
        wired.join(mixed, out, Identity())
        below = out
    # errors relax as slowly as z does, or a map that contracts thanks to its leak alone would not let them settle
    own = gle.errors.Relaxing(tau) if errors == "relaxing" else errors
    wired.add(Z, n, errors=own, tau_m=tau)
    wired.join(below, Z, Identity())
    first = next(iter(wired.weights.values()))
    net = gle.Graph(n, wired.populations, wired.projections, dtype=first.dtype, device=first.device, seed=seed)
    with torch.no_grad():
        for name, W in wired.weights.items():
            net[name].W[0].copy_(W)
    return net


def module(blocks: Blocks, c: Config, which: str) -> GraphModule:
    """The blocks of L or H as a module of neurons, with their weights, as `Config` says."""
    tau = {"L": c.tau_L, "H": c.tau_H}[which] / c.damping  # a step of less, or a slower neuron: the same
    net = graph_of(
        blocks, c, tau, errors=c.errors, inner_tau=c.inner_tau, inner_errors=c.inner_errors, feedback=c.feedback,
        # of torch's seed, and without a draw: the heads begin as they do behind blocks
        seed=(2 * torch.initial_seed() + (which == "H")) % 2**31,
    )  # fmt: skip
    made = GraphModule(net, c.states, blocks.z0)
    made.columns = c.columns if c.mixer == "conv" else None
    return made
