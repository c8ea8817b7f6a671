"""Layers and networks: the ladder of representation and error neurons (Fig. 4).

A `Layer` holds the parameters of one layer, or of `depth` equal layers in series. That depth is the first axis of
every tensor of the layer, and equal layers then share one batched product: in the delayed scheme all layers
of a step are independent of each other. Behind it come the ensemble axes, which number the members of an ensemble:

    W [depth, *ensemble, out, in]    b, tau_m, tau_r [depth, *ensemble, out]    u, v, r, e [depth, *ensemble, batch,
    out]

`Network` wires layers together, in a chain (`gle.graph` has any other wiring).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor, nn

from gle.dynamics import Dynamics, disturbed, is_zero, nudge, per_member, per_neuron, rate
from gle.errors import ERRORS, ErrorNeuron, error_neuron
from gle.neurons import RateFunction, rate_function
from gle.showing import spread
from gle.state import LayerState, Local, State, Theta, Thetas, changed, mapped, select
from gle.synapses import Linear, Masked, Synapse
from gle.synapses import synapse as synapse_called
from gle.wiring import Output, Part, Seeds, Wiring, time_constant


class Layer(Part):
    """`depth` equal layers of `n_out` neurons in series, each with its afferent synapses.

    tau_m, tau_r: a number, or one value per neuron (anything that broadcasts to [depth, *ensemble, n_out]), in the time
    unit of dt. phi: a name from `neurons.ACTIVATIONS` or `neurons.RATE_FUNCTIONS`, or an object like theirs; neurons
    of several compartments have u, v, e, b and time constants in each, [..., compartments · n_out]. plastic: False
    freezes the layer; `requires_grad_(False)` freezes W and b, both or the one that it is called on (see `learned`).
    ensemble: the ensemble axes in front. errors: a name from `errors.ERRORS`, or an object like theirs. "prospective"
    error neurons undo the filter of their representation neuron (Eq. 7); "instantaneous" ones leave time alone,
    e = e_inst, as backprop at every instant does (§2.5), and what they leave out can be left to the synapses
    (`Plasticity.traces`). Weights and biases start uniform in ± 1/√fan-in (see `Network.initialize`).

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
        phi: str | RateFunction = "tanh",
        depth: int = 1,
        bias: bool = True,
        plastic: bool = True,
        errors: str | ErrorNeuron = "prospective",
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
        self.errors = error_neuron(errors)
        self.n_in, self.n_out, self.depth, self.ensemble, self.plastic = n_in, n_out, depth, ensemble, plastic
        self.phi = rate_function(phi)
        self.synapse = synapse_called(synapse)

        if len(self.phi.compartments) > 1 and type(self.synapse) not in (Linear, Masked):
            raise ValueError(
                f"{type(self.synapse).__name__} synapses do not tell the compartments of {self.phi.name} apart: give "
                "each a projection of its own, in a Graph"
            )
        axes = (depth, *self.ensemble)
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        shape_W, shape_b = self.synapse.shapes(n_in, self.potentials)
        if shape_W is None:
            raise ValueError(f"a layer needs weights, {self.synapse!r} has none: use it in a Graph")
        self.W = nn.Parameter(torch.zeros(*axes, *shape_W, **where))
        self.b = nn.Parameter(torch.zeros(*axes, *shape_b, **where)) if bias else None
        self.tau_m = time_constant("tau_m", tau_m, (*axes, self.potentials), where)
        self.tau_r = time_constant("tau_r", tau_r, (*axes, self.potentials), where)
        B = self.synapse.feedback.allocate(self.W.detach())
        self.register_buffer("B", B)
        fitting(self)

    @property
    def potentials(self) -> int:
        """How many u, v and e it has: n_out for each compartment."""
        return self.n_out * len(self.phi.compartments)

    def initial_bound(self) -> float:
        return self.synapse.initial_bound(self.n_in)

    def extra_repr(self) -> str:
        parts = [f"{self.n_in} → {self.n_out}", f"tau_m={spread(self.tau_m)}", f"tau_r={spread(self.tau_r)}"]
        named = next((name for name, kind in ERRORS.items() if type(self.errors) is kind), self.errors)
        parts += [f"phi={self.phi.name}", f"errors={named}"]
        parts += [f"depth={self.depth}"] if self.depth > 1 else []
        parts += [f"ensemble={self.ensemble}"] if self.ensemble else []
        parts += [] if self.plastic else ["plastic=False"]
        return ", ".join(parts)


