"""Every sabotage of `sabotage.py` is caught by its named test."""

import pytest
from sabotage import SABOTAGES, Copy
from warm import Change, Functions


@pytest.fixture(scope="session")
def copy():
    copy = Copy()
    yield copy
    copy.close()


@pytest.mark.slow
@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda s: s.name.replace(" ", "-"))
def test_caught(sabotage, copy):
    """Prevents: tests that cannot fail. (Unsabotaged, the named tests pass elsewhere in this suite.)"""
    ok, output = copy.caught(sabotage)
    assert ok, output


@pytest.mark.slow
@pytest.mark.parametrize("sabotage", SABOTAGES[::65], ids=lambda s: s.name.replace(" ", "-"))
def test_passes_unsabotaged(sabotage, copy):
    """Prevents: a process in which every test fails."""
    ok, output = copy.passes(sabotage.test)
    assert ok, output


MODULE = """SIZE = 2
class A:
    def f(self, x):
        return x + 1
    def g(self, x):
        return x + SIZE
"""


def test_functions_alone_are_exchanged(tmp_path, monkeypatch):
    """Prevents: a sabotage that is nowhere, or elsewhere."""
    path = tmp_path / "exchanged_module.py"
    path.write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import exchanged_module

    a, f = exchanged_module.A(), exchanged_module.A.f
    functions = Functions()
    for line, other in (("SIZE = 2", "SIZE = 3"), ("def f(self, x)", "def f(self, x=0)"), ("class A", "class B"),
                        ("return x + 1", "return x +")):  # fmt: skip
        path.write_text(MODULE.replace(line, other))
        assert functions.changed(Change(path, MODULE)) is None
    path.write_text(MODULE.replace("x + 1", "[x + 10\n    for _ in 'a'][0]"))
    pairs = functions.changed(Change(path, MODULE))
    assert len(pairs) == 1
    assert a.f(1) == 2
    functions.exchange(pairs)
    assert (a.f(1), f(a, 1), a.g(1)) == (11, 11, 3)  # those who have the old function have the new one
