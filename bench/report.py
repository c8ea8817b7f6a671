"""Tables and figures from result files: `python -m bench.report bench/results/mnist1d` prints the table (Markdown)
and redraws the learning curves there."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import cli, figures
from bench.mnist1d import PUBLISHED, load_results, table
from bench.tables import markdown


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    p.add_argument("folder", type=Path, help="a folder of result files *.json")
    with cli.command():
        folder = p.parse_args(argv).folder
        results = load_results(folder)
        if not results:
            raise ValueError(f"{folder} holds no result files (*.json)")
        figures.learning_curves(results, PUBLISHED, folder / "learning_curves.png")
        print(markdown(table(results)))


if __name__ == "__main__":
    main()
