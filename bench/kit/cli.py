"""The command line, the same for every command: flags win over files of options, everything is UTF-8, tables can be
printed on any stream, and what can go wrong is said in one line."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from jsonargparse import ArgumentParser, Namespace

from bench.kit import interruption
from bench.kit.folder import Stopped


class Parser(ArgumentParser):
    """Without abbreviations; flags win over --config wherever they stand; files are read as UTF-8; a mistyped flag is
    told in two lines, not below all those that there are."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **{"allow_abbrev": False, **kwargs})

    def print_usage(self, file: Any = None) -> None:
        """Nothing: an error says how to get --help."""

    def parse_args(self, args: Sequence[str] | None = None, *rest: Any, **kwargs: Any) -> Namespace:  # type: ignore[override]
        return super().parse_args(config_first(sys.argv[1:] if args is None else args), *rest, **kwargs)

    def parse_path(self, path: str | os.PathLike, *args: Any, **kwargs: Any) -> Namespace:
        try:
            content = Path(path).read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise TypeError(f"{path} cannot be read as UTF-8: {error}") from error
        with contextlib.chdir(Path(path).parent):  # what the file names lies beside it
            return self.parse_string(content, os.path.basename(path), *args, **kwargs)


EXTRAS = {
    "bench": ("jitcdde", "mnist1d"), "neurobench": ("neurobench",), "tensorboard": ("tensorboard",), "ray": ("ray",)
}  # fmt: skip


def config_first(arguments: Sequence[str]) -> list[str]:
    """The arguments with each --config before all other flags: what comes later wins."""
    left = list(arguments)
    subcommand = next((i for i, a in enumerate(left) if a.startswith("-")), len(left))
    config: list[str] = []
    i = subcommand
    while i < len(left):
        taken = 2 if left[i] == "--config" else 1 if left[i].startswith("--config=") else 0
        config += left[i : i + taken]
        del left[i : i + taken]
        i += not taken
    return [*left[:subcommand], *config, *left[subcommand:]]


def with_configs(arguments: Sequence[str], folder: Path) -> list[str]:
    """The arguments, in which `--config gle_15k` means gle_15k.yaml of the folder, where no file has that name. Raises
    ValueError for a name that is neither."""

    def found(value: str) -> str:
        if Path(value).exists() or not value.replace("_", "").isalnum():  # a path, or options themselves
            return value
        named = folder / f"{value}.yaml"
        if not named.is_file():
            names = ", ".join(sorted(p.stem for p in folder.glob("*.yaml"))) or "none"
            raise ValueError(f"there is no file {value}, and no {value}.yaml among the files of options here: {names}")
        return str(named)

    out: list[str] = []
    for argument in arguments:
        if out and out[-1] == "--config":
            argument = found(argument)
        elif argument.startswith("--config="):
            argument = "--config=" + found(argument.removeprefix("--config="))
        out.append(argument)
    return out


def taken(arguments: Sequence[str], names: Iterable[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """(name, value) of each flag of those names, and the other arguments."""
    found: list[tuple[str, str]] = []
    others: list[str] = []
    left, names = iter(arguments), set(names)
    for argument in left:
        flag, given, value = argument.partition("=")
        if flag.startswith("--") and flag[2:] in names:
            found.append((flag[2:], value if given else next(left, "")))
        else:
            others.append(argument)
    return found, others


def check_resume(arguments: Sequence[str], of_call: Iterable[str] = ("resume",)) -> None:
    """Raises ValueError where --resume comes with options of a run. of_call: options that belong to none."""
    fine = {f"--{name}" for name in of_call}
    if others := [a for a in arguments if a.startswith("--") and a.partition("=")[0] not in fine]:
        raise ValueError(f"--resume goes on with the run's own options: drop {', '.join(others)}")


@contextlib.contextmanager
def command(hint: Callable[[], str] = lambda: "") -> Iterator[None]:
    """Around all that a command does. Expected errors and Ctrl-C end in one line, without a traceback; hint: how to go
    on."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if isinstance(sys.stdout, io.TextIOWrapper):  # what a stream cannot show is no reason to lose a run
        sys.stdout.reconfigure(errors="replace")
    try:
        with interruption.remembered():
            yield
    except UnicodeEncodeError:
        raise  # a ValueError, but no user's
    except ModuleNotFoundError as error:
        extra = next((extra for extra, modules in EXTRAS.items() if error.name in modules), None)
        if extra is None:
            raise
        sys.exit(f'error: {error.name} is not installed: pip install "gle-toolkit[{extra}]"')
    except (ValueError, FloatingPointError) as error:
        sys.exit("error: " + " ".join(str(error).splitlines()))
    except (KeyboardInterrupt, Stopped) as stop:
        stopped(stop, hint())


def go_on(command: str, folder: Path, of_call: Mapping[str, Any] | None = None) -> str:
    """How to go on with the run in a folder, in the same way, to be pasted into a shell."""
    flags = {"resume": folder, **(of_call or {})}
    told = " ".join(f"--{name} {shlex.quote(str(value))}" for name, value in flags.items())
    return f"go on with: python -m bench.{command} {told}"


def stopped(stop: BaseException, hint: str) -> NoReturn:
    """Says why a run ends here and how to go on, and ends it."""
    print("; ".join(filter(None, [f"stopped ({str(stop) or 'interrupted'})", hint])), file=sys.stderr)
    raise SystemExit(130 if isinstance(stop, KeyboardInterrupt) else 1) from None
