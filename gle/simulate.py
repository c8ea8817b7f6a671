"""The only time loop: a network, its dynamics and its plasticity, fed with a stream of inputs.

    sim = Simulation(network, dt=0.2, cost="cross_entropy", plasticity=Plasticity(lr=1e-3))
    sim.run(inputs, targets)          # [T, batch, features]; goes on from the state it left
    outputs = sim.predict(inputs)     # frozen

Everything that changes while time passes is in `sim.carry`; the maths are pure functions of it
(`Simulation.advance`), compiled in blocks of several steps.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from gle import plasticity as pl
from gle.carry import Carry, copied
from gle.checks import Taken, check_finite, check_time_constants, taken
from gle.costs import Cost
from gle.costs import cost as cost_called
from gle.credit import Rule
from gle.dynamics import Dynamics
from gle.engines import Engine
from gle.engines import engine as engine_called
from gle.inputs import Inputs, Signal, Stream
from gle.integrators import Euler, Integrator
from gle.integrators import integrator as integrator_called
from gle.network import Network
from gle.noise import Noise, together
from gle.predicting import predicted
from gle.recording import Record
from gle.resuming import load_state, saved_state
from gle.scan import can_scan, restack, scan
from gle.series import Lengths, after, lengths_of, time_first
from gle.showing import shown
from gle.state import State, Thetas, changed, mapped, select
from gle.wiring import Wiring

Net = TypeVar("Net", bound=Wiring)
CHECK_EVERY = 1000  # steps between looks for NaN in the dynamics, besides one at the end of a run


class Simulation(Generic[Net]):
    """A network in time.

    dt: step, in the time unit of the τ. integrator: a name or an `Integrator`. cost, beta, gamma: see `Dynamics`.
    plasticity: None freezes the network. rule: assigns credit in place of GLE's own plasticity (see `gle.rules`):
    called for each stretch of `Plasticity(every=…)` steps, whose gradients the optimiser then applies. noise: in the
    dynamics, one or several (see `gle.noise`). compile: build the step with torch.compile (falls back to eager, with
    one warning, where there is no compiler), engine="compiled" in short. block: steps per call of the engine. engine: a
    name from `engines.ENGINES`, or a class like theirs.

    After a run the network holds what was learned: while it runs, the simulation learns in copies of the network's
    parameters (where a `TorchOptimizer` learns, in the parameters themselves). A network that is moved, frozen or
    changed between two runs is refused at the next one: see `check` and `take_parameters`.

    Raises ValueError for unknown names, dt ≤ 0, time constants below dt (no integrator resolves those), and a
    simulation that the engine declines.
    """

    def __init__(
        self,
        network: Net,
        *,
        dt: float,
        integrator: str | Integrator = "euler",
        cost: str | Cost = "mse",
        beta: float | Tensor = 1.0,
        gamma: float | Tensor = 0.0,
        plasticity: pl.Plasticity | None = None,
        noise: Noise | Sequence[Noise] = (),
        rule: Rule | None = None,
        compile: bool = False,
        block: int = 4,
        engine: str | type[Engine] = "eager",
    ):
        if not (dt > 0 and math.isfinite(dt)):
            raise ValueError(f"dt must be a positive number, got {dt}")
        if not isinstance(block, (int, np.integer)) or block < 1:
            raise ValueError(f"block must be a number of steps, at least 1, got {block}")
        beta, gamma = _per_member("beta", beta, network), _per_member("gamma", gamma, network)
        self.network = network
        self.integrator = integrator_called(integrator) if isinstance(integrator, str) else integrator
        self.dynamics = Dynamics(dt, beta, gamma, cost_called(cost) if isinstance(cost, str) else cost)
        self.plasticity = plasticity if plasticity is not None and plasticity.every else None
        self.noises = (noise,) if isinstance(noise, Noise) else tuple(noise)
        if wrong := [n for n in self.noises if not isinstance(n, Noise)]:
            raise ValueError(f"noise must be one or several gle.Noise(on, sigma), got {wrong[0]!r}")
        self.block = block
        self.inputs = Inputs(network, self.integrator.nodes, dt)
        self.step = 0  # steps simulated so far
        network.check_integrator(self.integrator.nodes)
        check_time_constants(network, dt)
        if self.plasticity is not None:
            self.plasticity.check(network, dt)
            heard = any(n.on == "rate" and n.sigma and n.tau for n in self.noises)
            if self.plasticity.needs_noise(network) and not heard:
                raise ValueError(
                    "phaseless feedback learns from noise that lasts until the neurons above hear it: give "
                    'noise=gle.Noise("rate", sigma, tau)'
                )

        # a torch.optim optimiser works on the module's own parameters, in place
        optimizer = self.plasticity.optimizer if self.plasticity is not None else None
        self.shared = optimizer if isinstance(optimizer, pl.TorchOptimizer) else None
        self.rule = None if getattr(rule, "own", False) else rule
        if compile and engine not in ("eager", "compiled"):
            raise ValueError(f"compile=True is engine='compiled'; got engine={engine!r} besides: leave out one of both")
        self.engine = engine_called("compiled" if compile else engine, self)
        self.carry = Carry(self._parameters(), (), self.plasticity.init(network) if self.plasticity else None)
        self._taken = taken(network, self.plasticity)

    def __repr__(self) -> str:
        d = self.dynamics
        return shown(
            self, "network", dt=d.dt, integrator=self.integrator, cost=d.cost, beta=d.beta, gamma=d.gamma,
            plasticity=self.plasticity, **({"noise": self.noises} if self.noises else {}), step=self.step,
        )  # fmt: skip

    def __setstate__(self, state: dict) -> None:
        """A copy, whose tensors are new and of the first version."""
        self.__dict__.update(state)
        self._taken = taken(self.network, self.plasticity)

    # -- state and rates -------------------------------------------------------------------------------------------

    def reset(self, batch: int | None = None) -> None:
        """Puts neurons and synaptic traces to rest; without a batch size, the next run decides it. Parameters, mean
        rates, gradients that wait for their update, and the time that functions of time see go on."""
        if batch is not None and (not isinstance(batch, (int, np.integer)) or batch < 1):
            raise ValueError(f"batch must be a number of samples, at least 1, got {batch}")
        self.carry = self.at_rest(batch or 0)

    def at_rest(self, batch: int) -> Carry:
        learning = self.carry.learning
        if batch and self.plasticity is not None and learning is not None:
            learning = self.plasticity.at_rest(self.network, learning, batch)
        elif learning is not None:
            learning = learning._replace(traces=(), slow=())
        when = f"before step {self.step}"
        own = (n.initial(self.network, batch, f"number {i}, {when}") for i, n in enumerate(self.noises))
        noise = tuple(own) if batch else ()
        return Carry(self.carry.theta, self.network.initial_state(batch) if batch else (), learning, noise)

    def set_lr(self, lr: pl.LearningRate | dict[str, pl.LearningRate]) -> None:
        """Changes learning rates: a number or one per ensemble member, for all kinds of parameters or by kind."""
        if self.plasticity is None or self.carry.learning is None:
            raise ValueError("this simulation has no plasticity")
        if self.shared is not None:
            raise ValueError("the torch.optim optimiser holds the learning rates: change them in its param_groups")
        rates = self.plasticity.learning_rates(self.network, lr)
        self.carry = self.carry._replace(learning=self.carry.learning._replace(lr=rates))

    def write_back(self) -> None:
        """Copies the parameters in `carry` into the network's modules, as every run does that ends: for those who
        changed `carry` themselves."""
        self.network.load_theta(self.carry.theta)
        self._agree()

    def take_parameters(self) -> None:
        """Goes on with the parameters that the network's modules have now, e.g. after `network.load_state_dict`. State,
        and an optimiser's memory, go on.

        Raises ValueError for time constants below dt or out of their bounds, for parameters that the torch.optim
        optimiser does not hold, and for a network that was moved, frozen or freed (see `check`).
        """
        self.check(own=False)
        check_time_constants(self.network, self.dynamics.dt)
        if self.plasticity is not None:
            self.plasticity.check(self.network, self.dynamics.dt)
            self.plasticity.check_groups(self.network, self.carry.learning)
        self.carry = self.carry._replace(theta=self._parameters())
        self._agree()

    def _agree(self) -> None:
        """From now on the network's parameters are known as they are."""
        self._taken = self._taken._replace(parameters=taken(self.network, self.plasticity).parameters)

    def _parameters(self) -> Thetas:
        return self.network.theta() if self.shared else copied(self.network.theta())

    def check(self, learns: bool = True, own: bool = True) -> None:
        """Raises ValueError where the network is no longer the one that this simulation was made for: moved to another
        dtype or device; frozen or freed, where it `learns`; its parameters changed, where it goes on with its `own`."""
        then, now = self._taken, taken(self.network, self.plasticity)
        if now[:2] != then[:2]:
            raise ValueError(
                f"the network is now {now.dtype} on {now.device}, this simulation was made when it was {then.dtype} on "
                f"{then.device}: make the Simulation after moving the network"
            )
        for i, (a, b) in enumerate(zip(then.learned, now.learned, strict=True)):
            if learns and a != b:
                raise ValueError(
                    f"{', '.join(b) or 'nothing'} of {self.network.part_name(i)} learns now, "
                    f"{', '.join(a) or 'nothing'} did when this simulation was made: "
                    "freeze and free parameters before, or make the Simulation anew"
                )
        if own and not self._same(now):
            raise ValueError(
                "the network's parameters were changed, by another simulation or by hand; this one has copies of the "
                "former: take_parameters() takes the new ones, write_back() puts its own in their place"
            )

    def _same(self, now: Taken) -> bool:
        """Whether the network's parameters are those that this simulation knows."""
        return all(
            p is q and (self.shared is not None or v == w)
            for (p, v), (q, w) in zip(self._taken.parameters, now.parameters, strict=True)
        )

    # -- saving ----------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict:
        """Everything that a continuation needs, as plain nested dicts of tensors, numbers and names (for
        torch.load(weights_only=True)); a snapshot, which later learning leaves alone."""
        return saved_state(self)

    def load_state_dict(self, saved: dict) -> None:
        """Continues from `state_dict`; a simulation without plasticity takes parameters and neurons, and leaves what
        learning had kept.

        Raises ValueError where it belongs to another network or plasticity, or has time constants below dt, and for a
        network that was moved (see `check`); the simulation is then as it was.
        """
        load_state(self, saved)

    # -- pure: the same function eager and compiled -----------------------------------------------------------------

    @property
    def can_scan(self) -> bool:
        """Whether steps without updates between them can be taken at once (see `gle.scan`)."""
        return len(self.noises) == 0 and can_scan(self.network, self.integrator, self.dynamics.gamma)

    def advance(
        self,
        carry: Carry,
        xs: Tensor,
        targets: Tensor | None,
        update: bool,
        ends: bool = False,
        drawn: Sequence[Sequence[tuple[Tensor, ...]]] = (),
    ) -> Carry:
        """All steps of one block. xs, targets: [steps, nodes, *ensemble, batch, features].

        update: whether the gradients are applied: after every step with every = 1, else after the last. ends: whether
        samples may be over in this block, where their targets are NaN. drawn: what each noise draws, step by step.
        """
        net, dynamics, plasticity = self.network, self.dynamics, self.plasticity
        batch = xs.shape[-2]
        theta, state, learning, noise, _ = carry
        grads: Thetas
        every_step = plasticity is not None and plasticity.every == 1
        filtered = plasticity is not None and plasticity.filters
        at_once = isinstance(self.integrator, Euler) and self.can_scan and not (every_step or filtered or ends)
        if at_once and len(xs) > 1:
            assert isinstance(self.integrator, Euler)
            assert isinstance(net, Network)
            target = None if targets is None else targets[:, 0]
            state, local = scan(net, self.integrator, theta, state, xs[:, 0], target, dynamics)
            if plasticity is not None and learning is not None:
                layers = [
                    pl.layer_gradients(net.layers[i], select(theta[i], d), l, plasticity.learn, batch)
                    for (i, d), l in zip(net.places(), local, strict=True)
                ]
                learning = plasticity.accumulate(learning, restack(net, layers))
        else:
            for t in range(len(xs)):
                nudged = (None,) * xs.shape[1] if targets is None else targets[t].unbind(0)
                over = None
                if ends and targets is not None:
                    over = torch.isnan(targets[t, 0]).all(-1, keepdim=True)
                    state, learning = silenced(state, learning, over)
                if len(self.noises):
                    noise = tuple(
                        n.move(old, new, dynamics.dt) for n, old, new in zip(self.noises, noise, drawn[t], strict=True)
                    )
                    dynamics = changed(dynamics, noise=together(self.noises, noise, over))
                    noise = tuple(x if n.tau else () for n, x in zip(self.noises, noise, strict=True))
                state, seen = self.integrator.step(net, theta, state, xs[t].unbind(0), nudged, dynamics)
                if plasticity is None or learning is None:
                    continue
                learning = plasticity.trace(net, theta, learning, seen, dynamics.dt)
                heard = plasticity.risen(learning, seen)
                grads = pl.gradients(net, theta, heard, plasticity.learn, batch, plasticity.seen(learning, seen))
                if every_step:
                    theta, learning = plasticity.apply(net, theta, learning, grads, dynamics.dt)
                else:
                    learning = plasticity.accumulate(learning, grads)
        if update and not every_step and plasticity is not None and learning is not None:
            theta, learning = plasticity.settle(net, theta, learning, dynamics.dt)
        return Carry(theta, state, learning, noise)

    # -- the loop -----------------------------------------------------------------------------------------------

    def run(
        self,
        inputs: Signal | Stream,
        targets: Signal | None = None,
        *,
        steps: int | None = None,
        record: Record | None = None,
        lengths: Lengths | None = None,
        mask: Tensor | np.ndarray | None = None,
        weights: Tensor | np.ndarray | None = None,
        batch_first: bool = False,
        progress: bool = False,
    ) -> None:
        """Feeds the network and lets it learn; goes on from the state the last run left (see `reset`).

        inputs, targets: tensors [T, batch, features] or [T, *ensemble, batch, features], held over each step; or
        [T, nodes, *ensemble, batch, features], with a value at each of the integrator's nodes; or functions of time
        returning [batch, features], evaluated at the nodes (then `steps` is needed); or, for inputs, an iterable that
        yields one step at a time, x or (x, target). Targets may be labels, too: integers [batch] or [T, batch].
        steps: stop after so many. lengths, mask: of samples that are shorter than T (see `gle.series.lengths_of`):
        nothing is learned from a sample after its end, whatever is there: its errors are zero, its neurons go on
        without input, and once all samples are over the run ends. (The mean rates of `Plasticity(centred=…)`, and
        feedback that learns from noise, still count them.)
        weights: how much each instant counts in the cost, ≥ 0: [T, batch], or [T, *ensemble, batch].
        batch_first: inputs are [batch, T, features], and so are targets, mask and weights. progress: show a bar (needs
        tqdm).

        Raises ValueError for wrong shapes, inputs that are not finite, labels and lengths that cannot be, an iterable
        that yields nothing, and a network that changed (see `check`); FloatingPointError, naming the layer, when the
        dynamics diverge.
        """
        stream = self.stream(
            inputs, targets, steps=steps, record=record, lengths=lengths, mask=mask, weights=weights,
            batch_first=batch_first,
        )  # fmt: skip
        if progress:
            stream = _with_bar(self, stream, steps, inputs, batch_first)
        for _ in stream:
            pass

    @torch.no_grad()
    def stream(
        self,
        inputs: Signal | Stream,
        targets: Signal | None = None,
        *,
        steps: int | None = None,
        record: Record | None = None,
        lengths: Lengths | None = None,
        mask: Tensor | np.ndarray | None = None,
        weights: Tensor | np.ndarray | None = None,
        batch_first: bool = False,
    ) -> Iterator[Carry]:
        """The same as a generator, for streams that never end: yields the carry after each block of steps. The network
        holds what was learned once it is closed, or comes to its end."""
        self.check()
        if record is not None:
            record.check(self.network, self.step)
        over = None
        if lengths is not None or mask is not None or batch_first:
            if not isinstance(inputs, (Tensor, np.ndarray)):
                raise ValueError("lengths, mask and batch_first are for inputs given as a tensor")
            inputs = torch.as_tensor(inputs)
            if batch_first:
                inputs = time_first(inputs, "inputs")
                targets = self.inputs.targets_first(targets)
            ends = lengths_of(lengths, mask, len(inputs), inputs.shape[-2], batch_first)
            if ends is not None and self.rule is not None:
                raise ValueError(f"{type(self.rule).__name__} takes series of one length: leave out lengths and mask")
            if ends is not None:  # where all of them are over, there is nothing left to do
                over = after(ends, len(inputs))
                steps = int(ends.max()) if steps is None else min(steps, int(ends.max()))
        if weights is not None:
            targets = self.inputs.weighted(inputs, targets, weights, self.dynamics.cost, batch_first, over)
        with self.learning():
            yield from self._run(inputs, targets, steps, record, over)

    @contextlib.contextmanager
    def learning(self) -> Iterator[None]:
        """Around what changes the parameters in `carry`: the network holds them afterwards, however it ends. It keeps
        those that it had where the dynamics diverged, and where they were changed by others meanwhile."""
        try:
            yield
        except FloatingPointError:
            raise
        except BaseException:
            self._hand_over()
            raise
        self._hand_over()

    def _hand_over(self) -> None:
        if self.plasticity is not None and self.shared is None and self._same(taken(self.network, self.plasticity)):
            self.write_back()

    def _run(
        self, inputs: Any, targets: Any, steps: int | None, record: Record | None, over: Tensor | None
    ) -> Iterator[Carry]:
        """over: [T, batch], true after a sample's end."""
        began, recorded = self.step, None if record is None else record.every
        for xs, ts in self.inputs.blocks(
            inputs, targets, steps, lambda left: self.engine.length(self.step, left, recorded), self.step, over
        ):
            self._check(xs, ts)
            if record is not None and "loss" in record.what and ts is None:
                raise ValueError("recording the loss needs targets")
            if not self.carry.state:
                self.reset(xs.shape[-2])
            n, checked = len(xs), self.step // CHECK_EVERY
            every = self.plasticity.every if self.plasticity else 0
            t = self.step - began
            ends = over is not None and bool(over[t : t + n].any())
            batch, steps_of = xs.shape[-2], range(self.step, self.step + n)
            drawn = [
                [noise.draw(self.network, batch, f"number {i}, step {k}") for i, noise in enumerate(self.noises)]
                for k in steps_of
            ]
            update = bool(every) and (self.step + n) % every == 0
            carry = self.engine.advance(self.carry, xs, ts, update, ends, drawn if self.noises else ())
            self.carry, self.step = carry, self.step + n
            if self.step // CHECK_EVERY != checked:
                check_finite(self.network, self.carry, self.dynamics.dt, self.step)
            if record is not None and self.step % record.every == 0:
                target = None if ts is None else ts[-1, 0]
                record.take(self.network, self.step, self.carry, target, self.dynamics.cost)
            yield self.carry
        check_finite(self.network, self.carry, self.dynamics.dt, self.step)

    def sampled(self, inputs: Signal, targets: Signal | None, steps: int | None = None) -> tuple[Tensor, Tensor | None]:
        """Inputs and targets as the integrator takes them, [T, nodes, *ensemble, batch, features], checked as in
        `run`; they are tensors or functions of time."""
        if isinstance(inputs, (Tensor, np.ndarray)):
            xs, ts = self.inputs.whole(inputs, targets)
            xs, ts = xs[:steps], None if ts is None else ts[:steps]
        else:
            blocks = list(
                self.inputs.blocks(
                    inputs, targets, steps, lambda left: self.engine.length(self.step, left, None), self.step
                )
            )
            xs = torch.cat([x for x, _ in blocks]) if blocks else torch.empty(0)
            ts = None if targets is None else torch.cat([t for _, t in blocks if t is not None]) if blocks else None
        if not len(xs):
            raise ValueError("the stretch is empty: give at least one step")
        self._check(xs, ts)
        return xs, ts

    def _check(self, xs: Tensor, ts: Tensor | None) -> None:
        batch = self.carry.state[0].u.shape[-2] if self.carry.state else xs.shape[-2]
        if xs.shape[-2] != batch:
            raise ValueError(
                f"inputs have a batch of {xs.shape[-2]}, the state one of {batch}: reset() the simulation first"
            )
        if ts is not None and ts.shape[-2] != batch:
            raise ValueError(f"targets have a batch of {ts.shape[-2]}, inputs one of {batch}")

    # -- evaluation -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(
        self,
        inputs: Tensor | np.ndarray,
        *,
        theta: Thetas | None = None,
        state: State | None = None,
        lengths: Lengths | None = None,
        mask: Tensor | np.ndarray | None = None,
        batch_first: bool = False,
    ) -> tuple[Tensor, State]:
        """Outputs r_L [T, *ensemble, batch, n_out] of the frozen network without a teacher, and the state after.

        inputs: [T, batch, features] or with ensemble axes. theta: other parameters than the current ones. state:
        where to start (default: at rest); errors are taken as zero. lengths, mask: of samples that are shorter than T
        (see `gle.series.lengths_of`): after its end a sample's outputs are zero, and its state is that of its end.
        batch_first: inputs, outputs and mask are [*ensemble, batch, T, …]. The simulation itself is left as it is.
        """
        return predicted(self, inputs, theta, state, lengths, mask, batch_first)


