"""How a function of tensors gets compiled: the only place that calls torch.compile.

fast = compiled(step, network.device)      # called as `step` is, with positional arguments
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any, TypeVar

import torch

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])


# What Inductor leaves off by default. On CPU a step is so short that tanh and the calls between its kernels count: tanh
# from one exponential is right to the last bit of one, though not of small values, and the calls go from C++.
CPU_OPTIONS: dict[str, Any] = {"cpp_wrapper": True, "cpp.use_decompose_tanh": True}


def compiled(function: F, device: torch.device) -> F:
    """torch.compile for tensors on `device`, or the function itself, said in one line, where no compiler works.

    The first way that works stays: PyTorch calls its C++ wrapper incomplete.
    """
    ways = [torch.compile(function, dynamic=False)]
    if device.type == "cpu":
        known = torch._inductor.list_options()  # imported here: it takes a second
        options = {k: v for k, v in CPU_OPTIONS.items() if k in known}
        ways.insert(0, torch.compile(function, dynamic=False, options=options))
    chosen: list[Callable] = []

    @functools.wraps(function)
    def call(*args):
        if chosen:
            return chosen[0](*args)
        for way in ways:
            try:
                result = way(*args)
                chosen.append(way)
                return result
            except torch._dynamo.exc.BackendCompilerFailed as error:
                reason = str(error).splitlines()[0]
        log.warning("torch.compile does not work here (%s); running eagerly", reason)
        chosen.append(function)
        return function(*args)

    return call  # type: ignore[return-value]
