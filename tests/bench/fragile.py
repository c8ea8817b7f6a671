"""The toy, in moods in which it fails, is lost with its process, or waits; for sweeps."""

import os
import signal
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, Optional

import toy
from toy import Picks

from bench.kit.benchmark import main


@dataclass
class Fragile(Picks):
    """What befalls it.

    Args:
        mood: well: nothing; ill: it fails; lost: its process is killed until there is a gate; slow: it waits for that.
        gate: a file.
    """

    mood: Literal["well", "ill", "lost", "slow"] = "well"
    gate: Optional[Path] = None


def run(o, run):
    run.part("began", lambda: time.time())  # once, however often it is gone on with
    if o.mood == "ill":
        raise RuntimeError("it was\nill")
    if o.mood == "lost" and not o.gate.exists():
        os.kill(os.getpid(), signal.SIGKILL)
    if o.mood == "slow":
        o.gate.with_suffix(f".{o.trials}").write_text(str(os.getpid()))
        until = time.monotonic() + 600
        while not o.gate.exists() and time.monotonic() < until:
            time.sleep(0.02)
    return toy.run(o, run)


benchmark = replace(toy.benchmark, name="fragile", Options=Fragile, run=run, draw=lambda result: {})

if __name__ == "__main__":
    main(benchmark)
