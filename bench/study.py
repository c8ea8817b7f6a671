"""What the analysis scripts share: options as a dataclass, a run folder, and parts that survive an interruption.

A study is a handful of independent computations ("parts"), each of which is kept in the run folder as soon as it is
done. `--resume <folder>` goes on with that folder's own options and computes only what is missing, with the same
result as an uninterrupted run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Optional, TypeVar

import torch
import torch.distributed as dist
import yaml
from jsonargparse import ArgumentError

from bench import cli
from bench.files import Follower, Run, begun, read_json, write_text

log = logging.getLogger(__name__)


@dataclass
class Options:
    """Of every study. Without public methods or properties: on the command line they would be subcommands.

    Args:
        smoke: a few seconds with tiny settings.
        threads: CPU threads; 0 leaves the choice to PyTorch.
        runs: folder of the run folders.
        resume: a run folder, to go on with its own options.
    """

    smoke: bool = False
    threads: int = 1
    runs: Path = Path("runs")
    resume: Optional[Path] = None


@dataclass
class DeviceOptions(Options):
    """Of studies whose networks are large enough for an accelerator.

    Args:
        device: cpu, cuda, …
    """

    device: str = "cpu"


O = TypeVar("O", bound=Options)


class Study:
    """A run folder with parts: parts/<name>.json. name: of the module in `bench`."""

    latest: ClassVar[Optional[Study]] = None  # the one that an interruption stops

    def __init__(self, name: str, options: Options):
        self.name = name
        self.run = (
            Follower(options.resume)
            if not is_first()
            else Run.reopen(options.resume)
            if options.resume
            else Run.create(
                options.runs, name, yaml.safe_dump(plain(options), sort_keys=False), torch.device(device_of(options))
            )
        )
        Study.latest = self
        if is_first():
            log.info("%s: results go to %s", name, self.run.path)

    @property
    def path(self) -> Path:
        return self.run.path

    def part(self, name: str, compute: Callable[[], Any]) -> Any:
        """What `compute` returns (plain values for JSON), or what it returned before the interruption."""
        file = self.path / "parts" / f"{name}.json"
        if file.exists():
            return read_json(file, "delete it, and --resume computes it again")
        if is_first():
            log.info("%s: %s", self.name, name)
        result = json.loads(json.dumps(compute()))  # a fresh result and a kept one are the same thing
        if is_first():
            write_text(file, json.dumps(result))
        return result

    def finish(self, result: dict[str, Any]) -> dict[str, Any]:
        """Writes result.json, with the environment."""
        result = {**result, "environment": self.run.environment()}
        self.run.finish(result)
        return result


def is_first() -> bool:
    """Whether this process is the only one, or the first of several."""
    return not dist.is_initialized() or dist.get_rank() == 0


@contextlib.contextmanager
def processes(options: O) -> Iterator[O]:
    """Under `torchrun`: the process group, over gloo or NCCL, and on CUDA each process its own device."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
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


def device_of(options: Options) -> str:
    return options.device if isinstance(options, DeviceOptions) else "cpu"


def plain(options: Options) -> dict[str, Any]:
    values = json.loads(json.dumps(dataclasses.asdict(options), default=str))
    for name in ("resume", "solve", "weights"):  # of this call, not of the run
        values.pop(name, None)
    return values


def main(
    studies: dict[str, tuple[type[Options], Callable[[Any], Any]]] | tuple[type[Options], Callable[[Any], Any]],
    argv: list[str] | None = None,
) -> None:
    """The command line of a study: (kind of options, what gets them); a dict of those makes subcommands.

    Expected errors and Ctrl-C end in one line, without a traceback.
    """
    by_name = studies if isinstance(studies, dict) else {"": studies}
    choice = {name: kind for name, (kind, _) in studies.items()} if isinstance(studies, dict) else studies[0]
    arguments = sys.argv[1:] if argv is None else argv
    subcommand = ""
    Study.latest = None

    def hint() -> str:
        if Study.latest is None or isinstance(Study.latest.run, Follower):
            return ""
        return cli.go_on(" ".join(filter(None, [Study.latest.name, subcommand])), Study.latest.path)

    with cli.command(hint):
        options = cli.options(choice, arguments)
        subcommand, run = next((name, run) for name, (kind, run) in by_name.items() if type(options) is kind)
        if options.resume is not None:
            cli.check_resume(arguments)
        run(resumed(options))


def saved(kind: type[O], folder: Path) -> O:
    """The options of a run folder. Raises ValueError where that is no run of this study, is damaged, or has other
    options than it began with."""

    def read(values: dict[str, Any]) -> O:
        if values.keys() != plain(kind()).keys():
            raise ValueError(
                f"{folder} is a run of another study, or of another version of this one: its config.yaml has other "
                "options"
            )
        parser = cli.Parser(exit_on_error=False)
        parser.add_class_arguments(kind, "o")
        try:
            return parser.instantiate(parser.parse_object({"o": values})).o
        except ArgumentError as error:
            raise ValueError(f"{folder / 'config.yaml'} holds what is no option of this study: {error}") from error

    return begun(folder, read, plain)


def resumed(options: O) -> O:
    """The options to use: those given, or those of the run folder in `resume`. Sets the number of threads.

    Raises ValueError where that folder is no run of this study, and for a device that is not there.
    """
    if options.resume is not None:
        options = dataclasses.replace(saved(type(options), options.resume), resume=options.resume)
    device = device_of(options)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device!r} was asked for, but PyTorch finds no CUDA device: use --device cpu")
    try:
        torch.empty(0, device=device).cpu()
    except (RuntimeError, NotImplementedError) as error:
        raise ValueError(f"device {device!r} is none that can be used here: {error}") from None
    if options.threads < 0:
        raise ValueError(f"threads must be ≥ 0, got {options.threads}")
    if options.threads:
        torch.set_num_threads(options.threads)
    return options
