"""Any wiring: populations of representation and error neurons, joined by projections.

    net = gle.Graph(
        n_in=3,
        populations={
            "hidden": gle.Population(20, tau_m=1.0, tau_r=0.2),
            "out": gle.Population(2, tau_m=1.0, tau_r=0.2, phi="linear"),
        },
        projections=[
            gle.Projection("input", "hidden"),
            gle.Projection("hidden", "hidden", delay=1),
            gle.Projection("hidden", "out"),
        ],
    )

Rates are evaluated in the topological order of the undelayed projections, errors in the reverse order; what crosses a
delayed one, the rate upwards and the error Wᵀe downwards, is what was sent in the step before. (Under an integrator
with delayed propagation all projections are delayed by that one step.) A population receives as error the sum of what
its targets send back, and at the output the nudge.

Tensors are those of a `Layer` of depth one: b, tau_m, tau_r [1, *ensemble, n] for each population, with n its size
times its compartments, W [1, *ensemble, …] for each projection. Parameters and gradients come as one `Theta` for each
population and then one for each projection; states, as one `LayerState` for each population.
"""

from __future__ import annotations

import graphlib
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from gle.dynamics import Dynamics, disturbed, is_zero, nudge, per_member, rate
from gle.errors import ErrorNeuron, Instantaneous, Prospective, error_neuron
from gle.given import number, whole
from gle.network import at_rest, error, fitting
from gle.neurons import RateFunction, rate_function
from gle.showing import shown, spread
from gle.state import LayerState, Local, State, Theta, Thetas, changed
from gle.synapses import Synapse
from gle.synapses import synapse as synapse_called
from gle.wiring import Key, Output, Part, Seeds, Wiring, time_constant

INPUT = "input"


@dataclass(frozen=True)
class Population:
    """`size` neurons. tau_m, tau_r: a number, or anything that broadcasts to [*ensemble, size · compartments]. phi,
    errors: as for `Layer`. bias: whether each has one. plastic: False freezes bias and time constants."""

    size: int
    tau_m: Any
    tau_r: Any
    phi: str | RateFunction = "tanh"
    errors: str | ErrorNeuron = "prospective"
    bias: bool = True
    plastic: bool = True


@dataclass(frozen=True)
class Projection:
    """Synapses from one population (or "input") to another, or to itself.

    compartment: of the target, by name; its first one by default. synapse: a name from `synapses.SYNAPSES`, or an
    object like theirs; "identity" adds the source's rate. delay: 0, or 1 for what was sent in the step before. epsilon:
    factor ε of the error that comes back through it (1: GLE; 0: cut). gain_control: the errors that come back to the
    source through projections with it are scaled down, sample by sample, to the norm of its other, fresh errors where
    theirs is larger. bias: whether the synapses have one of their own (a convolution's, one per channel). plastic:
    False freezes it.
    """

    source: str
    target: str
    compartment: str | None = None
    synapse: str | Synapse = "linear"
    delay: int = 0
    epsilon: float = 1.0
    gain_control: bool = False
    bias: bool = False
    plastic: bool = True

    def __post_init__(self) -> None:
        for name, value in (
            ("epsilon", number(f"epsilon of {self}", self.epsilon, 0.0)),
            ("delay", whole(f"delay of {self}", self.delay, 0)),
            ("gain_control", bool(self.gain_control)),
            ("bias", bool(self.bias)),
            ("plastic", bool(self.plastic)),
        ):
            object.__setattr__(self, name, value)

    def __str__(self) -> str:
        to = self.target if self.compartment is None else f"{self.target}.{self.compartment}"
        return f"{self.source} → {to}{' (delayed)' if self.delay else ''}"


