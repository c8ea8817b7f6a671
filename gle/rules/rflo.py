"""Random feedback local online learning (Murray 2019): eligibility traces and a broadcast error."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from gle.integrators import Euler
from gle.network import Layer, Network
from gle.operators import low_pass, prospective, rate_of_change
from gle.rules.base import Credit, Problem, chain, cost_of, handed_on, learned, nudges, steps
from gle.scan import restack
from gle.seeding import generator
from gle.state import State, Theta, Thetas, select


class Eligibility(NamedTuple):
    """Of one layer ℓ: Theta of tensors [*ensemble, batch, n, n_in] (W) or [*ensemble, batch, n]."""

    membrane: Theta  # ∂u_i/∂θ_i, through neuron i's own membrane alone
    output: Theta  # the same of D⁺_τr{u_i}, of the step before


class Traces(NamedTuple):
    batch: int
    where: list[tuple[int, str]]
    layers: list[Eligibility]
    feedback: list[Tensor]  # [*ensemble, n_out, n] for each hidden layer ℓ


class RFLO:
    """ΔW_ij = (B ε)_i φ′_i p_ij: what neuron i's own filter D⁺_τr I⁻_τm makes of the presynaptic rate j (the
    eligibility p_ij), times the output's error ε, broadcast through a fixed random B ("random") or sent down through
    the weights without delay ("transpose").

    With γ = 0 exact for the top layer, and with "transpose" for a layer below instantaneous ones (τm = τr) with instant
    propagation (τm with Euler alone). What an upper neuron's own memory does to a lower one's influence is not seen.
    Memory O(N²) per sample. seed: of B.

    Raises ValueError for integrators other than Euler and Exponential.
    """

    exact_for = "γ = 0: the top layer; with transposed feedback also below instantaneous layers"
    online = True
    memories: tuple[type, ...] = (Traces, Eligibility, Theta)

    def __init__(self, feedback: Literal["random", "transpose"] = "random", seed: int = 0):
        if feedback not in ("random", "transpose"):
            raise ValueError(f"unknown feedback {feedback!r}; choose random or transpose")
        self.feedback, self.seed = feedback, seed

    @torch.no_grad()
    def __call__(
        self, problem: Problem, theta: Thetas, state: State, xs: Tensor, targets: Tensor, memory: Any = None
    ) -> Credit:
        net = chain(problem, self, dense=True)
        _, integrator, dynamics, learn = problem
        if not isinstance(integrator, Euler):
            raise ValueError(f"RFLO's traces are for Euler and Exponential, not {type(integrator).__name__}")
        where = learned(problem)
        batch, delayed = xs.shape[-2], integrator.propagation == "delayed"
        places = list(net.places())
        if memory is None:
            rest = [self._rest(net.layers[i], batch, learn) for i, _ in places]
            memory = Traces(batch, where, rest, self._random(net))
        _, _, traces, B = handed_on(memory, Traces, batch, where)
        sums: list[Theta] = [Theta() for _ in places]
        outputs, errors = [], []
        for t, step in enumerate(steps(problem, theta, state, xs, targets)):
            top = nudges(problem, step.seen.unsqueeze(0), targets[t].unsqueeze(0))[0]
            slopes = [net.layers[i].phi.pull((), r := step.rates[i][d], torch.ones_like(r)) for i, d in places]
            signals: list[Tensor] = [slopes[-1] * top]
            for n in reversed(range(len(places) - 1)):
                if self.feedback == "random":
                    down = top @ B[n]
                else:
                    (i, d), q = places[n + 1], select(theta[places[n + 1][0]], places[n + 1][1])
                    down = net.layers[i].synapse.backproject(q.W, q.W, signals[0])
                signals.insert(0, slopes[n] * down)

            new = []
            for n, (i, d) in enumerate(places):
                kinds = net.layers[i].learned(learn)
                if not kinds:
                    new.append(traces[n])
                    continue
                p, local = select(theta[i], d), select(step.local[i], d)
                u_dot = rate_of_change(local.u, local.current, p.tau_m.unsqueeze(-2))
                driven = {"W": local.pre.unsqueeze(-2), "b": torch.ones_like(u_dot), "tau_m": -u_dot}
                membrane, output = {}, {}
                for kind in kinds:
                    if kind == "tau_r":
                        output[kind] = u_dot  # acts on the output at once
                        continue
                    old = getattr(traces[n].membrane, kind)
                    axis = (..., None, slice(None), None) if kind == "W" else (..., None, slice(None))
                    tau_m, tau_r = p.tau_m[axis], p.tau_r[axis]
                    x = driven[kind].expand_as(old)
                    output[kind] = prospective(old, x, tau_m, tau_r)
                    membrane[kind] = low_pass(old, x, integrator.fraction(dynamics.dt, tau_m))
                new.append(Eligibility(Theta(**membrane), Theta(**output)))
                seen = traces[n].output if delayed else new[n].output
                sums[n] = self._add(sums[n], seen, signals[n], batch)
            traces = new
            outputs.append(step.seen)
            errors.append(signals)
            state = step.state
        stacked = torch.stack(outputs)
        by_layer = tuple(torch.stack(e) for e in zip(*errors, strict=True))
        cost = cost_of(problem, stacked, targets)
        return Credit(restack(net, sums), by_layer, stacked, cost, state, Traces(batch, where, traces, B))

    @staticmethod
    def _add(total: Theta, eligibility: Theta, signal: Tensor, batch: int) -> Theta:
        """Gradients of one step: −error × eligibility, averaged over the batch."""
        new = {}
        for kind, p in eligibility._asdict().items():
            if p is None:
                continue
            here = -((signal.unsqueeze(-1) if kind == "W" else signal) * p).sum(-3 if kind == "W" else -2) / batch
            old = getattr(total, kind)
            new[kind] = here if old is None else old + here
        return Theta(**new)

    @staticmethod
    def _rest(layer: Layer, batch: int, learn: tuple[str, ...]) -> Eligibility:
        shape = (*layer.ensemble, batch, layer.n_out)
        zeros = {
            kind: layer.W.new_zeros(*shape, layer.n_in) if kind == "W" else layer.W.new_zeros(shape)
            for kind in layer.learned(learn)
        }
        membrane = {k: z for k, z in zeros.items() if k != "tau_r"}
        return Eligibility(Theta(**membrane), Theta(**zeros))

    def _random(self, net: Network) -> list[Tensor]:
        g = generator(self.seed, "rflo")
        weights = []
        for i, _ in list(net.places())[:-1]:
            n = net.layers[i].n_out
            draw = torch.randn(*net.ensemble, net.n_out, n, generator=g, dtype=torch.float64) / math.sqrt(net.n_out)
            weights.append(draw.to(net.layers[i].W))
        return weights
