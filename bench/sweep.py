"""Every combination of some options' values of any benchmark, several at a time; a table, and a picture.

    python -m bench.sweep <benchmark> --grid "<option>=[<value>,…]"
    python -m bench.sweep mnist1d --config gru --grid grid.yaml --on ray --address auto
    python -m bench.sweep --resume runs/sweep/<folder>

All other flags are the benchmark's own (docs/sweeps.md). A combination is the run that the benchmark's own command
would make, in a run folder of its own in combinations/, and in a process of its own: what fails or is lost takes
nothing else with it, and is tried again by --resume.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib.util
import itertools
import json
import logging
import math
import os
import statistics
import sys
from argparse import ArgumentError
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import yaml

from bench import registry
from bench.kit import cli, jobs
from bench.kit.benchmark import Benchmark, Result, configs, main, prepared
from bench.kit.figures import Drawn, band, plt
from bench.kit.folder import Run, Stopped, read_json
from bench.kit.interruption import heed
from bench.kit.options import OF_CALL, Options, absolute, check_machine, device_of, made, of_call, parser, plain, read
from bench.kit.tables import Table

log = logging.getLogger(__name__)


@dataclass
class Sweep(Options):
    """What is swept, and where.

    Args:
        benchmark: its name, as that of its command.
        options: of the benchmark, where they are not its defaults; the same in all combinations.
        grid: option of the benchmark → its values; every combination of them is run.
        on: local runs combinations in processes of this machine, ray on a Ray cluster (an optional extra).
        processes: combinations at a time on this machine; 0: as many as it has cores for, and one where they take an
            accelerator.
        address: of a running Ray cluster, auto for the one of this machine; by default Ray is started here, and ends
            with the sweep.
        gpus: of each combination on Ray; 0.5: two share one.
        threads: CPU threads of each combination; Ray keeps as many CPUs for it.
    """

    benchmark: str = ""
    options: dict = field(default_factory=dict)
    grid: dict = field(default_factory=dict)
    on: Literal["local", "ray"] = field(default="local", metadata=OF_CALL)
    processes: int = field(default=0, metadata=OF_CALL)
    address: str = field(default="", metadata=OF_CALL)
    gpus: float = field(default=0.0, metadata=OF_CALL)


# -- the command line --------------------------------------------------------------------------------------------------


def flags(arguments: Sequence[str]) -> list[str]:
    """`<benchmark> --grid "option=[values]" …`, as flags of Sweep: those that it does not know are the benchmark's."""
    words = list(itertools.takewhile(lambda a: not a.startswith("-"), arguments))
    names = [f.name for f in dataclasses.fields(Sweep)]
    own, others = cli.taken(arguments[len(words) :], names)
    axes = [axis(value) for name, value in own if name == "grid"]
    out = [f"--{name}={value}" for name, value in own if name != "grid"]
    if axes:
        if twice := [name for a, b in itertools.combinations(axes, 2) for name in a.keys() & b.keys()]:
            raise ValueError(f"{twice[0]} is in the grid twice: give all its values at once")
        out.append("--grid=" + json.dumps({name: values for each in axes for name, values in each.items()}))
    if not words or "--help" in others:
        return [*out, *others]
    swept = benchmark_of(" ".join(words))
    if elsewhere := [a for a in others if a.partition("=")[0] in swept.instead]:
        raise ValueError(f"{elsewhere[0]} asks for something else than a run: drop it")
    typed = cli.with_configs(others, configs() / swept.module)
    base = read(swept.Options, typed, prog=f"python -m bench.{swept.name}", description=swept.summary)
    own_options = {name: value for name, value in plain(absolute(base)).items() if name not in plain(Options())}
    return [f"--benchmark={swept.name}", "--options=" + json.dumps(own_options), *out]