class Neurons(Part):
    """One population's biases and time constants."""

    def __init__(self, name: str, given: Population, ensemble: tuple[int, ...], where: dict[str, Any]):
        super().__init__()
        size = whole(f"the size of population {name!r}", given.size)
        self.name, self.n_out, self.plastic, self.ensemble, self.depth = name, size, bool(given.plastic), ensemble, 1
        self.phi, self.errors = rate_function(given.phi), error_neuron(given.errors)
        shape = (1, *ensemble, self.potentials)
        self.W = self.B = self.synapse = None
        self.b = nn.Parameter(torch.zeros(shape, **where)) if given.bias else None
        self.tau_m = time_constant("tau_m", given.tau_m, shape, where)
        self.tau_r = time_constant("tau_r", given.tau_r, shape, where)
        self.fan_in = 0
        fitting(self)

    @property
    def potentials(self) -> int:
        return self.n_out * len(self.phi.compartments)

    def span(self, compartment: str | None) -> slice:
        """Where the potentials of a compartment stand."""
        k = 0 if compartment is None else self.phi.compartments.index(compartment)
        return slice(k * self.n_out, (k + 1) * self.n_out)

    def initial_bound(self) -> float:
        """As for a dense layer with as many inputs (Table 1)."""
        return 1 / math.sqrt(max(self.fan_in, 1))

    def extra_repr(self) -> str:
        assert self.tau_m is not None
        assert self.tau_r is not None
        parts = [repr(self.name), str(self.n_out), f"tau_m={spread(self.tau_m)}", f"tau_r={spread(self.tau_r)}"]
        return ", ".join([*parts, f"phi={self.phi.name}", f"errors={self.errors!r}"])


class Synapses(Part):
    """One projection's weights."""

    def __init__(self, given: Projection, n_in: int, n_out: int, ensemble: tuple[int, ...], where: dict[str, Any]):
        super().__init__()
        self.given, self.n_in, self.n_out, self.ensemble, self.depth = given, n_in, n_out, ensemble, 1
        self.synapse = synapse_called(given.synapse)
        try:
            shape_W, shape_b = self.synapse.shapes(n_in, n_out)
        except ValueError as problem:
            raise ValueError(f"projection {given}: {problem}") from None
        if given.bias and shape_b is None:
            raise ValueError(f"projection {given}: these synapses have no bias, give the population one")
        self.plastic = given.plastic and shape_W is not None
        axes = (1, *ensemble)
        self.W = None if shape_W is None else nn.Parameter(torch.zeros(*axes, *shape_W, **where))
        self.b = nn.Parameter(torch.zeros(*axes, *shape_b, **where)) if given.bias else None
        self.tau_m = self.tau_r = None
        B = None if self.W is None else self.synapse.feedback.allocate(self.W.detach())
        self.register_buffer("B", B)

    def initial_bound(self) -> float:
        return self.synapse.initial_bound(self.n_in)

    def extra_repr(self) -> str:
        return f"{self.given}, {self.n_in} → {self.n_out}, {self.synapse!r}"


class Up(NamedTuple):
    """What rates are made of, in one evaluation."""

    pre: list[Any]  # for each projection the rates that it sees
    currents: list[Any]  # for each population …
    outputs: list[Any]  # … its rate, and what was kept of it


class Down(NamedTuple):
    """And errors: for each population e_inst, e, and what it sends down each of its projections."""

    inst: list[Any]
    errors: list[Any]
    sent: list[tuple]


