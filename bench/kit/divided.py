"""Seeds divided among processes on one machine, each with a run folder of its own in `workers/`."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

import torch
import yaml

from bench.kit.folder import Run, Stopped, read_json, write_text
from bench.kit.options import O, plain

S = TypeVar("S", list[int], range)


class Divide(NamedTuple, Generic[O]):
    """share: the options of a worker, from those of the whole, its number and how many there are. merged: one result
    from those of the workers. folders: of theirs, whose files have names of their own, copied into the whole run's."""

    share: Callable[[O, int, int], O]
    merged: Callable[[Sequence[dict[str, Any]]], dict[str, Any]]
    folders: Sequence[str] = ()


def part(seeds: S, worker: int, workers: int) -> S:
    """Of the seeds, those of one worker: neighbours, about as many for each."""
    return seeds[worker * len(seeds) // workers : (worker + 1) * len(seeds) // workers]


def run(name: str, divide: Divide[O], options: O, run: Run) -> dict[str, Any]:
    """The result of all workers; each is `python -m bench.<name>` on its share, or goes on with what it has begun.
    Raises Stopped where one of them ends early."""
    workers: int = options.workers  # type: ignore[attr-defined]
    threads = max(1, (options.threads or torch.get_num_threads()) // workers)
    processes = []
    for w in range(workers):
        folder = run.path / "workers" / str(w)
        if begun := sorted(folder.rglob("config.yaml")):
            arguments = ["--resume", str(begun[0].parent)]
        else:
            own = dataclasses.replace(
                divide.share(options, w, workers), workers=1, threads=threads, runs=folder, smoke=False, resume=None
            )  # type: ignore[call-arg]
            write_text(folder / "share.yaml", yaml.safe_dump(plain(own), sort_keys=False))
            arguments = ["--config", str(folder / "share.yaml")]
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        command = [sys.executable, "-m", f"bench.{name}", *arguments]
        processes.append(subprocess.Popen(command, env=environment, preexec_fn=_die_with_parent))
    try:
        codes = [p.wait() for p in processes]
    except KeyboardInterrupt:
        for p in processes:
            p.send_signal(signal.SIGINT)
        for p in processes:
            p.wait()
        raise
    if any(codes):
        raise Stopped(f"a worker ended with {max(codes, key=abs)}")
    results = [next((run.path / "workers" / str(w)).rglob("result.json")) for w in range(workers)]
    for result in results:
        for folder in (result.parent / name for name in divide.folders):
            if folder.exists():
                shutil.copytree(folder, run.path / folder.name, dirs_exist_ok=True)
    return divide.merged([read_json(result, "delete it, then --resume") for result in results])


def _die_with_parent() -> None:
    """On Linux: a worker whose parent is killed must not go on writing where a resumed run will write."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
