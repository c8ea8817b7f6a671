"""Running benchmarks from the command line, in this process or stopped from outside."""

import contextlib
import io
import json
import runpy
import signal
import sys
import warnings
from pathlib import Path
from typing import Any, NamedTuple

FASTER = {
    "teacher_student small": ("--dt", "0.1"),
    "gradients": ("--products", "20"),
}
# bench.mnist1d's GLE networks with few neurons, and few steps a sample
SMALL = ["--dt", "0.8", "--model.populations", "[[4,0.8,0.8],[4,1.6,0.8]]", "--model.hidden_layers", "2"]
SMALL_TUNED = [
    *SMALL, "--training.traces", "[[0.8,1.6],[0.8,0.8],[0,0]]", "--consolidation.traces", "[[0,1.6],[0,0.8],[0,0]]"
]  # fmt: skip


def smoke_flags(study: str, runs: Path) -> tuple[str, ...]:
    return ("--smoke", "true", "--runs", str(runs), *FASTER.get(study, ()))


class Finished(NamedTuple):
    """What a study left behind."""

    folder: Path
    result: dict[str, Any]
    printed: str


def launch(study: str, *flags: str, into: io.StringIO | None = None) -> str:
    """`python -m bench.<study> <flags>`, in this process; what it prints. study: with its subcommand; into: where that
    can be read, too, if the command exits."""
    module, *subcommand = study.split()
    printed, argv = into or io.StringIO(), sys.argv
    sys.argv = [module, *subcommand, *flags]
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            # other tests have imported the module, which this leaves alone
            warnings.filterwarnings("ignore", ".*found in sys.modules", RuntimeWarning)
            runpy.run_module(f"bench.{module}", run_name="__main__", alter_sys=True)
    finally:
        sys.argv = argv
    return printed.getvalue()


def hardly_drawn(figure, file, format):
    """In place of `savefig`, of a figure that another test looks at, and that takes longer than what is in it."""
    file.write(b"a figure")


def finished(runs: Path, printed: str) -> Finished:
    """The only run in the folder `runs`."""
    folder = run_folder(runs)
    return Finished(folder, json.loads((folder / "result.json").read_text()), printed)


def run_folder(runs: Path) -> Path:
    """The only run in the folder `runs`; a run may hold others."""
    folders = sorted((p.parent for p in runs.rglob("config.yaml")), key=lambda p: len(p.parts))
    assert all(p.is_relative_to(folders[0]) for p in folders)
    return folders[0]


def heed_interrupts() -> None:
    """For a child process: a suite that runs in the background of a shell would hand on that Ctrl-C is ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def numbers(item):
    """All numbers in nested dicts and lists."""
    if isinstance(item, dict):
        item = list(item.values())
    if isinstance(item, list):
        for value in item:
            yield from numbers(value)
    elif isinstance(item, (int, float)):
        yield item


# what a measurement of costs finds again only roughly
TIMED = {
    "ms", "seconds", "cpu", "bytes", "carried", "floor_ms", "ratio", "per_seed_ms", "times", "share",
    "segments per second",
}  # fmt: skip


def comparable(item):
    """A result without what may differ between two runs: where and when they ran."""
    if isinstance(item, dict):
        return {k: comparable(v) for k, v in item.items() if k not in {"environment", "runs"} | TIMED}
    return [comparable(v) for v in item] if isinstance(item, list) else item
