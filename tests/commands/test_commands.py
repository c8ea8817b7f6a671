"""Every command that a document names, along the path that a user takes: with its own switches, compiled, and shortened
in counts alone (`shortened`). The compiler's cheap back end traces each step and compiles nothing; two commands at the
end are compiled for real."""

import io
import json
import logging
import math
import os
import shlex
import shutil
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from documents import CONFIGS, ROOT, documented, figures
from processes import like_torchrun
from shortened import COUNTS, GRID, RUNS, SPEECH, SWITCHES, Run
from studies import hardly_drawn, launch, numbers

import gle
from bench import arc, registry
from bench.data import audio, chaos, speech_commands
from bench.kit.figures import plt
from bench.learning.forecast import Forecaster
from hrm.tasks import sudoku
from hrm.tasks.maze import generate as generate_mazes
from hrm.tasks.task import Grids

ROWS = {"mnist1d", "gsc"}  # without a row of one's own they run several


class Ended(NamedTuple):
    """What a command left behind."""

    folder: Path  # where it was to write
    printed: str
    logged: list[str]

    @property
    def run(self) -> Path:
        """Its run folder, the outermost one."""
        return min((p.parent for p in self.folder.rglob("config.yaml")), key=lambda p: len(p.parts))


class Commands:
    """Runs commands, each once, and makes what stands in place of their placeholders."""

    def __init__(self, folder: Path):
        self.folder, self.ended, self.made = folder, {}, {}

    def __call__(self, command: str) -> Ended:
        how = RUNS[command]
        typed = self._typed(command, how)
        if typed not in self.ended:
            with pytest.MonkeyPatch.context() as patch:
                if how.traced:
                    patch.setattr(torch, "compile", lambda function, **options: function)
                    patch.setenv("TORCH_COMPILE_DISABLE", "1")  # of processes of its own
                self.ended[typed] = self._run(shlex.split(typed), self.folder / str(len(self.ended)))
        return self.ended[typed]

    def _typed(self, command: str, how: Run) -> str:
        for placeholder, thing in how.fill:
            assert placeholder in command
            for name in {n for n in MAKERS if f"{{{n}}}" in thing}:
                thing = thing.replace(f"{{{name}}}", shlex.quote(str(self.thing(name))))
            command = command.replace(placeholder, thing, 1)
        return f"{command} {how.counts}"

    def _run(self, arguments: list[str], out: Path) -> Ended:
        if "--resume" in arguments or "bench.report" in arguments:
            out = Path(arguments[-1])
        elif "--help" not in arguments and "--solve" not in arguments:
            arguments += ["--runs", str(out)]
        module = arguments.index("-m") + 1
        if arguments[0] == "torchrun":
            printed = self.folder / "printed.txt"  # torchrun itself: tests/bench/test_reasoning.py
            like_torchrun(arguments[module], arguments[module + 1 :], printed)
            return Ended(out, printed.read_text("utf-8"), [])
        logged: list[str] = []
        handler = logging.Handler(logging.WARNING)
        handler.emit = lambda record: logged.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger().addHandler(handler)
        torch._dynamo.reset()  # which gives up on what was compiled for too many shapes
        name = arguments[module].removeprefix("bench.")
        try:
            with pytest.MonkeyPatch.context() as patch:
                if name != "report":  # as they are drawn, the smoke runs of tests/bench look at them
                    patch.setattr(plt.Figure, "savefig", hardly_drawn)
                printed = launched(name, arguments[module + 1 :])
        finally:
            logging.getLogger().removeHandler(handler)
        return Ended(out, printed, logged)

    def thing(self, name: str) -> Path:
        if name not in self.made:
            self.made[name] = MAKERS[name](self)
        return self.made[name]


def launched(module: str, arguments: list[str]) -> str:
    """What it prints; a command ends well or not at all."""
    printed = io.StringIO()
    try:
        launch(module, *arguments, into=printed)
    except SystemExit as end:
        if end.code:
            pytest.fail(f"{module} {arguments} ended with {end.code}")
    return printed.getvalue()


# -- what stands in place of placeholders ------------------------------------------------------------------------------


def copied(commands: Commands, command: str) -> Path:
    return shutil.copytree(commands(command).run, commands.folder / f"copy {len(commands.made)}")


@cache
def made_puzzles() -> list[Grids]:
    """9 × 9, for two files and a list."""
    return sudoku.generate(9, 30, (6, 6, 10), 0, "none")


def puzzles(commands: Commands, name: str, split: int) -> Path:
    """A file in the format of sudoku-extreme."""
    rng = np.random.default_rng(split)
    rows = ["source,question,answer,rating"]
    made = made_puzzles()[split]
    for x, y in zip(made.x, made.y):
        question, answer = ("".join(str(int(s) - sudoku.BLANK) for s in grid) for grid in (x, y))
        rows.append(f"made,{question.replace('0', '.')},{answer},{rng.integers(9)}")
    file = commands.folder / name
    file.write_text("\n".join(rows) + "\n")
    return file


