"""What all rules of credit assignment share: the problem, the answer, and the way through a stretch of time.

    credit = rule(problem, theta, state, xs, targets)

The cost of a stretch is Σ_t β C(r_L, target), averaged over the batch, with r_L as the network's own nudging sees it:
the output of the previous step with delayed propagation, of the same instant with instant propagation. Every rule
returns gradients of that cost, or its approximation to them, in the sign and scale of `.grad`.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from gle.carry import Carry
from gle.checks import check_finite
from gle.credit import Credit, Problem, Rule
from gle.dynamics import nudge, per_member
from gle.inputs import Signal
from gle.network import Network
from gle.neurons import Activation
from gle.plasticity import LEARNABLE, Plasticity
from gle.simulate import CHECK_EVERY, Simulation
from gle.state import Local, State, Theta, Thetas, changed, mapped
from gle.synapses import Linear


def chain(problem: Problem, rule: Rule, dense: bool = False) -> Network:
    """The network of a problem, for rules that go through it layer by layer. Raises ValueError for any other wiring,
    for layers whose rate function is not pointwise, and for other than `dense` synapses where they must be."""
    net, name = problem.net, type(rule).__name__
    if not isinstance(net, Network):
        raise ValueError(
            f"{name} goes through a chain of layers (gle.Network), not a {type(net).__name__}: use another"
        )
    for i, layer in enumerate(net.layers):
        if not isinstance(layer.phi, Activation):
            raise ValueError(
                f"{name} takes pointwise, monotone rate functions, {net.part_name(i)} has {layer.phi.name}"
            )
        if dense and type(layer.synapse) is not Linear:
            raise ValueError(f"{name} takes dense synapses, {net.part_name(i)} has {type(layer.synapse).__name__} ones")
    return net


class Step(NamedTuple):
    """One simulated step. Lists have one entry for each of the network's parts."""

    state: State  # after the step
    seen: Tensor  # the output as the cost sees it
    local: tuple[Local, ...]
    rates: list[Tensor]  # r as the neighbours and the own error neuron see them


def steps(
    problem: Problem, theta: Thetas, state: State, xs: Tensor, targets: Tensor | None, attached: bool = True
) -> Iterator[Step]:
    """The simulation itself, step by step, with frozen parameters. attached: whether autograd may follow the error
    pathway; without it, errors are cut from the graph, which changes nothing for γ = 0."""
    net, integrator, dynamics, _ = problem
    delayed = integrator.propagation == "delayed"
    for t in range(len(xs)):
        nudged = (None,) * xs.shape[1] if targets is None else targets[t].unbind(0)
        new, local = integrator.step(net, theta, state, xs[t].unbind(0), nudged, dynamics)
        if not attached:
            cut = ("v", "e", "sent", "kept")
            new = tuple(changed(s, **{k: mapped(torch.detach, getattr(s, k)) for k in cut}) for s in new)
        rates = [s.r for s in (state if delayed else new)]
        state = new
        yield Step(new, rates[net.top][-1], local, rates)


def cost_of(problem: Problem, outputs: Tensor, targets: Tensor) -> Tensor:
    """β C of each sample: outputs [T, *ensemble, batch, n_out], targets [T, nodes, …] → [T, *ensemble, batch]."""
    value = problem.dynamics.cost.value(outputs, targets[:, 0])
    return per_member(problem.dynamics.beta, value, 1) * value


def nudges(problem: Problem, outputs: Tensor, targets: Tensor) -> Tensor:
    """−β ∂C/∂r of all steps at once; shapes as in `cost_of`."""
    r, target = outputs.movedim(0, -3), targets[:, 0].movedim(0, -3)  # steps behind the ensemble axes
    return nudge(r, target, problem.dynamics, problem.net.ensemble).movedim(-3, 0)


# -- parameters that learn, as a flat list and back ------------------------------------------------------------------


