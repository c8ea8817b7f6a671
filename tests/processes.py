"""A function in several processes at once, begun by one that has imported what takes them longest."""

import multiprocessing
import os
import runpy
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.multiprocessing as mp

SLOW = ["numpy", "torch", "torch._dynamo", "torch.distributed.nn"]


def side_by_side(function: Callable[..., None], *arguments: Any) -> None:
    """function(number, *arguments) in two processes; raises what one of them raises."""
    multiprocessing.set_forkserver_preload(SLOW)
    mp.start_processes(function, arguments, nprocs=2, start_method="forkserver")


def like_torchrun(module: str, arguments: list[str], output: Path) -> None:
    """`torchrun --nproc_per_node 2 -m module arguments`, but for what imports take. output: of what the first process
    prints."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    side_by_side(_as_typed, module, arguments, port, str(output))


def _as_typed(number: int, module: str, arguments: list[str], port: int, output: str) -> None:
    own = {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": 2, "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": 0}
    os.environ |= {name: str(value) for name, value in own.items()} | {"MASTER_ADDR": "127.0.0.1"}
    with open(output if number == 0 else os.devnull, "w") as file:
        os.dup2(file.fileno(), 1)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
