"""What the pure functions take and give: parameters, states, and what is present at synapses and neurons in a step.

Tuples with one entry for each part of a network (see `gle.wiring`), and in each entry one tensor for each quantity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from torch import Tensor


class Theta(NamedTuple):
    """Parameters of a layer (Postulate 4), or their gradients: descent goes along −gradient.

    None stands for what is absent: among gradients anything that does not learn, among parameters b and B alone.
    """

    W: Any = None
    b: Any = None
    tau_m: Any = None
    tau_r: Any = None
    B: Any = None  # feedback weights, where the feedback pathway has its own


class LayerState(NamedTuple):
    """What a layer carries from step to step. Each [depth, *ensemble, batch, n_out], `sent` [depth, *ensemble, batch,
    n_in]."""

    u: Tensor  # membrane potential of the representation neurons
    v: Tensor  # membrane potential of the error neurons
    r: Tensor  # their outputs: rate r = φ(D⁺_τr{u}) …
    e: Tensor  # … and error e = D⁺_τm{v}
    # the current Wᵀ e that e sends down. With delayed propagation it arrives a step later, when W has changed already:
    # what arrives must not hold the change that e itself made. Zeros where nobody receives it: below the first layer,
    # and with instant propagation, where it arrives within the step
    sent: Any
    # what the way back through φ needs besides r: tensors of the rate function's own, none for a pointwise monotone φ
    kept: tuple = ()


class Local(NamedTuple):
    """What is present at a layer's synapses and neurons during a step: all that plasticity may use (Eqs. 21–24)."""

    pre: Any  # r of the layer below, as the synapses see it; None for neurons whose synapses are parts of their own …
    current: Any  # W r + b (+ γ e), which drives u; … and these three for such synapses
    u: Any  # before the step
    e_inst: Any  # φ′ ∘ Wᵀ e of the layer above, which drives v
    e: Tensor
    above: Any = None  # r of the neurons that these synapses end on …
    noise: Any = None  # … and the noise on those of `pre`, where there is any: what feedback may learn from


State = tuple[LayerState, ...]
Thetas = tuple[Theta, ...]
N = TypeVar("N", bound=tuple)


def changed(item: N, **fields: Any) -> N:
    """A NamedTuple with some fields exchanged. In compiled code in place of `_replace`, which the compiler of PyTorch
    2.11 turns into an empty tuple, without a word."""
    return type(item)(**{**item._asdict(), **fields})  # type: ignore[attr-defined]


def select(item: N, d: int) -> N:
    """Layer d of a Theta, LayerState or Local, without the axis of depth."""
    return mapped(lambda t: t[d], item)


def mapped(f: Callable[..., Tensor], item: Any, *others: Any) -> Any:
    """f of every tensor in tuples within tuples; of several of one structure, of the tensors in the same place."""
    if isinstance(item, tuple):
        parts = [mapped(f, *part) for part in zip(item, *others, strict=True)]
        return type(item)(*parts) if hasattr(item, "_fields") else tuple(parts)
    return None if item is None else f(item, *others)
