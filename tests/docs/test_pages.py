"""The site tells the truth: its code runs, its pictures are what that code draws, its links lead somewhere, and every
public name has an entry in the reference."""

import importlib.util
import inspect
import os
import pkgutil
import re
import subprocess
import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from pages import DOCS, NOTEBOOKS, PAGES, ROOT, drawn_by, program, run

import bench.kit
import gle
import hrm

LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """What is left of a page once it ran: its names and its folder. Each is run once."""
    known = {}

    def once(page):
        if page not in known:
            folder = tmp_path_factory.mktemp(page.stem)
            with pytest.MonkeyPatch.context() as patch:
                patch.chdir(folder)
                patch.setenv("GLE_COMPILER", "eager")  # traces, and compiles nothing
                torch._dynamo.reset()
                torch.manual_seed(0)
                known[page] = run(page), folder
                plt.close("all")
        return known[page]

    return once


def name_of(path):
    return path.relative_to(DOCS).as_posix()


def grey(file):
    """A picture in few, large cells, [20, 40], between 0 (black) and 1."""
    image = plt.imread(file)[..., :3].mean(-1)
    rows, columns = (np.array_split(np.arange(n), k) for n, k in zip(image.shape, (20, 40)))
    return np.array([[image[np.ix_(r, c)].mean() for c in columns] for r in rows])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_page(page, ran):
    """All of its code runs, from top to bottom, in a folder of its own; what it asserts holds."""
    assert "assert" in program(page)
    ran(page)


GUIDE = [page for page in PAGES if page.parent.name == "guide"]


@pytest.mark.parametrize("page", GUIDE, ids=name_of)
def test_guide_begins_with_a_question_and_ends_with_its_own_picture(page, ran):
    """The picture beside the page is the one that its code draws now, up to what another machine's rounding moves.

    Prevents: a picture of code that has changed since."""
    blocks = [block for block in re.split(r"\n\s*\n", page.read_text("utf-8").strip()) if block]
    assert re.fullmatch(r"\*\*.*\?\*\*", blocks[1], re.DOTALL)
    shown = re.fullmatch(r"!\[[^\]]+\]\(([^)]+)\)", blocks[-1])
    assert shown[1] in drawn_by(page)
    for name in drawn_by(page):
        kept, new = grey(page.parent / name), grey(ran(page)[1] / name)
        assert new.min() < 0.97  # something is drawn
        assert np.abs(kept - new).mean() < 0.02, f"python tests/docs/pages.py {page.stem} draws it again"


def test_a_fresh_process_predicts_the_same(ran):
    """What a page saved is loaded where the code that trained it is not."""
    scope, folder = ran(DOCS / "guide" / "series.md")
    torch.save({k: scope[k] for k in ("x", "lengths", "outputs")}, folder / "data.pt")
    code = """
import gle, torch
d = torch.load("data.pt")
outputs, _ = gle.load("waves.pt").predict(d["x"][120:], lengths=d["lengths"][120:], batch_first=True)
assert torch.equal(outputs, d["outputs"])
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=name_of)
def test_notebook(notebook, ran):
    """It runs as a script; `make docs` runs it as a notebook."""
    scope, _ = ran(notebook)
    assert "assert" in notebook.read_text("utf-8")
    assert scope


# -- the reference -----------------------------------------------------------------------------------------------------


def modules(package):
    yield package.__name__
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not found.name.rpartition(".")[2].startswith("_"):
            yield found.name


def public_names():
    """Where each public name is defined: what `import gle` and `import hrm` give, and functions, classes and
    registries of every module of gle, hrm and bench.kit."""
    names = set()
    for package in (gle, hrm, bench.kit):
        for name in modules(package):
            module = importlib.import_module(name)
            for own in getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")]):
                value = getattr(module, own)
                if inspect.ismodule(value):
                    if value.__name__.startswith(("gle.", "hrm.")):
                        names.add(value.__name__)
                elif inspect.isclass(value) or inspect.isfunction(value):
                    if value.__module__.partition(".")[0] in ("gle", "hrm", "bench"):
                        names.add(f"{value.__module__}.{value.__qualname__}")
                elif hasattr(module, "__all__") or own.isupper():
                    names.add(f"{module.__name__}.{own}")
    return {name for name in names if "<locals>" not in name and not name.startswith("gle.__")}


def entries():
    """Identifiers in the reference, and whether each brings all of its members."""
    text = "\n".join(page.read_text("utf-8") for page in sorted((DOCS / "api").glob("*.md")))
    found = re.findall(r"^::: (\S+)\n((?:    .*\n)*)", text + "\n", re.MULTILINE)
    return {name: "members: false" not in options for name, options in found}


def test_every_public_name_has_an_entry():
    """Prevents: what a user can import and the reference does not know."""
    known, names = entries(), public_names()
    assert len(names) > 300
    missing = [
        name for name in names if name not in known and not known.get(name.rpartition(".")[0]) and not constant(name)
    ]
    assert not missing
    for name in known:  # and none that is no more
        assert name in names or importlib.util.find_spec(name)


def constant(name):
    """Registries that a package takes from its module: documented there."""
    module, _, own = name.rpartition(".")
    value = getattr(importlib.import_module(module), own, None)
    return not callable(value) and any(
        getattr(importlib.import_module(m), own, None) is value for m in entries() if m != module and entries()[m]
    )


# -- links -------------------------------------------------------------------------------------------------------------

JOBS = [
    "Train on my own data",
    "Save a network and load it",
    "Write a rule of my own",
    "Teach the reasoning model a task of my own",
    "Solve a puzzle",
    "Use a GPU",
    "Run a sweep",
    "Draw a figure of the papers again",
    "Cite it",
    "Report a bug",
]


def links(page):
    """Files that a page leads to, with the place in each."""
    for target in LINK.findall(CODE.sub("", page.read_text("utf-8"))):
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield (page.parent / path).resolve() if path else page, anchor


def anchors(page):
    """Of headings, as GitHub and the site make them."""
    for heading in re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE):
        yield re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "index.md", DOCS / "jobs.md"], ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    """`mkdocs build --strict` looks at those of the site; nobody else at README's."""
    found = list(links(page))
    assert found
    for target, anchor in found:
        target = ROOT / target.name if not target.exists() and (ROOT / target.name).exists() else target
        assert target.exists(), target
        assert not anchor or anchor in anchors(target), (target, anchor)


def test_every_job_is_three_clicks_away():
    """From README, over links alone."""
    rows = re.findall(r"^\| ([^|]+?) \|(.*)\|$", (DOCS / "jobs.md").read_text("utf-8"), re.MULTILINE)[1:]
    assert [job for job, _ in rows] == JOBS
    reached, new = {}, {(ROOT / "README.md").resolve()}
    for clicks in range(3):
        reached |= {page: clicks for page in new if page not in reached}
        pages = [page for page in new if page.suffix == ".md" and page.exists()]
        new = {target for page in pages for target, _ in links(page)} - reached.keys()
    reached |= {page: 3 for page in new}
    for job, cell in rows:
        targets = [(DOCS / (link.partition("#")[0] or "jobs.md")).resolve() for link in LINK.findall(cell)]
        assert targets, job
        assert all(reached[target] <= 3 for target in targets), job
