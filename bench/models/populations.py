"""GLE networks of equal hidden layers, each of several populations; and LagNet (§2.7.3)."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal, Optional

import torch

import gle
from gle.errors import ErrorNeuron

ONLINE = ("gle", "lagnet")  # kinds that learn online; the others are baselines


@dataclass
class Model:
    """What is trained.

    Args:
        kind: a GLE network, LagNet chains below an instantaneous network (§2.7.3), or a baseline of Table 2 (or 3).
        populations: [neurons, tau_m, tau_r] of each population of a hidden layer.
        hidden_layers: number of hidden layers (of the plastic network, for LagNet).
        output_tau: both time constants of the output neurons, which are instantaneous.
        lags: time constants tau_m of LagNet's chains.
        lag_layers: length of LagNet's chains.
        weight_gain: factor on the initial weights of a GLE network's hidden layers (1: uniform in ± 1/√fan-in).
        bias_gain: the same for their biases.
        lateral: of a GLE network, factor on the initial weights that join each tanh layer to itself, by rates of the
            step before; each of them learns by its own neuron's error, which does not go round. None: there are none.
    """

    kind: Literal["gle", "lagnet", "mlp", "tcn", "gru", "lstm"] = "gle"
    populations: list[tuple[int, float, float]] = field(
        default_factory=lambda: [(18, 0.6, 0.2), (18, 1.2, 0.2), (17, 1.2, 1.2)]
    )
    hidden_layers: int = 6
    output_tau: float = 1.0
    lags: list[float] = field(default_factory=list)
    lag_layers: int = 4
    weight_gain: float = 1.0
    bias_gain: float = 1.0
    lateral: Optional[float] = None


def taus(populations: list[tuple[int, float, float]]) -> dict[str, Any]:
    """tau_m and tau_r of the neurons of a layer."""
    return {
        name: torch.cat([torch.full((n,), tau[i]) for n, *tau in populations])
        for i, name in enumerate(("tau_m", "tau_r"))
    }


def network(
    m: Model, features: int, classes: int, seeds: list[int], dt: float, errors: str | ErrorNeuron, **where: Any
) -> gle.Network | gle.Graph:
    """One ensemble member per seed. errors: of the hidden layers. where: dtype and device."""
    if m.lateral is not None:
        return recurrent(m, features, classes, seeds, errors, **where)
    common: dict[str, Any] = {"ensemble": (len(seeds),), **where}
    n = sum(size for size, *_ in m.populations)
    hidden: dict[str, Any] = {**taus(m.populations), "errors": errors, **common}
    output = gle.Layer(n, classes, tau_m=m.output_tau, tau_r=m.output_tau, phi="linear", **common)
    if m.kind == "gle":  # the first hidden layer has no φ in the published runs
        hiddens = [gle.Layer(features, n, phi="linear", **hidden), *_hidden(n, m.hidden_layers - 1, hidden)]
        made = gle.Network([*hiddens, output], seeds)
        with torch.no_grad():
            for layer in hiddens:
                layer.W.mul_(m.weight_gain)
                layer.theta().b.mul_(m.bias_gain)
        return made

    lags = len(m.lags)
    chain: dict[str, Any] = {"tau_m": m.lags, "tau_r": dt, "phi": "linear", "bias": False, "plastic": False}
    chains = [
        gle.Layer(features, lags, **chain, **common),
        gle.Layer(lags, lags, depth=m.lag_layers - 1, **chain, **common),
    ]
    top = [gle.Layer(lags, n, **hidden), *_hidden(n, m.hidden_layers - 1, hidden)]
    made = gle.Network([*chains, *top, output], seeds)
    with torch.no_grad():
        chains[0].W.fill_(1.0)
        chains[1].W.copy_(torch.eye(lags).expand_as(chains[1].W))
    return made


def recurrent(
    m: Model, features: int, classes: int, seeds: list[int], errors: str | ErrorNeuron, **where: Any
) -> gle.Graph:
    """The same with lateral weights in the tanh layers. Raises ValueError unless that is a GLE network with one."""
    if m.kind != "gle" or m.hidden_layers < 2:
        raise ValueError(
            f"lateral weights are for gle with two hidden layers or more, not {m.kind} with {m.hidden_layers}"
        )
    assert m.lateral is not None
    n, names = sum(size for size, *_ in m.populations), [f"hidden {i}" for i in range(m.hidden_layers)]
    hidden: dict[str, Any] = {**taus(m.populations), "errors": errors}
    populations = {h: gle.Population(n, phi="tanh" if i else "linear", **hidden) for i, h in enumerate(names)}
    populations["output"] = gle.Population(classes, m.output_tau, m.output_tau, phi="linear")
    upward = [gle.Projection(a, b) for a, b in pairwise(["input", *names, "output"])]
    lateral = [gle.Projection(h, h, delay=1, epsilon=0.0) for h in names[1:]]
    made = gle.Graph(features, populations, [*upward, *lateral], ensemble=len(seeds), seed=seeds, **where)
    with torch.no_grad():
        for p in upward[:-1]:
            made[f"{p.source} → {p.target}"].W.mul_(m.weight_gain)
            made[p.target].b.mul_(m.bias_gain)
        for p in lateral:
            made[f"{p.source} → {p.target} (delayed)"].W.mul_(m.lateral)
    return made


def _hidden(n: int, depth: int, hidden: dict[str, Any]) -> list[gle.Layer]:
    return [gle.Layer(n, n, depth=depth, **hidden)] if depth else []
