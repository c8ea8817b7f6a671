"""What a benchmark is, and how one is run.

    options → check → run folder → run(options, run) → result.json → tables and figures, made from the result alone

A benchmark is one file that ends with its `Benchmark`, and one line in `bench/registry.py`. The flags of the command
line, files of options, the run folder, `--resume`, `--smoke` and Ctrl-C are the frame's; so is everything that is
printed.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NamedTuple, TypeAlias

import torch
import yaml

from bench.kit import cli, divided, figures
from bench.kit.figures import Drawn
from bench.kit.folder import Follower, Run, read_json
from bench.kit.options import O, Options, absolute, check_machine, device_of, of_call, plain, read, saved
from bench.kit.processes import is_first, processes
from bench.kit.tables import Table

log = logging.getLogger(__name__)

Result: TypeAlias = Mapping[str, Any]


class Curve(NamedTuple):
    """A score on the way there: values [points, seeds] over x [points], which is called `along`."""

    along: str
    x: Sequence[float]
    values: Sequence[Sequence[float]]


class Score(NamedTuple):
    """The one figure by which results of a benchmark are ranked, of data that choices may be made on.

    name: as an axis is labelled. of: its value for each seed of a result. larger: whether more of it is better. curve:
    how it came about, where the result tells.
    """

    name: str
    of: Callable[[Result], Sequence[float]]
    larger: bool = True
    curve: Callable[[Result], Curve] | None = None


class Rows(NamedTuple):
    """Of a benchmark whose results are rows of one table.

    configs: what the command runs without --config: name of a file of options → flags that shorten it; a flag that
    begins with one of `own` describes a row of one's own, which is run alone. note: said below that table. table, draw:
    of several results.
    """

    configs: Mapping[str, Sequence[str]]
    own: tuple[str, ...]
    note: str
    table: Callable[[Sequence[Result]], Table]
    draw: Callable[[Sequence[Result]], Drawn]


def unchanged(options: O) -> O:
    return options


def as_typed(arguments: Sequence[str]) -> Sequence[str]:
    return arguments


def unchecked(options: Any) -> None:
    """Every value is welcome."""


@dataclass(frozen=True)
class Benchmark(Generic[O]):
    """The contract; tests/bench/test_contract.py holds every entry of the registry to it.

    Args:
        name: of the module in `bench`, and of a subcommand after it.
        summary: one line of --help.
        Options: a dataclass, every field with a default.
        run: computes, from options that were checked, and returns plain values for JSON. It prints nothing, draws
            nothing and leaves the process alone; what takes long it keeps in the run, by `run.part` or
            `run.checkpoint`, so that it goes on exactly after a kill.
        tables: of the result, as it stands in result.json.
        draw: figures (and pages) of it, likewise: file name → picture.
        check: raises ValueError with the value and the fix, before there is a run folder.
        settled: the options as they are used, where some hang on a file that others name.
        tiny: the options of a smoke run, which takes seconds.
        score: what `bench.sweep` ranks results by; without one it lists them in the order in which they were asked for.
        published: figures of the papers that the tables quote.
        layout: version of the result: raised when an older result.json cannot be read any more.
        several_processes: whether `torchrun` may divide its work.
        divide: how seeds are divided among `workers` processes and joined again, where they can be.
        rows: where results are rows of one table.
        instead: flags that ask for something else than a run → what does it, from the options and the flags given.
        flags: those that a command line of another form means.
    """

    name: str
    summary: str
    Options: type[O]
    run: Callable[[O, Run], dict[str, Any]]
    tables: Callable[[Result], Sequence[Table]]
    draw: Callable[[Result], Drawn]
    check: Callable[[O], None] = unchecked
    settled: Callable[[O], O] = unchanged
    tiny: Callable[[O], O] = unchanged
    score: Score | None = None
    published: Mapping[str, Any] = field(default_factory=dict)
    layout: int = 1
    several_processes: bool = False
    divide: divided.Divide[O] | None = None
    rows: Rows | None = None
    instead: Mapping[str, Callable[[O, Sequence[str]], None]] = field(default_factory=dict)
    flags: Callable[[Sequence[str]], Sequence[str]] = as_typed

    @property
    def module(self) -> str:
        return self.name.split()[0]


# -- a run -------------------------------------------------------------------------------------------------------------


def begin(benchmark: Benchmark[O], options: O) -> tuple[O, Run]:
    """The options as they are used, checked, and the run folder: a new one, or the one that `resume` names. Raises
    ValueError before there is a folder."""
    if options.resume is not None:
        options = dataclasses.replace(saved(type(options), options.resume), **of_call(options))
    check_machine(options)
    if options.threads:
        torch.set_num_threads(options.threads)
    options = prepared(benchmark, options)
    benchmark.check(options)
    if not is_first():
        return options, Follower(options.resume)
    if options.resume:
        run = Run.reopen(options.resume)
    else:
        config = yaml.safe_dump(plain(options), sort_keys=False)
        run = Run.create(options.runs, benchmark.module, config, torch.device(device_of(options)))
    log.info("%s: results go to %s", benchmark.name, run.path)
    return options, run


def prepared(benchmark: Benchmark[O], options: O) -> O:
    """tiny where asked for, and settled."""
    options = absolute(options)
    return benchmark.settled(benchmark.tiny(options) if options.smoke else options)


def complete(benchmark: Benchmark[O], options: O, run: Run) -> dict[str, Any]:
    """Computes what the run lacks, writes result.json and the figures, and returns the result; in processes but the
    first: nothing."""
    if benchmark.divide is not None and getattr(options, "workers", 1) > 1:
        found = divided.run(benchmark.module, benchmark.divide, options, run)
    else:
        found = benchmark.run(options, run)
    if not is_first():
        return {}
    known = {"benchmark": benchmark.name, "layout": benchmark.layout, "name": benchmark.name.split()[-1]}
    run.finish({**known, **found, "options": plain(options), "environment": run.environment()})
    result = read_json(run.path / "result.json", "delete it, then --resume")
    figures.save(benchmark.draw(result), run.path)
    return result


# -- the command line --------------------------------------------------------------------------------------------------


def main(benchmark: Benchmark | Mapping[str, Benchmark], argv: Sequence[str] | None = None) -> None:
    """The command line of a benchmark; a dict of those makes subcommands. Expected errors and Ctrl-C end in one line,
    without a traceback."""
    begun: list[tuple[str, Options, Run]] = []  # the run that an interruption stops

    def hint() -> str:
        if not begun or isinstance(begun[-1][2], Follower):
            return ""
        name, options, run = begun[-1]
        usual = of_call(dataclasses.replace(type(options)(), resume=options.resume))
        return cli.go_on(name, run.path, {k: v for k, v in of_call(options).items() if v != usual[k]})

    def perform(chosen: Benchmark[O], options: O) -> tuple[Run, dict[str, Any]]:
        with processes(options, chosen.several_processes) as options:
            options, run = begin(chosen, options)
            begun.append((chosen.name, options, run))
            return run, complete(chosen, options, run)

    with cli.command(hint):
        arguments = list(sys.argv[1:] if argv is None else argv)
        if isinstance(benchmark, Benchmark):
            chosen = benchmark
        else:
            chosen, arguments = subcommand(benchmark, arguments)
        arguments = cli.with_configs(list(chosen.flags(arguments)), configs() / chosen.module)
        given = [a.partition("=")[0] for a in arguments if a.startswith("--")]

        def options(flags: Sequence[str]) -> Any:
            return read(chosen.Options, flags, prog=f"python -m bench.{chosen.name}", description=chosen.summary)

        for flag, act in chosen.instead.items():
            if flag in given:
                return act(options(arguments), given)
        asked = options(arguments)
        if asked.resume is not None:
            cli.check_resume(arguments, of_call(asked))
        rows = chosen.rows
        alone = "--config" in given or asked.resume is not None
        if rows is None or alone or any(flag.startswith(rows.own) for flag in given):
            run, result = perform(chosen, asked)
            if result:
                show(chosen.tables(result))
                print(f"results: {run.path}")
            return
        several = [
            options(["--config", str(configs() / chosen.module / f"{name}.yaml"), *changes, *arguments])
            for name, changes in rows.configs.items()
        ]
        for row in several:  # all of them before any work
            check_machine(row)
            chosen.check(prepared(chosen, row))
        results = [perform(chosen, row)[1] for row in several]
        folder = several[0].runs / chosen.module
        drawn = rows.draw(results)
        figures.save(drawn, folder)
        show([rows.table(results)])
        print(f"{rows.note} Figures: {', '.join(str(folder / name) for name in drawn)}")


def subcommand(choice: Mapping[str, Benchmark], arguments: Sequence[str]) -> tuple[Benchmark, list[str]]:
    prog = f"python -m bench.{next(iter(choice.values())).module}"
    p = cli.Parser(prog=prog)
    commands = p.add_subcommands()
    for name, each in choice.items():
        commands.add_subcommand(name, cli.Parser(), help=each.summary)
    if arguments and arguments[0] in choice:
        return choice[arguments[0]], list(arguments[1:])
    p.parse_args(list(arguments))  # says what is wrong, or helps
    raise ValueError(f"say which: {prog} {' or '.join(choice)}")


def configs() -> Path:
    """The folder of the files of options: of the checkout, or of the installed package."""
    bench = Path(__file__).parents[1]
    inside = bench / "configs"
    return inside if inside.is_dir() else bench.parent / "configs"


def show(tables: Iterable[Table]) -> None:
    for table in tables:
        print(table.text(), "\n", sep="")