def axis(text: str) -> dict[str, Any]:
    """Options and their values, from `option=[values]` or a YAML file. Raises ValueError where it is neither."""
    name, given, values = text.partition("=")
    try:
        if given:
            return {name.strip(): yaml.safe_load(values)}
        found = yaml.safe_load(Path(text).read_text("utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"--grid {text} cannot be read: {error}") from error
    except OSError as error:
        raise ValueError(f"--grid takes option=[values] or a YAML file of such lines, and {text} is neither") from error
    if not isinstance(found, dict):
        raise ValueError(f"{text} holds no grid: write it as option: [values], an option a line")
    return found


# -- combinations ------------------------------------------------------------------------------------------------------


def benchmark_of(name: str) -> Benchmark[Any]:
    others = ", ".join(n for n in registry.MODULES if n != "sweep")
    if name in ("", "sweep"):
        raise ValueError(f"say what to sweep: python -m bench.sweep <benchmark> --grid …, of {others}")
    return registry.benchmark(name)


class Reader:
    """The options of single runs, as the benchmark's own command line reads them."""

    def __init__(self, o: Sweep):
        self.o, self.benchmark = o, benchmark_of(o.benchmark)
        self.parser = parser(self.benchmark.Options, exit_on_error=False)

    def __call__(self, values: Mapping[str, Any]) -> Any:
        """With those values; not yet tiny or settled. Raises ValueError for what is none of its options, or no value of
        it."""
        o, kind = self.o, self.benchmark.Options
        given = [f"--{name}={v if isinstance(v, str) else json.dumps(v)}" for name, v in values.items()]
        try:
            parsed = self.parser.parse_args([f"--config={json.dumps(o.options)}", *given])
        except ArgumentError as error:
            self.explain(values)
            raise ValueError(f"{self.benchmark.name} cannot take {told(values) or o.options}: {error}") from error
        return absolute(dataclasses.replace(made(kind, self.parser, parsed), smoke=o.smoke, threads=o.threads))

    def explain(self, values: Mapping[str, Any]) -> None:
        """Raises ValueError where a name is none of an option."""
        known = list(leaves(self.defaults))
        groups = {name[:i] for name in known for i, letter in enumerate(name) if letter == "."}
        optional = {name for name in known if at(self.defaults, name) is None}  # a group that may be left out
        for name in values:
            within = {name[:i] for i, letter in enumerate(name) if letter == "."} & optional
            if name not in known and name not in groups and not within:
                close = difflib.get_close_matches(name, known, 3) or [k for k in known if k.endswith(f".{name}")]
                like = f"did you mean {' or '.join(close)}?" if close else "see --help of its own command"
                raise ValueError(f"{self.benchmark.name} has no option {name}: {like}")

    @cached_property
    def defaults(self) -> dict[str, Any]:
        return plain(self.benchmark.Options())


def leaves(values: Mapping[str, Any], within: str = "") -> Iterator[str]:
    """Dotted names of all options."""
    for name, value in values.items():
        yield f"{within}{name}"
        if isinstance(value, dict):
            yield from leaves(value, f"{within}{name}.")


def at(values: Any, name: str) -> Any:
    """Of a dotted name; None where there is none."""
    for part in name.split("."):
        values = values.get(part) if isinstance(values, dict) else None
    return values


def settled(o: Sweep) -> Sweep:
    """With the benchmark's own defaults, and values as it reads them: 1e-4 in YAML is a word. Raises ValueError."""
    reader = Reader(o)
    frame = {*plain(Options()), *of_call(reader.benchmark.Options()), "config"}
    grid = {}
    for name, values in o.grid.items():
        if name.split(".")[0] in frame:
            raise ValueError(f"{name} cannot be swept: it is no option of what {reader.benchmark.name} computes")
        if not isinstance(values, list) or not values:
            raise ValueError(f"{name} = {values!r} is no list of values: write {name}=[…]")
        plains = [plain(reader({name: v})) for v in values]
        grid[name] = [at(p, name) for p in plains]
        if twice := [v for i, v in enumerate(grid[name]) if v in grid[name][:i]]:
            raise ValueError(f"{name} has the value {shown(twice[0])} twice")
    if not grid:
        raise ValueError('there is nothing to sweep: give --grid "option=[values]"')
    base = {name: value for name, value in plain(reader({})).items() if name not in plain(Options())}
    return dataclasses.replace(o, options=base, grid=grid)


def combinations(o: Sweep) -> list[dict[str, Any]]:
    return [dict(zip(o.grid, values, strict=True)) for values in itertools.product(*o.grid.values())]


def told(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {shown(value)}" for name, value in values.items())


def shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def check(o: Sweep) -> None:
    """Raises ValueError with the value and the fix; each combination is asked for what its own benchmark thinks."""
    reader = Reader(o)
    if o.threads < 1:
        raise ValueError(f"threads must be at least 1, got {o.threads}: so many has each combination")
    if o.processes < 0 or o.gpus < 0:
        raise ValueError(f"processes and gpus must be ≥ 0, got {o.processes} and {o.gpus:g}")
    accelerated = device_of(reader({})) != "cpu"
    if o.on == "local" and (o.address or o.gpus):
        raise ValueError("address and gpus are of Ray: add --on ray")
    if o.on == "ray":
        if importlib.util.find_spec("ray") is None:
            raise ValueError('ray is not installed: pip install "gle-toolkit[ray]"')
        if o.processes:
            raise ValueError("processes is of this machine: on Ray, threads and gpus say how many have room")
        if accelerated != bool(o.gpus):
            raise ValueError("a device that is no CPU and gpus belong together: give --device cuda and --gpus 1")
    for values in combinations(o):
        options = reader(values)
        if o.on == "ray" and accelerated:  # which this machine need not have
            options = dataclasses.replace(options, device="cpu")
        try:
            check_machine(options)
            reader.benchmark.check(prepared(reader.benchmark, options))
        except ValueError as error:
            raise ValueError(f"{told(values)}: {error}") from error


def tiny(o: Sweep) -> Sweep:
    return dataclasses.replace(o, grid={name: values[:2] for name, values in o.grid.items()})


# -- the run -----------------------------------------------------------------------------------------------------------


def place(o: Sweep, reader: Reader) -> AbstractContextManager[jobs.Submit]:
    """Where jobs go."""
    if o.on == "ray":
        return jobs.on_ray(o.address, o.threads, o.gpus)
    several = max(1, cores() // o.threads) if device_of(reader({})) == "cpu" else 1
    return jobs.on_this_machine(o.processes or several, [registry.MODULES[o.benchmark]])


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(o: Sweep, run: Run) -> dict[str, Any]:
    """Computes what combinations lack. Raises Stopped where all have failed."""
    reader, every = Reader(o), combinations(o)
    score = reader.benchmark.score
    module = registry.MODULES[o.benchmark]
    folder = run.path.resolve() / "combinations"
    all_jobs = [jobs.Job(module, reader(values), folder / str(i)) for i, values in enumerate(every)]
    found: dict[int, dict[str, Any]] = {}
    run.restore()  # metrics.jsonl has the order in which they came

    def take(i: int, error: str = "", quiet: bool = False) -> None:
        outcome: dict[str, Any] = {"error": error} if error else taken(reader.benchmark, all_jobs[i].folder)
        found[i] = {"values": every[i], "folder": f"combinations/{i}", **outcome}
        run.log({"combination": i, **{k: v for k, v in found[i].items() if k != "curve"}})
        if quiet:
            return
        said = error or (f"{score.name} {mean_std(outcome['score'])}" if score else "done")
        log.info("%d of %d: %s: %s", len(found), len(every), told(every[i]), said)

    lacking = [i for i, job in enumerate(all_jobs) if jobs.done(job.folder) is None]
    for i in sorted(set(range(len(every))) - set(lacking)):
        take(i, quiet=True)
    if lacking:
        log.info("%d of %d combinations are to be run", len(lacking), len(every))
        with place(o, reader) as submit:
            futures = {submit(all_jobs[i]): i for i in lacking}
            for future in as_completed(futures):
                i = futures[future]
                heed()
                try:
                    ended = future.result()
                except Exception as lost:  # with its process, or its machine
                    take(i, " ".join(str(lost).split()))
                    continue
                jobs.received(all_jobs[i], ended)
                take(i, ended.error)
    if all("error" in each for each in found.values()):
        raise Stopped(f"all {len(found)} combinations failed, the first with: {found[0]['error']}")
    return {
        "swept": o.benchmark,
        "score": score and {"name": score.name, "larger": score.larger},
        "combinations": [found[i] for i in range(len(every))],
    }


def taken(benchmark: Benchmark[Any], folder: Path) -> dict[str, Any]:
    """What a sweep keeps of a result."""
    file = jobs.done(folder)
    assert file is not None
    result, score = read_json(file, "delete it, then --resume"), benchmark.score
    if score is None:
        return {}
    return {"score": list(score.of(result)), "curve": score.curve and score.curve(result)._asdict()}


# -- what it shows -----------------------------------------------------------------------------------------------------


def mean_std(values: Sequence[float]) -> str:
    """To four digits: scores may be accuracies or losses. What diverged has no spread."""
    spread = f" ± {statistics.stdev(values):.2g}" if len(values) > 1 and all(map(math.isfinite, values)) else ""
    return f"{statistics.mean(values):.4g}{spread}"


def ranked(result: Result) -> list[Result]:
    """Combinations that came to their end, the best first; in the order of the grid where nothing ranks them."""
    ended = [c for c in result["combinations"] if "error" not in c]
    if result["score"] is None:
        return ended
    sign = -1 if result["score"]["larger"] else 1

    def order(c: Result) -> tuple[bool, float]:
        mean = statistics.mean(c["score"])
        return (not math.isfinite(mean), sign * mean if math.isfinite(mean) else 0.0)

    return sorted(ended, key=order)


def marginal(result: Result, name: str, value: Any) -> list[float]:
    """Mean scores of all combinations with that value that neither failed nor diverged."""
    means = [statistics.mean(c["score"]) for c in ranked(result) if c["values"][name] == value]
    return [m for m in means if math.isfinite(m)]


def table(result: Result) -> Table:
    """The best first."""
    axes, score = list(result["options"]["grid"]), result["score"]
    rows: list[tuple[str, ...]] = [(*axes, *([score["name"], "seeds"] if score else []), "folder")]
    for c in ranked(result):
        scored = (mean_std(c["score"]), str(len(c["score"]))) if score else ()
        rows.append((*(shown(c["values"][name]) for name in axes), *scored, c["folder"]))
    return Table(rows)


def marginals(result: Result) -> Table:
    """What each value of each option does, whatever the others are."""
    name = result["score"]["name"]
    choose = max if result["score"]["larger"] else min
    rows: list[tuple[str, ...]] = [("option", "value", "combinations", f"{name}, over them", "best")]
    for axis, values in result["options"]["grid"].items():
        for value in values:
            if means := marginal(result, axis, value):
                rows.append((axis, shown(value), str(len(means)), mean_std(means), f"{choose(means):.4g}"))
    return Table(rows)


def failures(result: Result) -> Table:
    axes = list(result["options"]["grid"])
    rows: list[tuple[str, ...]] = [(*axes, "failed with", "log")]
    for c in result["combinations"]:
        if "error" in c:
            rows.append((*(shown(c["values"][name]) for name in axes), c["error"], f"{c['folder']}/log.txt"))
    return Table(rows)


def tables(result: Result) -> list[Table]:
    failed = failures(result)
    shown_always = [table(result), *([marginals(result)] if result["score"] else [])]
    return [*shown_always, *([failed] if len(failed.rows) > 1 else [])]


BEST = 3  # curves that are told apart


def draw(result: Result) -> Drawn:
    """Curves, the best in colour; and the score over each option's values: a dot is a combination, the line their
    mean."""
    if result["score"] is None:
        return {}
    name, best = result["score"]["name"], ranked(result)
    grid = result["options"]["grid"]
    curves = all(c["curve"] for c in best)
    figure, all_axes = plt.subplots(
        1, len(grid) + curves, figsize=(3.6 * (len(grid) + curves), 3.4), layout="constrained", squeeze=False
    )
    panels = list(all_axes[0])
    if curves:
        panel = panels.pop(0)
        for i, c in reversed(list(enumerate(best))):
            x, values = c["curve"]["x"], c["curve"]["values"]
            if i < BEST:
                band(panel, x, values, color=f"C{i}", label=told(c["values"]), zorder=2 + BEST - i)
            else:
                panel.plot(x, [statistics.mean(v) for v in values], color="0.8", linewidth=0.8)
        panel.set(xlabel=best[0]["curve"]["along"], ylabel=name)
        handles, labels = panel.get_legend_handles_labels()
        panel.legend(handles[::-1], labels[::-1])
    for panel, (axis, values) in zip(panels, grid.items(), strict=True):
        scored = [(i, means) for i, v in enumerate(values) if (means := marginal(result, axis, v))]
        for i, means in scored:
            panel.plot([i] * len(means), means, ".", color="0.6")
        panel.plot([i for i, _ in scored], [statistics.mean(means) for _, means in scored], "C0.-")
        panel.set(xlabel=axis, ylabel=name, xticks=range(len(values)), xticklabels=[shown(v) for v in values])
    return {"sweep.png": figure}


benchmark = Benchmark(
    name="sweep",
    summary="every combination of some options' values of any benchmark",
    Options=Sweep,
    check=check,
    settled=settled,
    tiny=tiny,
    run=run,
    tables=tables,
    draw=draw,
    flags=flags,
)

if __name__ == "__main__":
    main(benchmark, sys.argv[1:])
