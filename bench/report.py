"""Tables and figures from result files: `python -m bench.report bench/results/mnist1d` prints the table (Markdown)
and redraws the learning curves there."""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import figures
from bench.mnist1d import PUBLISHED, load_results, table
from bench.tables import markdown


def main(argv: list[str] | None = None) -> None:
    p = argparse.ArgumentParser(prog="python -m bench.report", description=__doc__)
    p.add_argument("folder", type=Path, help="a folder of result files *.json")
    folder = p.parse_args(argv).folder
    results = load_results(folder)
    if not results:
        p.error(f"{folder} holds no result files (*.json)")
    print(markdown(table(results)))
    figures.learning_curves(results, PUBLISHED, folder / "learning_curves.png")


if __name__ == "__main__":
    main()
