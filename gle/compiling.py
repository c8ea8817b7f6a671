"""How a function of tensors gets compiled: the only place that calls torch.compile.

fast = compiled(step, network.device)      # called as `step` is, with positional arguments

The environment variable GLE_COMPILER names another back end of torch.compile than Inductor: GLE_COMPILER=eager, for
one, traces and compiles nothing, which shows in seconds whether a function can be traced.
"""

from __future__ import annotations

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

    `function` must be pure: it is called anew after a way of compiling that failed, and what it then raises itself is
    raised. Where an object holds a method of its own compiled, a copy of it, deep or pickled, holds the copy's method.

    Raises ValueError where GLE_COMPILER names no back end of torch.compile.
    """
    try:
        return _Compiled(function, device, _ways(function, device))  # type: ignore[return-value]
    except ValueError:
        raise
    except Exception as error:  # whatever keeps PyTorch's compiler from being imported, as a cache that cannot be made
        log.warning(*_told(error))
        return function


class _Compiled:
    """A function, and the ways of compiling it that may still work; the first stays as long as it does: PyTorch calls
    its C++ wrapper incomplete."""

    def __init__(self, function: Callable, device: torch.device, ways: list[Callable]):
        self.function, self.device, self.ways = function, device, ways

    def __call__(self, *args: Any) -> Any:
        failed: Exception
        for n, way in enumerate(self.ways):
            try:
                result = way(*args)
            except Exception as error:  # a compiler's, or the function's own: the function itself will tell
                failed = error
                continue
            del self.ways[:n]
            return result
        result = self.function(*args)
        if self.ways:  # the first time
            log.warning(*_told(failed))
            self.ways.clear()
        return result

    def __reduce__(self) -> tuple:
        return compiled, (self.function, self.device)


def _ways(function: Callable, device: torch.device) -> list[Callable]:
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
