"""How far two sets of gradients, or two error signals, agree.

Cosine, agreement of signs and ratio of norms. None of them means anything for a vector of zeros, which is how a
comparison becomes vacuous: zeros raise ValueError instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from gle.plasticity import LEARNABLE
from gle.state import Thetas
from gle.wiring import Wiring


class Alignment(NamedTuple):
    """Shapes as the leading axes that were kept."""

    cosine: Tensor  # ⟨a, b⟩ / (‖a‖ ‖b‖)
    signs: Tensor  # part of the entries with the same sign
    norm_ratio: Tensor  # ‖a‖ / ‖b‖


def compare(a: Tensor, b: Tensor, name: str = "signal") -> Alignment:
    """a against the reference b, over the last axis: [..., n] → [...].

    Raises ValueError for different shapes, an empty axis, and where either is zero or not finite.
    """
    if a.shape != b.shape:
        raise ValueError(f"{name}: shapes {tuple(a.shape)} and {tuple(b.shape)} differ")
    if a.ndim == 0 or a.numel() == 0:
        raise ValueError(f"{name}: nothing to compare, the group is empty")
    sizes = []
    for which, x in (("the first", a), ("the reference", b)):
        size = x.abs().amax(-1, keepdim=True)  # taken out, so that no square over- or underflows
        bad = (~(torch.isfinite(size) & (size > 0)))[..., 0].nonzero()
        if len(bad):
            at = f" at {tuple(bad[0].tolist())}" if a.ndim > 1 else ""
            raise ValueError(f"{name}: {which} is zero or not finite{at}, so that no direction can be compared")
        sizes.append(size)
    a, b = a / sizes[0], b / sizes[1]
    norms = a.norm(dim=-1), b.norm(dim=-1)
    signs = (a.sign() == b.sign()).to(a.dtype).mean(-1)
    ratio = norms[0] / norms[1] * (sizes[0] / sizes[1]).squeeze(-1)
    return Alignment((a * b).sum(-1) / (norms[0] * norms[1]), signs, ratio)


def groups(net: Wiring, grads: Thetas, kinds: Sequence[str] = LEARNABLE) -> dict[tuple[int, str], Tensor]:
    """Gradients by (layer ℓ, kind), flattened: [*ensemble, n]; of a graph by (index of the part, kind).

    Raises ValueError where there is none of these kinds.
    """
    found = {}
    for l, (i, d) in enumerate((i, d) for i, part in enumerate(net.parts) for d in range(part.depth)):
        for kind in kinds:
            if (g := getattr(grads[i], kind)) is not None:
                found[l, kind] = g[d].flatten(len(net.ensemble))
    if not found:
        raise ValueError(f"there are no gradients of {', '.join(kinds)}: nothing to compare")
    return found


def _pair(net: Wiring, grads: Thetas, reference: Thetas) -> tuple[dict, dict]:
    """The groups of both. Raises ValueError where they differ."""
    own, exact = groups(net, grads), groups(net, reference)
    if own.keys() != exact.keys():
        raise ValueError(f"the two hold different groups: {sorted(own.keys() ^ exact.keys())} is in one of them alone")
    return own, exact


def gradients(net: Wiring, grads: Thetas, reference: Thetas) -> dict[tuple[int, str], Alignment]:
    """Agreement of every parameter group (layer ℓ, kind), one value per ensemble member.

    Raises ValueError where the two hold different groups, or a group is zero.
    """
    own, exact = _pair(net, grads, reference)
    return {key: compare(own[key], exact[key], f"gradient of {key[1]} in layer {key[0]}") for key in own}


def whole(net: Wiring, grads: Thetas, reference: Thetas) -> Alignment:
    """Agreement of all groups taken as one vector, one value per ensemble member."""
    own, exact = _pair(net, grads, reference)
    return compare(torch.cat(list(own.values()), -1), torch.cat(list(exact.values()), -1), "gradient")


def over_time(errors: Tensor, reference: Tensor) -> Alignment:
    """Agreement of an error signal with another at each time, over batch and neurons: [T, *ensemble, batch, n] → [T,
    *ensemble].

    With delayed propagation the exact errors of a layer ℓ of L are zero in the last L − ℓ steps of a stretch: leave
    those out. Raises what `compare` raises.
    """
    return compare(errors.flatten(-2), reference.flatten(-2), "error signal")
