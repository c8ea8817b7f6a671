"""The table of docs/reproduce.md, from the registry and the committed result files: `python docs/reproduce.py` writes
it anew; tests/docs compares."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from bench import registry, report  # noqa: E402
from bench.kit.tables import Table, markdown  # noqa: E402

RESULTS = ROOT / "bench" / "results"
PAGE = ROOT / "docs" / "reproduce.md"


class Row(NamedTuple):
    """shown: figure or table of the paper. file: in bench/results, without the ending. cell: (row that begins so,
    column) of the result's first table that has both, ours; published: what the paper says of it, or (row, column).
    minutes: what docs/ say of a run, where the file does not time itself; None: nobody has noted it."""

    shown: str
    command: str
    file: str
    what: str
    cell: tuple[str, str] | None = None
    published: str | tuple[str, str] = "–"
    minutes: str | None = None


GSC = "python -m bench.gsc --data speech_commands"
MNIST, SUDOKU = "python -m bench.mnist1d", "python -m bench.sudoku"
HARD_MAZES = "python -m bench.maze --config configs/maze/hard_30x30.yaml --folder mazes"
ROWS = {
    "GLE ([arXiv 2403.16933](https://arxiv.org/abs/2403.16933))": [
        Row("Figs. 3, 11, 12", "python -m bench.frequency_response", "frequency_response/result",
            "largest phase between e and λ / rad", ("largest phase difference of e and λ", "measured"), "0"),
        Row("Figs. 5, 14", "python -m bench.teacher_student chain", "teacher_student/chain",
            "students that find the teacher", ("gle", "students within 1 %"), "all", "3"),
        Row("Fig. 5c", "python -m bench.teacher_student chain` with `--beta2 0.99 --halving 4000 --duration 32000",
            "teacher_student/chain_annealed", "the same, BPTT with window 4", ("bptt 4", "students within 1 %"), "all"),
        Row("Fig. 6", "python -m bench.teacher_student small", "teacher_student/small",
            "weight of the retrospective neuron", ("gle | retrospective", "at the end"),
            ("gle | retrospective", "teacher"), "3"),
        Row("Fig. 7", "python -m bench.receptive_fields", "receptive_fields/result",
            "centre of the window, τm 1.6, τr 0.2", ("1.6 | 0.2", "linear: pulse"),
            ("1.6 | 0.2", "Σ(τm − τr) + delay")),
        *(Row("Table 2, Fig. 8", f"{MNIST} --config configs/mnist1d/{name}.yaml", f"mnist1d/{name}",
              "MNIST-1D, validation %", (name, "validation %"), (name, "published %"))
          for name in ("gle_42k", "lagnet", "mlp", "tcn", "gru")),
        Row("Table 2, Fig. 8", f"{MNIST} --config configs/mnist1d/gle_15k.yaml --seeds 10 --workers 2",
            "mnist1d/gle_15k", "MNIST-1D, validation %", ("gle_15k", "validation %"), ("gle_15k", "published %")),
        *(Row("Table 3, Fig. 8e, a part of the data", f"python -m bench.gsc --config configs/gsc/{name}.yaml",
              f"gsc/{name}", "speech commands, test %", (name, "test %"), (name, "published %"))
          for name in ("gle_delays", "mlp", "tcn", "gru")),
        Row("Fig. 10", "python -m bench.mackey_glass --config configs/mackey_glass/paper.yaml", "mackey_glass/result",
            "Mackey-Glass, sMAPE %", ("GLE", "sMAPE %"), ("GLE", "published sMAPE %"), "4"),
        Row("Fig. 10, its integrator", "python -m bench.mackey_glass --config configs/mackey_glass/rk4.yaml",
            "mackey_glass/rk4", "Mackey-Glass, sMAPE %", ("GLE", "sMAPE %"), ("GLE", "published sMAPE %")),
    ],
    "HRM ([arXiv 2506.21734](https://arxiv.org/abs/2506.21734)), smaller": [
        Row("Sudoku, 4 × 4", SUDOKU, "sudoku/4x4", "exact after 8 segments, test %", ("best", "test %, 8 segments")),
        Row("Sudoku, 6 × 6", f"{SUDOKU} --config configs/sudoku/6x6.yaml", "sudoku/6x6",
            "exact after 8 segments, test %", ("best", "test %, 8 segments")),
        Row("Sudoku, 9 × 9, 999 of two lists, one seed", f"{SUDOKU} --config configs/sudoku/9x9_lists.yaml "
            "--train_csv [a.txt,b.txt] --test_csv [a.txt,c.txt]", "sudoku/9x9_lists",
            "exact after 16 segments, three lists, test %", ("best", "test %, 16 segments")),
        Row("the same by an MLP, a quarter of the time", f"{SUDOKU} --config configs/sudoku/9x9_lists_mlp.yaml "
            "--train_csv [a.txt,b.txt] --test_csv [a.txt,c.txt]", "sudoku/9x9_lists_mlp",
            "exact after 16 segments, three lists, test %", ("best", "test %, 16 segments")),
        Row("the same by attention, a quarter of the time",
            f"{SUDOKU} --config configs/sudoku/9x9_lists_attention.yaml "
            "--train_csv [a.txt,b.txt] --test_csv [a.txt,c.txt]", "sudoku/9x9_lists_attention",
            "exact after 16 segments, three lists, test %", ("best", "test %, 16 segments")),
        Row("mazes, 10 × 10", "python -m bench.maze", "maze/open", "exact after 8 segments, test %",
            ("best", "test %, 8 segments")),
        Row("mazes, carved", "python -m bench.maze --kind carved", "maze/carved", "exact after 8 segments, test %",
            ("best", "test %, 8 segments")),
        Row("mazes, the published 30 × 30", HARD_MAZES, "maze/hard_30x30",
            "exact, one answer, test %", ("best | 4 | exact", "as it stands, %"), "74.5"),
        Row("the same answers", HARD_MAZES, "maze/hard_30x30",
            "exact, shortest path of 48 answers, test %", ("best | 4 | exact", "fewest faults, %")),
        Row("… on whole mazes alone, as published, one seed",
            f"{HARD_MAZES} --curriculum [] --views 1 --seeds 1", "maze/hard_30x30_whole",
            "exact, one answer, test %", ("best | 1 | exact", "as it stands, %"), "74.5"),
        Row("ARC-AGI-1, grids of at most 10 × 10, too short",
            "python -m bench.arc --config configs/arc/laptop.yaml --training_folder …",
            "arc/laptop", "two tries, 88 test inputs, %", ("last | 88", "2 tries, %")),
        Row("Fig. 2", "python -m bench.depth_width", "depth_width/result",
            "6 × 6 Sudoku in one pass, eight blocks of their own, test %", ("deeper | 8", "test exact %"),
            minutes="60 (one core)"),
        Row("Fig. 4, Eqs. 1, 2", "python -m bench.gradients --run runs/sudoku/<folder>", "gradients/result",
            "one-step gradient: cosine with BPTT / implicit, trained", ("last | 2 × 2", "one_step")),
        Row("residuals, dimensions", "python -m bench.hrm_dynamics --run <the 6 × 6 run, seed 0>",
            "hrm_dynamics/result", "participation ratio z_H / z_L", ("trained", "z_H / z_L"), "2.98"),
    ],
    "Beyond the papers": [
        Row("where the gradient can be trusted", "python -m bench.gradient_map", "gradient_map/result",
            "cosine, one tone, six layers, ωτm = 1", ("6", "ωτm = 1"), minutes="5 (one core)"),
        Row("errors that go round", "python -m bench.recurrent", "recurrent/result",
            "cosine, instantaneous, radius 0.9, ωτm = 0.3", ("instantaneous | 0.9", "ωτm = 0.3"),
            minutes="4 (one core)"),
        Row("every rule on one task", "python -m bench.credit", "credit/result", "MNIST-1D in six epochs, GLE, test %",
            ("gle", "test %"), minutes="30 (one core)"),
        Row("fewer epochs", f"{MNIST} --config configs/mnist1d/gle_15k_tuned.yaml", "mnist1d/gle_15k_tuned",
            "MNIST-1D, validation %", ("gle_15k_tuned", "validation %"), ("gle_15k_tuned", "published %")),
        Row("fewer epochs", f"{MNIST} --config configs/mnist1d/gle_42k_tuned.yaml", "mnist1d/gle_42k_tuned",
            "MNIST-1D, validation %", ("gle_42k_tuned", "validation %"), ("gle_42k_tuned", "published %")),
        Row("L and H of neurons", f"{SUDOKU} --config configs/sudoku/4x4_gle.yaml", "sudoku/4x4_gle",
            "exact after 8 segments, test %", ("best", "test %, 8 segments")),
        Row("L and H of neurons", f"{SUDOKU} --config configs/sudoku/6x6_gle.yaml", "sudoku/6x6_gle",
            "exact after 8 segments, test %", ("best", "test %, 8 segments")),
        Row("L and H of neurons", "python -m bench.maze --config configs/maze/10x10_gle.yaml", "maze/10x10_gle",
            "exact after 8 segments, test %", ("best", "test %, 8 segments")),
        Row("L and H of neurons", "python -m bench.maze --config configs/maze/hard_30x30_gle.yaml --folder mazes",
            "maze/hard_30x30_gle", "30 × 30, exact, one answer, test %", ("best | 4 | exact", "as it stands, %")),
        Row("local errors beside autograd", "python -m bench.compare", "compare/4x4", "4 × 4, gle, test %",
            ("gle", "test %")),
    ],
}  # fmt: skip


def cell(tables: Sequence[Table], row: str, column: str) -> str:
    """The first that there is, of a row that begins with these cells."""
    for table in tables:
        heading, *rows = table.rows
        if column in heading:
            for r in rows:
                if " | ".join(r).startswith(row):
                    return r[list(heading).index(column)]
    raise ValueError(f"no table has {row!r} and {column!r}")


def minutes(result: dict[str, Any], noted: str | None) -> str:
    """Of all seeds, as the run itself counted them."""
    if "seconds" in result:
        return f"{result['seconds'] / 60:.0f}"
    seeds = result.get("seeds")
    if isinstance(seeds, list) and seeds and isinstance(seeds[0], dict) and "curve" in seeds[0]:
        return f"{sum(s['curve'][-1]['seconds'] for s in seeds) / 60:.0f}"
    return noted or "not noted"


def made() -> str:
    """All sections of the page between its marks."""
    parts = []
    for title, rows in ROWS.items():
        lines: list[tuple[str, ...]] = [
            ("figure or table", "command", "minutes", "result file", "what", "ours", "published")
        ]
        for row in rows:
            ((name, ((_, result),)),) = report.found(RESULTS / f"{row.file}.json").items()
            benchmark = registry.benchmark(name)
            tables = [benchmark.rows.table([result])] if benchmark.rows else list(benchmark.tables(result))
            ours = cell(tables, *row.cell) if row.cell else "–"
            quoted = row.published if isinstance(row.published, str) else cell(tables, *row.published)
            link = f"[{row.file}](../bench/results/{row.file}.json)"
            lines.append((row.shown, f"`{row.command}`", minutes(result, row.minutes), link, row.what, ours, quoted))
        parts.append(f"## {title}\n\n{markdown(lines)}")
    return "\n\n".join(parts)


def written(text: str) -> str:
    """The page with the table made anew."""
    return re.sub(
        r"(<!-- reproduce -->\n).*?(\n<!-- /reproduce -->)", lambda m: m[1] + made() + m[2], text, flags=re.DOTALL
    )


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text("utf-8")), "utf-8")
