"""How objects of this package show themselves: as one would write them."""

from __future__ import annotations

from typing import Any

from torch import Tensor


def shown(thing: object, *arguments: str, **named: Any) -> str:
    """Name of the class with the values of these attributes, and of others by name."""
    values = {name: getattr(thing, name) for name in arguments} | named
    inside = ", ".join(f"{name}={value!r}" for name, value in values.items())
    return f"{type(thing).__name__}({inside})"


def spread(values: Tensor) -> str:
    """A number, or the range of several."""
    low, high = float(values.min()), float(values.max())
    return f"{low:.3g}" if low == high else f"{low:.3g} … {high:.3g}"
