"""README and docs/ tell the truth: their tables are what the result files say. (Their code is run by tests/docs.)"""

import importlib.util
import json
import re
from pathlib import Path

import matplotlib.pyplot as plt
import pytest
import torch

from bench import (
    compare,
    credit,
    depth_width,
    error_timing,
    gradients,
    gsc,
    hrm_dynamics,
    hrm_speed,
    mackey_glass,
    mnist1d,
    recurrent,
    registry,
    report,
    sweep,
)
from bench.kit.options import plain, read
from bench.kit.tables import markdown
from bench.learning.run import table as rows_of
from bench.learning.trainers import Online
from bench.puzzles import reasoning
from bench.teacher_student import chain, small

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ANALYSES = "\n".join(
    (ROOT / "docs" / f"{name}.md").read_text()
    for name in (
        "analyses",
        "mackey_glass",
        "speed",
        "hrm",
        "mnist1d",
        "graphs",
        "local",
        "local_trials",
        "speech",
        "speech_trials",
        "sweeps",
    )
)
RESULTS = ROOT / "bench" / "results" / "mnist1d"


def test_ten_lines_are_those_of_the_guide():
    """README's example is that of a page whose code tests/docs runs, with its assertion that the loss falls.

    Prevents: two versions of it, of which one is run."""
    (lines,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert lines in (ROOT / "docs" / "guide" / "chain.md").read_text("utf-8")


def test_table_of_the_papers_is_made_from_the_result_files():
    """docs/reproduce.md. Prevents: figures typed by hand."""
    spec = importlib.util.spec_from_file_location("reproduce", ROOT / "docs" / "reproduce.py")
    reproduce = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reproduce)
    page = reproduce.PAGE.read_text("utf-8")
    assert reproduce.written(page) == page
    assert page.count("| `python -m bench.") > 25


def test_lines_on_graphs(capsys):
    """The lines of docs/graphs.md run as printed, and the loss falls."""
    lines, alignment = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "graphs.md").read_text(), re.DOTALL)
    scope = {}
    exec(lines, scope)
    exec(alignment, scope)
    assert scope["sim"].step == len(scope["x"])
    loss = scope["record"]["loss"].mean(-1)
    assert loss[-1] < 0.2 * loss[0]
    assert "torch.Size([5, 8, 20])" in capsys.readouterr().out


def test_table_is_made_from_the_result_files():
    """Prevents: figures typed by hand."""
    table = re.search(r"<!-- results -->\n(.*?)\n<!-- /results -->", README, re.DOTALL)[1]
    results = [result for _, result in report.found(RESULTS)["mnist1d"]]
    assert table == markdown(rows_of(results, mnist1d.PUBLISHED).rows)


