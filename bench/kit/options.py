"""The options of a command: a dataclass ⇄ flags ⇄ a YAML file."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, TypeVar

import torch
from jsonargparse import ArgumentError, Namespace

from bench.kit.cli import Parser
from bench.kit.folder import begun

# of a field that belongs to one call of the command, not to the run: no run folder keeps it
OF_CALL = {"of_call": True}


@dataclass
class Options:
    """Of every benchmark.

    Args:
        smoke: a few seconds with tiny settings.
        threads: CPU threads; 0 leaves the choice to PyTorch.
        runs: folder of the run folders.
        resume: a run folder, to go on with its own options.
    """

    smoke: bool = False
    threads: int = 1
    runs: Path = Path("runs")
    resume: Optional[Path] = field(default=None, metadata=OF_CALL)


@dataclass
class DeviceOptions(Options):
    """Of benchmarks whose networks are large enough for an accelerator.

    Args:
        device: cpu, cuda, …
    """

    device: str = "cpu"


O = TypeVar("O", bound=Options)


def device_of(options: Options) -> str:
    return options.device if isinstance(options, DeviceOptions) else "cpu"


def plain(options: Options) -> dict[str, Any]:
    """The options of a run as YAML and JSON know them: no tuples, no paths."""
    values, others = json.loads(json.dumps(dataclasses.asdict(options), default=str)), of_call(options)
    return {name: value for name, value in values.items() if name not in others}


def of_call(options: Options) -> dict[str, Any]:
    """Those that belong to one call of the command."""
    return {f.name: getattr(options, f.name) for f in dataclasses.fields(options) if f.metadata.get("of_call")}


def parser(kind: type[Options], prog: str | None = None, description: str = "", **how: Any) -> Parser:
    p = Parser(prog=prog, description=description, **how)
    p.add_argument("--config", action="config", help="a file of options; flags win over it")
    p.add_class_arguments(kind, as_group=False)
    return p


def read(kind: type[O], arguments: Sequence[str], **how: Any) -> O:
    """The options that the arguments ask for."""
    p = parser(kind, **how)
    return made(kind, p, p.parse_args(list(arguments)))


def made(kind: type[O], p: Parser, parsed: Namespace) -> O:
    values = parsed.clone()
    values.pop("config", None)
    return kind(**p.instantiate(values).as_dict())


def saved(kind: type[O], folder: Path) -> O:
    """The options of a run folder. Raises ValueError where that is no run of this benchmark, is damaged, or has other
    options than it began with."""

    def take(values: dict[str, Any]) -> O:
        if values.keys() != plain(kind()).keys():
            raise ValueError(
                f"{folder} is a run of another benchmark, or of another version of this one: its config.yaml has other "
                "options"
            )
        p = parser(kind, exit_on_error=False)
        try:
            return made(kind, p, p.parse_object(values))
        except ArgumentError as error:
            raise ValueError(f"{folder / 'config.yaml'} holds what is no option of this benchmark: {error}") from error

    return begun(folder, take, plain)


def absolute(options: O) -> O:
    """With the files that they name to be found from elsewhere, too."""

    def resolved(value: Any) -> Any:
        if isinstance(value, list):
            return [resolved(v) for v in value]
        return value.resolve() if isinstance(value, Path) else value

    given = {f.name: getattr(options, f.name) for f in dataclasses.fields(options)}
    return dataclasses.replace(options, **{name: resolved(v) for name, v in given.items() if name != "runs"})


def check_machine(options: Options) -> None:
    """Raises ValueError for a device or a number of threads that cannot be had."""
    device = device_of(options)
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device!r} was asked for, but PyTorch finds no CUDA device: use --device cpu")
    try:
        torch.empty(0, device=device).cpu()
    except (RuntimeError, NotImplementedError) as error:
        raise ValueError(f"device {device!r} is none that can be used here: {error}") from None
    if options.threads < 0:
        raise ValueError(f"threads must be ≥ 0, got {options.threads}")