class Network(Wiring):
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
    def parts(self) -> Sequence[Layer]:
        return self.layers

    @property
    def neurons(self) -> Sequence[Layer]:
        return self.layers

    @property
    def top(self) -> int:
        return len(self.layers) - 1

    def part_name(self, i: int) -> str:
        return f"layers.{i}"

    def place_name(self, i: int, d: int) -> str:
        return f"layer {list(self.places()).index((i, d))}"

    # -- state -----------------------------------------------------------------------------------------------------

    def initial_state(self, batch: int) -> State:
        states = []
        for layer in self.layers:
            zero = layer.W.new_zeros(layer.depth, *self.ensemble, batch, layer.potentials)
            sent = layer.W.new_zeros(layer.depth, *self.ensemble, batch, layer.n_in)
            states.append(at_rest(layer.phi, zero, sent))
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

    def _heard(self, x: Tensor, dynamics: Dynamics) -> Sequence[Tensor | None]:
        """For each layer the noise on the rates that its synapses see; the input has none of its own."""
        if dynamics.noise is None or dynamics.noise.rate is None:
            return [None] * len(self.layers)
        heard: list[Tensor | None] = [*self.presynaptic(torch.zeros_like(x), dynamics.noise.rate)]
        return [None if i == 0 and self.layers[i].depth == 1 else h for i, h in enumerate(heard)]

    def instantaneous_errors(self, state: State, nudge: Tensor) -> list[Tensor]:
        """e_inst of each layer (Eqs. 17, 18): φ′ ∘ the Wᵀ e that the layer above sent, at the top φ′ ∘ nudge
        (−β ∂C/∂r)."""
        above = nudge.unsqueeze(0)
        inst = []
        for layer, s in zip(reversed(self.layers), reversed(state), strict=True):
            received = torch.cat([s.sent[1:], above]) if layer.depth > 1 else above
            inst.append(layer.phi.pull(s.kept, s.r, received))
            above = s.sent[:1]
        return inst[::-1]

    def sent(self, i: int, p: Theta, e: Tensor) -> Tensor:
        """Wᵀ e, what `Layer` i sends down (Eq. 17); zeros where nobody listens, below the first layer."""
        layer = self.layers[i]
        if i == 0 and layer.depth == 1:
            return e.new_zeros(*e.shape[:-1], layer.n_in)
        return layer.synapse.backproject(p.W, p.B, e)

    def evaluate(
        self, theta: Thetas, state: State, x: Tensor, target: Tensor | None, dynamics: Dynamics, propagation: str
    ) -> tuple[list[Output], list[Local]]:
        if propagation == "instant":
            return self._cascade(theta, state, x, target, dynamics)
        return self._at_once(theta, state, x, target, dynamics)

    def _at_once(
        self, theta: Thetas, state: State, x: Tensor, target: Tensor | None, dynamics: Dynamics
    ) -> tuple[list[Output], list[Local]]:
        """Every layer sees what the others sent in the step before."""
        pre = self.presynaptic(x, [s.r for s in state])
        inst = self.instantaneous_errors(state, nudge(self.output(state), target, dynamics, self.ensemble))
        outputs, locals_ = [], []
        heard = self._heard(x, dynamics)
        for i, (layer, p, s, below, e_inst) in enumerate(zip(self.layers, theta, state, pre, inst, strict=True)):
            e = disturbed(error(layer, p, s.v, e_inst), dynamics, "error", i)
            current = disturbed(layer.synapse.current(p.W, p.b, below), dynamics, "current", i)
            if not is_zero(dynamics.gamma):
                current = current + per_member(dynamics.gamma, e) * e
            r, kept = rate(layer.phi, p, s.u, current)
            r = disturbed(r, dynamics, "rate", i)
            locals_.append(Local(below, current, s.u, e_inst, e, r, heard[i]))
            outputs.append(Output(r, self.sent(i, p, e), kept))
        return outputs, locals_

    def _cascade(
        self, theta: Thetas, state: State, x: Tensor, target: Tensor | None, dynamics: Dynamics
    ) -> tuple[list[Output], list[Local]]:
        """Rates bottom-up, then errors top-down."""
        places = list(self.places())
        parameters = [select(theta[i], d) for i, d in places]
        currents, rates, keeps = [], [], []
        below = x
        for (i, d), p in zip(places, parameters, strict=True):
            layer = self.layers[i]
            current = layer.synapse.current(p.W, p.b, below)
            if not is_zero(dynamics.gamma):
                current = current + per_member(dynamics.gamma, below) * state[i].e[d]
            current = disturbed(current, dynamics, "current", i, d)
            r, kept = rate(layer.phi, p, state[i].u[d], current)
            below = disturbed(r, dynamics, "rate", i, d)
            currents.append(current)
            rates.append(below)
            keeps.append(kept)

        inst: list[Tensor] = []
        errors: list[Tensor] = []
        above = nudge(below, target, dynamics, self.ensemble)
        for (i, d), p, r, kept in reversed(list(zip(places, parameters, rates, keeps, strict=True))):
            layer = self.layers[i]
            e_inst = layer.phi.pull(kept, r, above)
            e = disturbed(error(layer, p, state[i].v[d], e_inst), dynamics, "error", i, d)
            if (i, d) != (0, 0):
                above = layer.synapse.backproject(p.W, p.B, e)
            inst.insert(0, e_inst)
            errors.insert(0, e)
        ends = list(accumulate(layer.depth for layer in self.layers))
        spans = [slice(end - layer.depth, end) for end, layer in zip(ends, self.layers, strict=True)]
        stacked = [[torch.stack(field[span]) for span in spans] for field in (rates, currents, inst, errors)]
        kept_by_layer = [tuple(map(torch.stack, zip(*keeps[span], strict=True))) for span in spans]
        outputs = [Output(r, s.sent, k) for r, s, k in zip(stacked[0], state, kept_by_layer, strict=True)]
        seen = self.presynaptic(x, stacked[0]), stacked[1], [s.u for s in state], *stacked[2:]
        fields = zip(*seen, stacked[0], self._heard(x, dynamics), strict=True)
        return outputs, [Local(*field) for field in fields]


