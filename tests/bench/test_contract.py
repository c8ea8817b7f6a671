"""What a benchmark is: every entry of the registry, and a new one that is one file and one line."""

import ast
import contextlib
import dataclasses
import inspect
import json
import signal
import sys
import tomllib
from pathlib import Path

import pytest
import toy
from studies import finished

from bench import registry, report
from bench.kit import figures
from bench.kit.benchmark import Benchmark, begin, complete, main
from bench.kit.folder import write_atomically
from bench.kit.options import Options, plain, read, saved
from bench.kit.tables import Table

ROOT = Path(__file__).parents[2]
BENCH = ROOT / "bench"
COMMANDS = sorted(p for p in BENCH.glob("*.py") if p.stem not in ("__init__", "registry", "report"))


@pytest.mark.parametrize("name", registry.MODULES)
def test_contract(name):
    """Prevents: options without a default or a description, a name that finds another benchmark, a smoke run of a smoke
    run that differs from it (a resumed one would)."""
    benchmark = registry.benchmark(name)
    assert isinstance(benchmark, Benchmark)
    assert benchmark.name == name
    assert benchmark.summary
    assert issubclass(benchmark.Options, Options)
    o = benchmark.Options()
    assert benchmark.layout >= 1
    assert list(inspect.signature(benchmark.run).parameters) == ["o", "run"]
    described = "".join(c.__doc__ or "" for c in benchmark.Options.__mro__ if issubclass(c, Options))
    for field in dataclasses.fields(o):
        assert f" {field.name}: " in described, f"{field.name} is not described"
    tiny = benchmark.tiny(dataclasses.replace(o, smoke=True))
    assert benchmark.tiny(tiny) == tiny
    assert read(benchmark.Options, []) == o  # the command line knows all of them
    assert plain(read(benchmark.Options, ["--smoke", "true"]))["smoke"] is True


def imports(path):
    """Modules of the project that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


LAYERS = ["kit", "data", "models", "learning", "puzzles"]  # each may use those before it


@pytest.mark.parametrize("path", sorted(BENCH.rglob("*.py")), ids=lambda p: p.relative_to(BENCH).as_posix())
def test_arrows_point_down(path):
    """Prevents: a command that another imports, a folder that reaches up, a library that knows the benchmarks."""
    command_modules = {f"bench.{p.stem}" for p in COMMANDS}
    found = set(imports(path))
    inside = path.relative_to(BENCH).parts
    if path.stem != "registry":
        assert not found & (command_modules - {f"bench.{path.stem}"}), "a command imports another"
    if inside[0] in LAYERS:
        above = LAYERS[LAYERS.index(inside[0]) + 1 :]
        assert not [f for f in found if any(f.startswith(f"bench.{layer}") for layer in above)]


@pytest.mark.parametrize("package", ["gle", "hrm"])
def test_the_library_knows_no_benchmark(package):
    for path in (ROOT / package).rglob("*.py"):
        assert not [f for f in imports(path) if f == "bench" or f.startswith("bench.")], path


def test_the_wheel_has_every_package():
    """Prevents: a folder that works from a checkout, and is missing where the toolkit was installed."""
    listed = set(tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"])
    folders = {p.parent for name in ("gle", "hrm", "bench") for p in (ROOT / name).rglob("*.py")}
    packages = {".".join(f.relative_to(ROOT).parts) for f in folders}
    assert listed == packages | {"bench.configs"}
    assert all((f / "__init__.py").exists() for f in folders)


# -- a new one ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def registered(monkeypatch):
    """The one line."""
    monkeypatch.setitem(registry.MODULES, "toy", "toy")
    return registry.benchmark("toy")


def command(*flags, capsys):
    main(toy.benchmark, flags)
    return capsys.readouterr().out


def test_a_new_benchmark_gets_everything_else(registered, tmp_path, monkeypatch, capsys):
    """Flags, files of options, smoke runs, run folder, resume, table, figure and report, for one file and one line."""
    assert registered is toy.benchmark
    assert len(Path(toy.__file__).read_text().splitlines()) < 80
    monkeypatch.setattr(sys, "argv", ["toy"])
    (tmp_path / "few.yaml").write_text("trials: 50\nnoise: [0.5, 5]\n")
    printed = command(
        "--config", str(tmp_path / "few.yaml"), "--seeds", "2", "--runs", str(tmp_path / "a"), capsys=capsys
    )
    folder, result, _ = finished(tmp_path / "a", printed)
    assert (result["benchmark"], result["layout"], result["name"]) == ("toy", 1, "toy")
    assert result["options"] == {"smoke": False, "threads": 1, "runs": str(tmp_path / "a"), "noise": [0.5, 5.0],
                                 "seeds": 2, "trials": 50}  # fmt: skip
    assert "right %" in printed
    assert f"results: {folder}" in printed
    names = {p.name for p in folder.iterdir()}
    assert names == {"config.yaml", "env.json", "parts", "result.json", "toy.png"}
    assert saved(toy.Picks, folder).trials == 50

    (folder / "result.json").unlink()
    (folder / "parts" / "noise_5.json").unlink()
    command("--resume", str(folder), capsys=capsys)
    assert json.loads((folder / "result.json").read_text()) == result

    (folder / "toy.png").unlink()
    report.main([str(folder)])
    assert "| noise | right % |" in capsys.readouterr().out
    assert (folder / "toy.png").exists()

    command("--smoke", "true", "--runs", str(tmp_path / "b"), capsys=capsys)
    assert finished(tmp_path / "b", "").result["right"] != result["right"]
    with pytest.raises(SystemExit, match="error: trials must be at least 1, got 0"):
        command("--trials", "0", capsys=capsys)


def test_a_run_without_the_command_line(tmp_path, capsys):
    """Prevents: a benchmark that can only be called from a terminal: nothing is printed, nothing ends the process."""
    o, run = begin(toy.benchmark, toy.Picks(runs=tmp_path, trials=20))
    result = complete(toy.benchmark, o, run)
    assert json.loads((run.path / "result.json").read_text()) == result
    assert capsys.readouterr().out == ""

    def stopped(o, run):
        raise KeyboardInterrupt

    interrupted = dataclasses.replace(toy.benchmark, run=stopped)
    with pytest.raises(KeyboardInterrupt):
        complete(interrupted, *begin(interrupted, toy.Picks(runs=tmp_path)))


def test_an_interruption_while_a_file_is_written(tmp_path, monkeypatch, capsys):
    """torch.save makes a RuntimeError of a Ctrl-C. Prevents: a stopped run that tells of a full disk."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)

    def run(o, run):
        def write(file):
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                raise RuntimeError("unexpected pos") from None

        write_atomically(run.path / "x", write)
        return {"right": [[50.0]]}

    monkeypatch.setattr(sys, "argv", ["toy"])
    try:
        with pytest.raises(SystemExit) as end:
            main(dataclasses.replace(toy.benchmark, run=run), ["--runs", str(tmp_path)])
    finally:
        signal.signal(signal.SIGINT, before)
    assert end.value.code == 130
    assert "stopped (interrupted); go on with" in capsys.readouterr().err