STUDIES = {  # the tables of docs/: result file, or a folder of them, and what makes the table from it
    "speech": ("gsc", lambda rows: gsc.tables(rows)[0]),
    "speech trials": ("gsc_trials", lambda rows: gsc.tables(rows)[0]),
    "speech controls": ("gsc_controls", lambda rows: gsc.tables(rows)[0]),
    "speech classes": ("gsc/gle_delays", gsc.by_class),
    "chain": ("teacher_student/chain", chain.table),
    "chain annealed": ("teacher_student/chain_annealed", chain.table),
    "small": ("teacher_student/small", lambda r: small.tables(r)[0]),
    "phases": ("teacher_student/small", lambda r: small.tables(r)[1]),
    "phases instant": ("teacher_student/small_instant", lambda r: small.tables(r)[1]),
    "training": ("credit/result", credit.training_table),
    "error timing": ("error_timing/result", error_timing.push_table),
    "mackey_glass": ("mackey_glass/result", lambda r: mackey_glass.tables(r)[0]),
    "mackey_glass rk4": ("mackey_glass/rk4", lambda r: mackey_glass.tables(r)[0]),
    "scaling": ("mackey_glass/result", lambda r: mackey_glass.tables(r)[1]),
    "neurobench": ("mackey_glass/result", lambda r: mackey_glass.tables(r)[2]),
    "integrators": ("mackey_glass/result", lambda r: mackey_glass.tables(r)[3]),
    "costs": ("credit/result", credit.costs_table),
    "gradients": ("gradients/result", lambda r: gradients.tables(r)[0]),
    "gradient costs": ("gradients/result", lambda r: gradients.tables(r)[1]),
    "dynamics models": ("hrm_dynamics/result", lambda r: hrm_dynamics.tables(r)[0]),
    "dynamics dimensions": ("hrm_dynamics/result", lambda r: hrm_dynamics.tables(r)[1]),
    "dynamics segments": ("hrm_dynamics/result", lambda r: hrm_dynamics.tables(r)[2]),
    "dynamics segments gle": ("hrm_dynamics/gle", lambda r: hrm_dynamics.tables(r)[2]),
    "sudoku 4x4": ("sudoku/4x4", lambda r: reasoning.tables(r)[0]),
    "sudoku 6x6": ("sudoku/6x6", lambda r: reasoning.tables(r)[0]),
    "hrm speed": ("hrm_speed/result", lambda r: hrm_speed.tables(r)[0]),
    "hrm rests": ("hrm_speed/result", lambda r: hrm_speed.tables(r)[1]),
    "depth width": ("depth_width/result", lambda r: depth_width.tables(r)[0]),
    "sudoku 9x9": ("sudoku/9x9_lists", lambda r: reasoning.tables(r)[0]),
    "sudoku 9x9 restarts": ("sudoku/9x9_lists", lambda r: reasoning.tables(r)[1]),
    "sudoku 9x9 mlp": ("sudoku/9x9_lists_mlp", lambda r: reasoning.tables(r)[0]),
    "sudoku 9x9 attention": ("sudoku/9x9_lists_attention", lambda r: reasoning.tables(r)[0]),
    "sudoku 9x9 sets": ("sudoku/9x9_lists", lambda r: reasoning.tables(r)[2]),
    "sudoku 9x9 guesses": ("sudoku/9x9_lists", lambda r: reasoning.tables(r)[3]),
    "sudoku 4x4 gle": ("sudoku/4x4_gle", lambda r: reasoning.tables(r)[0]),
    "sudoku 6x6 gle": ("sudoku/6x6_gle", lambda r: reasoning.tables(r)[0]),
    "sudoku 6x6 gle hard": ("sudoku/6x6_gle_hard", lambda r: reasoning.tables(r)[0]),
    "sudoku hard plain": ("sudoku_trials/plain", lambda r: reasoning.tables(r)[0]),
    "sudoku hard stabilised": ("sudoku_trials/stabilised", lambda r: reasoning.tables(r)[0]),
    "sudoku attention": ("sudoku_trials/attention", lambda r: reasoning.tables(r)[0]),
    "sudoku 6x6 gle 600": ("sudoku/6x6_gle_600", lambda r: reasoning.tables(r)[0]),
    "speech published": ("gsc_published", lambda r: gsc.tables(r)[0]),
    "compare 4x4": ("compare/4x4", lambda r: compare.tables(r)[0]),
    "compare 4x4 gradients": ("compare/4x4", lambda r: compare.tables(r)[1]),
    "compare costs": ("compare/4x4", lambda r: compare.tables(r)[2]),
    "compare 6x6": ("compare/6x6", lambda r: compare.tables(r)[0]),
    "compare 6x6 gradients": ("compare/6x6", lambda r: compare.tables(r)[1]),
    "compare maze": ("compare/maze", lambda r: compare.tables(r)[0]),
    "compare maze gradients": ("compare/maze", lambda r: compare.tables(r)[1]),
    "compare stream": ("compare/stream", lambda r: compare.tables(r)[0]),
    "compare stream gradients": ("compare/stream", lambda r: compare.tables(r)[1]),
    "maze 10x10 gle": ("maze/10x10_gle", lambda r: reasoning.tables(r)[0]),
    "arc": ("arc/laptop", lambda r: reasoning.tables(r)[0]),
    "arc votes": ("arc/laptop", lambda r: reasoning.tables(r)[1]),
    "maze 30x30": ("maze/hard_30x30", lambda r: reasoning.tables(r)[0]),
    "maze 30x30 gle": ("maze/hard_30x30_gle", lambda r: reasoning.tables(r)[0]),
    "maze 30x30 gle faults": ("maze/hard_30x30_gle", lambda r: reasoning.tables(r)[1]),
    "maze 30x30 whole": ("maze/hard_30x30_whole", lambda r: reasoning.tables(r)[0]),
    "maze 30x30 whole faults": ("maze/hard_30x30_whole", lambda r: reasoning.tables(r)[1]),
    "maze 30x30 faults": ("maze/hard_30x30", lambda r: reasoning.tables(r)[1]),
    "maze open": ("maze/open", lambda r: reasoning.tables(r)[0]),
    "recurrent": ("recurrent/result", lambda r: recurrent.tables(r)[0]),
    "recurrent edges": ("recurrent/result", lambda r: recurrent.tables(r)[2]),
    "sweep": ("sweeps/mnist1d_gru", sweep.table),
    "sweep effects": ("sweeps/mnist1d_gru", sweep.marginals),
    "maze carved": ("maze/carved", lambda r: reasoning.tables(r)[0]),
}