def learned(problem: Problem) -> list[tuple[int, str]]:
    """(index of the part, kind) of every tensor that learns. Raises ValueError where there is none."""
    found = [(i, kind) for i, part in enumerate(problem.net.parts) for kind in part.learned(problem.learn)]
    if not found:
        kinds = ", ".join(problem.learn) or "anything in `learn`"
        raise ValueError(f"nothing learns: no plastic layer has {kinds} unfrozen; name other kinds, or free a layer")
    return found


def replaced(theta: Thetas, where: Sequence[tuple[int, str]], values: Sequence[Tensor]) -> Thetas:
    """theta with other values in the places of `learned`."""
    fields = [p._asdict() for p in theta]
    for (i, kind), value in zip(where, values, strict=True):
        fields[i][kind] = value
    return tuple(Theta(**p) for p in fields)


def grads_like(theta: Thetas, where: Sequence[tuple[int, str]], values: Sequence[Tensor]) -> Thetas:
    """Gradients in the places of `learned`, None elsewhere."""
    return replaced(tuple(Theta() for _ in theta), where, values)


def added(a: Thetas, b: Thetas) -> Thetas:
    """a + b of two sets of gradients."""
    return tuple(
        Theta(*(None if p is None or q is None else p + q for p, q in zip(old, new, strict=True)))
        for old, new in zip(a, b, strict=True)
    )


def handed_on(memory: Any, kind: type, batch: int, where: list[tuple[int, str]]) -> Any:
    """A rule's memory, checked; it knows its batch, and in `where` the parameters that it belongs to.

    Raises ValueError where it is another rule's, of another batch, or of other parameters.
    """
    if (name := type(memory).__name__) != kind.__name__:
        raise ValueError(f"memory is a {name}, this rule's is a {kind.__name__}: start with None")
    if memory.batch != batch:
        raise ValueError(f"memory is of a batch of {memory.batch}, the inputs have one of {batch}: start with None")
    if memory.where != where:
        raise ValueError(f"memory is of the parameters {memory.where}, {where} learn now: start with None")
    return memory


# -- derivatives by autograd -------------------------------------------------------------------------------------------


def derives(call: Callable[..., Credit]) -> Callable[..., Credit]:
    """For the call of a rule that has autograd derive: outside its caller's inference mode, where autograd follows
    nothing, and with ordinary tensors in place of those that were made in one. Within, it is off until the rule says.
    """

    @functools.wraps(call)
    def outside(
        self: Any, problem: Problem, theta: Thetas, state: State, xs: Tensor, targets: Tensor, memory: Any = None
    ) -> Credit:
        with torch.inference_mode(False), torch.no_grad():
            return call(self, *tree_map(_ordinary, (problem, theta, state, xs, targets, memory)))

    return outside


def _ordinary(item: Any) -> Any:
    return item.clone() if isinstance(item, Tensor) and item.is_inference() else item


# -- handing a simulation to a rule ------------------------------------------------------------------------------------


def assign(
    rule: Rule,
    sim: Simulation,
    inputs: Signal,
    targets: Signal,
    *,
    steps: int | None = None,
    learn: Sequence[str] | None = None,
    memory: Any = None,
) -> Credit:
    """The gradients of a stretch by `rule`, from where `sim` stands, which is left as it is.

    inputs, targets, steps: tensors or functions of time, as `Simulation.run` takes them. learn: kinds of parameters;
    by default those of the simulation's plasticity, else W and b.

    Raises ValueError for wrong shapes, an empty stretch, missing targets, and where nothing learns.
    """
    if learn is None:
        learn = sim.plasticity.learn if sim.plasticity is not None else ("W", "b")
    problem, xs, ts = _posed(sim, inputs, targets, steps, learn)
    state = sim.carry.state or sim.network.initial_state(xs.shape[-2])
    return rule(problem, _detached(sim.carry.theta), state, xs, ts, memory)


def learn(
    rule: Rule,
    sim: Simulation,
    inputs: Signal,
    targets: Signal,
    *,
    stretch: int,
    steps: int | None = None,
    memory: Any = None,
) -> Credit:
    """Trains `sim` with `rule` in place of its own plasticity, and returns the credit of the last stretch. Arguments,
    and what it raises: see `learning`, which stops after each stretch."""
    credits = learning(rule, sim, inputs, targets, stretch=stretch, steps=steps, memory=memory)
    return deque(credits, maxlen=1)[0]  # a stream without a step is refused


