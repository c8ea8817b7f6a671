"""Ways of assigning credit, with one face: GLE's own, and the references that it is compared with.

    sim = gle.Simulation(network, dt=0.1, cost="mse")
    credit = rules.assign(rules.BPTT(), sim, inputs, targets)    # credit.grads, credit.errors, …

A new rule is one file with one class (see `base.Rule`) and one line in `RULES`.
"""

from __future__ import annotations

from typing import Any

from gle.rules.adjoint import Adjoint
from gle.rules.base import Credit, Problem, Rule, assign, learn, learning
from gle.rules.bptt import BPTT
from gle.rules.gle import GLE
from gle.rules.instantaneous import Instantaneous
from gle.rules.rflo import RFLO
from gle.rules.rtrl import RTRL
from gle.rules.uoro import UORO

RULES: dict[str, type] = {
    "gle": GLE,
    "instantaneous": Instantaneous,
    "bptt": BPTT,
    "adjoint": Adjoint,
    "rtrl": RTRL,
    "rflo": RFLO,
    "uoro": UORO,
}


def rule(name: str, **options: Any) -> Rule:
    """The rule called `name`. Raises ValueError for an unknown one."""
    if name not in RULES:
        raise ValueError(f"unknown rule {name!r}; choose one of {', '.join(RULES)}")
    return RULES[name](**options)


__all__ = [
    "BPTT",
    "GLE",
    "RFLO",
    "RTRL",
    "RULES",
    "UORO",
    "Adjoint",
    "Credit",
    "Instantaneous",
    "Problem",
    "Rule",
    "assign",
    "learn",
    "learning",
    "rule",
]
