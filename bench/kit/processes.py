"""One run in several processes, as `torchrun` starts them."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist

from bench.kit.options import O, device_of


def is_first() -> bool:
    """Whether this process is the only one, or the first of several."""
    return not dist.is_initialized() or dist.get_rank() == 0


@contextlib.contextmanager
def processes(options: O, several: bool = True) -> Iterator[O]:
    """Under `torchrun`: the process group, over gloo or NCCL, and on CUDA each process its own device. several: whether
    the benchmark can divide its work. Raises ValueError where it cannot, and there are several."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        yield options
        return
    if not several:
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError("this benchmark runs in one process: start it with python -m, without torchrun")
        yield options
        return
    on_cuda = device_of(options).startswith("cuda")
    if on_cuda:
        local = int(os.environ["LOCAL_RANK"])
        torch.cuda.set_device(local)
        options = dataclasses.replace(options, device=f"cuda:{local}")  # type: ignore[call-arg]
    # the others wait while the first one answers puzzles alone
    dist.init_process_group("nccl" if on_cuda else "gloo", timeout=datetime.timedelta(hours=6))
    try:
        yield options
    finally:
        dist.destroy_process_group()
