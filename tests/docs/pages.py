"""Pages as programs: the Python of a page's code blocks, from top to bottom, in one fresh namespace.

python tests/docs/pages.py            draws the pictures of all pages again, beside them
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*(DOCS / "guide").glob("*.md"), *(DOCS / "extending").glob("*.md")])
NOTEBOOKS = sorted((DOCS / "notebooks").glob("*.py"))
CODE = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)


def program(page: Path) -> str:
    """Its code, at the lines where it stands, so that a traceback names the page's own."""
    text = page.read_text("utf-8")
    lines = [""] * (text.count("\n") + 1)
    for block in CODE.finditer(text):
        first = text.count("\n", 0, block.start(1))
        lines[first : first + block[1].count("\n")] = block[1].splitlines()
    return "\n".join(lines)


def drawn_by(page: Path) -> list[str]:
    """Pictures that the page's own code saves."""
    return re.findall(r'savefig\("([^"]+)"\)', program(page))


@contextlib.contextmanager
def registries() -> Iterator[None]:
    """What a page adds to a registry is gone afterwards."""
    import gle.costs
    import gle.plasticity
    from bench import registry

    kept = [
        gle.integrators.INTEGRATORS, gle.neurons.ACTIVATIONS, gle.neurons.RATE_FUNCTIONS, gle.errors.ERRORS,
        gle.synapses.SYNAPSES, gle.synapses.FEEDBACKS, gle.costs.COSTS, gle.plasticity.OPTIMIZERS, gle.rules.RULES,
        gle.engines.ENGINES, registry.MODULES,
    ]  # fmt: skip
    before: list[dict[Any, Any]] = [dict(r) for r in kept]  # type: ignore[call-overload]
    try:
        yield
    finally:
        for own, was in zip(kept, before, strict=True):
            own.clear()
            own.update(was)  # type: ignore[arg-type]


def run(page: Path) -> dict[str, Any]:
    """Where the caller stands. Returns the page's names."""
    scope: dict[str, Any] = {"__name__": "__main__"}
    with registries():
        exec(compile(program(page) if page.suffix == ".md" else page.read_text("utf-8"), str(page), "exec"), scope)
    return scope


def main() -> None:
    sys.path.insert(0, str(ROOT))
    names = sys.argv[1:]
    import torch

    torch.set_num_threads(1)
    for page in PAGES:
        if names and page.stem not in names:
            continue
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
            torch.manual_seed(0)
            run(page)
            for name in drawn_by(page):
                shutil.copy(name, page.parent / name)
                print((page.parent / name).relative_to(ROOT))


if __name__ == "__main__":
    os.environ.setdefault("GLE_COMPILER", "eager")
    main()