def silenced(state: State, learning: pl.Learning | None, over: Tensor) -> tuple[State, pl.Learning | None]:
    """Without errors, and without traces in the synapses, of the samples that are over: [*ensemble, batch, 1]."""

    def quiet(t: Tensor) -> Tensor:
        return t.masked_fill(over, 0.0)

    state = tuple(changed(z, **{k: mapped(quiet, getattr(z, k)) for k in ("v", "e", "sent")}) for z in state)
    if learning is not None and learning.traces:
        learning = changed(learning, traces=tuple(_quiet_trace(t, over, quiet) for t in learning.traces))
    return state, learning


def _quiet_trace(trace: pl.Trace, over: Tensor, quiet: Callable[[Tensor], Tensor]) -> pl.Trace:
    """Eligibility traces have an axis of groups in front of that of samples."""
    if trace.low is None:
        return mapped(quiet, trace)
    own = over.unsqueeze(-3)
    return trace._replace(e=quiet(trace.e), pre=trace.pre.masked_fill(own, 0.0), low=trace.low.masked_fill(own, 0.0))


def _with_bar(sim: Simulation, stream: Iterator[Carry], steps: int | None, inputs: Any, batch_first: bool) -> Iterator:
    """The stream, with a bar over its steps. Raises ValueError without tqdm."""
    try:
        from tqdm.auto import tqdm
    except ImportError:
        raise ValueError("progress=True needs tqdm: pip install tqdm") from None
    whole = isinstance(inputs, (Tensor, np.ndarray))
    total = (inputs.shape[-2] if batch_first else len(inputs)) if whole else None
    with tqdm(total=steps if total is None else min(total, steps or total), unit="step") as bar:
        began = sim.step
        for carry in stream:
            bar.update(sim.step - began - bar.n)
            yield carry


def _per_member(name: str, value: float | Sequence[float] | Tensor, net: Wiring) -> float | Tensor:
    """β or γ: a number, or one per ensemble member."""
    given = torch.as_tensor(value, dtype=torch.float64)
    if given.shape not in ((), net.ensemble):
        raise ValueError(f"{name} has shape {tuple(given.shape)}; give a number or one per member {net.ensemble}")
    if not torch.isfinite(given).all():
        raise ValueError(f"{name} must be finite, got {value}")
    return given.to(device=net.device, dtype=net.dtype) if given.ndim else given.item()
