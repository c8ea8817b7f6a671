"""Which rule takes which part, measured: the table of docs/graphs.md.

Networks of instantaneous neurons (τm = τr, instant propagation, γ = 0), where a rule that takes a part at all should
find the gradient of backpropagation through time: `exact`, or not, `approximate`; or it says in one line that it does
not take it, `refused`.
"""

from functools import partial
from pathlib import Path

import pytest
import torch

import gle
from gle import rules
from gle.errors import Blended, Prospective, Saturating
from gle.integrators import Euler
from gle.neurons import ACTIVATIONS, RATE_FUNCTIONS
from gle.synapses import FEEDBACKS, Masked, Tokens

D = torch.float64
DOCUMENT = Path(__file__).parents[2] / "docs" / "graphs.md"
BEGIN, END = "<!-- rules and parts -->", "<!-- end of rules and parts -->"
STILL = {"tau_m": 1.0, "tau_r": 1.0}


def chain(phi="tanh", errors="prospective", synapse=gle.Linear, feedback="transpose"):
    middle = {"synapse": synapse(feedback=feedback), "phi": phi, "errors": errors}
    layers = [
        gle.Layer(3, 4, **STILL, dtype=D),
        gle.Layer(4, 4, **STILL, dtype=D, **middle),
        gle.Layer(4, 2, phi="linear", synapse=gle.Linear(feedback), **STILL, dtype=D),
    ]
    return gle.Network(layers, seed=1)


def graph(*projections):
    joined = [gle.Projection("input", "a"), gle.Projection("a", "b"), gle.Projection("b", "c")]
    names = {"a": "tanh", "b": "tanh", "c": "linear"}
    populations = {name: gle.Population(4 if name != "c" else 2, phi=phi, **STILL) for name, phi in names.items()}
    return gle.Graph(3, populations, [*joined, *projections], dtype=D, seed=1)


KNOWN = [name for name in (*ACTIVATIONS, *RATE_FUNCTIONS) if name not in ("linear", "tanh")]
PARTS = {
    "a chain of dense layers, tanh": chain,
    **{f"rate function {name}": partial(chain, name) for name in KNOWN},
    "errors instantaneous": partial(chain, errors="instantaneous"),
    "errors relaxing": partial(chain, errors="relaxing"),
    "errors all_pass": partial(chain, errors="all_pass"),
    "errors saturating": partial(chain, errors=Saturating(at=0.1)),
    "errors blended": partial(chain, errors=Blended(0.5)),
    "errors mismatched": partial(chain, errors=Prospective(tau_m=2.0)),
    "synapses masked": partial(chain, synapse=partial(Masked, torch.eye(4))),
    "synapses shared between positions": partial(chain, synapse=partial(Tokens, 2)),
    **{f"feedback {name}": partial(chain, feedback=name) for name in FEEDBACKS if name != "transpose"},
    "a graph with a skip": partial(graph, gle.Projection("a", "c")),
    "a graph with a delayed loop": partial(graph, gle.Projection("b", "a", delay=1)),
}
RULES = {  # in the form in which each is exact for most
    "adjoint": ("adjoint, matched", {"matched": True}),
    "rflo": ("rflo, transposed", {"feedback": "transpose"}),
}


def verdict(rule, make):
    g = torch.Generator().manual_seed(2)
    x, y = (torch.randn(5, 3, n, generator=g, dtype=D) for n in (3, 2))
    sim = gle.Simulation(make(), dt=0.5, integrator=Euler("instant"))
    exact = rules.assign(rules.BPTT(), sim, x, y).grads
    try:
        found = rules.assign(rule, sim, x, y).grads
    except ValueError as error:
        return "refused" if "\n" not in str(error) else "refused, in many words"
    kinds = [(i, k) for i, p in enumerate(exact) for k in ("W", "b") if getattr(p, k) is not None]
    a, b = (torch.cat([getattr(grads[i], k).flatten() for i, k in kinds]) for grads in (found, exact))
    assert b.norm() > 1e-3
    return "exact" if torch.allclose(a, b, rtol=1e-6, atol=1e-9) else "approximate"


def table():
    made = {RULES.get(name, (name, {}))[0]: rules.rule(name, **RULES.get(name, (name, {}))[1]) for name in rules.RULES}
    rows = [["part", *made], ["---"] * (1 + len(made))]
    rows += [[part, *(verdict(rule, make) for rule in made.values())] for part, make in PARTS.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def test_table_of_rules_and_parts():
    """Prevents: a table that was true once; a rule that leaves out a part in silence."""
    text = DOCUMENT.read_text()
    written = text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip()
    measured = table()
    if written != measured:
        pytest.fail(f"{DOCUMENT.name} should have between its marks:\n{measured}")


if __name__ == "__main__":
    print(table())
