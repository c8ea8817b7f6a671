"""Every sabotage of `sabotage.py` is caught by its named test."""

import pytest
from sabotage import SABOTAGES, Copy


@pytest.fixture(scope="module")
def copy():
    return Copy()


@pytest.mark.slow
@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda s: s.name.replace(" ", "-"))
def test_caught(sabotage, copy):
    """Prevents: tests that cannot fail. (Unsabotaged, the named tests pass elsewhere in this suite.)"""
    ok, output = copy.caught(sabotage)
    assert ok, output