def results(commands: Commands) -> Path:
    folder = commands.folder / "results"
    return shutil.copytree(
        ROOT / "bench" / "results" / "mnist1d", folder, ignore=shutil.ignore_patterns("learning_curves.png")
    )


def a_list(commands: Commands) -> Path:
    """One puzzle a line, without answers."""
    file = commands.folder / "list.txt"
    lines = ("".join(str(int(s) - sudoku.BLANK) for s in x) for x in made_puzzles()[2].x)
    file.write_text("# made\n" + "\n".join(lines) + "\n")
    return file


def mazes(commands: Commands) -> Path:
    """In the layout of the published data sets."""
    folder = commands.folder / "mazes of one's own"
    made = generate_mazes(6, "open", (24, 1, 8), 0, 3, 0.3)
    for split, grids in (("train", made[0]), ("test", made[2])):
        (folder / split).mkdir(parents=True)
        np.save(folder / split / "all__inputs.npy", grids.x)
        np.save(folder / split / "all__labels.npy", grids.y)
    return folder


def competition(commands: Commands) -> Path:
    """Tasks in one file, without the answers that are asked for."""
    tasks = {file.stem: json.loads(file.read_text()) for file in arc.toy(commands.folder / "toys", 3, 2).iterdir()}
    for task in tasks.values():
        for pair in task["test"]:
            del pair["output"]
    file = commands.folder / "arc-agi_test_challenges.json"
    file.write_text(json.dumps(tasks))
    return file


def maze(commands: Commands) -> Path:
    file = commands.folder / "maze.txt"
    file.write_text("\n".join(["S" + 9 * ".", *["." * 5 + "#" * 3 + "..", 10 * "."] * 4, 9 * "." + "G"]) + "\n")
    return file


def series(commands: Commands) -> Path:
    """NeuroBench's points per Lyapunov time, of something simpler."""
    file = commands.folder / "mg_17.npy"
    np.save(file, 1 + 0.3 * np.sin(0.4 * np.arange(400)))
    return file


def words(commands: Commands) -> Path:
    """Speech commands, of a sort."""
    folder = commands.folder / "words"
    if not folder.exists():
        speech_commands.synthesise(folder)
    return folder


def recording(commands: Commands) -> Path:
    file = commands.folder / "recording.wav"
    audio.write(file, np.concatenate([audio.read(p) for p in sorted((words(commands) / "yes").iterdir())[:3]]))
    return file


def a_grid(commands: Commands) -> Path:
    file = commands.folder / "grid.yaml"
    file.write_text("training.lr: [1e-3, 1e-2]\n")
    return file


MAKERS = {
    "a grid": a_grid,
    "a sweep": lambda c: copied(c, GRID),
    "words": words,
    "a recording": recording,
    "a run of speech": lambda c: copied(c, SPEECH),
    "a run of MNIST-1D": lambda c: copied(c, "python -m bench.mnist1d --config configs/mnist1d/gle_15k.yaml"),
    "a run of Sudoku": lambda c: copied(c, "python -m bench.sudoku"),
    "a run of 6 × 6": lambda c: copied(c, "python -m bench.sudoku --config configs/sudoku/6x6.yaml"),
    "a run of neurons": lambda c: copied(c, "python -m bench.sudoku --config configs/sudoku/6x6_gle.yaml"),
    "a run of mazes": lambda c: copied(c, "python -m bench.maze"),
    "training tasks": lambda c: arc.toy(c.folder / "training", 4, 0),
    "evaluation tasks": lambda c: arc.toy(c.folder / "evaluation", 4, 1),
    "puzzles": lambda c: puzzles(c, "train.csv", 0),
    "other puzzles": lambda c: puzzles(c, "test.csv", 1),
    "a copy of the results": results,
    "a maze": maze,
    "a list": a_list,
    "mazes": mazes,
    "a competition": competition,
    "a series": series,
}


def begun_with_short_blocks(forecaster: Forecaster, *arguments) -> None:
    BEGUN(forecaster, *arguments)
    forecaster.block = 1


BEGUN = Forecaster.__init__


