"""Every sabotage of `sabotage.py` is caught by its named test."""

import pytest
from sabotage import SABOTAGES, caught


@pytest.mark.slow
@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda s: s.name.replace(" ", "-"))
def test_caught(sabotage):
    """Prevents: tests that cannot fail. (Unsabotaged, the named tests pass elsewhere in this suite.)"""
    ok, output = caught(sabotage)
    assert ok, output