def dense(net: Wiring) -> None:
    """Raises ValueError for anything but a chain of layers whose synapses are all there, each with a weight."""
    if not isinstance(net, Network):
        raise ValueError(f"this analysis goes through a chain of layers (gle.Network), not a {type(net).__name__}")
    for l, (i, _) in enumerate(net.places()):
        if type(net.layers[i].synapse) is not Linear:
            raise ValueError(f"layer {l} has {type(net.layers[i].synapse).__name__} synapses, expected Linear ones")


def fitting(part: Any) -> None:
    """Raises ValueError for time constants of error neurons that do not fit the neurons."""
    try:
        part.errors.constants(part.theta())
    except RuntimeError:
        raise ValueError(
            f"time constants of {part.errors!r} do not fit {part.potentials} potentials: give a number, or one for each"
        ) from None


def at_rest(phi: RateFunction, zero: Tensor, sent: Any) -> LayerState:
    """u = v = e = 0, nothing sent, and r = φ(0)."""
    r, kept = phi.rate(zero)
    # clones: a step compiled for arguments that are one tensor would be compiled again for four
    return mapped(torch.clone, LayerState(zero, zero, r, zero, sent, kept))


def error(layer: Any, p: Theta, v: Tensor, e_inst: Tensor) -> Tensor:
    """What the error neurons of a part send, given their potential v (Eqs. 7, 45)."""
    if p.tau_m is None:  # nor has its error neuron a membrane
        return e_inst
    p = layer.errors.constants(p)
    return layer.errors.error(changed(p, tau_m=per_neuron(p.tau_m), tau_r=per_neuron(p.tau_r)), v, e_inst)
