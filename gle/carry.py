"""Everything that changes while a network runs, and the same as plain dicts on disk."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from gle.plasticity import Learning, Trace
from gle.state import LayerState, State, Thetas, mapped


class Carry(NamedTuple):
    """Everything that changes while the network runs."""

    theta: Thetas
    state: State
    learning: Learning | None
    noise: tuple = ()  # what each noise remembers, where one has a memory
    memory: Any = None  # of a rule of credit in place of GLE's own


def copied(theta: Thetas) -> Thetas:
    return mapped(lambda t: t.detach().clone(), theta)


def to_dict(item: Any) -> Any:
    if isinstance(item, Tensor):
        return item.detach().clone()
    if isinstance(item, tuple):
        keys = getattr(item, "_fields", map(str, range(len(item))))
        return {k: to_dict(v) for k, v in zip(keys, item, strict=True)}
    return {k: to_dict(v) for k, v in item.items()} if isinstance(item, dict) else item


def from_dict(template: Any, saved: Any, name: str) -> Any:
    """`saved` in the structure of `template`."""
    if isinstance(template, (tuple, dict)):
        own = to_dict(template) if isinstance(template, tuple) else template
        for kind, younger in (
            (LayerState, "kept"),
            (Carry, "noise"),
            (Carry, "memory"),
            (Learning, "slow"),
            (Learning, "groups"),
            (Trace, "low"),
            (Trace, "groups"),
        ):  # than some saved states
            if isinstance(template, kind) and isinstance(saved, dict) and _empty(getattr(template, younger)):
                saved = {younger: own[younger], **saved}
        if not isinstance(saved, dict) or saved.keys() != own.keys():
            raise ValueError(f"{name} of the saved state does not fit this simulation: another network or plasticity?")
        items = template.items() if isinstance(template, dict) else zip(own, template, strict=True)
        new = {k: from_dict(t, saved[k], f"{name}.{k}") for k, t in items}
        if isinstance(template, dict):
            return new
        return type(template)(**new) if hasattr(template, "_fields") else tuple(new.values())
    if template is None or saved is None:
        if template is not saved:
            raise ValueError(f"{name} is missing on one side: saved by another network or plasticity?")
        return None
    if not isinstance(saved, Tensor):
        raise ValueError(f"{name} of the saved state is no tensor: {type(saved).__name__}")
    if torch.promote_types(saved.dtype, template.dtype) != template.dtype:
        raise ValueError(f"{name} was saved as {saved.dtype}, which this simulation's {template.dtype} cannot hold")
    if saved.shape != template.shape:
        raise ValueError(
            f"{name} was saved with shape {tuple(saved.shape)}, this simulation has {tuple(template.shape)}"
        )
    return saved.to(template).clone()


def _empty(part: Any) -> bool:
    return not isinstance(part, Tensor) and not part
