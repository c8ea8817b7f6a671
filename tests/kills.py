"""Kills at random moments: a run that is killed, resumed, killed again, until it ends, is the run that was left alone.

    python tests/kills.py --kills 50 --command mnist1d      or mackey_glass, sudoku; --seed for other moments
    python tests/kills.py --kills 10 --command sudoku --compiler inductor

A process is forked from one that has imported what is not ours, runs the command as `python -m bench.<command>` does,
and is killed with SIGKILL after a time drawn evenly from that of a whole run. After each kill every file must be
readable; at the end results, weights, checkpoint and metrics must be those of the run that was not killed, to the last
bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import runpy
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from processes import SERVER
from studies import SMALL_TUNED

ROOT = Path(__file__).parents[1]
COMPILERS = ("none", "eager", "inductor")
COMMANDS = {  # small, with everything that a checkpoint must hold: stages, schedules, averages, several seeds
    "mnist1d": (
        f"--config {ROOT}/configs/mnist1d/gle_15k_tuned.yaml --samples 30 --training.batch 10 --consolidation.batch 10 "
        "--training.epochs 2 --consolidation.epochs 2 --consolidation.schedule plateau --consolidation.patience 0 "
        f"{' '.join(SMALL_TUNED)} --seeds 2 --threads 1"
    ),
    "mackey_glass": (
        "--networks 2 --epochs 4 --evaluate 1 --early 2 --learned 0.75 --free 0.2 --stretches 3 --baselines [linear] "
        "--integrators false --populations [[4,1,1],[3,4,1]] --upper_populations [[7,1,1]] --threads 1"
    ),
    "sudoku": (
        "--seeds 2 --training.steps 12 --evaluate 3 --training.batch 8 --puzzles [16,8,8] --model.d 16 --model.heads 2 "
        "--model.multiple 16 --training.halting.halt_max_steps 3 --training.halting.q_continue true --threads 1"
    ),
}
TIMES = {"seconds", "ms"}  # of no account; neither are where and when a run took place
ELSEWHERE = TIMES | {"environment", "runs", "rows"}


def _run(command: str, arguments: list[str], compiler: str, log: Path) -> None:
    with log.open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import torch

    torch.set_num_threads(1)
    os.environ |= {"XDG_CACHE_HOME": str(log.parent / "cache"), "GLE_COMPILER": "" if compiler == "none" else compiler}
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    from bench.data import chaos

    chaos.TOLERANCE = 1e-9  # of a series that nobody looks at: five times fewer steps
    sys.argv = [command, *arguments]
    runpy.run_module(f"bench.{command}", run_name="__main__", alter_sys=True)


class Left(NamedTuple):
    """How a process ended."""

    killed: bool
    seconds: float


def run_for(command: str, arguments: list[str], compiler: str, log: Path, limit: float | None) -> Left:
    """The command, killed after `limit` seconds. Raises AssertionError where it fails by itself."""
    began = time.perf_counter()
    process = SERVER.Process(target=_run, args=(command, arguments, compiler, log))
    process.start()
    process.join(limit)
    alive = process.is_alive()
    if alive:
        process.kill()
        process.join()
    killed = alive and process.exitcode != 0
    assert killed or process.exitcode == 0, f"{command} {arguments} ended with {process.exitcode}: see {log}"
    return Left(killed, time.perf_counter() - began)


def run_folder(runs: Path) -> Path | None:
    """The run that can be gone on with; a folder that has no config.yaml yet cannot."""
    return next((p.parent for p in runs.glob("*/*/config.yaml")), None)


# -- what lies in a run folder -----------------------------------------------------------------------------------------


def contents(folder: Path, ended: bool) -> dict[str, Any]:
    """All files, read whole. Raises where one is damaged, or is left over at the end; a row of metrics.jsonl may be cut
    until then."""
    import torch

    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".tmp":
            assert not ended, f"{path} is left over"
        elif path.suffix == ".json":
            found[name] = json.loads(path.read_text("utf-8"))
        elif path.suffix == ".jsonl":
            lines = path.read_text("utf-8").splitlines(keepends=True)
            found[name] = [json.loads(line) for line in lines if ended or line.endswith("\n")]
        elif path.suffix == ".pt":
            found[name] = torch.load(path, weights_only=True)
            if "rows" in found[name]:
                found[name]["metrics"] = json.loads(found[name]["rows"])
        elif path.suffix == ".png":
            content = path.read_bytes()
            assert content.startswith(b"\x89PNG")
            assert b"IEND" in content[-12:], f"{path} is cut"
            found[name] = "a figure"
        else:
            found[name] = path.read_text("utf-8") if path.suffix == ".yaml" else None
    return found


def differences(a: Any, b: Any, where: str = "") -> Iterator[str]:
    """Where two contents differ, to the last bit, but for times and places."""
    import torch

    if isinstance(a, dict) and isinstance(b, dict):
        if a.keys() != b.keys():
            yield f"{where}: {sorted(map(str, a.keys() ^ b.keys()))} on one side only"
        for key in a.keys() & b.keys() - ELSEWHERE:
            yield from differences(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        if len(a) != len(b):
            yield f"{where}: {len(a)} and {len(b)} entries"
        for i, (x, y) in enumerate(zip(a, b)):
            yield from differences(x, y, f"{where}/{i}")
    elif isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        if a.dtype != b.dtype or not torch.equal(a, b):
            yield f"{where}: other tensors"
    elif a != b and not (a != a and b != b):
        yield f"{where}: {a!r} and {b!r}"


def ignored(found: dict[str, Any]) -> dict[str, Any]:
    """Without the environment, and the two places in which the folder of the runs is named."""
    return {k: v for k, v in found.items() if k not in ("env.json", "config.yaml")}


# -- kills -------------------------------------------------------------------------------------------------------------


class Killed(NamedTuple):
    kills: int
    runs: int
    before: int  # kills before there was a run folder
    kept: int  # of the others, after the first checkpoint


def survive(
    command: str,
    kills: int,
    seed: int,
    compiler: str = "none",
    folder: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Killed:
    """Kills runs of a command until there were so many kills, lets each come to its end, and compares. Raises
    AssertionError for the first difference or damage."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        work = Path(scratch)
        log = work / "log.txt"
        random_moment = random.Random(f"{command} {compiler} {seed}").uniform
        flags = [*COMMANDS[command].split(), "--compile", "false" if compiler == "none" else "true"]
        run_for(command, [*flags, "--runs", str(work / "warm")], compiler, log, None)  # makes data, fills caches
        whole = run_for(command, [*flags, "--runs", str(work / "whole")], compiler, log, None)
        reference = run_folder(work / "whole")
        assert reference is not None
        expected = ignored(contents(reference, True))
        say(f"{command}, {compiler}: a whole run takes {whole.seconds:.1f} s")
        done = runs = before = kept = 0
        while done < kills:
            own, ended = work / f"run{runs}", False
            while not ended:
                begun = run_folder(own)
                if begun is None:
                    shutil.rmtree(own, ignore_errors=True)
                arguments = [*flags, "--runs", str(own)] if begun is None else ["--resume", str(begun)]
                limit = random_moment(0.0, whole.seconds) if done < kills else None
                left = run_for(command, arguments, compiler, log, limit)
                if ended := not left.killed:
                    break
                done += 1
                begun = run_folder(own)
                if begun is None:
                    before += 1
                    continue
                found = contents(begun, False)
                kept += "checkpoint.pt" in found
            folder_now = run_folder(own)
            assert folder_now is not None
            off = list(differences(ignored(contents(folder_now, True)), expected))
            assert not off, f"{folder_now} differs from the run that was not killed: " + "; ".join(off[:5])
            runs += 1
            say(f"{command}, {compiler}: run {runs} is identical after {done} kills in all")
            shutil.rmtree(own)
        return Killed(done, runs, before, kept)


def main() -> None:
    p = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    p.add_argument("--kills", type=int, default=50)
    p.add_argument("--command", choices=COMMANDS, required=True)
    p.add_argument("--compiler", choices=COMPILERS, default="none")
    p.add_argument("--seed", type=int, default=0)
    o = p.parse_args()
    began = time.time()
    found = survive(o.command, o.kills, o.seed, o.compiler, say=lambda line: print(line, flush=True))
    print(
        f"{o.command}, {o.compiler}: {found.kills} kills ({found.before} before there was a run folder, {found.kept} "
        f"after a checkpoint) in {found.runs} runs, all identical, no file damaged; {time.time() - began:.0f} s"
    )


if __name__ == "__main__":
    main()
