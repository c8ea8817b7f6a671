"""A function in several processes at once, begun by one that has imported what takes them longest."""

import multiprocessing
from collections.abc import Callable
from typing import Any

import torch.multiprocessing as mp

SLOW = ["numpy", "torch", "torch._dynamo", "torch.distributed.nn"]


def side_by_side(function: Callable[..., None], *arguments: Any) -> None:
    """function(number, *arguments) in two processes; raises what one of them raises."""
    multiprocessing.set_forkserver_preload(SLOW)
    mp.start_processes(function, arguments, nprocs=2, start_method="forkserver")