class Graph(Wiring):
    """Populations by name, and projections between them; "input" is the name of the network's input.

    n_in: features of the input. output: the population that is nudged, by default the last one. ensemble, dtype,
    device, seed: as for `Layer` and `Network`.

    Raises ValueError for names that are unknown or given twice, sizes that do not fit, a compartment that nothing
    reaches, and a cycle without a delayed projection, which it names.
    """

    def __init__(
        self,
        n_in: int,
        populations: Mapping[str, Population],
        projections: Sequence[Projection],
        *,
        output: str | None = None,
        ensemble: int | tuple[int, ...] = (),
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        seed: Seeds = 0,
    ):
        super().__init__()
        axes = ensemble if isinstance(ensemble, (tuple, list)) else (ensemble,)
        self._ensemble = tuple(whole("ensemble", n) for n in axes)
        where: dict[str, Any] = {"dtype": dtype, "device": device}
        self._n_in = whole("n_in", n_in)
        if not isinstance(populations, Mapping) or not all(isinstance(p, Population) for p in populations.values()):
            raise ValueError("populations are a dict of names and gle.Population(size, tau_m, tau_r)")
        projections = list(projections) if isinstance(projections, Sequence) else [projections]
        if wrong := [p for p in projections if not isinstance(p, Projection)]:
            raise ValueError(f"projections are a list of gle.Projection(source, target), got {wrong[0]!r}")
        if not populations or INPUT in populations:
            raise ValueError(f"a graph needs populations, by any name but {INPUT!r}; got {', '.join(populations)}")
        if odd := [name for name in populations if not isinstance(name, str) or not name or {*"→."} & {*name}]:
            raise ValueError(f"a population's name is a text without '→' and '.', not {odd[0]!r}")
        self.names = tuple(populations)
        self.populations: Sequence[Neurons] = nn.ModuleList(  # type: ignore[assignment]
            Neurons(name, given, self._ensemble, where) for name, given in populations.items()
        )
        output = self.names[-1] if output is None else output
        if output not in populations:
            raise ValueError(f"output {output!r} is none of the populations {', '.join(self.names)}")
        self._top = self.names.index(output)

        made: list[Synapses] = []
        for given in projections:
            self._check(given)
            source, target = self._index(given.source), self.populations[self._index(given.target)]
            size = self._n_in if source < 0 else self.populations[source].n_out
            made.append(Synapses(given, size, target.n_out, self._ensemble, where))
            if made[-1].W is not None:
                target.fan_in += size
        joins = [(self._end(s.given), s.given) for s in made]
        if twice := [str(g) for n, (end, g) in enumerate(joins) if end in [other for other, _ in joins[:n]]]:
            raise ValueError(
                f"{twice[0]} is given twice: one projection is enough, and a second kind of synapse takes a population "
                "in between"
            )
        self.projections: Sequence[Synapses] = nn.ModuleList(made)  # type: ignore[assignment]
        self._wire()
        self.initialize(seed)

    def _check(self, given: Projection) -> None:
        known = (INPUT, *self.names)
        for name in (given.source, given.target):
            if name not in known:
                raise ValueError(f"projection {given}: there is no population {name!r}; there are {', '.join(known)}")
        if given.target == INPUT:
            raise ValueError(f"projection {given}: the input receives nothing")
        compartments = self[given.target].phi.compartments
        if given.compartment is not None and given.compartment not in compartments:
            raise ValueError(f"projection {given}: {given.target!r} has compartments {', '.join(compartments)}")
        if given.delay > 1:
            raise ValueError(f"projection {given}: delay must be 0 or 1 step, got {given.delay}")
        if given.source == INPUT and given.delay:
            raise ValueError(f"projection {given}: inputs come without delay; shift the input")

    def _end(self, given: Projection) -> tuple:
        """What no two projections have in common."""
        return given.source, given.target, self[given.target].span(given.compartment).start, given.delay

    def _index(self, name: str) -> int:
        return -1 if name == INPUT else self.names.index(name)

    def _wire(self) -> None:
        """What an evaluation goes through: for each population the projections that end there and start there."""
        ends = [(self._index(s.given.source), self._index(s.given.target)) for s in self.projections]
        self._ends = ends
        indices = range(len(self.names))
        self._afferents = [[k for k, (_, t) in enumerate(ends) if t == i] for i in indices]
        self._efferents = [[k for k, (s, _) in enumerate(ends) if s == i] for i in indices]
        # where in its target's `sent` each projection stands; the input receives no errors
        inner = [[k for k in here if ends[k][0] >= 0] for here in self._afferents]
        self._slots = {k: n for here in inner for n, k in enumerate(here)}
        self._inner = inner
        for i, part in enumerate(self.populations):
            reached = [part.span(self.projections[k].given.compartment) for k in self._afferents[i]]
            for c in part.phi.compartments:
                if part.span(c) not in reached:
                    which = f"compartment {c!r} of population" if len(part.phi.compartments) > 1 else "population"
                    raise ValueError(f"nothing reaches {which} {part.name!r}: add a projection to it")
            back = [self.projections[k].given for k in self._efferents[i] if self.projections[k].given.epsilon]
            if back and i != self._top and all(g.gain_control for g in back):
                raise ValueError(
                    f"all errors of population {part.name!r} come through a gain control, which measures them by "
                    f"others: leave it out of one of {', '.join(map(str, back))}"
                )
        sorter: graphlib.TopologicalSorter[int] = graphlib.TopologicalSorter({i: () for i in indices})
        for k, (s, t) in enumerate(ends):
            if s >= 0 and not self.projections[k].given.delay:
                sorter.add(t, s)
        try:
            self._order = tuple(sorter.static_order())
        except graphlib.CycleError as problem:
            cycle = " → ".join(self.names[i] for i in problem.args[1])
            raise ValueError(f"{cycle} is a cycle without delay: give one of its projections delay=1") from None

        self._warn_of_gain()

    def _warn_of_gain(self) -> None:
        """Prospective error neurons amplify fast errors τm/τr times: in a loop they may grow without end."""
        open_ends = [
            (s, t)
            for (s, t), part in zip(self._ends, self.projections, strict=True)
            if part.given.epsilon and not part.given.gain_control
        ]
        for i, part in enumerate(self.populations):
            own = part.errors.constants(part.theta())
            gain = float((own.tau_m / own.tau_r).max())
            if not isinstance(part.errors, Prospective) or gain <= 1:
                continue
            seen, ahead = set(), [t for s, t in open_ends if s == i]
            while ahead:
                if (t := ahead.pop()) not in seen:
                    seen.add(t)
                    ahead += [u for s, u in open_ends if s == t]
            if i in seen:
                edge = 1 / gain
                warnings.warn(
                    f"errors of population {part.name!r} come back to it through a loop and are prospective: they "
                    f"settle only where its eigenvalues are small, |λ| < τr/τm = {edge:.2g} for "
                    "small dt. errors='instantaneous' or 'relaxing' settle wherever the rates do (docs/graphs.md)",
                    stacklevel=4,
                )

    # -- parts -----------------------------------------------------------------------------------------------------

    @property
    def ensemble(self) -> tuple[int, ...]:
        return self._ensemble

    @property
    def n_in(self) -> int:
        return self._n_in

    @property
    def n_out(self) -> int:
        return self.populations[self._top].n_out

    @property
    def top(self) -> int:
        return self._top

    @property
    def order(self) -> tuple[int, ...]:
        """Indices of the populations, each behind those that it hears without delay."""
        return self._order

    @property
    def sending(self) -> Sequence[Sequence[int]]:
        """For each population the projections down which it sends errors: `LayerState.sent` has as many."""
        return self._inner

    @property
    def parts(self) -> Sequence[Part]:
        return [*self.populations, *self.projections]

    @property
    def neurons(self) -> Sequence[Neurons]:
        return self.populations

    def part_name(self, i: int) -> str:
        n = len(self.names)
        return f"population {self.names[i]!r}" if i < n else f"projection {self.projections[i - n].given}"

    def place_name(self, i: int, d: int) -> str:
        return self.part_name(i)

    @property
    def described(self) -> list[str]:
        populations = [f"{part.name}: {part.phi!r}" for part in self.populations]
        return populations + [f"{part.given}: {part.synapse!r}" for part in self.projections]

    def __getitem__(self, name: str) -> Any:
        """The population of this name, or the projection "source → target" as its repr shows it. Raises KeyError."""
        if name in self.names:
            return self.populations[self.names.index(name)]
        found = [s for s in getattr(self, "projections", ()) if str(s.given) == name]
        if not found:
            raise KeyError(f"{name!r} is no population and no projection of this graph")
        return found[0]

    def keyed(self, what: str) -> dict[Key, tuple[int, int]]:
        n = len(self.names)
        names = {name: (i, 0) for i, name in enumerate(self.names)}
        synapses = {str(s.given): (n + k, 0) for k, s in enumerate(self.projections)}
        return {"W": synapses, "b": {**names, **synapses}}.get(what, names)  # type: ignore[return-value]

    @property
    def has(self) -> str:
        return f"the graph has {', '.join((*self.names, *(str(s.given) for s in self.projections)))}"

    def __contains__(self, name: object) -> bool:
        return name in self.names or name in [str(s.given) for s in self.projections]

    def drawn(self) -> Sequence[Part]:
        """In the order of the evaluation, so that a chain has the weights that `Network` draws."""
        drawn: list[Part] = []
        for i in self._order:
            drawn += [self.projections[k] for k in self._afferents[i]]
            drawn.append(self.populations[i])
        return drawn

    def check_integrator(self, nodes: tuple[float, ...]) -> None:
        slow = [str(s.given) for s in self.projections if s.given.delay]
        if slow and len(nodes) > 1:
            raise ValueError(
                f"{slow[0]} is delayed by a step, this integrator looks at several instants within one: use euler or "
                "exponential"
            )

    def __repr__(self) -> str:
        ensemble = {"ensemble": self.ensemble} if self.ensemble else {}
        lines = [shown(self, "n_in", output=self.names[self._top], **ensemble)]
        lines += [f"  {part.extra_repr()}" for part in (*self.populations, *self.projections)]
        return "\n".join(lines)

    # -- state and one evaluation ------------------------------------------------------------------------------------

    def initial_state(self, batch: int) -> State:
        states = []
        for i, part in enumerate(self.populations):
            assert part.tau_m is not None
            rows = (1, *self.ensemble, batch)
            sent = tuple(part.tau_m.new_zeros(*rows, self.projections[k].n_in) for k in self._inner[i])
            states.append(at_rest(part.phi, part.tau_m.new_zeros(*rows, part.potentials), sent))
        return tuple(states)

    def evaluate(
        self, theta: Thetas, state: State, x: Tensor, target: Tensor | None, dynamics: Dynamics, propagation: str
    ) -> tuple[list[Output], list[Local]]:
        if propagation == "delayed":
            down = self.errors(theta, state, state, target, dynamics, True)
            up = self.rates(theta, state, x, dynamics, True, down.errors)
        else:
            up = self.rates(theta, state, x, dynamics)
            seen = [changed(s, r=r, kept=kept) for s, (r, kept) in zip(state, up.outputs, strict=True)]
            down = self.errors(theta, state, seen, target, dynamics)
        made = zip(up.outputs, down.sent, strict=True)
        return [Output(r, sent, kept) for (r, kept), sent in made], self.local(state, up, down, dynamics)

    def local(self, state: State, up: Up, down: Down, dynamics: Dynamics) -> list[Local]:
        """What is present at every part, once both halves of an evaluation are done."""
        present: dict[int, Local] = {}
        for i, (inst, e) in enumerate(zip(down.inst, down.errors, strict=True)):
            present |= self.around(i, state, up, inst, e, dynamics)
        return [present[j] for j in range(len(present))]

    def around(self, i: int, state: State, up: Up, inst: Any, e: Any, dynamics: Dynamics) -> dict[int, Local]:
        """What is present at population i, and at the synapses that end there: by index among the parts."""
        present = {i: Local(None, up.currents[i], state[i].u, inst, e)}
        noise = None if dynamics.noise is None else dynamics.noise.rate
        for k in self._afferents[i]:
            source = self._ends[k][0]
            heard = None if noise is None or source < 0 else noise[source]
            above = up.outputs[i][0]
            if heard is not None and source == i:  # a neuron knows its own noise from what comes back of it
                above = above - heard
            local = Local(up.pre[k], None, None, None, self._at(k, e), above, heard)
            present[len(self.names) + k] = local
        return present

    def _apart(self, i: int, p: Theta) -> bool:
        """Whether the compartments of a population need not be laid side by side: they have no memory and no bias."""
        part = self.populations[i]
        still = p.tau_m is None and p.b is None and isinstance(part.errors, Instantaneous)
        return still and len(part.phi.compartments) > 1 and hasattr(part.phi, "rate_of")

    def _at(self, k: int, potentials: Any) -> Tensor:
        """What of its target's potentials stands at the compartment where a projection ends."""
        target = self.populations[self._ends[k][1]]
        if len(target.phi.compartments) == 1:
            return potentials
        if isinstance(potentials, tuple):
            return potentials[target.span(self.projections[k].given.compartment).start // target.n_out]
        return potentials[..., target.span(self.projections[k].given.compartment)]

    def rates(
        self,
        theta: Thetas,
        state: State,
        x: Tensor,
        dynamics: Dynamics,
        late: bool = False,
        errors: Sequence[Tensor] | None = None,
    ) -> Up:
        """The upward half of an evaluation, for those whose errors come from elsewhere. late: everything was sent in
        the step before. errors: those that the soma sees with γ ≠ 0, by default the state's."""
        errors = [s.e for s in state] if errors is None else errors
        neurons, synapses = theta[: len(self.names)], theta[len(self.names) :]
        pre: list[Any] = [None] * len(synapses)
        currents: list[Any] = [None] * len(neurons)
        outputs: list[Any] = [None] * len(neurons)
        x = x.unsqueeze(0)
        for i in self._order:
            part, p = self.populations[i], neurons[i]
            sums: dict[int, Tensor] = {}  # by where the compartment begins
            for k in self._afferents[i]:
                projection, q, source = self.projections[k], synapses[k], self._ends[k][0]
                if source < 0:
                    pre[k] = x
                else:
                    pre[k] = state[source].r if late or projection.given.delay else outputs[source][0]
                term = projection.synapse.current(q.W, q.b, pre[k])
                at = part.span(projection.given.compartment).start
                sums[at] = sums[at] + term if at in sums else term
            parts = tuple(sums[at] for at in sorted(sums))
            if self._apart(i, p) and dynamics.noise is None and is_zero(dynamics.gamma):
                currents[i], outputs[i] = parts, part.phi.rate_of(*parts)  # type: ignore[attr-defined]
                continue
            current = torch.cat(parts, -1) if len(parts) > 1 else parts[0]
            if p.b is not None:
                current = current + p.b.unsqueeze(-2)
            current = disturbed(current, dynamics, "current", i)
            if not is_zero(dynamics.gamma):
                current = current + per_member(dynamics.gamma, current) * errors[i]
            currents[i] = current
            r, kept = rate(part.phi, p, state[i].u, current)
            outputs[i] = disturbed(r, dynamics, "rate", i), kept
        return Up(pre, currents, outputs)

    def errors(
        self,
        theta: Thetas,
        state: State,
        seen: Sequence[LayerState],
        target: Tensor | None,
        dynamics: Dynamics,
        late: bool = False,
        each: Callable[[int, Any, Any], None] | None = None,
    ) -> Down:
        """The downward half (Eqs. 17, 18). seen: the state with the rates, and what was kept, that errors meet. each:
        is handed the index, e_inst and e of every population as soon as they are there, and nothing of them is kept."""
        neurons, synapses = theta[: len(self.names)], theta[len(self.names) :]
        inst: list[Any] = [None] * len(neurons)
        errors: list[Any] = [None] * len(neurons)
        sent: list[Any] = [None] * len(neurons)
        back: dict[int, Tensor] = {}  # what each projection sends back
        for i in reversed(self._order):
            part, s = self.populations[i], seen[i]
            fresh, recurrent = None, None
            if i == self._top:
                fresh = nudge(s.r[-1], target, dynamics, self.ensemble).unsqueeze(0)
            for k in self._efferents[i]:
                given = self.projections[k].given
                if given.epsilon == 0:
                    continue
                e = state[self._ends[k][1]].sent[self._slots[k]] if late or given.delay else back.pop(k)
                e = e if given.epsilon == 1 else given.epsilon * e
                if given.gain_control:
                    recurrent = e if recurrent is None else recurrent + e
                else:
                    fresh = e if fresh is None else fresh + e
            if fresh is None:
                fresh = torch.zeros_like(s.r)
            received = fresh if recurrent is None else fresh + limited(recurrent, fresh)
            if self._apart(i, neurons[i]) and dynamics.noise is None:
                inst[i] = errors[i] = part.phi.pull_to(s.kept, s.r, received)  # type: ignore[attr-defined]
            else:
                inst[i] = part.phi.pull(s.kept, s.r, received)
                errors[i] = disturbed(error(part, neurons[i], state[i].v, inst[i]), dynamics, "error", i)
            for k in self._inner[i]:
                q = synapses[k]
                back[k] = self.projections[k].synapse.backproject(q.W, q.B, self._at(k, errors[i]))
            crossing = (late or self.projections[k].given.delay for k in self._inner[i])
            stays = zip(self._inner[i], crossing, state[i].sent, strict=True)
            sent[i] = tuple(back[k] if crosses else old for k, crosses, old in stays)
            if each is not None:
                each(i, inst[i], errors[i])
                inst[i] = errors[i] = None
        return Down(inst, errors, sent)


def limited(e: Tensor, bound: Tensor) -> Tensor:
    """e, scaled down sample by sample to the norm of `bound` where its own is larger."""
    own, most = (t.norm(dim=-1, keepdim=True) for t in (e, bound))
    tiny = torch.finfo(e.dtype).tiny
    return e * (most / own.clamp_min(tiny)).clamp(max=1.0)