def learning(
    rule: Rule,
    sim: Simulation,
    inputs: Signal,
    targets: Signal,
    *,
    stretch: int,
    steps: int | None = None,
    memory: Any = None,
) -> Iterator[Credit]:
    """Trains `sim` with `rule` in place of its own plasticity: one update of the simulation's optimiser per `stretch`
    steps, from the gradients of that stretch. An iterator, which has to be gone through: it yields the credit of each
    stretch after its update, and the network holds what was learned once it ends or is closed. Rules that run forward
    in time use a last, shorter stretch, too. memory: the last credit's, where a stream goes on in a second call.

    Raises ValueError for a simulation without plasticity, synaptic filters (which belong to GLE's own rule), a stretch
    below one step, one that does not divide the steps of a rule that looks back, and what `assign` raises;
    FloatingPointError, naming the layer, when the dynamics diverge.
    """
    plasticity = sim.plasticity
    if plasticity is None or sim.carry.learning is None:
        raise ValueError("this simulation has no plasticity: give it one, whose optimiser applies the gradients")
    if plasticity.filters:
        raise ValueError("synaptic filters belong to the simulation's own plasticity: leave out `traces` and `centred`")
    if not isinstance(stretch, int) or stretch < 1:
        raise ValueError(f"a stretch must have a whole number of steps, at least 1, got {stretch}")
    problem, xs, ts = _posed(sim, inputs, targets, steps, plasticity.learn)
    if not rule.online and len(xs) % stretch:
        raise ValueError(
            f"{len(xs)} steps are no multiple of stretch = {stretch}: cut the stream or change the stretch"
        )
    return _learning(rule, sim, problem, plasticity, xs, ts, stretch, memory)


def _learning(
    rule: Rule,
    sim: Simulation,
    problem: Problem,
    plasticity: Plasticity,
    xs: Tensor,
    ts: Tensor,
    stretch: int,
    memory: Any,
) -> Iterator[Credit]:
    dt = sim.dynamics.dt
    if not sim.carry.state:
        sim.reset(xs.shape[-2])
    with sim.learning():
        for x, target in zip(xs.split(stretch), ts.split(stretch), strict=True):
            theta, state, learning, *_ = sim.carry
            assert learning is not None
            credit = rule(problem, _detached(theta), state, x, target, memory)
            with torch.no_grad():
                theta, learning = plasticity.apply(sim.network, theta, learning, credit.grads, dt)
            sim.carry = Carry(theta, credit.state, learning)
            checked, sim.step = sim.step // CHECK_EVERY, sim.step + len(x)
            if sim.step // CHECK_EVERY != checked:
                check_finite(sim.network, sim.carry, dt, sim.step)
            memory = credit.memory
            yield credit
        check_finite(sim.network, sim.carry, dt, sim.step)


def _posed(
    sim: Simulation, inputs: Signal, targets: Signal, steps: int | None, learn: Sequence[str]
) -> tuple[Problem, Tensor, Tensor]:
    """The problem, and its signals [T, nodes, *ensemble, batch, features]."""
    learn = (learn,) if isinstance(learn, str) else tuple(learn)
    if unknown := [k for k in learn if k not in LEARNABLE]:
        raise ValueError(f"learn must name some of {', '.join(LEARNABLE)}, got {', '.join(map(str, unknown))}")
    if sim.noises:
        raise ValueError("the gradient of a noisy run is not defined here: make the Simulation without noise")
    sim.check()
    xs, ts = sim.sampled(inputs, targets, steps)
    if ts is None:
        raise ValueError("credit needs targets")
    problem = Problem(sim.network, sim.integrator, sim.dynamics, learn)
    learned(problem)
    return problem, xs, ts


def _detached(theta: Thetas) -> Thetas:
    return mapped(torch.detach, theta)
