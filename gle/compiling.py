"""How a function of tensors gets compiled: the only place that calls torch.compile.

fast = compiled(step, network.device)      # called as `step` is, with positional arguments

The environment variable GLE_COMPILER names another back end of torch.compile than Inductor: GLE_COMPILER=eager, for
one, traces and compiles nothing, which shows in seconds whether a function can be traced.
"""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch

log = logging.getLogger(__name__)

F = TypeVar("F", bound=Callable[..., Any])

VARIABLE, DEFAULT = "GLE_COMPILER", "inductor"

# What Inductor leaves off by default. On CPU a step is so short that tanh and the calls between its kernels count: tanh
# from one exponential is right to the last bit of one, though not of small values, and the calls go from C++.
CPU_OPTIONS: dict[str, Any] = {"cpp_wrapper": True, "cpp.use_decompose_tanh": True}
# Where CUDA's own compiler fails: smaller kernels. Triton 3.6 breaks down ("PassManager::run failed") on the kernel
# that sums a bias's gradient and moves the bias by Adam; without it a step still takes a sixth of an eager one
CUDA_OPTIONS: dict[str, Any] = {"max_fusion_size": 3}


def compiled(function: F, device: torch.device) -> F:
    """torch.compile for tensors on `device`, or the function itself, said in one line, where no compiler works.

    A way of compiling stays as long as it works: PyTorch calls its C++ wrapper incomplete. `function` must be pure: it
    is called anew after a way that failed, and what it then raises itself is raised.

    Raises ValueError where GLE_COMPILER names no back end of torch.compile.
    """
    try:
        ways = _ways(function, device)
    except ValueError:
        raise
    except Exception as error:  # whatever keeps PyTorch's compiler from being imported, as a cache that cannot be made
        log.warning(*_told(error))
        return function

    @functools.wraps(function)
    def call(*args):
        failed: Exception
        for n, way in enumerate(ways):
            try:
                result = way(*args)
            except Exception as error:  # a compiler's, or the function's own: the function itself will tell
                failed = error
                continue
            del ways[:n]
            return result
        result = function(*args)
        if ways:  # the first time
            log.warning(*_told(failed))
            ways.clear()
        return result

    return call  # type: ignore[return-value]


def _ways(function: F, device: torch.device) -> list[Callable]:
    """The function compiled, in the order in which to try. Raises what importing PyTorch's compiler raises (which takes
    a second, and is left to the first who needs it)."""
    backend = os.environ.get(VARIABLE) or DEFAULT
    if backend != DEFAULT:
        known = torch._dynamo.list_backends(None)
        if backend not in known:
            raise ValueError(
                f"{VARIABLE} = {backend} is no back end of torch.compile; choose one of {', '.join(known)}"
            )
        return [torch.compile(function, dynamic=False, backend=backend)]
    known = torch._inductor.list_options()

    def with_options(options: dict[str, Any]) -> Callable:
        return torch.compile(function, dynamic=False, options={k: v for k, v in options.items() if k in known})

    plain = torch.compile(function, dynamic=False)
    if device.type == "cpu":
        return [with_options(CPU_OPTIONS), plain]
    if device.type == "cuda":
        return [plain, with_options(CUDA_OPTIONS)]
    return [plain]


def _told(error: Exception) -> tuple[str, str]:
    """A log record of one line."""
    cause = getattr(error, "inner_exception", error)  # PyTorch wraps what its back ends raise
    line = f"{type(cause).__name__}: {cause}".splitlines()[0]
    return "torch.compile does not work here (%s); running eagerly", line