@pytest.fixture(scope="module")
def commands(tmp_path_factory, server):
    """Where a user stands, with a cache of data of its own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OMP_NUM_THREADS", "1")
        patch.setenv("GLE_COMPILER", "eager")
        patch.setattr(chaos, "TOLERANCE", 1e-9)  # of a series that is looked at for a moment: five times fewer steps
        patch.setitem(gle.Simulation.__init__.__kwdefaults__, "block", 1)  # a count, too: four times less to trace
        patch.setattr(Forecaster, "__init__", begun_with_short_blocks)  # five times less in a free run
        commands = Commands(tmp_path_factory.mktemp("commands"))
        patch.setenv("GSC_DATA", str(words(commands)))
        yield commands


# -- documents and this tier tell of the same commands -----------------------------------------------------------------


def test_every_documented_command_is_run():
    """Prevents: a command that a document names, that nobody has typed since."""
    found = documented()
    assert len(found) > 50  # so many that nobody would notice half of them missing
    missing = {command: files for command, files in found.items() if command not in RUNS and command not in SWITCHES}
    assert not missing, "documented, and not in tests/commands/shortened.py"


def test_every_file_of_options_is_run():
    missing = [c for c in CONFIGS if not any(c in command.split() for command in RUNS)]
    assert CONFIGS
    assert not missing


def test_every_run_is_documented():
    """Prevents: a table that keeps running what no document names any more."""
    found = documented()
    assert not [command for command in RUNS if command not in found and command not in SWITCHES.values()]
    assert not [switches for switches in SWITCHES if switches not in found]


def test_switches_are_those_of_a_run():
    for switches, command in SWITCHES.items():
        assert switches in command
        assert command in RUNS


def test_what_is_traced_elsewhere_is_traced_there():
    """Prevents: a command whose steps the compiler never sees."""
    for command, how in RUNS.items():
        if how.traced:
            assert not RUNS[how.traced].traced
            assert module(command) == module(how.traced)  # of the same benchmark


def module(command):
    return next(word for word in command.split() if word.startswith("bench."))


def test_runs_are_shortened_in_counts_alone():
    """Prevents: this tier taking another path than a user does."""
    for how in RUNS.values():
        flags = [word.removeprefix("--") for word in how.counts.split() if word.startswith("--")]
        assert {flag.rpartition(".")[2] for flag in flags} <= COUNTS
    assert not COUNTS & {"compile", "smoke", "device", "modes", "quick"}


@pytest.mark.parametrize(("document", "figure", "named"), figures(), ids=lambda v: v if isinstance(v, str) else "")
def test_figures_name_the_command_that_made_them(document, figure, named):
    """Prevents: a figure that nobody can make again."""
    assert (ROOT / document).parent.joinpath(figure).exists() or "results" not in os.listdir(ROOT / "bench")
    assert named & RUNS.keys(), f"no command of this tier in the paragraph of {figure}"


# -- running them ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [pytest.param(c, marks=[pytest.mark.slow] * r.slow) for c, r in RUNS.items()])
def test_runs(command, commands):
    """It ends well, with results, figures and a table; what is compiled can be traced.

    Prevents: a command that fails on its own defaults, while smoke runs, which compile nothing, do not."""
    ended = commands(command)
    assert not [line for line in ended.logged if "compile" in line]
    if "--help" in command:
        assert "--training.steps" in ended.printed
        return
    if "--listen" in command:
        assert " s " in ended.printed
        assert len(list(ended.folder.rglob("heard-*.png"))) == 1
        return
    if "--solve" in command:
        assert "after 16 segments" in ended.printed or "--segments" not in command
        assert "after 1 segment:" in ended.printed
        return
    if command.startswith("python -m bench.report"):
        assert (ended.folder / "learning_curves.png").stat().st_size > 5000
        assert "| gle_15k |" in ended.printed
        return
    results = list(ended.folder.rglob("result.json"))
    assert results
    for file in results:
        assert all(math.isfinite(n) for n in numbers(json.loads(file.read_text())))
    assert len(list(ended.folder.rglob("*.png"))) >= 1
    assert "results: " in ended.printed or "Figures: " in ended.printed
    name = module(command).removeprefix("bench.")
    alone = "--config" in command or "--resume" in command
    if not alone and (rows := name in ROWS and registry.benchmark(name).rows):
        assert all(f"\n{row} " in ended.printed for row in rows.configs)
        assert list(ended.folder.rglob("learning_curves.png"))
    if "--smoke" not in command and ("--config" in command or "bench.sudoku" in command):
        options = json.loads((ended.run / "env.json").read_text())["options"]
        assert options.get("options", options)["compile"] is True  # of a sweep: those of its benchmark


REAL = {
    "sudoku": (
        "--seeds 1 --training.steps 2 --evaluate 1 --training.batch 4 --puzzles [4,2,2] --segments 1 "
        "--model.H_layers 1 --model.L_layers 1 --model.H_cycles 1 --model.L_cycles 1 "
        "--training.halting.q_continue false"  # the compiler's work grows with their number
    ),
    "mnist1d": "--config configs/mnist1d/gle_15k.yaml --samples 130 --training.epochs 1 --model.hidden_layers 1 "
    "--model.populations [[4,0.6,0.2]]",
}


@pytest.mark.slow
@pytest.mark.parametrize("module", REAL)
def test_compiled_for_real(module, commands, tmp_path, monkeypatch, caplog):
    """The same with PyTorch's compiler. Prevents: what can be traced, and not compiled."""
    monkeypatch.delenv("GLE_COMPILER")
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["inductor"].total()
    printed = launched(module, [*REAL[module].split(), "--runs", str(tmp_path)])
    assert "results: " in printed
    assert not [r for r in caplog.records if "compile" in r.getMessage()]
    assert torch._dynamo.utils.counters["inductor"].total() > before
