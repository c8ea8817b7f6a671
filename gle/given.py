"""Numbers that users give, checked: a clear error in place of one from deep within."""

from __future__ import annotations

import math
import operator
from typing import Any


def whole(name: str, value: Any, least: int = 1) -> int:
    """Raises ValueError for what is no whole number, or below the least."""
    try:
        n = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be a whole number, got {value!r}") from None
    if n < least:
        raise ValueError(f"{name} must be at least {least}, got {n}")
    return int(n)


def number(name: str, value: Any, least: float) -> float:
    """Raises ValueError for what is no finite number, or below the least."""
    if isinstance(value, str) or not hasattr(value, "__float__") or not math.isfinite(x := float(value)) or x < least:
        raise ValueError(f"{name} must be ≥ {least:g} and finite, got {value!r}")
    return x


def positive(name: str, value: Any, finite: bool = True) -> float:
    """Raises ValueError for what is no positive number."""
    known = not isinstance(value, str) and hasattr(value, "__float__")
    if not known or not float(value) > 0 or (finite and math.isinf(float(value))):
        raise ValueError(f"{name} must be a positive{' and finite' if finite else ''} number, got {value!r}")
    return float(value)
