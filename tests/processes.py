"""Processes that begin at once: forked by one that has imported what is not ours.

There is one such server in a process, that of whoever asks first: it has to know all that any test needs, and none of
our modules, which sabotages replace. Tests of what forks by itself ask for it by the fixture `server`.
"""

import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch.multiprocessing as mp

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "pytest", "numpy", "scipy.signal", "scipy.integrate", "scipy.ndimage", "torch", "torch._dynamo",
        "torch.distributed.nn", "torch.profiler", "torch.testing", "torch.optim.lr_scheduler", "matplotlib.pyplot",
        "jsonargparse", "yaml", "tqdm", "xdist", "unittest.mock", "jitcdde",
    ]
)  # fmt: skip


def begun() -> None:
    """The server is ours from here on; but in a process that it forked, where nobody else's tests follow."""
    if multiprocessing.parent_process() is None:
        multiprocessing.forkserver.ensure_running()


def side_by_side(function: Callable[..., None], *arguments: Any) -> None:
    """function(number, *arguments) in two processes; raises what one of them raises."""
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
