"""Peak memory of a computation, as PyTorch allocates it, and its time."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(f: Callable[[], Any], device: str = "cpu") -> int:
    """The most memory that tensors held at any moment of `f`, above what they held before; of the calling thread."""
    gc.collect()  # what is garbage already must not be given back meanwhile
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        f()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    gc.disable()
    try:
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
            f()
    finally:
        gc.enable()
    assert recorded.profiler is not None
    changes = [e for e in recorded.profiler.kineto_results.events() if e.name() == "[memory]"]
    held = peak = 0
    for change in sorted(changes, key=lambda e: e.start_ns()):
        held += change.nbytes()  # negative where memory is given back
        peak = max(peak, held)
    return peak


def costs(f: Callable[[], Any], device: str = "cpu") -> dict[str, float]:
    """Milliseconds (least of three) and peak memory of `f`, which has run once before."""
    f()
    turns = []
    for _ in range(3):
        began = time.perf_counter()
        f()
        turns.append(time.perf_counter() - began)
    return {"ms": min(turns) * 1e3, "bytes": peak_bytes(f, device)}