@pytest.mark.parametrize("name", STUDIES)
def test_tables_of_the_studies(name):
    """Prevents: figures typed by hand."""
    file, made = STUDIES[name]
    place = RESULTS.parent / file
    result = (
        [r for rows in report.found(place).values() for _, r in rows]
        if place.is_dir()
        else json.loads((RESULTS.parent / f"{file}.json").read_text())
    )
    table = re.search(rf"<!-- {name} -->\n(.*?)\n<!-- /{name} -->", ANALYSES, re.DOTALL)[1]
    assert table == markdown(made(result).rows)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda p: p.stem)
def test_result_files_are_whole(path):
    """At least three seeds, the configuration of the repository, published parameter counts, means from the curve."""
    result = json.loads(path.read_text())
    assert result["name"] == path.stem
    assert len(result["seeds"]) == len(result["validation"]) == len(result["test"]) >= 3
    assert result["validation"] == result["curve"][-1]
    assert result["epochs"] == len(result["curve"])
    config = read(mnist1d.Options, ["--config", str(ROOT / "configs" / "mnist1d" / f"{path.stem}.yaml")])
    defaults = plain(mnist1d.Options())
    for part in ("model", "training"):  # settings younger than the result stand at their defaults
        assert {**defaults[part], **result["options"][part]} == plain(config)[part]
    second = result["options"].get("consolidation")
    assert (second and {**defaults["training"], **second}) == plain(config)["consolidation"]
    assert not result["options"]["smoke"]


@pytest.mark.parametrize("path", sorted(RESULTS.parent.glob("*/*.json")), ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_every_result_file_makes_its_tables_and_figures(path):
    """Prevents: results that nobody can read any more. Nothing is trained, and nothing written."""
    ((name, ((_, result),)),) = report.found(path).items()
    benchmark = registry.benchmark(name)
    tables, drawn = benchmark.tables(result), benchmark.draw(result)
    assert all(len(table.rows) > 1 for table in tables)
    assert drawn
    for picture in drawn.values():
        if not isinstance(picture, str):
            assert picture.axes
            plt.close(picture)


def test_published_figures():
    """Quoted as published: Table 2, Fig. 8f."""
    assert mnist1d.PUBLISHED == {
        "gle_15k": (91.7, 0.8),
        "gle_42k": (93.5, 0.9),
        "lagnet": (90.9, 0.7),
        "mlp": (65.5, 1.0),
        "tcn": (96.7, 0.9),
        "gru": (94.0, 1.1),
    }


def test_frozen_trace():
    """Output of the 15k network at three steps, as first recorded: any change of initialisation, populations, scheme or
    readout shows here. Its correctness rests on the other tests."""
    config = mnist1d.Options(dtype="float64", compile=False)
    trainer = Online(config, config.training, mnist1d.form(config))
    t = torch.arange(30, dtype=torch.float64)
    outputs, _ = trainer.simulation.predict(torch.sin(0.3 * t).reshape(-1, 1, 1))
    assert trainer.parameters == 14956
    frozen = json.loads((Path(__file__).parent / "trace.json").read_text())
    torch.testing.assert_close(outputs[[0, 15, 29], 0, 0].tolist(), frozen, atol=1e-9, rtol=0)
