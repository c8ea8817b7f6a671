"""Tables and figures again, from result files alone.

    python -m bench.report bench/results/mnist1d        a folder of them, or one file

prints the tables (Markdown) and redraws the figures beside the files; the rows of one table, in their common folder.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench import registry
from bench.kit import cli, figures
from bench.kit.benchmark import Benchmark
from bench.kit.figures import Drawn
from bench.kit.folder import read_json
from bench.kit.tables import Table

log = logging.getLogger(__name__)


def found(path: Path) -> dict[str, list[tuple[Path, dict[str, Any]]]]:
    """The result files at a path, or in the run folders there, by benchmark. Raises ValueError where there are none, or
    where one is none."""
    files = [path] if path.is_file() else sorted(f for f in path.glob("*.json") if f.name != "env.json")
    files = files or sorted(path.glob("*/result.json"))  # a folder of run folders
    if not files:
        raise ValueError(f"{path} holds no result files (*.json)")
    by_name: dict[str, list[tuple[Path, dict[str, Any]]]] = {}
    for file in files:
        result = read_json(file, "put it back as it was")
        if not isinstance(result, dict) or "benchmark" not in result:
            raise ValueError(f"{file} names no benchmark: it is no result file, or one of an older version")
        benchmark = registry.benchmark(result["benchmark"])
        if result["layout"] != benchmark.layout:
            raise ValueError(
                f"{file} has the layout {result['layout']} of {benchmark.name}, this version reads {benchmark.layout}"
            )
        by_name.setdefault(benchmark.name, []).append((file, result))
    return by_name


def report(benchmark: Benchmark, files: Sequence[tuple[Path, dict[str, Any]]]) -> list[Table]:
    """Redraws the figures of results of one benchmark, beside their files, and makes their tables."""
    if benchmark.rows is not None:
        results = [result for _, result in files]
        several = len({file.parent for file, _ in files}) > 1
        folder = files[0][0].parent.parent if several else files[0][0].parent
        save(benchmark.rows.draw(results), folder)
        return [benchmark.rows.table(results)]
    tables: list[Table] = []
    for file, result in files:
        drawn = benchmark.draw(result)
        if file.stem != "result":  # several results lie beside one another: the file's name tells whose figure it is
            drawn = {
                f"{file.stem}{Path(name).suffix}" if len(drawn) == 1 else f"{file.stem}_{name}": picture
                for name, picture in drawn.items()
            }
        save(drawn, file.parent)
        tables += benchmark.tables(result)
    return tables


def save(drawn: Drawn, folder: Path) -> None:
    figures.save(drawn, folder)
    log.info("drawn: %s", ", ".join(str(folder / name) for name in drawn))


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__.splitlines()[0])
    p.add_argument("path", type=Path, help="a result file, or a folder of them")
    with cli.command():
        for name, files in found(p.parse_args(argv).path).items():
            for table in report(registry.benchmark(name), files):
                print(table.markdown(), "\n", sep="")


if __name__ == "__main__":
    main()
