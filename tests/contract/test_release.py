"""What a release rests on, before `make release` builds and tries it."""

import ast
import re
import tomllib
import warnings
from pathlib import Path

import pytest
from typing_extensions import deprecated

import gle

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))


def numbers(version):
    return tuple(map(int, version.split(".")))


def overdue(source, version):
    """Of what a file calls @deprecated: what does not say when it goes, or should be gone by this version."""
    found = []
    for node in ast.walk(ast.parse(source)):
        for mark in getattr(node, "decorator_list", ()):
            if isinstance(mark, ast.Call) and ast.unparse(mark.func).split(".")[-1] == "deprecated":
                goes = re.search(r"goes in (\d+\.\d+\.\d+)", ast.unparse(mark))
                if goes is None or numbers(goes[1]) <= numbers(version):
                    found.append(node.name)
    return found


TOY = """
@deprecated("sweep is scan now; it goes in 0.4.0")
def sweep(): ...

class Layer:
    @typing_extensions.deprecated("use W")
    def weights(self): ...
"""


def test_what_is_deprecated_goes():
    """Prevents: what warns for ever, and what warns of no version in particular."""
    assert overdue(TOY, "0.3.2") == ["weights"]
    assert overdue(TOY, "0.4.0") == ["sweep", "weights"]
    assert overdue(TOY, "0.10.0") == ["sweep", "weights"]
    files = [path for package in ("gle", "hrm", "bench") for path in (ROOT / package).rglob("*.py")]
    for path in files:  # of the source tree; beside an installed wheel there are none
        assert not overdue(path.read_text("utf-8"), gle.__version__), path


def test_a_deprecated_name_warns_users_and_stops_us():
    """It warns, and goes on to work; in this suite the warning is an error, so that nothing of ours uses it."""

    @deprecated("sweep is scan now; it goes in 99.0.0")
    def sweep():
        return 3

    with pytest.warns(DeprecationWarning, match=r"scan now; it goes in 99\.0\.0"):
        assert sweep() == 3
    (rule,) = PROJECT["tool"]["pytest"]["ini_options"]["filterwarnings"]
    assert rule == "error:.*goes in:DeprecationWarning"
    with warnings.catch_warnings(), pytest.raises(DeprecationWarning):
        sweep()


def test_the_version_has_one_place():
    """Prevents: a package, a citation and a changelog that disagree."""
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert PROJECT["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "gle.__version__"}
    assert re.fullmatch(r"\d+\.\d+\.\d+", gle.__version__)
    citation = ROOT / "CITATION.cff"
    assert not citation.exists() or not re.search(r"^version:", citation.read_text("utf-8"), re.MULTILINE)


@pytest.mark.skipif(not (ROOT / "CHANGELOG.md").exists(), reason="stands in the source tree alone")
def test_the_changelog_goes_by_versions():
    """The newest first, each once, this one among them."""
    heads = re.findall(r"^## \[(.+?)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert heads[0] == "Unreleased"
    assert heads[1] == gle.__version__
    assert sorted(set(map(numbers, heads[1:])), reverse=True) == [*map(numbers, heads[1:])]


def test_a_release_is_tried_at_both_ends():
    """Prevents: a PyTorch that pyproject.toml allows, and that nobody has tried."""
    ends = re.findall(
        r"^(?:OLDEST|NEWEST) \?= python(\S+) torch==(\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    (oldest, first), (newest, last) = ends
    project = PROJECT["project"]
    assert project["requires-python"] == f">={oldest}"
    assert numbers(newest) > numbers(oldest)
    (torch,) = (d for d in project["dependencies"] if d.startswith("torch"))
    least, below = re.fullmatch(r"torch>=(\d+\.\d+),<(\d+\.\d+)", torch).groups()
    assert numbers(first) == (*numbers(least), 0)
    assert (numbers(last)[0], numbers(last)[1] + 1) == numbers(below)
