"""One contract for all ways of assigning credit: the problem, the answer, and a rule that leads from one to the other.

    credit = rule(problem, theta, state, xs, targets, memory)

GLE's own rule is what a `Simulation` does at every step, with its plasticity; any other one takes its place by
`Simulation(…, rule=…)`, or is asked once by `gle.rules.assign`.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from gle.dynamics import Dynamics
from gle.integrators import Integrator
from gle.state import State, Thetas
from gle.wiring import Wiring


class Problem(NamedTuple):
    """What stays fixed while credit is assigned. learn: kinds of parameters."""

    net: Wiring
    integrator: Integrator
    dynamics: Dynamics
    learn: tuple[str, ...] = ("W", "b")


class Credit(NamedTuple):
    """What a rule returns.

    grads: ∂/∂θ of the stretch's cost; None for what does not learn. errors: for each layer ℓ the error that its
    plasticity used, [T, *ensemble, batch, n]: −∂cost/∂current or its approximation (of RFLO, whose traces hold the
    neuron's own filter, −∂cost/∂D⁺_τr{u}); None where the rule has none. outputs: r_L as the cost sees it, [T,
    *ensemble, batch, n_out]. cost: β C, [T, *ensemble, batch]. state: after the stretch; v, e and
    what was sent down, which belong to GLE's errors, may be left as they were by rules that do without them. memory:
    what the rule itself carries on, to be handed to the next stretch.
    """

    grads: Thetas
    errors: tuple[Tensor, ...] | None
    outputs: Tensor
    cost: Tensor
    state: State
    memory: Any = None


class Rule(Protocol):
    """exact_for: the case in which the gradients are those of the stretch's cost, at fixed parameters. online: whether
    the rule runs forward in time, so that a stretch may be as short as one step. memories: the NamedTuples that its
    memory is made of, for saving."""

    exact_for: str
    online: bool
    memories: tuple[type, ...]

    def __call__(
        self, problem: Problem, theta: Thetas, state: State, xs: Tensor, targets: Tensor, memory: Any = None
    ) -> Credit:
        """theta, state: where to start; xs, targets: [T, nodes, *ensemble, batch, features], nodes as the integrator
        declares them; memory: from the stretch before, None at the start of a stream."""


# -- a rule's memory on disk -------------------------------------------------------------------------------------------


def plain(memory: Any) -> Any:
    """A memory as nested dicts and lists of tensors and plain values."""
    if isinstance(memory, Tensor):
        return memory.detach().clone()
    if isinstance(memory, torch.Generator):
        return {"generator": memory.get_state()}
    if isinstance(memory, tuple) and hasattr(memory, "_fields"):
        return {"type": type(memory).__name__, "fields": [plain(part) for part in memory]}
    if isinstance(memory, (tuple, list)):
        return {type(memory).__name__: [plain(part) for part in memory]}
    return memory


def remembered(saved: Any, rule: Rule | None) -> Any:
    """The memory again. Raises ValueError for what no memory of this rule is made of."""
    if not isinstance(saved, dict):
        return saved
    kinds = {kind.__name__: kind for kind in getattr(rule, "memories", ())}
    try:
        if "generator" in saved:
            made = torch.Generator()
            made.set_state(saved["generator"])
            return made
        if "type" in saved:
            return kinds[saved["type"]](*(remembered(part, rule) for part in saved["fields"]))
        ((kind, parts),) = saved.items()
        return {"tuple": tuple, "list": list}[kind](remembered(part, rule) for part in parts)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the saved memory is none of the rule {type(rule).__name__}: {error!r}") from None