def test_an_interruption_that_was_swallowed_is_heeded(tmp_path, monkeypatch, capsys):
    """A Ctrl-C that the interpreter or a compiler drops ends the run where it next keeps something, with what it has.

    Prevents: a run that can only be killed.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    parts = []

    def run(o, run):
        def swallowed(n):
            parts.append(n)
            if n == 1:
                with contextlib.suppress(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)
            return [50.0]

        return {"right": [run.part(f"noise {n}", lambda n=n: swallowed(n)) for n in range(3)]}

    monkeypatch.setattr(sys, "argv", ["toy"])
    try:
        with pytest.raises(SystemExit) as end:
            main(dataclasses.replace(toy.benchmark, run=run), ["--runs", str(tmp_path)])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert end.value.code == 130
    assert parts == [0, 1]
    assert sorted(p.name for p in tmp_path.rglob("noise_*.json")) == ["noise_0.json", "noise_1.json"]
    assert "stopped (interrupted); go on with" in capsys.readouterr().err


def test_figures_are_closed_and_pages_written(tmp_path):
    """Prevents: figures that pile up in a sweep."""
    before = figures.plt.get_fignums()
    figure, _ = figures.plt.subplots()
    figures.save({"a.png": figure, "b.html": "<p>b</p>"}, tmp_path)
    assert figures.plt.get_fignums() == before
    assert (tmp_path / "b.html").read_text() == "<p>b</p>"


# -- reports -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"name": "mlp"}, "names no benchmark: it is no result file, or one of an older version"),
        ([], "names no benchmark"),
        (
            {"benchmark": "cifar", "layout": 1},
            "there is no benchmark 'cifar' in bench/registry.py; choose",
        ),
        ({"benchmark": "credit", "layout": 99}, "has the layout 99 of credit, this version reads 1"),
    ],
)
def test_what_cannot_be_reported(content, message, tmp_path):
    (tmp_path / "x.json").write_text(json.dumps(content))
    for path in (tmp_path, tmp_path / "x.json"):
        with pytest.raises(SystemExit, match=message):
            report.main([str(path)])


def test_several_results_beside_one_another(tmp_path, monkeypatch, capsys):
    """Prevents: figures of one result that overwrite those of another."""
    monkeypatch.setitem(registry.MODULES, "toy", "toy")
    result = {"benchmark": "toy", "layout": 1, "options": {"noise": [1.0]}, "right": [[50.0]]}
    for name in ("low", "high"):
        (tmp_path / f"{name}.json").write_text(json.dumps(result))
    report.main([str(tmp_path)])
    assert {p.name for p in tmp_path.glob("*.png")} == {"low.png", "high.png"}
    assert capsys.readouterr().out.count("| 1 | 50.0 |") == 2


def test_a_folder_of_run_folders(registered, tmp_path, capsys):
    for seeds in (2, 3):
        complete(toy.benchmark, *begin(toy.benchmark, toy.Picks(runs=tmp_path, trials=20, seeds=seeds)))
    report.main([str(tmp_path / "toy")])
    assert capsys.readouterr().out.count("| noise | right % |") == 2


def test_tables():
    table = Table([("a", "b"), ("1", "22")], "caption")
    assert table.text() == "caption\na  b\n-----\n1  22"
    assert table.markdown() == "caption\n\n| a | b |\n|---|---|\n| 1 | 22 |"
